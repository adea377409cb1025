"""What the bench says: the numbers wanted, the table beside them, and the JSON file.

Pure but for `write_json`. A number that was not measured has no row.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import MODES, Run
from bench.processes import Growth

WANTED_ADDED_MS = 0.30
WANTED_TPS_RATIO = 0.30
WANTED_UNMASKED_RATIO = 0.60
WANTED_MASKED_RATIO = 0.25
WANTED_GROWTH_MB = 32.0


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table. is_reached: None where nothing is wanted of it."""

    what: str
    measured: str
    compared: str
    wanted: str = ""
    is_reached: bool | None = None


def latency_lines(runs: Sequence[Run]) -> list[Line]:
    """One client: the median of each contestant's medians, and what each adds to the direct one.

    What is added is taken within a round, so that a slow minute of the machine weighs on both sides.
    """
    lines = []
    for mode in MODES:
        direct = _of(runs, mode, "direct")
        for name in _names(runs):
            own = _of(runs, mode, name)
            measured = f"{statistics.median(run.median_ms for run in own):.3f} ms"
            what = f"1 client, {mode}: {name}"
            if name == "direct":
                lines.append(Line(what, measured, ""))
                continue
            added = statistics.median(
                run.median_ms - base.median_ms for run, base in zip(own, direct, strict=True)
            )
            line = Line(what, measured, f"adds {added:.3f} ms")
            lines.append(_judged(line, name, "adds < 0.30 ms", is_reached=added < WANTED_ADDED_MS))
    return lines


def throughput_lines(runs: Sequence[Run]) -> list[Line]:
    """Eight clients: transactions a second, and the ratio to PgBouncer in the same round."""
    lines = []
    for mode in MODES:
        bouncer = _of(runs, mode, "pgbouncer")
        for name in _names(runs):
            own = _of(runs, mode, name)
            cpu = statistics.median(run.cpu_us_per_transaction for run in own)
            measured = f"{statistics.median(run.tps for run in own):,.0f} tps"
            measured += f", {cpu:.0f} µs CPU each" if cpu else ""
            ratio = statistics.median(run.tps / base.tps for run, base in zip(own, bouncer, strict=True))
            compared = f"{ratio:.0%} of pgbouncer" if name != "pgbouncer" else ""
            line = Line(f"{own[0].clients} clients, {mode}: {name}", measured, compared)
            is_reached = ratio >= WANTED_TPS_RATIO
            lines.append(_judged(line, name, ">= 30 % of pgbouncer", is_reached=is_reached))
    return lines


def row_lines(what: str, rates: Mapping[str, Sequence[float]], wanted: float) -> list[Line]:
    """Rows a second, and the ratio to the direct connection in the same round."""
    lines = []
    for name, own in rates.items():
        ratio = statistics.median(rate / base for rate, base in zip(own, rates["direct"], strict=True))
        compared = f"{ratio:.0%} of direct" if name != "direct" else ""
        measured = f"{statistics.median(own):,.0f} rows/s"
        wish = f">= {wanted:.0%} of direct".replace("%", " %")
        line = Line(f"{what}: {name}", measured, compared)
        lines.append(_judged(line, name, wish, is_reached=ratio >= wanted))
    return lines


def memory_line(reader: str, growth: Growth) -> Line:
    return Line(
        f"{growth.passed_bytes / 1e6:,.0f} MB to a {reader} reader: proxyd",
        f"{growth.before_kib / 1024:.0f} MiB before, {growth.peak_kib / 1024:.0f} MiB peak",
        f"grows {growth.grown_mb:.1f} MB",
        "< 32 MB",
        growth.grown_mb < WANTED_GROWTH_MB,
    )


def table(lines: Sequence[Line]) -> str:
    verdicts = {True: "reached", False: "NOT REACHED", None: ""}
    rows = [("", "measured", "compared", "wanted", "")]
    rows += [
        (line.what, line.measured, line.compared, line.wanted, verdicts[line.is_reached]) for line in lines
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def machine() -> dict[str, object]:
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.machine(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def write_json(
    directory: Path,
    lines: Sequence[Line],
    measurements: Mapping[str, object],
    settings: Mapping[str, object],
) -> Path:
    """Write everything that was measured; give the file's name."""
    now = datetime.now(UTC)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{now:%Y-%m-%dT%H%M%SZ}.json"
    document = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": settings,
        "table": [asdict(line) for line in lines],
        "measurements": measurements,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def _judged(line: Line, name: str, wanted: str, *, is_reached: bool) -> Line:
    """Wanted is something of the gateway only."""
    return replace(line, wanted=wanted, is_reached=is_reached) if name == "proxyd" else line


def _names(runs: Sequence[Run]) -> list[str]:
    return sorted({run.contestant for run in runs}, key=["direct", "pgbouncer", "proxyd"].index)


def _of(runs: Sequence[Run], mode: str, name: str) -> list[Run]:
    return [run for run in runs if run.mode == mode and run.contestant == name]


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
