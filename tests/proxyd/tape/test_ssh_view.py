from __future__ import annotations

from pathlib import Path

import pytest

from policy.facts import Redirect, SimpleCommand, SshFacts, SshOperation, Word
from proxyd.gates.files import FileRecord
from proxyd.tape import ssh_view as module
from proxyd.tape.entries import Output
from proxyd.tape.json_lines import entry_json
from proxyd.tape.reader import read_tape
from proxyd.tape.render import Renderer
from tests.proxyd.tape.ssh_tapes import ALLOWED, DENIED, command, small_ssh_tape, ssh_tape
from tests.proxyd.tape.tapes import header, record


def lines(path: Path, **options: object) -> list[str]:
    with read_tape(path) as tape:
        assert tape.header is not None
        renderer = Renderer(tape.header, **options)  # type: ignore[arg-type]
        return [line for entry in tape.entries() for line in renderer.lines(entry)] + list(renderer.finish())


SHOWN = f"""\
-- [0] session opened: peer x
-- [0] terminal xterm, 80x24
-- [0] shell
-- allowed by shells: allowed
[0] > ls
-- [0] 8 bytes of input, not echoed
-- [0] resized to 100x30
-- [0] closed: exit status 0, input 11 bytes, output 19 bytes
-- [1] session opened
-- [1] exec: cat
-- allowed by shells: allowed
-- [1] file write /srv/www/index.html: 5 bytes, sha256 {"ab" * 32}
-- [1] exec: rm -rf /
-- denied by no-rm: Nothing is removed here. (Ask.)
"""


def test_what_a_person_sees(tmp_path: Path) -> None:
    shown = lines(small_ssh_tape(tmp_path))
    assert shown[:14] == SHOWN.splitlines()
    assert shown[14].startswith("-- [1] 2 more bytes of input are not on the tape, sha256 ")
    assert shown[15].startswith("-- [1] 2 more bytes of output are not on the tape, sha256 ")
    assert shown[16:] == [
        "[1] > 01234567",
        "[1] 01234567",
        "[1] ! oops",
        "-- [1] closed: exit signal TERM, input 10 bytes, output 10 bytes, errors 4 bytes",
        "-- session ended: client left",
    ]


