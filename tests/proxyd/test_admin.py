"""The admin socket: who may use it, and that nobody who uses it hurts a session."""

from __future__ import annotations

import contextlib
import grp
import io
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from proxyd import admin as module
from proxyd.admin import AdminServer, Caller
from proxyd.admin_protocol import (
    Answer,
    Ended,
    EndSession,
    Listed,
    ListSessions,
    Refused,
    Request,
    SessionView,
    Watching,
    WatchSession,
    line,
    read_answer,
    read_view,
)
from proxyd.config import Admin
from proxyd.gateway import Gateway
from proxyd.listeners import ListenError
from proxyd.metrics import SessionOutcome
from proxyd.references import Material
from proxyd.sessions import Session
from proxyd.tape.errors import TapeError
from proxyd.telemetry import Telemetry
from tests.proxyd.documents import write_setup
from tests.proxyd.test_sessions import session_of

NOBODY = 65534


class House:
    """A gateway with an admin socket and no doors."""

    def __init__(self, directory: Path, group: str | None = None) -> None:
        self.directory = directory
        self.path = directory / "admin.sock"
        material = Material.read(write_setup(directory), 0.0)
        self.stream = io.StringIO()
        self.gateway = Gateway.from_config(
            material.config, material.policy, telemetry=Telemetry(stream=self.stream)
        )
        self.server = AdminServer.open(Admin(socket=self.path, group=group), self.gateway)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    async def connect(self) -> trio.SocketStream:
        return await trio.open_unix_socket(self.path)

    async def ask(self, request: Request) -> tuple[Answer, list[SessionView]]:
        async with await self.connect() as stream:
            await stream.send_all(line(request))
            first, *rest = (await read_all(stream)).splitlines()
            return read_answer(first), [read_view(one) for one in rest]

    async def say(self, raw: bytes) -> Answer:
        """What comes back when a caller sends `raw` and waits."""
        async with await self.connect() as stream:
            await stream.send_all(raw)
            return read_answer(await read_all(stream))

    def enter(self, stack: contextlib.ExitStack, **values: object) -> LiveSession:
        live = LiveSession(self.directory, **values)
        live.leave = stack.enter_context(contextlib.ExitStack())
        live.leave.enter_context(self.gateway.sessions.entered(live.session, 1000))
        return live


class LiveSession:
    """A session with a tape file that the test writes, which goes when it is ended, or when the test says so."""

    def __init__(self, directory: Path, **values: object) -> None:
        self.session: Session = session_of(**values)  # type: ignore[arg-type]
        self.path = directory / f"{self.session.id}.tape"
        self.path.write_bytes(b"")
        self.ends: list[tuple[SessionOutcome, str]] = []
        self.recorded: list[tuple[str, dict[str, Any]]] = []
        self.is_stubborn = False
        self.leave = contextlib.ExitStack()
        self.session.tape_path = self.path
        self.session.end = self._end
        self.session.record = lambda name, data: self.recorded.append((name, data))

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def _end(self, outcome: SessionOutcome, reason: str) -> None:
        self.ends.append((outcome, reason))
        if not self.is_stubborn:
            self.leave.close()


async def read_all(stream: trio.SocketStream) -> bytes:
    found = b""
    with contextlib.suppress(trio.BrokenResourceError):  # closed with bytes of ours unread
        async for chunk in stream:
            found += chunk
    return found


async def receive_exactly(stream: trio.SocketStream, count: int) -> bytes:
    found = b""
    while len(found) < count:
        found += await stream.receive_some(count - len(found))
    return found


async def receive_line(stream: trio.SocketStream) -> bytes:
    found = b""
    while not found.endswith(b"\n"):
        found += await receive_exactly(stream, 1)
    return found


@contextlib.asynccontextmanager
async def house(directory: Path, group: str | None = None) -> AsyncIterator[House]:
    built = House(directory, group)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(built.server.serve)
            with trio.fail_after(60):
                yield built
            nursery.cancel_scope.cancel()
    finally:
        built.server.close()


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as opened:
        yield opened


# ls


