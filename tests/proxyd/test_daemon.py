"""The daemon's life: start, reload, drain, stop, with a door that stands in for the protocol."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from policy.located_yaml import DocumentError
from proxyd.daemon import Daemon, run_daemon
from proxyd.doors import AnyDoor, Door
from proxyd.gateway import Gateway
from proxyd.listeners import ListenError, ListenerRuntime
from proxyd.metrics import SessionOutcome
from proxyd.postgres_door import POSTGRES_DOOR
from proxyd.postgres_listener import PostgresListenerRuntime
from proxyd.sessions import Session
from proxyd.settings_files import SettingsError
from proxyd.telemetry import Telemetry
from tests.proxyd.documents import CONFIG, POLICY, write_setup

Serve = Callable[[trio.SocketStream, ListenerRuntime, Gateway], Awaitable[None]]


def door_of(serve: Serve) -> AnyDoor:
    return replace(POSTGRES_DOOR, serve=serve)


class House:
    """A daemon that runs, its log, and the manager's end of the notification socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stream = io.StringIO()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(directory / "notify"))
        self.manager.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": str(directory / "notify")}
        self.has_ended = trio.Event()
        self.daemon: Daemon

    @property
    def gateway(self) -> Gateway:
        return self.daemon.gateway

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def told(self) -> list[str]:
        """What the manager has heard since the last call."""
        heard: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard += self.manager.recv(4096).decode().split("\n")
        return heard

    async def connect(self) -> trio.SocketStream:
        (listener,) = self.daemon.listeners[0][1]
        return await trio.open_tcp_stream(*listener.socket.getsockname())

    async def ask(self, path: str) -> bytes:
        (listener,) = self.daemon.metrics_listeners
        async with await trio.open_tcp_stream(*listener.socket.getsockname()) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            return b"".join([chunk async for chunk in stream])

    async def wait_for(self, event: str, count: int = 1) -> None:
        with trio.fail_after(60):
            while self.events.count(event) < count:
                await trio.sleep(0.01)

    async def hang_up(self) -> None:
        count = self.events.count("reloaded") + self.events.count(REFUSED)
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(60):
            while self.events.count("reloaded") + self.events.count(REFUSED) == count:
                await trio.sleep(0.01)

    async def ended(self) -> None:
        with trio.fail_after(60):
            await self.has_ended.wait()


REFUSED = "reload refused: the old configuration and policy stay in force"


