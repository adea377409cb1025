"""Patterns for the paths of URLs: `/v1/customers/{id}`, `/static/**`. Absolute, segment by segment, decoded.

    {name}, *   any run of characters inside one segment; a whole segment of it is not empty
    **          as a whole segment: any number of segments, also none

One path can be read in several ways. Servers differ over an encoded slash, over `;` and what follows it, over
backslashes and over text that is encoded twice. Covering (allow) needs every reading inside the pattern. Touching
(deny, hold) needs one, and does not look at case, at doubled slashes and at a slash at the end. A path that no
reading can be trusted of (no absolute path, bytes that are not UTF-8, more segments than anybody has) could be any:
`None` here, touched by every pattern and covered by `/**` alone. Called by `policy.http_rules.rule` and
`policy.http_rules.index`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from policy.http_rules.folding import fold, folded_glob
from policy.patterns import Glob, PatternError

Parts = tuple[str, ...]

MAX_PATH_CHARACTERS = 64 * 1024
MAX_PATH_SEGMENTS = 512
_VARIABLE = re.compile(r"\{[^{}/]*\}")
_NAME = re.compile(r"\{[A-Za-z_][A-Za-z0-9_.-]{0,63}\}")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_UNREADABLE = re.compile("[\0\udc80-\udcff]")
_ODD = re.compile(r"[%;\\]|/\.|[^\x20-\x7e]")


class PathReadings:
    """The readings of one path: `exact` for covering, `folded` for touching. None where it could be any path."""

    __slots__ = ("exact", "folded")

    def __init__(self, paths: Iterable[str]) -> None:
        found: dict[Parts, None] = {}
        self.exact: tuple[Parts, ...] | None = None
        self.folded: tuple[Parts, ...] | None = None
        for path in paths:
            if not _read(path, found):
                return
        self.exact = tuple(found)
        self.folded = tuple(dict.fromkeys(map(_folded, found)))


def _folded(parts: Parts) -> Parts:
    return tuple(fold(part) for part in parts if part)


def _read(path: str, found: dict[Parts, None]) -> bool:
    """Adds the readings of `path`; False where it could be any path."""
    if not path.startswith("/") or len(path) > MAX_PATH_CHARACTERS or path.count("/") > MAX_PATH_SEGMENTS:
        return False
    if _ODD.search(path) is None:
        found[tuple(path[1:].split("/"))] = None
        return True
    segments = tuple(unquote(segment, errors="surrogateescape") for segment in path[1:].split("/"))
    text = "/".join(segments)
    if _UNREADABLE.search(text) is not None:
        return False
    found[segments] = None
    again = text
    for _ in range(3):  # what is encoded twice, or three times
        for reading in (again, again.replace("\\", "/")):
            _add(found, reading)
        if "%" not in again:
            return True
        again = unquote(again, errors="surrogateescape")
        if _UNREADABLE.search(again) is not None:
            return False
    return _ENCODED.search(again) is None


def _add(found: dict[Parts, None], text: str) -> None:
    """`text` and, where there is a `;`, the same without what follows it in each segment; without dot segments."""
    plain = text.split("/")
    for segments in (plain, [segment.partition(";")[0] for segment in plain]) if ";" in text else (plain,):
        found[_without_dots(segments)] = None


def _without_dots(segments: Sequence[str]) -> Parts:
    kept: list[str] = []
    for index, segment in enumerate(segments):
        is_last = index == len(segments) - 1
        if segment not in (".", ".."):
            kept.append(segment)
            continue
        if segment == ".." and kept:
            kept.pop()
        if is_last:
            kept.append("")
    return tuple(kept)


class UrlPattern:
    """One pattern. `is_any`: every path, also one that nobody can tell ("/**").

    parts, folded: its segments for covering and for touching, None for `**`.
    """

    __slots__ = ("_shape", "folded", "is_any", "parts", "text")

    def __init__(self, text: str) -> None:
        """Raises PatternError."""
        self.text = text
        segments = _segments(text)
        self._shape = tuple(segments)
        # None is `**`.
        self.parts: tuple[Glob | None, ...] = tuple(
            None if segment == "**" else Glob(segment) for segment in segments
        )
        self.folded: tuple[Glob | None, ...] = tuple(
            None if segment == "**" else folded_glob(segment) for segment in segments if segment
        )
        self.is_any = all(part is None for part in self.parts)

    def touches(self, readings: PathReadings) -> bool:
        return readings.folded is None or any(_fits(self.folded, parts) for parts in readings.folded)

    def covers(self, parts: Parts) -> bool:
        """Is this one reading inside the pattern?"""
        return self.is_any or _fits(self.parts, parts)

    def is_wider(self, other: UrlPattern) -> bool:
        """Does it touch whatever `other` covers? May say False where it is hard to tell."""
        if self.is_any or self._shape == other._shape:
            return True
        mine, its = self.parts, other.parts
        if mine[-1] is None:  # "/static/**": what follows is its own
            mine = mine[:-1]
            its = its[: len(mine)]
        return len(mine) == len(its) and all(
            part is not None and theirs is not None and part.covers(theirs)
            for part, theirs in zip(mine, its, strict=True)
        )


def covered_by(patterns: Sequence[UrlPattern], readings: PathReadings) -> bool:
    """Is every reading of the path inside one of the patterns?"""
    if readings.exact is None:
        return any(pattern.is_any for pattern in patterns)
    return all(any(pattern.covers(parts) for pattern in patterns) for parts in readings.exact)


def _fits(pattern: Sequence[Glob | None], parts: Parts) -> bool:
    """Follows every number of pattern parts used up so far, so that no path is gone through twice."""
    end = len(pattern)
    used = {0}
    for name in parts:
        following: set[int] = set()
        for start in used:
            count = start
            while count < end:
                part = pattern[count]
                if part is not None:
                    if part.matches(name) and (name or not part.is_any):
                        following.add(count + 1)
                    break
                following.add(count)  # it takes this segment too; or none, and the next one is asked
                count += 1
        if not following:
            return False
        used = following
    return any(all(part is None for part in pattern[count:]) for count in used)


def _segments(text: str) -> Sequence[str]:
    """The segments with `{name}` as `*`. Raises PatternError."""
    if not text.startswith("/"):
        begun = f"/**/{text.lstrip('*/')}" if text.startswith("*") else f"/{text}"
        raise PatternError(
            f"`{text}` can match no path: it does not begin with `/`", f"write `{begun.rstrip('/')}`"
        )
    if "?" in text or "#" in text:
        mark = "?" if "?" in text else "#"
        raise PatternError(
            f"`{text}` can match no path: a path ends before `{mark}`",
            "write the path alone, and parameters under `query`" if mark == "?" else "write the path alone",
        )
    if _ENCODED.search(text) is not None:
        raise PatternError(
            f"`{text}` is encoded: paths are compared decoded", f"write it as it reads: `{unquote(text)}`"
        )
    if "\\" in text or not text.isprintable():
        raise PatternError(f"`{text}` has a character that a path cannot have", "write the path as it reads")
    for found in _VARIABLE.findall(text):
        if _NAME.fullmatch(found) is None:
            raise PatternError(f"`{text}`: `{found}` is not a name in braces", "write it as in `{id}`")
    segments = _VARIABLE.sub("*", text)[1:].split("/")
    for index, segment in enumerate(segments):
        if segment in (".", "..") or (not segment and index < len(segments) - 1):
            raise PatternError(
                f"`{text}` can match no path: paths are compared without `//`, `.` and `..`",
                "write the path as it is after these are worked out",
            )
        if "{" in segment or "}" in segment:
            raise PatternError(f"`{text}`: a brace without its other half", "write it as in `/v1/{id}`")
        if ";" in segment:
            raise PatternError(
                f"`{text}` has parameters behind `;`, which servers read in different ways",
                "end the segment in `*`, or leave the parameters out",
            )
        if "**" in segment and segment != "**":
            raise PatternError(
                f"`{text}`: `**` stands for whole segments of a path, and `{segment}` is one segment",
                "write `/**/` between slashes, or one `*` inside the segment",
            )
    return segments
