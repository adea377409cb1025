"""Messages of the SSH connection protocol (RFC 4254): `parse(payload)` reads one, the functions build them.

A payload begins with the message number; packets, padding and ciphers are the transport's. Owns the fixed part of
each message. Must never: look into the `body` of a request or open (that is `requests` and `opens`), or accept
a short message, trailing bytes, an unknown number or a name that is not one. Called by the channel gate for each
message, so the two kinds that carry most of the traffic are read without a Reader.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum

import msgspec

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.ssh.fields import Reader, boolean, name, string, text, uint32

MAX_TEXT_BYTES = 4096  # a description for a human
MAX_LANGUAGE_BYTES = 64
EXTENDED_DATA_STDERR = 1

_data_head = struct.Struct(">BII").unpack_from
_pack_data = struct.Struct(">BII").pack
_pack_adjust = struct.Struct(">BII").pack
_pack_u8_u32 = struct.Struct(">BI").pack


class Number(IntEnum):
    GLOBAL_REQUEST = 80
    REQUEST_SUCCESS = 81
    REQUEST_FAILURE = 82
    CHANNEL_OPEN = 90
    CHANNEL_OPEN_CONFIRMATION = 91
    CHANNEL_OPEN_FAILURE = 92
    CHANNEL_WINDOW_ADJUST = 93
    CHANNEL_DATA = 94
    CHANNEL_EXTENDED_DATA = 95
    CHANNEL_EOF = 96
    CHANNEL_CLOSE = 97
    CHANNEL_REQUEST = 98
    CHANNEL_SUCCESS = 99
    CHANNEL_FAILURE = 100


class OpenFailureCode(IntEnum):
    ADMINISTRATIVELY_PROHIBITED = 1
    CONNECT_FAILED = 2
    UNKNOWN_CHANNEL_TYPE = 3
    RESOURCE_SHORTAGE = 4


class GlobalRequest(msgspec.Struct, frozen=True, gc=False):
    name: str
    want_reply: bool
    body: bytes = b""


class RequestSuccess(msgspec.Struct, frozen=True, gc=False):
    body: bytes = b""


class RequestFailure(msgspec.Struct, frozen=True, gc=False):
    pass


class ChannelOpen(msgspec.Struct, frozen=True, gc=False):
    """`sender` is the opener's own number for the channel; window and largest packet are what it takes."""

    kind: str
    sender: int
    window: int
    max_packet: int
    body: bytes = b""


class OpenConfirmation(msgspec.Struct, frozen=True, gc=False):
    recipient: int
    sender: int
    window: int
    max_packet: int
    body: bytes = b""


class OpenFailure(msgspec.Struct, frozen=True, gc=False):
    recipient: int
    code: int
    text: str
    language: str = ""


class WindowAdjust(msgspec.Struct, frozen=True, gc=False):
    recipient: int
    added: int


class Data(msgspec.Struct, frozen=True, gc=False):
    recipient: int
    data: bytes


class ExtendedData(msgspec.Struct, frozen=True, gc=False):
    """`code` 1 is stderr; no other is defined."""

    recipient: int
    code: int
    data: bytes


class Eof(msgspec.Struct, frozen=True, gc=False):
    recipient: int


class Close(msgspec.Struct, frozen=True, gc=False):
    recipient: int


class ChannelRequest(msgspec.Struct, frozen=True, gc=False):
    recipient: int
    name: str
    want_reply: bool
    body: bytes = b""


class ChannelSuccess(msgspec.Struct, frozen=True, gc=False):
    recipient: int


class ChannelFailure(msgspec.Struct, frozen=True, gc=False):
    recipient: int


Message = (
    GlobalRequest
    | RequestSuccess
    | RequestFailure
    | ChannelOpen
    | OpenConfirmation
    | OpenFailure
    | WindowAdjust
    | Data
    | ExtendedData
    | Eof
    | Close
    | ChannelRequest
    | ChannelSuccess
    | ChannelFailure
)


def parse(payload: bytes) -> Message:
    """The typed message. Raises RemoteProtocolError, LimitExceeded, InvalidEncoding. Data is copied once."""
    if len(payload) >= 9 and payload[0] == Number.CHANNEL_DATA:
        _, recipient, length = _data_head(payload)
        if length != len(payload) - 9:
            raise RemoteProtocolError("CHANNEL_DATA has a length that is not its data's")
        return Data(recipient, payload[9:])
    if not payload:
        raise RemoteProtocolError("an empty message")
    parser = _PARSERS.get(payload[0])
    if parser is None:
        raise RemoteProtocolError(f"message number {payload[0]} is not one of the connection protocol")
    reader = Reader(payload, Number(payload[0]).name, 1)
    message = parser(reader)
    reader.end()
    return message


def _channel_open(reader: Reader) -> ChannelOpen:
    return ChannelOpen(reader.name(), reader.uint32(), reader.uint32(), reader.uint32(), reader.rest())


def _open_confirmation(reader: Reader) -> OpenConfirmation:
    return OpenConfirmation(reader.uint32(), reader.uint32(), reader.uint32(), reader.uint32(), reader.rest())


def _open_failure(reader: Reader) -> OpenFailure:
    recipient, code, words = reader.uint32(), reader.uint32(), reader.text(MAX_TEXT_BYTES)
    # Some old servers leave the language out, and nothing depends on it.
    return OpenFailure(recipient, code, words, "" if reader.is_at_end else reader.text(MAX_LANGUAGE_BYTES))


def _channel_request(reader: Reader) -> ChannelRequest:
    return ChannelRequest(reader.uint32(), reader.name(), reader.boolean(), reader.rest())


