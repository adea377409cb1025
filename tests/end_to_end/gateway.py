"""proxyd as its users meet it: a real daemon in front of a real PostgreSQL, and real clients through it.

    with Gateway(server, directory, policy=ALICE_AND_DORA) as gateway:
        gateway.psql("alice", "select email from shop.customers").stdout
        with gateway.connect("dora") as connection: ...          # psycopg

What every running gateway can besides is `running`'s.

alice's certificate says group data, dora's dba, mallory's guests (in no role). Owns the certificates, the
two documents, the secrets and the process; the server is the caller's. The fixtures are in `conftest`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import yaml

from demo import shop
from tests.end_to_end.policies import ALICE_AND_DORA
from tests.end_to_end.running import HOST, Document, RunningGateway, is_alive, wait_until
from tests.end_to_end.servers import PostgresServer, client_env, postgres_15, psql_command
from tests.end_to_end.shop_server import ADMIN, CATALOG, PASSWORDS, READER
from tests.pki import CLIENT, SERVER, Authority

__all__ = [
    "HOST",
    "TARGET",
    "Document",
    "Gateway",
    "is_alive",
    "psql_env",
    "psql_words",
    "run_psql",
    "wait_until",
]

TARGET = "shop"
PEOPLE = {"alice": ("data", "readonly"), "dora": ("dba", "admin"), "mallory": ("guests", "readonly")}


class Gateway(RunningGateway):
    """A running proxyd. `adjust` may change the configuration (the mapping that proxyd.yaml is written from).

    server: has the shop (`shop_server`). target_ca: with it the gateway speaks TLS to the target, verify-full.
    """

    def __init__(
        self,
        server: PostgresServer,
        directory: Path,
        *,
        policy: str = ALICE_AND_DORA,
        target_ca: Authority | None = None,
        database: str = shop.DATABASE,
        adjust: Callable[[Document], None] | None = None,
    ) -> None:
        super().__init__(directory)
        self.server = server
        self.database = database
        self.authority = Authority.root("People's CA")
        self.people = dict(PEOPLE)
        self._write_files(target_ca)
        config = self._config(target_ca)
        if adjust is not None:
            adjust(config)
        self.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
        self.policy_path.write_text(policy)

    # Clients

    def issue(self, person: str, group: str, login: str, **fields: Any) -> None:
        """A certificate for somebody new, who comes as `login`. `fields` are those of Authority.issue."""
        self.people[person] = (group, login)
        credential = self.authority.issue(person, unit=[group], purpose=CLIENT, **fields)
        credential.write(self.directory / "pki", person)

    def words(self, person: str, login: str | None = None, database: str = TARGET) -> dict[str, str]:
        """The libpq keywords by which `person` comes through the gateway."""
        pki = self.directory / "pki"
        return {
            "host": HOST,
            "port": str(self.port),
            "dbname": database,
            "user": login or self.people[person][1],
            "sslmode": "verify-full",
            "sslrootcert": str(pki / "ca.crt"),
            "sslcert": str(pki / f"{person}.crt"),
            "sslkey": str(pki / f"{person}.key"),
        }

    def dsn(self, person: str, login: str | None = None, database: str = TARGET, **more: object) -> str:
        return _dsn(self.words(person, login, database) | {key: str(value) for key, value in more.items()})

    def direct_dsn(self, login: str = "admin", **more: object) -> str:
        """The same account on the target itself, round the gateway: what a transparent gateway is compared with."""
        user = {"admin": ADMIN, "readonly": READER, "catalog": CATALOG}[login]
        words = {
            "host": HOST,
            "port": str(self.server.port),
            "dbname": self.database,
            "user": user,
            "password": PASSWORDS[user],
        }
        return _dsn(words | {key: str(value) for key, value in more.items()})

    def connect(self, person: str, **options: Any) -> psycopg.Connection[Any]:
        """psycopg. `options`: `login`, `database`, and those of psycopg.connect."""
        place = {key: options.pop(key) for key in ("login", "database") if key in options}
        return psycopg.connect(self.dsn(person, **place), **options)

    def psql(
        self,
        person: str,
        sql: str,
        *arguments: str,
        major: int = 18,
        check: bool = True,
        database: str = TARGET,
        login: str | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run `sql` from standard input by psql (18, or Debian's 15), errors in `stderr`.

        check: stop at the first error and raise AssertionError with what psql said; without it go on after errors.
        """
        dsn = self.dsn(person, login, database)
        return run_psql(dsn, sql, *arguments, major=major, check=check, **environment)

    # Files

    def _write_files(self, target_ca: Authority | None) -> None:
        pki, secrets = self.directory / "pki", self.directory / "secrets"
        for directory in (pki, secrets, self.tape_directory):
            directory.mkdir(parents=True, exist_ok=True)
        server = self.authority.issue("localhost", dns=["localhost"], ips=[HOST], purpose=SERVER)
        server.write(pki, "server")
        self.authority.write_bundle(pki / "ca.crt")
        self.authority.write_crl(pki / "ca.crl")
        for person, (group, login) in PEOPLE.items():
            self.issue(person, group, login)
        if target_ca is not None:
            target_ca.write_bundle(pki / "target-ca.crt")
        for name, value in (*PASSWORDS.items(), ("pseudonym", "0123456789abcdef0123456789abcdef")):
            path = secrets / name
            path.touch(mode=0o600)
            path.write_text(value + "\n")

    def _config(self, target_ca: Authority | None) -> Document:
        return {
            "version": 1,
            "listeners": [
                {
                    "name": "postgres",
                    "protocol": "postgres",
                    "address": f"{HOST}:0",
                    "tls": {
                        "certificate": "pki/server.crt",
                        "key": "pki/server.key",
                        "client_ca": "pki/ca.crt",
                        "client_certificates": "required",
                        "crl": "pki/ca.crl",
                    },
                    "limits": {
                        "connections": 200,
                        "connections_per_subject": 100,
                        "handshake_timeout": "10s",
                    },
                }
            ],
            "identity": {"certificates": {"name": ["cn"], "groups": {"from": ["ou"]}}},
            "targets": [
                {
                    "name": TARGET,
                    "protocol": "postgres",
                    "address": f"{HOST}:{self.server.port}",
                    "labels": {"env": "prod"},
                    "database": self.database,
                    "databases": ["*"],
                    "tls": {"mode": "disable"}
                    if target_ca is None
                    else {"mode": "verify-full", "ca": "pki/target-ca.crt"},
                    "logins": [
                        _login("readonly", READER),
                        _login("admin", ADMIN),
                        _login("catalog", CATALOG),
                    ],
                    "catalog": {"login": "catalog", "poll": "1s"},
                }
            ],
            "masking": {"keys": {"customers": {"file": "secrets/pseudonym"}}},
            "policy": "policy.yaml",
            "tapes": {"directory": "tapes", "reply_limit": "16MiB"},
            "metrics": {"address": f"{HOST}:{self.metrics_port}"},
            "log": {"level": "info"},
            "drain_timeout": "5s",
        }


