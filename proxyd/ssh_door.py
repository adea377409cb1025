"""One SSH connection from accept to close: authenticate, then hand over to its session.

Called by the listener for each accepted stream, which it closes in every case. Nothing that goes wrong in here leaves
this connection.
"""

from __future__ import annotations

import trio

from protocols.ssh.fields import string, uint32
from proxyd.addresses import shown_name
from proxyd.doors import Door
from proxyd.gateway import Gateway
from proxyd.identity.ssh import SshLogin
from proxyd.identity.user_name import UserNameError, parse_user_name
from proxyd.metrics import HandshakeFailure
from proxyd.sessions import Session, SubjectLimitReached
from proxyd.ssh_listener import SshListenerRuntime
from proxyd.ssh_relay import SshRelay
from proxyd.ssh_session import SshSession
from proxyd.ssh_transport import VERSION_PREFIX, Leg, asyncio_loop, serve_client, use_loop
from proxyd.telemetry import Log

LAST_WORD_TIMEOUT_S = 2.0

_DISCONNECT, _TOO_MANY_CONNECTIONS = 1, 12  # RFC 4253, 11.1


class _Refused(Exception):
    """The connection never becomes a session. `text` is for the client."""

    def __init__(self, failure: HandshakeFailure, reason: str, text: str = "") -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason
        self.text = text


def full_notice(listener: SshListenerRuntime) -> bytes:
    """A version and, in clear as before any key exchange (RFC 4253, 6), the disconnection that says why."""
    why = b"proxyd: too many connections, try again in a moment"
    payload = bytes([_DISCONNECT]) + uint32(_TOO_MANY_CONNECTIONS) + string(why) + string(b"en")
    padding = -(5 + len(payload)) % 8 + 8
    packet = uint32(1 + len(payload) + padding) + bytes([padding]) + payload + bytes(padding)
    return b"SSH-2.0-" + VERSION_PREFIX.encode() + listener.gateway.version.encode() + b"\r\n" + packet


