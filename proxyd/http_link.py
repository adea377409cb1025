"""The bytes under HTTP: a socket with TLS over it, or a tunnel inside another link.

`Wire` is the one over a socket. `TunnelLink` is TLS inside a link: what a client of the forward proxy speaks once its
CONNECT was answered. Both give plaintext and take plaintext; who closes one closes what is under it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

import trio

from proxyd.tls_engine import HandshakeError, TlsEngine, TlsError
from proxyd.wire import ConnectionLost


class Link(Protocol):
    """As `proxyd.wire.Wire`: see there. One task receives; any may send."""

    @property
    def is_gone(self) -> bool: ...
    async def receive(self) -> bytes: ...
    def send_soon(self, data: bytes) -> Coroutine[Any, Any, None] | None: ...
    def send_last(self, data: bytes) -> None: ...
    async def linger(self, timeout_s: float) -> None: ...
    def close(self) -> None: ...


class TunnelLink:
    """TLS, as the server, inside `outer`. `received` is what has come of it already."""

    def __init__(self, outer: Link, engine: TlsEngine, received: bytes = b"") -> None:
        self._outer = outer
        self._engine = engine
        if received:
            engine.feed_ciphertext(received)

    @property
    def alpn_protocol(self) -> str | None:
        return self._engine.alpn_protocol

    @property
    def is_gone(self) -> bool:
        return self._engine.is_peer_closed or self._outer.is_gone

    async def do_handshake(self, timeout_s: float) -> None:
        """Raises HandshakeError and ConnectionLost."""
        with trio.move_on_after(timeout_s) as scope:
            await self._shake_hands()
        if scope.cancelled_caught:
            raise HandshakeError(f"no TLS handshake within {timeout_s:g} s")

    async def _shake_hands(self) -> None:
        engine = self._engine
        while True:
            try:
                complete = engine.handshake()
            except HandshakeError:
                self._outer.send_last(engine.take_outgoing())
                raise
            if outgoing := engine.take_outgoing():
                await send(self._outer, outgoing)
            elif not complete:
                engine.feed_ciphertext(await self._outer.receive())
            if complete:
                return

    async def receive(self) -> bytes:
        engine = self._engine
        while True:
            try:
                data = engine.read_plaintext()
            except TlsError as fault:
                raise ConnectionLost(fault.reason) from fault
            if data:
                return data
            if engine.is_peer_closed:
                raise ConnectionLost("closed by the peer")
            engine.feed_ciphertext(await self._outer.receive())

    def send_soon(self, data: bytes) -> Coroutine[Any, Any, None] | None:
        try:
            encrypted = self._engine.encrypt(data)
        except TlsError as fault:
            raise ConnectionLost(fault.reason) from fault
        return self._outer.send_soon(encrypted)

    def send_last(self, data: bytes) -> None:
        try:
            last = (self._engine.encrypt(data) if data else b"") + self._engine.close()
        except TlsError:
            last = b""
        self._outer.send_last(last)

    async def linger(self, timeout_s: float) -> None:
        await self._outer.linger(timeout_s)

    def close(self) -> None:
        self._outer.close()


async def send(link: Link, data: bytes) -> None:
    """Send all of `data`, waiting only where the kernel does not take it at once. Raises ConnectionLost."""
    pending = link.send_soon(data)
    if pending is not None:
        await pending
