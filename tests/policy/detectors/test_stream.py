"""Streams through detectors: the same for every way to cut them, little held, nothing held too long."""

# ruff: noqa: RUF001  digits of other scripts are the point

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy.detectors import NAMES, DetectorSet
from policy.detectors.secrets import MAX_PRIVATE_KEY
from policy.detectors.stream import MAX_HELD
from tests.policy.detectors.test_kinds import JWT, PEM, TABLE, marked

EVERYTHING = DetectorSet.of(NAMES)
WITH_OWN = DetectorSet.of([*NAMES, "badge"], {"badge": "^B-[0-9]+$|badge [a-z ]{3,12}!"})
LONG_KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEabc/+0123456789\n" * 2000
VALUES = [marked(text)[0].decode() for _, text in TABLE]
FRAGMENTS = [
    "\n",
    " ",
    "x",
    "1",
    "@",
    ".",
    "-----BEGIN",
    "123 45 6789",
    "020 7946 0958",
    " ab",
    " a1 ",
    " 7",
    " PRIVATE KEY-----",
    "ssn",
    "+1",
    "DE89",
    "\\",
    "B-12",
    "badge abc!",
    "é",
    "\u00a0",
    "\u2011",
    "\u200b",
    "４１１１",
    "٤",
    "1111",
    "ありがとう",
]

texts = st.lists(
    st.one_of(st.sampled_from(VALUES), st.sampled_from(FRAGMENTS), st.text(max_size=8)), max_size=8
).map(lambda parts: "".join(parts).encode("utf-8", "replace"))


def streamed(detectors: DetectorSet, data: bytes, cuts: list[int]) -> tuple[bytes, dict[str, int]]:
    stream = detectors.stream()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    out = b"".join(stream.feed(data[start:stop]) for start, stop in pairwise(places))
    return out + stream.finish(), dict(stream.counts)


@pytest.mark.parametrize("detectors", [EVERYTHING, WITH_OWN], ids=["built-in", "own"])
@given(data=texts, cuts=st.lists(st.integers(min_value=0), max_size=12))
@example(data=b"4111 1111 1111 1111 1234", cuts=[19, 20])
@example(data=b"ssn: 123456789 x", cuts=[8])
@example(data=b"AKIAIOSFODNN7EXAMPLE,wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", cuts=[21, 30])
@settings(deadline=None, max_examples=300)
def test_every_way_to_cut_gives_the_same(detectors: DetectorSet, data: bytes, cuts: list[int]) -> None:
    out, counts = detectors.replace(data)
    assert streamed(detectors, data, cuts) == (out, dict(counts))


@pytest.mark.parametrize(("kind", "text"), TABLE, ids=range(len(TABLE)))
def test_byte_by_byte(kind: str, text: str) -> None:
    data = b"begin " + marked(text)[0] + b" end\nlast"
    out, counts = EVERYTHING.replace(data)
    assert streamed(EVERYTHING, data, list(range(len(data)))) == (out, dict(counts))


def test_only_what_may_be_a_beginning_is_held() -> None:
    stream = EVERYTHING.stream()
    assert stream.feed(b"plain words, and then some. ") == b"plain words, and then some. "
    assert stream.held_bytes == 0
    assert stream.feed(b"user@host:~$ ") == b"user@host:~$ "
    assert stream.feed(b"mail ali") == b"mail "
    assert stream.held_bytes == 3
    assert stream.feed(b"ce@example.com\n") == b"<email>\n"
    assert stream.held_bytes == 0


def test_a_flush_judges_what_is_there() -> None:
    stream = EVERYTHING.stream()
    assert stream.feed(b"to alice@example.com") == b"to "
    assert stream.flush() == b"<email>"
    assert stream.flush() == b""
    # What goes on behind a flush belongs to it still: it is not shown, and not counted twice.
    assert stream.feed(b"pany now") + stream.finish() == b" now"
    assert stream.counts == {"email": 1}


def test_what_continues_a_value_that_was_cut_by_a_flush_is_hidden() -> None:
    stream = EVERYTHING.stream()
    assert stream.feed(b"4111 1111 ") == b""
    assert stream.flush() == b"4111 1111 "
    assert stream.feed(b"1111 1111 end") + stream.finish() == b"<credit_card> end"
    assert stream.counts == {"credit_card": 1}


def test_a_flush_behind_a_whole_key_does_not_swallow_what_follows() -> None:
    stream = EVERYTHING.stream()
    assert stream.feed(PEM.encode()) + stream.flush() == b"<private_key>"
    assert stream.feed(b"\nuser left\n") + stream.finish() == b"\nuser left\n"


def test_a_flush_within_a_key_hides_its_rest() -> None:
    stream = EVERYTHING.stream()
    half = len(PEM) // 2
    assert stream.feed(PEM[:half].encode()) + stream.flush() == b"<private_key>"
    assert b"abc" not in stream.feed(PEM[half:].encode() + b"\n$ ls\n")
    assert stream.counts == {"private_key": 1}


@pytest.mark.parametrize("size", [1, 7, 1000, 4096, 100_000])
def test_a_key_longer_than_what_is_held_is_hidden_to_its_end(size: int) -> None:
    data = b"a " + LONG_KEY.encode() + b"-----END RSA PRIVATE KEY-----\nplain $text"
    cuts = list(range(0, len(data), size))
    out, counts = streamed(EVERYTHING, data, cuts)
    assert out.startswith(b"a <private_key>")
    assert b"MIIE" not in out
    assert out.endswith(b"plain $text")
    assert counts == {"private_key": 1}


@pytest.mark.parametrize("size", [1, 100, 4096, 1_000_000])
def test_a_token_of_any_length_is_hidden(size: int) -> None:
    header, payload, signature = JWT.split(".")
    token = f"{header}.{payload * 500}.{signature}"
    data = f"x {token} y".encode()
    assert streamed(EVERYTHING, data, list(range(0, len(data), size))) == (b"x <jwt> y", {"jwt": 1})


@pytest.mark.parametrize(
    ("piece", "bound"),
    [
        (b"x" * 1000, MAX_HELD),
        (b"1 " * 500, MAX_HELD),
        (b"-----BEGIN RSA PRIVATE KEY-----\n", MAX_PRIVATE_KEY),
        (b"eyJhbGciOiJIUzI1NiJ9", MAX_HELD),
        (b"MIIE\n", MAX_HELD),
    ],
)
def test_what_is_held_is_bounded(piece: bytes, bound: int) -> None:
    stream = WITH_OWN.stream()
    sent = fed = 0
    for _ in range(200):
        sent += len(stream.feed(piece))
        fed += len(piece)
        assert stream.held_bytes <= bound + len(piece)
    stream.finish()
    assert stream.held_bytes == 0


def test_random_bytes_pass_as_they_are() -> None:
    data = random.Random(5).randbytes(300_000)  # noqa: S311  the same each time
    stream = EVERYTHING.stream()
    out = b"".join(stream.feed(data[at : at + 4000]) for at in range(0, len(data), 4000)) + stream.finish()
    assert out == data
