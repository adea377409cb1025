"""Bodies made to get a value past detectors, or to cost more than they bring."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from proxyd.gates.http.bodies import BodyRefused
from tests.proxyd.gates.http.bodies.body_masks import Masks, transformed
from tests.proxyd.gates.http.bodies.test_detected_runs import SETS

JSON = "application/json"
THESE = Masks(detectors=SETS["token"])
CARD = "4111111111111111"
ESCAPED = "".join(f"\\u{ord(digit):04x}" for digit in CARD)
HALF = ESCAPED[:48] + CARD[8:]
PAIR = "\\ud835\\udfd2"  # a mathematical 4, written as a pair of surrogates

# A body, and what must not be in what is shown of it, as JSON reads it.
HIDDEN = [
    f'{{"a":"{ESCAPED}"}}',
    f'{{"a":"{HALF}","b":1}}',
    f'{{"a":"{PAIR}{CARD[1:]}"}}',
    f'{{"a":"{CARD[:8]}\\u200b{CARD[8:]}"}}',
    f'{{"{CARD}":1}}',
    f'{{"{ESCAPED}":{{"{CARD}":[]}}}}',
    f'{{"a":"x","a":"{CARD}","a":"y"}}',
    f'{{"a":"\\"{CARD}\\\\"}}',
    f'{{"a":"\\\\","b":"{CARD}"}}',
    f'{{"a":"\\ud83d {CARD} \\udc00"}}',
    f'{{"a":"\x7f{CARD}\u2028"}}',
    "[" * 150 + f'"{CARD}"' + "]" * 150,
    '{"a":' * 150 + f'{{"b":"{CARD}","c":{CARD}}}' + "}" * 150,
    f"[{CARD},{CARD}.0e0,1,-{CARD}]",
    f'{{"n":{"9" * 5000},"a":"{CARD}"}}',
    f'\ufeff{{"a":"{CARD}"}}',
    f')]}}\',\n{{"a":"{CARD}"}}',
    f'"{CARD}"',
    CARD,
    f' \t\r\n["{CARD}" , "x" ] \n',
    f'{{"a":["x",{{"b":"{CARD}"}}],"c":{{}},"d":[],"e":""}}',
]


@pytest.mark.parametrize("body", HIDDEN)
@pytest.mark.parametrize("pieces", [None, 1, 3, 64])
def test_a_card_is_not_shown(body: str, pieces: int | None) -> None:
    out, counts = transformed(JSON, body.encode(), THESE, pieces=pieces)
    document = out.decode().lstrip("\ufeff").removeprefix(")]}',\n")
    shown = json.dumps(json.loads(document, parse_int=str), ensure_ascii=False)
    assert CARD not in shown and CARD not in out.decode() and "\\u0034\\u0031" not in out.decode()
    assert counts["credit_card"] >= 1


@pytest.mark.parametrize("cut", range(1, 70))
def test_a_card_is_not_shown_wherever_a_piece_ends(cut: int) -> None:
    body = f'{{"id":12,"a":"x {ESCAPED[:30]}{CARD[5:]} y","b":[{CARD},"4111 1111 1111 1111"]}}'.encode()
    whole = transformed(JSON, body, THESE)
    assert CARD.encode() not in whole[0] and whole[1] == Counter(credit_card=3)
    assert transformed(JSON, body, THESE, pieces=cut) == whole


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7"])
@pytest.mark.parametrize(
    "content_type", [JSON, "text/event-stream", "text/csv", "text/plain", "application/x-ndjson", ""]
)
def test_another_encoding_is_refused_or_masked(encoding: str, content_type: str) -> None:
    body = f'{{"a":"{CARD}"}}\n\n'
    prefix = "data: " if content_type == "text/event-stream" else ""
    try:
        out, _ = transformed(content_type, (prefix + body).encode(encoding), THESE)
    except BodyRefused:
        return
    assert CARD not in out.decode(encoding, "replace") and CARD.encode() not in out


@pytest.mark.parametrize(
    "body",
    [
        "[" * 201,
        '{"a":' * 201,
        '["\\ud8"]',
        '["\\x"]',
        '["a\nb"]',
        "[01]",
        "[1.]",
        "[+1]",
        "[.5]",
        "[NaN]",
        "[1,]",
        '{"a":1,}',
        '{"a" 1}',
        "{1:2}",
        "[1 2]",
        '["a""b"]',
        "[1]]",
        "[1] [2]",
        "[\xa0]",
        "[tru]",
        "{'a':1}",
    ],
)
@pytest.mark.parametrize("pieces", [None, 1])
def test_what_is_no_json_is_refused(body: str, pieces: int | None) -> None:
    with pytest.raises(BodyRefused):
        transformed(JSON, body.encode(), THESE, pieces=pieces)


def deep_runs() -> str:
    """Nested deeper than a run may be, over and over: each level is tried as a run of its own."""
    return "[" + ",".join(["[" * 100 + '"x"' + "]" * 100] * 500) + "]"


COSTLY = {
    "deep runs": deep_runs(),
    "many members of one name": "{" + ",".join(['"token":"abcdefgh"'] * 12_000) + "}",
    "every string escaped": "[" + ",".join(['"a\\nb\\u00e9"'] * 16_000) + "]",
    "beginnings of cards": "[" + ",".join(['"4111 1111 1111 111"'] * 10_000) + "]",
    "beginnings of keys": "[" + ",".join(['"-----BEGIN PRIVATE KEY-----"'] * 6_000) + "]",
    "base64 of nothing": "[" + ",".join(['"aGVsbG8gd29ybGQgaGVsbG8h"'] * 8_000) + "]",
    "one long run of digits": '["' + "4" * 200_000 + '"]',
    "one long number": "[" + "4" * 200_000 + "]",
    "digits of another script": '["' + "\u0664 " * 60_000 + '"]',
    "characters without a width": '["1' + "\u200b" * 60_000 + '1"]',
}


@pytest.mark.parametrize("body", COSTLY.values(), ids=COSTLY)
@pytest.mark.parametrize("pieces", [None, 4096])
def test_what_is_made_to_be_costly_comes_through(body: str, pieces: int | None) -> None:
    """Work that grew with the square of it would not come to an end here."""
    out, counts = transformed(JSON, body.encode(), THESE, pieces=pieces)
    assert (out == body.encode()) == (not counts)
