"""What a rule says of the values in a body that has been read: `body: {"$.amount": {max: 100}}`.

Covering (allow) counts what is certain: the path leads somewhere as it is written, and every value that anybody could
take for it is of the right kind and listed. Touching (deny, hold) counts what may be meant: names without regard to
case (`Amount`), an array or an object where a plain value is expected and what is in it, numbers written as text.

A form is an object of lists of texts here; its texts count as numbers where they are written as plain numbers.
Called by `policy.http_rules.rule`. No recursion: depth is no attack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy.facts import BodyState, HttpFacts
from policy.http_rules.fields import Presence, folded_parameter
from policy.http_rules.folding import TextPattern, fold
from policy.http_rules.values import Bounds, Scalar, equals, may_equal, plain_number, texts_of
from policy.json_paths import JsonPath

SEEN = frozenset({BodyState.JSON, BodyState.FORM, BodyState.NONE})
MAX_STEPS = 100_000
MAX_FORM_DEPTH = 32
_STEP = object()  # stands for a value that was looked at and led nowhere
_FORM_NAME = re.compile(r"[\[\].]+")


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
        return any(
            self._may_be(value) for value in body.scalars(self.path, of_numbers=self._is_about_numbers)
        )

    @property
    def _is_about_numbers(self) -> bool:
        return self.bounds is not None or bool(self.values)

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
        if any(pattern.touches(text) for text in texts_of(value) for pattern in self.texts):
            return True
        return any(may_equal(listed, value) for listed in self.values)

    def _is(self, value: object, *, is_form: bool) -> bool:
        if isinstance(value, str) and any(pattern.covers(value) for pattern in self.texts):
            return True
        number = plain_number(value, is_form=is_form)
        if self.bounds is not None:
            return number is not None and self.bounds.holds(number)
        return any(equals(listed, value, number, is_form=is_form) for listed in self.values)


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
            self._readings = (facts.body, _nested(facts.body), _renamed(facts.body))
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

    def names(self) -> frozenset[str]:
        """The names of all that is in an object, in every reading."""
        found: set[str] = set()
        waiting = list(self._readings)
        while waiting:
            node = waiting.pop()
            if isinstance(node, Mapping):
                self._take(1 + len(node))
                found.update(node)
                waiting.extend(node.values())
            elif isinstance(node, list):
                self._take(1 + len(node))
                waiting.extend(node)
        return frozenset(found)

    def scalars(self, path: JsonPath, *, of_numbers: bool = False) -> Iterator[Scalar]:
        """The plain values among the possible ones, and below them. of_numbers: texts are searched for numbers, which
        takes its time."""
        for value in self._counted(_scalars(self.possible(path))):
            if of_numbers and isinstance(value, str):
                self._take(len(value) // 2)
            if value is None or isinstance(value, (str, int, float)):
                yield value

    def _counted(self, values: Iterator[object]) -> Iterator[object]:
        for value in values:
            self._take(1)
            if value is not _STEP:
                yield value

    def _take(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise TooMuch


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


def _renamed(form: Any) -> dict[str, Any]:
    """The form with each name as the one that it could be taken for (`a.b` as `a_b`)."""
    renamed: dict[str, Any] = {}
    for name, texts in form.items() if isinstance(form, Mapping) else ():
        renamed.setdefault(folded_parameter(name), []).extend(texts)
    return renamed
