"""What tells of values without reading them plainly: shadowing types, conflicts, references."""

from __future__ import annotations

import msgspec
import pytest

from policy.facts import HIDDEN
from policy.sql.analyze import SqlRefused
from policy.sql.state import SessionState
from tests.policy.sql.shop import STATE, facts, outputs, shown, uses

EMAIL_AS_TEXT = "SELECT email::text AS x FROM customers"


def with_temporary(*names: str) -> SessionState:
    return msgspec.structs.replace(STATE, temporary_names=frozenset(names))


@pytest.mark.parametrize(
    ("sql", "state", "expected"),
    [
        (EMAIL_AS_TEXT, STATE, "x=customers.email"),
        (EMAIL_AS_TEXT, with_temporary("other"), "x=customers.email"),
        (EMAIL_AS_TEXT, with_temporary("text"), "x~customers.email"),
        (EMAIL_AS_TEXT, with_temporary("*"), "x~customers.email"),
        ("SELECT tags::_text AS x FROM customers", with_temporary("text"), "x~customers.tags"),
        ("SELECT email::pg_catalog.text AS x FROM customers", with_temporary("text"), "x=customers.email"),
        ("SELECT email::pg_temp.text AS x FROM customers", STATE, "x~customers.email"),
        ("CREATE TEMP TABLE text (a int); " + EMAIL_AS_TEXT, STATE, "x~customers.email"),
        ("SET search_path = pg_temp_3; CREATE TABLE text (a int); " + EMAIL_AS_TEXT.replace(
            "FROM ", "FROM shop."), STATE, "x~customers.email"),
        ("CREATE DOMAIN pg_temp.a AS pg_catalog.text; " + EMAIL_AS_TEXT, STATE, "x~customers.email"),
    ],
)  # fmt: skip
def test_a_cast_to_a_type_that_may_be_temporary_is_no_plain_column(
    sql: str, state: SessionState, expected: str
) -> None:
    assert [shown(output) for output in outputs(sql, state)] == [expected]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (value < 'm')",
        "CREATE DOMAIN pg_temp_3.text AS pg_catalog.text",
        "CREATE TYPE pg_temp.text AS (a int)",
        "CREATE TYPE pg_temp.text AS ENUM ('a')",
        "CREATE TYPE pg_temp.text AS RANGE (subtype = int4)",
        "CREATE TYPE pg_temp.text",
        "SET search_path = pg_temp; CREATE DOMAIN text AS pg_catalog.text",
        "SET search_path = pg_temp_3, public; CREATE TYPE text AS (a int)",
        "SELECT name::pg_temp.a FROM customers",
    ],
)
def test_temporary_types_are_hidden_from_the_analysis(sql: str) -> None:
    assert any(reason.startswith(HIDDEN) for reason in facts(sql).unresolved)


@pytest.mark.parametrize(
    "sql",
    ["CREATE DOMAIN shop.d AS text", "CREATE TYPE d AS (a int)", "CREATE TYPE public.d AS ENUM ('a')"],
)
def test_other_types_are_not(sql: str) -> None:
    assert facts(sql).unresolved == ()


def test_a_temporary_operator_is_told() -> None:
    assert facts("SELECT 1 OPERATOR(pg_temp.+) 2").functions == ("pg_temp.operator(+)",)


ALL = {f"customers.{name}:filter" for name in ("id", "name", "email", "phone", "ssn", "tags")}


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("ON CONFLICT DO NOTHING", ALL),
        ("ON CONFLICT ON CONSTRAINT customers_email_key DO NOTHING", ALL),
        ("ON CONFLICT ON CONSTRAINT customers_email_key DO UPDATE SET name = ''", ALL),
        ("ON CONFLICT (email) DO NOTHING", {"customers.email:filter"}),
        ("ON CONFLICT (lower(email)) DO NOTHING", {"customers.email:filter"}),
        ("", set()),
    ],
)
def test_a_conflict_tells_of_what_is_there(clause: str, expected: set[str]) -> None:
    found = uses(f"INSERT INTO customers (id, email) VALUES (1, 'a') {clause}")
    assert {use for use in found if use.endswith(":filter")} == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE TABLE x (e text REFERENCES customers (email))", {"customers.email:filter"}),
        ("CREATE TABLE x (e int REFERENCES shop.customers (id))", {"customers.id:filter"}),
        ("CREATE TABLE x (e int REFERENCES customers)", ALL),
        ("CREATE TABLE x (e text, FOREIGN KEY (e) REFERENCES customers (email))", {"customers.email:filter"}),
        ("ALTER TABLE t ADD FOREIGN KEY (b) REFERENCES customers (email)", {"customers.email:filter"}),
        (
            "CREATE SCHEMA s CREATE TABLE x (e text REFERENCES shop.customers (email))",
            {"customers.email:filter"},
        ),
    ],
)
def test_a_reference_tells_of_what_is_there(sql: str, expected: set[str]) -> None:
    assert uses(sql) == expected


def test_a_computed_setting_is_refused_like_a_denial() -> None:
    with pytest.raises(SqlRefused) as caught:
        facts("SELECT set_config(name, 'x', false) FROM customers")
    assert caught.value.sqlstate == "42501"
    assert "rule" in caught.value.detail and caught.value.hint
