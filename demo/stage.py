"""Everything that the demo needs, set up below one directory and taken down again.

Owns the order: PostgreSQL and the shop in it, the web server, certificates, secrets, issuer, API and model, the two
documents, the gateway.
Says nothing and decides nothing about the tour. The tests and the README's check set the same stage.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from demo import documents, shop
from demo.gateway import Gateway
from demo.http_stage import API_HOST, KEYS, HttpStage, has_curl
from demo.pki import DemoPki
from demo.postgres_installs import Account, client_programs, postgres_18, write_tls_wrapper
from demo.postgres_server import PostgresServer, free_port, make_scratch
from demo.ssh_config import SshHost, write_ssh_config
from demo.ssh_pki import SshPki
from demo.web1 import AUTHORITY, Web1, has_usable_sshd

HOST = "127.0.0.1"
GATEWAY_PORT = 6432  # when nobody holds it, so that a copied command works again tomorrow
SSH_PORT = 2222
HTTP_PORT = 8443
PEOPLE = {"alice": ("data", "readonly"), "dora": ("dba", "admin")}  # name: group of the certificate, login
SSH_LOGIN = "deploy"
SSH_TARGET = "web1"
PEOPLE_AUTHORITY = "people_ca"
GATEWAY_HOST_KEY = "gateway_host"
MAX_SOCKET_PATH_BYTES = 107  # unix(7)

_HBA = (
    "local all postgres trust",  # guarded by the mode of the socket
    "host all all 127.0.0.1/32 scram-sha-256",
)
_SETTINGS = {"password_encryption": "scram-sha-256", "unix_socket_permissions": "0700"}


class StageBusy(RuntimeError):
    """Another demo runs in the same directory."""


class Stage:
    """The demo's systems. A context manager; what it made stays readable in `directory` until the next
    one. has_sshd: is web1 a real sshd? None: where there is one.
    """

    def __init__(self, directory: Path, *, has_sshd: bool | None = None) -> None:
        self.directory = directory.absolute()
        self.shop = shop.make_shop()
        self.server = PostgresServer(postgres_18(), hba=_HBA, settings=_SETTINGS)
        self.web1 = Web1(
            self.directory / "web1", has_sshd=has_usable_sshd() if has_sshd is None else has_sshd
        )
        self.gateway = Gateway(self.config, self.directory / "proxyd.log")
        groups = {person: group for person, (group, _login) in PEOPLE.items()}
        self.http = HttpStage(self.directory, self.shop, groups)
        self.ports = documents.Ports(*[0] * 9)
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

    @property
    def ssh_config(self) -> Path:
        return self.directory / "ssh_config"

    @property
    def fetched(self) -> Path:
        """Where the tour puts files that it has fetched."""
        return self.directory / "fetched"

    @property
    def har(self) -> Path:
        """Where the tour exports a tape to."""
        return self.directory / "exported.har"

    @property
    def has_ssh_client(self) -> bool:
        return shutil.which("ssh") is not None

    @property
    def has_curl(self) -> bool:
        return has_curl()

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
        pki = self._issue_certificates()
        self._cleanup.callback(self.http.stop)
        self.http.start({name: passwords[name] for name in KEYS}, pki)
        ssh = self._issue_ssh_certificates()
        self._cleanup.callback(self.web1.stop)
        self.web1.start(ssh)
        self.ports = documents.Ports(
            gateway=_free_port(GATEWAY_PORT),
            target=self.server.port,
            metrics=free_port(HOST),
            ssh=_free_port(SSH_PORT),
            ssh_target=self.web1.port,
            http=_free_port(HTTP_PORT),
            issuer=self.http.issuer.port,
            api=self.http.api_port,
            model=self.http.model_port,
        )
        self._write_documents()
        self._write_ssh_files(ssh)
        self.http.write_files(self.ports.http)
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
        for name in ("secrets", "pki", "ssh", "web1", "tapes", "bin", "fetched", "issuer", "tokens", "store"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        self.fetched.mkdir()
        self.gateway.log_path.unlink(missing_ok=True)
        self.har.unlink(missing_ok=True)
        self.tapes.mkdir(mode=0o700)
        (self.directory / "store").mkdir(mode=0o700)

    def _write_secrets(self) -> dict[str, str]:
        directory = self.directory / "secrets"
        directory.mkdir(mode=0o700)
        written = {name: secrets.token_urlsafe(24) for name in (*shop.ACCOUNTS, "pseudonym_key", *KEYS)}
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

    def _issue_certificates(self) -> DemoPki:
        pki = DemoPki(self.directory / "pki")
        pki.issue_server()
        for person, (group, _login) in PEOPLE.items():
            pki.issue_client(person, group)
        return pki

    def _write_documents(self) -> None:
        shown = _shown(self.config)
        self.config.write_text(
            documents.CONFIG.format(
                ports=self.ports,
                config=shown,
                account=self.web1.login,
                admin=self._admin_socket(),
                api_host=API_HOST,
            )
        )
        self.policy.write_text(documents.POLICY.format(config=shown))
        connections = {person: self.connection(person) for person in PEOPLE}
        own = {"sslcert", "sslkey"}
        words = {name: value for name, value in connections["alice"].items() if name not in own}
        service = documents.service_file(connections | {"token": words | {"sslcertmode": "disable"}})
        (self.directory / "pg_service.conf").write_text(service)

    def _admin_socket(self) -> str:
        """Beside the configuration, unless that is deeper than the path of a socket may be long."""
        if len(os.fsencode(self.directory / "admin.sock")) <= MAX_SOCKET_PATH_BYTES:
            return "admin.sock"
        scratch = make_scratch("proxyd-demo-", Account())
        self._cleanup.callback(shutil.rmtree, scratch, ignore_errors=True)
        return str(scratch / "admin.sock")

    def _issue_ssh_certificates(self) -> SshPki:
        pki = SshPki(self.directory / "ssh")
        for name in (GATEWAY_HOST_KEY, AUTHORITY, PEOPLE_AUTHORITY, *PEOPLE):
            pki.make(name)
        for person in PEOPLE:
            pki.certify(person, PEOPLE_AUTHORITY, key_id=person, principals=[SSH_LOGIN])
        return pki

    def _write_ssh_files(self, pki: SshPki) -> None:
        """What the gateway knows web1 by, what people know the gateway by, and their way to web1."""
        (pki.directory / "known_hosts").write_text(self.web1.known_hosts_line(pki) + "\n")
        known_hosts = pki.directory / "known_hosts_of_people"
        known_hosts.write_text(f"[{HOST}]:{self.ports.ssh} {pki.public(GATEWAY_HOST_KEY)}\n")

        def host(person: str, name: str, user: str) -> SshHost:
            key, certificate = pki.private(person), pki.certificate(person)
            return SshHost(name, HOST, self.ports.ssh, user, key, known_hosts, certificate)

        through = f"{SSH_LOGIN}+{SSH_TARGET}"
        hosts = [host("alice", SSH_TARGET, through)]
        for person in PEOPLE:
            hosts += [
                host(person, f"{person}.{SSH_TARGET}", through),
                host(person, f"{person}.gateway", SSH_LOGIN),
            ]
        by_token = {"PreferredAuthentications": "keyboard-interactive", "BatchMode": "no"}
        hosts.append(
            replace(host("alice", f"token.{SSH_TARGET}", through), certificate=None, options=by_token)
        )
        write_ssh_config(self.ssh_config, hosts)

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
