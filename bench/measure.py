"""The measurements. Each takes the contestants that run and gives plain numbers; the table is `report`'s.

The machine is noisy, so contestants take turns, round by round, in an order that rotates, and medians are
compared.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg
from psycopg import pq

from bench.contestants import Contestant, Proxyd, conninfo
from bench.processes import Growth, PeakMemory
from bench.target import WIDE_ROW_BYTES, WIDE_ROWS, Target
from demo.postgres_installs import client_env

T = TypeVar("T")

MODES = ("simple", "extended", "prepared")
UNMASKED = "SELECT id, name, city, balance, seen FROM people"
MASKED = "SELECT id, name, email, balance, seen FROM people"
CHUNK_ROWS = 1_000


class MeasurementFailed(RuntimeError):
    """A client program failed; the message carries what it said."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often. Seconds and counts."""

    rounds: int
    latency_s: int
    throughput_s: int
    row_repeats: int
    memory_bytes: int
    stalls: int
    stall_s: float


FULL = Effort(
    rounds=5,
    latency_s=3,
    throughput_s=4,
    row_repeats=5,
    memory_bytes=500_000_000,
    stalls=10,
    stall_s=1.0,
)
QUICK = Effort(
    rounds=2,
    latency_s=1,
    throughput_s=2,
    row_repeats=2,
    memory_bytes=500_000_000,
    stalls=4,
    stall_s=0.5,
)


@dataclass(frozen=True, slots=True)
class Run:
    """One pgbench run: the median transaction (milliseconds), transactions a second, processor time of
    each.
    """

    contestant: str
    mode: str
    clients: int
    median_ms: float
    tps: float
    cpu_us_per_transaction: float


def pgbench_runs(
    target: Target, contestants: Sequence[Contestant], effort: Effort, clients: int
) -> Iterator[Run]:
    """Every contestant in every mode, `effort.rounds` times, taking turns."""
    seconds = effort.latency_s if clients == 1 else effort.throughput_s
    for _mode, contestant in _turns(contestants, 1):
        _pgbench(target, contestant, _mode, clients, 1)  # warm: caches, plans, the gateway's catalog
    for mode, contestant in _turns(contestants, effort.rounds):
        yield _pgbench(target, contestant, mode, clients, seconds)


def row_rates(contestants: Sequence[Contestant], sql: str, repeats: int) -> dict[str, list[float]]:
    """Rows a second of one SELECT of `people`, fetched whole by libpq, for every contestant and
    repetition.
    """
    rates: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for turn in range(repeats + 1):
        for contestant in rotated(contestants, turn):
            with psycopg.connect(conninfo(contestant), autocommit=True) as connection:
                connection.execute("SELECT n FROM times WHERE n = 1")
                started = time.perf_counter()
                result = connection.pgconn.exec_(sql.encode())
                seconds = time.perf_counter() - started
                if result.status != pq.ExecStatus.TUPLES_OK:
                    raise MeasurementFailed(f"{contestant.name}: {result.get_error_message()}")
                if turn:  # the first round warms
                    rates[contestant.name].append(result.ntuples / seconds)
    return rates


def memory_growth(proxyd: Proxyd, effort: Effort, *, is_slow: bool) -> Growth:
    """Pass a large result through a fresh daemon to a reader that is fast, or one that stalls again and again."""
    proxyd.restart()
    times = effort.memory_bytes // (WIDE_ROWS * WIDE_ROW_BYTES)
    sql = f"SELECT wide.filler FROM times CROSS JOIN wide WHERE times.n <= {times}"
    stall_every = times * WIDE_ROWS // effort.stalls if is_slow else 0
    with psycopg.connect(conninfo(proxyd), autocommit=True) as connection:
        connection.execute("SELECT n FROM times WHERE n = 1")
        before = proxyd.gateway.memory_kib()
        started = time.perf_counter()
        with PeakMemory(proxyd.gateway) as peak:
            passed = _read_in_chunks(connection.pgconn, sql, stall_every, effort.stall_s)
        return Growth(before, peak.kib, passed, time.perf_counter() - started)


def _read_in_chunks(connection: pq.abc.PGconn, sql: str, stall_every: int, stall_s: float) -> int:
    """Read a result piece by piece; give the bytes of its first column. Stalls each `stall_every` rows if
    not 0.
    """
    connection.send_query(sql.encode())
    connection.set_chunked_rows_mode(CHUNK_ROWS)
    rows = passed = 0
    while (result := connection.get_result()) is not None:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise MeasurementFailed(result.get_error_message())
        for row in range(result.ntuples):
            passed += len(result.get_value(row, 0) or b"")
        before, rows = rows, rows + result.ntuples
        if stall_every and before // stall_every != rows // stall_every:
            time.sleep(stall_s)
    return passed


def _turns(contestants: Sequence[Contestant], rounds: int) -> Iterator[tuple[str, Contestant]]:
    for number in range(rounds):
        for mode in MODES:
            for contestant in rotated(contestants, number):
                yield mode, contestant


def rotated(items: Sequence[T], by: int) -> list[T]:
    """The same in an order that begins elsewhere, so that nobody is always the first."""
    by %= len(items)
    return [*items[by:], *items[:by]]


def _pgbench(target: Target, contestant: Contestant, mode: str, clients: int, seconds: int) -> Run:
    before = contestant.cpu_s()
    with tempfile.TemporaryDirectory(prefix="proxyd-pgbench-") as directory:
        log = Path(directory) / "log"
        command = [target.pgbench, "-S", "-n", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2))]
        command += ["-T", str(seconds), "-l", "--log-prefix", str(log), conninfo(contestant)]
        done = subprocess.run(
            command, env=_plain_environment(), capture_output=True, text=True, check=False, cwd=directory
        )
        if done.returncode:
            raise MeasurementFailed(f"pgbench -M {mode}, {contestant.name}: {done.stderr[-2000:]}")
        latencies = [
            int(line.split(" ", 3)[2])
            for path in Path(directory).glob("log.*")
            for line in path.read_text().splitlines()
        ]
    used = contestant.cpu_s() - before
    tps = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    if tps is None or not latencies:
        raise MeasurementFailed(f"pgbench -M {mode}, {contestant.name} said:\n{done.stdout}")
    return Run(
        contestant.name,
        mode,
        clients,
        median_ms=statistics.median(latencies) / 1000,
        tps=float(tps[1]),
        cpu_us_per_transaction=used / len(latencies) * 1e6,
    )


def _plain_environment() -> dict[str, str]:
    # Debian's own pgbench has TLS; the library that the wheel's programs need would only get in its way.
    return {name: value for name, value in client_env().items() if name != "LD_PRELOAD"}
