"""Digits, letters and separators beyond ASCII, read as the ASCII that they stand for.

Owns which characters those are: decimal digits of every script, full-width forms, blanks that do not break or are
narrow, dashes, dots, and characters without a width. Where a line holds such a one beside a digit (`TRIGGER`), the line
is looked at once more as it reads, and what is found is mapped back. Other text costs one search, ASCII none. Called by
`policy.detectors.detector_set`; `policy.detectors.stream` asks what a number may go on with. Pure.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from policy.detectors.engine import Pattern

_BLANKS: Final = (
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
_DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d"
_DOTS: Final = "\u00b7\u2022\u2024\u2027\u30fb\uff0e"
_NO_WIDTH: Final = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_FULL_WIDTH: Final = range(0xFF01, 0xFF5F)  # as `!` to `~`

Span = tuple[int, int]


def _digits() -> dict[int, str]:
    numbers = (number for number in range(0x80, sys.maxunicode + 1) if chr(number).isdecimal())
    return {number: str(unicodedata.decimal(chr(number))) for number in numbers}


_DIGITS: Final = _digits()
_LETTERS: Final = {number: chr(number - 0xFEE0) for number in _FULL_WIDTH if chr(number - 0xFEE0).isalpha()}
_FOLDED: Final[dict[int, str]] = {
    **{number: chr(number - 0xFEE0) for number in _FULL_WIDTH},
    **dict.fromkeys(map(ord, _BLANKS), " "),
    **dict.fromkeys(map(ord, _DASHES), "-"),
    **dict.fromkeys(map(ord, _DOTS), "."),
    **_DIGITS,
}
_without_width = dict.fromkeys(map(ord, _NO_WIDTH))


def _any_of(numbers: Iterable[int]) -> bytes:
    """An expression over bytes of UTF-8 for any of these characters."""
    by_prefix: dict[bytes, set[int]] = {}
    for number in numbers:
        encoded = chr(number).encode()
        by_prefix.setdefault(encoded[:-1], set()).add(encoded[-1])
    parts = [
        _escaped(prefix) + b"[" + b"".join(_escaped(bytes([last])) for last in sorted(ends)) + b"]"
        for prefix, ends in sorted(by_prefix.items())
    ]
    return b"(?:" + b"|".join(parts) + b")"


def _escaped(data: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in data)


_SEPARATORS: Final = [*map(ord, _BLANKS + _DASHES + _DOTS + _NO_WIDTH), 0xFF0F, 0xFF08, 0xFF09, 0xFF0B]
DIGIT: Final = _any_of(_DIGITS)
SEPARATOR: Final = _any_of(_SEPARATORS)
TRIGGER: Final = (
    DIGIT
    + rb"|"
    + _any_of([*_LETTERS, 0xFF20])
    + rb"|[0-9)](?: ?"
    + SEPARATOR
    + rb"){1,3} ?[0-9A-Za-z(]|@"
    + SEPARATOR
)
_TRIGGER = Pattern(TRIGGER)
# The beginning of a character that may become one of these.
PART: Final = rb"[\xc2\xd9-\xdf\xe0-\xef\xf0][\x80-\xbf]{0,2}"

Find = Callable[[bytes], Iterable[tuple[int, int, str]]]


def may_fold(data: bytes) -> bool:
    return not data.isascii() and _TRIGGER.find(data, 0, len(data)) is not None


def find_folded(data: bytes, find: Find) -> Iterator[tuple[int, int, str]]:
    """What `find` finds in the lines of `data` that read otherwise than they are written, as spans of `data`."""
    position = 0
    while (met := _TRIGGER.find(data, position, len(data))) is not None:
        start = max(position, data.rfind(b"\n", position, met[0]) + 1)
        position = data.find(b"\n", met[1]) + 1 or len(data)
        yield from _find_in_line(data[start:position], start, find)


def _find_in_line(line: bytes, offset: int, find: Find) -> Iterator[tuple[int, int, str]]:
    text = line.decode("utf-8", "surrogateescape")
    shown = text.translate(_without_width)
    places: list[int] | None = None
    if len(shown) != len(text):
        places = [place for place, character in enumerate(text) if ord(character) not in _without_width]
    folded = shown.translate(_FOLDED).encode("ascii", "replace")
    for first, last, name in find(folded):
        start, end = (first, last) if places is None else (places[first], places[last - 1] + 1)
        yield offset + _byte_length(text[:start]), offset + _byte_length(text[:end]), name


def _byte_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
