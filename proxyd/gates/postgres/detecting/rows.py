"""Rows of the target through detectors.

Owns `RowDetection`, which knows the columns of one result: a run of DataRows is looked at as a whole first, then row by
row, and only a row in which something may be is taken apart. Columns that a column mask rewrites are left to it. Called
by the replies side of the gate; no I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

from protocols.errors import RemoteProtocolError
from protocols.postgres.message_types import Backend
from protocols.postgres.messages import FieldDescription
from proxyd.gates.postgres.detecting.values import Rewrite, ValueDetection

_row_head = struct.Struct(">BIH").unpack_from
_i32 = struct.Struct(">i").unpack_from
_pack_row_head = struct.Struct(">BIH").pack
_pack_i32 = struct.Struct(">i").pack
_HEAD_BYTES = 7
_NULL = _pack_i32(-1)


class RowDetection:
    """Rewrites the DataRows of one result. skipped: columns that another mask has rewritten already."""

    __slots__ = ("_blind", "_column_count", "_detection", "_has_escapes", "_rewriters", "values")

    def __init__(
        self,
        values: ValueDetection,
        fields: Sequence[FieldDescription],
        formats: Sequence[int],
        skipped: Collection[int] = (),
    ) -> None:
        self.values = values
        self._detection = values.detection
        self._column_count = len(fields)
        columns = [
            (position, field.type_oid, formats[position])
            for position, field in enumerate(fields)
            if position not in skipped
        ]
        self._rewriters: dict[int, Rewrite] = {}
        self._blind: dict[int, Rewrite] = {}
        self._has_escapes = False
        for position, type_oid, format_code in columns:
            rewrite = values.rewriter(type_oid, format_code)
            if rewrite is None:
                continue
            self._rewriters[position] = rewrite
            if values.is_blind(type_oid, format_code):
                self._blind[position] = rewrite
            self._has_escapes = self._has_escapes or values.has_escapes(type_oid)

    def rewrite(self, run: bytes) -> bytes:
        """The run with what was found replaced; the same object for nothing. Raises ProtocolError and VALUE_FAULTS."""
        if not self._rewriters or not (self._blind or self._may_match(run)):
            return run
        try:
            return self._rewrite(run)
        except struct.error as fault:
            raise RemoteProtocolError("malformed data row") from fault

    def _may_match(self, data: bytes) -> bool:
        return (self._has_escapes and b"\\" in data) or self._detection.may_match_inside(data)

    def _rewrite(self, run: bytes) -> bytes:
        out: list[bytes] = []
        copied = position = 0
        end = len(run)
        while position < end:
            kind, length, count = _row_head(run, position)
            stop = position + 1 + length
            if kind != Backend.DATA_ROW or count != self._column_count or stop > end:
                raise RemoteProtocolError("malformed data row")
            rewriters = self._rewriters if self._may_match(run[position:stop]) else self._blind
            if rewriters:
                row = self._row(run, position, stop, rewriters)
                if row is not None:
                    out += (run[copied:position], row)
                    copied = stop
            position = stop
        if not out:
            return run
        out.append(run[copied:])
        return b"".join(out)

    def _row(self, run: bytes, start: int, stop: int, rewriters: dict[int, Rewrite]) -> bytes | None:
        """The row at `start` again, None if nothing was found in it."""
        parts: list[bytes] = []
        is_changed = False
        position = start + _HEAD_BYTES
        for column in range(self._column_count):
            (size,) = _i32(run, position)
            after = position + 4 + max(size, 0)
            if size < -1 or after > stop:
                raise RemoteProtocolError("malformed data row")
            rewrite = rewriters.get(column)
            if rewrite is not None and size > 0:
                old = run[position + 4 : after]
                new = rewrite(old)
                if new is not old:
                    is_changed = True
                    parts.append(_NULL if new is None else _pack_i32(len(new)) + new)
                    position = after
                    continue
            parts.append(run[position:after])
            position = after
        if position != stop:
            raise RemoteProtocolError("malformed data row")
        if not is_changed:
            return None
        body = b"".join(parts)
        return _pack_row_head(Backend.DATA_ROW, len(body) + 6, self._column_count) + body
