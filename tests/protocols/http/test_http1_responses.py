"""Responses of HTTP/1: framing by what was asked, interim ones, the end of the connection, what is not believed."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.http.http1 import Http1Limits, ResponseReader
from protocols.http.messages import Data, MessageEnded, ResponseEvent, ResponseHead

LIMITS = Http1Limits(head_bytes=1024, fields=20)
END = MessageEnded()


def read(
    pieces: Iterable[bytes], method: str = "GET", upgrade: str = "", *, eof: bool = False
) -> list[ResponseEvent]:
    """The events of what answers one request, Data joined."""
    reader = ResponseReader(LIMITS)
    reader.expect(method, upgrade)
    events: list[ResponseEvent] = []

    def drain() -> None:
        while (event := reader.next_event()) is not None:
            if isinstance(event, Data) and events and isinstance(events[-1], Data):
                event = Data(events.pop().data + event.data)  # type: ignore[union-attr]
            events.append(event)

    for piece in pieces:
        reader.feed(piece)
        drain()
    if eof:
        reader.feed_eof()
        drain()
    return events


def single(data: bytes) -> list[bytes]:
    return [data[position : position + 1] for position in range(len(data))]


OK = b"HTTP/1.1 200 OK\r\n"
# what is asked, what comes, what is read; those with True end with the connection
READ: dict[str, tuple[str, bytes, list[ResponseEvent], bool]] = {
    "a length": (
        "GET",
        OK + b"Content-Length: 2\r\n\r\nhi",
        [ResponseHead(200, (), 2), Data(b"hi"), END],
        False,
    ),
    "no body": ("GET", OK + b"Content-Length: 0\r\n\r\n", [ResponseHead(200, (), 0), END], False),
    "chunks and trailers": (
        "GET",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nGrpc-Status: 0\r\n\r\n",
        [ResponseHead(200, (), None), Data(b"hi"), MessageEnded((("grpc-status", "0"),))],
        False,
    ),
    "until the end": ("GET", OK + b"\r\nhi", [ResponseHead(200, (), None, False), Data(b"hi"), END], True),
    "until the end, with nothing": ("GET", OK + b"\r\n", [ResponseHead(200, (), None, False), END], True),
    "HTTP/1.0": (
        "GET",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        [ResponseHead(200, (), 1, False), Data(b"x"), END],
        False,
    ),
    "HTTP/1.0 that keeps the connection": (
        "GET",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
        [ResponseHead(200, (), 1, True), Data(b"x"), END],
        False,
    ),
    "no reason": ("GET", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", [ResponseHead(200, ()), END], False),
    "no reason and no blank": (
        "GET",
        b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        [ResponseHead(200, ()), END],
        False,
    ),
    "close": (
        "GET",
        OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
        [ResponseHead(200, (), 0, False), END],
        False,
    ),
    "HEAD has no body, whatever it says": (
        "HEAD",
        OK + b"Content-Length: 1000\r\n\r\n",
        [ResponseHead(200, (), 1000), END],
        False,
    ),
    "HEAD in chunks": (
        "HEAD",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        [ResponseHead(200, (), None), END],
        False,
    ),
    "HEAD without a word of it": ("HEAD", OK + b"\r\n", [ResponseHead(200, (), None), END], False),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", [ResponseHead(204, ()), END], False),
    "204 with a length is not trusted again": (
        "GET",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        [ResponseHead(204, (), 0, False), END],
        False,
    ),
    "304 with a length": (
        "GET",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n",
        [ResponseHead(304, (("etag", "x"),), 5), END],
        False,
    ),
    "CONNECT": ("CONNECT", b"HTTP/1.1 200 OK\r\n\r\n", [ResponseHead(200, ()), END], False),
    "CONNECT that is refused": (
        "CONNECT",
        b"HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\nx",
        [ResponseHead(403, (), 1), Data(b"x"), END],
        False,
    ),
    "interim responses": (
        "POST",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 0\r\n\r\n",
        [ResponseHead(100, ()), ResponseHead(103, (("link", "x"),)), ResponseHead(200, ()), END],
        False,
    ),
    "fields of one hop": (
        "GET",
        OK + b"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2,h2c\r\nX_Kept: 1\r\n"
        b"Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        [ResponseHead(200, (("x_kept", "1"), ("set-cookie", "a"), ("set-cookie", "b"))), END],
        False,
    ),
}


@pytest.mark.parametrize(("method", "data", "expected", "eof"), READ.values(), ids=READ.keys())
def test_a_response_is_read_however_it_comes_in_pieces(
    method: str, data: bytes, expected: list[ResponseEvent], eof: bool
) -> None:
    assert read([data], method, eof=eof) == expected
    assert read(single(data), method, eof=eof) == expected


@pytest.mark.parametrize(
    ("method", "data"),
    [(method, data) for method, data, _, eof in READ.values() if not eof],
    ids=[name for name, case in READ.items() if not case[3]],
)
def test_a_response_that_is_cut_off_does_not_end(method: str, data: bytes) -> None:
    for cut in range(1, len(data)):
        reader = ResponseReader(LIMITS)
        reader.expect(method)
        reader.feed(data[:cut])
        events = []
        while (event := reader.next_event()) is not None:
            events.append(event)
        assert not any(isinstance(event, MessageEnded) for event in events)
        if reader.buffered:
            with pytest.raises(RemoteProtocolError):
                reader.feed_eof()


REFUSED = {
    "both lengths": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "two equal lengths": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "a length that is no number": OK + b"Content-Length: -1\r\n\r\n",
    "a length that is too large": OK + b"Content-Length: 99999999999999999999\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "a coding in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a trailer that would have been a header": OK
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\nSet-Cookie: x\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "HTML": b"<html><body>hello</body></html>\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "the status 600": b"HTTP/1.1 600 No\r\n\r\n",
    "the status 000": b"HTTP/1.1 000 No\r\n\r\n",
    "a control character in the reason": b"HTTP/1.1 200 O\x00K\r\n\r\n",
    "an empty line before it": b"\r\n" + OK + b"\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a fold": OK + b"X: a\r\n b\r\n\r\n",
    "a blank before a colon": OK + b"Content-Length : 0\r\n\r\n",
    "NUL": OK + b"X: \x00\r\n\r\n",
    "101 that nobody asked for": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "an interim response with a length": b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n",
    "an interim response in chunks": b"HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n",
    "interim responses without an end": b"HTTP/1.1 102 Processing\r\n\r\n" * 17,
    "a head that is too long": OK + b"X: " + b"a" * 1024 + b"\r\n\r\n",
    "a head without an end": OK + b"X: " + b"a" * 2000,
    "too many fields": OK + b"X: y\r\n" * 21 + b"\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_a_target_may_not_send(data: bytes) -> None:
    for pieces in ([data], single(data)):
        with pytest.raises(RemoteProtocolError) as raised:
            read(pieces)
        assert raised.value.code == "502"


@pytest.mark.parametrize(
    ("asked", "got", "is_right"),
    [
        ("websocket", b"WebSocket", True),
        ("websocket", b"h2c", False),
        ("websocket", b"websocket, h2c", False),
        ("", b"websocket", False),
    ],
)
def test_a_change_of_protocol_is_the_one_that_was_asked_for(asked: str, got: bytes, is_right: bool) -> None:
    reader = ResponseReader(LIMITS)
    reader.expect("GET", asked)
    reader.feed(
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: " + got + b"\r\nX: y\r\n\r\n\x81\x00"
    )
    if not is_right:
        with pytest.raises(RemoteProtocolError):
            reader.next_event()
        return
    assert reader.next_event() == ResponseHead(101, (("x", "y"),), upgrade="websocket")
    assert reader.next_event() is None
    assert reader.leftover() == b"\x81\x00"


def test_101_without_connection_upgrade() -> None:
    with pytest.raises(RemoteProtocolError):
        read([b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n"], "GET", "websocket")


def test_an_upgrade_that_is_refused_is_an_ordinary_response() -> None:
    events = read([b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"], "GET", "websocket")
    assert events == [ResponseHead(403, ()), END]


def test_one_response_after_the_other() -> None:
    reader = ResponseReader(LIMITS)
    for number in range(3):
        assert reader.is_idle
        reader.expect("GET")
        reader.feed(OK + b"Content-Length: 1\r\n\r\n%d" % number)
        assert reader.next_event() == ResponseHead(200, (), 1)
        assert reader.next_event() == Data(b"%d" % number)
        assert not reader.has_ended
        assert reader.next_event() == END
        assert reader.has_ended


@pytest.mark.parametrize("before", [b"", OK + b"Content-Length: 1\r\n\r\nx"])
def test_bytes_that_nobody_asked_for_are_never_the_next_answer(before: bytes) -> None:
    """A target whose body was longer than it said would answer the next caller with what it left."""
    reader = ResponseReader(LIMITS)
    if before:
        reader.expect("GET")
    reader.feed(before + OK + b"Content-Length: 6\r\n\r\nstolen")
    if before:
        assert [type(reader.next_event()) for _ in range(4)] == [ResponseHead, Data, MessageEnded, type(None)]
        assert not reader.is_idle
    with pytest.raises(RemoteProtocolError):
        reader.expect("GET")
    with pytest.raises(RemoteProtocolError):
        reader.next_event()


def test_bytes_before_any_request() -> None:
    reader = ResponseReader(LIMITS)
    assert reader.next_event() is None
    reader.feed(OK)
    with pytest.raises(RemoteProtocolError):
        reader.next_event()


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 2",
        OK + b"Content-Length: 2\r\n\r\nh",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ],
)
def test_a_connection_that_ends_in_the_middle(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        read([data], eof=True)
    assert raised.value.code == "502"


def test_a_connection_that_ends_before_any_answer_is_for_the_caller_to_judge() -> None:
    reader = ResponseReader(LIMITS)
    reader.expect("GET")
    reader.feed_eof()
    assert reader.next_event() is None
    assert not reader.has_ended


def test_expecting_twice_is_a_fault_of_ours() -> None:
    reader = ResponseReader(LIMITS)
    reader.expect("GET")
    with pytest.raises(LocalProtocolError):
        reader.expect("GET")


_SEEDS = [
    OK + b"Content-Length: 5\r\nX: y\r\n\r\nhello",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
]
_BITS = [
    b"",
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b"0",
    b"5",
    b"-",
    b"chunked",
    b"Content-Length: 5\r\n",
]
_EDITS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 3), st.sampled_from(_BITS)), max_size=3)


def outcome(pieces: list[bytes]) -> list[ResponseEvent] | str:
    try:
        return read(pieces, eof=True)
    except RemoteProtocolError:
        return "refused"


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(_SEEDS), _EDITS)
def test_in_pieces_and_whole_are_the_same_whatever_comes(
    seed: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    for at, gone, new in edits:
        seed = seed[:at] + new + seed[at + gone :]
    assert outcome([seed]) == outcome(single(seed))
