"""The tour: what a newcomer is shown, each step a real command whose real output is checked.

Owns the table of steps, the running of them and how they look. A step whose output is not what it should be
is reported as such and fails the tour; the others still run. Knows the stage only as data: names and paths.
"""

from __future__ import annotations

import os
import subprocess
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from demo.terminal import Terminal, Typed

COMMAND_TIMEOUT_S = 60.0
TIMED_OUT = 124  # as timeout(1) has it
_TOO_LONG = f"(no end after {COMMAND_TIMEOUT_S:.0f} s)"
WIDTH = 88
_OWN = ("PG", "PSQL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did: its exit status, and everything it printed (errors in their place)."""

    status: int
    output: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be true of an outcome; `says` completes "it shows that ..."."""

    says: str
    holds: Callable[[Outcome], bool]


@dataclass(frozen=True, slots=True)
class Step:
    """command: words; {NAME} in a word stands for one of the scene's names, known when the step runs.

    typed: the command has a terminal, at which this is typed. stays: with it the command is left running when all has
    been typed. watches: the name of such a step: what comes on its terminal is shown too, to its end.
    """

    name: str
    title: str
    narration: str
    command: tuple[str, ...]
    checks: tuple[Check, ...]
    typed: tuple[Typed, ...] = ()
    stays: bool = False
    watches: str = ""


@dataclass(slots=True)
class Scene:
    """names: what {NAME} in a command stands for. `tapes`: where sessions are recorded. A step NAME that is recorded
    adds `tape_NAME`, the file, and `session_NAME`, the id.
    """

    directory: Path
    tapes: Path
    names: dict[str, str] = field(default_factory=dict)
    terminals: dict[str, Terminal] = field(default_factory=dict)

    def close(self) -> None:
        """Hang up on what is still running."""
        for terminal in self.terminals.values():
            terminal.close()
        self.terminals.clear()


def shows(*texts: str, what: str = "") -> Check:
    """All of `texts` are in the output; `what` says it where listing them would be long."""
    says = f"it shows {what or _listed(texts)}"
    return Check(says, lambda outcome: all(text in outcome.output for text in texts))


def hides(values: Iterable[str], what: str) -> Check:
    kept = frozenset(values)
    return Check(f"it hides {what}", lambda outcome: not any(value in outcome.output for value in kept))


def ends_with(*statuses: int) -> Check:
    says = f"it ends with exit status {' or '.join(map(str, statuses))}"
    return Check(says, lambda outcome: outcome.status in statuses)


def run_tour(steps: Sequence[Step], scene: Scene, out: TextIO) -> bool:
    """Run and show every step. True when each was as it should be."""
    style = Style.of(out)
    try:
        results = [_run_step(number, step, scene, out, style) for number, step in enumerate(steps, start=1)]
    finally:
        scene.close()
    failed = [step.title for step, is_right in zip(steps, results, strict=True) if not is_right]
    if failed:
        print(style.bad(f"{len(failed)} of {len(steps)} steps differ: {_listed(failed)}"), file=out)
    else:
        print(style.good(f"All {len(steps)} steps showed what they should."), file=out)
    out.flush()
    return not failed


@dataclass(frozen=True, slots=True)
class Style:
    """How headings and verdicts look; plain text where nobody sees colours."""

    is_coloured: bool

    @classmethod
    def of(cls, out: TextIO) -> Style:
        return cls(out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb")

    def heading(self, text: str) -> str:
        return self._wrap("1", text) if self.is_coloured else f"{text}\n{'-' * len(text)}"

    def command(self, text: str) -> str:
        return self._wrap("36", text)

    def good(self, text: str) -> str:
        return self._wrap("32", text)

    def bad(self, text: str) -> str:
        return self._wrap("1;31", text)

    def _wrap(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.is_coloured else text


def _run_step(number: int, step: Step, scene: Scene, out: TextIO, style: Style) -> bool:
    print(style.heading(f"{number}. {step.title}"), file=out)
    print(textwrap.fill(step.narration, WIDTH), file=out)
    try:
        words = [word.format_map(scene.names) for word in step.command]
    except KeyError as missing:
        print(style.bad(f"   DIFFERS: there is no {missing} from an earlier step\n"), file=out)
        return False
    print(style.command(f"\n$ {shell_line(words)}"), file=out, flush=True)
    outcome = _run(words, step, scene)
    print(outcome.output.rstrip("\n"), file=out)
    wrong = [check for check in step.checks if not check.holds(outcome)]
    for check in step.checks:
        verdict = style.bad("   DIFFERS: not so: ") if check in wrong else style.good("   ok: ")
        print(f"{verdict}{check.says}", file=out)
    print(file=out, flush=True)
    return not wrong


def _run(words: Sequence[str], step: Step, scene: Scene) -> Outcome:
    before = _files(scene.tapes)
    # A person's own settings of psql and of proxies would change what is shown here.
    environment = {key: value for key, value in os.environ.items() if not key.upper().startswith(_OWN)}
    environment |= {"PSQLRC": "/dev/null", "PSQL_PAGER": "cat", "PGCONNECT_TIMEOUT": "20", "COLUMNS": "200"}
    try:
        if step.typed:
            outcome = _run_in_terminal(words, step, scene, environment)
        else:
            outcome = _run_alone(words, scene.directory, environment)
    except OSError as error:
        outcome = Outcome(127, f"{words[0]}: {error.strerror}")
    if step.watches:
        outcome = _with_terminal(outcome, scene.terminals.pop(step.watches, None))
    new = sorted(_files(scene.tapes) - before)
    if new:
        scene.names[f"tape_{step.name}"] = _relative(new[0], scene.directory)
        scene.names[f"session_{step.name}"] = new[0].stem.rpartition("-")[2]
    return outcome


def _run_alone(words: Sequence[str], directory: Path, environment: dict[str, str]) -> Outcome:
    try:
        done = subprocess.run(
            words,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(errors="replace"))
    except subprocess.TimeoutExpired as error:
        shown = (error.stdout or b"").decode(errors="replace")
        return Outcome(TIMED_OUT, f"{shown}\n{_TOO_LONG}")


def _run_in_terminal(words: Sequence[str], step: Step, scene: Scene, environment: dict[str, str]) -> Outcome:
    terminal = Terminal(words, scene.directory, environment)
    try:
        is_right = terminal.play(step.typed, COMMAND_TIMEOUT_S)
    except BaseException:
        terminal.close()
        raise
    if step.stays and is_right:
        scene.terminals[step.name] = terminal
        return Outcome(0, terminal.new_text())
    status = terminal.finish(COMMAND_TIMEOUT_S if is_right else 0)
    return _ended(terminal, status)


def _with_terminal(outcome: Outcome, terminal: Terminal | None) -> Outcome:
    if terminal is None:
        return outcome
    ended = _ended(terminal, terminal.finish(COMMAND_TIMEOUT_S))
    return Outcome(outcome.status, f"{outcome.output}\n(and on the other terminal)\n{ended.output.strip()}\n")


def _ended(terminal: Terminal, status: int | None) -> Outcome:
    text = terminal.new_text()
    return Outcome(status, text) if status is not None else Outcome(TIMED_OUT, f"{text}\n{_TOO_LONG}")


def shell_line(words: Sequence[str]) -> str:
    """The words as a person would type them in a POSIX shell; a script for it as itself."""
    if tuple(words[:2]) == SHELL:
        return " ".join(words[2:])
    return " ".join(_shell_word(word) for word in words)


def _shell_word(word: str) -> str:
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_"
    if word and all(character in plain for character in word):
        return word
    if "'" in word and not any(character in word for character in '"$`\\!'):
        return f'"{word}"'
    return "'" + word.replace("'", "'\"'\"'") + "'"


def _files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file()}


def _relative(path: Path, start: Path) -> str:
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(repr(text) for text in texts)
