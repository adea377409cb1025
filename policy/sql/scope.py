"""Names in reach: FROM items, levels of queries, common table expressions, and what a value is made of.

A Value says which columns stand behind an expression. An Item is one entry of a FROM list; a Level is the name
space of one query; look-ups follow PostgreSQL's rules (inner level first, ambiguity within a level is an error).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from policy.sql.collected import Access
from policy.sql.snapshot import SYSTEM_COLUMNS, Column, Relation

NO_COLUMNS: frozenset[Column] = frozenset()


@dataclass(eq=False, slots=True)
class Value:
    """What an expression is made of.

    column: the one column whose value it is, unchanged; others: what it would be had the relation's name meant
    another one. derived: columns that go into it. known: False when something in it could not be followed.
    row: the FROM item when it is a whole row. clean (all empty): no column goes into it.
    """

    column: Column | None = None
    others: tuple[Column, ...] = ()
    derived: frozenset[Column] = NO_COLUMNS
    known: bool = True
    row: Item | None = None

    def all_columns(self) -> frozenset[Column]:
        if self.column is None:
            return self.derived
        return self.derived.union((self.column, *self.others))

    @property
    def type_oid(self) -> int:
        return 0 if self.column is None else self.column.type_oid

    @property
    def has_no_modifier(self) -> bool:
        return self.column is not None and self.column.type_modifier == -1

    @property
    def is_known(self) -> bool:
        return self.known and (self.column is None or self.column.known)


def in_order(columns: frozenset[Column]) -> Iterable[Column]:
    """The columns by name, so that the same statement always gives the same facts."""
    return sorted(columns, key=lambda column: column.name) if len(columns) > 1 else columns


CLEAN = Value()
UNKNOWN = Value(known=False)


def mixed(values: Iterable[Value], *, known: bool = True) -> Value:
    """A value computed from others."""
    derived: frozenset[Column] = NO_COLUMNS
    for value in values:
        if value is CLEAN:
            continue
        columns = value.all_columns()
        derived = derived | columns if derived else columns
        known = known and value.is_known
    if not derived:
        return CLEAN if known else UNKNOWN
    return Value(derived=derived, known=known)


@dataclass(eq=False, slots=True)
class Field:
    """A column of a FROM item. accesses: those that reading it by name must mention it in."""

    name: str
    value: Value
    accesses: tuple[Access, ...] = ()

    def read(self) -> Value:
        if self.accesses:
            name = self.name if self.value.column is None else self.value.column.name.column
            for access in self.accesses:
                access.read(name)
        return self.value


class Item:
    """One FROM item. fields: its columns in order as far as known; is_open: it may have more than those.

    schema: of a plain relation without an alias (so that schema.relation.column finds it). has_system_columns:
    it is a relation, not a query or function. relation: its columns are just this relation's (made on demand).
    """

    __slots__ = (
        "_by_name",
        "_fields",
        "accesses",
        "has_system_columns",
        "is_open",
        "name",
        "relation",
        "schema",
    )

    def __init__(
        self,
        name: str,
        fields: list[Field] | None = None,
        *,
        is_open: bool = False,
        schema: str = "",
        relation: Relation | None = None,
        accesses: tuple[Access, ...] = (),
    ) -> None:
        self.name = name
        self._fields = fields
        self.is_open = is_open
        self.schema = schema
        self.relation = relation
        self.has_system_columns = bool(accesses)
        self.accesses = accesses
        self._by_name: dict[str, list[Field]] | None = None

    @property
    def fields(self) -> list[Field]:
        if self._fields is None:
            columns = self.relation.columns if self.relation is not None else []
            self._fields = [Field(c.name.column, Value(c), self.accesses) for c in columns]
        return self._fields

    def find(self, name: str) -> list[Field]:
        if self._fields is None and self.relation is not None:
            column = self.relation.by_name.get(name)
            if column is not None:
                return [Field(name, Value(column), self.accesses)]
        elif (found := self._index().get(name)) is not None:
            return found
        if self.has_system_columns and name in SYSTEM_COLUMNS:
            return [Field(name, CLEAN)]
        return []

    def _index(self) -> dict[str, list[Field]]:
        if self._by_name is None:
            self._by_name = {}
            for entry in self.fields:
                self._by_name.setdefault(entry.name, []).append(entry)
        return self._by_name

    def read_all(self) -> list[Field]:
        """Every field, each marked as read."""
        if self.is_open:
            for access in self.accesses:
                access.read_any()
        for entry in self.fields:
            entry.read()
        return self.fields

    def whole_row(self) -> Value:
        """The item as one value; every column of it is read."""
        inner = mixed(entry.value for entry in self.read_all())
        return Value(derived=inner.derived, known=inner.known and not self.is_open, row=self)


@dataclass(eq=False, slots=True)
class Level:
    """The name space of one query. by_column: items searched for bare names; by_name: for qualified names.

    expressions: the common table expressions in reach. windows: what the named windows are made of.
    """

    parent: Level | None = None
    expressions: TableExpressions | None = None
    by_column: list[Item] = field(default_factory=list)
    by_name: list[Item] = field(default_factory=list)
    windows: dict[str, Value] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        self.by_column.append(item)
        if item.name:
            self.by_name.append(item)


@dataclass(eq=False, slots=True)
class TableExpression:
    """A common table expression. fields is asked at each reference; a recursive one answers what it knows."""

    name: str
    fields: Callable[[], tuple[list[Field], bool]]


@dataclass(eq=False, slots=True)
class TableExpressions:
    """Common table expressions in reach, innermost first."""

    parent: TableExpressions | None = None
    names: dict[str, TableExpression] = field(default_factory=dict)

    def find(self, name: str) -> TableExpression | None:
        reach: TableExpressions | None = self
        while reach is not None:
            if name in reach.names:
                return reach.names[name]
            reach = reach.parent
        return None


@dataclass(eq=False, slots=True)
class Found:
    """The answer to a look-up of a column. value None: there is no such column."""

    value: Value | None
    problem: str = ""


def find_column(level: Level | None, name: str) -> Found:
    """A bare name, through all levels."""
    open_items: list[Item] = []
    while level is not None:
        hits: list[Field] = []
        for item in level.by_column:
            found = item.find(name)
            if found:
                hits.extend(found)
            elif item.is_open:
                open_items.append(item)
        if len(hits) > 1:
            values = [entry.read() for entry in hits]
            return Found(mixed(values, known=False), f'column reference "{name}" is ambiguous')
        if hits:
            value = hits[0].read()
            if not open_items:
                return Found(value)
            return Found(_in_doubt(value, open_items), f'column "{name}" may be of another relation')
        level = level.parent
    if open_items:
        return Found(_in_doubt(CLEAN, open_items), f'column "{name}" is of a relation with unknown columns')
    return Found(None)


def _in_doubt(value: Value, open_items: list[Item]) -> Value:
    for item in open_items:
        for access in item.accesses:
            access.read_any()
    return mixed((value, *(mixed(entry.value for entry in item.fields) for item in open_items)), known=False)


def find_item(level: Level | None, name: str, schema: str = "") -> Item | None:
    """A relation name or alias, through all levels; schema: only plain relations of that schema."""
    while level is not None:
        for item in level.by_name:
            if item.name == name and (not schema or item.schema == schema):
                return item
        level = level.parent
    return None
