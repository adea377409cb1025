"""A TLS connection as a trio stream.

Owns the order in which a `TlsEngine` and a transport are driven: touch TLS, then wait for exactly one
thing. Never decides whom to trust (that is in the contexts of `proxyd.tls_contexts`). Called by the doors
for clients and by `proxyd.upstream` for targets; after the handshake the relay may drive the engine by
itself (`feed_ciphertext`, `read_plaintext`, `encrypt`) on the same connection.

Sending and receiving never wait for each other: nothing that arrives after the handshake has to be answered
before the next byte can be read (see `proxyd.tls_engine`), so there are no locks here, only guards against
two tasks on one side.

The stream is no `HalfCloseableStream`: RFC 5246 section 7.2.1 makes whoever receives close_notify close its
own side and drop what it still had to send. TLS 1.3 lifted that, but a promise that depends on the peer's
version is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Final

import trio
from cryptography import x509

from proxyd.tls_engine import HandshakeError, TlsEngine, TlsError

__all__ = ["HandshakeError", "TlsError", "TlsStream"]

RECEIVE_BYTES: Final = 1 << 16
# send_all encrypts and sends this much at a time, so that sending a large value does not hold it twice.
SEND_BYTES: Final = 1 << 18
# After a failed handshake the alert is sent and the peer gets this long to read it and close.
ALERT_TIMEOUT_S: Final = 1.0
# What a refused peer may still send meanwhile; it is thrown away.
MAX_DISCARDED_BYTES: Final = 1 << 20
CLOSE_TIMEOUT_S: Final = 5.0


class _State(Enum):
    OPEN = "open"
    BROKEN = "broken"
    CLOSED = "closed"


class _Guard:
    """Lets one task in at a time; the second one is a mistake of the caller, not something to wait for."""

    __slots__ = ("_busy", "_message")

    def __init__(self, message: str) -> None:
        self._busy = False
        self._message = message

    @contextmanager
    def held(self) -> Iterator[None]:
        if self._busy:
            raise trio.BusyResourceError(self._message)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False


class TlsStream(trio.abc.Stream):
    """TLS over `transport`, which it owns from now on.

    `received` is ciphertext that the caller has already read from the transport. Nothing can be sent or
    received before `do_handshake` has returned. A `send_all` that is cancelled or fails may have sent half
    a record: the stream is dead then, and only `aclose` is left.
    """

    def __init__(self, transport: trio.abc.Stream, engine: TlsEngine, *, received: bytes = b"") -> None:
        self.transport = transport
        self.engine = engine
        self._state = _State.OPEN
        self._plaintext = memoryview(b"")
        self._sending = _Guard("another task is sending on this TLS stream")
        self._receiving = _Guard("another task is receiving on this TLS stream")
        if received:
            engine.feed_ciphertext(received)
        self.feed_ciphertext = engine.feed_ciphertext
        self.encrypt = engine.encrypt

    # --- the handshake ----------------------------------------------------------------------------

    async def do_handshake(self, *, timeout_s: float) -> None:
        """Shake hands within `timeout_s` seconds, or raise HandshakeError with the reason for the log.

        After a failure the peer has been sent OpenSSL's alert, and the stream is good for nothing but
        `aclose`. A broken or closed transport is a HandshakeError too.
        """
        if self._state is not _State.OPEN:
            await trio.lowlevel.checkpoint()
            self._check_state()
        deadline = trio.current_time() + timeout_s
        with self._sending.held(), self._receiving.held():
            try:
                with trio.move_on_at(deadline) as scope:
                    await self._shake_hands()
                if scope.cancelled_caught:
                    raise HandshakeError(f"no TLS handshake within {timeout_s:g} s")
            except HandshakeError:
                self._break()
                await self._tell_peer(deadline)
                raise
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                self._break()
                raise HandshakeError("the connection broke during the TLS handshake") from exc
            except BaseException:
                self._break()
                raise

    async def _shake_hands(self) -> None:
        await trio.lowlevel.checkpoint()
        while True:
            complete = self.engine.handshake()
            if outgoing := self.engine.take_outgoing():
                await self.transport.send_all(outgoing)
            elif not complete:
                await self._receive_ciphertext()
            if complete:
                return

    async def _tell_peer(self, deadline: float) -> None:
        """Send the alert, and wait a little until the peer has it.

        Closing a TCP socket with unread bytes in it sends a reset, and a reset destroys the alert on its
        way. A TLS 1.3 client has often sent its first request by then, since it takes the handshake for
        done. So: say it, end our direction, and read on until the peer has gone.
        """
        end = min(deadline, trio.current_time() + ALERT_TIMEOUT_S)
        alert = self.engine.take_outgoing()
        if not alert:
            return
        with trio.move_on_at(end), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.transport.send_all(alert)
            if not isinstance(self.transport, trio.abc.HalfCloseableStream):
                return
            await self.transport.send_eof()
            left = MAX_DISCARDED_BYTES
            while left > 0 and (data := await self.transport.receive_some(RECEIVE_BYTES)):
                left -= len(data)

    # --- the stream -------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send. BrokenResourceError when the connection is broken; see the class for
        cancellation.
        """
        with self._sending.held():
            await trio.lowlevel.checkpoint()
            self._check_ready()
            view = memoryview(data)
            for at in range(0, len(view), SEND_BYTES):
                await self._send_slice(view[at : at + SEND_BYTES])

    async def _send_slice(self, data: memoryview) -> None:
        try:
            await self.transport.send_all(self.encrypt(data))
        except TlsError as exc:
            self._break()
            raise trio.BrokenResourceError(exc.reason) from exc
        except BaseException:
            self._break()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending.held():
            await trio.lowlevel.checkpoint()
            self._check_ready()
            await self.transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Plaintext, at most `max_bytes` of it; b"" after the peer's close_notify.

        The end of the transport without close_notify is a BrokenResourceError: anyone on the way can cause
        it.
        """
        _check_max_bytes(max_bytes)
        with self._receiving.held():
            await trio.lowlevel.checkpoint()
            self._check_ready()
            while True:
                if data := self._take_plaintext(max_bytes):
                    return data
                if self.engine.is_peer_closed:
                    return self._end_of_stream()
                try:
                    await self._receive_ciphertext()
                except trio.BrokenResourceError:
                    self._break()
                    raise

    async def _receive_ciphertext(self) -> None:
        data = await self.transport.receive_some(RECEIVE_BYTES)
        if data:
            self.engine.feed_ciphertext(bytes(data))
        else:
            self.engine.feed_eof()

    def _take_plaintext(self, max_bytes: int | None) -> bytes:
        if not self._plaintext:
            try:
                self._plaintext = memoryview(self.engine.read_plaintext())
            except TlsError as exc:
                self._break()
                raise trio.BrokenResourceError(exc.reason) from exc
        data = bytes(self._plaintext[:max_bytes])
        self._plaintext = self._plaintext[len(data) :]
        return data

    def _end_of_stream(self) -> bytes:
        if self.engine.is_truncated:
            self._break()
            raise trio.BrokenResourceError("the connection ended without TLS close_notify")
        return b""

    async def aclose(self) -> None:
        """Send close_notify (for at most CLOSE_TIMEOUT_S) and close the transport. Does not wait for the
        peer's.
        """
        if self._state is _State.CLOSED:
            await trio.lowlevel.checkpoint()
            return
        goodbye = self.engine.close() if self._state is _State.OPEN else b""
        self._state = _State.CLOSED
        try:
            if goodbye:
                # Busy: another task is in the middle of a record. The end is not clean then, and that is all.
                with (
                    trio.move_on_after(CLOSE_TIMEOUT_S),
                    suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError),
                ):
                    await self.transport.send_all(goodbye)
        except BaseException:
            await trio.aclose_forcefully(self.transport)
            raise
        await self.transport.aclose()

    def _break(self) -> None:
        if self._state is _State.OPEN:
            self._state = _State.BROKEN

    def _check_state(self) -> None:
        if self._state is _State.CLOSED:
            raise trio.ClosedResourceError("this TLS stream was closed")
        if self._state is _State.BROKEN:
            raise trio.BrokenResourceError("this TLS stream is broken")

    def _check_ready(self) -> None:
        self._check_state()
        if not self.engine.is_established:
            raise trio.NeedHandshakeError("call do_handshake first")

    # --- for those who drive the engine themselves ------------------------------------------------

    def read_plaintext(self) -> bytes:
        """All plaintext that is there, b"" for none: what `receive_some` has left over first. Raises
        TlsError.
        """
        if self._plaintext:
            left, self._plaintext = bytes(self._plaintext), memoryview(b"")
            return left
        return self.engine.read_plaintext()

    @property
    def is_peer_closed(self) -> bool:
        """The peer has said close_notify, or its transport has ended."""
        return self.engine.is_peer_closed

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        return self.engine.peer_certificate

    @property
    def peer_chain(self) -> tuple[x509.Certificate, ...]:
        return self.engine.peer_chain

    @property
    def alpn_protocol(self) -> str | None:
        return self.engine.alpn_protocol

    @property
    def sni(self) -> str | None:
        return self.engine.sni

    @property
    def version(self) -> str:
        return self.engine.version


def _check_max_bytes(max_bytes: int | None) -> None:
    if max_bytes is None:
        return
    if not isinstance(max_bytes, int):
        raise TypeError("max_bytes must be an int or None")
    if max_bytes < 1:
        raise ValueError("max_bytes must be at least 1")
