"""What the bench says about HTTP: the numbers wanted beside those reached. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bench.detected_bodies import WANTED_MB_S as WANTED_BODIES_MB_S
from bench.http_load import CONNECTIONS, Download, Requests, median_of
from bench.http_ways import MITMPROXY, NGINX, PROXYD
from bench.processes import Growth
from bench.report import Line

WANTED_OF_NGINX = 0.15
WANTED_OF_MITMPROXY = 8.0
WANTED_ADDED_MS = 0.4
WANTED_EVENT_MS = 2.0
WANTED_DOWNLOAD = 0.30
WANTED_GROWTH_MB = 32.0
WANTED_TOKEN_US = 150.0
WANTED_DETECTORS_MB_S = 50.0
WANTED_RULES = 1.5


def request_lines(runs: Sequence[Requests]) -> list[Line]:
    """Ratios are taken within a round, so that a slow minute of the machine weighs on both sides."""
    lines = []
    names = list(dict.fromkeys(run.way for run in runs))
    for connections in CONNECTIONS:
        for name in names:
            what = f"HTTP, {connections} connection{'s' if connections > 1 else ''}: {name}"
            rate = median_of(runs, name, connections, "per_second")
            median, cpu = (
                median_of(runs, name, connections, "median_ms"),
                median_of(runs, name, connections, "cpu_us"),
            )
            measured = f"{rate:,.0f} requests/s, {median:.3f} ms, {cpu:.0f} µs CPU each"
            if name != PROXYD:
                lines.append(Line(what, measured, ""))
                continue
            lines += _compared(runs, connections, what, measured)
    return lines


def _compared(runs: Sequence[Requests], connections: int, what: str, measured: str) -> list[Line]:
    own = [run for run in runs if run.way == PROXYD and run.connections == connections]
    lines = []
    for other, wanted in ((NGINX, WANTED_OF_NGINX), (MITMPROXY, WANTED_OF_MITMPROXY)):
        base = [run for run in runs if run.way == other and run.connections == connections]
        if not base:
            continue
        if connections == 1:
            if other == NGINX:
                added = statistics.median(
                    run.median_ms - its.median_ms for run, its in zip(own, base, strict=True)
                )
                lines.append(
                    Line(
                        what,
                        measured,
                        f"adds {added:.3f} ms to nginx",
                        "adds < 0.4 ms",
                        added < WANTED_ADDED_MS,
                    )
                )
            continue
        ratio = statistics.median(run.per_second / its.per_second for run, its in zip(own, base, strict=True))
        is_of_nginx = other == NGINX
        compared = f"{ratio:.1%} of nginx" if is_of_nginx else f"{ratio:.1f} x mitmproxy"
        wish = ">= 15 % of nginx" if is_of_nginx else ">= 8 x mitmproxy"
        lines.append(Line(what, measured, compared, wish, ratio >= wanted))
    return lines or [Line(what, measured, "")]


def event_lines(delays_ms: Mapping[str, Sequence[float]]) -> list[Line]:
    direct = statistics.median(delays_ms["direct"])
    lines = []
    for name, own in delays_ms.items():
        median = statistics.median(own)
        p99 = statistics.quantiles(own, n=100)[98]
        line = Line(f"an event on its way: {name}", f"{median:.3f} ms, p99 {p99:.3f} ms", "")
        if name == PROXYD:
            added = median - direct
            line = Line(
                line.what, line.measured, f"adds {added:.3f} ms", "adds < 2 ms", added < WANTED_EVENT_MS
            )
        lines.append(line)
    return lines


def download_lines(downloads: Sequence[Download], growth: Growth | None) -> list[Line]:
    lines = []
    nginx = [one.mb_per_s for one in downloads if one.way == NGINX]
    for name in dict.fromkeys(one.way for one in downloads):
        own = [one.mb_per_s for one in downloads if one.way == name]
        line = Line(f"download: {name}", f"{statistics.median(own):,.0f} MB/s", "")
        if name == PROXYD and nginx:
            ratio = statistics.median(rate / base for rate, base in zip(own, nginx, strict=True))
            line = Line(
                line.what,
                line.measured,
                f"{ratio:.0%} of nginx",
                ">= 30 % of nginx",
                ratio >= WANTED_DOWNLOAD,
            )
        lines.append(line)
    if growth is not None:
        lines.append(
            Line(
                f"memory while {growth.passed_bytes / 1e6:,.0f} MB pass: proxyd",
                f"{growth.before_kib / 1024:.0f} MiB before, {growth.peak_kib / 1024:.0f} MiB peak",
                f"grows {growth.grown_mb:.1f} MB",
                "flat (< 32 MB)",
                growth.grown_mb < WANTED_GROWTH_MB,
            )
        )
    return lines


def token_lines(measured: Mapping[str, Mapping[str, float]]) -> list[Line]:
    return [
        Line(
            f"a token, {algorithm}: proxyd",
            f"{times['first']:.0f} µs with a cached key, {times['known']:.1f} µs again",
            "",
            "< 150 µs",
            times["first"] < WANTED_TOKEN_US,
        )
        for algorithm, times in measured.items()
    ]


def detector_lines(measured: Mapping[str, Mapping[str, float]]) -> list[Line]:
    return [
        Line(
            f"all detectors, {text}: proxyd",
            f"{rates['whole']:.0f} MB/s whole, {rates['stream']:.0f} MB/s as a stream",
            "",
            ">= 50 MB/s",
            min(rates["whole"], rates["stream"]) >= WANTED_DETECTORS_MB_S,
        )
        for text, rates in measured.items()
    ]


def body_lines(measured: Mapping[str, Mapping[str, float]]) -> list[Line]:
    lines: list[Line] = []
    for body, rates in measured.items():
        wanted = WANTED_BODIES_MB_S.get(body)
        lines.append(
            Line(
                f"masked bodies, {body}: proxyd",
                f"{rates['mb_s']:.0f} MB/s",
                "",
                "" if wanted is None else f">= {wanted:.0f} MB/s",
                None if wanted is None else rates["mb_s"] >= wanted,
            )
        )
    return lines


def rule_lines(ratios: Mapping[str, float]) -> list[Line]:
    return [
        Line(
            f"10,000 rules, {what}: proxyd", "", f"{ratio:.2f} x 10 rules", "<= 1.5 x", ratio <= WANTED_RULES
        )
        for what, ratio in ratios.items()
    ]
