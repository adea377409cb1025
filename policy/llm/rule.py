"""The `llm` section of one rule, compiled: does it touch this call of a model, does it cover it?

The two questions are those of `policy.rules`: touching (deny, hold) counts what may be meant, covering (allow, hold)
counts only what is certain. What follows from the rules together is `policy.http.evaluate`.

- `operations`: a rule without it is about every operation but "other", which has to be named to be allowed.
- `models`: to touch, case and blanks around the name do not count. The list of models names none: a rule with `models`
  covers it when it also lists the operation `models`, and never touches it.
- `tools`: touches when one of the tools offered is meant, covers when all are (so also when none is offered).
- `prompts`: see `policy.llm.prompts`; what cannot be seen of them may be anything.
- `max_tokens`, `cost_usd`: what is not known is touched and not covered.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Self

from policy.facts import LlmFacts
from policy.llm.content import Content, content_of
from policy.llm.operations import MODELS, OTHER
from policy.llm.prompts import FEW, PromptPattern, PromptSet, is_any_in
from policy.llm.reading import is_unresolved
from policy.llm.section import CostLimit, LlmMatcher, TokenLimit
from policy.patterns import Glob


@dataclass(frozen=True, slots=True)
class Range:
    """From `least` to `most`, both included; None is no bound."""

    least: float | None = None
    most: float | None = None

    def has(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass(frozen=True, slots=True, eq=False)
class LlmRule:
    """None where the section has no such key. prompt_set: `prompts`, looked for together, where there are many."""

    operations: frozenset[str] | None = None
    models: tuple[Glob, ...] | None = None
    tools: tuple[Glob, ...] | None = None
    prompts: tuple[PromptPattern, ...] | None = None
    max_tokens: Range | None = None
    cost_usd: Range | None = None
    prompt_set: PromptSet | None = None

    @classmethod
    def of(cls, section: LlmMatcher) -> Self:
        prompts = None if section.prompts is None else tuple(map(PromptPattern, section.prompts))
        return cls(
            frozenset(section.operations) if section.operations is not None else None,
            tuple(map(Glob, section.models)) if section.models is not None else None,
            tuple(map(Glob, section.tools)) if section.tools is not None else None,
            prompts,
            _range(section.max_tokens),
            _range(section.cost_usd),
            PromptSet(prompts) if prompts is not None and len(prompts) > FEW else None,
        )

    @property
    def outline(self) -> Hashable:
        """Equal for rules that need the body for the same calls."""
        parts = (self.models, self.tools, self.prompts, self.max_tokens, self.cost_usd)
        return self.operations, all(part is None for part in parts)

    def needs_body(self, llm: LlmFacts) -> bool:
        """Must the body be read to know whether the rule means the call? `llm`: its facts without a body."""
        if llm.operation == MODELS:
            return False
        if llm.operation != OTHER:
            return True
        return self.may_be_operation(llm) and any(
            part is not None
            for part in (self.models, self.tools, self.prompts, self.max_tokens, self.cost_usd)
        )

    # --- touching: deny and hold ---

    def may_be_operation(self, llm: LlmFacts) -> bool:
        return self.operations is None or llm.operation in self.operations or is_unresolved(llm, "operation")

    def touches(self, llm: LlmFacts, body: object) -> bool:
        """`body`: the parsed JSON, or `content_of` it where several rules are asked; None when it could not be read."""
        return (
            self.may_be_operation(llm)
            and self._may_be_model(llm)
            and self._may_be_tools(llm)
            and self._may_be_length(llm)
            and self._may_be_cost(llm)
            and self._may_be_prompt(llm, body)
        )

    def unknown_of(self, llm: LlmFacts) -> tuple[str, ...]:
        """Which limits of the rule touch the call only because it leaves them open, in words."""
        return (
            *(("how long its answer may be",) if self.max_tokens and llm.max_tokens is None else ()),
            *(("what it may cost",) if self.cost_usd and llm.estimated_cost_usd is None else ()),
        )

    def _may_be_model(self, llm: LlmFacts) -> bool:
        if self.models is None:
            return True
        if is_unresolved(llm, "model"):
            return True
        if not llm.model:
            return False  # no model is run, or named
        name = _plain(llm.model)
        return any(glob.matches(llm.model) or _plain_glob(glob).matches(name) for glob in self.models)

    def _may_be_tools(self, llm: LlmFacts) -> bool:
        if self.tools is None or is_unresolved(llm, "tools"):
            return True
        return any(glob.matches(tool) for glob in self.tools for tool in llm.tools)

    def _may_be_length(self, llm: LlmFacts) -> bool:
        return self.max_tokens is None or llm.max_tokens is None or self.max_tokens.has(llm.max_tokens)

    def _may_be_cost(self, llm: LlmFacts) -> bool:
        cost = llm.estimated_cost_usd
        return self.cost_usd is None or cost is None or self.cost_usd.has(cost)

    def _may_be_prompt(self, llm: LlmFacts, body: object) -> bool:
        if self.prompts is None:
            return True
        if is_unresolved(llm, "prompts"):
            return True
        return llm.operation != MODELS and self._is_prompt(_content(body))

    def _is_prompt(self, content: Content) -> bool:
        return (
            is_any_in(self.prompts or (), content)
            if self.prompt_set is None
            else self.prompt_set.is_any_in(content)
        )

    # --- covering: allow and hold ---

    def covers(self, llm: LlmFacts, body: object) -> bool:
        """Is everything about the call inside what the rule lists? `body` as for `touches`."""
        if is_unresolved(llm, "operation") or not self.is_operation(llm):
            return False
        if self.models is not None and not self.is_model(llm):
            return False
        if self.tools is not None and (
            is_unresolved(llm, "tools")
            or not all(any(glob.matches(tool) for glob in self.tools) for tool in llm.tools)
        ):
            return False
        if self.max_tokens is not None and (
            llm.max_tokens is None or not self.max_tokens.has(llm.max_tokens)
        ):
            return False
        cost = llm.estimated_cost_usd
        if self.cost_usd is not None and (cost is None or not self.cost_usd.has(cost)):
            return False
        return self.prompts is None or self._is_prompt(_content(body))

    def is_operation(self, llm: LlmFacts) -> bool:
        """Is the call, for certain, of an operation that the rule is about?"""
        if llm.operation == OTHER:
            if self.operations is None or OTHER not in self.operations:
                return False
            return not self.needs_body(llm) or not is_unresolved(llm, "body")
        if is_unresolved(llm):  # the body of an operation whose whole meaning stands there
            return False
        return self.operations is None or llm.operation in self.operations

    def is_model(self, llm: LlmFacts) -> bool:
        """Is its model, for certain, one of those listed? Only for a rule with `models`."""
        if llm.operation == MODELS and not llm.model:
            return self.operations is not None and MODELS in self.operations
        if is_unresolved(llm, "model"):
            return False
        return any(glob.matches(llm.model) for glob in self.models or ())


def _content(body: object) -> Content:
    """Rules of one policy are asked one after the other about the same body: it is taken apart once."""
    if isinstance(body, Content):
        return body
    if _last[0] is not body or body is None:
        _last[:] = body, content_of(body)
    content = _last[1]
    return content if isinstance(content, Content) else content_of(body)


_last: list[object] = [None, None]


def model_globs(globs: Iterable[Glob]) -> tuple[Glob, ...]:
    """Of these, one matches one of `model_names` if a rule with `globs` may mean the model."""
    return tuple(meant for glob in globs for meant in (glob, _plain_glob(glob)))


def model_names(name: str) -> tuple[str, ...]:
    return name, _plain(name)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _plain_glob(glob: Glob) -> Glob:
    return Glob(glob.text.casefold())


def _range(limit: TokenLimit | CostLimit | None) -> Range | None:
    return Range(limit.min, limit.max) if limit is not None else None
