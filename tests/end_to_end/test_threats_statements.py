"""Threat list B: slipping a forbidden statement past, and names that mean another object than the one judged."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from protocols.postgres.messages import SYNC, Bind, Describe, Execute, FunctionCall, Parse, Query
from tests.end_to_end.canaries import LEFT, Twins, twins
from tests.end_to_end.gateway import TARGET, Gateway
from tests.end_to_end.servers import PostgresServer
from tests.end_to_end.wire_client import WireClient, assert_denied, startup_packet


@pytest.fixture(scope="module")
def both(shop18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins(shop18, tmp_path_factory.mktemp("twins")) as made:
        yield made


@pytest.fixture
def alice(gateway18: Gateway) -> Iterator[WireClient]:
    with WireClient.connect(gateway18, "alice") as client:
        yield client


@pytest.fixture
def alice15(gateway15: Gateway) -> Iterator[WireClient]:
    with WireClient.connect(gateway15, "alice") as client:
        yield client


# B1: what is inside is what is judged. api_keys is denied by a rule; shop.orders may be read and written.

HIDDEN = (
    "SELECT 1; SELECT * FROM shop.api_keys",
    "SELECT * FROM shop.api_keys; SELECT 1",
    "BEGIN; SELECT 1; SELECT key FROM shop.api_keys; COMMIT",
    "WITH a AS (SELECT * FROM shop.api_keys) SELECT 1",
    "WITH a AS (DELETE FROM shop.api_keys WHERE id = 1 RETURNING *) SELECT 1",
    "SELECT 1 WHERE EXISTS (SELECT FROM shop.api_keys)",
    "SELECT (SELECT count(*) FROM shop.api_keys)",
    "SELECT 1 UNION ALL (SELECT 2 UNION ALL SELECT id FROM shop.api_keys)",
    "EXPLAIN SELECT * FROM shop.api_keys",
    "EXPLAIN ANALYZE DELETE FROM shop.api_keys WHERE id = 1",
    "EXPLAIN (ANALYZE false) SELECT * FROM shop.api_keys",
    "PREPARE p AS SELECT * FROM shop.api_keys",
    "PREPARE p AS DELETE FROM shop.api_keys WHERE id = 1",
    "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM shop.api_keys",
    "COPY shop.api_keys TO STDOUT",
    "COPY (SELECT * FROM shop.api_keys) TO STDOUT",
    "COPY (DELETE FROM shop.api_keys WHERE id = 1 RETURNING *) TO STDOUT",
    "COPY shop.api_keys FROM STDIN",
    "TABLE shop.api_keys",
    "VALUES ((SELECT key FROM shop.api_keys LIMIT 1))",
    "CREATE TABLE public.taken AS SELECT * FROM shop.api_keys",
    "SELECT * INTO public.taken FROM shop.api_keys",
    "INSERT INTO shop.products SELECT id, key, 1 FROM shop.api_keys",
    "UPDATE shop.products SET name = (SELECT key FROM shop.api_keys LIMIT 1) WHERE id = 1",
    "MERGE INTO shop.products p USING shop.api_keys k ON p.id = k.id WHEN MATCHED THEN DO NOTHING",
    "DO $$ BEGIN PERFORM * FROM shop.api_keys; END $$",
    "CALL shop.nothing()",
    "LOCK TABLE shop.api_keys",
    "TRUNCATE shop.orders",
    "DROP TABLE shop.order_items",
    "GRANT SELECT ON shop.api_keys TO PUBLIC",
    "CREATE RULE r AS ON INSERT TO shop.products DO ALSO SELECT * FROM shop.api_keys",
    "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER t AFTER INSERT ON shop.orders EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "SELECT pg_catalog.pg_read_file('x')",
    "SELECT id FROM shop.orders ORDER BY pg_sleep(0)",
    "SELECT id FROM shop.orders WHERE pg_sleep(0) IS NULL",
    "SELECT id FROM shop.orders LIMIT (SELECT 1 FROM pg_sleep(0))",
    "SELECT 1 FROM shop.orders GROUP BY id HAVING pg_sleep(0) IS NULL",
    "SELECT count(*) FILTER (WHERE pg_sleep(0) IS NULL) FROM shop.orders",
    "SELECT sum(id) OVER (ORDER BY pg_sleep(0)) FROM shop.orders",
    "INSERT INTO shop.orders VALUES (1) ON CONFLICT DO NOTHING RETURNING pg_sleep(0)",
    "VACUUM shop.orders",
    "ALTER SYSTEM SET work_mem = '1MB'",
    "CHECKPOINT",
    "LOAD 'x'",
    "NOTIFY a",
    "REINDEX TABLE shop.orders",
    "CREATE EXTENSION dblink",
    "SET ROLE gateway_admin",
    "SET SESSION AUTHORIZATION gateway_admin",
    "RESET ROLE; SET ROLE gateway_admin",
    "ALTER ROLE gateway_reader SET search_path = public",
    "ALTER DATABASE shop SET search_path = public",
    "ALTER ROLE CURRENT_USER PASSWORD 'x'",
    "SET session_replication_role = replica",
    "SELECT set_config('session_replication_role', 'replica', false)",
    "SELECT set_config('ro' || 'le', 'gateway_admin', false)",
    "SET LOCAL ROLE gateway_admin",
    # B2: the same table by other spellings
    'SELECT * FROM "shop"."api_keys"',
    "SELECT * FROM SHOP.API_KEYS",
    'SELECT * FROM U&"shop"."api_keys"',
    'SELECT * FROM shop.U&"\\0061pi_keys"',
    "SELECT * FROM shop.U&\"!0061pi!005fkeys\" UESCAPE '!'",
    "SELECT * FROM shop . /* x */ api_keys",
    "SELECT * FROM shop./* /* */ */api_keys -- ; \n",
    "SELECT * FROM shop.shop.api_keys",
    "SELECT 'x\\' ; SELECT * FROM shop.api_keys; --'",
    "SELECT E'\\'' ; SELECT * FROM shop.api_keys; --'",
    "SELECT $a$ $b$ $a$; SELECT * FROM shop.api_keys",
    "\ufeffSELECT * FROM shop.api_keys",
    "SELECT\u00a0* FROM shop.api_keys",
)


@pytest.mark.parametrize("sql", HIDDEN)
def test_what_is_inside_is_judged_and_the_session_goes_on(
    alice: WireClient, shop18: PostgresServer, sql: str
) -> None:
    for mode in ("simple", "extended"):
        answer = alice.run(sql, mode)
        assert answer.errors, f"{mode}: {sql} ran"
        assert answer.error["C"] in {"42501", "42601", "0A000"}, answer.error
        if answer.error["C"] == "42501":
            assert (
                "rule" in answer.error.get("D", "")
                or "proxyd" in answer.error["M"]
                or "gateway" in answer.error["M"]
            )
            assert answer.error["H"]
        assert not answer.rows
        assert answer.status == "I"
        assert alice.simple("SELECT 1").rows == [(b"1",)]
    assert shop18.psql("SELECT count(*) FROM shop.api_keys", "shop") == "5"


def test_a_denial_in_a_transaction_leaves_it_open_and_true(alice: WireClient) -> None:
    alice.simple("BEGIN")
    assert_denied(alice.simple("SELECT * FROM shop.api_keys"), status="T")
    assert_denied(alice.extended("SELECT * FROM shop.api_keys"), status="T")
    assert alice.simple("SELECT 1").status == "T"
    assert alice.simple("SELEC").status == "E"
    assert alice.simple("SELECT 1").error["C"] == "25P02"
    assert alice.simple("ROLLBACK").status == "I"


def test_nothing_of_a_text_runs_when_one_statement_is_denied(alice: WireClient) -> None:
    before = alice.simple("SELECT status FROM shop.orders WHERE id = 1").rows
    text = "UPDATE shop.orders SET status = 'cancelled' WHERE id = 1; SELECT * FROM shop.api_keys"
    assert_denied(alice.simple(text))
    assert alice.simple("SELECT status FROM shop.orders WHERE id = 1").rows == before


def test_what_a_batch_has_done_before_a_denial_is_rolled_back_as_the_client_must_believe(
    alice: WireClient,
) -> None:
    before = alice.simple("SELECT status FROM shop.orders WHERE id = 2").rows
    assert before != [(b"cancelled",)]
    alice.send(
        [
            Parse(b"", "UPDATE shop.orders SET status = 'cancelled' WHERE id = 2").encode(),
            Bind(b"", b"").encode(),
            Execute(b"").encode(),
            Parse(b"", "SELECT * FROM shop.api_keys").encode(),
            Bind(b"", b"").encode(),
            Execute(b"").encode(),
            SYNC,
        ]
    )
    answer = alice.until_ready()
    assert answer.kinds == "12CEZ"
    assert_denied(answer)
    assert alice.simple("SELECT status FROM shop.orders WHERE id = 2").rows == before


def test_a_simple_query_denied_behind_an_unsynced_batch_undoes_it_too(alice: WireClient) -> None:
    before = alice.simple("SELECT status FROM shop.orders WHERE id = 2").rows
    alice.send(
        [
            Parse(b"", "UPDATE shop.orders SET status = 'cancelled' WHERE id = 2").encode(),
            Bind(b"", b"").encode(),
            Execute(b"").encode(),
            Query("SELECT * FROM shop.api_keys").encode(),
        ]
    )
    assert_denied(alice.until_ready())
    assert alice.simple("SELECT status FROM shop.orders WHERE id = 2").rows == before


# B3: encodings and strings.


@pytest.mark.parametrize(
    "sql",
    [
        "SET client_encoding = 'SJIS'",
        "SET NAMES 'SJIS'",
        "SET client_encoding TO 'LATIN1'",
        "SELECT set_config('client_encoding', 'SJIS', false)",
        "SELECT set_config('CLIENT_encoding', 'sql_ascii', true)",
        "SET standard_conforming_strings = off",
        "SET LOCAL standard_conforming_strings TO 0",
        "SELECT set_config('standard_conforming_strings', 'off', false)",
        "BEGIN; SET client_encoding = 'GBK'; COMMIT",
        "PREPARE p AS SELECT set_config('client_encoding', 'SJIS', false)",
        "EXPLAIN ANALYZE SELECT set_config('client_encoding', 'SJIS', false)",
    ],
)
@pytest.mark.parametrize("version", [18, 15])
def test_encoding_and_strings_are_pinned(request: pytest.FixtureRequest, version: int, sql: str) -> None:
    client: WireClient = request.getfixturevalue("alice" if version == 18 else "alice15")
    for mode in ("simple", "extended"):
        answer = client.run(sql, mode)
        assert answer.errors or mode == "extended"
        assert answer.status == "I"
    assert client.simple("SHOW client_encoding").rows == [(b"UTF8",)]
    assert client.simple("SHOW standard_conforming_strings").rows == [(b"on",)]


@pytest.mark.parametrize(
    "parameters",
    [
        {"client_encoding": "SJIS"},
        {"client_encoding": "LATIN1"},
        {"options": "-c standard_conforming_strings=off"},
        {"options": "-c role=gateway_admin"},
        {"options": "-crole=gateway_admin"},
        {"options": "--role=gateway_admin"},
        {"options": "-c session_authorization=gateway_admin"},
        {"options": "-c\\ role=gateway_admin"},
        {"role": "gateway_admin"},
        {"session_authorization": "gateway_admin"},
        {"standard_conforming_strings": "off"},
        {"session_replication_role": "replica"},
        {"replication": "database"},
        {"replication": "true"},
        {"replication": "1"},
    ],
)
def test_startup_parameters_smuggle_nothing(gateway18: Gateway, parameters: dict[str, str]) -> None:
    with WireClient.secured(gateway18, "alice") as client:
        client.send(startup_packet({"user": "readonly", "database": TARGET, **parameters}))
        answer = client.until_ready()
        if answer.errors:
            assert answer.error["S"] == "FATAL"
            assert not answer.bodies(b"Z")
            return
        assert client.simple("SELECT current_user, session_user").rows == [
            (b"gateway_reader", b"gateway_reader")
        ]
        assert client.simple("SHOW client_encoding").rows == [(b"UTF8",)]
        assert client.simple("SHOW standard_conforming_strings").rows == [(b"on",)]


@pytest.mark.parametrize(
    "text",
    [b"SELECT '\x83\\'; TABLE shop.api_keys; --'", b"SELECT '\xff'", b"SELECT '\xc3'", b"\xed\xa0\x80"],
)
def test_bytes_that_are_no_utf8_are_refused(alice: WireClient, text: bytes) -> None:
    """A half character before a backslash would end the string elsewhere, were both taken for one character."""
    alice.send(b"Q" + (len(text) + 5).to_bytes(4, "big") + text + b"\0")
    assert alice.until_ready().error["C"] == "22021"
    body = b"\0" + text + b"\0\0\0"
    alice.send([b"P" + (len(body) + 4).to_bytes(4, "big") + body, SYNC])
    assert alice.until_ready().error["C"] == "22021"
    assert alice.simple("SELECT 1").rows == [(b"1",)]


# B4: one name, another object. open.people has an email that nobody masks, vault.people has the masked one.

PLAIN_BY_PATH = "SELECT upper(email) FROM people"
OTHER, MASKED = "SET search_path = open", "SET search_path = vault"


def _bound(sql: str) -> bytes:
    return b"".join(
        [
            Parse(b"", sql).encode(),
            Bind(b"", b"").encode(),
            Describe("P", b"").encode(),
            Execute(b"").encode(),
        ]
    )


PATHS: dict[str, tuple[tuple[str | bytes, ...], ...]] = {
    "an error takes SET back": ((MASKED,), (f"{OTHER}; SELECT 1/0",), (PLAIN_BY_PATH,)),
    "ROLLBACK in one text": ((MASKED,), (f"BEGIN; {OTHER}; ROLLBACK",), (PLAIN_BY_PATH,)),
    "ROLLBACK of the implicit transaction": ((MASKED,), (f"{OTHER}; ROLLBACK",), (PLAIN_BY_PATH,)),
    "ROLLBACK TO": ((MASKED,), (f"BEGIN; SAVEPOINT a; {OTHER}; ROLLBACK TO a; COMMIT",), (PLAIN_BY_PATH,)),
    "SET LOCAL ends": ((MASKED,), ("BEGIN; SET LOCAL search_path = open; COMMIT",), (PLAIN_BY_PATH,)),
    "all in one text": ((MASKED,), (f"BEGIN; {OTHER}; ROLLBACK; {PLAIN_BY_PATH}",)),
    "local in one text": ((MASKED,), (f"BEGIN; SET LOCAL search_path = open; COMMIT; {PLAIN_BY_PATH}",)),
    "SET in one write": ((OTHER,), (MASKED, PLAIN_BY_PATH)),
    "ROLLBACK in one write": ((MASKED,), ("BEGIN",), (OTHER,), ("ROLLBACK", PLAIN_BY_PATH)),
    "ROLLBACK and more in one text": ((MASKED,), ("BEGIN",), (OTHER,), (f"ROLLBACK; {PLAIN_BY_PATH}",)),
    "COMMIT of a local": (
        (MASKED,),
        ("BEGIN",),
        ("SET LOCAL search_path = open",),
        ("COMMIT", PLAIN_BY_PATH),
    ),
    "ROLLBACK TO in one write": (
        (MASKED,),
        ("BEGIN",),
        ("SAVEPOINT a",),
        (OTHER,),
        ("ROLLBACK TO a", PLAIN_BY_PATH),
    ),
    "extended": ((MASKED,), ("BEGIN",), (OTHER,), (_bound("ROLLBACK") + _bound(PLAIN_BY_PATH) + SYNC,)),
    "extended and an error": ((MASKED,), (_bound(OTHER) + _bound("SELECT 1/0") + SYNC, PLAIN_BY_PATH)),
    "extended SET": ((OTHER,), (_bound(MASKED) + _bound(PLAIN_BY_PATH) + SYNC,)),
    "set_config": ((OTHER,), (f"SELECT set_config('search_path', 'vault', false); {PLAIN_BY_PATH}",)),
    "set_config in a cursor": (
        (OTHER,),
        ("BEGIN; DECLARE c CURSOR FOR SELECT set_config('search_path', 'vault', false)",),
        (f"FETCH c; {PLAIN_BY_PATH}",),
    ),
    "set_config in a cursor, one write": (
        (OTHER,),
        ("BEGIN; DECLARE c CURSOR FOR SELECT set_config('search_path', 'vault', false)",),
        ("FETCH c", PLAIN_BY_PATH),
    ),
    "set_config prepared": (
        (OTHER,),
        ("PREPARE p AS SELECT set_config('search_path', 'vault', false)",),
        (f"EXECUTE p; {PLAIN_BY_PATH}",),
        (OTHER,),
        ("EXECUTE p", PLAIN_BY_PATH),
    ),
    "set_config in a portal": (
        (OTHER,),
        ("BEGIN",),
        (
            Parse(b"", "SELECT set_config('search_path', 'vault', false)").encode()
            + Bind(b"c", b"").encode()
            + SYNC,
        ),
        (f"FETCH c; {PLAIN_BY_PATH}",),
    ),
    "set_config under EXPLAIN": (
        (OTHER,),
        (f"EXPLAIN ANALYZE SELECT set_config('search_path', 'vault', false); {PLAIN_BY_PATH}",),
    ),
    "RESET": ((MASKED,), (OTHER,), ("RESET search_path", f"{MASKED}; {PLAIN_BY_PATH}")),
    "a plan made for another path": (
        (OTHER,),
        (Parse(b"s", PLAIN_BY_PATH).encode() + Describe("S", b"s").encode() + SYNC,),
        (MASKED,),
        (Bind(b"", b"s").encode() + Execute(b"").encode() + SYNC,),
    ),
    "a plan of plain columns": (
        (OTHER,),
        (Parse(b"s", "SELECT email FROM people").encode() + Describe("S", b"s").encode() + SYNC,),
        (MASKED,),
        (Bind(b"", b"s").encode() + Execute(b"").encode() + SYNC,),
        (OTHER,),
        (MASKED, Bind(b"", b"s").encode() + Execute(b"").encode() + SYNC),
    ),
    "PREPARE for another path": ((OTHER,), (f"PREPARE s AS {PLAIN_BY_PATH}",), (MASKED,), ("EXECUTE s",)),
    "a temporary table in front": (
        ("CREATE TEMP TABLE people (id int, email text)",),
        (MASKED,),
        ("BEGIN; DROP TABLE pg_temp.people",),
        (PLAIN_BY_PATH,),
        ("ROLLBACK",),
        ("DROP TABLE pg_temp.people", PLAIN_BY_PATH),
        (PLAIN_BY_PATH,),
    ),
    "a temporary table rolled back": (
        (MASKED,),
        ("BEGIN; CREATE TEMP TABLE people (id int, email text); ROLLBACK", PLAIN_BY_PATH),
        (PLAIN_BY_PATH,),
    ),
    "a function name that is a column": (
        (MASKED,),
        ("SELECT p.upper FROM (SELECT email AS upper FROM people) p",),
    ),
}


@pytest.mark.parametrize("person", ["alice", "wanda"])
@pytest.mark.parametrize("name", PATHS)
def test_the_path_that_is_judged_by_is_the_targets(both: Twins, person: str, name: str) -> None:
    with both.connect(person) as client:
        for writes in PATHS[name]:
            pieces = [Query(piece).encode() if isinstance(piece, str) else piece for piece in writes]
            client.send(pieces)
            for _ in pieces:
                assert client.until_ready().bodies(b"Z"), "the session ended"
        assert not both.canaries.smelt_in(bytes(client.received))
        client.simple("ROLLBACK")
        client.simple(OTHER)
        assert client.simple(PLAIN_BY_PATH).rows, "an honest reader of the open table is refused"


def test_a_slow_text_that_changes_the_path_is_waited_for(both: Twins) -> None:
    """The answer to one SET comes while another SET is still on its way behind it."""
    with psycopg.connect(both.gateway.server.dsn(LEFT), autocommit=True) as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE open.people")
        with both.connect("alice") as client:
            client.simple(MASKED)
            client.send(
                [Query(OTHER).encode(), Query(f"SELECT count(*) FROM open.people; {MASKED}").encode()]
            )
            client.until_ready()
            client.send(Query(PLAIN_BY_PATH).encode())
            other.execute("COMMIT")
            client.until_ready()
            answer = client.until_ready()
            assert not both.canaries.smelt_in(bytes(client.received))
            assert_denied(answer)


def test_a_type_of_ones_own_does_not_look_at_masked_values(both: Twins) -> None:
    """A cast to the column's own type is none; but the type's name may mean a domain with a CHECK by now."""
    for kind, column in (("text", "email"), ("address", "home")):
        outcomes = []
        for database in ("left_shop", "right_shop"):
            with both.connect("wanda", database) as client:
                made = client.simple(f"CREATE DOMAIN pg_temp.{kind} AS pg_catalog.text CHECK (value < 'qx')")
                client.simple("SET search_path = vault")
                answers = [
                    client.simple(f"SELECT {column}::{kind} FROM vault.people WHERE id = {row}")
                    for row in range(1, 13)
                ]
                outcomes.append([made.kinds, *(answer.kinds for answer in answers)])
                for answer in answers:
                    if answer.errors:
                        assert_denied(answer)
        assert outcomes[0] == outcomes[1]


# B6


def test_the_function_call_message_is_refused(alice: WireClient) -> None:
    for number in (1598, 2):
        alice.send(FunctionCall(number).encode())
        assert_denied(alice.until_ready())
    alice.simple("BEGIN")
    alice.send(FunctionCall(1598).encode())
    assert_denied(alice.until_ready(), status="T")


# B7


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT " + "1+" * 300_000 + "1", "54"),
        ("SELECT " + "NOT " * 5_000 + "true", "54001"),
        ("SELECT " + "ARRAY[" * 3_000 + "1" + "]" * 3_000, "54001"),
        ("SELECT * FROM " + "(SELECT * FROM " * 400 + "shop.api_keys" + ") a" * 400, "54001"),
        ("SELECT " + "CASE WHEN true THEN " * 1_000 + "1" + " END" * 1_000, "54001"),
        ("SELECT * FROM GRAPH_TABLE (shop MATCH (a) COLUMNS (a.key))", "42601"),
        ("SELECT * FROM shop.orders FOR PORTION OF x FROM 1 TO 2", "42601"),
        ("FLOOR shop.api_keys", "42601"),
        ("SELECT /*" + "/*" * 1_000, "42601"),
        ("SELECT /*" + "/*" * 50_000, "54000"),
    ],
)
def test_what_is_not_understood_is_refused(alice: WireClient, sql: str, code: str) -> None:
    for mode in ("simple", "extended"):
        answer = alice.run(sql, mode)
        assert answer.error["C"].startswith(code), answer.error
        assert answer.error["S"] == "ERROR"
        assert alice.simple("SELECT 1").rows == [(b"1",)]


def test_a_long_statement_is_refused_and_says_so(alice: WireClient) -> None:
    answer = alice.simple("SELECT '" + "x" * (16 << 20) + "'")
    assert (answer.error["S"], answer.error["C"]) == ("ERROR", "54000")
    assert alice.simple("SELECT 1").rows == [(b"1",)]


# B8


def test_a_view_replaced_between_parse_and_execute_is_judged_again(both: Twins) -> None:
    with both.connect("dora") as dora, both.connect("alice") as alice:
        dora.simple("CREATE OR REPLACE VIEW open.shifting AS SELECT id, name::text AS what FROM open.people")
        dora.simple("GRANT SELECT ON open.shifting TO gateway_reader")
        assert alice.simple("SELECT what FROM open.shifting").rows
        alice.send(
            [Parse(b"s", "SELECT what FROM open.shifting").encode(), Describe("S", b"s").encode(), SYNC]
        )
        alice.until_ready()
        alice.simple("PREPARE p AS SELECT what FROM open.shifting")
        for definition in ("email", "upper(email)", "(SELECT max(q.email) FROM vault.people q)"):
            changed = dora.simple(
                f"CREATE OR REPLACE VIEW open.shifting AS SELECT id, {definition} AS what FROM vault.people"
            )
            assert not changed.errors
            alice.send([Bind(b"", b"s").encode(), Execute(b"").encode(), SYNC])
            alice.until_ready()
            alice.simple("EXECUTE p")
            alice.simple("SELECT what FROM open.shifting")
            alice.simple("COPY (SELECT what FROM open.shifting) TO STDOUT")
        assert not both.canaries.smelt_in(bytes(alice.received))
        dora.simple("DROP VIEW open.shifting")


def test_a_change_of_the_catalog_in_the_transaction_stops_reading_under_masks(both: Twins) -> None:
    with both.connect("wanda") as client:
        client.simple("BEGIN; CREATE TABLE open.fresh (a int)")
        assert_denied(client.simple("SELECT email FROM vault.people"), status="T")
        client.simple("ROLLBACK")
        assert client.simple("SELECT email FROM vault.people").rows
