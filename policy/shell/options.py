"""The options in front of a command that another command runs: where they end, told only if all of them are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from policy.shell.calls import Unclear
from policy.shell.commands import ShellWord, made_word


@dataclass(frozen=True, slots=True)
class Options:
    """What a command knows. flags: letters without a value; values: letters with one; attached: letters whose value,
    if any, stands directly behind. Long names likewise, without dashes."""

    flags: str = ""
    values: str = ""
    attached: str = ""
    long_flags: frozenset[str] = frozenset()
    long_values: frozenset[str] = frozenset()


@dataclass(slots=True)
class Scanned:
    """at: the first word behind the options. given: every option with its value, None for a flag."""

    at: int
    given: list[tuple[str, ShellWord | None]] = field(default_factory=list)

    def has(self, *names: str) -> bool:
        return any(name in names for name, _ in self.given)

    def values(self, *names: str) -> list[ShellWord]:
        return [value for name, value in self.given if name in names and value is not None]


def may_be_option(word: ShellWord) -> bool:
    """Whether a word that is not known could turn out to be an option, none or several."""
    return not word.is_single or word.head[:1] in ("", "-", "+")


def scan(words: Sequence[ShellWord], options: Options, at: int = 1) -> Scanned:
    """Step over options from `at` on, up to the first other word or behind "--"."""
    scanned = Scanned(at)
    while scanned.at < len(words):
        word = words[scanned.at]
        if not word.is_known:
            if may_be_option(word):
                raise Unclear(scanned.at)
            break
        text = word.text
        if text == "--":
            scanned.at += 1
            break
        if len(text) < 2 or text[0] != "-":
            break
        if text.startswith("--"):
            _long(words, text[2:], options, scanned)
        else:
            _short(words, text[1:], options, scanned)
    return scanned


def _long(words: Sequence[ShellWord], text: str, options: Options, scanned: Scanned) -> None:
    name, equals, value = text.partition("=")
    at = scanned.at
    scanned.at += 1
    if equals and name in options.long_values:
        scanned.given.append((name, made_word(value)))
    elif not equals and name in options.long_flags:
        scanned.given.append((name, None))
    elif not equals and name in options.long_values:
        _take_value(words, name, scanned)
    else:
        raise Unclear(at)


def _short(words: Sequence[ShellWord], letters: str, options: Options, scanned: Scanned) -> None:
    at = scanned.at
    scanned.at += 1
    for index, letter in enumerate(letters):
        if letter in options.flags:
            scanned.given.append((letter, None))
        elif letter in options.attached or (letter in options.values and index < len(letters) - 1):
            scanned.given.append((letter, made_word(letters[index + 1 :])))
            return
        elif letter in options.values:
            _take_value(words, letter, scanned)
            return
        else:
            raise Unclear(at)


def _take_value(words: Sequence[ShellWord], name: str, scanned: Scanned) -> None:
    if scanned.at >= len(words) or not words[scanned.at].is_single:
        raise Unclear(scanned.at)
    scanned.given.append((name, words[scanned.at]))
    scanned.at += 1
