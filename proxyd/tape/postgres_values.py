"""Rows, parameters and errors of a PostgreSQL tape as lines of text. Pure; used by `postgres`.

Values come in text or in binary. A binary value of a type that is not known is shown in hexadecimal.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from protocols.errors import ProtocolError
from protocols.postgres.codec import RowRun
from protocols.postgres.messages import ErrorFields, FieldDescription
from protocols.postgres.values import TYPE_KINDS, text_from_binary
from proxyd.tape.screen import plain, shortened, table

MAX_VALUE_CHARACTERS: Final = 400
MAX_PARAMETERS: Final = 100
_KEEP_BYTES: Final = 4096
"""Of a value, before it becomes text: enough for everything that is shown."""
_NUMBERS: Final = frozenset({"int2", "int4", "int8", "oid", "float4", "float8", "numeric"})
_u16 = struct.Struct(">H").unpack_from
_i32 = struct.Struct(">i").unpack_from


class Result:
    """Rows of one result, of which the first `max_rows` are kept.

    `fields` is None when no description of them is on the tape. `formats` overrides those of the fields (a
    description of a statement cannot know them): none means text, one means it for all (Bind,
    "result-column format codes").
    """

    def __init__(
        self,
        fields: tuple[FieldDescription, ...] | None,
        formats: tuple[int, ...] | None,
        max_rows: int,
    ) -> None:
        self._fields = fields
        self._formats = formats
        self._max_rows = max_rows
        self._rows: list[list[str | None]] = []
        self._count = 0

    def add(self, run: RowRun) -> None:
        """A run of whole DataRows."""
        self._count += run.count
        position = 0
        while len(self._rows) < self._max_rows and position < len(run.raw):
            (length,) = _i32(run.raw, position + 1)
            self._rows.append(self._read(run.raw[position : position + 1 + length]))
            position += 1 + length

    def skip(self) -> None:
        """A row that is too large to be held."""
        self._count += 1
        if len(self._rows) < self._max_rows:
            self._rows.append(["(a row too large to show)"])

    def lines(self) -> Iterator[str]:
        columns = max((len(row) for row in self._rows), default=0)
        if self._fields is None:
            names = [f"column {number}" for number in range(1, columns + 1)]
            right = [False] * columns
        else:
            names = [field.name for field in self._fields]
            right = [TYPE_KINDS.get(field.type_oid) in _NUMBERS for field in self._fields]
            extra = max(0, columns - len(names))
            names += ["?"] * extra
            right += [False] * extra
        if names:
            yield from table(names, self._rows, right)
        elif self._fields is not None:
            yield "--"
        hidden = self._count - len(self._rows)
        more = f", {hidden} of them not shown" if hidden else ""
        yield f"({self._count} row{'' if self._count == 1 else 's'}{more})"

    def _read(self, row: bytes) -> list[str | None]:
        try:
            (count,) = _u16(row, 5)
            position = 7
            values: list[str | None] = []
            for column in range(count):
                (size,) = _i32(row, position)
                position += 4
                if size < 0:
                    values.append(None)
                    continue
                values.append(self._value(column, row[position : position + size]))
                position += size
        except struct.error:
            return ["(a malformed row)"]
        return values

    def _value(self, column: int, data: bytes) -> str:
        fields = self._fields
        field = fields[column] if fields is not None and column < len(fields) else None
        if self._formats is None:
            binary = field is not None and field.format == 1
        else:
            binary = _format_of(self._formats, column) == 1
        return value_text(data, field.type_oid if field is not None else 0, binary=binary)


def value_text(data: bytes, type_oid: int, *, binary: bool) -> str:
    """A value as text; hexadecimal when its binary form is not known."""
    if not binary:
        return data[:_KEEP_BYTES].decode(errors="surrogateescape")
    try:
        return text_from_binary(type_oid, data)
    except ProtocolError:
        return "\\x" + data[:_KEEP_BYTES].hex()


def parameter_line(
    values: Sequence[bytes | None], formats: tuple[int, ...], type_oids: tuple[int, ...]
) -> str:
    """The parameters of one execution: `-- parameters: $1 = '42', $2 = NULL`."""
    shown = []
    for index, value in enumerate(values[:MAX_PARAMETERS]):
        if value is None:
            shown.append(f"${index + 1} = NULL")
            continue
        type_oid = type_oids[index] if index < len(type_oids) else 0
        text = value_text(value, type_oid, binary=_format_of(formats, index) == 1)
        quoted = shortened(plain(shortened(text, MAX_VALUE_CHARACTERS)), MAX_VALUE_CHARACTERS).replace(
            "'", "''"
        )
        shown.append(f"${index + 1} = '{quoted}'")
    if len(values) > MAX_PARAMETERS:
        shown.append(f"and {len(values) - MAX_PARAMETERS} more")
    return f"-- parameters: {', '.join(shown)}"


def error_lines(fields: ErrorFields) -> Iterator[str]:
    """An error or notice as psql prints it, with its SQLSTATE."""
    severity = fields.get("S") or fields.get("V") or "ERROR"
    code = fields.get("C") or ""
    yield f"{plain(severity)}:  {code and plain(code) + ': '}{_indented(fields.get('M') or '')}"
    for letter, title in (("D", "DETAIL"), ("H", "HINT"), ("W", "CONTEXT")):
        text = fields.get(letter)
        if text:
            yield f"{title}:  {_indented(text)}"


def _indented(text: str) -> str:
    return "\n    ".join(plain(line) for line in shortened(text, 10_000).split("\n"))


def _format_of(formats: tuple[int, ...], index: int) -> int:
    if not formats:
        return 0
    if len(formats) == 1:
        return formats[0]
    return formats[index] if index < len(formats) else 0
