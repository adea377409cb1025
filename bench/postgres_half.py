"""The half of the bench about PostgreSQL: each method measures one part and keeps its lines and its plain data."""

from __future__ import annotations

from dataclasses import asdict

from bench import measure, report
from bench.contestants import Contestant, Proxyd
from bench.measure import Effort
from bench.report import Line
from bench.target import Target

PARTS = ("latency", "throughput", "rows", "memory")


class PostgresHalf:
    """lines: of the table. measurements: for the JSON."""

    def __init__(self, target: Target, contestants: list[Contestant], effort: Effort) -> None:
        self.lines: list[Line] = []
        self.measurements: dict[str, object] = {}
        self._target = target
        self._contestants = contestants
        self._effort = effort

    def measure(self, part: str) -> None:
        match part:
            case "latency":
                self._latency()
            case "throughput":
                self._throughput()
            case "rows":
                self._rows()
            case "memory":
                self._memory()

    def _latency(self) -> None:
        runs = list(measure.pgbench_runs(self._target, self._contestants, self._effort, clients=1))
        self.measurements["latency"] = [asdict(run) for run in runs]
        self.lines += report.latency_lines(runs)

    def _throughput(self) -> None:
        runs = list(measure.pgbench_runs(self._target, self._contestants, self._effort, clients=8))
        self.measurements["throughput"] = [asdict(run) for run in runs]
        self.lines += report.throughput_lines(runs)

    def _rows(self) -> None:
        for what, sql, wanted in (
            ("200,000 rows, none masked", measure.UNMASKED, report.WANTED_UNMASKED_RATIO),
            ("200,000 rows, one column masked", measure.MASKED, report.WANTED_MASKED_RATIO),
        ):
            rates = measure.row_rates(self._contestants, sql, self._effort.row_repeats)
            self.measurements[what] = rates
            self.lines += report.row_lines(what, rates, wanted)

    def _memory(self) -> None:
        for contestant in self._contestants:
            if not isinstance(contestant, Proxyd):
                continue
            for reader in ("fast", "slow"):
                growth = measure.memory_growth(contestant, self._effort, is_slow=reader == "slow")
                self.measurements[f"memory, {reader} reader"] = asdict(growth)
                self.lines.append(report.memory_line(reader, growth))
