"""Views made ready before a document is in force: those that the old one was asked by, each as it is made otherwise."""

from __future__ import annotations

import pytest

from bench.many_rules import judge
from bench.rule_shapes import ONE, SHAPES, policy_of
from policy.view import View, prepare, view_of


@pytest.mark.parametrize(
    "name", ["http query values", "llm prompts", "ssh arguments", "sql columns", "ssh listeners"]
)
def test_views_that_were_asked_are_ready(name: str) -> None:
    shape = SHAPES[name]
    subject, facts = shape.subject(ONE), shape.facts(ONE, 1)
    old, new, other = policy_of(shape, 40), policy_of(shape, 50), policy_of(shape, 50)
    judge(old, subject, shape.target, facts)
    prepare(new, old)
    (view,) = [view for view in new.views.values() if isinstance(view, View)]
    assert view_of(new, subject, shape.target) is view
    assert judge(new, subject, shape.target, facts) == judge(other, subject, shape.target, facts)


def test_roles_that_are_gone_are_left_out() -> None:
    shape = SHAPES["http paths"]
    old, new = policy_of(shape, 10), policy_of(shape, 10)
    judge(old, shape.subject(ONE), shape.target, shape.facts(ONE, 1))
    del new.roles["ops"]  # type: ignore[attr-defined]
    prepare(new, old)
    (view,) = [view for view in new.views.values() if isinstance(view, View)]
    assert view.roles == frozenset()
