from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.postgres.messages import (
    BIND_COMPLETE,
    COPY_DONE,
    EMPTY_QUERY_RESPONSE,
    NO_DATA,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    SYNC,
    Backend,
    Bind,
    CopyData,
    CopyDone,
    CopyFail,
    CopyResponse,
    Describe,
    Execute,
    FieldDescription,
    Frontend,
    NotificationResponse,
    ParameterDescription,
    Parse,
    Query,
    command_complete,
    data_row,
    error_response,
    frame,
    notice,
    parameter_status,
    ready_for_query,
    row_description,
)
from proxyd.tape.entries import Reply, ReplyDigest, Request
from proxyd.tape.postgres import PostgresView

ID = FieldDescription("id", 16384, 1, 23, 4)
NAME = FieldDescription("name", 16384, 2, 25)
COLUMNS = row_description([ID, NAME])
READY = ready_for_query("I")


class Session:
    """A conversation typed by hand; `lines` is what a person has seen so far."""

    def __init__(self, max_rows: int = 10) -> None:
        self._view = PostgresView("shop", max_rows=max_rows)
        self._at_us = 0
        self.lines: list[str] = []

    def ask(self, *messages: bytes, operation: int = 1) -> Session:
        raw = b"".join(messages)
        entry = Request(position=0, at_us=self._at_us, operation=operation, judgements=(), raw=raw)
        self.lines += self._view.request(entry)
        return self

    def answer(self, *messages: bytes, operation: int = 1) -> Session:
        self._at_us += 1500
        raw = b"".join(messages)
        self.lines += self._view.reply(Reply(position=0, at_us=self._at_us, operation=operation, raw=raw))
        return self

    def cut(self, omitted: int, operation: int = 1) -> Session:
        entry = ReplyDigest(
            position=0, at_us=self._at_us, operation=operation, kept=1, omitted=omitted, sha256=b"\xab" * 32
        )
        self.lines += self._view.digest(entry)
        return self

    def finish(self) -> list[str]:
        return [*self.lines, *self._view.finish()]


def test_a_simple_query() -> None:
    session = Session().ask(Query("select *\nfrom t").encode())
    session.answer(
        COLUMNS, data_row([b"1", b"Ann"]), data_row([b"22", None]), command_complete("SELECT 2"), READY
    )
    assert session.lines == [
        "shop=> select *",
        "       from t",
        " id | name",
        "----+------",
        "  1 | Ann",
        " 22 |",
        "(2 rows)",
        "-- 1.500 ms",
    ]


def test_replies_in_pieces_of_any_size() -> None:
    raw = b"".join([COLUMNS, data_row([b"1", b"Ann"]), command_complete("SELECT 1"), READY])
    whole = Session().ask(Query("q").encode()).answer(raw).lines[:-1]
    for step in (1, 3, 20):
        pieces = Session().ask(Query("q").encode())
        for at in range(0, len(raw), step):
            pieces.answer(raw[at : at + step])
        assert pieces.lines[:-1] == whole


def test_several_results_and_the_prompt() -> None:
    session = Session().ask(Query("begin; select 1").encode())
    session.answer(command_complete("BEGIN"), COLUMNS, command_complete("SELECT 0"), ready_for_query("T"))
    session.ask(Query("oops").encode(), operation=2).answer(
        error_response("ERROR", "42601", "syntax error"), ready_for_query("E"), operation=2
    )
    session.ask(Query("rollback").encode(), operation=3)
    assert session.lines == [
        "shop=> begin; select 1",
        "BEGIN",
        " id | name",
        "----+------",
        "(0 rows)",
        "-- 1.500 ms",
        "shop=*> oops",
        "ERROR:  42601: syntax error",
        "-- 1.500 ms",
        "shop=!> rollback",
    ]


def test_an_error_in_full() -> None:
    error = error_response(
        "ERROR", "42501", "no\nreally", detail="rule no-secrets-table", hint="Ask.", where="here"
    )
    session = Session().answer(error, notice("NOTICE", "00000", "by the way"))
    assert session.lines == [
        "ERROR:  42501: no\n    really",
        "DETAIL:  rule no-secrets-table",
        "HINT:  Ask.",
        "CONTEXT:  here",
        "NOTICE:  00000: by the way",
    ]


