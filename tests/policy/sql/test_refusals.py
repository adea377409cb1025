"""What is refused: syntax errors in the server's words, bounds, pinned settings, constructs without a rule."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.sql.parse import MAX_TOKENS, parse
from policy.sql.refusal import SqlRefused
from policy.sql.words import words
from tests.policy.sql.shop import CATALOG, STATE, facts, statements


def refusal(text: str) -> SqlRefused:
    with pytest.raises(SqlRefused) as refused:
        statements(text)
    return refused.value


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("selec 1", 'syntax error at or near "selec"', 1),
        ("select 1 from from", 'syntax error at or near "from"', 15),
        ("select", None, None),
        ("select 'x", 'unterminated quoted string at or near "\'x"', 8),
        ("select 'é' é é é", 'syntax error at or near "é"', 14),
        ("select '日本語' from )", 'syntax error at or near ")"', 19),
        ("select ééééé from from", 'syntax error at or near "from"', 19),
        ("select '日本語' +", "syntax error at end of input", 15),
    ],
)
def test_syntax_errors_are_the_servers(text: str, message: str | None, position: int | None) -> None:
    if message is None:
        assert facts(text).command == "select"  # an empty target list is allowed
        return
    found = refusal(text)
    assert (found.message, found.sqlstate, found.position) == (message, "42601", position)
    assert found.is_servers_answer


def test_one_syntax_error_refuses_the_whole_text() -> None:
    assert refusal("delete from t; selec").message == 'syntax error at or near "selec"'


@pytest.mark.parametrize(
    "text",
    [
        "set client_encoding = 'sjis'",
        "set names 'latin1'",
        "set standard_conforming_strings = off",
        "set standard_conforming_strings = 0",
        "set local Standard_Conforming_Strings to 'off'",
        "select set_config('standard_conforming_strings', 'off', true)",
        "select pg_catalog.set_config('client_encoding', 'sjis', true)",
        "select set_config('standard_' || 'conforming_strings', 'off', true)",
        "select set_config(x, 'off', true) from (values ('standard_conforming_strings')) v(x)",
        "select set_config('standard_conforming_strings', b, true) from t",
        "select set_config(setting_name => 'standard_conforming_strings', new_value => 'off', is_local => true)",
        "create table x (a text default set_config('standard_conforming_strings', 'off', false))",
        "create view x as select set_config('search_path', 'a', false)",
        "create table x (a text default set_config('search_path', 'a', false))",
        "alter table t alter b set default set_config('role', 'a', false)",
        "create index on t (set_config('search_path', b, false))",
        "create rule r as on insert to t do instead select set_config('search_path', 'a', false)",
        "set backslash_quote = on",
        "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'",
        "with x as (update pg_settings set setting = 'off') select 1",
        "explain analyze update pg_settings set setting = 'off'",
        "prepare p as update pg_settings set setting = 'off'",
    ],
)
def test_settings_that_part_the_readings_of_a_text(text: str) -> None:
    assert not refusal(text).is_servers_answer


def test_pg_dump_may_set_what_no_pinned_setting_takes() -> None:
    text = "select set_config(name, 'view, foreign-table', false) from pg_settings where name = 'x'"
    assert facts(text).functions == ("pg_catalog.set_config",)


def deep(opening: str, middle: str, closing: str, levels: int) -> str:
    return "select " + opening * levels + middle + closing * levels


NESTED = [
    ("(", "1", ")"),
    ("1+(", "1", ")"),
    ("1+", "1", ""),
    ("not ", "true", ""),
    ("- ", "1", ""),
    ("(select ", "1", ")"),
    ("case when a then ", "1", " end"),
    ("array[", "1", "]"),
    ("f(", "1", ")"),
    ("row(", "1", ")"),
    ("a and (b or ", "c", ")"),
    ("1 union select ", "1", ""),
    ("1 from (select ", "1", ") a"),
    ("1 where exists (select ", "1", ")"),
    ("", "x", "::int"),
    ("", "x", "[1]"),
    ("", "x", " is null"),
    ("", "x", ' collate "C"'),
    ("", "1 from a", " join b on true"),
    ("a||", "1", ""),
    ("1;", "1", ""),
    ("1,", "1", ""),
]

_PROBE = """
import sys
sys.path.insert(0, {root!r})
from policy.sql.analyze import analyze
from policy.sql.refusal import SqlRefused
from policy.sql.words import words
from tests.policy.sql.shop import CATALOG, STATE
from tests.policy.sql.test_refusals import NESTED, deep
for opening, middle, closing in NESTED:
    for levels in (40, 200, 1000, 3000, 20000, 60000):
        try:
            analyze(deep(opening, middle, closing, levels), CATALOG, STATE)
        except SqlRefused:
            pass
