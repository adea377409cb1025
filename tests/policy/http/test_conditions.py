"""What a rule makes of its condition, whatever that says: what it can read, what an error counts as, what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from policy.decision import Effect
from policy.document import PolicyDocument
from policy.facts import BodyState, HttpFacts, LlmFacts
from policy.http.evaluate import judge_http, needs_of
from policy.http_rules.variables import http_variables
from policy.rules import ConditionError
from tests.policy.http.requests import API, OPS, A, D, H, document, request

Variables = Mapping[str, Any]


@dataclass
class Says:
    """A condition that is a function here."""

    names: tuple[str, ...]
    says: Callable[[Variables], bool]
    text: str = "a function"

    def holds(self, variables: Variables) -> bool:
        try:
            return self.says(variables)
        except (KeyError, TypeError) as error:
            raise ConditionError(str(error)) from error


LARGE = Says(("http.body.amount",), lambda known: known["http"]["body"]["amount"] > 100)
FROM_ADMIN = Says(("http.query.by",), lambda known: "admin" in known["http"]["query"]["by"])
LONG = Says(("llm.max_tokens",), lambda known: known["llm"]["max_tokens"] > 4000)
BIG = Says(("http.body_bytes",), lambda known: known["http"]["body_bytes"] > 1000)
MINE = Says(
    ("subject.name", "http.path"), lambda known: known["http"]["path"] == f"/home/{known['subject']['name']}"
)


def with_condition(condition: Says, *rules: str) -> PolicyDocument:
    """The last of the rules has the condition."""
    policy = document(*rules)
    *others, last = policy.http_rules
    return replace(policy, http_rules=(*others, replace(last, condition=condition)), views={})


def effects(condition: Says, facts: HttpFacts) -> tuple[Effect, Effect, Effect]:
    """Of an allow, a deny and a hold rule with the condition; the others beside one that allows everything."""
    everything = 'llm: {models: ["*"]}' if facts.llm is not None else 'methods: ["*"]'
    policies = (
        with_condition(
            condition, "allow paths: ['/**']" + (", llm: {models: ['*']}" if facts.llm is not None else "")
        ),
        with_condition(condition, f"allow {everything}", "deny paths: ['/{x}/**', '/']"),
        with_condition(condition, f"allow {everything}", "hold paths: ['/{x}/**', '/']"),
    )
    allow, deny, hold = (judge_http(policy, OPS, API, "default", facts).effect for policy in policies)
    return allow, deny, hold


def call(most: int | None, *unresolved: str) -> HttpFacts:
    llm = LlmFacts("openai", "chat", "gpt-4o", most, 1, None, unresolved=unresolved)
    return request("POST /v1/chat/completions", json={"messages": []}, llm=llm)


UNREAD = request("POST /a", state=BodyState.UNREAD, size=None)
TRUE, FALSE, UNSURE, UNSEEN = (A, D, H), (D, A, A), (D, D, H), (D, D, D)


@pytest.mark.parametrize(
    ("condition", "facts", "expected"),
    [
        (LARGE, request("POST /a", json={"amount": 500}), TRUE),
        (LARGE, request("POST /a", json={"amount": 5}), FALSE),
        (LARGE, request("POST /a", json={}), UNSURE),
        (LARGE, request("POST /a", json={"amount": "500"}), UNSURE),
        (LARGE, request("POST /a", json=[]), UNSURE),
        (LARGE, request("POST /a"), UNSURE),
        (LARGE, UNREAD, UNSEEN),
        (LARGE, request("POST /a", state=BodyState.BROKEN), UNSEEN),
        (FROM_ADMIN, request("GET /a?by=admin"), TRUE),
        (FROM_ADMIN, request("GET /a?by=user&by=admin"), TRUE),
        (FROM_ADMIN, request("GET /a?by=user"), FALSE),
        (FROM_ADMIN, request("GET /a"), UNSURE),
        (BIG, request("POST /a", json={}, size=5000), TRUE),
        (BIG, request("POST /a", json={}, size=5), FALSE),
        (BIG, UNREAD, UNSEEN),
        (MINE, request("GET /home/olga"), TRUE),
        (MINE, request("GET /home/other"), FALSE),
        (LONG, call(5000), TRUE),
        (LONG, call(50), FALSE),
        (LONG, call(None), UNSURE),
        (LONG, call(50, "length: it is not a number"), UNSURE),
        (LONG, request("GET /a"), UNSURE),
    ],
)
def test_a_condition_that_cannot_be_worked_out_refuses(
    condition: Says, facts: HttpFacts, expected: tuple[Effect, Effect, Effect]
) -> None:
    assert effects(condition, facts) == expected


@pytest.mark.parametrize(
    ("condition", "facts", "is_needed"),
    [
        (LARGE, UNREAD, True),
        (LARGE, request("POST /a"), False),
        (FROM_ADMIN, request("POST /a?by=admin", state=BodyState.UNREAD), False),
        (BIG, UNREAD, True),
        (BIG, request("POST /a", state=BodyState.UNREAD, size=5000), False),
        (LONG, UNREAD, False),
        (Says(("http",), lambda known: True), UNREAD, True),
    ],
)
def test_which_conditions_need_the_body(condition: Says, facts: HttpFacts, is_needed: bool) -> None:
    policy = with_condition(condition, 'allow methods: ["*"]', "hold paths: [/a]")
    assert needs_of(policy, OPS, API, "default", facts).body is is_needed


def test_a_condition_is_asked_each_time() -> None:
    """It may say something else of the next request with the same method, host and path, or of the next subject."""
    policy = with_condition(FROM_ADMIN, "allow paths: ['/**']")
    asked = ["GET /a?by=admin", "GET /a?by=user", "GET /a?by=admin"]
    assert [judge_http(policy, OPS, API, "default", request(text)).effect for text in asked] == [A, D, A]


def test_a_condition_is_only_asked_where_the_rest_holds() -> None:
    def fail(known: Variables) -> bool:
        raise AssertionError

    policy = with_condition(Says((), fail), "allow paths: ['/**']", "deny paths: [/a], query: {b: [c]}")
    assert judge_http(policy, OPS, API, "default", request("GET /a?b=d")).effect is A


def test_what_a_condition_can_read() -> None:
    facts = request("POST /a?b=c&b=d", json={"x": [1]}, headers=(("x-a", "1"), ("x-a", "2")), size=9)
    known: Any = http_variables(facts, OPS, API, "default", ["POST"])
    assert known == {
        "http": {
            "method": "POST",
            "scheme": "https",
            "host": "api.internal",
            "path": "/a",
            "query": {"b": ["c", "d"]},
            "headers": {"x-a": ["1", "2"]},
            "content_type": "application/json",
            "upgrade": "",
            "body_bytes": 9,
            "body": {"x": [1]},
        },
        "subject": {"name": "olga", "groups": ("ops",), "claims": {}, "method": "certificate"},
        "target": {"name": "api", "protocol": "http", "labels": {"env": "prod"}},
        "login": "default",
    }
    unseen: Any = http_variables(call(None, "body: it is not JSON"), OPS, API, "default", ["POST"])
    assert unseen["llm"] == {"api": "openai", "operation": "chat"}
