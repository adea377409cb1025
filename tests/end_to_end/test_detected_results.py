"""Detectors over what PostgreSQL answers: every type and format, with real clients, and nothing of it on the tape."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import tuple_row

from tests.end_to_end.conftest import GatewayFactory
from tests.end_to_end.gateway import Gateway, wait_until
from tests.end_to_end.policies import ALICE_AND_DORA
from tests.end_to_end.servers import PostgresServer
from tests.end_to_end.shop_server import SHOP
from tests.end_to_end.test_clients_asyncpg import with_session
from tests.end_to_end.test_clients_pg_dump import dump
from tests.pki import Authority

CARD = "4111 1111 1111 1111"
BARE_CARD = "4111111111111111"
MAIL = "jo.public@mail.example.com"
EMPLOYEE = "E-123456"
SECRETS = (CARD, BARE_CARD, MAIL, EMPLOYEE, "jo.public", "1111 1111")

POLICY = (
    ALICE_AND_DORA
    + """
  - name: what-nobody-declared
    detect: [credit_card, email, ip, private_key, us_ssn]
    unless: {roles: [analyst]}
  - name: our-numbers
    detect: [employee_number]
    method: {partial: {keep_last: 2}}
    unless: {roles: [analyst]}
detectors:
  employee_number: {pattern: "\\\\bE-[0-9]{6}\\\\b"}
