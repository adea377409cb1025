"""What the bench makes of its measurements: medians within rounds, verdicts, the table."""

from __future__ import annotations

import json
from pathlib import Path

from bench import report
from bench.measure import MODES, Run
from bench.processes import Growth


def runs(clients: int, **per_contestant: tuple[list[float], list[float]]) -> list[Run]:
    """contestant=(medians in ms, transactions a second), one of each for every round; the same in all modes."""
    return [
        Run(name, mode, clients, median_ms, tps, 10.0)
        for mode in MODES
        for name, (medians, rates) in per_contestant.items()
        for median_ms, tps in zip(medians, rates, strict=True)
    ]


def line(lines: list[report.Line], what: str) -> report.Line:
    (found,) = [one for one in lines if one.what == what]
    return found


def test_added_latency_is_taken_within_rounds() -> None:
    # The machine was slow in the second round, for everybody.
    measured = runs(1, direct=([0.1, 0.9, 0.1], [1] * 3), proxyd=([0.3, 1.1, 0.3], [1] * 3))
    lines = report.latency_lines(measured)
    found = line(lines, "1 client, simple: proxyd")
    assert (found.compared, found.is_reached) == ("adds 0.200 ms", True)
    assert line(lines, "1 client, prepared: direct").is_reached is None


def test_latency_that_is_too_much_is_said() -> None:
    measured = runs(1, direct=([0.1], [1]), proxyd=([0.41], [1]))
    assert line(report.latency_lines(measured), "1 client, extended: proxyd").is_reached is False


def test_throughput_is_compared_with_pgbouncer() -> None:
    measured = runs(8, direct=([1], [40_000]), pgbouncer=([1], [20_000]), proxyd=([1], [6_000]))
    lines = report.throughput_lines(measured)
    found = line(lines, "8 clients, prepared: proxyd")
    assert (found.measured, found.compared) == ("6,000 tps, 10 µs CPU each", "30% of pgbouncer")
    assert found.is_reached is True
    assert line(lines, "8 clients, prepared: pgbouncer").compared == ""


def test_rows_are_compared_with_the_direct_connection() -> None:
    lines = report.row_lines("rows", {"direct": [100.0, 200.0], "proxyd": [20.0, 40.0]}, 0.25)
    found = line(lines, "rows: proxyd")
    assert (found.compared, found.wanted, found.is_reached) == ("20% of direct", ">= 25 % of direct", False)


def test_memory_growth_is_in_the_units_of_what_is_wanted() -> None:
    grown = report.memory_line("slow", Growth(100 * 1024, 130 * 1024, 500_000_000, 3.0))
    assert (grown.compared, grown.is_reached) == ("grows 31.5 MB", True)
    assert report.memory_line("slow", Growth(0, 32 * 1024, 1, 3.0)).is_reached is False


def test_the_table_names_what_was_not_reached() -> None:
    lines = [
        report.Line("short", "1", "2", "3", True),
        report.Line("a longer one", "1", "2", "3", False),
        report.Line("nothing wanted", "1", "2"),
    ]
    rows = report.table(lines).splitlines()
    assert [row.split()[-1] for row in rows] == ["wanted", "reached", "REACHED", "2"]
    assert rows[1].index("1") == rows[2].index("1")


def test_the_json_holds_everything(tmp_path: Path) -> None:
    lines = [report.Line("what", "1", "2")]
    path = report.write_json(tmp_path / "results", lines, {"latency": [1, 2]}, {"scale": 4})
    document = json.loads(path.read_text())
    assert document["measurements"] == {"latency": [1, 2]}
    assert document["table"][0]["what"] == "what"
    assert document["settings"] == {"scale": 4}
    assert {"processor", "cores", "kernel", "python"} <= set(document["machine"])
