"""Detectors over runs of JSON at once find what they find value by value, in every run and however it comes."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy.detectors import NAMES, Detection
from policy.http.masks import BodyDetectors
from policy.masking import Fixed, Mask, Null, Partial
from proxyd.gates.http.bodies import DEFAULT_LIMITS, BodyRefused, transformer_for
from proxyd.gates.http.bodies.detecting import ValueDetection
from proxyd.gates.http.bodies.event_bodies import EventBody
from proxyd.gates.http.bodies.form_bodies import FormBody
from proxyd.gates.http.bodies.json_detecting import RunDetection
from proxyd.gates.http.bodies.plan import plan_of
from proxyd.gates.http.bodies.table_bodies import TableBody
from tests.policy.detectors.test_kinds import TABLE, marked
from tests.proxyd.gates.http.bodies.body_masks import Masks, transformed

JSON = "application/json"
VALUES = [marked(text)[0].decode() for _, text in TABLE]
FRAGMENTS = [
    *(
        "4111 1111 1111 1111",
        "523-45-6789",
        "523456789",
        "5550123456",
        "bob@example.org",
        "E-123456",
        "wJalrXUtnFEMI",
    ),
    *(
        "ssn",
        "phone",
        " ",
        "\n",
        '"',
        "\\",
        "/",
        ",",
        ":",
        "{",
        "é",
        "\u017f",
        "\ud83d",
        "\x7f",
        "\u2028",
        "1",
        "a" * 40,
    ),
    *("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----", "MIIEabc"),
    base64.b64encode(b"bob@example.org").decode(),
    base64.urlsafe_b64encode(b"card 4111 1111 1111 1111?>").decode().rstrip("="),
    b"card 4111 1111 1111 1111".hex(),
]
NAMED = [
    "ssn",
    "phone_number",
    "mobile",
    "aws_secret_access_key",
    "name",
    "id",
    "SSN",
    "x-api-key",
    "to\nken",
    'ph"one',
]

TEXTS = st.one_of(
    st.sampled_from(VALUES),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=5).map("".join),
)
NUMBERS = st.one_of(
    st.sampled_from(
        [4111111111111111, 523456789, 5550123456, -4111111111111111, 1e300, 41111111111111.11, 4155552671]
    ),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUE = st.recursive(
    st.one_of(TEXTS, NUMBERS, st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMED), TEXTS), inner, max_size=4),
    ),
    max_leaves=12,
)
WRITTEN = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 0, 2]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :\t")]),
    }
)


def detectors(mask: Mask | None, own: dict[str, str] | None = None) -> BodyDetectors:
    detection = Detection.of([((*NAMES, *(own or ())), mask)], own)
    assert detection is not None
    return BodyDetectors(detection)


OWN = {"badge": "^E-[0-9]{6}$", "word": "name: [a-z]{3}", "number": "^-?[0-9]{10}$"}
SETS = {
    "token": detectors(None),
    "own": detectors(None, OWN),
    "null": detectors(Mask("m", Null())),
    "partial": detectors(Mask("m", Partial(keep_last=3))),
    "quotes": detectors(Mask("m", Fixed('"\\'))),
}


def token_by_token(runs: RunDetection, run: bytes) -> tuple[bytes, Counter[str]]:
    counts: Counter[str] = Counter()
    return runs._token_by_token(run, counts), counts


@pytest.mark.parametrize("these", SETS.values(), ids=SETS)
@given(value=VALUE, written=WRITTEN)
@example(value={"ssn": 523456789, "phone": "5550123456"}, written={})
@example(value=["-----BEGIN RSA PRIVATE KEY-----", "MII", "4111 1111 1111 1111"], written={})
@example(value={"token": "E-123456", "a": ["E-123456", 1234567890]}, written={"indent": 2})
@settings(deadline=None, max_examples=150)
def test_a_run_becomes_what_its_values_become(
    these: BodyDetectors, value: Any, written: dict[str, Any]
) -> None:
    run = json.dumps(value, **written).encode("utf-8", "replace")
    runs = RunDetection(ValueDetection(these))
    counts: Counter[str] = Counter()
    out = runs.cleaned(run, counts)
    expected, expected_counts = token_by_token(runs, run)
    assert json.loads(out) == json.loads(expected)
    assert counts == expected_counts
    assert (out == run) == (expected == run)


@pytest.mark.parametrize("these", SETS.values(), ids=SETS)
@given(value=VALUE, written=WRITTEN, size=st.sampled_from([1, 2, 7, 64]))
@settings(deadline=None, max_examples=60)
def test_it_does_not_depend_on_how_it_comes(
    these: BodyDetectors, value: Any, written: dict[str, Any], size: int
) -> None:
    data = json.dumps([value, value], **written).encode("utf-8", "replace")
    whole = transformed(JSON, data, Masks(detectors=these))
    assert transformed(JSON, data, Masks(detectors=these), pieces=size) == whole


@given(
    values=st.lists(VALUE, max_size=5),
    size=st.sampled_from([None, 1, 5, 40]),
    blank=st.sampled_from(["", " ", "\r"]),
)
@settings(deadline=None, max_examples=60)
def test_lines_become_what_their_documents_become(values: list[Any], size: int | None, blank: str) -> None:
    these = Masks(detectors=SETS["token"])
    lines = [json.dumps(value).encode() + blank.encode() for value in values]
    out, _ = transformed("application/x-ndjson", b"\n".join(lines), these, pieces=size)
    assert out == b"\n".join([transformed(JSON, line, these)[0] for line in lines])


def test_what_nothing_is_found_in_stays_byte_for_byte() -> None:
    data = b'{ "a" : "x\\/y\\u00e9" ,"n":1.50e+3, "token":"abc\\ndef", "b":["\\ud83d",true] }'
    assert transformed(JSON, data, Masks(detectors=SETS["token"]))[0] == data


EVENT_LINES = st.one_of(
    VALUE.map(lambda value: f"data: {json.dumps(value)}"),
    TEXTS.map(lambda text: "data: " + text.replace("\n", " ")),
    st.sampled_from(
        [
            "",
            "",
            "",
            "event: message",
            ": comment",
            "id: 4",
            "retry: 10",
            "data",
            "data:",
            "data:x",
            'data: {"a',
        ]
    ),
    st.sampled_from(
        [f"data: {base64.b64encode(b'bob@example.org').decode()}", "id: bob@example.org", "data: E-123456"]
    ),
)


@pytest.mark.parametrize("these", [SETS["token"], SETS["own"]], ids=["token", "own"])
@given(
    lines=st.lists(EVENT_LINES, max_size=14),
    size=st.sampled_from([None, 1, 9, 50]),
    end=st.sampled_from(["", "\n\n"]),
)
@settings(deadline=None, max_examples=200)
def test_events_at_once_become_what_each_becomes(
    these: BodyDetectors, lines: list[str], size: int | None, end: str
) -> None:
    data = ("\n".join(lines) + end).encode("utf-8", "replace")
    assert events(these, data, size) == events(these, data, None, is_plain=False)


def events(
    these: BodyDetectors, data: bytes, size: int | None, *, is_plain: bool = True
) -> tuple[bytes, Counter[str]] | str:
    body = transformer_for("text/event-stream", Masks(detectors=these))
    assert isinstance(body, EventBody)
    body._is_plain = is_plain
    pieces = [data] if size is None else [data[at : at + size] for at in range(0, len(data), size)]
    try:
        return b"".join([*map(body.feed, pieces), body.finish()]), body.counts
    except BodyRefused as refused:
        return refused.reason


CELLS = st.one_of(
    st.sampled_from(VALUES).map(lambda text: text.replace("\n", " ")),
    st.sampled_from([*FRAGMENTS, "", '"', '"a,b"', '"4111 1111\n1111 1111"', "4111", "1111", "x;y", "a\tb"]),
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4).map(",".join), max_size=10)


@pytest.mark.parametrize("titles", ["id,name,note,more", "id,ssn,phone_number,token"])
@given(rows=ROWS, size=st.sampled_from([None, 1, 20]), end=st.sampled_from(["\n", "\r\n"]))
@settings(deadline=None, max_examples=200)
def test_tables_at_once_become_what_their_records_become(
    titles: str, rows: list[str], size: int | None, end: str
) -> None:
    data = end.join([titles, *rows, ""]).encode("utf-8", "replace")
    first = len(titles) + len(end)
    assert table(data, first, size) == table(data, first, None, is_quick=False)


def table(data: bytes, first: int, size: int | None, *, is_quick: bool = True) -> tuple[bytes, Counter[str]]:
    body = TableBody(plan_of(Masks(detectors=SETS["token"]), DEFAULT_LIMITS), "", has_titles=True)
    step = size or max(1, len(data))
    pieces = [data[:first], *(data[at : at + step] for at in range(first, len(data), step))]
    with patch.object(TableBody, "_passes_lines", TableBody._passes_lines if is_quick else False):
        return b"".join([*map(body.feed, pieces), body.finish()]), body.counts


@pytest.mark.parametrize("these", [SETS["token"], SETS["own"]], ids=["token", "own"])
@given(
    fields=st.lists(st.tuples(st.one_of(st.sampled_from(NAMED), TEXTS), TEXTS), max_size=8),
    size=st.sampled_from([None, 1, 25]),
)
@settings(deadline=None, max_examples=150)
def test_forms_at_once_become_what_their_fields_become(
    these: BodyDetectors, fields: list[tuple[str, str]], size: int | None
) -> None:
    data = urlencode(
        [(name.encode("utf-8", "replace"), value.encode("utf-8", "replace")) for name, value in fields]
    ).encode()
    out, counts = transformed("application/x-www-form-urlencoded", data, Masks(detectors=these), pieces=size)
    body = FormBody(plan_of(Masks(detectors=these), DEFAULT_LIMITS))
    assert out == b"&".join(map(body._masked, data.split(b"&")))
    assert counts == body.counts
