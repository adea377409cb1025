from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from policy.facts import SimpleCommand, SshFacts, SshOperation, Word
from proxyd.gates.files import FileRecord
from proxyd.tape import ssh_taping as module
from proxyd.tape import writer
from proxyd.tape.entries import (
    Echoed,
    End,
    Entry,
    Event,
    FileMoved,
    Input,
    Judgement,
    Output,
    Resized,
    StreamDigest,
    Terminal,
    Typed,
    Unknown,
    Withheld,
)
from proxyd.tape.errors import TapeError
from proxyd.tape.format import Tampered, Torn, Whole
from proxyd.tape.reader import TapeState, read_tape, summarise
from proxyd.tape.ssh_taping import InputMode, SshTape, description
from proxyd.tape.writer import RAW_PIECE_BYTES
from tests.proxyd.tape.ssh_tapes import (
    ALLOWED,
    DENIED,
    FILE,
    HELD,
    SFTP,
    SHELL,
    command,
    small_ssh_tape,
    ssh_tape,
    terminal_tape,
    type_line,
)
from tests.proxyd.tape.tapes import Clock

T = TypeVar("T")


def entries(path: Path) -> list[Entry]:
    with read_tape(path) as tape:
        return list(tape.entries())


def of_kind(path: Path, kind: type[T]) -> list[T]:
    return [entry for entry in entries(path) if isinstance(entry, kind)]


def inputs(path: Path) -> bytes:
    return b"".join(entry.raw for entry in of_kind(path, Input))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = entries(small_ssh_tape(tmp_path))
    assert [type(entry).__name__ for entry in found] == [
        *("Event", "Terminal", "Judgement"),
        *("Typed", "Output", "Typed", "Output", "Typed", "Echoed", "Output"),
        *("Typed", "Withheld", "Resized", "Event"),
        *("Event", "Judgement", "Input", "Output", "Output", "FileMoved", "Judgement", "Event"),
        *("StreamDigest", "StreamDigest", "Event", "End"),
    ]
    opened, terminal, judgement = found[:3]
    assert isinstance(opened, Event)
    assert (opened.name, opened.data) == ("channel opened", {"channel": 0, "kind": "session", "peer": "x"})
    assert isinstance(terminal, Terminal)
    assert (terminal.channel, terminal.term, terminal.columns, terminal.rows) == (0, "xterm", 80, 24)
    assert isinstance(judgement, Judgement)
    assert (judgement.id, judgement.channel, judgement.text) == (0, 0, "shell")
    assert judgement.facts == (SHELL,)
    assert judgement.decisions == (ALLOWED,)
    assert (found[3], found[8]) == (
        Typed(position=found[3].position, at_us=125_000, channel=0, size=1),
        Echoed(position=found[8].position, at_us=375_000, channel=0, text="ls\r"),
    )
    withheld, resized, closed = found[11:14]
    assert isinstance(withheld, Withheld)
    assert (withheld.channel, withheld.size, withheld.reason) == (0, 8, "not echoed")
    assert isinstance(resized, Resized)
    assert (resized.channel, resized.columns, resized.rows) == (0, 100, 30)
    assert isinstance(closed, Event)
    assert (closed.name, closed.data) == ("channel closed", {"channel": 0, "exit_status": 0})
    kept, out, errors = found[16:19]
    assert isinstance(kept, Input)
    assert (kept.channel, kept.raw) == (1, b"01234567")
    assert isinstance(out, Output)
    assert (out.channel, out.stream, out.raw) == (1, 1, b"01234567")
    assert isinstance(errors, Output)
    assert (errors.stream, errors.raw) == (2, b"oops")
    digests = of_kind(tmp_path / "2025-07-20" / "082640-s1a2b3.tape", StreamDigest)
    assert [(one.channel, one.stream, one.kept, one.omitted, one.sha256) for one in digests] == [
        (1, stream, 8, 2, hashlib.sha256(b"89").digest()) for stream in (0, 1)
    ]
    end = found[-1]
    assert isinstance(end, End)
    assert (end.reason, end.operations, end.denials) == ("client left", 3, 1)


