"""The pool of connections to a target: places, reuse, what is never used again. Real sockets, small servers."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import trio
import trio.testing

from protocols.http.messages import MessageEnded, RequestHead, ResponseHead
from proxyd.addresses import Address
from proxyd.gateway import Gateway
from proxyd.http2_streams import Http2Stream
from proxyd.http_pool import HttpPool, HttpPools, TargetUnavailable
from proxyd.http_streams import PeerGone, TargetStream
from proxyd.references import Material
from proxyd.telemetry import Telemetry
from tests.pki import now
from tests.proxyd.documents import HTTP_CONFIG, write_http_setup

GET = RequestHead("GET", "/", "http", "target", (), body_bytes=0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[[trio.SocketStream], Awaitable[None]]


class Server:
    """Counts connections; serves each by `serve`."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve
        self.opened = 0
        self.streams: list[trio.SocketStream] = []

    async def handle(self, stream: trio.SocketStream) -> None:
        self.opened += 1
        self.streams.append(stream)
        try:
            await self.serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


async def answers(stream: trio.SocketStream) -> None:
    buffer = b""
    async for data in stream:
        buffer += data
        while b"\r\n\r\n" in buffer:
            _, _, buffer = buffer.partition(b"\r\n\r\n")
            await stream.send_all(OK)


async def is_silent(stream: trio.SocketStream) -> None:
    async for _ in stream:
        pass


def http2(streams: int = 100, *, answered: bool = True, upgrades: int = 0, delay_s: float = 0) -> Serve:
    """`upgrades`: what is said of the extended CONNECT. The settings come after `delay_s`."""

    async def serve(stream: trio.SocketStream) -> None:
        peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        codes = h2.settings.SettingCodes
        peer.local_settings = h2.settings.Settings(
            client=False,
            initial_values={codes.MAX_CONCURRENT_STREAMS: streams, codes.ENABLE_CONNECT_PROTOCOL: upgrades},
        )
        peer.initiate_connection()
        await trio.sleep(delay_s)
        await stream.send_all(peer.data_to_send())
        async for data in stream:
            for event in peer.receive_data(data):
                if isinstance(event, h2.events.StreamEnded) and answered:
                    peer.send_headers(event.stream_id, [(":status", "200")], end_stream=True)
            await stream.send_all(peer.data_to_send())

    return serve


@asynccontextmanager
async def pool_before(
    directory: Path, serve: Serve, *, protocols: str = "[http/1.1]", connections: int = 2
) -> AsyncIterator[tuple[HttpPool, HttpPools, Server]]:
    server = Server(serve)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, server.handle, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        target = (
            f"  - name: played\n    protocol: http\n    url: http://127.0.0.1:{port}\n"
            f"    protocols: {protocols}\n    limits: {{connections: {connections}}}\n    connect_timeout: 500ms\n"
            "    logins: [{name: default, none: true}]\nmasking:\n"
        )
        config = HTTP_CONFIG.replace("masking:\n", target, 1)
        directory.mkdir(exist_ok=True)
        material = Material.read(write_http_setup(directory, config=config), now().timestamp())
        gateway = Gateway.from_config(
            material.config, material.policy, telemetry=Telemetry(stream=io.StringIO())
        )
        runtime = gateway.http_target("played")
        assert runtime is not None
        pools = gateway.http_pools
        await nursery.start(pools.run)
        yield pools.of(runtime, runtime.accounts["default"]), pools, server
        nursery.cancel_scope.cancel()


async def ask(stream: TargetStream) -> int:
    stream.put_head(GET)
    stream.put_end()
    await stream.flush()
    status = 0
    while not isinstance(event := await stream.receive(), MessageEnded):
        if isinstance(event, ResponseHead):
            status = event.status
    return status


