"""Messages from a client, typed: `decode_frontend(frame)` reads one, each class's `encode()` gives its bytes
back.

Must never accept what a server would read otherwise: trailing bytes, a missing NUL, a length that points
outside. Names of statements and portals are bytes as sent; `truncate_name` gives what the server keeps of
them. SQL text is str, so that what is judged is what was decoded strictly. Called by the gate for each
message, so decoders read `frame.raw` in place and translate errors in one spot.

Source: PostgreSQL documentation, "Message Formats". Counts are unsigned there: 65535 parameters are legal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

import msgspec

from protocols.errors import InvalidEncoding, LocalProtocolError, RemoteProtocolError
from protocols.postgres.codec import HEADER_BYTES, Frame, frame
from protocols.postgres.message_types import Frontend

NAME_BYTES = 63  # NAMEDATALEN - 1

_u16 = struct.Struct(">H").unpack_from
_i32 = struct.Struct(">i").unpack_from
_two_u16 = struct.Struct(">HH").unpack_from
_ONE_FORMAT = ((0,), (1,))
# Result formats that end a Bind, as nearly every client writes them: looked up whole (a hot path).
_USUAL_TAILS: dict[bytes, tuple[int, ...]] = {b"\0\0": (), b"\0\1\0\0": (0,), b"\0\1\0\1": (1,)}


def truncate_name(name: bytes) -> bytes:
    """The part of a statement's or portal's protocol-level name that the server keeps and compares.

    It cuts bytes, not characters: these names go straight into a hash table with keys of NAMEDATALEN.
    """
    return name[:NAME_BYTES]


class Query(msgspec.Struct, frozen=True, gc=False):
    text: str

    def encode(self) -> bytes:
        return frame(Frontend.QUERY, _cstring(self.text.encode()))


class Parse(msgspec.Struct, frozen=True, gc=False):
    """`parameter_types`: OIDs, 0 for "unspecified"; may be fewer than the text has parameters."""

    statement: bytes
    text: str
    parameter_types: tuple[int, ...] = ()

    def encode(self) -> bytes:
        count = len(self.parameter_types)
        types = struct.pack(f">H{count}I", count, *self.parameter_types)
        return frame(Frontend.PARSE, _cstring(self.statement) + _cstring(self.text.encode()) + types)


class Bind(msgspec.Struct, frozen=True, gc=False):
    """Formats: () is all text, one element goes for all, else one each; 0 text, 1 binary. None is NULL."""

    portal: bytes
    statement: bytes
    parameter_formats: tuple[int, ...] = ()
    parameters: tuple[bytes | None, ...] = ()
    result_formats: tuple[int, ...] = ()

    def encode(self) -> bytes:
        body = [_cstring(self.portal), _cstring(self.statement), _pack_formats(self.parameter_formats)]
        body.append(_pack_values(self.parameters))
        body.append(_pack_formats(self.result_formats))
        return frame(Frontend.BIND, b"".join(body))


class Describe(msgspec.Struct, frozen=True, gc=False):
    """`kind` is "S" (statement) or "P" (portal)."""

    kind: str
    name: bytes

    def encode(self) -> bytes:
        return frame(Frontend.DESCRIBE, _cstring(self.kind.encode() + self.name))


class Close(msgspec.Struct, frozen=True, gc=False):
    """`kind` is "S" (statement) or "P" (portal)."""

    kind: str
    name: bytes

    def encode(self) -> bytes:
        return frame(Frontend.CLOSE, _cstring(self.kind.encode() + self.name))


class Execute(msgspec.Struct, frozen=True, gc=False):
    """`max_rows`: 0 or less is no limit, as the server takes it."""

    portal: bytes
    max_rows: int = 0

    def encode(self) -> bytes:
        return frame(Frontend.EXECUTE, _cstring(self.portal) + struct.pack(">i", self.max_rows))


class Sync(msgspec.Struct, frozen=True, gc=False):
    def encode(self) -> bytes:
        return frame(Frontend.SYNC, b"")


class Flush(msgspec.Struct, frozen=True, gc=False):
    def encode(self) -> bytes:
        return frame(Frontend.FLUSH, b"")


class Terminate(msgspec.Struct, frozen=True, gc=False):
    def encode(self) -> bytes:
        return frame(Frontend.TERMINATE, b"")


class PasswordMessage(msgspec.Struct, frozen=True, gc=False):
    """The answer to an authentication request. What `data` means depends on that request: see the `read_`
    functions.
    """

    data: bytes

    def encode(self) -> bytes:
        return frame(Frontend.PASSWORD, self.data)


class CopyData(msgspec.Struct, frozen=True, gc=False):
    data: bytes

    def encode(self) -> bytes:
        return frame(Frontend.COPY_DATA, self.data)


class CopyDone(msgspec.Struct, frozen=True, gc=False):
    def encode(self) -> bytes:
        return frame(Frontend.COPY_DONE, b"")


class CopyFail(msgspec.Struct, frozen=True, gc=False):
    message: str

    def encode(self) -> bytes:
        return frame(Frontend.COPY_FAIL, _cstring(self.message.encode()))


class FunctionCall(msgspec.Struct, frozen=True, gc=False):
    """Calls a function by OID, outside SQL. Formats as in Bind."""

    function: int
    argument_formats: tuple[int, ...] = ()
    arguments: tuple[bytes | None, ...] = ()
    result_format: int = 0

    def encode(self) -> bytes:
        body = struct.pack(">I", self.function) + _pack_formats(self.argument_formats)
        body += _pack_values(self.arguments) + struct.pack(">H", self.result_format)
        return frame(Frontend.FUNCTION_CALL, body)


FrontendMessage = (
    Query
    | Parse
    | Bind
    | Describe
    | Close
    | Execute
    | Sync
    | Flush
    | Terminate
    | PasswordMessage
    | CopyData
    | CopyDone
    | CopyFail
    | FunctionCall
)


class SaslInitialResponse(msgspec.Struct, frozen=True, gc=False):
    """`data` is None when the client sent no initial response."""

    mechanism: str
    data: bytes | None

    def encode(self) -> bytes:
        length = -1 if self.data is None else len(self.data)
        body = _cstring(self.mechanism.encode()) + struct.pack(">i", length) + (self.data or b"")
        return frame(Frontend.PASSWORD, body)


def decode_frontend(message: Frame) -> FrontendMessage:
    """The typed message. Raises RemoteProtocolError; InvalidEncoding when only its text is at fault."""
    raw = message.raw
    if len(raw) <= _LONGEST_USUAL and (usual := _USUAL.get(raw)) is not None:
        return usual
    try:
        return _DECODERS[message.type](raw)
    except KeyError:
        raise RemoteProtocolError(f"invalid message type {message.type:#04x}") from None
    except UnicodeDecodeError as fault:
        raise InvalidEncoding(_invalid_sequence(fault.object, fault.start), "22021") from fault
    except (ValueError, IndexError, struct.error) as fault:
        raise RemoteProtocolError(f"malformed message of type {chr(message.type)!r}") from fault


# Length of a character by its first byte, as the server takes it (pg_utf_mblen): longest first.
_WIDTHS = ((0xF8, 1), (0xF0, 4), (0xE0, 3), (0xC0, 2))


def _invalid_sequence(data: bytes, start: int) -> str:
    """The server's words for it: the bytes that the first of them announces, as far as there are any."""
    lead = data[start]
    announced = next((width for low, width in _WIDTHS if low <= lead), 1)
    shown = " ".join(f"{byte:#04x}" for byte in data[start : start + announced])
    return f'invalid byte sequence for encoding "UTF8": {shown}'


