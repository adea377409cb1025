"""Which deny rules about HTTP touch everything that an allow rule covers. Says so only where that is certain.

Called by `policy.shadowing`, for every allow rule and the deny rules that come into question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from policy.http_rules.fields import HostPattern
from policy.http_rules.folding import TextPattern
from policy.http_rules.paths import UrlPattern
from policy.http_rules.section import HttpMatcher
from policy.sections import Rule

PatternT = TypeVar("PatternT")

_EVERYTHING = HttpMatcher(methods=("*",))


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
