"""What masked values become: concealed, of the same type, no longer than the type allows."""

from __future__ import annotations

import datetime
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.facts import Use
from policy.masking import (
    KINDS,
    REDACTED,
    Fixed,
    Mask,
    MaskingKeyMissing,
    Method,
    Null,
    Partial,
    Pseudonym,
    Redact,
    UnmaskableType,
)

KEY = b"0123456789abcdef0123456789abcdef"
ANOTHER_KEY = b"another key another key another "

SAMPLES = {
    "text": "ada@example.com",
    "bool": "t",
    "int2": "-7",
    "int4": "4711",
    "int8": "9007199254740993",
    "float4": "1.5",
    "float8": "-1e+300",
    "numeric": "12345.6789",
    "date": "1984-02-29",
    "time": "12:34:56.789",
    "timetz": "12:34:56+02",
    "timestamp": "1984-02-29 12:34:56",
    "timestamptz": "1984-02-29 12:34:56.789+02",
    "uuid": "6f1c1f4e-3b0c-4c56-9d7a-0a1b2c3d4e5f",
    "json": '{"mail": "ada@example.com", "age": 36, "ok": true, "none": null, "tags": ["x", 1.5]}',
    "jsonb": '["ada@example.com", 36, {"deep": ["very secret"]}]',
    "bytea": "\\xdeadbeef",
}


def mask(method: Method) -> Mask:
    return Mask("contact", method, key=KEY if isinstance(method, Pseudonym) else None)


METHODS: list[Method] = [Redact(), Partial(keep_last=4), Pseudonym("customers"), Fixed("nothing")]


def is_literal(text: str, kind: str) -> bool:
    """Is `text` a literal of `kind`, by readers that are not the module's own?"""
    match kind:
        case "text":
            return True
        case "bool":
            return text in ("t", "f")
        case "int2" | "int4" | "int8":
            bits = int(kind[3:]) * 8 - 1
            return str(int(text)) == text and -(2**bits) <= int(text) < 2**bits
        case "float4" | "float8" | "numeric":
            return float(text) == float(text)
        case "date":
            return datetime.date.fromisoformat(text).isoformat() == text
        case "time" | "timetz":
            return (datetime.time.fromisoformat(text).tzinfo is not None) is (kind == "timetz")
        case "timestamp" | "timestamptz":
            return (datetime.datetime.fromisoformat(text).tzinfo is not None) is (kind == "timestamptz")
        case "uuid":
            return str(uuid.UUID(text)) == text
        case "json" | "jsonb":
            return json.loads(text) is not ...
        case _:
            return text.startswith("\\x") and bytes.fromhex(text[2:]) is not None


def test_the_samples_are_complete_and_literals() -> None:
    assert set(SAMPLES) == KINDS
    assert all(is_literal(text, kind) for kind, text in SAMPLES.items())


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_the_type_is_kept_and_the_value_is_not(method: Method, kind: str) -> None:
    masked = mask(method).apply(SAMPLES[kind], kind)
    assert masked is not None
    assert is_literal(masked, kind)
    assert masked != SAMPLES[kind]
    for secret in ("ada@", "very secret", "4711", "deadbeef", "12345", "1984", "6f1c"):
        assert secret not in masked


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("method", [*METHODS, Null()], ids=lambda method: type(method).__name__)
def test_null_stays_null(method: Method, kind: str) -> None:
    assert mask(method).apply(None, kind) is None


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("kind", ["", "xml", "TEXT", "tsvector", "unknown", "record"])
def test_unknown_kinds_are_refused(method: Method, kind: str) -> None:
    with pytest.raises(UnmaskableType, match="contact"):
        mask(method).apply("value", kind)


