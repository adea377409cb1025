"""Requests against rules on what their bodies hold: tables of verdicts, and when a body is needed at all."""

from __future__ import annotations

from typing import Any

import pytest

from policy.facts import BodyState, HttpFacts, LlmFacts
from tests.policy.http.requests import A, D, H, judged, needs, request, verdict

ALL = 'allow methods: ["*"]'


def post(body: Any) -> HttpFacts:
    return request("POST /pay", json=body)


@pytest.mark.parametrize(
    ("condition", "body", "is_meant"),
    [
        ('"$.amount": {max: 100}', {"amount": 100}, True),
        ('"$.amount": {max: 100}', {"amount": 99.5}, True),
        ('"$.amount": {max: 100}', {"amount": 101}, False),
        ('"$.amount": {min: 1, max: 100}', {"amount": 0}, False),
        ('"$.amount": {min: 1}', {"amount": 10**400}, True),
        ('"$.amount": {max: 1}', {"amount": 10**400}, False),
        ('"$.amount": {max: 100}', {"other": 1}, False),
        ('"$.kind": [a, "b*"]', {"kind": "a"}, True),
        ('"$.kind": [a, "b*"]', {"kind": "bcd"}, True),
        ('"$.kind": [a, "b*"]', {"kind": "c"}, False),
        ('"$.n": [1, 2]', {"n": 2}, True),
        ('"$.n": [1, 2]', {"n": 2.0}, True),
        ('"$.n": [1, 2]', {"n": 3}, False),
        ('"$.on": [true]', {"on": True}, True),
        ('"$.on": [true]', {"on": False}, False),
        ('"$.x": [null]', {"x": None}, True),
        ('"$.x": [null]', {"x": "y"}, False),
        ('"$.admin": absent', {"x": 1}, True),
        ('"$.admin": absent', {"admin": 1}, False),
        ('"$.admin": present', {"admin": 1}, True),
        ('"$.admin": present', {"x": 1}, False),
        ('"$.items[*].price": {max: 10}', {"items": [{"price": 1}, {"price": 10}]}, True),
        ('"$.items[0].price": {max: 10}', {"items": [{"price": 1}, {"price": 11}]}, True),
        ('"$..price": {max: 10}', {"a": {"b": [{"price": 1}]}, "price": 2}, True),
        ('"$.a": [x], "$.b": [y]', {"a": "x", "b": "y"}, True),
        ('"$.a": [x], "$.b": [y]', {"a": "x", "b": "z"}, False),
    ],
)
def test_a_condition_means_the_same_in_allow_deny_and_hold(condition: str, body: Any, is_meant: bool) -> None:
    """Where nothing is in doubt."""
    rule = f"body: {{{condition}}}"
    assert verdict(post(body), f"allow {rule}") is (A if is_meant else D)
    assert verdict(post(body), ALL, f"deny {rule}") is (D if is_meant else A)
    assert verdict(post(body), ALL, f"hold {rule}") is (H if is_meant else A)
    assert verdict(post(body), f"hold {rule}") is (H if is_meant else D)


