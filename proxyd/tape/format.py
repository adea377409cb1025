"""The bytes of a tape. Pure: bytes in, frames and verdicts out, and back. Called by the recorder and the
reader.

    file  = magic (7 bytes "PXDTAPE", 1 byte format version), frame, frame, ...
    frame = length u32 | crc32 u32 | chain 32 bytes | payload        (big endian; length counts the payload)
    chain = sha256(chain of the frame before | payload); before the first frame: 32 zero bytes and the magic
    crc32 = over chain and payload

A payload is a msgpack array `[kind: int, time: int microseconds since the tape began, ...]`; what follows
is the business of `entries`. A kind nobody knows is still a frame.

The chain shows that nothing between the first frame and any later one was changed, removed or swapped. It
is not a signature: who can write the file can compute a new chain over a forged tape. The last hash, kept
elsewhere (`TapeRecorder.end` returns it for the log), proves the whole tape.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from typing import Final

import msgpack
import msgspec

FORMAT_VERSION: Final = 1
MAGIC: Final = b"PXDTAPE" + bytes([FORMAT_VERSION])
CHAIN_BYTES: Final = 32
HEAD_BYTES: Final = 8 + CHAIN_BYTES
MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
RESYNC_BYTES: Final = 16 * 1024 * 1024
"""How far behind a damaged frame readable frames are looked for."""
RESYNC_CHECK_BYTES: Final = 256 * 1024 * 1024
"""How much may be checksummed in that search: a crafted file must not cost an auditor hours."""

Buffer = bytes | bytearray | memoryview

HEADER_KIND: Final = 0
END_KIND: Final = 6

_SEED: Final = bytes(CHAIN_BYTES) + MAGIC
_PREFIX = struct.Struct(">II")
_sha256 = hashlib.sha256
_crc32 = zlib.crc32
_pack_prefix = _PREFIX.pack
# The first byte of a length within the limit, the rest of the head, a short msgpack array and a small kind.
_CANDIDATE = re.compile(rb"(?s)(?=[\x00-\x02].{39}[\x92-\x9f][\x00-\x7f])")


class Frame(msgspec.Struct, frozen=True):
    """One frame. `position` is its first byte in the file, `size` includes the head; `fields` follow the
    time.
    """

    position: int
    size: int
    kind: int
    at_us: int
    fields: tuple[object, ...]


class Whole(msgspec.Struct, frozen=True):
    """Complete from its header to its end frame, and nothing was changed. `chain` is the last hash."""

    frames: int
    chain: bytes


class Torn(msgspec.Struct, frozen=True):
    """The tape stops at byte `offset` without an end frame: a crash, or a session that is still running.

    The `frames` before are good and `chain` is the hash of the last of them (empty when there is none).
    """

    offset: int
    reason: str
    frames: int
    chain: bytes


class Tampered(msgspec.Struct, frozen=True):
    """At byte `offset` is something that no crash leaves behind. The `frames` before are good."""

    offset: int
    reason: str
    frames: int
    chain: bytes


Verdict = Whole | Torn | Tampered


class FrameEncoder:
    """Frames payloads and keeps the chain. The caller writes the magic first, then each frame, in order.

    `before` is the chain without the last frame, for a caller that could not write it.
    """

    __slots__ = ("before", "chain")

    def __init__(self) -> None:
        self.chain: bytes = _SEED
        self.before: bytes = _SEED

    def frame(self, payload: bytes) -> bytes:
        """The whole frame around a payload of at most MAX_FRAME_BYTES (the caller has checked)."""
        self.before = before = self.chain
        self.chain = chain = _sha256(before + payload).digest()
        body = chain + payload
        return _pack_prefix(len(payload), _crc32(body)) + body

    def head(self, prefix: bytes, raw: Buffer) -> bytes:
        """The head of a frame whose payload is `prefix` and `raw`, to write the three without joining
        them.
        """
        self.before = self.chain
        digest = _sha256(self.before)
        digest.update(prefix)
        digest.update(raw)
        self.chain = chain = digest.digest()
        checksum = _crc32(raw, _crc32(chain + prefix))
        return _pack_prefix(len(prefix) + memoryview(raw).nbytes, checksum) + chain


class FrameDecoder:
    """Takes a tape's bytes in pieces of any size and gives its frames, checked, and in the end a verdict.

    Call `feed`, then `next_frame` until None, and so on; at the end of the file `finish`. Holds at most
    one frame of the largest size and one fed piece, or, once damaged, that and RESYNC_BYTES.
    """

    def __init__(self, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._at = 0  # of the next frame, in the buffer
        self._dropped = 0  # bytes of the file before the buffer
        self._chain = b""
        self._frames = 0
        self._ended = False
        self._damage: str | None = None
        self._wanted = 0  # bytes kept behind damage
        self._verdict: Verdict | None = None

    @property
    def chain(self) -> bytes:
        """Hash of the last good frame; empty before the first."""
        return self._chain if self._frames else b""

    @property
    def frames(self) -> int:
        return self._frames

    @property
    def position(self) -> int:
        """Byte of the file behind the last good frame."""
        return self._dropped + self._at

    @property
    def is_done(self) -> bool:
        """No more input can change the verdict."""
        return self._verdict is not None or (
            self._damage is not None and len(self._buffer) - self._at >= self._wanted
        )

    def feed(self, data: Buffer) -> None:
        if self.is_done:
            return
        if self._at:
            del self._buffer[: self._at]
            self._dropped += self._at
            self._at = 0
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next good frame; None when more input is needed or none will come (see `is_done`)."""
        if self._verdict is not None or self._damage is not None or not self._has_magic():
            return None
        available = len(self._buffer) - self._at
        if self._ended:
            if available:
                self._tampered("there are bytes behind the end frame")
            return None
        if available < HEAD_BYTES:
            return None
        length, checksum = _PREFIX.unpack_from(self._buffer, self._at)
        if length > self._max_frame_bytes:
            reason = f"a frame claims {length} bytes, the limit is {self._max_frame_bytes}"
            self._damaged(reason, RESYNC_BYTES)
            return None
        size = HEAD_BYTES + length
        if available < size:
            return None
        with memoryview(self._buffer) as view:
            body = bytes(view[self._at + 8 : self._at + size])
        if _crc32(body) != checksum:
            self._damaged("the checksum of a frame is wrong", size + RESYNC_BYTES)
            return None
        return self._accept(body, size)

    def finish(self) -> Verdict:
        """The verdict once the file has no more bytes (or `is_done`)."""
        if self._verdict is None:
            self._verdict = self._conclude()
        return self._verdict

    def _has_magic(self) -> bool:
        if self._chain:
            return True
        head = bytes(self._buffer[: len(MAGIC)])
        if not MAGIC.startswith(head):
            known = head[:-1] == MAGIC[:-1]
            self._tampered(f"format version {head[-1]} is not known" if known else "this is not a tape")
            return False
        if len(head) < len(MAGIC):
            return False
        self._at = len(MAGIC)
        self._chain = _SEED
        return True

    def _accept(self, body: bytes, size: int) -> Frame | None:
        payload = body[CHAIN_BYTES:]
        chain = _sha256(self._chain + payload).digest()
        if chain != body[:CHAIN_BYTES]:
            self._tampered("the frame does not belong behind the one before it")
            return None
        parts = unpack(payload)
        if parts is None:
            self._tampered("the frame is not an array of kind, time and fields")
            return None
        kind, at_us, fields = parts
        if (kind == HEADER_KIND) != (self._frames == 0):
            self._tampered("there is a second header" if self._frames else "the first frame is no header")
            return None
        frame = Frame(self.position, size, kind, at_us, fields)
        self._chain = chain
        self._at += size
        self._frames += 1
        self._ended = kind == END_KIND
        return frame

    def _tampered(self, reason: str) -> None:
        self._verdict = Tampered(self.position, reason, self._frames, self.chain)

    def _damaged(self, reason: str, wanted: int) -> None:
        self._damage = reason
        self._wanted = wanted

    def _conclude(self) -> Verdict:
        rest = len(self._buffer) - self._at
        if self._ended and not rest:
            return Whole(self._frames, self._chain)
        with memoryview(self._buffer) as view:
            tail = bytes(view[self._at :])
        if self._damage is not None:
            reason, behind = self._damage, find_frame(tail, 1)
        elif rest:
            # A length bit that flipped upwards looks like a cut. A session can carry another tape's
            # bytes, so here only a frame that continues this very chain counts.
            reason = f"the last frame is cut after {rest} bytes"
            behind = find_frame(tail, 1, after=tail[8:HEAD_BYTES])
        else:
            reason, behind = "there is no end frame", None
        if behind is not None:
            reason += f"; readable frames follow at byte {self.position + behind}"
            return Tampered(self.position, reason, self._frames, self.chain)
        return Torn(self.position, reason, self._frames, self.chain)


