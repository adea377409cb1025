"""What the conditions of rules say of one operation: each worked out once.

What cannot be worked out counts as what refuses more: true in a deny or hold rule, false in an allow rule.

A condition is asked last, of rules that the operation is known to be about. Called by whoever judges, at all doors.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import NamedTuple

from policy.conditions.bundles import Bundle, Conditioned, RuleT
from policy.conditions.given import NotGiven, fact_at, weight_of
from policy.conditions.needs import shown
from policy.decision import Reason
from policy.rules import Condition, ConditionError

_UNKNOWN = object()


class _Part(NamedTuple):
    """Rules that would have covered a part of the operation: those of `rows`, each in the document's order, up to
    `until`, which covers it; all of them for None. is_apart: they may also stand in rows of other parts."""

    rows: tuple[Sequence[Conditioned], ...]
    until: int | None
    is_apart: bool = False

    def lengths(self) -> Iterator[int]:
        for row in self.rows:
            yield len(row) if self.until is None else bisect_left(row, self.until, key=_order)

    def rules(self) -> Iterator[Conditioned]:
        rows = (islice(row, count) for row, count in zip(self.rows, self.lengths(), strict=True))
        return merge(*rows, key=_order)


def _order(rule: Conditioned) -> int:
    return rule.order


def _has(row: Sequence[Conditioned], length: int, order: int) -> bool:
    place = bisect_left(row, order, key=_order)
    return place < length and row[place].order == order


class Answers:
    """The answers about one operation, whose variables are made when a condition is asked for the first time."""

    __slots__ = ("_facts", "_found", "_parts", "_variables", "_work_out")

    def __init__(self, work_out: Callable[[], Mapping[str, object]]) -> None:
        self._work_out = work_out
        self._variables: Mapping[str, object] | None = None
        self._found: dict[int, bool | str] = {}
        self._facts: dict[tuple[str, ...], tuple[object, float]] = {}
        self._parts: list[_Part] = []

    @property
    def variables(self) -> Mapping[str, object]:
        if self._variables is None:
            self._variables = self._work_out()
        return self._variables

    # --- one rule ---

    def touches(self, rule: Conditioned) -> bool:
        """Of a deny or hold rule that the operation touches otherwise: what cannot be worked out counts as true."""
        return rule.condition is None or self._answer(rule.condition) is not False

    def may_cover(self, rule: Conditioned) -> bool:
        """Could it cover, for all that is known so far?"""
        return rule.condition is None or self._answer(rule.condition) is not False

    def doubt(self, rule: Conditioned) -> str:
        """Why the condition of `rule` cannot be worked out, for the end of a reason; "" when it can be."""
        answer = None if rule.condition is None else self._answer(rule.condition)
        if not isinstance(answer, str):
            return ""
        return f" (the rule's condition counts as true here, because it cannot be worked out: {answer})"

    # --- bundles of rules ---

    def touching(self, bundles: Iterable[Bundle[RuleT]]) -> list[RuleT]:
        """Of bundles that the operation touches otherwise: the rules that it touches, in the document's order."""
        found: list[RuleT] = []
        for bundle in bundles:
            if bundle.all_fail(self):
                found.extend(bundle.rules)
            else:
                found.extend(rule for rule in bundle.not_false(self) if self.touches(rule))
        return sorted(found, key=_order)

    def covering(self, bundles: Iterable[Bundle[RuleT]]) -> RuleT | None:
        """Of bundles, in order, that cover a part of the operation otherwise: the first rule whose condition holds."""
        rows: list[Sequence[RuleT]] = []
        best: RuleT | None = None
        for bundle in bundles:
            if best is not None and bundle.order > best.order:
                break
            rows.append(bundle.rules)
            for rule in () if bundle.all_fail(self) else bundle.not_false(self):
                if best is not None and rule.order > best.order:
                    break
                if rule.condition is None or self._answer(rule.condition) is True:
                    best = rule
                    break
        self._parts.append(_Part(tuple(rows), None if best is None else best.order))
        return best

    def covering_of(self, rules: Sequence[RuleT]) -> RuleT | None:
        """The same of rules, one by one."""
        for index, rule in enumerate(rules):
            if rule.condition is None or self._answer(rule.condition) is True:
                self._parts.append(_Part((rules[:index],), None, is_apart=True))
                return rule
        self._parts.append(_Part((rules,), None, is_apart=True))
        return None

    def withheld(self, most: int) -> tuple[list[Reason], int]:
        """A reason for each rule that would have covered something, had its condition held; and how many more than
        `most` there are."""
        named: dict[int, Conditioned] = {}
        for part in self._parts:
            for rule in part.rules():
                if len(named) >= most:
                    break
                named[rule.order] = rule
        return [self._withheld(rule) for rule in named.values()], self._count() - len(named)

    def _withheld(self, rule: Conditioned) -> Reason:
        answer = False if rule.condition is None else self._answer(rule.condition)
        why = "does not hold" if answer is False else f"cannot be worked out: {answer}"
        return Reason(
            rule.name,
            f"rule {rule.name} allows this under a condition, which {why}",
            f"Ask the owners of the policy what rule {rule.name} asks for.",
        )

    def _count(self) -> int:
        """How many different rules `_parts` hold. No rule is in two bundles, but some stand apart besides."""
        rows: dict[int, tuple[Sequence[Conditioned], int]] = {}
        alone: dict[int, Conditioned] = {}
        for part in self._parts:
            for row, length in zip(part.rows, part.lengths(), strict=True):
                if part.is_apart:
                    alone.update((rule.order, rule) for rule in row)
                else:
                    rows[id(row)] = (row, max(length, rows.get(id(row), (row, 0))[1]))
        known = list(rows.values())
        return sum(length for _, length in known) + sum(
            not any(_has(row, length, order) for row, length in known) for order in alone
        )

    # --- what conditions read ---

    def shown(self, dimension: Hashable) -> Collection[Hashable] | None:
        """What the operation shows in a dimension of conditions' needs, see `policy.narrowing`."""
        if not isinstance(dimension, tuple):
            return None
        value, _ = self._fact(dimension[1])
        return None if value is _UNKNOWN else shown(dimension, value)

    def is_unknown(self, dimension: Hashable) -> bool:
        return isinstance(dimension, tuple) and self._fact(dimension[1])[0] is _UNKNOWN

    def weight(self, paths: Iterable[tuple[str, ...]]) -> float:
        return sum(self._fact(path)[1] for path in paths)

    def _fact(self, path: tuple[str, ...]) -> tuple[object, float]:
        """The value that conditions are given, and its weight."""
        known = self._facts.get(path)
        if known is None:
            try:
                value = fact_at(self.variables, path)
                known = (value, weight_of(value)[0])
            except NotGiven:
                known = (_UNKNOWN, 0)
            self._facts[path] = known
        return known

    def _answer(self, condition: Condition) -> bool | str:
        """True, False, or why neither."""
        found = self._found.get(id(condition))
        if found is None:
            try:
                found = condition.holds(self.variables)
            except ConditionError as error:
                found = str(error) or "it is not known why"
            self._found[id(condition)] = found
        return found
