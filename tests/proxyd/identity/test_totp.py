"""One-time codes: the RFC's vectors, the window, replay, and the waiting time after wrong ones."""

from __future__ import annotations

import pytest

from proxyd.credentials import Secret
from proxyd.identity.totp import (
    FIRST_WAIT_S,
    FREE_FAILURES,
    LONGEST_WAIT_S,
    STEP_S,
    TotpGuard,
    code_at,
    decode_secret,
)

KEY = b"12345678901234567890"
NOW = 1_000_000_015.0  # in the midst of a step
STEP = int(NOW) // STEP_S


# RFC 6238, appendix B, the rows of SHA-1: time, code of eight digits.
@pytest.mark.parametrize(
    ("time_s", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_rfc_6238(time_s: int, code: str) -> None:
    assert code_at(KEY, time_s // STEP_S, digits=8) == code
    assert code_at(KEY, time_s // STEP_S) == code[2:]
    assert TotpGuard().accept("alice", KEY, code[2:], time_s)


# RFC 4226, appendix D.
@pytest.mark.parametrize(
    ("counter", "code"),
    [
        (0, "755224"),
        (1, "287082"),
        (2, "359152"),
        (3, "969429"),
        (4, "338314"),
        (5, "254676"),
        (6, "287922"),
        (7, "162583"),
        (8, "399871"),
        (9, "520489"),
    ],
)
def test_rfc_4226(counter: int, code: str) -> None:
    assert code_at(KEY, counter) == code


@pytest.mark.parametrize(("offset", "is_taken"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_one_step_each_way(offset: int, is_taken: bool) -> None:
    assert TotpGuard().accept("alice", KEY, code_at(KEY, STEP + offset), NOW) is is_taken


@pytest.mark.parametrize(
    "code",
    [
        "",
        "12345",
        "1234567",
        "abcdef",
        "١٢٣٤٥٦",
        "-12345",
        "+12345",
        "0x1234",
        "1e5000",
        "\0" * 6,
        "\ud800" * 6,
    ],
)
def test_what_is_no_code(code: str) -> None:
    assert not TotpGuard().accept("alice", KEY, code, NOW)


def test_blanks_in_a_code_do_not_matter() -> None:
    code = code_at(KEY, STEP)
    assert TotpGuard().accept("alice", KEY, f" {code[:3]} {code[3:]}\n", NOW)


def test_a_code_counts_once() -> None:
    guard = TotpGuard()
    code = code_at(KEY, STEP)
    assert guard.accept("alice", KEY, code, NOW)
    assert not guard.accept("alice", KEY, code, NOW)
    assert not guard.accept("alice", KEY, code, NOW + STEP_S)


def test_an_older_code_does_not_count_after_a_newer_one() -> None:
    guard = TotpGuard()
    assert guard.accept("alice", KEY, code_at(KEY, STEP), NOW)
    assert not guard.accept("alice", KEY, code_at(KEY, STEP - 1), NOW)
    assert guard.accept("alice", KEY, code_at(KEY, STEP + 1), NOW)


def test_people_do_not_share_their_codes_or_their_failures() -> None:
    guard = TotpGuard()
    for _ in range(FREE_FAILURES):
        assert not guard.accept("alice", KEY, "no", NOW)
    assert guard.wait_s("alice", NOW) > 0
    assert guard.wait_s("bob", NOW) == 0
    assert guard.accept("bob", KEY, code_at(KEY, STEP), NOW)


def test_after_five_wrong_codes_no_code_is_looked_at() -> None:
    guard = TotpGuard()
    for _ in range(FREE_FAILURES - 1):
        guard.accept("alice", KEY, "000000", NOW)
    assert guard.wait_s("alice", NOW) == 0
    guard.accept("alice", KEY, "000000", NOW)
    assert guard.wait_s("alice", NOW) == FIRST_WAIT_S
    assert not guard.accept("alice", KEY, code_at(KEY, STEP), NOW)
    later = NOW + FIRST_WAIT_S
    assert guard.wait_s("alice", later) == 0
    assert guard.accept("alice", KEY, code_at(KEY, int(later) // STEP_S), later)


def test_the_wait_doubles_up_to_an_hour_and_looking_early_does_not_lengthen_it() -> None:
    guard = TotpGuard()
    now, waits = NOW, []
    for _ in range(40):
        guard.accept("alice", KEY, "wrong", now)
        waits.append(guard.wait_s("alice", now))
        guard.accept("alice", KEY, "wrong", now)  # not looked at
        assert guard.wait_s("alice", now) == waits[-1]
        now += waits[-1]
    # Looking is free until the fifth wrong one; there were two each time up to then.
    assert [wait for wait in waits if wait][:4] == [60, 120, 240, 480]
    assert max(waits) == LONGEST_WAIT_S
    assert waits[-1] == LONGEST_WAIT_S


def test_a_right_code_forgives() -> None:
    guard = TotpGuard()
    for _ in range(FREE_FAILURES - 1):
        guard.accept("alice", KEY, "000000", NOW)
    assert guard.accept("alice", KEY, code_at(KEY, STEP), NOW)
    guard.accept("alice", KEY, "000000", NOW)
    assert guard.wait_s("alice", NOW) == 0


@pytest.mark.parametrize(
    "text",
    [
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
        "GEZD-GNBV-GY3T-QOJQ-GEZD-GNBV-GY3T-QOJQ",
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ====\n",
    ],
)
def test_secrets_as_authenticators_show_them(text: str) -> None:
    assert decode_secret(Secret(text)) == KEY


@pytest.mark.parametrize(
    "text", ["", "GEZDGNBV", "01890189018901890189018901890189", "not base32 at all!", "é" * 32]
)
def test_secrets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"base32|bytes") as caught:
        decode_secret(Secret(text))
    assert text not in str(caught.value) or not text
