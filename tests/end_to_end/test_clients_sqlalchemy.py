"""SQLAlchemy through the gateway, over psycopg and over asyncpg: what it makes, and what it finds out by reflection."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from tests.end_to_end.gateway import Gateway
from tests.end_to_end.shop_server import SHOP


def url(gateway: Gateway, person: str, driver: str) -> sa.URL:
    words = gateway.words(person)
    query = (
        {key: value for key, value in words.items() if key.startswith("ssl")} if driver == "psycopg" else {}
    )
    return sa.URL.create(
        f"postgresql+{driver}",
        username=words["user"],
        host=words["host"],
        port=int(words["port"]),
        database=words["dbname"],
        query=query,
    )


def run(gateway: Gateway, person: str, driver: str, work: Any) -> None:
    """Run `work(connection)`, a synchronous function, inside a transaction that is committed."""
    if driver == "psycopg":
        engine = sa.create_engine(url(gateway, person, driver))
        try:
            with engine.begin() as connection:
                work(connection)
        finally:
            engine.dispose()
        return
    words = gateway.words(person)
    context = ssl.create_default_context(cafile=words["sslrootcert"])
    context.load_cert_chain(words["sslcert"], words["sslkey"])

    async def go() -> None:
        engine = create_async_engine(url(gateway, person, driver), connect_args={"ssl": context})
        try:
            async with engine.begin() as connection:
                await connection.run_sync(work)
        finally:
            await engine.dispose()

    asyncio.run(go())


DRIVERS = pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])


@DRIVERS
def test_a_dba_makes_tables_and_finds_them_again(either_gateway: Gateway, driver: str) -> None:
    server = either_gateway.server
    server.psql(
        "set client_min_messages = error; drop schema if exists made cascade; create schema made", "shop"
    )
    metadata = sa.MetaData(schema="made")
    author = sa.Table(
        "author",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(80), nullable=False, unique=True),
        sa.Column("mood", sa.Enum("sad", "ok", name="mood", schema="made")),
        sa.Column("born", sa.DateTime(timezone=True), server_default=sa.func.now()),
        sa.Column("tags", sa.ARRAY(sa.Text)),
        comment="who writes",
    )
    sa.Table(
        "book",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("author_id", sa.ForeignKey("made.author.id"), index=True),
        sa.Column("price", sa.Numeric(8, 2), sa.CheckConstraint("price > 0", name="positive")),
    )

    def make(connection: sa.Connection) -> None:
        metadata.create_all(connection)
        connection.execute(
            sa.insert(author), [{"name": f"a{number}", "mood": "ok", "tags": ["x"]} for number in range(20)]
        )
        returned = connection.execute(
            sa.insert(author).values(name="last").returning(author.c.id, author.c.born)
        ).one()
        assert returned.id == 21
        assert returned.born is not None

    def find(connection: sa.Connection) -> None:
        found = sa.MetaData(schema="made")
        found.reflect(connection, views=True)
        assert sorted(found.tables) == ["made.author", "made.book"]
        book = found.tables["made.book"]
        assert [key.target_fullname for key in book.foreign_keys] == ["made.author.id"]
        assert [index.name for index in book.indexes] == ["ix_made_book_author_id"]
        assert found.tables["made.author"].comment == "who writes"
        inspector = sa.inspect(connection)
        assert [check["name"] for check in inspector.get_check_constraints("book", schema="made")] == [
            "positive"
        ]
        assert connection.scalar(sa.select(sa.func.count()).select_from(found.tables["made.author"])) == 21
        found.drop_all(connection)

    run(either_gateway, "dora", driver, make)
    run(either_gateway, "dora", driver, find)


@DRIVERS
def test_an_analyst_reflects_the_shop_and_selects_masked_rows(either_gateway: Gateway, driver: str) -> None:
    def work(connection: sa.Connection) -> None:
        found = sa.MetaData(schema="shop")
        found.reflect(connection, views=True)
        assert {"shop.customers", "shop.orders", "shop.contacts", "shop.api_keys"} <= set(found.tables)
        customers, orders = found.tables["shop.customers"], found.tables["shop.orders"]
        assert [column.name for column in customers.primary_key] == ["id"]
        rows = connection.execute(sa.select(customers).order_by(customers.c.id)).all()
        assert [row.name for row in rows] == [customer.name for customer in SHOP.customers]
        assert {row.ssn for row in rows} == {"[redacted]"}
        shown = repr(rows)
        assert not [value for value in SHOP.private_values() if value in shown]
        joined = (
            sa.select(customers.c.name, sa.func.count(orders.c.id)).join(orders).group_by(customers.c.name)
        )
        assert sum(row[1] for row in connection.execute(joined)) == len(SHOP.orders)
        inspector = sa.inspect(connection)
        assert "shop" in inspector.get_schema_names()
        assert "contacts" in inspector.get_view_names(schema="shop")

    run(either_gateway, "alice", driver, work)


@DRIVERS
def test_a_denial_is_an_error_of_the_driver_and_the_session_goes_on(gateway: Gateway, driver: str) -> None:
    def work(connection: sa.Connection) -> None:
        with pytest.raises(sa.exc.DBAPIError, match="API keys"), connection.begin_nested():
            connection.execute(sa.text("select * from shop.api_keys"))
        assert connection.scalar(sa.text("select count(*) from shop.orders")) == len(SHOP.orders)

    run(gateway, "alice", driver, work)
