"""What the gates saw of a file that was transferred inside an SSH session. The tape records it; no I/O, no policy."""

from __future__ import annotations

import msgspec

MAX_HELD_BYTES = 64 * 1024 * 1024
"""Content that one session holds in memory, of all files that are under way."""


class FileRecord(msgspec.Struct, frozen=True):
    """One transfer that has ended, by sftp or by the legacy scp protocol.

    path: as judged (sftp), or as the scp stream named it; text with surrogateescape. verb: "read" (the client got
    the bytes) or "write". byte_count: how many bytes passed. sha256: of those bytes, in the order in which they
    passed, in hex.
    is_complete: they are the whole of it, from the first byte to the end of the file, in order, and the end was seen
    (the end of the file or its reported size for a read, a successful close for a write). A write in place that is
    shorter than the old file leaves the old file's end behind; that is complete all the same.
    is_in_order: each piece began where the one before it ended; otherwise the hash is not a file's.
    start: the offset of the first byte. content: the first bytes, as many as the tape asked for.
    """

    path: str
    verb: str
    byte_count: int
    sha256: str
    is_complete: bool
    is_in_order: bool = True
    start: int = 0
    content: bytes = b""


class FileContents:
    """How much of the content of files is kept: so much of each, and of all that are under way within a budget."""

    __slots__ = ("left_bytes", "of_each_bytes")

    def __init__(self, of_each_bytes: int = 0, budget_bytes: int = MAX_HELD_BYTES) -> None:
        self.of_each_bytes = of_each_bytes
        self.left_bytes = budget_bytes


class KeptContent:
    """The first bytes of one file. Where the budget ends they end, for good: there is no hole in them."""

    __slots__ = ("_contents", "_data", "_limit")

    def __init__(self, contents: FileContents) -> None:
        self._contents = contents
        self._data = bytearray()
        self._limit = contents.of_each_bytes

    def add(self, data: memoryview) -> None:
        wanted = min(self._limit - len(self._data), len(data))
        if wanted <= 0:
            return
        kept = min(wanted, self._contents.left_bytes)
        self._contents.left_bytes -= kept
        self._data += data[:kept]
        if kept < wanted:
            self._limit = len(self._data)

    def take(self) -> bytes:
        """All of it, which then counts no longer. Nothing more is kept."""
        data = bytes(self._data)
        self._contents.left_bytes += len(data)
        self._data.clear()
        self._limit = 0
        return data
