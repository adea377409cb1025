"""Patterns for names: relations ("shop.*"), columns ("*.*.phone"), functions, settings, targets.

Owns parsing, matching and comparing of patterns. Called by `policy.document` (is this a pattern,
does it cover that one?) and by the rule matchers. No regular expressions at match time: a glob is its
fixed pieces, found from left to right, so that no pattern can be made slow, and a pattern never matches by
prefix alone.

    *        any run of characters inside one part, also none ("tmp_*.orders", "shop.*")
    "..."    a part taken literally, `""` for a quote, as in PostgreSQL ("\"Odd.Name\".x")

Names are compared as PostgreSQL stores them: case counts, and an unquoted identifier of a statement is
lower case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_IDENTIFIER_BYTES = 63  # PostgreSQL cuts names there (NAMEDATALEN - 1)
_UNQUOTED = re.compile(r"[\w$*]+")


class PatternError(ValueError):
    """Not a pattern, or one that cannot name anything. `remedy` says what to write."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class Glob:
    """One part of a name: literal text, or pieces with `*` between them.

    `pieces` are given by who has read the text already, because a `*` in it may be quoted. head, tail: what all that
    it matches begins and ends with.
    """

    __slots__ = ("_middle", "head", "is_any", "literal", "tail", "text")

    def __init__(self, text: str, *, quoted: bool = False, pieces: Sequence[str] | None = None) -> None:
        self.text = text
        if pieces is None:
            pieces = [text] if quoted else re.split(r"\*+", text)
        self.literal: str | None = pieces[0] if len(pieces) == 1 else None
        self.is_any = len(pieces) == 2 and not any(pieces)
        self.head, self.tail = pieces[0], pieces[-1]
        self._middle = tuple(pieces[1:-1])

    def matches(self, name: str) -> bool:
        if self.literal is not None:
            return name == self.literal
        if self.is_any:
            return True
        start, end = len(self.head), len(name) - len(self.tail)
        if start > end or not name.startswith(self.head) or not name.endswith(self.tail):
            return False
        for piece in self._middle:
            found = name.find(piece, start, end)
            if found < 0:
                return False
            start = found + len(piece)
        return True

    def covers(self, other: Glob) -> bool:
        """Does every name that `other` matches match this too? May say False where it is hard to tell."""
        if self.is_any:
            return True
        if other.literal is not None:
            return self.matches(other.literal)
        return self.literal is None and self.text == other.text

    def overlaps(self, other: Glob) -> bool:
        """Is there a name that both match?"""
        if self.literal is not None:
            return other.matches(self.literal)
        if other.literal is not None:
            return self.matches(other.literal)
        # Two globs with a `*` each meet as soon as neither their fixed heads nor their fixed tails disagree.
        heads = self.head.startswith(other.head) or other.head.startswith(self.head)
        tails = self.tail.endswith(other.tail) or other.tail.endswith(self.tail)
        return heads and tails


class NamePattern:
    """A name of one or more parts, each a Glob."""

    __slots__ = ("parts", "text")

    def __init__(self, text: str, parts: tuple[Glob, ...]) -> None:
        self.text = text
        self.parts = parts

    def matches(self, *names: str) -> bool:
        return len(names) == len(self.parts) and all(
            part.matches(name) for part, name in zip(self.parts, names, strict=True)
        )

    def covers(self, other: NamePattern) -> bool:
        return len(self.parts) == len(other.parts) and all(
            mine.covers(theirs) for mine, theirs in zip(self.parts, other.parts, strict=True)
        )

    def overlaps(self, other: NamePattern) -> bool:
        return len(self.parts) == len(other.parts) and all(
            mine.overlaps(theirs) for mine, theirs in zip(self.parts, other.parts, strict=True)
        )


def parse_pattern(text: str) -> NamePattern:
    """`text` as a pattern of as many parts as it has. Raises PatternError."""
    parts: list[Glob] = []
    rest = text
    while True:
        if rest.startswith('"'):
            part, rest = _quoted_part(text, rest)
        else:
            part, rest = _plain_part(text, rest)
        if part.literal is not None and len(part.literal.encode()) > MAX_IDENTIFIER_BYTES:
            raise PatternError(
                f"`{part.text[:20]}...` is longer than PostgreSQL's names ({MAX_IDENTIFIER_BYTES} bytes)",
                "shorten it: the server cuts names there",
            )
        parts.append(part)
        if not rest:
            return NamePattern(text, tuple(parts))
        if not rest.startswith("."):
            raise PatternError(
                f"`{text}`: something follows a closing quote", 'put a dot between parts, as in `"A b".x`'
            )
        rest = rest[1:]


def _quoted_part(text: str, rest: str) -> tuple[Glob, str]:
    name = ""
    position = 1
    while True:
        close = rest.find('"', position)
        if close < 0:
            raise PatternError(f"`{text}`: a quote is not closed", 'close it, as in `"Odd.Name".x`')
        name += rest[position:close]
        if not rest.startswith('""', close):
            break
        name += '"'
        position = close + 2
    if not name:
        raise PatternError(f"`{text}`: an empty name in quotes", "write the name, or `*` for any")
    return Glob(name, quoted=True), rest[close + 1 :]


def _plain_part(text: str, rest: str) -> tuple[Glob, str]:
    name, _, _ = rest.partition(".")
    if not name:
        raise PatternError(
            f"`{text}`: an empty part", "write a name on both sides of each dot, or `*` for any"
        )
    if _UNQUOTED.fullmatch(name) is None:
        raise PatternError(
            f"`{text}`: `{name}` has a character that needs quotes",
            f'write "{name}" in double quotes inside the text',
        )
    return Glob(name), rest[len(name) :]


def _two_parts(text: str, what: str) -> NamePattern:
    pattern = parse_pattern(text)
    count = len(pattern.parts)
    if count == 1:
        raise PatternError(
            f"`{text}` names no schema", f"write `*.{text}` for any schema, or `public.{text}` for one"
        )
    if count != 2:
        raise PatternError(f"`{text}` has {count} parts and cannot name a {what}", f"write `schema.{what}`")
    return pattern


def relation_pattern(text: str) -> NamePattern:
    """Two parts, schema and relation. Raises PatternError."""
    return _two_parts(text, "relation")


def function_pattern(text: str) -> NamePattern:
    """Two parts, schema and function, without arguments. Raises PatternError."""
    if "(" in text:
        raise PatternError(f"`{text}` has arguments", "name the function alone, as in `shop.total`")
    return _two_parts(text, "function")


def column_pattern(text: str, *, one_part: bool = False) -> NamePattern:
    """Three parts, schema, relation and column; or, with `one_part`, a column alone. Raises PatternError."""
    pattern = parse_pattern(text)
    count = len(pattern.parts)
    if count == 3 or (count == 1 and one_part):
        return pattern
    last = pattern.parts[-1].text
    parts = "1 part" if count == 1 else f"{count} parts"
    raise PatternError(
        f"`{text}` has {parts} and cannot name a column",
        f"write `schema.relation.column`, as in `*.*.{last}`"
        + (f", or `{last}` for a column of the rule's relations" if one_part else ""),
    )


def any_matches(patterns: Sequence[NamePattern], *names: str) -> bool:
    return any(pattern.matches(*names) for pattern in patterns)
