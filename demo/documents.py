"""The texts that the demo writes: proxyd.yaml, policy.yaml and the service file for psql. (`ssh_config` words the file
for ssh.)

Owns their wording and nothing else. They are meant to be read and edited by a person, so each says what it
means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on 127.0.0.1."""

    gateway: int
    target: int
    metrics: int
    ssh: int
    ssh_target: int


CONFIG = """\
# proxyd.yaml: where the gateway listens, how it knows people, which systems it leads to.
# Paths are relative to this file. Check a change with:  proxyd check --config {config}
version: 1

listeners:
  - name: postgres
    protocol: postgres
    address: 127.0.0.1:{ports.gateway}
    tls:
      certificate: pki/server.crt
      key: pki/server.key
      client_ca: pki/ca.crt            # who may come in: holders of certificates of this authority...
      client_certificates: required
      crl: pki/ca.crl                  # ...that are not on this list
      minimum_version: "1.2"
    limits: {{connections: 200, connections_per_subject: 50, handshake_timeout: 10s}}
  - name: ssh
    protocol: ssh
    address: 127.0.0.1:{ports.ssh}
    host_keys: [ssh/gateway_host]      # what the gateway shows to clients
    client_ca: ssh/people_ca.pub       # who may come in: holders of certificates of this authority
    factors: [[certificate]]           # [[certificate], [public_key, totp]] would let in people with both of these, too

identity:
  certificates:
    name: [cn]                         # a person is called what the certificate's common name says
    groups: {{from: [ou]}}               # and is a member of its organisational units
  ssh_certificates: {{name: key_id}}     # over SSH: what the certificate's key id says (ssh-keygen -I)
  people:                              # an SSH certificate knows no groups: they are here
    - {{name: alice, groups: [data]}}
    - {{name: dora, groups: [dba]}}

ssh_authority:                         # signs a certificate for each connection to an SSH target; targets trust it by
  key: {{file: ssh/gateway_ca}}          # a line in sshd_config: TrustedUserCAKeys
  lifetime: 5m

targets:
  - name: shop                         # what clients give as the database: dbname=shop
    protocol: postgres
    address: 127.0.0.1:{ports.target}
    labels: {{env: prod}}                # policy rules speak of labels, not of addresses
    database: shop
    tls: {{mode: disable}}               # the demo's PostgreSQL has no TLS; elsewhere: verify-full and ca
    logins:                            # the target's passwords: no client ever sees them
      - {{name: readonly, user: gateway_reader, password: {{file: secrets/gateway_reader}}}}
      - {{name: admin, user: gateway_admin, password: {{file: secrets/gateway_admin}}}}
      - {{name: catalog, user: gateway_catalog, password: {{file: secrets/gateway_catalog}}}}
    catalog: {{login: catalog, poll: 1s}}  # how the gateway learns the target's tables and views
  - name: web1                         # what clients put behind the login: deploy+web1
    protocol: ssh
    address: 127.0.0.1:{ports.ssh_target}
    labels: {{env: prod}}
    host_keys: {{known_hosts: ssh/known_hosts}}  # nothing is learnt by connecting
    logins:                            # no client ever has what opens the target
      - {{name: deploy, user: "{account}", certificate: true}}

masking:
  keys:
    customers: {{file: secrets/pseudonym_key}}

policy: policy.yaml
tapes: {{directory: tapes, reply_limit: 16MiB}}
metrics: {{address: "127.0.0.1:{ports.metrics}"}}
admin: {{socket: "{admin}"}}  # `proxyd sessions` asks here: list, watch and end live sessions
log: {{level: info}}
drain_timeout: 5s
"""

