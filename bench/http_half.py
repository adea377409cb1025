"""The half of the bench about HTTP, and about what all doors share: each method measures one part and keeps its lines
and its plain data.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import detected_bodies, detectors, documents, http_load, http_report, many_rules, token_check
from bench.http_effort import HttpEffort
from bench.http_ways import (
    MITMPROXY,
    NGINX,
    PROXYD,
    Events,
    Issuer,
    MitmproxyWay,
    Nginx,
    NginxWay,
    ProxydWay,
    Way,
)
from bench.report import Line
from demo.pki import DemoPki

WITH_SERVERS = ("requests", "events", "download")
PARTS = (*WITH_SERVERS, "tokens", "detectors", "rules")


class HttpWays:
    """The target, the ways to it, and the files of all of them. `directory` is removed by `stop`."""

    def __init__(self, names: Sequence[str], download_bytes: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-bench-http-"))
        self.directory.chmod(0o755)
        self.pki = DemoPki(self.directory / "pki")
        self.pki.issue_server()
        files = self.directory / "files"
        files.mkdir()
        with (files / "large").open("wb") as file:
            file.truncate(download_bytes)
        self.target = Nginx(self.directory / "target", documents.NGINX_TARGET.format(files=files))
        self.events = Events(self.directory / "events")
        self.issuer = Issuer()
        self.all: list[Way] = []
        self._names = names

    def start(self) -> None:
        self.issuer.start()
        self.target.start()
        self.events.start()
        ports = self.target.port, self.events.port
        for name in self._names:
            directory = self.directory / name
            if name == NGINX:
                self.all.append(NginxWay(directory, self.pki, *ports))
            elif name == MITMPROXY:
                self.all.append(MitmproxyWay(directory, self.pki, self.target.port))
            elif name == PROXYD:
                self.all.append(ProxydWay(directory, self.pki, *ports, self.issuer))
        for way in self.all:
            way.start()

    def stop(self) -> None:
        for way in self.all:
            way.stop()
        self.events.stop()
        self.target.stop()
        self.issuer.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class HttpHalf:
    """lines: of the table. measurements: for the JSON. `ways` None: only what needs no servers is measured."""

    def __init__(self, ways: HttpWays | None, effort: HttpEffort) -> None:
        self.lines: list[Line] = []
        self.measurements: dict[str, object] = {}
        self._ways = ways
        self._effort = effort

    def measure(self, part: str) -> None:
        match part:
            case "tokens":
                tokens = token_check.measure(self._effort.token_checks)
                self.measurements["tokens"] = tokens
                self.lines += http_report.token_lines(tokens)
            case "detectors":
                rates = detectors.measure(self._effort.text_bytes / 1e6)
                self.measurements["detectors"] = rates
                self.lines += http_report.detector_lines(rates)
                bodies = detected_bodies.measure(self._effort.text_bytes / 1e6 / 4)
                self.measurements["bodies"] = bodies
                self.lines += http_report.body_lines(bodies)
            case "rules":
                ratios = many_rules.ratios(many_rules.measure())
                self.measurements["rules"] = ratios
                self.lines += http_report.rule_lines(ratios)
            case _ if self._ways is not None:
                self._measure_ways(part, self._ways)

    def _measure_ways(self, part: str, ways: HttpWays) -> None:
        match part:
            case "requests":
                runs = http_load.requests(ways.all, self._effort)
                self.measurements["requests"] = [asdict(run) for run in runs]
                self.lines += http_report.request_lines(runs)
            case "events":
                # mitmproxy leads to the other target.
                chosen = [way for way in ways.all if way.name != MITMPROXY]
                direct = f"http://127.0.0.1:{ways.events.port}"
                delays = http_load.events(chosen, direct, self._effort, ways.pki.ca)
                self.measurements["events"] = delays
                self.lines += http_report.event_lines(delays)
            case "download":
                downloads, growth = http_load.downloads(ways.all, self._effort, ways.pki.ca)
                self.measurements["download"] = [asdict(one) for one in downloads]
                self.measurements["download, memory"] = None if growth is None else asdict(growth)
                self.lines += http_report.download_lines(downloads, growth)
