"""HTTP/1.1 over one connection of a client: an exchange after the other, by one task.

Also the fault of a request that cannot be read, and how this version of HTTP takes leave: the answer under way is the
last one, and says so. Run by `http_connection`.
"""

from __future__ import annotations

import math
import time
from typing import Final

import trio

from protocols.errors import ProtocolError
from protocols.http.http1 import Http1Limits, RequestReader
from protocols.http.messages import RequestHead
from proxyd.gates.http.refusals import Kind, Refusal, answer
from proxyd.http1_connection import Http1Client
from proxyd.http_caller import HttpCaller
from proxyd.http_exchange import Exchange
from proxyd.http_link import Link
from proxyd.http_streams import PeerGone
from proxyd.http_tunnel import Ended, ServeInside, admit_tunnel, refuse_tunnel, serve_tunnel
from proxyd.metrics import SessionOutcome
from proxyd.wire import ConnectionLost

LAST_WORD_TIMEOUT_S: Final = 2.0
# In a drain: who has sent no request by then had none to send.
FIRST_REQUEST_S: Final = 1.0


class Http1Server:
    """`running`: the exchange under way. `scope`: what is cancelled to end the connection."""

    def __init__(
        self, link: Link, caller: HttpCaller, scope: trio.CancelScope, serve_inside: ServeInside
    ) -> None:
        self._link = link
        self._caller = caller
        self._scope = scope
        self._serve_inside = serve_inside
        limits = caller.listener.http_limits
        reader = RequestReader(Http1Limits(head_bytes=limits.head, fields=limits.headers), caller.scheme)
        self._client = Http1Client(link, reader)
        self._reader = reader
        self._has_tunnel = False
        self._has_served = False
        self._left_at: float | None = None
        caller.sessions.takes_late = True
        self.running: set[Exchange] = set()
        self.moved_at = time.monotonic()

    @property
    def is_busy(self) -> bool:
        return self._has_tunnel or bool(self.running)

    @property
    def may_close(self) -> bool:
        """In a drain: between two requests, but not at once before the first, for which somebody has just connected."""
        waited_s = 0.0 if self._left_at is None else time.monotonic() - self._left_at
        return self._has_served or waited_s >= FIRST_REQUEST_S

    def leave(self) -> None:
        self._client.closes = True
        self._left_at = time.monotonic()

    def close(self) -> None:
        self._link.send_last(b"")

    async def serve(self, received: bytes) -> Ended:
        """Until the connection is over."""
        client, drain = self._client, self._caller.gateway.drain
        if received:
            self._reader.feed(received)
        while True:
            try:
                if not await self._await_request(client):
                    return SessionOutcome.CLIENT_CLOSED, "client: closed by the peer"
            except ConnectionLost as lost:
                return SessionOutcome.CLIENT_CLOSED, f"client: {lost}"
            except ProtocolError as fault:
                await self._tell_fault(fault)
                return SessionOutcome.PROTOCOL, f"client broke the protocol: {fault.message}"
            if drain.is_set():
                client.closes = True
            if client.head.method == "CONNECT":
                return await self._serve_connect(client)
            exchange = Exchange(self._caller, client, self._scope)
            self.running.add(exchange)
            try:
                await exchange.run()
            except PeerGone as gone:
                self.running.discard(exchange)
                return SessionOutcome.CLIENT_CLOSED, f"client: {gone.reason}"
            self.running.discard(exchange)  # not when it was cancelled: then it is told so
            self._has_served, self._caller.sessions.takes_late = True, False
            self.moved_at = time.monotonic()
            if client.upgraded:
                return SessionOutcome.CLIENT_CLOSED, "client: the messages are over"
            if client.is_abandoned:
                return SessionOutcome.TARGET_CLOSED, "an answer broke off"
            if client.closes or not client.is_received or drain.is_set():
                await self._linger()
                return SessionOutcome.CLIENT_CLOSED, "client: asked to close"
            client.start_next()

    async def cut_off(self) -> Ended:
        """The connection was ended between two requests, or its one exchange was in the middle of it."""
        running, self.running = self.running, set()
        if not running:
            return SessionOutcome.IDLE, "no request for too long"
        for exchange in running:
            try:
                await exchange.cut_off()
            except PeerGone as gone:
                return SessionOutcome.CLIENT_CLOSED, f"client: {gone.reason}"
        with trio.move_on_after(LAST_WORD_TIMEOUT_S, shield=True):
            await self._linger()
        return SessionOutcome.ENDED, "an exchange was ended"

    async def _await_request(self, client: Http1Client) -> bool:
        """Wait for a head. False: the client has gone between two requests. Raises ConnectionLost, ProtocolError."""
        timeouts = self._caller.listener.config.timeouts
        if client.announced() is not None:
            return True
        deadline = math.inf
        while True:
            if not client.is_idle and deadline == math.inf:
                deadline = trio.current_time() + timeouts.head
            if deadline == math.inf:
                await client.more()  # the watcher ends what is idle for too long
            else:
                with trio.move_on_at(deadline) as scope:
                    await client.more()
                if scope.cancelled_caught:
                    raise ProtocolError(f"no head of a request within {timeouts.head:g} seconds", "408")
            self.moved_at = time.monotonic()
            if client.announced() is not None:
                return True

    async def _tell_fault(self, fault: ProtocolError) -> None:
        status = int(fault.code) if fault.code.isdigit() else 400
        refusal = Refusal(
            status, Kind.PROTOCOL, f"{fault.message[:1].upper()}{fault.message[1:]}.", closes=True
        )
        self._caller.log_refusal(refusal)
        reader = RequestReader(Http1Limits(), self._caller.scheme)
        client = Http1Client(self._link, reader)
        client.head = RequestHead("GET", "/", self._caller.scheme, "", ())
        told = answer(refusal)
        client.put_head(told.head)
        client.put_data(told.body)
        client.put_end()
        try:
            await client.flush()
        except PeerGone:
            return
        await self._linger()

    async def _linger(self) -> None:
        self._link.send_last(b"")
        await self._link.linger(LAST_WORD_TIMEOUT_S)

    async def _serve_connect(self, client: Http1Client) -> Ended:
        """The rest of the connection is a tunnel, or it ends with the refusal of one."""
        try:
            tunnel, subject = await admit_tunnel(self._caller, client.head)
        except Refusal as refusal:
            refusal.closes = True
            client.head = RequestHead("GET", "/", self._caller.scheme, "", ())
            try:
                await refuse_tunnel(client, refusal)
            except PeerGone:
                return SessionOutcome.CLIENT_CLOSED, "client: closed by the peer"
            await self._linger()
            return SessionOutcome.CLIENT_CLOSED, f"refused: {refusal.reason}"
        self._has_tunnel = True
        return await serve_tunnel(self._caller, client, tunnel, subject, self._serve_inside)
