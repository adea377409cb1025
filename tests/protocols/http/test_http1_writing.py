"""Heads and chunks that we write: exact bytes, nothing that breaks a line, and the same to two other readers."""

from __future__ import annotations

from itertools import pairwise

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError
from protocols.http.http1 import (
    Http1Limits,
    RequestReader,
    ResponseReader,
    chunk,
    last_chunk,
    request_head,
    response_head,
)
from protocols.http.messages import Data, Headers, MessageEnded, RequestHead, ResponseHead


def request(method: str = "GET", headers: Headers = (), **more: object) -> RequestHead:
    return RequestHead(method, "/x", "https", "client.example", headers, **more)  # type: ignore[arg-type]


REQUESTS = [
    (request(), b"GET /y?z HTTP/1.1\r\nhost: t.example\r\n\r\n"),
    (
        request(headers=(("a", "b"), ("a", ""))),
        b"GET /y?z HTTP/1.1\r\nhost: t.example\r\na: b\r\na: \r\n\r\n",
    ),
    (request("POST"), b"POST /y?z HTTP/1.1\r\nhost: t.example\r\ncontent-length: 0\r\n\r\n"),
    (request("DELETE"), b"DELETE /y?z HTTP/1.1\r\nhost: t.example\r\n\r\n"),
    (request(body_bytes=3), b"GET /y?z HTTP/1.1\r\nhost: t.example\r\ncontent-length: 3\r\n\r\n"),
    (
        request("PUT", body_bytes=None, expects_continue=True),
        b"PUT /y?z HTTP/1.1\r\nhost: t.example\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n",
    ),
    (
        request(headers=(("te", "trailers"),), upgrade="websocket"),
        b"GET /y?z HTTP/1.1\r\nhost: t.example\r\nte: trailers\r\nupgrade: websocket\r\n"
        b"connection: te, upgrade\r\n\r\n",
    ),
    (request(keep_alive=False, version="1.0"), b"GET /y?z HTTP/1.1\r\nhost: t.example\r\n\r\n"),
]


@pytest.mark.parametrize(("head", "expected"), REQUESTS)
def test_a_request_head(head: RequestHead, expected: bytes) -> None:
    assert request_head(head, "/y?z", "t.example") == expected


