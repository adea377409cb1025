"""One HTTP connection from accept to close, or one tunnel inside of it: which version is spoken, and when it is over.

A watcher looks at the sessions every few seconds and at the silence between requests; a drain is heard of at once.
Nothing that goes wrong in here leaves this connection. Run by `http_door`.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

import trio

from proxyd.http1_serving import Http1Server
from proxyd.http2_serving import Http2Server
from proxyd.http_caller import HttpCaller
from proxyd.http_exchange import Exchange
from proxyd.http_link import Link, TunnelLink
from proxyd.http_tunnel import Ended
from proxyd.metrics import SessionOutcome

TICK_S: Final = 1.0
SESSIONS_TICK_S: Final = 2.0
ENDING_TICK_S: Final = 0.05


class _Server(Protocol):
    """One version of HTTP. `moved_at`: when something came last, in monotonic seconds."""

    running: set[Exchange]
    moved_at: float

    @property
    def is_busy(self) -> bool: ...
    @property
    def may_close(self) -> bool: ...
    async def serve(self, received: bytes) -> Ended: ...
    async def cut_off(self) -> Ended: ...

    def leave(self) -> None:
        """The gateway drains: what runs is finished, and is the last."""

    def close(self) -> None:
        """Say that it is over, as far as that can be said without waiting."""


class HttpConnection:
    """`serve` returns when the connection is over. `link` is closed by whoever has opened it."""

    def __init__(self, link: Link, caller: HttpCaller) -> None:
        self._link = link
        self._caller = caller
        self._scope = trio.CancelScope()
        self._began_at = time.monotonic()
        self._checked_at = 0.0

    async def serve(self, protocol: str, received: bytes = b"") -> None:
        """`protocol`: as ALPN names it. `received`: what has been read already."""
        outcome, reason = SessionOutcome.FAILED, "failed"
        server: _Server
        if protocol == "h2":
            server = Http2Server(self._link, self._caller, _serve_inside, lambda: self._look(server))
        else:
            server = Http1Server(self._link, self._caller, self._scope, _serve_inside)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, server)
                nursery.start_soon(self._await_drain, server)
                with self._scope:
                    outcome, reason = await server.serve(received)
                if self._scope.cancelled_caught:
                    outcome, reason = await server.cut_off()
                nursery.cancel_scope.cancel()
        finally:
            self._caller.sessions.close(outcome, reason)

    async def _await_drain(self, server: _Server) -> None:
        await self._caller.gateway.drain.wait()
        server.leave()
        self._look(server)

    async def _watch(self, server: _Server) -> None:
        sessions = self._caller.sessions
        while True:  # also while the last words are said: whoever has ended a session is told that it is over
            with trio.move_on_after(ENDING_TICK_S if sessions.is_ending else TICK_S):
                await sessions.one_ended.wait()
            self._look(server)

    def _look(self, server: _Server) -> None:
        """Is anything late, or all of it over?"""
        now, sessions = time.monotonic(), self._caller.sessions
        for exchange in tuple(server.running):
            exchange.check(now)
        is_over = False
        if now - self._checked_at >= SESSIONS_TICK_S or sessions.one_ended.is_set() or sessions.is_ending:
            self._checked_at = now
            is_over = sessions.check()
        is_drained = self._caller.gateway.drain.is_set() and server.may_close
        if self._scope.cancel_called or server.is_busy:
            return
        if is_over or is_drained or self._is_idle(server, now):
            server.close()
            self._scope.cancel()

    def _is_idle(self, server: _Server, now: float) -> bool:
        """For too long; of a stranger, who could hold the places of others, the time for a handshake is enough."""
        listener = self._caller.listener
        if self._caller.is_stranger and now - self._began_at >= listener.limits.handshake_timeout:
            return True
        return now - server.moved_at >= listener.config.timeouts.idle


async def _serve_inside(link: TunnelLink, caller: HttpCaller) -> None:
    """What is in a tunnel is a connection as any other."""
    await HttpConnection(link, caller).serve(link.alpn_protocol or "http/1.1")
