"""The bodies of HTTP/1 messages: of a known length, in chunks, until the connection ends (RFC 9112, sections 6 and 7).

Each reads from a buffer at a position, and gives an event or None with the new position. Owns the strictness of
chunks: sizes are plain hexadecimal, lines end in CRLF, extensions are few and well-formed and go no further. Must
never look at what is in a body. Called by the readers of `http1`.
"""

from __future__ import annotations

import re
from typing import Protocol

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.http1_fields import MAX_LENGTH, NOT_IN_HEADS, FieldReader
from protocols.http.messages import END, Data, MessageEnded

_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb"((?:;[!#$%&'*+.^_`|~0-9A-Za-z-]++(?:=(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++|\"[\t !#-\[\]-~]*+\")|(?!))?+|(?!))*+)"
)
_CHUNK_BEGINNING = re.compile(rb"[0-9A-Fa-f]{0,16}(?:(?<=[0-9A-Fa-f]);[\t -~]*+)?\r?")
_SIZE_DIGITS = 16
_BETWEEN, _IN_TRAILERS = -1, -2  # in the place of what is left of a chunk


class ChunkLimits(Protocol):
    @property
    def trailers_bytes(self) -> int: ...
    @property
    def chunk_extension_bytes(self) -> int: ...


class SizedBody:
    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def read(self, buffer: bytes, position: int, closed: bool) -> tuple[Data | MessageEnded | None, int]:
        if not self._left:
            return END, position
        data = buffer[position : position + self._left]
        if not data:
            return None, position
        self._left -= len(data)
        return Data(data), position + len(data)


class UntilClosed:
    __slots__ = ()

    def read(self, buffer: bytes, position: int, closed: bool) -> tuple[Data | MessageEnded | None, int]:
        data = buffer[position:]
        if data:
            return Data(data), len(buffer)
        return (END if closed else None), position


class ChunkedBody:
    """left: of the chunk that is being read. Behind a chunk its CRLF is due."""

    __slots__ = ("_code", "_end", "_extension_bytes", "_fields", "_is_line_end_due", "_left", "_limits")

    def __init__(self, limits: ChunkLimits, fields: FieldReader, code: str) -> None:
        self._limits = limits
        self._fields = fields
        self._code = code
        self._left = _BETWEEN
        self._is_line_end_due = False
        self._extension_bytes = 0
        self._end: MessageEnded | None = None

    def read(self, buffer: bytes, position: int, closed: bool) -> tuple[Data | MessageEnded | None, int]:
        """All chunks that are here are one Data: a peer that sends a byte in each makes no work for those behind."""
        if self._end is not None:
            return self._end, position
        parts: list[bytes] = []
        while True:
            data, position = self._next(buffer, position)
            if not data:
                break
            parts.append(data)
        if not parts:
            return self._end, position
        return Data(parts[0] if len(parts) == 1 else b"".join(parts)), position

    def _next(self, buffer: bytes, position: int) -> tuple[bytes, int]:
        """Of one chunk what is here. Nothing, when more has to come or `_end` has been read."""
        if self._is_line_end_due:
            ending = buffer[position : position + 2]
            if ending != b"\r\n":
                if not b"\r\n".startswith(ending):
                    raise RemoteProtocolError("a chunk that is longer than it says", self._code)
                return b"", position
            self._is_line_end_due = False
            position += 2
        if self._left == _BETWEEN:
            position = self._begin(buffer, position)
        if self._left < 0:
            if self._left == _IN_TRAILERS:
                self._end, position = self._read_end(buffer, position)
            return b"", position
        data = buffer[position : position + self._left]
        self._left -= len(data)
        if not self._left:
            self._left = _BETWEEN
            self._is_line_end_due = True
        return data, position + len(data)

    def _begin(self, buffer: bytes, position: int) -> int:
        """Reads the line before a chunk, if it is whole."""
        end = buffer.find(b"\r\n", position)
        if end < 0:
            rest = buffer[position : position + _SIZE_DIGITS + self._limits.chunk_extension_bytes + 3]
            if not _CHUNK_BEGINNING.fullmatch(rest):
                raise RemoteProtocolError("a chunk size that is not a plain hexadecimal number", self._code)
            self._count_extension(len(rest) - _SIZE_DIGITS - 1, spend=False)
            return position
        match = _CHUNK_LINE.fullmatch(buffer, position, end)
        if match is None:
            raise RemoteProtocolError("a chunk size that is not a plain hexadecimal number", self._code)
        size = int(match[1], 16)
        if size > MAX_LENGTH:
            raise RemoteProtocolError("a chunk of more than 2^63 bytes", self._code)
        if match[2]:
            self._count_extension(len(match[2]), spend=True)
        self._left = size or _IN_TRAILERS
        return end + 2

    def _count_extension(self, length: int, *, spend: bool) -> None:
        if self._extension_bytes + length > self._limits.chunk_extension_bytes:
            limit = self._limits.chunk_extension_bytes
            raise LimitExceeded(f"more than {limit} bytes of chunk extensions", self._code)
        if spend:
            self._extension_bytes += length

    def _read_end(self, buffer: bytes, position: int) -> tuple[MessageEnded | None, int]:
        """Trailers and the empty line, once they are here as a whole."""
        if buffer.startswith(b"\r\n", position):
            return END, position + 2
        end = buffer.find(b"\r\n\r\n", position)
        size = (len(buffer) if end < 0 else end) - position
        if size > self._limits.trailers_bytes:
            code = "431" if self._code == "400" else self._code
            raise LimitExceeded(f"more than {self._limits.trailers_bytes} bytes of trailers", code)
        if end < 0:
            if NOT_IN_HEADS.search(buffer, position):
                raise RemoteProtocolError("trailers with a bare CR or LF, or a control character", self._code)
            return None, position
        return MessageEnded(
            self._fields.trailers(str(buffer[position:end], "latin-1").split("\r\n"))
        ), end + 4
