"""The two readings of a text, compared: what only one of them finds, or finds elsewhere, makes the text unresolved.

Neither the narrow reading nor the grammar of tree-sitter is trusted alone. Where they name the same commands with the
same words at the same places, a mistake would have to be made by both.
"""

from __future__ import annotations

import re
import string

from policy.shell.commands import RawCommand, ShellWord, Unreadable
from policy.shell.reading import CommandReader
from policy.shell.tree import MAX_BROKEN_BYTES, Span, TreeCommand, TreeReading, read_tree
from policy.shell.words import WordReader

# Longer texts are shown to the grammar with what is only text blotted out, so that no misreading can be costly.
MAX_SHOWN_BYTES = 2048
MAX_SIGNS = 12_000
_LETTERS = (string.ascii_letters + string.digits).encode()
_SIGNS = re.compile(rb"[^A-Za-z0-9\n]")


def read_commands(data: bytes, *, is_compared: bool = True) -> tuple[list[RawCommand], list[str]]:
    """The commands in the order in which they stand, and what is doubtful about them.

    is_compared: False where the text is unresolved already, so that the effort of a second reading is not made again
    and again for texts inside a text.
    """
    reader = CommandReader(data)
    doubts: list[str] = []
    try:
        reader.read()
    except Unreadable as reason:
        doubts.append(str(reason))
    doubts += reader.doubts
    commands = [
        command for command in reader.commands if command.words or command.assignments or command.redirects
    ]
    commands.sort(key=_place)
    if not is_compared or (doubts and len(data) > MAX_BROKEN_BYTES):
        return commands, doubts
    shown = data if len(data) <= MAX_SHOWN_BYTES else _blotted(data, reader.texts)
    if len(shown.translate(None, _LETTERS)) > MAX_SIGNS:
        return commands, [*doubts, f"it holds more than {MAX_SIGNS} blanks and signs"]
    tree = read_tree(shown)
    doubts += tree.doubts
    if not doubts and not _agree(commands, tree):
        doubts.append("two ways to read it give different commands")
    if doubts:
        commands = sorted(_all_of(data, commands, tree), key=_place)
    return commands, doubts


def _place(command: RawCommand) -> int:
    return command.words[0].start if command.words else command.start


def _blotted(data: bytes, texts: list[Span]) -> bytes:
    blotted = bytearray(data)
    for start, end in texts:
        blotted[start:end] = _SIGNS.sub(b"x", data[start:end])
    return bytes(blotted)


def _agree(commands: list[RawCommand], tree: TreeReading) -> bool:
    named = [command for command in commands if command.words]
    if len(named) != len(tree.commands):
        return False
    for command in named:
        name = command.words[0]
        found = tree.commands.get((name.start, name.end))
        if found is None:
            return False
        if found.has_arguments and found.arguments != [(word.start, word.end) for word in command.words[1:]]:
            return False
    return True


def _all_of(data: bytes, commands: list[RawCommand], tree: TreeReading) -> list[RawCommand]:
    """What either reading has; of the same command the words of the one that has more."""
    found = {_place(command): command for command in commands}
    for command in tree.commands.values():
        place = command.name[0]
        known = found.setdefault(place, RawCommand(place))
        if len(known.words) <= len(command.arguments):
            known.words = _words_of(data, command)
    return list(found.values())


def _words_of(data: bytes, command: TreeCommand) -> list[ShellWord]:
    return [_word_at(data, span) for span in (command.name, *command.arguments)]


def _word_at(data: bytes, span: Span) -> ShellWord:
    """The word in one place; not known where the shells would not agree that it is one."""
    start, end = span
    try:
        word = WordReader(data[:end], _Nothing()).word(start)
        if word.end == end:
            return word
    except Unreadable:
        pass
    return ShellWord(start, end, data[start:end].decode("utf-8", "replace"), is_known=False, is_single=False)


class _Nothing:
    """Reads no substitutions: the tree has named what is in them."""

    def substitution(self, start: int) -> int:
        raise Unreadable("a substitution")

    def backquoted(self, start: int, end: int) -> None:
        raise Unreadable("a substitution")

    def assigned(self, name: str) -> None:
        """What it sets is of no interest where the text is unresolved anyway."""
