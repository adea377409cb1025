"""A sound configuration on disk, with everything it refers to, for tests of the daemon and its commands."""

from __future__ import annotations

from pathlib import Path

import asyncssh

from tests.pki import CLIENT, SERVER, Authority

CONFIG = """\
version: 1
listeners:
  - name: postgres
    protocol: postgres
    address: 127.0.0.1:0
    tls: {certificate: pki/server.crt, key: pki/server.key, client_ca: pki/ca.crt}
    limits: {connections: 10, connections_per_subject: 5, handshake_timeout: 3s}
identity:
  certificates:
    name: [cn]
    groups: {from: [ou]}
targets:
  - name: shop
    protocol: postgres
    address: 127.0.0.1:5432
    labels: {env: prod}
    database: shop
    tls: {mode: disable}
    logins:
      - {name: readonly, user: shop_reader, password: {file: secrets/reader}}
      - {name: catalog, password: {file: secrets/reader}}
    catalog: {login: catalog}
masking:
  keys:
    customers: {file: secrets/pseudonym}
policy: policy.yaml
tapes: {directory: tapes}
metrics: {address: 127.0.0.1:0}
log: {level: info}
drain_timeout: 5s
"""

ALICE_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+AG1QlUFDfChP0C05Aj44HYNxLwxqz0qGZWxpPOPFZ"

# Beside CONFIG's, in the same file.
SSH_LISTENER = """\
  - name: ssh
    protocol: ssh
    address: 127.0.0.1:0
    host_keys: [ssh/host]
    host_certificates: [ssh/host-cert.pub]
    client_ca: ssh/user_ca.pub
    revoked_keys: ssh/revoked
    factors: [[certificate], [public_key, totp]]
"""
PEOPLE = f"""\
  people:
    - name: alice@example.com
      groups: [data]
      claims: {{team: blue}}
      keys: ["{ALICE_KEY} alice"]
      totp: {{file: secrets/alice.totp}}
ssh_authority: {{key: {{file: ssh/gateway_ca}}}}
"""
SSH_TARGET = """\
  - name: web1
    protocol: ssh
    address: web1.example:22
    labels: {env: prod}
    host_keys: {known_hosts: ssh/known_hosts}
    logins:
      - {name: readonly, user: reader, certificate: true}
      - {name: root, key: {file: ssh/root}, passphrase: {file: secrets/passphrase}}
      - {name: console, password: {file: secrets/reader}}
"""
SSH_CONFIG = (
    CONFIG.replace("identity:\n", f"{SSH_LISTENER}identity:\n")
    .replace("targets:\n", f"{PEOPLE}targets:\n")
    .replace("masking:\n", f"{SSH_TARGET}masking:\n")
)

POLICY = """\
version: 1
roles:
  analyst: {groups: [data]}
access:
  - name: analysts-read
    roles: [analyst]
    targets: {labels: {env: prod}}
    logins: [readonly]
rules:
  - name: read-the-shop
    effect: allow
    roles: [analyst]
    postgres: {commands: [select], relations: ["shop.*"]}
masks:
  - name: identity-numbers
    columns: ["*.*.ssn"]
    method: {pseudonym: {key: customers}}
"""


def write_setup(directory: Path, *, config: str = CONFIG, policy: str = POLICY) -> Path:
    """Write all files below `directory`; the path of proxyd.yaml."""
    for name in ("pki", "secrets", "tapes"):
        (directory / name).mkdir(exist_ok=True)
    authority = Authority.root("Test CA")
    server = authority.issue("localhost", dns=["localhost"], ips=["127.0.0.1"], purpose=SERVER)
    client = authority.issue("ann", purpose=CLIENT)
    authority.write_bundle(directory / "pki/ca.crt")
    for name, credential in (("server", server), ("client", client)):
        (directory / f"pki/{name}.crt").write_bytes(credential.certificate_pem())
        (directory / f"pki/{name}.key").write_bytes(credential.key_pem())
        (directory / f"pki/{name}.key").chmod(0o600)
    write_secret(directory / "secrets/reader", "hunter2")
    write_secret(directory / "secrets/pseudonym", "0123456789abcdef0123456789abcdef")
    (directory / "policy.yaml").write_text(policy)
    path = directory / "proxyd.yaml"
    path.write_text(config)
    return path