RESPONSES = [
    (ResponseHead(200, (("a", "b"),), 3), "1.1", b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 3\r\n\r\n"),
    (ResponseHead(200, ()), "1.1", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    (ResponseHead(200, (), None), "1.1", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
    (ResponseHead(200, (), None), "1.0", b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"),
    (
        ResponseHead(200, (), 1),
        "1.0",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n",
    ),
    (
        ResponseHead(200, (), 1, False),
        "1.1",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\n",
    ),
    (ResponseHead(204, (), 5), "1.1", b"HTTP/1.1 204 No Content\r\n\r\n"),
    (ResponseHead(304, (), None), "1.1", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    (ResponseHead(304, (), 0), "1.1", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    (ResponseHead(304, (), 9), "1.1", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
    (ResponseHead(100, ()), "1.1", b"HTTP/1.1 100 Continue\r\n\r\n"),
    (
        ResponseHead(101, (), upgrade="websocket"),
        "1.1",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ),
    (ResponseHead(299, ()), "1.1", b"HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n"),
]


@pytest.mark.parametrize(("head", "version", "expected"), RESPONSES)
def test_a_response_head(head: ResponseHead, version: str, expected: bytes) -> None:
    assert response_head(head, version=version) == expected


def test_chunks() -> None:
    assert chunk(b"hello") == b"5\r\nhello\r\n"
    assert chunk(b"x" * 16) == b"10\r\n" + b"x" * 16 + b"\r\n"
    assert chunk(b"") == b""
    assert last_chunk() == b"0\r\n\r\n"
    assert last_chunk((("grpc-status", "0"), ("b", ""))) == b"0\r\ngrpc-status: 0\r\nb: \r\n\r\n"


BREAKING = ["a\r\nb", "a\rb", "a\nb", "a\x00", "\x1b", "a\x7f", "\r\n", "\u0100", "a\r\n\r\nGET /"]


@pytest.mark.parametrize("text", BREAKING)
def test_nobody_breaks_a_line_by_a_value(text: str) -> None:
    for headers in ((("a", text),), ((f"a{text}", "b"),)):
        with pytest.raises(LocalProtocolError):
            request_head(request(headers=headers), "/", "t.example")
        with pytest.raises(LocalProtocolError):
            response_head(ResponseHead(200, headers))
        with pytest.raises(LocalProtocolError):
            last_chunk(headers)


@pytest.mark.parametrize("text", [*BREAKING, "", "a b", " ", "a\tb"])
def test_nobody_breaks_the_request_line(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        request_head(request(), text, "t.example")
    with pytest.raises(LocalProtocolError):
        request_head(request(), "/", text)
    with pytest.raises(LocalProtocolError):
        request_head(request(text), "/", "t.example")


# Written by us, read by us, by h11 and by llhttp: all see one message.

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-"
_NAMES = st.text(_LETTERS, min_size=1, max_size=12).map(lambda text: "x-" + text)
_VISIBLE = st.characters(
    min_codepoint=0x21, max_codepoint=0xFF, blacklist_characters="\x7f", blacklist_categories=()
)
_VALUES = (
    st.text(st.one_of(_VISIBLE, st.sampled_from(" \t")), max_size=30)
    .map(lambda text: text.strip(" \t"))
    .filter(lambda text: not any("\x7f" <= each <= "\x9f" for each in text))
)
_HEADERS = st.lists(st.tuples(_NAMES, _VALUES), max_size=8).map(tuple)
_TARGETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40).map(
    lambda text: "/" + text
)
_METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH"])
_PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
_CUTS = st.lists(st.integers(0, 400), max_size=6)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    marks = [0, *sorted({mark for mark in at if 0 < mark < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(marks)]


class Llhttp:
    """What llhttp tells of messages."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.ended = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


@settings(max_examples=150, deadline=None)
@given(_METHODS, _TARGETS, _HEADERS, _PIECES, st.booleans(), _HEADERS, _CUTS)
def test_a_request_is_one_message_to_everybody(
    method: str,
    target: str,
    headers: Headers,
    pieces: list[bytes],
    is_sized: bool,
    trailers: Headers,
    cuts: list[int],
) -> None:
    body = b"".join(pieces)
    head = request(method, headers, body_bytes=len(body) if is_sized else None)
    written = request_head(head, target, "t.example")
    written += body if is_sized else b"".join(map(chunk, pieces)) + last_chunk(trailers)
    expected_trailers = () if is_sized else trailers

    reader = RequestReader(Http1Limits(), "https")
    own: list[object] = []
    for piece in cut(written, cuts):
        reader.feed(piece)
        while (event := reader.next_event()) is not None:
            own.append(event)
    seen = own[0]
    assert isinstance(seen, RequestHead)
    assert (seen.method, seen.target, seen.authority, seen.headers) == (method, target, "t.example", headers)
    assert seen.body_bytes == head.body_bytes
    assert b"".join(event.data for event in own if isinstance(event, Data)) == body
    assert own[-1] == MessageEnded(expected_trailers)
    assert reader.buffered == 0

    other = h11.Connection(h11.SERVER)
    other.receive_data(written)
    parts = []
    while not isinstance(event := other.next_event(), h11.EndOfMessage):
        parts.append(event)
    assert (parts[0].method.decode(), parts[0].target.decode()) == (method, target)
    end_to_end = [
        pair for pair in parts[0].headers if pair[0] not in (b"host", b"content-length", b"transfer-encoding")
    ]
    assert [(name.decode(), value.decode("latin-1")) for name, value in end_to_end] == list(headers)
    assert b"".join(bytes(part.data) for part in parts[1:]) == body
    assert [(name.decode(), value.decode("latin-1")) for name, value in event.headers] == list(
        expected_trailers
    )
    assert other.trailing_data == (b"", False)

    third = Llhttp()
    llhttp = httptools.HttpRequestParser(third)
    llhttp.feed_data(written)
    assert (llhttp.get_method().decode(), third.target.decode(), third.body, third.ended) == (
        method,
        target,
        body,
        1,
    )
    assert [pair for pair in third.headers if pair[0].startswith("x-")] == [*headers, *expected_trailers]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([200, 201, 404, 500]), _HEADERS, _PIECES, st.booleans(), _HEADERS, _CUTS)
def test_a_response_is_one_message_to_everybody(
    status: int, headers: Headers, pieces: list[bytes], is_sized: bool, trailers: Headers, cuts: list[int]
) -> None:
    body = b"".join(pieces)
    head = ResponseHead(status, headers, len(body) if is_sized else None)
    written = response_head(head)
    written += body if is_sized else b"".join(map(chunk, pieces)) + last_chunk(trailers)

    reader = ResponseReader(Http1Limits())
    reader.expect("GET")
    own: list[object] = []
    for piece in cut(written, cuts):
        reader.feed(piece)
        while (event := reader.next_event()) is not None:
            own.append(event)
    assert own[0] == head
    assert b"".join(event.data for event in own if isinstance(event, Data)) == body
    assert own[-1] == MessageEnded(() if is_sized else trailers)

    other = h11.Connection(h11.CLIENT)
    other.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    other.send(h11.EndOfMessage())
    other.receive_data(written)
    parts = []
    while not isinstance(event := other.next_event(), h11.EndOfMessage):
        parts.append(event)
    assert parts[0].status_code == status
    assert b"".join(bytes(part.data) for part in parts[1:]) == body
    assert other.trailing_data == (b"", False)

    third = Llhttp()
    llhttp = httptools.HttpResponseParser(third)
    llhttp.feed_data(written)
    assert (llhttp.get_status_code(), third.body, third.ended) == (status, body, 1)
