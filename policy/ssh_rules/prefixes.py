"""Things kept under the fixed words that a pattern begins with, and found without looking at every pattern.

A pattern of words or of path parts is fixed up to its first wildcard. Whatever it matches begins with these
parts, so only the patterns met on the way along an operation's own parts can concern it. Used by
`policy.ssh_rules.index`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

PayloadT = TypeVar("PayloadT")


class _Node(Generic[PayloadT]):
    __slots__ = ("children", "payloads")

    def __init__(self) -> None:
        self.children: dict[str, _Node[PayloadT]] = {}
        self.payloads: list[PayloadT] = []


class PrefixIndex(Generic[PayloadT]):
    """Payloads by the fixed parts that their patterns begin with."""

    __slots__ = ("_root",)

    def __init__(self, entries: Iterable[tuple[Iterable[str], PayloadT]]) -> None:
        self._root: _Node[PayloadT] = _Node()
        for parts, payload in entries:
            node = self._root
            for part in parts:
                node = node.children.setdefault(part, _Node())
            node.payloads.append(payload)

    def along(self, parts: Iterable[str]) -> Iterator[PayloadT]:
        """The payloads whose fixed parts `parts` begins with."""
        node: _Node[PayloadT] | None = self._root
        yield from self._root.payloads
        for part in parts:
            node = node.children.get(part) if node is not None else None
            if node is None:
                return
            yield from node.payloads

    def around(self, parts: Iterable[str]) -> Iterator[PayloadT]:
        """Those of `along`, and the payloads whose fixed parts begin with `parts`: what follows may be
        anything."""
        node = self._root
        for part in parts:
            yield from node.payloads
            following = node.children.get(part)
            if following is None:
                return
            node = following
        pending = [node]
        while pending:
            node = pending.pop()
            yield from node.payloads
            pending.extend(node.children.values())
