"""What happens on an HTTP/2 connection besides heads and ends of messages, which are those of `messages`."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from protocols.http.messages import MessageEnded, RequestHead, ResponseHead


class StreamReset(msgspec.Struct, frozen=True):
    """The peer gives a stream up. `code` is RFC 9113's error code."""

    code: int


class WindowOpened(msgspec.Struct, frozen=True):
    """More may be sent on this stream; on any, where the stream is 0."""


class FarewellHeard(msgspec.Struct, frozen=True):
    """The peer knows by now that this connection is about to take no more streams."""


class ConnectionEnding(msgspec.Struct, frozen=True):
    """The peer takes no more streams; those above `last_stream` were not looked at."""

    last_stream: int
    code: int


class Received(msgspec.Struct, frozen=True):
    """A piece of a body. `flow_bytes` have to be given back by `Http2.acknowledge` once it has been passed on."""

    data: bytes
    flow_bytes: int


ConnectionEvent: TypeAlias = WindowOpened | FarewellHeard | ConnectionEnding
StreamEvent: TypeAlias = RequestHead | ResponseHead | Received | MessageEnded | StreamReset | ConnectionEvent
