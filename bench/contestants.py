"""The three ways to the target: direct, through PgBouncer, through proxyd.

Each speaks TLS with the client. The hop from PgBouncer and from proxyd to the target has the same setting
for both (`upstream_tls`). A contestant is started once and stays up while all are measured in turn.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from bench import documents
from bench.doors import HOST, PostgresDoor, daemon, postgres_keywords
from bench.processes import cpu_s
from bench.target import ACCOUNT, DATABASE, PASSWORD, Target
from demo.child_process import end, launch
from demo.postgres_installs import server_account
from demo.postgres_server import free_port, make_scratch

PGBOUNCER = Path("/usr/sbin/pgbouncer")
START_TIMEOUT_S = 20.0
NAMES = ("direct", "pgbouncer", "proxyd")


class ContestantFailed(RuntimeError):
    """A contestant is not installed or did not start."""


class Reachable(Protocol):
    """keywords: how libpq reaches it."""

    @property
    def keywords(self) -> Mapping[str, str]: ...


class Contestant(Reachable, Protocol):
    name: str

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def cpu_s(self) -> float: ...


class Direct:
    """The target itself, over TLS."""

    name = "direct"

    def __init__(self, target: Target) -> None:
        self._target = target

    @property
    def keywords(self) -> Mapping[str, str]:
        return postgres_keywords(self._target.server.port) | {"password": PASSWORD}

    def start(self) -> None:
        """It runs already."""

    def stop(self) -> None:
        """Its owner stops it."""

    def cpu_s(self) -> float:
        return 0.0


class PgBouncer:
    """Debian's PgBouncer: session pooling, TLS from the client."""

    name = "pgbouncer"

    def __init__(self, target: Target, *, upstream_tls: bool) -> None:
        if not PGBOUNCER.exists():
            raise ContestantFailed("PgBouncer is not installed: apt-get install pgbouncer")
        self._target = target
        self._upstream_tls = upstream_tls
        self._port = free_port(HOST)
        self._account = server_account()
        self._directory = make_scratch("proxyd-pgbouncer-", self._account)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def keywords(self) -> Mapping[str, str]:
        return postgres_keywords(self._port) | {"password": PASSWORD}

    def start(self) -> None:
        pki = self._target.pki
        self._write("server.crt", pki.certificate("server").read_text())
        self._write("server.key", pki.key("server").read_text())
        self._write("users", f'"{ACCOUNT}" "{PASSWORD}"\n')
        ini = documents.PGBOUNCER.format(
            directory=self._directory,
            port=self._port,
            target_port=self._target.server.port,
            database=DATABASE,
            server_tls="require" if self._upstream_tls else "disable",
        )
        command = [str(PGBOUNCER), str(self._write("pgbouncer.ini", ini))]
        log_path = self._write("log", "")
        with log_path.open("ab") as log:
            environment = {"PATH": "/usr/bin:/bin"}
            self._process = launch(
                command, log=log, cwd=self._directory, env=environment, account=self._account
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self._port):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise ContestantFailed(f"PgBouncer did not start:\n{log_path.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            # Its SIGTERM is "at once"; its SIGINT would wait for clients.
            end(self._process, (signal.SIGTERM, signal.SIGKILL))
            self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def cpu_s(self) -> float:
        return cpu_s(self._process.pid) if self._process else 0.0

    def _write(self, name: str, text: str) -> Path:
        path = self._directory / name
        path.touch(mode=0o600)
        path.write_text(text)
        self._account.take(path)
        return path


class Proxyd:
    """The gateway with policy, masks and tapes on; the client shows a certificate."""

    name = "proxyd"

    def __init__(self, target: Target, *, upstream_tls: bool) -> None:
        self._door = PostgresDoor(target, upstream_tls=upstream_tls)
        self.gateway = daemon(target.directory / "gateway", self._door)

    @property
    def keywords(self) -> Mapping[str, str]:
        return self._door.keywords

    def start(self) -> None:
        self.gateway.start()

    def stop(self) -> None:
        self.gateway.stop()

    def restart(self) -> None:
        """As fresh as after `start`: nothing that earlier measurements made it allocate."""
        self.gateway.stop()
        self.gateway.start()

    def cpu_s(self) -> float:
        return cpu_s(self.gateway.pid)


def make(name: str, target: Target, *, upstream_tls: bool) -> Contestant:
    """The contestant of that name; raises ContestantFailed when it is not there."""
    match name:
        case "direct":
            return Direct(target)
        case "pgbouncer":
            return PgBouncer(target, upstream_tls=upstream_tls)
        case "proxyd":
            return Proxyd(target, upstream_tls=upstream_tls)
    raise ContestantFailed(f"there is no contestant {name!r}, only {', '.join(NAMES)}")


def conninfo(contestant: Reachable) -> str:
    return " ".join(f"{name}={value}" for name, value in contestant.keywords.items())


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True