async def test_ls_tells_of_every_session(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    async with house(tmp_path) as at:
        one = at.enter(stack, subject="ann", detail="sales", idle_s=lambda: 2.04, operations=lambda: 7)
        two = at.enter(stack, subject="bob", protocol="ssh")
        answer, views = await at.ask(ListSessions())
        assert answer == Listed(2)
        assert [view.id for view in views] == [one.session.id, two.session.id]
        assert views[0] == SessionView(
            id=one.session.id,
            protocol="postgres",
            listener="postgres",
            subject="ann",
            target="shop",
            detail="sales",
            login="readonly",
            client="127.0.0.1:50000",
            started_at=1.0,
            idle_s=2.0,
            operations=7,
            tape=str(one.path),
        )
        (told,) = [entry for entry in at.lines if entry["event"] == "admin request"]
        assert (told["command"], told["uid"], told["pid"]) == ("ls", os.geteuid(), os.getpid())


async def test_ls_of_nobody(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        assert await at.ask(ListSessions()) == (Listed(0), [])


# end


async def test_end_tells_the_session_and_waits_until_it_is_gone(
    tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    async with house(tmp_path) as at:
        live = at.enter(stack, identifier="abc1")
        other = at.enter(stack, identifier="abd2")
        answer, _ = await at.ask(EndSession("abc", "maintenance"))
        assert isinstance(answer, Ended)
        assert (answer.session.id, answer.is_gone) == ("abc1", True)
        assert live.ends == [(SessionOutcome.ENDED, "ended by an administrator: maintenance")]
        assert live.recorded == [
            ("ended by an administrator", {"uid": os.geteuid(), "reason": "maintenance"})
        ]
        assert other.ends == []
        (told,) = [entry for entry in at.lines if entry["event"] == "admin request"]
        assert (told["command"], told["session"], told["reason"]) == ("end", "abc1", "maintenance")


async def test_end_says_when_a_session_takes_longer(
    tmp_path: Path, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_WAIT_S", 0.01)
    async with house(tmp_path) as at:
        live = at.enter(stack)
        live.is_stubborn = True
        answer, _ = await at.ask(EndSession(live.session.id))
        assert isinstance(answer, Ended)
        assert not answer.is_gone
        assert live.ends == [(SessionOutcome.ENDED, "ended by an administrator")]


async def test_a_session_is_ended_also_when_its_tape_takes_nothing(
    tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    async with house(tmp_path) as at:
        live = at.enter(stack)
        live.session.record = full_disk
        answer, _ = await at.ask(EndSession(live.session.id))
        assert isinstance(answer, Ended)
        assert answer.is_gone


def full_disk(name: str, data: dict[str, Any]) -> None:
    raise TapeError("no space left")


@pytest.mark.parametrize("request_", [EndSession("ab"), WatchSession("ab")])
async def test_an_id_has_to_mean_one_session(
    tmp_path: Path, stack: contextlib.ExitStack, request_: Request
) -> None:
    async with house(tmp_path) as at:
        answer, _ = await at.ask(request_)
        assert answer == Refused("unknown", "no live session 'ab'")
        first, second = at.enter(stack, identifier="abc"), at.enter(stack, identifier="abd")
        answer, _ = await at.ask(request_)
        assert answer == Refused("ambiguous", "'ab' begins 2 session ids (abc, abd)")
        assert first.ends == second.ends == first.recorded == []
        assert len([entry for entry in at.lines if entry["event"] == "admin request refused"]) == 2


# watch


async def test_watch_gives_the_tape_from_its_start_while_it_is_written(
    tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    async with house(tmp_path) as at:
        live = at.enter(stack)
        live.write(b"header")
        async with await at.connect() as stream:
            await stream.send_all(line(WatchSession(live.session.id)))
            answer = read_answer(await receive_line(stream))
            assert isinstance(answer, Watching)
            assert (answer.session.id, answer.tape_bytes) == (live.session.id, 6)
            assert await receive_exactly(stream, 6) == b"header"
            for piece in (b"one", b"x" * 200_000, b"three"):
                live.write(piece)
                assert await receive_exactly(stream, len(piece)) == piece
            live.write(b"end")
            live.leave.close()
            assert await read_all(stream) == b"end"
        assert live.recorded == [("watched", {"uid": os.geteuid()})]
        (over,) = [entry for entry in at.lines if entry["event"] == "admin watch over"]
        assert (over["reason"], over["session"]) == ("the session is over", live.session.id)


async def test_several_watch_one_session(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    async with house(tmp_path) as at:
        live = at.enter(stack)
        live.write(b"header")
        async with await at.connect() as one, await at.connect() as two:
            for stream in (one, two):
                await stream.send_all(line(WatchSession(live.session.id)))
                await receive_line(stream)
                assert await receive_exactly(stream, 6) == b"header"
            live.leave.close()
            assert await read_all(one) == await read_all(two) == b""


async def test_a_watcher_who_leaves_is_let_go(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    async with house(tmp_path) as at:
        live = at.enter(stack)
        async with await at.connect() as stream:
            await stream.send_all(line(WatchSession(live.session.id)))
            await receive_line(stream)
        while not any(entry["event"] == "admin watch over" for entry in at.lines):
            await trio.testing.wait_all_tasks_blocked(0.01)
        (over,) = [entry for entry in at.lines if entry["event"] == "admin watch over"]
        assert over["reason"] == "the watcher left"
        assert live.ends == []


async def test_a_watcher_who_does_not_read_holds_up_nobody(
    tmp_path: Path, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_STALL_S", 0.2)
    async with house(tmp_path) as at:
        live = at.enter(stack)
        live.write(b"x" * 4_000_000)
        async with await at.connect() as stream:
            await stream.send_all(line(WatchSession(live.session.id)))
            answer, _ = await at.ask(ListSessions())
            assert answer == Listed(1)
            while not any(entry["event"] == "admin watch over" for entry in at.lines):
                await trio.testing.wait_all_tasks_blocked(0.01)
            (over,) = [entry for entry in at.lines if entry["event"] == "admin watch over"]
            assert over["reason"] == "the watcher did not read"
            assert len(await read_all(stream)) < 4_000_000


async def test_a_session_whose_tape_takes_nothing_is_not_watched(
    tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    async with house(tmp_path) as at:
        live = at.enter(stack)
        live.session.record = full_disk
        answer, _ = await at.ask(WatchSession(live.session.id))
        assert answer == Refused("unrecorded", "the tape cannot take it: no space left")


async def test_a_session_without_a_tape_is_not_watched(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    async with house(tmp_path) as at:
        live = at.enter(stack)
        live.session.tape_path = None
        answer, _ = await at.ask(WatchSession(live.session.id))
        assert answer == Refused("unrecorded", "this session has no tape yet; try again in a moment")
        live.session.tape_path = tmp_path / "gone.tape"
        answer, _ = await at.ask(WatchSession(live.session.id))
        assert isinstance(answer, Refused)
        assert "cannot be read (No such file or directory)" in answer.message


# Callers who do not behave


async def test_garbage_is_refused_and_the_next_is_served(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        for raw in (b"\xff" * 10_000, b"{}\n", b"x" * 10_000 + b"\n", b"GET / HTTP/1.1\r\n\r\n"):
            answer = await at.say(raw)
            assert isinstance(answer, Refused)
            assert answer.reason == "malformed"
        assert await at.ask(ListSessions()) == (Listed(0), [])
        assert "failed" not in "".join(entry["event"] for entry in at.lines)


async def test_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_TIMEOUT_S", 0.05)
    async with house(tmp_path) as at:
        assert await at.say(b'{"command": ') == Refused("malformed", "no whole request within 0.05 s")
        async with await at.connect() as stream:
            await stream.send_all(b'{"command": ')
        while not any("left without a request" in entry["event"] for entry in at.lines):
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await at.ask(ListSessions()) == (Listed(0), [])


async def test_a_caller_who_never_reads_a_long_list(
    tmp_path: Path, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.1)
    async with house(tmp_path) as at:
        for _ in range(300):
            at.enter(stack, detail="d" * 4000)
        async with await at.connect() as stream:
            await stream.send_all(line(ListSessions()))
            while not at.lines:
                await trio.testing.wait_all_tasks_blocked(0.01)
            await trio.sleep(0.2)
            assert len(await read_all(stream)) < 300 * 4000
        assert at.server._callers == 0


async def test_callers_beyond_the_limit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CALLERS", 2)
    async with house(tmp_path) as at:
        async with await at.connect(), await at.connect():
            answer, _ = await at.ask(ListSessions())
            assert isinstance(answer, Refused)
            assert answer.reason == "busy"
        while at.server._callers:
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await at.ask(ListSessions()) == (Listed(0), [])


async def test_a_fault_of_ours_ends_one_call(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    async with house(tmp_path) as at:
        live = at.enter(stack)

        def crash() -> float:
            raise ValueError("bug")

        live.session.idle_s = crash
        async with await at.connect() as stream:
            await stream.send_all(line(ListSessions()))
            assert await read_all(stream) == b""
        live.session.idle_s = lambda: 0.0
        answer, _ = await at.ask(ListSessions())
        assert answer == Listed(1)
        assert [entry["event"] for entry in at.lines].count("a request to the admin socket failed") == 1


async def test_a_broken_socket_ends_the_service_alone(tmp_path: Path) -> None:
    at = House(tmp_path)
    at.server.close()
    await at.server.serve()
    assert [entry["event"] for entry in at.lines] == ["the admin socket failed; sessions go on without it"]


# Who may


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_socket_is_the_owners_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        assert mode(at.path) == 0o600


async def test_or_a_groups_too(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    async with house(tmp_path, group) as at:
        assert mode(at.path) == 0o660
        assert at.path.stat().st_gid == os.getegid()
        assert await at.ask(ListSessions()) == (Listed(0), [])


async def test_the_socket_is_at_no_moment_open_to_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = House(tmp_path)
    at.server.close()
    seen: list[int] = []
    monkeypatch.setattr(Path, "chmod", lambda path, bits: seen.append(mode(path)))
    before = os.umask(0)
    try:
        AdminServer.open(Admin(socket=at.path), at.gateway).close()
    finally:
        os.umask(before)
    assert seen == [0o600]


async def test_who_is_admitted(tmp_path: Path) -> None:
    me = os.geteuid()
    async with house(tmp_path) as at:
        assert at.server.admits(Caller(1, 0, frozenset()))
        assert at.server.admits(Caller(1, me, frozenset()))
        assert not at.server.admits(Caller(1, me + 1, frozenset({0, os.getegid()})))
        at.server._group_id = 27
        assert at.server.admits(Caller(1, me + 1, frozenset({5, 27})))
        assert not at.server.admits(Caller(1, me + 1, frozenset({5, 28})))


@contextlib.contextmanager
def acting_as(uid: int, groups: list[int]) -> Iterator[None]:
    """Another account for a moment. The kernel notes who connects at the moment of connecting."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


@pytest.fixture
def open_directory(tmp_path: Path) -> Iterator[Path]:
    """Where other accounts come to, whatever pytest's own directories say."""
    mine = tmp_path.parents
    before = [(path, mode(path)) for path in (tmp_path, *mine) if "pytest" in path.name or path == tmp_path]
    for path, _ in before:
        path.chmod(0o755)
    yield tmp_path
    for path, bits in before:
        path.chmod(bits)


def connected(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


if os.geteuid() == 0:

    async def test_the_kernel_keeps_strangers_out(open_directory: Path) -> None:
        async with house(open_directory) as at:
            with acting_as(NOBODY, []), pytest.raises(PermissionError):
                connected(at.path)

    async def test_and_so_do_we_when_the_file_would_not(open_directory: Path) -> None:
        async with house(open_directory) as at:
            at.path.chmod(0o666)
            with acting_as(NOBODY, []):
                sock = connected(at.path)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
                answer = read_answer(await read_all(stream))
                assert answer == Refused("forbidden", "this account may not administer proxyd")
            (told,) = at.lines
            assert (told["event"], told["uid"]) == ("admin request refused", NOBODY)

    async def test_members_of_the_group_are_let_in(open_directory: Path) -> None:
        group = grp.getgrnam("games")
        async with house(open_directory, "games") as at:
            assert at.path.stat().st_gid == group.gr_gid
            with acting_as(NOBODY, []), pytest.raises(PermissionError):
                connected(at.path)
            with acting_as(NOBODY, [group.gr_gid]):
                sock = connected(at.path)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
                await stream.send_all(line(ListSessions()))
                assert read_answer(await read_all(stream)) == Listed(0)


# Opening


async def test_what_a_killed_daemon_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    House(tmp_path).server.close()
    assert stat.S_ISSOCK((tmp_path / "admin.sock").stat().st_mode)
    House(tmp_path).server.close()


async def test_one_that_is_served_stays(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        with pytest.raises(ListenError, match="stop the other daemon"):
            House(tmp_path)
        assert await at.ask(ListSessions()) == (Listed(0), [])


async def test_a_group_or_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="there is no group 'no-such-group'"):
        House(tmp_path, "no-such-group")
    at = House(tmp_path)
    at.server.close()
    with pytest.raises(ListenError, match="make its directory"):
        AdminServer.open(Admin(socket=tmp_path / "no/admin.sock"), at.gateway)
