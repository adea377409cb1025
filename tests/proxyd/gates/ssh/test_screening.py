"""What a channel shows, through detectors: escape sequences between, pieces of any size, and quiet."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.detectors import NAMES, Detection
from policy.masking import Fixed, Mask
from proxyd.gates.ssh.screening import (
    MAX_MARKED_BYTES,
    MAX_STALLED_TICKS,
    MAX_STALLED_TICKS_IN_NUMBERS,
    QUIET_TICKS,
    QUIET_TICKS_IN_NUMBERS,
    ChannelScreens,
    ScreenedStream,
)
from proxyd.gates.ssh.windows import STDERR, STDOUT

DETECTION = Detection.of([(NAMES, None)])
assert DETECTION is not None
RED, PLAIN, ERASE, UP, HOME = b"\x1b[31m", b"\x1b[m", b"\x1b[K", b"\x1b[A", b"\x1b[H"
TITLE = b"\x1b]0;window\x07"
COLOURS = [
    RED,
    PLAIN,
    b"\x1b[01;31m" + ERASE,
    TITLE,
    b"\x1b(B",
    b"\x0f",
    b"\x1b[?25l",
    b"\x1b]8;;http://x/\x1b\\",
]
WORDS = [
    "4111 1111 1111 1111",
    "alice@example.com",
    "word",
    " ",
    "\n",
    "10.0.0.1",
    "E",
    "+1 212 555 0187",
    "$ ",
]


def shown(data: bytes, cuts: list[int]) -> bytes:
    stream = ScreenedStream(DETECTION)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(stream.feed(data[start:stop]) for start, stop in pairwise(places)) + stream.flush()


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"a 4111-1111-" + RED + b"1111" + PLAIN + b"-1111.", b"a <credit_card>" + RED + PLAIN + b"."),
        (RED + b"alice@example.com" + PLAIN + b" x", RED + b"<email>" + PLAIN + b" x"),
        (b"al" + RED + b"ice@exam" + PLAIN + b"ple.com", b"<email>" + RED + PLAIN),
        (b"alice" + UP + b"@example.com", b"alice" + UP + b"@example.com"),
        (b"4111 1111" + HOME + b"1111 1111", b"4111 1111" + HOME + b"1111 1111"),
        (b"\x1b]0;to alice@example.com\x07$ ", b"\x1b]0;to <email>\x07$ "),
        (b"\x1b]0;to alice@example.com\x1b\\$ ", b"\x1b]0;to <email>\x1b\\$ "),
        (b"\x1b]0;to alice@example.com", b"\x1b]0;to <email>"),
        (b"\x1b[31", b"\x1b[31"),
        (b"\x1b", b"\x1b"),
        (b"\x1b[2J\x1b[1;1Hprompt$ \x1b[?2004h", b"\x1b[2J\x1b[1;1Hprompt$ \x1b[?2004h"),
        (b"\x1b7x\x1b8 \x1bM\x1bD", b"\x1b7x\x1b8 \x1bM\x1bD"),
        (b"\0\x07\r\n\x08 \xff\xfe", b"\0\x07\r\n\x08 \xff\xfe"),
        (b"\x1bP" + b"q#0" * 3000 + b"\x1b\\ end", b"\x1bP" + b"q#0" * 3000 + b"\x1b\\ end"),
        (
            b"-----BEGIN PRIVATE KEY-----\n" + RED + b"MIIE\n" + PLAIN + b"-----END PRIVATE KEY-----\nx",
            b"<private_key>" + RED + PLAIN + b"\nx",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_sequences_stay_and_values_go(data: bytes, wanted: bytes, size: int) -> None:
    assert shown(data, list(range(0, len(data), size))) == wanted


@given(
    parts=st.lists(st.one_of(st.sampled_from(WORDS).map(str.encode), st.sampled_from(COLOURS)), max_size=10),
    places=st.lists(st.integers(min_value=0), max_size=4),
    cuts=st.lists(st.integers(min_value=0), max_size=10),
)
@settings(deadline=None, max_examples=300)
def test_colours_anywhere_and_cuts_anywhere(parts: list[bytes], places: list[int], cuts: list[int]) -> None:
    """Without its sequences it is what is shown of the text alone, and each sequence is there, in order."""
    text = b"".join(part for part in parts if part not in COLOURS)
    pieces = [bytes([byte]) for byte in text]
    added = [part for part in parts if part in COLOURS]
    for index, colour in enumerate(added):
        pieces.insert(places[index % len(places)] % (len(pieces) + 1) if places else len(pieces), colour)
    data = b"".join(pieces)
    out = shown(data, cuts)
    sequences = re.compile(b"|".join(re.escape(colour) for colour in COLOURS))
    assert sequences.sub(b"", out) == DETECTION.replace(text)[0]
    assert sequences.findall(out) == sequences.findall(data)
    assert shown(data, []) == out


def test_what_was_found_is_counted_once() -> None:
    screens = ChannelScreens(DETECTION, skips_output=False, is_terminal=False)
    assert screens.feed(STDOUT, b"x alice@example.com y ") == b"x <email> y "
    assert screens.feed(STDERR, b"10.0.0.1\n") == b"<ip>\n"
    assert screens.take_news() == {"email": 1, "ip": 1}
    assert screens.take_news() == {}


def test_output_of_a_transfer_passes_and_its_errors_do_not() -> None:
    screens = ChannelScreens(DETECTION, skips_output=True, is_terminal=False)
    assert screens.feed(STDOUT, b"alice@example.com") == b"alice@example.com"
    assert screens.feed(STDERR, b"alice@example.com\n") == b"<email>\n"
    assert not screens.has_held


def test_quiet_lets_out_what_is_held() -> None:
    screens = ChannelScreens(DETECTION, skips_output=False, is_terminal=False)
    assert screens.feed(STDOUT, b"prompt") == b""
    for _ in range(QUIET_TICKS):
        assert screens.tick() == []
    assert screens.has_held
    assert screens.tick() == [(STDOUT, b"prompt")]
    assert not screens.has_held
    assert screens.tick() == []


def test_more_output_begins_the_quiet_anew() -> None:
    screens = ChannelScreens(DETECTION, skips_output=False, is_terminal=True)
    screens.feed(STDOUT, b"ali")
    assert screens.tick() == []
    assert screens.feed(STDOUT, b"ce@") == b""
    assert screens.tick() == []
    assert screens.feed(STDOUT, b"example.com\n") == b"<email>\n"


def test_a_row_of_dots_is_shown_while_it_goes_on() -> None:
    screens = ChannelScreens(DETECTION, skips_output=False, is_terminal=True)
    shown = b""
    for _ in range(2 * MAX_STALLED_TICKS + 2):
        shown += screens.feed(STDOUT, b".")
        shown += b"".join(data for _, data in screens.tick())
    assert len(shown) >= MAX_STALLED_TICKS


def test_sequences_without_end_are_not_kept_without_end() -> None:
    stream = ScreenedStream(DETECTION)
    sent = len(stream.feed(b"word"))
    for _ in range(100):
        sent += len(stream.feed(RED * 1000))
    assert 4 + 100_000 * len(RED) - sent <= MAX_MARKED_BYTES + 1000 * len(RED)
    assert sent + len(stream.flush()) == 4 + 100_000 * len(RED)


def test_the_streams_wait_apart() -> None:
    screens = ChannelScreens(DETECTION, skips_output=False, is_terminal=True)
    screens.feed(STDOUT, b"one")
    screens.tick()
    screens.feed(STDERR, b"two")
    assert screens.tick() == [(STDOUT, b"one")]
    assert screens.flush() == [(STDERR, b"two")]


def test_a_stand_in_longer_than_the_value_is_no_trouble() -> None:
    detection = Detection.of([(("ip",), Mask("m", Fixed("x" * 1000)))])
    assert detection is not None
    stream = ScreenedStream(detection)
    assert len(stream.feed(b"::1 " * 1000)) >= 999_000


def slowly(text: bytes, ticks: int, *, is_terminal: bool = True) -> bytes:
    """What is shown of a text that is printed byte by byte, with so many ticks between."""
    screens = ChannelScreens(DETECTION, skips_output=False, is_terminal=is_terminal)
    out = b""
    for at in range(len(text)):
        out += screens.feed(STDOUT, text[at : at + 1])
        for _ in range(ticks):
            out += b"".join(data for _, data in screens.tick())
    return out + b"".join(data for _, data in screens.flush())


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"card 4111 1111 1111 1111 x", b"card 4111 111<credit_card> x"),
        (b"card 4111111111111111\r\n", b"card 4111111<credit_card>\r\n"),
        (b"ssn 523-45-6789.", b"ssn 523-4<us_ssn>."),
        (b"call +1 212 555 0187\n", b"call +1 212 5<phone>\n"),
        (b"to DE89370400440532013000 now", b"to DE893704004<iban> now"),
    ],
)
def test_a_number_that_is_printed_slowly_shows_its_beginning_alone(
    text: bytes, wanted: bytes, is_terminal: bool
) -> None:
    assert slowly(text, 12, is_terminal=is_terminal) == wanted


@pytest.mark.parametrize(
    "text", [b"total 1234567890 files", b"kill 12345\n", b"alice@exam", b"4111", b"2026-11"]
)
def test_what_is_no_such_number_is_shown_as_soon_as_before(text: bytes) -> None:
    screens = ChannelScreens(DETECTION, skips_output=False, is_terminal=True)
    shown_bytes = screens.feed(STDOUT, text)
    for _ in range(2):
        shown_bytes += b"".join(data for _, data in screens.tick())
    assert shown_bytes == text


def test_a_number_that_does_not_go_on_is_shown_in_the_end() -> None:
    screens = ChannelScreens(DETECTION, skips_output=False, is_terminal=True)
    assert screens.feed(STDOUT, b"4111 1111 1111") == b""
    for _ in range(QUIET_TICKS_IN_NUMBERS):
        assert screens.tick() == []
    assert screens.tick() == [(STDOUT, b"4111 1111 1111")]
    assert screens.feed(STDOUT, b" 1111\n") == b"<credit_card>\n"


def test_what_goes_on_like_a_number_for_ever_is_shown_in_the_end() -> None:
    out, ticks = b"", 0
    screens = ChannelScreens(DETECTION, skips_output=False, is_terminal=True)
    while not out:
        out = screens.feed(STDOUT, b"4- " if ticks % 2 else b"4")
        out += b"".join(data for _, data in screens.tick())
        ticks += 1
        assert ticks <= MAX_STALLED_TICKS_IN_NUMBERS + 2
