"""COPY TO STDOUT data: rows found in the CopyData payloads and the values of some columns replaced.

One `CopyRewriter` serves one COPY. Text and csv work on lines, binary on tuples. Rows may share a payload or
be split over several (the server sends one row a payload; the protocol promises nothing), so an incomplete
row waits in a bounded buffer. What does not parse exactly as the server writes it is a RemoteProtocolError,
and the caller refuses.

Two things would tell a masked value without showing it, and are closed here. A text NULL string that a value
could also be written as makes rows with that value look unmasked: refused. Whether the server quoted a csv
value tells what is in it: quotes are decided anew from the new value and the options, never taken from the
old.

Source: PostgreSQL documentation, "COPY", "File Formats". Delimiter, quote and escape are single bytes there;
the client encoding is pinned to UTF-8, so none of them can be part of another character.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError

ColumnRewrite = Callable[[bytes | None], bytes | None]

BINARY_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
MAX_ROW_BYTES = 64 << 20
MAX_ROW_PIECES = 1024  # each piece searches the row again from its start

_TEXT_DELIMITERS_REFUSED = b"\\.\r\nabcdefghijklmnopqrstuvwxyz0123456789"

_ESCAPES = {
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}
_ESCAPED = {value: b"\\" + letter for letter, value in _ESCAPES.items()} | {b"\\": b"\\\\"}
_escape_sequence = re.compile(rb"\\(.?)", re.DOTALL)
# What the server writes for some value, character by character; the NULL string must not look like it.
_writable_text = re.compile(rb"(?:[^\\\x08\x0c\n\r\t\x0b]|\\[bfnrtv\\])*", re.DOTALL)


class CopyOptions(msgspec.Struct, frozen=True, gc=False):
    """The options of the COPY statement, as the server understood them; None is the format's default.

    format: "text", "csv" or "binary". delimiter, quote, escape: one byte. force_quote: column positions, or
    "*". header: True for HEADER.
    """

    format: Literal["text", "csv", "binary"] = "text"
    delimiter: bytes | None = None
    null: bytes | None = None
    header: bool = False
    quote: bytes = b'"'
    escape: bytes | None = None
    force_quote: frozenset[int] | Literal["*"] = frozenset()


class CopyRewriter:
    """Rewrites the columns (0-based positions) of a COPY of exactly `column_count` columns.

    A function gets a value's bytes (escapes and quotes taken off), or None for NULL, and returns what to put
    there. Raises LocalProtocolError when the options do not fit together or would let a masked value be told.
    """

    def __init__(
        self,
        options: CopyOptions,
        columns: Mapping[int, ColumnRewrite],
        column_count: int,
        max_row_bytes: int = MAX_ROW_BYTES,
    ) -> None:
        if any(not 0 <= position < column_count for position in columns):
            raise LocalProtocolError("a column to rewrite lies outside the row")
        self._max_row_bytes = max_row_bytes
        self._held = b""
        self._pieces = 0
        self._format: _LineFormat | _BinaryFormat
        match options.format:
            case "text":
                self._format = _TextFormat(options, columns, column_count)
            case "csv":
                self._format = _CsvFormat(options, columns, column_count)
            case "binary":
                self._format = _BinaryFormat(options, columns, column_count)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an incomplete row."""
        return len(self._held)

    def feed(self, payload: bytes) -> bytes:
        """The rewritten rows that `payload` completes: the payload of the CopyData to send instead, b"" for
        none.

        Raises RemoteProtocolError for what does not parse, LimitExceeded for a row that is too long.
        """
        data = self._held + payload if self._held else payload
        out: list[bytes] = []
        used = self._format.rewrite(data, out)
        rest = len(data) - used
        self._pieces = 0 if used or not rest else self._pieces + 1
        if rest > self._max_row_bytes or self._pieces > MAX_ROW_PIECES:
            raise LimitExceeded("COPY row is longer than allowed or comes in too many pieces", "54000")
        self._held = data[used:]
        return b"".join(out)

    def finish(self) -> None:
        """CopyDone has come. Raises RemoteProtocolError when it cuts off a row or the binary trailer."""
        if self._held or not self._format.is_complete:
            raise RemoteProtocolError("COPY data ends within a row")


class _LineFormat:
    """What text and csv have in common. A subclass finds a row's raw fields and decodes and encodes one
    value.
    """

    is_complete = True

    def __init__(self, options: CopyOptions, columns: Mapping[int, ColumnRewrite], column_count: int) -> None:
        self._columns = sorted(columns.items())
        self._column_count = column_count
        self._header_due = options.header
        self._delimiter = b""
        self._null = b""

    def rewrite(self, data: bytes, out: list[bytes]) -> int:
        """Append the whole rows of `data`, rewritten, to `out`. How much of `data` they took."""
        position = 0
        while found := self._next_row(data, position):
            fields, stop = found
            if data[position:stop] == b"\\.":
                raise RemoteProtocolError("end-of-data marker within COPY data")
            if len(fields) != self._column_count and (self._column_count or stop > position):
                raise RemoteProtocolError("COPY row has the wrong number of columns")
            if self._header_due or not self._columns:
                self._header_due = False
                out.append(data[position : stop + 1])
            else:
                out.append(self._row(fields))
            position = stop + 1
        return position

    def _row(self, fields: list[bytes]) -> bytes:
        for position, function in self._columns:
            new = function(self._decode(fields[position]))
            fields[position] = self._null if new is None else self._encode(new, position)
        return self._delimiter.join(fields) + b"\n"

    def _next_row(self, data: bytes, start: int) -> tuple[list[bytes], int] | None:
        """Raw fields of the row at `start` and where its newline is; None while it is incomplete."""
        raise NotImplementedError

    def _decode(self, field: bytes) -> bytes | None:
        raise NotImplementedError

    def _encode(self, value: bytes, position: int) -> bytes:
        raise NotImplementedError


