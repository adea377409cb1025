"""The HTTP/2 codec, both ends: frames by hand, whole, byte by byte, cut off and changed."""

from __future__ import annotations

import random

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from protocols.errors import LimitExceeded, LocalProtocolError, ProtocolError
from protocols.http.http2 import (
    FREE_RESETS,
    MAX_IDLE_FRAMES,
    MAX_INTERIM,
    Http2,
    Http2Limits,
)
from protocols.http.http2_events import (
    ConnectionEnding,
    Received,
    StreamEvent,
    StreamReset,
    WindowOpened,
)
from protocols.http.messages import MessageEnded, RequestHead, ResponseHead

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = list[tuple[bytes, bytes]]
Found = list[tuple[int, StreamEvent]]

HEAD: Fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/x?y=z")]
POST: Fields = [(b":method", b"POST"), *HEAD[1:]]
OK: Fields = [(b":status", b"200")]


def server(limits: Http2Limits | None = None) -> Http2:
    codec = Http2(limits or Http2Limits(), is_server=True)
    codec.begin()
    codec.take()
    codec.receive(PREFACE + SettingsFrame(0).serialize())
    codec.take()
    return codec


def client(*heads: RequestHead) -> Http2:
    """With a request out for each of `heads` (one for GET / when there is none)."""
    codec = Http2(Http2Limits(), is_server=False)
    codec.begin()
    for head in heads or (RequestHead("GET", "/", "https", "a", (), "2"),):
        codec.send_request(codec.next_stream(), head, ends=True)
    codec.take()
    codec.receive(SettingsFrame(0).serialize())
    codec.take()
    return codec


def head(fields: Fields, stream: int = 1, *flags: str, encoder: Encoder | None = None) -> bytes:
    block = (encoder or Encoder()).encode(fields, huffman=False)
    return frames(HeadersFrame(stream, block, flags=["END_HEADERS", *flags]))


def frames(*many: Frame) -> bytes:
    return b"".join(frame.serialize() for frame in many)


def request(method: str = "GET", body_bytes: int | None = 0, *headers: tuple[str, str]) -> RequestHead:
    return RequestHead(method, "/x?y=z", "https", "a", headers, "2", body_bytes)


END = MessageEnded()

