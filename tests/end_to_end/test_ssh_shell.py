"""A person's interactive session, in a terminal that tmux keeps: what is typed, what the screen shows, how it ends."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import wait_until
from tests.end_to_end.ssh_route import SshRoute
from tests.end_to_end.ssh_screen import Screen

PROMPT = "target$"
LOST = 255
CAT = "sh -c 'echo ready; exec cat'"
PID = re.compile(r"^pid=(\d+)=$", re.MULTILINE)


@pytest.fixture
def shell(route: SshRoute) -> Iterator[Screen]:
    """A shell at its first prompt."""
    with Screen(route.words(route.name)) as screen:
        screen.wait_for(PROMPT)
        yield screen


def start_cat(shell: Screen) -> None:
    """Not the shell's own editor but the terminal echoes what is typed from now on, and cat repeats it."""
    shell.write(f"{CAT}\n")
    shell.wait_for_line("ready")


def test_a_prompt_typing_and_editing(shell: Screen) -> None:
    shell.write("echo one-$((6*7))\n")
    shell.wait_for_line("one-42")
    shell.write("echo mistype")
    shell.press("BSpace", "BSpace", "BSpace", "BSpace")
    shell.write("ed\n")
    shell.wait_for_line("mised")
    shell.press("Up")
    shell.press("C-a", "C-k")
    shell.write("printf 'ä€𝄞\\n'\n")
    shell.wait_for_line("ä€𝄞")


def test_the_terminal_is_one(shell: Screen) -> None:
    shell.write("tty; echo $TERM; stty size; tput cols; test -t 0 -a -t 1 -a -t 2 && echo all\n")
    shell.wait_for("/dev/pts/", "tmux-256color", "30 100", "all")
    shell.wait_for_line("100")


def test_typed_passwords_are_not_echoed(shell: Screen) -> None:
    shell.write('stty -echo; echo now; read -r secret; stty echo; echo "got ${#secret}"\n')
    shell.wait_for_line("now")
    shell.write("hunter2\n")
    shell.wait_for_line("got 7")
    assert "hunter2" not in shell.history()


def test_colours_and_the_cursor(shell: Screen) -> None:
    shell.write("clear; printf '\\033[1;31mred\\033[0m \\033[38;2;1;200;3mgreen\\033[0m\\033[10;20Hhe''re'\n")
    wait_until(lambda: "".join(shell.lines()[9:10])[19:].startswith("here"), "the words at their places")
    shown = shell.coloured()
    assert re.search(r"\x1b\[1;?(m\x1b\[)?31mred", shown)
    assert "38;2;1;200;3" in shown or "38:2::1:200:3" in shown


def test_a_new_size_is_seen_by_what_runs(shell: Screen) -> None:
    script = 'trap "stty size" WINCH; echo ready; while :; do sleep 0.1; done'
    shell.write(f"sh -c '{script}'\n")
    shell.wait_for_line("ready")
    for columns, rows in ((132, 43), (60, 20), (200, 50)):
        shell.resize(columns, rows)
        shell.wait_for_line(f"{rows} {columns}")


def test_many_sizes_in_a_row_end_at_the_last(shell: Screen) -> None:
    for columns in range(70, 100):
        shell.resize(columns, 24)
    shell.resize(111, 33)
    shell.write("clear\n")

    def is_there() -> bool:
        shell.write("stty size\n")
        return "33 111" in shell.lines()

    wait_until(is_there, "the last size")


def test_ctrl_c_ends_the_command_and_not_the_shell(shell: Screen) -> None:
    start_cat(shell)
    shell.write("echoed\n")
    wait_until(lambda: shell.lines().count("echoed") == 2, "the answer of cat")
    shell.press("C-c")
    shell.write("echo status $?\n")
    shell.wait_for_line("status 130")


def test_ctrl_c_ends_a_flood(shell: Screen) -> None:
    """The interrupt is not queued behind what the flood has left on its way."""
    shell.write("yes flood\n")
    shell.wait_for_line("flood")
    shell.press("C-c")
    shell.write("echo over $?\n")
    shell.wait_for_line("over 130")


def test_ctrl_z_fg_and_ctrl_d(shell: Screen) -> None:
    start_cat(shell)
    shell.write("first\n")
    wait_until(lambda: shell.lines().count("first") == 2, "the answer of cat")
    shell.press("C-z")
    shell.wait_for("Stopped")
    shell.write("fg\n")
    shell.wait_for_line(CAT)
    shell.write("second\n")
    wait_until(lambda: shell.lines().count("second") == 2, "the answer of cat")
    shell.press("C-d")
    shell.write("exit 6\n")
    assert shell.exit_status() == 6


def test_ctrl_d_ends_the_shell(shell: Screen) -> None:
    shell.write("true\n")
    shell.press("C-d")
    assert shell.exit_status() == 0


@pytest.mark.parametrize("status", [0, 3, 130])
def test_the_exit_status_of_a_shell(shell: Screen, status: int) -> None:
    shell.write(f"exit {status}\n")
    assert shell.exit_status() == status


