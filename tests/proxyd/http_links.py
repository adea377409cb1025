"""A link that a test plays the other end of: what HTTP connections send and receive, in memory."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import trio

from proxyd.wire import ConnectionLost


class PlayedLink:
    """`say`, `hang_up`: the peer's part. `sent`: what came to it. While `is_full` nothing is taken."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.last = b""
        self.is_full = False
        self.is_closed = False
        self.is_broken = False
        self._in, self._out = trio.open_memory_channel[bytes](1000)
        self._emptied = trio.Event()

    def say(self, data: bytes) -> None:
        self._in.send_nowait(data)

    def hang_up(self) -> None:
        self._in.close()

    def empty(self) -> None:
        self.is_full = False
        self._emptied.set()

    def take(self) -> bytes:
        data = bytes(self.sent)
        self.sent.clear()
        return data

    # As `proxyd.wire.Wire`

    @property
    def is_gone(self) -> bool:
        return self.is_closed

    @property
    def is_quiet(self) -> bool:
        return not self.is_closed

    async def receive(self) -> bytes:
        try:
            return await self._out.receive()
        except trio.EndOfChannel:
            raise ConnectionLost("closed by the peer") from None

    def send_soon(self, data: bytes) -> Coroutine[Any, Any, None] | None:
        if self.is_broken or self.is_closed:
            raise ConnectionLost("broken")
        if not self.is_full:
            self.sent += data
            return None
        return self._send_later(data)

    async def _send_later(self, data: bytes) -> None:
        half = len(data) // 2
        self.sent += data[:half]
        try:
            self._emptied = trio.Event()
            await self._emptied.wait()
        except BaseException:
            self.is_broken = True
            raise
        self.sent += data[half:]

    def send_last(self, data: bytes) -> None:
        self.last += data

    async def linger(self, timeout_s: float) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self.is_closed = True