@pytest.mark.parametrize(
    ("condition", "body"),
    [
        # a number that another reader takes for one
        ('"$.amount": {min: 100}', {"amount": "1000"}),
        ('"$.amount": {min: 100}', {"amount": " 1000 "}),
        ('"$.amount": {min: 100}', {"amount": "1e3"}),
        ('"$.amount": {min: 100}', {"amount": "1,000"}),
        ('"$.amount": {min: 100}', {"amount": "1_000"}),
        ('"$.amount": {min: 100}', {"amount": "0x3e8"}),
        ('"$.amount": {min: 100}', {"amount": "1000 EUR"}),
        ('"$.amount": {min: 100}', {"amount": "\u0661\u0660\u0660\u0660"}),
        ('"$.amount": {min: 100}', {"amount": "\uff11\uff10\uff10\uff10"}),
        ('"$.amount": {min: 100}', {"amount": "9" * 5000}),
        ('"$.amount": {min: 100}', {"amount": "Infinity"}),
        ('"$.amount": {min: 100}', {"amount": "0b1111101000"}),
        ('"$.amount": {min: 100}', {"amount": "-5 or 0o1750"}),
        ('"$.amount": {min: 100}', {"amount": "EUR 1000"}),
        ('"$.amount": {min: 100}', {"amount": "\u20ac1.000,50"}),
        ('"$.amount": {min: 100}', {"amount": "1'000'000"}),
        ('"$.amount": {min: 100}', {"amount": "x" * 1000 + "1000"}),
        ('"$.amount": {max: -100}', {"amount": "- 5, -1000"}),
        ('"$.amount": {max: 0.5}', {"amount": "0,25"}),
        ('"$.n": [1]', {"n": "1"}),
        ('"$.n": [1]', {"n": True}),
        ('"$.on": [true]', {"on": "true"}),
        ('"$.on": [true]', {"on": "TRUE"}),
        ('"$.on": [true]', {"on": 1}),
        ('"$.x": [null]', {"x": ""}),
        ('"$.kind": ["7*"]', {"kind": 77}),
        ('"$.kind": ["true"]', {"kind": True}),
        # an array or an object where a plain value is expected, and the other way round
        ('"$.amount": {min: 100}', [{"amount": 1000}]),
        ('"$.amount": {min: 100}', [[{"amount": 1000}]]),
        ('"$.amount": {min: 100}', {"amount": [1, 1000]}),
        ('"$.amount": {min: 100}', {"amount": {"$numberLong": "1000"}}),
        ('"$.order.amount": {min: 100}', {"order": [{"amount": 1}, {"amount": 1000}]}),
        ('"$.items[0].amount": {min: 100}', {"items": {"amount": 1000}}),
        ('"$.kind": [refund]', {"kind": ["sale", "refund"]}),
        # a name that another reader takes for this one
        ('"$.amount": {min: 100}', {"Amount": 1000}),
        ('"$.amount": {min: 100}', {"\uff41mount": 1000}),
        ('"$.kind": [refund]', {"\u212aind": "refund"}),
        ('"$..secret": present', {"a": [{"SECRET": None}]}),
        # a value that another reader takes for this one
        ('"$.kind": [refund]', {"kind": "Refund"}),
        ('"$.kind": [refund]', {"kind": " refund"}),
        ('"$.kind": [refund]', {"kind": "\uff52efund"}),
        # absent, as far as anybody knows
        ('"$.approval": absent', {"Approval": "x"}),
        ('"$.approval": absent', [{"approval": "x"}]),
        ('"$.approval": absent', {"approval": None}),
    ],
)
def test_what_is_in_doubt_is_denied_and_not_allowed(condition: str, body: Any) -> None:
    rule = f"body: {{{condition}}}"
    assert verdict(post(body), f"allow {rule}") is D
    assert verdict(post(body), ALL, f"deny {rule}") is D
    assert verdict(post(body), ALL, f"hold {rule}") is H


@pytest.mark.parametrize(
    ("condition", "body"),
    [
        ('"$.amount": {max: 100}', {"amount": "50"}),
        ('"$.amount": {max: 100}', {"amount": None}),
        ('"$.amount": {max: 100}', {"amount": True}),
        ('"$.amount": {max: 100}', {"amount": [50]}),
        ('"$.amount": {max: 100}', {"amount": [50, 5000]}),
        ('"$.amount": {max: 100}', {"amount": 50, "Amount": 5000}),
        ('"$.amount": {max: 100}', [{"amount": 50}]),
        ('"$.amount": {max: 100}', {}),
        ('"$.amount": {max: 100}', []),
        ('"$.amount": {max: 100}', None),
        ('"$.amount": {max: 100}', 50),
        ('"$.items[*].price": {max: 10}', {"items": [{"price": 1}, {"price": 11}]}),
        ('"$.items[*].price": {max: 10}', {"items": []}),
        ('"$.items[*].price": {max: 10}', {"items": [{"price": 1}, [{"price": 11}]]}),
        ('"$.kind": [a]', {"kind": ["a"]}),
        ('"$.kind": ["*"]', {"kind": {"a": 1}}),
        ('"$.admin": absent', {"ADMIN": True}),
        ('"$.admin": absent', [{"admin": True}]),
        ('"$.user.admin": absent', {"user": [{"admin": True}]}),
    ],
)
def test_what_is_not_certain_is_not_covered(condition: str, body: Any) -> None:
    assert verdict(post(body), f"allow body: {{{condition}}}") is D


