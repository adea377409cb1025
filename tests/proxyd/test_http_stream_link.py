"""HTTP/2 streams as links: order, windows, ends, and senders that are given up. The peer is played frame by frame."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.events
import h2.settings
import pytest
import trio
import trio.testing

from protocols.http.http2 import Http2Limits
from protocols.http.messages import ResponseHead
from proxyd.http2_connection import Http2Connection
from proxyd.http2_streams import Http2Request
from proxyd.http_link import send
from proxyd.http_stream_link import StreamLink
from proxyd.wire import ConnectionLost
from tests.proxyd.http_links import PlayedLink
from tests.proxyd.test_http2_connection import Peer

WINDOW = 65535
NO_ERROR, CANCEL = 0, 8


class Tunnel:
    """A CONNECT that was answered: `link` is the gateway's side, `peer` the client."""

    def __init__(self, peer: Peer, stream: Http2Request) -> None:
        self.peer = peer
        self.stream = stream
        self.link: StreamLink = stream.link
        self.number = stream.number

    def said(self) -> list[h2.events.Event]:
        return [e for e in self.peer.events() if getattr(e, "stream_id", None) == self.number]

    def data(self) -> bytes:
        return b"".join(e.data or b"" for e in self.said() if isinstance(e, h2.events.DataReceived))

    def say(self, data: bytes, *, ends: bool = False) -> None:
        self.peer.h2.send_data(self.number, data, end_stream=ends)
        self.peer.flush()


@asynccontextmanager
async def tunnel(limits: Http2Limits | None = None) -> AsyncIterator[Tunnel]:
    played = PlayedLink()
    requests: list[Http2Request] = []
    connection = Http2Connection(played, limits or Http2Limits(), is_server=True, on_request=requests.append)
    await connection.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        peer = Peer(played, is_client=True)
        stream = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", "a:443")])
        peer.flush()
        await trio.testing.wait_all_tasks_blocked()
        requests[0].put_head(ResponseHead(200, (), 0))
        await requests[0].flush()
        peer.events()
        await trio.testing.wait_all_tasks_blocked()
        yield Tunnel(peer, requests[0])
        nursery.cancel_scope.cancel()


async def test_bytes_go_both_ways() -> None:
    async with tunnel() as made:
        made.say(b"before")
        assert await made.link.receive() == b"before"
        assert made.link.send_soon(b"and back") is None
        assert made.data() == b"and back"
        assert not made.link.is_gone


async def test_what_the_window_does_not_take_waits_in_its_order() -> None:
    async with tunnel() as made, trio.open_nursery() as nursery:
        nursery.start_soon(send, made.link, b"a" * WINDOW + b"b" * 10)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(send, made.link, b"c" * 10)
        await trio.testing.wait_all_tasks_blocked()
        assert made.data() == b"a" * WINDOW
        made.peer.h2.increment_flow_control_window(100, made.number)
        made.peer.h2.increment_flow_control_window(100)
        made.peer.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert made.data() == b"b" * 10 + b"c" * 10


async def test_a_sender_that_is_given_up_leaves_no_gap() -> None:
    async with tunnel() as made:
        with trio.move_on_after(0.01) as scope:
            await send(made.link, b"a" * WINDOW + b"half a frame")
        assert scope.cancelled_caught
        made.link.send_last(b", then the last word")
        assert made.data() == b"a" * WINDOW
        made.peer.h2.increment_flow_control_window(100, made.number)
        made.peer.h2.increment_flow_control_window(100)
        made.peer.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert made.data() == b""  # nobody waits for it any more
        made.link.close()
        assert [type(event) for event in made.said()] == [h2.events.StreamReset]


async def test_a_window_of_nothing_holds_up_this_stream_alone() -> None:
    async with tunnel() as made:
        made.peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        made.peer.flush()
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.01) as scope:
            await send(made.link, b"stuck")
        assert scope.cancelled_caught
        other = made.peer.ask()
        await trio.testing.wait_all_tasks_blocked()
        assert made.stream.connection.http2.window(other) == 0
        made.peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100})
        made.peer.flush()
        await trio.testing.wait_all_tasks_blocked()
        await send(made.link, b", not any more")
        assert made.data() == b"stuck, not any more"


async def test_the_end_of_the_stream_is_the_end_of_the_link() -> None:
    async with tunnel() as made:
        made.say(b"last", ends=True)
        assert await made.link.receive() == b"last"
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="closed by the peer"):
                await made.link.receive()
        assert made.link.is_gone
        made.link.send_last(b"bye")
        made.link.send_last(b"said once")
        with pytest.raises(ConnectionLost):
            made.link.send_soon(b"too late")
        await made.link.linger(1)
        made.link.close()
        *told, last = made.said()
        assert b"".join(event.data for event in told if isinstance(event, h2.events.DataReceived)) == b"bye"
        assert isinstance(last, h2.events.StreamEnded)


async def test_a_reset_ends_whoever_waits() -> None:
    async with tunnel() as made:
        ends: list[str] = []

        async def wait() -> None:
            with pytest.raises(ConnectionLost, match="reset by the peer"):
                await made.link.receive()
            ends.append("reader")

        async def push() -> None:
            with pytest.raises(ConnectionLost, match="reset by the peer"):
                await send(made.link, b"x" * (WINDOW + 1))
            ends.append("writer")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(push)
            await trio.testing.wait_all_tasks_blocked()
            made.peer.h2.reset_stream(made.number, CANCEL)
            made.peer.flush()
        assert sorted(ends) == ["reader", "writer"]
        assert made.link.is_gone


async def test_lingering_waits_for_the_peer_but_not_for_ever(autojump_clock: trio.abc.Clock) -> None:
    async with tunnel() as made:
        made.link.send_last(b"bye")
        before = trio.current_time()
        await made.link.linger(1)
        assert trio.current_time() - before == pytest.approx(1, abs=0.01)
        made.link.close()
        (reset,) = [event for event in made.said() if isinstance(event, h2.events.StreamReset)]
        assert reset.error_code == NO_ERROR
