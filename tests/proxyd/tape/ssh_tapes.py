"""Builds SSH tapes for the tests, on a clock that is set by hand."""

from __future__ import annotations

from pathlib import Path

from policy.decision import Decision, Effect, Reason
from policy.facts import SimpleCommand, SshFacts, SshOperation, Word
from proxyd.gates.files import FileRecord
from proxyd.tape.ssh_taping import InputMode, SshTape, SshTapeLimits
from tests.proxyd.tape.tapes import Clock, header

ALLOWED = Decision(Effect.ALLOW, (Reason("shells", "allowed"),), (), "p1")
DENIED = Decision(Effect.DENY, (Reason("no-rm", "Nothing is removed here.", "Ask."),), (), "p1")
HELD = Decision(Effect.HOLD, (Reason("ask-first", "needs an approval by dba"),), (), "p1")
SHELL = SshFacts(SshOperation.SHELL, has_pty=True)
SFTP = SshFacts(SshOperation.SUBSYSTEM, "sftp")
FILE = FileRecord("/srv/www/index.html", "write", 5, "ab" * 32, True, content=b"hello")


def command(text: str, *, unresolved: tuple[str, ...] = ()) -> SshFacts:
    """An exec of plain words."""
    words = tuple(Word(word) for word in text.split())
    return SshFacts(SshOperation.EXEC, text, (SimpleCommand(words),), unresolved)


def ssh_tape(
    directory: Path,
    clock: Clock | None = None,
    *,
    limit: int = 1 << 20,
    mode: InputMode = InputMode.ECHOED,
    file_content: int = 0,
    is_hashing: bool = True,
    **changes: object,
) -> SshTape:
    values: dict[str, object] = {"protocol": "ssh", "target": "web1", "login": "deploy", "database": ""}
    limits = SshTapeLimits(limit, mode, file_content, is_hashing)
    return SshTape.open(directory, header(**(values | changes)), limits, clock=clock or Clock())


def terminal_tape(directory: Path, clock: Clock, *, columns: int = 80, rows: int = 24) -> SshTape:
    """With a shell in a terminal on channel 0."""
    tape = ssh_tape(directory, clock)
    tape.opened(0, "session", {})
    tape.terminal(0, "xterm-256color", columns, rows)
    tape.judged(0, SHELL, ALLOWED)
    return tape


def type_line(tape: SshTape, clock: Clock, line: str, answer: bytes = b"", *, channel: int = 0) -> None:
    """Keys at an eighth of a second each, echoed as a shell does, and what the shell answers."""
    for key in line:
        clock.now_s += 0.125
        tape.input(channel, key.encode())
        tape.output(channel, 1, key.encode())
    clock.now_s += 0.125
    tape.input(channel, b"\r")
    tape.output(channel, 1, b"\r\n" + answer)


def small_ssh_tape(directory: Path, **changes: object) -> Path:
    """A whole tape with a frame of every kind."""
    clock = Clock()
    tape = ssh_tape(directory, clock, limit=8, file_content=3, **changes)
    tape.opened(0, "session", {"peer": "x"})
    tape.terminal(0, "xterm", 80, 24)
    tape.judged(0, SHELL, ALLOWED)
    type_line(tape, clock, "ls", b"a b\r\nPassword: ")
    tape.input(0, b"hunter2\r")
    tape.resized(0, 100, 30)
    tape.closed(0, {"exit_status": 0})
    tape.opened(1, "session", {})
    tape.judged(1, command("cat"), ALLOWED)
    tape.input(1, b"0123456789")
    tape.output(1, 1, b"0123456789")
    tape.output(1, 2, b"oops")
    tape.file(1, FILE)
    tape.judged(1, command("rm -rf /"), DENIED)
    tape.closed(1, {"exit_signal": "TERM"})
    clock.now_s += 1
    tape.end("client left")
    return tape.path
