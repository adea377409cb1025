"""Budgets as the document says them, and what a call may come to."""

from __future__ import annotations

import pytest

from policy.facts import LlmFacts, Target
from policy.llm.budget import (
    Amounts,
    Budget,
    BudgetSection,
    DaySection,
    Limits,
    limits_of,
    unknown_of,
    worst_case,
)
from policy.llm.reading import PROMPT_IN_TOKENS
from policy.located_yaml import DocumentError, parse, validate
from policy.rules import Selector

MODEL = Target("gpt", "http", {"env": "prod"})


def section(text: str) -> BudgetSection:
    return validate(BudgetSection, parse(text, "budget"))


def test_a_budget() -> None:
    found = section("{name: agents, roles: [agent], per: subject, day: {cost_usd: 20, requests: 1000}}")
    assert (found.name, found.roles, found.per) == ("agents", ("agent",), "subject")
    assert limits_of(found.day) == Limits(cost_usd=20.0, requests=1000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{name: a, day: {}}", "limits nothing"),
        ("{name: a}", "day"),
        ("{day: {requests: 1}}", "name"),
        ("{name: a, per: role, day: {requests: 1}}", "per"),
        ("{name: a, roles: [], day: {requests: 1}}", "roles"),
        ("{name: a, day: {requests: 0}}", "requests"),
        ("{name: a, day: {requests: 1.5}}", "requests"),
        ("{name: a, day: {cost_usd: 0}}", "cost_usd"),
        ("{name: a, day: {cost_usd: -1.0}}", "cost_usd"),
        ("{name: a, day: {tokens: 5}}", "tokens"),
        ("{name: a, week: {requests: 5}}", "week"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        section(text)
    assert any(words in str(fault) for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("roles", "targets", "expected"),
    [
        (None, None, True),
        (frozenset({"agent", "dba"}), None, True),
        (frozenset({"dba"}), None, False),
        (None, Selector(labels=(("env", frozenset({"prod"})),)), True),
        (None, Selector(labels=(("env", frozenset({"test"})),)), False),
        (frozenset({"dba"}), Selector(protocol="http"), False),
    ],
)
def test_whose_it_is(roles: frozenset[str] | None, targets: Selector | None, expected: bool) -> None:
    budget = Budget("agents", roles, targets, Limits(requests=1))
    assert budget.applies(frozenset({"agent"}), MODEL) is expected


def test_what_a_call_may_come_to() -> None:
    known = LlmFacts("openai", "chat", "gpt", max_tokens=100, input_tokens=50, estimated_cost_usd=0.5)
    assert worst_case(known) == Amounts(0.5, 50, 100, 1)
    for unseen in ("prompts: a conversation that the provider keeps", "body: it is not a JSON object"):
        call = LlmFacts("openai", "chat", "gpt", input_tokens=5, unresolved=(unseen,))
        assert worst_case(call).input_tokens is None
    counted = LlmFacts("openai", "completions", "gpt", input_tokens=5, unresolved=(PROMPT_IN_TOKENS,))
    assert worst_case(counted).input_tokens == 5
    assert worst_case(LlmFacts("openai", "chat", "gpt", input_tokens=50)) == Amounts(None, 50, None, 1)
    counting = LlmFacts("openai", "count_tokens", "gpt", input_tokens=50, estimated_cost_usd=0.0)
    assert worst_case(counting) == Amounts(requests=1)


@pytest.mark.parametrize(
    ("limits", "unknown"),
    [
        (Limits(requests=5), ()),
        (Limits(input_tokens=5), ()),
        (Limits(output_tokens=5), ("output_tokens",)),
        (Limits(cost_usd=5.0), ("cost_usd",)),
        (Limits(cost_usd=5.0, output_tokens=5, requests=5), ("cost_usd", "output_tokens")),
    ],
)
def test_only_what_is_limited_has_to_be_known(limits: Limits, unknown: tuple[str, ...]) -> None:
    assert unknown_of(limits, Amounts(None, 10, None, 1)) == unknown
    assert unknown_of(limits, Amounts(0.1, 10, 10, 1)) == ()


def test_a_day_names_what_it_limits() -> None:
    assert limits_of(DaySection(input_tokens=7)) == Limits(input_tokens=7)