class _TextFormat(_LineFormat):
    """Backslash escapes; a newline, carriage return or delimiter inside a value is always escaped."""

    def __init__(self, options: CopyOptions, columns: Mapping[int, ColumnRewrite], column_count: int) -> None:
        super().__init__(options, columns, column_count)
        self._delimiter = b"\t" if options.delimiter is None else options.delimiter
        self._null = b"\\N" if options.null is None else options.null
        if len(self._delimiter) != 1 or self._delimiter in _TEXT_DELIMITERS_REFUSED:
            raise LocalProtocolError("COPY delimiter is not one that the server accepts")
        if any(part in self._null for part in (self._delimiter, b"\n", b"\r")):
            raise LocalProtocolError("COPY NULL string is not one that the server accepts")
        if _ends_in_escape(self._null):
            raise LocalProtocolError("COPY NULL string hides the delimiter behind it")
        if columns and _writable_text.fullmatch(self._null):
            raise LocalProtocolError(
                "a masked column can be copied as text only with a NULL string that no value is written as, "
                "such as the default \\N: leave the NULL option out or use the csv format"
            )
        self._escaped = {self._delimiter: b"\\" + self._delimiter} | _ESCAPED
        self._special = re.compile(b"[" + re.escape(b"".join(self._escaped)) + b"]")

    def _next_row(self, data: bytes, start: int) -> tuple[list[bytes], int] | None:
        stop = data.find(b"\n", start)
        if stop < 0:
            return None
        line = data[start:stop]
        delimiter = self._delimiter
        fields = line.split(delimiter)
        if b"\\" + delimiter in line or line.endswith(b"\\"):
            fields = self._rejoined(fields)
        return fields, stop

    def _rejoined(self, pieces: list[bytes]) -> list[bytes]:
        """Put together what an escaped delimiter parted: pieces that end in an odd number of backslashes."""
        fields: list[bytes] = []
        parted: list[bytes] = []
        for piece in pieces:
            parted.append(piece)
            if not _ends_in_escape(piece):
                fields.append(self._delimiter.join(parted))
                parted = []
        if parted:
            raise RemoteProtocolError("COPY row ends within an escape")
        return fields

    def _decode(self, field: bytes) -> bytes | None:
        if field == self._null:
            return None
        if b"\\" not in field:
            return field
        return _escape_sequence.sub(self._unescape, field)

    def _unescape(self, match: re.Match[bytes]) -> bytes:
        letter = match[1]
        if letter in (b"\\", self._delimiter):
            return letter
        if letter not in _ESCAPES:
            raise RemoteProtocolError("unknown escape in COPY data")
        return _ESCAPES[letter]

    def _encode(self, value: bytes, position: int) -> bytes:
        return self._special.sub(lambda match: self._escaped[match[0]], value)


def _ends_in_escape(text: bytes) -> bool:
    """Does an odd number of backslashes end it, so that the next character is escaped?"""
    return (len(text) - len(text.rstrip(b"\\"))) % 2 == 1


