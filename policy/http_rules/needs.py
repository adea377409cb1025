"""What a rule about HTTP needs of a request, key by key, for an index to find it by (`policy.narrowing`).

A need is never narrower than what the rule means; `policy.http_rules.shown` tells what a request shows in the same
dimensions. Conditions are not looked at here (`policy.conditions.bundles`), nor what is told by size, and nothing that
a rule says in a list longer than `MAX_KEYS`. Called by `policy.http_rules.index`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from policy.http_rules.bodies import BodyCondition
from policy.http_rules.fields import NamedValues, Presence
from policy.http_rules.folding import fold
from policy.http_rules.rule import HttpRule
from policy.llm.rule import model_globs
from policy.narrowing import Every, Need, Needs
from policy.patterns import Glob

METHOD, HOST, SEGMENT, END = "method", "host", "segment", "end"
QUERY, QUERY_NAMES, HEADER, HEADER_NAMES = "query", "query names", "header", "header names"
TYPE, UPGRADE, BODY, BODY_NAMES = "type", "upgrade", "body", "names in the body"
LLM, OPERATION, MODEL, TOOL, PROMPT = "llm", "operation", "model", "tool", "prompt"

Made = dict[Hashable, Need]


def to_touch(rule: HttpRule) -> Iterator[Needs]:
    """What must be met for the rule to touch a request: one of these altogether."""
    rest: Made = {}
    _add_named(rest, rule.query, (QUERY, QUERY_NAMES), is_folded=True)
    _add_named(rest, rule.headers, (HEADER, HEADER_NAMES), is_folded=True)
    if rule.content_types is not None:
        rest[(TYPE,)] = tuple(pattern.folded for pattern in rule.content_types)
    if rule.upgrade:
        rest[(UPGRADE,)] = (rule.upgrade,)
    if rule.llm is not None:
        rest[(LLM,)] = (True,)
        _add_call(rest, rule)
    _add_body(rest, rule.body, is_folded=True)
    yield from _with_heads(rule, rest, is_folded=True)


def to_cover(rule: HttpRule) -> Iterator[Needs]:
    """The same for the rule to cover a request."""
    rest: Made = {}
    _add_named(rest, rule.query, (QUERY, QUERY_NAMES), is_folded=False)
    _add_named(rest, rule.headers, (HEADER, HEADER_NAMES), is_folded=False)
    if rule.content_types is not None:
        rest[(TYPE,)] = tuple(pattern.exact for pattern in rule.content_types)
    rest[(UPGRADE,)] = (rule.upgrade,)
    rest[(LLM,)] = (rule.llm is not None,)
    _add_call(rest, rule)
    _add_body(rest, rule.body, is_folded=False)
    yield from _with_heads(rule, rest, is_folded=False)


def _with_heads(rule: HttpRule, rest: Made, *, is_folded: bool) -> Iterator[Needs]:
    """One for each path: the segments of two say nothing together."""
    around: Made = {}
    hosts = None if rule.hosts is None else [pattern.name for pattern in rule.hosts]
    if hosts is not None and None not in hosts:
        around[(HOST,)] = tuple(glob for glob in hosts if glob is not None)
    if rule.methods is not None:
        around[(METHOD,)] = tuple(rule.methods)
    for pattern in rule.paths or (None,):
        parts = () if pattern is None else pattern.folded if is_folded else pattern.parts
        yield {**_of_path(parts), **around, **rest}


def _of_path(parts: Sequence[Glob | None]) -> Made:
    """By their place from the beginning up to the first `**`, and from the end behind the last."""
    found: Made = {}
    for kind, row in ((SEGMENT, parts), (END, parts[::-1] if None in parts else ())):
        for index, part in enumerate(row):
            if part is None:
                break
            if not part.is_any:
                found[(kind, index)] = (part,)
    return found


def _add_named(found: Made, named: Sequence[NamedValues], kinds: tuple[str, str], *, is_folded: bool) -> None:
    there = [values for values in named if values.presence is not Presence.ABSENT]
    for values in there:
        if values.presence is None:
            name = values.folded if is_folded else values.name
            globs = (pattern.folded if is_folded else pattern.exact for pattern in values.patterns)
            found[(kinds[0], name)] = tuple(globs)
    if there:
        names = (values.folded if is_folded else values.name for values in there)
        found[(kinds[1],)] = Every(tuple(dict.fromkeys(names)))


def _add_call(found: Made, rule: HttpRule) -> None:
    llm = rule.llm
    if llm is None:
        return
    if llm.models is not None:
        found[(MODEL,)] = model_globs(llm.models)
    if llm.tools is not None:
        found[(TOOL,)] = llm.tools
    if llm.prompts is not None:
        found[(PROMPT,)] = tuple(pattern.text for pattern in llm.prompts)
    if llm.operations is not None:
        found[(OPERATION,)] = tuple(llm.operations)


def _add_body(found: Made, conditions: Sequence[BodyCondition], *, is_folded: bool) -> None:
    there = [condition for condition in conditions if condition.presence is not Presence.ABSENT]
    names = [segment.name for condition in there for segment in condition.path.segments]
    known = [fold(name) if is_folded else name for name in names if name is not None]
    if known:
        found[(BODY_NAMES,)] = Every(tuple(dict.fromkeys(known)))
    for condition in conditions:
        if condition.presence is not None or condition.bounds is not None:
            continue
        if any(value is None or isinstance(value, bool) for value in condition.values):
            continue  # too many texts may be meant by these
        texts = (pattern.folded if is_folded else pattern.exact for pattern in condition.texts)
        found[(BODY, condition.path)] = (*texts, *condition.values)