def test_the_list_counts_what_was_asked(tmp_path: Path) -> None:
    path = small_ssh_tape(tmp_path)
    ended = summarise(path)
    assert (ended.state, ended.operations, ended.denials) == (TapeState.ENDED, 3, 1)
    os.truncate(path, path.stat().st_size - 1)
    torn = summarise(path)
    assert (torn.state, torn.operations, torn.denials) == (TapeState.TORN, 3, 1)


def test_a_live_session_is_readable(tmp_path: Path) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.output(0, 1, b"$ ")
    summary = summarise(tape.path)
    assert (summary.state, summary.operations) == (TapeState.LIVE, 1)
    with read_tape(tape.path) as live:
        assert isinstance(list(live.entries())[-1], Output)
        assert isinstance(live.verdict, Torn)
        assert live.is_live
    tape.close()


def test_any_cut_is_torn_and_any_flip_is_found(tmp_path: Path) -> None:
    path = small_ssh_tape(tmp_path)
    data = path.read_bytes()
    for at in range(0, len(data), 11):
        path.write_bytes(data[:at])
        with read_tape(path) as tape:
            assert isinstance(tape.verdict, Torn)
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with read_tape(path) as tape:
            assert not isinstance(tape.verdict, Whole)
    path.write_bytes(data[:100] + b"?" + data[101:])
    with read_tape(path) as tape:
        assert isinstance(tape.verdict, Tampered)


def test_the_chain_that_end_gives_proves_the_tape(tmp_path: Path) -> None:
    tape = terminal_tape(tmp_path, Clock())
    chain = tape.end("done")
    with read_tape(tape.path) as read:
        assert isinstance(read.verdict, Whole)
        assert read.verdict.chain.hex() == chain
    assert tape.bytes_written == tape.path.stat().st_size


# Judgements


@pytest.mark.parametrize(("decision", "effect"), [(DENIED, "deny"), (HELD, "hold")])
def test_a_refusal_is_counted(tmp_path: Path, decision: object, effect: str) -> None:
    tape = ssh_tape(tmp_path)
    tape.judged(7, command("rm x"), decision)  # type: ignore[arg-type]
    assert (tape.operations, tape.denials) == (1, 1)
    tape.end("done")
    (event,) = of_kind(tape.path, Event)
    assert event.name == "denied"
    assert (event.data["operation"], event.data["channel"], event.data["effect"]) == (0, 7, effect)


def test_a_judgement_of_the_connection(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.judged(None, SshFacts(SshOperation.LISTEN, host="localhost", port=8080), ALLOWED)
    tape.judged(None, SshFacts(SshOperation.LISTEN, host="localhost", port=8080), ALLOWED)
    tape.end("done")
    assert [(one.id, one.channel, one.text) for one in of_kind(tape.path, Judgement)] == [
        (0, None, "listen localhost:8080"),
        (1, None, "listen localhost:8080"),
    ]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (SHELL, "shell"),
        (command("ls -l"), "exec ls -l"),
        (SFTP, "subsystem sftp"),
        (SshFacts(SshOperation.FILE, verb="read", path="/etc/hosts"), "read /etc/hosts"),
        (SshFacts(SshOperation.FILE, verb="rename", path="/a", other_path="/b"), "rename /a -> /b"),
        (SshFacts(SshOperation.FORWARD, host="db", port=5432), "forward db:5432"),
        (SshFacts(SshOperation.FORWARD, path="/run/x.sock"), "forward unix:/run/x.sock"),
        (SshFacts(SshOperation.AGENT), "agent"),
    ],
)
def test_descriptions(facts: SshFacts, text: str) -> None:
    assert description(facts) == text


def nested(depth: int) -> SimpleCommand:
    one = SimpleCommand((Word("sh"),))
    for _ in range(depth):
        one = SimpleCommand((Word("sh"),), inner=(one,))
    return one


