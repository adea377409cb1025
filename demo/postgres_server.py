"""One throw-away PostgreSQL server: made, started, stopped and removed by whoever opened it.

Owns a temporary directory with the data, the socket and the log. PostgreSQL refuses to run as root; then
everything of it runs as `nobody`, from a copy of the programs when the originals lie where that account
cannot reach (a checkout under /root). `postgres_programs` says where programs are. The demo, the bench and
the tests call this.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from demo.postgres_programs import (
    PostgresServerError,
    reachable_programs,
    reachable_temporary_directory,
    server_account,
)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
PORT_ATTEMPTS = 5
SUPERUSER = "postgres"


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a server with TLS presents (PEM), and the CA by which it checks client certificates if it does."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None = None


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How one server is set up.

    settings: lines of postgresql.conf. hba: lines of pg_hba.conf, in place of SCRAM passwords for everybody.
    initdb: further arguments of initdb. Whatever the server keeps may be lost when the machine stops: it
    never waits for the disk.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    hba: Sequence[str] = (
        "local all all scram-sha-256",
        "host all all 127.0.0.1/32 scram-sha-256",
        "host all all ::1/128 scram-sha-256",
    )
    tls: ServerTls | None = None
    initdb: Sequence[str] = ()


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody holds now; somebody may take it before it is used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """A server in a directory of its own, on 127.0.0.1 and a Unix socket.

    bin_dir: where `initdb` and `postgres` are. port 0: any free one. Use as a context manager, or call
    start() and stop() (which also removes the directory). `halt` and `launch` stop and start the same data
    again, on the same port.
    """

    def __init__(self, bin_dir: Path, options: ServerOptions | None = None, *, port: int = 0) -> None:
        self.options = options or ServerOptions()
        self.host = "127.0.0.1"
        self.port = port
        self.superuser = SUPERUSER
        self.password = secrets.token_urlsafe(18)
        self.base_dir = Path()
        self._source_bin_dir = bin_dir
        self.bin_dir = bin_dir
        self._fixed_port = port != 0
        self._account = server_account()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> Path:
        return self.base_dir / "data"

    @property
    def socket_dir(self) -> Path:
        return self.base_dir / "run"

    @property
    def log_path(self) -> Path:
        return self.base_dir / "postgres.log"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def dsn(
        self, database: str = "postgres", user: str | None = None, password: str | None = None, **extra: str
    ) -> str:
        """A libpq connection string over TCP, the superuser's unless told otherwise; `extra`: further
        keywords.
        """
        words = {
            "host": self.host,
            "port": str(self.port),
            "dbname": database,
            "user": user or self.superuser,
            "password": password if password is not None else self.password,
            **extra,
        }
        return " ".join(f"{key}={_quoted(value)}" for key, value in words.items())

    def start(self) -> None:
        """Make the cluster and start it.

        Raises PostgresServerError, and leaves nothing behind then.
        """
        try:
            self._make_directories()
            self._make_cluster()
            self.launch()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start the server on the cluster that is there, and wait until it accepts connections."""
        for attempt in range(PORT_ATTEMPTS):
            if not self._fixed_port:
                self.port = free_port(self.host)
            if self._launch_once():
                self._fixed_port = True
                return
            if "could not bind" not in self.log_tail() or self._fixed_port or attempt == PORT_ATTEMPTS - 1:
                break
        raise PostgresServerError(f"PostgreSQL did not start; its log ends with:\n{self.log_tail()}")

    def halt(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server, keep its data. SIGINT ends sessions in order, SIGQUIT at once, SIGKILL is a
        crash.
        """
        process = self._process
        if process is None:
            return
        for step in (how, signal.SIGQUIT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(step)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                continue
            break
        self._process = None

    def stop(self) -> None:
        """Stop the server and remove everything of it. Safe to call twice."""
        self.halt()
        if self.base_dir != Path():
            shutil.rmtree(self.base_dir, ignore_errors=True)
            self.base_dir = Path()

    def log_tail(self, lines: int = 20) -> str:
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _make_directories(self) -> None:
        self.base_dir = Path(
            tempfile.mkdtemp(prefix="proxyd-pg-", dir=reachable_temporary_directory(self._account))
        )
        self.base_dir.chmod(0o755)
        for directory in (self.data_dir, self.socket_dir):
            directory.mkdir(mode=0o700)
            self._give(directory)
        self.socket_dir.chmod(0o755)
        self.log_path.touch(mode=0o644)
        self.bin_dir = reachable_programs(self._source_bin_dir, self._account, self.base_dir)

    def _make_cluster(self) -> None:
        password_file = self.base_dir / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password + "\n")
        self._give(password_file)
        command = [
            str(self.bin_dir / "initdb"),
            *("--pgdata", str(self.data_dir), "--username", self.superuser, "--pwfile", str(password_file)),
            *(
                "--auth",
                "scram-sha-256",
                "--encoding",
                "UTF8",
                "--locale",
                "C",
                "--no-sync",
                "--no-instructions",
            ),
            *self.options.initdb,
        ]
        made = subprocess.run(
            command, capture_output=True, cwd="/", env=_ENVIRONMENT, check=False, **self._account
        )
        password_file.unlink()
        if made.returncode:
            raise PostgresServerError(f"initdb failed:\n{made.stderr.decode(errors='replace')}")
        self._write_settings()

    def _write_settings(self) -> None:
        settings = {
            "listen_addresses": self.host,
            "unix_socket_directories": str(self.socket_dir),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "password_encryption": "scram-sha-256",
            "max_connections": "100",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if self.options.tls:
            settings |= self._write_tls(self.options.tls)
        settings |= self.options.settings
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items()]
        with (self.data_dir / "postgresql.conf").open("a") as conf:
            conf.write("\n" + "\n".join(lines) + "\n")
        self.write_hba(self.options.hba)

    def write_hba(self, lines: Sequence[str]) -> None:
        """Write pg_hba.conf; a running server reads it after reload()."""
        (self.data_dir / "pg_hba.conf").write_text("\n".join(lines) + "\n")

    def reload(self) -> None:
        """Make the running server read its configuration again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def _write_tls(self, tls: ServerTls) -> dict[str, str]:
        files = {"server.crt": tls.certificate, "server.key": tls.key}
        settings = {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
        if tls.client_ca is not None:
            files["client-ca.crt"] = tls.client_ca
            settings["ssl_ca_file"] = "client-ca.crt"
        for name, content in files.items():
            path = self.data_dir / name
            path.touch(mode=0o600)
            path.write_bytes(content)
            self._give(path)
        return settings

    def _launch_once(self) -> bool:
        # A session of its own: Ctrl-C in the terminal reaches the owner, who then stops the server in order.
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.bin_dir / "postgres"), "-D", str(self.data_dir), "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,
                **self._account,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._is_ready():
                return True
            time.sleep(0.02)
        self.halt()
        return False

    def _is_ready(self) -> bool:
        # The eighth line of postmaster.pid is the server's own word on its state.
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _give(self, path: Path) -> None:
        if self._account:
            os.chown(path, self._account["user"], self._account["group"])


_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