def test_rows_beyond_the_limit_are_counted() -> None:
    rows = [data_row([str(number).encode(), b"x"]) for number in range(1000)]
    session = (
        Session(3).ask(Query("q").encode()).answer(COLUMNS, *rows, command_complete("SELECT 1000"), READY)
    )
    assert session.lines[-2] == "(1000 rows, 997 of them not shown)"
    assert len(session.lines) == 8


def test_escape_sequences_are_shown_and_not_obeyed() -> None:
    session = Session().ask(Query("select '\x1b[2J'").encode())
    fields = [FieldDescription("\x1b]0;x\x07", 0, 0, 25)]
    session.answer(
        row_description(fields),
        data_row([b"\x1b[31m\r\n"]),
        command_complete("SELECT 1\x1b"),
        notice("NOTICE", "0\x1b", "m\x1b", detail="d\x1b", hint="h\x1b"),
        parameter_status("p\x1b", "v\x1b"),
        NotificationResponse(7, "c\x1b", "p\x1b").encode(),
    )
    session.ask(
        Parse(b"s\x1b", "q\x1b").encode(),
        Bind(b"p\x1b", b"none\x1b", (), (b"\x1b",)).encode(),
        Execute(b"x\x1b").encode(),
        CopyData(b"\x1b").encode(),
        CopyFail("f\x1b").encode(),
        b"Q\0\0\0\x06\x1b",
    )
    shown = "\n".join(session.finish())
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\r" not in shown
    assert shown.count("\\x1b") >= 16


# Extended protocol


def bind(*values: bytes | None, results: tuple[int, ...] = (), statement: bytes = b"") -> bytes:
    return Bind(b"", statement, (), values, results).encode()


def test_an_extended_query() -> None:
    session = Session().ask(
        Parse(b"", "select $1").encode(),
        bind(b"it's", None),
        Describe("P", b"").encode(),
        Execute(b"").encode(),
        SYNC,
    )
    session.answer(
        PARSE_COMPLETE, BIND_COMPLETE, COLUMNS, data_row([b"1", b"x"]), command_complete("SELECT 1"), READY
    )
    assert session.lines == [
        "shop=> select $1",
        "-- parameters: $1 = 'it''s', $2 = NULL",
        " id | name",
        "----+------",
        "  1 | x",
        "(1 row)",
        "-- 1.500 ms",
    ]


def test_a_statement_described_once_is_executed_with_its_names_in_binary() -> None:
    session = Session().ask(Parse(b"s", "select", (23,)).encode(), Describe("S", b"s").encode(), SYNC)
    session.answer(PARSE_COMPLETE, ParameterDescription((23,)).encode(), COLUMNS, READY)
    execution = Bind(b"", b"s", (1,), (struct.pack(">i", 42),), (1,)).encode()
    session.ask(execution, Execute(b"").encode(), SYNC, operation=2)
    row = data_row([struct.pack(">i", 7), b"Ann"])
    session.answer(BIND_COMPLETE, row, command_complete("SELECT 1"), READY, operation=2)
    assert session.lines == [
        "shop=> select",
        "-- prepared as s",
        "-- 1.500 ms",
        "shop=> select",
        "-- parameters: $1 = '42'",
        " id | name",
        "----+------",
        "  7 | Ann",
        "(1 row)",
        "-- 1.500 ms",
    ]


def test_a_result_that_was_never_described() -> None:
    session = Session().ask(Parse(b"", "q").encode(), bind(results=(1,)), Execute(b"").encode(), SYNC)
    session.answer(
        PARSE_COMPLETE, BIND_COMPLETE, data_row([b"\x00\xff", b"a"]), command_complete("SELECT 1"), READY
    )
    assert session.lines[1:4] == [" column 1 | column 2", "----------+----------", " \\x00ff   | \\x61"]


