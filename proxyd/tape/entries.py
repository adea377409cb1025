"""What the frames of a tape mean: kinds, their fields, and the typed entries that a reader gives.

Pure. The recorder packs fields in the order written at each kind; `entry_of` turns a frame back. A kind
this software does not know, or a known kind with fields of another shape, becomes `Unknown`, so that an
older reader still shows a newer tape. Fields may be added at the end of a kind, never in between.

A PostgreSQL tape has requests and replies of operations. An SSH tape has the bytes of channels, each named by
the number that the gateway gave it (on a tape no number is used by two channels at a time). What of a
channel's input and output is on the tape is decided by `ssh_taping`. The entries of HTTP are in `http_entries`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from policy.decision import Decision
from policy.facts import HttpFacts, SqlFacts, SshFacts, Subject
from proxyd.gates.files import FileRecord
from proxyd.tape.format import Frame
from proxyd.tape.frames import FrameKind, Placed, builder
from proxyd.tape.http_entries import HTTP_BUILDERS, HttpEntry

DENIED: Final = "denied"
"""Name of the event that says an operation was refused. `ls` counts these."""
CHANNEL_OPENED: Final = "channel opened"
CHANNEL_CLOSED: Final = "channel closed"
"""Events of SSH; their data holds "channel", its number."""

POSTGRES: Final = "postgres"
SSH: Final = "ssh"
HTTP: Final = "http"

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2


class TapeHeader(msgspec.Struct, frozen=True):
    """Who talks to what. `started_at` is in Unix seconds; `client` is the peer's address as text.

    `protocol` is the target's ("postgres", "ssh"); it chooses what the facts of judgements are and how the
    raw bytes are shown. `target_labels` are there so that the tape can be judged again by itself.
    """

    session: str
    protocol: str
    subject: Subject
    target: str
    login: str
    client: str
    policy_version: str
    software_version: str
    started_at: float
    target_labels: dict[str, str] = {}
    database: str = ""


class Judgement(Placed, frozen=True):
    """One text and what was decided about each of its statements. `decisions[i]` is about `facts[i]`.

    A decision beyond the facts is about the whole text: it could not be analysed, or a limit was reached.
    On an SSH tape each judgement is one operation of one `channel` (None: of the connection), done or refused
    then and there. On an HTTP tape it is a request, of which others that are the same in all that counts refer to
    it; `omitted` says what of its facts is not here ("" when they are whole).
    """

    id: int
    text: str
    facts: tuple[SqlFacts, ...] | tuple[SshFacts, ...] | tuple[HttpFacts, ...]
    decisions: tuple[Decision, ...]
    policy_version: str
    channel: int | None = None
    omitted: str = ""


class Request(Placed, frozen=True):
    """Client bytes as sent after startup. Raw bytes of one operation that come in several entries belong
    together.
    """

    operation: int
    judgements: tuple[int, ...]
    raw: bytes


class Reply(Placed, frozen=True):
    """Bytes as the client saw them: after masking, the gateway's own answers included."""

    operation: int
    raw: bytes


class ReplyDigest(Placed, frozen=True):
    """The replies to an operation went beyond the limit: `omitted` bytes are not here, `sha256` is
    theirs.
    """

    operation: int
    kept: int
    omitted: int
    sha256: bytes


class Event(Placed, frozen=True):
    name: str
    data: dict[str, object]


class End(Placed, frozen=True):
    reason: str
    operations: int
    denials: int


class Input(Placed, frozen=True):
    """Bytes that the client sent on a channel."""

    channel: int
    raw: bytes


class Typed(Placed, frozen=True):
    """Bytes that came from a terminal. What they were follows in `Echoed`, or they are `Withheld`."""

    channel: int
    size: int


class Echoed(Placed, frozen=True):
    """Typed lines, with the keys that ended them, which the target's output had shown as they were typed."""

    channel: int
    text: str


class Withheld(Placed, frozen=True):
    """`size` bytes of input that are not on the tape, and why. Passwords are among these."""

    channel: int
    size: int
    reason: str


class Output(Placed, frozen=True):
    """Bytes that the target (or the gateway, when it refuses) sent to the client."""

    channel: int
    stream: int
    raw: bytes


class StreamDigest(Placed, frozen=True):
    """At the end of a stream that is not wholly here. `sha256` is of the omitted bytes, empty when they were
    only counted.
    """

    channel: int
    stream: int
    kept: int
    omitted: int
    sha256: bytes


class Terminal(Placed, frozen=True):
    channel: int
    term: str
    columns: int
    rows: int


class Resized(Placed, frozen=True):
    channel: int
    columns: int
    rows: int


class FileMoved(Placed, frozen=True):
    """A file went through a channel by sftp or scp."""

    channel: int
    file: FileRecord


class Unknown(Placed, frozen=True):
    kind: int
    fields: tuple[object, ...]


