"""SSH's transport and authentication layers, by asyncssh, over trio streams: payloads in, payloads out.

The only module that knows that asyncssh is an asyncio library, and the only one that touches what lies below its public
names (the version is pinned in pyproject.toml; `tests/proxyd/test_asyncssh_names.py` fails when those names move). Used
by `proxyd.ssh_door` for both legs of a session.

Theory of operation. asyncssh's connection is an asyncio protocol: it is given bytes, and writes bytes to a transport.
`Leg` is that transport, over a trio stream: one trio task reads the socket and feeds the connection, so that reading
stops when that task does and a cancelled session stops at once; what the kernel does not take is kept and sent by a
second task. asyncssh does version exchange, key exchange, ciphers, rekeying and user authentication. Each message of
the connection protocol (80 and above) is handed to `on_message` as it comes and never reaches asyncssh's own channels.
asyncssh's timers and small tasks run on one asyncio loop for the whole daemon, made by trio-asyncio (`asyncio_loop`).
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import asyncssh
import trio
import trio_asyncio
from asyncssh.connection import SSHClientConnection, SSHConnection, SSHServerConnection
from asyncssh.constants import (
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_DISCONNECT,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
)
from asyncssh.kex import get_kex_algs
from asyncssh.misc import DisconnectError
from asyncssh.packet import PacketDecodeError, SSHPacket, String

from proxyd.gates.refusals import printable
from proxyd.identity.ssh import Step
from proxyd.ssh_host_keys import HostKeyCheck, HostKeyRefused
from proxyd.telemetry import Log

# Read at a time. A transfer takes its turn with every other session in this loop, and its turn is as long as this is
# large: with 64 KiB a database's answers beside an scp took three times as long as alone, with this half of that, for a
# fifth more processor time a byte.
READ_BYTES = 16 * 1024
LEAST_READ_BYTES = 2 * 1024
TURN_S = 0.005
"""Who keeps the processor for longer than this by what was read at once (many small messages) is read less of."""
MAX_LOGIN_BYTES = 512 * 1024
"""What a peer may send before the login is complete; a hundred attempts with large keys are less."""
MAX_UNTAKEN_BYTES = 4 * 1024 * 1024
"""With more than this written and not taken nothing is read from the peer: each message may be one to answer."""
MAX_UNREAD_BYTES = 512 * 1024
"""The same with what asyncssh has been given and not looked at. More than a packet, or none would ever be whole."""
MAX_REFUSALS = 100
"""Requests of a client to be let in that are answered with a no, whatever they were."""
MAX_DISCONNECT_CHARACTERS = 500
MAX_PIECES = 1024  # IOV_MAX: with more sendmsg(2) fails

# AES-GCM is what processors have instructions for, and it needs no hash besides. Which cipher is used is the first of
# the client's list that is in ours (RFC 4253, 7.1), and OpenSSH's list puts it last: so its clients, all of which have
# it since 6.2, are offered nothing else.
AES_GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CIPHERS = (*AES_GCM, "aes256-ctr", "aes192-ctr", "aes128-ctr")
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

# Of what asyncssh has, without SHA-1, without groups of the client's choice, and without the exchange for which the
# server makes an RSA key each time: strangers may ask for it again and again, and everybody would wait.
KEY_EXCHANGES = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)

# OpenSSH's client and server only use their own extensions (eow@openssh.com, which ends `ssh host yes | head`) with a
# peer whose version begins so.
VERSION_PREFIX = "OpenSSH_compatible_proxyd_"

Loop = asyncio.AbstractEventLoop


class TransportLost(Exception):
    """The connection has ended. `reason` is for the log; `is_refusal`: the peer, or we, said so in a message."""

    def __init__(self, reason: str, *, is_refusal: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_refusal = is_refusal


class Authenticator(Protocol):
    """What decides about a client's attempts (`proxyd.identity.ssh.SshLogin`)."""

    def methods(self, user: str) -> tuple[str, ...]: ...

    def offer(self, user: str, algorithm: bytes, key_blob: bytes) -> bool: ...

    def verify_key(self, user: str, key_blob: bytes, signed: bytes, signature: bytes) -> Step: ...

    @property
    def notice(self) -> str: ...

    def prompts(self, user: str) -> tuple[tuple[str, bool], ...] | None: ...

    def further_prompts(self) -> tuple[tuple[str, bool], ...]: ...

    def answer(self, user: str, responses: Sequence[str]) -> Step: ...


