"""A tape as text for a person.

What the raw bytes mean is the business of a view, chosen by the protocol that the header names;
everything else (decisions, events, the end, frames that nobody knows) looks the same for every protocol.
Pure: gives lines, prints nothing. Everything recorded has passed `screen.plain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from proxyd.tape.entries import (
    End,
    Entry,
    Event,
    Judgement,
    Reply,
    ReplyDigest,
    Request,
    SshEntry,
    TapeHeader,
    Unknown,
)
from proxyd.tape.frames import FrameKind
from proxyd.tape.http_entries import HttpEntry
from proxyd.tape.http_view import HttpView
from proxyd.tape.postgres import PostgresView
from proxyd.tape.screen import plain, shortened
from proxyd.tape.ssh_view import SshView
from proxyd.tape.wording import (
    MAX_DATA_CHARACTERS,
    clock_time,
    data_text,
    decision_lines,
    detail_lines,
    raw_line,
)

DEFAULT_MAX_ROWS: Final = 100
MAX_REMEMBERED_JUDGEMENTS: Final = 20_000
_MICROSECONDS: Final = 1_000_000


class View(Protocol):
    """How one protocol's raw bytes look. Keeps whatever it needs to follow the conversation."""

    def request(self, entry: Request) -> Iterator[str]: ...

    def reply(self, entry: Reply) -> Iterator[str]: ...

    def digest(self, entry: ReplyDigest) -> Iterator[str]: ...

    def finish(self) -> Iterator[str]: ...


class RawView:
    """For a protocol that this software cannot read: sizes and the first bytes."""

    def request(self, entry: Request) -> Iterator[str]:
        yield f"> {raw_line(entry.raw)}"

    def reply(self, entry: Reply) -> Iterator[str]:
        yield f"< {raw_line(entry.raw)}"

    def digest(self, entry: ReplyDigest) -> Iterator[str]:
        yield f"< {entry.omitted} more bytes, sha256 {entry.sha256.hex()}"

    def finish(self) -> Iterator[str]:
        yield from ()


class Renderer:
    """Turns one tape's entries into lines, in order. `detailed` adds times, facts and policy versions.

    `max_rows` of each result (SSH: lines of each stream, HTTP: lines of each body) are shown, the others counted.
    `shows_terminals` and `channel` are about SSH: the lines that terminals showed, and one channel only.
    """

    def __init__(
        self,
        header: TapeHeader,
        *,
        max_rows: int = DEFAULT_MAX_ROWS,
        detailed: bool = False,
        shows_terminals: bool = False,
        channel: int | None = None,
    ) -> None:
        self._header = header
        self._detailed = detailed
        self._judged: dict[int, list[str]] = {}
        self._operation: int | None = None
        self._ssh: SshView | None = None
        self._http: HttpView | None = None
        self._view: View = RawView()
        match header.protocol:
            case "postgres":
                self._view = PostgresView(header.target, max_rows=max_rows)
            case "http":
                self._http = HttpView(header, max_lines=max_rows, detailed=detailed)
            case "ssh":
                self._ssh = SshView(
                    header,
                    max_lines=max_rows,
                    detailed=detailed,
                    shows_terminals=shows_terminals,
                    channel=channel,
                )

    def lines(self, entry: Entry) -> Iterator[str]:
        """What one entry adds. A judgement of SQL adds nothing by itself: it is shown with its requests."""
        match entry:
            case Judgement():
                if self._http is not None:
                    self._http.judgement(entry)
                elif self._ssh is not None:
                    yield from self._ssh.judgement(entry)
                else:
                    self._remember(entry)
            case Request():
                yield from self._request(entry)
            case Reply():
                yield from self._view.reply(entry)
            case ReplyDigest():
                yield from self._view.digest(entry)
            case Event():
                yield from (self._ssh or self._http or self).event(entry)
            case End():
                yield from self.finish()
                yield f"-- session ended: {plain(entry.reason)}"
            case Unknown():
                yield from self._unknown(entry)
            case _ if self._ssh is not None and isinstance(entry, SshEntry):
                yield from self._ssh.entry(entry)
            case _ if self._http is not None and isinstance(entry, HttpEntry):
                yield from self._http.entry(entry)
            case _:
                what = "a channel" if isinstance(entry, SshEntry) else "an exchange"
                yield f"-- {type(entry).__name__.lower()} of {what}, which this protocol has not"

    def standing(self) -> Iterator[str]:
        """What goes on at the moment and was told already, for somebody who comes in between."""
        if self._http is not None:
            yield from self._http.standing()

    def finish(self) -> Iterator[str]:
        """What is left when the tape ends without its end frame."""
        yield from (self._ssh or self._http or self._view).finish()

    def _request(self, entry: Request) -> Iterator[str]:
        if entry.operation != self._operation:
            self._operation = entry.operation
            if self._detailed:
                at = clock_time(self._header.started_at + entry.at_us / _MICROSECONDS)
                yield ""
                yield f"-- {at} operation {entry.operation}"
        yield from self._view.request(entry)
        seen: set[str] = set()
        for identifier in entry.judgements:
            for line in self._judged.get(identifier, [f"-- judgement {identifier} is not at hand"]):
                if line not in seen:
                    seen.add(line)
                    yield line

    def _remember(self, entry: Judgement) -> None:
        lines = []
        for index, decision in enumerate(entry.decisions):
            lines += decision_lines(decision)
            if self._detailed:
                lines += detail_lines(entry, index)
        self._judged[entry.id] = lines
        if len(self._judged) > MAX_REMEMBERED_JUDGEMENTS:
            del self._judged[next(iter(self._judged))]

    def event(self, entry: Event) -> Iterator[str]:
        data = ", ".join(f"{plain(str(key))}: {data_text(value)}" for key, value in entry.data.items())
        yield f"-- event {plain(entry.name)}{': ' if data else ''}{shortened(data, MAX_DATA_CHARACTERS)}"

    def _unknown(self, entry: Unknown) -> Iterator[str]:
        fields = ", ".join(data_text(field) for field in entry.fields)
        yield f"-- frame of kind {_kind_name(entry.kind)}: {shortened(fields, MAX_DATA_CHARACTERS)}"


def _kind_name(kind: int) -> str:
    """The number, and the name if only the fields of the frame are strange."""
    try:
        return f"{kind} ({FrameKind(kind).name.lower()}, of another shape)"
    except ValueError:
        return str(kind)