def unpack(payload: bytes) -> tuple[int, int, tuple[object, ...]] | None:
    """Kind, time in microseconds and fields of a payload; None when it is not such an array."""
    try:
        parts = msgpack.unpackb(payload, strict_map_key=False, unicode_errors="surrogatepass")
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        return None
    if not isinstance(parts, list) or len(parts) < 2:
        return None
    kind, at_us = parts[0], parts[1]
    if type(kind) is not int or type(at_us) is not int:
        return None
    return kind, at_us, tuple(parts[2:])


def find_frame(data: bytes, start: int, *, after: bytes | None = None) -> int | None:
    """Offset of the first frame at or behind `start` that lies whole in `data` and, if given, continues
    `after`.
    """
    budget = RESYNC_CHECK_BYTES
    for candidate in _CANDIDATE.finditer(data, start):
        at = candidate.start()
        length, checksum = _PREFIX.unpack_from(data, at)
        size = HEAD_BYTES + length
        if length > MAX_FRAME_BYTES or at + size > len(data):
            continue
        budget -= size
        if budget < 0:
            return None
        body = data[at + 8 : at + size]
        if _crc32(body) != checksum:
            continue
        if after is None or _sha256(after + body[CHAIN_BYTES:]).digest() == body[:CHAIN_BYTES]:
            return at
    return None


def last_frame(tail: bytes) -> tuple[int, int, tuple[object, ...]] | None:
    """Kind, time and fields of a frame that ends exactly where `tail` ends, if one can be found in it."""
    for candidate in _CANDIDATE.finditer(tail):
        at = candidate.start()
        length, checksum = _PREFIX.unpack_from(tail, at)
        if at + HEAD_BYTES + length == len(tail) and _crc32(tail[at + 8 :]) == checksum:
            return unpack(tail[at + HEAD_BYTES :])
    return None