@pytest.mark.parametrize(
    ("condition", "form", "allowed", "denied"),
    [
        ('"$.amount": {max: 100}', "amount=50", A, D),
        ('"$.amount": {max: 100}', "amount=500", D, A),
        ('"$.amount": {max: 100}', "amount=50&amount=500", D, D),
        ('"$.amount": {max: 100}', "amount=50&Amount=500", D, D),
        ('"$.amount": {max: 100}', "amount=50&amount[]=500", D, D),
        ('"$.amount": {max: 100}', "amount=0x50", D, D),
        ('"$.user.admin": ["1"]', "user[admin]=1", D, D),
        ('"$.user.admin": ["1"]', "user=x&user[admin]=1", D, D),
        ('"$.user.admin": ["1"]', "user.admin=1", D, D),
        ('"$.user_role": [admin]', "user.role=admin", D, D),
        ('"$.user_role": [admin]', "user_role=user&user.role=admin", D, D),
        ('"$.user_role": [admin]', "user role=admin", D, D),
        ('"$.admin": absent', "a=1", A, D),
        ('"$.admin": absent', "admin[]=1", D, D),
        ('"$.on": [true]', "on=true", A, D),
        ('"$.kind": [a]', "kind=a&kind=b", D, D),
    ],
)
def test_forms(condition: str, form: str, allowed: object, denied: object) -> None:
    facts = request("POST /pay", form=form)
    assert verdict(facts, f"allow body: {{{condition}}}") is allowed
    assert verdict(facts, ALL, f"deny body: {{{condition}}}") is denied


@pytest.mark.parametrize("text", ["99.99", "5", "about 7", "0x10", "1e1", "no number", ""])
def test_small_amounts_as_text_are_no_large_ones(text: str) -> None:
    assert verdict(post({"amount": text}), ALL, 'deny body: {"$.amount": {min: 100}}') is A


CONDITIONS = ['"$.a": [x]', '"$.a": absent', '"$.a": present', '"$.a": {min: 1}']


@pytest.mark.parametrize(
    "state", [BodyState.UNREAD, BodyState.UNKNOWN, BodyState.BROKEN, BodyState.TOO_LARGE]
)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_body_that_cannot_be_looked_into_is_refused(state: BodyState, condition: str) -> None:
    facts = request("POST /pay", state=state, size=None, kind="application/json")
    rule = f"body: {{{condition}}}"
    assert verdict(facts, f"allow {rule}") is D
    assert verdict(facts, ALL, f"hold {rule}") is D  # nobody could say what they approve
    decision = judged(facts, ALL, f"deny {rule}")
    assert decision.effect is D
    (reason,) = decision.reasons
    assert reason.rule == "deny-1"
    assert "looks into the body of `POST /pay`" in reason.message
    assert reason.hint.startswith("Send application/json")


def test_a_rule_that_would_allow_says_what_it_needs() -> None:
    facts = request("POST /pay", state=BodyState.BROKEN)
    (reason,) = judged(facts, 'allow body: {"$.a": [x]}').reasons
    assert "allow-0" in reason.message
    assert "does not parse" in reason.message
    assert reason.hint.startswith("Send application/json")


def test_no_body_has_no_values() -> None:
    facts = request("GET /")
    for condition, allowed, denied in (
        ('"$.a": [x]', D, A),
        ('"$.a": present', D, A),
        ('"$.a": absent', A, D),
        ('"$": present', D, A),
    ):
        assert verdict(facts, f"allow body: {{{condition}}}") is allowed
        assert verdict(facts, ALL, f"deny body: {{{condition}}}") is denied


def test_only_the_other_keys_decide_where_they_do_not_hold() -> None:
    facts = request("POST /other", state=BodyState.BROKEN)
    assert verdict(facts, ALL, 'deny paths: [/pay], body: {"$.a": [x]}') is A


# --- is the body needed? ------------------------------------------------------------------------------------

HEAD = request("POST /pay", state=BodyState.UNREAD, size=20, kind="application/json")
LOOKS = 'deny paths: [/pay], body: {"$.a": [x]}'


@pytest.mark.parametrize(
    ("rules", "facts", "names"),
    [
        ((ALL,), HEAD, ()),
        ((ALL, LOOKS), HEAD, ("deny-1",)),
        ((ALL, LOOKS), request("POST /pay"), ()),
        ((ALL, LOOKS), request("POST /other", state=BodyState.UNREAD), ()),
        ((ALL, LOOKS), request("POST /PAY/", state=BodyState.UNREAD), ("deny-1",)),
        ((ALL, LOOKS, "deny methods: [POST]"), HEAD, ()),
        ((LOOKS,), HEAD, ()),
        (('allow body: {"$.a": [x]}',), HEAD, ("allow-0",)),
        ((ALL, 'allow body: {"$.a": [x]}'), HEAD, ()),
        (('allow query: {a: [b]}, body: {"$.a": [x]}',), HEAD, ()),
        ((ALL, 'hold body: {"$.a": [x]}'), HEAD, ("hold-1",)),
        (('hold body: {"$.a": [x]}',), HEAD, ("hold-0",)),
        (("allow body_bytes: {max: 1KiB}",), HEAD, ()),
        (
            ("allow body_bytes: {max: 1KiB}",),
            request("POST /", state=BodyState.UNREAD, size=None),
            ("allow-0",),
        ),
        (
            (ALL, "deny body_bytes: {min: 1KiB}"),
            request("POST /", state=BodyState.UNREAD, size=None),
            ("deny-1",),
        ),
        ((ALL, 'allow llm: {models: ["*"]}'), HEAD, ()),
    ],
)
def test_which_rules_need_the_body(rules: tuple[str, ...], facts: HttpFacts, names: tuple[str, ...]) -> None:
    found = needs(facts, *rules)
    assert (found.body, found.reasons) == (bool(names), names)


