"""`proxyd sessions` against an admin socket, and against what is none."""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from proxyd import admin as admin_module
from proxyd.cli import sessions as module
from proxyd.cli.main import main
from tests.proxyd.documents import CONFIG, write_setup
from tests.proxyd.tape.tapes import record
from tests.proxyd.test_admin import house

Output = pytest.CaptureFixture[str]


async def run(*arguments: str | Path) -> int:
    """The command in a thread, while the daemon's side goes on."""
    return await trio.to_thread.run_sync(partial(main, ["sessions", *(str(one) for one in arguments)]))


async def test_ls(tmp_path: Path, capsys: Output) -> None:
    async with house(tmp_path) as at:
        with ExitStack() as stack:
            at.enter(stack, identifier="0123456789abcdef", detail="sales", idle_s=lambda: 75.0)
            at.enter(stack, identifier="1123456789abcdef", subject="bob\x1b[2J")
            assert await run("ls", "--socket", at.path) == 0
            head, one, two = capsys.readouterr().out.splitlines()
            assert head.startswith("SESSION           PROTOCOL  SUBJECT")
            assert one.startswith("0123456789abcdef  postgres  ann")
            assert "shop/sales" in one
            assert "1m15s" in one
            assert "bob\\x1b[2J" in two
            assert await run("ls", "--json", "--socket", at.path) == 0
            found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
            assert [(view["id"], view["detail"]) for view in found] == [
                ("0123456789abcdef", "sales"),
                ("1123456789abcdef", ""),
            ]


async def test_the_socket_is_named_by_the_configuration(tmp_path: Path, capsys: Output) -> None:
    async with house(tmp_path) as at:
        config = write_setup(tmp_path, config=CONFIG + "admin: {socket: admin.sock}\n")
        assert await run("ls", "--config", config) == 0
        assert capsys.readouterr().out.startswith("SESSION")
        assert at.lines[-1]["command"] == "ls"


