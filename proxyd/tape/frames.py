"""The kinds of frames that a tape can have, and how the fields of one become an entry. Pure; see `entries`.

A kind keeps its number and the order of its fields for ever; fields are added at the end only.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

import msgspec

from proxyd.tape.format import END_KIND, HEADER_KIND, Frame


class FrameKind(IntEnum):
    HEADER = HEADER_KIND  # map: TapeHeader
    JUDGEMENT = (
        1  # id, text, [facts as map], [Decision as map], policy version, [channel or nil], [what facts lack]
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
    # HTTP. An exchange is a request and its answer. Ways: 0 to the target, 1 to the client. Names and values of
    # headers take turns in one array. A small message is one frame: its head, its body, and that it ended.
    HTTP_HEADERS = 16  # id, [name, value, name, value...]
    HTTP_REQUEST = 17  # exchange, judgement id, method, url, version, headers id, raw, has ended
    HTTP_RESPONSE = 18  # exchange, status, headers id, is the gateway's own, raw, has ended
    HTTP_BODY = 19  # exchange, way, raw
    HTTP_BODY_END = 20  # exchange, way, bytes kept, bytes omitted, sha256 of the omitted, trailers
    HTTP_MESSAGE = 21  # exchange, way, kind, raw, bytes omitted, sha256 of the omitted
    HTTP_ABORTED = 22  # exchange, reason
    HTTP_MASKED = 23  # exchange, map of counts
    HTTP_TOOL_CALL = 24  # exchange, name, arguments, characters omitted
    HTTP_USAGE = 25  # exchange, map


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where and when: the frame's first byte in the file and microseconds since the tape began."""

    position: int
    at_us: int


_Entry = TypeVar("_Entry", bound=Placed)


def builder(fields: type[msgspec.Struct], entry: Callable[..., _Entry]) -> Callable[[Frame], _Entry]:
    """Turns a frame whose fields are as `fields` (array_like) says into an entry with attributes of those names.

    What it returns raises msgspec.ValidationError for a frame of another shape.
    """
    names = fields.__struct_fields__

    def build(frame: Frame) -> _Entry:
        values = msgspec.convert(frame.fields, fields, builtin_types=(bytes,))
        return entry(
            position=frame.position, at_us=frame.at_us, **{name: getattr(values, name) for name in names}
        )

    return build
