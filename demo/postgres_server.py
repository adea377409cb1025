"""Real PostgreSQL servers for tests, the bench and the demo: made in half a second, gone without a trace.

Owns: data directories, the server process and its settings, and the files for its TLS. Loopback only, never
durable. Works as root (then the server runs as `nobody`, see `installs`) and as an ordinary user.

A server is a child process of ours and ends with us, however we end (see `child_process`).
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.child_process import end, launch
from demo.postgres_installs import (
    Account,
    Install,
    client_env,
    psql_command,
    scratch_parent,
    server_account,
)

SUPERUSER = "postgres"
START_TIMEOUT_S = 60.0
PORT_ATTEMPTS = 8
KEPT_PORTS = 50
TRUST_ALL = ("local all all trust", "host all all 127.0.0.1/32 trust")


class ServerFailed(RuntimeError):
    """The server did not start; the message carries the end of its log."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What the server shows and whom it trusts, PEM."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None = None


@dataclass(slots=True)
class PostgresServer:
    """One server. Use it as a context manager, or call `start()` and `stop()`.

    hba: lines of pg_hba.conf. settings: extra settings of postgresql.conf. tls: needs an install with TLS.
    Raises ServerFailed when it does not come up.
    """

    install: Install
    hba: Sequence[str] = TRUST_ALL
    settings: Mapping[str, str] = field(default_factory=dict)
    tls: TlsFiles | None = None
    host: str = "127.0.0.1"
    port: int = 0
    directory: Path = field(init=False, default=Path())
    _account: Account = field(init=False, default_factory=server_account)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Make the data directory and start. On any failure nothing is left behind."""
        self.directory = make_scratch("proxyd-postgres-", self._account)
        try:
            copy_data(_template(self.install, self._account), self.data, self._account)
            self._write_files()
            self._launch_on_a_free_port()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Fast shutdown, then an immediate one, then SIGKILL; then remove every file. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            end(process, _SHUTDOWN)
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)

    def dsn(self, database: str = "postgres", user: str = SUPERUSER, **options: object) -> str:
        """A libpq connection string over TCP."""
        words = {"host": self.host, "port": self.port, "dbname": database, "user": user, **options}
        return " ".join(f"{name}={value}" for name, value in words.items())

    def psql(self, sql: str, database: str = "postgres", user: str = SUPERUSER, **variables: str) -> str:
        """Run `sql` by psql, unaligned and without headers; raises CalledProcessError (see its `stderr`)."""
        command = psql_command(self.dsn(database, user), "-A", "-t", "-q", "-f", "-")
        done = subprocess.run(
            command, input=sql, env=client_env(**variables), capture_output=True, text=True, check=True
        )
        return done.stdout.rstrip("\n")

    def write_hba(self, lines: Sequence[str]) -> None:
        """Replace pg_hba.conf; a running server takes it with `reload()`."""
        self._write("pg_hba.conf", "\n".join(lines) + "\n")

    def write_tls(self, tls: TlsFiles) -> None:
        """Replace the server's certificate files; a running server takes them with `reload()`."""
        self._write("server.crt", tls.certificate.decode())
        self._write("server.key", tls.key.decode())
        if tls.client_ca is not None:
            self._write("client-ca.crt", tls.client_ca.decode())

    def reload(self) -> None:
        """Have the server read its files again, and wait until it has (it logs so)."""
        before = self.log_text().count("received SIGHUP")
        self._signal(signal.SIGHUP)
        self._wait_until(lambda: self.log_text().count("received SIGHUP") > before, "reload")
        # It logs before it reads. The postmaster does one thing at a time, so a backend that answers now was
        # forked after the reading.
        with socket.create_connection((self.host, self.port), START_TIMEOUT_S) as probe:
            probe.sendall(_SSL_REQUEST)
            probe.recv(1)

    def restart(self) -> None:
        """Stop and start on the same port with the same data, as a target does that is being maintained."""
        process, self._process = self._process, None
        if process is not None:
            end(process, _SHUTDOWN)
        self._launch(self.port)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _write(self, name: str, text: str) -> None:
        path = self.data / name
        path.touch(mode=0o600)
        path.write_text(text)
        path.chmod(0o600)
        self._account.take(path)

    def _write_files(self) -> None:
        self.write_hba(self.hba)
        settings = _FAST_SETTINGS | {
            "listen_addresses": self.host,
            "unix_socket_directories": str(self.directory),
        }
        if self.tls is not None:
            self.write_tls(self.tls)
            settings |= {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
            if self.tls.client_ca is not None:
                settings["ssl_ca_file"] = "client-ca.crt"
        lines = [f"{name} = '{value}'" for name, value in (settings | dict(self.settings)).items()]
        self._write("postgresql.conf", "\n".join(lines) + "\n")

    def _launch_on_a_free_port(self) -> None:
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._launch(self.port or free_port(self.host))
                return
            except ServerFailed:
                taken = "could not bind" in self.log_text()
                if self.port or not taken or attempt == PORT_ATTEMPTS - 1:
                    raise
                self.log.unlink()

    def _launch(self, port: int) -> None:
        command = [self.install.program("postgres"), "-D", str(self.data), "-p", str(port)]
        with self.log.open("ab") as log:
            self._process = launch(
                command, log=log, cwd=self.directory, env=_SERVER_ENVIRONMENT, account=self._account
            )
        self._wait_until(lambda: self._is_ready(port), "start")
        self.port = port

    def _is_ready(self, port: int) -> bool:
        """postmaster.pid: line 1 is its process id, line 4 its port, line 8 its status (miscadmin.h)."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        process = self._process
        if len(lines) < 8 or process is None:
            return False
        return lines[0] == str(process.pid) and lines[3] == str(port) and lines[7].strip() == "ready"

    def _wait_until(self, is_done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        process = self._process
        while process is not None and process.poll() is None and time.monotonic() < deadline:
            if is_done():
                return
            time.sleep(0.01)
        raise ServerFailed(f"PostgreSQL {self.install.major} did not {what}:\n{self.log_text()[-2000:]}")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
# Fast (sessions are ended), immediate, and by force.
_SHUTDOWN = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
_SERVER_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

_FAST_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "dynamic_shared_memory_type": "mmap",
}


def free_port(host: str) -> int:
    """A TCP port that nobody listens on, for a server that sets SO_REUSEADDR, as all do that are started here.

    It stays bound here for a while, so that it becomes nobody else's before the server has it: neither another's who
    asks for any port, nor a connection's own. Where others run too it may be gone all the same: then try another.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((host, 0))
    port = int(probe.getsockname()[1])
    _kept_ports.append(probe.detach())
    while len(_kept_ports) > KEPT_PORTS:
        os.close(_kept_ports.popleft())
    return port


_kept_ports: deque[int] = deque()  # file descriptors


def make_scratch(prefix: str, account: Account) -> Path:
    """A new directory that `account` owns and everybody may enter (the unix socket is in it)."""
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=scratch_parent(account)))
    directory.chmod(0o755)
    account.take(directory)
    return directory


def copy_data(source: Path, destination: Path, account: Account) -> None:
    """Copy a data directory as its owner, so that the copy has the right owner and mode."""
    subprocess.run(
        ["/bin/cp", "-a", "--reflink=auto", str(source), str(destination)],
        cwd="/",
        check=True,
        **account.subprocess_arguments(),
    )


class _Template:
    """A data directory fresh from initdb, removed when the process ends."""

    def __init__(self, install: Install, account: Account) -> None:
        self.directory = make_scratch("proxyd-template-", account)
        self.data = self.directory / "data"
        atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        done = subprocess.run(
            [
                install.program("initdb"),
                *("-D", str(self.data), "-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8"),
                *("--auth=trust", "--no-sync", "--no-instructions"),
            ],
            cwd=self.directory,
            env=_SERVER_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **account.subprocess_arguments(),
        )
        if done.returncode != 0:
            raise ServerFailed(f"initdb of PostgreSQL {install.major} failed:\n{done.stdout}{done.stderr}")


@cache
def _template_of(install: Install, account: Account) -> _Template:
    return _Template(install, account)


def _template(install: Install, account: Account) -> Path:
    return _template_of(install, account).data
