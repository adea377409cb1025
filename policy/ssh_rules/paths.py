"""Patterns for paths: which files a rule is about. Absolute, part by part.

    *     any run of characters inside one part ("/home/*/notes", "/tmp/*.sock")
    **    as a whole part: any number of parts, also none ("/srv/www/**" is the directory and what is in it)

Matching goes through the parts once and never back. A path that is not absolute and normal could be any path:
it is `None` here, touched by every pattern and covered by `/**` alone. Called by `policy.ssh_rules.rule` and,
for sockets, by `policy.ssh_rules.addresses`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import Enum

from policy.narrowing import Need
from policy.patterns import Glob, PatternError

Parts = tuple[str, ...]
PART = "part"

FILE_VERBS = frozenset(
    {"read", "write", "list", "stat", "setstat", "mkdir", "rmdir", "remove", "rename", "link"}
)
# These act on two names, both of which a rule is about.
TWO_NAMES = frozenset({"rename", "link"})
# These act on a directory as a whole, so that a rule about something below it may be meant.
WHOLE_VERBS = frozenset({"rmdir", "remove", "setstat"})
MAX_PATH_CHARACTERS = 4096  # PATH_MAX; no longer path reaches a file


def normal_parts(path: str) -> Parts | None:
    """The parts of an absolute, normal path ("/" has none). None for what could mean another path than it says."""
    if path == "/":
        return ()
    if not path.startswith("/") or "\0" in path or len(path) > MAX_PATH_CHARACTERS:
        return None
    parts = tuple(path[1:].split("/"))
    return None if any(part in ("", ".", "..") for part in parts) else parts


class Reach(Enum):
    """How a pattern reaches a path. Ordered by nothing: each has its own use."""

    NOTHING = "nothing"  # neither the path nor anything below it can match
    ANYWHERE = "anywhere"  # something below it may match, as below any other directory that `**` stands for
    BELOW = "below"  # something below it may match, because the pattern names what the path names
    MATCH = "match"


class PathPattern:
    """One pattern. `is_any`: every path, also one that nobody can tell ("/**"). `parts`: None for `**`."""

    __slots__ = ("_stretch", "is_any", "parts", "text")

    def __init__(self, text: str) -> None:
        """Raises PatternError."""
        self.text = text
        # None is `**`.
        self.parts: tuple[Glob | None, ...] = tuple(
            None if part == "**" else Glob(part) for part in _parts_of(text)
        )
        self._stretch = self.parts.index(None) if None in self.parts else len(self.parts)
        self.is_any = bool(self.parts) and all(part is None for part in self.parts)

    def needs(self, kind: str = PART) -> dict[Hashable, Need]:
        """For an index: what stands where in every path that it matches, by its place up to the first `**`."""
        return {
            (kind, index): (part,)
            for index, part in enumerate(self.parts[: self._stretch])
            if part is not None and not part.is_any
        }

    def reach(self, path: Parts) -> Reach:
        """Follows every number of pattern parts used up so far, so that no path is gone through twice."""
        used = {0}
        for name in path:
            following: set[int] = set()
            for count in used:
                self._step(count, name, following)
            if not following:
                return Reach.NOTHING
            used = following
        if any(all(part is None for part in self.parts[count:]) for count in used):
            return Reach.MATCH
        return Reach.ANYWHERE if used == {self._stretch} and len(path) > self._stretch else Reach.BELOW

    def _step(self, count: int, name: str, following: set[int]) -> None:
        while count < len(self.parts):
            part = self.parts[count]
            if part is not None:
                if part.matches(name):
                    following.add(count + 1)
                return
            following.add(count)  # it takes this part too; or none, and the next one is asked
            count += 1

    def matches(self, path: Parts) -> bool:
        return self.reach(path) is Reach.MATCH

    def may_match(self, path: Parts | None) -> bool:
        return path is None or self.matches(path)

    def covers(self, path: Parts | None) -> bool:
        return self.is_any or (path is not None and self.matches(path))

    def is_wider(self, other: PathPattern) -> bool:
        """Does it match whatever `other` matches? May say False where it is hard to tell."""
        if self.is_any or self.text == other.text:
            return True
        mine, its = self.parts, other.parts
        if mine and mine[-1] is None:  # "/srv/**": what follows is its own
            mine = mine[:-1]
            its = its[: len(mine)]
        return len(mine) == len(its) and all(
            part is not None and theirs is not None and part.covers(theirs)
            for part, theirs in zip(mine, its, strict=True)
        )


def _parts_of(text: str) -> Sequence[str]:
    if not text.startswith("/"):
        raise PatternError(
            f"`{text}` is not an absolute path", f"begin it with `/`, as in `/srv/{text or 'www'}`"
        )
    if text == "/":
        return ()
    parts = text[1:].split("/")
    if parts[-1] == "":
        raise PatternError(
            f"`{text}` ends in `/` and can match no path",
            f"write `{text.rstrip('/')}` for the directory, or `{text.rstrip('/')}/**` for it and what is in it",
        )
    for part in parts:
        if part in ("", ".", ".."):
            raise PatternError(
                f"`{text}` can match no path: paths are compared without `//`, `.` and `..`",
                "write the path as it is after these are worked out",
            )
        if "**" in part and part != "**":
            raise PatternError(
                f"`{text}`: `**` stands for whole parts of a path, and `{part}` is one part",
                "write `/**/` between slashes, or one `*` inside the part",
            )
    return parts
