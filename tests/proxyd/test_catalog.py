"""`proxyd.catalog` on real servers: what it notices, what it asks, what it does when the target is away.

What a snapshot means is tested with `policy.sql`; here it is the rows it was built from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
import trio

from policy.sql.catalog import Catalog
from policy.sql.catalog_rows import CatalogRows
from proxyd import catalog as catalog_module
from proxyd.addresses import Address
from proxyd.catalog import CatalogSource, CatalogUnavailable
from proxyd.config import Login
from proxyd.upstream import UpstreamConnection, UpstreamTarget, connect
from proxyd.upstream_query import DEFAULT_LIMITS, QueryLimits, Row, query
from tests.end_to_end.servers import PostgresServer, authentication_hba, create_roles, postgres_18

DEADLINE_S = 60.0
_numbers = count(1)


class Snapshot(Catalog):
    def __init__(self, rows: CatalogRows) -> None:
        self.rows = rows

    def columns_of(self, schema: str, name: str) -> list[str]:
        oids = [row.oid for row in self.rows.relations if (row.schema, row.name) == (schema, name)]
        return [row.name for row in self.rows.columns if row.relation_oid in oids]


@pytest.fixture(autouse=True)
def _snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "build_catalog", Snapshot)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that sources send."""
    statements: list[str] = []

    async def listening(
        connection: UpstreamConnection, sql: str, limits: QueryLimits = DEFAULT_LIMITS
    ) -> list[Row]:
        statements.append(sql)
        return await query(connection, sql, limits)

    monkeypatch.setattr(catalog_module, "query", listening)
    return statements


@pytest.fixture
def database(pg18: PostgresServer) -> Iterator[str]:
    name = f"catalog_{next(_numbers)}"
    pg18.psql(f"create database {name}")
    yield name
    pg18.psql(f"drop database {name} with (force)")


def target_of(server: PostgresServer) -> UpstreamTarget:
    return UpstreamTarget("shop", Address("127.0.0.1", server.port))


def source_of(server: PostgresServer, database: str, poll_interval_s: float = 1.0) -> CatalogSource:
    login = Login(name="catalog", user="by_trust")
    return CatalogSource(target_of(server), login, database, poll_interval_s=poll_interval_s)


def is_stale(source: CatalogSource) -> bool:
    """The property read anew (a type checker believes that it stays as last seen)."""
    return source.is_stale


@pytest.fixture
async def source(pg18: PostgresServer, database: str) -> AsyncIterator[CatalogSource]:
    source = source_of(pg18, database, poll_interval_s=60.0)
    yield source
    await source.aclose()


def rows_of(catalog: Catalog) -> Snapshot:
    assert isinstance(catalog, Snapshot)
    return catalog


async def test_first_look(source: CatalogSource, pg18: PostgresServer, database: str) -> None:
    assert is_stale(source)
    pg18.psql("create table t (a int, b text)", database)
    catalog = rows_of(await source.current())
    assert catalog.rows.database == database
    assert catalog.rows.server_version >= 180000
    assert catalog.columns_of("public", "t") == ["a", "b"]
    assert source.latest is catalog
    assert not is_stale(source)
    assert await source.current() is catalog


CHANGES = {
    "table": "create table other (a int)",
    "column": "alter table t add column c int",
    "rename": "alter table t rename column c to d",
    "type": "alter table t alter column d type bigint",
    "drop column": "alter table t drop column d",
    "view": "create view v as select a from t",
    "view replaced": "create or replace view old_view as select b as x from t",
    "function": "create function f() returns int language sql as 'select 1'",
    "function replaced": "create or replace function g() returns int language sql as 'select 3'",
    "schema": "create schema s",
    "schema renamed": "alter schema old_schema rename to new_schema",
    "partition": "create table part partition of parent for values in (1)",
    "inheritance": "create table child () inherits (t)",
    "type created": "create type colour as enum ('red')",
    "domain": "create domain positive as int check (value > 0)",
    "domain check": "alter domain old_domain add check (value < 100)",
    "cast": "create cast (text as int) with inout",
    "operator": "create operator ### (leftarg = int, rightarg = int, procedure = int4pl)",
    "rule": "create rule r as on insert to parent do instead nothing",
    "drop": "drop table t cascade",
}

