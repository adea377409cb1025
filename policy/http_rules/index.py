"""Rules for one set of roles at one target, found by what a request shows, and remembered by its head.

Which rules a method, host and path mean is remembered, because clients ask for the same again and again; so are whole
decisions where these three decide. Where a head means many rules, as those of one path that differ in what they say of
its query, they are found anew for each request by all that it shows. Finds candidates and asks each of them for the
head; the answers are those of the rules. Built once (`policy.view`), asked by `policy.http.evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from policy.conditions.bundles import Bundle, bundled, in_order
from policy.decision import Decision, Effect
from policy.facts import HttpFacts
from policy.http_rules.fields import normal_host
from policy.http_rules.needs import BODY, BODY_NAMES, MODEL, PROMPT, TOOL, to_cover, to_touch
from policy.http_rules.paths import PathReadings
from policy.http_rules.rule import Asked, HttpRule
from policy.http_rules.shown import Head, Shown, ShownToCover, ShownToTouch
from policy.llm.content import Content
from policy.llm.prompts import PromptSet
from policy.narrowing import Narrowing, Needs

MAX_REMEMBERED = 4096
LONGEST_REMEMBERED = 1024
WIDE = 16  # rules that one head may mean before they are found by more than the head

Key = tuple[tuple[str, ...], str, str, tuple[str, ...]]
Rules = tuple[Bundle[HttpRule], ...]

_BODILY = frozenset({BODY, BODY_NAMES, MODEL, TOOL, PROMPT})


@dataclass(slots=True, eq=False)
class Found:
    """The rules whose method, host and path mean a request, in the document's order.

    allows, held: those that cover these three; `held` are hold rules. is_all_head: nothing else of the request counts,
    unless it upgrades or calls a model; `decision` is what was decided then. is_wide: there are too many to be looked
    at one by one, and none stands here; see `HttpRules.about`.
    """

    head: Head
    denies: Rules = ()
    holds: Rules = ()
    held: Rules = ()
    allows: Rules = ()
    is_all_head: bool = False
    is_wide: bool = False
    decision: Decision | None = None


class HttpRules:
    """The rules, by effect, and what was found in them."""

    def __init__(self, rules: Iterable[HttpRule]) -> None:
        self.rules = tuple(rules)
        by_effect = {
            effect: bundled(rule for rule in self.rules if rule.effect is effect) for effect in Effect
        }
        self._denies = _Touching(by_effect[Effect.DENY])
        self._holds = _Touching(by_effect[Effect.HOLD])
        self._held = _Covering(by_effect[Effect.HOLD])
        self._allows = _Covering(by_effect[Effect.ALLOW])
        self._remembered: dict[Key, Found] = {}

    def prepare(self) -> None:
        """Makes what is otherwise made when it is first needed."""
        for side in (self._denies, self._holds, self._held, self._allows):
            side.prepare()

    def find(self, facts: HttpFacts, methods: tuple[str, ...]) -> Found:
        """The rules about a request that means these methods."""
        key = (methods, facts.host, facts.path, facts.other_paths)
        known = self._remembered.get(key)
        if known is not None:
            return known
        path = PathReadings((facts.path, *facts.other_paths))
        found = self._find(Head(methods, normal_host(facts.host), path))
        if sum(map(len, (facts.path, *facts.other_paths, *methods))) <= LONGEST_REMEMBERED:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = found
        return found

    def _find(self, head: Head) -> Found:
        denies, holds = self._denies.by_head(head), self._holds.by_head(head)
        held, allows = self._held.by_head(head), self._allows.by_head(head)
        if denies is None or holds is None or held is None or allows is None:
            return Found(head, is_wide=True)
        decisive = (*denies, *holds, *held, *allows[:1])
        is_all_head = all(bundle.first.is_all_head for bundle in decisive)
        return Found(head, denies, holds, held, allows, is_all_head)

    def about(self, found: Found, asked: Asked) -> Found:
        """Of what was found by the head, what may be about this request."""
        if not found.is_wide:
            return found
        head = found.head
        return Found(
            head,
            self._denies.by_all(head, asked),
            self._holds.by_all(head, asked),
            self._held.by_all(head, asked),
            self._allows.by_all(head, asked),
        )

    def before_body(self, found: Found, asked: Asked) -> Found:
        """The same while the body has not been read: of those that need it and say the same but for it, the first."""
        if not found.is_wide:
            return found
        head = found.head
        return Found(
            head,
            self._denies.before_body(head, asked),
            self._holds.before_body(head, asked),
            self._held.before_body(head, asked),
            self._allows.before_body(head, asked),
        )


class _Side:
    """Rules of one effect, for one of the two questions."""

    def __init__(self, bundles: Rules) -> None:
        self._bundles = bundles

    def _needs(self, rule: HttpRule) -> Iterator[Needs]:
        raise NotImplementedError

    def _shown(self, head: Head, asked: Asked | None) -> Iterator[Shown]:
        """For each reading of the path."""
        raise NotImplementedError

    def _means(self, rule: HttpRule, head: Head) -> bool:
        raise NotImplementedError

    def prepare(self) -> None:
        _ = (self._plain, self._bodily, self._outlines, self.prompts)

    def by_head(self, head: Head) -> Rules | None:
        """None for too many."""
        if len(self._bundles) <= WIDE:
            return tuple(bundle for bundle in self._bundles if self._means(bundle.first, head))
        near: dict[int, Bundle[HttpRule]] = {}
        for shown in self._shown(head, None):
            for tree in (self._plain, self._bodily):
                for bundle in tree.find(shown):
                    near[bundle.order] = bundle
                    if len(near) > WIDE:
                        return None
        return self._meaning(near.values(), head)

    def by_all(self, head: Head, asked: Asked) -> Rules:
        trees = (self._plain, self._bodily)
        shown = list(self._shown(head, asked))
        return self._meaning((bundle for tree in trees for each in shown for bundle in tree.find(each)), head)

    def before_body(self, head: Head, asked: Asked) -> Rules:
        shown = list(self._shown(head, asked))
        found = [bundle for each in shown for bundle in self._plain.find(each)]
        sketched = self._meaning((bundle for each in shown for bundle in self._outlines.find(each)), head)
        needing = [bundle for bundle in sketched if bundle.first.needs_body(asked.facts)]
        if len(needing) < len(sketched):  # some kinds of rules do not need this body, and all of these count
            others = (bundle for each in shown for bundle in self._bodily.find(each))
            found.extend(bundle for bundle in others if not bundle.first.needs_body(asked.facts))
        return self._meaning((*found, *needing), head)

    def _meaning(self, near: Iterable[Bundle[HttpRule]], head: Head) -> Rules:
        return tuple(bundle for bundle in in_order(near) if self._means(bundle.first, head))

    @cached_property
    def _plain(self) -> Narrowing[Bundle[HttpRule]]:
        """Rules that never need a body."""
        return self._tree(bundle for bundle in self._bundles if not bundle.first.may_need_body)

    @cached_property
    def _bodily(self) -> Narrowing[Bundle[HttpRule]]:
        return self._tree(bundle for bundle in self._bundles if bundle.first.may_need_body)

    @cached_property
    def _outlines(self) -> Narrowing[Bundle[HttpRule]]:
        """Of rules that may need a body, the first of each outline."""
        firsts: dict[Hashable, Bundle[HttpRule]] = {}
        for bundle in self._bundles:
            if bundle.first.may_need_body:
                firsts.setdefault(bundle.first.outline, bundle)
        return self._tree(firsts.values(), without=_BODILY)

    def _tree(
        self, bundles: Iterable[Bundle[HttpRule]], without: Collection[str] = ()
    ) -> Narrowing[Bundle[HttpRule]]:
        return Narrowing(
            (
                {dimension: need for dimension, need in needs.items() if _kind(dimension) not in without},
                bundle,
            )
            for bundle in bundles
            for needs in self._needs(bundle.first)
        )

    @cached_property
    def prompts(self) -> Callable[[Content], Collection[str]]:
        """Which of the patterns over prompts are found in what a model reads."""
        rules = [bundle.first.llm for bundle in self._bundles]
        patterns = [pattern for llm in rules if llm is not None for pattern in llm.prompts or ()]
        return PromptSet(patterns).found_in


def _kind(dimension: Hashable) -> Hashable:
    return dimension[0] if isinstance(dimension, tuple) else dimension


class _Touching(_Side):
    def _needs(self, rule: HttpRule) -> Iterator[Needs]:
        return to_touch(rule)

    def _shown(self, head: Head, asked: Asked | None) -> Iterator[Shown]:
        readings: Sequence[Sequence[str] | None] = (None,) if head.path.folded is None else head.path.folded
        return (ShownToTouch(head, reading, asked, self._prompts_in) for reading in readings)

    def _prompts_in(self, content: Content) -> Collection[str]:
        return self.prompts(content)

    def _means(self, rule: HttpRule, head: Head) -> bool:
        return rule.touches_head(head.methods, head.host, head.path)


class _Covering(_Side):
    def _needs(self, rule: HttpRule) -> Iterator[Needs]:
        return to_cover(rule)

    def _shown(self, head: Head, asked: Asked | None) -> Iterator[Shown]:
        exact = head.path.exact  # a rule that covers all readings covers the first
        yield ShownToCover(head, None if exact is None else exact[0], asked, self._prompts_in)

    def _prompts_in(self, content: Content) -> Collection[str]:
        return self.prompts(content)

    def _means(self, rule: HttpRule, head: Head) -> bool:
        return rule.covers_head(head.methods, head.host, head.path)
