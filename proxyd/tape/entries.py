"""What the frames of a tape mean: kinds, their fields, and the typed entries that a reader gives.

Pure. The recorder packs fields in the order written at each kind; `entry_of` turns a frame back. A kind
this software does not know, or a known kind with fields of another shape, becomes `Unknown`, so that an
older reader still shows a newer tape. Fields may be added at the end of a kind, never in between.

A PostgreSQL tape has requests and replies of operations. An SSH tape has the bytes of channels, each named by
the number that the gateway gave it (on a tape no number is used by two channels at a time). What of a
channel's input and output is on the tape is decided by `ssh_taping`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

import msgspec

from policy.decision import Decision
from policy.facts import SqlFacts, SshFacts, Subject
from proxyd.gates.files import FileRecord
from proxyd.tape.format import END_KIND, HEADER_KIND, Frame

DENIED: Final = "denied"
"""Name of the event that says an operation was refused. `ls` counts these."""
CHANNEL_OPENED: Final = "channel opened"
CHANNEL_CLOSED: Final = "channel closed"
"""Events of SSH; their data holds "channel", its number."""

POSTGRES: Final = "postgres"
SSH: Final = "ssh"

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2


class FrameKind(IntEnum):
    HEADER = HEADER_KIND  # map: TapeHeader
    JUDGEMENT = (
        1  # id, text, [SqlFacts or SshFacts as map], [Decision as map], policy version, [channel or nil]
    )
    REQUEST = 2  # operation, [judgement id], raw
    REPLY = 3  # operation, raw
    REPLY_DIGEST = 4  # operation, bytes kept, bytes omitted, sha256 of the omitted
    EVENT = 5  # name, map
    END = END_KIND  # reason, operations, denials
    # SSH. Streams of a channel: 0 input (to the target), 1 output, 2 output on stderr.
    INPUT = 7  # channel, raw
    TYPED = 8  # channel, size: input of a terminal, of which only the number of bytes is told at once
    ECHOED = 9  # channel, text: typed input that the target showed again as it was typed
    WITHHELD = 10  # channel, size, reason: input that stays off the tape
    OUTPUT = 11  # channel, stream, raw
    STREAM_DIGEST = (
        12  # channel, stream, bytes kept, bytes omitted, sha256 of the omitted (empty: not hashed)
    )
    TERMINAL = 13  # channel, name of the terminal's kind, columns, rows
    RESIZED = 14  # channel, columns, rows
    FILE = 15  # channel, FileRecord as map


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


class _Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where and when: the frame's first byte in the file and microseconds since the tape began."""

    position: int
    at_us: int


class Judgement(_Placed, frozen=True):
    """One text and what was decided about each of its statements. `decisions[i]` is about `facts[i]`.

    A decision beyond the facts is about the whole text: it could not be analysed, or a limit was reached.
    On an SSH tape each judgement is one operation of one `channel` (None: of the connection), done or refused
    then and there.
    """

    id: int
    text: str
    facts: tuple[SqlFacts, ...] | tuple[SshFacts, ...]
    decisions: tuple[Decision, ...]
    policy_version: str
    channel: int | None = None


class Request(_Placed, frozen=True):
    """Client bytes as sent after startup. Raw bytes of one operation that come in several entries belong
    together.
    """

    operation: int
    judgements: tuple[int, ...]
    raw: bytes


class Reply(_Placed, frozen=True):
    """Bytes as the client saw them: after masking, the gateway's own answers included."""

    operation: int
    raw: bytes


class ReplyDigest(_Placed, frozen=True):
    """The replies to an operation went beyond the limit: `omitted` bytes are not here, `sha256` is
    theirs.
    """

    operation: int
    kept: int
    omitted: int
    sha256: bytes


class Event(_Placed, frozen=True):
    name: str
    data: dict[str, object]


class End(_Placed, frozen=True):
    reason: str
    operations: int
    denials: int


class Input(_Placed, frozen=True):
    """Bytes that the client sent on a channel."""

    channel: int
    raw: bytes


