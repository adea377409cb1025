"""COPY TO STDOUT data rewritten: text, csv and binary, whole and in pieces, also for who wants a value out."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LimitExceeded, LocalProtocolError, ProtocolError, RemoteProtocolError
from protocols.postgres.copy import BINARY_SIGNATURE, ColumnRewrite, CopyOptions, CopyRewriter

HEADER = BINARY_SIGNATURE + b"\0\0\0\0\0\0\0\0"
TRAILER = b"\xff\xff"


def bracket(value: bytes | None) -> bytes | None:
    return None if value is None else b"<" + value + b">"


def same(value: bytes | None) -> bytes | None:
    return value


def redact(value: bytes | None) -> bytes | None:
    return b"***"


def rewritten(
    options: CopyOptions,
    payloads: Sequence[bytes],
    function: ColumnRewrite = bracket,
    column: int = 1,
    width: int = 3,
) -> bytes:
    rewriter = CopyRewriter(options, {column: function}, width)
    out = b"".join(rewriter.feed(payload) for payload in payloads)
    rewriter.finish()
    return out


def binary_row(*values: bytes | None) -> bytes:
    fields = [b"\xff\xff\xff\xff" if v is None else struct.pack(">I", len(v)) + v for v in values]
    return struct.pack(">h", len(values)) + b"".join(fields)


# Rows as a server writes them for the values (1, VALUE, 'x'), and what must come out for '<VALUE>'.
TEXT = CopyOptions()
PIPE = CopyOptions(delimiter=b"|")
CSV = CopyOptions("csv")
CSV_ESCAPE = CopyOptions("csv", escape=b"\\")
CSV_FORCED = CopyOptions("csv", null=b"NULL", force_quote=frozenset({1}))
CSV_NINE = CopyOptions("csv", delimiter=b"9", quote=b"'")
CASES = [
    (TEXT, b"1\tabc\tx\n", b"1\t<abc>\tx\n"),
    (TEXT, b"1\t\\N\tx\n", b"1\t\\N\tx\n"),
    (TEXT, b"1\t\\\\N\tx\n", b"1\t<\\\\N>\tx\n"),
    (TEXT, b"1\t\tx\n", b"1\t<>\tx\n"),
    (TEXT, b"1\ta\\tb\\nc\\r\\b\\f\\v\\\\\tx\n", b"1\t<a\\tb\\nc\\r\\b\\f\\v\\\\>\tx\n"),
    (TEXT, b"\\N\ta|b\t\\N\n", b"\\N\t<a|b>\t\\N\n"),
    (PIPE, b"1|a\\|b\\t|x\n", b"1|<a\\|b\\t>|x\n"),
    (PIPE, b"\\\\|a\\\\\\|b|\\|\n", b"\\\\|<a\\\\\\|b>|\\|\n"),
    (CSV, b"1,abc,x\n", b"1,<abc>,x\n"),
    (CSV, b"1,,x\n", b"1,,x\n"),
    (CSV, b'1,"",x\n', b"1,<>,x\n"),
    (CSV, b'1,"a,b",x\n', b'1,"<a,b>",x\n'),
    (CSV, b'1,"a""b\nc",x\n', b'1,"<a""b\nc>",x\n'),
    (CSV, b'"""",abc,""","\n', b'"""",<abc>,""","\n'),
    (CSV_ESCAPE, b'1,"a\\"b\\\\c",x\n', b'1,"<a\\"b\\\\c>",x\n'),
    (CSV_ESCAPE, b"1,a\\b,x\n", b"1,<a\\b>,x\n"),
    (CSV_FORCED, b'1,"NULL",NULL\n', b'1,"<NULL>",NULL\n'),
    (CSV_FORCED, b"1,NULL,x\n", b"1,NULL,x\n"),
    (CSV_NINE, b"19'0''9'9x\n", b"19'<0''9>'9x\n"),
]


@pytest.mark.parametrize(("options", "row", "expected"), CASES)
def test_a_row(options: CopyOptions, row: bytes, expected: bytes) -> None:
    assert rewritten(options, [row]) == expected


@pytest.mark.parametrize(("options", "row", "expected"), CASES)
def test_rows_together_and_byte_by_byte(options: CopyOptions, row: bytes, expected: bytes) -> None:
    assert rewritten(options, [row * 3]) == expected * 3
    stream = row * 2
    assert rewritten(options, [stream[at : at + 1] for at in range(len(stream))]) == expected * 2


@pytest.mark.parametrize(("options", "row", "expected"), CASES)
def test_a_row_cut_off_is_seen_at_the_end(options: CopyOptions, row: bytes, expected: bytes) -> None:
    for cut in range(1, len(row)):
        rewriter = CopyRewriter(options, {1: bracket}, 3)
        assert rewriter.feed(row[:cut]) == b""
        assert rewriter.buffered_bytes == cut
        with pytest.raises(RemoteProtocolError):
            rewriter.finish()


