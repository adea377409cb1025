"""PostgreSQL's own relations, as the policy treats them: harmless to read, or revealing under masks.

The lists are the SQL analysis's (`policy.sql.harmless`), of names like "pg_catalog.pg_class".
"""

from __future__ import annotations

from policy.sql.harmless import (
    HARMLESS_CATALOG_RELATIONS,
    REVEALING_CATALOG_COLUMNS,
    REVEALING_CATALOG_RELATIONS,
)

_NONE: frozenset[str] = frozenset()


def is_harmless(schema: str, relation: str) -> bool:
    """May anybody who has a session read it? It names objects and holds no data."""
    return f"{schema}.{relation}" in HARMLESS_CATALOG_RELATIONS


def is_revealing(schema: str, relation: str) -> bool:
    """Does it hold values of application columns, statements of others, or secrets?"""
    return f"{schema}.{relation}" in REVEALING_CATALOG_RELATIONS


def revealing_columns(schema: str, relation: str) -> frozenset[str]:
    """The columns of a harmless relation that hold values of application columns all the same."""
    return REVEALING_CATALOG_COLUMNS.get(f"{schema}.{relation}", _NONE)
