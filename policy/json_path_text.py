"""The text of a path into JSON documents, read and written: the part of JSONPath (RFC 9535) that can be followed while
a document streams by.

    $              the document itself            .name ['name'] ["name"]   a member of an object
    [2]            an element of an array         .* [*]                    any member or element
    ..name ..* ..['name'] ..[2]                   the same at any depth

No filters, slices, unions or indexes from the end: each is refused with what to write instead. Called by
`policy.json_paths` alone. Pure.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from policy.patterns import PatternError

MAX_PATH_CHARACTERS = 1024
MAX_SEGMENTS = 32

_NAME = re.compile(r"[^\W\d][\w-]*")
_QUOTED = re.compile(
    r"""\[\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*\]""",
    re.DOTALL,
)
_INDEX = re.compile(r"\[\s*(0|[1-9][0-9]{0,8})\s*\]", re.ASCII)
_ANY = re.compile(r"\[\s*\*\s*\]")
_SUBSET = "a path is made of `.name`, `['any name']`, `[0]`, `[*]` and `..name`"


@dataclass(frozen=True, slots=True)
class Segment:
    """One step. name, index: what it takes; both None takes anything. is_deep: at any depth below, not just one."""

    name: str | None = None
    index: int | None = None
    is_deep: bool = False

    @property
    def is_any(self) -> bool:
        return self.name is None and self.index is None


def read_segments(text: str) -> tuple[Segment, ...]:
    """Raises PatternError, which says what to write."""
    if len(text) > MAX_PATH_CHARACTERS:
        raise PatternError(f"`{text[:20]}...` is longer than {MAX_PATH_CHARACTERS} characters", "shorten it")
    if not text.startswith("$"):
        shown = text.lstrip(".") or "name"
        raise PatternError(
            f"`{text}` does not begin with `$`",
            f"write `$.{shown}` for a field of the document, `$..{shown}` for one at any depth",
        )
    segments: list[Segment] = []
    position = 1
    while position < len(text):
        segment, position = _segment(text, position)
        segments.append(segment)
    if len(segments) > MAX_SEGMENTS:
        raise PatternError(f"`{text}` has more than {MAX_SEGMENTS} steps", "shorten it, or use `..name`")
    return tuple(segments)


def _segment(text: str, position: int) -> tuple[Segment, int]:
    is_deep = text.startswith("..", position)
    is_dotted = text.startswith(".", position)
    start = position + is_deep + is_dotted
    if is_dotted and text.startswith("*", start):
        return Segment(is_deep=is_deep), start + 1
    if is_dotted and (found := _NAME.match(text, start)):
        return Segment(name=found[0], is_deep=is_deep), found.end()
    if text.startswith("[", start) and (is_deep or not is_dotted):
        if found := _ANY.match(text, start):
            return Segment(is_deep=is_deep), found.end()
        if found := _INDEX.match(text, start):
            return Segment(index=int(found[1]), is_deep=is_deep), found.end()
        if found := _QUOTED.match(text, start):
            return Segment(name=_unquoted(text, found[1], found[2]), is_deep=is_deep), found.end()
    raise _refused(text, text[position:])


def _unquoted(text: str, single: str | None, double: str | None) -> str:
    """The name inside quotes, escapes resolved as JSON has them (RFC 9535, 2.3.1.1)."""
    if double is None:
        double = re.sub(r"\\(.)|\"", _requoted, single or "", flags=re.DOTALL)
    try:
        name = json.loads(f'"{double}"')
    except ValueError:
        raise PatternError(
            f"`{text}`: a name in it has a wrong escape", "escape as JSON does: `\\\\`, `\\n`, `\\u0041`"
        ) from None
    if not isinstance(name, str):  # cannot be: it began with a quote
        raise PatternError(f"`{text}`: a name in it cannot be read", _SUBSET)
    return name


def _requoted(found: re.Match[str]) -> str:
    escaped = found[1]
    if escaped is None:
        return '\\"'
    return "'" if escaped == "'" else f"\\{escaped}"


_SPECIAL: Final = (
    (re.compile(r"\.?\.?\[\s*\?"), "filters (`[?...]`)"),
    (re.compile(r"\.?\.?\[[^\]'\"]*:"), "slices (`[a:b]`)"),
    (re.compile(r"\.?\.?\[[^\]]*,"), "several names or indexes in one pair of brackets"),
    (re.compile(r"\.?\.?\[\s*-"), "indexes from the end"),
)


def _refused(text: str, rest: str) -> PatternError:
    for form, what in _SPECIAL:
        if form.match(rest):
            return PatternError(
                f"`{text}`: {what} cannot be followed while a body streams",
                "write one path for each, with `[*]` for any element",
            )
    if rest in (".", ".."):
        return PatternError(f"`{text}` ends in a dot", "write the name of a field behind it, or `*` for any")
    if not rest.startswith((".", "[")):
        return PatternError(
            f"`{text}`: `{rest}` is not part of a name", "put names with other characters in `['...']`"
        )
    return PatternError(f"`{text}`: `{rest}` cannot be read", _SUBSET)


def written(segment: Segment) -> str:
    dots = ".." if segment.is_deep else ""
    if segment.name is not None:
        if _NAME.fullmatch(segment.name):
            return f"{dots or '.'}{segment.name}"
        return f"{dots}[{json.dumps(segment.name, ensure_ascii=False)}]"
    if segment.index is not None:
        return f"{dots}[{segment.index}]"
    return f"{dots or '.'}*"
