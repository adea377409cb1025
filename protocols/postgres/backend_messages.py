"""Messages from a server, typed, both ways: `decode_backend(frame)` reads one, `encode()` gives its bytes.

The gateway reads these from the target and builds its own for the client. Rows are not here: see `rows` and
`copy`. Error and notice fields stay bytes in their order, because a server that fails before it knows the
client's encoding sends them in its own, and because unknown fields must survive a rewrite.

Source: PostgreSQL documentation, "Message Formats" and "Error and Notice Message Fields".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

import msgspec

from protocols.errors import InvalidEncoding, LocalProtocolError, RemoteProtocolError
from protocols.postgres.codec import HEADER_BYTES, Frame, frame
from protocols.postgres.message_types import Backend

MIN_SECRET_KEY_BYTES = 4
MAX_SECRET_KEY_BYTES = 256

_u16 = struct.Struct(">H").unpack_from
_i32 = struct.Struct(">i").unpack_from
_field = struct.Struct(">IhIhiH")


class AuthenticationOk(msgspec.Struct, frozen=True, gc=False):
    def encode(self) -> bytes:
        return frame(Backend.AUTHENTICATION, b"\0\0\0\0")


class AuthenticationCleartextPassword(msgspec.Struct, frozen=True, gc=False):
    def encode(self) -> bytes:
        return frame(Backend.AUTHENTICATION, b"\0\0\0\3")


class AuthenticationMD5Password(msgspec.Struct, frozen=True, gc=False):
    """`salt` is four bytes."""

    salt: bytes

    def encode(self) -> bytes:
        return frame(Backend.AUTHENTICATION, b"\0\0\0\5" + self.salt)


class AuthenticationSASL(msgspec.Struct, frozen=True, gc=False):
    """`mechanisms` in the server's order of preference."""

    mechanisms: tuple[str, ...]

    def encode(self) -> bytes:
        names = b"".join(cstring(name) for name in self.mechanisms)
        return frame(Backend.AUTHENTICATION, b"\0\0\0\x0a" + names + b"\0")


class AuthenticationSASLContinue(msgspec.Struct, frozen=True, gc=False):
    data: bytes

    def encode(self) -> bytes:
        return frame(Backend.AUTHENTICATION, b"\0\0\0\x0b" + self.data)


class AuthenticationSASLFinal(msgspec.Struct, frozen=True, gc=False):
    data: bytes

    def encode(self) -> bytes:
        return frame(Backend.AUTHENTICATION, b"\0\0\0\x0c" + self.data)


class AuthenticationUnsupported(msgspec.Struct, frozen=True, gc=False):
    """A method that the gateway does not speak (Kerberos, GSSAPI, SSPI...)."""

    method: int


class BackendKeyData(msgspec.Struct, frozen=True, gc=False):
    """`secret_key` has 4 bytes before protocol 3.2, up to 256 since."""

    process_id: int
    secret_key: bytes

    def encode(self) -> bytes:
        return frame(Backend.BACKEND_KEY_DATA, struct.pack(">i", self.process_id) + self.secret_key)


class NegotiateProtocolVersion(msgspec.Struct, frozen=True, gc=False):
    """`version`: the newest the server speaks, as `3 << 16 | minor` (older servers send the bare minor)."""

    version: int
    unsupported_options: tuple[str, ...] = ()

    @property
    def minor(self) -> int:
        return self.version & 0xFFFF

    def encode(self) -> bytes:
        head = struct.pack(">ii", self.version, len(self.unsupported_options))
        names = b"".join(cstring(name) for name in self.unsupported_options)
        return frame(Backend.NEGOTIATE_PROTOCOL_VERSION, head + names)


class ParameterStatus(msgspec.Struct, frozen=True, gc=False):
    name: str
    value: str

    def encode(self) -> bytes:
        return frame(Backend.PARAMETER_STATUS, cstring(self.name) + cstring(self.value))


class FieldDescription(msgspec.Struct, frozen=True, gc=False):
    """One output column. `table_oid` and `column_number` are 0 when it is not a table's column as it is."""

    name: str
    table_oid: int
    column_number: int
    type_oid: int
    type_size: int = -1
    type_modifier: int = -1
    format: int = 0


