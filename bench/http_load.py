"""Requests, events and downloads by each way to an HTTP target, in rounds: every way once, then again.

wrk asks, curl downloads; both are programs of their own. What is measured comes back as plain data.
"""

from __future__ import annotations

import re
import shutil
import ssl
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import http_events
from bench.contestants import ContestantFailed
from bench.http_effort import HttpEffort
from bench.http_ways import PROXYD, ProxydWay, Way
from bench.measure import MeasurementFailed
from bench.processes import Growth, PeakMemory

CONNECTIONS = (1, 8)
_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_LATENCY = re.compile(r"^\s+(50|99)%\s+([0-9.]+)(us|ms|s)", re.MULTILINE)
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, slots=True)
class Requests:
    """One run of wrk. cpu_us: processor time of the way for each request."""

    way: str
    connections: int
    round: int
    per_second: float
    median_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Download:
    way: str
    round: int
    mb_per_s: float


def requests(ways: Sequence[Way], effort: HttpEffort) -> list[Requests]:
    program = shutil.which("wrk")
    if program is None:
        raise ContestantFailed("wrk is not installed: apt-get install wrk")
    for way in ways:
        _run_wrk(program, way, 8, 1, 0)  # connections to the target, caches
    return [
        _run_wrk(program, way, connections, effort.run_s, round_number)
        for round_number in range(effort.rounds)
        for connections in CONNECTIONS
        for way in ways
    ]


def _run_wrk(program: str, way: Way, connections: int, seconds: int, round_number: int) -> Requests:
    command = [
        program,
        "--threads",
        "1",
        "--connections",
        str(connections),
        "--duration",
        f"{seconds}s",
        "--latency",
    ]
    for name, value in way.headers.items():
        command += ["--header", f"{name}: {value}"]
    before = way.cpu_s()
    done = subprocess.run(
        [*command, f"{way.base}/small"], capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    used_s = way.cpu_s() - before
    rate = _RATE.search(done.stdout)
    times = {share: float(value) * _UNITS_MS[unit] for share, value, unit in _LATENCY.findall(done.stdout)}
    if rate is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout or len(times) != 2:
        raise MeasurementFailed(f"wrk through {way.name}:\n{done.stdout}{done.stderr}")
    per_second = float(rate[1])
    cpu_us = used_s / max(1.0, per_second * seconds) * 1e6
    return Requests(way.name, connections, round_number, per_second, times["50"], times["99"], cpu_us)


def events(ways: Sequence[Way], direct: str, effort: HttpEffort, ca: Path) -> dict[str, list[float]]:
    """Milliseconds of each event, by way; `direct` is the server's own URL."""
    context = ssl.create_default_context(cafile=str(ca))
    found = {"direct": http_events.delays_ms(direct, {}, effort.events, effort.pause_s, None)}
    for way in ways:
        base = way.events_base if isinstance(way, ProxydWay) else way.base
        found[way.name] = http_events.delays_ms(base, way.headers, effort.events, effort.pause_s, context)
    return found


def downloads(ways: Sequence[Way], effort: HttpEffort, ca: Path) -> tuple[list[Download], Growth | None]:
    """And how large the gateway grows meanwhile."""
    found: list[Download] = []
    growth: Growth | None = None
    for round_number in range(effort.download_rounds):
        for way in ways:
            if isinstance(way, ProxydWay):
                before = way.gateway.memory_kib()
                with PeakMemory(way.gateway) as peak:
                    seconds = _download(way, effort.download_bytes, ca)
                grown = Growth(before, peak.kib, effort.download_bytes, seconds)
                growth = grown if growth is None or grown.grown_mb > growth.grown_mb else growth
            else:
                seconds = _download(way, effort.download_bytes, ca)
            found.append(Download(way.name, round_number, effort.download_bytes / 1e6 / seconds))
    return found, growth


def _download(way: Way, size: int, ca: Path) -> float:
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--http1.1",
        "--cacert",
        str(ca),
        "--output",
        "/dev/null",
    ]
    command += ["--write-out", "%{size_download}"]
    for name, value in way.headers.items():
        command += ["--header", f"{name}: {value}"]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, f"{way.base}/large"], capture_output=True, text=True, timeout=600, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0 or done.stdout != str(size):
        raise MeasurementFailed(f"curl through {way.name}: {done.stdout} bytes, {done.stderr}")
    return seconds


def median_of(runs: Sequence[Requests], way: str, connections: int, what: str) -> float:
    return statistics.median(
        float(getattr(run, what)) for run in runs if run.way == way and run.connections == connections
    )


__all__ = ["CONNECTIONS", "PROXYD", "Download", "Requests", "downloads", "events", "median_of", "requests"]
