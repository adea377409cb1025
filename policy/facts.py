"""What the gateway knows of a caller, a target and an operation, as plain data.

Facts carry no judgement: they are the same whatever the policy says, so that a tape can be judged again under
another document. Gates build them, `policy.evaluate` reads them, the tape stores them (msgspec, arrays of plain
values). Nothing here does I/O or reads a clock; times are passed in as Unix seconds.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class Subject(msgspec.Struct, frozen=True):
    """Who is calling. `claims` holds every other name of the certificate or claim of the token."""

    name: str
    groups: tuple[str, ...] = ()
    claims: dict[str, str | list[str]] = {}
    method: str = "certificate"
    expires_at: float | None = None


class Target(msgspec.Struct, frozen=True):
    """What is called: one configured system behind the gateway."""

    name: str
    protocol: str
    labels: dict[str, str] = {}


class Use(Enum):
    """How a statement uses a column."""

    OUTPUT = "output"  # leaves unchanged as (part of) an output column of the statement
    EXPRESSION = "expression"  # goes into a computed output value
    FILTER = "filter"  # WHERE, HAVING, JOIN ON, CASE WHEN, FILTER, LIMIT...
    JOIN = "join"  # equality between two columns in JOIN ON / USING / NATURAL
    GROUP = "group"  # GROUP BY, DISTINCT, set operations that drop duplicates, PARTITION BY
    ORDER = "order"  # ORDER BY
    COPY = "copy"  # stored elsewhere: INSERT..SELECT, UPDATE SET x = col, CREATE TABLE AS, SELECT INTO
    ASSIGN = "assign"  # target of INSERT, UPDATE SET or COPY FROM: written, not read
    ROW = "row"  # part of a whole-row value (select t from t; t::text; row_to_json(t))


HIDDEN = "hidden: "


class ColumnName(msgspec.Struct, frozen=True, order=True):
    schema: str
    relation: str
    column: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.relation}.{self.column}"


class ColumnUse(msgspec.Struct, frozen=True):
    """One use of one column. `via` names the view (or inheritance relative) through which it is reached.

    A use of a view's column gives one ColumnUse for the view's column (via "") and one for each base column behind it
    (via "schema.view"); what the view's own definition does with base columns (its WHERE, its joins, its expressions)
    is added with the same `via` whenever the view is touched.
    """

    column: ColumnName
    use: Use
    via: str = ""


class RelationAccess(msgspec.Struct, frozen=True):
    """One relation that a statement touches.

    command: select, insert, update, delete, merge, truncate, copy_from, create_table, alter_table, drop ... (the
    command that touches this relation, so a SELECT inside an INSERT gives its own `select` access).
    schema: "" when the name could not be resolved to one schema. via: the view it is reached through ("" if direct).
    bounded: False when an UPDATE or DELETE of it has no WHERE.
    columns: columns read or written by name, sorted; None when that is not known (then any column may be meant).
    """

    command: str
    schema: str
    name: str
    via: str = ""
    bounded: bool = True
    columns: tuple[str, ...] | None = ()


class Output(msgspec.Struct, frozen=True):
    """One output column of a statement.

    source: the single column whose value leaves unchanged here (through subqueries and CTEs), else None. When it is a
    column of a view, `also` names the base columns behind it; for a partition or inheritance child or parent, the
    same column of its relatives. A mask declared on any of these names applies.
    derived: columns that go into its value when it is computed. All empty: proved to carry no column at all.
    known: False when lineage could not be proved.
    """

    name: str
    source: ColumnName | None = None
    also: tuple[ColumnName, ...] = ()
    derived: tuple[ColumnName, ...] = ()
    known: bool = True


class SqlFacts(msgspec.Struct, frozen=True):
    """One SQL statement.

    command: the top-level command tag in lower snake case ("select", "insert", "create_table_as", "set", "begin").
    commands: every command inside, the top one included (a CTE that writes, EXPLAIN ANALYZE, PREPARE, COPY (query)).
    accesses: relations touched. functions: calls ("schema.name") that are not on the list of harmless functions.
    settings: names that SET/RESET/set_config would change. uses: columns used. outputs: output columns, None when the
    statement returns no rows. unresolved: reasons why something in it could not be seen (fail closed on these); those
    that begin with HIDDEN are about something that could read any relation, whichever the statement names.
    hidden_functions: like functions, but called inside the views that it touches.
    """

    command: str
    commands: tuple[str, ...] = ()
    accesses: tuple[RelationAccess, ...] = ()
    functions: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    uses: tuple[ColumnUse, ...] = ()
    outputs: tuple[Output, ...] | None = None
    unresolved: tuple[str, ...] = ()
    hidden_functions: tuple[str, ...] = ()
