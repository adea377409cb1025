"""Commands, accesses, uses, functions and settings of statements."""

from __future__ import annotations

import pytest

from policy.facts import SqlFacts
from tests.policy.sql.shop import accesses, facts, statements, uses

COMMANDS = [
    ("select 1", "select"),
    ("values (1)", "select"),
    ("table t", "select"),
    ("insert into t values (1)", "insert"),
    ("insert into t select * from u", "insert select"),
    ("insert into t values (1) on conflict do nothing", "insert"),
    ("insert into t values (1) on conflict (a) do update set b = ''", "insert update"),
    ("update t set a = 1 where b = ''", "update"),
    ("delete from t", "delete"),
    (
        "merge into t using u on t.a = u.a when matched then delete when not matched then insert values (1)",
        "merge delete insert",
    ),
    ("with x as (delete from t returning *) select * from x", "select delete"),
    ("with x as (insert into t values (1)) update u set a = 1", "update insert"),
    ("select * from t for update", "select lock"),
    ("select 1 into x", "select_into create_table_as select"),
    ("select a into x from t union select a from u", "select_into create_table_as select"),
    ("create table x as select * from t", "create_table_as select"),
    ("create materialized view x as select * from t", "create_materialized_view select"),
    ("create view x as select * from t", "create_view select"),
    ("refresh materialized view m_customers", "refresh_materialized_view"),
    ("explain select * from t", "explain select"),
    ("explain analyze delete from t", "explain_analyze delete"),
    ("explain (analyze true) delete from t", "explain_analyze delete"),
    ("explain (analyze off) delete from t", "explain delete"),
    ("explain (analyze 0) delete from t", "explain delete"),
    ("prepare p as delete from t", "prepare delete"),
    ("prepare p as delete from t; execute p", "execute delete"),
    ("prepare p as delete from t; explain analyze execute p", "explain_analyze execute delete"),
    ("prepare p as select 1 as a; create table x as execute p", "create_table_as select"),
    ("declare c cursor for select * from t", "declare_cursor select"),
    ("declare c cursor for select * from t; fetch all from c", "fetch select"),
    ("declare c cursor for select * from t; move c", "move select"),
    ("declare c cursor for select * from t; close c", "close_cursor"),
    ("close all", "close_cursor_all"),
    ("prepare p as select 1; deallocate p", "deallocate"),
    ("deallocate all", "deallocate_all"),
    ("copy t to stdout", "copy_to select"),
    ("copy (select * from t) to stdout", "copy_to select"),
    ("copy (delete from t returning *) to stdout", "copy_to delete"),
    ("copy t from stdin", "copy_from"),
    ("copy t from '/etc/passwd'", "copy_file copy_from"),
    ("copy t to '/tmp/x'", "copy_file copy_to select"),
    ("copy t to program 'curl'", "copy_program copy_to select"),
    ("copy t from program 'curl'", "copy_program copy_from"),
    ("truncate t", "truncate"),
    ("lock t", "lock_table"),
    ("do $$ begin end $$", "do"),
    ("call shop.f(1)", "call"),
    ("create table x (a int)", "create_table"),
    ("create index on t (a)", "create_index"),
    ("alter table t add c int", "alter_table"),
    ("alter view v_mail rename to w", "alter_view rename"),
    ("alter table t rename a to c", "alter_table rename"),
    ("alter index i set tablespace x", "alter_index"),
    ("alter sequence order_seq restart", "alter_sequence"),
    ("drop table t", "drop_table"),
    ("drop view v_mail", "drop_view"),
    ("drop function f(int)", "drop_function"),
    ("drop trigger x on t", "drop_trigger"),
    ("create function f() returns int language sql as 'select 1'", "create_function"),
    ("create procedure f() language sql as 'select 1'", "create_procedure"),
    ("create trigger x before insert on t execute function f()", "create_trigger"),
    ("create rule r as on insert to t do instead nothing", "create_rule"),
    ("create extension dblink", "create_extension"),
    ("create server s foreign data wrapper w", "create_server"),
    ("create foreign table x (a int) server s", "create_foreign_table"),
    ("import foreign schema a from server s into b", "import_foreign_schema"),
    ("create subscription s connection 'x' publication p", "create_subscription"),
    ("create publication p for table t", "create_publication"),
    ("create language x handler f", "create_language"),
    ("create language x", "create_extension"),
    ("create event trigger e on ddl_command_start execute function f()", "create_event_trigger"),
    ("create role r", "create_role"),
    ("alter role r set search_path = x", "alter_role"),
    ("alter database d set role = x", "alter_database"),
    ("alter system set x = 1", "alter_system"),
    ("grant select on t to r", "grant"),
    ("revoke select on t from r", "revoke"),
    ("grant a to b", "grant_role"),
    ("revoke a from b", "revoke_role"),
    ("reassign owned by a to b", "reassign_owned"),
    ("drop owned by a", "drop_owned"),
    ("comment on table t is 'x'", "comment"),
    ("security label on table t is 'x'", "security_label"),
    ("vacuum t", "vacuum"),
    ("analyze t", "analyze"),
    ("cluster t", "cluster"),
    ("reindex table t", "reindex"),
    ("checkpoint", "checkpoint"),
    ("load 'x'", "load"),
    ("create schema s", "create_schema"),
    (
        "create schema s create table x (a int) create view y as select * from t",
        "create_schema create_table create_view",
    ),
    ("create type x as enum ('a')", "create_type"),
    ("create domain x as int", "create_domain"),
    ("create aggregate x (int) (sfunc = f, stype = int)", "create_aggregate"),
    ("create policy p on t using (true)", "create_policy"),
    ("begin", "begin"),
    ("start transaction read only", "start_transaction"),
    ("commit", "commit"),
    ("end", "commit"),
    ("rollback", "rollback"),
    ("abort", "rollback"),
    ("savepoint x", "savepoint"),
    ("release x", "release"),
    ("rollback to x", "rollback_to"),
    ("prepare transaction 'x'", "prepare_transaction"),
    ("commit prepared 'x'", "commit_prepared"),
    ("set work_mem = '1GB'", "set"),
    ("set local timezone = utc", "set"),
    ("set transaction read only", "set_transaction"),
    ("set session characteristics as transaction read only", "set_transaction"),
    ("set constraints all deferred", "set_constraints"),
    ("set role x", "set_role"),
    ("set role none", "set_role"),
    ("set role to default", "set_role"),
    ("reset role", "reset"),
    ("set session authorization x", "set_session_authorization"),
    ("set local role x", "set_role"),
    ("select set_config('role', 'x', true)", "select set_role"),
    ("select pg_catalog.set_config('ROLE', 'x', true)", "select set_role"),
    ("reset all", "reset_all"),
    ("show all", "show"),
    ("discard all", "discard_all"),
    ("discard temp", "discard_temp"),
    ("listen x", "listen"),
    ("unlisten *", "unlisten"),
    ("notify x, 'y'", "notify"),
]


