"""What a `when` over an HTTP request can read: `http`, `llm`, `subject` and `target`, as plain values.

What is not known is left out, so that a condition that reads it fails, which refuses: a size before the end, a body
that has not been seen, what a call of a model leaves open. Parameters and fields are lists always, so that no second
value of a name goes unseen. Called by `policy.http_rules.rule`.
"""

from __future__ import annotations

from collections.abc import Iterable

from policy.facts import BodyState, HttpFacts, LlmFacts, Subject, Target

READABLE = frozenset({BodyState.JSON, BodyState.FORM})


def http_variables(facts: HttpFacts, subject: Subject, target: Target) -> dict[str, object]:
    variables: dict[str, object] = {
        "http": _request(facts),
        "subject": {
            "name": subject.name,
            "groups": list(subject.groups),
            "claims": dict(subject.claims),
            "method": subject.method,
        },
        "target": {"name": target.name, "protocol": target.protocol, "labels": dict(target.labels)},
    }
    if facts.llm is not None:
        variables["llm"] = _call(facts.llm)
    return variables


def _request(facts: HttpFacts) -> dict[str, object]:
    known: dict[str, object] = {
        "method": facts.method,
        "scheme": facts.scheme,
        "host": facts.host,
        "path": facts.path,
        "query": _lists(facts.query),
        "headers": _lists(facts.headers),
        "content_type": facts.content_type,
        "upgrade": facts.upgrade,
    }
    if facts.body_bytes is not None:
        known["body_bytes"] = facts.body_bytes
    if facts.body_state in READABLE:
        known["body"] = facts.body
    return known


def _lists(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


# What the reasons in `unresolved` begin with, and what is not known then.
_UNSURE = {
    "operation": ("operation",),
    "model": ("model",),
    "tools": ("tools",),
    "length": ("max_tokens",),
    "cost": ("estimated_cost_usd",),
    "body": ("model", "max_tokens", "input_tokens", "estimated_cost_usd", "tools", "is_stream"),
}


def _call(llm: LlmFacts) -> dict[str, object]:
    known: dict[str, object] = {
        "api": llm.api,
        "operation": llm.operation,
        "model": llm.model,
        "max_tokens": llm.max_tokens,
        "input_tokens": llm.input_tokens,
        "estimated_cost_usd": llm.estimated_cost_usd,
        "tools": list(llm.tools),
        "is_stream": llm.is_stream,
    }
    unsure = {name for reason in llm.unresolved for name in _UNSURE.get(reason.partition(":")[0], ())}
    return {name: value for name, value in known.items() if value is not None and name not in unsure}
