"""What one request can make rules look at is bounded, and what goes beyond is refused: nobody holds up the others."""

from __future__ import annotations

import pytest

from policy.http_rules.bodies import MAX_STEPS
from policy.http_rules.fields import MAX_FIELDS
from policy.http_rules.paths import MAX_PATH_CHARACTERS, MAX_PATH_SEGMENTS, PathReadings
from tests.policy.http.requests import A, D, H, judged, request, verdict

ALL = 'allow methods: ["*"]'
LARGE = {
    "an array": [0] * (MAX_STEPS + 1),
    "objects": [{"a": 0}] * 2 + [{"a": {"b": number}} for number in range(MAX_STEPS // 2)],
    "an object": {f"k{number}": 0 for number in range(MAX_STEPS + 1)},
    "values of one name": {"a": [0] * (MAX_STEPS + 1)},
}


@pytest.mark.parametrize("kind", sorted(LARGE))
def test_bodies_with_more_values_than_are_looked_at(kind: str) -> None:
    facts = request("POST /a", json=LARGE[kind])
    rule = 'body: {"$..a": {min: 5}}'
    assert verdict(facts, ALL) is A
    assert verdict(facts, ALL, f"hold {rule}") is D
    (reason,) = judged(facts, 'allow body: {"$..a": [0]}').reasons
    assert "allow-0 looks into the body" in reason.message
    decision = judged(facts, ALL, f"deny {rule}")
    assert decision.effect is D
    (reason,) = decision.reasons
    assert reason.rule == "deny-1"
    assert "more values than the gateway looks at" in reason.message


def test_many_rules_about_one_path_look_once() -> None:
    facts = request("POST /a", json={"list": [{"a": 1}] * (MAX_STEPS // 10)})
    rules = [f'deny body: {{"$..a": [x{number}]}}' for number in range(50)]
    assert verdict(facts, ALL, *rules) is A


def test_many_rules_about_other_paths_look_as_often_as_they_may() -> None:
    names = [{f"a{number % 50}": 1} for number in range(MAX_STEPS // 10)]  # so that no rule can be left out
    facts = request("POST /a", json={"list": names})
    rules = [f'deny body: {{"$..a{number}": {{min: 5}}}}' for number in range(50)]
    assert verdict(facts, ALL, *rules) is D
    assert verdict(facts, ALL, *rules[:3]) is A


@pytest.mark.parametrize("key", ["query", "headers"])
def test_more_fields_than_are_looked_at(key: str) -> None:
    pairs = tuple((f"n{number}", "x") for number in range(MAX_FIELDS + 1))
    many = request("GET /?" + "&".join(f"{name}={value}" for name, value in pairs), headers=pairs)
    enough = request("GET /?" + "&".join(f"{name}={value}" for name, value in pairs[1:]), headers=pairs[1:])
    for said in ("[y]", "present", "absent"):
        rule = f"{key}: {{a: {said}}}"
        assert verdict(many, f"allow {rule}") is D
        assert verdict(many, ALL, f"deny {rule}") is D
        assert verdict(many, ALL, f"hold {rule}") is H
        assert verdict(enough, ALL, f"deny {rule}") is (D if said == "absent" else A)


@pytest.mark.parametrize("path", ["/a" * (MAX_PATH_SEGMENTS + 1), "/" + "a" * MAX_PATH_CHARACTERS])
def test_paths_that_are_too_long_could_be_any(path: str) -> None:
    facts = request(f"GET {path}")
    assert PathReadings([path]).exact is None
    assert verdict(facts, "allow paths: ['/a/**', '/{x}']") is D
    assert verdict(facts, "allow paths: ['/**']") is A
    assert verdict(facts, ALL, "deny paths: [/b]") is D


def test_a_path_has_few_readings() -> None:
    hostile = "/" + "%25252e;a%2f%5c" * 30
    readings = PathReadings([hostile, hostile + "/x"])
    assert readings.exact is None or len(readings.exact) < 40
