"""HTTP/1.1 messages as bytes: heads made anew from their parsed form, and the framing of bodies (RFC 9112).

Owns the framing fields: nothing of what a peer wrote about length, connection or upgrade is passed on as it came. Must
never let a line break or control character into a head, whoever put it there. Called by the door (responses) and the
pool of targets (requests).
"""

from __future__ import annotations

import re
from http import HTTPStatus

from protocols.errors import LocalProtocolError
from protocols.http.messages import Headers, RequestHead, ResponseHead

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_EXPECTS_BODY = frozenset({"POST", "PUT", "PATCH"})
_VISIBLE = re.compile(r"[!-~]+ [!-~]+ [!-~]+")
_CONTROLS = bytes([*range(9), *range(10, 32), 127])


def request_head(head: RequestHead, target: str, host: str) -> bytes:
    """target, host: what the target is to read in the first line and in Host. `head.authority` is not sent.

    body_bytes: None is sent as chunked, a number as Content-Length. Expect is sent when `head.expects_continue`.
    """
    if not _VISIBLE.fullmatch(f"{head.method} {target} {host}"):
        raise LocalProtocolError("a request line or Host with blanks, controls or nothing in it")
    parts = [f"{head.method} {target} HTTP/1.1\r\n", f"host: {host}\r\n"]
    options = []
    for name, value in head.headers:
        if name == "te":
            options.append("te")
        parts.append(f"{name}: {value}\r\n")
    if head.body_bytes is None:
        parts.append("transfer-encoding: chunked\r\n")
    elif head.body_bytes or head.method in _EXPECTS_BODY:
        parts.append(f"content-length: {head.body_bytes}\r\n")
    if head.expects_continue:
        parts.append("expect: 100-continue\r\n")
    if head.upgrade:
        options.append("upgrade")
        parts.append(f"upgrade: {head.upgrade}\r\n")
    if options:
        parts.append(f"connection: {', '.join(options)}\r\n")
    return _sealed(parts)


def response_head(head: ResponseHead, *, version: str = "1.1") -> bytes:
    """version: the client's. One of HTTP/1.0 knows no chunks: with body_bytes None it is told of a close, and the
    caller sends the body as it is and closes.
    """
    status = head.status
    parts = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n"]
    parts.extend([f"{name}: {value}\r\n" for name, value in head.headers])
    keep_alive = head.keep_alive
    if status >= 200 and status != 204:
        if head.body_bytes is None:
            if status == 304:
                pass  # says nothing of the length of what it does not send
            elif version == "1.1":
                parts.append("transfer-encoding: chunked\r\n")
            else:
                keep_alive = False
        elif head.body_bytes or status != 304:
            parts.append(f"content-length: {head.body_bytes}\r\n")
    if head.upgrade:
        parts.append(f"upgrade: {head.upgrade}\r\n")
        parts.append("connection: upgrade\r\n")
    elif status >= 200:
        if not keep_alive:
            parts.append("connection: close\r\n")
        elif version == "1.0":
            parts.append("connection: keep-alive\r\n")
    return _sealed(parts)


def chunk(data: bytes) -> bytes:
    """One chunk, whole. Empty data would end the body, so it is nothing at all."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: Headers = ()) -> bytes:
    if not trailers:
        return b"0\r\n\r\n"
    return _sealed(["0\r\n", *[f"{name}: {value}\r\n" for name, value in trailers]])


def _sealed(lines: list[str]) -> bytes:
    """The lines and the blank one behind them. Each has to be one line still: a value was perhaps put in by a gate."""
    try:
        text = "".join(lines).encode("latin-1") + b"\r\n"
    except UnicodeEncodeError:
        raise LocalProtocolError("a header with a character beyond Latin-1 in it") from None
    ends = len(lines) + 1
    # As many line ends as lines, and no other control characters than those of the line ends.
    if text.count(b"\r\n") != ends or len(text.translate(None, _CONTROLS)) != len(text) - 2 * ends:
        raise LocalProtocolError("a header with a line break or control character in it")
    return text
