"""What a session costs: the time of a login, of an echo, and memory while nothing happens.

The machine is noisy, so the ways take turns, round by round, in an order that rotates.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.measure import MeasurementFailed, rotated
from bench.ssh_effort import SshEffort
from bench.ssh_ways import DIRECT_ALIKE, PROXYD, SshWays, client_environment

PROMPT = b"$ "
READY = b"ready"
ANSWER_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
WARM_KEYSTROKES = 20
SETTLE_S = 1.0
OPEN_AT_ONCE = 4

# Each byte comes back from the target's terminal itself, as in a shell, but without a process to wait for. The quotes
# keep the line's own echo from being taken for its output.
QUIET_TERMINAL = b"stty raw echo; echo rea''dy; exec cat > /dev/null\n"


def login_times(ways: SshWays, effort: SshEffort) -> dict[str, list[float]]:
    """Seconds of `ssh WAY true`, a list of rounds for each way."""
    names = ways.names_beside(DIRECT_ALIKE)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(effort.logins + 1):
        for name in rotated(names, turn):
            started = time.perf_counter()
            ways.run(ways.ssh(name, "true"))
            if turn:  # the first round warms
                seconds[name].append(time.perf_counter() - started)
    return seconds


def echo_times(ways: SshWays, effort: SshEffort) -> dict[str, list[float]]:
    """Seconds from a key to its echo, a list of keystrokes for each way, all of them over one session each."""
    seconds: dict[str, list[float]] = {name: [] for name in ways.names}
    with ExitStack() as cleanup:
        terminals = {name: cleanup.enter_context(_Terminal(ways, name)) for name in ways.names}
        for turn in range(WARM_KEYSTROKES + effort.keystrokes):
            for name in rotated(ways.names, turn):
                time.sleep(effort.pause_s)
                passed = terminals[name].echo(bytes([ord("a") + turn % 26]))
                if turn >= WARM_KEYSTROKES:
                    seconds[name].append(passed)
    return seconds


class _Terminal:
    """`ssh -tt` in a terminal of its own, and on the target one that only echoes."""

    def __init__(self, ways: SshWays, name: str) -> None:
        self._ways = ways
        self._name = name

    def __enter__(self) -> _Terminal:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            self._ways.ssh(self._name, options=["-tt"]),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=client_environment(),
            start_new_session=True,
        )
        os.close(slave)
        try:
            self._read_until(PROMPT)
            os.write(self._master, QUIET_TERMINAL)
            self._read_until(READY + b"\n")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _end([self._process])
        os.close(self._master)

    def echo(self, key: bytes) -> float:
        started = time.perf_counter()
        os.write(self._master, key)
        self._read_until(key)
        return time.perf_counter() - started

    def _read_until(self, wanted: bytes) -> None:
        shown = b""
        while wanted not in shown:
            if not select.select([self._master], [], [], ANSWER_TIMEOUT_S)[0]:
                raise MeasurementFailed(f"{self._name}: no {wanted!r} on the screen, only {shown[-500:]!r}")
            try:
                shown += os.read(self._master, 65536)
            except OSError:  # EIO: the client has ended
                raise MeasurementFailed(f"{self._name}: ssh has ended: {shown[-500:]!r}") from None


@dataclass(frozen=True, slots=True)
class Idle:
    """Resident memory of the daemon before and after `sessions` shells were opened, KiB."""

    sessions: int
    before_kib: int
    after_kib: int

    @property
    def session_kb(self) -> float:
        return (self.after_kib - self.before_kib) * 1024 / 1000 / self.sessions


def idle_memory(ways: SshWays, effort: SshEffort) -> Idle:
    """Open shells through a fresh gateway and leave them alone."""
    ways.restart_gateway()
    with ExitStack() as cleanup:
        clients: list[subprocess.Popen[bytes]] = []
        cleanup.callback(_end, clients)
        _open_shells(ways, clients, effort.warm_sessions)
        time.sleep(SETTLE_S)
        before = ways.gateway.memory_kib()
        _open_shells(ways, clients, effort.idle_sessions)
        time.sleep(SETTLE_S)
        if ended := [client for client in clients if client.poll() is not None]:
            raise MeasurementFailed(f"{len(ended)} of {len(clients)} idle sessions have ended")
        return Idle(effort.idle_sessions, before, ways.gateway.memory_kib())


def _open_shells(ways: SshWays, clients: list[subprocess.Popen[bytes]], count: int) -> None:
    for size in _batches(count, OPEN_AT_ONCE):
        batch = [
            subprocess.Popen(
                ways.ssh(PROXYD, options=["-tt"]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=client_environment(),
                start_new_session=True,
            )
            for _ in range(size)
        ]
        clients += batch
        for client in batch:
            _await_prompt(client)


def _await_prompt(client: subprocess.Popen[bytes]) -> None:
    assert client.stdout is not None
    shown = b""
    while PROMPT not in shown:
        is_there = select.select([client.stdout], [], [], ANSWER_TIMEOUT_S)[0]
        data = os.read(client.stdout.fileno(), 65536) if is_there else b""
        if not data:
            raise MeasurementFailed(f"an idle session has no prompt: {shown[-500:]!r}")
        shown += data


def _batches(count: int, size: int) -> Iterator[int]:
    for start in range(0, count, size):
        yield min(size, count - start)


def _end(clients: Sequence[subprocess.Popen[bytes]]) -> None:
    for client in clients:
        client.terminate()
    for client in clients:
        try:
            client.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            client.kill()
            client.wait()
        for stream in (client.stdin, client.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
