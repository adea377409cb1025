"""Looks for all the kinds of one set in a text: one pass that says which may be there, then only those, exactly.

Owns `DetectorSet` (what to look for) and how matches that touch each other are settled.
Values that are written in code (hexadecimal, base64, backwards) are not seen; those that a medium escapes (`\\u0040`
in JSON, `%40` in a form) are seen where the medium's own reader hands over the value. Called by
`policy.detectors.stream`, the gates, and `policy.detectors.masks`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

from policy.detectors.encoded import decoded_value, may_hold_encoded
from policy.detectors.engine import Gate, Pattern
from policy.detectors.folding import find_folded, may_fold
from policy.detectors.kinds import FOLDED, KINDS, Kind, expanded
from policy.detectors.matches import Match, Write, placeholder
from policy.detectors.own import own_expression
from policy.detectors.stream import StreamDetector

Span = tuple[int, int, str]
Find = Callable[[bytes, int, int, list[Span]], None]

_BLOCK = 16 * 1024
_LINES_APART = 16
"""So many lines of a block are looked into one by one; beyond, what is left of the block is looked at at once."""


class DetectorSet:
    """What to look for. Make it once for a set of names (`of` keeps those it made) and use it for every text."""

    __slots__ = (
        "_built_in",
        "_built_in_gate",
        "_finders",
        "_folds",
        "_inner_gate",
        "_order",
        "_own",
        "_own_gate",
        "names",
    )

    def __init__(self, kinds: Sequence[Kind], own: Mapping[str, bytes]) -> None:
        self.names = (*(kind.name for kind in kinds), *own)
        self._order = {name: number for number, name in enumerate((*own, *KINDS))}
        self._finders = [(kind.name, finder.find) for kind in kinds for finder in kind.finders]
        gates = [finder.gate for kind in kinds for finder in kind.finders]
        self._folds = not FOLDED.isdisjoint(self.names)
        self._built_in_gate = Gate(gates) if gates else None
        self._inner_gate = Gate([_inside(gate) for gate in gates]) if gates else None
        self._own = [(name, Pattern(expression, is_text=True)) for name, expression in own.items()]
        self._own_gate = Gate(list(own.values()), is_text=True) if own else None

    @staticmethod
    def of(kinds: Sequence[str], own: Mapping[str, str] | None = None) -> DetectorSet:
        """kinds: names of detectors, groups, and of those in `own` that are meant. own: name -> RE2 expression.

        Raises KeyError for a name that is none, and PatternRefused for an expression that RE2 does not take.
        """
        names = expanded(tuple(kinds))
        patterns = own or {}
        return _made(
            tuple(name for name in names if name not in patterns),
            tuple((name, patterns[name]) for name in names if name in patterns),
        )

    @property
    def has_own(self) -> bool:
        return self._own_gate is not None

    def find(self, data: bytes) -> list[Match]:
        """Every value, in order, none touching another."""
        spans: list[Span] = []
        for begin, end in _blocks(data):
            if self._built_in_gate is not None:
                self._find_in_block(data, begin, end, self._built_in_gate, self._find_built_in, spans)
            if self._own_gate is not None:
                self._find_in_block(data, begin, end, self._own_gate, self._find_own, spans)
        if self._folds and not data.isascii():
            spans += find_folded(data, self._found_in_folded)
        return self._settled(spans) if spans else []

    def find_value(self, data: bytes) -> list[Match]:
        """The same in one whole value; one that is written in base64 or hexadecimal is all of it a match of the
        longest that is in what it says.
        """
        matches = self.find(data)
        if matches or not data:
            return matches
        text = decoded_value(data)
        inside = [] if text is None else self.find(text)
        if not inside:
            return []
        longest = max(inside, key=lambda match: match.end - match.start)
        return [Match(0, len(data), longest.kind)]

    def _find_in_block(
        self, data: bytes, begin: int, end: int, gate: Gate, find: Find, spans: list[Span]
    ) -> None:
        """Line by line where the gate meets something; where it goes on doing so, the rest as a whole."""
        position = begin
        for _ in range(_LINES_APART):
            met = gate.first(data, position, end)
            if met is None:
                return
            start = max(position, data.rfind(b"\n", position, met[0]) + 1)
            position = data.find(b"\n", met[1], end) + 1 or end
            find(data, start, position, spans)
            if position >= end:
                return
        find(data, position, end, spans)

    def _find_built_in(self, data: bytes, begin: int, end: int, spans: list[Span]) -> None:
        if self._built_in_gate is not None:
            for hit in self._built_in_gate.found(data[begin:end]):
                name, find = self._finders[hit]
                spans += [(start, stop, name) for start, stop in find(data, begin, end)]

    def _found_in_folded(self, line: bytes) -> list[Span]:
        spans: list[Span] = []
        if self._built_in_gate is not None:
            self._find_in_block(line, 0, len(line), self._built_in_gate, self._find_built_in, spans)
        return spans

    def _find_own(self, data: bytes, begin: int, end: int, spans: list[Span]) -> None:
        if self._own_gate is not None:
            for hit in self._own_gate.found(data[begin:end]):
                name, pattern = self._own[hit]
                found = pattern.find_all(data, begin, end)
                spans += [(start, stop, name) for start, stop in found if stop > start]

    def may_match(self, data: bytes) -> bool:
        """False only if nothing would be found. Quicker than finding."""
        gates = (self._built_in_gate, self._own_gate)
        return (self._folds and may_fold(data)) or any(
            gate is not None and gate.first(data, 0, len(data)) is not None for gate in gates
        )

    def may_match_inside(self, data: bytes) -> bool:
        """The same for rows as they come: a length of four bytes may stand before a value, and a message behind it.

        Own patterns can look at the ends of a value: with those it is always True.
        """
        gate = self._inner_gate
        return (
            self.has_own
            or (self._folds and may_fold(data))
            or may_hold_encoded(data)
            or (gate is not None and _meets_inside(gate, data))
        )

    def _settled(self, spans: list[Span]) -> list[Match]:
        """Matches that overlap become one, from the first byte to the last, named after the longest of them."""
        spans.sort()
        matches: list[Match] = []
        start, end, best = spans[0][0], spans[0][1], spans[0]
        for span in spans[1:]:
            if span[0] >= end:
                matches.append(Match(start, end, best[2]))
                start, end, best = span[0], span[1], span
                continue
            end = max(end, span[1])
            best = max(best, span, key=self._rank)
        matches.append(Match(start, end, best[2]))
        return matches

    def _rank(self, span: Span) -> tuple[int, int]:
        return span[1] - span[0], -self._order[span[2]]

    def replace(self, data: bytes, write: Write | None = None) -> tuple[bytes, Counter[str]]:
        """`data` with what `write` makes of each match in its place, and how many of each kind there were."""
        return self._replaced(data, self.find(data), write)

    def replace_value(self, data: bytes, write: Write | None = None) -> tuple[bytes, Counter[str]]:
        """The same for one whole value (`find_value`)."""
        return self._replaced(data, self.find_value(data), write)

    def _replaced(self, data: bytes, matches: list[Match], write: Write | None) -> tuple[bytes, Counter[str]]:
        counts: Counter[str] = Counter()
        if not matches:
            return data, counts
        write = write or placeholder
        pieces: list[bytes] = []
        position = 0
        for match in matches:
            counts[match.kind] += 1
            pieces += (data[position : match.start], write(match, data[match.start : match.end]))
            position = match.end
        pieces.append(data[position:])
        return b"".join(pieces), counts

    def stream(self, write: Write | None = None) -> StreamDetector:
        return StreamDetector(self, write)


_LARGEST_LENGTH_BYTE = 7
_BEHIND_VALUE = bytes([*range(_LARGEST_LENGTH_BYTE + 1), 0xFF]) + b"Dd"  # another length, or another message
_BORDER = re.compile(rb"\(\?:\\b\|_\)|\\b")
# The end of a word, or four bytes of a length of which the last looks like a letter, or the `D` of the next row.
_ANY_BORDER = rb"(?:\b|_|[\x00-\x07][\x00-\xff]{2}[0-9A-Za-z_]|D)"


def _meets_inside(gate: Gate, data: bytes) -> bool:
    """Does it match, other than where the first letter of a value was taken for the last byte of its length?"""
    position = 0
    while (met := gate.first(data, position, len(data))) is not None:
        start = met[0]
        if data[start] > _LARGEST_LENGTH_BYTE:
            return True
        end = start + int.from_bytes(data[start : start + 4])  # of a message, whose length counts itself
        if _ends_at(data, end) or _ends_at(data, end + 4):
            return True
        position = start + 1
    return False


def _ends_at(data: bytes, end: int) -> bool:
    return end == len(data) or (end < len(data) and data[end] in _BEHIND_VALUE)


def _inside(gate: bytes) -> bytes:
    """The expression for values that have their length in front of them and another message behind."""
    return _BORDER.sub(lambda _: _ANY_BORDER, gate)


@lru_cache(maxsize=64)
def _made(kinds: tuple[str, ...], own: tuple[tuple[str, str], ...]) -> DetectorSet:
    known = [KINDS[name] for name in KINDS if name in kinds]
    unknown = [name for name in kinds if name not in KINDS]
    if unknown:
        raise KeyError(unknown[0])
    return DetectorSet(known, {name: own_expression(text) for name, text in own})


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Whole lines, of about _BLOCK bytes each. Nothing but a private key goes over the end of a line."""
    begin, length = 0, len(data)
    while length - begin > _BLOCK:
        end = data.find(b"\n", begin + _BLOCK) + 1
        if not end:
            break
        yield begin, end
        begin = end
    if begin < length:
        yield begin, length
