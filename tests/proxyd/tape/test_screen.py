from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyd.tape.screen import (
    MAX_COLUMN_WIDTH,
    MAX_COLUMNS,
    display_width,
    plain,
    plain_lines,
    shortened,
    table,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("select 1", "select 1"),
        ("Zoë 日本", "Zoë 日本"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("\u202etxt\u2028\u200b", "\\u202etxt\\u2028\\u200b"),
        ("\udcff", "\\udcff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text())
def test_nothing_plain_drives_a_terminal(text: str) -> None:
    for line in (plain(text), *plain_lines(text)):
        assert not {unicodedata.category(character) for character in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_lines_keep_their_layout() -> None:
    assert plain_lines("select\r\n\t1\n\x1bc") == ["select", "    1", "\\x1bc"]


def test_width() -> None:
    assert [display_width(text) for text in ("abc", "日本", "e\u0301", "")] == [3, 4, 1, 0]


def test_a_table_is_drawn_as_psql_draws_it() -> None:
    lines = table(["id", "name"], [["1", "Ann"], ["22", None], [None, "日本語"]], [True, False])
    assert lines == [
        " id |  name",
        "----+--------",
        "  1 | Ann",
        " 22 |",
        "    | 日本語",
    ]


def test_wide_values_are_cut() -> None:
    lines = table(["x"], [["y" * 10_000_000], ["\x1b" * 1000]], [False])
    assert max(len(line) for line in lines) <= MAX_COLUMN_WIDTH + 2
    assert lines[2].endswith("...")


def test_many_columns_are_cut() -> None:
    count = MAX_COLUMNS + 5
    lines = table(["c"] * count, [["v"] * count], [False] * count)
    assert lines[-1] == "(5 more columns are not shown)"
    assert lines[0].count("|") == MAX_COLUMNS - 1


def test_shortened() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abc..."
