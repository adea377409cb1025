"""A database and many shapes of SELECT over it: a written list, and a generator of nested ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

# {email}, {ssn}...: expressions over `i` that give the masked values, so that two databases can differ in just them.
SCHEMA = """
create schema shop;
create table shop.customers(
  id int primary key, name text not null, email text, phone varchar(20), ssn text, birth date, balance numeric(10,2),
  tags text[], prefs jsonb, email_up text generated always as (upper(email)) stored);
create table shop.orders(id int primary key, customer_id int, total numeric, placed timestamptz, note text);
create view shop.v_cust as
  select id, name, email as mail, upper(email) as big, left(ssn, 3) as s3 from shop.customers where ssn is not null;
create view shop.v_v as select v.mail, v.big, o.total from shop.v_cust v join shop.orders o on o.customer_id = v.id;
create table shop.events(id int, at date, email text) partition by range (at);
create table shop.events_1 partition of shop.events for values from ('2020-01-01') to ('2021-01-01');
create table shop.base(a int, ssn text);
create table shop.child(b int) inherits (shop.base);
create view shop.v_rec as
  with recursive r(n, e) as (
    select id, email from shop.customers where id = 1 union all select r.n + 1, r.e from r where n < 3)
  select * from r;
create function shop.f(int) returns int language sql as 'select $1';
create type shop.mood as enum ('a', 'b');
create domain shop.posint as int check (value > 0);
create table public.t(a int, b text, c text);
create table public.u(a int, d text);
insert into shop.customers(id, name, email, phone, ssn, birth, balance, tags, prefs)
  select i, 'n' || i, {email}, '555' || i, {ssn}, date '1990-01-01' + i, i, array['a', 'b'], '{{"x":1}}'
  from generate_series(1, 12) i;
insert into shop.orders
  select i, 1 + i % 12, i, timestamptz '2026-01-01 00:00:00+00', 'o' || i from generate_series(1, 20) i;
