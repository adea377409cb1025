"""Writes the tape of one SSH session. The relay calls it, and forwards bytes only after the call has returned.

What is kept of a channel:

- with a terminal: all output; of the input what `InputMode` says, by default only lines that were echoed.
- a command or subsystem without a terminal: the first `reply_limit_bytes` each way; what is beyond is counted
  and hashed. Input of a command that is known to read a password is only counted (`secret_input`).
- sftp and scp, once a file operation of the channel is judged or `counted` is called: sizes, and the list of
  files. Their raw bytes are the content of files, which is on the tape only as far as `file_content_bytes` says.
  What turns out to be no scp is kept like any command's (`kept`).
- forwarded connections, agents, displays: sizes. They carry the secrets of other protocols.

Every method is synchronous; TapeError means: it is not recorded, must not be forwarded, and the session ends.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final, Self

import msgspec

from policy.decision import Decision, Effect
from policy.facts import SshFacts, SshOperation
from proxyd.gates.files import FileRecord
from proxyd.tape.echo_guard import EchoGuard, ReleasedLine, Settled, WithheldLine
from proxyd.tape.entries import (
    CHANNEL_CLOSED,
    CHANNEL_OPENED,
    DENIED,
    STDERR,
    STDIN,
    STDOUT,
    TapeHeader,
)
from proxyd.tape.errors import TapeError
from proxyd.tape.format import MAX_FRAME_BYTES, Buffer
from proxyd.tape.frames import FrameKind
from proxyd.tape.secret_input import reads_secret
from proxyd.tape.writer import COPY_LIMIT_BYTES, MICROSECONDS, Opener, TapeWriter, create_file

MAX_OPEN_CHANNELS: Final = 4096
MAX_FACTS_BYTES: Final = 4 * 1024 * 1024
"""Facts of a command that need more are recorded without their commands: its text is there."""
MAX_FILE_CONTENT: Final = MAX_FRAME_BYTES // 2
SESSION_CHANNEL: Final = "session"
WITHHELD_REASON: Final = "the command may read a password"

_INPUT: Final = int(FrameKind.INPUT)
_TYPED: Final = int(FrameKind.TYPED)
_OUTPUT: Final = int(FrameKind.OUTPUT)
_OUTPUTS: Final = (STDOUT, STDERR)
_WHOLE: Final = 1 << 62
_COMMANDS: Final = frozenset((SshOperation.SHELL, SshOperation.EXEC, SshOperation.SUBSYSTEM))

_encode = msgspec.msgpack.Encoder().encode  # only for ints and bytes; text may hold lone surrogates


class InputMode(Enum):
    """What of the input is on the tape.

    ECHOED: of a terminal, the lines that the target showed as they were typed; all else is kept as it is,
    save for commands known to read a password. ALL: everything, passwords in clear. NONE: sizes only.
    """

    ECHOED = "echoed"
    ALL = "all"
    NONE = "none"


class SshTapeLimits(msgspec.Struct, frozen=True):
    """`reply_limit_bytes`: kept of each stream of a channel without a terminal. `is_hashing`: what is beyond is
    hashed, not only counted (about 0.7 s of processor time a gigabyte). `file_content_bytes`: kept of each file.
    """

    reply_limit_bytes: int
    input: InputMode = InputMode.ECHOED
    file_content_bytes: int = 0
    is_hashing: bool = True


class _Stream:
    """One direction of a channel: how much is kept, how much may still be, and the hash of what is not."""

    __slots__ = ("is_hashed", "kept", "omitted", "rest", "room")

    def __init__(self, room: int, *, is_hashed: bool = False) -> None:
        self.room = room
        self.is_hashed = is_hashed and room > 0
        self.kept = 0
        self.omitted = 0
        self.rest: hashlib._Hash | None = None


class _Channel:
    __slots__ = ("guard", "is_counted", "is_secret", "is_terminal", "streams")

    def __init__(self, room: int, *, is_hashing: bool) -> None:
        # Input is counted only, until it is known which command it is for.
        self.streams = (_Stream(0), _Stream(room, is_hashed=is_hashing), _Stream(room, is_hashed=is_hashing))
        self.guard: EchoGuard | None = None
        self.is_terminal = False
        self.is_counted = room == 0
        self.is_secret = False


class SshTape(TapeWriter):
    """The open tape of one SSH session. Channels are named by the numbers that the caller gives them."""

    def __init__(self, fd: int, path: Path, limits: SshTapeLimits, *, clock: Callable[[], float]) -> None:
        """Takes over `fd`. Most callers want `open`."""
        super().__init__(fd, path, clock=clock)
        self._limits = limits
        self._channels: dict[int, _Channel] = {}

    @classmethod
    def open(
        cls,
        directory: Path,
        header: TapeHeader,
        limits: SshTapeLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        opener: Opener | None = None,
    ) -> Self:
        """Create the tape and write its header. Raises TapeError."""
        path, fd = create_file(directory, header, opener)
        tape = cls(fd, path, limits, clock=clock)
        tape.begin(header)
        return tape

    def judged(self, channel: int | None, facts: SshFacts, decision: Decision) -> None:
        """One operation and what was decided, before it is done or refused. `channel` is None for a request of
        the connection (LISTEN).

        A refusal is an event `denied` too. An allowed command says what its channel's input is.
        """
        operation = self.operations
        self.operations += 1
        self._write_packed(
            FrameKind.JUDGEMENT,
            operation,
            facts.command or description(facts),
            [self._facts(facts)],
            [msgspec.to_builtins(decision)],
            decision.policy_version,
            channel,
        )
        if decision.effect is not Effect.ALLOW:
            reasons = [reason.message for reason in decision.reasons if reason.message]
            data = {"operation": operation, "channel": channel, "effect": decision.effect.value}
            self.event(DENIED, {**data, "message": "; ".join(reasons)})
        elif channel is not None:
            self._allowed(channel, facts)

    def opened(self, channel: int, kind: str, data: Mapping[str, object]) -> None:
        """A channel is open. `kind` as in RFC 4254 ("session", "direct-tcpip"...); only of sessions is content
        kept."""
        self.event(CHANNEL_OPENED, {"channel": channel, "kind": kind, **data})
        if channel in self._channels:
            self._settle(channel)
        self._open(channel, self._limits.reply_limit_bytes if kind == SESSION_CHANNEL else 0)

    def closed(self, channel: int, data: Mapping[str, object]) -> None:
        """A channel is closed. `data` says how (exit_status, exit_signal, reason)."""
        self._settle(channel)
        self.event(CHANNEL_CLOSED, {"channel": channel, **data})

    def counted(self, channel: int) -> None:
        """From here on only its errors are kept of what the channel carries: the rest is listed as files (`file`)."""
        state = self._state(channel)
        errors = state.streams[STDERR]
        room, is_hashed = errors.room, errors.is_hashed
        self._count_only(state)
        errors.room, errors.is_hashed = room, is_hashed

    def kept(self, channel: int) -> None:
        """`counted` does not hold any more: from here on the channel's content is kept like a command's."""
        state = self._state(channel)
        state.is_counted = False
        for number, stream in enumerate(state.streams):
            if number != STDIN or self._limits.input is not InputMode.NONE:
                stream.room = max(0, self._limits.reply_limit_bytes - stream.kept)

    def terminal(self, channel: int, term: str, columns: int, rows: int) -> None:
        """The channel has a terminal (pty-req)."""
        self._write_packed(FrameKind.TERMINAL, channel, term, columns, rows)
        state = self._state(channel)
        state.is_terminal = True
        state.is_counted = False
        for stream in state.streams:
            stream.room = _WHOLE
        if self._limits.input is InputMode.ECHOED and state.guard is None:
            state.guard = EchoGuard()

    def resized(self, channel: int, columns: int, rows: int) -> None:
        self._write_packed(FrameKind.RESIZED, channel, columns, rows)

    def input(self, channel: int, data: Buffer) -> None:
        """Bytes from the client, before they are forwarded."""
        state = self._state(channel)
        if not state.is_terminal or self._limits.input is InputMode.ALL:
            self._stream(channel, STDIN, state.streams[STDIN], data)
            return
        at_us = int((self._clock() - self._began) * MICROSECONDS)
        self._write_frame(_encode((_TYPED, at_us, channel, len(data))))
        if state.guard is not None:
            self._write_settled(channel, state.guard.typed(bytes(data)))

    def output(self, channel: int, stream: int, data: Buffer) -> None:
        """Bytes for the client (stream 1 stdout, 2 stderr), before they are forwarded."""
        if stream not in _OUTPUTS:
            raise ValueError(f"stream {stream} is no output")
        state = self._state(channel)
        if state.guard is not None:
            state.guard.shown(bytes(data))
        self._stream(channel, stream, state.streams[stream], data)

    def file(self, channel: int, record: FileRecord) -> None:
        """A transfer by sftp or scp has ended, whole or not."""
        limit = min(self._limits.file_content_bytes, MAX_FILE_CONTENT)
        if len(record.content) > limit:
            record = msgspec.structs.replace(record, content=record.content[:limit])
        self._write_packed(FrameKind.FILE, channel, msgspec.to_builtins(record, builtin_types=(bytes,)))

    def end(self, reason: str) -> str:
        """Finish the tape; its final chain hash, which proves the whole tape when it is kept elsewhere.

        A tape that has failed already is only closed.
        """
        if not self.is_usable:
            self.close()
            return self.chain
        try:
            for channel in tuple(self._channels):
                self._settle(channel)
        except TapeError:
            self.close()
            raise
        return super().end(reason)

    def _state(self, channel: int) -> _Channel:
        return self._channels.get(channel) or self._open(channel, self._limits.reply_limit_bytes)

    def _open(self, channel: int, room: int) -> _Channel:
        if len(self._channels) >= MAX_OPEN_CHANNELS:
            self._settle(next(iter(self._channels)))
        state = self._channels[channel] = _Channel(room, is_hashing=self._limits.is_hashing)
        return state

    def _allowed(self, channel: int, facts: SshFacts) -> None:
        if facts.operation is SshOperation.FILE or _is_sftp(facts):
            self._count_only(self._state(channel))  # with a terminal too
            return
        if facts.operation not in _COMMANDS:
            return
        state = self._state(channel)
        if state.is_terminal or state.is_counted:
            return
        mode = self._limits.input
        state.is_secret = mode is InputMode.ECHOED and reads_secret(facts)
        if not state.is_secret and mode is not InputMode.NONE:
            state.streams[STDIN].room = self._limits.reply_limit_bytes
            state.streams[STDIN].is_hashed = self._limits.is_hashing

    def _count_only(self, state: _Channel) -> None:
        state.is_counted = True
        state.is_terminal = False
        for stream in state.streams:
            stream.room = 0
            stream.is_hashed = False

    def _stream(self, channel: int, number: int, stream: _Stream, data: Buffer) -> None:
        if len(data) > stream.room:
            kept = stream.room
            self._omit(channel, number, stream, memoryview(data)[kept:])
            data = memoryview(data)[:kept]
        if not data:
            return
        stream.room -= len(data)
        stream.kept += len(data)
        at_us = int((self._clock() - self._began) * MICROSECONDS)
        head = (_INPUT, at_us, channel) if number == STDIN else (_OUTPUT, at_us, channel, number)
        if len(data) <= COPY_LIMIT_BYTES:
            self._write_frame(_encode((*head, data)))
        else:
            self._write_raw(_encode((*head, b"")), data)

    def _omit(self, channel: int, number: int, stream: _Stream, data: memoryview) -> None:
        """Count what is not kept, and hash it unless it may be a secret: a short one could be guessed."""
        if self._fault is not None:
            raise TapeError(self._fault)
        stream.omitted += len(data)
        if not stream.is_hashed:
            return
        if stream.rest is None:
            stream.rest = hashlib.sha256()
        stream.rest.update(data)

    def _settle(self, channel: int) -> None:
        """Write what is still to be said of a channel's streams, and forget it."""
        state = self._channels.pop(channel, None)
        if state is None:
            return
        if state.guard is not None:
            self._write_settled(channel, state.guard.finish())
        for number in (STDIN, STDOUT, STDERR):
            stream = state.streams[number]
            if number == STDIN and state.is_secret:
                if stream.omitted:
                    self._write_packed(FrameKind.WITHHELD, channel, stream.omitted, WITHHELD_REASON)
            elif stream.omitted:
                digest = stream.rest.digest() if stream.rest is not None else b""
                self._write_packed(
                    FrameKind.STREAM_DIGEST, channel, number, stream.kept, stream.omitted, digest
                )

    def _write_settled(self, channel: int, lines: list[Settled]) -> None:
        for line in lines:
            match line:
                case ReleasedLine(text=text):
                    self._write_packed(FrameKind.ECHOED, channel, text)
                case WithheldLine(size=size, reason=reason):
                    self._write_packed(FrameKind.WITHHELD, channel, size, reason.value)

    def _facts(self, facts: SshFacts) -> object:
        """As a map. Commands nested too deep or too many for a frame are left out, which the facts then say."""
        try:
            plain = msgspec.to_builtins(facts)
            if len(self._pack(plain)) <= MAX_FACTS_BYTES:
                return plain
        except (ValueError, RecursionError):
            pass
        reasons = (*facts.unresolved, "the commands are too many or too deep for the tape")
        return msgspec.to_builtins(msgspec.structs.replace(facts, commands=(), unresolved=reasons))


def description(facts: SshFacts) -> str:
    """An operation in words: "shell", "read /etc/hosts", "forward db.internal:5432"."""
    operation = facts.operation.value
    match facts.operation:
        case SshOperation.EXEC | SshOperation.SUBSYSTEM:
            return f"{operation} {facts.command}"
        case SshOperation.FILE:
            other = f" -> {facts.other_path}" if facts.other_path else ""
            return f"{facts.verb} {facts.path}{other}"
        case SshOperation.FORWARD | SshOperation.LISTEN:
            return f"{operation} {f'unix:{facts.path}' if facts.path else f'{facts.host}:{facts.port}'}"
        case _:
            return operation


def _is_sftp(facts: SshFacts) -> bool:
    return facts.operation is SshOperation.SUBSYSTEM and facts.command == "sftp"
