"""An HTTP/2 stream as a link: bytes both ways, once its CONNECT was answered with success (RFC 9113, 8.5; RFC 8441).

The end of the stream is what the end of a TCP connection is elsewhere. What the peer's window does not take waits here
in its order, so that a sender which is given up leaves no gap before what others say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import trio

from protocols.http.messages import Data, MessageEnded, ResponseHead
from proxyd.http_streams import PeerGone
from proxyd.wire import ConnectionLost

MAX_DISCARDED_BYTES: Final = 1 << 20


class _Carrier(Protocol):
    @property
    def is_congested(self) -> bool: ...
    async def flush(self) -> None: ...
    def flush_soon(self) -> None: ...


class CarriedStream(Protocol):
    """As `http2_streams.Stream`: see there."""

    @property
    def connection(self) -> _Carrier: ...
    @property
    def is_gone(self) -> bool: ...
    @property
    def is_received(self) -> bool: ...
    async def receive_any(self) -> ResponseHead | Data | MessageEnded: ...
    def send_now(self, data: bytes, *, ends: bool = False) -> int: ...
    async def window_opened(self) -> None: ...
    def finish_now(self) -> None: ...
    def close(self) -> None: ...


class StreamLink:
    """As `proxyd.http_link.Link`. One task receives; any may send."""

    __slots__ = ("_has_ended", "_is_over", "_stream", "_unsent")

    def __init__(self, stream: CarriedStream) -> None:
        self._stream = stream
        self._unsent = bytearray()
        self._has_ended = False  # the peer's side
        self._is_over = False  # ours

    @property
    def is_gone(self) -> bool:
        return self._has_ended or self._stream.is_gone or self._stream.is_received

    async def receive(self) -> bytes:
        if self._has_ended:
            raise ConnectionLost("closed by the peer")
        try:
            event = await self._stream.receive_any()
        except PeerGone as gone:
            raise ConnectionLost(gone.reason) from gone
        if isinstance(event, Data):
            return event.data
        self._has_ended = True
        raise ConnectionLost("closed by the peer")

    def send_soon(self, data: bytes) -> Coroutine[Any, Any, None] | None:
        if self._is_over:
            raise ConnectionLost("closed")
        self._unsent += data
        self._push()
        return self._send_rest() if self._unsent or self._stream.connection.is_congested else None

    def _push(self) -> None:
        try:
            if self._unsent:
                del self._unsent[: self._stream.send_now(bytes(self._unsent))]
        except PeerGone as gone:
            self._unsent.clear()
            raise ConnectionLost(gone.reason) from gone
        self._stream.connection.flush_soon()

    async def _send_rest(self) -> None:
        while self._unsent:
            try:
                await self._stream.window_opened()
            except PeerGone as gone:
                raise ConnectionLost(gone.reason) from gone
            self._push()
        await self._stream.connection.flush()

    def send_last(self, data: bytes) -> None:
        """Say a last word, as far as the windows take it now, and that it was the last."""
        if self._is_over:
            return
        self._is_over = True
        self._unsent += data
        with contextlib.suppress(ConnectionLost, PeerGone):
            self._push()
            if not self._unsent:
                self._stream.finish_now()
                self._stream.connection.flush_soon()

    async def linger(self, timeout_s: float) -> None:
        """After a last word: wait until the peer has said its own, reading on what it still sends."""
        left = MAX_DISCARDED_BYTES
        with trio.move_on_after(timeout_s, shield=True), contextlib.suppress(ConnectionLost):
            while left > 0:
                left -= len(await self.receive())

    def close(self) -> None:
        self._stream.close()