@pytest.mark.parametrize(("text", "expected"), COMMANDS, ids=[text for text, _ in COMMANDS])
def test_commands(text: str, expected: str) -> None:
    found = facts(text)
    assert found.command == expected.split(maxsplit=1)[0]
    assert set(found.commands) >= set(expected.split())
    assert set(found.commands) - {"select"} <= set(expected.split())


def test_every_command_is_one_that_rules_can_name() -> None:
    from policy.commands import COMMANDS as NAMEABLE

    for text, _ in COMMANDS:
        assert set(facts(text).commands) <= NAMEABLE, text


ACCESSES: list[tuple[str, set[str]]] = [
    ("select id from shop.customers", {"select shop.customers(id)"}),
    ("select id from customers where ssn = 'x'", {"select shop.customers(id,ssn)"}),
    ("select count(*) from customers", {"select shop.customers()"}),
    ("update orders set total = 1", {"update shop.orders(total)!"}),
    ("update orders set total = 1 where id = 1", {"update shop.orders(id,total)"}),
    ("delete from orders", {"delete shop.orders()!"}),
    ("with d as (delete from orders) select 1", {"delete shop.orders()!"}),
    ("update orders set total = 1 where current of c", {"update shop.orders(total)"}),
    ("truncate orders", {"truncate shop.orders()!"}),
    (
        "delete from orders using t where t.a = orders.id returning note",
        {"delete shop.orders(id,note)", "select public.t(a)", "select shop.orders(note)"},
    ),
    (
        "insert into orders (note) select email from customers",
        {"insert shop.orders(note)", "select shop.customers(email)"},
    ),
    ("insert into t values (1)", {"insert public.t(a)"}),
    ("insert into t default values", {"insert public.t()"}),
    (
        "select mail from v_mail",
        {
            "select shop.v_mail(mail)",
            "select shop.v_customers(big,mail) via shop.v_mail",
            "select shop.customers(email,id,ssn) via shop.v_mail",
        },
    ),
    (
        "update v_customers set mail = 'x' where id = 1",
        {
            "update shop.v_customers(id,mail)",
            "update shop.customers(id,mail) via shop.v_customers",
            "select shop.customers(email,id,ssn) via shop.v_customers",
        },
    ),
    ("select id from events", {"select shop.events(id)", "select shop.events_1(id) via shop.events"}),
    ("select id from only events", {"select shop.events(id)"}),
    ("copy customers (email) to stdout", {"select shop.customers(email)"}),
    ("copy t (b) from stdin", {"copy_from public.t(b)"}),
    ("create table x as select id from orders", {"select shop.orders(id)", "create_table shop.x(*)"}),
    ("create table other.x (a int)", {"create_table other.x(*)"}),
    ("create temp table x (a int)", {"create_table pg_temp.x(*)"}),
    ("create table pg_temp.x (a int)", {"create_table pg_temp.x(*)"}),
    ("drop table t, other.secrets", {"drop_table public.t(*)", "drop_table other.secrets(*)"}),
    ("drop trigger x on other.secrets", {"drop_trigger other.secrets(*)"}),
    ("comment on column other.secrets.key is 'x'", {"comment other.secrets(*)"}),
    ("grant select on t to r", {"grant public.t(*)"}),
    ("create index on t (a)", {"create_index public.t(*)"}),
    (
        "alter table t add foreign key (a) references u",
        {"alter_table public.t(*)", "alter_table public.u(*)"},
    ),
    ("create table x (like t)", {"create_table shop.x(*)", "create_table public.t(*)"}),
    ("create table x (a int) inherits (t)", {"create_table shop.x(*)", "alter_table public.t(*)"}),
    ("create trigger x before insert on t execute function f()", {"create_trigger public.t(*)"}),
    ("vacuum t", {"vacuum public.t(*)"}),
    ("lock t in share mode", {"lock_table public.t()"}),
    ("select * from t for update", {"select public.t(a,b)", "lock public.t()"}),
    ("select 1 from t, u for update of u", {"select public.t()", "select public.u()", "lock public.u()"}),
    ("select * from gone", {"select .gone(*)"}),
    ("select * from other.gone", {"select other.gone(*)"}),
    ("select relname from pg_class", {"select pg_catalog.pg_class(relname)"}),
    ("declare c cursor for select a from t; fetch c", {"select public.t(a)"}),
    ("prepare p as select a from t; execute p", {"select public.t(a)"}),
]


