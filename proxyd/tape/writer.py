"""Writes the frames of one tape. What is on a tape of which protocol is said by those that extend this:
`recorder` (PostgreSQL), `ssh_taping`, and, by way of `batching`, `http_taping`.

Every method is synchronous and ends in one write of one whole frame (of a batch of them, where they are
batched), so that a crash costs at most the last. A frame that could not be written whole raises TapeError,
and so does every later call: the session must end.

A tape's path is made of the UTC time and the session's id alone, never of a name that a caller chose.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgpack
import msgspec

from proxyd.tape.entries import DENIED, TapeHeader
from proxyd.tape.errors import TapeError
from proxyd.tape.format import MAGIC, MAX_FRAME_BYTES, Buffer, FrameEncoder
from proxyd.tape.frames import FrameKind

SUFFIX: Final = ".tape"
RAW_PIECE_BYTES: Final = 1024 * 1024
"""Longer raw bytes are split over several frames, so that readers need little memory."""
COPY_LIMIT_BYTES: Final = 16 * 1024
"""Up to here joining a frame and writing it is quicker than writing its parts."""
MICROSECONDS: Final = 1_000_000

_SESSION_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_OPEN_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_BIN32 = struct.Struct(">BI")

_write = os.write

Opener = Callable[[Path, int], int]

PACK_BUFFER_BYTES: Final = 4096


class TapeWriter:
    """The open file of one tape, its clock and its chain. Owned by the session, closed by `end` (or `close`)."""

    def __init__(self, fd: int, path: Path, *, clock: Callable[[], float], fsync: bool = False) -> None:
        """Takes over `fd`. `clock` gives monotonic seconds; the tape's time begins now."""
        self.path = path
        self.bytes_written = 0
        self.operations = 0
        self.denials = 0
        self._fd = fd
        self._clock = clock
        self._began = clock()
        self._fsync = fsync
        self._encoder = FrameEncoder()
        # The buffer grows as needed; its default size is a quarter of a megabyte for each session.
        self._pack = msgpack.Packer(unicode_errors="surrogatepass", buf_size=PACK_BUFFER_BYTES).pack
        self._fault: str | None = None

    def begin(self, header: TapeHeader) -> None:
        """Write the first frame. Closes the file when that fails."""
        # The lock tells readers that the session is alive. Where the file system has none, they see a
        # torn tape.
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        payload = self._pack((int(FrameKind.HEADER), 0, msgspec.to_builtins(header)))
        try:
            self._write_bytes(MAGIC + self._encoder.frame(payload))
        except BaseException:
            self.close()
            raise

    @property
    def chain(self) -> str:
        """Hash of the last frame that was written whole, in hex. Kept elsewhere it proves the tape up to there."""
        return self._encoder.chain.hex()

    @property
    def is_usable(self) -> bool:
        return self._fault is None

    def event(self, name: str, data: Mapping[str, object]) -> None:
        """Something that has no frame of its own. `data` holds plain values (str, int, list, dict...).

        A refusal is the event `entries.DENIED`.
        """
        self.denials += name == DENIED
        self._write_packed(FrameKind.EVENT, name, dict(data))

    def end(self, reason: str) -> str:
        """Write the last frame, close, and return the final chain hash in hex. Raises TapeError, closed
        all the same.
        """
        try:
            self._write_packed(FrameKind.END, reason, self.operations, self.denials)
            if self._fsync:
                self._sync()
        finally:
            self.close()
        return self.chain

    def close(self) -> None:
        """Close without an end frame (the tape reads as torn). Does nothing when closed."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._fault = self._fault or f"the tape {self.path} is closed"
            os.close(fd)

    def _write_packed(self, kind: FrameKind, *fields: object) -> None:
        at_us = int((self._clock() - self._began) * MICROSECONDS)
        try:
            payload = self._pack((int(kind), at_us, *fields))
        except (TypeError, ValueError, OverflowError) as error:
            raise self._fail(f"a {kind.name.lower()} cannot be packed: {error}") from error
        if len(payload) > MAX_FRAME_BYTES:
            raise self._fail(f"a {kind.name.lower()} of {len(payload)} bytes is over the limit")
        self._write_frame(payload)

    def _write_frame(self, payload: bytes) -> None:
        if self._fault is not None:
            raise TapeError(self._fault)
        self._write_bytes(self._encoder.frame(payload))

    def _write_bytes(self, frame: bytes) -> None:
        try:
            written = _write(self._fd, frame)
        except OSError as error:
            raise self._unwritten(str(error.strerror)) from error
        if written != len(frame):
            raise self._unwritten(f"{written} of {len(frame)} bytes were written")
        self.bytes_written += written

    def _write_raw(self, prefix: bytes, raw: Buffer) -> None:
        """Large raw bytes behind `prefix`, a payload that ends in an empty bin, without copying them."""
        view = memoryview(raw)
        for start in range(0, len(view), RAW_PIECE_BYTES):
            piece = view[start : start + RAW_PIECE_BYTES]
            self._write_parts(prefix[:-2] + _BIN32.pack(0xC6, len(piece)), piece)

    def _write_parts(self, prefix: bytes, raw: memoryview) -> None:
        if self._fault is not None:
            raise TapeError(self._fault)
        head = self._encoder.head(prefix, raw) + prefix
        try:
            written = os.writev(self._fd, (head, raw))
        except OSError as error:
            raise self._unwritten(str(error.strerror)) from error
        if written != len(head) + len(raw):
            raise self._unwritten(f"{written} of {len(head) + len(raw)} bytes were written")
        self.bytes_written += written

    def _sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._fail(str(error.strerror)) from error

    def _unwritten(self, reason: str) -> TapeError:
        """The last frame is not on the tape, or not whole: `chain` is the one before it."""
        self._encoder.chain = self._encoder.before
        return self._fail(reason)

    def _fail(self, reason: str) -> TapeError:
        self._fault = f"cannot write the tape {self.path}: {reason}"
        return TapeError(self._fault)


def create_file(directory: Path, header: TapeHeader, opener: Opener | None = None) -> tuple[Path, int]:
    """Create `directory`/DAY/TIME-SESSION.tape, which must not exist: its path and descriptor.

    `opener(path, flags)` gives the file descriptor. Raises TapeError.
    """
    path = directory / tape_name(header)
    try:
        return path, (opener or _open_tape)(path, _OPEN_FLAGS)
    except OSError as error:
        raise TapeError(f"cannot create the tape {path}: {error.strerror}") from error


def tape_name(header: TapeHeader) -> Path:
    """DAY/TIME-SESSION.tape, relative. Raises TapeError for a session id that is not plain letters and
    digits.
    """
    if _SESSION_ID.fullmatch(header.session) is None:
        raise TapeError(f"the session id {header.session!r} cannot name a file")
    started = datetime.fromtimestamp(header.started_at, UTC)
    return Path(f"{started:%Y-%m-%d}") / f"{started:%H%M%S}-{header.session}{SUFFIX}"


def _open_tape(path: Path, flags: int) -> int:
    path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    day = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.open(path.name, flags, mode=0o600, dir_fd=day)
    finally:
        os.close(day)
