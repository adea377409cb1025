"""Commands and words as they stand in a text, with their places: what the readers of this package hand on.

Kept apart from `policy.facts`, whose classes say only what a policy or a tape needs to know.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class Unreadable(Exception):
    """The text goes on in a way that the shells may read differently. The argument says why."""


@dataclass(frozen=True, slots=True)
class ShellWord:
    """One word, bytes start..end of its text.

    text: after quote removal where is_known, else the source. is_single: it becomes exactly one word, whatever its
    value. head: what it begins with, as far as that is known. is_bare: written without quotes and expansions.
    is_number: its value is made of digits only ("$?", "$#").
    """

    start: int
    end: int
    text: str
    is_known: bool = True
    is_single: bool = True
    head: str = ""
    is_bare: bool = False
    is_number: bool = False


def made_word(text: str) -> ShellWord:
    """A known word that stands in no text."""
    return ShellWord(0, 0, text, head=text)


# What the shell or a program adds at run time: any number of words.
ANY_WORDS = ShellWord(0, 0, "", is_known=False, is_single=False)


@dataclass(frozen=True, slots=True)
class FileRedirect:
    """A redirection to or from a file, with its operator as written."""

    operator: str
    word: ShellWord


@dataclass(slots=True)
class RawCommand:
    """A simple command while it is read; without words where only assignments or redirections stand."""

    start: int
    words: list[ShellWord] = field(default_factory=list)
    assignments: list[str] = field(default_factory=list)
    redirects: list[FileRedirect] = field(default_factory=list)
    is_redirected: bool = False  # some redirection, be it only of a stream or a here-document
