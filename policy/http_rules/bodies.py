"""What a rule says of the values in a body that has been read: `body: {"$.amount": {max: 100}}`.

Covering (allow) counts what is certain: the path leads somewhere as it is written, and every value that anybody could
take for it is of the right kind and listed. Touching (deny, hold) counts what may be meant: names without regard to
case (`Amount`), an array or an object where a plain value is expected and what is in it, numbers written as text.

A form is an object of lists of texts here; its texts count as numbers where they are written as plain numbers.
Called by `policy.http_rules.rule`. No recursion: depth is no attack.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy.facts import BodyState, HttpFacts
from policy.http_rules.fields import Presence
from policy.http_rules.folding import TextPattern, fold
from policy.json_paths import JsonPath

Scalar = str | int | float | bool | None

SEEN = frozenset({BodyState.JSON, BodyState.FORM, BodyState.NONE})
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?", re.ASCII)
_LEADING_NUMBER = re.compile(r"[-+]?(?:[0-9][0-9_,' ]*)?(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,4})?")
_HEXADECIMAL = re.compile(r"([-+]?)0[xX]([0-9a-fA-F]{1,64})")
_LONGEST_NUMBER = 512
MAX_FORM_DEPTH = 32
MAX_STEPS = 100_000
_STEP = object()
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0", ""})
_FORM_NAME = re.compile(r"[\[\].]+")


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """From `least` to `most`, either None."""

    least: float | None = None
    most: float | None = None

    def holds(self, number: float) -> bool:
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)

    def may_hold(self, value: Scalar) -> bool:
        return any(self.holds(number) for number in _numbers_in(value))


@dataclass(frozen=True, slots=True, eq=False)
class BodyCondition:
    """One path and what is said of it: that it is there or not, `bounds`, or one of `texts` and `values`.

    values: numbers, booleans and null, which are no text.
    """

    path: JsonPath
    presence: Presence | None = None
    bounds: Bounds | None = None
    texts: tuple[TextPattern, ...] = ()
    values: tuple[int | float | bool | None, ...] = ()

    def touches(self, body: Body) -> bool:
        if self.presence is Presence.ABSENT:
            return all(value is None for value in body.certain(self.path))
        found = body.possible(self.path)
        if self.presence is Presence.PRESENT:
            return bool(found)
        return any(self._may_be(value) for value in body.scalars(self.path))

    def covers(self, body: Body) -> bool:
        possible = body.possible(self.path)
        if self.presence is Presence.ABSENT:
            return not possible
        if not body.certain(self.path):
            return False
        if self.presence is Presence.PRESENT:
            return True
        if not body.is_form:
            return all(self._is(value, is_form=False) for value in possible)
        return all(self._is(value, is_form=True) for value in body.scalars(self.path))

    def _may_be(self, value: Scalar) -> bool:
        if self.bounds is not None:
            return self.bounds.may_hold(value)
        if any(pattern.touches(text) for text in _texts_of(value) for pattern in self.texts):
            return True
        return any(_may_equal(listed, value) for listed in self.values)

    def _is(self, value: object, *, is_form: bool) -> bool:
        if isinstance(value, str) and any(pattern.covers(value) for pattern in self.texts):
            return True
        number = _plain_number(value, is_form=is_form)
        if self.bounds is not None:
            return number is not None and self.bounds.holds(number)
        return any(_equals(listed, value, number, is_form=is_form) for listed in self.values)


class TooMuch(Exception):
    """A body with more values than are looked at: nobody's request may hold up everybody else's."""


class Body:
    """A body that has been read, with the ways to look into it. What was found is kept for the next rule that asks.

    Everything raises TooMuch once MAX_STEPS values have been looked at.
    """

    __slots__ = ("_found", "_readings", "_steps_left", "is_form")

    def __init__(self, facts: HttpFacts) -> None:
        self.is_form = facts.body_state is BodyState.FORM
        self._readings: Sequence[object] = ()
        self._steps_left = MAX_STEPS
        self._found: dict[tuple[JsonPath, bool], list[object]] = {}
        if self.is_form:
            self._readings = (facts.body, _nested(facts.body))
        elif facts.body_state is BodyState.JSON:
            self._readings = (facts.body,)

    @property
    def is_exhausted(self) -> bool:
        return self._steps_left < 0

    def certain(self, path: JsonPath) -> list[object]:
        """The values that the path leads to, as it is written."""
        return self._values(path, self._readings[:1], is_exact=True)

    def possible(self, path: JsonPath) -> list[object]:
        """The values that some target could take for these."""
        return self._values(path, self._readings, is_exact=False)

    def _values(self, path: JsonPath, readings: Sequence[object], *, is_exact: bool) -> list[object]:
        key = (path, is_exact)
        if key not in self._found:
            walk = _Walk(path, is_exact=is_exact)
            self._found[key] = [
                value for reading in readings for value in self._counted(walk.through(reading))
            ]
        return self._found[key]

    def scalars(self, path: JsonPath) -> Iterator[Scalar]:
        """The plain values among the possible ones, and below them."""
        for value in self._counted(_scalars(self.possible(path))):
            if value is None or isinstance(value, (str, int, float)):
                yield value

    def _counted(self, values: Iterator[object]) -> Iterator[object]:
        for value in values:
            self._steps_left -= 1
            if self._steps_left < 0:
                raise TooMuch
            if value is not _STEP:
                yield value


class _Walk:
    """Follows one path through documents, exactly as it is written or as the most lenient reader would."""

    __slots__ = ("_is_exact", "_names", "_segments")

    def __init__(self, path: JsonPath, *, is_exact: bool) -> None:
        self._segments = path.segments
        self._is_exact = is_exact
        self._names = [
            name if name is None or is_exact else fold(name)
            for name in (segment.name for segment in path.segments)
        ]

    def through(self, document: object) -> Iterator[object]:
        """The values that it leads to, and _STEP for every other value that was looked at."""
        end = len(self._segments)
        seen: set[tuple[int, int]] = set()
        waiting: list[tuple[object, int]] = [(document, 0)]
        while waiting:
            node, taken = waiting.pop()
            is_container = isinstance(node, (dict, list))
            if is_container:
                if (id(node), taken) in seen:
                    continue
                seen.add((id(node), taken))
            if taken == end:
                yield node
            elif isinstance(node, dict):
                yield from self._into_object(node, taken, waiting)
            elif isinstance(node, list):
                yield from self._into_array(node, taken, waiting)

    def _into_object(
        self, node: Mapping[str, object], taken: int, waiting: list[tuple[object, int]]
    ) -> Iterator[object]:
        segment, name = self._segments[taken], self._names[taken]
        is_last = taken == len(self._segments) - 1
        for key, value in node.items():
            yield _STEP
            is_inner = isinstance(value, (dict, list))
            if (is_last or is_inner) and (
                segment.is_any or (name is not None and (key if self._is_exact else fold(key)) == name)
            ):
                waiting.append((value, taken + 1))
            if segment.is_deep and is_inner:
                waiting.append((value, taken))
        if segment.index is not None and not segment.is_deep and not self._is_exact:
            waiting.append((node, taken + 1))  # one thing where a list of one is expected

    def _into_array(
        self, node: Sequence[object], taken: int, waiting: list[tuple[object, int]]
    ) -> Iterator[object]:
        segment = self._segments[taken]
        is_last = taken == len(self._segments) - 1
        is_lenient = segment.name is not None and not self._is_exact  # a list where one thing is expected
        for index, value in enumerate(node):
            yield _STEP
            is_inner = isinstance(value, (dict, list))
            if (is_last or is_inner) and (segment.is_any or segment.index == index):
                waiting.append((value, taken + 1))
            if is_inner and (segment.is_deep or is_lenient):
                waiting.append((value, taken))


def _scalars(found: Sequence[object]) -> Iterator[object]:
    """The plain values in `found` and below."""
    waiting = list(found)
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield _STEP
            waiting.extend(node.values())
        elif isinstance(node, list):
            yield _STEP
            waiting.extend(node)
        else:
            yield node


def _nested(form: Any) -> dict[str, Any]:
    """The form as frameworks read names like `order[amount]` and `order.amount`: as objects in each other.

    What is both a text and an object becomes a list of the two.
    """
    tree: dict[str, Any] = {}
    for name, texts in form.items() if isinstance(form, Mapping) else ():
        node = tree
        *above, last = [part for part in _FORM_NAME.split(name) if part][:MAX_FORM_DEPTH] or [name]
        for part in above:
            below = node.setdefault(part, [{}])
            if not isinstance(below[0], dict):
                below.insert(0, {})
            node = below[0]
        node.setdefault(last, []).extend(texts)
    return tree


# --- comparing ----------------------------------------------------------------------------------------------


def _texts_of(value: Scalar) -> tuple[str, ...]:
    if isinstance(value, str):
        return (fold(value), fold(value).strip())
    if value is None or isinstance(value, bool):
        return ("null" if value is None else str(value).lower(),)
    if isinstance(value, int):
        return (str(value) if abs(value) < 10**400 else "",)
    return (repr(value), f"{value:.0f}" if math.isfinite(value) else "")


def _numbers_in(value: Scalar) -> Iterator[float]:
    """Every number that somebody could read in the value."""
    if isinstance(value, (bool, int, float)):
        if not (isinstance(value, float) and math.isnan(value)):
            yield value
    elif isinstance(value, str) and value:
        text = fold(value[:_LONGEST_NUMBER]).strip()
        hexadecimal = _HEXADECIMAL.match(text)
        if hexadecimal is not None:
            yield float(int(hexadecimal[2], 16)) * (-1 if hexadecimal[1] == "-" else 1)
        leading = _LEADING_NUMBER.match(text)
        yield from _parsed(text)
        if leading is not None and leading[0]:
            yield from _parsed(re.sub(r"[_,' ]", "", leading[0]))


def _parsed(text: str) -> Iterator[float]:
    try:
        number = float(text)
    except ValueError:
        return
    if not math.isnan(number):
        yield number


def _may_equal(listed: int | float | bool | None, value: Scalar) -> bool:
    if listed is None:
        return value is None or (
            isinstance(value, str) and fold(value).strip() in ("", "null", "nil", "none")
        )
    if isinstance(listed, bool):
        words = _TRUE if listed else _FALSE
        if isinstance(value, str):
            return fold(value).strip() in words
        return value is not None and bool(value) == listed
    return any(number == listed for number in _numbers_in(value))


def _plain_number(value: object, *, is_form: bool) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if is_form and isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value) is not None:
        return float(value)
    return None


def _equals(listed: int | float | bool | None, value: object, number: float | None, *, is_form: bool) -> bool:
    if listed is None:
        return value is None
    if isinstance(listed, bool):
        return value is listed or (is_form and value == str(listed).lower())
    return number is not None and number == listed
