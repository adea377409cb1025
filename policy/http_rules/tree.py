"""Things kept under the first parts of their patterns, and found without looking at every pattern.

A part is a literal, or None for any one part (`/repos/{owner}/{repo}/issues`). A pattern is kept as deep as its
parts are of these two kinds. Used by `policy.http_rules.index`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

PayloadT = TypeVar("PayloadT")


class _Node(Generic[PayloadT]):
    __slots__ = ("any", "children", "payloads")

    def __init__(self) -> None:
        self.children: dict[str, _Node[PayloadT]] = {}
        self.any: _Node[PayloadT] | None = None
        self.payloads: list[PayloadT] = []


class TemplateTree(Generic[PayloadT]):
    """Payloads by the parts that their patterns begin with."""

    __slots__ = ("_root",)

    def __init__(self, entries: Iterable[tuple[Iterable[str | None], PayloadT]]) -> None:
        self._root: _Node[PayloadT] = _Node()
        for parts, payload in entries:
            node = self._root
            for part in parts:
                if part is not None:
                    node = node.children.setdefault(part, _Node())
                else:
                    node.any = node.any or _Node()
                    node = node.any
            node.payloads.append(payload)

    def along(self, parts: Sequence[str]) -> Iterator[PayloadT]:
        """The payloads whose parts `parts` may begin with, each as often as it was put in."""
        level = [self._root]
        yield from self._root.payloads
        for part in parts:
            following: list[_Node[PayloadT]] = []
            for node in level:
                child = node.children.get(part)
                if child is not None:
                    following.append(child)
                if node.any is not None:
                    following.append(node.any)
            for node in following:
                yield from node.payloads
            if not following:
                return
            level = following
