"""A session shown while it happens, from the bytes of its tape."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy.decision import Decision, Effect, Reason
from policy.facts import SshFacts, SshOperation
from proxyd.cli.watching import JsonShow, LiveTape, Show, ViewShow, chosen_show, unechoed, watch
from proxyd.tape.entries import End
from proxyd.tape.errors import TapeError
from proxyd.tape.ssh_taping import SshTape, SshTapeLimits
from tests.proxyd.tape.tapes import ALLOWED, FACTS, Clock, header, record, small_tape

SHELL = SshFacts(SshOperation.SHELL)


def postgres_tape(directory: Path) -> tuple[bytes, int]:
    """A statement with its judgement, then an answer and a second statement; where the second part begins."""
    tape = record(directory)
    judged = tape.judgement("select 1", [FACTS], [ALLOWED], "p1")
    tape.request(1, (judged,), b"Q\0\0\0\rselect 1\0")
    before = tape.path.stat().st_size
    tape.request(2, (judged,), b"Q\0\0\0\rselect 2\0")
    tape.end("client left")
    return tape.path.read_bytes(), before


class Shell:
    """An SSH tape that a test writes."""

    def __init__(self, directory: Path) -> None:
        limits = SshTapeLimits(reply_limit_bytes=1 << 20)
        self.tape = SshTape.open(directory, header(protocol="ssh", database=""), limits, clock=Clock())

    @property
    def data(self) -> bytes:
        return self.tape.path.read_bytes()

    def open(self, channel: int, columns: int = 80) -> None:
        self.tape.opened(channel, "session", {})
        self.tape.terminal(channel, "xterm", columns, 24)
        self.tape.judged(channel, SHELL, Decision(Effect.ALLOW, (Reason("shells", "allowed"),), (), "p1"))

    def show(self, channel: int, text: str) -> None:
        self.tape.output(channel, 1, text.encode())


def shown(data: bytes, show: Show, new_from: int = 0, piece: int = 1 << 20) -> End | None:
    pieces = (data[start : start + piece] for start in range(0, len(data), piece))
    return watch(pieces, show, new_from=new_from)


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_statements_are_shown_as_tape_show_has_them(tmp_path: Path, piece: int) -> None:
    data, _ = postgres_tape(tmp_path)
    out = io.StringIO()
    end = shown(data, ViewShow(out, max_rows=10), piece=piece)
    assert end is not None
    assert end.reason == "client left"
    text = out.getvalue()
    assert text.startswith("-- session s1a2b3")
    assert "shop=> select 1" in text or "select 1" in text
    assert "select 2" in text
    assert "-- allowed by read-the-shop" in text
    assert text.endswith("-- session ended: client left\n")


def test_what_was_before_is_not_shown_but_known(tmp_path: Path) -> None:
    data, before = postgres_tape(tmp_path)
    out = io.StringIO()
    shown(data, ViewShow(out, max_rows=10), new_from=before)
    text = out.getvalue()
    assert "-- alice" in text
    assert "select 1" not in text
    assert "select 2" in text
    assert "-- allowed by read-the-shop" in text


def test_as_json(tmp_path: Path) -> None:
    data, before = postgres_tape(tmp_path)
    out = io.StringIO()
    shown(data, JsonShow(out), new_from=before)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["kind"] for line in lines] == ["header", "request", "end"]


def test_a_tape_that_breaks_off_has_no_end(tmp_path: Path) -> None:
    data = small_tape(tmp_path).read_bytes()
    out = io.StringIO()
    assert shown(data[:-10], ViewShow(out, max_rows=10)) is None
    assert shown(b"", ViewShow(io.StringIO(), max_rows=10)) is None


def test_what_is_no_tape_or_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="this is not a tape"):
        shown(b"HTTP/1.1 200 OK\r\n", ViewShow(io.StringIO(), max_rows=10))
    data = bytearray(small_tape(tmp_path).read_bytes())
    data[len(data) // 2] ^= 1
    live = LiveTape()
    with pytest.raises(TapeError, match="damaged at byte"):
        list(live.feed(bytes(data) + b"\0" * (17 << 20)))


# Terminals


def test_a_terminal_is_shown_as_its_user_sees_it(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.open(0)
    shell.show(0, "$ ls\r\n\x1b[1mfile\x1b[0m\r\n")
    shell.tape.end("client left")
    out = io.StringIO()
    shown(shell.data, ViewShow(out, is_terminal=True, max_rows=10))
    text = out.getvalue()
    assert "$ ls\r\n\x1b[1mfile\x1b[0m\r\n" in text
    assert "-- [0] terminal xterm, 80x24" in text.replace("-- 08:26:40.250", "--")
    screen, _, after = text.partition("file")
    assert "terminal xterm" in screen
    assert "\x1b[?25h" in after  # the watcher's terminal is brought back
    assert "\x1b[2J" not in after  # the last picture stays
    assert text.endswith("-- session ended: client left\r\n")


def test_what_would_drive_the_watchers_terminal_is_left_out(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.open(0)
    shell.show(0, "a\x1b]52;c;ZXZpbA==\x07b\x1b[6nc\x1b]0;title\x07d\r\n")
    out = io.StringIO()
    shown(shell.data, ViewShow(out, is_terminal=True, max_rows=10))
    assert "abcd\r\n" in out.getvalue()
    assert "]52" not in out.getvalue()


def test_who_comes_later_sees_where_the_terminal_stands(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.open(0)
    shell.show(0, "$ vi\r\n\x1b[?1049h")
    for _ in range(200):
        shell.show(0, "x" * 1000 + "\r\n")
    before = len(shell.data)
    shell.show(0, "new")
    out = io.StringIO()
    shown(shell.data, ViewShow(out, is_terminal=True, max_rows=10), new_from=before)
    text = out.getvalue()
    assert "$ vi" not in text
    assert text.count("\x1b[?1049h") == 1
    assert text.index("\x1b[?1049h") < text.index("x" * 1000) < text.index("new")
    assert 50_000 < text.count("x") < 70_000


def test_the_end_of_a_terminal_gives_way_to_lines(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.open(0)
    shell.show(0, "first\r\n")
    shell.tape.event("watched", {"uid": 0})
    shell.tape.closed(0, {})
    shell.tape.event("unwatched", {"uid": 0})
    out = io.StringIO()
    shown(shell.data, ViewShow(out, is_terminal=True, max_rows=10))
    text = out.getvalue()
    assert "first\r\n" in text
    assert "event watched" not in text
    assert "event unwatched" in text


def test_a_certain_terminal_or_one_after_the_other(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.open(0)
    shell.open(1)
    shell.show(0, "first\r\n")
    shell.show(1, "second\r\n")
    out = io.StringIO()
    shown(shell.data, ViewShow(out, is_terminal=True, max_rows=10, channel=1))
    assert "second\r\n" in out.getvalue()
    assert "first" not in out.getvalue()
    shell.tape.closed(0, {})
    shell.show(1, "third\r\n")
    out = io.StringIO()
    shown(shell.data, ViewShow(out, is_terminal=True, max_rows=10))
    assert "first\r\n" in out.getvalue()
    assert "second" not in out.getvalue()
    assert "third\r\n" in out.getvalue()


def test_terminals_as_lines(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.open(0)
    shell.show(0, "$ ls\r\n\x1b[1mfile\x1b[0m\r\n")
    out = io.StringIO()
    shown(shell.data, ViewShow(out, max_rows=10))
    assert "[0] file\n" in out.getvalue()
    assert "\x1b" not in out.getvalue()


@contextlib.contextmanager
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard input and output are a terminal; its number."""
    master, worker = pty.openpty()
    with os.fdopen(os.dup(worker), "r") as reader, os.fdopen(worker, "w") as writer:
        monkeypatch.setattr(sys, "stdin", reader)
        monkeypatch.setattr(sys, "stdout", writer)
        yield reader.fileno()
        monkeypatch.undo()
    os.close(master)


