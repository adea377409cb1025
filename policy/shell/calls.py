"""One command as the modules see it that know what commands run others, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from policy.facts import SimpleCommand
from policy.shell.commands import ShellWord


class Unclear(Exception):
    """It cannot be seen from which word on a command begins. `at`: the first word that is not understood."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command runs itself; the fields are those of `SimpleCommand`."""

    inner: tuple[SimpleCommand, ...] = ()
    is_explained: bool = False
    reads_code: bool = False


NOTHING = Ran()
READS_CODE = Ran(reads_code=True)


class Explaining(Protocol):
    """Who turns words and texts into commands, one level deeper than the call at hand."""

    def run(self, words: Sequence[ShellWord], assignments: Sequence[str] = ()) -> SimpleCommand: ...

    def text(self, text: str) -> tuple[SimpleCommand, ...]: ...

    def doubt(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A command whose name is known. name: without its directory."""

    name: str
    words: Sequence[ShellWord]
    explaining: Explaining

    def explained(self, at: int, assignments: Sequence[str] = ()) -> Ran:
        """It runs the words from `at` on and does nothing else."""
        if at >= len(self.words):
            return NOTHING
        return Ran((self.explaining.run(self.words[at:], assignments),), is_explained=True)

    def seen(self, at: int, assignments: Sequence[str] = ()) -> Ran:
        """It runs the words from `at` on, but not only that or not as the caller would."""
        if at >= len(self.words):
            return NOTHING
        return Ran((self.explaining.run(self.words[at:], assignments),))

    def text(self, word: ShellWord, *, is_explained: bool) -> Ran:
        """It gives a text to a shell."""
        if not word.is_known:
            self.explaining.doubt(f'the text that "{self.name}" runs is made at run time')
            return NOTHING
        return Ran(self.explaining.text(word.text), is_explained=is_explained)

    def joined(self, at: int) -> Ran:
        """It joins its words from `at` on to a text and gives that to a shell."""
        words = self.words[at:]
        if not words:
            return NOTHING
        if not all(word.is_known for word in words):
            self.explaining.doubt(f'the text that "{self.name}" runs is made at run time')
            return NOTHING
        return Ran(self.explaining.text(" ".join(word.text for word in words)))


Runner = Callable[[Call], Ran]
