"""Framing after startup: bytes in by `receive`, whole messages out.

Owns: length and type checks, the incomplete rest. Must never: look inside a message (that is `messages`,
`rows` and `copy`), hold more than its limit, or go on after a fault: a codec that raised raises the same
again, because the next message boundary is unknown. Called by the relay for each read.

A message is a type byte and a big-endian length that counts itself (PostgreSQL documentation, "Messaging
Overview").
"""

from __future__ import annotations

import struct

import msgspec

from protocols.buffer import ReceiveBuffer
from protocols.errors import LimitExceeded, ProtocolError, RemoteProtocolError
from protocols.postgres.message_types import BACKEND_TYPES, FRONTEND_TYPES, ROW_TYPES, Backend

HEADER_BYTES = 5
MAX_LENGTH = 0x7FFFFFFF  # Int32 is signed; PostgreSQL itself stays below 1 GiB

_header = struct.Struct(">BI").unpack_from


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One whole message. `raw` is header and body as received; decoders read it in place."""

    type: int
    raw: bytes

    @property
    def body(self) -> bytes:
        return self.raw[HEADER_BYTES:]


class RowRun(msgspec.Struct, frozen=True, gc=False):
    """`count` whole consecutive DataRow or CopyData messages (`type`), as received, not taken apart."""

    type: int
    raw: bytes
    count: int


class RowPart(msgspec.Struct, frozen=True, gc=False):
    """A piece of one DataRow or CopyData message too large to be held. `first` has the header; `last` ends
    it.
    """

    type: int
    raw: bytes
    first: bool
    last: bool


def frame(type_byte: int, body: bytes) -> bytes:
    """The message's bytes."""
    return struct.pack(">BI", type_byte, len(body) + 4) + body