def test_a_pipeline_after_an_error() -> None:
    def one(text: str) -> bytes:
        parts = [Parse(b"", text).encode(), bind(), Describe("P", b"").encode(), Execute(b"").encode()]
        return b"".join(parts)

    session = Session().ask(one("a"), one("b"), one("c"), SYNC)
    session.answer(
        PARSE_COMPLETE, BIND_COMPLETE, COLUMNS, data_row([b"1", b"x"]), command_complete("SELECT 1")
    )
    session.answer(PARSE_COMPLETE, error_response("ERROR", "22012", "division by zero"), ready_for_query("E"))
    session.ask(one("d"), SYNC, operation=2)
    session.answer(
        PARSE_COMPLETE,
        BIND_COMPLETE,
        COLUMNS,
        data_row([b"2", b"y"]),
        command_complete("SELECT 1"),
        READY,
        operation=2,
    )
    assert session.lines == [
        "shop=> a",
        "shop=> b",
        "shop=> c",
        " id | name",
        "----+------",
        "  1 | x",
        "(1 row)",
        "ERROR:  22012: division by zero",
        "-- 3.000 ms",
        "shop=!> d",
        " id | name",
        "----+------",
        "  2 | y",
        "(1 row)",
        "-- 1.500 ms",
    ]


def test_messages_behind_an_error_are_not_waited_for() -> None:
    session = Session().ask(Parse(b"", "a").encode())
    session.answer(error_response("ERROR", "42501", "denied"))
    session.ask(bind(), Execute(b"").encode(), SYNC)
    session.answer(READY)
    assert session.lines[-1] == "-- 3.000 ms"


def test_a_portal_read_in_parts() -> None:
    session = Session().ask(
        Parse(b"", "q").encode(),
        Bind(b"p", b"", (), ()).encode(),
        Describe("P", b"p").encode(),
        Execute(b"p", 1).encode(),
        Execute(b"p", 1).encode(),
        SYNC,
    )
    row = data_row([b"1", b"x"])
    session.answer(
        PARSE_COMPLETE,
        BIND_COMPLETE,
        COLUMNS,
        row,
        PORTAL_SUSPENDED,
        row,
        command_complete("SELECT 2"),
        READY,
    )
    assert session.lines == [
        "shop=> q",
        "-- at most 1 rows",
        "-- continue p",
        "-- at most 1 rows",
        " id | name",
        "----+------",
        "  1 | x",
        "(1 row)",
        "-- more rows wait in the portal",
        " id | name",
        "----+------",
        "  1 | x",
        "(1 row)",
        "-- 1.500 ms",
    ]


def test_statements_without_rows() -> None:
    session = Session().ask(
        Parse(b"", "set x = 1").encode(), bind(), Describe("P", b"").encode(), Execute(b"").encode(), SYNC
    )
    session.answer(PARSE_COMPLETE, BIND_COMPLETE, NO_DATA, command_complete("SET"), READY)
    session.ask(Query("").encode(), operation=2).answer(EMPTY_QUERY_RESPONSE, READY, operation=2)
    assert session.lines == [
        "shop=> set x = 1",
        "SET",
        "-- 1.500 ms",
        "shop=> ",
        "-- empty statement",
        "-- 1.500 ms",
    ]


# COPY


def test_copy_out() -> None:
    session = Session(2).ask(Query("copy t to stdout").encode())
    session.answer(CopyResponse("out", 0, (0,)).encode(), *[CopyData(b"1\tx\n").encode()] * 3, COPY_DONE)
    session.answer(command_complete("COPY 3"), READY)
    assert session.lines == [
        "shop=> copy t to stdout",
        "-- COPY out",
        "1\\tx",
        "1\\tx",
        "-- 12 bytes copied out",
        "COPY 3",
        "-- 3.000 ms",
    ]


def test_copy_in() -> None:
    session = Session(1).ask(Query("copy t from stdin").encode()).answer(CopyResponse("in", 0, (0,)).encode())
    session.ask(CopyData(b"1\n").encode(), CopyData(b"2\n").encode(), CopyDone().encode())
    session.answer(command_complete("COPY 2"), READY)
    assert session.lines[1:-1] == ["-- COPY in", ">> 1", "-- 2 pieces, 4 bytes sent", "COPY 2"]


