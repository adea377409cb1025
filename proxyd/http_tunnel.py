"""Tunnels of the forward proxy: who may open one, and the way into it.

The gateway ends the TLS in a tunnel with a certificate of its own making, signed by its inspection authority. A client
that does not trust that authority ends the handshake, and nothing has passed: there is no way through that is not
looked into. Called by the servers of both versions of HTTP, which say how what is inside is served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import trio

from policy.facts import Subject
from protocols.errors import ProtocolError
from protocols.http.messages import RequestHead, ResponseHead
from protocols.http.targets import Destination, destination
from proxyd.gates.http.refusals import Kind, Refusal, answer
from proxyd.gates.http.routing import Tunnel
from proxyd.http_caller import HttpCaller
from proxyd.http_link import Link, TunnelLink
from proxyd.http_sessions import not_admitted
from proxyd.http_streams import ClientStream, PeerGone
from proxyd.inspection import InspectionAuthority, InspectionRefused
from proxyd.metrics import HandshakeFailure, SessionOutcome
from proxyd.tls_engine import HandshakeError
from proxyd.wire import ConnectionLost

# How a connection has ended: for the session's record, and in words for the log.
Ended: TypeAlias = tuple[SessionOutcome, str]
ServeInside: TypeAlias = Callable[[TunnelLink, HttpCaller], Awaitable[None]]

_HANDSHAKE_RECORD = 0x16


class Connecting(ClientStream, Protocol):
    """A CONNECT, which becomes a link."""

    @property
    def link(self) -> Link: ...
    def leftover(self) -> bytes: ...
    def count_as_answered(self) -> None:
        """The tunnel has come about."""


class _Failed(Exception):
    """Nothing came of it. `is_distrusted`: the client may not know the gateway's authority."""

    def __init__(self, outcome: SessionOutcome, reason: str, *, is_distrusted: bool = False) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.is_distrusted = is_distrusted


async def _open(
    stream: Connecting, tunnel: Tunnel, inspection: InspectionAuthority, timeout_s: float
) -> TunnelLink:
    """Answer the CONNECT and end the TLS inside. Raises _Failed."""
    try:
        engine = inspection.engine(tunnel.host)
    except InspectionRefused as fault:
        raise _Failed(SessionOutcome.FAILED, f"no certificate for the tunnel: {fault}") from fault
    try:
        stream.put_head(ResponseHead(200, (), 0))
        await stream.flush()
        received = stream.leftover()
        if not received:
            with trio.move_on_after(timeout_s) as scope:
                received = await stream.link.receive()
            if scope.cancelled_caught:
                raise _Failed(SessionOutcome.IDLE, "nothing came through the tunnel")
        if received[0] != _HANDSHAKE_RECORD:
            raise _Failed(SessionOutcome.PROTOCOL, "what comes through the tunnel is not TLS")
        inner = TunnelLink(stream.link, engine, received)
        await inner.do_handshake(timeout_s)
    except (PeerGone, ConnectionLost) as lost:
        raise _Failed(SessionOutcome.CLIENT_CLOSED, f"client: {lost}", is_distrusted=True) from lost
    except HandshakeError as fault:
        why = f"TLS in the tunnel: {fault.reason} (clients have to trust the gateway's inspection authority)"
        raise _Failed(SessionOutcome.FAILED, why, is_distrusted=True) from fault
    return inner


async def admit_tunnel(caller: HttpCaller, head: RequestHead) -> tuple[Tunnel, Subject]:
    """What a CONNECT asks for, and who. Raises Refusal, which is in the log then."""
    asker: Subject | None = None
    try:
        asked = _asked(caller, head)
        asker, _ = await caller.identify(head, is_proxied=True)
        found = caller.gateway.http_target_of(asked.host, asked.port)
        if found is None:
            raise not_admitted(asker, f"{asked.host}:{asked.port}", "no target is there")
        caller.logins_for(asker, found)  # who may not go there at all is told so now
    except Refusal as refusal:
        caller.log_refusal(refusal, head, asker)
        raise
    return Tunnel(asked.host, asked.port, found.facts.name), asker


def _asked(caller: HttpCaller, head: RequestHead) -> Destination:
    """Raises Refusal."""
    if caller.listener.inspection is None or caller.tunnel is not None:
        raise Refusal(
            405,
            Kind.PROTOCOL,
            "This listener opens no tunnels.",
            hint="Use the address of the target at the gateway in place of a proxy.",
            headers=(("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),),
        )
    try:
        return destination(head)
    except ProtocolError as fault:
        raise Refusal(int(fault.code or 400), Kind.PROTOCOL, fault.message) from fault


async def refuse_tunnel(stream: ClientStream, refusal: Refusal) -> None:
    """Raises PeerGone."""
    told = answer(refusal)
    stream.put_head(told.head)
    stream.put_data(told.body)
    stream.put_end()
    await stream.flush()


async def serve_tunnel(
    caller: HttpCaller, stream: Connecting, tunnel: Tunnel, subject: Subject, serve_inside: ServeInside
) -> Ended:
    """Until it is closed. A client that comes to nothing in there is in the log."""
    inspection = caller.listener.inspection
    log = caller.log.bind(subject=subject.name, tunnel=f"{tunnel.host}:{tunnel.port}")
    try:
        if inspection is None:
            raise _Failed(SessionOutcome.FAILED, "no authority for tunnels")
        inner = await _open(stream, tunnel, inspection, caller.listener.limits.handshake_timeout)
    except _Failed as failed:
        if failed.is_distrusted:
            caller.gateway.metrics.handshake_failed(caller.listener.name, HandshakeFailure.TLS)
        log.warning("tunnel refused", reason=failed.reason)
        return failed.outcome, failed.reason
    stream.count_as_answered()
    log.info("tunnel opened")
    await serve_inside(inner, caller.within(tunnel, stream.head))
    return SessionOutcome.CLIENT_CLOSED, "client: the tunnel is closed"