async def test_nobody_takes_all_there_is(tmp_path: Path) -> None:
    async with pool_before(tmp_path, answers, connections=4) as (pool, _, _):
        taken = [await pool.acquire("alice") for _ in range(3)]
        with pytest.raises(TargetUnavailable) as full:
            await pool.acquire("alice")
        assert full.value.status == 429
        other, release = await pool.acquire("bob")
        assert await ask(other) == 200
        with pytest.raises(TargetUnavailable) as used_up:  # places there are none, whoever asks
            await pool.acquire("carol")
        assert used_up.value.status == 503
        taken.pop()[1]()
        stream, again = await pool.acquire("alice")
        assert await ask(stream) == 200
        for done in (release, again, *(one for _, one in taken)):
            done()
        assert not pool._busy


async def test_connections_are_used_again_and_counted_once(tmp_path: Path) -> None:
    async with pool_before(tmp_path, answers) as (pool, _, server):
        for _ in range(5):
            stream, release = await pool.acquire()
            assert await ask(stream) == 200
            release()
            release()  # once too often: it must not be lent twice
        first, release_first = await pool.acquire()
        second, release_second = await pool.acquire()
        assert first is not second
        assert server.opened == 2
        with pytest.raises(TargetUnavailable) as full:
            await pool.acquire()
        assert full.value.status == 503
        release_first()
        release_second()
        _, release = await pool.acquire()  # the places are there again
        release()


@pytest.mark.parametrize("protocols", ["[http/1.1]", "[h2]"])
async def test_places_come_back_from_connections_that_come_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocols: str
) -> None:
    async def refused(_: Address) -> trio.SocketStream:
        raise ConnectionRefusedError("as asked")

    async with pool_before(tmp_path, answers, protocols=protocols) as (pool, _, _):
        for _ in range(5):  # cancelled while connecting
            with trio.move_on_after(0):
                await pool.acquire()
        monkeypatch.setattr("proxyd.http_pool.dial", refused)
        for _ in range(5):
            with pytest.raises(TargetUnavailable):
                await pool.acquire()
        assert pool._open == 0


async def test_who_waits_gets_the_place_of_who_is_done(tmp_path: Path) -> None:
    async with pool_before(tmp_path, answers, connections=1) as (pool, _, server):
        stream, release = await pool.acquire()
        got: list[int] = []

        async def wait() -> None:
            other, done = await pool.acquire()
            got.append(await ask(other))
            done()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert await ask(stream) == 200
            release()
        assert got == [200]
        assert server.opened == 1


async def test_what_speaks_unasked_is_not_lent_again(tmp_path: Path) -> None:
    async with pool_before(tmp_path, answers) as (pool, _, server):
        stream, release = await pool.acquire()
        assert await ask(stream) == 200
        release()
        await trio.testing.wait_all_tasks_blocked()  # the server has come back from its own sending
        await server.streams[0].send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        other, done = await pool.acquire()
        assert other is not stream
        assert await ask(other) == 200
        done()


@pytest.mark.parametrize("protocols", ["[http/1.1]", "[h2]"])
async def test_nothing_of_before_a_reload_is_used_after_it(tmp_path: Path, protocols: str) -> None:
    serve = http2() if "h2" in protocols else answers
    async with pool_before(tmp_path, serve, protocols=protocols) as (pool, pools, server):
        idle, release_idle = await pool.acquire()
        busy, release_busy = await pool.acquire()
        assert await ask(idle) == 200
        release_idle()
        before = server.opened
        pools.drop()
        assert await ask(busy) == 200  # what runs goes on
        release_busy()
        new, release_new = await pool.acquire()
        assert await ask(new) == 200
        release_new()
        assert server.opened == before + 1
        assert pool._open == 1 or "h2" in protocols


