"""A sound configuration on disk, with everything it refers to, for tests of the daemon and its commands."""

from __future__ import annotations

from pathlib import Path

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
