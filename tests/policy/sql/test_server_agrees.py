"""The analysis against a real server: what it says of output columns, and whether clean ones are clean.

Two databases differ only in the values of the masked columns. An output that the analysis calls free of masked
columns must be the same in both; where the server names a table column behind an output, so must the analysis.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from policy.facts import ColumnName, Output, SqlFacts, Use
from policy.sql.analyze import analyze
from policy.sql.catalog import Catalog, build_catalog
from policy.sql.catalog_queries import BEGIN_SNAPSHOT, END_SNAPSHOT, FINGERPRINT, QUERIES, SETUP
from policy.sql.catalog_rows import rows_from_text
from policy.sql.harmless import HARMLESS_CATALOG_RELATIONS
from policy.sql.refusal import SqlRefused
from policy.sql.state import SessionState
from tests.end_to_end.servers import (
    SUPERUSER,
    PostgresServer,
    client_env,
    postgres_15,
    psql_command,
)
from tests.policy.sql.query_shapes import MASKED, MASKED_VALUES, SCHEMA, WRITTEN, generated

STATE = SessionState(search_path=("shop", "public"), login_role=SUPERUSER)
GENERATED = 400
# Uses that let values of a masked column decide which rows there are: then every output may differ.
HARMLESS_USES = (Use.OUTPUT, Use.EXPRESSION, Use.ROW)


def read_catalog(dsn: str) -> Catalog:
    """As the gateway reads it: every value as text."""
    results = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        run = connection.pgconn.exec_
        run(SETUP.encode())
        run(BEGIN_SNAPSHOT.encode())
        for name, text in QUERIES.items():
            found = run(text.encode())
            assert not found.error_message, found.error_message
            results[name] = [
                [
                    None if (value := found.get_value(row, column)) is None else value.decode()
                    for column in range(found.nfields)
                ]
                for row in range(found.ntuples)
            ]
        fingerprint = run(FINGERPRINT.encode())
        assert fingerprint.ntuples == 1 and not fingerprint.error_message
        run(END_SNAPSHOT.encode())
    return build_catalog(rows_from_text(results))


@dataclass
class Twins:
    """Two databases that differ in masked values, and the catalog of the first."""

    connections: list[psycopg.Connection[tuple[object, ...]]]
    catalog: Catalog


def make(server: PostgresServer, name: str, values: dict[str, str]) -> str:
    server.psql(f"create database {name}")
    server.psql(SCHEMA.format(**values), database=name)
    return server.dsn(name)


@pytest.fixture(scope="module")
def twins(pg18: PostgresServer) -> Iterator[Twins]:
    dsns = [make(pg18, f"sql_twin_{index}", values) for index, values in enumerate(MASKED_VALUES)]
    options = "-c search_path=shop,public -c TimeZone=UTC -c statement_timeout=3000"
    connections = [psycopg.connect(dsn, autocommit=True, options=options) for dsn in dsns]
    yield Twins(connections, read_catalog(dsns[0]))
    for connection in connections:
        connection.close()


@pytest.fixture(scope="module")
def old_catalog(pg15_tls: PostgresServer) -> Catalog:
    return read_catalog(make(pg15_tls, "sql_old", MASKED_VALUES[0]))


def described(
    connection: psycopg.Connection[tuple[object, ...]], text: str
) -> list[tuple[str, int, int]] | None:
    """(name, table OID, column number) of each output; None when the server refuses the text."""
    if connection.pgconn.prepare(b"", text.encode()).error_message:
        return None
    found = connection.pgconn.describe_prepared(b"")
    return [
        ((found.fname(index) or b"").decode(), found.ftable(index), found.ftablecol(index))
        for index in range(found.nfields)
    ]


def disagreement(output: Output, name: str, table: int, number: int, catalog: Catalog) -> str:
    if output.name != name:
        return f"name {output.name}, the server says {name}"
    if table == 0:
        return "a source where the server knows none" if output.source is not None else ""
    if number <= 0:
        return "a source for a row or system column" if output.source is not None else ""
    names = catalog.identities(table, number)
    return (
        "" if names is not None and output.source == names[0] else f"{output.source}, the server says {names}"
    )


def check_description(twins: Twins, text: str) -> SqlFacts | None:
    columns = described(twins.connections[0], text)
    if columns is None:
        return None
    found = analyze(text, twins.catalog, STATE)[0].facts
    assert found.unresolved == (), text
    assert found.outputs is not None
    assert len(found.outputs) == len(columns), text
    for output, (name, table, number) in zip(found.outputs, columns, strict=True):
        assert not disagreement(output, name, table, number, twins.catalog), (
            text,
            output,
            name,
            table,
            number,
        )
    return found


def is_masked(names: tuple[ColumnName, ...]) -> bool:
    return any((name.relation, name.column) in MASKED for name in names)


def is_clean(output: Output) -> bool:
    source = () if output.source is None else (output.source,)
    return output.known and not is_masked((*source, *output.also, *output.derived))


def check_interference(twins: Twins, text: str, found: SqlFacts) -> int:
    """The number of outputs that were called clean and were the same in both databases."""
    if any(use.use not in HARMLESS_USES and is_masked((use.column,)) for use in found.uses):
        return 0
    try:
        results = [connection.execute(text.encode()).fetchall() for connection in twins.connections]
    except psycopg.Error:
        return 0
    clean = [index for index, output in enumerate(found.outputs or ()) if is_clean(output)]
    for index in clean:
        columns = [sorted(repr(row[index]) for row in rows) for rows in results]
        assert columns[0] == columns[1], (text, index)
    return len(clean)


CHANGING = ("now()", "ctid", "pg_class", "information_schema", "tablesample")


def test_written_shapes(twins: Twins) -> None:
    described_count = clean = 0
    for text in WRITTEN:
        found = check_description(twins, text)
        if found is not None:
            described_count += 1
            if not any(word in text for word in CHANGING):
                clean += check_interference(twins, text, found)
    assert described_count > len(WRITTEN) * 0.9
    assert clean > 150


def test_generated_shapes(twins: Twins) -> None:
    described_count = clean = 0
    for seed in range(GENERATED):
        text = generated(seed)
        found = check_description(twins, text)
        if found is not None:
            described_count += 1
            clean += check_interference(twins, text, found)
    assert described_count > GENERATED * 0.8
    assert clean > GENERATED / 2


def test_returning(twins: Twins) -> None:
    connection = twins.connections[0]
    for text in (
        "insert into customers (id, name) values (99, 'x') returning *",
        "update customers c set name = 'x' where id = 1 returning c.email, old.ssn, new.name, upper(c.email)",
        "delete from customers using orders o where o.id = customers.id returning customers.email, o.note",
        "merge into customers c using orders o on o.id = c.id when matched then delete"
        " returning c.email, o.note, merge_action()",
        "with d as (delete from customers returning email) select * from d",
        "insert into v_cust (id, name) values (99, 'x') returning mail, big",
    ):
        columns = described(connection, text)
        assert columns is not None, text
        outputs = analyze(text, twins.catalog, STATE)[0].facts.outputs
        assert outputs is not None and len(outputs) == len(columns), text
        for output, (name, table, number) in zip(outputs, columns, strict=True):
            assert not disagreement(output, name, table, number, twins.catalog), (text, output, name, table)


SYNTAX_ERRORS = (
    "selec 1",
    "select 1 from from",
    "select 'é' é é é",
    "select '日本語' from )",
    "select 1 +",
    "select 'x",
    'select "x',
    "select 1; select (",
    "select * from t where a = = 1",
    "select /* x",
    "select $$x",
    "insert into t values (1",
    "select 'é' from t wher a = 1 order",
    "select U&'\\d800'",
    "create table x (a int,)",
    'select ""',
    "select 1a",
)


@pytest.mark.parametrize("text", SYNTAX_ERRORS)
def test_syntax_errors_are_word_for_word(twins: Twins, text: str) -> None:
    with pytest.raises(psycopg.Error) as error, psycopg.ClientCursor(twins.connections[0]) as cursor:
        cursor.execute(text.encode())
    diagnostic = error.value.diag
    with pytest.raises(SqlRefused) as refused:
        analyze(text, twins.catalog, STATE)
    mine = refused.value
    assert (mine.message, mine.sqlstate) == (diagnostic.message_primary, diagnostic.sqlstate)
    assert str(mine.position) == diagnostic.statement_position


PSQL_COMMANDS = r"""
\d
\d shop.customers
\d+ shop.v_cust
\d+ shop.events
\d+ shop.base
\d+ shop.m_cust
\d shop.customers_pkey
\dt+ *.*
\dv+
\dm+
\di+
\ds+
\dE
\df+
\df shop.*
\da
\dA+
\db+
\dc+
\dC+
\dd
\ddp
\dD+
\des+
\det+
\dew+
\dF+
\dFd+
\dFp+
\dFt+
\dg+
\dl
\dL+
\dn+
\do
\dO+
\dp
\dP+
\drds
\dRp+
\dT+
\du+
\dx+
\dX
\dy+
\l+
\sf shop.f
\sv shop.v_cust
\dconfig work_mem
\dAc
\dAf
\dAo
\dAp
"""


def psql_queries(psql: list[str], environment: dict[str, str] | None) -> list[str]:
    """The queries that psql makes for its own commands."""
    done = subprocess.run(
        [*psql[:-1], "-v", "ON_ERROR_STOP=0", "-E", "-f", "-", psql[-1]],
        input=PSQL_COMMANDS,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    queries: list[str] = []
    current: list[str] | None = None
    for line in done.stdout.splitlines():
        if line.strip("/").startswith("****") and "QUERY" in line:
            current = []
        elif line.strip("/").startswith("****") and current is not None:
            queries.append("\n".join(current))
            current = None
        elif current is not None:
            current.append(line)
    return queries


def assert_harmless(texts: list[str], catalog: Catalog) -> None:
    state = SessionState(search_path=("$user", "public"), login_role=SUPERUSER)
    for text in texts:
        for statement in analyze(text, catalog, state):
            found = statement.facts
            named = {f"{access.schema}.{access.name}" for access in found.accesses}
            assert named <= HARMLESS_CATALOG_RELATIONS, text
            assert {access.command for access in found.accesses} <= {"select"}, text
            assert (found.functions, found.unresolved, found.settings) == ((), (), ()), text
            assert all(output.known for output in found.outputs or ()), text


def test_psqls_own_queries_are_harmless(
    pg18: PostgresServer, pg15_tls: PostgresServer, twins: Twins, old_catalog: Catalog
) -> None:
    new, old = pg18.dsn("sql_twin_0"), pg15_tls.dsn("sql_old")
    old_psql = [postgres_15().program("psql"), "-X", old]
    for command, environment, catalog in (
        (psql_command(new), client_env(), twins.catalog),
        (psql_command(old), client_env(), old_catalog),
        (old_psql, None, old_catalog),
    ):
        queries = psql_queries(command, environment)
        assert len(queries) > 100
        assert_harmless(queries, catalog)


def test_the_catalog_of_an_old_server(old_catalog: Catalog) -> None:
    relation = old_catalog.relation("shop", "v_v")
    assert relation is not None
    (mail, big, _) = relation.columns
    assert [str(name) for name in mail.also] == ["shop.v_cust.mail", "shop.customers.email"]
    assert [str(name) for name in big.derived] == ["shop.customers.email"]
    assert old_catalog.is_system_function("upper")