@contextlib.asynccontextmanager
async def asyncio_loop(log: Log) -> AsyncIterator[Loop]:
    """The loop on which asyncssh's timers run, for the length of the block. A fault in one is a line in the log."""
    logging.getLogger("asyncssh").setLevel(logging.CRITICAL)
    async with trio_asyncio.open_loop() as loop:

        def tell(_: Loop, context: dict[str, Any]) -> None:
            # The default would raise in the loop's own nursery, and so end every session.
            log.error(
                "fault in the SSH loop",
                what=str(context.get("message")),
                reason=repr(context.get("exception")),
            )

        loop.set_exception_handler(tell)
        yield loop


def use_loop(loop: Loop) -> None:
    """Let this task, and those that it starts from now on, find the loop. First thing in a session."""
    trio_asyncio.current_loop.set(loop)


class Leg(asyncio.Transport):
    """One side of an SSH session. `run` moves its bytes; `send` sends a payload of the connection protocol.

    Takes over the stream's socket, which `linger` or `close_socket` closes. `ready` is set when authentication is
    complete or the connection lost; `lost` says which. `received_bytes` and `sent_bytes` count the wire. Nothing here
    is called from another thread.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__()
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self._backlog: collections.deque[bytes | memoryview] = collections.deque()
        self._backlog_bytes = 0
        self._corked: list[bytes] | None = None
        self._nursery: trio.Nursery | None = None
        self._is_writing = False
        self._may_read = trio.Event()
        self._may_read.set()
        self._unread_bytes = 0
        self._has_room: trio.Event | None = None
        self._read_bytes = READ_BYTES
        self._is_closing = False
        self._scope = trio.CancelScope()
        self.connection: _Relayed
        self.ready = trio.Event()
        self.is_gone = False
        self.on_gone: Callable[[], None] = lambda: None
        self.lost: TransportLost | None = None
        self.received_bytes = 0
        self.sent_bytes = 0
        self.is_feeding = False
        self.on_batch: Callable[[], None] = lambda: None

    # What asyncssh calls

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        try:
            if name == "peername":
                return self._socket.getpeername()
            if name == "sockname":
                return self._socket.getsockname()
        except OSError:
            return default
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        self.sent_bytes += len(data)
        if self._corked is not None:
            self._corked.append(bytes(data))
        elif self._backlog:
            self._keep(bytes(data))
        else:
            self._send_now([bytes(data)])

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return self._backlog_bytes

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        """End reading; what has been written already still goes out, within the deadline of `linger`."""
        if not self._is_closing:
            self._is_closing = True
            self._scope.cancel()
            if self.lost is None:
                self.lost = TransportLost("closed")
            self.ready.set()

    # What the door calls

    @property
    def backlog_bytes(self) -> int:
        """Bytes that the peer has not taken yet, or that wait for the end of a key exchange."""
        return self._backlog_bytes + self.connection.deferred_bytes()

    @property
    def user_name(self) -> str:
        """As the client gave it in the attempt that succeeded."""
        return self.connection.user_name()

    @property
    def peer_version(self) -> str:
        """The other side's own version line."""
        return self.connection.peer_version()

    @property
    def is_exchanging_keys(self) -> bool:
        return self.connection.is_exchanging_keys()

    def disconnect(self, text: str) -> None:
        """Say why, in a message that clients show, and end the connection."""
        if not self._is_closing:
            if self.lost is None:
                self.lost = TransportLost(text)
            self.connection.disconnect(asyncssh.DISC_BY_APPLICATION, text[:MAX_DISCONNECT_CHARACTERS])
            # What is written from now on would come after the last word.
            self._is_closing = True
            self._scope.cancel()

    def pause_reading(self) -> None:
        """Take no more from the peer until `resume_reading`."""
        if self._may_read.is_set():
            self._may_read = trio.Event()

    def resume_reading(self) -> None:
        self._may_read.set()

    def send(self, payload: bytes) -> None:
        """Send one message of the connection protocol: number and fields."""
        if not self._is_closing:
            self.connection.relay(payload)

    @contextlib.contextmanager
    def corked(self) -> Any:
        """Gather what is written in the block, and send it with one call at its end."""
        if self._corked is not None:
            yield
            return
        self._corked = []
        try:
            yield
        finally:
            pieces, self._corked = self._corked, None
            if pieces:
                if self._backlog:
                    for piece in pieces:
                        self._keep(piece)
                else:
                    self._send_now(pieces)

    async def run(self) -> None:
        """Feed the connection until either side ends it. Call in a task of the session; cancel to stop."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    if self._backlog:
                        self._start_writing()
                    await self._read()
        finally:
            self._nursery = None
            if self.lost is None:
                self.lost = TransportLost("cancelled")
            self._is_closing = True
            self.ready.set()
            self.connection.connection_lost(None)
            self.is_gone = True
            self.on_gone()

    async def linger(self, timeout_s: float) -> None:
        """After `run`: send what is left, as far as the peer takes it in time, and close the socket."""
        with (
            trio.move_on_after(timeout_s, shield=True),
            contextlib.suppress(OSError, trio.ClosedResourceError),
        ):
            while self._backlog:
                await trio.lowlevel.wait_writable(self._socket)
                self._send_backlog()
            self._socket.shutdown(socket.SHUT_WR)
            left = READ_BYTES * 16
            while left > 0:
                await trio.lowlevel.wait_readable(self._socket)
                data = self._socket.recv(READ_BYTES)
                if not data:
                    break
                left -= len(data)
        self.close_socket()

    def close_socket(self) -> None:
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    # Reading and writing

    async def _read(self) -> None:
        sock = self._socket
        while True:
            # Always one trip through the scheduler, so that a fast sender cannot keep other sessions waiting.
            await trio.lowlevel.wait_readable(sock)
            if not self._may_read.is_set():
                await self._may_read.wait()
            try:
                data = sock.recv(self._read_bytes)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as fault:
                self._lose(TransportLost(fault.strerror or str(fault)))
                return
            if not data:
                self._lose(TransportLost("closed by the peer"))
                return
            self.received_bytes += len(data)
            if self.received_bytes > MAX_LOGIN_BYTES and not self.ready.is_set():
                self.disconnect(f"more than {MAX_LOGIN_BYTES} bytes before the login")
                return
            self._feed(data)
            while self._backlog_bytes > MAX_UNTAKEN_BYTES or self._unread_bytes > MAX_UNREAD_BYTES:
                self._has_room = trio.Event()
                await self._has_room.wait()

    def leave_unread(self, count: int) -> None:
        """What asyncssh has not looked at yet: it stops while a task of its own is at work on a message."""
        self._unread_bytes = count
        if self._has_room is not None:
            self._has_room.set()

    def _feed(self, data: bytes) -> None:
        began = time.thread_time()
        self.is_feeding = True
        try:
            self.connection.data_received(data)
        finally:
            self.is_feeding = False
        self.on_batch()
        if time.thread_time() - began > TURN_S:
            self._read_bytes = max(LEAST_READ_BYTES, self._read_bytes // 2)
        else:
            self._read_bytes = min(READ_BYTES, self._read_bytes * 2)

    def _lose(self, why: TransportLost) -> None:
        if self.lost is None:
            self.lost = why
        self._is_closing = True
        self.ready.set()
        self._scope.cancel()

    def _keep(self, piece: bytes | memoryview) -> None:
        self._backlog.append(piece)
        self._backlog_bytes += len(piece)
        self._start_writing()

    def _send_now(self, pieces: list[bytes]) -> None:
        try:
            if len(pieces) == 1:
                sent = self._socket.send(pieces[0])
            else:
                sent = self._socket.sendmsg(pieces[:MAX_PIECES])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as fault:
            self._lose(TransportLost(fault.strerror or str(fault)))
            return
        for piece in pieces:
            if sent >= len(piece):
                sent -= len(piece)
            else:
                self._keep(memoryview(piece)[sent:] if sent else piece)
                sent = 0

    def _send_backlog(self) -> None:
        while self._backlog:
            piece = self._backlog[0]
            try:
                sent = self._socket.send(piece)
            except (BlockingIOError, InterruptedError):
                return
            self._backlog_bytes -= sent
            if sent < len(piece):
                self._backlog[0] = memoryview(piece)[sent:]
                return
            self._backlog.popleft()

    def _start_writing(self) -> None:
        """A task for what the kernel does not take at once; most legs never need one."""
        if self._nursery is not None and not self._is_writing:
            self._is_writing = True
            self._nursery.start_soon(self._write_backlog)

    async def _write_backlog(self) -> None:
        while self._backlog:
            await trio.lowlevel.wait_writable(self._socket)
            try:
                self._send_backlog()
            except OSError as fault:
                self._lose(TransportLost(fault.strerror or str(fault)))
                return
            if self._has_room is not None:
                self._has_room.set()
            self.on_batch()
        self._is_writing = False


class _AnyChannel(dict[int, Any]):
    """asyncssh asks its table of channels who takes a message; the answer is always the relay."""

    def __init__(self, taker: _ChannelMessages) -> None:
        super().__init__()
        self._taker = taker

    def __missing__(self, number: int) -> _ChannelMessages:
        return self._taker


class _ChannelMessages:
    """Stands where asyncssh expects a channel."""

    def __init__(self, take: Callable[[SSHPacket], None]) -> None:
        self._take = take

    def log_received_packet(self, *_: object) -> None:
        return

    def process_packet(self, _kind: int, _number: int, packet: SSHPacket) -> bool:
        self._take(packet)
        return True


class _Relayed:
    """What both kinds of asyncssh's connections get from us, by inheritance before theirs."""

    leg: Leg
    on_message: Callable[[bytes], None]
    _deferred_bytes = 0
    if TYPE_CHECKING:  # of asyncssh's connections
        _deferred_packets: list[tuple[int, Sequence[bytes]]]
        _kexinit_sent: bool
        _kex: object | None
        _username: str
        _server_version: bytes
        _client_version: bytes
        _inpbuf: bytes
        _transport: object | None

        def is_client(self) -> bool: ...
        def _send_disconnect(self, code: int, reason: str, lang: str) -> None: ...
        def disconnect(self, code: int, reason: str) -> None: ...
        def _process_disconnect(self, kind: int, number: int, packet: SSHPacket) -> None: ...
        def connection_lost(self, exc: Exception | None) -> None: ...

    def _adopt(self, leg: Leg, on_message: Callable[[bytes], None]) -> None:
        self.leg = leg
        self.on_message = on_message
        self._channels = _AnyChannel(_ChannelMessages(self._take))
        self._protocol_factory = self._owner_of_nothing
        leg.connection = self

    def _owner_of_nothing(self) -> object:
        raise NotImplementedError

    def _take(self, packet: SSHPacket) -> None:
        self.on_message(packet.get_full_payload())

    def _take_message(self, _kind: int, _number: int, packet: SSHPacket) -> None:
        self.on_message(packet.get_full_payload())

    def _hear_disconnect(self, kind: int, number: int, packet: SSHPacket) -> None:
        """For the log: of the words with which a peer leaves, asyncssh keeps only those that tell of a fault."""
        heard = SSHPacket(packet.get_full_payload())
        with contextlib.suppress(PacketDecodeError):
            heard.get_byte()
            is_refusal = heard.get_uint32() != asyncssh.DISC_BY_APPLICATION
            words = printable(heard.get_string()[:MAX_DISCONNECT_CHARACTERS].decode(errors="replace"))
            if self.leg.lost is None:
                self.leg.lost = TransportLost(f"disconnected: {words}", is_refusal=is_refusal)
        self._process_disconnect(kind, number, packet)

    def relay(self, payload: bytes) -> None:
        self.send_packet(payload[0], payload[1:])

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            super().data_received(data)  # type: ignore[misc]

    def _recv_data(self) -> None:
        super()._recv_data()  # type: ignore[misc]
        self.leg.leave_unread(len(self._inpbuf))

    def deferred_bytes(self) -> int:
        return self._deferred_bytes if self._deferred_packets else 0

    def is_exchanging_keys(self) -> bool:
        return bool(self._kexinit_sent or self._kex)

    def user_name(self) -> str:
        return str(self._username)

    def peer_version(self) -> str:
        version = self._server_version if self.is_client() else self._client_version
        return version.decode(errors="replace")

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        # asyncssh puts a message to be ignored before each one, against an attack on CBC, which is not offered here.
        if pkttype == MSG_IGNORE:
            return
        deferred = self._deferred_packets
        count = len(deferred)
        super().send_packet(pkttype, *args, handler=handler)  # type: ignore[misc]
        if self._deferred_packets is deferred and len(deferred) > count:
            self._deferred_bytes += sum(map(len, args))

    def _send_deferred_packets(self) -> None:
        self._deferred_bytes = 0
        super()._send_deferred_packets()  # type: ignore[misc]

    def _log_packet(self, *_: object) -> None:
        """asyncssh formats a line for every packet before it asks whether anybody wants it."""

    def internal_error(self, exc_info: Any = None, error_logger: object = None) -> None:
        """asyncssh comes here with whatever it did not expect of a message: a field too short, a text that is none."""
        fault = (exc_info or sys.exc_info())[1]
        refused = asyncssh.ProtocolError(
            f"a message that cannot be handled ({str(fault) or type(fault).__name__})"
        )
        self._send_disconnect(refused.code, "a message that cannot be handled", "en")
        self._force_close(refused)

    def _force_close(self, exc: Exception | None) -> None:
        if exc is not None and self.leg.lost is None:
            self.leg.lost = _reason(exc)
        super()._force_close(exc)  # type: ignore[misc]
        # Nothing that came with the message that ended it counts any more.
        self._inpbuf = b""


