"""Decoding and encoding what servers send, and the gateway's own replies."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import InvalidEncoding, LocalProtocolError, ProtocolError, RemoteProtocolError
from protocols.postgres import messages
from protocols.postgres.backend_messages import (
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    AuthenticationUnsupported,
    BackendKeyData,
    BackendMessage,
    CommandComplete,
    CopyResponse,
    ErrorFields,
    ErrorResponse,
    FieldDescription,
    FunctionCallResponse,
    Marker,
    NegotiateProtocolVersion,
    NoticeResponse,
    NotificationResponse,
    ParameterDescription,
    ParameterStatus,
    ReadyForQuery,
    RowDescription,
    decode_backend,
)
from protocols.postgres.codec import Frame, frame
from protocols.postgres.message_types import BACKEND_TYPES

FIELDS = ErrorFields(
    (("S", b"ERROR"), ("C", b"23505"), ("M", b"dup"), ("D", b"Key (a)=(1)"), ("n", b"a_key"))
)
FREE_TAIL = (AuthenticationSASLContinue, AuthenticationSASLFinal)

MESSAGES: list[tuple[BackendMessage, bytes]] = [
    (AuthenticationOk(), b"R\0\0\0\x08\0\0\0\0"),
    (AuthenticationCleartextPassword(), b"R\0\0\0\x08\0\0\0\3"),
    (AuthenticationMD5Password(b"salt"), b"R\0\0\0\x0c\0\0\0\5salt"),
    (AuthenticationSASL(("SCRAM-SHA-256",)), b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"),
    (AuthenticationSASL(("A", "B")), b"R\0\0\0\x0d\0\0\0\x0aA\0B\0\0"),
    (AuthenticationSASLContinue(b"r=x"), b"R\0\0\0\x0b\0\0\0\x0br=x"),
    (AuthenticationSASLFinal(b"v=x"), b"R\0\0\0\x0b\0\0\0\x0cv=x"),
    (BackendKeyData(7, b"abcd"), b"K\0\0\0\x0c\0\0\0\7abcd"),
    (BackendKeyData(-7, b"k" * 256), b"K\0\0\1\x08\xff\xff\xff\xf9" + b"k" * 256),
    (NegotiateProtocolVersion(0x30002), b"v\0\0\0\x0c\0\3\0\2\0\0\0\0"),
    (NegotiateProtocolVersion(2, ("_pq_.a", "_pq_.b")), b"v\0\0\0\x1a\0\0\0\2\0\0\0\2_pq_.a\0_pq_.b\0"),
    (ParameterStatus("TimeZone", "UTC"), b"S\0\0\0\x11TimeZone\0UTC\0"),
    (RowDescription(()), b"T\0\0\0\6\0\0"),
    (
        RowDescription((FieldDescription("é", 16384, 2, 25), FieldDescription("n", 0, 0, 23, 4, -1, 1))),
        b"T\0\0\0\x2f\0\2\xc3\xa9\0\0\0\x40\0\0\2\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
        b"n\0\0\0\0\0\0\0\0\0\0\x17\0\4\xff\xff\xff\xff\0\1",
    ),
    (ParameterDescription((23, 4294967295)), b"t\0\0\0\x0e\0\2\0\0\0\x17\xff\xff\xff\xff"),
    (ErrorResponse(FIELDS), b"E\0\0\0\x2cSERROR\0C23505\0Mdup\0DKey (a)=(1)\0na_key\0\0"),
    (NoticeResponse(ErrorFields(())), b"N\0\0\0\5\0"),
    (CommandComplete("SELECT 5"), b"C\0\0\0\x0dSELECT 5\0"),
    (ReadyForQuery("T"), b"Z\0\0\0\5T"),
    (CopyResponse("in", 0, (0, 0)), b"G\0\0\0\x0b\0\0\2\0\0\0\0"),
    (CopyResponse("out", 1, (1,)), b"H\0\0\0\x09\1\0\1\0\1"),
    (CopyResponse("both", 0, ()), b"W\0\0\0\7\0\0\0"),
    (NotificationResponse(9, "chan", "hello"), b"A\0\0\0\x13\0\0\0\x09chan\0hello\0"),
    (FunctionCallResponse(None), b"V\0\0\0\x08\xff\xff\xff\xff"),
    (FunctionCallResponse(b"ab"), b"V\0\0\0\x0a\0\0\0\2ab"),
    *((Marker(kind), bytes([kind]) + b"\0\0\0\4") for kind in b"123Incs"),
]


def framed(raw: bytes) -> Frame:
    return Frame(raw[0], raw)


@pytest.mark.parametrize(("message", "raw"), MESSAGES)
def test_both_ways(message: BackendMessage, raw: bytes) -> None:
    assert not isinstance(message, AuthenticationUnsupported)
    assert message.encode() == raw
    assert decode_backend(framed(raw)) == message


@pytest.mark.parametrize(("message", "raw"), MESSAGES)
def test_cut_short_or_too_long(message: BackendMessage, raw: bytes) -> None:
    if isinstance(message, FREE_TAIL):
        return
    body = raw[5:]
    damaged = [body[:cut] for cut in range(len(body))] + [body + b"\0", body + b"x"]
    if isinstance(message, BackendKeyData):
        damaged = [body[:7], b"", b"\0\0\0\1" + b"k" * 257]
    for part in damaged:
        with pytest.raises(RemoteProtocolError):
            decode_backend(framed(frame(raw[0], part)))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("R", b"\0\0\0\x0a\0"),
        ("R", b"\0\0\0\x0aA\0\0B\0\0"),
        ("v", b"\0\3\0\2\x7f\xff\xff\xff"),
        ("v", b"\0\3\0\2\xff\xff\xff\xff"),
        ("T", b"\0\1a\0" + struct.pack(">IhIhiH", 1, 1, 25, -1, -1, 2)),
        ("T", b"\xff\xff"),
        ("E", b"SERROR"),
        ("Z", b"X"),
        ("Z", b"II"),
        ("H", b"\2\0\0"),
        ("H", b"\0\0\1\0\1"),  # binary column in a textual copy
        ("V", b"\xff\xff\xff\xfe"),
        ("V", b"\0\0\0\1"),
        ("D", b"\0\0"),
        ("x", b""),
    ],
)
def test_malformed(kind: str, body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_backend(framed(frame(ord(kind), body)))


def test_methods_that_are_not_spoken_are_named() -> None:
    assert decode_backend(framed(frame(ord("R"), b"\0\0\0\7"))) == AuthenticationUnsupported(7)


def test_text_that_is_not_utf8_is_told_apart() -> None:
    with pytest.raises(InvalidEncoding):
        decode_backend(framed(frame(ord("S"), b"a\0\xff\0")))


def test_error_fields_survive_a_foreign_encoding() -> None:
    message = decode_backend(framed(frame(ord("E"), b"Mcaf\xe9\0?new\0\0")))
    assert isinstance(message, ErrorResponse)
    assert message.fields.get("M") == "caf\ufffd"
    assert message.encode() == frame(ord("E"), b"Mcaf\xe9\0?new\0\0")


def test_error_fields_can_be_withheld_and_replaced() -> None:
    assert FIELDS.get("D") == "Key (a)=(1)"
    assert FIELDS.get("H") is None
    assert FIELDS.without("D", "M").fields == (("S", b"ERROR"), ("C", b"23505"), ("n", b"a_key"))
    assert FIELDS.only("C", "n").fields == (("C", b"23505"), ("n", b"a_key"))
    assert FIELDS.replaced("D", "withheld").get("D") == "withheld"
    assert FIELDS.replaced("D", "withheld").fields[3] == ("D", b"withheld")
    assert FIELDS.replaced("H", "ask").fields[-1] == ("H", b"ask")


def test_an_error_of_our_own() -> None:
    raw = messages.error_response("ERROR", "42501", "no\0pe", detail="rule", hint="ask", position=8)
    assert raw == frame(ord("E"), b"SERROR\0VERROR\0C42501\0Mnope\0Drule\0Hask\0P8\0\0")
    assert messages.error_response("FATAL", "28000", "x\ud800") == frame(
        ord("E"), b"SFATAL\0VFATAL\0C28000\0Mx?\0\0"
    )
    assert messages.notice("NOTICE", "00000", "hi") == frame(ord("N"), b"SNOTICE\0VNOTICE\0C00000\0Mhi\0\0")


def test_the_shorthands_say_the_same_as_the_classes() -> None:
    assert messages.authentication_ok() == AuthenticationOk().encode()
    assert messages.authentication_cleartext_password() == AuthenticationCleartextPassword().encode()
    assert messages.authentication_sasl(["A"]) == AuthenticationSASL(("A",)).encode()
    assert messages.parameter_status("a", "b") == ParameterStatus("a", "b").encode()
    assert messages.backend_key_data(1, b"abcd") == BackendKeyData(1, b"abcd").encode()
    assert messages.negotiate_protocol_version(2, ["_pq_.a"]) == frame(ord("v"), b"\0\3\0\2\0\0\0\1_pq_.a\0")
    assert messages.ready_for_query("E") == b"Z\0\0\0\5E"
    assert messages.row_description([]) == RowDescription(()).encode()
    assert messages.command_complete("BEGIN") == CommandComplete("BEGIN").encode()
    assert messages.data_row([b"a", None, b""]) == frame(ord("D"), b"\0\3\0\0\0\1a\xff\xff\xff\xff\0\0\0\0")
    assert Marker(ord("1")).encode() == messages.PARSE_COMPLETE


def test_what_cannot_be_said() -> None:
    with pytest.raises(LocalProtocolError):
        messages.ready_for_query("X")
    with pytest.raises(LocalProtocolError):
        messages.command_complete("a\0b")


def test_the_minor_version_of_old_and_new_servers() -> None:
    assert NegotiateProtocolVersion(0x30002).minor == NegotiateProtocolVersion(2).minor == 2


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(BACKEND_TYPES)), st.binary(max_size=60))
def test_no_body_does_more_than_a_protocol_error(kind: int, body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        message = decode_backend(framed(frame(kind, body)))
        if not isinstance(message, AuthenticationUnsupported):
            assert message.encode() == frame(kind, body)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MESSAGES), st.integers(0, 60), st.integers(0, 255))
def test_a_mutated_message_is_refused_or_read_exactly(
    sample: tuple[BackendMessage, bytes], at: int, byte: int
) -> None:
    raw = bytearray(sample[1])
    if len(raw) == 5:
        return
    raw[5 + at % (len(raw) - 5)] = byte
    with contextlib.suppress(ProtocolError):
        message = decode_backend(framed(bytes(raw)))
        if not isinstance(message, AuthenticationUnsupported):
            assert message.encode() == raw
