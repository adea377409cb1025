"""Tables in text (CSV, RFC 4180, and tab separated values) taken apart into records as they stream.

Owns quoting. Strict, so that there is one reading: a quote inside a field that is not quoted, or anything between a
closing quote and the next separator, is refused. A record is held until its end has come, up to `held_bytes`. Called by
the masking of bodies. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from protocols.errors import LimitExceeded, RemoteProtocolError

_LONG_RECORD = 1 << 16
_NEEDS_QUOTES = re.compile(r'["\r\n,;\t|]')


@dataclass(frozen=True, slots=True)
class Field:
    """raw: as it came. text: what it says."""

    raw: str
    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """fields, and the line end ("" at the end of a table that has none)."""

    fields: tuple[Field, ...]
    end: str


def written(text: str) -> str:
    """A field that says `text`."""
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


class RecordReader:
    """Text in, records out. Nothing is lost: raw fields, separators and ends together are what was fed.

    is_strict: refuse a record whose quotes could be read in two ways; else its fields are what is between separators.
    """

    def __init__(self, separator: str, *, held_bytes: int, is_strict: bool = True) -> None:
        self._is_strict = is_strict
        self._held_bytes = held_bytes
        self._buffer = ""
        self._next_look = 0
        mark = re.escape(separator)
        self._separator = separator
        # A record with its end. Possessive: what does not match does not go back.
        self._record = re.compile(r'((?:"(?:[^"]|"")*+"|[^"\r\n]*+)*+)(\r\n|\n|\r)')
        self._field = re.compile(rf'(?:"((?:[^"]|"")*+)"|([^"\r\n{mark}]*+))({mark}|$)')

    @property
    def has_held(self) -> bool:
        """Has the end of a record not come?"""
        return bool(self._buffer)

    def feed(self, text: str) -> Iterator[Record]:
        """Raises RemoteProtocolError."""
        self._buffer += text
        # A record that is long already is looked at again when it has grown by a part, not for every piece.
        if len(self._buffer) >= self._next_look:
            yield from self._records(is_last=False)
            long = len(self._buffer)
            self._next_look = long + long // 4 if long > _LONG_RECORD else 0
        if len(self._buffer) > self._held_bytes:
            raise LimitExceeded(f"a record longer than {self._held_bytes} bytes")

    def finish(self) -> Iterator[Record]:
        yield from self._records(is_last=True)
        if self._buffer:
            rest, self._buffer = self._buffer, ""
            yield self._taken(rest, "")

    def _records(self, *, is_last: bool) -> Iterator[Record]:
        position = 0
        while found := self._record.match(self._buffer, position):
            if found[2] == "\r" and found.end() == len(self._buffer) and not is_last:
                break  # a line feed may come
            position = found.end()
            yield self._taken(found[1], found[2])
        self._buffer = self._buffer[position:]

    def _taken(self, text: str, end: str) -> Record:
        fields: list[Field] = []
        if '"' not in text:
            return Record(tuple(Field(raw, raw) for raw in text.split(self._separator)), end)
        position = 0
        while True:
            found = self._field.match(text, position)
            if found is None and not self._is_strict:
                return Record(tuple(Field(raw, raw) for raw in text.split(self._separator)), end)
            if found is None:
                raise RemoteProtocolError("a table with a quote where none can be")
            quoted = found[1]
            raw = text[position : found.start(3)]
            fields.append(Field(raw, raw if quoted is None else quoted.replace('""', '"')))
            position = found.end()
            if not found[3]:
                return Record(tuple(fields), end)