@pytest.mark.parametrize(("text", "expected"), ACCESSES, ids=[text for text, _ in ACCESSES])
def test_accesses(text: str, expected: set[str]) -> None:
    assert accesses(text) == expected


SSN = "customers.ssn"
USES: list[tuple[str, set[str]]] = [
    ("select ssn from customers", {f"{SSN}:output"}),
    ("select upper(ssn) from customers", {f"{SSN}:expression"}),
    ("select 1 from customers where ssn = 'x'", {f"{SSN}:filter"}),
    ("select 1 from customers where exists (select ssn)", set()),
    (
        "select 1 from orders where note in (select ssn from customers)",
        {f"{SSN}:filter", "orders.note:filter"},
    ),
    ("select count(*) from customers having max(ssn) > ''", {f"{SSN}:filter"}),
    ("select 1 from customers order by ssn", {f"{SSN}:order"}),
    (
        "select id from customers order by upper(ssn)",
        {f"{SSN}:order", f"{SSN}:expression", "customers.id:output"},
    ),
    ("select ssn as x from customers order by x", {f"{SSN}:order", f"{SSN}:output"}),
    ("select ssn from customers order by 1", {f"{SSN}:order", f"{SSN}:output"}),
    ("select 1 from customers group by ssn", {f"{SSN}:group"}),
    ("select 1 from customers group by grouping sets ((ssn), ())", {f"{SSN}:group"}),
    ("select distinct ssn from customers", {f"{SSN}:group", f"{SSN}:output"}),
    ("select distinct on (ssn) 1 from customers", {f"{SSN}:group"}),
    ("select ssn from customers union select 'x'", {f"{SSN}:group", f"{SSN}:expression"}),
    ("select 1 from customers c join orders o on o.note = c.ssn", {f"{SSN}:join", "orders.note:join"}),
    (
        "select 1 from customers c join orders o on o.note = c.ssn and c.ssn > ''",
        {f"{SSN}:join", "orders.note:join", f"{SSN}:filter"},
    ),
    ("select 1 from customers c join orders o on o.note < c.ssn", {f"{SSN}:filter", "orders.note:filter"}),
    # a value that the caller chose is a condition, however it is written
    ("select 1 from customers c join (values ('x')) v(x) on v.x = c.ssn", {f"{SSN}:filter"}),
    ("select 1 from customers c join (select 'x' as ssn) v using (ssn)", {f"{SSN}:filter"}),
    ("select 1 from customers c natural join (select 'x' as ssn) v", {f"{SSN}:filter"}),
    ("select rank() over (order by ssn) from customers", {f"{SSN}:order", f"{SSN}:expression"}),
    ("select count(*) over (partition by ssn) from customers", {f"{SSN}:group", f"{SSN}:expression"}),
    ("select count(*) filter (where ssn = '') from customers", {f"{SSN}:filter", f"{SSN}:expression"}),
    (
        "select 1 from customers limit (select length(ssn) from customers)",
        {f"{SSN}:expression", f"{SSN}:filter"},
    ),
    ("insert into orders (note) select ssn from customers", {f"{SSN}:copy", "orders.note:assign"}),
    ("update customers set name = ssn", {f"{SSN}:copy", "customers.name:assign"}),
    ("update customers set ssn = 'x'", {f"{SSN}:assign"}),
    (
        "update customers set (name, phone) = (select ssn, 'x')",
        {f"{SSN}:copy", "customers.name:assign", "customers.phone:assign"},
    ),
    ("create table x as select ssn from customers", {f"{SSN}:copy"}),
    ("select ssn into x from customers", {f"{SSN}:copy"}),
    ("create view x as select ssn from customers", {f"{SSN}:copy"}),
    ("create materialized view x as select ssn from customers", {f"{SSN}:copy"}),
    ("copy (select ssn from customers) to '/tmp/x'", {f"{SSN}:copy"}),
    ("copy (select ssn from customers) to stdout", {f"{SSN}:output"}),
    ("explain select ssn from customers where name = ''", {"customers.name:filter"}),
    ("declare c cursor for select ssn from customers", set()),
    ("declare c cursor for select ssn from customers; fetch c", {f"{SSN}:output"}),
    ("prepare p as select ssn from customers; execute p", {f"{SSN}:output"}),
    ("select a from (select ssn, 1 as a from customers) s", set()),
    (
        "select 1 from (select upper(ssn) as u from customers) s where u = ''",
        {f"{SSN}:expression", f"{SSN}:filter"},
    ),
    ("select 1 from customers where (select ssn) is not null", {f"{SSN}:filter"}),
    ("delete from customers where ssn like '9%'", {f"{SSN}:filter"}),
    (
        "merge into orders o using customers c on o.note = c.ssn when matched and c.ssn > '' then delete",
        {f"{SSN}:join", "orders.note:join", f"{SSN}:filter"},
    ),
    (
        "select id from v_customers",
        {
            "v_customers.id:output",
            "customers.id:output via shop.v_customers",
            "customers.email:expression via shop.v_customers",
            f"{SSN}:filter via shop.v_customers",
        },
    ),
    (
        "select 1 from events where email = 'x'",
        {"events.email:filter", "events_1.email:filter via shop.events"},
    ),
    ("copy customers (ssn) from stdin", {f"{SSN}:assign"}),
]


