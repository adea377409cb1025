"""Things by name pattern, found without looking at every pattern. For masks by column: rules have their own indexes."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Generic, TypeVar

from policy.narrowing import Narrowing
from policy.patterns import NamePattern

PayloadT = TypeVar("PayloadT")


class PatternIndex(Generic[PayloadT]):
    """Payloads by name pattern. What was found for a name is remembered, up to MAX_REMEMBERED names."""

    MAX_REMEMBERED = 8192

    def __init__(self, entries: Iterable[tuple[NamePattern, PayloadT]]) -> None:
        self._entries = Narrowing(
            (_needs(pattern), (order, pattern, payload)) for order, (pattern, payload) in enumerate(entries)
        )
        self._remembered: dict[tuple[str, ...], tuple[PayloadT, ...]] = {}

    def find(self, *names: str) -> tuple[PayloadT, ...]:
        """The payloads whose pattern matches `names`, in the order they were given."""
        known = self._remembered.get(names)
        if known is not None:
            return known

        def shown(dimension: Hashable) -> Collection[Hashable] | None:
            if dimension == "parts":
                return (len(names),)
            return (names[dimension],) if isinstance(dimension, int) and dimension < len(names) else ()

        found = {
            order: payload for order, pattern, payload in self._entries.find(shown) if pattern.matches(*names)
        }
        result = tuple(found[order] for order in sorted(found))
        if len(self._remembered) >= self.MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[names] = result
        return result


def _needs(pattern: NamePattern) -> dict[Hashable, tuple[Hashable, ...]]:
    by_part: dict[Hashable, tuple[Hashable, ...]] = {
        index: (part,) for index, part in enumerate(pattern.parts) if not part.is_any
    }
    return {**by_part, "parts": (len(pattern.parts),)}
