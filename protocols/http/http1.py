"""HTTP/1.1 and 1.0 from bytes to messages (RFC 9112): requests of clients, responses of targets.

Theory of operation. A reader is fed what came and asked for events until it says None. It reads one message: after
MessageEnded it stays put, keeping what came behind, until it is told of the next (`start_next`, `expect`). A head is
read when it is whole: its first line by one expression, its field lines one by one (`http1_fields`), so that no byte of
it goes unseen. Whatever two known servers read in two ways is refused. What a head says of framing decides once how the
body is read (`http1_bodies`).

Must never repair a message, and never pass on a byte of a head as it came: senders write heads anew
(`http1_writing`). Raises RemoteProtocolError and LimitExceeded with the HTTP status to answer as `code`; a reader that
has raised raises the same again. Called by the door (requests) and by the pool of targets (responses).
"""

from __future__ import annotations

import re
from enum import Enum

import msgspec

from protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from protocols.http.http1_bodies import ChunkedBody, SizedBody, UntilClosed
from protocols.http.http1_fields import FieldReader, Fields
from protocols.http.http1_writing import chunk, last_chunk, request_head, response_head
from protocols.http.messages import (
    END,
    Data,
    MessageEnded,
    RequestEvent,
    RequestHead,
    ResponseEvent,
    ResponseHead,
)

__all__ = [
    "Http1Limits",
    "RequestReader",
    "ResponseReader",
    "chunk",
    "last_chunk",
    "request_head",
    "response_head",
]