@pytest.fixture(autouse=True)
def asked_of_collector(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the daemon asks of the collector of garbage is meant for a process of its own: it is noted, and not done."""
    asked: list[str] = []
    for name in ("collect", "freeze", "set_threshold"):
        monkeypatch.setattr(gc, name, lambda *_, name=name: asked.append(name))
    return asked


@contextlib.asynccontextmanager
async def running(directory: Path, door: Serve | AnyDoor, *, config: str = CONFIG) -> AsyncIterator[House]:
    """A daemon serving `door`. Ends it at the end of the block unless the block has."""
    house = House(directory)
    path = write_setup(directory, config=config)

    async def run(task_status: trio.TaskStatus[Daemon]) -> None:
        await run_daemon(
            path,
            environment=house.environment,
            telemetry=Telemetry(stream=house.stream),
            doors={"postgres": door if isinstance(door, Door) else door_of(door)},
            task_status=task_status,
        )
        house.has_ended.set()

    with house.manager:
        async with trio.open_nursery() as nursery:
            house.daemon = await nursery.start(run)
            yield house
            if not house.has_ended.is_set():
                nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream, listener: ListenerRuntime, gateway: Gateway) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


def session_door(idle: bool) -> Serve:
    """Registers a session, as doors do, and ends when it is told to."""

    async def serve(stream: trio.SocketStream, listener: ListenerRuntime, gateway: Gateway) -> None:
        await stream.receive_some()
        registry = gateway.sessions
        session = Session(
            id=registry.new_id(),
            listener=listener.name,
            protocol="postgres",
            subject="ann",
            target="shop",
            login="readonly",
            client="",
            started_at=0.0,
        )
        over = trio.Event()
        words: list[str] = []

        def end(outcome: SessionOutcome, reason: str) -> None:
            words.append(f"{outcome.value}: {reason}")
            over.set()

        session.end = end
        session.is_idle = lambda: idle
        with registry.entered(session, 10):
            await stream.send_all(b"in")
            await over.wait()
            await stream.send_all(words[0].encode())

    return serve


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_serves_and_says_that_it_is_ready(tmp_path: Path, asked_of_collector: list[str]) -> None:
    async with running(tmp_path, echo) as house:
        assert house.environment == {}
        told = house.told()
        assert told[0] == "READY=1"
        assert told[1].startswith("STATUS=serving 1 listener, policy ")
        async with await house.connect() as client:
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"
        assert (await house.ask("/readyz")).startswith(b"HTTP/1.1 200")
        assert b"proxyd_build_info{" in await house.ask("/metrics")
        assert house.gateway.metrics.policy_loaded_at > 1.7e9
        assert asked_of_collector == ["collect", "freeze", "set_threshold"]


async def test_a_crash_in_a_session_leaves_the_others(tmp_path: Path) -> None:
    async def crash(stream: trio.SocketStream, listener: ListenerRuntime, gateway: Gateway) -> None:
        if await stream.receive_some() == b"crash":
            raise RuntimeError("bug")
        await stream.send_all(b"fine")

    async with running(tmp_path, crash) as house:
        async with await house.connect() as other, await house.connect() as client:
            await client.send_all(b"crash")
            assert await read_all(client) == b""
            await other.send_all(b"x")
            assert await read_all(other) == b"fine"
        assert house.events.count("session crashed") == 1


async def test_the_watchdog_is_fed_from_the_loop(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    house = House(tmp_path)
    house.environment["WATCHDOG_USEC"] = "30000000"
    path = write_setup(tmp_path)
    with house.manager:
        async with trio.open_nursery() as nursery:
            house.daemon = await nursery.start(_run_with, path, house)
            await trio.testing.wait_all_tasks_blocked()
            house.told()
            await trio.sleep(67)
            assert house.told().count("WATCHDOG=1") == 4
            nursery.cancel_scope.cancel()


async def _run_with(path: Path, house: House, *, task_status: trio.TaskStatus[Daemon]) -> None:
    telemetry = Telemetry(stream=house.stream)
    doors = {"postgres": door_of(echo)}
    await run_daemon(
        path, environment=house.environment, telemetry=telemetry, doors=doors, task_status=task_status
    )


async def test_sockets_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        number, address = os.dup(given.fileno()), given.getsockname()
    monkeypatch.setattr("proxyd.notify.FIRST_FD", number)
    house = House(tmp_path)
    house.environment |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "pg"}
    path = write_setup(
        tmp_path, config=CONFIG.replace("address: 127.0.0.1:0\n    tls", "socket: pg\n    tls")
    )
    with house.manager:
        async with trio.open_nursery() as nursery:
            house.daemon = await nursery.start(_run_with, path, house)
            async with await trio.open_tcp_stream(*address) as client:
                await client.send_all(b"hello")
                assert await client.receive_some() == b"hello"
            nursery.cancel_scope.cancel()


# Starting with faults


async def test_a_faulty_config_does_not_start(tmp_path: Path) -> None:
    path = write_setup(tmp_path, config=CONFIG + "surprise: 1\n")
    with pytest.raises(DocumentError, match="surprise: unknown key"):
        await run_daemon(path, environment={})


async def test_an_address_in_use_does_not_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = CONFIG.replace("127.0.0.1:0\n    tls", f"127.0.0.1:{port}\n    tls")
        with pytest.raises(ListenError, match="free the address"):
            await run_daemon(
                write_setup(tmp_path, config=config),
                environment={},
                telemetry=Telemetry(stream=io.StringIO()),
            )


# Reload


async def test_reload_swaps_the_policy_and_keeps_the_sessions(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as house:
        before = house.gateway.in_force
        house.told()
        async with await house.connect() as client:
            await client.send_all(b"a")
            assert await client.receive_some() == b"a"
            (tmp_path / "policy.yaml").write_text(POLICY.replace("read-the-shop", "read-it-all"))
            await house.hang_up()
            assert house.gateway.policy.rules[0].name == "read-it-all"
            assert house.gateway.in_force.serial == before.serial + 1
            assert before.document.rules[0].name == "read-the-shop"
            await client.send_all(b"b")
            assert await client.receive_some() == b"b"
        told = house.told()
        assert told[0] == "RELOADING=1"
        assert told[1].startswith("MONOTONIC_USEC=")
        assert "READY=1" in told


async def test_a_bad_policy_changes_nothing_and_says_every_fault(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as house:
        before = house.gateway.in_force
        bad = POLICY.replace("effect: allow", "effect: perhaps").replace("[select]", "[selekt]")
        (tmp_path / "policy.yaml").write_text(bad)
        config = CONFIG.replace("level: info", "level: error")
        (tmp_path / "proxyd.yaml").write_text(config)
        await house.hang_up()
        assert house.gateway.in_force is before
        assert house.gateway.config.log.level == "info"
        faults = [line["what"] for line in house.lines if line["event"] == "configuration fault"]
        assert len(faults) == 2
        assert all("policy.yaml:" in fault for fault in faults)
        assert b'proxyd_reloads_total{outcome="rejected"} 1.0' in await house.ask("/metrics")
        assert any("last reload refused" in line for line in house.told())
        (tmp_path / "policy.yaml").write_text(POLICY)
        (tmp_path / "proxyd.yaml").write_text(CONFIG)
        await house.hang_up()
        assert house.gateway.in_force is not before


async def test_a_new_masking_key_is_a_new_policy_in_force(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as house:
        before = house.gateway.in_force
        (tmp_path / "secrets/pseudonym").write_text("another key, 16 bytes or more")
        await house.hang_up()
        after = house.gateway.in_force
        assert after.document.version == before.document.version
        assert after.serial != before.serial
        masks = [force.document.masks[0].mask.apply("123-45-6789", "text") for force in (before, after)]
        assert masks[0] != masks[1]


async def test_what_needs_a_restart_is_named_and_kept(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as house:
        config = CONFIG.replace("connections: 10", "connections: 20").replace("level: info", "level: debug")
        (tmp_path / "proxyd.yaml").write_text(config.replace("drain_timeout: 5s", "drain_timeout: 7s"))
        await house.hang_up()
        (line,) = [line for line in house.lines if line["event"].startswith("changed, but")]
        assert line["keys"] == ["listeners.postgres.limits.connections"]
        assert house.gateway.config.listeners[0].limits.connections == 10
        assert house.gateway.config.drain_timeout == 7.0
        house.gateway.log.debug("fine print")
        assert "fine print" in house.events


async def test_new_certificates_are_taken_up(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as house:
        write_setup(tmp_path)
        await house.hang_up()
        assert house.events.count("files reloaded") == 1
        await house.hang_up()
        assert house.events.count("files reloaded") == 1


async def test_reload_under_load_loses_nobody(tmp_path: Path) -> None:
    async def chat(house: House) -> None:
        async with await house.connect() as client:
            for number in range(50):
                word = str(number).encode()
                await client.send_all(word)
                assert await client.receive_some() == word

    async with running(tmp_path, echo) as house, trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(chat, house)
        for _ in range(3):
            await house.hang_up()


# Stop


async def test_sigterm_closes_the_doors_first(tmp_path: Path) -> None:
    async with running(tmp_path, session_door(idle=False)) as house:
        (listener,) = house.daemon.listeners[0][1]
        address = listener.socket.getsockname()
        async with await house.connect() as client:
            await client.send_all(b"x")
            assert await client.receive_some() == b"in"
            house.told()
            os.kill(os.getpid(), signal.SIGTERM)
            await house.wait_for("draining")
            with pytest.raises(OSError, match="attempts to connect"):
                await (await trio.open_tcp_stream(*address)).aclose()
            assert house.gateway.drain.is_set()
            assert house.told()[0] == "STOPPING=1"
            assert (await house.ask("/readyz")).startswith(b"HTTP/1.1 503")
            assert (await house.ask("/healthz")).startswith(b"HTTP/1.1 200")
            assert not house.has_ended.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await house.ended()


async def test_idle_sessions_end_at_once(tmp_path: Path) -> None:
    config = CONFIG.replace("drain_timeout: 5s", "drain_timeout: 10m")
    async with (
        running(tmp_path, session_door(idle=True), config=config) as house,
        await house.connect() as client,
    ):
        await client.send_all(b"x")
        assert await client.receive_some() == b"in"
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(60):
            assert await read_all(client) == b"drained: the gateway is shutting down"
        await house.ended()
    assert house.events[-1] == "stopped"


async def test_busy_sessions_get_until_the_deadline_and_then_a_last_word(tmp_path: Path) -> None:
    config = CONFIG.replace("drain_timeout: 5s", "drain_timeout: 300ms")
    async with running(tmp_path, session_door(idle=False), config=config) as house:
        async with await house.connect() as client:
            await client.send_all(b"x")
            assert await client.receive_some() == b"in"
            os.kill(os.getpid(), signal.SIGINT)
            assert (
                await read_all(client)
                == b"drained: the gateway is shutting down and does not wait any longer"
            )
        await house.ended()
    assert "drain deadline passed" in house.events


async def test_a_session_that_does_not_listen_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(stream: trio.SocketStream, listener: ListenerRuntime, gateway: Gateway) -> None:
        await stream.send_all(b"in")
        await trio.sleep_forever()

    monkeypatch.setattr("proxyd.daemon.LAST_WORDS_S", 0.1)
    config = CONFIG.replace("drain_timeout: 5s", "drain_timeout: 100ms")
    async with running(tmp_path, deaf, config=config) as house:
        async with await house.connect() as client:
            assert await client.receive_some() == b"in"
            os.kill(os.getpid(), signal.SIGTERM)
            assert await client.receive_some() == b""
        await house.ended()


async def test_without_sessions_it_stops_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as house:
        os.kill(os.getpid(), signal.SIGTERM)
        await house.ended()
    assert house.events[-1] == "stopped"


# What stands behind a door


async def test_a_service_starts_before_its_door_and_ends_with_the_daemon(tmp_path: Path) -> None:
    seen: list[str] = []

    async def service(gateway: Gateway, *, task_status: trio.TaskStatus[None]) -> None:
        await trio.lowlevel.checkpoint()
        seen.append("started")
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            seen.append("ended")

    async with running(tmp_path, replace(door_of(echo), background=service)):
        assert seen == ["started"]
    assert seen == ["started", "ended"]


async def test_a_service_that_fails_later_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxyd.daemon.SERVICE_RETRY_S", 0.0)
    starts: list[int] = []
    restarted = trio.Event()

    async def service(gateway: Gateway, *, task_status: trio.TaskStatus[None]) -> None:
        starts.append(1)
        task_status.started()
        if len(starts) == 2:
            restarted.set()
            await trio.sleep_forever()
        raise ValueError("bug")

    async with running(tmp_path, replace(door_of(echo), background=service)) as house:
        with trio.fail_after(60):
            await restarted.wait()
        assert house.events.count("service of a door failed, it starts again") == 1
        async with await house.connect() as client:
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"


@pytest.mark.parametrize("is_silent", [False, True])
async def test_a_service_that_cannot_start_keeps_the_daemon_from_starting(
    tmp_path: Path, is_silent: bool
) -> None:
    async def service(gateway: Gateway, *, task_status: trio.TaskStatus[None]) -> None:
        if not is_silent:
            raise ValueError("no loop")

    house = House(tmp_path)
    with house.manager, pytest.RaisesGroup(pytest.RaisesExc((ValueError, RuntimeError))):
        await run_daemon(
            write_setup(tmp_path),
            environment=house.environment,
            telemetry=Telemetry(stream=house.stream),
            doors={"postgres": replace(door_of(echo), background=service)},
        )


async def test_a_listener_takes_up_another_identity(tmp_path: Path) -> None:
    async with running(tmp_path, echo) as house:
        runtime = house.daemon.listeners[0][0]
        assert isinstance(runtime, PostgresListenerRuntime)
        assert runtime.certificate_rules.name == ("cn",)
        (tmp_path / "proxyd.yaml").write_text(CONFIG.replace("name: [cn]", "name: [san_email]"))
        await house.hang_up()
        assert runtime.certificate_rules.name == ("san_email",)
        assert house.gateway.config.identity.certificates.name == ("san_email",)


async def test_an_identity_that_was_refused_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(runtime: ListenerRuntime, identity: object) -> None:
        raise SettingsError("people", "cannot be read", "check it")

    async with running(tmp_path, echo) as house:
        runtime = house.daemon.listeners[0][0]
        assert isinstance(runtime, PostgresListenerRuntime)
        (tmp_path / "proxyd.yaml").write_text(CONFIG.replace("name: [cn]", "name: [san_email]"))
        with monkeypatch.context() as patched:
            patched.setattr(PostgresListenerRuntime, "take_identity", refuse)
            await house.hang_up()
        assert runtime.certificate_rules.name == ("cn",)
        assert house.events.count("new identity refused, the old stay in use") == 1
        await house.hang_up()
        assert runtime.certificate_rules.name == ("san_email",)


async def test_the_admin_socket_lives_with_the_daemon(tmp_path: Path) -> None:
    async with running(tmp_path, echo, config=CONFIG + "admin: {socket: admin.sock}\n") as house:
        async with await trio.open_unix_socket(tmp_path / "admin.sock") as caller:
            await caller.send_all(b'{"command": "ls"}\n')
            assert await read_all(caller) == b'{"answer":"sessions","count":0}\n'
        os.kill(os.getpid(), signal.SIGTERM)
        await house.ended()
    with pytest.raises(OSError, match="refused"):
        await trio.open_unix_socket(tmp_path / "admin.sock")
