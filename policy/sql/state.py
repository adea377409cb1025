"""What the analysis must know of a session, and what a statement changes in it.

The gate keeps a SessionState for each session and, when a statement has succeeded, replaces it by
`apply(state, effect)`. What is not known for certain is said so: a search path that cannot be told is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Generic, TypeVar

import msgspec

from policy.facts import Output, SqlFacts

ValueT = TypeVar("ValueT")


class Prepared(msgspec.Struct, frozen=True):
    """A prepared statement: the text of what it runs and the facts when it was prepared.

    The server plans it again when the search path or a table has changed, so EXECUTE is judged by these facts
    and by a new analysis of the text.
    """

    text: str
    facts: SqlFacts


class SessionState(msgspec.Struct, frozen=True):
    """A session as the server sees it.

    search_path: as set, "$user" included; None when not known (then every relation of a name is meant).
    temporary_names: relations that it may have created in pg_temp; a name stays in doubt (the temporary and
    the permanent relation are both meant) because a rollback may have taken it away again.
    temporary_columns: their columns where known. prepared: by name, those of the extended protocol included.
    cursors: SQL cursors and portals of the extended protocol: one name space.
    """

    search_path: tuple[str, ...] | None = ("$user", "public")
    login_role: str = ""
    temporary_names: frozenset[str] = frozenset()
    temporary_columns: Mapping[str, tuple[str, ...]] = {}
    prepared: Mapping[str, Prepared] = {}
    cursors: Mapping[str, SqlFacts] = {}


class CopyShape(msgspec.Struct, frozen=True):
    """The data of COPY ... FROM STDIN or TO STDOUT. `columns` are its fields in order, None when not known."""

    is_in: bool
    columns: tuple[Output, ...] | None
    format: str = "text"  # text, csv, binary
    delimiter: str = "\t"
    null: str = "\\N"
    header: bool = False
    quote: str = '"'
    escape: str = '"'
    force_quote: tuple[str, ...] = ()  # ("*",) for all
    encoding: str = ""
    default: str | None = None


class TransactionControl(Enum):
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback_to"
    PREPARE = "prepare"
    SECOND_PHASE = "second_phase"


class Temporary(msgspec.Struct, frozen=True):
    """A relation created in pg_temp; columns None when they cannot be told."""

    name: str
    columns: tuple[str, ...] | None


class SessionEffect(msgspec.Struct, frozen=True):
    """What a statement changes in the session if it succeeds.

    search_path: () is an empty path, None with changes_search_path means not known from now on.
    resets_search_path: to what the session started with (RESET, SET TO DEFAULT, DISCARD ALL).
    is_local: the change of the path ends with the transaction. Every change but prepared statements is undone
    by ROLLBACK. deallocates and closes: a name, "*" for all. executes: a prepared statement. fetches: a cursor.
    """

    prepares: tuple[str, Prepared] | None = None
    deallocates: str | None = None
    executes: str | None = None
    declares_cursor: tuple[str, SqlFacts] | None = None
    closes: str | None = None
    fetches: str | None = None
    creates_temporary: tuple[Temporary, ...] = ()
    changes_temporary: bool = False
    changes_search_path: bool = False
    search_path: tuple[str, ...] | None = None
    resets_search_path: bool = False
    is_local: bool = False
    changes_catalog: bool = False
    discards: str = ""  # all, plans, sequences, temp
    transaction: TransactionControl | None = None
    copies: CopyShape | None = None
    listens: str | None = None
    unlistens: str | None = None

    @property
    def is_empty(self) -> bool:
        return self == NO_EFFECT


NO_EFFECT = SessionEffect()


class Overlay(Mapping[str, ValueT], Generic[ValueT]):
    """Names over other names, which are asked only when needed: added ones, and ones taken away."""

    def __init__(self, base: Mapping[str, ValueT], changed: dict[str, ValueT | None]) -> None:
        self._base = base
        self._changed = changed

    def __getitem__(self, name: str) -> ValueT:
        if name not in self._changed:
            return self._base[name]
        value = self._changed[name]
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        added = [name for name, value in self._changed.items() if value is not None]
        return iter([*(name for name in self._base if name not in self._changed), *added])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _changed(base: Mapping[str, ValueT], name: str, value: ValueT | None) -> Mapping[str, ValueT]:
    """`base` with one name set, or taken away; "*" takes all away."""
    return {} if name == "*" and value is None else Overlay(base, {name: value})


def apply(state: SessionState, effect: SessionEffect) -> SessionState:
    """The session after a statement with this effect.

    A search path that is reset is not known here (the gate puts its own), nor what a rollback brings back.
    """
    if effect is NO_EFFECT:
        return state
    prepared = state.prepared
    cursors = state.cursors
    names = state.temporary_names
    columns = dict(state.temporary_columns)
    path = state.search_path
    if effect.discards == "all":
        prepared, cursors, path = {}, {}, None
    if effect.deallocates is not None:
        prepared = _changed(prepared, effect.deallocates, None)
    if effect.closes is not None:
        cursors = _changed(cursors, effect.closes, None)
    if effect.prepares is not None:
        prepared = _changed(prepared, *effect.prepares)
    if effect.declares_cursor is not None:
        cursors = _changed(cursors, *effect.declares_cursor)
    if effect.changes_temporary:
        columns = {}
    for created in effect.creates_temporary:
        columns.pop(created.name, None)
        if created.columns is not None and created.name not in names:
            columns[created.name] = created.columns
        names = names | {created.name}
    if effect.changes_search_path:
        path = effect.search_path
    return SessionState(path, state.login_role, names, columns, prepared, cursors)
