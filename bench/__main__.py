"""`python -m bench`: measure the gateway beside a direct connection and PgBouncer, print the table, write
the JSON.

Exit status 0 when everything was measured (with --strict: and reached, 1 when not), 2 when something could not be.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from bench import measure, report
from bench.contestants import NAMES, Contestant, ContestantFailed, Proxyd, make
from bench.measure import FULL, QUICK, Effort, MeasurementFailed
from bench.report import Line
from bench.target import Target
from demo.gateway import GatewayFailed
from demo.postgres_installs import InstallMissing
from demo.postgres_server import ServerFailed

PARTS = ("latency", "throughput", "rows", "memory")
RESULTS = Path(__file__).parent / "results"


class Bench:
    """One run: what has been measured so far, as lines of the table and as plain data for the JSON."""

    def __init__(self, target: Target, contestants: list[Contestant], effort: Effort) -> None:
        self.lines: list[Line] = []
        self.measurements: dict[str, object] = {}
        self._target = target
        self._contestants = contestants
        self._effort = effort

    def run(self, parts: Iterable[str]) -> None:
        for part in parts:
            print(f"measuring {part} ...", file=sys.stderr, flush=True)
            getattr(self, f"measure_{part}")()

    def measure_latency(self) -> None:
        runs = list(measure.pgbench_runs(self._target, self._contestants, self._effort, clients=1))
        self.measurements["latency"] = [asdict(run) for run in runs]
        self.lines += report.latency_lines(runs)

    def measure_throughput(self) -> None:
        runs = list(measure.pgbench_runs(self._target, self._contestants, self._effort, clients=8))
        self.measurements["throughput"] = [asdict(run) for run in runs]
        self.lines += report.throughput_lines(runs)

    def measure_rows(self) -> None:
        for what, sql, wanted in (
            ("200,000 rows, none masked", measure.UNMASKED, report.WANTED_UNMASKED_RATIO),
            ("200,000 rows, one column masked", measure.MASKED, report.WANTED_MASKED_RATIO),
        ):
            rates = measure.row_rates(self._contestants, sql, self._effort.row_repeats)
            self.measurements[what] = rates
            self.lines += report.row_lines(what, rates, wanted)

    def measure_memory(self) -> None:
        for contestant in self._contestants:
            if not isinstance(contestant, Proxyd):
                continue
            for reader in ("fast", "slow"):
                growth = measure.memory_growth(contestant, self._effort, is_slow=reader == "slow")
                self.measurements[f"memory, {reader} reader"] = asdict(growth)
                self.lines.append(report.memory_line(reader, growth))


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    effort = QUICK if arguments.quick else FULL
    settings = {
        "effort": asdict(effort),
        "scale": arguments.scale,
        "client_tls": "require",
        "upstream_tls": arguments.upstream_tls,
        "contestants": arguments.contestants,
    }
    try:
        with ExitStack() as cleanup:
            bench = _prepare(arguments, effort, cleanup)
            try:
                bench.run(arguments.only or PARTS)
            finally:
                _tell(bench, settings)
    except (ContestantFailed, GatewayFailed, InstallMissing, MeasurementFailed, ServerFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 1 if arguments.strict and any(line.is_reached is False for line in bench.lines) else 0


def _prepare(arguments: argparse.Namespace, effort: Effort, cleanup: ExitStack) -> Bench:
    target = Target(arguments.scale)
    cleanup.callback(target.stop)
    print("starting the target and the contestants ...", file=sys.stderr, flush=True)
    target.start()
    contestants = []
    for name in arguments.contestants:
        contestant = make(name, target, upstream_tls=arguments.upstream_tls)
        cleanup.callback(contestant.stop)
        contestant.start()
        contestants.append(contestant)
    return Bench(target, contestants, effort)


def _tell(bench: Bench, settings: dict[str, object]) -> None:
    if not bench.lines:
        return
    upstream = "TLS" if settings["upstream_tls"] else "no TLS"
    print(f"\n{', '.join(f'{name} {value}' for name, value in report.machine().items())}")
    print(f"TLS from every client; {upstream} from pgbouncer and proxyd to the target (the same for both)\n")
    print(report.table(bench.lines))
    path = report.write_json(RESULTS, bench.lines, bench.measurements, settings)
    print(f"\nAll numbers: {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs: a rough idea in about a minute")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part only (repeatable)")
    parser.add_argument("--strict", action="store_true", help="what was not reached is a failure")
    parser.add_argument("--scale", type=int, default=4, help="pgbench's scale factor")
    parser.add_argument(
        "--upstream-tls", action="store_true", help="TLS from pgbouncer and proxyd to the target as well"
    )
    parser.add_argument(
        "--contestants",
        type=lambda text: [name for name in NAMES if name in text.split(",")],
        default=list(NAMES),
        help="which of direct,pgbouncer,proxyd (the first two are what the others are compared with)",
    )
    return parser.parse_args()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
