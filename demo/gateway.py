"""The gateway as a child process: started on a configuration file, known to be ready, stopped in order.

Owns the process of `proxyd run` and its log. Readiness is the daemon's own word: the message that it sends
a service manager (sd_notify). Used by the demo, the bench and the tests of both.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.child_process import end, launch

START_TIMEOUT_S = 60.0
STOP_STEPS = (signal.SIGTERM, signal.SIGKILL)


class GatewayFailed(RuntimeError):
    """proxyd did not start; the message carries the end of its log."""


def program(name: str = "proxyd") -> str:
    """A program of the Python environment that runs us."""
    return str(Path(sys.executable).parent / name)


class Gateway:
    """`proxyd run --config CONFIG`, its log in `log_path`. A context manager."""

    def __init__(self, config: Path, log_path: Path) -> None:
        self.config = config
        self.log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise GatewayFailed("the gateway is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until it accepts connections. Raises GatewayFailed, and leaves no process then."""
        with tempfile.TemporaryDirectory(prefix="proxyd-notify-") as directory:
            address = str(Path(directory) / "notify")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
                notifications.bind(address)
                notifications.settimeout(0.1)
                self._launch(address)
                try:
                    self._wait_until_ready(notifications)
                except BaseException:
                    self.stop()
                    raise

    def reload(self) -> None:
        """Have it read its policy and certificates again (SIGHUP); it goes on with the old ones if new
        are bad.
        """
        os.kill(self.pid, signal.SIGHUP)

    def stop(self) -> int | None:
        """End it in order; give its exit status. Safe to call twice."""
        process, self._process = self._process, None
        return end(process, STOP_STEPS) if process is not None else None

    def memory_kib(self) -> int:
        """Resident memory now, KiB (VmRSS of proc(5))."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise GatewayFailed("the gateway is gone")

    def log_tail(self, lines: int = 20) -> str:
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, notify_address: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment["NOTIFY_SOCKET"] = notify_address
        command = [program(), "run", "--config", str(self.config)]
        with self.log_path.open("ab") as log:
            self._process = launch(command, log=log, cwd=self.config.parent, env=environment)

    def _wait_until_ready(self, notifications: socket.socket) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.is_running and time.monotonic() < deadline:
            try:
                message = notifications.recv(4096)
            except TimeoutError:
                continue
            if b"READY=1" in message.split(b"\n"):
                return
        raise GatewayFailed(f"proxyd did not start; its log ends with:\n{self.log_tail()}")
