"""What passes through the legacy scp protocol (`scp -t` and `scp -f` as commands): files seen, counted and hashed.

A passive observer. Whether the command may run was judged by its words; this says on the tape which files went with
it. It never blocks or changes a byte, and what it cannot follow ends the observation (`ended` says why).

The protocol (there is no document; OpenSSH's scp.c, `source` and `sink`): the source sends lines, `C0644 SIZE NAME`
for a file, `D0755 0 NAME` and `E` round a directory, `T` for times, and after a C line SIZE bytes and a last byte 0.
The sink answers each of these, and once at the beginning, with a byte 0, or 1 or 2 and a line of text for an error.
A C line that was refused has no data, so what the source sends next can only be read once the sink has answered.
A far end that sends files (`-f`) says nothing before the first answer; a client may not wait for the far end's.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from enum import Enum

from proxyd.gates.files import FileContents, FileRecord, KeptContent

MAX_LINE_BYTES = 8192
MAX_AHEAD_BYTES = 256 * 1024  # what a source may send before the sink's answer
MAX_DEPTH = 1000
MAX_SAID = 100
"""Lines of text to the user; who says more makes them up."""

_ENTRY = re.compile(rb"([CD])[0-7]{4} (0*\d{1,19}) ([^\0\n]+)")
_TIMES = re.compile(rb"T\d+ \d+ \d+ \d+")


class _Stage(Enum):
    LINE = "a line of the source"
    ANSWER = "the sink's answer to a line"
    DATA = "a file's bytes"
    END = "the byte behind a file"
    VERDICT = "the sink's answer to a file"
    OVER = "observation has ended"


_READING = frozenset({_Stage.LINE, _Stage.DATA, _Stage.END})


class ScpObserver:
    """direction: "-t", the client is the source and the target writes; "-f", the target is, and the client reads."""

    def __init__(self, direction: str, contents: FileContents | None = None) -> None:
        self.ended: str | None = None
        self._client_is_source = direction == "-t"
        self._contents = contents or FileContents()
        self._stage = _Stage.ANSWER  # the sink begins
        self._asked: bytes = b""  # the kind of line that is to be answered, b"" for the beginning
        self._chunks: deque[bytes] = deque()  # what the source sent and is not read yet
        self._chunk = b""
        self._position = 0
        self._unread_bytes = 0
        self._source_line = bytearray()
        self._sink_line = bytearray()
        self._directories: list[str] = []
        self._name = ""
        self._file: _Observed | None = None
        self._records: list[FileRecord] = []
        self._said: list[str] = []
        self._said_count = 0

    def from_client(self, data: bytes) -> list[FileRecord]:
        return self._take(data, is_source=self._client_is_source)

    def from_target(self, data: bytes) -> list[FileRecord]:
        return self._take(data, is_source=not self._client_is_source)

    def take_said(self) -> list[str]:
        """Errors and warnings of either side in words, since the last call."""
        said, self._said = self._said, []
        return said

    def finish(self) -> list[FileRecord]:
        """The channel is closed: what is to be said of a file that was under way."""
        if self._stage is not _Stage.OVER:
            self._end("the channel was closed")
        records, self._records = self._records, []
        return records

    def _take(self, data: bytes, *, is_source: bool) -> list[FileRecord]:
        if self._stage is not _Stage.OVER and data:
            if is_source and self._is_to_wait:
                self._end("it begins without being asked")
            elif is_source:
                self._chunks.append(data)
                self._unread_bytes += len(data)
            else:
                self._read_sink(data)
            self._read_source()
        records, self._records = self._records, []
        return records

    @property
    def _is_to_wait(self) -> bool:
        return self._stage is _Stage.ANSWER and not self._asked and not self._client_is_source

    def _say(self, line: bytes) -> None:
        self._said.append(line[1:].decode(errors="replace"))
        self._said_count += 1
        if self._said_count > MAX_SAID:
            self._end("too many messages")

    # The source

    def _read_source(self) -> None:
        while self._stage in _READING and self._has_source():
            if self._stage is _Stage.DATA:
                self._read_data()
            else:
                self._read_line()
        if self._unread_bytes > MAX_AHEAD_BYTES:
            self._end("the source does not wait for answers")

    def _has_source(self) -> bool:
        if self._position < len(self._chunk):
            return True
        self._chunk = self._chunks.popleft() if self._chunks else b""
        self._position = 0
        return bool(self._chunk)

    def _read_data(self) -> None:
        file = self._file
        if file is None:
            self._end("bytes of no file")
            return
        self._advance(file.take(memoryview(self._chunk)[self._position :]))
        if not file.left_bytes:
            self._stage = _Stage.END

    def _read_line(self) -> None:
        """Takes one line, or the single byte 0 behind a file."""
        line = self._source_line
        if self._stage is _Stage.END and not line and self._chunk[self._position] == 0:
            self._advance(1)
            self._ask(b"\0")
            return
        newline = self._chunk.find(b"\n", self._position, self._position + MAX_LINE_BYTES + 1)
        stop = newline if newline >= 0 else min(len(self._chunk), self._position + MAX_LINE_BYTES + 1)
        line += self._chunk[self._position : stop]
        self._advance(stop - self._position)
        if len(line) > MAX_LINE_BYTES:
            self._end("a line is too long")
        elif newline >= 0:
            self._advance(1)
            whole = bytes(line)
            line.clear()
            self._line(whole)

    def _advance(self, count: int) -> None:
        self._position += count
        self._unread_bytes -= count

    def _line(self, line: bytes) -> None:
        kind = line[:1]
        if kind in {b"\1", b"\2"}:
            # The source could not read something: a word to the user, and in a file's stead at its end.
            self._say(line)
            if self._stage is _Stage.END and self._file is not None:
                self._file.is_broken = True
                self._ask(b"\0")
            return
        if self._stage is _Stage.END:
            self._end("a file is longer than was said")
        elif line == b"E" and self._directories:
            self._ask(b"E")
        elif _TIMES.fullmatch(line):
            self._ask(b"T")
        elif found := _ENTRY.fullmatch(line):
            self._name = found[3].decode(errors="surrogateescape")
            if kind == b"C":
                path = "/".join((*self._directories, self._name))
                self._file = _Observed(path, "write" if self._client_is_source else "read", int(found[2]))
            self._ask(kind)
        else:
            self._end("a line is not one of the scp protocol")

    def _ask(self, kind: bytes) -> None:
        self._asked = kind
        self._stage = _Stage.VERDICT if kind == b"\0" else _Stage.ANSWER

    # The sink

    def _read_sink(self, data: bytes) -> None:
        position = 0
        while position < len(data) and self._stage is not _Stage.OVER:
            if not self._sink_line and data[position] == 0:
                position += 1
                self._answered(is_yes=True)
                continue
            newline = data.find(b"\n", position)
            stop = newline if newline >= 0 else len(data)
            self._sink_line += data[position:stop]
            position = stop + 1
            if len(self._sink_line) > MAX_LINE_BYTES:
                self._end("an answer is too long")
            elif newline >= 0:
                line = bytes(self._sink_line)
                self._sink_line.clear()
                if line[:1] in {b"\1", b"\2"}:
                    self._say(line)
                    self._answered(is_yes=False)
                else:
                    self._end("an answer is not one of the scp protocol")

    def _answered(self, *, is_yes: bool) -> None:
        # What the source had sent ahead is read up to the line that this answers.
        self._read_source()
        match self._stage:
            case _Stage.VERDICT:
                self._record(is_complete=is_yes)
                self._stage = _Stage.LINE
            case _Stage.ANSWER:
                self._line_answered(is_yes=is_yes)
            case _ if is_yes:
                self._end("the sink gave an answer to nothing")
            case _:
                pass  # a warning on its own

    def _line_answered(self, *, is_yes: bool) -> None:
        self._stage = _Stage.LINE
        match self._asked:
            case b"C" if is_yes and self._file is not None:
                self._stage = _Stage.DATA if self._file.left_bytes else _Stage.END
                self._file.begin(self._contents)
            case b"C":
                self._file = None
            case b"D" if is_yes and len(self._directories) == MAX_DEPTH:
                self._end("directories are nested too deeply")
            case b"D" if is_yes:
                self._directories.append(self._name)
            case b"E":
                self._directories.pop()

    # Records

    def _record(self, *, is_complete: bool) -> None:
        if self._file is not None:
            self._records.append(self._file.record(is_complete=is_complete))
        self._file = None

    def _end(self, reason: str) -> None:
        if self._file is not None and self._file.has_begun:
            self._record(is_complete=False)
        self._stage = _Stage.OVER
        self.ended = reason
        self._chunks.clear()
        self._chunk, self._position, self._unread_bytes = b"", 0, 0


class _Observed:
    """The file that is passing."""

    def __init__(self, path: str, verb: str, size: int) -> None:
        self.left_bytes = size
        self.is_broken = False
        self.has_begun = False
        self._path = path
        self._verb = verb
        self._size = size
        self._hash = hashlib.sha256()
        self._content = KeptContent(FileContents())

    def begin(self, contents: FileContents) -> None:
        self.has_begun = True
        self._content = KeptContent(contents)

    def take(self, data: memoryview) -> int:
        """Takes what belongs to it; how much that was."""
        mine = data[: self.left_bytes]
        self._hash.update(mine)
        self.left_bytes -= len(mine)
        self._content.add(mine)
        return len(mine)

    def record(self, *, is_complete: bool) -> FileRecord:
        is_whole = is_complete and not self.is_broken and not self.left_bytes
        return FileRecord(
            self._path,
            self._verb,
            self._size - self.left_bytes,
            self._hash.hexdigest(),
            is_whole,
            content=self._content.take(),
        )
