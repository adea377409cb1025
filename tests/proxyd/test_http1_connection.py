"""HTTP/1.1 connections of the gateway against a peer that the test plays byte by byte."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from protocols.errors import LocalProtocolError, ProtocolError
from protocols.http.http1 import Http1Limits, RequestReader, ResponseReader
from protocols.http.messages import Data, MessageEnded, RequestHead, ResponseHead
from proxyd.http1_connection import Http1Client, Http1Target
from proxyd.http_streams import PeerGone
from tests.proxyd.http_links import PlayedLink

GET = RequestHead("GET", "/", "http", "target", ())
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def a_target() -> tuple[Http1Target, PlayedLink]:
    link = PlayedLink()
    return Http1Target(link, ResponseReader(Http1Limits())), link


def a_client() -> tuple[Http1Client, PlayedLink]:
    link = PlayedLink()
    return Http1Client(link, RequestReader(Http1Limits(), "https")), link


async def ask(target: Http1Target, head: RequestHead = GET) -> None:
    target.put_head(head)
    target.put_end()
    await target.flush()


async def answered(target: Http1Target) -> tuple[int, bytes]:
    head = await target.receive()
    while isinstance(head, ResponseHead) and head.status < 200:
        head = await target.receive()
    assert isinstance(head, ResponseHead)
    body = b""
    while not isinstance(event := await target.receive(), MessageEnded):
        assert isinstance(event, Data)
        body += event.data
    return head.status, body


# The target's side: when may a connection serve another exchange?

AFTER = {
    # what the target says to a GET: may the connection be used again?
    "in order": (OK, True),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
    "interim first": (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, True),
    "it closes": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
    "more than it said": (OK + b"!", False),
    "another answer": (OK + OK, False),
    "a 204 with a body": (b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", False),
}


@pytest.mark.parametrize("name", AFTER)
async def test_what_may_be_used_again(name: str) -> None:
    data, expected = AFTER[name]
    target, link = a_target()
    await ask(target)
    link.say(data)
    assert (await answered(target))[0] in (200, 204)
    assert target.is_ready is expected


async def test_an_answer_to_a_head_with_a_body_behind_it() -> None:
    target, link = a_target()
    await ask(target, RequestHead("HEAD", "/", "http", "target", ()))
    link.say(OK)
    assert await answered(target) == (200, b"")
    assert not target.is_ready


async def test_half_a_request_is_never_continued_by_another_one() -> None:
    """The target has answered whole before the end of the request could be sent: who asks next would finish it."""
    target, link = a_target()
    target.put_head(RequestHead("POST", "/", "http", "target", (), body_bytes=10))
    target.put_data(b"12345")
    await target.flush()
    link.is_full = True
    target.put_data(b"67890")
    target.put_end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(target.flush)
        await trio.testing.wait_all_tasks_blocked()
        link.say(OK)
        assert await answered(target) == (200, b"ok")
        nursery.cancel_scope.cancel()
    assert not target.is_ready


async def test_an_early_answer() -> None:
    target, link = a_target()
    target.put_head(RequestHead("POST", "/", "http", "target", (), body_bytes=None))
    target.put_data(b"12345")
    await target.flush()
    link.say(OK)
    assert await answered(target) == (200, b"ok")
    assert not target.is_ready
    target.put_end()
    await target.flush()
    assert not target.is_ready  # nobody knows what it reads now


GONE = {
    # what comes before the end, on a connection that was used before: may the request be sent again?
    "nothing": (b"", True),
    "half a head": (b"HTTP/1.1 200 OK\r\nCont", True),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", False),
}


@pytest.mark.parametrize("name", GONE)
async def test_targets_that_go(name: str) -> None:
    data, is_untouched = GONE[name]
    target, link = a_target()
    await ask(target)
    link.say(OK)
    await answered(target)
    await ask(target)
    if data:
        link.say(data)
    link.hang_up()
    with pytest.raises(PeerGone) as gone:
        await answered(target)
    assert gone.value.is_untouched is is_untouched
    assert not target.is_ready


async def test_a_first_request_is_not_sent_again() -> None:
    target, link = a_target()
    await ask(target)
    link.hang_up()
    with pytest.raises(PeerGone) as gone:
        await answered(target)
    assert not gone.value.is_untouched


@pytest.mark.parametrize(
    "head",
    [
        RequestHead("GET", "/a b", "http", "target", ()),
        RequestHead("GET", "/\r\nX: y", "http", "target", ()),
        RequestHead("GET", "/", "http", "tar get", ()),
        RequestHead("GET", "/", "http", "target", (("x", "a\r\nb: c"),)),
        RequestHead("GET", "/", "http", "target", (("x", "\u20ac"),)),
    ],
)
async def test_heads_that_cannot_be_sent(head: RequestHead) -> None:
    target, link = a_target()
    with pytest.raises(PeerGone):
        target.put_head(head)
    assert link.take() == b""
    assert not target.is_ready


async def test_trailers_that_cannot_be_sent() -> None:
    target, _ = a_target()
    target.put_head(RequestHead("POST", "/", "http", "target", (), body_bytes=None))
    with pytest.raises(PeerGone):
        target.put_end((("x", "a\nb"),))
    client, link = a_client()
    client.head = GET
    client.put_head(ResponseHead(200, (), None))
    with pytest.raises(PeerGone):
        client.put_end((("x", "a\nb"),))
    assert client.closes
    assert link.take() == b""


# The client's side


async def test_requests_one_after_the_other_in_one_reading() -> None:
    client, link = a_client()
    link.say(
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"
        b"GET /b HTTP/1.1\r\nHost: h\r\n\r\nGET /c HTTP/1.0\r\nHost: h\r\n\r\n"
    )
    await client.more()
    seen = []
    for body in (b"ab", b"", b""):
        head = client.announced()
        assert head is not None
        if body:
            assert await client.receive() == Data(body)
            assert isinstance(await client.receive(), MessageEnded)
        assert client.is_received
        client.put_head(ResponseHead(200, (), 2))
        client.put_data(b"ok")
        client.put_end()
        await client.flush()
        seen.append((head.target, client.closes))
        if not client.closes:
            client.start_next()
    assert seen == [("/a", False), ("/b", False), ("/c", True)]
    assert link.take().count(b"\r\n\r\nok") == 3


async def test_the_next_request_is_not_looked_at_before_this_one_is_read() -> None:
    client, link = a_client()
    link.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na")
    await client.more()
    assert client.announced() is not None
    with pytest.raises(LocalProtocolError):
        client.announced()


ANSWERS = {
    # request, the answer's head, what is sent, does the connection close?
    "of known length": (b"GET / HTTP/1.1", ResponseHead(200, (), 2), b"content-length: 2\r\n\r\nok", False),
    "of unknown length": (
        b"GET / HTTP/1.1",
        ResponseHead(200, (), None),
        b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        False,
    ),
    "to HTTP/1.0": (b"GET / HTTP/1.0", ResponseHead(200, (), None), b"connection: close\r\n\r\nok", True),
    "to HEAD": (b"HEAD / HTTP/1.1", ResponseHead(200, (), 2), b"content-length: 2\r\n\r\n", False),
    "204": (b"GET / HTTP/1.1", ResponseHead(204, (), 0), b"HTTP/1.1 204 No Content\r\n\r\n", False),
    "304": (b"GET / HTTP/1.1", ResponseHead(304, (), 2), b"content-length: 2\r\n\r\n", False),
    "the last": (
        b"GET / HTTP/1.1",
        ResponseHead(200, (), 2, keep_alive=False),
        b"content-length: 2\r\nconnection: close\r\n\r\nok",
        True,
    ),
    "to who closes": (
        b"GET / HTTP/1.1\r\nConnection: close",
        ResponseHead(200, (), 2),
        b"content-length: 2\r\nconnection: close\r\n\r\nok",
        True,
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers(name: str) -> None:
    request, head, expected, closes = ANSWERS[name]
    client, link = a_client()
    link.say(request + b"\r\nHost: h\r\n\r\n")
    await client.more()
    assert client.announced() is not None
    client.put_head(head)
    client.put_data(b"ok")
    client.put_end()
    await client.flush()
    sent = link.take()
    assert sent.endswith(expected), sent
    assert client.closes is closes


async def test_a_broken_body_is_told_apart_from_a_client_that_went() -> None:
    for data, is_fault in ((b"XX\r\n", True), (b"", False)):
        client, link = a_client()
        link.say(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
        await client.more()
        assert client.announced() is not None
        link.hang_up()
        with pytest.raises(PeerGone) as gone:
            await client.receive()
        assert isinstance(gone.value.fault, ProtocolError) is is_fault
        assert client.closes


async def test_a_head_that_cannot_be_sent_closes() -> None:
    client, link = a_client()
    client.head = GET
    with pytest.raises(PeerGone):
        client.put_head(ResponseHead(200, (("x", "a\r\nset-cookie: b"),), 0))
    assert client.closes
    assert link.take() == b""