def read_password(message: PasswordMessage) -> bytes:
    """The answer to a clear-text or MD5 request: one string, without its NUL."""
    data = message.data
    if not data.endswith(b"\0") or data.index(b"\0") != len(data) - 1:
        raise RemoteProtocolError("malformed password message")
    return data[:-1]


def read_sasl_initial_response(message: PasswordMessage) -> SaslInitialResponse:
    """The first answer to a SASL request: mechanism and, unless left out, its initial response."""
    data = message.data
    try:
        stop = data.index(b"\0")
        (length,) = _i32(data, stop + 1)
        mechanism = data[:stop].decode("ascii")
    except (ValueError, struct.error) as fault:
        raise RemoteProtocolError("malformed SASL initial response") from fault
    rest = data[stop + 5 :]
    if length == -1 and not rest:
        return SaslInitialResponse(mechanism, None)
    if length != len(rest):
        raise RemoteProtocolError("malformed SASL initial response")
    return SaslInitialResponse(mechanism, rest)


def read_sasl_response(message: PasswordMessage) -> bytes:
    """A later SASL answer: the whole body belongs to the mechanism."""
    return message.data


def _query(raw: bytes) -> Query:
    stop = len(raw) - 1
    if raw.index(0, HEADER_BYTES) != stop:
        raise ValueError("NUL inside the text")
    return Query(raw[HEADER_BYTES:stop].decode())


def _parse(raw: bytes) -> Parse:
    name_end = raw.index(0, HEADER_BYTES)
    text_end = raw.index(0, name_end + 1)
    (count,) = _u16(raw, text_end + 1)
    if text_end + 3 + 4 * count != len(raw):
        raise ValueError("wrong length")
    types = struct.unpack_from(f">{count}I", raw, text_end + 3) if count else ()
    return Parse(raw[HEADER_BYTES:name_end], raw[name_end + 1 : text_end].decode(), types)


def _bind(raw: bytes) -> Bind:
    portal_end = raw.index(0, HEADER_BYTES)
    statement_end = raw.index(0, portal_end + 1)
    position = statement_end + 1
    formats: tuple[int, ...] = ()
    formats_count, count = _two_u16(raw, position)
    if formats_count:
        formats, position = _read_formats(raw, position)
        (count,) = _u16(raw, position)
        position += 2
        if formats_count > 1 and formats_count != count:
            raise ValueError("formats do not match parameters")
    else:
        position += 4
    parameters, position = _read_values(raw, position, count)
    result_formats = _USUAL_TAILS.get(raw[position:])
    if result_formats is None:
        result_formats, position = _read_formats(raw, position)
        if position != len(raw):
            raise ValueError("wrong length")
    return Bind(
        raw[HEADER_BYTES:portal_end], raw[portal_end + 1 : statement_end], formats, parameters, result_formats
    )


