"""What is written to one socket: sent at once where nothing waits, else kept in order until the kernel takes it.

Owned by a leg, which sends what waits from a task of its own. Must never reorder or drop a byte.
"""

from __future__ import annotations

import collections
import contextlib
import socket
from collections.abc import Callable, Iterator

MAX_PIECES = 1024  # IOV_MAX: with more sendmsg(2) fails


class Outgoing:
    """`waiting_bytes`: what the kernel has not taken.

    `on_waiting` is called whenever more has to wait, `on_broken` when something cannot be written any more.
    """

    def __init__(
        self, sock: socket.socket, on_waiting: Callable[[], None], on_broken: Callable[[OSError], None]
    ) -> None:
        self.waiting_bytes = 0
        self._socket = sock
        self._on_waiting = on_waiting
        self._on_broken = on_broken
        self._waiting: collections.deque[bytes | memoryview] = collections.deque()
        self._corked: list[bytes] | None = None

    def __bool__(self) -> bool:
        """Does anything wait?"""
        return bool(self._waiting)

    def write(self, data: bytes) -> None:
        if self._corked is not None:
            self._corked.append(data)
        else:
            self._write([data])

    @contextlib.contextmanager
    def corked(self) -> Iterator[None]:
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
                self._write(pieces)

    def send_waiting(self) -> None:
        """As much as the kernel takes now. Raises OSError when the connection is broken."""
        while self._waiting:
            piece = self._waiting[0]
            try:
                sent = self._socket.send(piece)
            except (BlockingIOError, InterruptedError):
                return
            self.waiting_bytes -= sent
            if sent < len(piece):
                self._waiting[0] = memoryview(piece)[sent:]
                return
            self._waiting.popleft()

    def _write(self, pieces: list[bytes]) -> None:
        try:
            sent = 0 if self._waiting else self._send_now(pieces)
        except OSError as fault:
            self._on_broken(fault)
            return
        for piece in pieces:
            if sent >= len(piece):
                sent -= len(piece)
            else:
                self._keep(memoryview(piece)[sent:] if sent else piece)
                sent = 0

    def _send_now(self, pieces: list[bytes]) -> int:
        try:
            if len(pieces) == 1:
                return self._socket.send(pieces[0])
            return self._socket.sendmsg(pieces[:MAX_PIECES])
        except (BlockingIOError, InterruptedError):
            return 0

    def _keep(self, piece: bytes | memoryview) -> None:
        self._waiting.append(piece)
        self.waiting_bytes += len(piece)
        self._on_waiting()
