"""The texts that the demo writes: proxyd.yaml, policy.yaml and the service file for psql. (`ssh_config` words the file
for ssh, `http_stage` those for curl.)

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
    http: int
    issuer: int
    api: int
    model: int


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
      client_certificates: optional
      crl: pki/ca.crl                  # ...that are not on this list
      minimum_version: "1.2"
    factors: [[certificate], [token]]  # or of a token of the issuer below: it is sent as the password
    limits: {{connections: 200, connections_per_subject: 50, handshake_timeout: 10s}}
  - name: ssh
    protocol: ssh
    address: 127.0.0.1:{ports.ssh}
    host_keys: [ssh/gateway_host]      # what the gateway shows to clients
    client_ca: ssh/people_ca.pub       # who may come in: holders of certificates of this authority
    factors: [[certificate], [token]]  # [public_key, totp] beside them would let in people with both of these, too
  - name: web
    protocol: http
    address: 127.0.0.1:{ports.http}
    tls:
      certificate: pki/server.crt
      key: pki/server.key
      client_ca: pki/ca.crt
      client_certificates: optional
      crl: pki/ca.crl
    factors: [[certificate], [token]]
    hosts: [localhost]                 # its own name: /t/TARGET/ at it leads to a target
    proxy:                             # for clients that know nothing but HTTPS_PROXY: signs for what is in a tunnel
      certificate_authority: {{certificate: pki/inspection.crt, key: {{file: pki/inspection.key}}}}

identity:
  certificates:
    name: [cn]                         # a person is called what the certificate's common name says
    groups: {{from: [ou]}}               # and is a member of its organisational units
  ssh_certificates: {{name: key_id}}     # over SSH: what the certificate's key id says (ssh-keygen -I)
  people:                              # an SSH certificate knows no groups: they are here
    - {{name: alice, groups: [data]}}
    - {{name: dora, groups: [dba]}}
  issuers:                             # whose tokens say who somebody is, at every door that takes tokens
    - name: company
      issuer: https://localhost:{ports.issuer}
      audiences: [proxyd]
      ca: pki/ca.crt
      claims: {{name: sub, groups: groups}}

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
  - name: api                          # https://localhost:{ports.http}/t/api/...
    protocol: http
    url: http://127.0.0.1:{ports.api}      # in clear on loopback; elsewhere: https and tls: {{ca: ...}}
    hosts: [{api_host}]           # what clients of the forward proxy call it
    labels: {{env: prod}}
    logins:                            # put in for what the client had; logins may be basic, oauth2, sigv4, ... too
      - {{name: shop, bearer: {{file: secrets/api_key}}}}
  - name: model                        # https://localhost:{ports.http}/t/model/v1 is the base_url of an SDK
    protocol: http
    url: http://127.0.0.1:{ports.model}
    api: openai                        # each request is a call of a model: which, how many tokens, at what cost
    labels: {{env: prod}}
    logins:
      - {{name: shop, bearer: {{file: secrets/model_key}}}}

models:
  prices:                              # USD for a million tokens
    - {{models: ["gpt-demo*"], input: 2.50, output: 10.00}}
store: {{path: store/proxyd.db}}         # what has been spent of the budgets

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
  - name: everybody-calls-the-apis
    roles: [analyst, dba]
    targets: {{labels: {{env: prod}}, protocol: http}}
    logins: [shop]
    session: {{max: 8h, idle: 30m}}
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

  - name: use-the-api
    effect: allow
    roles: [analyst, dba]
    http: {{methods: [GET], paths: ["/whoami", "/customers/**", "/orders/**"]}}
  - name: small-orders                 # looks into the body: what has no quantity, or a larger one, is not covered
    effect: allow
    http: {{methods: [POST], paths: [/orders], body: {{"$.quantity": {{max: 10}}}}}}
  - name: no-exports
    effect: deny
    http: {{paths: ["/**/export"]}}
    message: "Exports are made at night."
  - name: cancellations-wait-for-a-human
    effect: hold
    http: {{methods: [DELETE]}}
    approval: {{approvers: [dba], approvals: 1, timeout: 10m}}
  - name: small-models                 # a call of a model needs a rule with llm
    effect: allow
    roles: [analyst]
    llm: {{operations: [chat, models], models: [gpt-demo, gpt-demo-mini], max_tokens: {{max: 500}}}}

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
  - name: mail-in-answers              # fields of JSON, at any depth
    json: ["$..email"]
    method: {{partial: {{keep_last: 4}}}}
    unless: {{roles: [dba]}}
  - name: cards-wherever-they-are      # the second line: what looks like a card, through any door, both ways over HTTP
    detect: [credit_card]
    on: [response, request]
    unless: {{roles: [dba]}}

budgets:                               # what each person may spend on models in a day
  - name: models
    roles: [analyst]
    per: subject
    day: {{cost_usd: 1.0, requests: 200}}
"""

SERVICE = """\
# How psql reaches the gateway as each person:  psql service=alice
# With a token in place of a certificate:  PGPASSWORD="$(cat tokens/alice)" psql service=token
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
