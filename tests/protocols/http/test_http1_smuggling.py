"""Requests that are two to somebody: classic payloads, and mutated messages against two other readers.

The property: whatever is let through is written anew, and what is written anew is one message to h11 and to llhttp too,
with the method, target, fields and body that were judged.
"""

from __future__ import annotations

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.http.http1 import Http1Limits, RequestReader, chunk, last_chunk, request_head
from protocols.http.messages import Data, MessageEnded, RequestHead
from protocols.http.targets import destination

H = b"Host: a.example\r\n"
POST = b"POST / HTTP/1.1\r\n" + H
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ADMIN = b"GET /admin HTTP/1.1\r\nHost: a.example\r\n\r\n"


def requests_in(data: bytes) -> list[tuple[str, str, bytes]]:
    """Method, target and body of each request that the reader sees, until it refuses or wants more."""
    reader = RequestReader(Http1Limits(), "https")
    reader.feed(data)
    found: list[tuple[str, str, bytes]] = []
    head, body = None, b""
    while True:
        try:
            event = reader.next_event()
        except ProtocolError:
            return found
        match event:
            case None if not reader.has_ended:
                return found
            case None:
                reader.start_next()
            case RequestHead():
                head, body = event, b""
            case Data():
                body += event.data
            case MessageEnded():
                assert head is not None
                found.append((head.method, head.target, body))


# What a front that believes one length and a back that believes another are fed with (PortSwigger's classes, those
# of llhttp CVE-2022-32213, 32214, 32215, 35256, CVE-2023-30589; aiohttp CVE-2023-37276, 47627, 49081, 2024-23829; Go
# CVE-2023-39326; h11 CVE-2025-43859; undici and Apache CVE-2023-25690). None of them gives a request for /admin.
SMUGGLING = {
    "CL.TE": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ADMIN,
    "TE.CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2b\r\n" + ADMIN,
    "CL.CL": POST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + ADMIN,
    "a list of equal lengths": POST + b"Content-Length: 0, 0\r\n\r\n" + ADMIN,
    "a length with a sign": POST + b"Content-Length: +0\r\n\r\n" + ADMIN,
    "a length with an underscore in it": POST + b"Content-Length: 0_0\r\n\r\n" + ADMIN,
    "TE.TE, two fields": POST + b"Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n0\r\n\r\n" + ADMIN,
    "TE.TE, a list": POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n" + ADMIN,
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + ADMIN,
    "a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + ADMIN,
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + ADMIN,
    "a field behind CR": POST + b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ADMIN,
    "a field behind LF": POST + b"X: y\nContent-Length: 0\r\n\r\n" + ADMIN,
    "an empty line of bare LF": POST + b"\nContent-Length: 44\r\n\r\n" + ADMIN,
    "an empty line of bare CR": POST + b"\rContent-Length: 0\r\n\r\n" + ADMIN,
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ADMIN,
    "a chunk line that ends in LF": CHUNKED + b"0\n\n" + ADMIN,
    "two bytes in the place of CRLF behind a chunk": CHUNKED + b"1\r\nXYY0\r\n\r\n" + ADMIN,
    "LF in a chunk extension": CHUNKED + b"0;\n\r\n\r\n" + ADMIN,
    "CR in a chunk extension": CHUNKED + b"0;a\rb\r\n\r\n" + ADMIN,
    "a chunk size in 0x": CHUNKED + b"0x0\r\n\r\n" + ADMIN,
    "a chunk size that wraps": CHUNKED + b"10000000000000000\r\n\r\n" + ADMIN,
    "a negative chunk": CHUNKED + b"-0\r\n\r\n" + ADMIN,
    "a trailer that is folded": CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n" + ADMIN,
    "a request line in a request line": b"GET / HTTP/1.1\r\nGET /admin HTTP/1.1\r\n" + H + b"\r\n" + ADMIN,
    "a target with a request in it": b"GET / HTTP/1.1 /admin HTTP/1.1\r\n" + H + b"\r\n" + ADMIN,
    "a target with CR": b"GET /\rGET /admin HTTP/1.1\r\n" + H + b"\r\n" + ADMIN,
    "Connection takes the length away": POST + b"Connection: Content-Length\r\nContent-Length: 44\r\n\r\n" + ADMIN,
    "a length as a variable": POST + b"Content_Length: 44\r\n\r\n" + ADMIN,
    "Expect of two": POST + b"Expect: 100-continue, x\r\nContent-Length: 0\r\n\r\n" + ADMIN,
    "HTTP/0.9": b"GET /\r\n\r\n" + ADMIN,
    "no Host": b"GET / HTTP/1.1\r\n\r\n" + ADMIN,
    "NUL in a name": POST + b"Content-Length\x00: 0\r\n\r\n" + ADMIN,
}  # fmt: skip


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_a_request_is_never_hidden_in_another(data: bytes) -> None:
    assert requests_in(data) == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # A request in a body is a body
        (
            b"POST / HTTP/1.1\r\n" + H + b"Content-Length: %d\r\n\r\n" % len(ADMIN) + ADMIN + ADMIN,
            [("POST", "/", ADMIN), ("GET", "/admin", b"")],
        ),
        (
            b"GET / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(ADMIN) + b"0\r\n\r\n",
            [("GET", "/", ADMIN)],
        ),
        # One behind another is judged by itself (CL.0, H2.CL: a body that nobody announced)
        (b"POST / HTTP/1.1\r\n" + H + b"\r\n" + ADMIN, [("POST", "/", b""), ("GET", "/admin", b"")]),
        (
            b"GET / HTTP/1.1\r\n" + H + b"Content-Length: 0\r\n\r\n" + ADMIN,
            [("GET", "/", b""), ("GET", "/admin", b"")],
        ),
    ],
)
def test_what_is_two_requests_is_read_as_two(data: bytes, expected: list[tuple[str, str, bytes]]) -> None:
    assert requests_in(data) == expected


