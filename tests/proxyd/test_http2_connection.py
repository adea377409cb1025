"""HTTP/2 connections of the gateway against a peer that the test plays frame by frame."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
import trio
import trio.testing
from hyperframe.frame import GoAwayFrame

from protocols.http.http2 import Http2Limits
from protocols.http.messages import Data, MessageEnded, RequestHead, ResponseHead
from proxyd.http2_connection import MAX_UNSENT_BYTES, Http2Connection
from proxyd.http2_streams import Http2Request, Http2Stream
from proxyd.http_streams import PeerGone
from tests.proxyd.http_links import PlayedLink

GET = RequestHead("GET", "/", "https", "target", (), "2", 0)
POST = RequestHead("POST", "/", "https", "target", (), "2", None)


class Peer:
    """The other end, over h2."""

    def __init__(self, link: PlayedLink, *, is_client: bool) -> None:
        self.link = link
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=is_client))
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.link.say(data)

    def events(self) -> list[h2.events.Event]:
        events = self.h2.receive_data(self.link.take())
        self.flush()
        return events

    def ask(self, *, method: str = "GET", ends: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", "a"), (":path", "/")]
        self.h2.send_headers(stream, head, end_stream=ends)
        self.flush()
        return stream

    def answer(self, stream: int, body: bytes = b"", *, ends: bool = True) -> None:
        self.h2.send_headers(stream, [(":status", "200")], end_stream=ends and not body)
        if body:
            self.h2.send_data(stream, body, end_stream=ends)
        self.flush()


@asynccontextmanager
async def connected(
    *, is_server: bool, limits: Http2Limits | None = None
) -> AsyncIterator[tuple[Http2Connection, Peer, list[Http2Request]]]:
    link = PlayedLink()
    requests: list[Http2Request] = []
    connection = Http2Connection(
        link, limits or Http2Limits(), is_server=is_server, on_request=requests.append if is_server else None
    )
    await connection.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        peer = Peer(link, is_client=is_server)
        await trio.testing.wait_all_tasks_blocked()
        peer.events()
        await trio.testing.wait_all_tasks_blocked()
        yield connection, peer, requests
        nursery.cancel_scope.cancel()


async def whole_answer(stream: Http2Stream) -> tuple[int, bytes]:
    head = await stream.receive()
    assert isinstance(head, ResponseHead)
    body = b""
    while not isinstance(event := await stream.receive(), MessageEnded):
        assert isinstance(event, Data)
        body += event.data
    return head.status, body


async def send(stream: Http2Stream, head: RequestHead = GET) -> None:
    stream.put_head(head)
    if head.body_bytes == 0:
        stream.put_end()
    await stream.flush()


async def test_streams_opened_before_others_are_sent_keep_their_answers() -> None:
    """Two people on one connection to a target: who was lent a stream first may send last."""
    async with connected(is_server=False) as (connection, peer, _):
        first, second = connection.open(), connection.open()
        assert connection.streams == 2
        await send(second)
        await send(first)
        assert (second.number, first.number) == (1, 3)
        peer.events()
        peer.answer(1, b"for the second")
        peer.answer(3, b"for the first")
        assert await whole_answer(first) == (200, b"for the first")
        assert await whole_answer(second) == (200, b"for the second")
        first.release()
        first.release()
        second.release()
        connection.open().release()
        assert connection.streams == 0


async def test_an_exchange_that_is_given_up_leaves_no_half_frame() -> None:
    async with connected(is_server=False) as (connection, peer, _):
        peer.link.is_full = True
        stuck = connection.open()
        stuck.put_head(POST)
        stuck.put_data(b"x" * 5000)
        with trio.move_on_after(0) as scope:
            await stuck.flush()
        assert scope.cancelled_caught
        stuck.release()
        other = connection.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, other)
            await trio.testing.wait_all_tasks_blocked()
            peer.link.empty()
        events = (
            peer.events()
        )  # h2 raises for anything that is not a frame, or a head packed against a lost one
        assert [event.stream_id for event in events if isinstance(event, h2.events.RequestReceived)] == [1, 3]
        assert [event.stream_id for event in events if isinstance(event, h2.events.StreamReset)] == [1]
        peer.answer(3, b"ok")
        assert await whole_answer(other) == (200, b"ok")


async def test_what_is_under_way_goes_on_after_a_goaway() -> None:
    async with connected(is_server=False) as (connection, peer, _):
        heard, unheard, waiting = connection.open(), connection.open(), connection.open()
        await send(heard)
        await send(unheard)
        peer.events()
        peer.link.say(GoAwayFrame(0, last_stream_id=1).serialize())
        peer.answer(1, b"still")
        assert await whole_answer(heard) == (200, b"still")
        with pytest.raises(PeerGone) as gone:
            await unheard.receive()
        assert gone.value.is_unheard
        with pytest.raises(PeerGone) as gone:
            await send(waiting)
        assert gone.value.is_unheard
        assert not connection.has_room
        waiting.release()


async def test_a_client_that_goes_away_still_gets_its_answers() -> None:
    async with connected(is_server=True) as (_, peer, requests):
        peer.ask()
        peer.link.say(GoAwayFrame(0, last_stream_id=0).serialize())
        await trio.testing.wait_all_tasks_blocked()
        (request,) = requests
        assert not request.is_gone
        request.put_head(ResponseHead(200, (), 2))
        request.put_data(b"ok")
        request.put_end()
        await request.flush()
        assert any(isinstance(event, h2.events.StreamEnded) for event in peer.events())


async def test_a_window_that_opens_while_what_was_before_is_sent_is_seen() -> None:
    """The news must not be lost between looking at the window and waiting for it."""
    async with connected(is_server=True) as (_, peer, requests):
        peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
        peer.flush()
        stream = peer.ask()
        await trio.testing.wait_all_tasks_blocked()
        (request,) = requests
        peer.link.is_full = True
        async with trio.open_nursery() as nursery:
            request.put_head(ResponseHead(200, (), None))
            request.put_data(b"x" * 15)
            request.put_end()
            nursery.start_soon(request.flush)
            await trio.testing.wait_all_tasks_blocked()
            # Half of it is with the peer; it opens its window before our end has sent the rest.
            peer.h2.increment_flow_control_window(100, stream)
            peer.flush()
            await trio.testing.wait_all_tasks_blocked()
            peer.link.empty()
            await trio.testing.wait_all_tasks_blocked()
        body = b"".join(e.data or b"" for e in peer.events() if isinstance(e, h2.events.DataReceived))
        assert body == b"x" * 15


async def test_windows_open_again_also_for_what_was_polled() -> None:
    limits = Http2Limits(stream_window=65535, connection_window=65535)
    async with connected(is_server=True, limits=limits) as (_, peer, requests):
        stream = peer.ask(method="POST", ends=False)
        await trio.testing.wait_all_tasks_blocked()
        (request,) = requests
        received = 0

        async def read() -> None:
            nonlocal received
            while True:
                event = request.poll() or await request.receive()
                if isinstance(event, MessageEnded):
                    return
                received += len(event.data)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                left = 1_000_000
                while left:
                    size = min(left, peer.h2.local_flow_control_window(stream), 16384)
                    if size:
                        peer.h2.send_data(stream, b"x" * size)
                        left -= size
                        peer.flush()
                    else:
                        await trio.testing.wait_all_tasks_blocked()
                        peer.events()
                        assert peer.h2.local_flow_control_window(stream), "the window was never opened again"
                peer.h2.end_stream(stream)
                peer.flush()
        assert received == 1_000_000


async def test_many_tiny_pieces_are_put_together() -> None:
    async with connected(is_server=True) as (_, peer, requests):
        stream = peer.ask(method="POST", ends=False)
        for _ in range(3000):
            peer.h2.send_data(stream, b"x")
        peer.flush()
        await trio.testing.wait_all_tasks_blocked()
        (request,) = requests
        pieces = []
        while isinstance(event := request.poll(), Data):
            pieces.append(event.data)
        assert b"".join(pieces) == b"x" * 3000
        assert len(pieces) < 5


async def test_who_asks_without_listening_is_no_longer_read() -> None:
    async with connected(is_server=True) as (connection, peer, _):
        peer.link.is_full = True
        for number in range(600):
            peer.h2.ping(number.to_bytes(8, "big"))
            if number % 100 == 0:
                peer.ask()  # something with content in between: this is not about their number
            peer.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert connection.http2.unsent < 2 * MAX_UNSENT_BYTES


@pytest.mark.parametrize("is_answered", [True, False])
async def test_resets_say_whether_the_answer_counts(is_answered: bool) -> None:
    async with connected(is_server=True) as (_, peer, requests):
        peer.ask(method="POST", ends=False)
        await trio.testing.wait_all_tasks_blocked()
        (request,) = requests
        if is_answered:
            request.put_head(ResponseHead(403, (), 2))
            request.put_data(b"no")
            request.put_end()
            await request.flush()
        request.close()
        request.close()
        (reset,) = [event for event in peer.events() if isinstance(event, h2.events.StreamReset)]
        assert reset.error_code == (0 if is_answered else 8)


async def test_a_reset_is_told_at_once() -> None:
    async with connected(is_server=True) as (_, peer, requests):
        stream = peer.ask()
        await trio.testing.wait_all_tasks_blocked()
        lost: list[PeerGone] = []
        requests[0].on_lost = lost.append
        peer.h2.reset_stream(stream, 8)
        peer.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert len(lost) == 1
        assert isinstance(await requests[0].receive(), MessageEnded)
        with pytest.raises(PeerGone):
            await requests[0].receive()


async def test_the_end_of_the_connection_is_the_end_of_all_that_waits() -> None:
    async with connected(is_server=False) as (connection, peer, _):
        streams = [connection.open() for _ in range(3)]
        for stream in streams:
            await send(stream)
        peer.link.hang_up()
        for stream in streams:
            with pytest.raises(PeerGone):
                await stream.receive()
        with pytest.raises(PeerGone):
            await send(connection.open())


async def test_a_silent_target_gets_no_more_streams_on_that_connection(autojump_clock: object) -> None:
    async with connected(is_server=False) as (connection, _, _):
        quick = connection.open()
        await send(quick)
        quick.release()  # given up at once: that says nothing of the target
        assert connection.has_room
        slow = connection.open()
        await send(slow)
        await trio.sleep(5)
        slow.release()
        assert not connection.has_room


# --- taking leave, as a server ----------------------------------------------------------------------------------


def last_streams(events: list[h2.events.Event]) -> list[int | None]:
    return [event.last_stream_id for event in events if isinstance(event, h2.events.ConnectionTerminated)]


class PatientPeer(Peer):
    """A client that goes on after a GOAWAY, as all but h2's own do."""

    def __init__(self, link: PlayedLink) -> None:
        super().__init__(link, is_client=True)
        machine = self.h2.state_machine
        received = h2.connection.ConnectionInputs.RECV_GOAWAY
        state = h2.connection.ConnectionState.CLIENT_OPEN
        machine._transitions = machine._transitions | {(state, received): (None, state)}


