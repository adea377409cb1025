"""Rules that differ in one thing alone: the work to judge by five hundred is that of ten, counted in calls.

The shapes are those of `bench.rule_shapes`, which measures them up to 10,000 rules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from bench.many_rules import judge
from bench.rule_shapes import NONE, ONE, SHAPES, Shape, policy_of
from policy.decision import Effect
from policy.document import PolicyDocument

FEW, MANY = 10, 500
# docs/policy.md says of these that they are looked at one by one.
ONE_BY_ONE = {"http pieces of paths", "http sizes", "http when without a constant"}
# One that no rule allows is told of twenty that nearly do, or deny; so there are more reasons than of ten rules.
WITH_MANY_REASONS = {name for name in SHAPES if "when" in name}


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


def judging(policy: PolicyDocument, shape: Shape, number: int) -> int:
    """Calls of one judgement of something new, when the indexes are there."""
    subject = shape.subject(number)
    judge(policy, subject, shape.target, shape.facts(number, 1))
    facts = shape.facts(number, 2)
    return calls_of(lambda: judge(policy, subject, shape.target, facts))


@pytest.mark.parametrize("name", sorted(SHAPES.keys() - ONE_BY_ONE))
def test_many_rules_of_one_shape_cost_what_ten_cost(name: str) -> None:
    shape = SHAPES[name]
    few, many = policy_of(shape, FEW), policy_of(shape, MANY)
    for policy in (few, many):
        effect = judge(policy, shape.subject(ONE), shape.target, shape.facts(ONE, 0)).effect
        assert effect is (Effect.DENY if "missing" in name or "names in bodies" in name else Effect.ALLOW)
    if "missing" not in name:
        assert judging(many, shape, ONE) <= judging(few, shape, ONE) * 1.5 + 30
    if name not in WITH_MANY_REASONS:
        assert judging(many, shape, NONE) <= judging(few, shape, NONE) * 1.5 + 30
