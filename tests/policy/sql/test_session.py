"""Names that depend on the session: search path, temporary relations, prepared statements, cursors; and effects."""

from __future__ import annotations

import msgspec
import pytest

from policy.facts import Output, SqlFacts
from policy.sql.analyze import analyze
from policy.sql.catalog import build_catalog
from policy.sql.refusal import SqlRefused
from policy.sql.state import (
    NO_EFFECT,
    Prepared,
    SessionEffect,
    SessionState,
    Temporary,
    TransactionControl,
    apply,
)
from tests.policy.sql.shop import CATALOG, STATE, accesses, facts, outputs, rows, shown, statements


def on_path(*schemas: str, role: str = "reader") -> SessionState:
    return SessionState(search_path=schemas, login_role=role)


def sources(text: str, state: SessionState = STATE) -> list[str]:
    return [shown(output) for output in outputs(text, state)]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (("shop", "public"), "select email from customers", "email=customers.email"),
        (("public", "shop"), "select email from customers", "email=public.customers.email"),
        (("nowhere", "public"), "select email from customers", "email=public.customers.email"),
        (("$user", "public"), "select email from customers", "email=public.customers.email"),
        ((), "select relname from pg_class", "relname=pg_catalog.pg_class.relname"),
        (("shop",), "select relname from pg_class", "relname=pg_catalog.pg_class.relname"),
    ],
)
def test_search_path(path: tuple[str, ...], text: str, expected: str) -> None:
    assert sources(text, on_path(*path)) == [expected]


def test_user_stands_for_the_login_role() -> None:
    assert sources("select email from customers", on_path("$user", "public", role="shop"))[0].startswith(
        "email=cust"
    )


def test_a_schema_that_the_login_may_not_use_leaves_the_next_one_possible() -> None:
    """The server passes over schemas without USAGE, so a table of that name further on is meant as well."""
    state = on_path("shop", "public", role="stranger")
    (output,) = outputs("select email from customers", state)
    assert str(output.source) == "shop.customers.email"
    assert [str(name) for name in output.also] == ["public.customers.email"]
    assert accesses("select email from customers", state) == {
        "select shop.customers(email)",
        "select public.customers(email)",
    }
    (output,) = outputs("select upper(email) from customers", state)
    assert {str(name) for name in output.derived} == {"shop.customers.email", "public.customers.email"}
    # the two differ in their columns, so where a star leads is not certain
    assert not all(output.known for output in outputs("select * from customers", state))


def test_an_unknown_search_path_means_every_relation_of_that_name() -> None:
    state = SessionState(search_path=None)
    assert accesses("select id from customers", state) == {
        "select shop.customers(id)",
        "select public.customers(id)",
    }
    assert "shop.f" in facts("select f(1)", state).functions
    assert set(facts("select upper('x')", state).functions) == {"other.upper"}


def test_a_path_set_earlier_in_the_text_counts() -> None:
    assert sources("set search_path = public; select email from customers") == [
        "email=public.customers.email"
    ]
    assert sources("select set_config('search_path', 'public', false); select email from customers") == [
        "email=public.customers.email"
    ]
    assert sources("set search_path = 'public, shop'; select relname from pg_class")
    assert facts("set search_path = 'public, shop'; select 1 from customers").unresolved


@pytest.mark.parametrize(
    "text",
    [
        "set search_path = public; reset search_path; {}",
        "set search_path to default; {}",
        "reset all; {}",
        "discard all; {}",
        "begin; set search_path = public; rollback; {}",
        "begin; set local search_path = public; commit; {}",
        "begin; savepoint a; set search_path = public; rollback to a; {}",
        "select set_config('search_path', name, false) from t; {}",
        "select set_config('search_path', 'a', false), set_config('search_path', 'b', false); {}",
        "select set_config('search_path', 'Public', false); {}",
        "set role x; {}",
        "set session authorization x; {}",
        "do 'x'; {}",
        "call f(); {}",
        "prepare p as select set_config('search_path', 'public', false); execute p; {}",
        "prepare p as select set_config('role', 'x', false); execute p; {}",
        "declare c cursor for select set_config('search_path', 'public', false); fetch c; {}",
        "explain analyze select set_config('search_path', name, false) from t; {}",
        "select * from v_setting; {}",
        "select * from v_of_setting; {}",
        "select * from v_broken; {}",
    ],
)
def test_a_path_that_cannot_be_told_is_not_guessed(text: str) -> None:
    found = accesses(text.format("select id from customers"))
    assert found == {"select shop.customers(id)", "select public.customers(id)"}


