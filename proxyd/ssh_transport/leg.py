"""The transport that asyncssh's connection writes to, over a trio stream: one side of an SSH session.

Owns the socket, reading it, and what the door may ask of the connection. Knows nothing of SSH but that there are
payloads. Made by `clients` and `targets`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

import asyncssh
import trio

from proxyd.ssh_transport.outgoing import Outgoing

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
MAX_DISCONNECT_CHARACTERS = 500


class TransportLost(Exception):
    """The connection has ended. `reason` is for the log; `is_refusal`: the peer, or we, said so in a message."""

    def __init__(self, reason: str, *, is_refusal: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_refusal = is_refusal


class Connection(Protocol):
    """What a leg asks of asyncssh's connection (`proxyd.ssh_transport.relayed`)."""

    def data_received(self, data: bytes) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def disconnect(self, code: int, reason: str) -> None: ...

    def relay(self, payload: bytes) -> None: ...

    def deferred_bytes(self) -> int: ...

    def is_exchanging_keys(self) -> bool: ...

    def user_name(self) -> str: ...

    def peer_version(self) -> str: ...


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
        self._outgoing = Outgoing(self._socket, self._start_writing, self._break)
        self._nursery: trio.Nursery | None = None
        self._is_writing = False
        self._may_read = trio.Event()
        self._may_read.set()
        self._unread_bytes = 0
        self._has_room: trio.Event | None = None
        self._read_bytes = READ_BYTES
        self._is_closing = False
        self._scope = trio.CancelScope()
        self.connection: Connection
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
        self._outgoing.write(bytes(data))

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return self._outgoing.waiting_bytes

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
        return self._outgoing.waiting_bytes + self.connection.deferred_bytes()

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

    def corked(self) -> contextlib.AbstractContextManager[None]:
        """Gather what is written in the block, and send it with one call at its end."""
        return self._outgoing.corked()

    async def run(self) -> None:
        """Feed the connection until either side ends it. Call in a task of the session; cancel to stop."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    if self._outgoing:
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
            while self._outgoing:
                await trio.lowlevel.wait_writable(self._socket)
                self._outgoing.send_waiting()
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
                self._break(fault)
                return
            if not data:
                self._lose(TransportLost("closed by the peer"))
                return
            self.received_bytes += len(data)
            if self.received_bytes > MAX_LOGIN_BYTES and not self.ready.is_set():
                self.disconnect(f"more than {MAX_LOGIN_BYTES} bytes before the login")
                return
            self._feed(data)
            while self._outgoing.waiting_bytes > MAX_UNTAKEN_BYTES or self._unread_bytes > MAX_UNREAD_BYTES:
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

    def _break(self, fault: OSError) -> None:
        self._lose(TransportLost(fault.strerror or str(fault)))

    def _lose(self, why: TransportLost) -> None:
        if self.lost is None:
            self.lost = why
        self._is_closing = True
        self.ready.set()
        self._scope.cancel()

    def _start_writing(self) -> None:
        """A task for what the kernel does not take at once; most legs never need one."""
        if self._nursery is not None and not self._is_writing:
            self._is_writing = True
            self._nursery.start_soon(self._write_backlog)

    async def _write_backlog(self) -> None:
        while self._outgoing:
            await trio.lowlevel.wait_writable(self._socket)
            try:
                self._outgoing.send_waiting()
            except OSError as fault:
                self._break(fault)
                return
            if self._has_room is not None:
                self._has_room.set()
            self.on_batch()
        self._is_writing = False
