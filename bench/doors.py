"""The gateway's doors as the bench opens them: each brings its part of the configuration and of the policy, and a
daemon is made of one or several.

Owns the daemon's files, below a directory that its caller removes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

from bench import documents
from bench.target import ACCOUNT, DATABASE, PASSWORD, Target
from demo.gateway import Gateway
from demo.postgres_server import free_port
from demo.ssh_config import SshHost
from demo.ssh_keys import SshKeys
from demo.sshd import SshServer

HOST = "127.0.0.1"
LOGIN = "bench"
HOST_KEY = "gateway_host"
AUTHORITY = "gateway_ca"  # signs the gateway's certificates for its target
PEOPLE_AUTHORITY = "people_ca"
PERSON = "bench"

Document = dict[str, Any]


class Door(Protocol):
    """secrets: files that its configuration names, by their names beside it."""

    @property
    def secrets(self) -> Mapping[str, str]: ...

    def config(self) -> Document: ...

    def policy(self) -> Document: ...


class PostgresDoor:
    """Before the target's database, with masks; the client shows a certificate."""

    def __init__(self, target: Target, *, upstream_tls: bool) -> None:
        self._target = target
        self._upstream_tls = upstream_tls
        self._port = free_port(HOST)
        self.secrets: Mapping[str, str] = {"password": PASSWORD}

    @property
    def keywords(self) -> Mapping[str, str]:
        """How libpq reaches it."""
        pki = self._target.pki
        own = {"sslcert": str(pki.certificate("bench")), "sslkey": str(pki.key("bench"))}
        return postgres_keywords(self._port) | {"user": "readonly"} | own

    def config(self) -> Document:
        return _parsed(
            documents.PROXYD.format(
                pki=self._target.pki.directory,
                port=self._port,
                target_port=self._target.server.port,
                database=DATABASE,
                account=ACCOUNT,
                target_tls="require" if self._upstream_tls else "disable",
            )
        )

    def policy(self) -> Document:
        return _parsed(documents.POLICY)


class SshDoor:
    """Before an sshd that trusts the gateway's authority; the client shows a certificate."""

    def __init__(self, server: SshServer, keys: SshKeys, known_hosts: Path) -> None:
        """`known_hosts`: a file with the server's host key."""
        self._server = server
        self._keys = keys
        self._known_hosts = known_hosts
        self._port = free_port(HOST)
        self.secrets: Mapping[str, str] = {}

    @property
    def known_hosts_line(self) -> str:
        algorithm, key = self._keys.public(HOST_KEY).split()[:2]
        return f"[{HOST}]:{self._port} {algorithm} {key}"

    def host(self, name: str, known_hosts: Path, options: Mapping[str, str]) -> SshHost:
        """The way through it as ssh_config(5) has it; `known_hosts`: a file with its own host key."""
        if not self._keys.certificate(PERSON).exists():
            self._keys.certify(PERSON, PEOPLE_AUTHORITY, [LOGIN])
        key, certificate = self._keys.private(PERSON), self._keys.certificate(PERSON)
        user = f"{LOGIN}+web1"
        return SshHost(name, HOST, self._port, user, key, known_hosts, certificate, options=options)

    def config(self) -> Document:
        return _parsed(
            documents.PROXYD_SSH.format(
                port=self._port,
                host_key=self._keys.private(HOST_KEY),
                people_authority=self._keys.public_file(PEOPLE_AUTHORITY),
                authority=self._keys.private(AUTHORITY),
                person=PERSON,
                target_port=self._server.port,
                known_hosts=self._known_hosts,
                login=LOGIN,
                user=self._server.login,
            )
        )

    def policy(self) -> Document:
        return _parsed(documents.POLICY_SSH)


def daemon(directory: Path, *doors: Door) -> Gateway:
    """A gateway with these doors, its files written; not started."""
    directory.mkdir()
    (directory / "tapes").mkdir(mode=0o700)
    config, policy = _parsed(documents.PROXYD_ALL), _parsed(documents.POLICY_ALL)
    for door in doors:
        config, policy = merged(config, door.config()), merged(policy, door.policy())
        for name, text in door.secrets.items():
            path = directory / name
            path.touch(mode=0o600)
            path.write_text(text + "\n")
    (directory / "proxyd.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (directory / "policy.yaml").write_text(yaml.safe_dump(policy, sort_keys=False))
    return Gateway(directory / "proxyd.yaml", directory / "proxyd.log")


def merged(first: Document, second: Document) -> Document:
    """Both documents as one: lists one after the other, mappings key by key. Anything else may be in one only."""
    whole = dict(first)
    for key, value in second.items():
        match whole.get(key), value:
            case None, _:
                whole[key] = value
            case list(), list():
                whole[key] = [*whole[key], *value]
            case dict(), dict():
                whole[key] = merged(whole[key], value)
            case _:
                raise ValueError(f"both documents have a {key!r}")
    return whole


def postgres_keywords(port: int) -> dict[str, str]:
    return {"host": HOST, "port": str(port), "dbname": DATABASE, "user": ACCOUNT, "sslmode": "require"}


def _parsed(text: str) -> Document:
    document: Document = yaml.safe_load(text)
    return document
