"""Sockets of the doors: opened, taken from systemd, capped, guarded, closed."""

from __future__ import annotations

import contextlib
import errno
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from proxyd import listeners as module
from proxyd.config import Listener, LoadedConfig
from proxyd.listeners import ListenError, ListenerRuntime, Reception, open_sockets
from proxyd.metrics import Metrics
from proxyd.telemetry import Telemetry
from tests.proxyd.documents import CONFIG, write_setup

Handler = Callable[[trio.SocketStream, ListenerRuntime], Awaitable[None]]


def full_notice(runtime: ListenerRuntime) -> bytes:
    return f"no room for more than {runtime.limits.connections}".encode()


class House:
    """One listener with a reception, on loopback."""

    def __init__(self, directory: Path, handler: Handler, nursery: trio.Nursery, *, connections: int) -> None:
        text = CONFIG.replace("connections: 10", f"connections: {connections}")
        config = LoadedConfig.read(write_setup(directory, config=text)).config
        self.stream = io.StringIO()
        self.metrics = Metrics()
        self.config = config.listeners[0]
        self.runtime = ListenerRuntime(
            name=self.config.name,
            protocol=self.config.protocol,
            limits=self.config.limits,
            identity=config.identity,
        )
        log = Telemetry(stream=self.stream).log
        self.reception = Reception(handler, full_notice, nursery, self.metrics, log)
        self.address: tuple[str, int] = ("", 0)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.address)

    @property
    def log(self) -> str:
        return self.stream.getvalue()

    def counted(self, series: str) -> bool:
        return series in self.metrics.render().decode().splitlines()


@contextlib.asynccontextmanager
async def house(directory: Path, handler: Handler, *, connections: int = 10) -> AsyncIterator[House]:
    async with trio.open_nursery() as sessions:
        built = House(directory, handler, sessions, connections=connections)
        (listener,) = await open_sockets(built.config, {})
        built.address = listener.socket.getsockname()
        async with trio.open_nursery() as doors:
            doors.start_soon(built.reception.serve, built.runtime, listener)
            yield built
            doors.cancel_scope.cancel()
        sessions.cancel_scope.cancel()


async def echo(stream: trio.SocketStream, listener: ListenerRuntime) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


async def silent(stream: trio.SocketStream, listener: ListenerRuntime) -> None:
    await trio.sleep_forever()


async def read_all(stream: trio.SocketStream) -> bytes:
    found = b""
    async for chunk in stream:
        found += chunk
    return found


async def test_a_silent_client_does_not_hold_up_the_next(tmp_path: Path) -> None:
    async with house(tmp_path, echo) as at:
        async with await at.connect(), await at.connect() as second:
            await second.send_all(b"hello")
            assert await second.receive_some() == b"hello"
            assert at.runtime.open_connections == 2
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert at.runtime.open_connections == 0
        assert at.counted('proxyd_connections_open{listener="postgres"} 0.0')


