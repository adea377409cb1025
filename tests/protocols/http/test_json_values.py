"""One reading of a JSON text, or none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.json_values import parse_json


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"null", None),
        (b' {"a":[1,-2.5,"x",true]}\r\n', {"a": [1, -2.5, "x", True]}),
        (b"9007199254740993", 9007199254740993),
        (b"1" * 4300, int("1" * 4300)),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"' + b"[" * 5000 + b'"', "[" * 5000),
        (b'{"a":1,"A":2,"":3}', {"a": 1, "A": 2, "": 3}),
        (b"[" * 200 + b"]" * 200, json.loads("[" * 200 + "]" * 200)),
        (b"1e-999", 0.0),
    ],
)
def test_what_is_read(data: bytes, value: object) -> None:
    assert parse_json(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"{}{}",
        b"{'a':1}",
        b"[01]",
        b"[1.]",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"-1e400",
        b"1" * 4301,
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'[{"x":{"a":1,"b":2,"a":3}}]',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'{"\\ud800":1}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\n"',
        b'"\x00"',
        b'"\\x41"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"{}\x00",
    ],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_json(data)


@pytest.mark.parametrize(
    "data", [b"[" * 201 + b"]" * 201, b'{"a":[' * 1000, b"[" * 500_000, b'["",' * 101 + b"[" * 100]
)
def test_depth_is_bounded(data: bytes) -> None:
    with pytest.raises(LimitExceeded):
        parse_json(data)


def test_size_is_bounded() -> None:
    with pytest.raises(LimitExceeded):
        parse_json(b'"' + b"x" * 100 + b'"', max_bytes=101)
    assert parse_json(b'"' + b"x" * 100 + b'"', max_bytes=102)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
        max_leaves=20,
    )
)
def test_the_same_as_the_standard_library(document: object) -> None:
    assert parse_json(json.dumps(document).encode()) == document