async def test_a_farewell_takes_what_is_under_way_and_then_no_more() -> None:
    link = PlayedLink()
    requests: list[Http2Request] = []
    connection = Http2Connection(link, Http2Limits(), is_server=True, on_request=requests.append)
    heard: list[bool] = []
    connection.on_farewell = lambda: heard.append(connection.takes_no_more)
    await connection.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        peer = PatientPeer(link)
        first = peer.ask()
        await trio.testing.wait_all_tasks_blocked()
        peer.events()
        connection.say_farewell()
        connection.say_farewell()
        before = peer.ask()  # sent before it was heard
        await trio.testing.wait_all_tasks_blocked()
        assert [stream.number for stream in requests] == [first, before]
        assert heard == []
        assert last_streams(peer.events()) == [2**31 - 1]  # and answers the ping
        await trio.testing.wait_all_tasks_blocked()
        assert heard == [True]
        late = peer.ask()
        await trio.testing.wait_all_tasks_blocked()
        events = peer.events()
        assert last_streams(events) == [before]
        (reset,) = [event for event in events if isinstance(event, h2.events.StreamReset)]
        assert (reset.stream_id, reset.error_code) == (late, h2.errors.ErrorCodes.REFUSED_STREAM)
        for stream in requests:
            stream.put_head(ResponseHead(200, (), 0))
            stream.put_end()
            await stream.flush()
        ended = [event.stream_id for event in peer.events() if isinstance(event, h2.events.StreamEnded)]
        assert ended == [first, before]
        nursery.cancel_scope.cancel()