async def test_no_delay(tmp_path: Path) -> None:
    seen: list[int] = []

    async def look(stream: trio.SocketStream, listener: ListenerRuntime) -> None:
        seen.append(stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async with house(tmp_path, look) as at, await at.connect() as client:
        assert await read_all(client) == b""
    assert seen == [1]


async def test_a_handler_that_forgets_to_close_is_closed(tmp_path: Path) -> None:
    async def forgetful(stream: trio.SocketStream, listener: ListenerRuntime) -> None:
        await stream.send_all(b"bye")

    async with house(tmp_path, forgetful) as at, await at.connect() as client:
        assert await read_all(client) == b"bye"


@pytest.mark.parametrize("is_group", [False, True])
async def test_a_crash_ends_one_connection_and_is_told_once(tmp_path: Path, is_group: bool) -> None:
    async def crash(stream: trio.SocketStream, listener: ListenerRuntime) -> None:
        if await stream.receive_some() == b"crash":
            if is_group:
                raise ExceptionGroup("two", [ValueError("one"), ValueError("other")])
            raise ValueError("one")
        await stream.send_all(b"fine")

    async with house(tmp_path, crash) as at:
        async with await at.connect() as other, await at.connect() as client:
            await client.send_all(b"crash")
            assert await read_all(client) == b""
            await other.send_all(b"x")
            assert await read_all(other) == b"fine"
        assert at.log.count("session crashed") == 1
        assert "ValueError: one" in at.log
        assert at.metrics.session_crashes == 1


async def test_a_crash_beside_a_cancellation_is_told_and_the_cancellation_goes_on(tmp_path: Path) -> None:
    async def mixed(stream: trio.SocketStream, listener: ListenerRuntime) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise BaseExceptionGroup("both", [cancelled, ValueError("in cleanup")]) from None

    async with house(tmp_path, mixed) as at, await at.connect():
        while not at.runtime.open_connections:
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert at.log.count("session crashed") == 1


async def test_the_cap_answers_with_an_error_and_counts(tmp_path: Path) -> None:
    async with house(tmp_path, echo, connections=2) as at:
        async with await at.connect() as first, await at.connect() as second:
            for stream in (first, second):
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
            for _ in range(3):
                async with await at.connect() as late:
                    await late.send_all(b"\0\0\0\x08\x04\xd2\x16\x2f")
                    assert await read_all(late) == b"no room for more than 2"
            await first.send_all(b"still here")
            assert await first.receive_some() == b"still here"
        assert at.log.count("listener is full") == 1
        assert at.counted(
            'proxyd_handshake_failures_total{listener="postgres",reason="connection_limit"} 3.0'
        )
        await trio.testing.wait_all_tasks_blocked(0.05)
        async with await at.connect() as again:
            await again.send_all(b"room")
            assert await again.receive_some() == b"room"


async def test_a_flood_over_the_cap_is_closed_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_FAREWELLS", 0)
    async with house(tmp_path, silent, connections=1) as at, await at.connect():
        while not at.runtime.is_full:
            await trio.testing.wait_all_tasks_blocked(0.01)
        async with await at.connect() as late:
            assert await read_all(late) == b""


class Scripted:
    """A listening socket whose accept() fails as told, then waits."""

    def __init__(self, faults: list[int]) -> None:
        self.faults = faults
        self.closed = False

    async def accept(self) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        if self.faults:
            raise OSError(self.faults.pop(0), "told to")
        await trio.sleep_forever()
        raise AssertionError

    async def __aenter__(self) -> Scripted:
        return self

    async def __aexit__(self, *args: object) -> None:
        self.closed = True


async def serve_scripted(directory: Path, scripted: Scripted) -> House:
    async with trio.open_nursery() as nursery:
        at = House(directory, silent, nursery, connections=5)
        nursery.start_soon(at.reception.serve, at.runtime, scripted)
        while scripted.faults:
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    return at


async def test_out_of_descriptors_waits_and_goes_on(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    scripted = Scripted([errno.EMFILE] * 20)
    at = await serve_scripted(tmp_path, scripted)
    assert trio.current_time() >= 2.0
    assert at.log.count("accepting waits for room") == 1
    assert scripted.closed


async def test_a_long_shortage_is_told_now_and_then(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    at = await serve_scripted(tmp_path, Scripted([errno.ENFILE] * 250))
    assert at.log.count("accepting waits for room") == 3
    assert '"unsaid": 99' in at.log


async def test_a_broken_socket_is_no_shortage(tmp_path: Path) -> None:
    scripted = Scripted([errno.EINVAL])
    async with trio.open_nursery() as nursery:
        at = House(tmp_path, silent, nursery, connections=5)
        with pytest.raises(OSError, match="told to"):
            await at.reception.serve(at.runtime, scripted)  # type: ignore[arg-type]
    assert scripted.closed


# Opening


def listener_at(directory: Path, line: str) -> Listener:
    text = CONFIG.replace("address: 127.0.0.1:0\n    tls", f"{line}\n    tls")
    return LoadedConfig.read(write_setup(directory, config=text)).config.listeners[0]


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "pg.sock"
    listener = listener_at(tmp_path, f"address: unix:{path}")
    (opened,) = await open_sockets(listener, {})
    async with opened, await trio.open_unix_socket(str(path)) as client:
        stream = await opened.accept()
        await stream.send_all(b"hello")
        assert await client.receive_some() == b"hello"
        await stream.aclose()
        with pytest.raises(ListenError, match="cannot be opened"):
            await open_sockets(listener, {})
    (again,) = await open_sockets(listener, {})  # what the first left behind is no obstacle
    await again.aclose()


async def test_a_file_in_the_place_of_a_unix_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "pg.sock"
    path.write_text("precious")
    with pytest.raises(ListenError):
        await open_sockets(listener_at(tmp_path, f"address: unix:{path}"), {})
    assert path.read_text() == "precious"


async def test_an_address_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenError, match=f"listener postgres: {address} cannot be opened"):
            await open_sockets(listener_at(tmp_path, f"address: {address}"), {})


async def test_sockets_of_systemd(tmp_path: Path) -> None:
    given = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    opened = await open_sockets(listener_at(tmp_path, "socket: pg"), {"pg": given})
    assert [at.socket.getsockname() for at in opened] == [sock.getsockname() for sock in given]
    for at in opened:
        await at.aclose()


async def test_a_socket_that_systemd_did_not_give(tmp_path: Path) -> None:
    with pytest.raises(
        ListenError, match=r"no socket named 'pg' \(it gave: postgres\).*FileDescriptorName=pg"
    ):
        await open_sockets(listener_at(tmp_path, "socket: pg"), {"postgres": []})
