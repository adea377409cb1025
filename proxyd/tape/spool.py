"""Bodies that wait for their turn without taking memory: small ones in it, more on disk, in one nameless file.

Owned by whoever exports a tape; closed with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Final

MEMORY_BYTES: Final = 8 * 1024 * 1024
PIECE_BYTES: Final = 64 * 1024


class Spool:
    """The file. It is empty again whenever nothing waits."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115
        self._size = 0
        self._waiting = 0

    def content(self) -> SpooledContent:
        self._waiting += 1
        return SpooledContent(self)

    def append(self, raw: bytes) -> int:
        """Where it stands now."""
        start = self._size
        self._file.seek(start)
        self._file.write(raw)
        self._size += len(raw)
        return start

    def read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)

    def forget(self) -> None:
        """One of those that waited is done with."""
        self._waiting -= 1
        if not self._waiting and self._size:
            self._file.seek(0)
            self._file.truncate()
            self._size = 0

    def close(self) -> None:
        self._file.close()


class SpooledContent:
    """One body: what is added comes out again, as often as it is asked for, until it is closed."""

    __slots__ = ("_is_open", "_parts", "_spool", "size")

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._parts: list[tuple[int, int]] = []
        self._is_open = True
        self.size = 0

    def add(self, raw: bytes) -> None:
        start = self._spool.append(raw)
        self.size += len(raw)
        if self._parts and sum(self._parts[-1]) == start:
            before, size = self._parts.pop()
            self._parts.append((before, size + len(raw)))
        else:
            self._parts.append((start, len(raw)))

    def pieces(self) -> Iterator[bytes]:
        for start, size in self._parts:
            for at in range(start, start + size, PIECE_BYTES):
                yield self._spool.read(at, min(PIECE_BYTES, start + size - at))

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._parts.clear()
            self._spool.forget()
