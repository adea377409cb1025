"""What the bench says about SSH: the numbers wanted, and the lines of the table beside them. Pure.

A number that was not measured has no row, and without a way to compare it with it has nothing beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bench.processes import Growth
from bench.report import Line
from bench.ssh_sessions import Idle
from bench.ssh_transfers import DIRECTIONS, Mixed, Transfer
from bench.ssh_ways import APART, DIRECT, DIRECT_ALIKE, JUMP, JUMP_ALIKE, PROXYD, Algorithms

WANTED_LOGIN_RATIO = 1.5
WANTED_ADDED_MS = 2.0
WANTED_ADDED_P99_MS = 10.0
WANTED_TRANSFER_RATIO = 1.5
WANTED_GROWTH_MB = 32.0
WANTED_SESSION_KB = 100.0
WANTED_MIXED_RATIO = 3.0


def login_lines(seconds: Mapping[str, Sequence[float]], algorithms: Mapping[str, Algorithms]) -> list[Line]:
    """The median login of each way, and the median of its ratios to the direct one of the same round."""
    bases = (DIRECT, DIRECT_ALIKE)
    lines = []
    for name, own in seconds.items():
        what = f"login, ssh HOST true, {algorithms[name].key_exchange}: {name}"
        line = Line(what, f"{statistics.median(own) * 1000:.0f} ms", "")
        ratios = _ratios(name, own, seconds, bases)
        lines.append(
            _compared(line, name, ratios, "<", WANTED_LOGIN_RATIO, lambda ratio: ratio < WANTED_LOGIN_RATIO)
        )
    return lines


def echo_lines(seconds: Mapping[str, Sequence[float]]) -> list[Line]:
    """What each way adds: in the median taken key by key, at p99 between the two distributions."""
    lines = []
    direct = seconds.get(DIRECT)
    for name, own in seconds.items():
        median, late = statistics.median(own) * 1000, p99(own) * 1000
        if name == DIRECT or direct is None:
            lines.append(Line(f"echo of a key, median: {name}", f"{median:.2f} ms", ""))
            lines.append(Line(f"echo of a key, p99: {name}", f"{late:.2f} ms", ""))
            continue
        added = statistics.median(key - base for key, base in zip(own, direct, strict=True)) * 1000
        added_late = late - p99(direct) * 1000
        for what, measured, more, wanted in (
            ("median", median, added, WANTED_ADDED_MS),
            ("p99", late, added_late, WANTED_ADDED_P99_MS),
        ):
            is_judged = name == PROXYD
            lines.append(
                Line(
                    f"echo of a key, {what}: {name}",
                    f"{measured:.2f} ms",
                    f"adds {more:.2f} ms",
                    f"adds < {wanted:.0f} ms" if is_judged else "",
                    more < wanted if is_judged else None,
                )
            )
    return sorted(lines, key=lambda line: "p99" in line.what)


def transfer_lines(transfers: Sequence[Transfer], algorithms: Mapping[str, Algorithms]) -> list[Line]:
    """The median of each way and direction, and the median of its ratios to `ssh -J` in the same round."""
    bases = (JUMP, JUMP_ALIKE)
    lines = []
    for direction in DIRECTIONS:
        found = {name: _of(transfers, name, direction) for name in algorithms}
        times = {name: [one.seconds for one in own] for name, own in found.items()}
        for name, own in found.items():
            seconds = statistics.median(times[name])
            measured = f"{seconds:.1f} s, {own[0].bytes / seconds / 1e6:.0f} MB/s"
            if name == PROXYD:
                measured += f", {statistics.median(one.gateway_cpu_s for one in own):.1f} s CPU"
            what = f"scp of {own[0].bytes / 1e6:,.0f} MB {direction}, {algorithms[name].cipher}: {name}"
            ratios = _ratios(name, times[name], times, bases)
            lines.append(
                _compared(
                    Line(what, measured, ""),
                    name,
                    ratios,
                    "<=",
                    WANTED_TRANSFER_RATIO,
                    lambda ratio: ratio <= WANTED_TRANSFER_RATIO,
                )
            )
    return lines


def growth_line(direction: str, growth: Growth) -> Line:
    return Line(
        f"memory for scp {direction}: {PROXYD}",
        f"{growth.before_kib / 1024:.0f} MiB before, {growth.peak_kib / 1024:.0f} MiB peak",
        f"grows {growth.grown_mb:.1f} MB",
        f"< {WANTED_GROWTH_MB:.0f} MB",
        growth.grown_mb < WANTED_GROWTH_MB,
    )


def idle_line(idle: Idle) -> Line:
    return Line(
        f"{idle.sessions} idle shells: {PROXYD}",
        f"{idle.before_kib / 1024:.1f} MiB before, {idle.after_kib / 1024:.1f} MiB after",
        f"{idle.session_kb:.0f} KB a session",
        f"< {WANTED_SESSION_KB:.0f} KB",
        idle.session_kb < WANTED_SESSION_KB,
    )


def mixed_lines(measured: Sequence[Mixed]) -> list[Line]:
    """The median ratio of busy to quiet; wanted is something only of the gateway that does both."""
    lines = []
    for direction in DIRECTIONS:
        for through, what in ((PROXYD, "the same process"), (APART, "another process")):
            own = [one for one in measured if (one.through, one.direction) == (through, direction)]
            if not own:
                continue
            ratio = statistics.median(one.ratio for one in own)
            quiet = statistics.median(one.quiet_ms for one in own)
            busy = statistics.median(one.busy_ms for one in own)
            late = statistics.median(one.busy_p99_ms for one in own)
            line = Line(
                f"SELECT 1 while scp {direction} goes through {what}",
                f"{busy:.2f} ms (p99 {late:.1f}), alone {quiet:.2f} ms",
                "",
            )
            lines.append(
                _compared(
                    line,
                    through,
                    {"alone": ratio},
                    "<=",
                    WANTED_MIXED_RATIO,
                    lambda ratio: ratio <= WANTED_MIXED_RATIO,
                )
            )
    return lines


def p99(values: Sequence[float]) -> float:
    """The value below which 99 of 100 are: one of those measured, no mean of two."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def _ratios(
    name: str, own: Sequence[float], all_ways: Mapping[str, Sequence[float]], bases: Sequence[str]
) -> dict[str, float]:
    """The median of the ratios to each base, taken within rounds, so that a slow minute of the machine weighs on both
    sides. What is itself a base is compared with nothing; only the gateway is with ways that are alike to it.
    """
    wanted = [] if name in bases else bases if name == PROXYD else bases[:1]
    return {
        base: statistics.median(mine / its for mine, its in zip(own, all_ways[base], strict=True))
        for base in wanted
        if base in all_ways
    }


def _compared(
    line: Line,
    name: str,
    ratios: Mapping[str, float],
    sign: str,
    limit: float,
    is_good: Callable[[float], bool],
) -> Line:
    """Wanted is something of the gateway only, and beside the first of its bases: that is what people would have in its
    place. The others say how much of it is the algorithms'.
    """
    compared = ", ".join(f"{ratio:.2f} x {base}" for base, ratio in ratios.items())
    if name != PROXYD or not ratios:
        return replace(line, compared=compared)
    base, ratio = next(iter(ratios.items()))
    return replace(line, compared=compared, wanted=f"{sign} {limit:g} x {base}", is_reached=is_good(ratio))


def _of(transfers: Sequence[Transfer], name: str, direction: str) -> list[Transfer]:
    return [one for one in transfers if (one.name, one.direction) == (name, direction)]
