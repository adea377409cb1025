"""asyncpg through the gateway: everything it does is binary and prepared, and it asks the catalog about types."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest

from tests.end_to_end.gateway import Gateway
from tests.end_to_end.shop_server import SHOP

CUSTOMER = SHOP.customers[11]
Connection = Any  # asyncpg has no types of its own


def with_session(
    gateway: Gateway, person: str, work: Callable[[Connection], Awaitable[None]], **options: Any
) -> None:
    """Run `work` on a connection of its own event loop: asyncpg knows only asyncio."""
    words = gateway.words(person)
    context = ssl.create_default_context(cafile=words["sslrootcert"])
    context.load_cert_chain(words["sslcert"], words["sslkey"])

    async def run() -> None:
        connection = await asyncpg.connect(
            host=words["host"],
            port=int(words["port"]),
            user=words["user"],
            database=words["dbname"],
            ssl=context,
            **options,
        )
        try:
            await asyncio.wait_for(work(connection), 60)
        finally:
            await connection.close(timeout=60)

    asyncio.run(run())


def test_masked_values_in_binary(either_gateway: Gateway) -> None:
    async def work(connection: Connection) -> None:
        row = await connection.fetchrow("select * from shop.customers where id = $1", CUSTOMER.id)
        assert row["id"] == CUSTOMER.id
        assert row["name"] == CUSTOMER.name
        assert row["email"] == "*" * (len(CUSTOMER.email) - 4) + CUSTOMER.email[-4:]
        assert row["ssn"] == row["card_number"] == "[redacted]"
        assert row["birth_date"] is None
        assert row["balance"] == Decimal(CUSTOMER.balance)
        assert row["external_id"] == CUSTOMER.external_id
        assert row["created_at"] == CUSTOMER.created_at

    with_session(either_gateway, "alice", work)


def test_prepared_once_executed_often(either_gateway: Gateway) -> None:
    async def work(connection: Connection) -> None:
        statement = await connection.prepare("select id, phone from shop.customers where id = $1")
        assert [attribute.name for attribute in statement.get_attributes()] == ["id", "phone"]
        for customer in SHOP.customers[:50]:
            row = await statement.fetchrow(customer.id)
            assert tuple(row) == (customer.id, "*" * (len(customer.phone) - 4) + customer.phone[-4:])

    with_session(either_gateway, "alice", work)


def test_cursors_transactions_and_errors(either_gateway: Gateway) -> None:
    async def work(connection: Connection) -> None:
        async with connection.transaction():
            seen = [
                row["id"]
                async for row in connection.cursor(
                    "select id, ssn from shop.customers order by 1", prefetch=9
                )
            ]
            assert seen == [customer.id for customer in SHOP.customers]
            cursor = await connection.cursor("select ssn from shop.customers")
            assert [row["ssn"] for row in await cursor.fetch(3)] == ["[redacted]"] * 3
            await cursor.forward(5)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="API keys") as caught:
            await connection.fetch("select * from shop.api_keys")
        assert caught.value.hint
        with pytest.raises(asyncpg.UniqueViolationError) as violated:
            await connection.execute("insert into shop.products values (1, 'x', 1)")
        assert violated.value.constraint_name == "products_pkey"
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("update shop.orders set status = 'new' where id = $1", 1)
        await transaction.rollback()
        assert await connection.fetchval("select status from shop.orders where id = 1") == SHOP.orders[0][2]

    with_session(either_gateway, "alice", work)


def test_types_that_need_the_catalog(either_gateway: Gateway) -> None:
    """An analyst's driver may ask the catalog what an enum, a composite, a range or a domain is made of."""
    server = either_gateway.server
    server.psql(
        "drop schema if exists kinds cascade; create schema kinds; grant usage on schema kinds to public;"
        "create type kinds.mood as enum ('sad', 'ok');"
        "create type kinds.pair as (a int, b kinds.mood);"
        "create type kinds.span as range (subtype = numeric);"
        "create domain kinds.small as int check (value < 10);",
        "shop",
    )

    async def work(connection: Connection) -> None:
        row = await connection.fetchrow(
            "select 'ok'::kinds.mood as m, row(1, 'sad')::kinds.pair as p, '[1,2]'::kinds.span as s, "
            "3::kinds.small as d, array['sad', 'ok']::kinds.mood[] as a, '{[1,2)}'::int4multirange as r, "
            "'{\"a\": 1}'::jsonb as j, '1 day'::interval as i, '10.0.0.0/8'::cidr as c"
        )
        assert row["m"] == "ok"
        assert tuple(row["p"]) == (1, "sad")
        assert row["s"].upper == 2
        assert row["d"] == 3
        assert row["a"] == ["sad", "ok"]
        assert await connection.fetchval("select $1::kinds.pair", (2, "ok")) == (2, "ok")
        await connection.set_type_codec("mood", schema="kinds", encoder=str, decoder=str.upper)
        assert await connection.fetchval("select 'ok'::kinds.mood") == "OK"
        assert await connection.fetchval("select 1") == 1
        await connection.reload_schema_state()
        assert [
            kind.name for kind in (await connection.prepare("select $1::kinds.mood")).get_parameters()
        ] == ["mood"]

    with_session(either_gateway, "alice", work)
    with_session(either_gateway, "dora", work)


