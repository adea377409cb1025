"""`python -m bench`: measure the gateway beside what it stands in the place of (a direct connection and PgBouncer, a
direct sshd and `ssh -J`, nginx and mitmproxy), print the table, write the JSON.

Exit status 0 when everything was measured (with --strict: and reached, 1 when not), 2 when something could not be.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from bench import (
    http_effort,
    http_half,
    http_ways,
    measure,
    postgres_half,
    report,
    ssh_effort,
    ssh_half,
    ssh_ways,
)
from bench.contestants import NAMES as POSTGRES_NAMES
from bench.contestants import ContestantFailed, make
from bench.doors import PostgresDoor
from bench.http_half import HttpHalf, HttpWays
from bench.measure import MeasurementFailed
from bench.postgres_half import PostgresHalf
from bench.report import Line
from bench.ssh_half import SshHalf
from bench.ssh_ways import SshWays
from bench.target import Target
from demo.gateway import GatewayFailed
from demo.postgres_installs import InstallMissing
from demo.postgres_server import ServerFailed
from demo.ssh_keys import KeygenFailed
from demo.sshd import SshdFailed

HALVES = {"postgres": postgres_half.PARTS, "ssh": ssh_half.PARTS, "http": http_half.PARTS}
PARTS = (*postgres_half.PARTS, *ssh_half.PARTS, *http_half.PARTS)
NAMES = tuple(dict.fromkeys((*POSTGRES_NAMES[:-1], *http_ways.NAMES[:-1], *ssh_ways.NAMES)))
SMALL_SCALE = 1  # of a database that is asked for nothing but 1
RESULTS = Path(__file__).parent / "results"
Failed = (
    ContestantFailed,
    GatewayFailed,
    InstallMissing,
    KeygenFailed,
    MeasurementFailed,
    ServerFailed,
    SshdFailed,
)


class Bench:
    """One run: what has been measured so far, as lines of the table and as plain data for the JSON."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.lines: list[Line] = []
        self.measurements: dict[str, object] = {}
        self._arguments = arguments
        self._parts = wanted_parts(arguments.only)

    def run(self) -> None:
        """One half after the other: servers that wait for the other half are not in the way."""
        with ExitStack() as cleanup:
            if parts := [part for part in self._parts if part in postgres_half.PARTS]:
                self._measure(self._postgres_half(cleanup), parts)
        with ExitStack() as cleanup:
            if parts := [part for part in self._parts if part in ssh_half.PARTS]:
                self._measure(self._ssh_half(cleanup, parts), parts)

        with ExitStack() as cleanup:
            if parts := [part for part in self._parts if part in http_half.PARTS]:
                self._measure(self._http_half(cleanup, parts), parts)

    def _measure(self, half: PostgresHalf | SshHalf | HttpHalf, parts: list[str]) -> None:
        try:
            for part in parts:
                _say(f"measuring {part} ...")
                half.measure(part)
        finally:
            self.lines += half.lines
            self.measurements |= half.measurements

    def _postgres_half(self, cleanup: ExitStack) -> PostgresHalf:
        arguments = self._arguments
        target = _target(arguments.scale, cleanup)
        contestants = []
        for name in POSTGRES_NAMES:
            if name in arguments.contestants:
                contestant = make(name, target, upstream_tls=arguments.upstream_tls)
                cleanup.callback(contestant.stop)
                contestant.start()
                contestants.append(contestant)
        return PostgresHalf(target, contestants, measure.QUICK if arguments.quick else measure.FULL)

    def _ssh_half(self, cleanup: ExitStack, parts: list[str]) -> SshHalf:
        arguments = self._arguments
        door = None
        if "mixed" in parts:
            door = PostgresDoor(_target(SMALL_SCALE, cleanup), upstream_tls=arguments.upstream_tls)
        _say("starting sshd and the ways to it ...")
        names = [name for name in ssh_ways.NAMES if name in arguments.contestants]
        ways = SshWays(names, cipher=arguments.cipher, postgres=door)
        cleanup.callback(ways.stop)
        ways.start()
        return SshHalf(ways, ssh_effort.QUICK if arguments.quick else ssh_effort.FULL)

    def _http_half(self, cleanup: ExitStack, parts: list[str]) -> HttpHalf:
        arguments = self._arguments
        effort = http_effort.QUICK if arguments.quick else http_effort.FULL
        if not set(parts) & set(http_half.WITH_SERVERS):
            return HttpHalf(None, effort)
        _say("starting nginx and the ways to it ...")
        names = [name for name in http_ways.NAMES if name in arguments.contestants]
        ways = HttpWays(names, effort.download_bytes)
        cleanup.callback(ways.stop)
        ways.start()
        return HttpHalf(ways, effort)


