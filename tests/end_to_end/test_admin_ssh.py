"""`proxyd sessions` and SSH: a shell listed, watched on another terminal as it happens, and ended."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from demo.gateway import program
from tests.end_to_end.conftest import SshGatewayFactory
from tests.end_to_end.running import Document, wait_until
from tests.end_to_end.ssh_gateway import LOGIN, SshGateway
from tests.end_to_end.ssh_route import TARGET
from tests.end_to_end.ssh_screen import Screen

PROMPT = "target$"
LOST = 255


@pytest.fixture
def administered(make_ssh_gateway: SshGatewayFactory) -> SshGateway:
    def adjust(config: Document) -> None:
        config["admin"] = {"socket": "admin.sock"}

    gateway: SshGateway = make_ssh_gateway(adjust=adjust)
    return gateway


@pytest.fixture
def shell(administered: SshGateway) -> Iterator[Screen]:
    """A shell at its first prompt."""
    route = administered.route()
    with Screen(route.words(route.name)) as screen:
        screen.wait_for(PROMPT)
        yield screen


def words(gateway: SshGateway, command: str, *more: str) -> list[str]:
    return [program(), "sessions", command, "--config", str(gateway.config_path), *more]


def listed(gateway: SshGateway) -> list[dict[str, Any]]:
    done = subprocess.run(words(gateway, "ls", "--json"), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def only(gateway: SshGateway) -> dict[str, Any]:
    (session,) = listed(gateway)
    return session


def end(gateway: SshGateway, session: str, *more: str) -> dict[str, Any]:
    done = subprocess.run(
        words(gateway, "end", session, "--json", *more), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_ls_tells_where_a_shell_goes(administered: SshGateway, shell: Screen) -> None:
    session = only(administered)
    assert (session["protocol"], session["listener"], session["subject"]) == ("ssh", "ssh", "alice")
    assert (session["target"], session["login"], session["detail"]) == (TARGET, LOGIN, "")
    assert session["operations"] == 1


def test_watch_is_the_shell_as_it_happens(administered: SshGateway, shell: Screen) -> None:
    shell.write("echo before-$((6*7))\n")
    shell.wait_for_line("before-42")
    with Screen(words(administered, "watch", only(administered)["id"])) as watcher:
        watcher.wait_for("before-42", PROMPT)  # where the terminal stands
        shell.write("echo live-$((6*8))\n")
        watcher.wait_for_line("live-48")
        watcher.write("this is not for the shell\n")
        shell.write("printf '\\033[2J\\033[5;10Hover there'; tput civis; read x\n")
        watcher.wait_for("over there")
        wait_until(lambda: watcher.lines()[4:5] == shell.lines()[4:5], "the same place on both screens")
        assert "not for the shell" not in shell.history()
        assert "not for the shell" not in watcher.text()
        shell.write("\nexit\n")
        assert watcher.exit_status() == 0
        watcher.wait_for("-- session ended: ")


def test_a_watcher_leaves_without_a_trace_on_the_shell(administered: SshGateway, shell: Screen) -> None:
    def left() -> list[Document]:
        return administered.logged("admin watch over", reason="the watcher left")

    watch = words(administered, "watch", only(administered)["id"])
    with Screen(watch) as watcher:
        watcher.wait_for(PROMPT)
        watcher.press("C-c")
        wait_until(lambda: len(left()) == 1, "the end of the watching")
    with subprocess.Popen([*watch, "--from-start"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"-- session ")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    wait_until(lambda: len(left()) == 2, "the end of the watching")
    shell.write("echo on-$((6*7))\n")
    shell.wait_for_line("on-42")
    assert len(listed(administered)) == 1


def test_watch_into_a_pipe_is_text(administered: SshGateway, shell: Screen) -> None:
    watch = words(administered, "watch", only(administered)["id"], "--from-start")
    with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as watcher:
        wait_until(lambda: bool(administered.logged("admin request", command="watch")), "watching")
        shell.write("printf '\\033[31mred\\033[0m\\n'; exit\n")
        text = watcher.communicate(timeout=60)[0]
    assert watcher.returncode == 0
    assert "[0] red" in text.splitlines()
    assert "\x1b" not in text
    assert "event watched" in text


@pytest.mark.parametrize("is_busy", [False, True])
def test_end_closes_a_shell_and_says_so(administered: SshGateway, shell: Screen, is_busy: bool) -> None:
    if is_busy:
        shell.write("while sleep 0.05; do echo busy; done\n")
        shell.wait_for_line("busy")
    session = only(administered)
    assert end(administered, session["id"], "--reason", "go home")["is_gone"] is True
    assert shell.exit_status() == LOST
    assert "ended by an administrator: go home" in shell.history()
    wait_until(lambda: not listed(administered), "the end of the session")
    (told,) = administered.logged("session ended", session=session["id"])
    assert (told["outcome"], told["reason"]) == ("ended", "ended by an administrator: go home")
    assert administered.proxyd("tape", "verify", session["tape"]).returncode == 0


def test_end_closes_a_shell_that_floods_its_terminal(administered: SshGateway, shell: Screen) -> None:
    shell.write("yes\n")
    shell.wait_for_line("y")
    assert end(administered, only(administered)["id"])["is_gone"] is True
    assert shell.exit_status() == LOST


def test_a_watcher_sees_the_end(administered: SshGateway, shell: Screen) -> None:
    session = only(administered)
    with Screen(words(administered, "watch", session["id"])) as watcher:
        watcher.wait_for(PROMPT)
        end(administered, session["id"])
        assert watcher.exit_status() == 0
        watcher.wait_for("-- session ended: ended by an administrator")


def test_a_session_at_the_menu_is_ended_too(administered: SshGateway) -> None:
    route = administered.route(target=None)
    with Screen(route.words(route.name)) as menu:
        wait_until(lambda: bool(listed(administered)), "the session")
        menu.wait_for(TARGET)
        session = only(administered)
        assert session["target"] == ""
        assert end(administered, session["id"])["is_gone"] is True
        assert menu.exit_status() == LOST
        assert "ended by an administrator" in menu.history()