def test_null_method() -> None:
    assert mask(Null()).is_null
    assert mask(Null()).apply("value", "text") is None
    assert mask(Null()).apply("value", "tsvector") is None
    assert not mask(Redact()).is_null


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text", "[redacted]"),
        ("bool", "f"),
        ("int8", "0"),
        ("numeric", "0"),
        ("float4", "0"),
        ("date", "1970-01-01"),
        ("time", "00:00:00"),
        ("timetz", "00:00:00+00"),
        ("timestamp", "1970-01-01 00:00:00"),
        ("timestamptz", "1970-01-01 00:00:00+00"),
        ("uuid", "00000000-0000-0000-0000-000000000000"),
        ("json", '"[redacted]"'),
        ("bytea", "\\x"),
    ],
)
def test_redact(kind: str, expected: str) -> None:
    assert mask(Redact()).apply(SAMPLES[kind], kind) == expected


@pytest.mark.parametrize(
    ("first", "last", "value", "expected"),
    [
        (0, 4, "4111111111111111", "************1111"),
        (2, 0, "ada lovelace", "ad**********"),
        (1, 2, "abcdefgh", "a*****gh"),
        (0, 4, "12345678", "****5678"),
        (0, 4, "1234567", "****567"),
        (0, 4, "1234", "**34"),
        (0, 4, "123", "**3"),
        (0, 4, "12", "*2"),
        (0, 4, "1", "*"),
        (0, 4, "", ""),
        (1000, 1000, "abcdef", "***def"),
        (3, 3, "abcdefgh", "a****fgh"),
        (0, 2, "grüße", "***ße"),
        (0, 4, "x" * 1000 + "last", "*" * 64 + "last"),
    ],
)
def test_partial_keeps_at_most_half(first: int, last: int, value: str, expected: str) -> None:
    assert mask(Partial(first, last)).apply(value, "text") == expected


@given(st.text(max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_partial_never_shows_more_than_half(value: str, first: int, last: int) -> None:
    masked = mask(Partial(first, last)).apply(value, "text")
    assert masked is not None
    shown = len(masked) - min(masked.count("*"), len(masked))
    assert shown <= len(value) // 2 or "*" in value
    assert len(masked) == len(value)


def test_partial_in_json_reaches_every_leaf() -> None:
    masked = mask(Partial(keep_last=4)).apply(SAMPLES["json"], "json")
    assert masked is not None
    assert json.loads(masked) == {
        "mail": "***********.com",
        "age": 0,
        "ok": False,
        "none": None,
        "tags": ["*", 0],
    }


@pytest.mark.parametrize("text", ["", "{", "[" * 5000, "nul", "[" + "9" * 5000 + "]"])
@pytest.mark.parametrize("method", [Partial(keep_last=4), Pseudonym("k")], ids=["partial", "pseudonym"])
def test_json_that_cannot_be_read_is_redacted_whole(method: Method, text: str) -> None:
    assert mask(method).apply(text, "json") == '"[redacted]"'


def test_half_a_surrogate_pair_in_json() -> None:
    masked = mask(Partial(keep_last=1)).apply('["ab\\ud800"]', "json")
    assert masked == '["**\\ud800"]'


def test_pseudonyms_are_the_same_for_the_same_value_and_key() -> None:
    one = mask(Pseudonym("k"))
    for kind, value in SAMPLES.items():
        assert one.apply(value, kind) == one.apply(value, kind)
    assert one.apply("a", "text") != one.apply("b", "text")
    assert one.apply("a", "text") != Mask("m", Pseudonym("k"), key=ANOTHER_KEY).apply("a", "text")
    assert one.apply("7", "int4") != one.apply("7", "int8")


def test_the_shape_of_pseudonyms() -> None:
    one = mask(Pseudonym("k"))
    text = one.apply("ada@example.com", "text")
    assert text is not None
    assert (text[:2], len(text), "@" in text) == ("p_", 18, False)
    identity = one.apply(SAMPLES["uuid"], "uuid")
    assert identity is not None
    assert (uuid.UUID(identity).version, uuid.UUID(identity).variant) == (8, uuid.RFC_4122)
    assert one.apply("t", "bool") == one.apply("f", "bool") == "f"


@given(st.text(max_size=30))
def test_pseudonyms_stay_in_the_range_of_their_type(value: str) -> None:
    one = mask(Pseudonym("k"))
    for kind in KINDS - {"json", "jsonb"}:
        masked = one.apply(value, kind)
        assert masked is not None
        assert is_literal(masked, kind)
        if kind.startswith("int"):
            assert int(masked) > 0
    day = one.apply(value, "date")
    assert day is not None
    assert "1900-01-01" <= day <= "2100-12-31"


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("hidden", "text", "hidden"),
        ("", "text", ""),
        ("true", "bool", "t"),
        ("f", "bool", "f"),
        ("maybe", "bool", "f"),
        ("42", "int4", "42"),
        ("-32768", "int2", "-32768"),
        ("32768", "int2", "0"),
        ("9" * 40, "int8", "0"),
        ("4.5", "int4", "0"),
        ("٣", "int4", "0"),
        ("4.5", "numeric", "4.5"),
        ("NaN", "numeric", "0"),
        ("1e5", "float8", "0"),
        ("9" * 100, "float4", "0"),
        ("2020-02-29", "date", "2020-02-29"),
        ("2021-02-29", "date", "1970-01-01"),
        ("20200229", "date", "1970-01-01"),
        ("12:00:00", "time", "12:00:00"),
        ("25:00:00", "time", "00:00:00"),
        ("12:00:00+02", "timetz", "12:00:00+02"),
        ("2020-02-29 12:00:00", "timestamp", "2020-02-29 12:00:00"),
        ("2020-02-30 12:00:00", "timestamp", "1970-01-01 00:00:00"),
        ("2020-02-29 12:00:00+00", "timestamptz", "2020-02-29 12:00:00+00"),
        ("2020-02-29 12:00:00", "timestamptz", "1970-01-01 00:00:00+00"),
        ("6F1C1F4E3B0C4C569D7A0A1B2C3D4E5F", "uuid", "6f1c1f4e-3b0c-4c56-9d7a-0a1b2c3d4e5f"),
        ("nobody", "uuid", "00000000-0000-0000-0000-000000000000"),
        ('{"a": 1}', "jsonb", '{"a": 1}'),
        ("hidden", "json", '"[redacted]"'),
        ("NaN", "json", '"[redacted]"'),
        ("\\xff", "bytea", "\\xff"),
        ("\\xf", "bytea", "\\x"),
        ("ff", "bytea", "\\x"),
    ],
)
def test_fixed(value: str, kind: str, expected: str) -> None:
    assert mask(Fixed(value)).apply(SAMPLES[kind], kind) == expected