def test_headers_pass_and_are_counted() -> None:
    assert rewritten(CopyOptions(header=True), [b"a\tb\tc\n1\tx\ty\n"]) == b"a\tb\tc\n1\t<x>\ty\n"
    options = CopyOptions("csv", header=True)
    assert rewritten(options, [b'a,"b\nb",c\n', b"1,x,y\n"]) == b'a,"b\nb",c\n1,<x>,y\n'
    with pytest.raises(RemoteProtocolError):
        rewritten(options, [b"a,b\n"])


def test_no_columns_at_all() -> None:
    rewriter = CopyRewriter(TEXT, {}, 0)
    assert rewriter.feed(b"\n\n") == b"\n\n"
    with pytest.raises(RemoteProtocolError):
        rewriter.feed(b"x\n")


def test_a_single_column() -> None:
    assert rewritten(TEXT, [b"a\n\n"], column=0, width=1) == b"<a>\n<>\n"
    assert rewritten(CSV, [b'"\\."\n'], same, 0, 1) == b'"\\."\n'


def test_whether_a_value_was_quoted_does_not_show() -> None:
    assert rewritten(CSV_NINE, [b"19'4 9'9x\n"], redact) == rewritten(CSV_NINE, [b"194 89x\n"], redact)
    assert rewritten(CSV, [b'1,"a""b",x\n'], redact) == rewritten(CSV, [b"1,ab,x\n"], redact) == b"1,***,x\n"


@pytest.mark.parametrize("null", [b"alice@example.com", b"", b"NULL", b"a\\\\b", b"\\n", b"\\t"])
def test_a_null_string_that_a_value_could_look_like_is_refused(null: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="NULL"):
        CopyRewriter(CopyOptions(null=null), {1: redact}, 3)
    CopyRewriter(CopyOptions(null=null), {}, 3)


@pytest.mark.parametrize("null", [b"\\N", b"\\x", b"a\\.", b"\\0"])
def test_a_null_string_that_no_value_looks_like(null: bytes) -> None:
    assert rewritten(CopyOptions(null=null), [b"1\t" + null + b"\tx\n"]) == b"1\t" + null + b"\tx\n"


@pytest.mark.parametrize(
    "options",
    [
        CopyOptions(delimiter=b""),
        CopyOptions(delimiter=b"ab"),
        CopyOptions(delimiter=b"\\"),
        CopyOptions(delimiter=b"n"),
        CopyOptions(delimiter=b"\n"),
        CopyOptions(delimiter=b"|", null=b"\\|"),
        CopyOptions(null=b"\\N\n"),
        CopyOptions(null=b"a\\"),
        CopyOptions("csv", delimiter=b'"'),
        CopyOptions("csv", delimiter=b""),
        CopyOptions("csv", quote=b"''"),
        CopyOptions("csv", escape=b""),
        CopyOptions("csv", null=b'"'),
        CopyOptions("csv", null=b","),
    ],
)
def test_options_that_no_server_accepts(options: CopyOptions) -> None:
    with pytest.raises(LocalProtocolError):
        CopyRewriter(options, {1: redact}, 3)


def test_a_column_outside_the_row() -> None:
    with pytest.raises(LocalProtocolError):
        CopyRewriter(TEXT, {3: redact}, 3)


