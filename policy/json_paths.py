"""Paths into JSON documents: where a rule looks and what a mask hides.

Owns what a path means: its values in a parsed document, and the automaton that follows many paths at once from the root
of a document downwards. A node of a document is a state; `member` and `element` lead to the state of a node below.
States are made when they are first needed and shared; how many are kept is bounded (`MAX_STATES`), so that a hostile
document costs time in proportion to its size and no memory. `policy.json_path_text` reads the paths.

Names compare exactly, unless the caller asks for more to be found (`ignore_case`): masks do, for hiding `Email` too
when `$..email` was asked for does no harm, and not hiding it might. Called by the policy document, by rules on bodies
and by masks while bodies stream. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from policy.json_path_text import Segment, read_segments, written

MAX_STATES = 2048


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A path that has been read. Two paths that mean the same in other words are equal."""

    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, text: str) -> JsonPath:
        """Raises PatternError, which says what to write."""
        return cls(read_segments(text))

    def __str__(self) -> str:
        return "$" + "".join(written(segment) for segment in self.segments)

    @property
    def last_name(self) -> str | None:
        """The name of the field that it ends in; None where it ends in `*`, an index or the document itself."""
        return self.segments[-1].name if self.segments else None

    def values(self, document: object, *, ignore_case: bool = False) -> Iterator[object]:
        """Every value that the path leads to, each once. `document`: dict, list, str, numbers, bool, None.

        ignore_case: also what differs in upper and lower case, for a reader that must not miss a field which the
        target may read without regard to case (a rule that denies).
        """
        return _alone(self, ignore_case).values(document)


# Where one path stands at a node: its number, and how many of its segments have been taken. A deep segment that has
# not been taken stays as well as it goes on, so one path can stand at several places.
_Place = tuple[int, int]


class PathState:
    """What the paths know of one node.

    matches: numbers of the paths that lead to this very node, in their order. is_dead: none of them can lead to
    anything below it. names: the names of members that the paths treat apart from all others, folded as the set
    folds. other: the state of every member that has none of these names.
    """

    __slots__ = (
        "_elements",
        "_members",
        "_other_element",
        "_other_member",
        "_set",
        "is_dead",
        "matches",
        "places",
    )

    def __init__(self, path_set: PathSet, places: frozenset[_Place]) -> None:
        self._set = path_set
        self.places = places
        self._members: dict[str, PathState] | None = None
        self._elements: dict[int, PathState] = {}
        self._other_member: PathState | None = None
        self._other_element: PathState | None = None
        ended = path_set.ends
        self.matches: tuple[int, ...] = tuple(sorted(path for path, taken in places if taken == ended[path]))
        self.is_dead: bool = all(taken == ended[path] for path, taken in places)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._by_name())

    @property
    def other(self) -> PathState:
        self._by_name()
        return self._set.dead if self._other_member is None else self._other_member

    def member(self, name: str) -> PathState:
        """The state of the member called `name`."""
        found = self._by_name().get(self._set.folded(name))
        return self.other if found is None else found

    @property
    def any_element(self) -> PathState | None:
        """The state of every element; None when it depends on the index."""
        other = self._by_index()
        return None if self._elements else other

    def element(self, index: int) -> PathState:
        """The state of the element at `index`, counted from 0."""
        other = self._by_index()
        return self._elements.get(index, other)

    def _by_index(self) -> PathState:
        if self._other_element is None:
            stays, by_step = self._steps()
            indexes = {step: places for step, places in by_step.items() if isinstance(step, int)}
            elements = {index: self._set.state(stays | places) for index, places in indexes.items()}
            other = self._set.state(stays)
            self._elements, self._other_element = elements, other  # at once: `state` may make this one forget
        return self._other_element

    def forget(self) -> None:
        """Let go of the states below."""
        self._members = self._other_member = self._other_element = None
        self._elements = {}

    def _by_name(self) -> dict[str, PathState]:
        if self._members is None:
            stays, by_step = self._steps()
            names = {step: places for step, places in by_step.items() if isinstance(step, str)}
            members = {name: self._set.state(stays | places) for name, places in names.items()}
            other = self._set.state(stays)
            self._members, self._other_member = members, other
        return self._members

    def _steps(self) -> tuple[frozenset[_Place], dict[str | int, set[_Place]]]:
        """The places of any node below, and those that a name or an index adds."""
        stays: set[_Place] = set()
        by_step: dict[str | int, set[_Place]] = {}
        for path, taken in self.places:
            segments = self._set.segments[path]
            if taken == len(segments):
                continue
            segment = segments[taken]
            if segment.is_deep:
                stays.add((path, taken))
            if segment.name is not None:
                by_step.setdefault(self._set.folded(segment.name), set()).add((path, taken + 1))
            elif segment.index is not None:
                by_step.setdefault(segment.index, set()).add((path, taken + 1))
            else:
                stays.add((path, taken + 1))
        return frozenset(stays), by_step


class PathSet:
    """Paths, numbered as given.

    ignore_case: names that differ in upper and lower case alone are one.
    """

    def __init__(self, paths: Sequence[JsonPath], *, ignore_case: bool = False) -> None:
        self.paths = tuple(paths)
        self.ignore_case = ignore_case
        self.segments = tuple(path.segments for path in self.paths)
        self.ends = tuple(len(segments) for segments in self.segments)
        self._states: dict[frozenset[_Place], PathState] = {}
        self.dead = PathState(self, frozenset())
        self.root = self.state(frozenset((number, 0) for number in range(len(self.paths))))

    def folded(self, name: str) -> str:
        return name.casefold() if self.ignore_case else name

    def state(self, places: frozenset[_Place]) -> PathState:
        """For PathState: the one state of these places."""
        if not places:
            return self.dead
        known = self._states.get(places)
        if known is None:
            if len(self._states) >= MAX_STATES:
                self._states.clear()
                self._states[self.root.places] = self.root
                self.root.forget()
            known = self._states[places] = PathState(self, places)
        return known

    def values(self, document: object) -> Iterator[object]:
        """Every value of a parsed document that one of the paths leads to, each once, parents before children."""
        waiting: list[tuple[object, PathState]] = [(document, self.root)]
        while waiting:
            node, state = waiting.pop()
            if state.matches:
                yield node
            if state.is_dead:
                continue
            if isinstance(node, dict):
                waiting.extend((node[name], state.member(name)) for name in reversed(node))
            elif isinstance(node, list):
                waiting.extend((node[index], state.element(index)) for index in reversed(range(len(node))))


@lru_cache(4096)
def _alone(path: JsonPath, ignore_case: bool) -> PathSet:
    return PathSet((path,), ignore_case=ignore_case)
