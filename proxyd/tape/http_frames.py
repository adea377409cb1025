"""Frames of HTTP's tapes as they are packed and put together: a head waits for the body and the end that come with it.

Most messages are here whole before anything of them is forwarded, and are one frame in place of three. What waits is
written before any other frame, and by `flush`. What the frames say is `http_taping`'s, which extends this.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from proxyd.tape.batching import BatchingWriter
from proxyd.tape.errors import TapeError
from proxyd.tape.format import MAX_FRAME_BYTES
from proxyd.tape.http_entries import TO_TARGET
from proxyd.tape.writer import MICROSECONDS

_encode = msgspec.msgpack.Encoder().encode


class HttpFrames(BatchingWriter):
    """`_held`: the head that waits, with what has come for it; None when there is none."""

    def __init__(self, fd: int, path: Path, *, clock: Callable[[], float], fsync: bool = False) -> None:
        super().__init__(fd, path, clock=clock, fsync=fsync)
        self._held: tuple[object, ...] | None = None
        self._held_exchange = 0
        self._held_way = TO_TARGET
        self._held_body = b""
        self._held_has_ended = False

    def flush(self) -> None:
        """Write all that is pending in one go. Must return before what it records is forwarded."""
        if self._held is not None:
            self._emit()
        self._write_pending()

    def _hold(self, exchange: int, way: int, head: tuple[object, ...]) -> None:
        if self._fault is not None:
            raise TapeError(self._fault)
        if self._held is not None:
            self._emit()
        self._held = head
        self._held_exchange = exchange
        self._held_way = way
        self._held_body = b""
        self._held_has_ended = False

    def _emit(self) -> None:
        """The head that waited becomes a frame, with what has come for it."""
        head, self._held = self._held, None
        if head is not None:
            super()._write_frame(self._packed((*head, self._held_body, self._held_has_ended)))

    def _write_frame(self, payload: bytes) -> None:
        if self._held is not None:
            self._emit()
        super()._write_frame(payload)

    def _write_parts(self, prefix: bytes, raw: memoryview) -> None:
        if self._held is not None:
            self._emit()
        super()._write_parts(prefix, raw)

    def _now_us(self) -> int:
        return int((self._clock() - self._began) * MICROSECONDS)

    def _packed(self, fields: tuple[object, ...]) -> bytes:
        """A payload. Text with lone surrogates, which only the slower packer takes, is rare here."""
        try:
            payload = _encode(fields)
        except (UnicodeEncodeError, OverflowError):
            try:
                payload = self._pack(msgspec.to_builtins(fields, builtin_types=(bytes,)))
            except (TypeError, ValueError, OverflowError) as error:
                raise self._fail(f"a frame of kind {fields[0]} cannot be packed: {error}") from error
        except (TypeError, ValueError) as error:
            raise self._fail(f"a frame of kind {fields[0]} cannot be packed: {error}") from error
        if len(payload) > MAX_FRAME_BYTES:
            raise self._fail(f"a frame of {len(payload)} bytes is over the limit")
        return payload
