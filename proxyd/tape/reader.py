"""Reads tapes: one after the other through its checks, or quickly for a list. Used by the command line.

Memory is bounded by the largest frame, not by the tape. A tape that is still being written reads fine:
its end is where the recorder is.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgpack
import msgspec

from proxyd.tape.entries import DENIED, POSTGRES, SSH, Entry, TapeHeader, entry_of, header_of
from proxyd.tape.errors import TapeError
from proxyd.tape.format import (
    HEAD_BYTES,
    MAGIC,
    MAX_FRAME_BYTES,
    Frame,
    FrameDecoder,
    Tampered,
    Verdict,
    last_frame,
)
from proxyd.tape.frames import FrameKind
from proxyd.tape.writer import SUFFIX

CHUNK_BYTES: Final = 256 * 1024
TAIL_BYTES: Final = 4096
"""How far from the end of a file the end frame is looked for by `summarise`."""
_PEEK_BYTES: Final = 512


class TapeState(Enum):
    ENDED = "ended"
    LIVE = "live"
    TORN = "torn"
    DAMAGED = "damaged"


class TapeSummary(msgspec.Struct, frozen=True):
    """A tape in a list. `state` is by its first and last frame; only reading it whole proves it.

    `header` is None when it cannot be read. `duration_us` runs to the last frame. `reason` is how it ended.
    """

    path: Path
    header: TapeHeader | None
    size_bytes: int
    state: TapeState
    duration_us: int = 0
    operations: int = 0
    denials: int = 0
    reason: str = ""


class Tape:
    """An open tape: `header`, then `entries()` once, then `verdict`. A context manager.

    `header` is None when the tape is torn or tampered with before its first frame is whole.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.header: TapeHeader | None = None
        self._protocol = POSTGRES
        self._fd = fd
        self._decoder = FrameDecoder()
        self._verdict: Verdict | None = None
        self.is_live = _is_live(fd)
        first = self._next()
        if first is not None:
            try:
                self.header = header_of(first)
                self._protocol = self.header.protocol
            except (msgspec.ValidationError, TypeError, ValueError) as error:
                self._verdict = Tampered(first.position, f"the header is of another shape: {error}", 0, b"")

    def entries(self) -> Iterator[Entry]:
        """Every good entry behind the header, in order. Raises TapeError when the file cannot be read."""
        while self._verdict is None and (frame := self._next()) is not None:
            yield entry_of(frame, self._protocol)

    @property
    def verdict(self) -> Verdict:
        """Of the whole tape: entries not taken yet are read and checked."""
        for _ in self.entries():
            pass
        if self._verdict is None:
            self._verdict = self._decoder.finish()
        return self._verdict

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> Frame | None:
        decoder = self._decoder
        while (frame := decoder.next_frame()) is None and not decoder.is_done:
            data = self._read()
            if not data:
                break
            decoder.feed(data)
        return frame

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, CHUNK_BYTES)
        except OSError as error:
            raise TapeError(f"cannot read the tape {self.path}: {error.strerror}") from error


def read_tape(path: Path) -> Tape:
    """Open a tape. Raises TapeError when there is no such file or it cannot be read; damage is a verdict."""
    fd = _open(path)
    try:
        return Tape(path, fd)
    except BaseException:
        os.close(fd)
        raise


def tape_paths(directory: Path) -> Iterator[Path]:
    """The tapes below a directory, oldest first. Raises TapeError when the directory cannot be listed."""
    try:
        days = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False))
        for day in days:
            names = sorted(
                entry.name
                for entry in os.scandir(directory / day)
                if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False)
            )
            yield from (directory / day / name for name in names)
    except OSError as error:
        raise TapeError(f"cannot list the tapes in {directory}: {error.strerror}") from error


def session_of(path: Path) -> str:
    """The session id in a tape's file name."""
    return path.name.removesuffix(SUFFIX).partition("-")[2]


