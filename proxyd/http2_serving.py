"""HTTP/2 over one connection of a client: a task that reads, and one for each stream.

A stream is a request, a WebSocket (`http_exchange` either way) or a tunnel; a fault in one ends that one. In a drain
the client is told at once to open its next streams elsewhere; what it sends before it has heard that is still served.
Run by `http_connection`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

from protocols.http.http2 import Http2Limits
from proxyd.gates.http.refusals import Refusal
from proxyd.http2_connection import Http2Connection
from proxyd.http2_streams import Http2Request
from proxyd.http_caller import HttpCaller
from proxyd.http_exchange import Exchange
from proxyd.http_link import Link
from proxyd.http_streams import PeerGone
from proxyd.http_tunnel import Ended, ServeInside, admit_tunnel, refuse_tunnel, serve_tunnel
from proxyd.metrics import HandshakeFailure, SessionOutcome
from proxyd.wire import ConnectionLost

LAST_WORD_TIMEOUT_S: Final = 2.0
# A client that does not answer the farewell takes no longer than this to have heard it.
FAREWELL_S: Final = 1.0


class Http2Server:
    """`running`: the exchanges under way. `look`: called when it may be time to close."""

    def __init__(
        self,
        link: Link,
        caller: HttpCaller,
        serve_inside: ServeInside,
        look: Callable[[], None],
    ) -> None:
        self._link = link
        self._caller = caller
        self._serve_inside = serve_inside
        self._look = look
        self._connection: Http2Connection | None = None
        self._tunnels = 0
        self._left_at: float | None = None
        self.running: set[Exchange] = set()
        self.moved_at = time.monotonic()

    @property
    def is_busy(self) -> bool:
        return bool(self._tunnels or self.running)

    @property
    def may_close(self) -> bool:
        """In a drain: has the client heard of it, so that no request of its is under way to us?"""
        if self._left_at is not None and time.monotonic() - self._left_at >= FAREWELL_S:
            self._refuse_more()
        return self._connection is not None and self._connection.takes_no_more

    def leave(self) -> None:
        if self._left_at is None and self._connection is not None:
            self._left_at = time.monotonic()
            self._connection.say_farewell()

    def _refuse_more(self) -> None:
        self._caller.sessions.takes_late = False
        if self._connection is not None:
            self._connection.refuse_more()

    def _hear(self) -> None:
        """The client has heard the farewell."""
        self._caller.sessions.takes_late = False
        self._look()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.http2.close()
            self._connection.flush_soon()

    async def serve(self, received: bytes) -> Ended:
        """Until the connection is over."""
        caller = self._caller
        limits = caller.listener.http_limits
        async with trio.open_nursery() as nursery:

            def take(stream: Http2Request) -> None:
                nursery.start_soon(self._serve_stream, stream)

            connection = self._connection = Http2Connection(
                self._link,
                Http2Limits(streams=limits.streams, head_bytes=limits.head, fields=limits.headers),
                is_server=True,
                scheme=caller.scheme,
                on_request=take,
                received=received,
            )
            connection.on_farewell = self._hear
            caller.sessions.takes_late = True
            try:
                await connection.begin()
            except ConnectionLost as lost:
                return SessionOutcome.CLIENT_CLOSED, f"client: {lost}"
            if caller.gateway.drain.is_set():
                self.leave()
            await connection.run()
            nursery.cancel_scope.cancel()
        ended = connection.ended
        if connection.is_broken_protocol and ended is not None:
            caller.gateway.metrics.handshake_failed(caller.listener.name, HandshakeFailure.PROTOCOL)
            caller.log.warning("connection broke the protocol", reason=ended.reason)
            await self._link.linger(LAST_WORD_TIMEOUT_S)
            return SessionOutcome.PROTOCOL, f"client broke the protocol: {ended.reason}"
        return SessionOutcome.CLIENT_CLOSED, f"client: {ended.reason if ended else 'closed'}"

    async def cut_off(self) -> Ended:
        """The connection was ended by `close`."""
        return SessionOutcome.IDLE, "no request for too long"

    async def _serve_stream(self, stream: Http2Request) -> None:
        """A fault in one stream ends that stream."""
        try:
            if stream.head.method == "CONNECT":
                await self._serve_connect(stream)
            else:
                await self._serve_exchange(stream)
        except PeerGone:
            return
        except Exception:
            self._caller.gateway.metrics.session_crashes += 1
            self._caller.log.exception("an exchange failed")
            stream.abandon("failed")
        finally:
            self.moved_at = time.monotonic()
            stream.close()
            if self._left_at is not None:
                self._look()

    async def _serve_exchange(self, stream: Http2Request) -> None:
        scope = trio.CancelScope()
        exchange = Exchange(self._caller, stream, scope)
        stream.on_lost = exchange.lose
        self.running.add(exchange)
        try:
            with scope:
                await exchange.run()
            if scope.cancelled_caught:
                await exchange.cut_off()
        finally:
            self.running.discard(exchange)

    async def _serve_connect(self, stream: Http2Request) -> None:
        try:
            tunnel, subject = await admit_tunnel(self._caller, stream.head)
        except Refusal as refusal:
            await refuse_tunnel(stream, refusal)
            return
        self._tunnels += 1
        try:
            await serve_tunnel(self._caller, stream, tunnel, subject, self._serve_inside)
        finally:
            self._tunnels -= 1
            stream.link.send_last(b"")
