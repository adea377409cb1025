"""Answers `GET /metrics`, `/healthz` and `/readyz` over HTTP/1.1, for a scraper on this machine.

Owns a server just large enough for that: one request a connection, a bounded request head, a deadline, a cap
on connections, no bodies. Knows nothing of who asks, so it belongs on loopback. Opened by `proxyd.daemon`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from http import HTTPStatus

import trio

from proxyd.metrics import Metrics

MAX_HEAD_BYTES = 8 * 1024
REQUEST_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 32

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TEXT_TYPE = "text/plain; charset=utf-8"


class MetricsEndpoint:
    """`is_ready` says whether new sessions are taken: false before the start is over and during the drain."""

    def __init__(self, metrics: Metrics, is_ready: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._is_ready = is_ready
        self._open = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer one request and close. Never raises for what the client does."""
        if self._open >= MAX_CONNECTIONS:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            with trio.move_on_after(REQUEST_TIMEOUT_S), contextlib.suppress(trio.BrokenResourceError):
                answer = self._answer(await _read_head(stream))
                await stream.send_all(answer)
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    def _answer(self, head: bytes | None) -> bytes:
        if head is None:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"the request is too large\n")
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST, b"this is not HTTP/1.1\n")
        method, path = words[0], words[1].split(b"?", 1)[0]
        if method not in {b"GET", b"HEAD"}:
            return _response(
                HTTPStatus.METHOD_NOT_ALLOWED, b"only GET is answered here\n", extra="Allow: GET, HEAD\r\n"
            )
        return self._page(path, has_body=method == b"GET")

    def _page(self, path: bytes, *, has_body: bool) -> bytes:
        match path:
            case b"/metrics":
                return _response(HTTPStatus.OK, self._metrics.render(), kind=_METRICS_TYPE, has_body=has_body)
            case b"/healthz":
                return _response(HTTPStatus.OK, b"ok\n", has_body=has_body)
            case b"/readyz" if self._is_ready():
                return _response(HTTPStatus.OK, b"ready\n", has_body=has_body)
            case b"/readyz":
                return _response(HTTPStatus.SERVICE_UNAVAILABLE, b"not taking sessions\n", has_body=has_body)
            case _:
                return _response(
                    HTTPStatus.NOT_FOUND, b"try /metrics, /healthz or /readyz\n", has_body=has_body
                )


async def _read_head(stream: trio.abc.ReceiveStream) -> bytes | None:
    """Up to the empty line; None when that does not come within MAX_HEAD_BYTES."""
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) >= MAX_HEAD_BYTES:
            return None
        chunk = await stream.receive_some(MAX_HEAD_BYTES - len(head))
        if not chunk:
            return head
        head += chunk
    return head


def _response(
    status: HTTPStatus, body: bytes, *, kind: str = _TEXT_TYPE, extra: str = "", has_body: bool = True
) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"{extra}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body if has_body else b"")
