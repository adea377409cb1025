"""The catalog snapshot: relations, columns, functions, operators and types of one target, and look-ups in it.

Built by `policy.sql.catalog.build_catalog`, read by the analysis and by the gate. Not changed once built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from policy.facts import ColumnName, ColumnUse, RelationAccess, Use
from policy.sql.catalog_rows import CatalogRows, FunctionRow, TypeRow

SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})

_ROW_KINDS = frozenset("rpfvm")


@dataclass(eq=False, slots=True)
class Column:
    """One column of a relation.

    also: other names of the same value (base columns behind a view, inheritance relatives). derived: columns
    from which it is computed (a view's expression, a generated column), under all their names. known: False
    when the view behind it could not be analysed. behind: what a use of it reports beside itself, as
    (column, is it the same value, the relation it is reached through).
    """

    name: ColumnName
    number: int
    type_oid: int
    type_modifier: int = -1
    also: tuple[ColumnName, ...] = ()
    derived: tuple[ColumnName, ...] = ()
    known: bool = True
    behind: tuple[tuple[ColumnName, bool, str], ...] = ()
    is_generated: bool = False
    _uses: dict[Use, tuple[ColumnUse, ...]] | None = None

    def uses(self, use: Use) -> tuple[ColumnUse, ...]:
        """The facts of one use of this column."""
        if self._uses is None:
            self._uses = {}
        found = self._uses.get(use)
        if found is None:
            computed = Use.EXPRESSION if use is Use.OUTPUT else use
            found = self._uses[use] = (
                ColumnUse(self.name, use),
                *(ColumnUse(name, use if same else computed, via) for name, same, via in self.behind),
            )
        return found

    @property
    def names(self) -> tuple[ColumnName, ...]:
        return (self.name, *self.also)


@dataclass(eq=False, slots=True)
class Relation:
    """One relation. accesses and uses: what its view definition does, with `via` set.

    functions: what its view definition calls, and the views inside it, as far as not harmless. is_opaque: it is a
    view whose definition could not be followed. may_set: reading it may change settings of the session (its
    definition calls set_config, or is not known).
    """

    oid: int
    schema: str
    name: str
    kind: str
    rewritten: bool = False
    columns: list[Column] = field(default_factory=list)
    by_name: dict[str, Column] = field(default_factory=dict)
    by_number: dict[int, Column] = field(default_factory=dict)
    descendants: tuple[Relation, ...] = ()
    accesses: tuple[RelationAccess, ...] = ()
    uses: tuple[ColumnUse, ...] = ()
    functions: tuple[str, ...] = ()
    is_opaque: bool = False
    may_set: bool = False

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def has_rows(self) -> bool:
        return self.kind in _ROW_KINDS

    def add(self, column: Column) -> None:
        self.columns.append(column)
        self.by_name[column.name.column] = column
        self.by_number[column.number] = column


class Catalog:
    """One target's catalog at one moment. `version` is the same for the same content."""

    def __init__(self, rows: CatalogRows) -> None:
        self.version = hashlib.sha256(msgspec.msgpack.encode(rows)).hexdigest()[:16]
        self.server_version = rows.server_version
        self.database = rows.database
        self.schemas = frozenset(rows.schemas)
        self._usage = frozenset(rows.usage)
        self._by_oid: dict[int, Relation] = {}
        self._by_schema: dict[tuple[str, str], Relation] = {}
        self._named: dict[str, tuple[Relation, ...]] = {}
        self._functions: dict[str, list[FunctionRow]] = {}
        self._operators: dict[str, tuple[str, ...]] = {}
        self._types: dict[str, list[TypeRow]] = {}
        self._type_by_oid = {row.oid: row for row in rows.types}
        self._cast_targets = frozenset(row.target_oid for row in rows.casts)
        self._load_relations(rows)
        for function in rows.functions:
            self._functions.setdefault(function.name, []).append(function)
        for operator in rows.operators:
            self._operators[operator.name] = (*self._operators.get(operator.name, ()), operator.schema)
        for row in rows.types:
            self._types.setdefault(row.name, []).append(row)

    def _load_relations(self, rows: CatalogRows) -> None:
        for row in rows.relations:
            relation = Relation(row.oid, row.schema, row.name, row.kind, row.rewritten)
            self._by_oid[row.oid] = relation
            if row.kind != "c":
                self._by_schema[row.schema, row.name] = relation
                self._named[row.name] = (*self._named.get(row.name, ()), relation)
        for column in rows.columns:
            owner = self._by_oid.get(column.relation_oid)
            if owner is not None:
                name = ColumnName(owner.schema, owner.name, column.name)
                owner.add(Column(name, column.number, column.type_oid, column.type_modifier))

    def relations(self) -> Iterable[Relation]:
        return self._by_oid.values()

    def relation(self, schema: str, name: str) -> Relation | None:
        return self._by_schema.get((schema, name))

    def relations_named(self, name: str) -> tuple[Relation, ...]:
        """The relations of this name in every schema."""
        return self._named.get(name, ())

    def relation_by_oid(self, oid: int) -> Relation | None:
        return self._by_oid.get(oid)

    def column(self, oid: int, column_number: int) -> Column | None:
        relation = self._by_oid.get(oid)
        return None if relation is None else relation.by_number.get(column_number)

    def identities(self, oid: int, column_number: int) -> tuple[ColumnName, ...] | None:
        """Every name under which a mask of this column may be declared, its own first.

        () for a system column (a negative number); None when the relation or column is not known, for a whole
        row (number 0), and for a column of a view that could not be analysed.
        """
        relation = self._by_oid.get(oid)
        if relation is None or column_number == 0:
            return None
        if column_number < 0:
            return ()
        column = relation.by_number.get(column_number)
        return None if column is None or not column.known else column.names

    def derived_from(self, oid: int, column_number: int) -> tuple[ColumnName, ...] | None:
        """The columns from which a view's or generated column is computed; () for none; None if unknown."""
        column = self.column(oid, column_number)
        if column is None:
            return () if column_number < 0 and oid in self._by_oid else None
        return column.derived if column.known else None

    def is_derived(self, oid: int, column_number: int) -> bool:
        return self.derived_from(oid, column_number) != ()

    def may_use(self, role: str, schema: str) -> bool:
        """Is it certain that the login role may use the schema (so that its search path does not pass it over)?"""
        return ("", schema) in self._usage or (role, schema) in self._usage

    def functions(self, name: str) -> list[FunctionRow]:
        """Every function, aggregate and procedure of this name, one row for each schema and shape of result."""
        return self._functions.get(name, [])

    def is_system_function(self, name: str) -> bool:
        return any(row.system for row in self.functions(name))

    def operator_schemas(self, name: str) -> tuple[str, ...]:
        """Schemas with an operator of this name whose function is not compiled code."""
        return self._operators.get(name, ())

    def types(self, name: str) -> list[TypeRow]:
        return self._types.get(name, [])

    def type_by_oid(self, oid: int) -> TypeRow | None:
        return self._type_by_oid.get(oid)

    def has_written_cast(self, type_oid: int) -> bool:
        """Does a cast to this type run a function that is written in SQL or another language?"""
        return type_oid in self._cast_targets