_RELAYED: dict[int, Callable[..., None]] = {
    number: _Relayed._take_message
    for number in (
        MSG_GLOBAL_REQUEST,
        MSG_REQUEST_SUCCESS,
        MSG_REQUEST_FAILURE,
        MSG_CHANNEL_OPEN,
        MSG_CHANNEL_OPEN_CONFIRMATION,
        MSG_CHANNEL_OPEN_FAILURE,
    )
}
_RELAYED[MSG_DISCONNECT] = _Relayed._hear_disconnect


class _ServerConnection(_Relayed, SSHServerConnection):  # type: ignore[misc]
    """The leg of a client. Who it is, is decided by `authenticator` alone."""

    _packet_handlers = {**SSHConnection._packet_handlers, **_RELAYED}  # noqa: RUF012

    def __init__(
        self,
        loop: Loop,
        options: Any,
        leg: Leg,
        on_message: Callable[[bytes], None],
        authenticator: Authenticator,
    ) -> None:
        super().__init__(loop, options)
        self._adopt(leg, on_message)
        self._authenticator = authenticator
        self._step = Step.FAILED
        self._refusals = 0

    def _owner_of_nothing(self) -> object:
        return _Nobody()

    def _send_kexinit(self) -> None:
        if self._client_version.startswith(b"SSH-2.0-OpenSSH_"):
            self._enc_algs = [name.encode() for name in AES_GCM]
        super()._send_kexinit()

    async def reload_config(self) -> None:
        """There is no configuration of asyncssh's own."""

    def send_server_host_keys(self) -> None:
        """Host keys are not rolled over through this."""

    def public_key_auth_supported(self) -> bool:
        return "publickey" in self._authenticator.methods(self._username)

    def kbdint_auth_supported(self) -> bool:
        return "keyboard-interactive" in self._authenticator.methods(self._username)

    def password_auth_supported(self) -> bool:
        return False

    def host_based_auth_supported(self) -> bool:
        return False

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        self._step = Step.FAILED
        if not msg:
            return self._authenticator.offer(username, b"", key_data)
        signed = String(self._session_id) + msg
        self._step = self._authenticator.verify_key(username, key_data, signed, signature)
        return self._step is not Step.FAILED

    async def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        self._step = Step.FAILED
        return self._challenge(username)

    def _challenge(self, username: str) -> Any:
        prompts = self._authenticator.prompts(username)
        return False if prompts is None else ("", self._authenticator.notice, "", prompts)

    async def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Any:
        self._step = self._authenticator.answer(username, responses)
        if self._step is Step.UNFINISHED:
            return ("", "", "", self._authenticator.further_prompts())
        return self._step is not Step.FAILED

    async def send_userauth_success(self) -> None:
        """Only what the attempt under way has proved counts, and only once."""
        step, self._step = self._step, Step.FAILED
        if step is Step.DONE:
            await super().send_userauth_success()
            self.leg.ready.set()
        else:
            self.send_userauth_failure(step is Step.PARTIAL)

    def send_userauth_failure(self, partial_success: bool) -> None:
        self._refusals += 1
        if self._refusals > MAX_REFUSALS or not self._authenticator.methods(self._username):
            raise asyncssh.DisconnectError(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures"
            )
        super().send_userauth_failure(partial_success)