def find_tape(directory: Path | None, reference: str) -> Path:
    """The tape meant by a path, a session id or the beginning of exactly one. Raises TapeError."""
    if "/" in reference or reference.endswith(SUFFIX):
        return Path(reference)
    if directory is None:
        raise TapeError(f"{reference} is not a path; where are the tapes? give --config or --directory")
    found = [path for path in tape_paths(directory) if session_of(path).startswith(reference)]
    exact = [path for path in found if session_of(path) == reference]
    match exact or found:
        case [one]:
            return one
        case []:
            raise TapeError(f"no tape of a session {reference} in {directory}")
        case several:
            some = ", ".join(session_of(path) for path in several[:5])
            raise TapeError(f"{reference} begins {len(several)} session ids ({some}...); give more of it")


def summarise(path: Path) -> TapeSummary:
    """What a list shows. Reads the first and the last frame; all heads only when there is no end frame.

    Raises TapeError when the file cannot be opened or read.
    """
    fd = _open(path)
    try:
        return _summarise(path, fd)
    except OSError as error:
        raise TapeError(f"cannot read the tape {path}: {error.strerror}") from error
    finally:
        os.close(fd)


def _summarise(path: Path, fd: int) -> TapeSummary:
    size = os.fstat(fd).st_size
    header = _read_header(fd)
    if header is None:
        whole_head = size >= len(MAGIC) + HEAD_BYTES
        return TapeSummary(path, None, size, TapeState.DAMAGED if whole_head else TapeState.TORN)
    tail = last_frame(os.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES)))
    if tail is not None and tail[0] == FrameKind.END:
        _, at_us, fields = tail
        match fields:
            case (str() as reason, int() as operations, int() as denials, *_):
                return TapeSummary(path, header, size, TapeState.ENDED, at_us, operations, denials, reason)
    state = TapeState.LIVE if _is_live(fd) else TapeState.TORN
    at_us, operations, denials = _count(fd, size, header.protocol)
    return TapeSummary(path, header, size, state, at_us, operations, denials)


def _read_header(fd: int) -> TapeHeader | None:
    decoder = FrameDecoder()
    at = 0
    while (frame := decoder.next_frame()) is None and not decoder.is_done:
        data = os.pread(fd, CHUNK_BYTES, at)
        if not data:
            return None
        at += len(data)
        decoder.feed(data)
    if frame is None:
        return None
    try:
        return header_of(frame)
    except (msgspec.ValidationError, TypeError, ValueError):
        return None


def _count(fd: int, size: int, protocol: str) -> tuple[int, int, int]:
    """Time of the last frame, operations and denials, by the heads of the frames and nothing else."""
    judgements_count = protocol == SSH
    at, at_us, operations, denials, last = len(MAGIC), 0, 0, 0, None
    while at + HEAD_BYTES <= size:
        peek = os.pread(fd, HEAD_BYTES + _PEEK_BYTES, at)
        length = int.from_bytes(peek[:4], "big")
        if length > MAX_FRAME_BYTES or at + HEAD_BYTES + length > size:
            break
        at += HEAD_BYTES + length
        match _beginning(peek[HEAD_BYTES : HEAD_BYTES + length]):
            case (FrameKind.REQUEST, int() as time, operation, *_):
                at_us = time
                operations += operation != last
                last = operation
            case (FrameKind.HTTP_REQUEST, int() as time, *_):
                at_us = time
                operations += 1
            case (FrameKind.JUDGEMENT, int() as time, *_):
                at_us = time
                operations += judgements_count
            case (FrameKind.EVENT, int() as time, name, *_):
                at_us = time
                denials += name == DENIED
            case (_, int() as time, *_):
                at_us = time
    return at_us, operations, denials


def _beginning(payload: bytes) -> tuple[object, ...]:
    """Kind, time and the next field of a payload of which only the start may be here; () when it is no
    frame.
    """
    unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors="surrogatepass")
    unpacker.feed(payload)
    try:
        count = min(unpacker.read_array_header(), 3)
        return tuple(unpacker.unpack() for _ in range(count))
    except (ValueError, TypeError, msgpack.UnpackException):
        return ()


def _open(path: Path) -> int:
    """Open for reading. O_NONBLOCK: a FIFO in the way must not hold us up."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise TapeError(f"cannot open the tape {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise TapeError(f"cannot open the tape {path}: not a file")
    return fd


def _is_live(fd: int) -> bool:
    """Does a recorder hold its lock? On a file system without locks nothing is live."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