_REQUEST_LINE = re.compile(rb"([A-Z][A-Z0-9_-]{0,31}) ([!-~]++) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_ANY_VERSION = re.compile(rb"[!-~]+ [!-~]+ HTTP/[0-9](?:\.[0-9])?")
# A host of a URI that a certificate, a target's name or an address may have; IP literals in brackets; a port.
_HOST = re.compile(r"(?:[0-9A-Za-z](?:[0-9A-Za-z._-]*[0-9A-Za-z.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_NOT_IN_HEADS = re.compile(rb"[^\t\r\n -~\x80-\xff]|\r[^\n]|(?<!\r)\n")

_MAX_INFORMATIONAL = 16


class Http1Limits(msgspec.Struct, frozen=True):
    """In bytes, except fields: the most fields of a head or of trailers. chunk_extension_bytes: of a whole message."""

    head_bytes: int = 65536
    fields: int = 128
    target_bytes: int = 16384
    trailers_bytes: int = 8192
    chunk_extension_bytes: int = 1024


class _Phase(Enum):
    HEAD = 1
    BODY = 2
    ENDING = 3  # nothing is left to read, the end is still to be said
    ENDED = 4


class _Reader:
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
        self._phase = _Phase.HEAD
        self._body: SizedBody | ChunkedBody | UntilClosed | None = None
        self._failure: RemoteProtocolError | None = None
        self._fields = FieldReader(limits.fields, self._code, drops_odd_names=self._code == "400")

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
        return self._position == len(self._buffer) and self._phase in (_Phase.HEAD, _Phase.ENDED)

    @property
    def has_ended(self) -> bool:
        """The end of the message was given out."""
        return self._phase is _Phase.ENDED

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
        if self._phase is _Phase.BODY and isinstance(self._body, UntilClosed):
            return
        if self._phase is _Phase.BODY or (self._phase is _Phase.HEAD and self._position < len(self._buffer)):
            self._fail(RemoteProtocolError("the connection ended in the middle of a message", self._code))

    def _fail(self, failure: RemoteProtocolError) -> None:
        self._failure = failure
        raise failure

    def _start(self, body: SizedBody | ChunkedBody | UntilClosed | None) -> None:
        """What comes behind the head that was read now."""
        self._body = body
        self._phase = _Phase.ENDING if body is None else _Phase.BODY

    def _after_head(self) -> Data | MessageEnded | None:
        if self._phase is _Phase.ENDING:
            self._phase = _Phase.ENDED
            return END
        if self._phase is _Phase.ENDED or self._body is None:
            return None
        event, self._position = self._body.read(self._buffer, self._position, self._closed)
        if event.__class__ is MessageEnded:
            self._phase = _Phase.ENDED
        return event

    def _head_lines(self) -> list[bytes] | None:
        """The lines of the head at the position, once all of them are here. Moves behind it."""
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\r\n\r\n", start)
        if end < 0:
            if len(buffer) > start:
                self._check_unfinished_head()
            return None
        if end - start > self._limits.head_bytes:
            raise LimitExceeded(f"a head of more than {self._limits.head_bytes} bytes", self._too_large)
        self._position = end + 4
        self._scanned = 0
        return buffer[start:end].split(b"\r\n")

    def _check_unfinished_head(self) -> None:
        """Says at once what waiting would not mend: no end in sight, a line end of another kind, other bytes."""
        buffer, start = self._buffer, self._position
        if len(buffer) - start > self._limits.head_bytes:
            raise LimitExceeded(f"a head of more than {self._limits.head_bytes} bytes", self._too_large)
        if _NOT_IN_HEADS.search(buffer, max(start, self._scanned - 1)):
            raise RemoteProtocolError("a head with a bare CR or LF, or a control character", self._code)
        self._scanned = len(buffer)


class RequestReader(_Reader):
    """Reads what one client sends. `scheme` is the connection's: "http" or "https"."""

    __slots__ = ("_scheme",)

    def __init__(self, limits: Http1Limits, scheme: str) -> None:
        super().__init__(limits)
        self._scheme = scheme

    def next_event(self) -> RequestEvent | None:
        """RequestHead, then Data, then MessageEnded; None when more has to come, or `start_next` to be called."""
        if self._failure is not None:
            raise self._failure
        try:
            if self._phase is _Phase.HEAD:
                return self._read_head()
            return self._after_head()
        except RemoteProtocolError as failure:
            self._failure = failure
            raise

    def start_next(self) -> None:
        """The answer is on its way: the next request may be read."""
        if self._phase is not _Phase.ENDED:
            raise LocalProtocolError("the next request is asked for before the end of this one")
        self._phase = _Phase.HEAD
        self._scanned = 0

    def _read_head(self) -> RequestHead | None:
        lines = self._head_lines()
        if lines is None:
            return None
        first = lines.pop(0)
        if not first and lines:  # RFC 9112, 2.2: one empty line before a request is forgiven
            first = lines.pop(0)
        match = _REQUEST_LINE.fullmatch(first)
        if match is None:
            raise _bad_request_line(first)
        method, target, minor = match.groups()
        if len(target) > self._limits.target_bytes:
            raise LimitExceeded(f"a request target of more than {self._limits.target_bytes} bytes", "414")
        fields = self._fields.read(lines)
        version = "1.1" if minor == b"1" else "1.0"
        head = self._judged(method.decode("ascii"), target.decode("ascii"), version, fields)
        if fields.chunked:
            self._start(ChunkedBody(self._limits, self._fields, "400"))
        elif fields.length:
            self._start(SizedBody(fields.length))
        else:
            self._start(None)
        return head

    def _judged(self, method: str, target: str, version: str, fields: Fields) -> RequestHead:
        """The head, once what RFC 9112 says of requests holds of it."""
        is_modern = version == "1.1"
        if fields.host is None:
            if is_modern:
                raise RemoteProtocolError("no Host field", "400")
        elif not _HOST.fullmatch(fields.host):
            raise RemoteProtocolError("a Host field that is not the name of a host", "400")
        if not is_modern and fields.chunked:
            raise RemoteProtocolError("a Transfer-Encoding in HTTP/1.0", "400")
        if method == "CONNECT" and (fields.chunked or fields.length):
            raise RemoteProtocolError("a CONNECT with a body", "400")
        expects_continue = False
        if fields.expect and is_modern:
            if fields.expect != "100-continue":
                raise RemoteProtocolError("Expect names something other than 100-continue", "417")
            expects_continue = fields.chunked or bool(fields.length)
        return RequestHead(
            method,
            target,
            self._scheme,
            fields.host or "",
            fields.headers,
            version,
            None if fields.chunked else fields.length or 0,
            expects_continue,
            # h2c by Upgrade is obsolete (RFC 9113, 3.1): a client that offers it goes on in HTTP/1.1.
            fields.upgrade if is_modern and fields.upgrade != "h2c" else "",
            not fields.close and (is_modern or fields.keep_alive),
        )


class ResponseReader(_Reader):
    """Reads what one target answers. Each response has to be expected first: its framing depends on the request."""

    __slots__ = ("_informational", "_is_expected", "_method", "_upgrade")
    _code = "502"
    _too_large = "502"

    def __init__(self, limits: Http1Limits) -> None:
        super().__init__(limits)
        self._method = ""
        self._upgrade = ""
        self._is_expected = False
        self._informational = 0

    def expect(self, method: str, upgrade: str = "") -> None:
        """A request went out. upgrade: the protocol that it asks for; a 101 answers nothing else.

        Raises RemoteProtocolError when there are bytes already, which answer nothing that was asked.
        """
        if self._is_expected and self._phase is not _Phase.ENDED:
            raise LocalProtocolError("a response is expected before the end of the one before it")
        self._method, self._upgrade = method, upgrade
        self._informational = 0
        self._scanned = 0
        self._is_expected = True
        self._phase = _Phase.HEAD
        if self._failure is None and self._position < len(self._buffer):
            self._failure = RemoteProtocolError("the target sent what nobody asked for", "502")
        if self._failure is not None:
            raise self._failure

    def next_event(self) -> ResponseEvent | None:
        """ResponseHead (each of 1xx too), then Data, then MessageEnded; None when more has to come.

        The answer to HEAD and 304 say in `body_bytes` what the body would have been, and end without Data.
        """
        if self._failure is not None:
            raise self._failure
        try:
            if self._phase is _Phase.HEAD:
                return self._read_head()
            return self._after_head()
        except RemoteProtocolError as failure:
            self._failure = failure
            raise

    def _read_head(self) -> ResponseHead | None:
        if not self._is_expected:
            if self._position < len(self._buffer):
                raise RemoteProtocolError("the target sent what nobody asked for", "502")
            return None
        lines = self._head_lines()
        if lines is None:
            return None
        match = _STATUS_LINE.fullmatch(lines.pop(0))
        if match is None:
            raise RemoteProtocolError("a status line that is not HTTP/1.1's", "502")
        status = int(match[2])
        fields = self._fields.read(lines)
        if status < 200:
            return self._informational_head(status, fields)
        is_modern = match[1] == b"1"
        if fields.chunked and not is_modern:
            raise RemoteProtocolError("a Transfer-Encoding in HTTP/1.0", "502")
        keep_alive = not fields.close and (is_modern or fields.keep_alive)
        length = None if fields.chunked else fields.length
        if status in (204, 205) or (status < 300 and self._method == "CONNECT"):
            if fields.chunked or fields.length:
                keep_alive = False  # it says that a body comes where none may: what comes is not a response
            length = 0
            self._start(None)
        elif self._method == "HEAD" or status == 304:
            self._start(None)
        elif fields.chunked:
            self._start(ChunkedBody(self._limits, self._fields, "502"))
        elif length is None:
            keep_alive = False
            self._start(UntilClosed())
        else:
            self._start(SizedBody(length) if length else None)
        return ResponseHead(status, fields.headers, length, keep_alive)

    def _informational_head(self, status: int, fields: Fields) -> ResponseHead:
        if fields.chunked or fields.length:
            raise RemoteProtocolError("an interim response with a body", "502")
        if status != 101:
            self._informational += 1
            if self._informational > _MAX_INFORMATIONAL:
                raise LimitExceeded(f"more than {_MAX_INFORMATIONAL} interim responses", "502")
            return ResponseHead(status, fields.headers)
        if not self._upgrade or fields.upgrade != self._upgrade:
            raise RemoteProtocolError("the target changes to a protocol that nobody asked for", "502")
        self._phase = _Phase.ENDED
        return ResponseHead(101, fields.headers, upgrade=fields.upgrade)


def _bad_request_line(line: bytes) -> RemoteProtocolError:
    if line == b"PRI * HTTP/2.0" or (_ANY_VERSION.fullmatch(line) and not line.endswith((b"/1.1", b"/1.0"))):
        return RemoteProtocolError("a version other than HTTP/1.1 and HTTP/1.0", "505")
    method = line.partition(b" ")[0]
    if method.upper() != method:
        return RemoteProtocolError("a method that is not in upper case", "400")
    return RemoteProtocolError("a request line that is not a method, a target and a version", "400")
