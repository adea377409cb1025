"""Strings of JSON that are too long to be held: the same values are hidden, and what is not stays as it is written."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxyd.gates.http.bodies import BodyLimits, BodyRefused
from proxyd.gates.http.bodies.long_strings import LongString
from tests.proxyd.gates.http.bodies.body_masks import REDACT, Masks, masks, transformed
from tests.proxyd.gates.http.bodies.test_detected_runs import FRAGMENTS, SETS, VALUES

JSON = "application/json"
THESE = SETS["token"]
TEXTS = st.lists(st.one_of(st.sampled_from(VALUES + FRAGMENTS), st.text(max_size=5)), max_size=8).map("".join)


def streamed(body: bytes, cuts: list[int]) -> tuple[bytes, Counter[str]]:
    """The body of a string in pieces that cut no escape."""
    counts: Counter[str] = Counter()
    string = LongString(THESE, counts)
    out = b""
    position = 0
    for cut in [*sorted(cuts), len(body)]:
        end = min(max(cut, position), len(body))
        while end > position and (is_cut(body, position, end)):
            end -= 1
        out += string.feed(body[position:end])
        position = end
    return out + string.finish(), counts


def is_cut(body: bytes, start: int, end: int) -> bool:
    """Is there the beginning of an escape at the end of body[start:end]?"""
    try:
        json.loads(b'"' + body[start:end].decode("utf-8", "ignore").encode() + b'"')
    except ValueError:
        return True
    return False


@given(text=TEXTS, ascii_only=st.booleans(), cuts=st.lists(st.integers(0, 200), max_size=6))
@example(text="\ud83d\ude00 4111 1111 1111 1111 é", ascii_only=True, cuts=[6, 7, 12])
@settings(deadline=None, max_examples=400)
def test_it_becomes_what_the_whole_becomes(text: str, ascii_only: bool, cuts: list[int]) -> None:
    text = text.encode("utf-8", "replace").decode()
    body = json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode()
    out, counts = streamed(body, cuts)
    expected, expected_counts = THESE.replace(text)
    assert json.loads(b'"' + out + b'"') == expected
    assert counts == expected_counts


@pytest.mark.parametrize("size", [1000, 65536, 300_000])
def test_a_string_of_megabytes_is_not_held(size: int) -> None:
    filling = "some \\/ words \\u00e9 and é \\n more of them, "
    value = filling * 60_000 + "card 4111 1111 " + "1111 1111 " + filling * 1000
    data = f'{{"a":"{value}","b":["x","bob@example.org"],"c":"4111111111111111"}}'.encode()
    assert len(data) > 2 << 20
    out, counts = transformed(JSON, data, Masks(detectors=THESE), pieces=size)
    expected = data.replace(b"4111 1111 1111 1111", b"<credit_card>").replace(b"bob@example.org", b"<email>")
    assert out == expected.replace(b"4111111111111111", b"<credit_card>")
    assert counts == {"credit_card": 2, "email": 1}


@pytest.mark.parametrize("end", [b'"', b'\\x"', b"\x00"])
def test_what_is_no_string_is_refused(end: bytes) -> None:
    data = b'["' + b"word " * 40_000 + end
    with pytest.raises(BodyRefused):
        transformed(JSON, data, Masks(detectors=THESE), pieces=10_000)


def test_what_a_path_masks_is_still_held_within_bounds() -> None:
    partial = masks(("$..note", REDACT)).json
    data = b'{"doc":"' + b'{\\"note\\":1}' * 10_000 + b'"}'
    with pytest.raises(BodyRefused, match="longer than"):
        transformed(
            JSON,
            data,
            Masks(json=partial, detectors=THESE),
            pieces=10_000,
            limits=BodyLimits(held_bytes=90_000),
        )