def test_copy_and_executemany(either_gateway: Gateway) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("create temp table copied (id int, name text, amount numeric)")
        rows = [(number, f"name {number}", Decimal(number) / 3) for number in range(300)]
        assert await connection.copy_records_to_table("copied", records=rows) == "COPY 300"
        await connection.executemany("insert into copied values ($1, $2, $3)", rows)
        assert await connection.fetchval("select count(*) from copied") == 600
        out = io.BytesIO()
        assert (
            await connection.copy_from_query("select * from copied where id < $1 order by 1", 3, output=out)
            == "COPY 6"
        )
        assert out.getvalue().splitlines()[0].startswith(b"0\tname 0\t0")
        out = io.BytesIO()
        await connection.copy_from_table("copied", output=out, format="binary")
        assert out.getvalue().startswith(b"PGCOPY\n\xff\r\n\0")
        assert (
            await connection.copy_to_table("copied", source=io.BytesIO(b"7,x,1\n"), format="csv") == "COPY 1"
        )

    with_session(either_gateway, "dora", work)


def test_copy_for_an_analyst_is_masked(either_gateway: Gateway) -> None:
    async def work(connection: Connection) -> None:
        for form in ("text", "csv", "binary"):
            out = io.BytesIO()
            query = "select id, email, phone, ssn from shop.customers"
            assert await connection.copy_from_query(query, output=out, format=form) == "COPY 240"
            assert out.getvalue().count(b"[redacted]") == 240
            assert not [value for value in SHOP.private_values() if value.encode() in out.getvalue()]

    with_session(either_gateway, "alice", work)


def test_cancel_by_timeout(either_gateway: Gateway) -> None:
    async def work(connection: Connection) -> None:
        with pytest.raises(TimeoutError):
            await connection.fetch("select pg_sleep(20)", timeout=0.5)
        assert await connection.fetchval("select 1") == 1
        await connection.reset()

    with_session(either_gateway, "dora", work)


def test_notifications_and_notices(either_gateway: Gateway) -> None:
    async def work(connection: Connection) -> None:
        told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        logged: list[str] = []
        connection.add_log_listener(lambda _, message: logged.append(message.message))
        await connection.add_listener(
            "news", lambda _c, _pid, channel, payload: told.put_nowait((channel, payload))
        )
        await connection.execute("notify news, 'extra'; do $$ begin raise notice 'hear'; end $$")
        assert await asyncio.wait_for(told.get(), 60) == ("news", "extra")
        await asyncio.sleep(0)
        assert logged == ["hear"]

    with_session(either_gateway, "dora", work)


def test_settings_at_the_start(either_gateway: Gateway) -> None:
    async def work(connection: Connection) -> None:
        assert await connection.fetchval("show application_name") == "a test"

    with_session(either_gateway, "alice", work, server_settings={"application_name": "a test"})
