"""Where each output column comes from. Expected values are written as in `shop.shown`."""

from __future__ import annotations

import pytest

from policy.facts import ColumnName
from tests.policy.sql.shop import facts, outputs, shown

E = "customers.email"

CASES = [
    # plain columns, whatever they are called and wherever they pass
    ("select email from customers", [f"email={E}"]),
    ("select email as x, (name) from customers c", [f"x={E}", "name=customers.name"]),
    ("select c.email from shop.customers as c", [f"email={E}"]),
    ("select shop.customers.email from shop.customers", [f"email={E}"]),
    ("select shopdb.shop.customers.email from shop.customers", [f"email={E}"]),
    ("select a from (select email as a from customers) s", [f"a={E}"]),
    ("select q from (select email from customers) s(q)", [f"q={E}"]),
    ("with x(e) as (select email from customers) select e from x", [f"e={E}"]),
    ("with x as (select email from customers), y as (select * from x) select * from y", [f"email={E}"]),
    ("select l.e from customers c, lateral (select c.email as e) l", [f"e={E}"]),
    ("select (c).email, (c.*).name from customers c", [f"email={E}", "name=customers.name"]),
    ("select email(c) from customers c", [f"email={E}"]),
    ("select z.b from customers as z(a, x, b)", [f"b={E}"]),
    ("select email::text from customers", [f"email={E}"]),
    ('select U&"\\0065mail" from CUSTOMERS', [f"email={E}"]),
    ('select "email" from "shop"."customers" -- ,ssn', [f"email={E}"]),
    ("select /* a /* b */ , ssn */ email from customers", [f"email={E}"]),
    ("delete from customers where id = 1 returning email", [f"email={E}"]),
    ("update customers set name = 'x' returning old.email, new.email as n", [f"email={E}", f"n={E}"]),
    ("update customers c set name = 'x' returning with (old as o) o.email", [f"email={E}"]),
    ("with d as (delete from customers returning email) select email from d", [f"email={E}"]),
    # computed: every column that goes in
    ("select phone::varchar from customers", ["phone~customers.phone"]),
    ("select upper(email) from customers", [f"upper~{E}"]),
    ("select email || ssn || 'x' from customers", [f"?column?~{E},customers.ssn"]),
    ("select case when ssn = '1' then 1 else 2 end from customers", ["case~customers.ssn"]),
    ("select coalesce(name, email) from customers", [f"coalesce~{E},customers.name"]),
    ('select email collate "C" from customers', [f"email~{E}"]),
    ("select email is null, email = 'x' from customers", [f"?column?~{E}", f"?column?~{E}"]),
    ("select count(*) from customers", ["count"]),
    ("select count(email), max(ssn) from customers", [f"count~{E}", "max~customers.ssn"]),
    ("select count(*) filter (where ssn = '1') from customers", ["count~customers.ssn"]),
    ("select row_number() over (order by ssn) from customers", ["row_number~customers.ssn"]),
    (
        "select sum(id) over w from customers window w as (partition by ssn)",
        ["sum~customers.id,customers.ssn"],
    ),
    ("select string_agg(name, ',' order by ssn) from customers", ["string_agg~customers.name,customers.ssn"]),
    ("select (select email from customers limit 1)", [f"email~{E}"]),
    ("select (select email from customers union select 'x')", [f"email~{E}"]),
    ("select (select * from (select email as e from customers) s)", [f"e~{E}"]),
    ("select array(select email from customers)", [f"array~{E}"]),
    ("select 'x' in (select email from customers)", [f"?column?~{E}"]),
    ("select exists (select email from customers)", ["exists"]),
    ("select array[email] from customers", [f"array~{E}"]),
    ("select row(email, 1) from customers", [f"row~{E}"]),
    ("select json_object('a': email) from customers", [f"json_object~{E}"]),
    ("select json_arrayagg(email order by ssn) from customers", [f"json_arrayagg~{E},customers.ssn"]),
    ("select xmlforest(email) from customers", [f"xmlforest~{E}"]),
    ("select t from customers, unnest(tags) t", ["t~customers.tags"]),
    ("select key from orders, jsonb_each(note::jsonb)", ["key~orders.note"]),
    ("select j.x from orders, json_table(note, '$' columns (x int path '$')) j", ["x~orders.note"]),
    ("select x from orders, xmltable('/a' passing (note::xml) columns x int path 'x')", ["x~orders.note"]),
    # branches
    ("select email from customers union all select name from customers", [f"email~{E},customers.name"]),
    ("select 1 union select 2 union all select id from orders", ["?column?~orders.id"]),
    ("values (1), ((select email from customers))", [f"column1~{E}"]),
    (
        "with recursive r(a, b) as (select 1, 'x' union all select a, email from r, customers) select * from r",
        ["a", f"b~{E}"],
    ),
    (
        "with recursive r(a, b) as (select name, email from customers union all select b, a from r) select a from r",
        [f"a~{E},customers.name"],
    ),
    (
        "with recursive x as (select * from y), y as (select email from customers) select * from x",
        [f"email={E}"],
    ),
    (
        "with recursive r(n) as (select 1 union all select n + 1 from r) cycle n set c using p select * from r",
        ["n", "c", "p"],
    ),
    # scopes: a name means the innermost thing of that name
    ("with customers as (select 1 as email) select email from customers", ["email"]),
    ("with customers as (select email from customers) select email from customers", [f"email={E}"]),
    ("select (select email from (select 1 as email) s) from customers", ["email"]),
    ("select (select email) from customers", [f"email~{E}"]),
    ("select x from (select (select * from (select ssn as x from customers) q)) s", ["x~customers.ssn"]),
    (
        "select (select x from (select (select * from (select ssn as x from customers limit 1) q)) s)"
        " from (select 1 as x) o",
        ["x~customers.ssn"],
    ),
    ("select (select b from t where t.a = 1) from (select email as b from customers) s", ["b~public.t.b"]),
    # joins
    ("select a, b, d from t join u using (a)", ["a=public.t.a", "b=public.t.b", "d=public.u.d"]),
    ("select * from t natural join u", ["a=public.t.a", "b=public.t.b", "d=public.u.d"]),
    ("select a from t right join u using (a)", ["a=public.u.a"]),
    ("select a from t full join u using (a)", ["a~public.t.a,public.u.a"]),
    ("select j.* from (t join u using (a)) as j(x)", ["x=public.t.a", "b=public.t.b", "d=public.u.d"]),
    ("select j.a from t join u using (a) as j", ["a=public.t.a"]),
    ("select u.a from t join u using (a)", ["a=public.u.a"]),
    # views, generated columns, other names of the same values
    ("select big from v_customers", [f"big=v_customers.big~{E}"]),
    ("select big from v_mail", [f"big=v_mail.big~{E}"]),
    ("select loud from computed", ["loud=computed.loud~computed.email"]),
    ("select x from v_broken", ["x=v_broken.x?"]),
    # what nothing of a table is in
    ("select 1, now(), current_user, $1, ctid, tableoid from customers", 6 * [""]),
    # rows of a relation may come out of a function that returns its row type
    (
        "select email from all_customers()",
        [
            f"email~{E},customers.id,customers.name,customers.phone,customers.ssn,customers.tags",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[case[0] for case in CASES])
def test_outputs(text: str, expected: list[str]) -> None:
    found = [shown(output) for output in outputs(text)]
    if expected and set(expected) == {""}:
        assert all(
            ("=" not in one and "~" not in one and one[-1:] != "?") or one == "?column?" for one in found
        )
        assert len(found) == len(expected)
        return
    assert found == expected
    assert facts(text).unresolved == () or "broken" in text


def test_whole_rows_are_made_of_every_column() -> None:
    every = ["email", "id", "name", "phone", "ssn", "tags"]
    for text in (
        "select c from customers c",
        "select c::text from customers c",
        "select row_to_json(c) from customers c",
        "select to_jsonb(c.*) from customers c",
        "select array_agg(c) from customers c",
        "select (select c from customers c)::text",
        "select (x).a from (select c as x from customers c) s",
        "select x.upper from customers x",
        "select upper(x) from customers x",
    ):
        (output,) = outputs(text)
        assert output.source is None
        assert [name.column for name in output.derived] == every, text
        assert {use.column.column for use in facts(text).uses if use.use.value == "row"} == set(every), text


@pytest.mark.parametrize(
    "text",
    [
        "select nothing from customers",
        "select c.nothing from customers c",
        "select email.x from customers",
        "select id from customers, orders",  # ambiguous
        "select * from gone",
        "select gone.x from gone",
        "select * from jsonb_to_record('{}')",
        "select email from jsonb_populate_record(null::shop.customers, '{}')",
        "select (x).* from (select c as x from customers c) s",
        "select a from elsewhere.shop.orders",
    ],
)
def test_what_cannot_be_followed_is_said(text: str) -> None:
    found = facts(text)
    assert found.unresolved
    assert found.outputs is not None
    assert not all(output.known for output in found.outputs)


def test_a_name_that_an_unknown_relation_may_take_is_in_doubt() -> None:
    (output,) = outputs("select email from customers, gone")
    assert not output.known
    (output,) = outputs("select (select email from gone) from customers")
    assert not output.known
    assert ColumnName("shop", "customers", "email") in output.derived


def test_other_names_of_a_value() -> None:
    (mail,) = outputs("select mail from v_mail")
    assert mail.source == ColumnName("shop", "v_mail", "mail")
    assert [str(name) for name in mail.also] == ["shop.v_customers.mail", "shop.customers.email"]
    (parent,) = outputs("select email from events")
    assert [str(name) for name in parent.also] == ["shop.events_1.email"]
    (child,) = outputs("select email from events_1")
    assert [str(name) for name in child.also] == ["shop.events.email"]
    (stored,) = outputs("select email from m_customers")
    assert [str(name) for name in stored.also] == ["shop.customers.email"]


def test_the_same_text_gives_the_same_facts() -> None:
    text = "select c, upper(name || email || ssn), * from customers c order by 1, 2"
    assert facts(text) == facts(text)
    names = [str(use.column) for use in facts(text).uses if use.use.value == "row"]
    assert names == sorted(names)