SOUND_REQUESTS: dict[str, tuple[bytes, Found]] = {
    "a GET": (head(HEAD, 1, "END_STREAM"), [(1, request()), (1, END)]),
    "fields": (
        head([*HEAD, (b"x-a", b"b"), (b"x-a", b"\xe9")], 1, "END_STREAM"),
        [(1, request("GET", 0, ("x-a", "b"), ("x-a", "é"))), (1, END)],
    ),
    "cookies in pieces": (
        head([*HEAD, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")], 1, "END_STREAM"),
        [(1, request("GET", 0, ("x", "y"), ("cookie", "a=1; b=2"))), (1, END)],
    ),
    "a body of known length": (
        head([*POST, (b"content-length", b"4")])
        + frames(DataFrame(1, b"ab"), DataFrame(1, b"cd", flags=["END_STREAM"])),
        [(1, request("POST", 4)), (1, Received(b"ab", 2)), (1, Received(b"cd", 2)), (1, END)],
    ),
    "a body with padding": (
        head(POST) + frames(DataFrame(1, b"ab", pad_length=5, flags=["END_STREAM", "PADDED"])),
        [(1, request("POST", None)), (1, Received(b"ab", 8)), (1, END)],
    ),
    "trailers": (
        head(POST) + frames(DataFrame(1, b"ab")) + head([(b"x-sum", b"1")], 1, "END_STREAM"),
        [(1, request("POST", None)), (1, Received(b"ab", 2)), (1, MessageEnded((("x-sum", "1"),)))],
    ),
    "a head in pieces": (
        frames(
            HeadersFrame(1, Encoder().encode(HEAD, huffman=False)[:7], flags=["END_STREAM"]),
            ContinuationFrame(1, Encoder().encode(HEAD, huffman=False)[7:], flags=["END_HEADERS"]),
        ),
        [(1, request()), (1, END)],
    ),
    "100-continue": (
        head([*POST, (b"expect", b"100-Continue"), (b"content-length", b"1")]),
        [(1, RequestHead("POST", "/x?y=z", "https", "a", (), "2", 1, True))],
    ),
    "the same host twice": (head([*HEAD, (b"host", b"a")], 1, "END_STREAM"), [(1, request()), (1, END)]),
    "a field with an odd name is left out": (
        head([*HEAD, (b"x_odd", b"1"), (b"y", b"2")], 1, "END_STREAM"),
        [(1, request("GET", 0, ("y", "2"))), (1, END)],
    ),
    "two streams": (
        head(HEAD, 1, "END_STREAM") + head(HEAD, 3, "END_STREAM"),
        [(1, request()), (1, END), (3, request()), (3, END)],
    ),
    "a reset": (head(POST) + frames(RstStreamFrame(1, 8)), [(1, request("POST", None)), (1, StreamReset(8))]),
    "a window": (
        head(POST) + frames(WindowUpdateFrame(1, 10), WindowUpdateFrame(0, 10)),
        [(1, request("POST", None)), (1, WindowOpened()), (0, WindowOpened())],
    ),
    "what changes nothing": (
        frames(PingFrame(0, b"12345678"), PriorityFrame(3), AltSvcFrame(0, b"a", b"b"))
        + head(HEAD, 1, "END_STREAM"),
        [(1, request()), (1, END)],
    ),
    "its end": (frames(GoAwayFrame(0, 5, 2)), [(0, ConnectionEnding(5, 2))]),
}


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("name", SOUND_REQUESTS)
def test_what_a_client_says(name: str, size: int) -> None:
    data, expected = SOUND_REQUESTS[name]
    codec, found = server(), []
    for at in range(0, len(data), size or len(data)):
        found += codec.receive(data[at : at + (size or len(data))])
    assert (found, codec.malformed) == (expected, [])


@pytest.mark.parametrize("name", SOUND_REQUESTS)
def test_what_is_cut_off_says_nothing_that_the_whole_did_not(name: str) -> None:
    data, expected = SOUND_REQUESTS[name]
    for size in range(0, len(data), 3):
        codec = server()
        found = codec.receive(data[:size])
        # h2 gives padding back with a frame that is there whole, so a prefix is a prefix.
        assert found == expected[: len(found)]


MALFORMED_REQUESTS: dict[str, Fields] = {
    "a method in lower case": [(b":method", b"get"), *HEAD[1:]],
    "an odd method": [(b":method", b"GE T"), *HEAD[1:]],
    "hosts that differ": [*HEAD, (b"host", b"b")],
    "two hosts": [*HEAD[:2], HEAD[3], (b"host", b"a"), (b"host", b"a")],
    "a line break": [*HEAD, (b"x", b"a\nb")],
    "a scheme of its own": [HEAD[0], (b":scheme", b"ftp"), *HEAD[2:]],
    "a NUL": [*HEAD, (b"x", b"a\0b")],
    "a line break in the path": [*HEAD[:3], (b":path", b"/a\r\nb")],
    "a length that is none": [*HEAD, (b"content-length", b"+1")],
    "a length without its body": [*HEAD, (b"content-length", b"1")],
    "an underscore for a dash": [*HEAD, (b"content_length", b"0")],
    "a dot for a dash": [*HEAD, (b"x.api.key", b"0")],
    "a proxy's field": [*HEAD, (b"proxy_authorization", b"0")],
    "too many": [*HEAD, *[(b"x%d" % n, b"y") for n in range(129)]],
}


@pytest.mark.parametrize("name", MALFORMED_REQUESTS)
def test_heads_that_may_be_read_in_two_ways_cost_their_stream_or_the_connection(name: str) -> None:
    codec = server()
    encoder = Encoder()
    try:
        found = codec.receive(head(MALFORMED_REQUESTS[name], 1, "END_STREAM", encoder=encoder))
    except ProtocolError:
        return
    assert not [event for _, event in found if isinstance(event, RequestHead)]
    assert [stream for stream, _ in codec.malformed] == [1]
    # Another stream is served as if nothing had been.
    assert codec.receive(head(HEAD, 3, "END_STREAM", encoder=encoder)) == [(3, request()), (3, END)]


BROKEN: dict[str, bytes] = {
    "connection": head([*HEAD, (b"connection", b"close")]),
    "transfer-encoding": head([*HEAD, (b"transfer-encoding", b"chunked")]),
    "te": head([*HEAD, (b"te", b"gzip")]),
    "upper case": head([*HEAD, (b"Upper", b"x")]),
    "no path": head(HEAD[:3]),
    "two paths": head([*HEAD, (b":path", b"/y")]),
    "an unknown pseudo field": head([*HEAD, (b":x", b"y")]),
    "a pseudo field behind others": head([*HEAD[:3], (b"x", b"y"), HEAD[3]]),
    "a status of a client": head([*HEAD, (b":status", b"200")]),
    "two lengths": head([*HEAD, (b"content-length", b"1"), (b"content-length", b"2")]),
    "more than its length": head([*POST, (b"content-length", b"1")]) + frames(DataFrame(1, b"ab")),
    "less than its length": head([*POST, (b"content-length", b"3")])
    + frames(DataFrame(1, b"ab", flags=["END_STREAM"])),
    "an even stream": head(HEAD, 2),
    "a stream below": head(HEAD, 5, "END_STREAM") + head(HEAD, 3, "END_STREAM"),
    "data on an idle stream": frames(DataFrame(1, b"x")),
    "a reset of an idle stream": frames(RstStreamFrame(7, 8)),
    "a naked continuation": frames(ContinuationFrame(1, b"")),
    "something within a head": frames(HeadersFrame(1, b"\x82"), PingFrame(0, b"12345678")),
    "packed badly": frames(HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"])),
    "a frame over the size": b"\x00\x40\x01\x00\x00\x00\x00\x00\x01" + bytes(16385),
    "a window of nothing": frames(WindowUpdateFrame(0, 1))[:-4] + bytes(4),
    "a window over the top": frames(WindowUpdateFrame(0, 2**31 - 1)),
    "settings of an odd length": b"\x00\x00\x05\x04\x00\x00\x00\x00\x00hello",
    "a ping of an odd length": b"\x00\x00\x04\x06\x00\x00\x00\x00\x00ping",
    "a push of a client": b"\x00\x00\x04\x05\x04\x00\x00\x00\x01\0\0\0\2",
    "it depends on itself": frames(PriorityFrame(1, 1)),
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_protocol_ends_the_connection(name: str, size: int) -> None:
    codec, data = server(), BROKEN[name]
    with pytest.raises(ProtocolError):
        for at in range(0, len(data), size or len(data)):
            codec.receive(data[at : at + (size or len(data))])
    codec.close(ErrorCodes.PROTOCOL_ERROR)
    assert b"\x07" in codec.take()  # a GOAWAY is among the last words


def test_data_behind_the_end_goes_nowhere() -> None:
    codec = server()
    found = codec.receive(head(HEAD, 1, "END_STREAM") + frames(DataFrame(1, b"x")))
    assert not [event for _, event in found if isinstance(event, Received)]


def test_a_server_wants_the_preface() -> None:
    codec = Http2(Http2Limits(), is_server=True)
    codec.begin()
    with pytest.raises(ProtocolError):
        codec.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


# Making work without asking for anything


@pytest.mark.parametrize(
    "frame",
    [
        PingFrame(0, b"12345678"),
        SettingsFrame(0, settings={4: 70000}),
        PriorityFrame(9),
        WindowUpdateFrame(0, 1),
        WindowUpdateFrame(1, 1),
        DataFrame(1, b""),
    ],
    ids=lambda frame: f"{type(frame).__name__}-{frame.stream_id}",
)
@pytest.mark.parametrize("is_server", [True, False])
def test_floods_without_content_end(frame: Frame, is_server: bool) -> None:
    codec = server() if is_server else client()
    codec.receive(head(POST if is_server else OK))
    for _ in range(MAX_IDLE_FRAMES - 10):
        codec.receive(frame.serialize())
        codec.take()
    with pytest.raises(LimitExceeded):
        for _ in range(20):
            codec.receive(frame.serialize())


def test_windows_for_a_long_download_are_no_flood() -> None:
    codec = server()
    codec.receive(head(HEAD, 1, "END_STREAM"))
    codec.send_response(1, ResponseHead(200, (), None), ends=False)
    for _ in range(3 * MAX_IDLE_FRAMES):
        codec.send_data(1, b"x" * 100)
        codec.receive(frames(WindowUpdateFrame(0, 100), WindowUpdateFrame(1, 100)))
        codec.take()


@pytest.mark.parametrize("how", ["reset", "overflow"])
def test_streams_that_are_given_up_at_once_are_counted(how: str) -> None:
    codec, encoder = server(), Encoder()
    end = (lambda n: RstStreamFrame(n, 8)) if how == "reset" else (lambda n: WindowUpdateFrame(n, 2**31 - 1))
    number = -1
    for _ in range(FREE_RESETS):
        number += 2
        codec.receive(head(HEAD, number, "END_STREAM", encoder=encoder) + frames(end(number)))
    with pytest.raises(LimitExceeded):
        codec.receive(head(HEAD, number + 2, "END_STREAM", encoder=encoder) + frames(end(number + 2)))


def test_who_lets_answers_come_may_reset_more() -> None:
    codec, encoder = server(), Encoder()
    for number in range(1, 4 * FREE_RESETS, 2):
        codec.finished()
        codec.receive(head(HEAD, number, "END_STREAM", encoder=encoder) + frames(RstStreamFrame(number, 8)))


def test_more_streams_than_agreed_are_refused() -> None:
    codec, encoder = server(Http2Limits(streams=3)), Encoder()
    codec.receive(SettingsFrame(0, flags=["ACK"]).serialize())
    with pytest.raises(ProtocolError):
        for number in range(1, 20, 2):
            codec.receive(head(HEAD, number, encoder=encoder))


def test_a_head_that_unpacks_to_more_than_agreed() -> None:
    codec = server(Http2Limits(head_bytes=16384))
    codec.receive(SettingsFrame(0, flags=["ACK"]).serialize())
    encoder = Encoder()
    bomb = encoder.encode([*HEAD, (b"a", b"x" * 3000)], huffman=False) + b"\xbe" * 3000
    with pytest.raises(LimitExceeded):
        codec.receive(frames(HeadersFrame(1, bomb, flags=["END_HEADERS", "END_STREAM"])))


# The other end


SOUND_RESPONSES: dict[str, tuple[bytes, Found]] = {
    "an answer": (
        head([*OK, (b"content-length", b"2"), (b"x", b"y")])
        + frames(DataFrame(1, b"ok", flags=["END_STREAM"])),
        [(1, ResponseHead(200, (("x", "y"),), 2)), (1, Received(b"ok", 2)), (1, END)],
    ),
    "its head alone": (head(OK, 1, "END_STREAM"), [(1, ResponseHead(200, (), 0)), (1, END)]),
    "a 304 with a length": (
        head([(b":status", b"304"), (b"content-length", b"0")], 1, "END_STREAM"),
        [(1, ResponseHead(304, (), 0)), (1, END)],
    ),
    "an interim answer": (
        head([(b":status", b"103"), (b"link", b"</a>")]) + head(OK, 1, "END_STREAM"),
        [(1, ResponseHead(103, (("link", "</a>"),), None)), (1, ResponseHead(200, (), 0)), (1, END)],
    ),
    "trailers": (
        head(OK) + head([(b"grpc-status", b"0")], 1, "END_STREAM"),
        [(1, ResponseHead(200, (), None)), (1, MessageEnded((("grpc-status", "0"),)))],
    ),
    "it goes on after a GOAWAY": (
        head(OK) + frames(GoAwayFrame(0, 1), DataFrame(1, b"on", flags=["END_STREAM"])),
        [
            (1, ResponseHead(200, (), None)),
            (0, ConnectionEnding(1, 0)),
            (1, Received(b"on", 2)),
            (1, END),
        ],
    ),
}


@pytest.mark.parametrize("size", [0, 1, 5])
@pytest.mark.parametrize("name", SOUND_RESPONSES)
def test_what_a_target_says(name: str, size: int) -> None:
    data, expected = SOUND_RESPONSES[name]
    codec, found = client(), []
    for at in range(0, len(data), size or len(data)):
        found += codec.receive(data[at : at + (size or len(data))])
    assert (found, codec.malformed) == (expected, [])


def test_the_answer_to_a_head_says_what_its_body_would_be() -> None:
    codec = client(RequestHead("HEAD", "/", "https", "a", (), "2"))
    found = codec.receive(head([*OK, (b"content-length", b"42")], 1, "END_STREAM"))
    assert found == [(1, ResponseHead(200, (), 42)), (1, END)]


@pytest.mark.parametrize(
    "fields",
    [
        [(b":status", b"000")],
        [(b":status", b"099")],
        [(b":status", b"999")],
        [(b":status", b"2OO")],
        [(b":status", b"101")],
        [*OK, (b"x", b"a\nb")],
        [*OK, *[(b"x%d" % n, b"y") for n in range(129)]],
    ],
)
def test_answers_that_are_none(fields: Fields) -> None:
    codec = client()
    try:
        found = codec.receive(head(fields))
    except ProtocolError:
        return
    assert (found, [stream for stream, _ in codec.malformed]) == ([], [1])


@pytest.mark.parametrize(
    ("more", "is_read"),
    [
        ([(b"x%d" % n, b"y" * 1000) for n in range(3)], True),
        ([(b"x%d" % n, b"y" * 1000) for n in range(5)], False),
        ([(b"x", b"y" * 5000)], False),
        ([(b"cookie", b"y" * 1000)] * 5, False),
    ],
)
def test_a_head_has_an_end(more: Fields, *, is_read: bool) -> None:
    codec, encoder = server(Http2Limits(head_bytes=4096)), Encoder()
    found = codec.receive(head([*HEAD, *more], 1, "END_STREAM", encoder=encoder))
    assert any(isinstance(event, RequestHead) for _, event in found) is is_read
    assert [stream for stream, _ in codec.malformed] == ([] if is_read else [1])
    # The next one is read with the same table.
    assert codec.receive(head(HEAD, 3, "END_STREAM", encoder=encoder)) == [(3, request()), (3, END)]


def test_a_target_has_an_end() -> None:
    codec = server(Http2Limits(target_bytes=100))
    codec.receive(head([*HEAD[:3], (b":path", b"/" + b"a" * 100)], 1, "END_STREAM"))
    assert [stream for stream, _ in codec.malformed] == [1]


def test_a_head_as_long_as_the_limit_allows() -> None:
    codec, encoder = server(Http2Limits(head_bytes=1 << 20)), Encoder()
    more = [(b"x%d" % n, b"y" * 14_000) for n in range(20)]
    block = encoder.encode([*HEAD, *more])
    pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    frames = [HeadersFrame(1, pieces[0], flags=["END_STREAM"])]
    frames += [ContinuationFrame(1, piece) for piece in pieces[1:]]
    frames[-1].flags.add("END_HEADERS")
    found = [event for frame in frames for event in codec.receive(frame.serialize())]
    assert isinstance(found[0][1], RequestHead)


def test_interim_answers_for_ever() -> None:
    codec, encoder = client(), Encoder()
    for _ in range(MAX_INTERIM):
        codec.receive(head([(b":status", b"103")], encoder=encoder))
    assert not codec.malformed
    codec.receive(head([(b":status", b"103")], encoder=encoder))
    assert [stream for stream, _ in codec.malformed] == [1]


@pytest.mark.parametrize(
    "name", ["authorization", "content-length", "host", "x-api-key", "transfer-encoding"]
)
def test_trailers_that_would_have_had_to_be_judged(name: str) -> None:
    codec, encoder = server(), Encoder()
    codec.receive(head(POST, encoder=encoder))
    try:
        found = codec.receive(head([(name.encode(), b"1")], 1, "END_STREAM", encoder=encoder))
    except ProtocolError:
        return
    assert (found, [stream for stream, _ in codec.malformed]) == ([], [1])


# Sending


@pytest.mark.parametrize(
    "headers",
    [(("x", "a\r\nb"),), (("x", "\u20ac"),), (("X y", "a"),), ((":path", "/"),), (("connection", "x"),)],
)
def test_nothing_odd_is_sent(headers: tuple[tuple[str, str], ...]) -> None:
    """Either it is refused here, or the peer refuses it; nothing gets by as something else."""
    ours, theirs = Http2(Http2Limits(), is_server=False), Http2(Http2Limits(), is_server=True)
    ours.begin()
    theirs.begin()
    try:
        ours.send_request(1, RequestHead("GET", "/", "https", "a", headers, "2"), ends=True)
        events = theirs.receive(ours.take())
    except ProtocolError:
        return
    heads = [event for _, event in events if isinstance(event, RequestHead)]
    assert not heads or heads == [RequestHead("GET", "/", "https", "a", (), "2")]


def test_what_is_unsent_outlives_a_goaway() -> None:
    """Heads are packed against those before them: one that is lost makes all that follow unreadable."""
    ours, theirs = Http2(Http2Limits(), is_server=False), server()
    ours.begin()
    first, second = request("GET", 0, ("x-first", "1")), request("GET", 0, ("x-first", "1"), ("x", "2"))
    theirs = Http2(Http2Limits(), is_server=True)
    theirs.begin()
    ours.send_request(1, first, ends=True)
    assert ours.unsent > 0
    ours.receive(frames(SettingsFrame(0), GoAwayFrame(0, 3)))
    ours.send_request(3, second, ends=True)
    found = theirs.receive(ours.take())
    assert [event for _, event in found if isinstance(event, RequestHead)] == [first, second]


def test_a_stream_that_is_gone_is_said_so() -> None:
    codec = server()
    for action in (
        lambda: codec.window(1),
        lambda: codec.send_data(1, b"x"),
        lambda: codec.send_response(1, ResponseHead(200, ()), ends=True),
        lambda: codec.send_trailers(1, (("x", "y"),)),
    ):
        with pytest.raises(LocalProtocolError):
            action()
    codec.reset(1)
    codec.acknowledge(1, 10)


# Whatever comes


def test_changed_bytes_raise_nothing_else() -> None:
    """A thousand mutations of sound connections, of both ends: events or ProtocolError, and never silence about it."""
    chance = random.Random(9113)  # noqa: S311  (the same mutations each time)
    samples = [(True, data) for data, _ in SOUND_REQUESTS.values()]
    samples += [(False, data) for data, _ in SOUND_RESPONSES.values()]
    refused = 0
    for _ in range(1000):
        is_server, data = chance.choice(samples)
        changed = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        codec = server() if is_server else client()
        try:
            codec.receive(bytes(changed))
        except ProtocolError:
            refused += 1
        codec.take()
    assert refused > 300
