"""Bodies that come compressed although masks apply (the target is asked not to): decoded as they stream, within bounds.

What comes out is masked and not compressed. gzip and deflate only: others are refused.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator

from proxyd.gates.http.bodies.interfaces import BodyLimits, BodyRefused, Transformer

_PIECE_BYTES = 256 * 1024
_RATIO_FROM_BYTES = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS
_HINT = "Ask for access without masks, or let the owners of the target see why it compresses what it is asked not to."


def decoded(content_encoding: str, inner: Transformer, limits: BodyLimits) -> Transformer:
    """`inner` behind a decoder of this encoding. Raises BodyRefused for one that is not known."""
    encoding = content_encoding.strip(" \t").lower()
    if encoding in ("", "identity"):
        return inner
    if encoding in ("gzip", "x-gzip"):
        return CompressedBody(inner, limits, _GZIP)
    if encoding == "deflate":
        return CompressedBody(inner, limits, zlib.MAX_WBITS)
    raise BodyRefused("it comes compressed in a way that is not read", _HINT)


class CompressedBody:
    """One member of gzip or zlib, nothing behind it."""

    def __init__(self, inner: Transformer, limits: BodyLimits, window_bits: int) -> None:
        self._inner = inner
        self._limits = limits
        self._decoder = zlib.decompressobj(window_bits)
        self._read_bytes = 0
        self._made_bytes = 0

    @property
    def counts(self) -> Counter[str]:
        return self._inner.counts

    def feed(self, data: bytes) -> bytes:
        self._read_bytes += len(data)
        return b"".join([self._inner.feed(piece) for piece in self._decoded(data)])

    def finish(self) -> bytes:
        if self._read_bytes and not self._decoder.eof:
            raise BodyRefused("it is compressed and ends too early", _HINT)
        return self._inner.finish()

    def _decoded(self, data: bytes) -> Iterator[bytes]:
        while data or self._decoder.unconsumed_tail:
            if self._decoder.eof:
                raise BodyRefused("it is compressed and has something behind its end", _HINT)
            try:
                piece = self._decoder.decompress(data, _PIECE_BYTES)
            except zlib.error:
                raise BodyRefused("it is compressed and cannot be decoded", _HINT) from None
            data = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
            self._made_bytes += len(piece)
            self._check()
            if piece:
                yield piece
            elif not self._decoder.eof:
                return

    def _check(self) -> None:
        limits = self._limits
        is_bomb = self._made_bytes > max(_RATIO_FROM_BYTES, self._read_bytes * limits.decoded_ratio)
        if is_bomb or self._made_bytes > limits.decoded_bytes:
            raise BodyRefused("it is compressed and grows too large", _HINT)
