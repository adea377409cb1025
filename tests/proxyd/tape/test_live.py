from __future__ import annotations

from pathlib import Path

from protocols.postgres.messages import Query, command_complete, ready_for_query
from proxyd.tape.entries import Entry, TapeHeader
from proxyd.tape.live import LiveView
from proxyd.tape.reader import read_tape
from tests.proxyd.tape.ssh_tapes import (
    ALLOWED,
    DENIED,
    FILE,
    SHELL,
    command,
    ssh_tape,
    terminal_tape,
    type_line,
)
from tests.proxyd.tape.tapes import Clock, record


def read(path: Path) -> tuple[TapeHeader, list[Entry]]:
    with read_tape(path) as tape:
        assert tape.header is not None
        return tape.header, list(tape.entries())


def watched(path: Path, **options: object) -> str:
    header, entries = read(path)
    view = LiveView(header, **options)  # type: ignore[arg-type]
    return (b"".join(view.feed(entry) for entry in entries) + view.finish()).decode()


def shell_and_more(directory: Path) -> Path:
    """A terminal, beside it a command, and an attack on whoever watches."""
    clock = Clock()
    tape = terminal_tape(directory, clock)
    tape.output(0, 1, b"$ ")
    type_line(tape, clock, "ls", b"\x1b]52;c;eA==\x07\x1b[31ma b\x1b[m\r\n$ ")
    tape.opened(1, "session", {})
    tape.judged(1, command("cat /etc/hosts"), ALLOWED)
    tape.output(1, 1, b"127.0.0.1 localhost\n")
    tape.closed(1, {"exit_status": 0})
    tape.judged(2, command("rm -rf /"), DENIED)
    tape.closed(0, {"exit_status": 3})
    tape.end("client left")
    return tape.path


def test_a_terminal_is_seen_as_its_client_saw_it(tmp_path: Path) -> None:
    seen = watched(shell_and_more(tmp_path))
    before, _, rest = seen.partition("$ ls\r\n")
    assert before == "-- [0] session opened\r\n-- [0] terminal xterm-256color, 80x24\r\n"
    assert rest.startswith("\x1b[31ma b\x1b[m\r\n$ ")
    assert "52;c" not in seen
    assert "cat /etc/hosts" not in seen  # it would be in the middle of the screen
    assert "\x1b[?25h" in rest
    assert rest.endswith(
        "\r\n-- [0] closed: exit status 3, input 3 bytes, output 33 bytes\r\n-- session ended: client left\r\n"
    )


def test_elsewhere_everything_is_lines(tmp_path: Path) -> None:
    assert watched(shell_and_more(tmp_path), is_terminal=False) == (
        "-- [0] session opened\n"
        "-- [0] terminal xterm-256color, 80x24\n"
        "-- [0] shell\n"
        "-- allowed by shells: allowed\n"
        "[0] > ls\n"
        "[0] $ ls\n"
        "[0] a b\n"
        "-- [1] session opened\n"
        "-- [1] exec: cat /etc/hosts\n"
        "-- allowed by shells: allowed\n"
        "[1] 127.0.0.1 localhost\n"
        "-- [1] closed: exit status 0, output 20 bytes\n"
        "-- [2] exec: rm -rf /\n"
        "-- denied by no-rm: Nothing is removed here. (Ask.)\n"
        "[0] $\n"
        "-- [0] closed: exit status 3, input 3 bytes, output 33 bytes\n"
        "-- session ended: client left\n"
    )


def test_one_channel(tmp_path: Path) -> None:
    path = shell_and_more(tmp_path)
    assert watched(path, channel=1) == (
        "-- [1] session opened\r\n-- [1] exec: cat /etc/hosts\r\n-- allowed by shells: allowed\r\n"
        "[1] 127.0.0.1 localhost\r\n-- [1] closed: exit status 0, output 20 bytes\r\n"
        "-- session ended: client left\r\n"
    )
    assert "$ ls\r\n" in watched(path, channel=0)


def test_a_session_without_a_terminal(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.opened(1, "session", {})
    tape.judged(1, command("scp -t x"), ALLOWED)
    tape.output(1, 1, b"\x1b]0;title\x07out")
    tape.output(1, 2, b"err\n")
    tape.file(1, FILE)
    tape.closed(1, {})
    tape.end("done")
    assert watched(tape.path) == (
        "-- [1] session opened\r\n-- [1] exec: scp -t x\r\n-- allowed by shells: allowed\r\n"
        "[1] ! err\r\n"
        f"-- [1] file write /srv/www/index.html: 5 bytes, sha256 {'ab' * 32}\r\n"
        "[1] out\r\n"
        "-- [1] closed: output 13 bytes, errors 4 bytes\r\n-- session ended: done\r\n"
    )


def test_the_next_terminal_is_shown_when_one_closes(tmp_path: Path) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.opened(1, "session", {})
    tape.terminal(1, "xterm", 100, 30)
    tape.judged(1, SHELL, ALLOWED)
    tape.output(1, 1, b"not seen")
    tape.output(0, 1, b"\x1b[?1049hfirst")
    tape.resized(1, 120, 40)
    tape.closed(0, {})
    tape.output(1, 1, b"second")
    tape.end("done")
    header, entries = read(tape.path)
    view = LiveView(header)
    sizes: list[object] = []
    seen = ""
    for entry in entries:
        seen += view.text(entry)
        if view.size not in sizes:
            sizes.append(view.size)
    assert sizes == [None, (80, 24), (120, 40)]
    assert seen.index("first") < seen.index("\x1b[?1049l") < seen.index("closed") < seen.index("second")
    assert "not seen" not in seen


def test_a_resize_is_known(tmp_path: Path) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.resized(0, 132, 50)
    tape.resized(9, 1, 1)
    tape.close()
    header, entries = read(tape.path)
    view = LiveView(header)
    for entry in entries:
        view.feed(entry)
    assert view.size == (132, 50)


def test_leaving_a_live_session_brings_the_terminal_back(tmp_path: Path) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.output(0, 1, b"\x1b[?1049h\x1b[?25l\x1b[31m")
    tape.close()
    header, entries = read(tape.path)
    view = LiveView(header)
    for entry in entries:
        view.feed(entry)
    left = view.finish().decode()
    assert left.startswith("\x1b[?1049l")
    assert "\x1b[?25h" in left
    assert "\x1b[0m" in left
    assert view.finish() == b""


def test_line_feeds_keep_their_column_on_a_cooked_terminal(tmp_path: Path) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.output(0, 1, b"a\nb\r\nc")
    tape.end("done")
    assert "a\x1bDb\r\nc" in watched(tape.path)


def test_postgres(tmp_path: Path) -> None:
    tape = record(tmp_path)
    tape.request(1, (), Query("select 1").encode())
    tape.reply(1, command_complete("OK") + ready_for_query("I"))
    tape.end("done")
    expected = ["shop=> select 1", "OK", "-- 0.000 ms", "-- session ended: done"]
    assert watched(tape.path).split("\r\n") == [*expected, ""]
    assert watched(tape.path, is_terminal=False).split("\n") == [*expected, ""]