def run_psql(
    dsn: str, sql: str, *arguments: str, major: int = 18, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """psql on any connection string, `sql` on its standard input. See `Gateway.psql`."""
    done = subprocess.run(
        psql_words(dsn, *arguments, major=major, stop=check),
        input=sql.encode(),
        env=psql_env(major, **environment),
        capture_output=True,
        check=False,
        timeout=60,
    )
    text = subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    if check and done.returncode != 0:
        raise AssertionError(f"psql ended with {done.returncode}:\n{text.stdout}\n{text.stderr}")
    return text


def psql_words(dsn: str, *arguments: str, major: int = 18, stop: bool = True) -> list[str]:
    """The command line of psql; `stop`: at the first error. Run it with `psql_env`."""
    words = psql_command(dsn, *arguments)
    if major == 15:
        words[0] = postgres_15().program("psql")
    if not stop:
        words[words.index("ON_ERROR_STOP=1")] = "ON_ERROR_STOP=0"
    return words


def psql_env(major: int = 18, **variables: str) -> dict[str, str]:
    """Debian's programs have TLS of their own; the wheel's get it by a preloaded library."""
    environment = client_env(**variables)
    if major == 15:
        del environment["LD_PRELOAD"]
    return environment


def _login(name: str, account: str) -> Document:
    return {"name": name, "user": account, "password": {"file": f"secrets/{account}"}}


def _dsn(words: Mapping[str, str]) -> str:
    return " ".join(f"{key}='{_escaped(value)}'" for key, value in words.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
