"""Many things, of which an operation concerns few, found by what the operation shows, in several dimensions at once.

Each thing says what it needs: in a dimension ("the model", "the second segment of the path") one of some texts or
globs. What is looked for is described by a function that tells, for a dimension, all that the operation shows there,
or None where it could be anything. A thing is left out only when one of its needs is certainly not met; whoever asks
looks at the others again. So a dimension may be told too generously, never too narrowly.

It is a tree: each node divides what it holds by the dimension that divides it best, and keeps apart what needs nothing
there. Built once, never changed. Knows no rules. Called by the indexes of rules, masks and roles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from policy.patterns import Glob

FEW = 8  # so many are looked at one by one: dividing them costs more
MAX_KEYS = 32  # of one thing in one dimension; with more it is not kept by that dimension
MAX_DIMENSIONS = 64  # that are compared with each other for one node
MAX_ROW = 24  # nodes that divide, one after the other, what the one before kept apart

ThingT = TypeVar("ThingT")
Dimension = Hashable
Shown = Callable[[Dimension], "Collection[Hashable] | None"]


@dataclass(frozen=True, slots=True)
class Every:
    """A need of all of these at once: kept under the rarest of them."""

    keys: tuple[Hashable, ...]


Need = Sequence[Hashable] | Every  # one of these: each a Glob, or what must be equal
Needs = Mapping[Dimension, Need]
_Entry = tuple[Needs, ThingT]
_Key = tuple[str, Hashable]  # "=" and what must be equal, "^" and a beginning, "$" and an end
_HEAD, _TAIL = "^", "$"


class Narrowing(Generic[ThingT]):
    """Things by their needs. Of dimensions that divide about equally well, the first of a thing's needs is taken."""

    __slots__ = ("_root",)

    def __init__(self, entries: Iterable[tuple[Needs, ThingT]]) -> None:
        self._root = _node(list(entries), frozenset(), 0)

    def find(self, shown: Shown) -> Iterator[ThingT]:
        """The things whose needs may all be met, in no order; one may come several times."""
        return chain.from_iterable(self.rows(shown))

    def rows(self, shown: Shown) -> Iterator[Sequence[ThingT]]:
        """The same in rows, each in the order in which the things were given."""
        pending = [self._root]
        while pending:
            node = pending.pop()
            while isinstance(node, _Split):
                texts = shown(node.dimension)
                if texts is None:
                    pending.extend(node.children)
                else:
                    for text in texts:
                        node.meet(text, pending)
                node = node.rest
            yield node


@dataclass(frozen=True, slots=True, eq=False)
class _Split(Generic[ThingT]):
    """What is kept under each key of one dimension; heads and tails by their length. rest: what needs none of them."""

    dimension: Dimension
    exact: Mapping[Hashable, _Node[ThingT]]
    heads: Sequence[tuple[int, Mapping[Hashable, _Node[ThingT]]]]
    tails: Sequence[tuple[int, Mapping[Hashable, _Node[ThingT]]]]
    children: Sequence[_Node[ThingT]]
    rest: _Node[ThingT]

    def meet(self, text: Hashable, found: list[_Node[ThingT]]) -> None:
        child = self.exact.get(text)
        if child is not None:
            found.append(child)
        if isinstance(text, str):
            for length, by_head in self.heads:
                child = by_head.get(text[:length])
                if child is not None:
                    found.append(child)
            for length, by_tail in self.tails:
                child = by_tail.get(text[-length:])
                if child is not None:
                    found.append(child)


_Node = _Split[ThingT] | tuple[ThingT, ...]


def _node(
    entries: Sequence[_Entry[ThingT]], used: frozenset[tuple[Dimension, str]], row: int
) -> _Node[ThingT]:
    """used: dimensions, with the side by which globs were kept, that have divided these entries already."""
    if len(entries) > FEW and row < MAX_ROW:
        division = _best(entries, used)
        if division is not None:
            return division.split(used, row)
    return tuple(thing for _, thing in entries)