@pytest.mark.parametrize(
    "commands",
    [(nested(500),), (nested(3000),), (SimpleCommand((Word("x" * 90),) * 100),) * 500],
)
def test_facts_that_no_frame_can_hold_are_left_out_and_said_to_be(
    tmp_path: Path, commands: tuple[SimpleCommand, ...]
) -> None:
    tape = ssh_tape(tmp_path)
    text = "the text is there"
    tape.judged(1, SshFacts(SshOperation.EXEC, text, commands), DENIED)
    tape.end("done")
    (judgement,) = of_kind(tape.path, Judgement)
    facts = judgement.facts[0]
    assert isinstance(facts, SshFacts)
    assert (judgement.text, facts.commands) == (text, ())
    assert facts.unresolved == ("the commands are too many or too deep for the tape",)


def test_text_that_is_no_unicode(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.judged(1, SshFacts(SshOperation.EXEC, "echo \udcff"), ALLOWED)
    tape.file(1, FileRecord("/\udcff", "read", 0, "", False))
    tape.end("done")
    (judgement,) = of_kind(tape.path, Judgement)
    (moved,) = of_kind(tape.path, FileMoved)
    assert (judgement.text, moved.file.path) == ("echo \udcff", "/\udcff")


def test_fields_of_another_shape_are_shown_as_they_are(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape._write_packed(writer.FrameKind.TERMINAL, "zero", "xterm", 80, 24)
    tape._write_packed(writer.FrameKind.FILE, 1, {"path": 7})
    tape._write_packed(writer.FrameKind.RESIZED, 1, 80, 24, "a later field")
    tape.end("done")
    assert [type(entry) for entry in entries(tape.path)] == [Unknown, Unknown, Resized, End]


# Terminals


def test_a_terminal_is_recorded_whole(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path, limit=4)
    tape.opened(0, "session", {})
    tape.terminal(0, "xterm", 80, 24)
    tape.judged(0, SHELL, ALLOWED)
    for _ in range(10):
        tape.output(0, 1, b"0123456789")
    tape.output(0, 1, memoryview(bytes(3 * RAW_PIECE_BYTES)))
    tape.closed(0, {})
    tape.end("done")
    assert sum(len(entry.raw) for entry in of_kind(tape.path, Output)) == 100 + 3 * RAW_PIECE_BYTES
    assert of_kind(tape.path, StreamDigest) == []


def test_a_password_is_nowhere_in_the_file(tmp_path: Path) -> None:
    clock = Clock()
    tape = terminal_tape(tmp_path, clock)
    type_line(tape, clock, "sudo -s", b"[sudo] password for deploy: ")
    for key in b"hunter2\r":
        tape.input(0, bytes([key]))
    tape.output(0, 1, b"\r\n# ")
    type_line(tape, clock, "id")
    tape.input(0, b"unfinished")
    tape.end("done")
    assert b"hunter2" not in tape.path.read_bytes()
    assert b"unfinished" not in tape.path.read_bytes()
    assert [entry.text for entry in of_kind(tape.path, Echoed)] == ["sudo -s\r", "id\r"]
    assert [(entry.size, entry.reason) for entry in of_kind(tape.path, Withheld)] == [
        (8, "not echoed"),
        (10, "not echoed"),
    ]
    assert sum(entry.size for entry in of_kind(tape.path, Typed)) == 8 + 8 + 3 + 10
    assert inputs(tape.path) == b""


def test_what_is_released_is_on_the_tape_before_it_is_forwarded(tmp_path: Path) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.input(0, b"l")
    assert isinstance(entries(tape.path)[-1], Typed)
    tape.output(0, 1, b"l")
    tape.input(0, b"\r")
    assert isinstance(entries(tape.path)[-1], Echoed)
    tape.close()


def test_all_input(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path, mode=InputMode.ALL, limit=4)
    tape.opened(0, "session", {})
    tape.terminal(0, "xterm", 80, 24)
    tape.judged(0, SHELL, ALLOWED)
    tape.input(0, b"hunter2\r")
    tape.opened(1, "session", {})
    tape.judged(1, command("sudo -S id"), ALLOWED)
    tape.input(1, b"pw\n")
    tape.end("done")
    assert inputs(tape.path) == b"hunter2\rpw\n"
    assert of_kind(tape.path, Typed) == []


def test_no_input(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path, mode=InputMode.NONE)
    tape.opened(0, "session", {})
    tape.terminal(0, "xterm", 80, 24)
    tape.judged(0, SHELL, ALLOWED)
    tape.input(0, b"ls")
    tape.output(0, 1, b"ls")
    tape.input(0, b"\r")
    tape.opened(1, "session", {})
    tape.judged(1, command("cat"), ALLOWED)
    tape.input(1, b"data")
    tape.end("done")
    assert inputs(tape.path) == b""
    assert of_kind(tape.path, Echoed) == []
    assert [entry.size for entry in of_kind(tape.path, Typed)] == [2, 1]
    assert [(one.omitted, one.sha256) for one in of_kind(tape.path, StreamDigest)] == [(4, b"")]


# Without a terminal


@pytest.mark.parametrize(
    "facts",
    [
        command("sudo -S id"),
        command("sudo -HSn id"),
        command("/usr/sbin/chpasswd"),
        command("passwd --stdin alice"),
        command("su root"),
        command("docker login --password-stdin"),
        command("cat", unresolved=("eval",)),
        SshFacts(
            SshOperation.EXEC,
            "sh -c 'sudo -S x'",
            (SimpleCommand((Word("sh"),), inner=(SimpleCommand((Word("sudo"), Word("-S"))),)),),
        ),
    ],
)
def test_input_of_a_command_that_reads_a_password(tmp_path: Path, facts: SshFacts) -> None:
    tape = ssh_tape(tmp_path)
    tape.opened(1, "session", {})
    tape.judged(1, facts, ALLOWED)
    tape.input(1, b"hunter2\n")
    tape.output(1, 1, b"root\n")
    tape.closed(1, {})
    tape.end("done")
    assert b"hunter2" not in tape.path.read_bytes()
    assert hashlib.sha256(b"hunter2\n").digest() not in tape.path.read_bytes()
    assert [(one.size, one.reason) for one in of_kind(tape.path, Withheld)] == [
        (8, "the command may read a password")
    ]
    assert of_kind(tape.path, StreamDigest) == []


def test_input_before_its_command_is_known_is_only_counted(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.opened(1, "session", {})
    tape.input(1, b"early")
    tape.judged(1, command("cat"), ALLOWED)
    tape.input(1, b"data")
    tape.closed(1, {})
    tape.end("done")
    assert inputs(tape.path) == b"data"
    (digest,) = of_kind(tape.path, StreamDigest)
    assert (digest.stream, digest.kept, digest.omitted, digest.sha256) == (0, 4, 5, b"")


def test_input_of_a_refused_command_is_only_counted(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.opened(1, "session", {})
    tape.judged(1, command("cat"), DENIED)
    tape.input(1, b"secret")
    tape.output(1, 2, b"proxyd: no\r\n")
    tape.end("done")
    assert b"secret" not in tape.path.read_bytes()
    assert [entry.raw for entry in of_kind(tape.path, Output)] == [b"proxyd: no\r\n"]


def test_a_long_stream_is_kept_to_the_limit_and_hashed(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    tape = ssh_tape(tmp_path, limit=100_000)
    tape.opened(1, "session", {})
    tape.judged(1, command("cat x"), ALLOWED)
    for at in range(0, len(data), 32_768):
        tape.output(1, 1, data[at : at + 32_768])
    written = tape.bytes_written
    tape.output(1, 1, data)
    assert tape.bytes_written == written
    tape.closed(1, {})
    tape.end("done")
    assert b"".join(entry.raw for entry in of_kind(tape.path, Output)) == data[:100_000]
    (digest,) = of_kind(tape.path, StreamDigest)
    assert (digest.kept, digest.omitted) == (100_000, 500_000)
    assert digest.sha256 == hashlib.sha256(data[100_000:] + data).digest()


def test_hashing_can_be_switched_off(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path, limit=2, is_hashing=False)
    tape.opened(1, "session", {})
    tape.judged(1, command("cat x"), ALLOWED)
    tape.input(1, b"abc")
    tape.output(1, 1, b"abc")
    tape.end("done")
    assert [(one.omitted, one.sha256) for one in of_kind(tape.path, StreamDigest)] == [(1, b""), (1, b"")]


def sftp_by_name(tape: SshTape) -> None:
    tape.judged(1, SFTP, ALLOWED)


def by_operation(tape: SshTape) -> None:
    tape.judged(1, command("scp -t x"), ALLOWED)
    tape.judged(1, SshFacts(SshOperation.FILE, verb="write", path="/x"), ALLOWED)


def test_of_an_scp_errors_are_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.opened(1, "session", {})
    tape.judged(1, command("scp -t x"), ALLOWED)
    tape.counted(1)
    tape.input(1, b"content")
    tape.output(1, 1, b"content")
    tape.output(1, 2, b"scp: x: No space left on device\n")
    tape.end("done")
    assert b"content" not in tape.path.read_bytes()
    assert [(entry.stream, entry.raw) for entry in of_kind(tape.path, Output)] == [
        (2, b"scp: x: No space left on device\n")
    ]


def test_what_is_no_scp_is_kept_from_there_on(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path, limit=10)
    tape.opened(1, "session", {})
    tape.judged(1, command("scp -f x"), ALLOWED)
    tape.counted(1)
    tape.input(1, b"\0")
    tape.output(1, 1, b"C0644 ")
    tape.kept(1)
    tape.input(1, b"typed")
    tape.output(1, 1, b"what it says")
    tape.end("done")
    assert inputs(tape.path) == b"typed"
    assert [entry.raw for entry in of_kind(tape.path, Output)] == [b"what it sa"]
    assert [(one.stream, one.kept, one.omitted) for one in of_kind(tape.path, StreamDigest)] == [
        (0, 5, 1),
        (1, 10, 8),
    ]


@pytest.mark.parametrize("mode", [InputMode.NONE, InputMode.ECHOED])
def test_input_that_is_not_wanted_is_not_kept_then_either(tmp_path: Path, mode: InputMode) -> None:
    tape = ssh_tape(tmp_path, mode=mode)
    tape.opened(1, "session", {})
    tape.judged(1, command("scp -t x"), ALLOWED)
    tape.counted(1)
    tape.kept(1)
    tape.input(1, b"typed")
    tape.end("done")
    assert inputs(tape.path) == (b"" if mode is InputMode.NONE else b"typed")


def with_a_terminal(tape: SshTape) -> None:
    tape.terminal(1, "xterm", 80, 24)
    tape.judged(1, SFTP, ALLOWED)


@pytest.mark.parametrize("judge", [sftp_by_name, by_operation, with_a_terminal])
def test_the_raw_bytes_of_file_transfers_are_only_counted(
    tmp_path: Path, judge: Callable[[SshTape], None]
) -> None:
    tape = ssh_tape(tmp_path)
    tape.opened(1, "session", {})
    judge(tape)
    tape.input(1, b"content")
    tape.output(1, 1, b"content")
    tape.output(1, 2, b"content")
    tape.closed(1, {})
    tape.end("done")
    assert b"content" not in tape.path.read_bytes()
    assert [(one.stream, one.kept, one.omitted, one.sha256) for one in of_kind(tape.path, StreamDigest)] == [
        (stream, 0, 7, b"") for stream in (0, 1, 2)
    ]


@pytest.mark.parametrize("kind", ["direct-tcpip", "forwarded-tcpip", "auth-agent@openssh.com", "x11"])
def test_forwarded_connections_are_only_counted(tmp_path: Path, kind: str) -> None:
    tape = ssh_tape(tmp_path)
    tape.opened(1, kind, {"host": "db", "port": 5432})
    tape.judged(1, SshFacts(SshOperation.FORWARD, host="db", port=5432), ALLOWED)
    tape.input(1, b"hunter2")
    tape.output(1, 1, b"hunter2")
    tape.closed(1, {})
    tape.end("done")
    assert b"hunter2" not in tape.path.read_bytes()
    assert [(one.stream, one.omitted, one.sha256) for one in of_kind(tape.path, StreamDigest)] == [
        (0, 7, b""),
        (1, 7, b""),
    ]


@pytest.mark.parametrize(("limit", "content"), [(0, b""), (3, b"hel"), (100, b"hello")])
def test_files(tmp_path: Path, limit: int, content: bytes) -> None:
    tape = ssh_tape(tmp_path, file_content=limit)
    tape.file(1, FILE)
    tape.end("done")
    (moved,) = of_kind(tape.path, FileMoved)
    assert moved.channel == 1
    assert moved.file == FileRecord("/srv/www/index.html", "write", 5, "ab" * 32, True, content=content)


# Channels


def test_a_number_that_is_used_again(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path, limit=2)
    for _ in range(2):
        tape.opened(1, "session", {})
        tape.judged(1, command("cat"), ALLOWED)
        tape.output(1, 1, b"abc")
        tape.closed(1, {})
    tape.opened(1, "session", {})
    tape.opened(1, "session", {})
    tape.output(1, 1, b"abc")
    tape.opened(1, "session", {})  # without a close: settled all the same
    tape.closed(1, {})
    tape.closed(1, {})
    tape.end("done")
    assert [one.omitted for one in of_kind(tape.path, StreamDigest)] == [1, 1, 1]


def test_channels_that_are_never_closed_take_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN_CHANNELS", 4)
    tape = ssh_tape(tmp_path, limit=1)
    for channel in range(10):
        tape.opened(channel, "session", {})
        tape.output(channel, 1, b"abc")
    assert len(tape._channels) == 4
    tape.end("done")
    assert [one.channel for one in of_kind(tape.path, StreamDigest)] == list(range(10))


# Faults


CALLS: list[Callable[[SshTape], object]] = [
    lambda tape: tape.judged(0, SHELL, ALLOWED),
    lambda tape: tape.opened(1, "session", {}),
    lambda tape: tape.closed(0, {}),
    lambda tape: tape.input(0, b"x"),
    lambda tape: tape.output(0, 1, b"x"),
    lambda tape: tape.output(0, 1, bytes(100_000)),
    lambda tape: tape.output(2, 1, b"x"),  # only counted
    lambda tape: tape.terminal(0, "xterm", 80, 24),
    lambda tape: tape.resized(0, 80, 24),
    lambda tape: tape.file(0, FILE),
    lambda tape: tape.event("x", {}),
    lambda tape: tape.judged(None, command("x"), DENIED),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_tape_that_cannot_be_written_takes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[SshTape], object]
) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.opened(2, "direct-tcpip", {})

    def fail(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_write", fail)
        with pytest.raises(TapeError, match="No space left on device"):
            tape.output(0, 1, b"x")
    with pytest.raises(TapeError, match="No space left on device"):
        call(tape)
    assert not tape.is_usable
    chain = tape.end("tape")  # only closed
    with read_tape(tape.path) as read:
        assert isinstance(read.verdict, Torn)
        assert read.verdict.chain.hex() == chain


def test_a_fault_while_it_is_ended_closes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.input(0, b"never ended")
    descriptor = tape._fd
    monkeypatch.setattr(writer, "_write", lambda fd, data: 0)
    with pytest.raises(TapeError):
        tape.end("done")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_stream_that_does_not_exist(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    for stream in (-1, 0, 3, 1 << 31):
        with pytest.raises(ValueError, match="stream"):
            tape.output(0, stream, b"x")
    tape.close()
