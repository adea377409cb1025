"""Heads that a reader knows already: the very same object, and still each message framed by itself."""

from __future__ import annotations

from protocols.http.http1 import Http1Limits, RequestReader, ResponseReader
from protocols.http.messages import END, Data, RequestHead, ResponseHead

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\n\r\n"


def events(reader: ResponseReader, method: str, raw: bytes) -> list[object]:
    reader.expect(method)
    reader.feed(raw)
    found: list[object] = []
    while (event := reader.next_event()) is not None:
        found.append(event)
    return found


def test_the_same_bytes_give_the_same_head() -> None:
    known: dict[bytes, ResponseHead] = {}
    one, other = ResponseReader(Http1Limits(), known), ResponseReader(Http1Limits(), known)
    first = events(one, "GET", HEAD + b"abc")
    again = events(other, "GET", HEAD + b"xyz")
    assert first[1:] == [Data(b"abc"), END]
    assert again[1:] == [Data(b"xyz"), END]
    assert again[0] is first[0]


def test_the_answer_to_head_has_no_body_though_its_head_is_known() -> None:
    reader = ResponseReader(Http1Limits())
    assert events(reader, "GET", HEAD + b"abc")[1:] == [Data(b"abc"), END]
    assert events(reader, "HEAD", HEAD)[1:] == [END]
    assert events(reader, "GET", HEAD + b"abc")[1:] == [Data(b"abc"), END]


def test_a_known_head_in_pieces() -> None:
    reader = ResponseReader(Http1Limits())
    events(reader, "GET", HEAD + b"abc")
    reader.expect("GET")
    found: list[object] = []
    for byte in HEAD + b"abc":
        reader.feed(bytes([byte]))
        while (event := reader.next_event()) is not None:
            found.append(event)
    assert isinstance(found[0], ResponseHead)
    assert found[1:] == [Data(b"a"), Data(b"b"), Data(b"c"), END]


def test_another_length_is_another_head() -> None:
    reader = ResponseReader(Http1Limits())
    events(reader, "GET", HEAD + b"abc")
    assert events(reader, "GET", HEAD.replace(b"3", b"4") + b"abcd")[1:] == [Data(b"abcd"), END]


def test_no_head_of_chunks_or_without_a_length_is_kept() -> None:
    known: dict[bytes, ResponseHead] = {}
    reader = ResponseReader(Http1Limits(), known)
    events(reader, "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
    events(reader, "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")
    assert known == {}


def test_requests_are_known_only_where_no_body_follows() -> None:
    reader = RequestReader(Http1Limits(), "https")
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    heads = []
    for _ in range(2):
        reader.feed(raw)
        heads.append(reader.next_event())
        assert reader.next_event() == END
        reader.start_next()
    assert heads[0] is heads[1]
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"
    for data in (b"x", b"y"):
        reader.feed(post + data)
        assert isinstance(reader.next_event(), RequestHead)
        assert reader.next_event() == Data(data)
        assert reader.next_event() == END
        reader.start_next()