class _CsvFormat(_LineFormat):
    """A field is quoted whole or not at all; inside quotes, quote and escape are preceded by escape."""

    def __init__(self, options: CopyOptions, columns: Mapping[int, ColumnRewrite], column_count: int) -> None:
        super().__init__(options, columns, column_count)
        self._delimiter = b"," if options.delimiter is None else options.delimiter
        self._null = options.null or b""
        self._quote = options.quote
        self._escape = options.quote if options.escape is None else options.escape
        single = (self._delimiter, self._quote, self._escape)
        if any(len(part) != 1 or part in b"\r\n\0" for part in single) or self._quote == self._delimiter:
            raise LocalProtocolError("COPY delimiter, quote or escape is not one that the server accepts")
        if any(part in self._null for part in (self._delimiter, self._quote, b"\r", b"\n")):
            raise LocalProtocolError("COPY NULL string is not one that the server accepts")
        self._force_quote = options.force_quote
        quote, escape, delimiter = (re.escape(part) for part in (self._quote, self._escape, self._delimiter))
        # Possessive loops: a field that does not match fails at once, whatever it holds.
        self._bare = re.compile(b"[^%s%s\r\n]*+" % (quote, delimiter))
        self._opened = re.compile(
            b"%s(?:[^%s%s]++|%s[%s%s])*+" % (quote, quote, escape, escape, quote, escape)
        )
        self._escaped = re.compile(b"%s([%s%s])" % (escape, quote, escape))
        self._to_escape = re.compile(b"[%s%s]" % (quote, escape))
        self._to_quote = re.compile(b"[%s%s\r\n]" % (quote, delimiter))

    def _next_row(self, data: bytes, start: int) -> tuple[list[bytes], int] | None:
        stop = data.find(b"\n", start)
        if stop >= 0 and data.find(self._quote, start, stop) < 0 and data.find(b"\r", start, stop) < 0:
            return data[start:stop].split(self._delimiter), stop
        fields: list[bytes] = []
        position = start
        while True:
            stop = self._field_end(data, position)
            if stop >= len(data):
                return None
            fields.append(data[position:stop])
            match data[stop : stop + 1]:
                case b"\n":
                    return fields, stop
                case self._delimiter:
                    position = stop + 1
                case _:
                    raise RemoteProtocolError("malformed csv field in COPY data")

    def _field_end(self, data: bytes, start: int) -> int:
        """Where the field at `start` ends; the end of `data` or beyond while that is not to be known."""
        opened = self._opened.match(data, start)
        if opened is None:
            bare = self._bare.match(data, start)
            return bare.end() if bare else start  # it matches always, the empty field too
        stop = opened.end()
        if data[stop : stop + 1] == self._quote:
            # The last byte might yet turn out to be the first half of an escaped quote.
            return stop + 1
        if stop + 1 >= len(data):
            return len(data)
        raise RemoteProtocolError("malformed csv field in COPY data")

    def _decode(self, field: bytes) -> bytes | None:
        if field == self._null:
            return None
        if field[:1] != self._quote:
            return field
        return self._escaped.sub(rb"\1", field[1:-1])

    def _encode(self, value: bytes, position: int) -> bytes:
        forced = self._force_quote == "*" or position in self._force_quote
        is_marker = self._column_count == 1 and value == b"\\."
        if not forced and not is_marker and value != self._null and not self._to_quote.search(value):
            return value
        escaped = self._to_escape.sub(lambda match: self._escape + match[0], value)
        return self._quote + escaped + self._quote


class _BinaryFormat:
    """Signature, flags, header extension; tuples of Int16 count and length-prefixed fields; Int16 -1 at the
    end.
    """

    def __init__(self, options: CopyOptions, columns: Mapping[int, ColumnRewrite], column_count: int) -> None:
        self._columns = columns
        self._column_count = column_count
        self._header_due = True
        self.is_complete = False

    def rewrite(self, data: bytes, out: list[bytes]) -> int:
        """Append what is whole in `data`, rewritten, to `out`. How much of `data` that took."""
        position = self._header(data, out) if self._header_due else 0
        while not self._header_due and len(data) - position >= 2:
            if self.is_complete:
                break
            count = int.from_bytes(data[position : position + 2], signed=True)
            if count == -1:
                self.is_complete = True
                out.append(data[position : position + 2])
                position += 2
                break
            if count != self._column_count:
                raise RemoteProtocolError("COPY row has the wrong number of columns")
            stop = self._tuple(data, position, out)
            if stop < 0:
                break
            position = stop
        if self.is_complete and position < len(data):
            raise RemoteProtocolError("bytes behind the end of COPY data")
        return position

    def _header(self, data: bytes, out: list[bytes]) -> int:
        signature = data[: len(BINARY_SIGNATURE)]
        if signature != BINARY_SIGNATURE[: len(signature)]:
            raise RemoteProtocolError("COPY data has no binary signature")
        if len(data) < 19:
            return 0
        flags, extension = struct.unpack_from(">Ii", data, len(BINARY_SIGNATURE))
        # Flags say how to read a tuple (bit 16: with OIDs, gone since PostgreSQL 12): none is known here.
        if flags or extension < 0:
            raise RemoteProtocolError("COPY binary header has unknown flags")
        if len(data) < 19 + extension:
            return 0
        self._header_due = False
        out.append(data[: 19 + extension])
        return 19 + int(extension)

    def _tuple(self, data: bytes, start: int, out: list[bytes]) -> int:
        """Append the tuple at `start`; where it ends, or -1 while it is incomplete."""
        end = len(data)
        position = start + 2
        spans: list[tuple[int, int, int]] = []  # column, where its length is, where it ends
        for column in range(self._column_count):
            if end - position < 4:
                return -1
            size = int.from_bytes(data[position : position + 4], signed=True)
            if size < -1:
                raise RemoteProtocolError("negative length in COPY data")
            stop = position + 4 + max(size, 0)
            if stop > end:
                return -1
            if column in self._columns:
                spans.append((column, position, stop if size >= 0 else -1))
            position = stop
        copied = start
        for column, at, stop in spans:
            new = self._columns[column](None if stop < 0 else data[at + 4 : stop])
            out.append(data[copied:at])
            out.append(b"\xff\xff\xff\xff" if new is None else len(new).to_bytes(4) + new)
            copied = at + 4 if stop < 0 else stop
        out.append(data[copied:position])
        return position
