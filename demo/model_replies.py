"""What the stand-in for a language model says: always the same to the same words.

Owns the replies and how they are counted and cut; nothing of any wire shape. The first of these that fits:

    "use the tool" and a tool offered    a call of the first tool, with the whole question as its argument
    "customer"                           a customer's record, with a card number and an address in it
    anything else                        the question, said back

A token is a run of letters or digits, or one other character: not what any real model counts by, but something that can
be counted by hand. Used by `demo.model_openai` and `demo.model_anthropic`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CUSTOMER = (
    "Ada Marsh pays with card 4111 1111 1111 1111 and reads mail at ada.marsh@example.net. "
    "Her order left on Tuesday."
)
_TOKEN = re.compile(r"\w+|[^\w]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reply:
    """Either a text or a call of `tool` with `arguments` (JSON). is_cut: it met the limit of tokens."""

    text: str = ""
    tool: str = ""
    arguments: str = ""
    is_cut: bool = False

    @property
    def tokens(self) -> int:
        return count(self.text) + count(self.arguments)

    def pieces(self) -> Iterator[str]:
        """The text, or the arguments, as they come in a stream: three characters at a time, so that whatever is looked
        for is never whole in one piece."""
        whole = self.arguments or self.text
        for start in range(0, len(whole), 3):
            yield whole[start : start + 3]


def reply_to(question: str, tools: Sequence[str], most_tokens: int | None) -> Reply:
    if tools and "use the tool" in question.lower():
        return Reply(tool=tools[0], arguments=json.dumps({"question": question}))
    text = CUSTOMER if "customer" in question.lower() else f"You said: {question}"
    tokens = _TOKEN.findall(text)
    if most_tokens is not None and len(tokens) > most_tokens:
        return Reply("".join(tokens[:most_tokens]), is_cut=True)
    return Reply(text)


def count(text: str) -> int:
    return len(_TOKEN.findall(text))


def text_of(content: object) -> str:
    """The text of a message's content, in either shape."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(filter(None, (text_of(part) for part in content)))
    if isinstance(content, dict):
        for key in ("text", "content", "output"):
            if key in content:
                return text_of(content[key])
    return ""
