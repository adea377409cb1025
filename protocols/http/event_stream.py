"""Server-sent events (WHATWG HTML, 9.2): a stream of lines taken apart into events, and put together again.

Owns where an event ends and what its lines mean. An event is whole when its blank line has come, whichever of the three
line ends it uses, and is given at once. Bounded by `event_bytes`. Called by the masking of bodies. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from protocols.errors import LimitExceeded

_LINE = re.compile(rb"([^\r\n]*+)(\r\n|\n|\r)")
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class EventLine:
    """One line. field: "" for a comment. prefix: what stands before the value. raw: the line as it came."""

    field: bytes
    value: bytes
    end: bytes
    prefix: bytes

    @property
    def raw(self) -> bytes:
        return self.prefix + self.value + self.end


@dataclass(frozen=True, slots=True)
class Event:
    """lines: the blank line that ends it included, where it came."""

    lines: tuple[EventLine, ...]

    @property
    def data(self) -> bytes | None:
        """Its data lines joined, None where it has none."""
        data = [line.value for line in self.lines if line.field == b"data"]
        return b"\n".join(data) if data else None

    @property
    def raw(self) -> bytes:
        return b"".join(line.raw for line in self.lines)

    def with_data(self, data: bytes) -> bytes:
        """The event with other data, which stands where its first data line stood."""
        return b"".join(self._with_data(data))

    def _with_data(self, data: bytes) -> Iterator[bytes]:
        is_written = False
        for line in self.lines:
            if line.field != b"data":
                yield line.raw
            elif not is_written:
                is_written = True
                for value in data.split(b"\n"):
                    yield (line.prefix if b":" in line.prefix else b"data: ") + value + line.end


class EventReader:
    """Bytes in, events out. `rest` is what has come of an event that is not whole."""

    def __init__(self, *, event_bytes: int) -> None:
        self._event_bytes = event_bytes
        self._buffer = b""
        self._late: list[bytes] = []  # what has come since
        self._late_bytes = 0
        self._lines: list[EventLine] = []
        self._held_bytes = 0  # of the lines
        self._is_started = False
        self._ended_with_cr = (
            False  # the blank line that ended the last event: a line feed may still belong to it
        )

    @property
    def is_between(self) -> bool:
        """Has everything been given that came, up to the end of an event?"""
        return not (self._buffer or self._late_bytes or self._lines or self._ended_with_cr)

    def feed(self, data: bytes) -> Iterator[Event]:
        """Raises LimitExceeded."""
        self._late.append(data)
        self._late_bytes += len(data)
        if (
            not (b"\n" in data or b"\r" in data)
            and self._is_started
            and self._buffer[-1:] not in (b"", b"\r")
        ):
            self._check()  # a line goes on: it is looked at once, when its end has come
            return
        self._join()
        yield from self._events(is_last=False)

    def finish(self) -> Iterator[Event]:
        """An event whose blank line did not come, last of all."""
        self._join()
        yield from self._events(is_last=True)
        if self._buffer:
            self._lines.append(_line(self._buffer, b""))
            self._buffer = b""
        if self._lines:
            yield self._taken()

    def _events(self, *, is_last: bool) -> Iterator[Event]:
        if not self._begun(is_last):
            return
        position = 0
        while found := _LINE.match(self._buffer, position):
            text, end = found.groups()
            if self._ended_with_cr and not text and end == b"\n":
                self._ended_with_cr = False  # the second half of CRLF
                yield Event((EventLine(b"", b"", b"\n", b""),))
                position = found.end()
                continue
            self._ended_with_cr = False
            if end == b"\r" and text and found.end() == len(self._buffer) and not is_last:
                break  # a line feed may come
            position = found.end()
            self._lines.append(_line(text, end))
            self._held_bytes += len(text) + len(end)
            if self._held_bytes > self._event_bytes:
                break
            if not text:
                self._ended_with_cr = end == b"\r"
                yield self._taken()
        self._buffer = self._buffer[position:]
        self._check()

    def _join(self) -> None:
        self._buffer = b"".join([self._buffer, *self._late])
        self._late = []
        self._late_bytes = 0

    def _check(self) -> None:
        if len(self._buffer) + self._late_bytes + self._held_bytes > self._event_bytes:
            raise LimitExceeded(f"an event longer than {self._event_bytes} bytes")

    def _begun(self, is_last: bool) -> bool:
        """A byte order mark may stand before the first event."""
        if self._is_started:
            return True
        if not is_last and len(self._buffer) < len(_MARK) and _MARK.startswith(self._buffer):
            return False
        self._is_started = True
        if self._buffer.startswith(_MARK):
            self._lines.append(EventLine(b"", b"", b"", _MARK))
            self._buffer = self._buffer[len(_MARK) :]
        return True

    def _taken(self) -> Event:
        event = Event(tuple(self._lines))
        self._lines = []
        self._held_bytes = 0
        return event


def _line(text: bytes, end: bytes) -> EventLine:
    field, colon, value = text.partition(b":")
    if colon and value.startswith(b" "):
        colon, value = b": ", value[1:]
    return EventLine(field, value, end, field + colon)