class RowDescription(msgspec.Struct, frozen=True, gc=False):
    fields: tuple[FieldDescription, ...]

    def encode(self) -> bytes:
        parts = [struct.pack(">H", len(self.fields))]
        for f in self.fields:
            parts.append(cstring(f.name))
            parts.append(
                _field.pack(f.table_oid, f.column_number, f.type_oid, f.type_size, f.type_modifier, f.format)
            )
        return frame(Backend.ROW_DESCRIPTION, b"".join(parts))


class ParameterDescription(msgspec.Struct, frozen=True, gc=False):
    type_oids: tuple[int, ...]

    def encode(self) -> bytes:
        count = len(self.type_oids)
        return frame(Backend.PARAMETER_DESCRIPTION, struct.pack(f">H{count}I", count, *self.type_oids))


class ErrorFields(msgspec.Struct, frozen=True, gc=False):
    """The fields of an error or a notice: (one-letter code, value), in the order sent."""

    fields: tuple[tuple[str, bytes], ...]

    def get(self, code: str) -> str | None:
        """The field's value, undecodable bytes replaced; None when it is not there."""
        for name, value in self.fields:
            if name == code:
                return value.decode(errors="replace")
        return None

    def without(self, *codes: str) -> ErrorFields:
        return ErrorFields(tuple(field for field in self.fields if field[0] not in codes))

    def only(self, *codes: str) -> ErrorFields:
        """Just these fields: what to use where an unknown field might tell too much."""
        return ErrorFields(tuple(field for field in self.fields if field[0] in codes))

    def replaced(self, code: str, text: str) -> ErrorFields:
        """The same fields with `code` set to `text`, in its place or at the end."""
        value = text.encode()
        if self.get(code) is None:
            return ErrorFields((*self.fields, (code, value)))
        return ErrorFields(tuple((name, value if name == code else old) for name, old in self.fields))

    def encode_body(self) -> bytes:
        return b"".join(name.encode("latin-1") + cstring(value) for name, value in self.fields) + b"\0"


class ErrorResponse(msgspec.Struct, frozen=True, gc=False):
    fields: ErrorFields

    def encode(self) -> bytes:
        return frame(Backend.ERROR_RESPONSE, self.fields.encode_body())


class NoticeResponse(msgspec.Struct, frozen=True, gc=False):
    fields: ErrorFields

    def encode(self) -> bytes:
        return frame(Backend.NOTICE_RESPONSE, self.fields.encode_body())


class CommandComplete(msgspec.Struct, frozen=True, gc=False):
    """`tag` such as "SELECT 5", "INSERT 0 1", "BEGIN"."""

    tag: str

    def encode(self) -> bytes:
        return frame(Backend.COMMAND_COMPLETE, cstring(self.tag))


class ReadyForQuery(msgspec.Struct, frozen=True, gc=False):
    """`status`: "I" idle, "T" in a transaction block, "E" in a failed one."""

    status: str

    def encode(self) -> bytes:
        if self.status not in ("I", "T", "E"):
            raise LocalProtocolError("no such transaction status")
        return frame(Backend.READY_FOR_QUERY, self.status.encode())


class CopyResponse(msgspec.Struct, frozen=True, gc=False):
    """COPY begins. `direction`: "in" from the client, "out" to it, "both" in replication. Formats: 0 text, 1
    binary.
    """

    direction: Literal["in", "out", "both"]
    format: int
    column_formats: tuple[int, ...]

    def encode(self) -> bytes:
        count = len(self.column_formats)
        body = struct.pack(f">BH{count}H", self.format, count, *self.column_formats)
        return frame(_COPY_TYPES[self.direction], body)


class NotificationResponse(msgspec.Struct, frozen=True, gc=False):
    process_id: int
    channel: str
    payload: str

    def encode(self) -> bytes:
        body = struct.pack(">i", self.process_id) + cstring(self.channel) + cstring(self.payload)
        return frame(Backend.NOTIFICATION_RESPONSE, body)


class FunctionCallResponse(msgspec.Struct, frozen=True, gc=False):
    value: bytes | None

    def encode(self) -> bytes:
        value = b"\xff\xff\xff\xff" if self.value is None else len(self.value).to_bytes(4) + self.value
        return frame(Backend.FUNCTION_CALL_RESPONSE, value)


