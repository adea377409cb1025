"""A tape whose frames are collected and written together: for protocols with many small frames.

What `flush` has returned for is on the tape; what came after is not yet. So whoever forwards bytes calls it first. A
batch that could not be written whole raises TapeError like a frame of any other tape, and `chain` is then the hash of
the last frame that is whole in the file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxyd.tape.errors import TapeError
from proxyd.tape.format import CHAIN_BYTES
from proxyd.tape.frames import FrameKind
from proxyd.tape.writer import TapeWriter

MAX_PENDING_BYTES: Final = 256 * 1024

_CHAIN: Final = slice(8, 8 + CHAIN_BYTES)  # where in a frame its own hash stands
_write = os.write


class BatchingWriter(TapeWriter):
    """See `writer.TapeWriter`. Extended by `http_frames`."""

    def __init__(self, fd: int, path: Path, *, clock: Callable[[], float], fsync: bool = False) -> None:
        super().__init__(fd, path, clock=clock, fsync=fsync)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._written_chain: bytes = b""

    @property
    def chain(self) -> str:
        return (self._written_chain if self._pending else self._encoder.chain).hex()

    def flush(self) -> None:
        """Write all that is pending in one go. Raises TapeError, also when the tape has failed before."""
        self._write_pending()

    def _write_pending(self) -> None:
        if self._fault is not None:
            raise TapeError(self._fault)
        pending = self._pending
        if not pending:
            return
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        try:
            written = _write(self._fd, data)
        except OSError as error:
            raise self._cut(0, str(error.strerror)) from error
        if written != len(data):
            raise self._cut(written, f"{written} of {len(data)} bytes were written")
        self.bytes_written += written
        self._pending = []
        self._pending_bytes = 0

    def end(self, reason: str) -> str:
        try:
            self._write_packed(FrameKind.END, reason, self.operations, self.denials)
            self.flush()
            if self._fsync:
                self._sync()
        finally:
            self.close()
        return self.chain

    def close(self) -> None:
        """As of every tape; what is pending is written if it still can be."""
        if self._fd >= 0 and self._fault is None:
            with contextlib.suppress(TapeError):
                self.flush()
        super().close()

    def _write_frame(self, payload: bytes) -> None:
        if self._fault is not None:
            raise TapeError(self._fault)
        if not self._pending:
            self._written_chain = self._encoder.chain
        frame = self._encoder.frame(payload)
        self._pending.append(frame)
        self._pending_bytes += len(frame)
        if self._pending_bytes > MAX_PENDING_BYTES:
            self._write_pending()

    def _write_parts(self, prefix: bytes, raw: memoryview) -> None:
        self._write_pending()
        super()._write_parts(prefix, raw)

    def _cut(self, written: int, reason: str) -> TapeError:
        """Only `written` bytes of the batch are in the file."""
        chain = self._written_chain
        for frame in self._pending:
            written -= len(frame)
            if written < 0:
                break
            chain = frame[_CHAIN]
        self._pending = []
        self._encoder.chain = chain
        return self._fail(reason)