@pytest.mark.parametrize(("text", "expected"), USES, ids=[text for text, _ in USES])
def test_uses(text: str, expected: set[str]) -> None:
    assert uses(text) == expected


FUNCTIONS = [
    ("select length(email), now(), pg_catalog.upper(name) from customers", ()),
    ("select upper(name) from customers", ()),  # other.upper is not on the path
    ("select lower(name) from customers", ("public.lower",)),  # the server may pick it
    ("select replace(name, 'a', 'b') from customers", ()),  # compiled: a superuser's
    ("select public.replace(name, 'a', 'b') from customers", ("public.replace",)),
    ("select pg_catalog.lower(name) from customers", ()),
    ("select pg_sleep(1)", ("pg_catalog.pg_sleep",)),
    ("select f(1), shop.f(1)", ("shop.f",)),
    ("select what(1)", ("?.what",)),
    ("select other.what(1)", ("other.what",)),
    ("select * from query_to_xml('select 1', true, true, '')", ("pg_catalog.query_to_xml",)),
    ("select (c).pg_sleep from customers c", ("pg_catalog.pg_sleep",)),
    ("select c.f from customers c", ("shop.f",)),
    ("select 1 where pg_sleep(1) is null order by pg_sleep(1)", ("pg_catalog.pg_sleep",)),
    ("with x as (select pg_sleep(1)) select 1", ("pg_catalog.pg_sleep",)),
    ("insert into t values (pg_sleep(1)::int)", ("pg_catalog.pg_sleep",)),
    ("insert into t values (1) returning pg_sleep(1)", ("pg_catalog.pg_sleep",)),
    ("create index on t (f(a))", ("shop.f",)),
    ("create table x (a int default f(1))", ("shop.f",)),
    ("alter table t alter a type int using f(a)", ("shop.f",)),
    ("select 1 ==> 2", ("public.operator(==>)",)),
    ("select 1 + 2", ()),  # other is not on the path
    ("select 1 operator(other.+) 2", ("other.operator(+)",)),
    ("select 1 operator(pg_catalog.+) 2", ()),
    ("select 'x'::shop.written", ("shop.cast(written)",)),
    ("select 'x'::text", ()),
    ("select * from t tablesample other.f(1)", ("other.f",)),
    ("select extract(year from now()), trim('x'), substring('x' from 1), now() at time zone 'utc'", ()),
    ("select current_setting('x'), pg_get_viewdef(1), pg_table_is_visible(1)", ()),
    (
        "select nextval('s'), setval('s', 1), lo_get(1), pg_read_file('x'), pg_advisory_lock(1), dblink('x')",
        ("?.nextval", "?.setval", "?.lo_get", "?.pg_read_file", "?.pg_advisory_lock", "?.dblink"),
    ),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [case for case in FUNCTIONS if case[1] is not None],
    ids=lambda value: str(value)[:60],
)
def test_functions(text: str, expected: tuple[str, ...]) -> None:
    assert set(facts(text).functions) == set(expected)