async def background(
    gateway: Gateway, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """asyncssh's loop, for as long as the daemon lives."""
    async with asyncio_loop(gateway.log) as loop:
        gateway.ssh_loop = loop
        task_status.started()
        await trio.sleep_forever()


async def serve_ssh(stream: trio.SocketStream, listener: SshListenerRuntime, gateway: Gateway) -> None:
    """Serve one client. Returns when the connection is over; raises nothing but cancellation."""
    session_id = gateway.sessions.new_id()
    peer = _peer(stream)
    log = gateway.log.bind(listener=listener.name, client=peer, session=session_id)
    connection = _Connection(stream, listener, gateway, log, session_id, peer)
    try:
        await connection.run()
    except _Refused as refused:
        gateway.metrics.handshake_failed(listener.name, refused.failure)
        connection.log.warning("connection refused", reason=refused.reason, failure=refused.failure.value)
    finally:
        with trio.CancelScope(deadline=trio.current_time() + LAST_WORD_TIMEOUT_S, shield=True):
            await connection.close()


def _peer(stream: trio.SocketStream) -> str:
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return "gone"
    return (
        shown_name(peer) if isinstance(peer, tuple) else "unix"
    )  # a Unix socket's name is its client's to choose


class _Connection:
    """One client: its leg, its authentication, and its session once there is one."""

    def __init__(
        self,
        stream: trio.SocketStream,
        listener: SshListenerRuntime,
        gateway: Gateway,
        log: Log,
        session_id: str,
        peer: str,
    ) -> None:
        self._stream = stream
        self._listener = listener
        self._gateway = gateway
        self.log = log
        self._session_id = session_id
        self._peer = peer
        self._leg: Leg | None = None

    async def run(self) -> None:
        """Raises _Refused."""
        loop = self._gateway.ssh_loop
        if loop is None:
            raise _Refused(HandshakeFailure.INTERNAL, "the SSH loop is not running")
        use_loop(loop)
        generation = self._gateway.sessions.generation
        options = await self._listener.options()
        login = self._listener.authenticator.begin(_host(self._stream))
        relay = SshRelay(self._gateway.metrics, self.log)
        leg = self._leg = relay.client = serve_client(
            loop, options, self._stream, login, relay.client_message
        )
        leg.on_batch = relay.flush
        refusal: _Refused | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.run)
            try:
                await self._serve(nursery, leg, relay, login, generation)
            except _Refused as refused:
                refusal = refused
                leg.disconnect(refused.text or "closed")
            nursery.cancel_scope.cancel()
        if refusal is not None:
            raise refusal

    async def _serve(
        self, nursery: trio.Nursery, leg: Leg, relay: SshRelay, login: SshLogin, generation: int
    ) -> None:
        """`generation`: in which the client began to say who it is."""
        timeout_s = self._listener.limits.handshake_timeout
        with trio.move_on_after(timeout_s):
            await leg.ready.wait()
        identity = login.identity
        if identity is None or not leg.ready.is_set():
            self.log = self.log.bind(user=leg.user_name)
            raise _not_authenticated(leg, login, timeout_s)
        if leg.lost is not None:
            raise _Refused(HandshakeFailure.DISCONNECTED, leg.lost.reason)
        try:
            user = parse_user_name(leg.user_name)
        except UserNameError as fault:
            raise _Refused(HandshakeFailure.PROTOCOL, str(fault), f"proxyd: {fault}") from fault
        self.log = self.log.bind(subject=identity.subject.name)
        session = Session(
            id=self._session_id,
            listener=self._listener.name,
            protocol="ssh",
            subject=identity.subject.name,
            target="",
            login=user.login,
            client=self._peer,
            started_at=self._gateway.clock(),
        )
        served = SshSession(leg, relay, session, identity, user, self._listener, self._gateway, self.log)
        session.problem = lambda: self._problem(login) or served.access_problem()
        sessions = self._gateway.sessions
        try:
            with sessions.entered(session, self._listener.limits.connections_per_subject):
                problem = self._problem(login) if sessions.generation != generation else ""
                if problem:
                    raise _Refused(HandshakeFailure.IDENTITY, problem, f"proxyd: {problem}")
                await served.run(nursery)
        except SubjectLimitReached as limit:
            text = (
                f"proxyd: too many connections for {identity.subject.name} ({limit}). Close a session first."
            )
            raise _Refused(
                HandshakeFailure.SUBJECT_LIMIT, "too many sessions of the subject", text
            ) from limit

    def _problem(self, login: SshLogin) -> str:
        """Why what the client has shown does not count any more; "" when it does."""
        problem = self._listener.authenticator.problem_with(login)
        return f"what you have logged in with does not count any more: {problem}" if problem else ""

    async def close(self) -> None:
        if self._leg is not None:
            await self._leg.linger(LAST_WORD_TIMEOUT_S)
        else:
            self._stream.socket.close()


def _not_authenticated(leg: Leg, login: SshLogin, timeout_s: float) -> _Refused:
    if not leg.ready.is_set():
        return _Refused(
            HandshakeFailure.TIMEOUT, f"no login within {timeout_s:g} s", "proxyd: the login took too long"
        )
    lost = leg.lost.reason if leg.lost is not None else "closed"
    if login.reasons:
        return _Refused(HandshakeFailure.IDENTITY, f"{'; '.join(login.reasons)} ({lost})")
    is_protocol = leg.lost is not None and leg.lost.is_refusal
    return _Refused(HandshakeFailure.PROTOCOL if is_protocol else HandshakeFailure.DISCONNECTED, lost)


def _host(stream: trio.SocketStream) -> str:
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return ""
    return str(peer[0]) if isinstance(peer, tuple) else ""


SSH_DOOR = Door(SshListenerRuntime.open, serve_ssh, full_notice, background)
