"""Reading a target's messages one by one, for the phases in which the gateway itself is the client.

Owns a bounded buffer between a stream and whoever wants the next message. What is behind the last message
read stays in the buffer and can be taken out: the relay goes on from there. Never reads ahead of a wait of
its own.
"""

from __future__ import annotations

import trio

from protocols.errors import LimitExceeded, ProtocolError, RemoteProtocolError
from protocols.postgres.codec import HEADER_BYTES, Frame
from protocols.postgres.message_types import BACKEND_TYPES
from protocols.postgres.messages import BackendMessage, decode_backend

# A few hundred rows of a catalog: what is taken apart between two chances for other sessions to run (about 3
# ms).
RECEIVE_BYTES = 1 << 14


class PeerClosed(ProtocolError):
    """The target closed the connection where a message was due."""


class MessageReader:
    """Messages of a server from `stream`. `max_message_bytes` caps one message, its header included."""

    def __init__(self, stream: trio.abc.ReceiveStream, max_message_bytes: int) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self.max_message_bytes = max_message_bytes

    async def frame(self) -> Frame:
        """The next message. Raises ProtocolError (PeerClosed at the end) and what the stream raises."""
        while True:
            length = self._next_length()
            if length and len(self._buffer) >= length:
                raw = bytes(memoryview(self._buffer)[:length])
                del self._buffer[:length]
                return Frame(raw[0], raw)
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise PeerClosed("the target closed the connection")
            self._buffer += data

    async def message(self) -> BackendMessage:
        """The next message, decoded. A row is an error here."""
        return decode_backend(await self.frame())

    def take_rest(self) -> bytes:
        """What has been received and not read."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def put_back(self, rest: bytes) -> None:
        self._buffer[:0] = rest

    def _next_length(self) -> int:
        """Bytes of the message at the head of the buffer; 0 while its header is not there."""
        buffer = self._buffer
        if buffer and buffer[0] not in BACKEND_TYPES:
            raise RemoteProtocolError(f"invalid message type {buffer[0]:#04x}")
        if len(buffer) < HEADER_BYTES:
            return 0
        length = 1 + int.from_bytes(buffer[1:HEADER_BYTES], "big")
        if length < HEADER_BYTES:
            raise RemoteProtocolError("invalid message length")
        if length > self.max_message_bytes:
            raise LimitExceeded(
                f"message of {length} bytes is longer than the {self.max_message_bytes} allowed"
            )
        return length
