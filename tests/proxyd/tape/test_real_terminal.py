"""A real bash and a real tmux in a pty, recorded as the gateway would, and what the tape makes of it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

from docs.make_replay import Drawing, Screen, frames_of
from proxyd.tape.asciicast import Asciicast
from proxyd.tape.entries import Echoed, Entry, Output, Resized, TapeHeader, Withheld
from proxyd.tape.live import LiveView
from proxyd.tape.reader import read_tape
from proxyd.tape.ssh_taping import SshTape
from tests.proxyd.tape.casts import read_cast
from tests.proxyd.tape.ssh_tapes import terminal_tape
from tests.proxyd.tape.tapes import Clock

DEADLINE_S = 60
COLUMNS, ROWS = 80, 24
PROMPT = "deploy@web1$"


class Terminal:
    """A program in a pty; its input and output go on a tape, its screen can be looked at."""

    def __init__(self, tape: SshTape, clock: Clock, *command: str, home: Path) -> None:
        self._tape = tape
        self._clock = clock
        self._master, slave = pty.openpty()
        self._resize_pty(COLUMNS, ROWS)
        self._command = command
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
            "PS1": r"\[\e[1;32m\]deploy@web1\[\e[0m\]$ ",
            "TMUX_TMPDIR": str(home),
        }
        begin = "import os, sys; os.login_tty(0); os.execvp(sys.argv[1], sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", begin, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=self._environment,
        )
        os.close(slave)
        self.screen = Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)

    def wait_until(self, is_there: Callable[[str], bool]) -> None:
        until = time.monotonic() + DEADLINE_S
        while not is_there("\n".join(self.screen.display)):
            assert time.monotonic() < until, self.screen.display
            if select.select([self._master], [], [], 0.05)[0]:
                self._read()

    def wait_for(self, text: str) -> None:
        self.wait_until(lambda screen: text in screen)

    def wait_for_prompt(self, prompt: str = PROMPT) -> None:
        self.wait_until(lambda _: self.screen.display[self.screen.cursor.y].rstrip() == prompt)

    def press(self, keys: bytes) -> None:
        self._clock.now_s += 0.125
        self._tape.input(0, keys)
        os.write(self._master, keys)

    def type(self, text: str) -> None:
        """As a person types: each key once the one before is on the screen."""
        for key in text:
            x, y = self.screen.cursor.x, self.screen.cursor.y
            self.press(key.encode())
            self.wait_until(lambda _, x=x, y=y: (self.screen.cursor.x, self.screen.cursor.y) != (x, y))  # type: ignore[misc]

    def reads_a_secret(self) -> bool:
        """Whole lines without echo. (At its own prompt a shell reads key by key and echoes by itself.)"""
        flags = termios.tcgetattr(self._master)[3]
        return bool(flags & termios.ICANON) and not flags & termios.ECHO

    def resize(self, columns: int, rows: int) -> None:
        self._tape.resized(0, columns, rows)
        self.screen.resize(rows, columns)
        self._resize_pty(columns, rows)

    def close(self) -> None:
        """Once the program has ended."""
        self.process.wait(DEADLINE_S)
        while self._read():
            pass
        os.close(self._master)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self._command[0] == "tmux":  # its server lives on by itself
            end = ["tmux", "kill-server"]
            subprocess.run(end, env=self._environment, check=False, capture_output=True, timeout=DEADLINE_S)

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # nobody has the other end open any more
            return False
        self._clock.now_s += 0.0625
        self._tape.output(0, 1, data)
        self._stream.feed(data)
        return bool(data)

    def _resize_pty(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def recorded(directory: Path, *command: str) -> Iterator[tuple[Terminal, Path]]:
    clock = Clock()
    tape = terminal_tape(directory / "tapes", clock)
    terminal = Terminal(tape, clock, *command, home=directory)
    try:
        yield terminal, tape.path
        terminal.close()
    finally:
        terminal.kill()
        tape.end("done")


def read(path: Path) -> tuple[TapeHeader, list[Entry]]:
    with read_tape(path) as tape:
        assert tape.header is not None
        return tape.header, list(tape.entries())


def typed(path: Path) -> list[str | int]:
    """Released lines, and how many bytes were withheld."""
    found: list[str | int] = []
    for entry in read(path)[1]:
        if isinstance(entry, Echoed):
            found.append(entry.text)
        elif isinstance(entry, Withheld):
            found.append(entry.size)
    return found


def check_every_screen(path: Path) -> None:
    """A watcher's terminal shows at every moment what the client's showed."""
    header, entries = read(path)
    seen, watched = Screen(COLUMNS, ROWS), Screen(COLUMNS, ROWS)
    seen_stream, watched_stream = pyte.ByteStream(seen), pyte.Stream(watched)
    view = LiveView(header)
    for entry in entries:
        text = view.text(entry)
        if isinstance(entry, Resized):
            seen.resize(entry.rows, entry.columns)
            watched.resize(entry.rows, entry.columns)
        if isinstance(entry, Output):
            seen_stream.feed(entry.raw)
            watched_stream.feed(text)
            assert watched.display == seen.display
            assert (watched.cursor.x, watched.cursor.y) == (seen.cursor.x, seen.cursor.y)


@pytest.mark.parametrize("prompt", ["Password: ", "? ", ""])
def test_bash(tmp_path: Path, prompt: str) -> None:
    with recorded(tmp_path, "bash", "--norc", "--noprofile", "-i") as (shell, path):
        shell.wait_for_prompt()
        shell.type("echo grüße")
        shell.press(b"\r")
        shell.wait_for("\ngrüße")
        shell.wait_for_prompt()
        shell.type("ecx\x7fho two")
        shell.press(b"\r")
        shell.wait_for("\ntwo")
        shell.wait_for_prompt()
        shell.type(f"read -rs -p '{prompt}' x && echo go")
        shell.press(b"\r")
        shell.wait_until(lambda _: shell.reads_a_secret())
        for key in b"hunter2":
            shell.press(bytes([key]))
        shell.press(b"\r")
        shell.wait_for(f"\n{prompt}go ")
        shell.wait_for_prompt()
        shell.type("exit")
        shell.press(b"\r")
    assert typed(path) == [
        "echo grüße\r",
        "echo two\r",
        f"read -rs -p '{prompt}' x && echo go\r",
        8,
        "exit\r",
    ]
    assert b"hunter2" not in path.read_bytes()
    check_every_screen(path)


def test_completion_and_history(tmp_path: Path) -> None:
    (tmp_path / "a-long-name").write_text("inside\n")
    with recorded(tmp_path, "bash", "--norc", "--noprofile", "-i") as (shell, path):
        shell.wait_for_prompt()
        shell.type("cd")
        shell.press(b"\r")
        shell.wait_for(f"{PROMPT} cd".ljust(COLUMNS) + f"\n{PROMPT}")
        shell.wait_for_prompt()
        shell.type("cat a-l")
        shell.press(b"\t")
        shell.wait_for("a-long-name")
        shell.press(b"\r")
        shell.wait_for("\ninside")
        shell.wait_for_prompt()
        shell.press(b"\x1b[A")
        shell.wait_until(lambda screen: screen.count("cat a-long-name") == 2)
        shell.press(b"\r")
        shell.wait_until(lambda screen: screen.count("\ninside") == 2)
        shell.wait_for_prompt()
        shell.type("exit")
        shell.press(b"\r")
    assert typed(path) == ["cd\r", 9, 4, "exit\r"]


def test_tmux(tmp_path: Path) -> None:
    shell = "env PS1='% ' bash --norc --noprofile"
    with recorded(tmp_path, "tmux", "-f", "/dev/null", "new", shell) as (tmux, path):
        tmux.wait_for("[0] 0:bash")
        tmux.wait_for_prompt("%")
        tmux.type("seq 40")
        tmux.press(b"\r")
        tmux.wait_for("\n40")
        tmux.press(b'\x02"')
        tmux.wait_until(lambda screen: "─" * 20 in screen)
        tmux.resize(100, 30)
        tmux.wait_until(lambda screen: "─" * 90 in screen)
        tmux.press(b"\x02&")
        tmux.wait_for("(y/n)")
        tmux.press(b"y")
    # What tmux draws meanwhile (its status line, the other pane) may keep a line off the tape, never put one on it.
    assert {line for line in typed(path) if isinstance(line, str)} <= {"seq 40\r"}
    check_every_screen(path)
    header, entries = read(path)
    for version in (2, 3):
        lines = Asciicast(header, version=version).lines(entries)
        cast = read_cast("".join(f"{line}\n" for line in lines).encode())
        screen = pyte.Screen(100, 30)
        pyte.Stream(screen).feed(cast.output())
        assert any("[exited]" in line for line in screen.display)
    frames = frames_of(entries, channel=None, idle_limit_s=1.5, speed=1.0)
    assert len(Drawing(frames, "tmux").svg()) < 200_000