SEEDS = [
    b"GET /a?b HTTP/1.1\r\nHost: a.example\r\nX-A: b\r\nConnection: close, x-b\r\nX-B: c\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-T: y\r\n\r\n",
    b"PUT /x HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 3\r\nTE: trailers\r\nExpect: 100-continue\r\n\r\nabc",
    b"GET http://a.example/ HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n",
]
_BITS = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\0", b"\x0b", b"\x0c", b"\x85", b"\xa0", b":", b";", b",", b"0",
     b"1", b"5", b"a", b"-", b"+", b"_", b"chunked", b"Content-Length: 0\r\n", b"Content-Length: 5\r\n",
     b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n", b"Host: b\r\n", b"X: ", b"Connection: "]
)  # fmt: skip
_EDITS = st.lists(
    st.tuples(st.integers(0, 160), st.integers(0, 4), st.one_of(st.just(b""), _BITS)), min_size=1, max_size=3
)


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, gone, new in edits:
        data = data[:at] + new + data[at + gone :]
    return data


def first_of(pieces: list[bytes]) -> tuple[RequestHead, bytes, MessageEnded] | str | None:
    """The first request; "refused" (with which code depends on which of two faults comes first); None: not whole."""
    reader = RequestReader(Http1Limits(), "https")
    head, body = None, b""
    try:
        for piece in pieces:
            reader.feed(piece)
            while (event := reader.next_event()) is not None:
                match event:
                    case RequestHead():
                        head = event
                    case Data():
                        body += event.data
                    case MessageEnded():
                        assert head is not None
                        return head, body, event
    except RemoteProtocolError:
        return "refused"
    return None


class Llhttp:
    def __init__(self) -> None:
        self.body = b""
        self.target = b""
        self.headers: list[tuple[str, str]] = []
        self.ended = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1"), value.decode("latin-1").strip(" \t")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(SEEDS), _EDITS)
def test_what_is_let_through_is_one_message_to_everybody(
    seed: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    data = edited(seed, edits)
    found = first_of([data])
    bytewise = first_of([data[at : at + 1] for at in range(len(data))])
    assert bytewise == found
    if found is None or isinstance(found, str):
        return
    head, body, ended = found
    try:
        place = destination(head)
    except ProtocolError:
        return
    target = place.path + ("?" + place.query if place.query else "")
    written = request_head(head, target, place.host or "none")
    if head.body_bytes is None:
        written += chunk(body) + last_chunk(ended.trailers)
    else:
        assert len(body) == head.body_bytes
        written += body
    expected = {name: value for name, value in head.headers if name not in ("te",)}

    other = h11.Connection(h11.SERVER)
    other.receive_data(written)
    parts = []
    while not isinstance(event := other.next_event(), h11.EndOfMessage):
        parts.append(event)
    assert (parts[0].method.decode(), parts[0].target.decode()) == (head.method, target)
    seen = [(name.decode(), value.decode("latin-1")) for name, value in parts[0].headers]
    assert {name: value for name, value in seen if name in expected} == expected
    framing = {"content-length", "transfer-encoding"} & {name for name, _ in seen}
    assert len(framing) == (1 if body or head.body_bytes is None or head.method in ("POST", "PUT") else 0)
    assert b"".join(bytes(part.data) for part in parts[1:]) == body
    assert other.trailing_data[0] == b""

    third = Llhttp()
    llhttp = httptools.HttpRequestParser(third)
    try:
        llhttp.feed_data(written)
    except httptools.HttpParserInvalidMethodError:  # it knows a list of methods only
        return
    except httptools.HttpParserUpgrade:
        return
    assert (llhttp.get_method().decode(), third.target.decode(), third.body) == (
        head.method,
        target,
        body,
    )
    assert third.ended == 1
