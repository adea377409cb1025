"""What the names of a PostgreSQL session stand for: prepared statements, portals and SQL cursors.

Protocol and SQL share one name space each (Parse and PREPARE; Bind and DECLARE), so there is one ledger for both.
A change takes effect when the target confirms it. Until then it is pending: inside its own batch a pending change is
what the target will see (if an earlier message fails, the rest of the batch is skipped anyway); seen from a later
batch it is uncertain, and the gate waits for the target's answer (`Unsettled`) instead of guessing.

Names are kept as the server keeps them, cut to 63 bytes. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")
FactsT = TypeVar("FactsT")


class Unsettled(Exception):
    """The meaning of a name depends on a reply that has not come yet: wait for it, then try again."""


class TooManyNames(Exception):
    """The session holds more names than its limit allows."""


class Names(Generic[T]):
    """One name space. Values are the gate's; None stands for "removed"."""

    __slots__ = ("_limit", "_pending", "_uncertain", "confirmed")

    def __init__(self, limit: int) -> None:
        self.confirmed: dict[str, T] = {}
        self._pending: dict[str, list[tuple[int, T | None]]] = {}
        self._uncertain = 0
        self._limit = limit

    def lookup(self, name: str, batch: int) -> T | None:
        """What `name` stands for in `batch`. Raises Unsettled when an earlier batch has yet to be answered."""
        if self._uncertain:
            raise Unsettled
        pending = self._pending.get(name)
        if pending is None:
            return self.confirmed.get(name)
        pending_batch, value = pending[-1]
        if pending_batch != batch:
            raise Unsettled
        return value

    def may_have(self, name: str) -> bool:
        """Does the name stand for something, or may it once the target has answered?"""
        return name in self.confirmed or name in self._pending

    def change(self, name: str, batch: int, value: T | None) -> None:
        """Note a change that has been forwarded. Raises TooManyNames before the limit is passed."""
        if value is not None and len(self.confirmed) + len(self._pending) >= self._limit:
            raise TooManyNames
        self._pending.setdefault(name, []).append((batch, value))

    def confirm(self, name: str) -> None:
        """The oldest pending change of `name` has happened."""
        pending = self._pending[name]
        _, value = pending.pop(0)
        if not pending:
            del self._pending[name]
        if value is None:
            self.confirmed.pop(name, None)
        else:
            self.confirmed[name] = value

    def abandon(self, name: str) -> None:
        """The oldest pending change of `name` has not happened and will not."""
        pending = self._pending[name]
        del pending[0]
        if not pending:
            del self._pending[name]

    def settle(self, name: str, value: T | None) -> None:
        """Set what `name` stands for, as the target has just told."""
        if value is None:
            self.confirmed.pop(name, None)
        else:
            self.confirmed[name] = value

    def hold_uncertain(self) -> None:
        """A statement in flight may change any name (PREPARE, DEALLOCATE ALL, DECLARE): every look-up must wait."""
        self._uncertain += 1

    def release_uncertain(self) -> None:
        self._uncertain -= 1

    @property
    def is_certain(self) -> bool:
        return not self._uncertain and not self._pending

    def clear(self) -> None:
        """Every confirmed name is gone (DISCARD ALL, end of a transaction)."""
        self.confirmed.clear()


class NamedFacts(Mapping[str, FactsT], Generic[T, FactsT]):
    """A name space as the SQL analysis sees it: `pick` gives what it needs to know of a value."""

    def __init__(self, names: Names[T], pick: Callable[[T], FactsT]) -> None:
        self._names = names
        self._pick = pick

    def __getitem__(self, name: str) -> FactsT:
        if not self._names.is_certain:
            raise Unsettled
        return self._pick(self._names.confirmed[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.confirmed)

    def __len__(self) -> int:
        return len(self._names.confirmed)
