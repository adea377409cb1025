"""Decoders of compressed bodies, each bounded: in what it gives at once, and in the memory that a stream may ask for.

gzip and zlib have windows of 32 KiB. brotli has windows of up to 16 MiB (RFC 7932; the "large window" of its library is
not read), zstd of up to 8 MiB (RFC 9659: more is refused). One member or frame, nothing behind it. Called by
`compressed`, which bounds the whole. No I/O.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli
import zstandard

PIECE_BYTES = 256 * 1024
MAX_ZSTD_WINDOW = 8 * 1024 * 1024
# A block of zstd takes no less than four bytes and gives no more than 128 KiB: so much fits in at once.
_ZSTD_SLICE_BYTES = 64
_GZIP = 16 + zlib.MAX_WBITS


class BrokenCompression(Exception):
    """It is not compressed as it says. The message ends a sentence about the body."""


class Decoder(Protocol):
    """has_ended: what came was complete."""

    @property
    def has_ended(self) -> bool: ...

    def decoded(self, data: bytes) -> Iterator[bytes]:
        """In pieces of a few MiB at most. Raises BrokenCompression."""


class ZlibDecoder:
    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(window_bits)

    @property
    def has_ended(self) -> bool:
        return self._inner.eof

    def decoded(self, data: bytes) -> Iterator[bytes]:
        while data or self._inner.unconsumed_tail:
            if self._inner.eof:
                raise BrokenCompression("has something behind its end")
            try:
                piece = self._inner.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise BrokenCompression("cannot be decoded") from None
            data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
            if piece:
                yield piece
            elif not self._inner.eof:
                return


class BrotliDecoder:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    @property
    def has_ended(self) -> bool:
        return bool(self._inner.is_finished())

    def decoded(self, data: bytes) -> Iterator[bytes]:
        while True:
            try:
                piece: bytes = self._inner.process(data, output_buffer_limit=PIECE_BYTES)
            except brotli.error:  # also for what stands behind its end
                raise BrokenCompression("cannot be decoded") from None
            data = b""
            if piece:
                yield piece
            elif self._inner.can_accept_more_data() or self._inner.is_finished():
                return


class ZstandardDecoder:
    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).decompressobj()

    @property
    def has_ended(self) -> bool:
        return self._inner.eof

    def decoded(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE_BYTES):
            if self._inner.eof:
                raise BrokenCompression("has something behind its end")
            try:
                piece = self._inner.decompress(data[start : start + _ZSTD_SLICE_BYTES])
            except zstandard.ZstdError:
                raise BrokenCompression("cannot be decoded") from None
            if piece:
                yield piece
            if self._inner.unused_data:
                raise BrokenCompression("has something behind its end")


DECODERS: dict[str, Callable[[], Decoder]] = {
    "gzip": lambda: ZlibDecoder(_GZIP),
    "x-gzip": lambda: ZlibDecoder(_GZIP),
    "deflate": lambda: ZlibDecoder(zlib.MAX_WBITS),
    "br": BrotliDecoder,
    "zstd": ZstandardDecoder,
}
"""By the name of the coding, in small letters."""