def test_temporary_relations_come_first_and_stay_in_doubt() -> None:
    made = "create temp table t (email text); "
    assert accesses(made + "select email from pg_temp.t") == {"select pg_temp.t(email)"}
    assert accesses(made + "select b from t") == {"select pg_temp.t(b)", "select public.t(b)"}
    (output,) = outputs("create temp table mine (x int, y text); select y from mine")
    assert str(output.source) == "pg_temp.mine.y"
    assert [shown(one) for one in outputs("create temp table mine (x int, y text); select * from mine")] == [
        "x=pg_temp.mine.x",
        "y=pg_temp.mine.y",
    ]


def test_a_temporary_relation_that_may_be_gone_hides_nothing() -> None:
    """CREATE TEMP, ROLLBACK: the permanent table is read again."""
    text = "begin; create temp table customers as select 1 as email; rollback; select upper(email) from customers"
    assert "shop.customers.email" in {str(name) for name in outputs(text)[0].derived}


@pytest.mark.parametrize(
    "text",
    [
        "create temp table {} (a int)",
        "create temporary view {} as select 1",
        "create table pg_temp.{} (a int)",
        "select 1 as a into temp {}",
        "create temp table {} as select 1",
        "create temp sequence {}",
        "set search_path = pg_temp, shop; create table {} (a int)",
        "create temp table x (a int); create view {} as select * from x",
        "create temp table x (a int); alter table x rename to {}",
        "explain analyze create temp table {} as select 1",
        "set role someone; create table {} (a int)",
    ],
)
def test_every_way_to_make_a_temporary_relation_is_noticed(text: str) -> None:
    state = STATE
    for statement in statements(text.format("customers")):
        state = apply(state, statement.effect)
    assert "customers" in state.temporary_names


def test_a_changed_temporary_relation_has_unknown_columns() -> None:
    text = "create temp table mine (x int); alter table mine add y int; select * from mine"
    assert not all(output.known for output in outputs(text))


def test_prepared_statements_and_cursors() -> None:
    text = "prepare p as select email from customers; execute p"
    assert sources(text) == ["email=customers.email"]
    assert sources("declare c cursor for select email from customers; fetch 1 from c") == [
        "email=customers.email"
    ]
    assert facts("declare c cursor for select email from customers; move 1 in c").outputs is None
    for bad, sqlstate, message in (
        ("execute gone", "26000", 'prepared statement "gone" does not exist'),
        ("fetch gone", "34000", 'cursor "gone" does not exist'),
        ("prepare p as select 1; deallocate p; execute p", "26000", 'prepared statement "p" does not exist'),
        ("prepare p as select 1; discard all; execute p", "26000", 'prepared statement "p" does not exist'),
        ("declare c cursor for select 1; close all; fetch c", "34000", 'cursor "c" does not exist'),
    ):
        with pytest.raises(SqlRefused) as refused:
            statements(bad)
        assert (refused.value.sqlstate, refused.value.message) == (sqlstate, message)
        assert refused.value.is_servers_answer


def test_a_prepared_statement_is_judged_by_what_it_means_now_and_then() -> None:
    """The server plans it again when the path has changed, but not always when a temporary table shadows."""
    prepared = statements("prepare p as select email from customers")[0].effect.prepares
    assert prepared is not None
    now = SessionState(search_path=("public",), login_role="reader", prepared={"p": prepared[1]})
    found = facts("execute p", now)
    assert {(access.schema, access.name) for access in found.accesses} == {
        ("shop", "customers"),
        ("public", "customers"),
    }
    assert found.outputs == (Output("email", known=False),)
    assert found.unresolved


