"""Plain values of bodies, compared with what a rule lists: for certain, and as the most lenient reader would.

Called by `policy.http_rules.bodies`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from policy.http_rules.folding import fold

Scalar = str | int | float | bool | None

_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?", re.ASCII)
# Linear: digits are taken by one part of each only.
_NUMBER = re.compile(
    r"[-+]?(?:0x[0-9a-f]+|0o[0-7]+|0b[01]+|(?:[0-9][0-9_,' ]*(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]{1,4})?)"
)
_SIMPLE_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?")
_EUROPEAN = re.compile(
    r"(?<![0-9])(?:[-+]?[0-9]{1,3}(?:[.' ][0-9]{3}|(?!))++(?:,[0-9]+)?|[-+]?[0-9]++,[0-9]+)"
)
_SEPARATORS = str.maketrans("", "", "_,' ")
_LONGEST_NUMBER = 128
_LARGEST_TEXT = 10**400
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0", ""})
_NULL = frozenset({"", "null", "nil", "none"})


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """From `least` to `most`, either None."""

    least: float | None = None
    most: float | None = None

    def holds(self, number: float) -> bool:
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)

    def may_hold(self, value: Scalar) -> bool:
        if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
            return any(character.isdigit() for character in value)
        return any(self.holds(number) for number in numbers_in(value))


def texts_of(value: Scalar) -> tuple[str, ...]:
    """The texts, folded, that somebody could make of the value."""
    if isinstance(value, str):
        folded = fold(value)
        return (folded, folded.strip())
    if value is None or isinstance(value, bool):
        return ("null" if value is None else str(value).lower(),)
    if isinstance(value, int):
        return (str(value) if abs(value) < _LARGEST_TEXT else "",)
    return (repr(value), f"{value:.0f}" if math.isfinite(value) else "")


def numbers_in(value: Scalar) -> Iterator[float]:
    """Every number that somebody could read in the value: in a text also with words around it, and by any usage of
    separators."""
    if isinstance(value, (bool, int, float)):
        if not (isinstance(value, float) and math.isnan(value)):
            yield value
    elif isinstance(value, str) and value:
        text = fold(value[:_LONGEST_NUMBER]).strip()
        yield from _parsed(text)
        for found in _NUMBER.finditer(text):
            yield from _parsed(found[0].translate(_SEPARATORS))
        for found in _SIMPLE_NUMBER.finditer(text):
            yield from _parsed(found[0])
        for found in _EUROPEAN.finditer(text):
            yield from _parsed(re.sub(r"[.' ]", "", found[0]).replace(",", "."))


def _parsed(text: str) -> Iterator[float]:
    try:
        number = float(text)
    except ValueError:
        if re.match(r"[-+]?0[xob]", text) is None:
            return
        try:
            number = int(text, 0)
        except ValueError:
            return
    if not math.isnan(number):
        yield number


def may_equal(listed: int | float | bool | None, value: Scalar) -> bool:
    """Could somebody take the value for the listed one?"""
    if listed is None:
        return value is None or (isinstance(value, str) and fold(value).strip() in _NULL)
    if isinstance(listed, bool):
        if isinstance(value, str):
            return fold(value).strip() in (_TRUE if listed else _FALSE)
        return value is not None and bool(value) == listed
    return any(number == listed for number in numbers_in(value))


def plain_number(value: object, *, is_form: bool) -> float | None:
    """The number that the value is, for certain."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if is_form and isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value) is not None:
        return float(value)
    return None


def equals(listed: int | float | bool | None, value: object, number: float | None, *, is_form: bool) -> bool:
    """Is the value the listed one, for certain? number: `plain_number` of it."""
    if listed is None:
        return value is None
    if isinstance(listed, bool):
        return value is listed or (is_form and value == str(listed).lower())
    return number is not None and number == listed