async def test_end(tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as at:
        with ExitStack() as stack:
            live = at.enter(stack, identifier="abc")
            assert await run("end", "ab", "--reason", "maintenance", "--socket", at.path) == 0
            assert capsys.readouterr().out == "ended: session abc of ann to shop as readonly\n"
            assert live.ends[0][1] == "ended by an administrator: maintenance"
            monkeypatch.setattr(admin_module, "END_WAIT_S", 0.01)
            live = at.enter(stack, identifier="xyz")
            live.is_stubborn = True
            assert await run("end", "xyz", "--socket", at.path) == module.NOT_ENDED
            assert capsys.readouterr().out.startswith("told to end, and not gone yet: session xyz")
            assert await run("end", "xyz", "--json", "--socket", at.path) == module.NOT_ENDED
            assert json.loads(capsys.readouterr().out)["is_gone"] is False


async def test_watch_until_the_session_ends(tmp_path: Path, capsys: Output) -> None:
    async with house(tmp_path) as at:
        with ExitStack() as stack:
            tape = record(tmp_path / "tapes")
            live = at.enter(stack)
            live.session.tape_path = tape.path
            tape.request(1, (), b"Q\0\0\0\rselect 1\0")
            async with trio.open_nursery() as nursery:
                statuses: list[int] = []

                async def watch(*options: str) -> None:
                    statuses.append(await run("watch", live.session.id, "--socket", at.path, *options))

                nursery.start_soon(watch)
                nursery.start_soon(watch, "--from-start", "--json")
                while len(live.recorded) < 2:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                tape.request(2, (), b"Q\0\0\0\rselect 2\0")
                tape.end("client left")
                live.leave.close()
            assert statuses == [0, 0]
            printed = capsys.readouterr().out.splitlines()
            text = [line for line in printed if not line.startswith("{")]
            frames = [json.loads(line) for line in printed if line.startswith("{")]
            assert not any("select 1" in line for line in text)
            assert any("select 2" in line for line in text)
            assert text[-1] == "-- session ended: client left"
            assert [frame["kind"] for frame in frames] == ["header", "request", "request", "end"]


async def test_watch_says_when_the_tape_breaks_off(tmp_path: Path, capsys: Output) -> None:
    async with house(tmp_path) as at:
        with ExitStack() as stack:
            tape = record(tmp_path / "tapes")
            live = at.enter(stack, identifier="abc")
            live.session.tape_path = tape.path
            live.session.record = lambda name, data: live.leave.close()
            assert await run("watch", "abc", "--socket", at.path) == 1
            assert "session abc: the tape broke off" in capsys.readouterr().err
            tape.close()
            live = at.enter(stack, identifier="xyz")
            live.write(b"this is no tape at all")
            live.session.record = lambda name, data: live.leave.close()
            assert await run("watch", "xyz", "--socket", at.path) == 1
            assert "this is not a tape" in capsys.readouterr().err


async def test_sessions_that_are_not_there(tmp_path: Path, capsys: Output) -> None:
    async with house(tmp_path) as at:
        for command in ("watch", "end"):
            assert await run(command, "abc", "--socket", at.path) == module.NO_SESSION
            assert capsys.readouterr().err == "proxyd: no live session 'abc'\n"
        with ExitStack() as stack:
            at.enter(stack, identifier="abc")
            at.enter(stack, identifier="abd")
            assert await run("end", "ab", "--socket", at.path) == module.NO_SESSION
            assert "begins 2 session ids (abc, abd)" in capsys.readouterr().err


async def test_a_request_that_is_refused(tmp_path: Path, capsys: Output) -> None:
    async with house(tmp_path) as at:
        at.server.admits = lambda caller: False  # type: ignore[method-assign]
        assert await run("ls", "--socket", at.path) == module.NOT_REACHED
        assert capsys.readouterr().err == "proxyd: this account may not administer proxyd\n"
        del at.server.admits
        assert await run("end", "x", "--reason", "two\nlines", "--socket", at.path) == 1
        assert "one line of printable text" in capsys.readouterr().err


# No daemon


async def test_a_daemon_that_is_not_there(tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "admin.sock"
    assert await run("ls", "--socket", path) == module.NOT_REACHED
    assert f"there is no admin socket at {path}" in capsys.readouterr().err
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
        assert await run("ls", "--socket", path) == module.NOT_REACHED
        assert f"nobody listens at {path}: proxyd is not running" in capsys.readouterr().err


async def test_a_daemon_that_hangs_up_or_talks_nonsense(tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer(data: bytes) -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(4096)
                sock.sendall(data)

        for data, why in (
            (b"", "has hung up"),
            (b"220 mail.example.com ESMTP\r\n", "does not speak as proxyd does"),
            (b'{"answer": "ended", "session": {}, "is_gone": true}\n', "does not speak as proxyd does"),
            (b'{"answer": "sessions", "count": 1}\n', "has hung up"),
            (b'{"answer": "sessions", "count": 1}\n{}\n', "does not speak as proxyd does"),
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, answer, data)
                assert await run("ls", "--socket", path) == module.NOT_REACHED
            assert why in capsys.readouterr().err


async def test_a_socket_that_this_account_may_not_use(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(sock: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert await run("ls", "--socket", tmp_path / "admin.sock") == module.NOT_REACHED
    assert "this account may not use" in capsys.readouterr().err


async def test_a_configuration_without_admin(tmp_path: Path, capsys: Output) -> None:
    config = write_setup(tmp_path)
    assert await run("ls", "--config", config) == module.NOT_REACHED
    assert f"{config} has no `admin`: add `admin:" in capsys.readouterr().err
    assert await run("ls", "--config", tmp_path / "none.yaml") == module.NOT_REACHED
    assert "cannot be read" in capsys.readouterr().err


async def test_who_cannot_read_the_configuration_still_finds_the_socket(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEFAULT_CONFIG", tmp_path / "proxyd.yaml")
    monkeypatch.setattr(module, "DEFAULT_SOCKET", tmp_path / "admin.sock")
    async with house(tmp_path) as at:
        monkeypatch.setattr(os, "access", lambda path, bits: False)
        assert await run("ls", "--config", tmp_path / "proxyd.yaml") == 0
        assert at.lines[-1]["command"] == "ls"
        assert capsys.readouterr().out.startswith("SESSION")


@pytest.mark.parametrize("command", ["ls", "watch", "end"])
def test_every_command_tells_its_exit_statuses(command: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sessions", command, "--help"])
    assert ended.value.code == 0
    assert "4 no such session, or several" in " ".join(capsys.readouterr().out.split())
