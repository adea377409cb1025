"""What the bench says about SSH: the numbers wanted, and the lines of the table beside them. Pure.

A number that was not measured has no row, and without a way to compare it with it has nothing beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bench.processes import Growth
from bench.report import Line
from bench.ssh_sessions import Idle
from bench.ssh_transfers import DIRECTIONS, Mixed, Transfer
from bench.ssh_ways import DIRECT, JUMP, NAMES, PROXYD

WANTED_LOGIN_RATIO = 1.5
WANTED_ADDED_MS = 2.0
WANTED_ADDED_P99_MS = 10.0
WANTED_TRANSFER_RATIO = 1.5
WANTED_GROWTH_MB = 32.0
WANTED_SESSION_KB = 100.0
WANTED_MIXED_RATIO = 3.0


def login_lines(seconds: Mapping[str, Sequence[float]]) -> list[Line]:
    """The median login of each way, and the median of its ratios to the direct one of the same round."""
    lines = []
    for name, own in seconds.items():
        measured = f"{statistics.median(own) * 1000:.0f} ms"
        ratio = _ratio(own, seconds.get(DIRECT)) if name != DIRECT else None
        lines.append(
            _line(
                f"login, ssh HOST true: {name}",
                measured,
                ratio,
                "direct",
                f"< {WANTED_LOGIN_RATIO} x direct" if name == PROXYD else "",
                is_reached=ratio is not None and ratio < WANTED_LOGIN_RATIO,
            )
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


def transfer_lines(transfers: Sequence[Transfer], ciphers: Mapping[str, str]) -> list[Line]:
    """The median of each way and direction, and the median of its ratios to `ssh -J` in the same round."""
    lines = []
    for direction in DIRECTIONS:
        found = {name: _of(transfers, name, direction) for name in NAMES}
        jumps = [one.seconds for one in found[JUMP]] or None
        for name, own in found.items():
            if not own:
                continue
            seconds = statistics.median(one.seconds for one in own)
            measured = f"{seconds:.1f} s, {own[0].bytes / seconds / 1e6:.0f} MB/s"
            if name == PROXYD:
                measured += f", {statistics.median(one.gateway_cpu_s for one in own):.1f} s CPU"
            ratio = _ratio([one.seconds for one in own], jumps) if name != JUMP else None
            lines.append(
                _line(
                    f"scp of {own[0].bytes / 1e6:,.0f} MB {direction}, {ciphers[name]}: {name}",
                    measured,
                    ratio,
                    "jump",
                    f"<= {WANTED_TRANSFER_RATIO} x jump" if name == PROXYD else "",
                    is_reached=ratio is not None and ratio <= WANTED_TRANSFER_RATIO,
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
        for through, what in ((PROXYD, "the same process"), ("apart", "another process")):
            own = [one for one in measured if (one.through, one.direction) == (through, direction)]
            if not own:
                continue
            ratio = statistics.median(one.ratio for one in own)
            quiet = statistics.median(one.quiet_ms for one in own)
            busy = statistics.median(one.busy_ms for one in own)
            late = statistics.median(one.busy_p99_ms for one in own)
            lines.append(
                _line(
                    f"SELECT 1 while scp {direction} goes through {what}",
                    f"{busy:.2f} ms (p99 {late:.1f}), alone {quiet:.2f} ms",
                    ratio,
                    "alone",
                    f"<= {WANTED_MIXED_RATIO:.0f} x alone" if through == PROXYD else "",
                    is_reached=ratio <= WANTED_MIXED_RATIO,
                )
            )
    return lines


def p99(values: Sequence[float]) -> float:
    """The value below which 99 of 100 are: one of those measured, no mean of two."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def _ratio(own: Sequence[float], base: Sequence[float] | None) -> float | None:
    """The median of the ratios within rounds, so that a slow minute of the machine weighs on both sides."""
    if base is None:
        return None
    return statistics.median(mine / its for mine, its in zip(own, base, strict=True))


def _line(what: str, measured: str, ratio: float | None, base: str, wanted: str, *, is_reached: bool) -> Line:
    compared = f"{ratio:.2f} x {base}" if ratio is not None else ""
    is_judged = bool(wanted) and ratio is not None
    return Line(what, measured, compared, wanted if is_judged else "", is_reached if is_judged else None)


def _of(transfers: Sequence[Transfer], name: str, direction: str) -> list[Transfer]:
    return [one for one in transfers if (one.name, one.direction) == (name, direction)]
