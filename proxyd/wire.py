"""One side of a relayed connection: a non-blocking socket and, over it, TLS; bytes in, bytes out.

The relay's hot path. trio's own streams pass through the scheduler on every send and try a read that is bound to fail
before each wait; here a send that the kernel takes at once costs no trip, and a read waits first when the last one
emptied the socket. Cancellation reaches every wait. One task receives; any may send, one at a time.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Coroutine
from typing import Any

import trio

from proxyd.tls import TlsStream
from proxyd.tls_engine import TlsError

_SMALL_READ_BYTES = 16 * 1024
_LARGE_READ_BYTES = 256 * 1024
MAX_DISCARDED_BYTES = 1 << 20
_TCP_OPEN = frozenset({1})  # tcp_states.h: TCP_ESTABLISHED


class ConnectionLost(Exception):
    """The peer has gone, or the connection broke."""


class Wire:
    """Takes over a stream after its handshake. `close` is the only thing to do after ConnectionLost or cancellation."""

    def __init__(
        self,
        transport: trio.SocketStream,
        tls: TlsStream | None,
        received: bytes = b"",
        *,
        is_eager: bool = False,
    ) -> None:
        """`is_eager`: look once, when all others have had their turn, before waiting to be woken. Under load what is
        waited for has come by then, and a look costs less than to be registered and woken.
        """
        self._transport = transport
        self._tls = tls
        # The same open socket under a second descriptor, since trio's does not hand out its own.
        self._socket = socket.fromfd(
            transport.socket.fileno(), transport.socket.family, transport.socket.type
        )
        self._socket.setblocking(False)
        self._received = received
        self._read_bytes = _SMALL_READ_BYTES
        self._is_eager = is_eager
        # A trio.Lock costs as much as the send itself; two tasks hardly ever meet here.
        self._is_sending = False
        self._is_broken = False
        self._senders = trio.lowlevel.ParkingLot()
        self.received_bytes = 0
        self.sent_bytes = 0

    @property
    def is_quiet(self) -> bool:
        """Open, and nothing has come that nobody has read: fit to be used again after a pause."""
        if self._received or self._is_broken or (self._tls is not None and self._tls.is_peer_closed):
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return False

    @property
    def is_gone(self) -> bool:
        """The peer has closed its side, as far as the socket shows: TLS 1.3 hides its own words for that."""
        if self._is_broken or (self._tls is not None and self._tls.is_peer_closed):
            return True
        sock = self._socket
        try:
            if sock.family == socket.AF_UNIX:
                return not sock.recv(1, socket.MSG_PEEK)
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in _TCP_OPEN
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True

    async def receive(self) -> bytes:
        """Plaintext that has come, at least one byte. Raises ConnectionLost at the end of the stream."""
        if self._received:
            data, self._received = self._received, b""
            return data
        tls = self._tls
        while True:
            if tls is not None:
                try:
                    data = tls.read_plaintext()
                except TlsError as fault:
                    raise ConnectionLost(fault.reason) from fault
                if data:
                    self.received_bytes += len(data)
                    return data
                if tls.is_peer_closed:
                    raise ConnectionLost("closed by the peer")
            data = await self._receive_raw()
            if tls is None:
                self.received_bytes += len(data)
                return data
            tls.feed_ciphertext(data)

    async def _receive_raw(self) -> bytes:
        sock = self._socket
        is_eager = self._is_eager
        while True:
            try:
                # Always one trip through the scheduler, so that a fast sender cannot keep other sessions waiting.
                if is_eager:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(sock)
                data = sock.recv(self._read_bytes)
            except (BlockingIOError, InterruptedError):
                is_eager = False
                continue
            except (OSError, ValueError, trio.ClosedResourceError) as fault:
                raise ConnectionLost(str(fault) or "closed") from fault
            if not data:
                raise ConnectionLost("closed by the peer")
            if len(data) == self._read_bytes:
                self._read_bytes = _LARGE_READ_BYTES
            elif len(data) < _SMALL_READ_BYTES:
                self._read_bytes = _SMALL_READ_BYTES
            return data

    def send_soon(self, data: bytes) -> Coroutine[Any, Any, None] | None:
        """Send `data` if the kernel takes it at once (None); else what must be awaited at once to send the rest.

        Raises ConnectionLost.
        """
        if self._is_sending:
            return self._send_in_turn(data)
        rest = self._send_now(self._encrypted(data))
        return None if rest is None else self._send_rest(rest)

    async def _send_in_turn(self, data: bytes) -> None:
        await self._senders.park()  # who sent before hands the turn on, so nobody gets in between
        try:
            rest = self._send_now(self._encrypted(data))
        except BaseException:
            self._hand_on()
            raise
        if rest is None:
            self._hand_on()
        else:
            await self._send_rest(rest)

    def _hand_on(self) -> None:
        if self._senders:
            self._senders.unpark()
        else:
            self._is_sending = False

    def _encrypted(self, data: bytes) -> bytes:
        self.sent_bytes += len(data)
        if self._tls is None:
            return data
        try:
            return self._tls.encrypt(data)
        except TlsError as fault:
            raise ConnectionLost(fault.reason) from fault

    def _send_now(self, data: bytes) -> memoryview | None:
        """Send what the kernel takes at once; what is left, or None."""
        if self._is_broken:
            raise ConnectionLost("a message was left half sent")
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as fault:
            raise ConnectionLost(str(fault)) from fault
        return None if sent == len(data) else memoryview(data)[sent:]

    async def _send_rest(self, rest: memoryview) -> None:
        """A cancelled send leaves the connection unusable."""
        sock = self._socket
        self._is_sending = True
        try:
            while rest:
                try:
                    await trio.lowlevel.wait_writable(sock)
                    sent = sock.send(rest)
                except (BlockingIOError, InterruptedError):
                    continue
                except (OSError, ValueError, trio.ClosedResourceError) as fault:
                    raise ConnectionLost(str(fault) or "closed") from fault
                rest = rest[sent:]
        except BaseException:
            self._is_broken = True  # perhaps half a record has been sent
            raise
        finally:
            self._hand_on()

    def close(self) -> None:
        """Close both descriptors; waits on them end with an error."""
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        self._transport.socket.close()

    def send_last(self, data: bytes) -> None:
        """Try, without waiting, to say a last word (b"" for none) and that it was the last (TLS close_notify)."""
        if self._is_broken or self._is_sending:
            return  # it would land in the middle of another message
        try:
            if self._tls is None:
                self._send_now(data)
            else:
                self._send_now((self._tls.encrypt(data) if data else b"") + self._tls.engine.close())
        except (ConnectionLost, TlsError):
            return

    async def linger(self, timeout_s: float) -> None:
        """After a last word: wait until the peer has gone, reading on what it still sends.

        Closing a TCP socket with unread bytes in it sends a reset, and a reset destroys the last word on its way.
        """
        left = MAX_DISCARDED_BYTES
        with trio.move_on_after(timeout_s, shield=True), contextlib.suppress(ConnectionLost, OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while left > 0:
                left -= len(await self._receive_raw())
