"""A large file by scp, up to the target and down from it: how long it takes, what it costs the gateway, and what it
does to somebody who asks a database through the same gateway meanwhile.

The ways take turns, round by round, in an order that rotates. Files are in memory where there is a tmpfs, so that no
disk is measured.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.contestants import conninfo
from bench.measure import MeasurementFailed, rotated
from bench.processes import Growth, PeakMemory, cpu_s
from bench.ssh_effort import SshEffort
from bench.ssh_ways import APART, JUMP, JUMP_ALIKE, PROXYD, SshWays, client_environment

DIRECTIONS = ("up", "down")
BLOCK_BYTES = 1_000_000
UNDER_WAY_BYTES = 8_000_000
START_TIMEOUT_S = 60.0
QUESTION = b"SELECT 1"
QUESTION_PAUSE_S = 0.005
MIN_QUESTIONS = 20


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file. gateway_cpu_s: processor time of the gateway, 0 for ways without one."""

    name: str
    direction: str
    bytes: int
    seconds: float
    gateway_cpu_s: float


@dataclass(frozen=True, slots=True)
class _File:
    """source is sent, copy is what arrives; both are the same whichever way it goes, for the target is this machine."""

    source: Path
    copy: Path

    def command(self, ways: SshWays, name: str, direction: str) -> list[str]:
        if direction == "up":
            return ways.scp(self.source, f"{name}:{self.copy}")
        return ways.scp(f"{name}:{self.source}", self.copy)

    def copied_bytes(self) -> int:
        try:
            return self.copy.stat().st_size
        except FileNotFoundError:
            return 0


def transfers(ways: SshWays, effort: SshEffort) -> tuple[list[Transfer], dict[str, Growth]]:
    """Every way in both directions, `transfer_rounds` times; and the growth of the gateway by direction, in a fresh
    daemon at the first.
    """
    done: list[Transfer] = []
    growth: dict[str, Growth] = {}
    names = ways.names_beside(JUMP_ALIKE) if JUMP in ways.names else list(ways.names)
    with _large_file(ways, effort) as file:
        if PROXYD in ways.names:
            ways.restart_gateway()
            before = ways.gateway.memory_kib()
        for turn in range(effort.transfer_rounds):
            for direction in DIRECTIONS:
                for name in rotated(names, turn):
                    if name != PROXYD:
                        done.append(_transfer(ways, file, name, direction))
                        continue
                    with PeakMemory(ways.gateway) as peak:
                        done.append(_transfer(ways, file, name, direction))
                    seen = max(peak.kib, growth[direction].peak_kib if direction in growth else 0)
                    growth[direction] = Growth(before, seen, done[-1].bytes, done[-1].seconds)
    return done, growth


def _transfer(ways: SshWays, file: _File, name: str, direction: str) -> Transfer:
    used = _gateway_cpu_s(ways, name)
    started = time.perf_counter()
    ways.run(file.command(ways, name, direction))
    seconds = time.perf_counter() - started
    used = _gateway_cpu_s(ways, name) - used
    if not filecmp.cmp(file.source, file.copy, shallow=False):
        raise MeasurementFailed(f"{name}, {direction}: another file arrived than was sent")
    file.copy.unlink()
    return Transfer(name, direction, file.source.stat().st_size, seconds, used)


def _gateway_cpu_s(ways: SshWays, name: str) -> float:
    return cpu_s(ways.gateway.pid) if name == PROXYD else 0.0


@dataclass(frozen=True, slots=True)
class Mixed:
    """Median answer of the database through the gateway, milliseconds, alone and while a file passes.

    through: which gateway the file passes, the same process or one apart.
    """

    through: str
    direction: str
    quiet_ms: float
    busy_ms: float
    busy_p99_ms: float

    @property
    def ratio(self) -> float:
        return self.busy_ms / self.quiet_ms


def mixed_load(ways: SshWays, effort: SshEffort) -> Iterator[Mixed]:
    """One who asks the database every few milliseconds through the gateway, as a program does that is used by hand."""
    if ways.postgres is None:
        raise MeasurementFailed("the gateway has no door for PostgreSQL")
    with (
        psycopg.connect(conninfo(ways.postgres), autocommit=True) as connection,
        _large_file(ways, effort) as file,
    ):
        for turn in range(effort.mixed_rounds):
            for direction in DIRECTIONS:
                for through in rotated((PROXYD, APART), turn):
                    over = time.monotonic() + effort.quiet_s
                    quiet = _answer_times(connection, lambda until=over: time.monotonic() < until)  # type: ignore[misc]
                    busy = _answers_beside(connection, ways, file, through, direction)
                    yield Mixed(
                        through,
                        direction,
                        statistics.median(quiet) * 1000,
                        statistics.median(busy) * 1000,
                        statistics.quantiles(busy, n=100)[98] * 1000,
                    )


def _answers_beside(
    connection: psycopg.Connection, ways: SshWays, file: _File, through: str, direction: str
) -> list[float]:
    file.copy.unlink(missing_ok=True)
    with ExitStack() as cleanup:
        client = subprocess.Popen(
            file.command(ways, through, direction),
            env=client_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        cleanup.callback(_end, client)
        deadline = time.monotonic() + START_TIMEOUT_S
        while file.copied_bytes() < UNDER_WAY_BYTES:
            if client.poll() is not None or time.monotonic() > deadline:
                raise MeasurementFailed(f"scp {direction} through {through} does not get under way")
            time.sleep(0.01)
        size = file.source.stat().st_size
        times = _answer_times(connection, lambda: client.poll() is None and file.copied_bytes() < size)
        if client.wait(START_TIMEOUT_S) or len(times) < MIN_QUESTIONS:
            raise MeasurementFailed(f"scp {direction} through {through} failed, or was over too soon")
        return times


def _answer_times(connection: psycopg.Connection, may_go_on: Callable[[], bool]) -> list[float]:
    """Seconds of each question, in libpq's simple protocol as psql asks it."""
    times = []
    while may_go_on():
        started = time.perf_counter()
        result = connection.pgconn.exec_(QUESTION)
        times.append(time.perf_counter() - started)
        if result.ntuples != 1:
            raise MeasurementFailed(f"{QUESTION.decode()}: {result.get_error_message()}")
        time.sleep(QUESTION_PAUSE_S)
    return times


@contextmanager
def _large_file(ways: SshWays, effort: SshEffort) -> Iterator[_File]:
    """Random bytes, for no step of the way shall find them easy."""
    directory = ways.directory / "files"
    directory.mkdir()
    file = _File(directory / "source", directory / "copy")
    try:
        with file.source.open("wb") as target:
            for _ in range(effort.transfer_bytes // BLOCK_BYTES):
                target.write(os.urandom(BLOCK_BYTES))
        yield file
    finally:
        for path in (file.source, file.copy):
            path.unlink(missing_ok=True)
        directory.rmdir()


def _end(client: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        client.terminate()
    client.wait()
