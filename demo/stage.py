"""Everything that the demo needs, set up below one directory and taken down again.

Owns the order: PostgreSQL and the shop in it, certificates, secrets, the two documents, the gateway. Says
nothing and decides nothing about the tour. The tests and the README's check set the same stage.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from demo import documents, shop
from demo.gateway import Gateway
from demo.pki import DemoPki
from demo.postgres_installs import client_programs, postgres_18, write_tls_wrapper
from demo.postgres_server import PostgresServer, free_port

HOST = "127.0.0.1"
GATEWAY_PORT = 6432  # when nobody holds it, so that a copied command works again tomorrow
PEOPLE = {"alice": ("data", "readonly"), "dora": ("dba", "admin")}  # name: group of the certificate, login

_HBA = (
    "local all postgres trust",  # guarded by the mode of the socket
    "host all all 127.0.0.1/32 scram-sha-256",
)
_SETTINGS = {"password_encryption": "scram-sha-256", "unix_socket_permissions": "0700"}


class StageBusy(RuntimeError):
    """Another demo runs in the same directory."""


class Stage:
    """The demo's systems. A context manager; what it made stays readable in `directory` until the next
    one.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.shop = shop.make_shop()
        self.server = PostgresServer(postgres_18(), hba=_HBA, settings=_SETTINGS)
        self.gateway = Gateway(self.config, self.directory / "proxyd.log")
        self.ports = documents.Ports(0, 0, 0)
        self._cleanup = ExitStack()

    @property
    def config(self) -> Path:
        return self.directory / "proxyd.yaml"

    @property
    def policy(self) -> Path:
        return self.directory / "policy.yaml"

    @property
    def tapes(self) -> Path:
        return self.directory / "tapes"

    @property
    def psql(self) -> Path:
        return self.directory / "bin" / "psql"

    def set_up(self) -> Path | None:
        """Make everything but the gateway. Gives where a policy edited by hand was put aside, if there
        was one.
        """
        self._take_directory()
        kept = self.put_aside_edited_policy()
        self._clear()
        passwords = self._write_secrets()
        self._cleanup.callback(self.server.stop)
        self.server.start()
        self._fill(passwords)
        self._issue_certificates()
        self.ports = documents.Ports(
            gateway=_free_port(GATEWAY_PORT), target=self.server.port, metrics=free_port(HOST)
        )
        self._write_documents()
        self._write_programs()
        return kept

    def start_gateway(self) -> None:
        self._cleanup.callback(self.gateway.stop)
        self.gateway.start()

    def tear_down(self) -> None:
        """Stop everything. Safe to call twice."""
        self._cleanup.close()

    def connection(self, person: str) -> dict[str, str]:
        """The libpq keywords by which `person` reaches the shop through the gateway."""
        pki = self.directory / "pki"
        return {
            "host": HOST,
            "port": str(self.ports.gateway),
            "dbname": "shop",
            "user": PEOPLE[person][1],
            "sslmode": "verify-full",
            "sslrootcert": str(pki / "ca.crt"),
            "sslcert": str(pki / f"{person}.crt"),
            "sslkey": str(pki / f"{person}.key"),
        }

    def __enter__(self) -> Self:
        try:
            self.set_up()
            self.start_gateway()
        except BaseException:
            self.tear_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tear_down()

    def _take_directory(self) -> None:
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = self._cleanup.enter_context((self.directory / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StageBusy(f"another demo is running in {self.directory}: end it first (Ctrl-C)") from None

    def put_aside_edited_policy(self) -> Path | None:
        """Keep what a person wrote from being overwritten; gives where it is now."""
        if not self.policy.exists() or _is_ours(self.policy.read_text()):
            return None
        aside = self.policy.with_suffix(".yaml.edited")
        self.policy.replace(aside)
        return aside

    def _clear(self) -> None:
        for name in ("secrets", "pki", "tapes", "bin"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        self.gateway.log_path.unlink(missing_ok=True)
        self.tapes.mkdir(mode=0o700)

    def _write_secrets(self) -> dict[str, str]:
        directory = self.directory / "secrets"
        directory.mkdir(mode=0o700)
        written = {name: secrets.token_urlsafe(24) for name in (*shop.ACCOUNTS, "pseudonym_key")}
        for name, value in written.items():
            path = directory / name
            path.touch(mode=0o600)
            path.write_text(value + "\n")
        return written

    def _fill(self, passwords: dict[str, str]) -> None:
        socket_directory = str(self.server.directory)
        with psycopg.connect(self.server.dsn(host=socket_directory), autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        with psycopg.connect(self.server.dsn(shop.DATABASE, host=socket_directory)) as connection:
            shop.fill(connection, self.shop, passwords)

    def _issue_certificates(self) -> None:
        pki = DemoPki(self.directory / "pki")
        pki.issue_server()
        for person, (group, _login) in PEOPLE.items():
            pki.issue_client(person, group)

    def _write_documents(self) -> None:
        shown = _shown(self.config)
        self.config.write_text(documents.CONFIG.format(ports=self.ports, config=shown))
        self.policy.write_text(documents.POLICY.format(config=shown))
        service = documents.service_file({person: self.connection(person) for person in PEOPLE})
        (self.directory / "pg_service.conf").write_text(service)

    def _write_programs(self) -> None:
        for name in ("psql", "pgbench", "pg_dump"):
            write_tls_wrapper(
                client_programs() / name,
                self.directory / "bin" / name,
                {"PGSERVICEFILE": self.directory / "pg_service.conf"},
            )


def _is_ours(policy: str) -> bool:
    """Was this written by the demo and not changed since? All but the path in it is always the same."""
    return policy == documents.POLICY.format(config=documents.config_named_in(policy))


def _shown(path: Path) -> str:
    """A path as a person in the working directory would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _free_port(preferred: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, preferred))
        except OSError:
            return free_port(HOST)
        return preferred