# --- calls of models ----------------------------------------------------------------------------------------

CHAT = LlmFacts("openai", "chat", "gpt-4o-mini", 100, 10, 0.001)
CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 100}


def call(facts: LlmFacts = CHAT, body: Any = CALL) -> HttpFacts:
    return request("POST /v1/chat/completions", json=body, llm=facts)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (('allow paths: ["/v1/**"]',), D),
        (('allow methods: ["*"]', 'allow llm: {models: ["gpt-4o*"]}'), A),
        (('allow llm: {models: ["gpt-5*"]}',), D),
        (('allow paths: ["/v1/**"], llm: {models: ["gpt-4o*"]}',), A),
        (('allow paths: ["/v2/**"], llm: {models: ["gpt-4o*"]}',), D),
        (('allow llm: {models: ["*"]}', 'deny paths: ["/v1/chat/**"]'), D),
        (('allow llm: {models: ["*"]}', "deny llm: {max_tokens: {min: 50}}"), D),
        (('allow llm: {models: ["*"]}', "deny llm: {max_tokens: {min: 500}}"), A),
        (('allow llm: {models: ["*"]}', "hold llm: {models: [gpt-4o-mini]}"), H),
        (("hold llm: {models: [gpt-4o-mini]}",), H),
        (('allow llm: {models: ["*"]}', 'deny llm: {prompts: ["(?i)HELL"]}'), D),
    ],
)
def test_calls_of_models(rules: tuple[str, ...], expected: object) -> None:
    assert verdict(call(), *rules) is expected


def test_what_is_no_call_of_a_model_is_not_covered_by_a_rule_about_models() -> None:
    assert verdict(request("GET /v1/files"), 'allow llm: {models: ["*"]}') is D
    assert verdict(request("GET /v1/files"), 'allow paths: ["/v1/**"]', 'deny llm: {models: ["*"]}') is A


def test_a_call_of_a_model_that_no_rule_allows_says_which_key_would() -> None:
    (reason,) = judged(call(), 'allow paths: ["/v1/**"]').reasons
    assert "gpt-4o-mini" in reason.message
    assert "`llm`" in reason.hint


OPEN = LlmFacts("openai", "chat", "gpt-4o-mini", None, 10, None)


@pytest.mark.parametrize(
    ("facts", "rules", "said"),
    [
        (LlmFacts("openai", "models"), ('allow llm: {models: ["*"]}',), "`llm: {operations: [models]}`"),
        (LlmFacts("openai", "other"), ('allow llm: {models: ["*"]}',), "`llm: {operations: [other]}`"),
        (OPEN, ("allow llm: {max_tokens: {max: 100}}",), "`max_tokens`"),
        (OPEN, ('allow llm: {models: ["*"]}', "deny llm: {max_tokens: {min: 500}}"), "`max_tokens`"),
        (OPEN, ('allow llm: {models: ["*"]}', "deny llm: {cost_usd: {min: 500}}"), "`max_tokens`"),
    ],
)
def test_a_call_that_leaves_something_open_is_told_what(
    facts: LlmFacts, rules: tuple[str, ...], said: str
) -> None:
    assert said in judged(call(facts), *rules).reasons[-1].hint


def test_what_is_known_is_not_told_as_not_known() -> None:
    allow = 'allow llm: {models: ["*"]}'
    (reason,) = judged(call(OPEN), allow, "deny llm: {max_tokens: {min: 5}, cost_usd: {min: 1}}").reasons
    assert "how long its answer may be and what it may cost" in reason.message
    (reason,) = judged(call(), allow, "deny llm: {max_tokens: {min: 5}}").reasons
    assert "not known" not in reason.message and "max_tokens" not in reason.hint


def test_a_call_needs_its_body() -> None:
    head = request("POST /v1/chat/completions", state=BodyState.UNREAD, llm=LlmFacts("openai", "chat"))
    assert needs(head, 'allow llm: {models: ["*"]}').body
    assert not needs(head, 'allow paths: ["/**"]').body
    assert verdict(head, 'allow paths: ["/**"]') is D
