"""Ten thousand rules: the work to judge one request is that of ten, counted in calls and not in time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import count

import msgspec
import pytest

from policy.document import PolicyDocument
from policy.facts import HttpFacts
from policy.http.evaluate import judge_http
from policy.http_rules.index import LONGEST_REMEMBERED, MAX_REMEMBERED
from policy.view import view_of
from tests.policy.http.requests import API, OPS, A, D, document, request

FEW, MANY = 10, 10_000
NUMBERS = count()


def calls_of(work: Callable[[], object]) -> int:
    calls = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def judging(policy: PolicyDocument, facts: HttpFacts) -> int:
    """Calls of one judgement, when the views are there."""
    return calls_of(lambda: judge_http(policy, OPS, API, "default", facts))


RULES: dict[str, Callable[[int], str]] = {
    "paths": lambda number: f"paths: [/v1/things{number}]",
    "subtrees": lambda number: f"methods: [GET], paths: ['/static/site{number}/**']",
    "templates": lambda number: f"paths: ['/repos/{{owner}}/{{repo}}/part{number}/{{id}}']",
    "hosts": lambda number: f"hosts: [h{number}.internal]",
    "query": lambda number: f"paths: [/q{number}], query: {{a: [b]}}",
    "bodies": lambda number: f'paths: [/b{number}], body: {{"$.a": [b]}}',
}
REQUESTS = {
    "paths": request("GET /v1/things0"),
    "subtrees": request("GET /static/site0/a/b"),
    "templates": request("GET /repos/me/mine/part0/7"),
    "hosts": request("GET /x", host="h0.internal"),
    "query": request("GET /q0?a=b"),
    "bodies": request("POST /b0", json={"a": "b"}),
}


@pytest.mark.parametrize("effect", ["allow", "deny"])
@pytest.mark.parametrize("is_new", [True, False], ids=["asked for the first time", "asked for again"])
def test_ten_thousand_rules_cost_what_ten_cost(effect: str, is_new: bool) -> None:
    few, many = (
        document(
            *(
                f"{effect} {rule(number)}"
                for number in range(size // len(RULES) + 1)
                for rule in RULES.values()
            )
        )
        for size in (FEW, MANY)
    )
    assert len(many.http_rules) > MANY > FEW
    for policy in (few, many):
        assert judge_http(policy, OPS, API, "default", request("GET /elsewhere")).effect is D
    for kind, facts in REQUESTS.items():
        for policy in (few, many):
            if is_new:
                continue
            assert judge_http(policy, OPS, API, "default", facts).effect is (A if effect == "allow" else D)
        assert judging(many, facts) <= judging(few, facts) * 1.5, kind


def test_what_was_asked_before_is_a_look_up() -> None:
    policy = document("allow paths: ['/**']", "deny paths: [/admin]")
    facts = request("GET /v1/things", headers={"accept": "*/*", "user-agent": "x"})
    judge_http(policy, OPS, API, "default", facts)
    assert judging(policy, facts) < 20


def fresh(facts: HttpFacts) -> Iterator[HttpFacts]:
    while True:
        yield msgspec.structs.replace(facts, path=f"{facts.path}/{next(NUMBERS)}")


def test_what_is_remembered_is_bounded() -> None:
    policy = document("allow paths: ['/**']")
    remembered = view_of(policy, OPS, API).http_rules._remembered
    for _, facts in zip(range(MAX_REMEMBERED + 10), fresh(request("GET /a")), strict=False):
        assert judge_http(policy, OPS, API, "default", facts).effect is A
        assert len(remembered) <= MAX_REMEMBERED
    size = len(remembered)
    long = request(f"GET /{'x' * LONGEST_REMEMBERED}")
    assert judge_http(policy, OPS, API, "default", long).effect is A
    named = request("POST /a", headers={"x-http-method-override": "x" * LONGEST_REMEMBERED})
    assert judge_http(policy, OPS, API, "default", named).effect is A
    assert len(remembered) == size
