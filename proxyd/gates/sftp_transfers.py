"""The files that an sftp client has open through the gate, and what passed of each. No I/O, no policy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from proxyd.gates.files import FileContents, FileRecord, KeptContent


class Transfer:
    """One direction of one open file: counted, hashed, and its first bytes kept."""

    __slots__ = (
        "_content",
        "_hash",
        "_path",
        "_verb",
        "byte_count",
        "end",
        "floor",
        "is_broken",
        "is_in_order",
        "position",
        "start",
    )

    def __init__(self, path: str, verb: str, contents: FileContents) -> None:
        self._path = path
        self._verb = verb
        self._content = KeptContent(contents)
        self._hash = hashlib.sha256()
        self.byte_count = 0
        self.start: int | None = None
        self.position = 0  # where the next piece should begin
        self.end: int | None = None  # the lowest offset at which the target said that the file ends
        self.floor = 0  # the size that the file was set to
        self.is_in_order = True
        self.is_broken = False  # something of it failed, or changed the file unseen

    def begin(self, offset: int) -> None:
        if self.start is None:
            self.start = self.position = offset
        elif offset != self.position:
            self.is_in_order = False
            self.position = offset

    def add(self, data: memoryview) -> None:
        size = len(data)
        self._hash.update(data)
        self.byte_count += size
        self.position += size
        self._content.add(data)

    def ended_at(self, offset: int) -> None:
        self.end = offset if self.end is None else min(offset, self.end)

    def resized(self, size: int) -> None:
        if size < self.position:
            self.is_broken = True
        self.floor = size

    def record(self, *, is_ended: bool) -> FileRecord:
        """is_ended: the end of the file was seen (see FileRecord)."""
        start = self.start or 0
        is_whole = self.is_in_order and start == 0 and not self.is_broken and is_ended
        return FileRecord(
            self._path,
            self._verb,
            self.byte_count,
            self._hash.hexdigest(),
            is_whole,
            self.is_in_order,
            start,
            self._content.take(),
        )


@dataclass(eq=False, slots=True)
class OpenFile:
    """One handle of the target's. may_*: what was judged when it was opened. pending: requests not answered yet."""

    path: str
    contents: FileContents
    may_read: bool = False
    may_write: bool = False
    is_directory: bool = False
    is_made: bool = False  # opened with CREAT or TRUNC: even if nothing is written, a file comes of it
    appends: bool = False
    size: int | None = None  # as the target last said
    pending: int = 0
    is_closed: bool | None = None  # the answer to CLOSE: did it succeed?
    _transfers: dict[str, Transfer] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.is_closed is not None and self.pending == 0

    @property
    def reading(self) -> Transfer:
        return self._transfers.get("read") or self._begun("read")

    @property
    def writing(self) -> Transfer:
        return self._transfers.get("write") or self._begun("write")

    def _begun(self, verb: str) -> Transfer:
        transfer = self._transfers[verb] = Transfer(self.path, verb, self.contents)
        return transfer

    def records(self) -> list[FileRecord]:
        """What is to be said of it at its end."""
        found = []
        if "read" in self._transfers:
            reading = self.reading
            is_ended = reading.position in {reading.end, self.size} and self.pending == 0
            found.append(reading.record(is_ended=is_ended))
        if self.is_made or "write" in self._transfers:
            writing = self.writing
            is_kept = self.is_closed is True and self.pending == 0 and not self.appends
            found.append(writing.record(is_ended=is_kept and writing.floor <= writing.position))
        return found