def test_a_statement_of_the_extended_protocol_may_be_executed_by_name() -> None:
    text = "select email from customers where id = $1"
    state = SessionState(search_path=("shop",), prepared={"s": Prepared(text, facts(text))})
    assert sources("execute s(1)", state) == ["email=customers.email"]
    with_portal = SessionState(search_path=("shop",), cursors={"portal": facts(text)})
    assert sources("fetch all from portal", with_portal) == ["email=customers.email"]


def test_names_are_asked_only_when_needed() -> None:
    class Unasked(dict[str, Prepared]):
        def __iter__(self) -> None:  # type: ignore[override]
            raise AssertionError("every name was asked for")

    state = SessionState(prepared=Unasked())
    found = apply(state, statements("prepare p as select 1")[0].effect)
    assert found.prepared["p"].facts.command == "select"
    assert "q" not in found.prepared
    assert apply(found, SessionEffect(deallocates="p")).prepared.get("p") is None
    assert (
        len(apply(SessionState(), SessionEffect(prepares=("a", Prepared("", SqlFacts("x"))))).prepared) == 1
    )


def test_effects() -> None:
    def effect(text: str) -> SessionEffect:
        return statements(text)[-1].effect

    assert effect("select 1") is NO_EFFECT
    assert effect("begin").transaction is TransactionControl.BEGIN
    assert effect("rollback to x").transaction is TransactionControl.ROLLBACK_TO
    assert effect('set search_path = a, "B"').search_path == ("a", "B")
    assert effect("set local search_path = a").is_local
    assert effect("set search_path to default").resets_search_path
    assert effect("create table x (a int)").changes_catalog
    assert effect("drop table t").changes_catalog
    assert effect("create temp table x (a int)").creates_temporary == (Temporary("x", ("a",)),)
    assert effect("create temp table x as select 1 as a, 2").creates_temporary == (
        Temporary("x", ("a", "?column?")),
    )
    assert effect("deallocate all").deallocates == "*"
    assert effect("close all").closes == "*"
    assert effect("discard all").discards == "all"
    assert effect("listen x").listens == "x"
    assert effect("unlisten *").unlistens == "*"
    assert effect("declare c cursor for select 1; fetch c").fetches == "c"
    assert not effect("begin").is_empty


def test_copy_shapes() -> None:
    shape = statements("copy customers (email, name) from stdin with (format csv, header, delimiter ';')")[
        0
    ].effect.copies
    assert shape is not None and shape.columns is not None
    assert [shown(column) for column in shape.columns] == ["email=customers.email", "name=customers.name"]
    assert (shape.is_in, shape.format, shape.delimiter, shape.null, shape.header) == (
        True,
        "csv",
        ";",
        "",
        True,
    )
    shape = statements("copy (select upper(email) from customers) to stdout csv quote '|' force quote *")[
        0
    ].effect.copies
    assert shape is not None and shape.columns is not None
    assert [shown(column) for column in shape.columns] == ["upper~customers.email"]
    assert (shape.is_in, shape.quote, shape.escape, shape.force_quote) == (False, "|", "|", ("*",))
    shape = statements("copy computed to stdout (encoding 'latin1', header false, default 'd')")[
        0
    ].effect.copies
    assert shape is not None and shape.columns is not None
    assert [column.name for column in shape.columns] == ["email"]  # generated columns are not copied
    assert (shape.encoding, shape.header, shape.format, shape.null, shape.default) == (
        "latin1",
        False,
        "text",
        "\\N",
        "d",
    )
    assert statements("copy t to '/tmp/x'")[0].effect.copies is None
    unknown = statements("copy gone to stdout")[0].effect.copies
    assert unknown is not None and unknown.columns is None


def test_the_catalog_decides() -> None:
    """The same text under another snapshot has other facts."""
    changed = msgspec.structs.replace(
        rows(), relations=tuple(r for r in rows().relations if r.schema != "shop")
    )
    other = build_catalog(changed)
    assert other.version != CATALOG.version
    (statement,) = analyze("select email from customers", other, STATE)
    assert statement.facts.accesses[0].schema == "public"