@pytest.mark.parametrize("limit", [0, 1, 5, 10, 18, 100])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_the_length_of_the_type_is_kept(method: Method, limit: int) -> None:
    masked = mask(method).apply("ada@example.com"[:limit], "text", limit)
    assert masked is not None
    assert len(masked) <= limit


def test_a_fixed_value_that_is_too_long_is_redacted() -> None:
    assert mask(Fixed("far too long")).apply("abc", "text", 5) == REDACTED[:5]


def test_keys() -> None:
    plain = Mask("m", Pseudonym("customers"), frozenset({Use.JOIN}))
    with pytest.raises(MaskingKeyMissing, match="customers"):
        plain.apply("x", "text")
    with pytest.raises(MaskingKeyMissing, match="no masking key named customers"):
        plain.with_key({"other": KEY})
    with pytest.raises(MaskingKeyMissing, match="shorter than 16 bytes"):
        plain.with_key({"customers": b"short"})
    keyed = plain.with_key({"customers": KEY})
    assert keyed.apply("x", "text") == mask(Pseudonym("customers")).apply("x", "text")
    assert keyed.uses == {Use.JOIN}
    assert "0123456789" not in repr(keyed) + str(keyed)
    assert mask(Redact()).with_key({}) == mask(Redact())


def test_the_order_of_concealment() -> None:
    methods: list[Method] = [Redact(), Null(), Fixed("x"), Pseudonym("k"), Partial(keep_last=1)]
    assert [mask(method).concealment for method in methods] == [0, 1, 2, 3, 4]
