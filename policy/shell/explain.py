"""From commands as they stand in a text to the facts about them: what each runs itself, and what is doubtful in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from policy.facts import Redirect, SimpleCommand, Word
from policy.shell.accounts import ACCOUNTS
from policy.shell.builtins import builtin_doubt
from policy.shell.calls import NOTHING, Call, Ran, Runner, Unclear
from policy.shell.commands import FileRedirect, RawCommand, ShellWord
from policy.shell.launchers import LAUNCHERS, loader
from policy.shell.shells import SHELLS, interpreter
from policy.shell.wrappers import WRAPPERS

# Commands that run commands that run commands, texts in texts included.
MAX_WRAPPED = 10
# All texts that are read for one analysis, the inner ones together.
MAX_INNER_BYTES = 256 * 1024

_RUNNERS = SHELLS | WRAPPERS | ACCOUNTS | LAUNCHERS
_LOADER = re.compile(r"ld-linux.*\.so.*|ld-musl-.*\.so.*|ld\.so|ld64\.so.*|ld-[0-9.]+\.so")
# Where a program of a known name is that program; from elsewhere it may be anything.
_PLACES = frozenset(("/bin", "/usr/bin", "/usr/local/bin", "/sbin", "/usr/sbin"))

# Reads a text; the flag says whether it is to be compared with a second reading.
ReadCommands = Callable[[bytes, bool], tuple[Sequence[RawCommand], Sequence[str]]]


class Explainer:
    """Explains the commands of one text and of the texts inside it. Doubts are kept in the order in which they come."""

    __slots__ = ("_depth", "_inner_bytes", "_read", "doubts")

    def __init__(self, read: ReadCommands) -> None:
        self._read = read
        self._depth = 0
        self._inner_bytes = 0
        self.doubts: dict[str, None] = {}

    def doubt(self, reason: str) -> None:
        self.doubts[reason] = None

    def commands(self, data: bytes) -> tuple[SimpleCommand, ...]:
        """All commands of a text."""
        commands, doubts = self._read(data, not self.doubts)
        self.doubts.update(dict.fromkeys(doubts))
        return tuple(self._command(raw.words, raw.assignments, raw.redirects) for raw in commands)

    # --- what those ask that know commands (calls.Explaining) --------------------------------------------------

    def run(self, words: Sequence[ShellWord], assignments: Sequence[str] = ()) -> SimpleCommand:
        return self._command(words, assignments, ())

    def text(self, text: str) -> tuple[SimpleCommand, ...]:
        data = text.encode("utf-8", "surrogatepass")
        self._inner_bytes += len(data)
        if self._inner_bytes > MAX_INNER_BYTES:
            self.doubt(f"the texts in it are longer than {MAX_INNER_BYTES} bytes")
            return ()
        return self.commands(data)

    # --- one command -------------------------------------------------------------------------------------------

    def _command(
        self, words: Sequence[ShellWord], assignments: Sequence[str], redirects: Sequence[FileRedirect]
    ) -> SimpleCommand:
        ran = self._ran(words) if words else NOTHING
        return SimpleCommand(
            words=tuple(Word(word.text, word.is_known) for word in words),
            assignments=tuple(assignments),
            redirects=tuple(
                Redirect(redirect.operator, Word(redirect.word.text, redirect.word.is_known))
                for redirect in redirects
            ),
            inner=ran.inner,
            is_explained=ran.is_explained,
            reads_code=ran.reads_code,
        )

    def _ran(self, words: Sequence[ShellWord]) -> Ran:
        name = words[0]
        if not name.is_known:
            self.doubt("the name of a command is made at run time")
            return NOTHING
        directory, slash, base = name.text.rpartition("/")
        if not slash and (reason := builtin_doubt(words)) is not None:
            self.doubt(reason)
        runner = _runner(base)
        if runner is None:
            return NOTHING
        if self._depth >= MAX_WRAPPED:
            self.doubt(f"commands run one another more than {MAX_WRAPPED} deep")
            return NOTHING
        self._depth += 1
        try:
            ran = runner(Call(base, words, self))
        except Unclear as unclear:
            self.doubt(f'the arguments of "{base}" are not all understood')
            ran = self._guessed(words, unclear.at)
        self._depth -= 1
        is_explained = ran.is_explained and bool(ran.inner) and (not slash or directory in _PLACES)
        return Ran(ran.inner, is_explained, ran.reads_code)

    def _guessed(self, words: Sequence[ShellWord], at: int) -> Ran:
        """The command that probably begins behind what is not understood, so that it is at least shown."""
        for index in range(at, len(words)):
            if not words[index].head.startswith(("-", "+")) and words[index].is_known:
                return Ran((self.run(words[index:]),))
        return NOTHING


def _runner(name: str) -> Runner | None:
    runner = _RUNNERS.get(name)
    if runner is None and (runner := interpreter(name)) is None and _LOADER.fullmatch(name) is not None:
        return loader
    return runner