class Marker(msgspec.Struct, frozen=True, gc=False):
    """A message without a body: `type` is BIND_COMPLETE, CLOSE_COMPLETE, COPY_DONE, EMPTY_QUERY_RESPONSE,
    NO_DATA, PARSE_COMPLETE or PORTAL_SUSPENDED of `message_types.Backend`.
    """

    type: int

    def encode(self) -> bytes:
        return frame(self.type, b"")


BackendMessage = (
    AuthenticationOk
    | AuthenticationCleartextPassword
    | AuthenticationMD5Password
    | AuthenticationSASL
    | AuthenticationSASLContinue
    | AuthenticationSASLFinal
    | AuthenticationUnsupported
    | BackendKeyData
    | NegotiateProtocolVersion
    | ParameterStatus
    | RowDescription
    | ParameterDescription
    | ErrorResponse
    | NoticeResponse
    | CommandComplete
    | ReadyForQuery
    | CopyResponse
    | NotificationResponse
    | FunctionCallResponse
    | Marker
)


def decode_backend(message: Frame) -> BackendMessage:
    """The typed message; rows are refused. Raises RemoteProtocolError; InvalidEncoding when only a text is at
    fault.
    """
    try:
        return _DECODERS[message.type](message.raw)
    except KeyError:
        raise RemoteProtocolError(f"invalid message type {message.type:#04x}") from None
    except UnicodeDecodeError as fault:
        raise InvalidEncoding("invalid byte sequence for encoding UTF8", "22021") from fault
    except (ValueError, IndexError, struct.error) as fault:
        raise RemoteProtocolError(f"malformed message of type {chr(message.type)!r}") from fault


def cstring(text: str | bytes) -> bytes:
    """A String of the protocol: UTF-8 and a NUL."""
    value = text.encode() if isinstance(text, str) else text
    if b"\0" in value:
        raise LocalProtocolError("a string in a message cannot hold a NUL")
    return value + b"\0"


def _strings(raw: bytes, position: int, count: int, tail: bytes = b"") -> list[str]:
    """Exactly `count` strings from `position`, followed by `tail` and the end."""
    texts = []
    for _ in range(count):
        stop = raw.index(0, position)
        texts.append(raw[position:stop].decode())
        position = stop + 1
    _expect(raw[position:] == tail)
    return texts


def _expect(holds: bool) -> None:
    if not holds:
        raise ValueError("malformed")


def _authentication(raw: bytes) -> BackendMessage:
    (method,) = _i32(raw, HEADER_BYTES)
    data = raw[HEADER_BYTES + 4 :]
    match method:
        case 0:
            _expect(not data)
            return AuthenticationOk()
        case 3:
            _expect(not data)
            return AuthenticationCleartextPassword()
        case 5:
            _expect(len(data) == 4)
            return AuthenticationMD5Password(data)
        case 10:
            names = _strings(data, 0, data.count(0) - 1, b"\0")
            _expect(bool(names) and all(names))
            return AuthenticationSASL(tuple(names))
        case 11:
            return AuthenticationSASLContinue(data)
        case 12:
            return AuthenticationSASLFinal(data)
    return AuthenticationUnsupported(method)


def _backend_key_data(raw: bytes) -> BackendKeyData:
    key = raw[HEADER_BYTES + 4 :]
    _expect(MIN_SECRET_KEY_BYTES <= len(key) <= MAX_SECRET_KEY_BYTES)
    return BackendKeyData(_i32(raw, HEADER_BYTES)[0], key)


def _negotiate(raw: bytes) -> NegotiateProtocolVersion:
    version, count = struct.unpack_from(">ii", raw, HEADER_BYTES)
    _expect(version >= 0 and 0 <= count <= len(raw))
    return NegotiateProtocolVersion(version, tuple(_strings(raw, HEADER_BYTES + 8, count)))


def _row_description(raw: bytes) -> RowDescription:
    (count,) = _u16(raw, HEADER_BYTES)
    position = HEADER_BYTES + 2
    fields = []
    for _ in range(count):
        stop = raw.index(0, position)
        numbers = _field.unpack_from(raw, stop + 1)
        if numbers[5] > 1:
            raise ValueError("no such format")
        fields.append(FieldDescription(raw[position:stop].decode(), *numbers))
        position = stop + 1 + _field.size
    _expect(position == len(raw))
    return RowDescription(tuple(fields))