insert into public.t select i, 'b' || i, 'c' || i from generate_series(1, 3) i;
insert into public.u select i, 'd' || i from generate_series(1, 3) i;
insert into shop.events select i, '2020-05-05', {email} from generate_series(1, 2) i;
insert into shop.base select i, {ssn} from generate_series(1, 2) i;
insert into shop.child select i, {ssn}, i from generate_series(3, 3) i;
create materialized view shop.m_cust as select name, email, ssn from shop.customers;
"""
MASKED_VALUES = (
    {"email": "'e' || i || '@x.org'", "ssn": "'9' || i"},
    {
        "email": "case when i % 4 = 0 then null else 'zz' || (70 - i) || '@' || i % 5 end",
        "ssn": "case when i % 3 = 0 then 'x' else '12' || (i % 5) end",
    },
)
MASKED = frozenset(
    {
        ("customers", "email"),
        ("customers", "ssn"),
        ("events", "email"),
        ("base", "ssn"),
    }
)

WRITTEN = """
select email from customers
select email as x, name y from customers c
select (email) from customers
select email::text from customers
select phone::varchar from customers
select phone::varchar(5) from customers
select phone::text from customers
select email collate "C" from customers
select c.* from customers c
select * from customers
select customers.* from customers
select shop.customers.email from shop.customers
select shop.customers.email from customers
select email from customers order by email
select email from customers group by email
select distinct email from customers
select distinct on (email) email, name from customers order by email, name
select email from customers for update
select a from (select email as a from customers) s
select s.a from (select email as a, ssn b from customers) s where b like '9%'
select * from (select * from customers) s
select * from (select c.*, o.total from customers c join orders o on o.customer_id = c.id) s
with x as (select email, ssn from customers) select * from x
with x(a) as (select email, ssn from customers) select a, ssn from x
with x as materialized (select email from customers) select x.email from x
with x as (select email e from customers), y as (select e as f from x) select f from y
with customers as (select 1 as email) select email from customers
with customers as (select email from customers) select email from customers
with a as (select 1 as one), b as (select email, one from customers, a) select * from b
select upper(email) from customers
select email || '' from customers
select min(email), max(ssn), count(*), count(email) from customers
select case when id = 1 then email else 'x' end from customers
select coalesce(email, 'x') from customers
select nullif(email, 'x') from customers
select greatest(email, name) from customers
select c from customers c
select c::text from customers c
select row(c.email, 1) from customers c
select row_to_json(c) from customers c
select to_jsonb(c.*) from customers c
select array_agg(email) from customers
select array[email, name] from customers
select array(select email from customers)
select (select email from customers limit 1)
select (select (select email from customers limit 1))
select email from customers union all select name from customers
select email from customers union select 'x'
select name, 1 from customers intersect select name, 1 from customers
values (1, 'a'), (2, 'b')
values ((select email from customers limit 1))
select * from (values (1, 'a')) v
select * from (values (1, 'a')) v(x, y)
select column1 from (values (1)) v
select c.email, o.total from customers c, orders o where o.customer_id = c.id
select c.email from customers c left join orders o on o.customer_id = c.id
select id from customers join orders using (id)
select * from customers join orders using (id)
select customers.id, orders.id, id from customers join orders using (id)
select id from customers left join orders using (id)
select id from customers right join orders using (id)
select id from customers full join orders using (id)
select * from t natural join u
select a, b, d from t natural join u
select j.a from (t natural join u) as j
select j.* from (t join u using (a)) as j(x, y, z)
select j.a from t join u using (a) as j
select * from t cross join u
select t.a, u.a from t join u on t.a = u.a
select x.a from t as x(a, b) where x.b is not null
select q.z from t as q(z)
select * from t as q(z)
select l.e from customers c, lateral (select c.email as e) l
select l.* from customers c cross join lateral (select o.note, c.ssn from orders o where o.customer_id = c.id) l
select (c).email from customers c
select (c).* from customers c
select (c.*).email from customers c
select c.name, (select count(*) from orders o where o.customer_id = c.id) from customers c
select name from customers where exists (select email from customers)
select name from customers where email in (select email from customers)
select id in (select id from orders) from customers
select count(*) filter (where ssn like '9%') from customers
select row_number() over (order by ssn) from customers
select first_value(email) over (partition by name order by id) from customers
select sum(balance) over w from customers window w as (partition by ssn)
select name, lag(email) over (order by id) as prev from customers
select string_agg(name, ',' order by ssn) from customers
select mail, big, s3 from v_cust
select * from v_cust
select * from v_v
select * from m_cust
select * from v_rec
select email from events
select email from events_1
select ssn from base
select ssn from only base
select ssn, b from child
select ctid, tableoid, xmin from customers
select ctid from only base
select current_user, now(), current_date, session_user, localtimestamp
select 1, 'x', null, true, 1.5
select $1::int
select tags[1], tags[1:2] from customers
select unnest(tags) from customers
select * from unnest(array[1,2]) x
select * from unnest(array[1,2], array['a','b']) as x(a, b)
select * from customers, unnest(tags) t
select t.t from customers, unnest(tags) t
select * from generate_series(1, 3)
select * from generate_series(1, 3) g
select g from generate_series(1, 3) g
select g.n from generate_series(1, 3) g(n)
select * from generate_series(1, 3) with ordinality
select * from generate_series(1, 3) with ordinality as g(n, o)
select * from rows from (generate_series(1,2), generate_series(1,3)) as z(a, b)
select key, value from customers, jsonb_each(prefs)
select * from jsonb_each('{"a":1}')
select * from jsonb_to_record('{"a":1}') as x(a int, b text)
select * from json_array_elements('[1,2]')
select * from json_array_elements('[1,2]') e
select value from json_array_elements('[1,2]') e
select prefs -> 'x', prefs ->> 'x', prefs #> '{x}' from customers
select extract(year from birth), date_trunc('year', birth) from customers
select trim(email), substring(email from 1 for 2), overlay(email placing 'x' from 1) from customers
select position('x' in email) from customers
select birth at time zone 'utc' from customers
select email like 'x%', email ilike 'x', email similar to 'x', email ~ 'x' from customers
select balance between 1 and 2 from customers
select email is null, email is distinct from 'x' from customers
select (email = 'x') is true from customers
select name as n from customers order by n
select name from customers order by 1
select name, count(*) from customers group by 1 order by 2 desc
select upper(name) as u from customers group by u
select name from customers group by grouping sets ((name), ())
select grouping(name), name from customers group by rollup (name)
select name, sum(balance) from customers group by cube (name, email) having sum(balance) > 1
with recursive r(n) as (select 1 union all select n + 1 from r where n < 3) select n from r
with recursive r(i, e) as (select 1, 'x' union all select id, email from customers join r on id = i + 1) select * from r
with recursive r(n) as (select 1 union select n + 1 from r where n < 3) search depth first by n set o select * from r
with recursive r(n) as (select 1 union all select n + 1 from r where n < 3) cycle n set c using p select * from r
with recursive x as (select * from y), y as (select email from customers) select * from x
with recursive r(n, e) as (select 1, '' union select 2, (select max(ssn) from m_cust) from r) select e from r
select xmlelement(name foo, email) from customers
select xmlforest(email, name) from customers
select xmlconcat(xmlparse(content 'x'), xmlpi(name php))
select xmlserialize(content xmlparse(content 'x') as text)
select json_object('a': email) from customers
select json_array(email, 1) from customers
select json_arrayagg(email) from customers
select json_objectagg(name: email) from customers
select json_array(select email from customers)
select json_value(prefs, '$.x'), json_query(prefs, '$.x'), json_exists(prefs, '$.x') from customers
select j.* from customers, json_table(prefs, '$' columns (x int path '$.x')) j
select json_scalar(1), json_serialize('{}' returning text), json('{}')
select prefs is json from customers
select * from xmltable('/a/b' passing '<a><b>1</b></a>' columns x int path '.')
select cast(email as varchar(3)) from customers
select id::posint from customers
select 'a'::mood
select name from customers tablesample bernoulli (10)
select name from customers limit 5 offset 1
select name from customers fetch first 2 rows with ties
select name from customers order by name fetch first 2 rows with ties
select relname, relkind from pg_class limit 1
select * from information_schema.tables limit 1
select table_name from information_schema.columns limit 1
select 'pg_class'::regclass, 1::oid
select not true, - id, + id, @ id from customers
select id = any(array[1,2]), id = all(array[1]), id in (1,2) from customers
select (1,2) = (3,4), (id, name) < (1, 'x') from customers
select (row(1, 2)).f1
select lower('X'), shop.f(1)
select email_up, id from customers
select c.email_up from (select * from customers) c
select max(e) from (select email as e from customers) s
select s.x from (select name as x from customers union all select email from customers) s
select e from (select email e from customers order by ssn limit 5) s
select a.b from (select t.b from t) a, (select d from u) c
select (select c.email) from customers c
select (select email from customers c2 where c2.id = c.id) from customers c
select name from (select name, email from customers) as s(n, email_) where false
select n from (select name, email from customers) as s(n)
select s from (select 1 as a) s
select s.a from (select email as a from customers offset 0) s
select upper from (select upper(email) from customers) s
select case from (select case when true then 1 end as "case") s
select count from (select count(*) from customers) s
select "?column?" from (select 1) s
select exists(select 1 from customers where ssn = 'x')
select date from (select '2020-01-01'::date) s
select int4 from (select 1::int) s
select array from (select array[1]) s
select coalesce from (select coalesce(name, 'x') from customers) s
select sum(x.total), c.name from orders x join customers c on c.id = x.customer_id group by c.name
select lower(email) as email from customers order by email
select ordinality from unnest(array[1]) with ordinality
select pg_typeof(email) from customers
select email from customers where (email, ssn) in (select email, ssn from customers)
select email from ((customers))
select c.email from (customers c join orders o on c.id = o.customer_id)
select x.* from (customers c join orders o on c.id = o.customer_id) as x
table customers
table v_cust
(select email from customers)
(select email from customers) order by 1 limit 1
select t.a from t left join (u left join t t2 on t2.a = u.a) on t.a = u.a
select t2.b, u.d from t left join (u left join t t2 using (a)) using (a)
select * from t left join (u left join t t2 using (a)) using (a)
select * from t join u using (a) join t t3 using (a)
select a from t join u using (a) full join t t3 using (a)
select bpchar 'x', float8 '1', interval '1 day', timestamp '2020-01-01'
""".strip().splitlines()

# GENERATOR

TABLES = {
    "customers": "id name email phone ssn birth balance email_up",
    "orders": "id customer_id total note",
    "v_cust": "id name mail big s3",
    "v_v": "mail big total",
    "m_cust": "name email ssn",
    "events": "id at email",
    "events_1": "id at email",
    "base": "a ssn",
    "child": "a ssn b",
    "t": "a b c",
    "u": "a d",
    "v_rec": "n e",
}


class Shapes:
    """Nested SELECTs that the server accepts. Without conditions on columns, so that rows depend on no value."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._names = 0

    def query(self) -> str:
        depth = self._random.randint(0, 3)
        width = self._random.randint(1, 4)
        text = self._select(depth, width, [], [])
        if self._random.random() < 0.15:
            return f"select * from ({text}) as z({', '.join(self._fresh('o') for _ in range(width))})"
        if self._random.random() < 0.1:
            return f"select z from ({text}) as z({', '.join(self._fresh('o') for _ in range(width))})"
        return text

    def _fresh(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def _scalar(self, columns: Sequence[str], depth: int) -> str:
        pick = self._random.choice
        if depth <= 0 or self._random.random() < 0.45:
            return pick(columns)

        def part() -> str:
            return self._scalar(columns, depth - 1)

        def query() -> str:
            return self._select(depth - 1, 1, list(columns), [])

        shapes: list[Callable[[], str]] = [
            lambda: f"upper({part()}::text)",
            lambda: f"{part()}::text",
            lambda: f"coalesce({part()}::text, 'q')",
            lambda: f"case when {pick(columns)} is null then 'n' else {part()}::text end",
            lambda: f"({part()}::text || {part()}::text)",
            lambda: "'literal'",
            lambda: str(self._random.randint(0, 9)),
            lambda: f"array[{part()}::text]::text",
            lambda: f"row({part()}, {part()})::text",
            lambda: f"(select * from ({query()}) as q limit 1)",
            lambda: f"({query()} limit 1)",
            lambda: f"nullif({part()}::text, 'x')",
            lambda: f"greatest({part()}::text, {part()}::text)",
            lambda: f"to_jsonb({part()})::text",
            lambda: f"({part()} is null)",
            lambda: f"length({part()}::text)",
            lambda: f"exists({query()})",
            lambda: f"array({query()})::text",
            lambda: f"({part()})",
        ]
        return pick(shapes)()

    def _source(self, depth: int, known: list[tuple[str, list[str]]]) -> tuple[str, list[str]]:
        """One FROM item and the columns it gives, qualified."""
        alias = self._fresh("s")
        chance = self._random.random()
        if known and chance < 0.25:
            name, columns = self._random.choice(known)
            return f"{name} {alias}", [f"{alias}.{column}" for column in columns]
        if chance < 0.3:
            return self._merged_join(alias)
        if depth <= 0 or chance < 0.6:
            table = self._random.choice(list(TABLES))
            columns = TABLES[table].split()
            if self._random.random() < 0.2 and table not in ("customers", "orders"):
                new = [self._fresh("k") for _ in range(self._random.randint(1, 2))]
                renamed = [*new, *columns[len(new) :]]
                return f"{table} as {alias}({', '.join(new)})", [f"{alias}.{column}" for column in renamed]
            quoted = f"({alias})" if self._random.random() < 0.2 else alias
            return f"{table} {alias}", [f"{quoted}.{column}" for column in columns]
        width = self._random.randint(1, 3)
        columns = [self._fresh("c") for _ in range(width)]
        text = self._select(depth - 1, width, [], known)
        return f"({text}) as {alias}({', '.join(columns)})", [f"{alias}.{column}" for column in columns]

    def _merged_join(self, alias: str) -> tuple[str, list[str]]:
        """A join whose columns are merged, under one name."""
        kind = self._random.choice(["join", "left join", "right join", "full join"])
        left, right = self._random.choice([("t", "u"), ("u", "t"), ("t", "base"), ("child", "u")])
        text = self._random.choice([f"({left} {kind} {right} using (a))", f"({left} natural {kind} {right})"])
        order = ["a", *TABLES[left].split(), *TABLES[right].split()]
        columns = list(dict.fromkeys(order))
        return f"{text} as {alias}", [f"{alias}.{column}" for column in columns]

    def _recursive(self, known: list[tuple[str, list[str]]], depth: int) -> str:
        """WITH RECURSIVE whose second branch adds no rows, but swaps its columns."""
        name, first, second = self._fresh("w"), self._fresh("c"), self._fresh("c")
        inner = self._fresh("q")
        start = self._select(depth - 1, 2, [], known)
        known.append((name, [first, second]))
        return (
            f"with recursive {name}({first}, {second}) as ("
            f"select ({inner}.x)::text, ({inner}.y)::text from ({start}) as {inner}(x, y)"
            f" union all select {second}, {first} from {name} join t on false) "
        )

    def _from(self, depth: int, known: list[tuple[str, list[str]]]) -> tuple[str, list[str]]:
        text, columns = self._source(depth, known)
        while self._random.random() < 0.3:
            if self._random.random() < 0.3:
                alias, column = self._fresh("l"), self._fresh("c")
                inner = self._select(max(depth - 1, 0), 1, columns, known)
                text += f" cross join lateral ({inner}) as {alias}({column})"
                columns = [*columns, f"{alias}.{column}"]
                continue
            item, more = self._source(depth - 1, known)
            join = self._random.choice(["cross join", "left join", "join", "full join"])
            condition = {"cross join": "", "full join": " on 1 = 1"}.get(join, " on true")
            text += f" {join} {item}{condition}"
            columns = [*columns, *more]
        return text, columns

    def _select(self, depth: int, width: int, outer: list[str], known: list[tuple[str, list[str]]]) -> str:
        before = ""
        known = list(known)
        if depth > 0 and self._random.random() < 0.1:
            before = self._recursive(known, depth)
        elif depth > 0 and self._random.random() < 0.3:
            parts = []
            for _ in range(self._random.randint(1, 2)):
                name, count = self._fresh("w"), self._random.randint(1, 3)
                text = self._select(depth - 1, count, [], known)
                columns = [self._fresh("c") for _ in range(count)]
                parts.append(f"{name}({', '.join(columns)}) as ({text})")
                known.append((name, columns))
            before = f"with {', '.join(parts)} "
        items, columns = self._from(depth, known)
        pool = [*columns, *(column for column in outer if self._random.random() < 0.3)]
        if depth > 0 and self._random.random() < 0.2:
            branches = [
                f"select {', '.join(f'({self._scalar(pool, 0)})::text' for _ in range(width))} from {items}"
                for _ in range(2)
            ]
            return before + " union all ".join(branches)
        targets = ", ".join(self._scalar(pool, depth) for _ in range(width))
        return f"{before}select {targets} from {items}"


def generated(seed: int) -> str:
    return Shapes(seed).query()
