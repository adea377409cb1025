"""The sftp gate between a client on the standard streams and a real sftp-server: what `sftp -D` is given to run.

    python -m tests.proxyd.gates.ssh.sftp_bridge SETTINGS LOG

SETTINGS is a JSON file: `server` (a command), `directory` (where it runs), `allow` (pairs of a verb or "*" and a
prefix of the path), `resolves_paths`, `read_bytes` (how much is taken from a pipe at once). What was judged and which
files went through is written to LOG, one JSON value a line.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from policy.decision import Decision, Effect, Reason
from policy.facts import SshFacts
from proxyd.gates.files import FileContents
from proxyd.gates.sftp import SftpGate
from proxyd.gates.sftp_path_requests import SymlinkOrder

SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def judge_by_prefix(allow: list[tuple[str, str]]) -> Callable[[SshFacts], Decision]:
    """A stand-in for the policy: every path of an operation must be inside one of the prefixes for its verb."""

    def is_inside(path: str, prefix: str) -> bool:
        return path == prefix or path.startswith(prefix.rstrip("/") + "/")

    def judge(facts: SshFacts) -> Decision:
        paths = [facts.path] + ([facts.other_path] if facts.verb in {"rename", "link"} else [])
        for path in paths:
            if not any(verb in {"*", facts.verb} and is_inside(path, prefix) for verb, prefix in allow):
                return Decision(
                    Effect.DENY, (Reason("outside", f"{facts.verb} is not allowed there", "Stay in."),)
                )
        return Decision(Effect.ALLOW)

    return judge


class Bridge:
    """Carries bytes between two pairs of file descriptors and the gate until either side ends."""

    def __init__(
        self, gate: SftpGate, client: tuple[int, int], target: tuple[int, int], read_bytes: int
    ) -> None:
        self.gate = gate
        self.judged: list[tuple[str, str, str, str]] = []
        self.files: list[dict[str, object]] = []
        self.close: str | None = None
        self.most_pending_bytes = 0
        self._client_in, self._client_out = client
        self._target_in, self._target_out = target
        self._read_bytes = read_bytes

    def run(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._client_in, selectors.EVENT_READ, self.gate.from_client)
        selector.register(self._target_in, selectors.EVENT_READ, self.gate.from_target)
        is_open = True
        while is_open and self.close is None:
            for key, _ in selector.select(timeout=30):
                data = os.read(key.fd, self._read_bytes)
                is_open = is_open and bool(data)
                key.data(data)
                self.most_pending_bytes = max(self.most_pending_bytes, self.gate.pending_bytes)
                self._carry_out()
        selector.close()
        self._note(self.gate.finish())

    def _carry_out(self) -> None:
        work = self.gate.take_actions()
        for facts, decision in work.judged:
            self.judged.append((decision.effect.value, facts.verb, facts.path, facts.other_path))
        self._note(work.files)
        for data in work.to_target:
            _write(self._target_out, data)
        for data in work.to_client:
            _write(self._client_out, data)
        self.close = work.close

    def _note(self, files: list) -> None:  # type: ignore[type-arg]
        self.files += [
            {
                "path": record.path,
                "verb": record.verb,
                "bytes": record.byte_count,
                "sha256": record.sha256,
                "is_complete": record.is_complete,
                "is_in_order": record.is_in_order,
                "content": record.content.decode("latin-1"),
            }
            for record in files
        ]


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def fileno(stream: IO[bytes] | None) -> int:
    if stream is None:
        raise RuntimeError("no pipe")
    return stream.fileno()


def main(settings_file: str, log_file: str) -> None:
    settings = json.loads(Path(settings_file).read_text())
    gate = SftpGate(
        judge_by_prefix([(verb, prefix) for verb, prefix in settings["allow"]]),
        resolves_paths=lambda: bool(settings["resolves_paths"]),
        contents=FileContents(settings.get("keep_content_bytes", 0)),
        symlink_order=SymlinkOrder.OPENSSH,
    )
    with subprocess.Popen(
        settings["server"],
        cwd=settings["directory"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as server:
        ends = fileno(server.stdout), fileno(server.stdin)
        bridge = Bridge(gate, (0, 1), ends, settings.get("read_bytes", 65536))
        bridge.run()
        if server.stdin is not None:
            server.stdin.close()
    lines: list[object] = [{"judged": entry} for entry in bridge.judged]
    lines += [{"file": entry} for entry in bridge.files]
    lines.append({"close": bridge.close, "most_pending_bytes": bridge.most_pending_bytes})
    Path(log_file).write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