def test_functions_that_reveal_anything_make_their_output_unknown() -> None:
    found = facts("select query_to_xml('select ssn from customers', true, true, '')")
    assert found.outputs is not None
    assert not found.outputs[0].known


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("set timezone = 'utc'", ()),
        ("set search_path = a, b", ()),
        ("set session_replication_role = replica", ("session_replication_role",)),
        ("set local log_statement = 'none'", ("log_statement",)),
        ("reset log_statement", ("log_statement",)),
        ('set "Log_Statement" to default', ("log_statement",)),
        ("select set_config('Log_Statement', 'none', false)", ("log_statement",)),
        ("select set_config('timezone', 'utc', false)", ()),
        ("set my.own = 1", ("my.own",)),
        ("alter role r set log_statement = 'none'", ("log_statement",)),
        ("set transaction snapshot '1'", ("transaction_snapshot",)),
        ("set client_encoding = 'UTF8'", ()),
        ("set names 'utf-8'", ()),
        ("set standard_conforming_strings = on", ()),
    ],
)
def test_settings(text: str, expected: tuple[str, ...]) -> None:
    assert facts(text).settings == expected


@pytest.mark.parametrize(
    "text", ["do 'x'", "call f()", "insert into ruled values (1)", "update ruled set a = 1"]
)
def test_code_that_cannot_be_seen_is_said(text: str) -> None:
    assert facts(text).unresolved


def test_every_statement_of_a_text_is_told() -> None:
    found: list[SqlFacts] = [one.facts for one in statements("select 1; delete from t;; drop table u")]
    assert [one.command for one in found] == ["select", "delete", "drop_table"]
    assert [one.text for one in statements(" select 'é' ; /* é */ delete from t ")] == [
        "select 'é'",
        "delete from t",
    ]
    assert statements("") == ()
    assert statements(" ; -- nothing") == ()
