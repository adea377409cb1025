"""A recorded terminal as an asciicast, versions 2 and 3, for asciinema and its players.

docs.asciinema.org/manual/asciicast/v2/ and /v3/. Lines of JSON: a header, then events: "o" output, "i" input (lines
that were echoed, or everything where the tape holds it), "r" resize, "m" marker (what was asked and decided), and in
version 3 "x", the exit status. Times are seconds since the terminal was opened (version 2) or since the event before
(version 3).

Output passes `terminal_filter`, since players write it to the terminal as it is. Pure: entries in, lines out.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Final

from policy.decision import Effect
from proxyd.tape.entries import (
    CHANNEL_CLOSED,
    SSH,
    Echoed,
    Entry,
    Event,
    FileMoved,
    Input,
    Judgement,
    Output,
    Resized,
    TapeHeader,
    Terminal,
)
from proxyd.tape.errors import TapeError
from proxyd.tape.screen import plain, shortened
from proxyd.tape.terminal_filter import TerminalFilter
from proxyd.tape.wording import decision_lines

VERSIONS: Final = (2, 3)
MAX_MARKER_CHARACTERS: Final = 200
_MICROSECONDS: Final = 1_000_000
_MAX_CELLS: Final = 65535


class Asciicast:
    """Turns the entries of one terminal channel into lines. `channel` None: the first that has a terminal."""

    def __init__(
        self,
        header: TapeHeader,
        *,
        version: int,
        channel: int | None = None,
        idle_limit_s: float | None = None,
    ) -> None:
        if header.protocol != SSH:
            raise TapeError(
                f"an asciicast is the recording of a terminal, and a session of {plain(header.protocol)} has none; "
                "`proxyd tape show` prints it"
            )
        self._header = header
        self._version = version
        self._channel = channel
        self._idle_limit_s = idle_limit_s
        self._began_us = 0
        self._last_us = 0
        self._filter: TerminalFilter | None = None  # once the terminal is there
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_over = False

    def lines(self, entries: Iterable[Entry]) -> Iterator[str]:
        """The whole file, line by line. Raises TapeError when there is no such terminal."""
        for entry in entries:
            yield from self._entry(entry)
        if self._filter is None:
            which = "no channel of this session" if self._channel is None else f"channel {self._channel}"
            lacks = "has a terminal" if self._channel is None else "has no terminal on this tape"
            raise TapeError(f"{which} {lacks}; `proxyd tape show` prints what there is")

    def _entry(self, entry: Entry) -> Iterator[str]:
        match entry:
            case Terminal() if self._filter is None and self._channel in (None, entry.channel):
                yield from self._begin(entry)
            case _ if self._filter is None or self._is_over:
                pass
            case Output(channel=channel, raw=raw) if channel == self._channel:
                yield from self._event(entry, "o", self._filter.feed(raw))
            case Input(channel=channel, raw=raw) if channel == self._channel:
                yield from self._event(entry, "i", self._decoder.decode(raw))
            case Echoed(channel=channel, text=text) if channel == self._channel:
                yield from self._event(entry, "i", text)
            case Resized(channel=channel) if channel == self._channel:
                columns, rows = _size(entry.columns, entry.rows)
                yield from self._event(entry, "r", f"{columns}x{rows}")
            case Judgement():
                yield from self._event(entry, "m", _judged(entry))
            case FileMoved(file=file):
                yield from self._event(entry, "m", plain(f"file {file.verb} {file.path}"))
            case Event(name=name, data={"channel": int() as channel}) if (
                name == CHANNEL_CLOSED and channel == self._channel
            ):
                self._is_over = True
                status = entry.data.get("exit_status")
                if self._version == 3 and isinstance(status, int):
                    yield from self._event(entry, "x", str(status))

    def _begin(self, entry: Terminal) -> Iterator[str]:
        self._channel = entry.channel
        self._began_us = self._last_us = entry.at_us
        self._filter = TerminalFilter()
        columns, rows = _size(entry.columns, entry.rows)
        head: dict[str, object] = {"version": self._version}
        if self._version == 3:
            term: dict[str, object] = {"cols": columns, "rows": rows}
            head["term"] = {**term, "type": plain(entry.term)} if entry.term else term
        else:
            head |= {"width": columns, "height": rows}
        head["timestamp"] = max(0, int(self._header.started_at + entry.at_us / _MICROSECONDS))
        if self._idle_limit_s is not None:
            head["idle_time_limit"] = self._idle_limit_s
        if self._version == 2 and entry.term:
            head["env"] = {"TERM": plain(entry.term)}
        who = f"{self._header.subject.name}: {self._header.login}@{self._header.target}"
        head["title"] = shortened(plain(who), MAX_MARKER_CHARACTERS)
        yield json.dumps(head, ensure_ascii=False, separators=(", ", ": "))

    def _event(self, entry: Entry, code: str, data: str) -> Iterator[str]:
        if not data:
            return
        now_us = max(self._last_us, entry.at_us)
        time_us = now_us - (self._last_us if self._version == 3 else self._began_us)
        self._last_us = now_us
        text = json.dumps([code, data], ensure_ascii=False)[1:]
        yield f"[{time_us // _MICROSECONDS}.{time_us % _MICROSECONDS:06d}, {text}"


def _judged(entry: Judgement) -> str:
    refused = any(decision.effect is not Effect.ALLOW for decision in entry.decisions)
    decided = decision_lines(entry.decisions[-1])[0].removeprefix("-- ") if entry.decisions else ""
    what = plain(shortened(entry.text, MAX_MARKER_CHARACTERS))
    return shortened(f"{what}: {decided}" if refused else what, 2 * MAX_MARKER_CHARACTERS)


def _size(columns: int, rows: int) -> tuple[int, int]:
    """A client may say 0 when it does not know its size; a player must not be told so."""
    return min(columns, _MAX_CELLS) if columns > 0 else 80, min(rows, _MAX_CELLS) if rows > 0 else 24