class Typed(_Placed, frozen=True):
    """Bytes that came from a terminal. What they were follows in `Echoed`, or they are `Withheld`."""

    channel: int
    size: int


class Echoed(_Placed, frozen=True):
    """Typed lines, with the keys that ended them, which the target's output had shown as they were typed."""

    channel: int
    text: str


class Withheld(_Placed, frozen=True):
    """`size` bytes of input that are not on the tape, and why. Passwords are among these."""

    channel: int
    size: int
    reason: str


class Output(_Placed, frozen=True):
    """Bytes that the target (or the gateway, when it refuses) sent to the client."""

    channel: int
    stream: int
    raw: bytes


class StreamDigest(_Placed, frozen=True):
    """At the end of a stream that is not wholly here. `sha256` is of the omitted bytes, empty when they were
    only counted.
    """

    channel: int
    stream: int
    kept: int
    omitted: int
    sha256: bytes


class Terminal(_Placed, frozen=True):
    channel: int
    term: str
    columns: int
    rows: int


class Resized(_Placed, frozen=True):
    channel: int
    columns: int
    rows: int


class FileMoved(_Placed, frozen=True):
    """A file went through a channel by sftp or scp."""

    channel: int
    file: FileRecord


class Unknown(_Placed, frozen=True):
    kind: int
    fields: tuple[object, ...]


PostgresEntry = Request | Reply | ReplyDigest
SshEntry = Input | Typed | Echoed | Withheld | Output | StreamDigest | Terminal | Resized | FileMoved
Entry = Judgement | PostgresEntry | SshEntry | Event | End | Unknown


def header_of(frame: Frame) -> TapeHeader:
    """The header; raises msgspec.ValidationError when the first frame is of another shape."""
    if len(frame.fields) < 1:
        raise msgspec.ValidationError("the header is empty")
    return msgspec.convert(frame.fields[0], TapeHeader)


def entry_of(frame: Frame, protocol: str = POSTGRES) -> Entry:
    """The entry that a frame (not the header) stands for on a tape of this protocol (`TapeHeader.protocol`)."""
    build = _BUILDERS.get(frame.kind)
    if protocol == SSH and frame.kind == FrameKind.JUDGEMENT:
        build = _build_ssh_judgement
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


def _builder(fields: type[msgspec.Struct], entry: Callable[..., Entry]) -> Callable[[Frame], Entry]:
    names = fields.__struct_fields__

    def build(frame: Frame) -> Entry:
        values = msgspec.convert(frame.fields, fields, builtin_types=(bytes,))
        return entry(
            position=frame.position, at_us=frame.at_us, **{name: getattr(values, name) for name in names}
        )

    return build


_BUILDERS: Final[dict[int, Callable[[Frame], Entry]]] = {
    FrameKind.JUDGEMENT: _builder(_JudgementFields, Judgement),
    FrameKind.REQUEST: _builder(_RequestFields, Request),
    FrameKind.REPLY: _builder(_ReplyFields, Reply),
    FrameKind.REPLY_DIGEST: _builder(_ReplyDigestFields, ReplyDigest),
    FrameKind.EVENT: _builder(_EventFields, Event),
    FrameKind.END: _builder(_EndFields, End),
    FrameKind.INPUT: _builder(_InputFields, Input),
    FrameKind.TYPED: _builder(_TypedFields, Typed),
    FrameKind.ECHOED: _builder(_EchoedFields, Echoed),
    FrameKind.WITHHELD: _builder(_WithheldFields, Withheld),
    FrameKind.OUTPUT: _builder(_OutputFields, Output),
    FrameKind.STREAM_DIGEST: _builder(_StreamDigestFields, StreamDigest),
    FrameKind.TERMINAL: _builder(_TerminalFields, Terminal),
    FrameKind.RESIZED: _builder(_ResizedFields, Resized),
    FrameKind.FILE: _builder(_FileFields, FileMoved),
}
_build_ssh_judgement: Final = _builder(_SshJudgementFields, Judgement)
