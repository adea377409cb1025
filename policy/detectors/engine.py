"""The one place that knows google-re2: patterns that match in linear time, whatever they and the text are.

Owns `Pattern` (one expression, found by position), `Gate` (where the first of many expressions is met, and which of
them occur in a text at all, each in one pass), and the options and memory limits that both are compiled with. A gate is
only there to save work: when it cannot answer, all of its patterns count as found. Called by the other modules of this
package.

RE2 was chosen over Hyperscan by measure, on the texts of `bench/detectors.py`: one pass for all built-in kinds takes
160 to 540 MB/s with RE2, and 75 to 470 MB/s with Hyperscan, whose binding calls Python for every hit. Both have wheels
for x86-64 and ARM; RE2's syntax is the one that policies are written in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import re2

Span = tuple[int, int]

_GATE_MEMORY = 64 * 1024 * 1024  # of which states that were met are kept; not reached by text as it is
_PATTERN_MEMORY = 8 * 1024 * 1024
OWN_MEMORY = 1024 * 1024


class PatternRefused(Exception):
    """RE2 does not take the expression. The message is RE2's own."""


def _options(*, memory: int, is_text: bool) -> re2.Options:
    options = re2.Options()
    options.max_mem = memory
    options.never_capture = True
    options.log_errors = False
    if is_text:
        options.never_nl = True
    else:
        options.encoding = re2.Options.Encoding.LATIN1
    return options


# The wrapper around RE2's own object costs more than most searches. Where its inner names have moved it is used.
_ANYWHERE = getattr(getattr(re2, "_Anchor", None), "UNANCHORED", None)
_HERE = getattr(getattr(re2, "_Anchor", None), "ANCHOR_START", "here")
_NOTHING: Span = (-1, -1)

Matching = Callable[[object, bytes, int, int], Sequence[Span]]


class Pattern:
    """One expression over bytes. is_text: a policy's own, over UTF-8, which sees one line at a time."""

    __slots__ = ("_compiled", "_match")

    def __init__(self, expression: bytes, *, is_text: bool = False, memory: int = 0) -> None:
        memory = memory or (OWN_MEMORY if is_text else _PATTERN_MEMORY)
        try:
            self._compiled = re2.compile(expression, _options(memory=memory, is_text=is_text))
        except re2.error as error:
            raise PatternRefused(_words(error)) from None
        self._match = _matching(self._compiled)

    def find(self, data: bytes, position: int, end: int) -> Span | None:
        """The leftmost match in data[position:end]; what stands around is seen by `\\b`, `^` and `$`."""
        if not 0 <= position <= end <= len(data):
            return None
        span = self._match(_ANYWHERE, data, position, end)[0]
        return None if span[0] < 0 else span

    def find_at(self, data: bytes, position: int, end: int) -> int:
        """Where a match that begins at `position` ends; -1 for no match."""
        if not 0 <= position <= end <= len(data):
            return -1
        return self._match(_HERE, data, position, end)[0][1]

    def find_all(self, data: bytes, position: int, end: int) -> Iterator[Span]:
        match = self._match
        while position <= end:
            span = match(_ANYWHERE, data, position, end)[0]
            start, stop = span
            if start < 0:
                return
            yield span
            position = stop if stop > position else position + 1

    @property
    def instructions(self) -> int:
        """How large the program is that RE2 made of it. Where its automaton grows too large, each costs time a byte."""
        return int(self._compiled.programsize)

    @property
    def matches_nothing(self) -> bool:
        """Does it match the empty text?"""
        return any(
            self._compiled.search(text) is not None and _is_empty(self._compiled, text) for text in _EMPTY
        )


def _matching(compiled: re2._Regexp) -> Matching:
    inner = getattr(getattr(compiled, "_regexp", None), "Match", None)
    if inner is not None and _ANYWHERE is not None:
        return cast(Matching, inner)

    def match(anchor: object, data: bytes, position: int, end: int) -> Sequence[Span]:
        found = (compiled.match if anchor is _HERE else compiled.search)(data, position, end)
        return [_NOTHING if found is None else found.span()]

    return match


_EMPTY = (b"", b"a", b" ", b"0 a")


def _is_empty(compiled: re2._Regexp, text: bytes) -> bool:
    return any(start == end for start, end in (found.span() for found in compiled.finditer(text)))


class Gate:
    """Whether any of the patterns occurs in a text, and which."""

    __slots__ = ("_all", "_any", "_set")

    def __init__(self, expressions: Sequence[bytes], *, is_text: bool = False) -> None:
        self._any = Pattern(
            b"|".join(b"(?:%s)" % expression for expression in expressions),
            is_text=is_text,
            memory=_GATE_MEMORY,
        )
        self._set = re2.Set.SearchSet(_options(memory=_GATE_MEMORY, is_text=is_text))
        for expression in expressions:
            self._set.Add(expression)
        self._set.Add(b"")  # always found: without it "nothing found" and "out of memory" are one answer
        self._set.Compile()
        self._all = list(range(len(expressions)))

    def first(self, data: bytes, position: int, end: int) -> Span | None:
        """The leftmost place in data[position:end] where one of them matches."""
        return self._any.find(data, position, end)

    def found(self, data: bytes) -> list[int]:
        """The numbers of the patterns that occur in `data`."""
        numbers = self._set.Match(data)
        if not numbers:
            return self._all
        return [number for number in numbers if number < len(self._all)]


def _words(error: Exception) -> str:
    told = error.args[0] if error.args else ""
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told)
