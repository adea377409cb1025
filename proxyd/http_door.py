"""The HTTP door: TLS with a client, who it is by its certificate, and which version of HTTP it speaks.

Called by the listener for each accepted stream, which it closes in every case. Nothing that goes wrong in here leaves
this connection.
"""

from __future__ import annotations

import trio

from proxyd.addresses import shown_name
from proxyd.doors import Door
from proxyd.gates.http.refusals import Kind, Refusal, answer
from proxyd.gateway import Gateway
from proxyd.http1_connection import whole
from proxyd.http_caller import HttpCaller
from proxyd.http_connection import HttpConnection
from proxyd.http_listener import HttpListenerRuntime
from proxyd.identity.certificate import IdentityError, subject_from_certificate
from proxyd.identity.standing import CertificateShown
from proxyd.metrics import HandshakeFailure
from proxyd.tls import TlsStream
from proxyd.tls_engine import HandshakeError
from proxyd.wire import ConnectionLost, Wire

LAST_WORD_TIMEOUT_S = 2.0
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def full_notice(listener: HttpListenerRuntime) -> bytes:
    """In clear a client reads it; one that speaks TLS sees the connection closed."""
    refusal = Refusal(
        503,
        Kind.LIMIT,
        f"This listener takes {listener.limits.connections} connections at a time.",
        hint="Try again in a moment.",
        closes=True,
    )
    return b"" if listener.tls is not None else whole(answer(refusal).head, answer(refusal).body)


async def background(
    gateway: Gateway, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """What keeps the connections to targets, for as long as the daemon lives."""
    await gateway.http_pools.run(task_status)


async def serve_http(stream: trio.SocketStream, listener: HttpListenerRuntime, gateway: Gateway) -> None:
    """Serve one client. Returns when the connection is over; raises nothing but cancellation."""
    client, address = _names(stream)
    log = gateway.log.bind(listener=listener.name, client=client)
    wire: Wire | None = None
    try:
        generation = gateway.sessions.generation
        tls, shown = await _secure(stream, listener)
        wire = Wire(stream, tls, is_eager=True)
        caller = HttpCaller(
            listener,
            gateway,
            log,
            client=client,
            address=address,
            shown=shown,
            generation=generation,
            scheme="http" if tls is None else "https",
        )
        protocol, received = await _spoken(wire, tls, listener)
        await HttpConnection(wire, caller).serve(protocol, received)
        metrics = gateway.metrics
        metrics.bytes_from_clients += wire.received_bytes
        metrics.bytes_to_clients += wire.sent_bytes
    except _Refused as refused:
        gateway.metrics.handshake_failed(listener.name, refused.failure)
        log.warning("connection refused", reason=refused.reason, failure=refused.failure.value)
    except HandshakeError as fault:
        gateway.metrics.handshake_failed(listener.name, HandshakeFailure.TLS)
        log.warning("connection refused", reason=fault.reason, failure=HandshakeFailure.TLS.value)
    except (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionLost) as fault:
        gateway.metrics.handshake_failed(listener.name, HandshakeFailure.DISCONNECTED)
        log.info("connection lost during the handshake", reason=str(fault))
    except Exception:
        gateway.metrics.session_crashes += 1
        log.exception("a connection failed")
    finally:
        if wire is not None:
            wire.send_last(b"")
            wire.close()
        with trio.CancelScope(deadline=trio.current_time() + LAST_WORD_TIMEOUT_S, shield=True):
            await trio.aclose_forcefully(stream)


class _Refused(Exception):
    def __init__(self, failure: HandshakeFailure, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason


async def _secure(
    stream: trio.SocketStream, listener: HttpListenerRuntime
) -> tuple[TlsStream | None, CertificateShown | None]:
    """Raises HandshakeError and _Refused."""
    if listener.tls is None:
        return None, None
    rules = listener.certificate_rules
    tls = TlsStream(stream, listener.tls.engine())
    await tls.do_handshake(timeout_s=listener.limits.handshake_timeout)
    certificate = tls.peer_certificate
    if certificate is None:
        return tls, None
    try:
        return tls, CertificateShown(tls, listener, subject_from_certificate(certificate, rules))
    except IdentityError as fault:
        raise _Refused(HandshakeFailure.IDENTITY, f"the certificate names nobody: {fault}") from fault


async def _spoken(wire: Wire, tls: TlsStream | None, listener: HttpListenerRuntime) -> tuple[str, bytes]:
    """The protocol, and what has been read to find it out. In clear HTTP/2 is known by its first bytes."""
    if tls is not None:
        return tls.alpn_protocol or "http/1.1", b""
    if "h2" not in listener.config.protocols:
        return "http/1.1", b""
    received = b""
    with trio.move_on_after(listener.limits.handshake_timeout):
        while len(received) < len(HTTP2_PREFACE) and HTTP2_PREFACE.startswith(received):
            received += await wire.receive()
        is_http2 = received.startswith(HTTP2_PREFACE)
        if not is_http2 and "http/1.1" not in listener.config.protocols:
            raise _Refused(HandshakeFailure.PROTOCOL, "the client speaks no HTTP/2")
        return "h2" if is_http2 else "http/1.1", received
    raise _Refused(HandshakeFailure.TIMEOUT, "no request came")


def _names(stream: trio.SocketStream) -> tuple[str, str]:
    """The client's address, and the one at which it has reached us (a Unix socket's clients say localhost)."""
    try:
        peer, own = stream.socket.getpeername(), stream.socket.getsockname()
    except OSError:
        return "gone", ""
    if not isinstance(peer, tuple):
        return "unix", "localhost"
    return shown_name(peer), str(own[0]).partition("%")[0]


HTTP_DOOR = Door(HttpListenerRuntime.open, serve_http, full_notice, background)
