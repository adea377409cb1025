"""Decoding and encoding what clients send."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import InvalidEncoding, LocalProtocolError, ProtocolError, RemoteProtocolError
from protocols.postgres.codec import Frame, frame
from protocols.postgres.frontend_messages import (
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    FrontendMessage,
    FunctionCall,
    Parse,
    PasswordMessage,
    Query,
    SaslInitialResponse,
    Sync,
    Terminate,
    decode_frontend,
    read_password,
    read_sasl_initial_response,
    read_sasl_response,
    truncate_name,
)
from protocols.postgres.message_types import FRONTEND_TYPES

MESSAGES: list[tuple[FrontendMessage, bytes]] = [
    (Query("select 'é'"), b"select '\xc3\xa9'\0"),
    (Query(""), b"\0"),
    (Parse(b"s1", "select $1", (23, 0)), b"s1\0select $1\0\0\2\0\0\0\x17\0\0\0\0"),
    (Parse(b"", ""), b"\0\0\0\0"),
    (Bind(b"", b""), b"\0\0\0\0\0\0\0\0"),
    (Bind(b"", b"s", (), (b"1",), (0,)), b"\0s\0\0\0\0\1\0\0\0\x011\0\1\0\0"),
    (Bind(b"p", b"s", (1,), (None, b""), (1,)), b"p\0s\0\0\1\0\1\0\2\xff\xff\xff\xff\0\0\0\0\0\1\0\1"),
    (
        Bind(b"p", b"s", (0, 1), (b"x", b"yy"), (0, 1, 0)),
        b"p\0s\0\0\2\0\0\0\1\0\2\0\0\0\1x\0\0\0\2yy\0\3\0\0\0\1\0\0",
    ),
    (Describe("S", b"s1"), b"Ss1\0"),
    (Describe("P", b""), b"P\0"),
    (Close("S", b""), b"S\0"),
    (Close("P", b"c\xff"), b"Pc\xff\0"),
    (Execute(b"p", 100), b"p\0\0\0\0\x64"),
    (Execute(b"", -1), b"\0\xff\xff\xff\xff"),
    (Sync(), b""),
    (Flush(), b""),
    (Terminate(), b""),
    (PasswordMessage(b"secret\0"), b"secret\0"),
    (CopyData(b"a\tb\n"), b"a\tb\n"),
    (CopyDone(), b""),
    (CopyFail("no"), b"no\0"),
    (FunctionCall(1598), b"\0\0\6\x3e\0\0\0\0\0\0"),
    (FunctionCall(1, (1,), (b"a", None), 1), b"\0\0\0\1\0\1\0\1\0\2\0\0\0\1a\xff\xff\xff\xff\0\1"),
]


def framed(raw: bytes) -> Frame:
    return Frame(raw[0], raw)


@pytest.mark.parametrize(("message", "body"), MESSAGES)
def test_both_ways(message: FrontendMessage, body: bytes) -> None:
    raw = message.encode()
    assert raw[1:5] == struct.pack(">I", len(body) + 4)
    assert raw[5:] == body
    assert decode_frontend(framed(raw)) == message


@pytest.mark.parametrize(("message", "body"), MESSAGES)
def test_cut_short_or_too_long(message: FrontendMessage, body: bytes) -> None:
    if isinstance(message, PasswordMessage | CopyData):
        return  # their bodies may be anything
    kind = message.encode()[0]
    for damaged in [body[:cut] for cut in range(len(body))] + [body + b"\0", body + b"x"]:
        with pytest.raises(RemoteProtocolError):
            decode_frontend(framed(frame(kind, damaged)))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("Q", b"select 1\0drop table x\0"),
        ("P", b"s\0select 1\0\0\1"),
        ("P", b"s\0select 1\0\xff\xff"),
        ("B", b"\0\0\0\1\0\2\0\0\0\0"),  # format 2
        ("B", b"\0\0\0\2\0\0\0\2\0\0\0\0"),  # one of two formats
        ("B", b"\0\0\0\0\0\0\0\1\0\2"),  # result format 2
        ("B", b"\0\0\0\0\0\0\0\2\0\0\0\2"),
        ("B", b"\0\0\0\2\0\0\0\1\0\1\0\0\0\1x\0\0"),  # two formats, one parameter
        ("B", b"\0\0\0\0\0\1\xff\xff\xff\xfe\0\0"),  # length -2
        ("B", b"\0\0\0\0\0\1\x7f\xff\xff\xff\0\0"),  # longer than the message
        ("B", b"\0\0\0\0\0\1\0\0\0\2\0\0"),  # swallows the result formats
        ("B", b"\0\0\0\0\xff\xff"),
        ("D", b"X\0"),
        ("D", b"Sa\0b\0"),
        ("C", b"\0"),
        ("E", b"p\0\0\0\0"),
        ("F", b"\0\0\0\1\0\0\0\0\0\2"),
        ("F", b"\0\0\0\1\0\2\0\0\0\0\0\1\0\0\0\0\0\0"),
    ],
)
def test_malformed(kind: str, body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_frontend(framed(frame(ord(kind), body)))


@pytest.mark.parametrize(
    "raw", [Query("x").encode().replace(b"x", b"\xff"), frame(ord("P"), b"\0\xc3\0\0\0")]
)
def test_text_that_is_not_utf8_is_told_apart(raw: bytes) -> None:
    with pytest.raises(InvalidEncoding) as caught:
        decode_frontend(framed(raw))
    assert caught.value.code == "22021"


def test_an_unknown_type() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_frontend(framed(frame(ord("z"), b"")))


def test_as_many_parameters_as_the_count_can_say() -> None:
    message = Bind(b"", b"", (), (b"",) * 65535, ())
    assert decode_frontend(framed(message.encode())) == message


def test_names_are_cut_in_bytes_as_the_server_does() -> None:
    assert truncate_name(b"x" * 63) == b"x" * 63
    assert truncate_name(b"x" * 64) == b"x" * 63
    assert truncate_name("é".encode() * 40) == "é".encode() * 31 + b"\xc3"


def test_a_nul_cannot_be_encoded() -> None:
    for message in (Query("a\0b"), Parse(b"a\0", ""), Describe("S", b"\0"), CopyFail("\0")):
        with pytest.raises(LocalProtocolError):
            message.encode()


def test_passwords() -> None:
    assert read_password(PasswordMessage(b"secret\0")) == b"secret"
    for data in (b"", b"secret", b"se\0cret\0"):
        with pytest.raises(RemoteProtocolError):
            read_password(PasswordMessage(data))


@pytest.mark.parametrize(
    "response", [SaslInitialResponse("SCRAM-SHA-256", b"n,,n=,r=x"), SaslInitialResponse("X", None)]
)
def test_sasl_initial_responses(response: SaslInitialResponse) -> None:
    message = decode_frontend(framed(response.encode()))
    assert isinstance(message, PasswordMessage)
    assert read_sasl_initial_response(message) == response
    assert read_sasl_response(message) == message.data


@pytest.mark.parametrize(
    "data", [b"", b"X", b"X\0", b"X\0\0\0\0\2a", b"X\0\0\0\0\0a", b"X\0\xff\xff\xff\xffa", b"\xff\0\0\0\0\0"]
)
def test_malformed_sasl_initial_responses(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_sasl_initial_response(PasswordMessage(data))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(FRONTEND_TYPES)), st.binary(max_size=40))
def test_no_body_does_more_than_a_protocol_error(kind: int, body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        message = decode_frontend(framed(frame(kind, body)))
        # What is accepted says exactly what was sent: nothing is read over.
        assert message.encode() == frame(kind, body)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MESSAGES), st.integers(0, 60), st.integers(0, 255))
def test_a_mutated_message_is_refused_or_read_exactly(
    sample: tuple[FrontendMessage, bytes], at: int, byte: int
) -> None:
    raw = bytearray(sample[0].encode())
    if len(raw) == 5:
        return
    raw[5 + at % (len(raw) - 5)] = byte
    with contextlib.suppress(ProtocolError):
        assert decode_frontend(framed(bytes(raw))).encode() == raw