def write_secret(path: Path, value: str) -> None:
    path.write_text(value + "\n")
    path.chmod(0o600)


def write_ssh_setup(directory: Path, *, config: str = SSH_CONFIG, policy: str = POLICY) -> Path:
    """As `write_setup`, with all that SSH_CONFIG names below `directory`/ssh."""
    path = write_setup(directory, config=config, policy=policy)
    (directory / "ssh").mkdir(exist_ok=True)
    host, user_ca, host_ca = (
        write_ssh_key(directory / "ssh" / name) for name in ("host", "user_ca", "host_ca")
    )
    write_ssh_key(directory / "ssh/gateway_ca")
    write_ssh_key(directory / "ssh/root", passphrase="open sesame")
    user_ca.write_public_key(directory / "ssh/user_ca.pub")
    certificate = host_ca.generate_host_certificate(host, "bastion", principals=["bastion.example"])
    certificate.write_certificate(directory / "ssh/host-cert.pub")
    (directory / "ssh/revoked").write_text("# nobody yet\n")
    (directory / "ssh/known_hosts").write_text(f"web1.example {ALICE_KEY}\n")
    write_secret(directory / "secrets/alice.totp", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    write_secret(directory / "secrets/passphrase", "open sesame")
    return path


def write_ssh_key(path: Path, kind: str = "ssh-ed25519", *, passphrase: str | None = None) -> asyncssh.SSHKey:
    """A new private key. With a passphrase in a format that takes less time to open than OpenSSH's own."""
    key = asyncssh.generate_private_key(kind)
    is_plain = passphrase is None
    path.write_bytes(key.export_private_key("openssh" if is_plain else "pkcs8-pem", passphrase=passphrase))
    path.chmod(0o600)
    return key


# Beside CONFIG's, in the same file.
HTTP_LISTENER = """\
  - name: web
    protocol: http
    address: 127.0.0.1:0
    tls: {certificate: pki/web.crt, key: pki/web.key, client_ca: pki/ca.crt}
    domain: gateway.example
    hosts: [bastion.example]
    proxy: {certificate_authority: {certificate: pki/inspect.crt, key: {file: pki/inspect.key}}}
"""
HTTP_TARGET = """\
  - name: api
    protocol: http
    url: https://api.internal:8443/base
    hosts: [api.internal, "api.example.com"]
    labels: {env: prod}
    tls: {ca: pki/ca.crt}
    logins:
      - {name: readonly, bearer: {file: secrets/reader}}
      - {name: basic, basic: {user: gate, password: {file: secrets/reader}}}
      - {name: field, header: {name: X-Api-Key, value: {file: secrets/reader}}}
      - {name: mutual, certificate: {certificate: pki/client.crt, key: pki/client.key}}
      - name: token
        oauth2:
          {token_url: "https://login.example/t", client_id: gate, client_secret: {file: secrets/reader}, ca: pki/ca.crt}
      - {name: aws, sigv4: {region: eu-central-1, service: s3, access_key: AKID, secret_key: {file: secrets/reader}}}
      - {name: open, none: true}
"""
HTTP_CONFIG = CONFIG.replace("identity:\n", f"{HTTP_LISTENER}identity:\n").replace(
    "masking:\n", f"{HTTP_TARGET}masking:\n"
)


def write_http_setup(directory: Path, *, config: str = HTTP_CONFIG, policy: str = POLICY) -> Path:
    """As `write_setup`, with all that HTTP_CONFIG names."""
    path = write_setup(directory, config=config, policy=policy)
    authority = Authority.root("Inspection CA")
    authority.credential.write(directory / "pki", "inspect")
    names = ["gateway.example", "*.gateway.example", "bastion.example"]
    Authority.root("Test CA").issue("web", dns=names, purpose=SERVER).write(directory / "pki", "web")
    return path
