"""The part of a PostgreSQL connection before anybody is admitted: TLS, startup packet, who is calling.

Everything here happens under the listener's handshake deadline, which the caller sets, and with small bounded buffers.
A client that is refused gets a FATAL error it can read. Called by `postgres_door`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import trio

from policy.facts import Subject
from protocols.errors import ProtocolError
from protocols.postgres.messages import error_response, negotiate_protocol_version
from protocols.postgres.startup import (
    CancelRequested,
    DirectTlsStarted,
    GssencRequested,
    SslRequested,
    StartupReceived,
    StartupReceiver,
)
from proxyd.config.factors import ClientFactors
from proxyd.identity.certificate import IdentityError, subject_from_certificate
from proxyd.identity.oidc import TokenRefused, Tokens, both_factors
from proxyd.identity.standing import CertificateShown, Shown, TlsListener, token_shown
from proxyd.metrics import HandshakeFailure
from proxyd.postgres_token import ClientLeft, TokenMethod, TokenQuestion, TokenSought
from proxyd.tls import TlsStream
from proxyd.tls_contexts import ServerTls

ALPN_PROTOCOL = "postgresql"
BOTH_ARE = "a client certificate and a token are"
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
    """A client whose startup packet has come over TLS. `subject` is None when it has not shown what is asked for.

    lacks: what it would have to show then, as the beginning of "... needed".
    is_negotiated: NegotiateProtocolVersion has been sent. shown: what the subject comes of.
    """

    tls: TlsStream
    startup: StartupReceived
    subject: Subject | None
    lacks: str = ""
    is_negotiated: bool = False
    shown: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a listener asks its clients for: one combination of `factors`, and a token by `token_method`."""

    factors: tuple[ClientFactors, ...]
    token_method: TokenMethod
    tokens: Tokens


class ClientGreeting:
    """Runs the startup phase on one accepted stream. `stream` is where a last word must go at any moment."""

    def __init__(
        self, transport: trio.SocketStream, listener: TlsListener, server_tls: ServerTls, asked: Asked
    ) -> None:
        self._transport = transport
        self._listener = listener
        self._server_tls = server_tls
        self._rules = listener.certificate_rules
        self._asked = asked
        self._tls: TlsStream | None = None

    @property
    def stream(self) -> trio.abc.Stream:
        return self._tls if self._tls is not None else self._transport

    async def run(self, timeout_s: float) -> Handshake | CancelRequested:
        """Read up to the startup packet, and the token if one is needed.

        Raises Refused, HandshakeError, trio.BrokenResourceError.
        """
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
                            return await self._known(self._greeted(event))
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
                hint="Connect with sslmode=verify-full (or at least require).",
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
        shown = CertificateShown(self._tls, self._listener, subject)
        return Handshake(self._tls, startup, subject, shown=(shown,))

    async def _known(self, greeted: Handshake) -> Handshake:
        """With the subject of whatever combination of factors the client can show."""
        certified = greeted.subject
        factors = self._asked.factors
        if certified is not None and ("certificate",) in factors:
            return greeted
        if ("token",) in factors:
            return await self._with_token(replace(greeted, shown=()), None)
        if certified is not None:
            return await self._with_token(greeted, certified)
        is_enough = ("certificate",) in factors
        return replace(greeted, lacks="a client certificate is" if is_enough else BOTH_ARE)

    async def _with_token(self, greeted: Handshake, certified: Subject | None) -> Handshake:
        startup = greeted.startup
        if startup.needs_negotiation:
            notice = negotiate_protocol_version(startup.negotiated_minor, startup.unsupported_options)
            await greeted.tls.send_all(notice)
        asked = self._asked
        question = TokenQuestion(greeted.tls, asked.tokens, asked.token_method, startup.rest)
        try:
            subject = await question.ask()
            by_token = token_shown(asked.tokens, subject)
            if certified is not None:
                subject = both_factors(certified, subject)
        except TokenRefused as fault:
            raise refuse(
                HandshakeFailure.IDENTITY,
                "28P01",
                f"proxyd: {fault.text}",
                reason=fault.reason,
                hint="The password is the token of your identity provider."
                if asked.token_method == "password"  # noqa: S105 (a method's name)
                else "",
            ) from fault
        except TokenSought:
            raise refuse(
                HandshakeFailure.DISCOVERY,
                "28000",
                "proxyd: a token is needed",
                reason="the client asked where tokens come from",
            ) from None
        except ClientLeft:
            reason = "the client left when it was asked for a token"
            raise Refused(reason, HandshakeFailure.DISCONNECTED) from None
        rest = msgspec.structs.replace(startup, rest=question.received)
        return replace(
            greeted,
            startup=rest,
            subject=subject,
            is_negotiated=startup.needs_negotiation,
            shown=(*greeted.shown, *([] if by_token is None else [by_token])),
        )
