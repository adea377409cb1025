"""Building a catalog snapshot: relations from rows, then what stands behind each column.

A view's definition is run through the same analysis as a client's statement, after the views it is made of; a
definition that cannot be analysed makes the view opaque: none of its columns is known. Generated columns are
computed from their expression, partitions and inheritance children are tied to their relatives. A column that can
hold rows of a composite type (a table's row type is one) counts as computed from all columns of that type.
"""

from __future__ import annotations

from policy.facts import ColumnName, ColumnUse, RelationAccess, Use
from policy.sql.catalog_rows import CatalogRows, ColumnRow
from policy.sql.parse import Node, parse
from policy.sql.refusal import SqlRefused
from policy.sql.scope import Field, in_order
from policy.sql.snapshot import Catalog, Column, Relation
from policy.sql.state import SessionState
from policy.sql.statements import Statements

__all__ = ["Catalog", "CatalogRows", "build_catalog"]

# Definitions are read with an empty path: only pg_catalog is searched.
_QUALIFIED = SessionState(search_path=())
_FAILURES = (SqlRefused, RecursionError, LookupError, TypeError, ValueError, AttributeError)


def build_catalog(rows: CatalogRows) -> Catalog:
    """The snapshot for what was read. Never fails on a definition: that view is opaque then."""
    catalog = Catalog(rows)
    _tie_relatives(catalog, rows)
    _Derivations(catalog, rows).build()
    return catalog


# -- inheritance


def _tie_relatives(catalog: Catalog, rows: CatalogRows) -> None:
    parents: dict[int, list[int]] = {}
    children: dict[int, list[int]] = {}
    for link in rows.inheritance:
        parents.setdefault(link.child_oid, []).append(link.parent_oid)
        children.setdefault(link.parent_oid, []).append(link.child_oid)
    for oid in parents.keys() | children.keys():
        relation = catalog.relation_by_oid(oid)
        if relation is None:
            continue
        below = _reached(catalog, oid, children)
        relation.descendants = tuple(below)
        relatives = [*_reached(catalog, oid, parents), *below]
        for column in relation.columns:
            same = [
                relative.by_name[column.name.column].name
                for relative in relatives
                if column.name.column in relative.by_name
            ]
            column.also = tuple(same)
            column.behind = tuple((name, True, relation.qualified) for name in same)


def _reached(catalog: Catalog, start: int, links: dict[int, list[int]]) -> list[Relation]:
    seen = {start}
    waiting = list(links.get(start, ()))
    found = []
    while waiting:
        oid = waiting.pop(0)
        if oid in seen:
            continue
        seen.add(oid)
        relation = catalog.relation_by_oid(oid)
        if relation is not None:
            found.append(relation)
        waiting.extend(links.get(oid, ()))
    return found


# -- generated columns


def _derive_generated(catalog: Catalog, row: ColumnRow) -> None:
    relation = catalog.relation_by_oid(row.relation_oid)
    column = None if relation is None else relation.by_number.get(row.number)
    if relation is None or column is None:
        return
    column.is_generated = True
    try:
        text = " ".join(("SELECT", row.generated, "FROM ONLY", _quoted(relation)))
        fields = _definition_fields(catalog, text)[0]
        _make_computed(column, fields[0], relation.qualified)
    except _FAILURES:
        column.known = False


def _quoted(relation: Relation) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in (relation.schema, relation.name))


def _definition_fields(catalog: Catalog, text: str) -> tuple[list[Field], Statements]:
    (statement,) = parse(text)
    walk = Statements(catalog, _QUALIFIED)
    fields = walk.subquery({statement.kind: statement.node}, None)
    return fields, walk


def _make_computed(column: Column, entry: Field, via: str) -> None:
    """Tie a view's or generated column to what `entry` says that it is made of."""
    value = entry.value
    column.known = value.is_known and all(part.known for part in value.derived)
    behind: dict[tuple[ColumnName, str], bool] = {(name, place): same for name, same, place in column.behind}
    derived = dict.fromkeys(column.derived)
    also = dict.fromkeys(column.also)
    for part in in_order(value.derived):
        for name in (*part.names, *part.derived):
            derived[name] = None
            behind.setdefault((name, via), False)
    source = value.column
    if source is not None:
        also.update(dict.fromkeys(source.names))
        derived.update(dict.fromkeys(source.derived))
        column.type_oid = column.type_oid or source.type_oid
        for name in source.names:
            behind[name, via] = True
        for name in source.derived:
            behind.setdefault((name, via), False)
    column.also = tuple(also)
    column.derived = tuple(derived)
    column.behind = tuple((name, same, place) for (name, place), same in behind.items())


