"""The key `detectors` of a policy, and the names that masks give: every fault with its remedy."""

from __future__ import annotations

import pytest

from policy.detection import detection_for
from policy.document import load_document
from policy.facts import Subject, Target
from policy.faults import DocumentError

HEAD = """\
version: 1
roles:
  everyone: {groups: [staff]}
  trusted: {groups: [security]}
access:
  - {name: all, roles: [everyone, trusted], targets: {names: ["*"]}, logins: ["*"]}
"""


def faults(text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        load_document(HEAD + text, "policy.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("email: {pattern: x}", ["`email` is a detector of the gateway's own", "company_email"]),
        ("cloud_key: {pattern: x}", ["`cloud_key` is a detector of the gateway's own"]),
        ("Employee: {pattern: x}", ["`Employee` cannot be the name", "small letters"]),
        ("own: {pattern: '('}", ["the pattern cannot be used", "missing )", "RE2"]),
        ("own: {pattern: 'a)|(b'}", ["the pattern cannot be used"]),
        ("own: {pattern: '(?=a)b'}", ["the pattern cannot be used", "no look-around"]),
        ("own: {pattern: '(a)\\1'}", ["the pattern cannot be used"]),
        ("own: {pattern: '[0-9]*'}", ["matches the empty text", "obligatory"]),
        ("own: {pattern: 'a|b*'}", ["matches the empty text"]),
        ("own: {pattern: '^'}", ["matches the empty text"]),
        ("own: {pattern: '((a{100}){100}){100}'}", ["the pattern cannot be used"]),
        ("own: {pattern: '\\pL{900}\\pN{900}'}", ["the pattern cannot be used"]),
        ("own: {pattern: '[a-z]{1,900}x[a-z]{1,900}y'}", ["the pattern is too large", "repetitions"]),
        ("own: {pattern: 'a\\nb'}", ["one line at a time"]),
        ("own: {patterns: x}", ["pattern"]),
        ("own: {pattern: ''}", ["pattern"]),
    ],
)
def test_faults_of_own_detectors(entry: str, told: list[str]) -> None:
    text = faults(f"detectors:\n  {entry}\nmasks:\n  - {{name: m, detect: [own]}}\n")
    assert all(part in text for part in told), text


def test_patterns_that_are_too_large_together() -> None:
    entries = "".join(f"  own{n}: {{pattern: '[a-z]{{200}}{n}'}}\n" for n in range(30))
    text = faults(f"detectors:\n{entries}masks:\n  - {{name: m, detect: [own1]}}\n")
    assert "the patterns are too large together" in text


def test_a_backslash_before_an_n_is_no_end_of_a_line() -> None:
    document = load_document(
        HEAD + "detectors:\n  share: {pattern: '\\\\\\\\n[a-z]+'}\nmasks:\n  - {name: m, detect: [share]}\n",
        "policy.yaml",
    )
    detection = detection_for(document, Subject("x", ("staff",)), Target("t", "ssh"))
    assert detection is not None
    assert detection.replace("at \\\\nas now")[0] == "at <share> now"


def test_a_name_that_is_no_detector() -> None:
    text = faults("masks:\n  - {name: m, detect: [credit_cards]}\n")
    assert "`credit_cards` is not a detector" in text
    assert "did you mean `credit_card`" in text


def test_what_applies_to_whom() -> None:
    document = load_document(
        HEAD
        + """
detectors:
  badge: {pattern: "B-[0-9]+"}
masks:
  - {name: numbers, detect: [badge], method: {partial: {keep_last: 1}}, on: [response, request]}
  - {name: contact, detect: [email], unless: {roles: [trusted]}}
  - {name: only-ssh, detect: [ip], targets: {protocol: ssh}}
""",
        "policy.yaml",
    )
    text = "B-12 a@b.example 10.0.0.1"
    seen = {}
    for group in ("staff", "security"):
        for protocol in ("postgres", "ssh"):
            for direction in ("response", "request"):
                detection = detection_for(document, Subject("x", (group,)), Target("t", protocol), direction)  # type: ignore[arg-type]
                assert detection is not None
                seen[group, protocol, direction] = detection.replace(text)[0]
    assert seen["staff", "postgres", "response"] == "***2 <email> 10.0.0.1"
    assert seen["staff", "ssh", "response"] == "***2 <email> <ip>"
    assert seen["security", "postgres", "response"] == "***2 a@b.example 10.0.0.1"
    assert seen["staff", "postgres", "request"] == "***2 a@b.example 10.0.0.1"
