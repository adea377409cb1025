"""What the JSON rewriter is told of the nodes of a document: what becomes of each, and where its members lead.

Whoever wants a document rewritten subclasses `JsonNode`. Nodes are shared between documents, so they keep nothing of
any; what is counted goes into the Counter that they are handed. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from protocols.http.json_cursor import StringRewriter

# The text of a value, and the name of the member that it is the value of ("" for none); what it becomes, as JSON, or
# None when it stays as it is.
Rewriting: TypeAlias = Callable[[str, Counter[str], str], bytes | None]


@dataclass(frozen=True, slots=True, eq=False)
class Rewrite:
    """What becomes of the values of one node. Whatever is None stays as it is.

    string, number: are given the value's text (escapes resolved) and count for themselves. constant_string: what
    every string becomes, seen or not, so that none has to be held. boolean, null, object, array: what every one
    becomes. With no `object` or `array` those are entered. name: counted for each constant that is put in.
    only_unclean: what the rewriter's `clean` makes of a run is what these make of its values. long_string: makes what
    rewrites a string that is too long to be held; None: it is refused.
    """

    name: str = ""
    string: Rewriting | None = None
    constant_string: bytes | None = None
    number: Rewriting | None = None
    boolean: bytes | None = None
    null: bytes | None = None
    object: bytes | None = None
    array: bytes | None = None
    only_unclean: bool = False
    long_string: Callable[[Counter[str]], StringRewriter] | None = None


class JsonNode:
    """One place in a document.

    rewrite: what becomes of the value here. document: asked in place of a `rewrite.string` that is `only_unclean`; with
    no rewrite, asked for strings that begin like an object or an array (they may hold a document). is_settled: every
    node below is like this one. names: members that lead elsewhere than `other` does, folded (upper and lower case
    are one).
    """

    __slots__ = ("document", "is_settled", "rewrite", "runs")

    def __init__(
        self,
        rewrite: Rewrite | None = None,
        *,
        document: Rewriting | None = None,
        is_settled: bool = True,
    ) -> None:
        self.rewrite = rewrite
        self.document = document
        self.is_settled = is_settled
        self.runs: object = None  # kept here by the rewriter

    def member(self, name: str) -> JsonNode:
        return self

    def element(self, index: int) -> JsonNode:
        return self

    @property
    def names(self) -> frozenset[str]:
        return frozenset()

    @property
    def other(self) -> JsonNode:
        """Where every member leads that is not one of `names`."""
        return self

    @property
    def any_element(self) -> JsonNode | None:
        """Where every element leads; None when that depends on its index."""
        return self


SETTLED = JsonNode()  # nothing becomes of anything here
