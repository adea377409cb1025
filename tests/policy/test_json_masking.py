"""What masks make of JSON values is JSON, of the same kind where the method leaves one."""

from __future__ import annotations

import json

import pytest

from policy.json_masking import json_text, stand_ins, text_stand_in
from policy.masking import Fixed, Mask, MaskingKeyMissing, Null, Partial, Pseudonym, Redact

KEY = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (Mask("m", Redact()), ["[redacted]", 0, False, {}, []]),
        (Mask("m", Null()), [None] * 5),
        (Mask("m", Fixed("gone")), ["gone", 0, False, {}, []]),
        (Mask("m", Fixed("7")), ["7", 7, False, {}, []]),
        (Mask("m", Fixed("-1.5e3")), ["-1.5e3", -1500.0, False, {}, []]),
        (Mask("m", Fixed("NaN")), ["NaN", 0, False, {}, []]),
        (Mask("m", Fixed("01")), ["01", 0, False, {}, []]),
        (Mask("m", Fixed("true")), ["true", 0, True, {}, []]),
        (Mask("m", Fixed('{"a":1}')), ['{"a":1}', 0, False, {"a": 1}, []]),
        (Mask("m", Fixed('["\\"]')), ['["\\"]', 0, False, {}, []]),
        (Mask("m", Fixed("[NaN]")), ["[NaN]", 0, False, {}, []]),
        (Mask("m", Fixed('a"\n\ud800')), ['a"\n\ud800', 0, False, {}, []]),
    ],
)
def test_constants(mask: Mask, expected: list[object]) -> None:
    becomes = stand_ins(mask)
    parts = [becomes.string, becomes.number, becomes.boolean, becomes.object, becomes.array]
    assert [json.loads(part) for part in parts if isinstance(part, str)] == expected
    assert all(part.encode() for part in parts if isinstance(part, str))


def test_partial_and_pseudonym_mask_leaf_by_leaf() -> None:
    partial = stand_ins(Mask("m", Partial(1, 1)))
    assert callable(partial.string) and json.loads(partial.string('a"cdé')) == "a***é"
    assert (partial.number, partial.object, partial.array) == ("0", None, None)
    mask = Mask("m", Pseudonym("k"), key=KEY)
    pseudonym = stand_ins(mask)
    assert callable(pseudonym.string) and callable(pseudonym.number)
    assert json.loads(pseudonym.string("bob")) == mask.apply("bob", "text")
    assert pseudonym.number("7") == mask.apply("7", "json") != pseudonym.number("8")
    for text in ("9" * 5000, "1e999", "-0"):
        json.loads(pseudonym.number(text))
    with pytest.raises(MaskingKeyMissing):
        stand_ins(Mask("m", Pseudonym("k"))).string("x")  # type: ignore[operator]


def test_a_value_without_a_kind_becomes_text() -> None:
    assert text_stand_in(Mask("m", Null()), "x") == ""
    assert text_stand_in(Mask("m", Redact()), "x") == "[redacted]"
    assert text_stand_in(Mask("m", Fixed("gone")), "x") == "gone"


@pytest.mark.parametrize("text", ["", "é", 'a"\\\n', "\u2028", "\ud800x", "\U0001f600"])
def test_a_text_can_always_be_sent(text: str) -> None:
    assert json.loads(json_text(text).encode()) == text
