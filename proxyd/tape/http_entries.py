"""The entries of a tape of HTTP. Pure; `http_taping` writes the frames, `entries.entry_of` turns them back.

Heads and bodies are as they went on: the request as the target got it, the answer as the client did, without what is
secret. Bodies may come in several entries, and those of several exchanges between each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from proxyd.tape.format import Frame
from proxyd.tape.frames import FrameKind, Placed, builder

TO_TARGET: Final = 0
TO_CLIENT: Final = 1


class HttpHeaders(Placed, frozen=True):
    """Headers that requests and answers behind this refer to by `id`."""

    id: int
    headers: tuple[str, ...]

    def pairs(self) -> tuple[tuple[str, str], ...]:
        return paired(self.headers)


class HttpRequest(Placed, frozen=True):
    """The head of a request, and as much of its body as came with it. `judgement` is the id of what was decided."""

    exchange: int
    judgement: int
    method: str
    url: str
    version: str
    headers: int
    raw: bytes
    has_ended: bool


class HttpResponse(Placed, frozen=True):
    """The head of an answer. `made_here`: the gateway's own, not the target's."""

    exchange: int
    status: int
    headers: int
    made_here: bool
    raw: bytes
    has_ended: bool


class HttpBody(Placed, frozen=True):
    exchange: int
    way: int
    raw: bytes


class HttpBodyEnd(Placed, frozen=True):
    """A body is over. `sha256` is of the `omitted` bytes, empty when there are none or they were only counted."""

    exchange: int
    way: int
    kept: int
    omitted: int
    sha256: bytes
    trailers: tuple[str, ...]


class HttpMessage(Placed, frozen=True):
    """One message of a WebSocket. `message_kind` is text, binary, ping, pong or close."""

    exchange: int
    way: int
    message_kind: str
    raw: bytes
    omitted: int
    sha256: bytes


class HttpAborted(Placed, frozen=True):
    """The exchange broke off."""

    exchange: int
    reason: str


class HttpMasked(Placed, frozen=True):
    """How often which mask or detector replaced something. Never what."""

    exchange: int
    counts: dict[str, int]


class HttpToolCall(Placed, frozen=True):
    """A model asked for a tool. Of `arguments`, `omitted` more characters are not here."""

    exchange: int
    name: str
    arguments: str
    omitted: int


class HttpUsage(Placed, frozen=True):
    """What a call of a model took: tokens, costs."""

    exchange: int
    data: dict[str, object]


HttpEntry = (
    HttpHeaders
    | HttpRequest
    | HttpResponse
    | HttpBody
    | HttpBodyEnd
    | HttpMessage
    | HttpAborted
    | HttpMasked
    | HttpToolCall
    | HttpUsage
)


def paired(flat: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Headers of an entry as pairs of name and value."""
    return tuple(zip(flat[::2], flat[1::2], strict=False))


class _HeadersFields(msgspec.Struct, array_like=True):
    id: int
    headers: tuple[str, ...]


class _RequestFields(msgspec.Struct, array_like=True):
    exchange: int
    judgement: int
    method: str
    url: str
    version: str
    headers: int
    raw: bytes
    has_ended: bool


class _ResponseFields(msgspec.Struct, array_like=True):
    exchange: int
    status: int
    headers: int
    made_here: bool
    raw: bytes
    has_ended: bool


class _BodyFields(msgspec.Struct, array_like=True):
    exchange: int
    way: int
    raw: bytes


class _BodyEndFields(msgspec.Struct, array_like=True):
    exchange: int
    way: int
    kept: int
    omitted: int
    sha256: bytes
    trailers: tuple[str, ...]


class _MessageFields(msgspec.Struct, array_like=True):
    exchange: int
    way: int
    message_kind: str
    raw: bytes
    omitted: int
    sha256: bytes


class _AbortedFields(msgspec.Struct, array_like=True):
    exchange: int
    reason: str


class _MaskedFields(msgspec.Struct, array_like=True):
    exchange: int
    counts: dict[str, int]


class _ToolCallFields(msgspec.Struct, array_like=True):
    exchange: int
    name: str
    arguments: str
    omitted: int


class _UsageFields(msgspec.Struct, array_like=True):
    exchange: int
    data: dict[str, object]


HTTP_BUILDERS: Final[dict[int, Callable[[Frame], HttpEntry]]] = {
    FrameKind.HTTP_HEADERS: builder(_HeadersFields, HttpHeaders),
    FrameKind.HTTP_REQUEST: builder(_RequestFields, HttpRequest),
    FrameKind.HTTP_RESPONSE: builder(_ResponseFields, HttpResponse),
    FrameKind.HTTP_BODY: builder(_BodyFields, HttpBody),
    FrameKind.HTTP_BODY_END: builder(_BodyEndFields, HttpBodyEnd),
    FrameKind.HTTP_MESSAGE: builder(_MessageFields, HttpMessage),
    FrameKind.HTTP_ABORTED: builder(_AbortedFields, HttpAborted),
    FrameKind.HTTP_MASKED: builder(_MaskedFields, HttpMasked),
    FrameKind.HTTP_TOOL_CALL: builder(_ToolCallFields, HttpToolCall),
    FrameKind.HTTP_USAGE: builder(_UsageFields, HttpUsage),
}