async def test_streams_share_connections_up_to_the_limit(tmp_path: Path) -> None:
    async with pool_before(tmp_path, http2(streams=2), protocols="[h2]") as (pool, _, server):
        first, release_first = await pool.acquire()
        assert await ask(first) == 200  # its settings are known from here on
        releases = [release_first]
        for _ in range(3):
            stream, release = await pool.acquire()
            releases.append(release)
            assert await ask(stream) == 200
        assert server.opened == 2
        with pytest.raises(TargetUnavailable) as full:
            await pool.acquire()
        assert full.value.status == 503
        got: list[TargetStream] = []

        async def wait() -> None:
            stream, _ = await pool.acquire()
            got.append(stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            releases[0]()  # a stream is enough; the connection stays
        assert await ask(got[0]) == 200
        assert server.opened == 2


async def test_many_at_once_open_one_connection(tmp_path: Path) -> None:
    async with pool_before(tmp_path, http2(), protocols="[h2]", connections=1) as (pool, _, server):
        statuses: list[int] = []

        async def one() -> None:
            stream, release = await pool.acquire()
            statuses.append(await ask(stream))
            release()

        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(one)
        assert (statuses, server.opened) == ([200] * 60, 1)


async def test_a_shared_connection_that_ends_gives_its_place_back(tmp_path: Path) -> None:
    async with pool_before(tmp_path, http2(answered=False), protocols="[h2]", connections=1) as (
        pool,
        _,
        server,
    ):
        for _ in range(3):
            stream, release = await pool.acquire()
            stream.put_head(GET)
            stream.put_end()
            await stream.flush()
            await server.streams[-1].aclose()
            with pytest.raises(PeerGone):
                await stream.receive()
            release()
        assert server.opened == 3


async def test_idle_connections_are_closed(tmp_path: Path) -> None:
    for protocols, serve in (("[http/1.1]", answers), ("[h2]", http2())):
        async with pool_before(tmp_path / protocols[1:3], serve, protocols=protocols) as (pool, pools, _):
            stream, release = await pool.acquire()
            assert await ask(stream) == 200
            release()
            pool.sweep(trio.current_time() + 1000)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert pool._open == 0
            assert "failed" not in str(pools._log)


# --- where a protocol can be changed ----------------------------------------------------------------------------


async def test_an_upgrade_has_an_http1_connection_of_its_own(tmp_path: Path) -> None:
    async with pool_before(tmp_path, answers) as (pool, _, server):
        stream, release = await pool.acquire()
        assert await ask(stream) == 200
        release()
        _, release = await pool.acquire(is_upgrade=True)
        assert server.opened == 2  # not the one that was kept
        release()


async def test_upgrades_share_an_http2_connection_that_offers_them(tmp_path: Path) -> None:
    async with pool_before(tmp_path, http2(upgrades=1, delay_s=0.05), protocols="[h2]") as (pool, _, server):
        stream, release = await pool.acquire()
        assert isinstance(stream, Http2Stream)
        first, release_first = await pool.acquire(is_upgrade=True)  # waits for the settings
        second, release_second = await pool.acquire(is_upgrade=True)
        assert isinstance(first, Http2Stream)
        assert isinstance(second, Http2Stream)
        assert server.opened == 1
        for done in (release, release_first, release_second):
            done()


async def test_a_target_that_does_not_offer_them_is_not_asked(tmp_path: Path) -> None:
    async with pool_before(tmp_path, http2(), protocols="[h2]") as (pool, _, _):
        for _ in range(3):
            with pytest.raises(TargetUnavailable) as refused:
                await pool.acquire(is_upgrade=True)
            assert (refused.value.status, "http/1.1" in refused.value.hint) == (501, True)
        ((connection, _),) = pool._shared
        assert connection.streams == 0


async def test_a_target_that_says_nothing_at_all_is_not_waited_for(tmp_path: Path) -> None:
    async with pool_before(tmp_path, is_silent, protocols="[h2]") as (pool, _, _):
        with pytest.raises(TargetUnavailable) as late:
            await pool.acquire(is_upgrade=True)
        assert late.value.status == 504
        ((connection, _),) = pool._shared
        assert connection.streams == 0
