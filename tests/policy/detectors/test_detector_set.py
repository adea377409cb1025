"""Sets of detectors: names, own patterns, what takes the place of a match, and texts made to be slow."""

from __future__ import annotations

from collections import Counter

import pytest

from policy.detectors import NAMES, Detection, DetectorSet, PatternRefused
from policy.masking import Fixed, Mask, Null, Partial, Pseudonym, Redact

EVERYTHING = DetectorSet.of(NAMES)
MAIL = b"to alice@example.com now"


def test_only_what_was_asked_for_is_looked_for() -> None:
    assert DetectorSet.of(["ip"]).replace(MAIL) == (MAIL, Counter())
    assert DetectorSet.of(["email", "ip"]).replace(MAIL) == (b"to <email> now", Counter(email=1))
    assert DetectorSet.of([]).find(MAIL) == []


def test_a_name_that_is_none() -> None:
    with pytest.raises(KeyError, match="e_mail"):
        DetectorSet.of(["e_mail"])


def test_the_writer_gets_the_match_and_its_text() -> None:
    found, counts = EVERYTHING.replace(MAIL, lambda match, text: match.kind.encode() + b"=" + text.upper())
    assert found == b"to email=ALICE@EXAMPLE.COM now"
    assert counts == {"email": 1}


@pytest.mark.parametrize(
    ("pattern", "text", "seen"),
    [
        ("E-[0-9]{6}", "E-123456, E-12345", "<own>, E-12345"),
        (r"\bE-\d+\b", "E-1 xE-2 E-3x", "<own> xE-2 E-3x"),
        ("^start", "start start\nstart", "<own> start\n<own>"),
        ("end$", "end end\nend", "end <own>\n<own>"),
        ("(?i)secret: .*", "x Secret: all of it\nnext", "x <own>\nnext"),
        ("a[^b]*c", "a\nc ac", "a\nc <own>"),  # a line at a time
        ("größe [0-9]+", "die Größe, größe 12", "die Größe, <own>"),
        ("x|y*", "xzy", "<own>z<own>"),
        ("a)|(b", "", ""),
    ],
)
def test_own_patterns(pattern: str, text: str, seen: str) -> None:
    if pattern == "a)|(b":
        with pytest.raises(PatternRefused):
            DetectorSet.of(["own"], {"own": pattern})
        return
    own = DetectorSet.of(["own"], {"own": pattern})
    assert own.replace(text.encode())[0].decode() == seen


def test_own_and_built_in_that_overlap_become_one() -> None:
    both = DetectorSet.of(["email", "own"], {"own": "contact: [a-z]+"})
    assert both.replace(b"contact: alice@example.com")[0] == b"<email>"
    assert DetectorSet.of(["email"], {"own": "x"}).names == ("email",)


def test_bytes_that_are_no_text_do_no_harm() -> None:
    own = DetectorSet.of(["own", "email"], {"own": "E-[0-9]+"})
    assert own.replace(b"\xff\xfeE-12\xff a@b.example\xc3")[0] == b"\xff\xfe<own>\xff <email>\xc3"


@pytest.mark.parametrize(
    ("method", "seen"),
    [
        (None, "<email>"),
        (Redact(), "[redacted]"),
        (Null(), ""),
        (Partial(keep_first=2, keep_last=3), "al************com"),
        (Fixed("x@y"), "x@y"),
    ],
)
def test_methods(method: Redact | None, seen: str) -> None:
    mask = None if method is None else Mask("m", method)
    detection = Detection.of([(("email",), mask)])
    assert detection is not None
    assert detection.replace(MAIL) == (f"to {seen} now".encode(), Counter(email=1))
    assert detection.replace(MAIL.decode()) == (f"to {seen} now", Counter(email=1))


def test_a_pseudonym_is_the_same_for_the_same() -> None:
    detection = Detection.of([(("email",), Mask("m", Pseudonym("k"), key=b"0123456789abcdef"))])
    assert detection is not None
    one, other = detection.replace("a@b.example a@b.example c@d.example")[0].split()[1:]
    assert one.startswith("p_")
    assert detection.replace("a@b.example")[0] == one
    assert one != other


def test_the_most_concealing_method_counts() -> None:
    partial, redact = Mask("p", Partial(keep_last=4)), Mask("r", Redact())
    for masks in ([partial, redact], [redact, partial]):
        detection = Detection.of([(("email",), mask) for mask in masks])
        assert detection is not None
        assert detection.replace(MAIL)[0] == b"to [redacted] now"
    token = Detection.of([(("email",), partial), (("email", "cloud_key"), None)])
    assert token is not None
    assert token.replace(MAIL)[0] == b"to <email> now"
    assert Detection.of([]) is None


@pytest.mark.parametrize(
    "text", ["half \ud83d of a pair alice@example.com", "\ud83dx@example.com", "e\u0301@example.com"]
)
def test_texts_that_utf8_cannot_hold(text: str) -> None:
    detection = Detection.of([(("email",), Mask("m", Partial(keep_first=1)))])
    assert detection is not None
    assert "example.com" not in detection.replace(text)[0]


# Each would take a backtracking engine, or a search that begins again at each byte, for ever. There is no clock here:
# a quadratic search of these megabytes does not end before the whole run is given up.
SLOW = [
    b"a" * 2_000_000 + b"@",
    b"a@" * 500_000,
    b"a@a." * 300_000,
    b"@" + b"a." * 500_000 + b"1",
    b"eyJ" * 400_000,
    b"ey-" * 400_000 + b".aaaaaaaaaaaa",
    b"1:" * 500_000,
    b"::" * 500_000,
    b"4000 " * 60_000,
    b"4" * 1_000_000,
    b"+1" * 300_000,
    b"+1 2" * 200_000,
    b"DE89 " * 60_000,
    b"ssn " * 200_000,
    b"phone " * 200_000,
    b"-----BEGIN PRIVATE KEY-----" * 3_000,
    b"AKIAIOSFODNN7EXAMPLE " * 5_000,
    b"1.2.3." * 200_000,
    b"x" * 3_000_000,
]


@pytest.mark.parametrize("text", SLOW, ids=[text[:12].decode() for text in SLOW])
def test_no_text_is_slow(text: bytes) -> None:
    stream = EVERYTHING.stream()
    out = b"".join(stream.feed(text[at : at + 65536]) for at in range(0, len(text), 65536)) + stream.finish()
    assert len(out) <= len(text) + 100
    EVERYTHING.find(text)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*b", "(.*)(.*)(.*)(.*)[^a]", "(x+x+)+y", r"^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_no_pattern_is_slow(pattern: str) -> None:
    DetectorSet.of(["own"], {"own": pattern}).replace(b"a" * 200_000 + b"x" * 200_000 + b"!\n")
