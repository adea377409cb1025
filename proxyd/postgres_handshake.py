"""The part of a PostgreSQL connection before anybody is admitted: TLS, startup packet, who is calling.

Everything here happens under the listener's handshake deadline, which the caller sets, and with small bounded buffers.
A client that is refused gets a FATAL error it can read. Called by `postgres_door`.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from policy.facts import Subject
from protocols.errors import ProtocolError
from protocols.postgres.messages import error_response
from protocols.postgres.startup import (
    CancelRequested,
    DirectTlsStarted,
    GssencRequested,
    SslRequested,
    StartupReceived,
    StartupReceiver,
)
from proxyd.identity.certificate import CertificateRules, IdentityError, subject_from_certificate
from proxyd.metrics import HandshakeFailure
from proxyd.tls import TlsStream
from proxyd.tls_contexts import ServerTls

ALPN_PROTOCOL = "postgresql"
_READ_BYTES = 16 * 1024


class Refused(Exception):
    """The client is told `farewell` (b"" for nothing) and the connection ends; `reason` is for the log.

    `known`: who it was and where it wanted to go, as far as that is known, for the log too.
    """

    def __init__(self, reason: str, failure: HandshakeFailure, farewell: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.failure = failure
        self.farewell = farewell
        self.known: dict[str, str] = {}


def refuse(
    failure: HandshakeFailure,
    sqlstate: str,
    message: str,
    *,
    reason: str = "",
    detail: str = "",
    hint: str = "",
) -> Refused:
    """A refusal that the client can read. `failure` is its class in the metrics, `reason` what the log says."""
    farewell = error_response("FATAL", sqlstate, message, detail=detail, hint=hint)
    return Refused(reason or message, failure, farewell)


@dataclass(slots=True)
class Handshake:
    """A client whose startup packet has come over TLS. `subject` is None when it gave no certificate."""

    tls: TlsStream
    startup: StartupReceived
    subject: Subject | None


class ClientGreeting:
    """Runs the startup phase on one accepted stream. `stream` is where a last word must go at any moment."""

    def __init__(self, transport: trio.SocketStream, server_tls: ServerTls, rules: CertificateRules) -> None:
        self._transport = transport
        self._server_tls = server_tls
        self._rules = rules
        self._tls: TlsStream | None = None

    @property
    def stream(self) -> trio.abc.Stream:
        return self._tls if self._tls is not None else self._transport

    async def run(self, timeout_s: float) -> Handshake | CancelRequested:
        """Read up to the startup packet. Raises Refused, HandshakeError, trio.BrokenResourceError."""
        receiver = StartupReceiver()
        try:
            while True:
                data = bytes(await self.stream.receive_some(_READ_BYTES))
                if not data:
                    raise Refused("the client left during the handshake", HandshakeFailure.DISCONNECTED)
                for event in receiver.receive(data):
                    match event:
                        case SslRequested():
                            await self._transport.send_all(b"S")
                            await self._secure(b"", timeout_s)
                            receiver.tls_started()
                        case DirectTlsStarted(data=hello):
                            await self._secure(hello, timeout_s)
                            if self.tls.alpn_protocol != ALPN_PROTOCOL:
                                raise Refused("direct TLS without ALPN postgresql", HandshakeFailure.TLS)
                            receiver.tls_started()
                        case GssencRequested():
                            await self._transport.send_all(b"N")
                            receiver.refused()
                        case CancelRequested():
                            return event
                        case StartupReceived():
                            return self._greeted(event)
        except ProtocolError as fault:
            raise refuse(HandshakeFailure.PROTOCOL, fault.code or "08P01", fault.message) from fault

    async def _secure(self, received: bytes, timeout_s: float) -> None:
        tls = TlsStream(self._transport, self._server_tls.engine(), received=received)
        await tls.do_handshake(timeout_s=timeout_s)
        self._tls = tls

    @property
    def tls(self) -> TlsStream:
        if self._tls is None:
            raise RuntimeError("no TLS yet")
        return self._tls

    def _greeted(self, startup: StartupReceived) -> Handshake:
        if self._tls is None:
            raise refuse(
                HandshakeFailure.TLS,
                "28000",
                "proxyd: this door needs TLS",
                reason="startup packet in clear",
                hint="Connect with sslmode=verify-full (or at least require) and a client certificate.",
            )
        certificate = self._tls.peer_certificate
        if certificate is None:
            return Handshake(self._tls, startup, None)
        try:
            subject = subject_from_certificate(certificate, self._rules)
        except IdentityError as fault:
            raise refuse(
                HandshakeFailure.IDENTITY, "28000", f"proxyd: the client certificate names nobody: {fault}"
            ) from fault
        return Handshake(self._tls, startup, subject)
