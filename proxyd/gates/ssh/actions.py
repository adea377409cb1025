"""What the SSH gate asks its relay to do, in this order: records, then what goes out, then the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from policy.decision import Decision
from policy.facts import SshFacts
from proxyd.gates.files import FileRecord


class Recording(Protocol):
    """The tape as the gate sees it. Channels are the gateway's own numbers; streams: 1 output, 2 errors."""

    def judged(self, channel: int | None, facts: SshFacts, decision: Decision) -> None: ...

    def opened(self, channel: int, kind: str, data: dict[str, object]) -> None: ...

    def closed(self, channel: int, data: dict[str, object]) -> None: ...

    def counted(self, channel: int) -> None: ...

    def kept(self, channel: int) -> None: ...

    def terminal(self, channel: int, term: str, columns: int, rows: int) -> None: ...

    def resized(self, channel: int, columns: int, rows: int) -> None: ...

    def input(self, channel: int, data: bytes) -> None: ...

    def output(self, channel: int, stream: int, data: bytes) -> None: ...

    def file(self, channel: int, record: FileRecord) -> None: ...

    def event(self, name: str, data: dict[str, object]) -> None: ...


Record = Callable[[Recording], None]


@dataclass(frozen=True, slots=True)
class Choice:
    """A target and login that somebody has chosen from the menu."""

    target: str
    login: str


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a connection to the address of a target for this channel (`ssh -J`)."""

    channel: int
    target: str


class Actions:
    """One step's worth of work, filled by the gate while it handles a batch of messages.

    records: to be put on the tape before anything is sent. streams: (channel, data) for connections that were dialled,
    b"" for the end of the data. close: a reason to end the session once the rest is done.
    """

    __slots__ = ("choice", "close", "dials", "hang_ups", "records", "streams", "to_client", "to_target")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.to_client: list[bytes] = []
        self.to_target: list[bytes] = []
        self.streams: list[tuple[int, bytes]] = []
        self.dials: list[Dial] = []
        self.hang_ups: list[int] = []
        self.choice: Choice | None = None
        self.close: str | None = None

    def drop(self) -> None:
        """Forget everything: it cannot be recorded, so it must not be done."""
        for waiting in (
            self.records,
            self.to_client,
            self.to_target,
            self.streams,
            self.dials,
            self.hang_ups,
        ):
            waiting.clear()
