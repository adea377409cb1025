"""Values of PostgreSQL's built-in types between their binary and text forms.

A mask works on text; a client may ask for binary. `text_from_binary` gives the text that the server would
have written (DateStyle ISO, bytea_output hex, UTC), `binary_from_text` the way back. A type that is not in
the tables raises UnsupportedType, and the gate then refuses: guessing would let a value through. Domains come
under their base type's OID.

Source: the types' send and receive functions, checked against a live server by the test's vectors.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable
from uuid import UUID

from protocols.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from protocols.postgres import value_numbers, value_times
from protocols.postgres.value_arrays import (
    Array,
    format_array_text,
    parse_array_text,
    read_array_binary,
    write_array_binary,
)

TYPE_KINDS: dict[int, str] = {
    16: "bool",
    17: "bytea",
    18: "text",  # "char": one byte
    19: "text",  # name
    20: "int8",
    21: "int2",
    23: "int4",
    25: "text",
    26: "oid",
    114: "json",
    142: "text",  # xml
    650: "cidr",
    700: "float4",
    701: "float8",
    705: "text",  # unknown
    869: "inet",
    1042: "text",  # character
    1043: "text",  # character varying
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
    1266: "timetz",
    1700: "numeric",
    2950: "uuid",
    3802: "jsonb",
}

ARRAY_ELEMENTS: dict[int, int] = {
    143: 142,
    199: 114,
    651: 650,
    1000: 16,
    1001: 17,
    1002: 18,
    1003: 19,
    1005: 21,
    1007: 23,
    1009: 25,
    1014: 1042,
    1015: 1043,
    1016: 20,
    1021: 700,
    1022: 701,
    1028: 26,
    1041: 869,
    1115: 1114,
    1182: 1082,
    1183: 1083,
    1185: 1184,
    1231: 1700,
    1270: 1266,
    2951: 2950,
    3807: 3802,
}


class UnsupportedType(ProtocolError):
    """The type's forms are not known here."""


def text_from_binary(type_oid: int, data: bytes) -> str:
    """The text form of a value. Raises UnsupportedType, RemoteProtocolError for malformed `data`."""
    element_oid = ARRAY_ELEMENTS.get(type_oid)
    decode = _codec(type_oid if element_oid is None else element_oid)[0]
    try:
        if element_oid is None:
            return decode(data)
        return format_array_text(read_array_binary(data, element_oid, decode))
    except (ValueError, IndexError, OverflowError, struct.error) as fault:
        raise RemoteProtocolError(f"malformed binary value of type {type_oid}") from fault


def binary_from_text(type_oid: int, text: str) -> bytes:
    """The binary form of a value. Raises UnsupportedType, LocalProtocolError for malformed `text`."""
    element_oid = ARRAY_ELEMENTS.get(type_oid)
    encode = _codec(type_oid if element_oid is None else element_oid)[1]
    try:
        if element_oid is None:
            return encode(text)
        return write_array_binary(parse_array_text(text), element_oid, encode)
    except (ValueError, IndexError, OverflowError, struct.error) as fault:
        raise LocalProtocolError(f"text is not a value of type {type_oid}") from fault


def map_array_text(text: str, function: Callable[[str | None], str | None]) -> str:
    """An array's text form with each element replaced. Raises RemoteProtocolError when `text` is not an
    array.
    """
    try:
        array = parse_array_text(text)
    except ValueError as fault:
        raise RemoteProtocolError("malformed array") from fault
    return format_array_text(Array(array.dimensions, [function(element) for element in array.elements]))


def _codec(type_oid: int) -> tuple[Callable[[bytes], str], Callable[[str], bytes]]:
    try:
        return _CODECS[TYPE_KINDS[type_oid] if type_oid != _CHAR else "char"]
    except KeyError:
        raise UnsupportedType(f"values of the type with OID {type_oid} cannot be converted") from None


_CHAR = 18


def _text(data: bytes) -> str:
    if 0 in data:
        raise ValueError("NUL in a text")
    return data.decode()


def _text_binary(text: str) -> bytes:
    if "\0" in text:
        raise ValueError("NUL in a text")
    return text.encode()


def _char(data: bytes) -> str:
    """A byte beyond ASCII is written in octal, NUL as nothing."""
    (byte,) = data
    return f"\\{byte:03o}" if byte > 127 else chr(byte) if byte else ""


def _char_binary(text: str) -> bytes:
    if re.fullmatch(r"\\[0-3][0-7][0-7]", text):
        return bytes([int(text[1:], 8)])
    return text.encode()[:1] or b"\0"


