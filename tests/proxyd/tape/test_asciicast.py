from __future__ import annotations

import json
from pathlib import Path

import pyte
import pytest

from proxyd.tape.asciicast import Asciicast
from proxyd.tape.errors import TapeError
from proxyd.tape.reader import read_tape
from proxyd.tape.ssh_taping import InputMode
from tests.proxyd.tape.casts import Cast, Moment, read_cast
from tests.proxyd.tape.ssh_tapes import (
    ALLOWED,
    DENIED,
    FILE,
    SHELL,
    command,
    small_ssh_tape,
    ssh_tape,
    terminal_tape,
    type_line,
)
from tests.proxyd.tape.tapes import Clock, small_tape


def exported(path: Path, version: int = 2, **options: object) -> bytes:
    with read_tape(path) as tape:
        assert tape.header is not None
        cast = Asciicast(tape.header, version=version, **options)  # type: ignore[arg-type]
        return "".join(f"{line}\n" for line in cast.lines(tape.entries())).encode()


def cast(path: Path, version: int = 2, **options: object) -> Cast:
    return read_cast(exported(path, version, **options))


def session(directory: Path) -> Path:
    """A shell: a line, a password, a resize, a command beside it, a denial, an exit."""
    clock = Clock()
    tape = ssh_tape(directory, clock)
    clock.now_s += 0.5
    tape.opened(0, "session", {})
    tape.terminal(0, "xterm-256color", 80, 24)
    tape.judged(0, SHELL, ALLOWED)
    clock.now_s += 0.25
    tape.output(0, 1, "grüße $ ".encode()[:3])
    tape.output(0, 1, "grüße $ ".encode()[3:])
    type_line(tape, clock, "w", b"\x1b[31mup\x1b[m\r\nPassword: ")
    clock.now_s += 1
    tape.input(0, b"hunter2\r")
    tape.resized(0, 100, 30)
    tape.opened(1, "session", {})
    tape.judged(1, command("rm -rf /"), DENIED)
    tape.output(1, 2, b"refused")
    tape.file(1, FILE)
    clock.now_s += 0.5
    tape.closed(0, {"exit_status": 3})
    tape.output(0, 1, b"later")
    tape.end("done")
    return tape.path


V2 = """\
{"version": 2, "width": 80, "height": 24, "timestamp": 1753000000, "env": {"TERM": "xterm-256color"}, \
"title": "alice: deploy@web1"}
[0.000000, "m", "shell"]
[0.250000, "o", "gr"]
[0.250000, "o", "üße $ "]
[0.375000, "o", "w"]
[0.500000, "i", "w\\r"]
[0.500000, "o", "\\r\\n\\u001b[31mup\\u001b[m\\r\\nPassword: "]
[1.500000, "r", "100x30"]
[1.500000, "m", "rm -rf /: denied by no-rm: Nothing is removed here. (Ask.)"]
[1.500000, "m", "file write /srv/www/index.html"]
"""

V3 = """\
{"version": 3, "term": {"cols": 80, "rows": 24, "type": "xterm-256color"}, "timestamp": 1753000000, \
"title": "alice: deploy@web1"}
[0.000000, "m", "shell"]
[0.250000, "o", "gr"]
[0.000000, "o", "üße $ "]
[0.125000, "o", "w"]
[0.125000, "i", "w\\r"]
[0.000000, "o", "\\r\\n\\u001b[31mup\\u001b[m\\r\\nPassword: "]
[1.000000, "r", "100x30"]
[0.000000, "m", "rm -rf /: denied by no-rm: Nothing is removed here. (Ask.)"]
[0.000000, "m", "file write /srv/www/index.html"]
[0.500000, "x", "3"]
"""


@pytest.mark.parametrize(("version", "golden"), [(2, V2), (3, V3)])
def test_golden(tmp_path: Path, version: int, golden: str) -> None:
    data = exported(session(tmp_path), version)
    assert data.decode() == golden
    read_cast(data)


def test_both_versions_say_the_same(tmp_path: Path) -> None:
    path = session(tmp_path)
    second, third = cast(path, 2), cast(path, 3)
    assert third.moments[-1] == Moment(2.0, "x", "3")
    assert second.moments == third.moments[:-1]
    assert b"hunter2" not in exported(path, 2) + exported(path, 3)


def test_an_idle_limit_is_left_to_the_player(tmp_path: Path) -> None:
    path = session(tmp_path)
    for version in (2, 3):
        assert cast(path, version, idle_limit_s=1.5).header["idle_time_limit"] == 1.5
    assert cast(path, 2, idle_limit_s=1.5).moments == cast(path, 2).moments


