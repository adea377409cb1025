"""Rules for one set of roles at one target, found by a request's method, host and path, and remembered by them.

Finds candidates by the fixed segments of their paths and asks each of them; the answers are those of the rules. What
was found for a method, host and path is remembered, because clients ask for the same again and again; so are whole
decisions where these three decide. Built once (`policy.view`), asked by `policy.http.evaluate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from policy.decision import Decision, Effect
from policy.facts import HttpFacts
from policy.http_rules.fields import HostPattern, normal_host, without_port
from policy.http_rules.paths import PathReadings
from policy.http_rules.rule import HttpRule
from policy.http_rules.tree import TemplateTree

MAX_REMEMBERED = 4096
LONGEST_REMEMBERED = 1024

Key = tuple[tuple[str, ...], str, str, tuple[str, ...]]


@dataclass(slots=True, eq=False)
class Found:
    """The rules whose method, host and path mean a request, in the document's order.

    allows, held: those that cover these three; `held` are hold rules. is_all_head: nothing else of the request counts,
    unless it upgrades or calls a model; `decision` is what was decided then.
    """

    denies: tuple[HttpRule, ...]
    holds: tuple[HttpRule, ...]
    held: tuple[HttpRule, ...]
    allows: tuple[HttpRule, ...]
    is_all_head: bool
    decision: Decision | None = None


class HttpRules:
    """The rules, by effect, and what was found in them."""

    def __init__(self, rules: Iterable[HttpRule]) -> None:
        self.rules = tuple(rules)
        self._denies = _Touching(rule for rule in self.rules if rule.effect is Effect.DENY)
        self._holds = _Touching(rule for rule in self.rules if rule.effect is Effect.HOLD)
        self._held = _Covering(rule for rule in self.rules if rule.effect is Effect.HOLD)
        self._allows = _Covering(rule for rule in self.rules if rule.effect is Effect.ALLOW)
        self._remembered: dict[Key, Found] = {}

    def find(self, facts: HttpFacts, methods: tuple[str, ...]) -> Found:
        """The rules about a request that means these methods."""
        key = (methods, facts.host, facts.path, facts.other_paths)
        known = self._remembered.get(key)
        if known is not None:
            return known
        found = self._find(methods, facts)
        if sum(map(len, (facts.path, *facts.other_paths, *methods))) <= LONGEST_REMEMBERED:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = found
        return found

    def _find(self, methods: Sequence[str], facts: HttpFacts) -> Found:
        host = normal_host(facts.host)
        path = PathReadings((facts.path, *facts.other_paths))
        denies = self._denies.find(methods, host, path)
        holds = self._holds.find(methods, host, path)
        held = self._held.find(methods, host, path)
        allows = self._allows.find(methods, host, path)
        decisive = (*denies, *holds, *held, *allows[:1])
        return Found(denies, holds, held, allows, all(rule.is_all_head for rule in decisive))


class _Touching:
    def __init__(self, rules: Iterable[HttpRule]) -> None:
        self._all = tuple(rules)
        self._tree = TemplateTree(
            ((host, *parts), rule)
            for rule in self._all
            for host in _hosts(rule.hosts)
            for parts in ([()] if rule.paths is None else [pattern.fixed_folded for pattern in rule.paths])
        )

    def find(self, methods: Sequence[str], host: str, path: PathReadings) -> tuple[HttpRule, ...]:
        if not self._all:
            return ()
        near = _near(self._tree, self._all, host, path.folded)
        return _in_order(rule for rule in near if rule.touches_head(methods, host, path))


class _Covering:
    def __init__(self, rules: Iterable[HttpRule]) -> None:
        self._all = tuple(rules)
        self._tree = TemplateTree(
            ((host, *parts), rule)
            for rule in self._all
            for host in _hosts(rule.hosts)
            for parts in ([()] if rule.paths is None else [pattern.fixed for pattern in rule.paths])
        )

    def find(self, methods: Sequence[str], host: str, path: PathReadings) -> tuple[HttpRule, ...]:
        first = (
            None if path.exact is None else path.exact[:1]
        )  # a rule that covers all readings covers this one
        near = _near(self._tree, self._all, host, first)
        return _in_order(rule for rule in near if rule.covers_head(methods, host, path))


def _hosts(patterns: Sequence[HostPattern] | None) -> Sequence[str | None]:
    return (None,) if patterns is None else [pattern.literal for pattern in patterns]


def _near(
    tree: TemplateTree[HttpRule],
    every: Sequence[HttpRule],
    host: str,
    readings: Sequence[Sequence[str]] | None,
) -> Iterator[HttpRule]:
    if readings is None:
        return iter(every)
    name = without_port(host)
    return chain.from_iterable(tree.along((name, *parts)) for parts in readings)


def _in_order(rules: Iterable[HttpRule]) -> tuple[HttpRule, ...]:
    found = {rule.order: rule for rule in rules}
    return tuple(found[order] for order in sorted(found))
