"""DataRows taken apart and rewritten."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from protocols.postgres.codec import frame
from protocols.postgres.messages import data_row
from protocols.postgres.rows import ColumnRewrite, RowRewriter, rewrite_rows, split_rows

Row = Sequence[bytes | None]


def redact(value: bytes | None) -> bytes | None:
    return None if value is None else b"***"


def reverse(value: bytes | None) -> bytes | None:
    return b"was null" if value is None else value[::-1]


def erase(value: bytes | None) -> bytes | None:
    return None


def run_of(rows: Sequence[Row]) -> bytes:
    return b"".join(data_row(row) for row in rows)


def test_rows_are_split() -> None:
    rows: list[Row] = [[b"1", None, b""], [], [b"x" * 300]]
    assert list(split_rows(run_of(rows))) == rows
    assert list(split_rows(b"")) == []


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_column_is_replaced(position: int) -> None:
    rows: list[list[bytes | None]] = [[b"a", b"bbbb", b""], [None, None, None], [b"", b"x", b"abc"]]
    for function in (redact, reverse, erase):
        expected = [list(row) for row in rows]
        for row in expected:
            row[position] = function(row[position])
        assert rewrite_rows(run_of(rows), {position: function}, 3) == run_of(expected)


def test_no_column_and_no_row() -> None:
    run = run_of([[b"a"], [b"b"]])
    assert rewrite_rows(run, {}, 1) == run
    assert rewrite_rows(b"", {0: redact}, 1) == b""
    assert rewrite_rows(run_of([[]]), {}, 0) == run_of([[]])


def test_a_column_outside_the_row_is_a_misuse() -> None:
    for position in (-1, 2):
        with pytest.raises(LocalProtocolError):
            RowRewriter({position: redact}, 2)


VALUES = st.one_of(st.none(), st.binary(max_size=20))
FUNCTIONS: list[ColumnRewrite] = [redact, reverse, erase, lambda value: value]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_rewriting_is_splitting_and_joining(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 6))
    rows = data.draw(st.lists(st.lists(VALUES, min_size=width, max_size=width), max_size=5))
    columns = data.draw(st.dictionaries(st.integers(0, width - 1), st.sampled_from(FUNCTIONS)))
    expected = [[columns[at](v) if at in columns else v for at, v in enumerate(row)] for row in rows]
    assert rewrite_rows(run_of(rows), columns, width) == run_of(expected)


COLUMNS: list[dict[int, ColumnRewrite]] = [{}, {0: redact}, {2: redact}, {1: reverse, 2: erase}]


GOOD = data_row([b"a", None, b"cc"])
BAD_BEHIND_THE_FIRST = [
    frame(ord("D"), b"\0\3\0\0\0\1a\xff\xff\xff\xfe\0\0\0\0"),
    frame(ord("D"), b"\0\3\0\0\0\0\0\0\0\0\x80\0\0\0"),
    frame(ord("D"), b"\0\3\0\0\0\1a\0\0\0\0\0\0\0\5cc") + GOOD,  # reaches into the next row
    frame(ord("D"), b"\0\3\0\0\0\1a"),
    frame(ord("D"), b"\0\3\0\0\0\1a") + GOOD,
]
TRAILING_BYTE = frame(ord("D"), b"\0\3\0\0\0\1a\0\0\0\0\0\0\0\2ccX")


def test_a_row_that_ends_elsewhere_than_it_says() -> None:
    for columns in ({1: reverse, 2: erase}, {2: redact}):
        with pytest.raises(RemoteProtocolError):
            rewrite_rows(TRAILING_BYTE, columns, 3)


def test_columns_behind_the_only_masked_one_go_on_as_they_came() -> None:
    for row in BAD_BEHIND_THE_FIRST:
        masked = rewrite_rows(row, {0: lambda _: b"?"}, 3)
        assert masked[11:12] == b"?"
        assert b"a" not in masked.removesuffix(GOOD)


@pytest.mark.parametrize("columns", COLUMNS)
def test_malformed_rows(columns: dict[int, ColumnRewrite]) -> None:
    good = GOOD
    bad = [
        good + good[:-1],
        good + b"D",
        data_row([b"a", b"b"]),
        data_row([b"a"] * 4),
        good.replace(b"D", b"d", 1),
        frame(ord("D"), b"\0\3\xff\xff\xff\xfe\0\0\0\0\0\0\0\0"),  # length -2
        frame(ord("D"), b""),
    ]
    if set(columns) != {0}:  # what lies behind the only masked column goes on as it came
        bad += BAD_BEHIND_THE_FIRST
    for run in bad:
        with pytest.raises(RemoteProtocolError):
            rewrite_rows(run, columns, 3)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(COLUMNS),
    st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=3),
    st.data(),
)
def test_a_mutated_run_is_refused_or_stays_in_step(
    columns: dict[int, ColumnRewrite], rows: list[Row], data: st.DataObject
) -> None:
    run = bytearray(run_of(rows))
    run[data.draw(st.integers(0, len(run) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        seen = list(split_rows(bytes(run)))
        expected = [[columns[at](v) if at in columns else v for at, v in enumerate(row)] for row in seen]
        assert rewrite_rows(bytes(run), columns, 3) == run_of(expected)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_run_does_more_than_a_protocol_error(run: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        list(split_rows(run))
    for columns in COLUMNS:
        with contextlib.suppress(ProtocolError):
            rewrite_rows(run, columns, 3)
