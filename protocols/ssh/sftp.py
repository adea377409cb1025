"""Framing of sftp version 3 (draft-ietf-secsh-filexfer-02): a stream in by `feed`, one event after the other by `next`.

Owns: lengths, the incomplete rest, and the two kinds that carry file content (WRITE from a client, DATA from a
server): those are not held until they are whole, but come as a head and then their payload as it arrives, uncopied.
Must never: look inside other packets (that is `sftp_requests` and `sftp_replies`), hold more than one packet
unless its caller stops taking events, or go on after a fault.

The caller pulls: a gate that has to wait before the next request just stops calling `next`, and what is fed
meanwhile stays here in order (`buffered_bytes`).
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from protocols.errors import LimitExceeded, ProtocolError, RemoteProtocolError

VERSION = 3
MAX_PACKET_BYTES = 256 * 1024 + 1024  # OpenSSH's limit of 256 KiB, for the payload alone
MAX_DATA_BYTES = 256 * 1024
MAX_HANDLE_BYTES = 256  # draft, section 6.2

_head = struct.Struct(">IB").unpack_from
_u32 = struct.Struct(">I").unpack_from
_two_u32 = struct.Struct(">II").unpack_from
_offset_size = struct.Struct(">QI").unpack_from
_pack_head = struct.Struct(">IBI").pack
_pack_write_tail = struct.Struct(">QI").pack


class Kind(IntEnum):
    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Packet(msgspec.Struct, frozen=True, gc=False):
    """A whole packet. `body` is what follows the kind: for all but INIT and VERSION, the request's id comes first."""

    kind: int
    body: bytes


class WriteHead(msgspec.Struct, frozen=True, gc=False):
    """A WRITE of `size` bytes begins; its Payload events follow."""

    id: int
    handle: bytes
    offset: int
    size: int


class DataHead(msgspec.Struct, frozen=True, gc=False):
    """A DATA of `size` bytes begins; its Payload events follow."""

    id: int
    size: int


class Payload(msgspec.Struct, frozen=True):
    """The next bytes of the WRITE or DATA that has begun; the last one has `is_last`, and may be empty."""

    data: memoryview
    is_last: bool


Event = Packet | WriteHead | DataHead | Payload


class PacketReader:
    """One direction's stream. `payload_kind`: WRITE for what a client sends, DATA for what a server sends."""

    __slots__ = ("_data", "_fault", "_held", "_is_inside", "_left_bytes", "_payload_kind", "_position")

    def __init__(self, payload_kind: Kind) -> None:
        self._payload_kind = payload_kind
        self._data = b""
        self._position = 0
        self._held = bytearray()  # what came while there was a rest of `_data`
        self._is_inside = False
        self._left_bytes = 0
        self._fault: ProtocolError | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes that were fed and not given out. Not 0 at the end of the stream: a packet was torn."""
        return len(self._data) - self._position + len(self._held)

    @property
    def is_inside_payload(self) -> bool:
        return self._is_inside

    def feed(self, data: bytes) -> None:
        if self._position == len(self._data) and not self._held:
            self._data = data
            self._position = 0
        else:
            self._held += data

    def next(self) -> Event | None:
        """The next event; None when more bytes are needed. Raises RemoteProtocolError, LimitExceeded."""
        if self._fault is not None:
            raise self._fault
        try:
            return self._payload() if self._is_inside else self._packet()
        except ProtocolError as fault:
            self._fault = fault
            raise

    def _packet(self) -> Event | None:
        if not self._has(5):
            return None
        length, kind = _head(self._data, self._position)
        if length == 0:
            raise RemoteProtocolError("an sftp packet of no bytes")
        if length > MAX_PACKET_BYTES:
            raise LimitExceeded(
                f"an sftp packet of {length} bytes is longer than the {MAX_PACKET_BYTES} allowed"
            )
        if kind == self._payload_kind:
            return self._write_head(length) if kind == Kind.WRITE else self._data_head(length)
        if not self._has(4 + length):
            return None
        start = self._position + 5
        self._position = stop = self._position + 4 + length
        return Packet(kind, self._data[start:stop])

    def _write_head(self, length: int) -> WriteHead | None:
        if not self._has(13):
            return None
        identity, handle_bytes = _two_u32(self._data, self._position + 5)
        if handle_bytes > MAX_HANDLE_BYTES:
            raise LimitExceeded(
                f"a handle of {handle_bytes} bytes is longer than the {MAX_HANDLE_BYTES} allowed"
            )
        if not self._has(25 + handle_bytes):
            return None
        start = self._position + 13
        stop = start + handle_bytes
        offset, size = _offset_size(self._data, stop)
        if length != 21 + handle_bytes + size:
            raise RemoteProtocolError("a WRITE has a length that is not its data's")
        handle = self._data[start:stop]
        self._begin(stop + 12, size)
        return WriteHead(identity, handle, offset, size)

    def _data_head(self, length: int) -> DataHead | None:
        if not self._has(13):
            return None
        identity, size = _two_u32(self._data, self._position + 5)
        if length != 9 + size:
            raise RemoteProtocolError("a DATA has a length that is not its data's")
        self._begin(self._position + 13, size)
        return DataHead(identity, size)

    def _begin(self, position: int, size: int) -> None:
        self._position = position
        self._left_bytes = size
        self._is_inside = True

    def _payload(self) -> Payload | None:
        if self._left_bytes and not self._has(1):
            return None
        start = self._position
        self._position = stop = min(start + self._left_bytes, len(self._data))
        self._left_bytes -= stop - start
        self._is_inside = self._left_bytes > 0
        return Payload(memoryview(self._data)[start:stop], not self._is_inside)

    def _has(self, count: int) -> bool:
        """Are `count` bytes here? If so they are made to lie in `_data` in one piece."""
        here = len(self._data) - self._position
        if here >= count:
            return True
        if here + len(self._held) >= count:
            self._data = b"".join((memoryview(self._data)[self._position :], self._held))
            self._position = 0
            self._held = bytearray()
            return True
        if not here and not self._held:
            self._data = b""  # the chunk that was used up
            self._position = 0
        return False


def packet(kind: int, identity: int, rest: bytes = b"") -> bytes:
    """A packet that carries an id. `rest` is what follows it."""
    return _pack_head(len(rest) + 5, kind, identity) + rest


def init_packet(kind: int, version: int, rest: bytes = b"") -> bytes:
    """INIT or VERSION: they have the version where the others have the id."""
    return packet(kind, version, rest)


def write_head(identity: int, handle: bytes, offset: int, size: int) -> bytes:
    """A WRITE up to its data."""
    head = _pack_head(21 + len(handle) + size, Kind.WRITE, identity)
    return b"".join((head, len(handle).to_bytes(4), handle, _pack_write_tail(offset, size)))


def data_head(identity: int, size: int) -> bytes:
    """A DATA up to its data."""
    return _pack_head(9 + size, Kind.DATA, identity) + size.to_bytes(4)


def split_id(found: Packet) -> int:
    """The id of a request or reply. What follows it is `body[4:]`."""
    if len(found.body) < 4:
        raise RemoteProtocolError("an sftp packet is too short for its id")
    identity: int = _u32(found.body)[0]
    return identity
