"""Which rules touch a request, and which one covers it: bundles of rules compared with it, their conditions asked last.

Called by `policy.http.evaluate`, with what `policy.http_rules.index` has found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from policy.conditions.bundles import Bundle
from policy.http_rules.rule import Asked, HttpRule, Touch

Touched = tuple[HttpRule, Touch]


def touched(bundles: Iterable[Bundle[HttpRule]], asked: Asked) -> list[Touched]:
    """The deny or hold rules that are about the request, in the document's order, each with how."""
    found = [pair for bundle in bundles for pair in _touched(bundle, asked)]
    return sorted(found, key=_order)


def _touched(bundle: Bundle[HttpRule], asked: Asked) -> Iterator[Touched]:
    first = bundle.first
    how = first.touches_apart(asked)
    if how is Touch.NO:
        return
    if how is Touch.UNSEEN:
        yield from ((rule, how) for rule in bundle.rules)
        return
    how = Touch.YES if first.llm is None or asked.is_seen else Touch.UNSEEN
    yield from ((rule, how) for rule in asked.answers.touching((bundle,)))


def _order(pair: Touched) -> int:
    return pair[0].order


def covering(bundles: Iterable[Bundle[HttpRule]], asked: Asked) -> HttpRule | None:
    """The first rule that covers the request. `bundles` in the document's order."""
    return asked.answers.covering(bundle for bundle in bundles if bundle.first.covers_apart(asked))


def covering_of(
    rules: Sequence[HttpRule], bundles: Iterable[Bundle[HttpRule]], asked: Asked
) -> HttpRule | None:
    """The first of `rules` that covers the request and is one of `bundles`."""
    if not rules:
        return None
    apart = (bundle for bundle in bundles if bundle.first.covers_apart(asked))
    meant = {rule.order for bundle in apart for rule in bundle.not_false(asked.answers)}
    return asked.answers.covering_of([rule for rule in rules if rule.order in meant])


def may_cover(bundles: Iterable[Bundle[HttpRule]], asked: Asked) -> list[Bundle[HttpRule]]:
    """Those in which a rule could cover the request, once its body has been read."""
    return [bundle for bundle in bundles if _may_cover(bundle, asked)]


def _may_cover(bundle: Bundle[HttpRule], asked: Asked) -> bool:
    if bundle.first.needs_body(asked.facts):
        return bundle.first.may_cover(asked)
    return bundle.first.covers_apart(asked) and asked.answers.covering((bundle,)) is not None
