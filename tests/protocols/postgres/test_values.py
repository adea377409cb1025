"""Values between binary and text. The vectors come from a PostgreSQL 18 server: OID, text, binary."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from protocols.postgres.values import (
    ARRAY_ELEMENTS,
    TYPE_KINDS,
    UnsupportedType,
    binary_from_text,
    map_array_text,
    text_from_binary,
)

VECTORS: list[tuple[int, str, str]] = json.loads(
    Path(__file__).with_name("value_vectors.json").read_text("utf-8")
)
OIDS = [*TYPE_KINDS, *ARRAY_ELEMENTS]


@pytest.mark.parametrize(("oid", "text", "binary"), VECTORS)
def test_as_the_server_writes_it(oid: int, text: str, binary: str) -> None:
    assert text_from_binary(oid, bytes.fromhex(binary)) == text
    assert binary_from_text(oid, text) == bytes.fromhex(binary)


def test_every_kind_and_array_is_covered_by_a_vector() -> None:
    seen = {TYPE_KINDS.get(oid, oid) for oid, _, _ in VECTORS}
    assert set(TYPE_KINDS.values()) <= seen
    assert set(ARRAY_ELEMENTS.values()) <= set(TYPE_KINDS)


@pytest.mark.parametrize("oid", [0, 600, 1186, 1187, 2249, 16384, 2275])
def test_unknown_types_are_refused(oid: int) -> None:
    with pytest.raises(UnsupportedType):
        text_from_binary(oid, b"")
    with pytest.raises(UnsupportedType):
        binary_from_text(oid, "")


@pytest.mark.parametrize(
    ("oid", "text", "binary"),
    [
        (16, "yes", "01"),
        (17, "a\\\\b\\001", "615c6201"),
        (18, "xyz", "78"),
        (700, "1e10", "501502f9"),
        (1082, " 2000-01-02 ", "00000001"),
        (1083, "01:02", "00000000ddbab200"),
        (1114, "2000-01-01", "0000000000000000"),
        (1114, "2000-01-01T00:00:01Z", "00000000000f4240"),
        (1184, "2000-01-01 01:00:00+01", "0000000000000000"),
        (1184, "2000-01-01 00:00:00", "0000000000000000"),
        (1266, "00:00Z", "000000000000000000000000"),
        (1700, "1e3", "000100000000000003e8"),
        (1700, "-0.0", "0000000000000001"),
        (1700, "+.5", "0001ffff000000011388"),
        (1700, "12345e-2", "00020000000000" + "02007b1194"),
        (1700, "-inf", "00000000f0000000"),
        (2950, "{123E4567-E89B-12D3-A456-426614174000}", "123e4567e89b12d3a456426614174000"),
        (1007, "{ 1}", ""),
    ],
)
def test_other_spellings(oid: int, text: str, binary: str) -> None:
    if binary:
        assert binary_from_text(oid, text).hex() == binary
    else:
        assert text_from_binary(oid, binary_from_text(oid, text)) == text.replace(" ", "")


@pytest.mark.parametrize(
    ("oid", "text"),
    [
        (16, "maybe"),
        (17, "\\xgg"),
        (17, "\\"),
        (17, "\\9"),
        (20, "9223372036854775808"),
        (21, "x"),
        (23, ""),
        (25, "a\0b"),
        (26, "-1"),
        (700, "1e39"),
        (701, "one"),
        (869, "1.2.3.4/33"),
        (869, "1.2.3"),
        (1082, "2023-02-29"),
        (1082, "0000-01-01"),
        (1082, "9999999-01-01"),
        (1083, "24:00:01"),
        (1083, "12:60:00"),
        (1114, "yesterday"),
        (1266, "12:00:00"),
        (1266, "12:00:00+16"),
        (1266, "12:00:00+01:60"),
        (1700, "."),
        (1700, "1e999999"),
        (1700, "1e131072"),
        (1700, "1e-16384"),
        (2950, "123"),
        (1007, "{1,2"),
        (1007, "1,2"),
        (1007, "{1,{2}}"),
        (1007, "{{1},{2,3}}"),
        (1007, "{{1},2}"),
        (1007, "{1,}"),
        (1007, "{,1}"),
        (1007, "{{},{}}"),
        (1007, "{1}{2}"),
        (1007, "{1}x"),
        (1007, "{}{}"),
        (1007, "[1:2]={1}"),
        (1007, "[1:1]={}"),
        (1007, "{{{{{{{1}}}}}}}"),
        (1007, '{"1'),
        (1007, '{1"2"}'),
        (1007, ""),
    ],
)
def test_text_that_is_not_a_value(oid: int, text: str) -> None:
    with pytest.raises(LocalProtocolError):
        binary_from_text(oid, text)


@pytest.mark.parametrize(
    ("oid", "binary"),
    [
        (16, "02"),
        (16, ""),
        (18, ""),
        (18, "6162"),
        (20, "00"),
        (25, "ff"),
        (25, "6100"),
        (869, "02210004" + "01020304"),
        (869, "03200004" + "01020304"),
        (869, "0220"),
        (1083, "ffffffffffffffff"),
        (1083, "000000141dd76001"),
        (1700, ""),
        (1700, "0001000000000000"),
        (1700, "00010000000000002710"),
        (1700, "0000000012340000"),
        (1700, "0000000000004000"),
        (3802, ""),
        (3802, "02" + "7b7d"),
        (1007, "0000000100000000000000190000000100000001" + "00000000"),  # elements of another type
        (1007, "7fffffff0000000000000017"),
        (1007, "000000010000000000000017" + "7fffffff00000001"),
        (1007, "000000010000000000000017" + "ffffffff00000001"),
        (1007, "000000060000000000000017" + "7fffffff00000001" * 6),
        (1007, "000000010000000000000017" + "0000000100000001" + "fffffffe"),
        (1007, "000000010000000000000017" + "0000000100000001" + "00000004"),
        (1007, "000000010000000000000017" + "0000000100000001" + "ffffffff" + "00"),
        (1007, "000000000000000200000017"),
    ],
)
def test_binary_that_is_not_a_value(oid: int, binary: str) -> None:
    with pytest.raises(RemoteProtocolError):
        text_from_binary(oid, bytes.fromhex(binary))


def test_elements_of_an_array_are_replaced_in_place() -> None:
    def star(element: str | None) -> str | None:
        return None if element is None else "*" * len(element)

    assert map_array_text('{a,NULL,"b c"}', star) == "{*,NULL,***}"
    assert map_array_text('[0:0][2:3]={{ab,"NULL"}}', star) == "[0:0][2:3]={{**,****}}"
    assert map_array_text("{}", star) == "{}"
    assert map_array_text("{a}", lambda _: "") == '{""}'
    assert map_array_text("{a}", lambda _: "null") == '{"null"}'
    assert map_array_text("{a}", lambda _: None) == "{NULL}"
    with pytest.raises(RemoteProtocolError):
        map_array_text("a", star)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
)
def test_any_texts_pass_through_an_array(elements: list[str | None]) -> None:
    replaced = iter(elements)
    text = map_array_text(
        "{" + ",".join("x" * bool(elements) for _ in elements) + "}", lambda _: next(replaced)
    )
    assert text_from_binary(1009, binary_from_text(1009, text)) == text
    seen: list[str | None] = []
    map_array_text(text, seen.append)
    assert seen == elements


@settings(max_examples=200, deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=None, min_value=-(10**30), max_value=10**30))
def test_numerics_keep_value_and_scale(value: object) -> None:
    text = f"{value:f}"
    expected = text.lstrip("-") if not text.strip("-0.") else text
    assert text_from_binary(1700, binary_from_text(1700, text)) == expected


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(OIDS), st.binary(max_size=40), st.text(max_size=20))
def test_no_value_does_more_than_a_protocol_error(oid: int, data: bytes, text: str) -> None:
    with contextlib.suppress(ProtocolError):
        text_from_binary(oid, data)
    with contextlib.suppress(ProtocolError):
        binary_from_text(oid, text)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(VECTORS), st.integers(0, 100), st.integers(0, 255))
def test_a_mutated_value_is_refused_or_comes_back(vector: tuple[int, str, str], at: int, byte: int) -> None:
    data = bytearray.fromhex(vector[2])
    if not data:
        return
    data[at % len(data)] = byte
    with contextlib.suppress(RemoteProtocolError):
        text = text_from_binary(vector[0], bytes(data))
        assert text_from_binary(vector[0], binary_from_text(vector[0], text)) == text