BEFORE = """
create table t (a int, b text);
create view old_view as select b as x from t where a = 1;
create function g() returns int language sql as 'select 2';
create schema old_schema;
create table parent (a int) partition by list (a);
create domain old_domain as int;
"""


async def test_every_kind_of_change_is_noticed(
    source: CatalogSource, pg18: PostgresServer, database: str
) -> None:
    pg18.psql(BEFORE, database)
    seen = await source.refresh()
    for name, change in CHANGES.items():
        pg18.psql(change, database)
        now = await source.refresh()
        assert now is not seen, name
        seen = now


async def test_what_changes_no_catalog_changes_no_snapshot(
    source: CatalogSource, pg18: PostgresServer, database: str, asked: list[str]
) -> None:
    pg18.psql("create table t (a int)", database)
    first = await source.refresh()
    pg18.psql(
        "insert into t select generate_series(1, 1000); update t set a = a + 1; create temporary table x (a int)",
        database,
    )
    pg18.psql("create table elsewhere (a int); drop table elsewhere", "postgres")
    asked.clear()
    assert await source.refresh() is first
    assert len(asked) == 2


async def test_a_check_of_an_idle_database_is_one_question(
    source: CatalogSource, pg18: PostgresServer, asked: list[str]
) -> None:
    first = await source.refresh()
    await source.refresh()
    asked.clear()
    assert await source.refresh() is first
    assert asked == [catalog_module.PROBE]


async def test_an_older_transaction_that_commits_late(
    source: CatalogSource, pg18: PostgresServer, database: str
) -> None:
    """Its number is below the highest already seen, so the highest alone would not tell."""
    late = await connect(
        target_of(pg18), Login(name="dba", user="postgres"), database, {}, deadline_s=DEADLINE_S
    )
    await query(late, "begin; create table late (a int)")
    pg18.psql("create table early (a int)", database)
    before = rows_of(await source.refresh())
    assert before.columns_of("public", "early")
    assert not before.columns_of("public", "late")
    await query(late, "commit")
    assert rows_of(await source.refresh()).columns_of("public", "late") == ["a"]
    await late.aclose()


