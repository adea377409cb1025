"""One PostgreSQL connection from accept to close: greet, admit, hand over to its session, take leave.

Called by the listener for each accepted stream, which it closes in every case. Nothing that goes wrong in here leaves
this session: the one outer guard logs it once.
"""

from __future__ import annotations

import trio

from protocols.postgres.startup import CancelRequested
from proxyd.addresses import shown_name
from proxyd.doors import Door
from proxyd.gateway import Gateway
from proxyd.metrics import HandshakeFailure
from proxyd.postgres_admission import admit_client
from proxyd.postgres_handshake import ClientGreeting, Refused
from proxyd.postgres_listener import PostgresListenerRuntime
from proxyd.postgres_session import serve_session
from proxyd.relay import fatal
from proxyd.telemetry import Log
from proxyd.tls_engine import HandshakeError
from proxyd.upstream import UpstreamError

LAST_WORD_TIMEOUT_S = 2.0


def full_notice(listener: PostgresListenerRuntime) -> bytes:
    """PostgreSQL allows an error in clear before TLS starts; clients that ask for TLS show or mention it."""
    return fatal(
        "53300",
        "proxyd: too many connections",
        detail=f"This listener takes {listener.limits.connections} connections at a time.",
        hint="Try again in a moment.",
    )


async def serve_postgres(
    stream: trio.SocketStream, listener: PostgresListenerRuntime, gateway: Gateway
) -> None:
    """Serve one client. Returns when the connection is over; raises nothing but cancellation."""
    session_id = gateway.sessions.new_id()
    log = gateway.log.bind(listener=listener.name, client=_address(stream), session=session_id)
    greeting = ClientGreeting(stream, listener, listener.tls, listener.asked)
    try:
        await _greet_and_serve(stream, greeting, listener, gateway, log, session_id)
    except Refused as refused:
        gateway.metrics.handshake_failed(listener.name, refused.failure)
        say = log.info if refused.failure is HandshakeFailure.DISCOVERY else log.warning
        say("connection refused", **refused.known, reason=refused.reason, failure=refused.failure.value)
        await _say(greeting, refused.farewell)
    except HandshakeError as fault:
        gateway.metrics.handshake_failed(listener.name, HandshakeFailure.TLS)
        log.warning("connection refused", reason=fault.reason, failure=HandshakeFailure.TLS.value)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
        gateway.metrics.handshake_failed(listener.name, HandshakeFailure.DISCONNECTED)
        log.info("connection lost during the handshake", reason=str(fault))
    except Exception:
        gateway.metrics.session_crashes += 1
        log.exception("a session failed")
    finally:
        with trio.CancelScope(deadline=trio.current_time() + LAST_WORD_TIMEOUT_S, shield=True):
            await trio.aclose_forcefully(stream)


def _address(stream: trio.SocketStream) -> str:
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return "gone"
    return (
        shown_name(peer) if isinstance(peer, tuple) else "unix"
    )  # a Unix socket's name is its client's to choose


async def _say(greeting: ClientGreeting, farewell: bytes) -> None:
    """A last word, if the client still listens."""
    if farewell:
        await _take_leave(greeting, farewell)


async def _take_leave(greeting: ClientGreeting, farewell: bytes = b"") -> None:
    """Close in order. A client that has sent a cancel request waits for TLS's own end, and takes less for a failure."""
    with trio.move_on_after(LAST_WORD_TIMEOUT_S):
        try:
            if farewell:
                await greeting.stream.send_all(farewell)
            await greeting.stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            return


async def _greet_and_serve(
    stream: trio.SocketStream,
    greeting: ClientGreeting,
    listener: PostgresListenerRuntime,
    gateway: Gateway,
    log: Log,
    session_id: str,
) -> None:
    generation = gateway.sessions.generation
    timeout_s = listener.limits.handshake_timeout
    with trio.move_on_after(timeout_s) as scope:
        greeted = await greeting.run(timeout_s)
    if scope.cancelled_caught:
        raise Refused(f"no handshake within {timeout_s:g} s", HandshakeFailure.TIMEOUT)
    if isinstance(greeted, CancelRequested):
        await _cancel(greeted, gateway, log)
        await _take_leave(greeting)
        return
    known = {} if greeted.subject is None else {"subject": greeted.subject.name}
    try:
        request = admit_client(greeted, gateway)
        known |= {"target": request.target.facts.name, "login": request.login.name}
        await serve_session(
            stream,
            greeted,
            request,
            listener,
            gateway,
            log.bind(**known),
            session_id=session_id,
            client=_address(stream),
            generation=generation,
        )
    except Refused as refused:
        refused.known = known
        raise


async def _cancel(asked: CancelRequested, gateway: Gateway, log: Log) -> None:
    session = gateway.sessions.by_cancel_key(asked.process_id, asked.secret_key)
    if session is None or session.cancel is None:
        log.info("cancel request with an unknown key")
        return
    gateway.metrics.cancels += 1
    log.info("cancel", session=session.id)
    try:
        await session.cancel()
    except UpstreamError as fault:
        log.warning("cancel failed", session=session.id, reason=fault.reason)


POSTGRES_DOOR = Door(PostgresListenerRuntime.open, serve_postgres, full_notice)
