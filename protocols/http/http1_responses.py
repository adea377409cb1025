"""HTTP/1 responses from bytes to messages. Called by the pool for targets; see `http1` for how readers work."""

from __future__ import annotations

import re

from protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from protocols.http.http1_bodies import ChunkedBody, SizedBody, UntilClosed
from protocols.http.http1_fields import Framing
from protocols.http.http1_reader import ENDED, HEAD, Http1Limits, MessageReader
from protocols.http.messages import Headers, ResponseEvent, ResponseHead

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_MAX_INFORMATIONAL = 16
_MAX_KNOWN_HEADS = 32
_MAX_KNOWN_BYTES = 2048
_WITHOUT_BODY = frozenset({"HEAD", "CONNECT"})  # here the length in a head is not that of what follows


class ResponseReader(MessageReader):
    """Reads what one target answers. Each response has to be expected first: its framing depends on the request."""

    __slots__ = ("_informational", "_is_expected", "_known", "_method", "_upgrade")
    _code = "502"
    _too_large = "502"

    def __init__(self, limits: Http1Limits, known: dict[bytes, ResponseHead] | None = None) -> None:
        """`known`: heads by their bytes, of bodies of a given length. Readers of one target may share it: the same
        bytes mean the same, and give the very same object.
        """
        super().__init__(limits)
        self._known = {} if known is None else known
        self._method = ""
        self._upgrade = ""
        self._is_expected = False
        self._informational = 0

    def expect(self, method: str, upgrade: str = "") -> None:
        """A request went out. upgrade: the protocol that it asks for; a 101 answers nothing else.

        Raises RemoteProtocolError when there are bytes already, which answer nothing that was asked.
        """
        if self._is_expected and self._phase is not ENDED:
            raise LocalProtocolError("a response is expected before the end of the one before it")
        self._method, self._upgrade = method, upgrade
        self._informational = 0
        self._scanned = 0
        self._is_expected = True
        self._phase = HEAD
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
            if self._phase is HEAD:
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
        if self._method in _WITHOUT_BODY:
            return self._read_new_head()
        start = self._position
        end = self._buffer.find(b"\r\n\r\n", start)
        raw = self._buffer[start:end] if end > 0 else b""
        known = self._known.get(raw)
        if known is not None:
            self._position = end + 4
            self._scanned = 0
            self._start(SizedBody(known.body_bytes) if known.body_bytes else None)
            return known
        head = self._read_new_head()
        if (
            head is not None
            and head.status == 200
            and head.body_bytes is not None
            and len(raw) <= _MAX_KNOWN_BYTES
        ):
            if len(self._known) >= _MAX_KNOWN_HEADS:
                self._known.clear()
            self._known[raw] = head
        return head

    def _read_new_head(self) -> ResponseHead | None:
        lines = self._head_lines()
        if lines is None:
            return None
        match = _STATUS_LINE.fullmatch(lines.pop(0))
        if match is None:
            raise RemoteProtocolError("a status line that is not HTTP/1.1's", "502")
        status = int(match[2])
        headers, framing = self._fields.read(lines)
        if status < 200:
            return self._informational_head(status, headers, framing)
        is_modern = match[1] == "1"
        if framing.is_chunked and not is_modern:
            raise RemoteProtocolError("a Transfer-Encoding in HTTP/1.0", "502")
        keep_alive = not framing.closes and (is_modern or framing.keeps_alive)
        length = None if framing.is_chunked else framing.length
        if status == 204 or (status < 300 and self._method == "CONNECT"):
            if framing.is_chunked or framing.length:
                keep_alive = False  # it says that a body comes where none may: what comes is not a response
            length = 0
            self._start(None)
        elif self._method == "HEAD" or status == 304:
            self._start(None)
        elif framing.is_chunked:
            self._start(ChunkedBody(self._limits, self._fields, "502"))
        elif length is None:
            keep_alive = False
            self._start(UntilClosed())
        else:
            self._start(SizedBody(length) if length else None)
        return ResponseHead(status, headers, length, keep_alive)

    def _check_first_line(self, line: str) -> None:
        if not _STATUS_LINE.fullmatch(line):
            raise RemoteProtocolError("a status line that is not HTTP/1.1's", "502")

    def _informational_head(self, status: int, headers: Headers, framing: Framing) -> ResponseHead:
        if framing.is_chunked or framing.length:
            raise RemoteProtocolError("an interim response with a body", "502")
        if status != 101:
            self._informational += 1
            if self._informational > _MAX_INFORMATIONAL:
                raise LimitExceeded(f"more than {_MAX_INFORMATIONAL} interim responses", "502")
            return ResponseHead(status, headers)
        if not self._upgrade or framing.upgrade != self._upgrade:
            raise RemoteProtocolError("the target changes to a protocol that nobody asked for", "502")
        self._phase = ENDED
        return ResponseHead(101, headers, upgrade=framing.upgrade)