class FrontendCodec:
    """Messages from a client. `max_message_bytes` caps a message's length field."""

    def __init__(self, max_message_bytes: int) -> None:
        self._max_length = min(max_message_bytes, MAX_LENGTH)
        self._buffer = ReceiveBuffer(self._max_length + 1)
        self._fault: ProtocolError | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an incomplete message; not 0 at the end of the stream means that it was torn."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[Frame]:
        """The messages that `data` completes. Raises RemoteProtocolError, LimitExceeded."""
        if self._fault is not None:
            raise self._fault
        try:
            return self._split(self._buffer.join(data))
        except ProtocolError as fault:
            self._fault = fault
            raise

    def _split(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        position = 0
        end = len(data)
        last_header = end - HEADER_BYTES
        while position <= last_header:
            kind, length = _header(data, position)
            if kind not in FRONTEND_TYPES:
                raise _unknown_type(kind)
            if not 4 <= length <= self._max_length:
                raise _bad_length(kind, length, self._max_length)
            stop = position + 1 + length
            if stop > end:
                self._buffer.keep(data[position:], length + 1)
                return frames
            frames.append(Frame(kind, data[position:stop]))
            position = stop
        if position < end:
            # An unknown type is an error at its first byte: do not wait for four more.
            if data[position] not in FRONTEND_TYPES:
                raise _unknown_type(data[position])
            self._buffer.keep(data[position:], HEADER_BYTES)
        return frames


class BackendCodec:
    """Messages from a server.

    `max_message_bytes` caps a message's length field, except for rows (DataRow, CopyData) while `whole_rows`
    is off: those that are longer than `stream_over` and incomplete go on in parts, so that a row of any size
    passes in flat memory. The gate sets `whole_rows` while a mask applies; rows are then capped like the
    rest. A row is only passed in parts from the start of a `receive`, when the caller has seen everything
    before it and had the chance to set the flag.
    """

    def __init__(self, max_message_bytes: int, stream_over: int = 65536) -> None:
        self.whole_rows = False
        self._max_length = min(max_message_bytes, MAX_LENGTH)
        self._stream_over = stream_over
        self._buffer = ReceiveBuffer(max(self._max_length + 1, stream_over + 1))
        self._part_type = 0
        self._part_left_bytes = 0
        self._fault: ProtocolError | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an incomplete message; not 0 at the end of the stream means that it was torn."""
        return len(self._buffer)

    @property
    def is_inside_row(self) -> bool:
        """Has a row been passed in parts and not ended yet? Nothing else may be put into the stream then."""
        return self._part_left_bytes > 0

    def receive(self, data: bytes) -> list[Frame | RowRun | RowPart]:
        """The messages and rows that `data` completes. Raises RemoteProtocolError, LimitExceeded."""
        if self._fault is not None:
            raise self._fault
        events: list[Frame | RowRun | RowPart] = []
        try:
            if self._part_left_bytes:
                data = self._continue_part(data, events)
            self._split(self._buffer.join(data), events)
        except ProtocolError as fault:
            self._fault = fault
            raise
        return events

    def _split(self, data: bytes, events: list[Frame | RowRun | RowPart]) -> None:
        position = 0
        end = len(data)
        while position <= end - HEADER_BYTES:
            kind, length = _header(data, position)
            if kind in ROW_TYPES:
                stop = self._take_rows(data, position, kind, events)
                if stop == position:
                    self._wait_for_row(data, position, kind, length, events)
                    return
                position = stop
                continue
            if kind not in BACKEND_TYPES:
                raise _unknown_type(kind)
            if not 4 <= length <= self._max_length:
                raise _bad_length(kind, length, self._max_length)
            stop = position + 1 + length
            if stop > end:
                self._buffer.keep(data[position:], length + 1)
                return
            events.append(Frame(kind, data[position:stop]))
            position = stop
        if position < end:
            if data[position] not in BACKEND_TYPES:
                raise _unknown_type(data[position])
            self._buffer.keep(data[position:], HEADER_BYTES)

    def _take_rows(self, data: bytes, start: int, kind: int, events: list[Frame | RowRun | RowPart]) -> int:
        """Append the run of whole rows at `start`. Where it ends: at `start` if the first row is incomplete.

        The limit concerns rows that would have to be waited for: those in `data` are here already.
        """
        header = _header
        shortest = 6 if kind == Backend.DATA_ROW else 4  # a DataRow has at least its column count
        end = len(data)
        last_header = end - HEADER_BYTES
        position = start
        count = 0
        while position <= last_header:
            type_byte, length = header(data, position)
            if type_byte != kind:
                break
            if length < shortest:
                raise _bad_length(kind, length, MAX_LENGTH)
            stop = position + 1 + length
            if stop > end:
                longest = self._max_length if self.whole_rows else MAX_LENGTH
                if length > longest:
                    raise _bad_length(kind, length, longest)
                break
            count += 1
            position = stop
        if count:
            events.append(RowRun(kind, data[start:position], count))
        return position

    def _wait_for_row(
        self, data: bytes, position: int, kind: int, length: int, events: list[Frame | RowRun | RowPart]
    ) -> None:
        """Buffer the incomplete row at `position`, or pass it in parts when it is too large for that."""
        rest = data[position:]
        if self.whole_rows or length <= self._stream_over:
            self._buffer.keep(rest, length + 1)
        elif position:
            self._buffer.keep(rest, HEADER_BYTES)  # decide when the caller has seen what came before
        else:
            self._part_type = kind
            self._part_left_bytes = length + 1 - len(rest)
            events.append(RowPart(kind, rest, True, False))

    def _continue_part(self, data: bytes, events: list[Frame | RowRun | RowPart]) -> bytes:
        if not data:
            return data
        piece = data[: self._part_left_bytes]
        self._part_left_bytes -= len(piece)
        events.append(RowPart(self._part_type, piece, False, self._part_left_bytes == 0))
        return data[len(piece) :]


def _unknown_type(kind: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"invalid message type {kind:#04x}")


def _bad_length(kind: int, length: int, longest: int) -> ProtocolError:
    if length > MAX_LENGTH or length <= longest:
        return RemoteProtocolError(f"invalid message length in a message of type {chr(kind)!r}")
    return LimitExceeded(f"message of {length} bytes is longer than the {longest} allowed", "54000")
