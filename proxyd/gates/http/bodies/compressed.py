"""Bodies that come compressed although masks apply (the target is asked not to): decoded as they stream, within bounds.

What comes out is masked and not compressed. gzip, deflate, br and zstd, one of them; others are refused. What a body
may grow to, and to how many times its size, is bounded while it is decoded (`BodyLimits`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from proxyd.gates.http.bodies.decompression import DECODERS, BrokenCompression, Decoder
from proxyd.gates.http.bodies.interfaces import BodyLimits, BodyRefused, Transformer

_RATIO_FROM_BYTES = 1 << 20
_HINT = "Ask for access without masks, or let the owners of the target see why it compresses what it is asked not to."


def decoded(content_encoding: str, inner: Transformer, limits: BodyLimits) -> Transformer:
    """`inner` behind a decoder of this encoding. Raises BodyRefused for one that is not known."""
    encoding = content_encoding.strip(" \t").lower()
    if encoding in ("", "identity"):
        return inner
    make = DECODERS.get(encoding)
    if make is None:
        raise BodyRefused("it comes compressed in a way that is not read", _HINT)
    return CompressedBody(inner, limits, make())


class CompressedBody:
    """A body that is compressed in one go, nothing behind it."""

    def __init__(self, inner: Transformer, limits: BodyLimits, decoder: Decoder) -> None:
        self._inner = inner
        self._limits = limits
        self._decoder = decoder
        self._read_bytes = 0
        self._made_bytes = 0

    @property
    def counts(self) -> Counter[str]:
        return self._inner.counts

    def feed(self, data: bytes) -> bytes:
        if not data:
            return b""
        self._read_bytes += len(data)
        return b"".join([self._inner.feed(piece) for piece in self._decoded(data)])

    def finish(self) -> bytes:
        if self._read_bytes and not self._decoder.has_ended:
            raise BodyRefused("it is compressed and ends too early", _HINT)
        return self._inner.finish()

    def _decoded(self, data: bytes) -> Iterator[bytes]:
        try:
            for piece in self._decoder.decoded(data):
                self._made_bytes += len(piece)
                self._check()
                yield piece
        except BrokenCompression as fault:
            raise BodyRefused(f"it is compressed and {fault}", _HINT) from None

    def _check(self) -> None:
        limits = self._limits
        is_bomb = self._made_bytes > max(_RATIO_FROM_BYTES, self._read_bytes * limits.decoded_ratio)
        if is_bomb or self._made_bytes > limits.decoded_bytes:
            raise BodyRefused("it is compressed and grows too large", _HINT)
