"""HTTP/1 requests from bytes to messages. Called by the door for clients; see `http1` for how readers work."""

from __future__ import annotations

import re

from protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from protocols.http.http1_bodies import ChunkedBody, SizedBody
from protocols.http.http1_fields import Framing
from protocols.http.http1_reader import ENDED, HEAD, Http1Limits, MessageReader
from protocols.http.messages import Headers, RequestEvent, RequestHead

_REQUEST_LINE = re.compile(r"([A-Z][A-Z0-9_-]{0,31}) ([!-~]++) HTTP/1\.([01])")
_ANY_VERSION = re.compile(r"[!-~]+ [!-~]+ HTTP/[0-9](?:\.[0-9])?")
_MAX_KNOWN_HEADS = 16
_MAX_KNOWN_BYTES = 4096
_REST_OF_LINE = 48  # the longest method, two blanks and a version


class RequestReader(MessageReader):
    """Reads what one client sends. `scheme` is the connection's: "http" or "https"."""

    __slots__ = ("_known_heads", "_scheme")

    def __init__(self, limits: Http1Limits, scheme: str) -> None:
        super().__init__(limits)
        self._scheme = scheme
        # Heads of this connection that no body follows. Clients ask the same again; the same bytes mean the same, and
        # give the very same object, so that what follows from it can be known by it too.
        self._known_heads: dict[bytes, RequestHead] = {}

    def next_event(self) -> RequestEvent | None:
        """RequestHead, then Data, then MessageEnded; None when more has to come, or `start_next` to be called."""
        if self._failure is not None:
            raise self._failure
        try:
            if self._phase is HEAD:
                return self._read_head()
            return self._after_head()
        except RemoteProtocolError as failure:
            self._failure = failure
            raise

    def start_next(self) -> None:
        """The answer is on its way: the next request may be read."""
        if self._phase is not ENDED:
            raise LocalProtocolError("the next request is asked for before the end of this one")
        self._phase = HEAD
        self._scanned = 0

    def _read_head(self) -> RequestHead | None:
        start = self._position
        end = self._buffer.find(b"\r\n\r\n", start)
        raw = self._buffer[start:end] if end > 0 else b""
        known = self._known_heads.get(raw)
        if known is not None:
            self._position = end + 4
            self._scanned = 0
            self._start(None)
            return known
        head = self._read_new_head()
        if head is not None and head.body_bytes == 0 and head.method != "CONNECT":
            if len(self._known_heads) >= _MAX_KNOWN_HEADS:
                self._known_heads.clear()
            if len(raw) <= _MAX_KNOWN_BYTES:
                self._known_heads[raw] = head
        return head

    def _read_new_head(self) -> RequestHead | None:
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
        headers, framing = self._fields.read(lines)
        if framing.is_chunked:
            self._start(ChunkedBody(self._limits, self._fields, "400"))
        elif framing.length:
            self._start(SizedBody(framing.length))
        else:
            self._start(None)
        if minor == "1":
            return self._modern(method, target, headers, framing)
        return self._old(method, target, headers, framing)

    def _check_length(self, length: int) -> None:
        if length > self._limits.target_bytes + _REST_OF_LINE:
            raise LimitExceeded(f"a request target of more than {self._limits.target_bytes} bytes", "414")

    def _check_first_line(self, line: str) -> None:
        if line and not _REQUEST_LINE.fullmatch(line):
            raise _bad_request_line(line)

    def _modern(self, method: str, target: str, headers: Headers, framing: Framing) -> RequestHead:
        if framing.host is None:
            raise RemoteProtocolError("no Host field", "400")
        length = None if framing.is_chunked else framing.length or 0
        if method == "CONNECT" and length != 0:
            raise RemoteProtocolError("a CONNECT with a body", "400")
        if framing.expect and framing.expect != "100-continue":
            raise RemoteProtocolError("Expect names something other than 100-continue", "417")
        # h2c by Upgrade is obsolete (RFC 9113, 3.1): a client that offers it goes on in HTTP/1.1.
        upgrade = "" if framing.upgrade == "h2c" else framing.upgrade
        if upgrade and length != 0:
            # Servers stop reading HTTP at the head: the body would be the first bytes of the other protocol.
            raise RemoteProtocolError("an upgrade with a body", "400")
        if upgrade == "websocket" and method != "GET":
            raise RemoteProtocolError("an upgrade to WebSocket by another method than GET", "400")
        return RequestHead(
            method,
            target,
            self._scheme,
            framing.host,
            headers,
            "1.1",
            length,
            bool(framing.expect) and length != 0,
            upgrade,
            not framing.closes,
        )

    def _old(self, method: str, target: str, headers: Headers, framing: Framing) -> RequestHead:
        """HTTP/1.0 knows neither chunks nor Expect nor Upgrade, and no connection that is kept without a word."""
        if framing.is_chunked:
            raise RemoteProtocolError("a Transfer-Encoding in HTTP/1.0", "400")
        if method == "CONNECT" and framing.length:
            raise RemoteProtocolError("a CONNECT with a body", "400")
        return RequestHead(
            method,
            target,
            self._scheme,
            framing.host or "",
            headers,
            "1.0",
            framing.length or 0,
            keep_alive=framing.keeps_alive and not framing.closes,
        )


def _bad_request_line(line: str) -> RemoteProtocolError:
    if _ANY_VERSION.fullmatch(line) and not line.endswith(("/1.1", "/1.0")):
        return RemoteProtocolError("a version other than HTTP/1.1 and HTTP/1.0", "505")
    method = line.partition(" ")[0]
    if method.upper() != method:
        return RemoteProtocolError("a method that is not in upper case", "400")
    return RemoteProtocolError("a request line that is not a method, a target and a version", "400")
