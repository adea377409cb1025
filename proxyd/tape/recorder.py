"""Writes the tape of one PostgreSQL session. The relay calls it, and forwards an operation only after
`request` has returned. The frames, their faults and the file are the business of `writer`.

The recorder is never given credentials: it starts after the startup phase, and a request holds the
client's messages as they came after that. Replies are handed in after masking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from policy.decision import Decision
from policy.facts import SqlFacts
from proxyd.tape.entries import TapeHeader
from proxyd.tape.errors import TapeError
from proxyd.tape.format import Buffer
from proxyd.tape.frames import FrameKind
from proxyd.tape.writer import COPY_LIMIT_BYTES, MICROSECONDS, Opener, TapeWriter, create_file

MAX_REMEMBERED_JUDGEMENTS: Final = 1024
MAX_REMEMBERED_TEXT: Final = 8 * 1024 * 1024
MAX_OPEN_REPLIES: Final = 1024

_REQUEST: Final = int(FrameKind.REQUEST)
_REPLY: Final = int(FrameKind.REPLY)

_encode = msgspec.msgpack.Encoder().encode  # only for ints and bytes; text may hold lone surrogates


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


class TapeRecorder(TapeWriter):
    """The open tape of one PostgreSQL session; `path` is its file."""

    def __init__(
        self, fd: int, path: Path, *, reply_limit_bytes: int, clock: Callable[[], float], fsync: bool = False
    ) -> None:
        """Takes over `fd`. Most callers want `create`."""
        super().__init__(fd, path, clock=clock, fsync=fsync)
        self._reply_limit = reply_limit_bytes
        self._small_reply = min(reply_limit_bytes, COPY_LIMIT_BYTES)
        self._judged: dict[str, _Judged] = {}
        self._judged_text = 0
        self._judgements = 0
        self._replies: dict[int, _ReplyTally] = {}
        self._last_operation: int | None = None

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
        path, fd = create_file(directory, header, opener)
        recorder = cls(fd, path, reply_limit_bytes=reply_limit_bytes, clock=clock, fsync=fsync)
        recorder.begin(header)
        return recorder

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
            self.operations += 1
        at_us = int((self._clock() - self._began) * MICROSECONDS)
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
            at_us = int((self._clock() - self._began) * MICROSECONDS)
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
        at_us = int((self._clock() - self._began) * MICROSECONDS)
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

    def end(self, reason: str) -> str:
        """As of every tape, behind the digests of operations that were not answered to their end."""
        try:
            for operation in tuple(self._replies):
                self.reply_end(operation)
        except TapeError:
            self.close()
            raise
        return super().end(reason)

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
