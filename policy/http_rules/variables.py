"""What a `when` over an HTTP request can read: `http`, `llm` and who asks, as plain values.

What is not known is left out, so that a condition that reads it fails, which refuses: a size before the end, a body
that has not been seen, what a call of a model leaves open, a path that servers read in several ways. Parameters and
fields are lists always, so that no second value of a name goes unseen. Called by `policy.http_rules.rule`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policy.conditions.known import who_and_where
from policy.facts import BodyState, HttpFacts, LlmFacts, Subject, Target

READABLE = frozenset({BodyState.JSON, BodyState.FORM})


def http_variables(
    facts: HttpFacts, subject: Subject, target: Target, login: str, methods: Sequence[str]
) -> dict[str, object]:
    """methods: all those that the target may take the request for, see `policy.http.evaluate.methods_of`."""
    request = _request(facts)
    if len(methods) == 1:
        request["method"] = facts.method
    variables = {**who_and_where(subject, target, login), "http": request}
    if facts.llm is not None:
        variables["llm"] = _call(facts.llm)
    return variables


def _request(facts: HttpFacts) -> dict[str, object]:
    known: dict[str, object] = {
        "scheme": facts.scheme,
        "host": facts.host,
        "query": _lists(facts.query),
        "headers": _lists(facts.headers),
        "content_type": facts.content_type,
        "upgrade": facts.upgrade,
    }
    if not facts.other_paths:
        known["path"] = facts.path
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
