"""Building a catalog snapshot: relations from rows, then what stands behind each column.

A view's definition is run through the same analysis as a client's statement, after the views it is made of; a
definition that cannot be analysed makes the view opaque: none of its columns is known. Generated columns are
computed from their expression, partitions and inheritance children are tied to their relatives.
"""

from __future__ import annotations

from policy.facts import ColumnName, ColumnUse, RelationAccess, Use
from policy.sql.catalog_rows import CatalogRows, ColumnRow
from policy.sql.parse import Node, parse
from policy.sql.refusal import SqlRefused
from policy.sql.scope import Field
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
    for column in rows.columns:
        if column.generated:
            _derive_generated(catalog, column)
    _Views(catalog, rows).build()
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
    for part in value.derived:
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


# -- views


class _Views:
    """Views in the order of what they are made of."""

    def __init__(self, catalog: Catalog, rows: CatalogRows) -> None:
        self._catalog = catalog
        self._definitions = {row.relation_oid: row.definition for row in rows.views}
        self._done: set[int] = set()

    def build(self) -> None:
        for oid in self._definitions:
            self._build(oid, ())

    def _build(self, oid: int, above: tuple[int, ...]) -> None:
        if oid in self._done:
            return
        view = self._catalog.relation_by_oid(oid)
        self._done.add(oid)
        if view is None:
            return
        try:
            (statement,) = parse(self._definitions[oid])
            for schema, name in _mentioned(statement.node):
                inner = self._catalog.relation(schema, name)
                if inner is not None and inner.oid in self._definitions:
                    if inner.oid in (oid, *above):
                        raise ValueError("a view is made of itself")
                    self._build(inner.oid, (*above, oid))
            self._analyse(view)
        except _FAILURES:
            view.may_set = True
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
