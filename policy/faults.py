"""Faults of a document: what is wrong, where it stands and what to do about it. No YAML, no pydantic models.

Owns `Fault`, `DocumentError`, the position of every value in a text (`Located`), and the words that faults
are made of. Called by `policy.located_yaml`, which re-exports what the daemon's own config needs, and by
`policy.document`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong in a document. `line` and `column` count from 1; `path` is like "rules[2].postgres"."""

    source: str
    line: int
    column: int
    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}:{self.column}: "
        path = f"{self.path}: " if self.path else ""
        return f"{where}{path}{self.message}; {self.remedy}"


class DocumentError(Exception):
    """The document cannot be used. `faults` lists everything found, in the order of the text."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Mark:
    """Where one value stands, and the marks of what is inside it."""

    __slots__ = ("children", "column", "line")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.children: dict[str | int, Mark] = {}


class Located:
    """Parsed data (dict, list, str, int, float, bool, None) with the position of every value in the text."""

    def __init__(self, data: Any, source: str, root: Mark) -> None:
        self.data = data
        self.source = source
        self._root = root

    def position(self, path: Path) -> tuple[int, int]:
        """Line and column (from 1) of the key or item at `path`, or of the nearest thing around it."""
        mark = self._root
        for part in path:
            inner = mark.children.get(part)
            if inner is None:
                break
            mark = inner
        return mark.line, mark.column

    def fault(self, path: Path, message: str, remedy: str) -> Fault:
        line, column = self.position(path)
        return Fault(self.source, line, column, render_path(path), message, remedy)


def render_path(path: Path) -> str:
    """("rules", 2, "postgres") as "rules[2].postgres"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def refusal(message: str, remedy: str, *, at: Path = ()) -> PydanticCustomError:
    """The error for validators to raise: `message` says what is wrong, `remedy` what to write instead.

    `at` is a path below the value being validated, for validators that look at several keys.
    """
    return PydanticCustomError("refusal", "{message}", {"message": message, "remedy": remedy, "at": list(at)})


def closest(word: str, known: Iterable[str]) -> str:
    """ "did you mean `x`? " when something known is near `word`, else ""."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`? " if near else ""


def kind_of(value: object) -> str:
    return "a text" if isinstance(value, str) else shown(value)


def shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return f"`{str(value).lower()}`"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str() if len(value) > 60:
            return f"`{value[:60]}...`"
        case _:
            return f"`{value}`"
