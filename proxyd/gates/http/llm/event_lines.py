"""Server-sent events taken apart as far as a model's stream needs: one event's name, its data and its other lines.

Lines end as the specification has it (CR LF, LF or CR); an event that its blank line has not ended is not one. Used by
`proxyd.gates.http.llm.streams` and `answers`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_EVENT_BYTES: Final = 1 << 20
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SentEvent:
    """`data`: its lines put together, None when it has none. `name`: "" when it has none. `rest`: other lines."""

    name: str
    data: str | None
    rest: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        lines = list(self.rest)
        if self.name:
            lines.append(b"event: " + self.name.encode())
        if self.data is not None:
            lines += [b"data: " + line.encode("utf-8", "replace") for line in self.data.split("\n")]
        return b"\n".join([*lines, b"", b""])


class EventTooLong(Exception):
    """An event of more than MAX_EVENT_BYTES."""


class EventLines:
    """Bytes in, events out, as soon as their blank line is there."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held = b""
        self._lines: list[bytes] = []
        self._size = 0
        self._is_first = True

    def feed(self, data: bytes) -> list[SentEvent]:
        """Raises EventTooLong."""
        held = self._held + data
        if self._is_first:
            if len(held) < len(_BOM) and _BOM.startswith(held):
                self._held = held
                return []
            held = held.removeprefix(_BOM)
            self._is_first = False
        events: list[SentEvent] = []
        start = 0
        for end in _LINE_END.finditer(held):
            if end.group() == b"\r" and end.end() == len(held):
                break  # half of CR LF, maybe
            self._line(held[start : end.start()], events)
            start = end.end()
        self._held = held[start:]
        if self._size + len(self._held) > self._max_bytes:
            raise EventTooLong
        return events

    def _line(self, line: bytes, events: list[SentEvent]) -> None:
        if line:
            self._lines.append(line)
            self._size += len(line) + 1
            if self._size > self._max_bytes:
                raise EventTooLong
            return
        if self._lines:
            events.append(_event(self._lines))
        self._lines = []
        self._size = 0


def _event(lines: list[bytes]) -> SentEvent:
    name = ""
    data: list[str] = []
    rest: list[bytes] = []
    for line in lines:
        field, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if field == b"data":
            data.append(text)
        elif field == b"event":
            name = text
        else:
            rest.append(line)
    return SentEvent(name, "\n".join(data) if data else None, tuple(rest))
