"""Rules that say the same but for their conditions, as one: an operation is compared with all of them once.

A bundle is one rule, or several with equal sections whose conditions read the same names. Which of their conditions
may hold is found by what the conditions need (`policy.conditions.needs`); of the others it is known that they are
false. Bundles are what the indexes of rules hold. Called by these and, through `Answers`, by whoever judges.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cached_property
from heapq import merge
from itertools import chain
from typing import Generic, Protocol, TypeVar

from policy.narrowing import FEW, Narrowing, Shown
from policy.rules import Condition

_LIGHT = 256  # conditions that become too much work for facts of less weight are asked, each by itself


class Conditioned(Protocol):
    """A rule, as far as its condition goes. shape: equal for rules that say the same but for `when`."""

    @property
    def order(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> Hashable: ...

    @property
    def condition(self) -> Condition | None: ...


class Read(Protocol):
    """What conditions read of one operation. weight: of the facts at these paths together."""

    @property
    def shown(self) -> Shown: ...

    def weight(self, paths: Iterable[tuple[str, ...]]) -> float: ...

    def is_unknown(self, dimension: Hashable) -> bool: ...


RuleT = TypeVar("RuleT", bound=Conditioned)


class Bundle(Generic[RuleT]):
    """Rules in the document's order. first: stands for all of them, its condition aside."""

    def __init__(self, rules: Sequence[RuleT]) -> None:
        self.rules = rules
        self.first = rules[0]

    @property
    def order(self) -> int:
        return self.first.order

    def not_false(self, answers: Read) -> Sequence[RuleT]:
        """The rules whose conditions are true, or may be, or cannot be worked out; others too."""
        if len(self.rules) <= FEW or not self._can_narrow(answers):
            return self.rules
        found = {rule.order: rule for rule in self._by_need.find(answers.shown)}
        return [found[order] for order in sorted(found)]

    def all_fail(self, answers: Read) -> bool:
        """Do all the conditions fail, because what each of them compares is not known?"""
        return len(self.rules) > FEW and self._whole is not None and answers.is_unknown(self._whole)

    @cached_property
    def _whole(self) -> Hashable | None:
        wholes = {rule.condition.whole for rule in self.rules if rule.condition is not None}
        return wholes.pop() if len(wholes) == 1 else None

    def _can_narrow(self, answers: Read) -> bool:
        """Facts that are too much to look through are an error in each of the conditions."""
        return answers.weight(self._values) <= self._heaviest

    @cached_property
    def _indexed(self) -> Sequence[tuple[Condition, RuleT]]:
        pairs = [(rule.condition, rule) for rule in self.rules if rule.condition is not None]
        return [(condition, rule) for condition, rule in pairs if condition.heaviest >= _LIGHT]

    @cached_property
    def _values(self) -> frozenset[tuple[str, ...]]:
        return frozenset(chain.from_iterable(condition.values for condition, _ in self._indexed))

    @cached_property
    def _heaviest(self) -> int:
        return min((condition.heaviest for condition, _ in self._indexed), default=0)

    @cached_property
    def _by_need(self) -> Narrowing[RuleT]:
        needed = {rule.order: condition.needs for condition, rule in self._indexed}
        return Narrowing((needed.get(rule.order, {}), rule) for rule in self.rules)


def bundled(rules: Iterable[RuleT]) -> tuple[Bundle[RuleT], ...]:
    """`rules`, which are in the document's order, as bundles in the order of their first rules."""
    found: dict[Hashable, list[RuleT]] = {}
    for rule in rules:
        condition = rule.condition
        key = rule.order if condition is None else (rule.shape, tuple(condition.names))
        found.setdefault(key, []).append(rule)
    return tuple(Bundle(tuple(together)) for together in found.values())


def merged(rows: Iterable[Sequence[Bundle[RuleT]]]) -> Iterator[Bundle[RuleT]]:
    """Rows of bundles in order as one, as far as somebody looks; each bundle once."""
    last = -1
    for bundle in merge(*rows, key=lambda bundle: bundle.order):
        if bundle.order != last:
            last = bundle.order
            yield bundle


def in_order(bundles: Iterable[Bundle[RuleT]]) -> tuple[Bundle[RuleT], ...]:
    """Each once, in the order of their first rules."""
    found = {bundle.order: bundle for bundle in bundles}
    return tuple(found[order] for order in sorted(found))
