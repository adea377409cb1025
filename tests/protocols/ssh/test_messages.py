"""Messages of RFC 4254: whole, truncated, with trailing bytes, mutated, and round trips."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import InvalidEncoding, LimitExceeded, LocalProtocolError, ProtocolError
from protocols.ssh.messages import (
    MAX_TEXT_BYTES,
    ChannelFailure,
    ChannelOpen,
    ChannelRequest,
    ChannelSuccess,
    Close,
    Data,
    Eof,
    ExtendedData,
    GlobalRequest,
    Message,
    OpenConfirmation,
    OpenFailure,
    RequestFailure,
    RequestSuccess,
    WindowAdjust,
    build,
    open_failure,
    parse,
    readdress,
)

# As RFC 4254 lays them out, written by hand.
VECTORS: list[tuple[Message, bytes]] = [
    (GlobalRequest("tcpip-forward", True, b"xy"), b"\x50\0\0\0\x0dtcpip-forward\1xy"),
    (RequestSuccess(b"\0\0\x1f\x90"), b"\x51\0\0\x1f\x90"),
    (RequestFailure(), b"\x52"),
    (
        ChannelOpen("session", 1, 0x200000, 0x8000),
        b"\x5a\0\0\0\x07session\0\0\0\1\0\x20\0\0\0\0\x80\0",
    ),
    (OpenConfirmation(1, 2, 3, 4, b"z"), b"\x5b\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4z"),
    (OpenFailure(1, 1, "no", "en"), b"\x5c\0\0\0\1\0\0\0\1\0\0\0\2no\0\0\0\2en"),
    (WindowAdjust(7, 0xFFFFFFFF), b"\x5d\0\0\0\7\xff\xff\xff\xff"),
    (Data(7, b"hello"), b"\x5e\0\0\0\7\0\0\0\5hello"),
    (Data(7, b""), b"\x5e\0\0\0\7\0\0\0\0"),
    (ExtendedData(7, 1, b"oh"), b"\x5f\0\0\0\7\0\0\0\1\0\0\0\2oh"),
    (Eof(7), b"\x60\0\0\0\7"),
    (Close(7), b"\x61\0\0\0\7"),
    (ChannelRequest(7, "shell", True), b"\x62\0\0\0\7\0\0\0\5shell\1"),
    (ChannelSuccess(7), b"\x63\0\0\0\7"),
    (ChannelFailure(7), b"\x64\0\0\0\7"),
]
# Kinds whose last field takes whatever is left.
OPEN_ENDED = (GlobalRequest, RequestSuccess, ChannelOpen, OpenConfirmation, ChannelRequest)


@pytest.mark.parametrize(("message", "payload"), VECTORS)
def test_each_kind_has_the_bytes_of_the_rfc(message: Message, payload: bytes) -> None:
    assert parse(payload) == message
    assert build(message) == payload


@pytest.mark.parametrize(("message", "payload"), VECTORS)
def test_a_message_cut_anywhere_is_refused(message: Message, payload: bytes) -> None:
    fixed = len(payload) - len(getattr(message, "body", b""))
    language = 6 if isinstance(message, OpenFailure) else 0
    for length in range(fixed):
        if language and length == fixed - language:
            assert parse(payload[:length]) == OpenFailure(1, 1, "no", "")
            continue
        with pytest.raises(ProtocolError):
            parse(payload[:length])


@pytest.mark.parametrize(("message", "payload"), VECTORS)
def test_trailing_bytes_are_refused(message: Message, payload: bytes) -> None:
    if isinstance(message, OPEN_ENDED):
        assert parse(payload + b"!").body.endswith(b"!")  # type: ignore[union-attr]
        return
    with pytest.raises(ProtocolError):
        parse(payload + b"!")


@pytest.mark.parametrize("number", sorted(set(range(256)) - {vector[1][0] for vector in VECTORS}))
def test_unknown_numbers_are_refused(number: int) -> None:
    with pytest.raises(ProtocolError, match=str(number)):
        parse(bytes([number]) + bytes(20))


@pytest.mark.parametrize("name", [b"", b"a b", b"sh\0ll", b"sch\xc3\xb6n", b"\x7f", b"a\n"])
def test_a_name_is_printable_ascii(name: bytes) -> None:
    payload = b"\x62\0\0\0\7" + len(name).to_bytes(4) + name + b"\1"
    with pytest.raises(ProtocolError, match="name"):
        parse(payload)


def test_a_name_has_at_most_64_bytes() -> None:
    assert parse(build(ChannelRequest(1, "n" * 64, False))) == ChannelRequest(1, "n" * 64, False)
    with pytest.raises(LimitExceeded):
        parse(build(ChannelRequest(1, "n" * 65, False)))


def test_a_name_that_is_not_ascii_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        build(GlobalRequest("ö", True))


def test_every_value_but_zero_is_true() -> None:
    assert parse(b"\x62\0\0\0\7\0\0\0\5shell\x80") == ChannelRequest(7, "shell", True)


def test_a_refusal_of_any_length_can_be_read_by_its_own_parser() -> None:
    parsed = parse(open_failure(1, 1, "ä" * 10_000))
    assert isinstance(parsed, OpenFailure)
    assert MAX_TEXT_BYTES // 2 <= len(parsed.text) <= MAX_TEXT_BYTES


def test_a_description_that_is_not_utf8_is_replaced() -> None:
    parsed = parse(b"\x5c\0\0\0\1\0\0\0\1\0\0\0\2\xff\xfe\0\0\0\0")
    assert parsed == OpenFailure(1, 1, "\ufffd\ufffd")
    with pytest.raises(LimitExceeded):
        parse(b"\x5c\0\0\0\1\0\0\0\1" + (5000).to_bytes(4) + bytes(5000) + bytes(4))


@pytest.mark.parametrize(("message", "payload"), VECTORS)
def test_a_message_can_be_readdressed(message: Message, payload: bytes) -> None:
    if not hasattr(message, "recipient"):
        with pytest.raises(LocalProtocolError):
            readdress(payload, 9)
        return
    assert parse(readdress(payload, 9)) == parse(payload[:1] + b"\0\0\0\x09" + payload[5:])


UINT32 = st.integers(0, 0xFFFFFFFF)
NAME = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
MESSAGE = st.one_of(
    st.builds(GlobalRequest, NAME, st.booleans(), st.binary()),
    st.builds(RequestSuccess, st.binary()),
    st.builds(RequestFailure),
    st.builds(ChannelOpen, NAME, UINT32, UINT32, UINT32, st.binary()),
    st.builds(OpenConfirmation, UINT32, UINT32, UINT32, UINT32, st.binary()),
    st.builds(OpenFailure, UINT32, UINT32, st.text(st.characters(codec="utf-8"), max_size=99), st.just("en")),
    st.builds(WindowAdjust, UINT32, UINT32),
    st.builds(Data, UINT32, st.binary()),
    st.builds(ExtendedData, UINT32, UINT32, st.binary()),
    st.builds(Eof, UINT32),
    st.builds(Close, UINT32),
    st.builds(ChannelRequest, UINT32, NAME, st.booleans(), st.binary()),
    st.builds(ChannelSuccess, UINT32),
    st.builds(ChannelFailure, UINT32),
)


@given(MESSAGE)
def test_what_is_built_is_parsed_to_the_same(message: Message) -> None:
    assert parse(build(message)) == message


@given(
    st.binary(max_size=64)
    | st.tuples(st.integers(80, 100), st.binary(max_size=64)).map(lambda pair: bytes([pair[0]]) + pair[1])
)
def test_noise_is_parsed_or_refused(payload: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        message = parse(payload)
        assert parse(build(message)) == message


@given(MESSAGE, st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_is_parsed_or_refused(message: Message, place: int, value: int) -> None:
    payload = bytearray(build(message))
    payload[place % len(payload)] = value
    with contextlib.suppress(ProtocolError):
        parse(bytes(payload))


def test_an_encoding_fault_is_told_apart() -> None:
    with pytest.raises(InvalidEncoding):
        parse(b"\x50\0\0\0\1\xff\1")
