"""What the frames of a tape mean: kinds, their fields, and the typed entries that a reader gives.

Pure. The recorder packs fields in the order written at each kind; `entry_of` turns a frame back. A kind
this software does not know, or a known kind with fields of another shape, becomes `Unknown`, so that an
older reader still shows a newer tape.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

import msgspec

from policy.decision import Decision
from policy.facts import SqlFacts, Subject
from proxyd.tape.format import END_KIND, HEADER_KIND, Frame

DENIED: Final = "denied"
"""Name of the event that says an operation was refused. `ls` counts these."""


class FrameKind(IntEnum):
    HEADER = HEADER_KIND  # map: TapeHeader
    JUDGEMENT = 1  # id, text, [SqlFacts as map], [Decision as map], policy version
    REQUEST = 2  # operation, [judgement id], raw
    REPLY = 3  # operation, raw
    REPLY_DIGEST = 4  # operation, bytes kept, bytes omitted, sha256 of the omitted
    EVENT = 5  # name, map
    END = END_KIND  # reason, operations, denials


class TapeHeader(msgspec.Struct, frozen=True):
    """Who talks to what. `started_at` is in Unix seconds; `client` is the peer's address as text.

    `protocol` is the target's ("postgres"); it chooses how the raw bytes are shown. `target_labels` are there
    so that the tape can be judged again by itself.
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
    """

    id: int
    text: str
    facts: tuple[SqlFacts, ...]
    decisions: tuple[Decision, ...]
    policy_version: str


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


class Unknown(_Placed, frozen=True):
    kind: int
    fields: tuple[object, ...]


Entry = Judgement | Request | Reply | ReplyDigest | Event | End | Unknown


def header_of(frame: Frame) -> TapeHeader:
    """The header; raises msgspec.ValidationError when the first frame is of another shape."""
    if len(frame.fields) < 1:
        raise msgspec.ValidationError("the header is empty")
    return msgspec.convert(frame.fields[0], TapeHeader)


def entry_of(frame: Frame) -> Entry:
    """The entry that a frame (not the header) stands for."""
    build = _BUILDERS.get(frame.kind)
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
}
