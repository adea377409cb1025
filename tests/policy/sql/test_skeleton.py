"""Texts that differ only in plain integers: the same facts, always."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.sql.skeleton import PLACE, skeleton
from tests.policy.sql.shop import facts, statements


@pytest.mark.parametrize(
    "text",
    [
        "select note from orders where id = 5",
        "UPDATE orders SET total = total + -5 WHERE id = 5;",
        "UPDATE orders SET total = total + - 5 WHERE id = 5;",
        "INSERT INTO orders (id, total) VALUES (1, 2), (3, 4)",
        "select 1, total + 2, upper(note) from orders where id in (1, 2) or id between 3 and 4",
        "select tags[1] from customers where id = 7",
        "delete from orders where id = 5; select 6",
        "begin; select note from orders where id = 5; end",
        "select case when id = 1 then 2 else 3 end from orders",
    ],
)
def test_safe(text: str) -> None:
    assert skeleton(text) is not None
    assert all(statement.is_skeleton_safe for statement in statements(text))


@pytest.mark.parametrize(
    "text",
    [
        "select note, id from orders order by 1",
        "select note, id from orders group by 1, 2",
        "select distinct on (1) note, id from orders",
        "select note from orders where id = 5 order by 1",
        "select note from orders limit 5",
        "select note from orders offset 5",
        "select note from orders fetch first 5 rows only",
        "select id::numeric(5) from orders",
        "select cast(id as varchar(5)) from orders",
        "create table x (a varchar(5))",
        "alter table t alter a set statistics 5",
        "set work_mem = 64",
        "set client_encoding = 6",
        "fetch 5 from c",
        "select note from orders tablesample bernoulli (5)",
        "copy t to stdout (header 1)",
        "explain (analyze 0) select 1",
        "select note, id from orders union select note, 1 from orders order by 2",
        "select - - 5",
    ],
)
def test_not_safe(text: str) -> None:
    try:
        found = statements("declare c cursor for select note from orders; " + text)
    except Exception as refused:
        assert type(refused).__name__ == "SqlRefused"
        return
    assert not any(statement.is_skeleton_safe for statement in found)


@pytest.mark.parametrize(
    "text",
    [
        "select 'a', 1",
        'select 1 as "b"',
        "select 1 -- c",
        "select 1 /* c */",
        "select $1, 1",
        "select e from é where 1",
        "select E\\1",
        "select note from orders",
        "select 1.5, 1e5, t1 from x1 where $2",
        "select 12345678901",
        "x" * 3_000 + " 1",
    ],
)
def test_no_skeleton(text: str) -> None:
    assert skeleton(text) is None


def test_only_integers_differ() -> None:
    assert skeleton("select 1, 23") == f"select {PLACE}, {PLACE}"
    assert skeleton("select 1, 1.5") == f"select {PLACE}, 1.5"
    assert skeleton("a = -1") == f"a = -{PLACE}"


TEXTS = [
    "select id, note from orders where id = 5",
    "select note from orders where id = 5 and total > 6 order by note",
    "update orders set total = total + 5 where id = 6",
    "insert into orders (id, total) values (5, 6)",
    "select c.email from customers c join orders o on o.customer_id = c.id where o.total between 5 and 6",
    "select note, id from orders order by 2",
    "select note, id from orders group by 2, 1",
    "select id from orders limit 5",
    "with x as (select 5 as a) select a + 6 from x where a = 7",
    "select 5 union all select 6 order by 1",
    "select distinct on (2) note, id from orders",
    "select row_number() over (order by 1) from orders",
    "select (array[5, 6])[2]",
    "values (5, 6), (7, 8)",
]


@given(st.sampled_from(TEXTS), st.lists(st.integers(0, 999_999_999), min_size=6, max_size=6))
def test_another_integer_changes_nothing_where_it_is_said_to(text: str, integers: list[int]) -> None:
    replacements = iter(integers)
    other = re.sub(r"(?<![\w.$])\d+(?![\w.$])", lambda _: str(next(replacements)), text)
    assert skeleton(other) == skeleton(text)
    if statements(text)[0].is_skeleton_safe:
        assert facts(other) == facts(text)
        assert statements(other)[0].is_skeleton_safe