def test_a_shell_ended_by_a_signal(shell: Screen) -> None:
    shell.write("kill -KILL $$\n")
    assert shell.exit_status() == LOST


def test_the_clients_own_escape_closes(shell: Screen) -> None:
    shell.write("\n~.")
    assert shell.exit_status() == LOST


def test_the_window_that_closes_hangs_up_on_what_ran(route: SshRoute) -> None:
    with Screen(route.words(route.name)) as screen:
        screen.wait_for(PROMPT)
        screen.write("trap 'exit' HUP; echo pid=$$=; while :; do sleep 0.1; done\n")
        wait_until(lambda: PID.search(screen.text()) is not None, "the process id")
        found = PID.search(screen.text())
    assert found
    wait_until(lambda: not os.path.exists(f"/proc/{found[1]}"), "the hang-up")


def test_an_editor(route: SshRoute) -> None:
    path = route.server.home / "edited.txt"
    with Screen(route.words(route.name)) as screen:
        screen.wait_for(PROMPT)
        screen.write(f"vi -u NONE -N -n {path}\n")
        screen.wait_for("~", "edited.txt")
        screen.write("ifirst line\nsecond line")
        screen.press("Escape")
        screen.write("ggdwyyp")
        screen.wait_for("line\nline\nsecond line")
        screen.resize(90, 20)
        wait_until(
            lambda: len([line for line in screen.lines() if line == "~"]) == 16, "the new size of the screen"
        )
        screen.write(":wq\n")
        screen.wait_for(PROMPT)
        screen.write("exit\n")
        assert screen.exit_status() == 0
    assert path.read_text() == "line\nline\nsecond line\n"
    path.unlink()


def test_a_pager(shell: Screen) -> None:
    shell.write("seq 1 1000 | LESS= less\n")
    shell.wait_for_line(":")
    assert shell.lines()[0] == "1"
    shell.press("Space")
    shell.wait_for_line("30")
    shell.write("G")
    shell.wait_for("1000", "(END)")
    shell.write("?^777$\n")
    wait_until(lambda: shell.lines()[0] == "777", "the page of a search")
    shell.write("q")
    shell.wait_for(PROMPT)


def test_a_long_screen_comes_whole(shell: Screen) -> None:
    shell.write("seq -f 'row %06g of the long output that follows' 1 20000; echo fin\n")
    shell.wait_for_line("fin")
    shown = re.findall(r"^row (\d{6}) of the long output that follows$", shell.history(), re.MULTILINE)
    assert list(map(int, shown)) == list(range(1, 20001))


def test_a_pasted_text_comes_whole(shell: Screen) -> None:
    """More than a line buffer at once: what is typed early waits."""
    lines = [f"line {number} " + "x" * 60 for number in range(200)]
    shell.write("sleep 0.5; cat >/dev/null <<'END'; echo pasted\n")
    shell.write("\n".join(lines) + "\nEND\n")
    shell.wait_for_line("pasted")
    shell.write("echo next\n")
    shell.wait_for_line("next")


def test_a_command_in_a_terminal(route: SshRoute) -> None:
    with Screen(route.words("-t", route.name, 'stty size; read -r line; echo "<$line>"; exit 5')) as screen:
        screen.wait_for_line("30 100")
        screen.write("typed\n")
        screen.wait_for_line("<typed>")
        assert screen.exit_status() == 5


def test_a_shell_without_a_terminal(route: SshRoute) -> None:
    done = route.popen("", "-T")
    out, err = done.communicate(b"echo from a script; exit 8\n", timeout=30)
    assert out == b"from a script\n"
    assert err == b""
    assert done.returncode == 8


def test_two_terminals_at_once_are_apart(route: SshRoute) -> None:
    with Screen(route.words(route.name)) as one, Screen(route.words(route.name), 80, 24) as other:
        for screen in (one, other):
            screen.wait_for(PROMPT)
        one.write("mine=1\n")
        start_cat(one)
        other.write('echo "other ${mine-unset}"; stty size\n')
        other.wait_for_line("other unset")
        other.wait_for_line("24 80")
        other.write("exit 2\n")
        assert other.exit_status() == 2
        one.write("still\n")
        wait_until(lambda: one.lines().count("still") == 2, "the first terminal's answer")


def test_an_account_that_is_not_root(ordinary_route: SshRoute, tmp_path: Path) -> None:
    route, server = ordinary_route, ordinary_route.server
    assert route.output("id -un; exit 0").strip() == server.login != "root"
    with Screen(route.words(route.name)) as screen:
        screen.wait_for(PROMPT)
        screen.write("stty size; whoami\n")
        screen.wait_for_line("30 100")
        screen.wait_for_line(server.login)
        screen.write("exit 4\n")
        assert screen.exit_status() == 4
    upload = tmp_path / "upload"
    upload.write_bytes(os.urandom(100_000))
    route.sftp(f"put {upload} {server.home}/upload\nget {server.home}/upload {tmp_path}/back")
    assert (tmp_path / "back").read_bytes() == upload.read_bytes()
