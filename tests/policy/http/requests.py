"""HTTP facts written shortly, and documents of rules about them, for tables of rule, request and verdict."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from policy.decision import Decision, Effect
from policy.document import PolicyDocument, load_document
from policy.facts import BodyState, HttpFacts, LlmFacts, Subject, Target
from policy.http.evaluate import Needs, judge_http, needs_of

A, D, H = Effect.ALLOW, Effect.DENY, Effect.HOLD

HEAD = """\
version: 1
roles:
  ops: {groups: [ops]}
  guest: {groups: [guests]}
access:
  - {name: all, roles: [ops, guest], targets: {protocol: http}, logins: [default]}
"""
OPS = Subject("olga", ("ops",))
GUEST = Subject("gus", ("guests",))
API = Target("api", "http", {"env": "prod"})
NOTHING = object()


def document(*rules: str) -> PolicyDocument:
    """Rules as "allow paths: [/a]" or "deny llm: {models: [x]}": an effect, and what stands in `http`, or in `llm`."""
    lines = [_line(number, rule) for number, rule in enumerate(rules)]
    return load_document(HEAD + ("rules:\n" + "".join(lines) if lines else ""), "p.yaml")


def _line(number: int, rule: str) -> str:
    effect, _, section = rule.partition(" ")
    more = ", approval: {approvers: [boss]}" if effect == "hold" else ""
    http, _, llm = section.partition("llm: ")
    sections = [f"http: {{{http.rstrip(', ')}}}"] if http else []
    if llm:
        sections.append(f"llm: {llm}")
    return f"  - {{name: {effect}-{number}, effect: {effect}, {', '.join(sections)}{more}}}\n"


def request(
    text: str,
    *,
    headers: dict[str, str] | tuple[tuple[str, str], ...] = (),
    json: Any = NOTHING,
    form: str | None = None,
    state: BodyState | None = None,
    size: int | None = 0,
    kind: str = "",
    upgrade: str = "",
    others: tuple[str, ...] = (),
    host: str = "api.internal",
    llm: LlmFacts | None = None,
) -> HttpFacts:
    """ "GET /v1/x?a=b", with a body where one is given."""
    method, _, target = text.partition(" ")
    path, _, query = target.partition("?")
    body: Any = None
    if json is not NOTHING:
        body, state, kind, size = json, state or BodyState.JSON, kind or "application/json", size or 20
    elif form is not None:
        body = {}
        for name, value in parse_qsl(form, keep_blank_values=True):
            body.setdefault(name, []).append(value)
        state, kind, size = BodyState.FORM, kind or "application/x-www-form-urlencoded", len(form)
    pairs = tuple(headers.items()) if isinstance(headers, dict) else headers
    return HttpFacts(
        method,
        "https",
        host,
        path,
        others,
        tuple(parse_qsl(query, keep_blank_values=True)),
        pairs,
        kind,
        size,
        state or BodyState.NONE,
        body,
        upgrade,
        llm,
    )


def judged(facts: HttpFacts, *rules: str) -> Decision:
    return judge_http(document(*rules), OPS, API, "default", facts)


def verdict(facts: HttpFacts, *rules: str) -> Effect:
    return judged(facts, *rules).effect


def needs(facts: HttpFacts, *rules: str) -> Needs:
    return needs_of(document(*rules), OPS, API, "default", facts)
