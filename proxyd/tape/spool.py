"""Bodies that wait for their turn without taking memory: a few in it, more on disk, in nameless files.

Files are filled one after the other, and each is gone as soon as nothing in it waits: the disk holds what is open, not
what was. Owned by whoever exports a tape; closed with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Final

MEMORY_BYTES: Final = 8 * 1024 * 1024
FILE_BYTES: Final = 64 * 1024 * 1024
PIECE_BYTES: Final = 64 * 1024


class _File:
    """`users`: how many contents have bytes in it."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115
        self.size = 0
        self.users = 0

    def append(self, raw: bytes) -> int:
        """Where it stands now."""
        start = self.size
        self._file.seek(start)
        self._file.write(raw)
        self.size += len(raw)
        return start

    def read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)

    def clear(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def close(self) -> None:
        self._file.close()


class Spool:
    """The files. `files` tells how many there are."""

    def __init__(self) -> None:
        self._current = _File()
        self._full: set[_File] = set()

    @property
    def files(self) -> int:
        return 1 + len(self._full)

    def content(self) -> SpooledContent:
        return SpooledContent(self)

    def file(self) -> _File:
        """The one to be written to."""
        if self._current.size >= FILE_BYTES:
            self._full.add(self._current)
            self._current = _File()
        return self._current

    def release(self, file: _File) -> None:
        """One content less has bytes in it."""
        file.users -= 1
        if file.users:
            return
        if file is self._current:
            file.clear()
        else:
            self._full.discard(file)
            file.close()

    def close(self) -> None:
        for file in (self._current, *self._full):
            file.close()


class SpooledContent:
    """One body: what is added comes out again, as often as it is asked for, until it is closed."""

    __slots__ = ("_parts", "_spool", "size")

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._parts: list[tuple[_File, int, int]] = []
        self.size = 0

    def add(self, raw: bytes) -> None:
        file = self._spool.file()
        if not any(known is file for known, _, _ in self._parts[-1:]):
            file.users += 1
        start = file.append(raw)
        self.size += len(raw)
        if self._parts:
            last, before, size = self._parts[-1]
            if last is file and before + size == start:
                self._parts[-1] = (file, before, size + len(raw))
                return
        self._parts.append((file, start, len(raw)))

    def pieces(self) -> Iterator[bytes]:
        for file, start, size in self._parts:
            for at in range(start, start + size, PIECE_BYTES):
                yield file.read(at, min(PIECE_BYTES, start + size - at))

    def close(self) -> None:
        parts, self._parts = self._parts, []
        for file in dict.fromkeys(file for file, _, _ in parts):
            self._spool.release(file)
