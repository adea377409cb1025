"""The half of the bench about SSH: each method measures one part and keeps its lines and its plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from bench import ssh_report, ssh_sessions, ssh_transfers
from bench.report import Line
from bench.ssh_effort import SshEffort
from bench.ssh_ways import PROXYD, Algorithms, SshWays

PARTS = ("login", "echo", "scp", "idle", "mixed")
NEEDS_GATEWAY = frozenset({"idle", "mixed"})


class SshHalf:
    """lines: of the table. measurements: for the JSON."""

    def __init__(self, ways: SshWays, effort: SshEffort) -> None:
        self.lines: list[Line] = []
        self.measurements: dict[str, object] = {}
        self._ways = ways
        self._effort = effort

    def measure(self, part: str) -> None:
        if part in NEEDS_GATEWAY and PROXYD not in self._ways.names:
            return
        match part:
            case "login":
                self._login()
            case "echo":
                self._echo()
            case "scp":
                self._scp()
            case "idle":
                self._idle()
            case "mixed":
                self._mixed()

    def _login(self) -> None:
        seconds = ssh_sessions.login_times(self._ways, self._effort)
        algorithms = self._algorithms(seconds)
        self.measurements["login"] = seconds
        self.lines += ssh_report.login_lines(seconds, algorithms)

    def _echo(self) -> None:
        seconds = ssh_sessions.echo_times(self._ways, self._effort)
        self.measurements["echo"] = seconds
        self.lines += ssh_report.echo_lines(seconds)

    def _scp(self) -> None:
        transfers, growth = ssh_transfers.transfers(self._ways, self._effort)
        algorithms = self._algorithms(dict.fromkeys(one.name for one in transfers))
        self.measurements["scp"] = [asdict(one) for one in transfers]
        self.measurements["scp, memory"] = {direction: asdict(one) for direction, one in growth.items()}
        self.lines += ssh_report.transfer_lines(transfers, algorithms)
        self.lines += [ssh_report.growth_line(direction, one) for direction, one in growth.items()]

    def _algorithms(self, names: Iterable[str]) -> dict[str, Algorithms]:
        found = {name: self._ways.algorithms(name) for name in names}
        self.measurements["algorithms"] = {name: asdict(one) for name, one in found.items()}
        return {name: one.short for name, one in found.items()}

    def _idle(self) -> None:
        idle = ssh_sessions.idle_memory(self._ways, self._effort)
        self.measurements["idle"] = asdict(idle)
        self.lines.append(ssh_report.idle_line(idle))

    def _mixed(self) -> None:
        mixed = list(ssh_transfers.mixed_load(self._ways, self._effort))
        self.measurements["mixed"] = [asdict(one) for one in mixed]
        self.lines += ssh_report.mixed_lines(mixed)
