"""The `llm` section of a rule, key by key, and each pattern in it: what can match nothing is a fault.

`docs/policy.md` is the reference for people; keep the two together. Called by `policy.sections`, which also asks
`check_effect` once it knows the rule's effect.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from policy.llm.operations import OPERATIONS
from policy.llm.prompts import PromptPattern
from policy.located_yaml import Section, closest, refusal
from policy.section_types import Text, patterned


def _operation(text: str) -> str:
    if text == "messages":
        raise refusal("`messages` is called `chat` here", "write `chat`: it is the same for both APIs")
    if text not in OPERATIONS:
        raise refusal(
            f"`{text}` is not an operation of models",
            f"{closest(text.lower(), OPERATIONS)}operations are {', '.join(OPERATIONS)}",
        )
    return text


def _glob(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise refusal(f"`{text}` names nothing", "write a name, or a glob of one, as in `gpt-4o*`")
    return text


Operations = Annotated[tuple[Annotated[Text, AfterValidator(_operation)], ...], Field(min_length=1)]
Globs = Annotated[tuple[Annotated[Text, AfterValidator(_glob)], ...], Field(min_length=1)]
Patterns = Annotated[tuple[Annotated[Text, patterned(PromptPattern)], ...], Field(min_length=1)]
Tokens = Annotated[int, Field(ge=0, le=2**40)]
Dollars = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class TokenLimit(Section):
    max: Tokens | None = Field(default=None, examples=["4000"])
    min: Tokens | None = Field(default=None, examples=["4001"])

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.max is None) == (self.min is None):
            raise refusal(
                "not one limit", "give `max` (in a rule that allows) or `min` (to deny or hold from there on)"
            )
        return self


class CostLimit(Section):
    max: Dollars | None = Field(default=None, examples=["0.50"])
    min: Dollars | None = Field(default=None, examples=["0.50"])

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.max is None) == (self.min is None):
            raise refusal(
                "not one limit", "give `max` (in a rule that allows) or `min` (to deny or hold from there on)"
            )
        return self


class LlmMatcher(Section):
    """All keys that are given must hold."""

    operations: Operations | None = Field(default=None, examples=["[chat]"])
    models: Globs | None = Field(default=None, examples=['["gpt-4o*"]'])
    tools: Globs | None = Field(default=None, examples=['["search_*"]'])
    prompts: Patterns | None = Field(default=None, examples=['["(?i)password of"]'])
    max_tokens: TokenLimit | None = Field(default=None, examples=["{max: 4000}"])
    cost_usd: CostLimit | None = Field(default=None, examples=["{max: 0.50}"])

    @model_validator(mode="after")
    def _can_match(self) -> Self:
        if all(value is None for value in dict(self).values()):
            raise refusal(
                "says nothing about what it matches",
                'give `models` (["*"] is every model), `operations`, `max_tokens`, ...',
            )
        return self


def check_effect(section: LlmMatcher, effect: str) -> None:
    """Refuses (with its place below the rule) what means nothing with the rule's `effect`."""
    if effect == "allow" and section.prompts is not None:
        raise refusal(
            "a rule that allows by what a prompt says: everybody could write that",
            "make a rule with `effect: deny` or `hold` of it, and allow by `models`, `operations` and the like",
            at=("llm", "prompts"),
        )
    for key, limit in (("max_tokens", section.max_tokens), ("cost_usd", section.cost_usd)):
        if limit is None:
            continue
        if effect == "allow" and limit.min is not None:
            raise refusal(
                "a rule that allows only what is large",
                "write `max`: it is allowed up to there",
                at=("llm", key, "min"),
            )
        if effect != "allow" and limit.max is not None:
            raise refusal(
                f"a rule that says {effect} for what is small",
                f"write `min`: from there on the rule says {effect}",
                at=("llm", key, "max"),
            )
