"""Bodies under the detectors that a policy really has, in every form and in any pieces."""

from __future__ import annotations

import json
from urllib.parse import quote_plus

import pytest

from policy.detectors.masks import Detection
from policy.http.masks import BodyDetectors
from policy.masking import Mask, Partial
from tests.proxyd.gates.http.bodies.body_masks import Masks, transformed

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEAexample\nexample==\n-----END RSA PRIVATE KEY-----\n"
VALUES = {
    "card": "4111 1111 1111 1111",
    "contact": "jo.public@example.org",
    "ssn": "523-45-6789",
    "staff": "E-123456",
    "key": KEY,
}
SHOWN = {"card": "<credit_card>", "contact": "<email>", "ssn": "<us_ssn>", "staff": "<badge>"}


def detects() -> Masks:
    detection = Detection.of(
        [(("credit_card", "email", "us_ssn", "phone", "private_key", "badge"), None)],
        {"badge": "^E-[0-9]{6}$"},
    )
    assert detection is not None
    return Masks(detectors=BodyDetectors(detection))


THESE = detects()


def check(shown: dict[str, str]) -> None:
    assert {name: shown[name] for name in SHOWN} == SHOWN
    assert "private_key" in shown["key"] and "MII" not in shown["key"]


@pytest.mark.parametrize("pieces", [None, 1, 13, 100])
@pytest.mark.parametrize("indent", [None, 2])
def test_json(pieces: int | None, indent: int | None) -> None:
    records = [{"id": number, **VALUES, "note": "nothing to see", "n": 1.5} for number in range(20)]
    out, counts = transformed(
        "application/json", json.dumps(records, indent=indent).encode(), THESE, pieces=pieces
    )
    for record in json.loads(out):
        check(record)
    assert counts["credit_card"] == counts["badge"] == counts["private_key"] == 20


@pytest.mark.parametrize("pieces", [None, 1, 13])
def test_numbers_and_names_of_members(pieces: int | None) -> None:
    body = {
        "card": 4111111111111111,
        "ssn": 523456789,
        "order": 523456789,
        "phone_number": "4155552671",
        "at": 1700000000,
    }
    out, _ = transformed("application/json", json.dumps([body] * 3).encode(), THESE, pieces=pieces)
    expected = {**body, "card": "<credit_card>", "ssn": "<us_ssn>", "phone_number": "<phone>"}
    assert json.loads(out) == [expected] * 3


@pytest.mark.parametrize("pieces", [None, 1, 13])
def test_other_forms(pieces: int | None) -> None:
    form = "&".join(f"{name}={quote_plus(value)}" for name, value in VALUES.items()).encode()
    out = transformed("application/x-www-form-urlencoded", form, THESE, pieces=pieces)[0].decode()
    for name, shown in SHOWN.items():
        assert f"{name}={quote_plus(shown)}" in out
    assert "MII" not in out

    simple = {name: value for name, value in VALUES.items() if name != "key"}
    table = (",".join(simple) + "\n" + ",".join(simple.values()) + "\n").encode()
    out = transformed("text/csv", table, THESE, pieces=pieces)[0].decode()
    assert out == ",".join(simple) + "\n" + ",".join(SHOWN.values()) + "\n"

    events = "".join(
        f"data: {json.dumps({name: value})}\n\ndata: {value.splitlines()[0]}\n\n"
        for name, value in simple.items()
    )
    out = transformed("text/event-stream", events.encode(), THESE, pieces=pieces)[0].decode()
    assert not [value for value in simple.values() if value in out]

    text = "\n".join(VALUES.values()).encode()
    out = transformed("text/plain", text, THESE, pieces=pieces)[0].decode()
    assert "MII" not in out and not [value for value in simple.values() if value in out]


def test_other_methods_than_the_name_of_the_kind() -> None:
    detection = Detection.of([(("credit_card",), Mask("m", Partial(keep_last=4)))])
    assert detection is not None
    out, _ = transformed(
        "application/json", b'{"a":"4111111111111111"}', Masks(detectors=BodyDetectors(detection))
    )
    assert out == b'{"a":"************1111"}'
