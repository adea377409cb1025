"""Facts as they are handed to the binding: what it can take, not more than a bound, and how much it weighs.

What cannot be handed over is as if it were not known: half characters, numbers beyond 64 bits, depth, size. Called by
`policy.conditions.condition`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from policy.conditions.cost import CHARACTERS_IN_A_STEP

MAX_WEIGHT = 4096
MAX_DEPTH = 32
LARGEST_INT = 2**63 - 1


class NotGiven(Exception):
    """The value is not there, or cannot be handed over. The text says why, without the value."""


def fact_at(variables: Mapping[str, object], path: tuple[str, ...]) -> object:
    """The value at the end of `path`, a row of dicts. Raises NotGiven."""
    value: object = variables
    for part in path:
        if not isinstance(value, dict) or part not in value:
            raise NotGiven("is not known")
        value = value[part]
    return value


def is_there(variables: Mapping[str, object], path: tuple[str, ...]) -> bool:
    """Does what the last field of `path` is asked of have that field? Raises NotGiven when there is no such thing."""
    inside = fact_at(variables, path[:-1])
    if not isinstance(inside, dict):
        raise NotGiven("is not known")
    return path[-1] in inside


def weight_of(value: object) -> tuple[float, int]:
    """How much `value` weighs, and how long the longest list or map in it is.

    Raises NotGiven for what cannot be handed over.
    """
    if isinstance(value, dict | list | tuple):
        return _weight_inside(value)
    return _weight(value), 0


def _weight(value: object) -> float:
    match value:
        case None | bool():
            return 1
        case str():
            if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
                raise NotGiven("holds half a character")
            return 1 + len(value) / CHARACTERS_IN_A_STEP
        case int():
            if abs(value) > LARGEST_INT:
                raise NotGiven("is a number beyond 64 bits")
            return 1
        case float():
            if not math.isfinite(value):
                raise NotGiven("is no finite number")
            return 1
    raise NotGiven("is of a kind that conditions cannot read")


def _weight_inside(value: object) -> tuple[float, int]:
    total: float = 0
    longest = 0
    pending = [(value, 1)]
    while pending:
        value, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise NotGiven("is nested too deep")
        parts: list[object]
        if isinstance(value, dict):
            parts = [*value.keys(), *value.values()]
            if not all(isinstance(key, str) for key in value):
                raise NotGiven("is of a kind that conditions cannot read")
        elif isinstance(value, list | tuple):
            parts = list(value)
        else:
            total += _weight(value)
            parts = []
        total += bool(parts) or isinstance(value, dict | list | tuple)
        if total + len(parts) + len(pending) > MAX_WEIGHT:
            raise NotGiven("is too large")
        longest = max(longest, len(parts))
        pending.extend((part, depth + 1) for part in parts)
    return total, longest
