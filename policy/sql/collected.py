"""What an analysis has found so far, and how it becomes SqlFacts. Only adds; nothing found is ever taken back."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from policy.facts import HIDDEN, ColumnName, ColumnUse, Output, RelationAccess, SqlFacts, Use
from policy.sql.snapshot import Column, Relation


def _use_order(use: ColumnUse) -> tuple[ColumnName, str, str]:
    """The same statement gives the same facts, in whatever order the catalog's rows came."""
    return (use.column, use.use.value, use.via)


class Access:
    """An access to one relation whose columns are still being collected; columns None: not known."""

    __slots__ = ("bounded", "columns", "command", "leader", "name", "schema", "via")

    def __init__(self, command: str, schema: str, name: str, via: str = "") -> None:
        self.command = command
        self.schema = schema
        self.name = name
        self.via = via
        self.bounded = True
        self.columns: set[str] | None = set()
        self.leader: Access | None = None  # whose columns are read here too

    def read(self, column: str) -> None:
        if self.columns is not None:
            self.columns.add(column)

    def read_any(self) -> None:
        self.columns = None

    def settle(self) -> None:
        """Take over what has been read of the leader."""
        if self.leader is not None:
            leading = self.leader.columns
            self.columns = None if leading is None else set(leading)
            self.bounded = self.leader.bounded

    def fact(self) -> RelationAccess:
        columns = None if self.columns is None else tuple(sorted(self.columns))
        return RelationAccess(self.command, self.schema, self.name, self.via, self.bounded, columns)


class Collected:
    """The facts of one statement while they are gathered. Dicts are used as ordered sets."""

    __slots__ = ("accesses", "commands", "functions", "hidden_functions", "settings", "unresolved", "uses")

    def __init__(self) -> None:
        self.commands: dict[str, None] = {}
        self.accesses: list[Access] = []
        self.functions: dict[str, None] = {}
        self.hidden_functions: dict[str, None] = {}
        self.settings: dict[str, None] = {}
        self.uses: dict[ColumnUse, None] = {}
        self.unresolved: dict[str, None] = {}

    def access(self, command: str, relation: Relation, *, only: bool = False) -> Access:
        """A direct access to `relation`, with what stands behind it: its view's, its inheritance children's."""
        access = Access(command, relation.schema, relation.name)
        self.accesses.append(access)
        if relation.accesses or relation.uses:
            for inner in relation.accesses:
                self._inner_access(inner)
                if command != "select":
                    # A view that is written passes the change on to what it shows.
                    behind = self._inner_access(msgspec.structs.replace(inner, command=command))
                    behind.leader = access
            self.uses.update(dict.fromkeys(relation.uses))
        if relation.functions:
            self.hidden_functions.update(dict.fromkeys(relation.functions))
        if relation.is_opaque:
            self.doubt(f'{HIDDEN}the definition of view "{relation.qualified}" cannot be followed')
        if relation.descendants and not only:
            for child in relation.descendants:
                behind = Access(command, child.schema, child.name, relation.qualified)
                behind.leader = access
                self.accesses.append(behind)
        return access

    def _inner_access(self, inner: RelationAccess) -> Access:
        access = Access(inner.command, inner.schema, inner.name, inner.via)
        access.bounded = inner.bounded
        access.columns = None if inner.columns is None else set(inner.columns)
        self.accesses.append(access)
        return access

    def access_named(self, command: str, schema: str, name: str, via: str = "") -> Access:
        access = Access(command, schema, name, via)
        self.accesses.append(access)
        return access

    def use(self, column: Column, use: Use) -> None:
        for fact in column.uses(use):
            self.uses[fact] = None

    def command(self, name: str) -> None:
        self.commands[name] = None

    def function(self, name: str) -> None:
        self.functions[name] = None

    def doubt(self, reason: str) -> None:
        self.unresolved[reason] = None

    def include(self, facts: SqlFacts, *, outputs_leave: bool) -> None:
        """Everything of another statement that runs inside this one."""
        self.commands.update(dict.fromkeys((facts.command, *facts.commands)))
        for inner in facts.accesses:
            self._inner_access(inner)
        self.functions.update(dict.fromkeys(facts.functions))
        self.hidden_functions.update(dict.fromkeys(facts.hidden_functions))
        self.settings.update(dict.fromkeys(facts.settings))
        for use in facts.uses:
            if outputs_leave or use.use is not Use.OUTPUT:
                self.uses[use] = None
        self.unresolved.update(dict.fromkeys(facts.unresolved))

    def facts(self, command: str, outputs: Iterable[Output] | None) -> SqlFacts:
        self.commands.pop(command, None)
        return SqlFacts(
            command=command,
            commands=(command, *self.commands),
            accesses=self._accesses(),
            functions=tuple(self.functions),
            settings=tuple(self.settings),
            uses=tuple(sorted(self.uses, key=_use_order)),
            outputs=None if outputs is None else tuple(outputs),
            unresolved=tuple(self.unresolved),
            hidden_functions=tuple(self.hidden_functions),
        )

    def _accesses(self) -> tuple[RelationAccess, ...]:
        if len(self.accesses) == 1:
            return (self.accesses[0].fact(),)
        for access in self.accesses:
            access.settle()
        merged: dict[tuple[str, str, str, str, bool], Access] = {}
        for access in self.accesses:
            key = (access.command, access.schema, access.name, access.via, access.bounded)
            known = merged.setdefault(key, access)
            if known is not access:
                if known.columns is None or access.columns is None:
                    known.columns = None
                else:
                    known.columns |= access.columns
        return tuple(access.fact() for access in merged.values())
