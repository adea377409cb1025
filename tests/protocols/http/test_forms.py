"""Forms: one reading of each field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.forms import decode_field, encode_field, parse_form, readings


def test_what_is_read() -> None:
    data = b"a=1&&b&=c&d=e%20f+g%2Bh&%C3%A9=%E2%82%AC&x=y=z;w"
    assert parse_form(data) == [
        ("a", "1"),
        ("b", ""),
        ("", "c"),
        ("d", "e f g+h"),
        ("é", "€"),
        ("x", "y=z;w"),
    ]
    assert parse_form(b"") == []


@pytest.mark.parametrize("data", [b"%", b"a=%1", b"a=%zz", b"%fe=1", b"a=\xff", b"a=%c3", b"a=%ED%A0%80"])
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_form(data)


def test_fields_are_bounded() -> None:
    with pytest.raises(LimitExceeded):
        parse_form(b"a=1&" * 4, max_fields=3)


@given(st.text(), st.text())
def test_what_is_written_is_read_again(name: str, value: str) -> None:
    assert decode_field(encode_field(name, value)) == (name, value)


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("a", [("a",)]),
        ("a[b]", [("a[b]",), ("a", "b")]),
        ("a[b][0][]", [("a[b][0][]",), ("a", "b", 0, 0)]),
        ("a.b", [("a.b",), ("a", "b")]),
        ("a[b].c", [("a[b].c",), ("a", "b", "c")]),
        ("[a]", [("[a]",)]),
        ("", [("",)]),
    ],
)
def test_where_a_name_may_put_a_field(name: str, places: list[object]) -> None:
    assert readings(name) == places