def test_details(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    inner = SimpleCommand((Word("rm"), Word("x")), redirects=(Redirect(">", Word("/tmp/y\x1b")),))
    commands = (SimpleCommand((Word("sudo"),), inner=(inner,)), SimpleCommand((Word("ls"),)))
    tape.judged(3, SshFacts(SshOperation.EXEC, "sudo rm x >/tmp/y; ls", commands, ("why",)), DENIED)
    tape.end("done")
    assert lines(tape.path, detailed=True) == [
        "-- 08:26:40.250 [3] exec: sudo rm x >/tmp/y; ls",
        "-- denied by no-rm: Nothing is removed here. (Ask.)",
        "--   runs sudo, rm, ls; redirects > /tmp/y\\x1b",
        "--   not seen through: why",
        "--   policy p1",
        "-- session ended: done",
    ]


def test_one_channel(tmp_path: Path) -> None:
    shown = lines(small_ssh_tape(tmp_path), channel=0)
    assert shown == [*SHOWN.splitlines()[:8], "-- session ended: client left"]


def test_what_terminals_showed(tmp_path: Path) -> None:
    shown = lines(small_ssh_tape(tmp_path), channel=0, shows_terminals=True)
    assert [line for line in shown if line.startswith("[0]")] == [
        "[0] > ls",
        "[0] ls",
        "[0] a b",
        "[0] Password:",
    ]


def test_many_lines_are_counted(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.judged(1, command("seq 10"), ALLOWED)
    tape.output(1, 1, b"".join(b"%d\n" % number for number in range(10)))
    tape.closed(1, {})
    tape.end("done")
    assert lines(tape.path, max_rows=2)[2:6] == [
        "[1] 0",
        "[1] 1",
        "-- [1] 8 more lines of output",
        "-- [1] closed: output 20 bytes",
    ]


def test_text_of_several_lines(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.judged(1, command("set -e\nrm x\x07"), ALLOWED)
    tape.end("done")
    assert lines(tape.path)[:2] == ["-- [1] exec: set -e", "--     rm x\\x07"]


def test_keys_that_end_a_line_are_named(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.terminal(0, "xterm", 80, 24)
    for key in (b"\r\r", b"\x03", b"\x04"):
        tape.input(0, key)
    tape.end("done")
    assert [line for line in lines(tape.path) if ">" in line] == ["[0] > ", "[0] > ", "[0] > ^C", "[0] > ^D"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (FileRecord("/a", "read", 3, "ab", True), "file read /a: 3 bytes, sha256 ab"),
        (FileRecord("/a", "read", 3, "ab", False), "file read /a: 3 bytes, not the whole file, sha256 ab"),
        (
            FileRecord("/a", "write", 3, "ab", False, start=7),
            "file write /a: 3 bytes from byte 7, not the whole file",
        ),
        (
            FileRecord("/a\x1b", "read", 3, "ab", True, False),
            "file read /a\\x1b: 3 bytes, in no order, sha256 ab",
        ),
    ],
)
def test_files(tmp_path: Path, file: FileRecord, text: str) -> None:
    tape = ssh_tape(tmp_path)
    tape.file(1, file)
    tape.end("done")
    assert lines(tape.path)[0].startswith(f"-- [1] {text}")


def test_a_request_of_the_connection(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.judged(None, SshFacts(SshOperation.LISTEN, host="localhost", port=80), DENIED)
    tape.event("denied", {"message": "no such target", "channel": None})
    tape.end("done")
    assert lines(tape.path) == [
        "-- listen: listen localhost:80",
        "-- denied by no-rm: Nothing is removed here. (Ask.)",
        "-- event denied: message no such target",
        "-- session ended: done",
    ]


def test_channels_that_are_never_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHANNELS", 4)
    tape = ssh_tape(tmp_path)
    for channel in range(10):
        tape.opened(channel, "session", {})
        tape.output(channel, 1, b"x")
    tape.end("done")
    assert [line for line in lines(tape.path) if line.startswith("[")] == [f"[{n}] x" for n in (6, 7, 8, 9)]


def test_frames_of_channels_on_another_protocol_s_tape(tmp_path: Path) -> None:
    renderer = Renderer(header())
    entry = Output(position=0, at_us=0, channel=0, stream=1, raw=b"x\x1b")
    assert list(renderer.lines(entry)) == ["-- output of a channel, which this protocol has not"]


def test_frames_of_operations_on_an_ssh_tape(tmp_path: Path) -> None:
    tape = record(tmp_path, protocol="ssh")
    tape.request(1, (), b"x\x1b")
    tape.reply(1, b"y")
    tape.end("done")
    assert lines(tape.path) == ["> 2 bytes: x\\x1b", "< 1 bytes: y", "-- session ended: done"]


def test_streams_that_do_not_exist_are_shown_somewhere(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape._write_packed(tape_kind("OUTPUT"), 1, 77, b"far\n")
    tape._write_packed(tape_kind("OUTPUT"), 1, -77, b"near\n")
    tape._write_packed(tape_kind("STREAM_DIGEST"), 1, 77, 1, 2, b"")
    tape.end("done")
    assert lines(tape.path)[:3] == [
        "[1] ! far",
        "[1] > near",
        "-- [1] 2 more bytes of errors are not on the tape",
    ]


def tape_kind(name: str) -> object:
    from proxyd.tape.frames import FrameKind

    return FrameKind[name]


def test_everything_is_json(tmp_path: Path) -> None:
    with read_tape(small_ssh_tape(tmp_path)) as tape:
        for entry in tape.entries():
            assert entry_json(entry).isascii()
