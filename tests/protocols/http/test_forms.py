"""Forms: one reading of each field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError
from protocols.http.forms import decode_field, encode_field, readings


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"a=1", ("a", "1")),
        (b"b", ("b", "")),
        (b"=c", ("", "c")),
        (b"", ("", "")),
        (b"d=e%20f+g%2Bh", ("d", "e f g+h")),
        (b"%C3%A9=%E2%82%AC", ("é", "€")),
        (b"x=y=z;w", ("x", "y=z;w")),
        (b"a=%00", ("a", "\0")),
    ],
)
def test_what_is_read(data: bytes, field: tuple[str, str]) -> None:
    assert decode_field(data) == field


@pytest.mark.parametrize("data", [b"%", b"a=%1", b"a=%zz", b"%fe=1", b"a=\xff", b"a=%c3", b"a=%ED%A0%80"])
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_field(data)


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
