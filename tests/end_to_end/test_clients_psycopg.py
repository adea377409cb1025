"""psycopg 3 through the gateway: text and binary, prepared statements, pipelines, server cursors, COPY, notices."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row

from tests.end_to_end.gateway import Gateway, wait_until
from tests.end_to_end.shop_server import SHOP

CUSTOMER = SHOP.customers[6]
Connection = psycopg.Connection[Any]


@pytest.fixture
def alice(either_gateway: Gateway) -> Iterator[Connection]:
    with either_gateway.connect("alice", autocommit=True) as connection:
        yield connection


@pytest.fixture
def dora(either_gateway: Gateway) -> Iterator[Connection]:
    with either_gateway.connect("dora", autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("binary", [False, True])
def test_values_keep_their_types(dora: Connection, binary: bool) -> None:
    row = dora.execute(
        "select id, name, birth_date, balance, external_id, is_active, created_at, array[1, 2], "
        "'{\"a\": 1}'::jsonb, null::text, '\\x00ff'::bytea from shop.customers where id = %s",
        [CUSTOMER.id],
        binary=binary,
    ).fetchone()
    assert row is not None
    assert row[:7] == (
        *(CUSTOMER.id, CUSTOMER.name, CUSTOMER.birth_date, Decimal(CUSTOMER.balance)),
        *(CUSTOMER.external_id, CUSTOMER.is_active, CUSTOMER.created_at),
    )
    assert row[7:] == ([1, 2], {"a": 1}, None, b"\0\xff")


@pytest.mark.parametrize("binary", [False, True])
def test_masks_keep_the_types_too(alice: Connection, binary: bool) -> None:
    row = alice.execute(
        "select id, email, ssn, id_number, birth_date, balance from shop.customers where id = %s",
        [CUSTOMER.id],
        binary=binary,
    ).fetchone()
    assert row is not None
    assert row[0] == CUSTOMER.id
    assert row[1] == "*" * (len(CUSTOMER.email) - 4) + CUSTOMER.email[-4:]
    assert row[2] == "[redacted]"
    assert row[3].startswith("p_")
    assert row[4:] == (None, Decimal(CUSTOMER.balance))


def test_a_statement_described_once_and_executed_often(alice: Connection) -> None:
    for binary in (False, True):
        with alice.cursor(binary=binary) as cursor:
            for customer in SHOP.customers[:40]:
                cursor.execute(
                    "select id, phone, card_number from shop.customers where id = %s",
                    [customer.id],
                    prepare=True,
                )
                assert cursor.fetchall() == [
                    (customer.id, "*" * (len(customer.phone) - 4) + customer.phone[-4:], "[redacted]")
                ]


def test_pipeline_with_errors_in_the_middle(dora: Connection) -> None:
    with dora.pipeline() as pipeline:
        first = dora.execute("select 1")
        pipeline.sync()
        broken = dora.execute("select 1/0")
        skipped = dora.execute("select 2")
        with pytest.raises(errors.DivisionByZero):
            pipeline.sync()
        last = dora.execute("select 3")
        pipeline.sync()
        assert first.fetchone() == (1,)
        assert last.fetchone() == (3,)
        for lost in (broken, skipped):
            with pytest.raises(psycopg.Error):
                lost.fetchone()
    assert dora.execute("select 4").fetchone() == (4,)


def test_pipeline_with_a_denial_in_the_middle(alice: Connection) -> None:
    with alice.pipeline() as pipeline:
        first = alice.execute("select count(*) from shop.orders")
        pipeline.sync()
        alice.execute("select key from shop.api_keys")
        alice.execute("select count(*) from shop.products")
        with pytest.raises(errors.InsufficientPrivilege, match="API keys") as caught:
            pipeline.sync()
        last = alice.execute("select email from shop.customers where id = 1")
        pipeline.sync()
        assert first.fetchone() == (500,)
        assert str(last.fetchone()[0]).startswith("****")  # type: ignore[index]
    assert "no-secrets-table" in (caught.value.diag.message_detail or "")
    assert caught.value.diag.message_hint


def test_executemany_with_returning(alice: Connection) -> None:
    with alice.transaction(force_rollback=True), alice.cursor() as cursor:
        cursor.executemany(
            "update shop.customers set balance = balance + %s where id = %s returning id, ssn",
            [(1, 1), (2, 2), (3, 3)],
            returning=True,
        )
        found = [cursor.fetchone()]
        while cursor.nextset():
            found.append(cursor.fetchone())
    assert found == [(1, "[redacted]"), (2, "[redacted]"), (3, "[redacted]")]


@pytest.mark.parametrize("binary", [False, True])
def test_server_cursors_in_parts(alice: Connection, binary: bool) -> None:
    with (
        alice.transaction(),
        alice.cursor("part", binary=binary, scrollable=True, row_factory=dict_row) as cursor,
    ):
        cursor.itersize = 7
        cursor.execute("select id, email from shop.customers order by id")
        rows = list(cursor)
        cursor.scroll(0, mode="absolute")
        again = cursor.fetchmany(5)
    assert [row["id"] for row in rows] == [customer.id for customer in SHOP.customers]
    assert again == rows[:5]
    emails = {customer.email for customer in SHOP.customers}
    assert not [row for row in rows if row["email"] in emails]


def test_copy_out_text_and_binary(either_gateway: Gateway) -> None:
    sql = "copy (select id, name, balance, birth_date from shop.customers order by id) to stdout"
    for form in ("", " (format csv, header)", " (format binary)"):
        copied = []
        for dsn in (either_gateway.direct_dsn(), either_gateway.dsn("dora")):
            with psycopg.connect(dsn) as connection, connection.cursor().copy(sql + form) as copy:
                copied.append(b"".join(copy))
        assert copied[0] == copied[1]


def test_copy_rows_in_and_out_binary(dora: Connection) -> None:
    dora.execute("create temp table copied (id int, name text, day date, amount numeric)")
    rows = [
        (number, f"name {number}", date(2024, 1, 1 + number % 28), Decimal(number) / 4)
        for number in range(500)
    ]
    for form in ("", " (format binary)"):
        dora.execute("truncate copied")
        with dora.cursor().copy(f"copy copied from stdin{form}") as copy:
            if form:
                copy.set_types(["int4", "text", "date", "numeric"])
            for row in rows:
                copy.write_row(row)
        with dora.cursor().copy(f"copy copied to stdout{form}") as copy:
            copy.set_types(["int4", "text", "date", "numeric"])
            assert list(copy.rows()) == rows


def test_a_copy_given_up_leaves_nothing(dora: Connection) -> None:
    dora.execute("create temp table given_up (id int)")
    with pytest.raises(ZeroDivisionError), dora.cursor().copy("copy given_up from stdin") as copy:
        copy.write_row((1,))
        raise ZeroDivisionError
    assert dora.execute("select count(*) from given_up").fetchone() == (0,)


def test_transactions_and_savepoints(alice: Connection) -> None:
    with alice.transaction(force_rollback=True):
        alice.execute("update shop.products set price = 1 where id = 1")
        with pytest.raises(errors.UniqueViolation) as caught, alice.transaction():
            alice.execute("insert into shop.products values (1, 'again', 1)")
        assert caught.value.diag.constraint_name == "products_pkey"
        assert caught.value.diag.sqlstate == "23505"
        with alice.transaction():
            alice.execute("update shop.products set price = 2 where id = 1")
        assert alice.execute("select price from shop.products where id = 1").fetchone() == (Decimal(2),)
    price = Decimal(str(SHOP.products[0][2]))
    assert alice.execute("select price from shop.products where id = 1").fetchone() == (price,)


def test_notices_and_notifications(dora: Connection) -> None:
    notices: list[str | None] = []
    dora.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary))
    dora.execute("do $$ begin raise notice 'hear this'; end $$")
    dora.execute("listen news")
    dora.execute("notify news, 'extra'")
    assert notices == ["hear this"]
    assert [(told.channel, told.payload) for told in dora.notifies(timeout=60, stop_after=1)] == [
        ("news", "extra")
    ]


def test_cancel_from_another_thread(dora: Connection, either_gateway: Gateway) -> None:
    import threading

    running = (
        "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(600.5)'"
    )

    def cancel() -> None:
        wait_until(lambda: either_gateway.server.psql(running) == "1", "the statement")
        dora.cancel_safe()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(errors.QueryCanceled):
        dora.execute("select pg_sleep(600.5)")
    thread.join()
    assert dora.execute("select 1").fetchone() == (1,)


def test_a_result_of_many_rows(either_gateway: Gateway) -> None:
    with either_gateway.connect("dora") as dora, dora.cursor(binary=True) as cursor:
        cursor.execute("select g, repeat('x', 50) from generate_series(1, 100000) g")
        assert sum(row[0] for row in cursor) == 100_000 * 100_001 // 2


async def test_many_sessions_at_once(gateway: Gateway) -> None:
    import trio

    def one(number: int) -> None:
        with gateway.connect("alice", autocommit=True) as connection:
            for _ in range(5):
                assert connection.execute("select %s::int + 1", [number]).fetchone() == (number + 1,)

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(trio.to_thread.run_sync, one, number)