POLICY = """\
# policy.yaml: who may do what, and what they see of it. Deny beats hold beats allow; silence is deny.
# Check a change with:  proxyd check --config {config}   and have it loaded by a SIGHUP to the daemon.
version: 1

roles:
  analyst: {{groups: [data]}}
  dba: {{groups: [dba]}}

access:                                # who reaches which target, under which login, for how long
  - name: analysts-read-the-shop
    roles: [analyst]
    targets: {{labels: {{env: prod}}, protocol: postgres}}
    logins: [readonly]
    session: {{max: 8h, idle: 30m}}
  - name: dbas-administer
    roles: [dba]
    targets: {{labels: {{env: prod}}, protocol: postgres}}
    logins: [admin]
    session: {{max: 1h, idle: 10m}}
  - name: everybody-reaches-the-web-servers
    roles: [analyst, dba]
    targets: {{labels: {{env: prod}}, protocol: ssh}}
    logins: [deploy]
    session: {{max: 8h, idle: 30m}}

rules:                                 # what they may do there; the order does not matter
  - name: read-the-shop
    effect: allow
    roles: [analyst, dba]
    postgres: {{commands: [select], relations: ["shop.*"]}}
  - name: no-secrets-table
    effect: deny
    postgres: {{relations: ["*.api_keys"]}}
    message: "API keys are not readable through the gateway."
  - name: writes-wait-for-a-human
    effect: hold
    roles: [analyst]
    postgres: {{commands: [insert, update, delete, merge], relations: ["shop.*"]}}
    approval: {{approvers: [dba], approvals: 1, timeout: 10m}}
  - name: dbas-write
    effect: allow
    roles: [dba]
    postgres: {{commands: [insert, update, delete, merge], relations: ["shop.*"]}}
  - name: no-unbounded-change
    effect: deny
    postgres: {{commands: [update, delete], where: absent}}
    message: "An UPDATE or DELETE without WHERE changes every row."

  - name: look-at-the-site
    effect: allow
    roles: [analyst]
    ssh:                               # commands by their words: no pipe, list or $(...) brings in another
      exec: ["ls *", "uptime", "cat www/*", "tail -n * log/*"]
      files: [read, list, stat]        # and files, by sftp and scp
      paths: ["/**/web1/www/**"]       # (the demo's web1 is somewhere below your directory)
  - name: dbas-work-on-web-servers
    effect: allow
    roles: [dba]
    ssh: {{shell: true, exec: ["*"], files: ["*"]}}
  - name: the-site-stays               # also within sh -c, sudo, xargs...; but not within a shell: that is recorded
    effect: deny
    ssh: {{exec: ["rm *", "shred *"], files: [remove, rmdir]}}
    message: "Files of the site are removed by a deployment."
  - name: no-secret-files
    effect: deny
    ssh: {{paths: ["/**/.env"]}}
    message: "Secrets of the site are not read through the gateway."
  - name: restarts-wait-for-a-human
    effect: hold
    ssh: {{exec: ["systemctl restart *", "reboot *"]}}
    message: "Services are restarted by two people."
    approval: {{approvers: [dba], approvals: 1, timeout: 10m}}

masks:                                 # how a column leaves; a use of it that cannot be masked is refused
  - name: contact-data
    columns: ["shop.customers.email", "shop.customers.phone"]
    method: {{partial: {{keep_last: 4}}}}
    unless: {{roles: [dba]}}
  - name: identity-numbers
    columns: ["*.*.ssn", "*.*.card_number"]
    method: redact
    unless: {{roles: [dba]}}
  - name: same-person-same-token       # keyed: one person always gets the same token
    columns: ["shop.customers.id_number"]
    method: {{pseudonym: {{key: customers}}}}
    unless: {{roles: [dba]}}
  - name: no-birthdays
    columns: ["shop.customers.birth_date"]
    method: "null"
    unless: {{roles: [dba]}}
"""

SERVICE = """\
# How psql reaches the gateway as each person:  psql service=alice
# libpq reads this file when PGSERVICEFILE names it; bin/psql beside it sets that.
"""


def service_file(lines: dict[str, dict[str, str]]) -> str:
    """One section for each person; the values are libpq's connection keywords."""
    sections = [
        f"[{name}]\n" + "".join(f"{keyword}={value}\n" for keyword, value in words.items())
        for name, words in lines.items()
    ]
    return SERVICE + "\n" + "\n".join(sections)


def config_named_in(policy: str) -> str:
    """The path that POLICY was formatted with, as far as this text still says."""
    found = re.search(r"proxyd check --config (.+?)   and", policy)
    return found[1] if found else ""
