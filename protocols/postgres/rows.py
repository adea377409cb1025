"""DataRows, taken apart only where a mask asks for it.

`RowRewriter` replaces the values of some columns in a run of DataRows and copies everything else as it is, in
slices as long as possible. Every length and count is checked on the way: a row that does not add up is an
error, never passed on. Called by the gate for each `RowRun` under a mask; knows nothing of types or masks.

A DataRow: type byte, Int32 length, Int16 count, then for each column an Int32 length (-1 is NULL) and the
value (PostgreSQL documentation, "Message Formats").
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

import msgspec

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.postgres.message_types import Backend

ColumnRewrite = Callable[[bytes | None], bytes | None]

_row_head = struct.Struct(">BIH").unpack_from
_i32 = struct.Struct(">i").unpack_from
_NULL = b"\xff\xff\xff\xff"
_pack_head = struct.Struct(">BI").pack
_pack_u32 = struct.Struct(">I").pack
_row_head_and_size = struct.Struct(">BIHi").unpack_from
_HEAD_BYTES = 7
_FIRST_VALUE = 11
MAX_REMEMBERED = 4096
MAX_REMEMBERED_BYTES = 256
_DATA_ROW = Backend.DATA_ROW


class Constant(msgspec.Struct, frozen=True, gc=False):
    """A rewrite that does not look: NULL stays NULL, every other value becomes `value`."""

    value: bytes | None

    def __call__(self, value: bytes | None) -> bytes | None:
        return None if value is None else self.value


class RowRewriter:
    """Rewrites the columns (0-based positions) of rows that have exactly `column_count` columns.

    A function gets a value's bytes, or None for NULL, and returns what to put there, always the same for the same
    value. What it raises goes through.
    """

    def __init__(self, columns: Mapping[int, ColumnRewrite], column_count: int) -> None:
        if any(not 0 <= position < column_count for position in columns):
            raise LocalProtocolError("a column to rewrite lies outside the row")
        self._column_count = column_count
        self._plan: list[tuple[range, ColumnRewrite]] = []
        done = 0
        for position in sorted(columns):
            self._plan.append((range(position - done), columns[position]))
            done = position + 1
        self._tail = range(column_count - done)
        self._known: dict[bytes, bytes] = {}
        self._is_remembering = True
        self._rows = 0  # since `_known` was emptied

    def rewrite(self, run: bytes) -> bytes:
        """The run with its columns replaced. Raises RemoteProtocolError when a row is malformed."""
        try:
            if len(self._plan) == 1:
                return self._rewrite_one(run, *self._plan[0])
            return self._rewrite(run)
        except struct.error as fault:
            raise RemoteProtocolError("malformed data row") from fault

    def _rewrite_one(self, run: bytes, skips: range, function: ColumnRewrite) -> bytes:
        """`_rewrite` for one column, the usual case.

        Columns behind the masked one are not looked at: the row's own length says where it ends, and they go on as they
        came. Each row costs one slice in front of the masked value, one new head, and the new value with its length.
        """
        out: list[bytes] = []
        extend = out.extend
        read = _i32
        read_head = _row_head_and_size
        pack = _pack_head
        pack_length = _pack_u32
        known = self._known
        remembers = self._is_remembering
        constant = _packed(function.value) if isinstance(function, Constant) else None
        is_last = not self._tail
        column_count = self._column_count
        more_skips = skips[1:]
        copied = 0  # everything before this position is in `out`
        position = 0
        end = len(run)
        while position < end:
            start = position
            kind, length, count, size = read_head(run, position)
            stop = start + 1 + length
            if kind != _DATA_ROW or count != column_count or stop > end:
                raise _malformed()
            at = position + _FIRST_VALUE
            if skips:
                if size > 0:
                    at += size
                elif size < -1:
                    raise _malformed()
                for _ in more_skips:
                    (size,) = read(run, at)
                    at += 4
                    if size > 0:
                        at += size
                    elif size < -1:
                        raise _malformed()
                (size,) = read(run, at)
                at += 4
            after = at + size if size > 0 else at
            if after > stop or size < -1 or (is_last and after < stop):
                raise _malformed()
            if size < 0:
                new = _packed(function(None))
            elif constant is not None:
                new = constant
            elif remembers:
                value = run[at:after]
                new = known.get(value) or self._work_out(value, function)
            else:
                masked = function(run[at:after])
                new = _NULL if masked is None else pack_length(len(masked)) + masked
            extend(
                (
                    run[copied:start],
                    pack(_DATA_ROW, length + at - 4 - after + len(new)),
                    run[start + 5 : at - 4],
                    new,
                )
            )
            copied = after
            position = stop
        self._rows += len(out) >> 2
        out.append(run[copied:])
        return b"".join(out)

    def _work_out(self, value: bytes, function: ColumnRewrite) -> bytes:
        """What `value` becomes, with its length in front. Where columns repeat themselves it is kept for a while."""
        packed = _packed(function(value))
        known = self._known
        if self._is_remembering and len(value) <= MAX_REMEMBERED_BYTES:
            if len(known) >= MAX_REMEMBERED:
                known.clear()
                self._is_remembering = (
                    self._rows > 2 * MAX_REMEMBERED
                )  # hardly a value came twice: do not go on
                self._rows = 0
            known[value] = packed
        return packed

    def _rewrite(self, run: bytes) -> bytes:
        out: list[bytes] = []
        append = out.append
        read = _i32
        read_head = _row_head
        plan = self._plan
        tail = self._tail
        column_count = self._column_count
        copied = 0  # everything before this position is in `out`
        position = 0
        end = len(run)
        while position < end:
            kind, length, count = read_head(run, position)
            start = position
            stop = start + 1 + length
            if kind != _DATA_ROW or count != column_count or stop > end:
                raise _malformed()
            position = start + _HEAD_BYTES
            growth = 0
            head_index = 0
            for skips, function in plan:
                for _ in skips:
                    (size,) = read(run, position)
                    position += 4
                    if size > 0:
                        position += size
                    elif size < -1:
                        raise _malformed()
                (size,) = read(run, position)
                value_at = position + 4
                if size >= 0:
                    after = value_at + size
                    if after > stop:
                        raise _malformed()
                    old: bytes | None = run[value_at:after]
                elif size == -1:
                    after = value_at
                    old = None
                else:
                    raise _malformed()
                new = function(old)
                if not head_index:
                    append(run[copied:start])
                    append(b"")  # the row's type and length, known when the row is done
                    head_index = len(out) - 1
                    copied = start + 5
                append(run[copied:position])
                if new is None:
                    append(_NULL)
                    growth += value_at - after
                else:
                    append(_pack_u32(len(new)))
                    append(new)
                    growth += len(new) - after + value_at
                position = copied = after
            for _ in tail:
                (size,) = read(run, position)
                position += 4
                if size > 0:
                    position += size
                elif size < -1:
                    raise _malformed()
            if position != stop:
                raise _malformed()
            if head_index:
                out[head_index] = _pack_head(_DATA_ROW, length + growth)
        append(run[copied:])
        return b"".join(out)


def rewrite_rows(run: bytes, columns: Mapping[int, ColumnRewrite], column_count: int) -> bytes:
    """`RowRewriter` for one run; keep a RowRewriter where the same columns are rewritten run after run."""
    return RowRewriter(columns, column_count).rewrite(run)


def split_rows(run: bytes) -> Iterator[list[bytes | None]]:
    """The values of each row of a run of DataRows; None is NULL. Raises RemoteProtocolError."""
    position = 0
    end = len(run)
    try:
        while position < end:
            kind, length, count = _row_head(run, position)
            stop = position + 1 + length
            if kind != _DATA_ROW or stop > end:
                raise _malformed()
            values, position = _values(run, position + _HEAD_BYTES, count)
            if position != stop:
                raise _malformed()
            yield values
    except struct.error as fault:
        raise RemoteProtocolError("malformed data row") from fault


def _values(run: bytes, position: int, count: int) -> tuple[list[bytes | None], int]:
    values: list[bytes | None] = []
    for _ in range(count):
        (size,) = _i32(run, position)
        position += 4
        if size >= 0:
            values.append(run[position : position + size])
            position += size
        elif size == -1:
            values.append(None)
        else:
            raise _malformed()
    return values, position


def _malformed() -> RemoteProtocolError:
    return RemoteProtocolError("malformed data row")


def _packed(value: bytes | None) -> bytes:
    """A value with its length in front, as a row holds it."""
    return _NULL if value is None else _pack_u32(len(value)) + value
