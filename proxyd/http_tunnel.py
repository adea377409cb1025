"""The way into a tunnel of the forward proxy: TLS that the gateway ends, with a certificate of its own making.

The certificate is signed by the gateway's inspection authority. A client that does not trust that authority ends the
handshake, and nothing has passed: there is no way through that is not looked into. Called by `http_connection`, which
serves what is inside.
"""

from __future__ import annotations

import trio

from protocols.http.messages import ResponseHead
from proxyd.gates.http.routing import Tunnel
from proxyd.http1_connection import Http1Client
from proxyd.http_link import TunnelLink
from proxyd.http_streams import PeerGone
from proxyd.inspection import InspectionAuthority, InspectionRefused
from proxyd.metrics import SessionOutcome
from proxyd.tls_engine import HandshakeError
from proxyd.wire import ConnectionLost

_HANDSHAKE_RECORD = 0x16


class TunnelFailed(Exception):
    """Nothing came of it. `is_distrusted`: the client may not know the gateway's authority."""

    def __init__(self, outcome: SessionOutcome, reason: str, *, is_distrusted: bool = False) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.is_distrusted = is_distrusted


async def open_tunnel(
    client: Http1Client, tunnel: Tunnel, inspection: InspectionAuthority, timeout_s: float
) -> TunnelLink:
    """Answer the CONNECT and end the TLS inside. Raises TunnelFailed."""
    try:
        engine = inspection.engine(tunnel.host)
    except InspectionRefused as fault:
        raise TunnelFailed(SessionOutcome.FAILED, f"no certificate for the tunnel: {fault}") from fault
    try:
        client.put_head(ResponseHead(200, (), 0))
        await client.flush()
        received = client.leftover()
        if not received:
            with trio.move_on_after(timeout_s) as scope:
                received = await client.link.receive()
            if scope.cancelled_caught:
                raise TunnelFailed(SessionOutcome.IDLE, "nothing came through the tunnel")
        if received[0] != _HANDSHAKE_RECORD:
            raise TunnelFailed(SessionOutcome.PROTOCOL, "what comes through the tunnel is not TLS")
        inner = TunnelLink(client.link, engine, received)
        await inner.do_handshake(timeout_s)
    except (PeerGone, ConnectionLost) as lost:
        raise TunnelFailed(SessionOutcome.CLIENT_CLOSED, f"client: {lost}", is_distrusted=True) from lost
    except HandshakeError as fault:
        why = f"TLS in the tunnel: {fault.reason} (clients have to trust the gateway's inspection authority)"
        raise TunnelFailed(SessionOutcome.FAILED, why, is_distrusted=True) from fault
    return inner
