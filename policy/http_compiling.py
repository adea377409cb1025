"""The `http` section of a rule, compiled. Called by `policy.document`."""

from __future__ import annotations

from policy.conditions import compile_condition
from policy.decision import Effect
from policy.http_rules.bodies import BodyCondition
from policy.http_rules.fields import HostPattern, Presence, header_values, query_values
from policy.http_rules.folding import TextPattern
from policy.http_rules.paths import UrlPattern
from policy.http_rules.rule import HttpRule
from policy.http_rules.section import BodySection, HttpMatcher, ValuesSection
from policy.http_rules.values import Bounds
from policy.json_paths import JsonPath
from policy.llm.rule import LlmRule
from policy.rules import Selector
from policy.sections import Rule

_EVERYTHING = HttpMatcher(methods=("*",))


def http_rule(order: int, rule: Rule, targets: Selector | None) -> HttpRule:
    """`rule`, which has a section `http` or `llm` or both, at place `order` of the document."""
    matcher = rule.http or _EVERYTHING
    methods, size = matcher.methods, matcher.body_bytes
    return HttpRule(
        order=order,
        name=rule.name,
        effect=Effect(rule.effect),
        roles=None if rule.roles is None else frozenset(rule.roles),
        targets=targets,
        methods=None if methods is None or "*" in methods else frozenset(methods),
        hosts=None if matcher.hosts is None else tuple(map(HostPattern, matcher.hosts)),
        paths=None if matcher.paths is None else tuple(map(UrlPattern, matcher.paths)),
        query=tuple(query_values(name, *_said(said)) for name, said in (matcher.query or {}).items()),
        headers=tuple(header_values(name, *_said(said)) for name, said in (matcher.headers or {}).items()),
        content_types=None
        if matcher.content_types is None
        else tuple(map(TextPattern, matcher.content_types)),
        body_bytes=None if size is None else Bounds(size.min, size.max),
        upgrade=matcher.upgrade or "",
        body=tuple(_body_condition(path, said) for path, said in (matcher.body or {}).items()),
        llm=None if rule.llm is None else LlmRule.of(rule.llm),
        message=rule.message or "",
        approvers=rule.approval.approvers if rule.approval is not None else (),
        approvals=rule.approval.approvals if rule.approval is not None else 0,
        condition=None if rule.when is None else compile_condition(rule.when, "http"),
        shape="" if rule.when is None else f"{matcher!r} {rule.llm!r}",
    )


def _said(section: ValuesSection) -> tuple[Presence | None, tuple[str, ...]]:
    return None if section.word is None else Presence(section.word), section.values or ()


def _body_condition(path: str, section: BodySection) -> BodyCondition:
    listed = section.values or ()
    has_bounds = section.min is not None or section.max is not None
    return BodyCondition(
        path=JsonPath.parse(path),
        presence=None if section.word is None else Presence(section.word),
        bounds=Bounds(section.min, section.max) if has_bounds else None,
        texts=tuple(TextPattern(value) for value in listed if isinstance(value, str)),
        values=tuple(value for value in listed if not isinstance(value, str)),
    )
