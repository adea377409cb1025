"""The raw rows from which a catalog snapshot is built, as plain tuples in the order of the queries' columns.

The loader (`proxyd.catalog`) runs each text of `catalog_queries.QUERIES`, hands the text values to
`rows_from_text` and the result to `catalog.build_catalog`. Nothing here knows how rows are fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec


class UsageRow(NamedTuple):
    """A login role ("" for everybody) and a schema that it may use."""

    role: str
    schema: str


class RelationRow(NamedTuple):
    """pg_class: kind is relkind (r, p, f, v, m, S, c). rewritten: has rules other than a view's own."""

    oid: int
    schema: str
    name: str
    kind: str
    rewritten: bool


class ColumnRow(NamedTuple):
    """pg_attribute, live user columns. generated: the expression of a generated column, else ""."""

    relation_oid: int
    number: int
    name: str
    type_oid: int
    type_modifier: int
    generated: str


class InheritanceRow(NamedTuple):
    """pg_inherits: partition or inheritance child, and parent."""

    child_oid: int
    parent_oid: int


class ViewRow(NamedTuple):
    """Definition of a view or materialised view outside the system schemas, all names in it qualified."""

    relation_oid: int
    definition: str


class FunctionRow(NamedTuple):
    """pg_proc, distinct. system: made by initdb in pg_catalog.

    relation_oid: the relation whose row type it returns, else 0. out_names: names of OUT and TABLE columns as
    a JSON array of strings, "" when it has none. returns_record: returns `record` without OUT columns.
    compiled: its language (an aggregate's: that of its parts) is C or internal, so only a superuser can have made
    it. is_polymorphic: the type of its result depends on its arguments.
    """

    schema: str
    name: str
    system: bool
    relation_oid: int
    out_names: str
    returns_record: bool
    compiled: bool
    is_polymorphic: bool


class OperatorRow(NamedTuple):
    """pg_operator, distinct: only those whose function is written in SQL or a procedural language."""

    schema: str
    name: str


class TypeRow(NamedTuple):
    """pg_type. kind is typtype (b, c, d, e, p, r, m).

    base_oid: of a domain. element_oid: of a true array, a range or a multirange. checked: the domain has constraints
    (their expressions run in a cast). system: made by initdb.
    """

    oid: int
    schema: str
    name: str
    kind: str
    base_oid: int
    element_oid: int
    relation_oid: int
    checked: bool
    system: bool


class CastRow(NamedTuple):
    """pg_cast: only those whose function is written in SQL or a procedural language."""

    source_oid: int
    target_oid: int


class CatalogRows(msgspec.Struct, frozen=True):
    """Everything read from the target. server_version is server_version_num (180001); schemas: all names."""

    server_version: int = 0
    database: str = ""
    schemas: tuple[str, ...] = ()
    usage: tuple[UsageRow, ...] = ()
    relations: tuple[RelationRow, ...] = ()
    columns: tuple[ColumnRow, ...] = ()
    inheritance: tuple[InheritanceRow, ...] = ()
    views: tuple[ViewRow, ...] = ()
    functions: tuple[FunctionRow, ...] = ()
    operators: tuple[OperatorRow, ...] = ()
    types: tuple[TypeRow, ...] = ()
    casts: tuple[CastRow, ...] = ()


TextRow = Sequence[str | None]


def _text(value: str | None) -> str:
    return "" if value is None else value


def _number(value: str | None) -> int:
    return 0 if value is None or value == "" else int(value)


def _truth(value: str | None) -> bool:
    return value in {"t", "true"}


def rows_from_text(results: Mapping[str, Sequence[TextRow]]) -> CatalogRows:
    """The text values of every query of `catalog_queries.QUERIES`, by its name, as CatalogRows.

    Raises KeyError, IndexError or ValueError when a result is missing or is not of the documented shape.
    """
    server = results["server"][0]
    return CatalogRows(
        server_version=_number(server[0]),
        database=_text(server[1]),
        schemas=tuple(_text(row[0]) for row in results["schemas"]),
        usage=tuple(UsageRow(_text(r[0]), _text(r[1])) for r in results.get("usage", ())),
        relations=tuple(
            RelationRow(_number(r[0]), _text(r[1]), _text(r[2]), _text(r[3]), _truth(r[4]))
            for r in results["relations"]
        ),
        columns=tuple(
            ColumnRow(_number(r[0]), _number(r[1]), _text(r[2]), _number(r[3]), _number(r[4]), _text(r[5]))
            for r in results["columns"]
        ),
        inheritance=tuple(InheritanceRow(_number(r[0]), _number(r[1])) for r in results["inheritance"]),
        views=tuple(ViewRow(_number(r[0]), _text(r[1])) for r in results["views"]),
        functions=tuple(_function_row(r) for r in results["functions"]),
        operators=tuple(OperatorRow(_text(r[0]), _text(r[1])) for r in results["operators"]),
        types=tuple(_type_row(r) for r in results["types"]),
        casts=tuple(CastRow(_number(r[0]), _number(r[1])) for r in results["casts"]),
    )


def _type_row(r: TextRow) -> TypeRow:
    return TypeRow(
        _number(r[0]),
        _text(r[1]),
        _text(r[2]),
        _text(r[3]),
        _number(r[4]),
        _number(r[5]),
        _number(r[6]),
        _truth(r[7]),
        _truth(r[8]),
    )


def _function_row(r: TextRow) -> FunctionRow:
    return FunctionRow(
        _text(r[0]),
        _text(r[1]),
        _truth(r[2]),
        _number(r[3]),
        _text(r[4]),
        _truth(r[5]),
        _truth(r[6]),
        _truth(r[7]),
    )