class _ClientConnection(_Relayed, SSHClientConnection):  # type: ignore[misc]
    """The leg of a target."""

    _packet_handlers = {**SSHConnection._packet_handlers, **_RELAYED}  # noqa: RUF012

    def __init__(
        self,
        loop: Loop,
        options: Any,
        leg: Leg,
        on_message: Callable[[bytes], None],
        host_key: HostKeyCheck,
    ) -> None:
        super().__init__(loop, options)
        self._adopt(leg, on_message)
        self._host_key = host_key

    def validate_server_host_key(self, key_data: bytes) -> asyncssh.SSHKey:
        """Ours decides (see `proxyd.ssh_host_keys` on what asyncssh's would let pass)."""
        try:
            key = self._host_key.check(key_data)
        except HostKeyRefused as refused:
            raise asyncssh.HostKeyNotVerifiable(refused.what) from refused
        self._server_host_key = key
        return key

    def _owner_of_nothing(self) -> object:
        return _Somebody(self.leg)


class _Nobody(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True


class _Somebody(asyncssh.SSHClient):
    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def auth_completed(self) -> None:
        self._leg.ready.set()


def _reason(error: Exception) -> TransportLost:
    if isinstance(error, DisconnectError):
        return TransportLost(error.reason, is_refusal=True)
    return TransportLost(str(error) or type(error).__name__)


async def server_options(host_keys: Sequence[object], version: str) -> Any:
    """asyncssh's settings for the leg of clients; the same for all connections of a listener.

    `host_keys`: asyncssh key pairs, or (key, certificate) pairs.
    """
    return await trio_asyncio.aio_as_trio(asyncssh.SSHServerConnectionOptions.construct)(
        server_factory=_Nobody,
        server_host_keys=list(host_keys),
        server_version=VERSION_PREFIX + version,
        kex_algs=[name for name in KEY_EXCHANGES if name.encode() in get_kex_algs()],
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        signature_algs=SIGNATURES,
        compression_algs=("none",),
        login_timeout=0,
        keepalive_interval=0,
        gss_host=None,
        config=None,
    )


def serve_client(
    loop: Loop,
    options: Any,
    stream: trio.SocketStream,
    authenticator: Authenticator,
    on_message: Callable[[bytes], None],
) -> Leg:
    """The leg of a client that has just connected; it speaks once `run` is running."""
    leg = Leg(stream)
    connection = _ServerConnection(loop, options, leg, on_message, authenticator)
    connection.connection_made(leg)
    return leg


async def connect_target(
    stream: trio.SocketStream,
    on_message: Callable[[bytes], None],
    *,
    host: str,
    port: int,
    username: str,
    client_keys: Sequence[object],
    password: str | None,
    host_key: HostKeyCheck,
    version: str,
) -> Leg:
    """The leg of a target; `ready` is set once it has let us in or `lost` says why not. For a task of a session."""
    loop = trio_asyncio.current_loop.get()
    options = await trio_asyncio.aio_as_trio(asyncssh.SSHClientConnectionOptions.construct)(
        client_factory=asyncssh.SSHClient,
        host=host,
        port=port,
        username=username,
        client_keys=list(client_keys) or None,
        password=password,
        known_hosts=host_key.known_hosts,
        server_host_key_algs=host_key.algorithms,
        client_version=VERSION_PREFIX + version,
        preferred_auth=("publickey",) if password is None else ("password", "keyboard-interactive"),
        agent_path=None,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        compression_algs=("none",),
        login_timeout=0,
        keepalive_interval=0,
        gss_host=None,
        config=None,
    )
    leg = Leg(stream)
    connection = _ClientConnection(loop, options, leg, on_message, host_key)
    connection.connection_made(leg)
    return leg
