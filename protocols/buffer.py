"""A bounded receive buffer for codecs whose messages announce their length.

The owner parses what `join` returns and hands the unparsed rest back to `keep`, with the number of bytes that
must be there before parsing again is worth it. So a large message that comes in small pieces costs one copy
in and one out, never a parse a piece. Bounded: the buffer holds at most `limit` bytes plus the piece that
completes them.
"""

from __future__ import annotations

from protocols.errors import LimitExceeded


class ReceiveBuffer:
    """Holds an incomplete message. `limit_bytes` caps what `keep` may be asked to wait for."""

    __slots__ = ("_held", "_limit_bytes", "_needed_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._held = bytearray()
        self._needed_bytes = 0
        self._limit_bytes = limit_bytes

    def __len__(self) -> int:
        return len(self._held)

    def join(self, data: bytes) -> bytes:
        """Everything held followed by `data`, taken out of the buffer; b"" while too little is there to go
        on.
        """
        held = self._held
        if not held:
            return data
        held += data
        if len(held) < self._needed_bytes:
            return b""
        joined = bytes(held)
        self._held = bytearray()
        return joined

    def keep(self, rest: bytes, needed_bytes: int) -> None:
        """Hold `rest` until `needed_bytes` (counted from its start) have come. The buffer must be empty."""
        if needed_bytes > self._limit_bytes:
            raise LimitExceeded(
                f"message of {needed_bytes} bytes is longer than the {self._limit_bytes} allowed"
            )
        self._held = bytearray(rest)
        self._needed_bytes = needed_bytes
