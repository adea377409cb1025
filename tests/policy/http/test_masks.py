"""Which masks, detectors and budgets apply to whom, on which way, and that they are worked out once."""

from __future__ import annotations

import pytest

from policy.detection import detection_for
from policy.document import PolicyDocument, load_document
from policy.facts import Subject, Target
from policy.http.budgets import budgets_for
from policy.http.masks import masks_for_http
from policy.masking import MaskingKeyMissing, Partial
from tests.policy.http.requests import API, GUEST, HEAD, OPS

MASKS = """\
masks:
  - {name: mail, json: ["$..email", "$.customer.phone"], method: redact}
  - {name: both, json: ["$.secret"], method: "null", on: [response, request]}
  - {name: asked, json: ["$.note"], method: {partial: {keep_last: 4}}, on: [request], unless: {roles: [guest]}}
  - {name: elsewhere, json: ["$.x"], method: redact, targets: {names: [other]}}
  - {name: cards, detect: [credit_card]}
  - {name: badges, detect: [badge], method: redact, on: [request], unless: {roles: [guest]}}
detectors: {badge: {pattern: "B-[0-9]{4}"}}
budgets:
  - {name: everybody, day: {requests: 10}}
  - {name: guests, roles: [guest], day: {cost_usd: 1.5}, targets: {names: [api]}}
"""


@pytest.fixture
def policy() -> PolicyDocument:
    return load_document(HEAD + MASKS, "p.yaml")


def test_masks_of_each_direction(policy: PolicyDocument) -> None:
    masks = masks_for_http(policy, OPS, API)
    assert [(str(path), mask.name) for path, mask in masks.response.json] == [
        ("$..email", "mail"),
        ("$.customer.phone", "mail"),
        ("$.secret", "both"),
    ]
    assert [(str(path), mask.name) for path, mask in masks.request.json] == [
        ("$.secret", "both"),
        ("$.note", "asked"),
    ]
    assert masks.request.json[1][1].method == Partial(keep_last=4)
    assert not masks.is_empty


def test_detectors_of_each_direction(policy: PolicyDocument) -> None:
    masks = masks_for_http(policy, OPS, API)
    text = "card 4111 1111 1111 1111, badge B-1234"
    assert masks.response.detectors is not None
    assert masks.request.detectors is not None
    assert masks.response.detectors.replace(text)[0] == "card <credit_card>, badge B-1234"
    assert masks.request.detectors.replace(text)[0] == "card 4111 1111 1111 1111, badge [redacted]"
    assert masks.response.detectors.replace("nothing \ud800")[0] == "nothing \ud800"
    stream = masks.response.detectors.stream()
    assert stream.feed(text.encode()) + stream.finish() == b"card <credit_card>, badge B-1234"


def test_unless(policy: PolicyDocument) -> None:
    masks = masks_for_http(policy, GUEST, API)
    assert [mask.name for _, mask in masks.request.json] == ["both"]
    assert masks.request.detectors is None
    assert masks.response.detectors is not None


def test_they_are_worked_out_once(policy: PolicyDocument) -> None:
    assert masks_for_http(policy, OPS, API) is masks_for_http(policy, Subject("other", ("ops",)), API)
    assert masks_for_http(policy, OPS, API) is not masks_for_http(policy, GUEST, API)
    assert detection_for(policy, OPS, API) is detection_for(policy, OPS, API)


def test_detectors_are_for_every_door(policy: PolicyDocument) -> None:
    found = detection_for(policy, OPS, Target("shop", "postgres"))
    assert found is not None
    assert found.replace(b"4111111111111111")[0] == b"<credit_card>"


def test_no_masks() -> None:
    policy = load_document(HEAD, "p.yaml")
    assert masks_for_http(policy, OPS, API).is_empty
    assert detection_for(policy, OPS, API) is None
    assert budgets_for(policy, OPS, API) == ()


def test_budgets(policy: PolicyDocument) -> None:
    assert [budget.name for budget in budgets_for(policy, OPS, API)] == ["everybody"]
    everybody, guests = budgets_for(policy, GUEST, API)
    assert (everybody.day.requests, guests.day.cost_usd) == (10, 1.5)
    assert [budget.name for budget in budgets_for(policy, GUEST, Target("other", "http"))] == ["everybody"]


def test_keys_of_pseudonyms() -> None:
    masks = """\
masks:
  - {name: j, json: [$.a], method: {pseudonym: {key: k}}}
  - {name: d, detect: [email], method: {pseudonym: {key: other}}}
"""
    with pytest.raises(MaskingKeyMissing, match="named k; mask d: there is no masking key named other"):
        load_document(HEAD + masks, "p.yaml", {})
    policy = load_document(HEAD + masks, "p.yaml", {"k": b"0" * 16, "other": b"1" * 16})
    ((_, mask),) = masks_for_http(policy, OPS, API).response.json
    assert mask.apply("x", "text") != "x"
    detectors = masks_for_http(policy, OPS, API).response.detectors
    assert detectors is not None
    assert "@" not in detectors.replace("write to ann@example.com")[0]
