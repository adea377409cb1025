"""`budgets`: what subjects may spend on models in a day (UTC), as the document says it and compiled.

Owns which budgets a call counts against, and what of it. What has been spent already is in the daemon's store
(`proxyd.store.budgets`). The section has no `targets` and `roles` that need the rest of the document: `policy.sections`
adds `targets`, `policy.document` compiles. Called by them, and by the HTTP gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from policy.facts import LlmFacts, Target
from policy.llm.operations import COUNT_TOKENS
from policy.llm.reading import PROMPT_IN_TOKENS
from policy.located_yaml import Name, Section, refusal
from policy.rules import Selector

AMOUNTS: Final = ("cost_usd", "input_tokens", "output_tokens", "requests")
DAY_S: Final = 86400

Tokens = Annotated[int, Field(ge=1, le=2**50)]
Requests = Annotated[int, Field(ge=1, le=2**50)]
Dollars = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class DaySection(Section):
    """The most for a day. What is not given is not limited."""

    cost_usd: Dollars | None = Field(default=None, examples=["20.0"])
    input_tokens: Tokens | None = Field(default=None, examples=["2000000"])
    output_tokens: Tokens | None = Field(default=None, examples=["500000"])
    requests: Requests | None = Field(default=None, examples=["1000"])

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if all(value is None for value in dict(self).values()):
            raise refusal(
                "a budget that limits nothing",
                "give `cost_usd`, `requests`, `input_tokens` or `output_tokens`",
            )
        return self


class BudgetSection(Section):
    """One budget. `per: subject`: everybody has it for themselves. `roles`: of whom; absent, of everybody."""

    name: Name = Field(examples=["models-for-agents"])
    roles: Annotated[tuple[Name, ...], Field(min_length=1)] | None = Field(default=None, examples=["[agent]"])
    per: Literal["subject"] = "subject"
    day: DaySection = Field(examples=["{cost_usd: 20.0, requests: 1000}"])


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a call, or a day, comes to. None (of a call): not known."""

    cost_usd: float | None = 0.0
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """None is no limit."""

    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """One budget, compiled. It is for every call of a model on its targets."""

    name: str
    roles: frozenset[str] | None
    targets: Selector | None
    day: Limits

    def applies(self, roles: frozenset[str], target: Target) -> bool:
        return (self.roles is None or not self.roles.isdisjoint(roles)) and (
            self.targets is None or self.targets.matches(target)
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """What has been set aside for one call, on the day of its request, and in which budgets."""

    subject: str
    day: str
    budgets: tuple[str, ...]
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A call that does not fit: `spent` and `asked` together are more than `limit` of the budget's `what`."""

    budget: str
    what: str
    limit: float
    spent: float
    asked: float


def limits_of(section: DaySection) -> Limits:
    return Limits(section.cost_usd, section.input_tokens, section.output_tokens, section.requests)


def worst_case(llm: LlmFacts) -> Amounts:
    """What the call may come to. To count tokens is free; the list of models is not asked about."""
    if llm.operation == COUNT_TOKENS:
        return Amounts(requests=1)
    unseen = [
        reason
        for reason in llm.unresolved
        if reason.startswith(("prompts: ", "body: ")) and reason != PROMPT_IN_TOKENS  # which are counted
    ]
    return Amounts(llm.estimated_cost_usd, None if unseen else llm.input_tokens, llm.max_tokens, 1)


def unknown_of(limits: Limits, amounts: Amounts) -> tuple[str, ...]:
    """What the budget limits and the request does not tell: such a call cannot be let through."""
    return tuple(
        name
        for name in ("cost_usd", "input_tokens", "output_tokens")
        if getattr(limits, name) is not None and getattr(amounts, name) is None
    )


def day_of(now: float) -> str:
    """The day, in UTC, of a Unix time: "2026-11-21"."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def until_tomorrow_s(now: float) -> int:
    """Seconds, rounded up, until the next day begins."""
    return DAY_S - int(now % DAY_S)
