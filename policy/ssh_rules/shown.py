"""What an operation shows to an index of rules about SSH, None where it could be anything (`policy.narrowing`).

The dimensions are those of the patterns' `needs`: word by word, part of a path by part, host and port. Called by
`policy.ssh_rules.index`.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

from policy.facts import SimpleCommand
from policy.ssh_rules.addresses import HOST, OWN, PORT, Endpoint
from policy.ssh_rules.commands import WORD, base_name
from policy.ssh_rules.paths import PART, Parts

REDIRECT = "redirect"
ANYTHING: Sequence[Parts | None] = (None,)

_Texts = Collection[Hashable] | None


class CommandShown:
    """One simple command. redirects: the files of its redirections, or of one of them."""

    __slots__ = ("_is_touched", "_known", "_redirects", "_words")

    def __init__(
        self, command: SimpleCommand, redirects: Sequence[Parts | None], *, is_touched: bool
    ) -> None:
        self._words = command.words
        self._is_touched = is_touched
        self._redirects = redirects
        is_known = [word.is_known for word in command.words]
        self._known = is_known.index(False) if False in is_known else len(is_known)

    def __call__(self, dimension: Hashable) -> _Texts:
        kind, index = _indexed(dimension)
        if kind == REDIRECT:
            return _parts_at(self._redirects, index)
        if kind != WORD:
            return None
        if index < self._known:
            text = self._words[index].text
            return (base_name(text) if self._is_touched and index == 0 else text,)
        # A word that is not known may become any words, but nothing covers it that is not open.
        return None if self._is_touched and self._known < len(self._words) else ()


class PathShown:
    """One path. reaches_down: a rule about something below it may be meant."""

    __slots__ = ("_path", "_reaches_down")

    def __init__(self, path: Parts | None, *, reaches_down: bool) -> None:
        self._path = path
        self._reaches_down = reaches_down

    def __call__(self, dimension: Hashable) -> _Texts:
        kind, index = _indexed(dimension)
        if kind != PART or self._path is None or (self._reaches_down and not 0 <= index < len(self._path)):
            return None
        return _parts_at((self._path,), index)


class AddressShown:
    __slots__ = ("_is_touched", "_where")

    def __init__(self, where: Endpoint, *, is_touched: bool) -> None:
        self._where = where
        self._is_touched = is_touched

    def __call__(self, dimension: Hashable) -> _Texts:
        where = self._where
        if dimension == PORT:
            return None if self._is_touched and where.may_be_any_port else (where.port,)
        if dimension != HOST:
            return None
        if not self._is_touched:
            return (where.host,)
        if where.may_be_any:
            return None
        return (where.host, OWN) if where.is_own else (where.host,)


class NameShown:
    """One name."""

    NAME = "name"
    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, dimension: Hashable) -> _Texts:
        return (self._name,) if dimension == self.NAME else None


def _indexed(dimension: Hashable) -> tuple[Hashable, int]:
    if isinstance(dimension, tuple) and len(dimension) == 2 and isinstance(dimension[1], int):
        return dimension[0], dimension[1]
    return None, 0


def _parts_at(paths: Sequence[Parts | None], index: int) -> _Texts:
    """The parts at one place of all the paths; from the end where `index` is negative."""
    found: list[str] = []
    for path in paths:
        if path is None:
            return None
        if -len(path) <= index < len(path):
            found.append(path[index])
    return found
