"""A request that a rule would have allowed but for a limit: the answer names rule, value, limit and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from policy.decision import Effect, Reason
from policy.facts import BodyState, HttpFacts, LlmFacts
from policy.http.near_misses import MAX_NAMED
from tests.policy.http.requests import judged, request


def call(**more: Any) -> HttpFacts:
    known: dict[str, Any] = {
        "model": "small-1",
        "max_tokens": 100,
        "input_tokens": 10,
        "estimated_cost_usd": 0.001,
    }
    return chat(LlmFacts("openai", "chat", **{**known, **more}))


def chat(llm: LlmFacts) -> HttpFacts:
    return request("POST /v1/chat/completions", json={}, llm=llm)


def near(facts: HttpFacts, *rules: str) -> list[Reason]:
    """The reasons behind the first, which says that no rule allows it."""
    decision = judged(facts, *rules)
    assert decision.effect is Effect.DENY
    first, *others = decision.reasons
    assert first.rule == "" and first.message.startswith("no rule allows ")
    return others


@pytest.mark.parametrize(
    ("rule", "facts", "why", "advice"),
    [
        (
            "body_bytes: {max: 1KiB}",
            request("POST /a", json={}, size=1500),
            "the body has 1500 bytes, and it allows 1024",
            "Send a body of 1024 bytes or less",
        ),
        (
            "content_types: [application/json, 'text/*']",
            request("POST /a", form="a=b"),
            "the body is `application/x-www-form-urlencoded`, and it allows `application/json`, `text/*`",
            "Send `application/json`, `text/*`",
        ),
        (
            "content_types: [application/json]",
            request("POST /a", state=BodyState.UNKNOWN, size=3),
            "it is not said of what type the body is, and it allows `application/json`",
            "Send `application/json`",
        ),
        (
            "query: {debug: absent}",
            request("GET /a?debug=1"),
            "the parameter `debug` is not allowed",
            "Leave out the parameter `debug`",
        ),
        (
            "query: {page: present}",
            request("GET /a"),
            "the parameter `page` is not there",
            "Send the parameter `page`",
        ),
        (
            "query: {state: [open]}",
            request("GET /a?state=4111"),
            "the parameter `state` has a value that it does not allow",
            "",
        ),
        (
            "headers: {x-debug: absent}",
            request("GET /a", headers={"x-debug": "1"}),
            "the field `x-debug` is not allowed",
            "Leave out the field `x-debug`",
        ),
        (
            "headers: {x-env: [s3cret]}",
            request("GET /a", headers={"x-env": "dev"}),
            "the field `x-env` has a value that it does not allow",
            "",
        ),
        (
            'body: {"$.amount": {max: 10}}',
            request("POST /a", json={"amount": 4111}),
            "`$.amount` has to be a number, 10 or less",
            "Send `$.amount` within that",
        ),
        (
            'body: {"$.amount": {min: 1, max: 10.5}}',
            request("POST /a", json={"amount": "4111"}),
            "`$.amount` has to be a number, 1 or more and 10.5 or less",
            "Send `$.amount` within that",
        ),
        (
            'body: {"$.amount": {max: 10}}',
            request("POST /a", json={}),
            "`$.amount` is not there in the body",
            "Send `$.amount`",
        ),
        (
            'body: {"$.to": absent}',
            request("POST /a", json={"to": "4111"}),
            "`$.to` is not allowed in the body",
            "Leave out `$.to`",
        ),
        (
            'body: {"$.why": [s3cret]}',
            request("POST /a", json={"why": "4111"}),
            "`$.why` has a value that it does not allow",
            "",
        ),
        (
            'llm: {models: ["small-*", tiny]}',
            call(model="large-1"),
            "the model `large-1` is not among `small-*`, `tiny`",
            "Use one of `small-*`, `tiny`",
        ),
        (
            "llm: {models: [tiny]}",
            call(model="", unresolved=("model: the request names none",)),
            "the request names none",
            "Name one model, and no other beside it",
        ),
        (
            "llm: {max_tokens: {max: 99}}",
            call(),
            "the answer may have 100 tokens, and it allows 99",
            "Set `max_tokens`, or what the API calls it, to 99 or less",
        ),
        (
            "llm: {max_tokens: {max: 99}}",
            call(max_tokens=None),
            "it is not said how long the answer may be, and it may have 99 tokens",
            "Set `max_tokens`, or what the API calls it, to 99 or less",
        ),
        (
            "llm: {cost_usd: {max: 0.0005}}",
            call(),
            "the call may cost 0.001 USD, and it allows 0.0005 USD",
            "Ask for a shorter answer, with a shorter prompt, or of a cheaper model",
        ),
        (
            "llm: {cost_usd: {max: 0.5}}",
            call(max_tokens=None, estimated_cost_usd=None),
            "it is not known what it may cost (it is not said how long the answer may be), and it allows 0.5 USD",
            "Set `max_tokens`, or what the API calls it",
        ),
        (
            "llm: {cost_usd: {max: 0.5}}",
            call(estimated_cost_usd=None),
            "it is not known what it may cost (the model `small-1` has no price), and it allows 0.5 USD",
            "Use a model that has a price",
        ),
        (
            "llm: {cost_usd: {max: 0.5}}",
            call(estimated_cost_usd=None, unresolved=("cost: sound has a price of its own",)),
            "it is not known what it may cost (sound has a price of its own), and it allows 0.5 USD",
            "",
        ),
        (
            "llm: {tools: ['search_*']}",
            call(tools=("search_web", "rm", "mv")),
            "the tools `rm`, `mv` are not among `search_*`",
            "Offer no tools but `search_*`",
        ),
        (
            "llm: {tools: ['search_*']}",
            call(unresolved=("tools: those of an MCP server are not known",)),
            "those of an MCP server are not known, and it is for the tools `search_*`",
            "",
        ),
        (
            "llm: {models: ['*']}",
            call(unresolved=("body: it is not a JSON object that could be read",)),
            "it is not a JSON object that could be read",
            "Send the body as plain JSON, each name once and as documented",
        ),
    ],
)
def test_a_limit_is_told_with_rule_value_and_next_step(
    rule: str, facts: HttpFacts, why: str, advice: str
) -> None:
    (reason,) = near(facts, f"allow {rule}")
    ask = "sk the owners of the policy about rule allow-0."
    assert reason == Reason(
        "allow-0",
        f"rule allow-0 does not cover it: {why}",
        f"{advice}. Or a{ask}" if advice else f"A{ask}",
    )


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        ("query: {token: [s3cret]}", request("GET /a?token=4111")),
        ("headers: {x-token: [s3cret]}", request("GET /a", headers={"x-token": "4111"})),
        ('body: {"$.token": [s3cret]}', request("POST /a", json={"token": "4111"})),
        ('body: {"$.token": {max: 7}}', request("POST /a", json={"token": 4111})),
    ],
)
def test_no_value_is_told_neither_the_clients_nor_the_rules(rule: str, facts: HttpFacts) -> None:
    told = repr(near(facts, f"allow {rule}"))
    assert "4111" not in told and "s3cret" not in told


def test_all_that_a_rule_misses_is_told_at_once() -> None:
    (reason,) = near(call(model="large"), 'allow llm: {models: [small], max_tokens: {max: 50}, tools: ["*"]}')
    assert reason.message == (
        "rule allow-0 does not cover it: the model `large` is not among `small`; "
        "the answer may have 100 tokens, and it allows 50"
    )
    assert reason.hint.startswith("Use one of `small`. Set `max_tokens`")


def test_the_nearest_rules_are_told_and_not_every_one() -> None:
    rules = [f"allow llm: {{models: [m{number}], max_tokens: {{max: 5}}}}" for number in range(9)]
    reasons = near(call(), *rules, "allow llm: {models: [other]}")
    assert [reason.rule for reason in reasons] == ["allow-9", "allow-0", "allow-1"]
    assert len(reasons) == MAX_NAMED


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        (call(), "allow llm: {operations: [embeddings], max_tokens: {max: 5}}"),
        (call(), "allow paths: ['/v1/**'], query: {a: present}"),
        (request("POST /a"), "allow llm: {models: [small]}"),
        (request("GET /a?debug=1"), "allow paths: ['/b'], query: {debug: absent}"),
        (request("GET /a?debug=1"), "allow methods: [POST], query: {debug: absent}"),
        (request("GET /a?debug=1", upgrade="websocket"), "allow query: {debug: absent}"),
    ],
)
def test_rules_about_something_else_are_not_told(facts: HttpFacts, rule: str) -> None:
    assert near(facts, rule) == []


@pytest.mark.parametrize(
    ("rule", "facts", "why"),
    [
        (
            "body_bytes: {min: 1KiB}",
            request("POST /a", json={}, size=2000),
            "the body has 2000 bytes, and the rule is about 1024 or more",
        ),
        (
            "body_bytes: {min: 1KiB}",
            request("POST /a", state=BodyState.UNREAD, size=None),
            "it is not known how long the body is, and the rule is about 1024 or more",
        ),
        (
            "llm: {max_tokens: {min: 50}}",
            call(),
            "the answer may have 100 tokens, and the rule is about 50 or more",
        ),
        (
            "llm: {cost_usd: {min: 0.0005}}",
            call(),
            "the call may cost 0.001 USD, and the rule is about 0.0005 or more",
        ),
    ],
)
def test_a_rule_that_denies_from_a_limit_on_tells_it(rule: str, facts: HttpFacts, why: str) -> None:
    allow = 'allow llm: {models: ["*"]}' if facts.llm is not None else 'allow methods: ["*"]'
    (reason,) = judged(facts, allow, f"deny {rule}").reasons
    assert reason.rule == "deny-1"
    assert reason.message.endswith(f" is denied: {why}")
    assert reason.hint == "Ask the owners of the policy about rule deny-1."