# -- columns that hold rows


def _row_types(catalog: Catalog, type_oid: int) -> list[Relation]:
    """The composite types of which a value of this type can hold rows, at any depth: arrays, domains, ranges."""
    found: list[Relation] = []
    waiting = [type_oid]
    seen: set[int] = set()
    while waiting:
        oid = waiting.pop()
        row = catalog.type_by_oid(oid)
        if row is None or oid in seen:
            continue
        seen.add(oid)
        waiting.extend((row.base_oid, row.element_oid))
        relation = catalog.relation_by_oid(row.relation_oid) if row.relation_oid else None
        if relation is not None:
            found.append(relation)
            waiting.extend(column.type_oid for column in relation.columns)
    return found


def _make_holder(column: Column, held: list[Relation], via: str) -> None:
    """Tie a column to every column of the rows that it can hold, under all their names."""
    derived = dict.fromkeys(column.derived)
    behind = {(name, place): same for name, same, place in column.behind}
    for part in (part for relation in held for part in relation.columns):
        column.known = column.known and part.known
        for name in (*part.names, *part.derived):
            derived[name] = None
            behind.setdefault((name, via), False)
    column.derived = tuple(derived)
    column.behind = tuple((name, same, place) for (name, place), same in behind.items())


# -- views, generated columns and columns that hold rows, each after what it is made of


class _Derivations:
    """Relations in the order of what they are made of."""

    def __init__(self, catalog: Catalog, rows: CatalogRows) -> None:
        self._catalog = catalog
        self._definitions = {row.relation_oid: row.definition for row in rows.views}
        self._generated: dict[int, list[ColumnRow]] = {}
        for row in rows.columns:
            if row.generated:
                self._generated.setdefault(row.relation_oid, []).append(row)
        self._done: set[int] = set()

    def build(self) -> None:
        for relation in self._catalog.relations():
            self._build(relation, ())

    def _build(self, relation: Relation, above: tuple[int, ...]) -> None:
        if relation.oid in self._done:
            return
        self._done.add(relation.oid)
        inside = (*above, relation.oid)
        if relation.oid in self._definitions:
            self._build_view(relation, inside)
        for column in relation.columns:
            held = _row_types(self._catalog, column.type_oid)
            for inner in held:
                if inner.oid != relation.oid and inner.oid in above:
                    column.known = False  # rows of a view that is made of this relation
                self._build(inner, inside)
            if held:
                _make_holder(column, held, relation.qualified)
        for row in self._generated.get(relation.oid, ()):
            _derive_generated(self._catalog, row)

    def _build_view(self, view: Relation, inside: tuple[int, ...]) -> None:
        try:
            (statement,) = parse(self._definitions[view.oid])
            for schema, name in _mentioned(statement.node):
                inner = self._catalog.relation(schema, name)
                if inner is None:
                    continue
                if inner.oid in inside:
                    raise ValueError("a view is made of itself, or of a table that holds rows of it")
                self._build(inner, inside)
            self._analyse(view)
        except _FAILURES:
            view.may_set = view.is_opaque = True
            for column in view.columns:
                column.known = False

    def _analyse(self, view: Relation) -> None:
        fields, walk = _definition_fields(self._catalog, self._definitions[view.oid])
        if walk.is_open_result(fields) or len(fields) != len(view.columns):
            raise ValueError("the columns of the definition are not those of the view")
        if walk.collected.unresolved:
            raise ValueError("the definition names what is not in the snapshot")
        for column, entry in zip(view.columns, fields, strict=True):
            _make_computed(column, entry, view.qualified)
        inside = walk.collected
        view.may_set = bool(walk.set_config)
        view.functions = tuple({**inside.functions, **inside.hidden_functions})
        uses = (
            ColumnUse(use.column, use.use, view.qualified) for use in inside.uses if use.use is not Use.OUTPUT
        )
        accesses = (
            RelationAccess(
                access.command,
                access.schema,
                access.name,
                view.qualified,
                access.bounded,
                None if access.columns is None else tuple(sorted(access.columns)),
            )
            for access in inside.accesses
        )
        view.uses = tuple(dict.fromkeys(uses))
        view.accesses = tuple(dict.fromkeys(accesses))


def _mentioned(node: object) -> list[tuple[str, str]]:
    """Every qualified relation name in a tree."""
    names = []
    waiting: list[object] = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            inner: Node = part
            if isinstance(inner.get("relname"), str):
                names.append((str(inner.get("schemaname", "")), inner["relname"]))
            waiting.extend(inner.values())
    return names
