"""WebSocket frames for either end (RFC 6455), once the upgrade is done: bytes in, messages out, and the way back.

Over wsproto, without extensions: the gateway offers none, so every frame is what it says. Sans-IO; driven by
`proxyd.http_websocket`. Raises ProtocolError.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError as WsLocalError
from wsproto.utilities import RemoteProtocolError as WsRemoteError

from protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError

MAX_PENDING_BYTES: Final = 1 << 20

PROTOCOL_ERROR: Final = 1002
POLICY_VIOLATION: Final = 1008
GOING_AWAY: Final = 1001
INTERNAL_ERROR: Final = 1011


class Piece(msgspec.Struct, frozen=True):
    """Of a text or binary message; `ends` with its last one."""

    data: str | bytes
    ends: bool

    @property
    def is_text(self) -> bool:
        return isinstance(self.data, str)


class Pinged(msgspec.Struct, frozen=True):
    data: bytes


class Ponged(msgspec.Struct, frozen=True):
    data: bytes


class Closed(msgspec.Struct, frozen=True):
    code: int
    reason: str


WsEvent = Piece | Pinged | Ponged | Closed


class WebSocket:
    """One end. `is_server`: the peer is the client (its frames are masked)."""

    def __init__(self, *, is_server: bool) -> None:
        kind = ConnectionType.SERVER if is_server else ConnectionType.CLIENT
        self._connection = Connection(kind)

    def receive(self, data: bytes) -> list[WsEvent]:
        found: list[WsEvent] = []
        try:
            self._connection.receive_data(data)
            for raw in self._connection.events():
                if isinstance(raw, CloseConnection) and not self.has_closed:
                    # wsproto's way of saying that a frame is broken; a close that came has changed the state.
                    raise RemoteProtocolError(f"WebSocket: {raw.reason}"[:300])
                event = _event(raw)
                if event is not None:
                    found.append(event)
        except WsRemoteError as error:
            raise RemoteProtocolError(f"WebSocket: {error}"[:300]) from error
        except (WsLocalError, ValueError) as error:
            raise RemoteProtocolError("WebSocket: a frame that does not belong here") from error
        return found

    @property
    def has_closed(self) -> bool:
        """The peer has said that it closes."""
        return self._connection.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED)

    @property
    def is_open(self) -> bool:
        """Neither side has said that it closes."""
        return self._connection.state is ConnectionState.OPEN

    @property
    def may_close(self) -> bool:
        """A close can still be said by us."""
        return self._connection.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING)

    def send(self, event: WsEvent) -> bytes:
        """Raises LocalProtocolError when nothing can be sent any more."""
        try:
            return self._connection.send(_raw(event))
        except (WsLocalError, ValueError, struct.error) as error:
            raise LocalProtocolError(f"WebSocket: {error}"[:300]) from error


def _event(raw: Event) -> WsEvent | None:
    match raw:
        case TextMessage() | BytesMessage():
            data = raw.data if isinstance(raw.data, str) else bytes(raw.data)
            if len(data) > MAX_PENDING_BYTES:
                raise LimitExceeded("WebSocket: a piece over the limit")
            return Piece(data, raw.message_finished)
        case Ping():
            return Pinged(bytes(raw.payload))
        case Pong():
            return Ponged(bytes(raw.payload))
        case CloseConnection():
            return Closed(int(raw.code), raw.reason or "")
        case _:
            return None


def _raw(event: WsEvent) -> Event:
    match event:
        case Piece(data=data, ends=ends):
            if isinstance(data, str):
                return TextMessage(data=data, message_finished=ends)
            return BytesMessage(data=data, message_finished=ends)
        case Pinged(data=data):
            return Ping(payload=data)
        case Ponged(data=data):
            return Pong(payload=data)
        case Closed(code=code, reason=reason):
            is_told = code not in (CloseReason.NO_STATUS_RCVD, CloseReason.ABNORMAL_CLOSURE)
            return CloseConnection(code=code if is_told else 1000, reason=reason[:100])