_TRUE = ("t", "true", "yes", "on", "1")
_FALSE = ("f", "false", "no", "off", "0")


def _bool(data: bytes) -> str:
    if data not in (b"\0", b"\1"):
        raise ValueError("not a boolean")
    return "t" if data == b"\1" else "f"


def _bool_binary(text: str) -> bytes:
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError("not a boolean")
    return b"\1" if word in _TRUE else b"\0"


def _integer(code: str) -> tuple[Callable[[bytes], str], Callable[[str], bytes]]:
    layout = struct.Struct(code)
    return lambda data: str(layout.unpack(data)[0]), lambda text: layout.pack(int(text))


def _bytea(data: bytes) -> str:
    return "\\x" + data.hex()


def _bytea_binary(text: str) -> bytes:
    """Hex form, else the escape form: a backslash before itself or before three octal digits."""
    if text.startswith("\\x"):
        return bytes.fromhex(text[2:])
    if not _escaped_bytea.fullmatch(text):
        raise ValueError("not a bytea")
    return _bytea_escape.sub(lambda m: bytes([int(m[1], 8)]) if m[1] else b"\\", text.encode())


_escaped_bytea = re.compile(r"(?:[^\\]|\\\\|\\[0-3][0-7]{2}|(?!))*+", re.DOTALL)
_bytea_escape = re.compile(rb"\\(?:\\|([0-3][0-7]{2}))")


def _uuid(data: bytes) -> str:
    return str(UUID(bytes=data))


def _jsonb(data: bytes) -> str:
    if data[:1] != b"\1":
        raise ValueError("unknown jsonb version")
    return _text(data[1:])


def _jsonb_binary(text: str) -> bytes:
    return b"\1" + _text_binary(text)


_FAMILIES = {2: 4, 3: 6}  # PGSQL_AF_INET, PGSQL_AF_INET6: the IP version


def _network(data: bytes) -> str:
    """inet and cidr: an inet of full length is written without it."""
    family, bits, is_cidr, size = data[:4]
    address = ipaddress.ip_address(data[4:])
    if address.version != _FAMILIES.get(family) or size != len(data) - 4 or bits > 8 * size or is_cidr > 1:
        raise ValueError("malformed network address")
    text = _address(address)
    return text if bits == 8 * size and not is_cidr else f"{text}/{bits}"


def _address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An IPv4 address inside IPv6 keeps its dots."""
    packed = address.packed
    if len(packed) == 16:
        mapped = packed[:12] == b"\0" * 10 + b"\xff\xff"
        if mapped or (packed[:12] == b"\0" * 12 and packed[12:14] != b"\0\0"):
            return ("::ffff:" if mapped else "::") + ".".join(map(str, packed[12:]))
    return str(address)


def _network_binary(is_cidr: int) -> Callable[[str], bytes]:
    def encode(text: str) -> bytes:
        host, _, bits = text.strip().partition("/")
        address = ipaddress.ip_address(host)
        packed = address.packed
        length = int(bits) if bits else 8 * len(packed)
        if not 0 <= length <= 8 * len(packed):
            raise ValueError("no such prefix length")
        return bytes([2 if address.version == 4 else 3, length, is_cidr, len(packed)]) + packed

    return encode


_CODECS: dict[str, tuple[Callable[[bytes], str], Callable[[str], bytes]]] = {
    "bool": (_bool, _bool_binary),
    "bytea": (_bytea, _bytea_binary),
    "char": (_char, _char_binary),
    "cidr": (_network, _network_binary(1)),
    "date": (value_times.date_text, value_times.date_binary),
    "float4": (value_numbers.float4_text, value_numbers.float4_binary),
    "float8": (value_numbers.float8_text, value_numbers.float8_binary),
    "inet": (_network, _network_binary(0)),
    "int2": _integer(">h"),
    "int4": _integer(">i"),
    "int8": _integer(">q"),
    "json": (_text, _text_binary),
    "jsonb": (_jsonb, _jsonb_binary),
    "numeric": (value_numbers.numeric_text, value_numbers.numeric_binary),
    "oid": _integer(">I"),
    "text": (_text, _text_binary),
    "time": (value_times.time_text, value_times.time_binary),
    "timestamp": (value_times.timestamp_text, value_times.timestamp_binary),
    "timestamptz": (value_times.timestamptz_text, value_times.timestamptz_binary),
    "timetz": (value_times.timetz_text, value_times.timetz_binary),
    "uuid": (_uuid, lambda text: UUID(text).bytes),
}
