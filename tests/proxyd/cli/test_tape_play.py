"""`tape play` without a terminal, and in a real one (a pty)."""

from __future__ import annotations

import argparse
import os
import pty
import select
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxyd.cli import tape as cli
from proxyd.cli import tape_play
from proxyd.tape.playing import Key
from tests.proxyd.tape.ssh_tapes import small_ssh_tape, terminal_tape, type_line
from tests.proxyd.tape.tapes import Clock, small_tape

DEADLINE_S = 60
IN_ITS_TERMINAL = """\
import os, sys
os.login_tty(0)
os.execv(sys.executable, [sys.executable, "-m", "proxyd", *sys.argv[1:]])
"""


def proxyd(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="proxyd")
    cli.add_parser(parser.add_subparsers())
    options = parser.parse_args(["tape", *arguments])
    return int(options.run(options))


def hours(directory: Path) -> Path:
    """A terminal in which something happens every hour."""
    clock = Clock()
    tape = terminal_tape(directory, clock, columns=132)
    tape.output(0, 1, b"\x1b[?1049h\x1b[?25lfirst\x1b]0;title\x07")
    for word in (b"second", b"third"):
        clock.now_s += 3600
        tape.output(0, 1, word)
    tape.closed(0, {"exit_status": 0})
    tape.end("done")
    return tape.path


# Without a terminal


def test_play_does_not_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tape_play.time, "sleep", lambda _: pytest.fail("waited"))
    assert proxyd("play", str(small_tape(tmp_path / "postgres"))) == 0
    assert "-- session ended: client left" in capsys.readouterr().out
    assert proxyd("play", str(hours(tmp_path))) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[0] firstsecondthird\n" in out


def test_play_waits_when_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(tape_play.time, "sleep", waits.append)
    clock = Clock()
    tape = terminal_tape(tmp_path, clock)
    type_line(tape, clock, "ls", b"a\r\n")
    clock.now_s += 60
    type_line(tape, clock, "cd")
    tape.end("done")
    assert proxyd("play", str(tape.path), "--speed", "2", "--idle-limit", "30s") == 0
    # Lines are shown when they are over.
    assert waits == [0.1875, 15.0]
    waits.clear()
    assert proxyd("play", str(tape.path), "--speed", "1", "--seek", "1m") == 0
    assert waits == [0.75]
    capsys.readouterr()


def test_one_channel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert proxyd("play", str(small_ssh_tape(tmp_path)), "--channel", "1") == 0
    out = capsys.readouterr().out
    assert "[1] 01234567" in out
    assert "[0]" not in out


# In a terminal


class Screen:
    """`proxyd tape play` in a pty: what it wrote, and keys for it."""

    def __init__(self, *arguments: str) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_ITS_TERMINAL, "tape", "play", *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
        )
        self.text = ""

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + DEADLINE_S
        while text not in self.text:
            ready, _, _ = select.select([self.master], [], [], max(0, until - time.monotonic()))
            assert ready, f"{text!r} did not come, but {self.text!r}"
            self.text += os.read(self.master, 65536).decode()

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def finish(self) -> int:
        """Exit status; the terminal is as it was."""
        status = self.process.wait(DEADLINE_S)
        while select.select([self.master], [], [], 0)[0]:
            self.text += os.read(self.master, 65536).decode()
        assert termios.tcgetattr(self.slave) == self.before
        return status


@contextmanager
def playing(*arguments: str) -> Iterator[Screen]:
    screen = Screen(*arguments)
    try:
        yield screen
    finally:
        screen.process.kill()
        screen.process.wait()
        os.close(screen.master)
        os.close(screen.slave)


def test_a_terminal_replays_in_a_terminal(tmp_path: Path) -> None:
    with playing(str(hours(tmp_path)), "--speed", "1000000") as screen:
        screen.wait_for("-- session ended: done")
        assert screen.finish() == 0
        assert "-- recorded at 132x24, larger than this terminal" in screen.text
        assert "\x1b[?1049h\x1b[?25lfirstsecondthird\x1b[?1049l" in screen.text
        assert "title" not in screen.text
        assert "\x1b[?25h" in screen.text


def test_keys(tmp_path: Path) -> None:
    with playing(str(hours(tmp_path))) as screen:
        screen.wait_for("first")
        screen.press(b"x")  # no key of ours
        screen.press(b" .")
        screen.press(b" ")
        screen.press(b".")
        screen.wait_for("second")
        screen.press(b".")
        screen.wait_for("third")
        screen.wait_for("-- session ended: done")
        assert screen.finish() == 0


@pytest.mark.parametrize(("key", "status"), [(b"q", 0), (b"\x03", tape_play.INTERRUPTED)])
def test_leaving(tmp_path: Path, key: bytes, status: int) -> None:
    with playing(str(hours(tmp_path))) as screen:
        screen.wait_for("first")
        screen.press(key)
        assert screen.finish() == status
        assert "second" not in screen.text
        assert screen.text.partition("first")[2].startswith("\x1b[?1049l")
        assert "\x1b[?25h" in screen.text


def test_back_and_forward(tmp_path: Path) -> None:
    with playing(str(hours(tmp_path)), "--seek", "1h") as screen:
        screen.wait_for("firstsecond")
        screen.press(b"\x1b[D")
        screen.wait_for("\x1b[H\x1b[2J")
        screen.press(b"\x1b[C")
        screen.wait_for("\x1b[H\x1b[2J-- [0] session opened")
        screen.press(b"q")
        assert screen.finish() == 0
        assert screen.text.count("first") == 2


def test_keys_that_come_together() -> None:
    master, slave = pty.openpty()
    try:
        tty.setraw(slave)
        keyboard = tape_play.Keyboard(slave)
        os.write(master, b"x \x1bOC\x1b[D\x1b[A.q")
        keys = [keyboard.wait(DEADLINE_S) for _ in range(5)]
        assert keys == [Key.PAUSE, Key.FORWARD, Key.BACK, Key.NEXT, Key.QUIT]
        assert keyboard.wait(0.0) is None
    finally:
        os.close(master)
        os.close(slave)
