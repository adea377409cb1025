"""Framing of sftp: packets whole and in pieces, file content as it comes, limits, noise."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LimitExceeded, ProtocolError, RemoteProtocolError
from protocols.ssh.sftp import (
    MAX_PACKET_BYTES,
    DataHead,
    Event,
    Kind,
    Packet,
    PacketReader,
    Payload,
    WriteHead,
    data_head,
    init_packet,
    packet,
    split_id,
    write_head,
)

STAT = packet(Kind.STAT, 7, b"\0\0\0\2/x")
WRITE = write_head(8, b"h", 32768, 5) + b"hello"
DATA = data_head(9, 5) + b"hello"


def read(chunks: Iterable[bytes], payload_kind: Kind = Kind.WRITE) -> list[Event]:
    reader = PacketReader(payload_kind)
    events: list[Event] = []
    for chunk in chunks:
        reader.feed(chunk)
        while (event := reader.next()) is not None:
            events.append(event)
    return events


def joined(events: Iterable[Event]) -> list[Event | bytes]:
    """The events with each run of payload as bytes."""
    found: list[Event | bytes] = []
    payload = b""
    for event in events:
        if isinstance(event, Payload):
            payload += event.data
            if event.is_last:
                found.append(payload)
                payload = b""
        else:
            found.append(event)
    return found


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def test_the_layout_is_that_of_the_draft() -> None:
    assert STAT == b"\0\0\0\x0b\x11\0\0\0\7\0\0\0\2/x"
    assert WRITE == b"\0\0\0\x1b\x06\0\0\0\x08\0\0\0\1h\0\0\0\0\0\0\x80\0\0\0\0\5hello"
    assert DATA == b"\0\0\0\x0e\x67\0\0\0\x09\0\0\0\5hello"
    assert init_packet(Kind.INIT, 3) == b"\0\0\0\5\1\0\0\0\3"


def test_packets_and_content_whole_and_byte_by_byte() -> None:
    stream = STAT + WRITE + STAT + write_head(9, b"", 0, 0) + STAT
    expected: list[Event | bytes] = [
        Packet(Kind.STAT, STAT[5:]),
        WriteHead(8, b"h", 32768, 5),
        b"hello",
        Packet(Kind.STAT, STAT[5:]),
        WriteHead(9, b"", 0, 0),
        b"",
        Packet(Kind.STAT, STAT[5:]),
    ]
    assert joined(read([stream])) == expected
    assert joined(read(bytewise(stream))) == expected


def test_data_of_a_server() -> None:
    expected: list[Event | bytes] = [DataHead(9, 5), b"hello", Packet(Kind.STAT, STAT[5:])]
    assert joined(read([DATA + STAT], Kind.DATA)) == expected
    assert joined(read(bytewise(DATA + STAT), Kind.DATA)) == expected


def test_each_direction_has_one_kind_of_content() -> None:
    assert read([DATA]) == [Packet(Kind.DATA, DATA[5:])]
    assert read([WRITE], Kind.DATA) == [Packet(Kind.WRITE, WRITE[5:])]


def test_content_is_not_copied() -> None:
    chunk = write_head(1, b"h", 0, 100) + b"x" * 60
    events = read([chunk, b"y" * 40 + STAT])
    assert isinstance(events[1], Payload)
    assert events[1].data.obj is chunk
    assert not events[1].is_last
    assert isinstance(events[2], Payload)
    assert events[2].data == b"y" * 40
    assert events[2].is_last


def test_what_is_not_taken_stays_in_order() -> None:
    reader = PacketReader(Kind.WRITE)
    for chunk in (STAT * 2, WRITE, STAT[:6]):
        reader.feed(chunk)
    assert reader.buffered_bytes == len(STAT * 2 + WRITE) + 6
    reader.feed(STAT[6:])
    events = []
    while (event := reader.next()) is not None:
        events.append(event)
    expected = (
        [Packet(Kind.STAT, STAT[5:])] * 2
        + [WriteHead(8, b"h", 32768, 5), b"hello"]
        + [Packet(Kind.STAT, STAT[5:])]
    )
    assert joined(events) == expected
    assert reader.buffered_bytes == 0


def test_a_million_bytes_that_wait_are_joined_once() -> None:
    reader = PacketReader(Kind.WRITE)
    body = b"\0\0\0\1" + bytes(MAX_PACKET_BYTES - 10)
    stream = packet(Kind.STAT, 1, body[:250_000])
    for at in range(0, len(stream), 7):
        reader.feed(stream[at : at + 7])
        assert (reader.next() is None) == (at + 7 < len(stream))
    assert reader.buffered_bytes == 0


@pytest.mark.parametrize("length", [0, MAX_PACKET_BYTES + 1, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", [Kind.STAT, Kind.WRITE, Kind.DATA])
@pytest.mark.parametrize("payload_kind", [Kind.WRITE, Kind.DATA])
def test_impossible_lengths_are_refused_at_the_head(length: int, kind: Kind, payload_kind: Kind) -> None:
    with pytest.raises(ProtocolError):
        read([struct.pack(">IB", length, kind)], payload_kind)


def test_a_handle_has_at_most_256_bytes() -> None:
    assert read([write_head(1, b"h" * 256, 0, 0)])[0] == WriteHead(1, b"h" * 256, 0, 0)
    with pytest.raises(LimitExceeded):
        read([write_head(1, b"h" * 257, 0, 0)])


@pytest.mark.parametrize("wrong", [-1, 1, 1000])
def test_content_has_the_length_that_the_packet_says(wrong: int) -> None:
    for whole, payload_kind in ((WRITE, Kind.WRITE), (DATA, Kind.DATA)):
        length = int.from_bytes(whole[:4]) + wrong
        with pytest.raises(RemoteProtocolError, match="length"):
            read([length.to_bytes(4) + whole[4:]], payload_kind)


def test_a_fault_is_for_ever() -> None:
    reader = PacketReader(Kind.WRITE)
    reader.feed(b"\0\0\0\0\0")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            reader.next()
        reader.feed(STAT)


def test_an_id_is_needed() -> None:
    assert split_id(Packet(Kind.STAT, b"\0\0\0\x09")) == 9
    with pytest.raises(RemoteProtocolError):
        split_id(Packet(Kind.STAT, b"\0\0\0"))


PACKETS = st.lists(
    st.one_of(
        st.builds(
            packet, st.sampled_from([Kind.STAT, Kind.OPEN, Kind.NAME, Kind.EXTENDED]), st.just(1), st.binary()
        ),
        st.binary(max_size=300).flatmap(lambda data: st.just(write_head(1, data[:256], 5, len(data)) + data)),
    ),
    max_size=8,
).map(b"".join)


@given(PACKETS, st.lists(st.integers(0, 1000), max_size=8))
def test_cuts_do_not_matter(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    chunks = [stream[a:b] for a, b in pairwise(places)]
    assert joined(read(chunks)) == joined(read([stream]))


@given(PACKETS, st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=4))
def test_noise_is_read_or_refused(stream: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(stream + b"\0")
    for place, value in changes:
        changed[place % len(changed)] = value
    for payload_kind in (Kind.WRITE, Kind.DATA):
        with contextlib.suppress(ProtocolError):
            read([bytes(changed)], payload_kind)
