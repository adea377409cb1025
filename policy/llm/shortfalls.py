"""Why a rule that allows calls of models does not cover this one: each limit that it does not keep, with its value.

For reasons that clients read, so everything of theirs is shown by `shown`, and prompts never. Asked only about calls
that are refused. Called by `policy.http.near_misses`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from policy.facts import LlmFacts
from policy.llm.operations import MODELS
from policy.llm.reading import is_unresolved
from policy.llm.rule import LlmRule
from policy.shown_text import listed, shown

_SAY_TOKENS = "`max_tokens`, or what the API calls it"


class Shortfall(NamedTuple):
    """what: the limit and what the request has, as part of a sentence. advice: what to do, as an imperative; "" when
    that is plain."""

    what: str
    advice: str = ""


def is_elsewhere(rule: LlmRule, llm: LlmFacts) -> bool:
    """Is the rule about other operations altogether?"""
    if is_unresolved(llm, "operation") or is_unresolved(llm):
        return False
    is_list = llm.operation == MODELS and not llm.model
    return not rule.is_operation(llm) or (is_list and rule.models is not None and not rule.is_model(llm))


def llm_shortfalls(rule: LlmRule, llm: LlmFacts) -> Iterator[Shortfall]:
    """Of a rule that is not elsewhere."""
    if is_unresolved(llm, "operation"):
        yield Shortfall(
            "the path is not exactly that of the operation", "Ask for the path as the API documents it"
        )
        return
    if is_unresolved(llm):
        yield Shortfall(_why(llm, "body"), "Send the body as plain JSON, each name once and as documented")
        return
    yield from _model(rule, llm)
    yield from _tools(rule, llm)
    yield from _tokens(rule, llm)
    yield from _cost(rule, llm)


def _model(rule: LlmRule, llm: LlmFacts) -> Iterator[Shortfall]:
    if rule.models is None or rule.is_model(llm):
        return
    if is_unresolved(llm, "model"):
        yield Shortfall(_why(llm, "model"), "Name one model, and no other beside it")
        return
    names = listed(glob.text for glob in rule.models)
    yield Shortfall(f"the model `{shown(llm.model)}` is not among {names}", f"Use one of {names}")


def _tools(rule: LlmRule, llm: LlmFacts) -> Iterator[Shortfall]:
    if rule.tools is None:
        return
    names = listed(glob.text for glob in rule.tools)
    if is_unresolved(llm, "tools"):
        yield Shortfall(f"{_why(llm, 'tools')}, and it is for the tools {names}")
        return
    others = [name for name in llm.tools if not any(glob.matches(name) for glob in rule.tools)]
    if others:
        yield Shortfall(
            f"the tool{'s' * (len(others) > 1)} {listed(others)} {'are' if len(others) > 1 else 'is'} "
            f"not among {names}",
            f"Offer no tools but {names}",
        )


def _tokens(rule: LlmRule, llm: LlmFacts) -> Iterator[Shortfall]:
    limit = rule.max_tokens
    if limit is None or limit.most is None:
        return
    most = f"{limit.most:.0f}"
    if llm.max_tokens is None:
        why = _why(llm, "length") or "it is not said how long the answer may be"
        yield Shortfall(f"{why}, and it may have {most} tokens", f"Set {_SAY_TOKENS}, to {most} or less")
    elif not limit.has(llm.max_tokens):
        yield Shortfall(
            f"the answer may have {llm.max_tokens} tokens, and it allows {most}",
            f"Set {_SAY_TOKENS}, to {most} or less",
        )


def _cost(rule: LlmRule, llm: LlmFacts) -> Iterator[Shortfall]:
    limit, cost = rule.cost_usd, llm.estimated_cost_usd
    if limit is None or limit.most is None:
        return
    most = f"{dollars(limit.most)} USD"
    if cost is None:
        why, advice = _why_no_cost(llm)
        if llm.max_tokens is None and rule.max_tokens is not None:
            advice = ""  # which its own limit asks for already
        yield Shortfall(f"it is not known what it may cost ({why}), and it allows {most}", advice)
    elif not limit.has(cost):
        yield Shortfall(
            f"the call may cost {dollars(cost)} USD, and it allows {most}",
            "Ask for a shorter answer, with a shorter prompt, or of a cheaper model",
        )


def _why_no_cost(llm: LlmFacts) -> tuple[str, str]:
    why = _why(llm, "cost")
    if why:
        return why, ""
    if llm.max_tokens is None:
        return "it is not said how long the answer may be", f"Set {_SAY_TOKENS}"
    return f"the model `{shown(llm.model)}` has no price", "Use a model that has a price"


def _why(llm: LlmFacts, aspect: str) -> str:
    """What of `aspect` could not be seen, in words; "" for nothing."""
    reasons = [text.partition(": ")[2] for text in llm.unresolved if text.startswith(f"{aspect}: ")]
    return shown(reasons[0]) if reasons else ""


def dollars(amount: float) -> str:
    """An amount of USD with all digits that tell it from others: "0.5", "0.0113"."""
    text = f"{amount:.8f}".rstrip("0")
    return text.rstrip(".")