def wanted_parts(only: list[str] | None) -> list[str]:
    """The parts in the order in which they are measured; a half stands for all of its parts."""
    if not only:
        return list(PARTS)
    named = {part for name in only for part in HALVES.get(name, (name,))}
    return [part for part in PARTS if part in named]


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    load = os.getloadavg()[0]
    bench = Bench(arguments)
    try:
        try:
            bench.run()
        finally:
            _tell(bench, arguments, load)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 1 if arguments.strict and any(line.is_reached is False for line in bench.lines) else 0


def _target(scale: int, cleanup: ExitStack) -> Target:
    target = Target(scale)
    cleanup.callback(target.stop)
    _say("starting the database and the ways to it ...")
    target.start()
    return target


def _tell(bench: Bench, arguments: argparse.Namespace, load: float) -> None:
    if not bench.lines:
        return
    effort = measure.QUICK if arguments.quick else measure.FULL
    effort_ssh = ssh_effort.QUICK if arguments.quick else ssh_effort.FULL
    settings = {
        "effort": asdict(effort),
        "effort_ssh": asdict(effort_ssh),
        "effort_http": asdict(http_effort.QUICK if arguments.quick else http_effort.FULL),
        "scale": arguments.scale,
        "client_tls": "require",
        "upstream_tls": arguments.upstream_tls,
        "contestants": arguments.contestants,
        "cipher": arguments.cipher,
        "load_before": load,
    }
    upstream = "TLS" if arguments.upstream_tls else "no TLS"
    print(
        f"\n{', '.join(f'{name} {value}' for name, value in report.machine().items())}, load before {load:.1f}"
    )
    print(f"TLS from every client; {upstream} from pgbouncer and proxyd to the target (the same for both)")
    print(
        "SSH: OpenSSH's client for all; jump is `ssh -J` through a plain sshd; proxyd with policy and tapes"
    )
    print("HTTP: wrk and curl for all, TLS, to one nginx in clear; proxyd with tokens, policy and tapes\n")
    print(report.table(bench.lines))
    path = report.write_json(RESULTS, bench.lines, bench.measurements, settings)
    print(f"\nAll numbers: {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs: a rough idea in about two minutes")
    parser.add_argument(
        "--only",
        action="append",
        choices=(*HALVES, *PARTS),
        metavar="PART",
        help=f"measure this part only (repeatable): {', '.join((*HALVES, *PARTS))}",
    )
    parser.add_argument("--strict", action="store_true", help="what was not reached is a failure")
    parser.add_argument("--scale", type=int, default=4, help="pgbench's scale factor")
    parser.add_argument(
        "--upstream-tls", action="store_true", help="TLS from pgbouncer and proxyd to the target as well"
    )
    parser.add_argument(
        "--cipher",
        default="",
        help="what SSH clients have to use (default: what each agrees on with its server)",
    )
    parser.add_argument(
        "--contestants",
        type=lambda text: [name for name in NAMES if name in text.split(",")],
        default=list(NAMES),
        help=f"which of {','.join(NAMES)} (proxyd is compared with the others)",
    )
    return parser.parse_args()


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
