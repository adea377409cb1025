"""What reading requests and reading responses of HTTP/1 have in common: the buffer, and the order of things.

Must never know what a first line means. Base of `http1_requests` and `http1_responses`; see `http1` for how they work.
"""

from __future__ import annotations

from enum import Enum
from typing import NoReturn

import msgspec

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.http1_bodies import ChunkedBody, SizedBody, UntilClosed
from protocols.http.http1_fields import NOT_IN_HEADS, FieldReader
from protocols.http.messages import END, Data, MessageEnded


class Http1Limits(msgspec.Struct, frozen=True):
    """In bytes, except fields: the most fields of a head or of trailers. chunk_extension_bytes: of a whole message."""

    head_bytes: int = 65536
    fields: int = 128
    target_bytes: int = 16384
    trailers_bytes: int = 8192
    chunk_extension_bytes: int = 1024


class Phase(Enum):
    HEAD = 1
    BODY = 2
    ENDING = 3  # nothing is left to read, the end is still to be said
    ENDED = 4


HEAD, BODY, ENDING, ENDED = Phase.HEAD, Phase.BODY, Phase.ENDING, Phase.ENDED  # looked up often


class MessageReader:
    """The buffer and the order of things, the same in both directions."""

    __slots__ = (
        "_body",
        "_buffer",
        "_closed",
        "_failure",
        "_fields",
        "_limits",
        "_phase",
        "_position",
        "_scanned",
    )
    _code = "400"
    _too_large = "431"

    def __init__(self, limits: Http1Limits) -> None:
        self._limits = limits
        self._buffer = b""
        self._position = 0
        self._scanned = 0  # up to here an unfinished head was looked at
        self._closed = False
        self._phase = HEAD
        self._body: SizedBody | ChunkedBody | UntilClosed | None = None
        self._failure: RemoteProtocolError | None = None
        self._fields = FieldReader(limits.fields, is_of_requests=self._code == "400")

    def feed(self, data: bytes) -> None:
        if self._position == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._position :] + data
        self._scanned = max(0, self._scanned - self._position)
        self._position = 0

    @property
    def is_idle(self) -> bool:
        """Between messages, with nothing of the next one here."""
        return self._position == len(self._buffer) and self._phase in (HEAD, ENDED)

    @property
    def has_ended(self) -> bool:
        """The end of the message was given out."""
        return self._phase is ENDED

    @property
    def buffered(self) -> int:
        """Bytes that are here and not read yet."""
        return len(self._buffer) - self._position

    def leftover(self) -> bytes:
        """What came behind a message that changed the protocol. The reader is done then."""
        rest = self._buffer[self._position :]
        self._buffer, self._position = b"", 0
        return rest

    def feed_eof(self) -> None:
        """Raises RemoteProtocolError in the middle of a message."""
        self._closed = True
        if self._phase is BODY and isinstance(self._body, UntilClosed):
            return
        if self._phase is BODY or (self._phase is HEAD and self._position < len(self._buffer)):
            self._fail(RemoteProtocolError("the connection ended in the middle of a message", self._code))

    def _fail(self, failure: RemoteProtocolError) -> None:
        self._failure = failure
        raise failure

    def _start(self, body: SizedBody | ChunkedBody | UntilClosed | None) -> None:
        """What comes behind the head that was read now."""
        self._body = body
        self._phase = ENDING if body is None else BODY

    def _after_head(self) -> Data | MessageEnded | None:
        if self._phase is ENDING:
            self._phase = ENDED
            return END
        if self._phase is ENDED or self._body is None:
            return None
        event, self._position = self._body.read(self._buffer, self._position, self._closed)
        if event.__class__ is MessageEnded:
            self._phase = ENDED
        return event

    def _head_lines(self) -> list[str] | None:
        """The lines of the head at the position, once all of them are here. Moves behind it."""
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\r\n\r\n", start)
        if end < 0:
            if len(buffer) > start:
                self._check_unfinished_head()
            return None
        if end - start > self._limits.head_bytes:
            self._refuse_length()
        self._position = end + 4
        self._scanned = 0
        return str(buffer[start:end], "latin-1").split("\r\n")

    def _check_unfinished_head(self) -> None:
        """Says at once what waiting would not mend: no end in sight, a line end of another kind, other bytes."""
        buffer, start = self._buffer, self._position
        if len(buffer) - start > self._limits.head_bytes + 3:  # a beginning of what ends a head
            self._refuse_length()
        if NOT_IN_HEADS.search(buffer, max(start, self._scanned - 1)):
            raise RemoteProtocolError("a head with a bare CR or LF, or a control character", self._code)
        end = buffer.find(b"\r\n", start)
        if end < 0:
            self._check_length(len(buffer) - start)
        elif end >= self._scanned - 1:  # not looked at yet
            self._check_first_line(str(buffer[start:end], "latin-1"))
        self._scanned = len(buffer)

    def _refuse_length(self) -> NoReturn:
        """The same words for a first line that is too long, in however many pieces it came."""
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\r\n", start)
        self._check_length((len(buffer) if end < 0 else end) - start)
        raise LimitExceeded(f"a head of more than {self._limits.head_bytes} bytes", self._too_large)

    def _check_length(self, length: int) -> None:
        """Of a first line, or of what is there of it."""

    def _check_first_line(self, line: str) -> None:
        """Raises what the whole head would raise for it."""
