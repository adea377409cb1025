"""Which operation of a model's API a method and a path are. Nothing here looks into a body.

A target with an `api` is asked nothing else: a path that is not known is the operation "other", which only a rule that
names it can allow. A path that is only nearly one of the known ones (another case, a slash too many, an odd prefix) is
read as that one and marked: rules that deny it touch, rules that allow it do not cover, because nobody knows how the
target reads it. Called by `policy.llm.reading`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

OPENAI: Final = "openai"
ANTHROPIC: Final = "anthropic"
APIS: Final = (OPENAI, ANTHROPIC)

CHAT: Final = "chat"
RESPONSES: Final = "responses"
COMPLETIONS: Final = "completions"
EMBEDDINGS: Final = "embeddings"
COUNT_TOKENS: Final = "count_tokens"
MODELS: Final = "models"
OTHER: Final = "other"
OPERATIONS: Final = (CHAT, RESPONSES, COMPLETIONS, EMBEDDINGS, COUNT_TOKENS, MODELS, OTHER)

WITHOUT_OUTPUT: Final = frozenset({EMBEDDINGS, COUNT_TOKENS, MODELS})
"""Operations that make a model write nothing."""

_READING_METHODS = frozenset({"GET", "HEAD"})
_BODILESS_METHODS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})

_POSTED = {
    OPENAI: {
        "chat/completions": CHAT,
        "responses": RESPONSES,
        "responses/input_tokens": COUNT_TOKENS,
        "completions": COMPLETIONS,
        "embeddings": EMBEDDINGS,
    },
    ANTHROPIC: {"messages": CHAT, "messages/count_tokens": COUNT_TOKENS, "complete": COMPLETIONS},
}
# Where the operations' names begin. Azure's own has the model (there: the deployment) in it.
_PREFIX = {
    OPENAI: re.compile(r"/(?:v1/|openai/v1/|openai/deployments/(?P<model>[^/]+)/|openai/)?"),
    ANTHROPIC: re.compile(r"/(?:v1/)"),
}
_MODEL = re.compile(r"models(?:/(?P<model>[^/]+(?:/[^/]+)?))?")


@dataclass(frozen=True, slots=True)
class Place:
    """model: the one that the path names, or "". is_certain: False when the path only looks like the operation's.
    has_body: what is asked stands in a body."""

    operation: str
    model: str = ""
    is_certain: bool = True
    has_body: bool = True


def place_of(api: str, method: str, path: str) -> Place:
    """`path` is absolute and in its normal form, without a query. `api` is one of APIS."""
    found = _exactly(api, method, path)
    if found is not None:
        return found
    near = _nearly(api, method, path)
    return near if near is not None else Place(OTHER, has_body=method not in _BODILESS_METHODS)


def _exactly(api: str, method: str, path: str) -> Place | None:
    prefix = _PREFIX[api].match(path)
    if prefix is None:
        return None
    rest = path[prefix.end() :]
    model = unquote(prefix.groupdict().get("model") or "")
    if method == "POST" and rest in _POSTED[api]:
        return Place(_POSTED[api][rest], model)
    named = _MODEL.fullmatch(rest)
    if method in _READING_METHODS and named is not None and not model:
        return Place(MODELS, unquote(named["model"] or ""), has_body=False)
    return None


def _nearly(api: str, method: str, path: str) -> Place | None:
    """What a forgiving server could take the path for. Other methods on these paths read or end what is stored."""
    if method != "POST":
        return None
    words = [word for word in re.split(r"[/\\]+", unquote(path).casefold()) if word.strip()]
    joined = "/".join(word.partition(";")[0].strip() for word in words)
    for name in sorted(_POSTED[api], key=len, reverse=True):
        if joined == name or joined.endswith("/" + name):
            return Place(_POSTED[api][name], is_certain=False)
    return None
