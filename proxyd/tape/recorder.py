"""Writes one session's tape. The relay calls it, and forwards an operation only after `request` has
returned.

Every method is synchronous and ends in one write of one whole frame, so that a crash costs at most the
last frame. A frame that could not be written whole raises TapeError, and so does every later call: the
session must end.

The recorder is never given credentials: it starts after the startup phase, and a request holds the
client's messages as they came after that. Replies are handed in after masking.

A tape's path is made of the UTC time and the session's id alone, never of a name that a caller chose.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import msgpack
import msgspec

from policy.decision import Decision
from policy.facts import SqlFacts
from proxyd.tape.entries import DENIED, FrameKind, TapeHeader
from proxyd.tape.errors import TapeError
from proxyd.tape.format import MAGIC, MAX_FRAME_BYTES, Buffer, FrameEncoder

SUFFIX: Final = ".tape"
RAW_PIECE_BYTES: Final = 1024 * 1024
"""Longer raw bytes are split over several frames, so that readers need little memory."""
COPY_LIMIT_BYTES: Final = 16 * 1024
"""Up to here joining a frame and writing it is quicker than writing its parts."""
MAX_REMEMBERED_JUDGEMENTS: Final = 1024
MAX_REMEMBERED_TEXT: Final = 8 * 1024 * 1024
MAX_OPEN_REPLIES: Final = 1024

_SESSION_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_OPEN_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_BIN32 = struct.Struct(">BI")
_MICROSECONDS: Final = 1_000_000
_REQUEST: Final = int(FrameKind.REQUEST)
_REPLY: Final = int(FrameKind.REPLY)

_write = os.write
_encode = msgspec.msgpack.Encoder().encode  # only for ints and bytes; text may hold lone surrogates

Opener = Callable[[Path, int], int]


class _Judged:
    __slots__ = ("decisions", "facts", "id", "policy_version")

    def __init__(
        self, id_: int, facts: Sequence[SqlFacts], decisions: Sequence[Decision], policy_version: str
    ) -> None:
        self.id = id_
        self.facts = facts
        self.decisions = decisions
        self.policy_version = policy_version


class _ReplyTally:
    __slots__ = ("kept", "omitted", "rest")

    def __init__(self) -> None:
        self.kept = 0
        self.omitted = 0
        self.rest: hashlib._Hash | None = None


class TapeRecorder:
    """The open tape of one session; `path` is its file. Owned by the session, closed by `end` (or
    `close`).
    """

    def __init__(
        self, fd: int, path: Path, *, reply_limit_bytes: int, clock: Callable[[], float], fsync: bool = False
    ) -> None:
        """Takes over `fd`. Most callers want `create`."""
        self.path = path
        self.bytes_written = 0
        self._fd = fd
        self._clock = clock
        self._began = clock()
        self._reply_limit = reply_limit_bytes
        self._small_reply = min(reply_limit_bytes, COPY_LIMIT_BYTES)
        self._fsync = fsync
        self._encoder = FrameEncoder()
        self._pack = msgpack.Packer(unicode_errors="surrogatepass").pack
        self._fault: str | None = None
        self._judged: dict[str, _Judged] = {}
        self._judged_text = 0
        self._judgements = 0
        self._replies: dict[int, _ReplyTally] = {}
        self._last_operation: int | None = None
        self._operations = 0
        self._denials = 0

    @classmethod
    def create(
        cls,
        directory: Path,
        header: TapeHeader,
        *,
        reply_limit_bytes: int,
        clock: Callable[[], float],
        fsync: bool = False,
        opener: Opener | None = None,
    ) -> Self:
        """Create `directory`/DAY/TIME-SESSION.tape, which must not exist, and write its header.

        `clock` gives monotonic seconds; the wall time is `header.started_at`. Of the replies to one
        operation the first `reply_limit_bytes` are kept. `fsync`: `end` returns only when the tape is on
        the disk. `opener(path, flags)` gives the file descriptor. Raises TapeError.
        """
        path = directory / tape_name(header)
        try:
            fd = (opener or _open_tape)(path, _OPEN_FLAGS)
        except OSError as error:
            raise TapeError(f"cannot create the tape {path}: {error.strerror}") from error
        recorder = cls(fd, path, reply_limit_bytes=reply_limit_bytes, clock=clock, fsync=fsync)
        try:
            recorder._begin(header)
        except BaseException:
            recorder.close()
            raise
        return recorder

    @property
    def chain(self) -> str:
        """Hash of the last frame, in hex. Kept elsewhere it proves the whole tape."""
        return self._encoder.chain.hex()

    @property
    def is_usable(self) -> bool:
        return self._fault is None

    def judgement(
        self, text: str, facts: Sequence[SqlFacts], decisions: Sequence[Decision], policy_version: str
    ) -> int:
        """Id of this judgement of `text`, for `request`. Written when it is new or differs from the last
        one.

        `decisions[i]` is about `facts[i]`; a decision beyond the facts is about the whole text.
        Cheapest when the caller hands in the same objects for the same text.
        """
        known = self._judged.get(text)
        if known is not None and known.policy_version == policy_version:
            same_facts = known.facts is facts or tuple(known.facts) == tuple(facts)
            if same_facts and (known.decisions is decisions or tuple(known.decisions) == tuple(decisions)):
                if self._fault is not None:
                    raise TapeError(self._fault)
                return known.id
        identifier = self._judgements
        self._judgements += 1
        self._write_packed(
            FrameKind.JUDGEMENT,
            identifier,
            text,
            [msgspec.to_builtins(one) for one in facts],
            [msgspec.to_builtins(one) for one in decisions],
            policy_version,
        )
        self._remember(text, _Judged(identifier, facts, decisions, policy_version))
        return identifier

    def request(self, operation: int, judgements: tuple[int, ...], raw: Buffer) -> None:
        """Client bytes of an operation, as they came. Must return before they are forwarded."""
        if operation != self._last_operation:
            self._last_operation = operation
            self._operations += 1
        at_us = int((self._clock() - self._began) * _MICROSECONDS)
        if len(raw) <= COPY_LIMIT_BYTES:
            self._write_frame(_encode((_REQUEST, at_us, operation, judgements, raw)))
        else:
            self._write_raw(_encode((_REQUEST, at_us, operation, judgements, b"")), raw)

    def reply(self, operation: int, raw: Buffer, *, is_last: bool = False) -> None:
        """Bytes that the client is about to see. `reply_end` must follow when the operation is answered.

        is_last: they end the operation; `reply_end` still must follow, and has little to do.
        """
        if not raw:
            return
        if is_last and len(raw) <= self._small_reply and operation not in self._replies:
            # The whole answer in one piece, as most are: nothing to add up.
            at_us = int((self._clock() - self._began) * _MICROSECONDS)
            self._write_frame(_encode((_REPLY, at_us, operation, raw)))
            return
        tally = self._replies.get(operation)
        if tally is None:
            tally = self._open_tally(operation)
        room = self._reply_limit - tally.kept
        if len(raw) > room:
            raw = self._omit(tally, memoryview(raw), room)
            if not raw:
                return
        tally.kept += len(raw)
        at_us = int((self._clock() - self._began) * _MICROSECONDS)
        if len(raw) <= COPY_LIMIT_BYTES:
            self._write_frame(_encode((_REPLY, at_us, operation, raw)))
        else:
            self._write_raw(_encode((_REPLY, at_us, operation, b"")), raw)

    def reply_end(self, operation: int) -> None:
        """The operation is answered. Writes the digest of what the limit left out, otherwise nothing."""
        tally = self._replies.pop(operation, None)
        if tally is not None and tally.rest is not None:
            self._write_packed(
                FrameKind.REPLY_DIGEST, operation, tally.kept, tally.omitted, tally.rest.digest()
            )

    def event(self, name: str, data: Mapping[str, object]) -> None:
        """Something that is neither request nor reply. `data` holds plain values (str, int, list, dict...).

        A refusal is the event `entries.DENIED`.
        """
        self._denials += name == DENIED
        self._write_packed(FrameKind.EVENT, name, dict(data))

    def end(self, reason: str) -> str:
        """Write the last frame, close, and return the final chain hash in hex. Raises TapeError, closed
        all the same.
        """
        try:
            for operation in tuple(self._replies):
                self.reply_end(operation)
            self._write_packed(FrameKind.END, reason, self._operations, self._denials)
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

    def _begin(self, header: TapeHeader) -> None:
        # The lock tells readers that the session is alive. Where the file system has none, they see a
        # torn tape.
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        payload = self._pack((int(FrameKind.HEADER), 0, msgspec.to_builtins(header)))
        self._write_bytes(MAGIC + self._encoder.frame(payload))

    def _write_packed(self, kind: FrameKind, *fields: object) -> None:
        at_us = int((self._clock() - self._began) * _MICROSECONDS)
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
            raise self._fail(str(error.strerror)) from error
        if written != len(frame):
            raise self._fail(f"{written} of {len(frame)} bytes were written")
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
            raise self._fail(str(error.strerror)) from error
        if written != len(head) + len(raw):
            raise self._fail(f"{written} of {len(head) + len(raw)} bytes were written")
        self.bytes_written += written

    def _sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._fail(str(error.strerror)) from error

    def _fail(self, reason: str) -> TapeError:
        self._fault = f"cannot write the tape {self.path}: {reason}"
        return TapeError(self._fault)

    def _remember(self, text: str, judged: _Judged) -> None:
        if self._judged.pop(text, None) is not None:
            self._judged_text -= len(text)
        if len(text) > MAX_REMEMBERED_TEXT // 8:
            return  # written again each time
        self._judged[text] = judged
        self._judged_text += len(text)
        while len(self._judged) > MAX_REMEMBERED_JUDGEMENTS or self._judged_text > MAX_REMEMBERED_TEXT:
            oldest = next(iter(self._judged))
            del self._judged[oldest]
            self._judged_text -= len(oldest)

    def _open_tally(self, operation: int) -> _ReplyTally:
        if len(self._replies) >= MAX_OPEN_REPLIES:
            self.reply_end(next(iter(self._replies)))
        tally = self._replies[operation] = _ReplyTally()
        return tally

    def _omit(self, tally: _ReplyTally, raw: memoryview, room: int) -> memoryview:
        """Count and hash what is beyond `room`; what is within is returned."""
        if self._fault is not None:
            raise TapeError(self._fault)
        if tally.rest is None:
            tally.rest = hashlib.sha256()
        rest = raw[room:]
        tally.rest.update(rest)
        tally.omitted += len(rest)
        return raw[:room]


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