"""
)

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def gateway(shop18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(shop18, tmp_path_factory.mktemp("detecting"), policy=POLICY) as gateway:
        yield gateway


@pytest.fixture
def dora(gateway: Gateway) -> Iterator[Connection]:
    with gateway.connect("dora", autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("expression", "seen"),
    [
        (f"'card {CARD}.'", "card <credit_card>."),
        (f"'{MAIL}'::varchar(26)", "<email>"),
        (f"'{EMPLOYEE} here'::char(30)", "******56 here".ljust(30)),
        (f"'{MAIL}'::name", "<email>"),
        (f"array['x', '{MAIL}', null]", ["x", "<email>", None]),
        (f"array[['{MAIL}'], ['b,{BARE_CARD}']]", [["<email>"], ["b,<credit_card>"]]),
        (
            f'\'{{"a": "{MAIL}", "n": {BARE_CARD}, "k": 1}}\'::json',
            {"a": "<email>", "n": "<credit_card>", "k": 1},
        ),
        (f'\'{{"a": ["{CARD}"], "n": {BARE_CARD}}}\'::jsonb', {"a": ["<credit_card>"], "n": "<credit_card>"}),
        ('\'{"a": "jo\\u0040example.com", "b": "x\\ny"}\'::json', {"a": "<email>", "b": "x\ny"}),
        ('\'{"ssn": "123456789", "id": "123456789"}\'::json', {"ssn": "<us_ssn>", "id": "123456789"}),
        (f"'{MAIL}'::bytea", b"<email>"),
        (f"'\\xff00'::bytea || ' {MAIL} '::bytea", b"\xff\0 <email> "),
        (f"{BARE_CARD}::bigint", None),
        (f"{BARE_CARD}::numeric", None),
        (f"array[1, {BARE_CARD}]::bigint[]", [1, None]),
        ("'10.1.2.3'::inet", None),
        ("4111::bigint", 4111),
        ("1234567::int", 1234567),
        ("'2026-11-21'::date::text", "2026-11-21"),
        (f"row(1, 'x'::text, '{MAIL}'::text)", ("1", "x", "<email>")),
        ("'\\x00'::bytea", b"\0"),
        (f"repeat('x', 300000) || ' {MAIL}'", "x" * 300000 + " <email>"),
    ],
)
def test_every_type_and_format(dora: Connection, expression: str, seen: object, binary: bool) -> None:
    row = dora.execute(f"select 'before', {expression}, 'after'", binary=binary).fetchone()
    assert row is not None
    if isinstance(seen, tuple) and binary:
        seen = (1, *seen[1:])
    assert row == ("before", seen, "after")


def test_a_composite_an_enum_a_domain_and_types_of_extensions(
    make_gateway: GatewayFactory, shop15: PostgresServer, target_ca: Authority
) -> None:
    gateway = make_gateway(shop15, policy=POLICY, target_ca=target_ca)
    with gateway.connect("dora", autocommit=True) as dora:
        dora.execute("create schema detected")
        try:
            dora.execute("create type detected.pair as (label text, n bigint)")
            dora.execute(f"create type detected.choice as enum ('{MAIL}', 'other')")
            dora.execute("create domain detected.note as text")
            dora.execute("create extension citext schema detected")
            dora.execute("create extension hstore schema detected")
            for binary in (False, True):
                row = dora.execute(
                    f"select row('{MAIL}', {BARE_CARD})::detected.pair, '{MAIL}'::detected.choice, "
                    f"'{MAIL}'::detected.note, '{MAIL}'::detected.citext, array['{MAIL}']::detected.citext[], "
                    f"'a=>\"{MAIL}\"'::detected.hstore",
                    binary=binary,
                ).fetchone()
                assert row is not None
                told = repr(row)
                assert not [secret for secret in (MAIL, BARE_CARD, "jo.public") if secret in told], told
                assert told.count("<email>") == 5 + (
                    not binary
                )  # the binary form of hstore is not known: NULL
        finally:
            dora.execute("drop schema detected cascade")


@pytest.mark.parametrize("text", [True, False])
def test_prepared_cursors_and_fetch(dora: Connection, text: bool) -> None:
    with dora.cursor(binary=not text) as cursor:
        for _ in range(3):
            cursor.execute("select %s || ' of ' || %s::text", [MAIL, 5], prepare=True)
            assert cursor.fetchall() == [("<email> of 5",)]
    with dora.transaction():
        dora.execute(f"declare c cursor for select '{MAIL}' from generate_series(1, 3)")
        assert dora.execute("fetch 2 from c").fetchall() == [("<email>",), ("<email>",)]
        assert dora.execute("fetch 2 from c", binary=not text).fetchall() == [("<email>",)]
    dora.execute(f"prepare p as select '{MAIL}'")
    assert dora.execute("execute p").fetchone() == ("<email>",)


COPIED = f"(values (1, '{MAIL}', {BARE_CARD}::bigint, '\\x00'::bytea), (2, 'clean', 2, '{MAIL}'::bytea)) t(a, b, c, d)"


@pytest.mark.parametrize(
    "options", ["", "(format csv, header)", "(format csv, force_quote *)", "(format binary)"]
)
def test_copy(dora: Connection, options: str) -> None:
    with dora.cursor().copy(f"copy (select a, b, c, d from {COPIED}) to stdout {options}") as copy:
        data = b"".join(bytes(piece) for piece in copy)
    assert MAIL.encode() not in data
    assert MAIL.encode().hex().encode() not in data
    assert b"<email>" in data
    assert b"clean" in data


def test_copied_rows_can_be_read_again(dora: Connection) -> None:
    with dora.cursor().copy(f"copy (select a, b from {COPIED}) to stdout (format binary)") as copy:
        copy.set_types(["int4", "text"])
        assert list(copy.rows()) == [(1, "<email>"), (2, "clean")]


def test_errors_notices_and_notifications(dora: Connection) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="<email>") as caught:
        dora.execute(f"select '{MAIL}'::int")
    assert MAIL not in str(caught.value.diag.message_primary)
    told: list[str] = []
    dora.add_notice_handler(lambda notice: told.append(f"{notice.message_primary} {notice.message_hint}"))
    dora.execute(f"do $$begin raise notice 'for {MAIL}' using hint = '{EMPLOYEE}'; end$$")
    assert told == ["for <email> ******56"]
    dora.execute("listen news")
    dora.execute(f"select pg_notify('news', 'by {MAIL}')")
    assert [notice.payload for notice in dora.notifies(timeout=60, stop_after=1)] == ["by <email>"]


def test_column_masks_win_and_others_are_let_be(gateway: Gateway) -> None:
    with gateway.connect("alice", row_factory=tuple_row) as alice:
        row = alice.execute(f"select '{MAIL}', email from shop.customers where id = 1").fetchone()
        assert row is not None
        assert row[0] == MAIL  # alice's role is without detectors
        assert row[1].startswith("****")


def test_asyncpg_in_binary(gateway: Gateway) -> None:
    async def work(connection: Any) -> None:
        row = await connection.fetchrow(
            f"select $1::text || '', {BARE_CARD}::bigint, 5::bigint, array['{MAIL}'], "
            f"'{{\"a\": \"{MAIL}\"}}'::jsonb, row('{MAIL}'::text, 1)",
            MAIL,
        )
        assert tuple(row)[:5] == ("<email>", None, 5, ["<email>"], '{"a": "<email>"}')
        assert tuple(row[5]) == ("<email>", 1)

    with_session(gateway, "dora", work)


def test_a_dump_can_be_read_again_and_holds_no_mailbox(gateway: Gateway) -> None:
    done = dump(
        18, gateway.dsn("dora", database="shop"), "--schema=shop", "--data-only", "--table=shop.customers"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().partition(" FROM stdin;\n")[2].partition("\n\\.\n")[0].splitlines()
    assert len(lines) == len(SHOP.customers)
    for line, customer in zip(lines, SHOP.customers, strict=True):
        fields = line.split("\t")
        assert fields[0] == str(customer.id)
        assert customer.name in fields
        assert "<email>" in fields
        assert customer.email not in line
        assert customer.card_number not in line


def test_psql_and_explain(gateway: Gateway) -> None:
    shown = gateway.psql(
        "dora", f"select '{MAIL}' as mail, '{CARD}' as card;\nexplain select 1 where 'a' = '{MAIL}';"
    )
    assert "<email>" in shown.stdout
    assert "<credit_card>" in shown.stdout
    assert not [secret for secret in SECRETS if secret in shown.stdout]


def test_a_thousand_rows_with_one_find(dora: Connection) -> None:
    rows = dora.execute(
        f"select n, case when n = 777 then '{MAIL}' else md5(n::text) end from generate_series(1, 1000) n"
    ).fetchall()
    assert len(rows) == 1000
    assert [row for row in rows if "<" in row[1]] == [(777, "<email>")]


def test_the_tape_has_the_count_and_the_metrics_too(gateway: Gateway) -> None:
    marker = f"x{uuid.uuid4().hex[:8]}"
    with gateway.connect("dora", autocommit=True, application_name=marker) as connection:
        # The value is made by the target: what the client itself writes is on the tape as it came.
        connection.execute(
            "select 'jo' || '.public@' || 'mail.example.com', 'jo' || '.public@mail.example.com'"
        )
    tape = gateway.tape(gateway.last_session("dora"))
    shown = gateway.proxyd("tape", "show", "--json", str(tape)).stdout
    assert MAIL not in shown
    found = [frame for frame in map(json.loads, shown.splitlines()) if frame.get("name") == "detected"]
    assert [frame["data"] for frame in found] == [{"kinds": {"email": 2}}], shown
    wait_until(lambda: 'proxyd_detected_total{kind="email"}' in gateway.metrics(), "the finds are counted")
