"""A snapshot of a target's catalog, as plain data: relations, columns, view lineage, functions, operators.

Built by `proxyd.catalog` from rows that the gateway reads over a connection of its own; read by the SQL analysis
and by the gate (to resolve the table OID and column number in a RowDescription). Immutable: a change of the
target's catalog makes a new snapshot with another `version`.
"""

from __future__ import annotations

from policy.facts import ColumnName
from policy.sql.catalog_rows import CatalogRows


class Catalog:
    """Being written; the names below are final."""

    version: str

    def identities(self, oid: int, column_number: int) -> tuple[ColumnName, ...] | None:
        raise NotImplementedError

    def derived_from(self, oid: int, column_number: int) -> tuple[ColumnName, ...] | None:
        raise NotImplementedError


def build_catalog(rows: CatalogRows) -> Catalog:
    raise NotImplementedError
