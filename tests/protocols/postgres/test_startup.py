"""The startup phase: what clients send before the first message, and what attackers do."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import (
    InvalidEncoding,
    LimitExceeded,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
)
from protocols.postgres.startup import (
    MAX_PACKET_BYTES,
    CancelRequested,
    DirectTlsStarted,
    GssencRequested,
    SslRequested,
    StartupReceived,
    StartupReceiver,
    build_cancel_request,
    build_gssenc_request,
    build_ssl_request,
    build_startup,
)

SSL = build_ssl_request()
GSS = build_gssenc_request()
STARTUP = build_startup({"user": "analyst", "database": "shop/main", "options": "-c a=b"})


def packet(code: int, body: bytes) -> bytes:
    return struct.pack(">II", len(body) + 8, code) + body


def test_a_startup_packet_whole() -> None:
    (event,) = StartupReceiver().receive(STARTUP)
    assert event == StartupReceived(0, {"user": "analyst", "database": "shop/main", "options": "-c a=b"})
    assert isinstance(event, StartupReceived)
    assert event.negotiated_minor == 0
    assert not event.needs_negotiation


def test_byte_by_byte_as_clients_do_it() -> None:
    receiver = StartupReceiver()
    events = []
    for part in (GSS, SSL, STARTUP):
        for at in range(len(part)):
            events += receiver.receive(part[at : at + 1])
        if isinstance(events[-1], GssencRequested):
            receiver.refused()
        elif isinstance(events[-1], SslRequested):
            receiver.tls_started()
    assert [type(event) for event in events] == [GssencRequested, SslRequested, StartupReceived]


def test_the_wire_bytes_of_requests() -> None:
    assert SSL.hex() == "0000000804d2162f"
    assert GSS.hex() == "0000000804d21630"
    assert build_cancel_request(7, b"\1\2\3\4").hex() == "0000001004d2162e0000000701020304"
    assert build_startup({"user": "a"}, 2) == b"\0\0\0\x10\0\3\0\2user\0a\0\0"


@pytest.mark.parametrize(
    ("minor", "negotiated", "needed"),
    [(0, 0, False), (1, 1, False), (2, 2, False), (3, 2, True), (9999, 2, True)],
)
def test_minor_versions(minor: int, negotiated: int, needed: bool) -> None:
    (event,) = StartupReceiver().receive(build_startup({"user": "a"}, minor))
    assert isinstance(event, StartupReceived)
    assert (event.minor, event.negotiated_minor, event.needs_negotiation) == (minor, negotiated, needed)


def test_protocol_options_are_named_and_not_passed_on() -> None:
    (event,) = StartupReceiver().receive(build_startup({"user": "a", "_pq_.compression": "zstd"}))
    assert event == StartupReceived(0, {"user": "a"}, ("_pq_.compression",))
    assert isinstance(event, StartupReceived)
    assert event.needs_negotiation


def test_an_empty_value_is_a_value() -> None:
    (event,) = StartupReceiver().receive(packet(3 << 16, b"user\0a\0application_name\0\0\0"))
    assert event == StartupReceived(0, {"user": "a", "application_name": ""})


def test_bytes_behind_the_startup_packet_are_handed_on() -> None:
    (event,) = StartupReceiver().receive(STARTUP + b"Q\0\0")
    assert isinstance(event, StartupReceived)
    assert event.rest == b"Q\0\0"


@pytest.mark.parametrize("length", [1, 4, 32, 256])
def test_cancel_keys_of_every_version(length: int) -> None:
    key = bytes(range(length % 256)) or b"k" * length
    (event,) = StartupReceiver().receive(build_cancel_request(-5, key))
    assert event == CancelRequested(-5, key)


def test_direct_tls_hands_its_bytes_over_and_goes_on_encrypted() -> None:
    receiver = StartupReceiver()
    assert receiver.receive(b"\x16\x03\x01rest") == [DirectTlsStarted(b"\x16\x03\x01rest")]
    with pytest.raises(LocalProtocolError):
        receiver.receive(b"x")
    receiver.tls_started()
    assert isinstance(receiver.receive(STARTUP)[0], StartupReceived)


@pytest.mark.parametrize("request_packet", [SSL, GSS])
@pytest.mark.parametrize("behind", [b"\0", STARTUP, b"\x16\x03\x01", SSL])
def test_bytes_pipelined_behind_a_request_are_an_attack(request_packet: bytes, behind: bytes) -> None:
    receiver = StartupReceiver()
    with pytest.raises(RemoteProtocolError, match="unencrypted data"):
        receiver.receive(request_packet + behind)
    with pytest.raises(RemoteProtocolError):
        receiver.receive(STARTUP)


def test_the_answer_must_come_before_more_bytes() -> None:
    receiver = StartupReceiver()
    receiver.receive(SSL)
    with pytest.raises(LocalProtocolError):
        receiver.receive(STARTUP)


@pytest.mark.parametrize("request_packet", [SSL, GSS])
def test_a_request_made_twice(request_packet: bytes) -> None:
    receiver = StartupReceiver()
    receiver.receive(request_packet)
    receiver.refused()
    with pytest.raises(RemoteProtocolError, match=r"unsupported frontend protocol 1234"):
        receiver.receive(request_packet)


@pytest.mark.parametrize("request_packet", [SSL, GSS])
@pytest.mark.parametrize("direct", [True, False])
def test_a_request_inside_tls(request_packet: bytes, direct: bool) -> None:
    receiver = StartupReceiver()
    receiver.receive(b"\x16" if direct else SSL)
    receiver.tls_started()
    with pytest.raises(RemoteProtocolError, match="unsupported"):
        receiver.receive(request_packet)


def test_tls_bytes_where_a_packet_is_due() -> None:
    receiver = StartupReceiver()
    receiver.receive(SSL)
    receiver.refused()
    with pytest.raises(LimitExceeded):
        receiver.receive(b"\x16\x03\x01\x02")


@pytest.mark.parametrize("version", [2 << 16, 4 << 16, 0, 0xFFFFFFFF])
def test_other_protocols_are_told_which_one_is_spoken(version: int) -> None:
    with pytest.raises(RemoteProtocolError, match=r"3\.0 to 3\.2") as caught:
        StartupReceiver().receive(packet(version, b"user\0a\0\0"))
    assert caught.value.code == "0A000"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"\0\0",
        b"user\0a\0",
        b"user\0a",
        b"user\0a\0\0x",
        b"user\0a\0\0\0",
        b"user\0a\0\0user\0b\0\0",
        b"user\0\0",
        b"user\0\0\0",
        b"database\0a\0\0",
        b"user\0a\0user\0b\0\0",
        b"user\0a\0database\0\0",
        b"user\0\xff\0\0",
        b"us\xc3er\0a\0\0",
        b"\0user\0a\0\0",
    ],
)
def test_malformed_parameters(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        StartupReceiver().receive(packet(3 << 16, body))


def test_a_text_that_is_not_utf8_is_told_apart() -> None:
    with pytest.raises(InvalidEncoding):
        StartupReceiver().receive(packet(3 << 16, b"user\0\xff\0\0"))


@pytest.mark.parametrize("key", [b"", b"k" * 257])
def test_cancel_keys_out_of_range(key: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        StartupReceiver().receive(packet(1234 << 16 | 5678, b"\0\0\0\1" + key))
    with pytest.raises(LocalProtocolError):
        build_cancel_request(1, key)


@pytest.mark.parametrize("length", [0, 4, 7, MAX_PACKET_BYTES + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_the_length_is_checked_before_the_packet_comes(length: int) -> None:
    receiver = StartupReceiver()
    with pytest.raises(RemoteProtocolError):
        receiver.receive(struct.pack(">I", length))
    assert receiver.buffered_bytes == 0


def test_the_longest_packet() -> None:
    body = b"user\0a\0application_name\0"
    body += b"x" * (MAX_PACKET_BYTES - 8 - len(body) - 2) + b"\0\0"
    assert isinstance(StartupReceiver().receive(packet(3 << 16, body))[0], StartupReceived)


def test_builders_refuse_what_they_cannot_say() -> None:
    for parameters in ({}, {"user": ""}, {"user": "a\0b"}, {"user": "a", "": "x"}, {"user": "a" * 20_000}):
        with pytest.raises(LocalProtocolError):
            build_startup(parameters)


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(NAMES.filter(lambda name: not name.startswith("_pq_.")), NAMES, max_size=5),
    st.integers(0, 3),
)
def test_round_trip(parameters: dict[str, str], minor: int) -> None:
    parameters["user"] = "a"
    (event,) = StartupReceiver().receive(build_startup(parameters, minor))
    assert event == StartupReceived(minor, parameters)


MUTATED = st.one_of(
    st.binary(max_size=64),
    st.builds(
        lambda whole, at, byte: whole[: at % len(whole)] + bytes([byte]) + whole[at % len(whole) + 1 :],
        st.sampled_from([STARTUP, SSL, GSS, build_cancel_request(1, b"abcd")]),
        st.integers(0, 200),
        st.integers(0, 255),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(MUTATED, max_size=6))
def test_no_input_does_more_than_a_protocol_error(chunks: list[bytes]) -> None:
    receiver = StartupReceiver()
    for chunk in chunks:
        try:
            events = receiver.receive(chunk)
            if events and isinstance(events[0], SslRequested | GssencRequested):
                receiver.refused()
        except ProtocolError:
            pass
        assert receiver.buffered_bytes <= MAX_PACKET_BYTES
