"""What a request shows in the dimensions of `policy.http_rules.needs`, None where it could be anything.

Touching and covering look at it in different ways, as the rules do: for touching everything that some server would
read, folded; for covering one of the values, for all of them have to be listed. Called by `policy.http_rules.index`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from itertools import chain

from policy.facts import BodyState
from policy.http_rules.bodies import TooMuch
from policy.http_rules.fields import without_port
from policy.http_rules.folding import fold
from policy.http_rules.needs import (
    BODY,
    BODY_NAMES,
    END,
    HEADER,
    HEADER_NAMES,
    HOST,
    LLM,
    METHOD,
    MODEL,
    OPERATION,
    PROMPT,
    QUERY,
    QUERY_NAMES,
    SEGMENT,
    TOOL,
    TYPE,
    UPGRADE,
)
from policy.http_rules.paths import PathReadings
from policy.http_rules.rule import Asked, types_of
from policy.http_rules.values import numbers_in, plain_number, texts_of
from policy.json_paths import JsonPath
from policy.llm.content import Content
from policy.llm.operations import MODELS
from policy.llm.reading import is_unresolved
from policy.llm.rule import model_names

Texts = Collection[Hashable] | None
Prompts = Callable[
    [Content], Collection[str]
]  # the patterns of an index that are found in what the model reads


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Method, host (in normal form) and path of a request, as an index looks at them. methods: all that it may mean."""

    methods: Sequence[str]
    host: str
    path: PathReadings


_NOTHING = object()


class Shown:
    """What is told of one reading of the path; None for one that could be any. Of a head alone all else is open."""

    __slots__ = ("_asked", "_head", "_known", "_prompts", "_reading")

    def __init__(
        self, head: Head, reading: Sequence[str] | None, asked: Asked | None, prompts: Prompts
    ) -> None:
        self._head = head
        self._reading = reading
        self._asked = asked
        self._prompts = prompts
        self._known: dict[Hashable, Texts] = {}

    def __call__(self, dimension: Hashable) -> Texts:
        if not isinstance(dimension, tuple):
            return None
        kind = dimension[0]
        if kind in (SEGMENT, END):
            return self._segment(dimension[1] if kind == SEGMENT else -1 - dimension[1])
        if kind == HOST:
            return (without_port(self._head.host),)
        if kind == METHOD:
            return self._methods()
        if self._asked is None:
            return None
        if dimension not in self._known:
            self._known[dimension] = self._rest(dimension, self._asked)
        return self._known[dimension]

    def _segment(self, index: int) -> Texts:
        reading = self._reading
        if reading is None:
            return None
        return (reading[index],) if -len(reading) <= index < len(reading) else ()

    def _methods(self) -> Texts:
        raise NotImplementedError

    def _rest(self, dimension: tuple[Hashable, ...], asked: Asked) -> Texts:
        raise NotImplementedError

    def _found_prompts(self, asked: Asked) -> Texts:
        content = asked.content
        return None if content is None else self._prompts(content)


class ShownToTouch(Shown):
    __slots__ = ()

    def _methods(self) -> Texts:
        return [method.upper() for method in self._head.methods]

    def _rest(self, dimension: tuple[Hashable, ...], asked: Asked) -> Texts:
        facts = asked.facts
        kind, name = dimension[0], dimension[-1]
        if kind in (QUERY, QUERY_NAMES, HEADER, HEADER_NAMES):
            fields = asked.query if kind in (QUERY, QUERY_NAMES) else asked.headers
            if fields.is_too_many:
                return None
            return fields.by_folded_name if kind in (QUERY_NAMES, HEADER_NAMES) else fields.folded(str(name))
        if kind == TYPE:
            types = types_of(facts)
            return list(map(fold, types)) if types else () if facts.body_state is BodyState.NONE else None
        if kind == UPGRADE:
            return (facts.upgrade,)
        if kind == BODY:
            return _touched_values(asked, name)
        if kind == BODY_NAMES:
            return _names(asked, is_folded=True)
        return self._call(kind, asked)

    def _call(self, kind: Hashable, asked: Asked) -> Texts:
        llm = asked.facts.llm
        if kind == LLM:
            return (llm is not None,)
        if llm is None:
            return ()
        if kind == OPERATION:
            return None if is_unresolved(llm, "operation") else (llm.operation,)
        if kind == MODEL:
            return None if is_unresolved(llm, "model") else model_names(llm.model) if llm.model else ()
        if kind == TOOL:
            return None if is_unresolved(llm, "tools") else llm.tools
        if kind == PROMPT:
            if is_unresolved(llm, "prompts"):
                return None
            return () if llm.operation == MODELS else self._found_prompts(asked)
        return None


class ShownToCover(Shown):
    __slots__ = ()

    def _methods(self) -> Texts:
        return self._head.methods[:1]

    def _rest(self, dimension: tuple[Hashable, ...], asked: Asked) -> Texts:
        facts = asked.facts
        kind, name = dimension[0], dimension[-1]
        if kind in (QUERY, QUERY_NAMES, HEADER, HEADER_NAMES):
            fields = asked.query if kind in (QUERY, QUERY_NAMES) else asked.headers
            if fields.is_too_many:
                return ()
            return fields.by_name if kind in (QUERY_NAMES, HEADER_NAMES) else fields.first(str(name))
        if kind == TYPE:
            return list(types_of(facts))[:1]
        if kind == UPGRADE:
            return (facts.upgrade,)
        if kind == LLM:
            return (facts.llm is not None,)
        if not asked.is_seen:
            return None  # it is told which rules would have to see more
        if kind == BODY_NAMES:
            return _names(asked, is_folded=False)
        return _covered_values(asked, name) if kind == BODY else self._call(kind, asked)

    def _call(self, kind: Hashable, asked: Asked) -> Texts:
        llm = asked.facts.llm
        if llm is None or is_unresolved(llm):
            return None
        if kind == MODEL:
            return None if not llm.model else (llm.model,)
        if kind == TOOL:
            return llm.tools[:1] or None
        if kind == OPERATION:
            return (llm.operation,)
        return self._found_prompts(asked) if kind == PROMPT else None


def _names(asked: Asked, *, is_folded: bool) -> Texts:
    """Every name in the body, at any depth."""
    if not asked.is_seen:
        return None
    try:
        names = asked.body.names()
    except TooMuch:
        return None
    return frozenset(map(fold, names)) if is_folded else names


def _touched_values(asked: Asked, path: Hashable) -> Texts:
    """Every text and number that somebody could read where the path leads."""
    if not asked.is_seen or not isinstance(path, JsonPath):
        return None
    try:
        scalars = list(asked.body.scalars(path, of_numbers=True))
    except TooMuch:
        return None
    return frozenset(chain.from_iterable(chain(texts_of(value), numbers_in(value)) for value in scalars))


def _covered_values(asked: Asked, path: Hashable) -> Texts:
    """The first value where the path leads: all of them have to be listed."""
    if not isinstance(path, JsonPath):
        return None
    body = asked.body
    try:
        if not body.certain(path):
            return ()
        found = next(iter(body.scalars(path) if body.is_form else body.possible(path)), _NOTHING)
    except TooMuch:
        return None
    if found is _NOTHING:
        return None
    number = plain_number(found, is_form=body.is_form)
    return [*([found] if isinstance(found, str) else []), *([] if number is None else [number])]