_PARSERS: dict[int, Callable[[Reader], Message]] = {
    Number.GLOBAL_REQUEST: lambda reader: GlobalRequest(reader.name(), reader.boolean(), reader.rest()),
    Number.REQUEST_SUCCESS: lambda reader: RequestSuccess(reader.rest()),
    Number.REQUEST_FAILURE: lambda reader: RequestFailure(),
    Number.CHANNEL_OPEN: _channel_open,
    Number.CHANNEL_OPEN_CONFIRMATION: _open_confirmation,
    Number.CHANNEL_OPEN_FAILURE: _open_failure,
    Number.CHANNEL_WINDOW_ADJUST: lambda reader: WindowAdjust(reader.uint32(), reader.uint32()),
    Number.CHANNEL_DATA: lambda reader: Data(reader.uint32(), reader.string(0xFFFFFFFF)),
    Number.CHANNEL_EXTENDED_DATA: lambda reader: ExtendedData(
        reader.uint32(), reader.uint32(), reader.string(0xFFFFFFFF)
    ),
    Number.CHANNEL_EOF: lambda reader: Eof(reader.uint32()),
    Number.CHANNEL_CLOSE: lambda reader: Close(reader.uint32()),
    Number.CHANNEL_REQUEST: _channel_request,
    Number.CHANNEL_SUCCESS: lambda reader: ChannelSuccess(reader.uint32()),
    Number.CHANNEL_FAILURE: lambda reader: ChannelFailure(reader.uint32()),
}


def global_request(request: str, want_reply: bool, body: bytes = b"") -> bytes:
    return b"\x50" + name(request) + boolean(want_reply) + body


def request_success(body: bytes = b"") -> bytes:
    return b"\x51" + body


def request_failure() -> bytes:
    return b"\x52"


def channel_open(kind: str, sender: int, window: int, max_packet: int, body: bytes = b"") -> bytes:
    return b"\x5a" + name(kind) + uint32(sender) + uint32(window) + uint32(max_packet) + body


def open_confirmation(recipient: int, sender: int, window: int, max_packet: int, body: bytes = b"") -> bytes:
    return b"\x5b" + uint32(recipient) + uint32(sender) + uint32(window) + uint32(max_packet) + body


def open_failure(recipient: int, code: int, words: str, language: str = "") -> bytes:
    """`words` longer than what `parse` takes are cut: a refusal must reach the peer whatever it quotes."""
    described = words.encode(errors="replace")[:MAX_TEXT_BYTES]
    return b"\x5c" + uint32(recipient) + uint32(code) + string(described) + text(language)


def window_adjust(recipient: int, added: int) -> bytes:
    return _pack_adjust(Number.CHANNEL_WINDOW_ADJUST, recipient, added)


def channel_data(recipient: int, data: bytes | memoryview) -> bytes:
    return b"".join((_pack_data(Number.CHANNEL_DATA, recipient, len(data)), data))


def extended_data(recipient: int, code: int, data: bytes | memoryview) -> bytes:
    return b"".join((_pack_data(Number.CHANNEL_EXTENDED_DATA, recipient, code), uint32(len(data)), data))


def channel_eof(recipient: int) -> bytes:
    return _pack_u8_u32(Number.CHANNEL_EOF, recipient)


def channel_close(recipient: int) -> bytes:
    return _pack_u8_u32(Number.CHANNEL_CLOSE, recipient)


def channel_request(recipient: int, request: str, want_reply: bool, body: bytes = b"") -> bytes:
    return b"\x62" + uint32(recipient) + name(request) + boolean(want_reply) + body


def channel_success(recipient: int) -> bytes:
    return _pack_u8_u32(Number.CHANNEL_SUCCESS, recipient)


def channel_failure(recipient: int) -> bytes:
    return _pack_u8_u32(Number.CHANNEL_FAILURE, recipient)


def build(message: Message) -> bytes:
    """The payload of a typed message."""
    match message:
        case Data(recipient, data):
            return channel_data(recipient, data)
        case ExtendedData(recipient, code, data):
            return extended_data(recipient, code, data)
        case WindowAdjust(recipient, added):
            return window_adjust(recipient, added)
        case Eof(recipient):
            return channel_eof(recipient)
        case Close(recipient):
            return channel_close(recipient)
        case ChannelRequest(recipient, request, want_reply, body):
            return channel_request(recipient, request, want_reply, body)
        case ChannelSuccess(recipient):
            return channel_success(recipient)
        case ChannelFailure(recipient):
            return channel_failure(recipient)
        case GlobalRequest(request, want_reply, body):
            return global_request(request, want_reply, body)
        case RequestSuccess(body):
            return request_success(body)
        case RequestFailure():
            return request_failure()
        case ChannelOpen(kind, sender, window, max_packet, body):
            return channel_open(kind, sender, window, max_packet, body)
        case OpenConfirmation(recipient, sender, window, max_packet, body):
            return open_confirmation(recipient, sender, window, max_packet, body)
        case OpenFailure(recipient, code, words, language):
            return open_failure(recipient, code, words, language)


def readdress(payload: bytes, recipient: int) -> bytes:
    """The same channel message for another recipient: one copy, nothing built anew.

    For messages 91 to 100 that `parse` has accepted; CHANNEL_OPEN has no recipient.
    """
    if not Number.CHANNEL_OPEN_CONFIRMATION <= payload[0] <= Number.CHANNEL_FAILURE:
        raise LocalProtocolError(f"message number {payload[0]} has no recipient")
    return b"".join((_pack_u8_u32(payload[0], recipient), memoryview(payload)[5:]))
