"""Which deny rules about HTTP touch everything that an allow rule covers. Says so only where that is certain.

Called by `policy.shadowing`, for every allow rule; an index finds the deny rules that come into question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from policy.http_rules.fields import HostPattern
from policy.http_rules.folding import TextPattern, fold
from policy.http_rules.paths import UrlPattern
from policy.http_rules.section import HttpMatcher
from policy.http_rules.tree import TemplateTree
from policy.sections import Rule

PatternT = TypeVar("PatternT")

_EVERYTHING = HttpMatcher(methods=("*",))
_UNFIXED = "\0"


class HttpDenies:
    """Deny rules by the hosts and paths that they list."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        denies = [rule for rule in rules if rule.effect == "deny" and rule.is_about_http]
        self._tree = TemplateTree(
            ((host, *parts), rule)
            for rule in denies
            for matcher in (rule.http or _EVERYTHING,)
            for host in _hosts(matcher)
            for parts in (
                [()] if matcher.paths is None else [UrlPattern(path).fixed_folded for path in matcher.paths]
            )
        )

    def near(self, rule: Rule) -> Iterable[Rule]:
        """Those that could touch all that `rule` covers; others too."""
        matcher = rule.http or _EVERYTHING
        first = () if matcher.paths is None else UrlPattern(matcher.paths[0]).fixed
        # What is wider than a glob or a template has none of its variables as a fixed part.
        return self._tree.along(
            [_UNFIXED if part is None else fold(part) for part in (_hosts(matcher)[0], *first)]
        )


def _hosts(matcher: HttpMatcher) -> Sequence[str | None]:
    return (None,) if matcher.hosts is None else [HostPattern(host).literal for host in matcher.hosts]


def is_wider_http(deny: Rule, allow: Rule) -> bool:
    """Does every request that `allow` covers touch the deny rule?"""
    mine, its = deny.http or _EVERYTHING, allow.http or _EVERYTHING
    is_some = mine.methods is not None and "*" not in mine.methods
    if is_some and not set(its.methods or ("*",)) <= set(mine.methods or ()):
        return False
    if deny.llm not in (None, allow.llm) or deny.when not in (None, allow.when):
        return False
    return (
        mine.upgrade in (None, its.upgrade)
        and mine.body_bytes is None
        and (mine.query is None or mine.query == its.query)
        and (mine.headers is None or mine.headers == its.headers)
        and (mine.body is None or mine.body == its.body)
        and _all_within(mine.hosts, its.hosts, HostPattern, HostPattern.is_wider)
        and _all_within(mine.paths, its.paths, UrlPattern, UrlPattern.is_wider)
        and _all_within(mine.content_types, its.content_types, TextPattern, TextPattern.is_wider)
    )


def _all_within(
    outer: Sequence[str] | None,
    inner: Sequence[str] | None,
    parse: Callable[[str], PatternT],
    is_wider: Callable[[PatternT, PatternT], bool],
) -> bool:
    """Is each of `inner` within one of `outer`? None is everything."""
    if outer is None:
        return True
    wide = [parse(text) for text in outer]
    if inner is None:
        return "/**" in outer or "*" in outer
    return all(any(is_wider(pattern, parse(text)) for pattern in wide) for text in inner)