@dataclass(frozen=True, slots=True, eq=False)
class _Division(Generic[ThingT]):
    """How one dimension would divide some entries. side: which end of a glob with two counts."""

    dimension: Dimension
    side: str
    buckets: Mapping[_Key, Sequence[_Entry[ThingT]]]
    rest: Sequence[_Entry[ThingT]]
    left: int  # how many are to be looked at further, at the worst

    def split(self, used: frozenset[tuple[Dimension, str]], row: int) -> _Split[ThingT]:
        deeper = used | {(self.dimension, self.side)}
        made = {key: _node(entries, deeper, 0) for key, entries in self.buckets.items()}
        return _Split(
            self.dimension,
            {text: node for (kind, text), node in made.items() if kind == "="},
            _by_length(made, _HEAD),
            _by_length(made, _TAIL),
            tuple(made.values()),
            _node(self.rest, deeper, row + 1),
        )


def _by_length(
    made: Mapping[_Key, _Node[ThingT]], kind: str
) -> Sequence[tuple[int, Mapping[Hashable, _Node[ThingT]]]]:
    found: dict[int, dict[Hashable, _Node[ThingT]]] = {}
    for (its_kind, text), node in made.items():
        if its_kind == kind:
            found.setdefault(len(str(text)), {})[text] = node
    return tuple(found.items())


def _best(
    entries: Sequence[_Entry[ThingT]], used: frozenset[tuple[Dimension, str]]
) -> _Division[ThingT] | None:
    counts = Counter(dimension for needs, _ in entries for dimension in needs)
    common = [dimension for dimension, count in counts.most_common(MAX_DIMENSIONS) if count > FEW]
    given = [dimension for dimension in counts if dimension in set(common)]  # in the order of the needs
    best: _Division[ThingT] | None = None
    for dimension in given:
        for side in (_HEAD, _TAIL):
            if (dimension, side) in used:
                continue
            division = _divided(entries, dimension, side)
            if division is not None and (best is None or division.left * 2 < best.left):
                best = division
            if not _has_two_ends(entries, dimension):
                break
    return best


def _divided(entries: Sequence[_Entry[ThingT]], dimension: Dimension, side: str) -> _Division[ThingT] | None:
    keyed = [(_keys(needs.get(dimension), side), entry) for entry in entries for needs in (entry[0],)]
    rarity: Counter[_Key] = Counter()
    for keys, _ in keyed:
        if isinstance(keys, tuple):
            rarity.update(keys)
    buckets: dict[_Key, list[_Entry[ThingT]]] = {}
    rest: list[_Entry[ThingT]] = []
    for keys, entry in keyed:
        if keys is None:
            rest.append(entry)
        elif isinstance(keys, tuple):
            buckets.setdefault(min(keys, key=rarity.__getitem__), []).append(entry)
        else:
            for key in keys:
                buckets.setdefault(key, []).append(entry)
    largest = max(map(len, buckets.values()), default=0)
    kept = len(entries) - len(rest)
    if kept <= FEW or (largest > kept / 2 and len(rest) + largest > 0.75 * len(entries)):
        return None
    return _Division(dimension, side, buckets, rest, len(rest) + largest)


def _has_two_ends(entries: Iterable[_Entry[ThingT]], dimension: Dimension) -> bool:
    return any(
        isinstance(item, Glob) and item.head and item.tail and item.literal is None
        for needs, _ in entries
        for need in (needs.get(dimension),)
        if need is not None and not isinstance(need, Every)
        for item in need
    )


def _keys(need: Need | None, side: str) -> frozenset[_Key] | tuple[_Key, ...] | None:
    """What a thing is kept under: each of a set, or one of a tuple. None where nothing it could be kept under."""
    if need is None:
        return None
    if isinstance(need, Every):
        return tuple(("=", key) for key in need.keys) or None
    if len(need) > MAX_KEYS:
        return None
    found: set[_Key] = set()
    for item in need:
        key = _key_of_glob(item, side) if isinstance(item, Glob) else ("=", item)
        if key is None:
            return None
        found.add(key)
    return frozenset(found)


def _key_of_glob(glob: Glob, side: str) -> _Key | None:
    if glob.literal is not None:
        return ("=", glob.literal)
    if glob.head and (side == _HEAD or not glob.tail):
        return (_HEAD, glob.head)
    return (_TAIL, glob.tail) if glob.tail else None
