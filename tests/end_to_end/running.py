"""A proxyd that runs for a test: its life, and what it leaves behind (log, tapes, metrics).

    with Gateway(...) as gateway:
        gateway.reload(another_policy); gateway.tapes(); gateway.log_lines(); gateway.metrics()

The base of `gateway.Gateway` (before PostgreSQL) and `ssh_gateway.SshGateway` (before OpenSSH), which write the
documents.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demo.gateway import Gateway as Daemon
from demo.gateway import program
from demo.postgres_server import free_port

HOST = "127.0.0.1"
WAIT_S = 60.0  # nothing takes as long; a machine may be slow

Document = dict[str, Any]


def wait_until(is_true: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Poll until `is_true()`; TimeoutError naming `what` when it never is."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(0.01)


class RunningGateway:
    """The daemon and its files below one directory. After a failure in its block its log is printed, for pytest to
    show.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.policy_path = directory / "policy.yaml"
        self.config_path = directory / "proxyd.yaml"
        self.tape_directory = directory / "tapes"
        self.metrics_port = free_port(HOST)
        self.daemon = Daemon(self.config_path, directory / "proxyd.log")
        self._log = LogFile(self.daemon.log_path)

    # Life

    def start(self) -> None:
        """Start and wait until it is ready (its own word to the service manager)."""
        self._log = LogFile(self.daemon.log_path)  # the one before may have been taken away
        self.daemon.start()

    def stop(self) -> int | None:
        """SIGTERM, and wait; the exit status. Safe to call twice."""
        return self.daemon.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            self.show_log()

    @property
    def port(self) -> int:
        """Where the first listener listens."""
        return int(self.logged("listening")[-1]["address"].rpartition(":")[2])

    def reload(self, policy: str | None = None) -> bool:
        """Put another policy in force (None: read the same files again); False when the daemon refused it."""
        if policy is not None:
            self.policy_path.write_text(policy)
        before = self._reloads()
        self.daemon.reload()
        wait_until(lambda: len(self._reloads()) > len(before), "the reload")
        return bool(self._reloads()[-1] == "reloaded")

    def _reloads(self) -> list[str]:
        return [str(line["event"]) for line in self.log_lines() if str(line["event"]).startswith("reload")]

    # What it left behind

    def log_lines(self) -> list[Document]:
        """Every complete line of the log; one that is not JSON (a traceback) as {"event": line}."""
        return self._log.lines()

    def logged(self, event: str, **values: object) -> list[Document]:
        """The log lines with this event (and these values)."""
        wanted = {"event": event, **values}
        return [line for line in self.log_lines() if all(line.get(key) == wanted[key] for key in wanted)]

    def show_log(self) -> None:
        print(f"--- the log of proxyd in {self.directory}\n{self.daemon.log_tail(200)}\n---")

    def tapes(self) -> list[Path]:
        """The tape files, oldest first."""
        found = (path for path in self.tape_directory.rglob("*") if path.is_file())
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def tape_bytes(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.tapes())

    def tape(self, session: str) -> Path:
        """The tape of a session, by its id as the log gives it."""
        return Path(self.logged("session opened", session=session)[0]["tape"])

    def last_session(self, subject: str | None = None) -> str:
        """The id of the newest session (of `subject`), once it has ended: its tape is whole then."""

        def ended() -> list[Document]:
            opened = [line for line in self.logged("session opened") if subject in (None, line["subject"])]
            return self.logged("session ended", session=opened[-1]["session"]) if opened else []

        wait_until(lambda: bool(ended()), "the end of the session")
        return str(ended()[0]["session"])

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels, as in `proxyd_sessions_total{listener="postgres"}`."""
        found = {}
        for line in self.http("/metrics").splitlines():
            sample = re.fullmatch(r"([^#\s]\S*(?:\{.*\})?) (\S+)", line)
            if sample is not None:
                found[sample[1]] = float(sample[2])
        return found

    def http(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{HOST}:{self.metrics_port}{path}", timeout=WAIT_S) as answer:
            return str(answer.read().decode())

    def proxyd(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Another command of the program, as in `proxyd("tape", "ls", ...)`."""
        command = [program(), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done


class LogFile:
    """The lines of a log that grows: what has been read is not read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[Document] = []
        self._read_bytes = 0
        self._lock = threading.Lock()

    def lines(self) -> list[Document]:
        """Every complete line so far."""
        with self._lock:
            if self._path.exists():
                with self._path.open("rb") as file:
                    file.seek(self._read_bytes)
                    whole, end, _ = file.read().rpartition(b"\n")
                self._read_bytes += len(whole) + len(end)
                if end:
                    self._lines += map(_log_line, whole.decode(errors="replace").split("\n"))
            return list(self._lines)


def _log_line(line: str) -> Document:
    try:
        found = json.loads(line)
    except ValueError:
        return {"event": line}
    return found if isinstance(found, dict) else {"event": line}


def is_alive(process_id: int) -> bool:
    """Does the process exist?"""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True