def test_one_of_several_terminals(tmp_path: Path) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.output(0, 1, b"first")
    tape.opened(4, "session", {})
    tape.terminal(4, "vt100", 100, 30)
    tape.judged(4, SHELL, ALLOWED)
    tape.output(4, 1, b"fourth")
    tape.output(0, 1, b" again")
    tape.end("done")
    assert cast(tape.path).output() == "first again"
    fourth = cast(tape.path, 3, channel=4)
    assert fourth.output() == "fourth"
    assert fourth.header["term"] == {"cols": 100, "rows": 30, "type": "vt100"}


def test_no_terminal_no_asciicast(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path / "none")
    tape.opened(1, "session", {})
    tape.judged(1, command("cat"), ALLOWED)
    tape.output(1, 1, b"x")
    tape.end("done")
    with pytest.raises(TapeError, match="no channel of this session has a terminal"):
        exported(tape.path)
    with pytest.raises(TapeError, match="channel 7 has no terminal"):
        exported(session(tmp_path / "seven"), channel=7)
    with pytest.raises(TapeError, match="a session of postgres has none"):
        exported(small_tape(tmp_path / "postgres"))


def test_a_torn_tape_is_exported_as_far_as_it_goes(tmp_path: Path) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.output(0, 1, b"$ ")
    tape.close()
    assert cast(tape.path, 3).output() == "$ "


@pytest.mark.parametrize(("columns", "rows", "width", "height"), [(0, 0, 80, 24), (1 << 31, 5, 65535, 5)])
def test_a_size_that_no_player_takes(
    tmp_path: Path, columns: int, rows: int, width: int, height: int
) -> None:
    tape = terminal_tape(tmp_path, Clock(), columns=columns, rows=rows)
    tape.resized(0, columns, rows)
    tape.end("done")
    found = cast(tape.path)
    assert (found.header["width"], found.header["height"]) == (width, height)
    assert found.moments[-1].data == f"{width}x{height}"


def test_attacks_on_the_player_are_left_out(tmp_path: Path) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.output(0, 1, b"\x1b]52;c;")
    tape.output(0, 1, b"eA==\x07a\x1b[6n\x9b\xc2\x9b6nb\x1b[1m")
    tape.end("done")
    assert cast(tape.path).output() == "a\ufffdb\x1b[1m"
    tape = terminal_tape(tmp_path / "names", Clock())
    tape.judged(0, command("echo \x1b]0;x\x07 \ud800 \u2028"), DENIED)
    tape.end("done")
    assert "\\x1b]0;x\\x07 \\ud800 \\u2028" in cast(tape.path).moments[-1].data


def test_all_input_where_the_tape_has_it(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path, mode=InputMode.ALL)
    tape.terminal(0, "xterm", 80, 24)
    for byte in "é\r".encode():
        tape.input(0, bytes([byte]))
    tape.end("done")
    assert [(moment.code, moment.data) for moment in cast(tape.path).moments] == [("i", "é"), ("i", "\r")]


def test_a_clock_that_steps_back(tmp_path: Path) -> None:
    clock = Clock()
    tape = terminal_tape(tmp_path, clock)
    for step in (1.0, -0.5, 1.0):
        clock.now_s += step
        tape.output(0, 1, b"x")
    tape.end("done")
    assert [moment.at_s for moment in cast(tape.path, 2).moments[1:]] == [1.0, 1.0, 1.5]
    assert [moment.at_s for moment in cast(tape.path, 3).moments[1:]] == [1.0, 1.0, 1.5]


def test_what_is_played_is_what_was_seen(tmp_path: Path) -> None:
    data = "\x1b[?1049h\x1b[2J\x1b[3;5H┌─ grüße 😀\x1b[0m\x1b(0qqk\x1b(B\x1b[5;1H\x1b[1mend".encode()
    tape = terminal_tape(tmp_path, Clock())
    for at in range(0, len(data), 3):
        tape.output(0, 1, data[at : at + 3])
    tape.end("done")
    seen, played = pyte.Screen(80, 24), pyte.Screen(80, 24)
    stream = pyte.Stream(seen)
    stream.feed(data.decode().replace("\x1b(0qqk\x1b(B", "──┐"))
    pyte.Stream(played).feed(cast(tape.path, 3).output())
    assert played.display == seen.display


def test_every_line_is_json_by_itself(tmp_path: Path) -> None:
    for line in exported(small_ssh_tape(tmp_path), 3).decode().splitlines():
        json.loads(line)