@pytest.mark.parametrize(
    ("options", "payload"),
    [
        (TEXT, b"1\ta\n"),
        (TEXT, b"1\ta\tb\tc\n"),
        (TEXT, b"\n"),
        (TEXT, b"\\.\n"),
        (TEXT, b"1\t\\a\tx\n"),
        (TEXT, b"1\t\\x41\tx\n"),
        (TEXT, b"1\t\\101\tx\n"),
        (TEXT, b"1\ta\\\n"),
        (TEXT, b"1\ta\tb\\\n"),
        (CSV, b"1,a\n"),
        (CSV, b"1,a,b,c\n"),
        (CSV, b"\\.\n"),
        (CSV, b'1,"a"b,c\n'),
        (CSV, b'1,a"b,c\n'),
        (CSV, b'1, "a",c\n'),
        (CSV, b"1,a\rb,c\n"),
        (CSV_ESCAPE, b'1,"a\\b",c\n'),
        (CopyOptions("binary"), b"PGCOPX"),
        (CopyOptions("binary"), BINARY_SIGNATURE + b"\0\1\0\0\0\0\0\0"),
        (CopyOptions("binary"), BINARY_SIGNATURE + b"\0\0\0\0\xff\xff\xff\xff"),
        (CopyOptions("binary"), HEADER + binary_row(b"a", b"b")),
        (CopyOptions("binary"), HEADER + b"\xff\xfe"),
        (CopyOptions("binary"), HEADER + b"\0\3\xff\xff\xff\xfe"),
        (CopyOptions("binary"), HEADER + TRAILER + b"x"),
        (CopyOptions("binary"), HEADER + TRAILER + binary_row(b"a", b"b", b"c")),
    ],
)
def test_what_does_not_parse_is_refused(options: CopyOptions, payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        rewritten(options, [payload])


BINARY_STREAM = HEADER + binary_row(b"1", b"abc", None) + binary_row(b"2", None, b"") + TRAILER
BINARY_EXPECTED = HEADER + binary_row(b"1", b"<abc>", None) + binary_row(b"2", None, b"") + TRAILER


@pytest.mark.parametrize("size", [1, 2, 3, 11, 19, 20, 30, 1000])
def test_binary_in_pieces_of_any_size(size: int) -> None:
    pieces = [BINARY_STREAM[at : at + size] for at in range(0, len(BINARY_STREAM), size)]
    assert rewritten(CopyOptions("binary"), pieces) == BINARY_EXPECTED


def test_binary_header_extensions_pass() -> None:
    header = BINARY_SIGNATURE + b"\0\0\0\0\0\0\0\3ext"
    assert rewritten(CopyOptions("binary"), [header + TRAILER]) == header + TRAILER


def test_binary_must_end_with_its_trailer_and_nothing_behind_it() -> None:
    rewriter = CopyRewriter(CopyOptions("binary"), {1: bracket}, 3)
    rewriter.feed(BINARY_STREAM[:-2])
    with pytest.raises(RemoteProtocolError):
        rewriter.finish()
    rewriter.feed(TRAILER)
    rewriter.finish()
    with pytest.raises(RemoteProtocolError):
        rewriter.feed(b"\0")


@pytest.mark.parametrize("start", [b"1\t", b'1,"', HEADER + b"\0\3\0\0\1\0"])
def test_an_incomplete_row_is_bounded(start: bytes) -> None:
    options = {b"1\t": TEXT, b'1,"': CSV}.get(start, CopyOptions("binary"))
    rewriter = CopyRewriter(options, {1: bracket}, 3, max_row_bytes=100)
    rewriter.feed(start)
    with pytest.raises(LimitExceeded):
        for _ in range(11):
            rewriter.feed(b"x" * 10)
            assert rewriter.buffered_bytes <= 100


def test_a_row_in_too_many_pieces() -> None:
    rewriter = CopyRewriter(TEXT, {1: bracket}, 3)
    with pytest.raises(LimitExceeded):
        for _ in range(2000):
            rewriter.feed(b"x")


VALUE = st.one_of(
    st.none(),
    st.text(st.sampled_from("ab\\N.,|\"'\n\r\t\b\v9é "), max_size=8).map(lambda text: text.encode()),
)
ALL_OPTIONS = [
    TEXT,
    PIPE,
    CopyOptions(delimiter=b"\b", null=b"\\x"),
    CSV,
    CSV_ESCAPE,
    CSV_FORCED,
    CSV_NINE,
    CopyOptions("csv", escape=b"9", force_quote="*"),
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(ALL_OPTIONS), st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=4), st.integers(1, 9)
)
def test_what_is_written_is_read_back(
    options: CopyOptions, rows: list[tuple[bytes | None, bytes | None]], size: int
) -> None:
    """Write values by way of masks that return them, then read them by way of masks that note them."""
    written = b""
    for row in rows:
        left, right = row
        start = {"text": b"a" + (options.delimiter or b"\t") + b"b\n"}.get(
            options.format, b"a" + (options.delimiter or b",") + b"b\n"
        )
        written += CopyRewriter(options, {0: lambda _, v=left: v, 1: lambda _, v=right: v}, 2).feed(start)  # type: ignore[misc]
    seen: list[bytes | None] = []

    def note(value: bytes | None) -> bytes | None:
        seen.append(value)
        return value

    rewriter = CopyRewriter(options, {0: note, 1: note}, 2)
    pieces = [written[at : at + size] for at in range(0, len(written), size)]
    assert b"".join(rewriter.feed(piece) for piece in pieces) == written
    rewriter.finish()
    assert seen == [value for row in rows for value in row]


CHUNK = st.one_of(
    st.binary(max_size=30),
    st.text(st.sampled_from('ab\\N.,"\n\r\t'), max_size=20).map(lambda text: text.encode()),
    st.sampled_from([HEADER, TRAILER, binary_row(b"a", None, b"c"), b"1\ta\tb\n", b'1,"a",b\n']),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*ALL_OPTIONS, CopyOptions("binary")]), st.lists(CHUNK, max_size=5), st.booleans())
def test_no_input_does_more_than_a_protocol_error(
    options: CopyOptions, chunks: list[bytes], glued: bool
) -> None:
    rewriter = CopyRewriter(options, {1: redact}, 3, max_row_bytes=40)
    with contextlib.suppress(ProtocolError):
        for chunk in [b"".join(chunks)] if glued else chunks:
            rewriter.feed(chunk)
            assert rewriter.buffered_bytes <= 40
        rewriter.finish()
