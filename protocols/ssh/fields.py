"""The data types of RFC 4251, section 5, in both directions, each with the limit its caller names.

Owns: lengths, ends and encodings. Must never: accept a field that points outside its message, or leave trailing
bytes unnoticed (`end`). Used by the codecs of this package only.

Paths and commands are bytes to the peers. Where they become str it is by UTF-8 with surrogateescape, so that
every byte sequence has a text and goes back unchanged.
"""

from __future__ import annotations

import struct

from protocols.errors import InvalidEncoding, LimitExceeded, LocalProtocolError, RemoteProtocolError

MAX_NAME_BYTES = 64  # RFC 4250, section 4.6.1
MAX_UINT32 = 0xFFFFFFFF

_u32 = struct.Struct(">I").unpack_from
_u64 = struct.Struct(">Q").unpack_from
_pack_u32 = struct.Struct(">I").pack
_pack_u64 = struct.Struct(">Q").pack


class Reader:
    """Takes one field after the other out of `data`, from `position`. `what` names the message in errors."""

    __slots__ = ("_data", "_end", "_position", "_what")

    def __init__(self, data: bytes, what: str, position: int = 0) -> None:
        self._data = data
        self._end = len(data)
        self._position = position
        self._what = what

    @property
    def is_at_end(self) -> bool:
        return self._position >= self._end

    def uint8(self) -> int:
        return self._data[self._advance(1)]

    def boolean(self) -> bool:
        """Every value but 0 is true (RFC 4251, section 5)."""
        return self._data[self._advance(1)] != 0

    def uint32(self) -> int:
        value: int = _u32(self._data, self._advance(4))[0]
        return value

    def uint64(self) -> int:
        value: int = _u64(self._data, self._advance(8))[0]
        return value

    def string(self, max_bytes: int) -> bytes:
        length = self.uint32()
        if length > self._end - self._position:
            raise self._short()
        if length > max_bytes:
            raise LimitExceeded(
                f"{self._what} has a field of {length} bytes, longer than the {max_bytes} allowed"
            )
        start = self._advance(length)
        return self._data[start : start + length]

    def name(self, max_bytes: int = MAX_NAME_BYTES) -> str:
        """Printable ASCII without blanks, never empty (RFC 4250, section 4.6.1)."""
        value = self.word(max_bytes)
        if not value:
            raise RemoteProtocolError(f"{self._what} has an empty name")
        return value

    def word(self, max_bytes: int) -> str:
        """Like `name`, and may be empty."""
        value = self.string(max_bytes)
        if not value.isascii() or not all(0x21 <= byte <= 0x7E for byte in value):
            raise InvalidEncoding(f"{self._what} has a name that is not printable ASCII")
        return value.decode("ascii")

    def text(self, max_bytes: int) -> str:
        """Words for a human: what is not UTF-8 is replaced, for nothing depends on it."""
        return self.string(max_bytes).decode(errors="replace")

    def path(self, max_bytes: int) -> str:
        """A path without NUL, as text that goes back to the same bytes."""
        value = self.string(max_bytes)
        if b"\0" in value:
            raise InvalidEncoding(f"{self._what} has a path with a NUL in it")
        return value.decode(errors="surrogateescape")

    def rest(self) -> bytes:
        start, self._position = self._position, self._end
        return self._data[start:]

    def end(self) -> None:
        if self._position != self._end:
            raise RemoteProtocolError(f"{self._what} has {self._end - self._position} bytes too many")

    def _advance(self, count: int) -> int:
        start = self._position
        if count > self._end - start:
            raise self._short()
        self._position = start + count
        return start

    def _short(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self._what} is shorter than its fields")


def uint32(value: int) -> bytes:
    if not 0 <= value <= MAX_UINT32:
        raise LocalProtocolError(f"{value} does not fit into 32 bits")
    return _pack_u32(value)


def uint64(value: int) -> bytes:
    if not 0 <= value <= 0xFFFFFFFFFFFFFFFF:
        raise LocalProtocolError(f"{value} does not fit into 64 bits")
    return _pack_u64(value)


def boolean(value: bool) -> bytes:
    return b"\1" if value else b"\0"


def string(value: bytes) -> bytes:
    return _pack_u32(len(value)) + value


def name(value: str) -> bytes:
    if not value.isascii():
        raise LocalProtocolError("a name must be ASCII")
    return string(value.encode("ascii"))


def text(value: str) -> bytes:
    return string(value.encode(errors="replace"))


def path(value: str) -> bytes:
    return string(value.encode(errors="surrogateescape"))