def _parameter_description(raw: bytes) -> ParameterDescription:
    (count,) = _u16(raw, HEADER_BYTES)
    _expect(len(raw) == HEADER_BYTES + 2 + 4 * count)
    return ParameterDescription(struct.unpack_from(f">{count}I", raw, HEADER_BYTES + 2))


def _error_fields(raw: bytes) -> ErrorFields:
    fields = []
    position = HEADER_BYTES
    while raw[position]:
        stop = raw.index(0, position + 1)
        fields.append((chr(raw[position]), raw[position + 1 : stop]))
        position = stop + 1
    _expect(position == len(raw) - 1)
    return ErrorFields(tuple(fields))


def _ready_for_query(raw: bytes) -> ReadyForQuery:
    status = raw[HEADER_BYTES:]
    _expect(status in (b"I", b"T", b"E"))
    return ReadyForQuery(status.decode())


_COPY_TYPES = {
    "in": Backend.COPY_IN_RESPONSE,
    "out": Backend.COPY_OUT_RESPONSE,
    "both": Backend.COPY_BOTH_RESPONSE,
}


def _copy_response(direction: Literal["in", "out", "both"]) -> Callable[[bytes], CopyResponse]:
    def decode(raw: bytes) -> CopyResponse:
        overall, count = struct.unpack_from(">BH", raw, HEADER_BYTES)
        _expect(overall <= 1 and len(raw) == HEADER_BYTES + 3 + 2 * count)
        formats = struct.unpack_from(f">{count}H", raw, HEADER_BYTES + 3)
        _expect(max(formats, default=0) <= overall)
        return CopyResponse(direction, overall, formats)

    return decode


def _notification(raw: bytes) -> NotificationResponse:
    return NotificationResponse(_i32(raw, HEADER_BYTES)[0], *_strings(raw, HEADER_BYTES + 4, 2))


def _function_call_response(raw: bytes) -> FunctionCallResponse:
    (length,) = _i32(raw, HEADER_BYTES)
    value = raw[HEADER_BYTES + 4 :]
    _expect(len(value) == max(length, 0) and length >= -1)
    return FunctionCallResponse(None if length == -1 else value)


def _marker(raw: bytes) -> Marker:
    _expect(len(raw) == HEADER_BYTES)
    return _MARKERS[raw[0]]


_MARKERS = {
    kind: Marker(kind)
    for kind in (
        Backend.BIND_COMPLETE,
        Backend.CLOSE_COMPLETE,
        Backend.COPY_DONE,
        Backend.EMPTY_QUERY_RESPONSE,
        Backend.NO_DATA,
        Backend.PARSE_COMPLETE,
        Backend.PORTAL_SUSPENDED,
    )
}

_DECODERS: dict[int, Callable[[bytes], BackendMessage]] = {
    **dict.fromkeys(_MARKERS, _marker),
    Backend.AUTHENTICATION: _authentication,
    Backend.BACKEND_KEY_DATA: _backend_key_data,
    Backend.COMMAND_COMPLETE: lambda raw: CommandComplete(*_strings(raw, HEADER_BYTES, 1)),
    Backend.COPY_BOTH_RESPONSE: _copy_response("both"),
    Backend.COPY_IN_RESPONSE: _copy_response("in"),
    Backend.COPY_OUT_RESPONSE: _copy_response("out"),
    Backend.ERROR_RESPONSE: lambda raw: ErrorResponse(_error_fields(raw)),
    Backend.FUNCTION_CALL_RESPONSE: _function_call_response,
    Backend.NEGOTIATE_PROTOCOL_VERSION: _negotiate,
    Backend.NOTICE_RESPONSE: lambda raw: NoticeResponse(_error_fields(raw)),
    Backend.NOTIFICATION_RESPONSE: _notification,
    Backend.PARAMETER_DESCRIPTION: _parameter_description,
    Backend.PARAMETER_STATUS: lambda raw: ParameterStatus(*_strings(raw, HEADER_BYTES, 2)),
    Backend.READY_FOR_QUERY: _ready_for_query,
    Backend.ROW_DESCRIPTION: _row_description,
}