# What is missing, torn or strange


def test_a_reply_over_the_limit() -> None:
    session = (
        Session().ask(Query("q").encode()).answer(COLUMNS, data_row([b"1", b"x"]), data_row([b"2", b"y"])[:5])
    )
    session.cut(999)
    session.ask(Query("next").encode(), operation=2).answer(command_complete("OK"), READY, operation=2)
    assert session.lines[1:] == [
        " id | name",
        "----+------",
        "  1 | x",
        "(1 row)",
        "(the rest of this result is not on the tape)",
        f"-- 999 more bytes were sent that are not on the tape, sha256 {'ab' * 32}",
        "-- 1.500 ms",
        "shop=> next",
        "OK",
        "-- 1.500 ms",
    ]


def test_a_tape_that_ends_in_a_result() -> None:
    session = Session().ask(Query("q").encode()).answer(COLUMNS, data_row([b"1", b"x"]))
    assert session.finish()[-2:] == ["(1 row)", "(the tape ends here)"]


def test_a_row_too_large_to_hold() -> None:
    row = data_row([b"1", b"x" * 300_000])
    session = Session().ask(Query("q").encode()).answer(COLUMNS).answer(row[:200_000]).answer(row[200_000:])
    session.answer(command_complete("SELECT 1"), READY)
    assert session.lines[3].strip() == "(a row too large to show)"
    assert session.lines[4] == "(1 row)"


@pytest.mark.parametrize("raw", [b"\x00garbage", b"Q\x00\x00\x00\x01", b"Q\xff\xff\xff\xff"])
def test_bytes_that_are_no_messages(raw: bytes) -> None:
    session = Session().ask(raw)
    assert "that are no messages" in session.lines[0]
    session.ask(Query("select 1").encode())
    assert session.lines[1] == "shop=> select 1"
    session.answer(raw).answer(READY)
    assert "that are no messages" in session.lines[2]


def test_malformed_messages() -> None:
    session = (
        Session().ask(frame(Frontend.QUERY, b"a\0b\0")).answer(frame(Backend.ROW_DESCRIPTION, b"\0\x05"))
    )
    assert session.lines == [
        "-- a message of type Q: malformed message of type 'Q'",
        "   b'a\\x00b\\x00'",
        "-- a message of type T: malformed message of type 'T'",
    ]


def test_rows_that_do_not_add_up() -> None:
    broken = frame(Backend.DATA_ROW, struct.pack(">Hi", 2, 1) + b"x")
    session = Session().ask(Query("q").encode()).answer(COLUMNS, broken, data_row([b"1"] * 4), READY)
    assert "(a malformed row)" in session.lines[3]
    assert session.lines[1].split("|")[-1].strip() == "?"


_MESSAGES = [
    Query("q").encode(),
    Parse(b"s", "p $1").encode(),
    bind(b"1", statement=b"s"),
    Describe("S", b"s").encode(),
    Describe("P", b"").encode(),
    Execute(b"").encode(),
    SYNC,
    CopyData(b"x").encode(),
    CopyDone().encode(),
]
_REPLIES = [
    PARSE_COMPLETE,
    BIND_COMPLETE,
    NO_DATA,
    COLUMNS,
    data_row([b"1", b"\x1b"]),
    data_row([None]),
    command_complete("SELECT 1"),
    error_response("ERROR", "1", "x"),
    READY,
    PORTAL_SUSPENDED,
    CopyResponse("out", 0, ()).encode(),
    CopyData(b"y").encode(),
    ParameterDescription((1,)).encode(),
]


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.integers(0, 2), st.sampled_from(_MESSAGES + _REPLIES) | st.binary(max_size=30)
        )
    )
)
def test_no_conversation_breaks_the_view(steps: list[tuple[bool, int, bytes]]) -> None:
    session = Session()
    for is_request, operation, raw in steps:
        if is_request:
            session.ask(raw, operation=operation)
        else:
            session.answer(raw, operation=operation)
    assert "\x1b" not in "".join(session.finish())
