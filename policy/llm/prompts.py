"""Patterns (RE2) over the texts that go to the model.

A text is looked at as it stands, and once more as a reader sees it: compatibility forms made plain (NFKC), invisible
characters taken out, the letters of Unicode's tag block read as letters. The parts of one message are looked at apart
and put together, because the model reads them as one text. Texts of different messages are not put together, and
letters that only look alike (of another alphabet), other languages, ciphers and misspellings are not seen through:
patterns over prompts keep people from accidents, they are no fence. Called by `policy.llm.rule` and by
`policy.llm.section`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import re2

from policy.llm.content import Content
from policy.patterns import PatternError

_TAGS = {0xE0000 + code: code for code in range(0x20, 0x7F)}
_INVISIBLE_MARKS = dict.fromkeys([0x034F, 0x115F, 0x1160, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)])
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_SET_OPTIONS = re2.Options()
_SET_OPTIONS.log_errors = False
_SET_OPTIONS.never_capture = True
_SET_OPTIONS.max_mem = (
    256 * 1024 * 1024
)  # of which what is met is used; with less, each pattern is looked for alone
FEW = 8  # so many patterns are looked for one by one


class PromptPattern:
    """One pattern. It is found anywhere in a text; `(?i)` in front makes it blind to case."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._compiled: Any = re2.compile(text, _OPTIONS)
        except re2.error as error:
            detail = error.args[0] if error.args else ""
            reason = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
            raise PatternError(
                f"not a pattern: {reason}",
                "write a regular expression in RE2's syntax, which has no look-around and no back-references",
            ) from None
        if self._compiled.search(b"") is not None:
            raise PatternError(
                f"`{text}` is found in every text", "write what must be there, as in `(?i)password of`"
            )

    def is_in(self, texts: Iterable[bytes]) -> bool:
        return any(self._compiled.search(text) is not None for text in texts)


def is_any_in(patterns: Sequence[PromptPattern], content: Content) -> bool:
    """Is one of the patterns found in what the model reads?"""
    texts = list(_looked_at(content))
    return any(pattern.is_in(texts) for pattern in patterns)


class PromptSet:
    """Many patterns, looked for together in one pass over each text."""

    __slots__ = ("_all", "_patterns", "_set")

    def __init__(self, patterns: Iterable[PromptPattern]) -> None:
        self._patterns = {pattern.text: pattern for pattern in patterns}
        self._all = tuple(self._patterns)
        self._set: Any = re2.Set.SearchSet(_SET_OPTIONS)
        for text in self._all:
            self._set.Add(text)
        self._set.Add("")  # always found: without it "nothing found" and "out of memory" are one answer
        self._set.Compile()

    def found_in(self, content: Content) -> frozenset[str]:
        """The texts of the patterns that are found in what the model reads."""
        found: set[str] = set()
        for text in _looked_at(content):
            numbers = self._set.Match(text)
            if numbers:
                found.update(self._all[number] for number in numbers if number < len(self._all))
            else:
                found.update(name for name, pattern in self._patterns.items() if pattern.is_in((text,)))
        return frozenset(found)

    def is_any_in(self, content: Content) -> bool:
        return bool(self.found_in(content))


def _looked_at(content: Content) -> Iterator[bytes]:
    for group in content.groups:
        yield from _readings(group)
        if len(group) > 1:
            yield from _readings(["".join(group), "\n".join(group)])


def _readings(texts: Sequence[str]) -> Iterator[bytes]:
    for text in texts:
        yield text.encode("utf-8", "replace")
        if not text.isascii():
            seen = as_read(text)
            if seen != text:
                yield seen.encode("utf-8", "replace")


def as_read(text: str) -> str:
    """`text` without what cannot be seen and with compatibility forms made plain."""
    visible = "".join(
        character
        for character in text.translate(_TAGS).translate(_INVISIBLE_MARKS)
        if character.isascii() or unicodedata.category(character) != "Cf"
    )
    return unicodedata.normalize("NFKC", visible)
