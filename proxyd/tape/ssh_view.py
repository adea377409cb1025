"""An SSH session as lines for a person: channels, what was asked and decided, typed lines, files, how it ended.

Called by `render`. Each line says in brackets to which channel it belongs. What a terminal showed is counted here,
unless `shows_terminals`; `proxyd tape play` replays it. Keeps a little for each open channel; pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from policy.facts import SshFacts
from proxyd.gates.files import FileRecord
from proxyd.tape.entries import (
    CHANNEL_CLOSED,
    CHANNEL_OPENED,
    DENIED,
    STDERR,
    STDIN,
    Echoed,
    Event,
    FileMoved,
    Input,
    Judgement,
    Output,
    Resized,
    SshEntry,
    StreamDigest,
    TapeHeader,
    Terminal,
    Typed,
    Withheld,
)
from proxyd.tape.screen import plain, plain_lines, shortened
from proxyd.tape.terminal_text import TerminalText
from proxyd.tape.wording import MAX_DATA_CHARACTERS, clock_time, data_text, decision_lines, detail_lines

MAX_CHANNELS: Final = 4096
MAX_COMMAND_CHARACTERS: Final = 100_000
_MICROSECONDS: Final = 1_000_000
_STREAMS: Final = ("input", "output", "errors")
_MARKS: Final = ("> ", "", "! ")
"""Before a line of input, output and errors."""


class _Channel:
    __slots__ = ("bytes", "is_terminal", "kind", "lines", "texts")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.is_terminal = False
        self.texts = (TerminalText(), TerminalText(), TerminalText())
        self.bytes = [0, 0, 0]
        self.lines = [0, 0, 0]


class SshView:
    """The lines of one tape. `max_lines` of each stream are shown, the others counted. `channel`: only this one."""

    def __init__(
        self,
        header: TapeHeader,
        *,
        max_lines: int,
        detailed: bool = False,
        shows_terminals: bool = False,
        channel: int | None = None,
    ) -> None:
        self._started_at = header.started_at
        self._max_lines = max_lines
        self._detailed = detailed
        self._shows_terminals = shows_terminals
        self._only = channel
        self._channels: dict[int, _Channel] = {}

    def judgement(self, entry: Judgement) -> Iterator[str]:
        """What was asked, and the decision about it."""
        if self._only not in (None, entry.channel):
            return
        head = self._head(entry.at_us, entry.channel)
        facts = entry.facts[0] if entry.facts else None
        what = facts.operation.value if isinstance(facts, SshFacts) else "operation"
        first, *more = plain_lines(shortened(entry.text, MAX_COMMAND_CHARACTERS))
        yield f"{head} {what}{f': {first}' if first != what else ''}"
        yield from (f"--     {line}" for line in more)
        for index, decision in enumerate(entry.decisions):
            yield from decision_lines(decision)
            if self._detailed:
                yield from detail_lines(entry, index)

    def event(self, entry: Event) -> Iterator[str]:
        channel = entry.data.get("channel")
        number = channel if isinstance(channel, int) else None
        if self._only not in (None, number):
            return
        head = self._head(entry.at_us, number)
        data = {key: value for key, value in entry.data.items() if key != "channel"}
        if entry.name == CHANNEL_OPENED and number is not None:
            kind = str(data.pop("kind", "channel"))
            self._open(number, kind)
            yield f"{head} {plain(kind)} opened{_told(data)}"
        elif entry.name == CHANNEL_CLOSED and number is not None:
            state = self._channels.pop(number, None)
            if state is not None:
                yield from self._rest(number, state)
            yield f"{head} closed{_told({**data, **_sizes(state)})}"
        elif entry.name != DENIED or "operation" not in data:  # else the judgement has said it
            yield f"{head} event {plain(entry.name)}{_told(data)}"

    def entry(self, entry: SshEntry) -> Iterator[str]:
        if self._only not in (None, entry.channel):
            return
        number = entry.channel
        state = self._channels.get(number) or self._open(number, "channel")
        head = self._head(entry.at_us, number)
        match entry:
            case Typed(size=size):
                state.bytes[STDIN] += size
            case Echoed(text=text):
                yield from (f"[{number}] > {plain(line)}" for line in _typed_lines(text))
            case Withheld(size=size, reason=reason):
                if not state.is_terminal:
                    state.bytes[STDIN] += size
                yield f"{head} {size} bytes of input, {plain(reason)}"
            case Input(raw=raw):
                yield from self._content(number, state, STDIN, raw)
            case Output(stream=stream, raw=raw):
                yield from self._content(number, state, min(max(stream, STDIN), STDERR), raw)
            case StreamDigest():
                yield from self._digest(head, state, entry)
            case Terminal(term=term, columns=columns, rows=rows):
                state.is_terminal = True
                yield f"{head} terminal {plain(term)}, {columns}x{rows}"
            case Resized(columns=columns, rows=rows):
                yield f"{head} resized to {columns}x{rows}"
            case FileMoved(file=file):
                yield f"{head} {_file_text(file)}"
            case _:
                assert_never(entry)

    def finish(self) -> Iterator[str]:
        """What is left of channels that the tape does not close."""
        for number, state in self._channels.items():
            yield from self._rest(number, state)
        self._channels.clear()

    def _open(self, number: int, kind: str) -> _Channel:
        if len(self._channels) >= MAX_CHANNELS:
            del self._channels[next(iter(self._channels))]
        state = self._channels[number] = _Channel(kind)
        return state

    def _content(self, number: int, state: _Channel, stream: int, raw: bytes) -> Iterator[str]:
        state.bytes[stream] += len(raw)
        if state.is_terminal and not self._shows_terminals:
            return
        for line in state.texts[stream].feed(raw):
            yield from self._line(number, state, stream, line)

    def _line(self, number: int, state: _Channel, stream: int, line: str) -> Iterator[str]:
        state.lines[stream] += 1
        if state.lines[stream] <= self._max_lines:
            yield f"[{number}] {_MARKS[stream]}{line}".rstrip()

    def _rest(self, number: int, state: _Channel) -> Iterator[str]:
        for stream, text in enumerate(state.texts):
            for line in text.finish():
                yield from self._line(number, state, stream, line)
            hidden = state.lines[stream] - self._max_lines
            if hidden > 0:
                yield f"-- [{number}] {hidden} more lines of {_STREAMS[stream]}"

    def _digest(self, head: str, state: _Channel, entry: StreamDigest) -> Iterator[str]:
        stream = min(max(entry.stream, STDIN), STDERR)
        state.bytes[stream] += entry.omitted
        if entry.sha256:
            kept = f"{entry.omitted} more bytes of {_STREAMS[stream]} are not on the tape"
            yield f"{head} {kept}, sha256 {entry.sha256.hex()}"
        elif entry.kept:
            yield f"{head} {entry.omitted} more bytes of {_STREAMS[stream]} are not on the tape"

    def _head(self, at_us: int, channel: int | None) -> str:
        at = f" {clock_time(self._started_at + at_us / _MICROSECONDS)}" if self._detailed else ""
        return f"--{at}" if channel is None else f"--{at} [{channel}]"


def _typed_lines(text: str) -> list[str]:
    """A return is told by the end of the line; other keys that end one are named."""
    named = (
        text.replace("\x03", "^C\r").replace("\x04", "^D\r").replace("\x1a", "^Z\r").replace("\x1c", "^\\\r")
    )
    lines = named.replace("\n", "\r").split("\r")
    return lines[:-1] if not lines[-1] else lines


def _told(data: dict[str, object]) -> str:
    told = ", ".join(f"{plain(str(key)).replace('_', ' ')} {data_text(value)}" for key, value in data.items())
    return f": {shortened(told, MAX_DATA_CHARACTERS)}" if told else ""


def _sizes(state: _Channel | None) -> dict[str, object]:
    if state is None:
        return {}
    return {name: f"{count} bytes" for name, count in zip(_STREAMS, state.bytes, strict=True) if count}


def _file_text(file: FileRecord) -> str:
    from_where = f" from byte {file.start}" if file.start else ""
    whole = "" if file.is_complete else ", not the whole file"
    order = "" if file.is_in_order else ", in no order"
    return (
        f"file {plain(file.verb)} {plain(file.path)}: {file.byte_count} bytes{from_where}{whole}{order}, "
        f"sha256 {plain(file.sha256)}"
    )