async def test_a_mark_is_lifted_by_a_later_check_only(
    source: CatalogSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    await source.refresh()
    source.mark_stale()
    assert source.is_stale
    await source.current()
    assert not is_stale(source)

    # a mark set while a check is on its way concerns what that check may have missed
    async def marking(
        connection: UpstreamConnection, sql: str, limits: QueryLimits = DEFAULT_LIMITS
    ) -> list[Row]:
        source.mark_stale()
        return await query(connection, sql, limits)

    monkeypatch.setattr(catalog_module, "query", marking)
    await source.refresh()
    assert source.is_stale


@pytest.mark.parametrize("is_polled", [False, True])
async def test_many_who_wait_share_one_check(
    is_polled: bool, source: CatalogSource, asked: list[str]
) -> None:
    await source.refresh()
    async with trio.open_nursery() as outer:
        if is_polled:
            await outer.start(source.run)
            await source.refresh()
        asked.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(source.refresh)
        assert 1 <= asked.count(catalog_module.PROBE) <= 2
        outer.cancel_scope.cancel()


@pytest.mark.parametrize("is_polled", [False, True])
async def test_one_who_leaves_does_not_spoil_it_for_the_others(
    is_polled: bool, source: CatalogSource
) -> None:
    got: list[Catalog] = []

    async def wait() -> None:
        got.append(await source.refresh())

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as outer:
            if is_polled:
                await outer.start(source.run)
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()

                async def leave() -> None:
                    with scope:
                        await source.refresh()

                nursery.start_soon(leave)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(wait)
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
            outer.cancel_scope.cancel()
    assert len(got) == 2
    assert got[0] is got[1]


async def test_polling_notices_by_itself(pg18: PostgresServer, database: str) -> None:
    source = source_of(pg18, database, poll_interval_s=0.05)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(source.run)
            pg18.psql("create table t (a int)", database)
            while source.latest is None or not rows_of(source.latest).columns_of("public", "t"):
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert source._connection is None


async def test_age(source: CatalogSource, pg18: PostgresServer, database: str, asked: list[str]) -> None:
    first = await source.current()
    asked.clear()
    assert await source.current(max_age_s=3600) is first
    assert asked == []
    assert await source.current(max_age_s=0) is first
    assert asked != []


async def test_no_such_database(pg18: PostgresServer) -> None:
    heard: list[Catalog | CatalogUnavailable] = []
    source = CatalogSource(
        target_of(pg18), Login(name="catalog", user="by_trust"), "nowhere", observe=heard.append
    )
    with pytest.raises(CatalogUnavailable, match='"nowhere"') as caught:
        await source.current()
    assert caught.value.target == "shop"
    assert source.latest is None
    assert source.is_stale
    assert len(heard) == 1


async def test_failures_are_spaced(pg18: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0

    async def counting(*arguments: object, **keywords: object) -> UpstreamConnection:
        nonlocal attempts
        attempts += 1
        return await connect(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog_module, "connect", counting)
    monkeypatch.setattr(catalog_module, "FIRST_RETRY_S", 1000.0)
    monkeypatch.setattr(catalog_module, "LAST_RETRY_S", 1000.0)
    source = source_of(pg18, "nowhere")
    for _ in range(5):
        with pytest.raises(CatalogUnavailable):
            await source.refresh()
    assert attempts == 1


async def test_the_target_restarts() -> None:
    with PostgresServer(postgres_18(), hba=authentication_hba(tls=False)) as server:
        create_roles(server)
        source = source_of(server, "postgres", poll_interval_s=60.0)
        first = await source.refresh()
        await trio.to_thread.run_sync(server.restart)
        # the old connection is dead; a check notices and asks on a new one
        assert await source.refresh() is first
        server.psql("create table t (a int)")
        assert rows_of(await source.refresh()).columns_of("public", "t") == ["a"]
        await trio.to_thread.run_sync(server.stop)
        source.mark_stale()
        with pytest.raises(CatalogUnavailable):
            await source.refresh()
        assert source.is_stale
        await source.aclose()


async def test_rows_of_an_unknown_shape(source: CatalogSource, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(rows: CatalogRows) -> Catalog:
        raise RecursionError("a view on a view on a view")

    monkeypatch.setattr(catalog_module, "build_catalog", fails)
    with pytest.raises(CatalogUnavailable, match="cannot be understood"):
        await source.refresh()
    assert source.latest is None


async def test_a_locked_table_does_not_hang_the_check(
    source: CatalogSource, pg18: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view's definition cannot be read while somebody alters its table: that is told, not waited for."""
    monkeypatch.setattr(
        catalog_module,
        "PREPARATION",
        catalog_module.PREPARATION.replace("lock_timeout = 3000", "lock_timeout = 50"),
    )
    monkeypatch.setattr(catalog_module, "FIRST_RETRY_S", 0.0)
    pg18.psql("create table t (a int); create view v as select a from t", database)
    dba = await connect(
        target_of(pg18), Login(name="dba", user="postgres"), database, {}, deadline_s=DEADLINE_S
    )
    await query(dba, "begin; alter table t add column b int")
    with pytest.raises(CatalogUnavailable, match="55P03"):
        await source.refresh()
    await query(dba, "commit")
    assert rows_of(await source.refresh()).columns_of("public", "t") == ["a", "b"]
    await dba.aclose()


async def test_two_thousand_tables(source: CatalogSource, pg18: PostgresServer, database: str) -> None:
    columns = ", ".join(f"c{number} text" for number in range(10))
    for start in range(0, 2000, 500):
        pg18.psql(
            f"do $$ begin for n in {start}..{start + 499} loop"
            f" execute format('create table t%s ({columns})', n); end loop; end $$",
            database,
        )
    catalog = rows_of(await source.refresh())
    assert len(catalog.columns_of("public", "t1999")) == 10
    assert sum(row.schema == "public" for row in catalog.rows.relations) == 2000