def test_a_terminal_is_shown_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_terminal(protocol: str, *, as_lines: bool = False) -> bool:
        show = chosen_show(protocol, is_json=False, as_lines=as_lines, max_rows=10, channel=None)
        assert isinstance(show, ViewShow)
        return show.is_terminal

    with on_a_terminal(monkeypatch):
        assert is_terminal("ssh")
        assert not is_terminal("ssh", as_lines=True)
        assert not is_terminal("postgres")
        show = chosen_show("ssh", is_json=True, as_lines=False, max_rows=10, channel=None)
        assert isinstance(show, JsonShow)
    assert not is_terminal("ssh")


def test_a_watcher_with_a_smaller_terminal_is_told_once(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.open(0, columns=120)
    shell.show(0, "hello")
    shell.tape.resized(0, 130, 40)
    for size, count in (((80, 24), 1), ((130, 10), 1), ((130, 40), 0)):
        out = io.StringIO()
        shown(shell.data, ViewShow(out, is_terminal=True, max_rows=10, size=size))
        assert out.getvalue().count(f"this one is {size[0]}x{size[1]}: make it larger") == count


def test_what_the_watcher_types_is_not_echoed(monkeypatch: pytest.MonkeyPatch) -> None:
    def echoes() -> bool:
        return bool(termios.tcgetattr(number)[3] & termios.ECHO)

    with on_a_terminal(monkeypatch) as number:
        assert echoes()
        with unechoed():
            assert not echoes()
        assert echoes()


def test_without_a_terminal_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with unechoed():
        pass
