"""Server-sent events: nothing is lost, wherever the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LimitExceeded
from protocols.http.event_stream import EventReader

PIECES = st.lists(
    st.sampled_from([b"data: x", b"data:", b"data", b": c", b"id:1", b"\r", b"\n", b"\r\n", b" ", b":"])
)


@settings(max_examples=200, deadline=None)
@given(pieces=PIECES, size=st.integers(1, 9), has_mark=st.booleans())
def test_what_goes_in_comes_out_and_cuts_do_not_matter(
    pieces: list[bytes], size: int, has_mark: bool
) -> None:
    stream = (b"\xef\xbb\xbf" if has_mark else b"") + b"".join(pieces)
    whole, cut = EventReader(event_bytes=10_000), EventReader(event_bytes=10_000)
    expected = [*whole.feed(stream), *whole.finish()]
    events = [
        event for start in range(0, len(stream), size) for event in cut.feed(stream[start : start + size])
    ]
    events += cut.finish()
    assert b"".join(event.raw for event in expected) == stream == b"".join(event.raw for event in events)
    assert [event.data for event in expected if event.data is not None] == [
        event.data for event in events if event.data is not None
    ]


def test_data_is_joined_and_replaced_in_its_place() -> None:
    reader = EventReader(event_bytes=1000)
    (event,) = reader.feed(b"id: 1\r\ndata:a\r\nevent: e\r\ndata: b\r\ndata\r\n\r\n")
    assert event.data == b"a\nb\n"
    assert event.with_data(b"x\ny") == b"id: 1\r\ndata:x\r\ndata:y\r\nevent: e\r\n\r\n"
    (bare,) = reader.feed(b"data\n\n")
    assert bare.data == b"" and bare.with_data(b"x") == b"data: x\n\n"


@pytest.mark.parametrize("data", [b"data: " + b"x" * 200, b"data: x\n" * 30, b":\n" * 80])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_event_is_bounded(data: bytes, size: int) -> None:
    reader = EventReader(event_bytes=100)
    with pytest.raises(LimitExceeded):
        for start in range(0, len(data), size):
            list(reader.feed(data[start : start + size]))
    many = EventReader(event_bytes=100)
    assert len(list(many.feed(b"data: x\n\n" * 100))) == 100
