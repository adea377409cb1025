"""How long a call may become: tokens in, estimated from its content, and the most that the model may write.

No tokenizer is asked: none fits every model, and a budget has to be kept before the answer is known. Input is counted
as a token for three bytes of UTF-8, a few for each message, part and tool, and a fixed number for each picture and for
tools as such. That is a third more than usual English text needs, about right for Chinese or code, and too little for
text made to be unusual (random letters may need a token for each byte). What an answer's own usage says corrects a
budget afterwards. Called by `policy.llm.reading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy.llm.content import Content
from policy.llm.operations import COMPLETIONS, RESPONSES, WITHOUT_OUTPUT

BYTES_PER_TOKEN = 3
TOKENS_PER_THING = 8
TOKENS_PER_IMAGE = 5_000
TOKENS_FOR_TOOLS = 500  # what providers tell the model about tools as such, once
MOST_TOKENS = 2**40
_MOST_TOGETHER = 2**53

_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample")


@dataclass(frozen=True, slots=True)
class Most:
    """The most that may be written, all answers together; None when that is left open. `fault`: why it is not known."""

    tokens: int | None
    fault: str = ""


def input_tokens(content: Content, *, has_tools: bool = False) -> int:
    return (
        (TOKENS_FOR_TOOLS if has_tools else 0)
        + -(-content.text_bytes // BYTES_PER_TOKEN)
        + content.things * TOKENS_PER_THING
        + content.images * TOKENS_PER_IMAGE
        + content.tokens
    )


def most_output(operation: str, body: Mapping[str, Any]) -> Most:
    if operation in WITHOUT_OUTPUT:
        return Most(0)
    given: list[int] = []
    for key in _LIMITS:
        value = body.get(key)
        if value is None:
            continue
        if not _is_count(value):
            return Most(None, f"{key} is not a number of tokens")
        given.append(value)
    answers = _answers(operation, body)
    if isinstance(answers, str):
        return Most(None, answers)
    if not given:
        return Most(None)
    most = max(given)
    # Thinking between calls of tools may have more than the answer; and not every server counts it into the answer.
    for key, name in (("thinking", "budget_tokens"), ("reasoning", "max_tokens")):
        thinking = body.get(key)
        if isinstance(thinking, Mapping) and thinking.get(name) is not None:
            if not _is_count(thinking[name]):
                return Most(None, f"{key}.{name} is not a number of tokens")
            most = max(most, thinking[name])
    if most * answers > _MOST_TOGETHER:
        return Most(None, "more answers than any number can tell")
    return Most(most * answers)


def _answers(operation: str, body: Mapping[str, Any]) -> int | str:
    """How many answers are asked for; a text says why that is not known."""
    counts = [1]
    for key in ("n", "best_of"):
        value = body.get(key)
        if value is None:
            continue
        if not _is_count(value) or value < 1:
            return f"{key} is not a number of answers"
        counts.append(value)
    prompts = body.get("prompt") if operation == COMPLETIONS else None
    several = isinstance(prompts, list) and any(not isinstance(item, int) for item in prompts)
    if operation == RESPONSES:
        return max(counts)
    return max(counts) * (len(prompts) if several and isinstance(prompts, list) else 1)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_TOKENS