PostgresEntry = Request | Reply | ReplyDigest
SshEntry = Input | Typed | Echoed | Withheld | Output | StreamDigest | Terminal | Resized | FileMoved
Entry = Judgement | PostgresEntry | SshEntry | HttpEntry | Event | End | Unknown


def header_of(frame: Frame) -> TapeHeader:
    """The header; raises msgspec.ValidationError when the first frame is of another shape."""
    if len(frame.fields) < 1:
        raise msgspec.ValidationError("the header is empty")
    return msgspec.convert(frame.fields[0], TapeHeader)


def entry_of(frame: Frame, protocol: str = POSTGRES) -> Entry:
    """The entry that a frame (not the header) stands for on a tape of this protocol (`TapeHeader.protocol`)."""
    build = _BUILDERS.get(frame.kind)
    if frame.kind == FrameKind.JUDGEMENT:
        build = _JUDGEMENTS.get(protocol, build)
    if build is not None:
        try:
            return build(frame)
        except (msgspec.ValidationError, TypeError, ValueError):
            pass  # shown as it is
    return Unknown(position=frame.position, at_us=frame.at_us, kind=frame.kind, fields=frame.fields)


class _JudgementFields(msgspec.Struct, array_like=True):
    id: int
    text: str
    facts: tuple[SqlFacts, ...]
    decisions: tuple[Decision, ...]
    policy_version: str


class _SshJudgementFields(msgspec.Struct, array_like=True):
    id: int
    text: str
    facts: tuple[SshFacts, ...]
    decisions: tuple[Decision, ...]
    policy_version: str
    channel: int | None = None


class _HttpJudgementFields(msgspec.Struct, array_like=True):
    id: int
    text: str
    facts: tuple[HttpFacts, ...]
    decisions: tuple[Decision, ...]
    policy_version: str
    channel: int | None = None
    omitted: str = ""


class _RequestFields(msgspec.Struct, array_like=True):
    operation: int
    judgements: tuple[int, ...]
    raw: bytes


class _ReplyFields(msgspec.Struct, array_like=True):
    operation: int
    raw: bytes


class _ReplyDigestFields(msgspec.Struct, array_like=True):
    operation: int
    kept: int
    omitted: int
    sha256: bytes


class _EventFields(msgspec.Struct, array_like=True):
    name: str
    data: dict[str, object]


class _EndFields(msgspec.Struct, array_like=True):
    reason: str
    operations: int
    denials: int


class _InputFields(msgspec.Struct, array_like=True):
    channel: int
    raw: bytes


class _TypedFields(msgspec.Struct, array_like=True):
    channel: int
    size: int


class _EchoedFields(msgspec.Struct, array_like=True):
    channel: int
    text: str


class _WithheldFields(msgspec.Struct, array_like=True):
    channel: int
    size: int
    reason: str


class _OutputFields(msgspec.Struct, array_like=True):
    channel: int
    stream: int
    raw: bytes


class _StreamDigestFields(msgspec.Struct, array_like=True):
    channel: int
    stream: int
    kept: int
    omitted: int
    sha256: bytes


class _TerminalFields(msgspec.Struct, array_like=True):
    channel: int
    term: str
    columns: int
    rows: int


class _ResizedFields(msgspec.Struct, array_like=True):
    channel: int
    columns: int
    rows: int


class _FileFields(msgspec.Struct, array_like=True):
    channel: int
    file: FileRecord


_BUILDERS: Final[dict[int, Callable[[Frame], Entry]]] = {
    FrameKind.JUDGEMENT: builder(_JudgementFields, Judgement),
    FrameKind.REQUEST: builder(_RequestFields, Request),
    FrameKind.REPLY: builder(_ReplyFields, Reply),
    FrameKind.REPLY_DIGEST: builder(_ReplyDigestFields, ReplyDigest),
    FrameKind.EVENT: builder(_EventFields, Event),
    FrameKind.END: builder(_EndFields, End),
    FrameKind.INPUT: builder(_InputFields, Input),
    FrameKind.TYPED: builder(_TypedFields, Typed),
    FrameKind.ECHOED: builder(_EchoedFields, Echoed),
    FrameKind.WITHHELD: builder(_WithheldFields, Withheld),
    FrameKind.OUTPUT: builder(_OutputFields, Output),
    FrameKind.STREAM_DIGEST: builder(_StreamDigestFields, StreamDigest),
    FrameKind.TERMINAL: builder(_TerminalFields, Terminal),
    FrameKind.RESIZED: builder(_ResizedFields, Resized),
    FrameKind.FILE: builder(_FileFields, FileMoved),
    **HTTP_BUILDERS,
}
_JUDGEMENTS: Final[dict[str, Callable[[Frame], Entry]]] = {
    SSH: builder(_SshJudgementFields, Judgement),
    HTTP: builder(_HttpJudgementFields, Judgement),
}
