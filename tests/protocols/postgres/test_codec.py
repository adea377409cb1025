"""Framing in both directions."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LimitExceeded, ProtocolError, RemoteProtocolError
from protocols.postgres.codec import BackendCodec, Frame, FrontendCodec, RowPart, RowRun, frame
from protocols.postgres.message_types import BACKEND_TYPES, FRONTEND_TYPES

D, d = ord("D"), ord("d")
QUERY = frame(ord("Q"), b"select 1\0")
SYNC = frame(ord("S"), b"")
READY = frame(ord("Z"), b"I")
ROW = frame(D, struct.pack(">Hi", 1, 3) + b"abc")
COPY = frame(d, b"a\tb\n")

BackendEvents = list[Frame | RowRun | RowPart]


def frontend(chunks: Iterable[bytes], limit: int = 1000) -> list[Frame]:
    codec = FrontendCodec(limit)
    return [event for chunk in chunks for event in codec.receive(chunk)]


def backend(chunks: Iterable[bytes], limit: int = 1000, stream_over: int = 100) -> BackendEvents:
    codec = BackendCodec(limit, stream_over)
    return [event for chunk in chunks for event in codec.receive(chunk)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def test_the_type_bytes_are_those_of_the_documentation() -> None:
    assert bytes(sorted(FRONTEND_TYPES)) == b"BCDEFHPQSXcdfp"
    assert bytes(sorted(BACKEND_TYPES)) == b"123ACDEGHIKNRSTVWZcdnstv"


def test_a_frame_knows_its_parts() -> None:
    (message,) = frontend([QUERY])
    assert message == Frame(ord("Q"), QUERY)
    assert message.body == b"select 1\0"


def test_a_single_whole_message_is_not_copied() -> None:
    assert frontend([QUERY])[0].raw is QUERY


def test_frontend_whole_and_byte_by_byte() -> None:
    stream = QUERY + SYNC + frame(ord("d"), b"") + QUERY
    whole = frontend([stream])
    assert [message.raw for message in whole] == [QUERY, SYNC, frame(d, b""), QUERY]
    assert frontend(bytewise(stream)) == whole


@pytest.mark.parametrize("cut", range(1, len(QUERY)))
def test_a_torn_message_stays_in_the_buffer(cut: int) -> None:
    codec = FrontendCodec(1000)
    assert codec.receive(SYNC + QUERY[:cut]) == [Frame(ord("S"), SYNC)]
    assert codec.buffered_bytes == cut
    assert codec.receive(QUERY[cut:]) == [Frame(ord("Q"), QUERY)]
    assert codec.buffered_bytes == 0


@pytest.mark.parametrize("length", [0, 1, 3, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("make", [FrontendCodec, BackendCodec])
def test_impossible_lengths(make: type[FrontendCodec | BackendCodec], length: int) -> None:
    for kind in b"CDd":
        with pytest.raises(RemoteProtocolError):
            make(1000).receive(struct.pack(">BI", kind, length))


@pytest.mark.parametrize("make", [FrontendCodec, BackendCodec])
def test_a_message_over_the_limit_is_refused_at_its_header(make: type[FrontendCodec | BackendCodec]) -> None:
    make(1000).receive(struct.pack(">BI", ord("C"), 1000))
    codec = make(1000)
    with pytest.raises(LimitExceeded):
        codec.receive(struct.pack(">BI", ord("C"), 1001))
    assert codec.buffered_bytes == 0


@pytest.mark.parametrize("make", [FrontendCodec, BackendCodec])
def test_an_unknown_type_is_refused_at_its_first_byte(make: type[FrontendCodec | BackendCodec]) -> None:
    codec = make(1000)
    with pytest.raises(RemoteProtocolError, match="0x00"):
        codec.receive(b"\0")
    with pytest.raises(RemoteProtocolError, match="0x00"):
        codec.receive(SYNC)


def test_rows_come_in_runs() -> None:
    assert backend([ROW * 3 + READY + ROW + COPY * 2 + ROW]) == [
        RowRun(D, ROW * 3, 3),
        Frame(ord("Z"), READY),
        RowRun(D, ROW, 1),
        RowRun(d, COPY * 2, 2),
        RowRun(D, ROW, 1),
    ]


def test_a_torn_run_goes_on_with_the_next_read() -> None:
    stream = ROW * 5 + READY
    for cut in range(1, len(stream)):
        events = backend([stream[:cut], stream[cut:]])
        assert b"".join(event.raw for event in events) == stream
        assert sum(event.count for event in events if isinstance(event, RowRun)) == 5
        assert not any(isinstance(event, RowPart) for event in events)


def test_a_data_row_without_a_column_count_is_malformed() -> None:
    with pytest.raises(RemoteProtocolError):
        backend([frame(D, b"\0")])
    assert backend([frame(d, b"")]) == [RowRun(d, frame(d, b""), 1)]


def test_a_large_row_passes_in_parts() -> None:
    large = frame(D, b"\0\1" + b"x" * 5000)
    pieces = [large[at : at + 64] for at in range(0, len(large), 64)]
    codec = BackendCodec(1000, 100)
    events: BackendEvents = []
    for piece in pieces:
        events += codec.receive(piece)
        assert codec.buffered_bytes <= 100
    assert all(isinstance(event, RowPart) for event in events)
    assert b"".join(event.raw for event in events) == large
    assert [event.first for event in events if isinstance(event, RowPart)] == [True] + [False] * (
        len(pieces) - 1
    )
    assert [event.last for event in events if isinstance(event, RowPart)] == [False] * (len(pieces) - 1) + [
        True
    ]


def test_what_follows_a_large_row_is_framed_again() -> None:
    large = frame(D, b"\0\1" + b"x" * 500)
    codec = BackendCodec(1000, 100)
    codec.receive(large[:50])
    inside = [codec.is_inside_row]
    last, run, ready = codec.receive(large[50:] + ROW + READY)
    inside.append(codec.is_inside_row)
    assert last == RowPart(D, large[50:], False, True)
    assert inside == [True, False]
    assert (run, ready) == (RowRun(D, ROW, 1), Frame(ord("Z"), READY))


def test_a_large_row_that_is_whole_stays_whole() -> None:
    large = frame(D, b"\0\1" + b"x" * 500)
    assert backend([large]) == [RowRun(D, large, 1)]


def test_the_caller_may_ask_for_whole_rows_after_seeing_what_came_before() -> None:
    large = frame(D, b"\0\1" + b"x" * 500)
    codec = BackendCodec(1000, 100)
    assert codec.receive(READY + large[:300]) == [Frame(ord("Z"), READY)]
    codec.whole_rows = True
    assert codec.receive(large[300:400]) == []
    assert codec.receive(large[400:] + ROW) == [RowRun(D, large + ROW, 2)]


def test_whole_rows_have_the_limit_of_messages() -> None:
    large = frame(D, b"\0\1" + b"x" * 2000)
    codec = BackendCodec(1000, 100)
    codec.whole_rows = True
    with pytest.raises(LimitExceeded):
        codec.receive(large[:100])
    assert codec.buffered_bytes == 0


def test_a_large_row_held_back_is_passed_in_parts_next_time() -> None:
    large = frame(D, b"\0\1" + b"x" * 500)
    events = backend([READY + large[:200], large[200:300], large[300:]])
    assert events == [
        Frame(ord("Z"), READY),
        RowPart(D, large[:300], True, False),
        RowPart(D, large[300:], False, True),
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [ROW, COPY, READY, frame(D, b"\0\0"), frame(d, b"x" * 300), frame(ord("C"), b"x" * 50)]
        ),
        max_size=12,
    ),
    st.lists(st.integers(1, 400), min_size=1, max_size=20),
    st.booleans(),
)
def test_however_it_is_cut_the_same_bytes_come_out(
    messages: list[bytes], sizes: list[int], whole: bool
) -> None:
    stream = b"".join(messages)
    codec = BackendCodec(1000, 100)
    codec.whole_rows = whole
    out, position, turn = b"", 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        for event in codec.receive(stream[position : position + size]):
            out += event.raw
            assert not (whole and isinstance(event, RowPart))
        position += size
        turn += 1
    assert out == stream


HEADERS = st.builds(
    lambda kind, length, body: struct.pack(">BI", kind, length) + body,
    st.sampled_from(sorted(FRONTEND_TYPES | BACKEND_TYPES)),
    st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1)),
    st.binary(max_size=300),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(HEADERS, st.binary(max_size=30)), max_size=8), st.booleans())
def test_no_input_does_more_than_a_protocol_error(chunks: list[bytes], whole: bool) -> None:
    client, server = FrontendCodec(200), BackendCodec(200, 100)
    server.whole_rows = whole
    for codec in (client, server):
        for chunk in chunks:
            with contextlib.suppress(ProtocolError):
                codec.receive(chunk)
            assert codec.buffered_bytes <= 201 + len(chunk)