def _read_formats(raw: bytes, position: int) -> tuple[tuple[int, ...], int]:
    (count,) = _u16(raw, position)
    position += 2
    if count == 0:
        return (), position
    if count == 1:
        return _ONE_FORMAT[_u16(raw, position)[0]], position + 2  # IndexError: no such format
    formats = struct.unpack_from(f">{count}H", raw, position)
    if max(formats) > 1:
        raise ValueError("no such format")
    return formats, position + 2 * count


def _read_values(raw: bytes, position: int, count: int) -> tuple[tuple[bytes | None, ...], int]:
    """A value cut short by the end of `raw` leaves the position beyond it, where the next read fails."""
    values: list[bytes | None] = []
    for _ in range(count):
        (length,) = _i32(raw, position)
        position += 4
        if length >= 0:
            values.append(raw[position : position + length])
            position += length
        elif length == -1:
            values.append(None)
        else:
            raise ValueError("negative length")
    return tuple(values), position


def _named(raw: bytes) -> tuple[str, bytes]:
    """Kind and name of a Describe or Close."""
    kind = "S" if raw[HEADER_BYTES] == 0x53 else "P" if raw[HEADER_BYTES] == 0x50 else ""
    if not kind or raw.index(0, HEADER_BYTES + 1) != len(raw) - 1:
        raise ValueError("wrong kind or length")
    return kind, raw[HEADER_BYTES + 1 : -1]


def _describe(raw: bytes) -> Describe:
    return Describe(*_named(raw))


def _close(raw: bytes) -> Close:
    return Close(*_named(raw))


def _execute(raw: bytes) -> Execute:
    stop = raw.index(0, HEADER_BYTES)
    if stop + 5 != len(raw):
        raise ValueError("wrong length")
    return Execute(raw[HEADER_BYTES:stop], _i32(raw, stop + 1)[0])


def _copy_fail(raw: bytes) -> CopyFail:
    if raw.index(0, HEADER_BYTES) != len(raw) - 1:
        raise ValueError("NUL inside the text")
    return CopyFail(raw[HEADER_BYTES:-1].decode())


def _function_call(raw: bytes) -> FunctionCall:
    (function,) = struct.unpack_from(">I", raw, HEADER_BYTES)
    formats, position = _read_formats(raw, HEADER_BYTES + 4)
    (count,) = _u16(raw, position)
    arguments, position = _read_values(raw, position + 2, count)
    if len(formats) > 1 and len(formats) != len(arguments):
        raise ValueError("formats do not match arguments")
    (result_format,) = _u16(raw, position)
    if result_format > 1 or position + 2 != len(raw):
        raise ValueError("wrong format or length")
    return FunctionCall(function, formats, arguments, result_format)


def _constant(message: FrontendMessage) -> Callable[[bytes], FrontendMessage]:
    """A decoder of messages without a body."""

    def decode(raw: bytes) -> FrontendMessage:
        if len(raw) != HEADER_BYTES:
            raise ValueError("wrong length")
        return message

    return decode


_DECODERS: dict[int, Callable[[bytes], FrontendMessage]] = {
    Frontend.BIND: _bind,
    Frontend.CLOSE: _close,
    Frontend.COPY_DATA: lambda raw: CopyData(raw[HEADER_BYTES:]),
    Frontend.COPY_DONE: _constant(CopyDone()),
    Frontend.COPY_FAIL: _copy_fail,
    Frontend.DESCRIBE: _describe,
    Frontend.EXECUTE: _execute,
    Frontend.FLUSH: _constant(Flush()),
    Frontend.FUNCTION_CALL: _function_call,
    Frontend.PARSE: _parse,
    Frontend.PASSWORD: lambda raw: PasswordMessage(raw[HEADER_BYTES:]),
    Frontend.QUERY: _query,
    Frontend.SYNC: _constant(Sync()),
    Frontend.TERMINATE: _constant(Terminate()),
}


def _cstring(text: bytes) -> bytes:
    if b"\0" in text:
        raise LocalProtocolError("a string in a message cannot hold a NUL")
    return text + b"\0"


def _pack_formats(formats: tuple[int, ...]) -> bytes:
    return struct.pack(f">H{len(formats)}H", len(formats), *formats)


def _pack_values(values: Iterable[bytes | None]) -> bytes:
    parts = [b"\xff\xff\xff\xff" if v is None else len(v).to_bytes(4) + v for v in values]
    return struct.pack(">H", len(parts)) + b"".join(parts)


# What drivers send again and again, to the byte.
_USUAL: dict[bytes, FrontendMessage] = {
    message.encode(): message
    for message in (Sync(), Flush(), Terminate(), Describe("P", b""), Describe("S", b""), Execute(b""))
}
_LONGEST_USUAL = max(map(len, _USUAL))
