"""What a condition can read, by the kind of operation that its rule is about.

The reference for people is docs/policy.md. Who works out the values is `policy.conditions.known` (SQL),
`policy.ssh.variables` and `policy.http_rules.variables`. Called by `policy.conditions.checking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["postgres", "ssh", "http"]

# The kinds of values, in the words of faults.
TEXT, NUMBER, BOOL, LIST, MAP, NULL, TYPE, ANY = (
    "a text",
    "a number",
    "true or false",
    "a list",
    "a map",
    "null",
    "a type",
    "anything",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a name stands for. fields: those it has, all of them known; each: what every field is, whatever its name."""

    kind: str
    fields: Mapping[str, Shape] = field(default_factory=dict)
    each: Shape | None = None


_TEXT, _NUMBER, _BOOL, _LIST = Shape(TEXT), Shape(NUMBER), Shape(BOOL), Shape(LIST)
_TEXT_OR_LIST = Shape(ANY)
_NAMED_LISTS = Shape(MAP, each=_LIST)


def _document(depth: int) -> Shape:
    return Shape(ANY, each=_document(depth - 1)) if depth else Shape(ANY)


_COMMON: Final[Mapping[str, Shape]] = {
    "subject": Shape(
        MAP, {"name": _TEXT, "groups": _LIST, "claims": Shape(MAP, each=_TEXT_OR_LIST), "method": _TEXT}
    ),
    "target": Shape(MAP, {"name": _TEXT, "protocol": _TEXT, "labels": Shape(MAP, each=_TEXT)}),
    "login": _TEXT,
}
_SQL = Shape(
    MAP,
    {
        "command": _TEXT,
        "commands": _LIST,
        "relations": _LIST,
        "columns": _LIST,
        "functions": _LIST,
        "settings": _LIST,
        "unbounded": _BOOL,
    },
)
_SSH = Shape(
    MAP,
    {
        "operation": _TEXT,
        "command": _TEXT,
        "commands": _LIST,
        "verb": _TEXT,
        "path": _TEXT,
        "other_path": _TEXT,
        "host": _TEXT,
        "port": _NUMBER,
        "has_pty": _BOOL,
    },
)
_HTTP = Shape(
    MAP,
    {
        "method": _TEXT,
        "scheme": _TEXT,
        "host": _TEXT,
        "path": _TEXT,
        "query": _NAMED_LISTS,
        "headers": _NAMED_LISTS,
        "content_type": _TEXT,
        "body_bytes": _NUMBER,
        "body": _document(24),
        "upgrade": _TEXT,
    },
)
_LLM = Shape(
    MAP,
    {
        "api": _TEXT,
        "operation": _TEXT,
        "model": _TEXT,
        "max_tokens": _NUMBER,
        "input_tokens": _NUMBER,
        "estimated_cost_usd": _NUMBER,
        "tools": _LIST,
        "is_stream": _BOOL,
    },
)

VARIABLES: Final[Mapping[Kind, Mapping[str, Shape]]] = {
    "postgres": {**_COMMON, "sql": _SQL},
    "ssh": {**_COMMON, "ssh": _SSH},
    "http": {**_COMMON, "http": _HTTP, "llm": _LLM},
}