print("alive")
"""


def test_depth_neither_ends_the_process_nor_passes_unrefused_as_an_error() -> None:
    """In a process of its own: a crash of the parser would be one of the test run."""
    root = __file__.rsplit("/tests/", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", _PROBE.format(root=root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout == "alive\n", done.stderr[-2000:]


def test_honest_depth_is_taken() -> None:
    for opening, middle, closing in NESTED:
        if opening not in ("1;", ""):
            statements(deep(opening, middle, closing, 40))
    assert facts("select " + " || ".join(["note"] * 100) + " from orders").outputs
    assert facts(" union all ".join(["select id from orders"] * 80)).outputs


def test_nesting_that_multiplies_the_work_is_refused() -> None:
    text = "select 1 as a"
    for level in range(40):
        again = f"select 1 union all select a from r{level}, ({text}) s"
        text = f"with recursive r{level}(a) as ({again}) select a from r{level}"
    assert refusal(text).sqlstate == "54001"
    wide = "select 1 as a, 2 as b"
    for _ in range(12):
        wide = f"select s.*, s.* from ({wide}) s"
    assert refusal(wide).sqlstate == "54011"


@pytest.mark.parametrize(
    "text",
    [
        "select 1 " + "/*" * 50_000,
        "select 1 " + "+" * 50_000 + "1",
        "select " + ",".join(["1"] * MAX_TOKENS),
        "select $$" + "'" * 10 + "$$," + ",".join(["1"] * MAX_TOKENS),
        "select E'\\'' || '" + ",".join(["1"] * MAX_TOKENS),
    ],
    ids=["comments", "operators", "list", "dollar", "backslash"],
)
def test_texts_that_cost_too_much_are_refused_before_they_are_parsed(text: str) -> None:
    assert refusal(text).sqlstate == "54000"


def test_a_large_literal_is_not_a_large_statement() -> None:
    text = "insert into t (b) values ('" + "word, " * 300_000 + "')"
    assert facts(text).command == "insert"


@pytest.mark.parametrize("text", ["select 1\0; drop table t", "select '\ud800'"])
def test_what_is_no_text_is_refused(text: str) -> None:
    assert refusal(text).sqlstate == "22021"


@pytest.mark.parametrize(
    "text",
    [
        "copy t to stdout (unheard_of 1)",
        "copy t to stdout (format 'parquet')",
        "create schema s create table x (a int) grant select on x to r create schema y",
    ],
)
def test_constructs_without_a_rule(text: str) -> None:
    refusal(text)


@given(st.text(max_size=200))
def test_any_text_is_analysed_or_refused(text: str) -> None:
    try:
        statements(text)
    except SqlRefused:
        return


_PIECES = st.sampled_from(
    sorted(
        words("""
    select from where email customers c . , ( ) * = 'x' 1 as with union all join on using order by limit t u id
    returning update set delete insert into values null case when then end exists in array row :: text $1 || over
    recursive lateral natural left full group having distinct copy to stdout prepare execute p declare cursor for fetch
    explain analyze create table view temp merge matched ; old new excluded conflict do nothing""")
    )
)


@given(st.lists(_PIECES, max_size=25))
def test_any_words_are_analysed_or_refused_and_never_by_accident(pieces: list[str]) -> None:
    text = " ".join(pieces)
    try:
        parsed = parse(text)
    except SqlRefused:
        return
    assert parsed == parse(text)
    try:
        statements(text)
    except SqlRefused as refused:
        assert "the shape of a part" not in refused.message, text


def test_catalog_is_untouched_by_analysis() -> None:
    before = CATALOG.version
    statements("select * from customers c join orders o using (id)", STATE)
    assert CATALOG.version == before
