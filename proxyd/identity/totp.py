"""One-time codes from a clock (RFC 6238: HMAC-SHA-1, six digits, steps of thirty seconds), and guarding them.

Owns: computing codes, the window of steps that is accepted, that no code is accepted twice, and the waiting time after
wrong ones. Must never: keep or show a secret, or read a clock (the time is passed in). One `TotpGuard` serves all
listeners of the process, since a person is one person at each of them.

Theory of operation. A code lives ninety seconds (the step before, this one, the next), so a guess hits with three in
a million. After five wrong codes in a row a person has to wait a minute, and twice as long after each further one, up
to an hour: some twenty-four guesses a day, which hit once in some forty years. The accepted step only moves forward,
so a code that was used, or is older than one that was, is never accepted again.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from dataclasses import dataclass
from typing import Final

from proxyd.credentials import Secret

STEP_S: Final = 30
DIGITS: Final = 6
SKEW_STEPS: Final = 1
MIN_SECRET_BYTES: Final = 16  # RFC 4226 section 4, R6

FREE_FAILURES: Final = 5
FIRST_WAIT_S: Final = 60.0
LONGEST_WAIT_S: Final = 3600.0


def decode_secret(secret: Secret) -> bytes:
    """The key that `secret` holds in base32, as authenticators show it (blanks, case and padding do not matter).

    Raises ValueError, which never holds the value.
    """
    text = "".join(secret.reveal().split()).replace("-", "").rstrip("=").upper()
    try:
        key = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise ValueError("it is not base32 (letters A to Z, digits 2 to 7)") from None
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError(f"it has {len(key)} bytes; {MIN_SECRET_BYTES} are the least, 20 are usual")
    return key


def code_at(key: bytes, step: int, digits: int = DIGITS) -> str:
    """RFC 4226 section 5.3."""
    digest = hmac.digest(key, struct.pack(">Q", step), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**digits:0{digits}d}"


@dataclass(slots=True)
class _History:
    """Of one person: the last step whose code was accepted, and the wrong codes since."""

    last_step: int = -1
    failures: int = 0
    blocked_until: float = 0.0


class TotpGuard:
    """What is remembered of everybody's codes. It knows only people of the configuration, and is never emptied."""

    def __init__(self) -> None:
        self._histories: dict[str, _History] = {}

    def wait_s(self, person: str, now: float) -> float:
        """How long no code of `person` is looked at; 0 when one is."""
        history = self._histories.get(person)
        return 0.0 if history is None else max(0.0, history.blocked_until - now)

    def accept(self, person: str, key: bytes, code: str, now: float) -> bool:
        """Whether `code` is one of `person` at `now`, not used before. While they have to wait, no code is."""
        history = self._histories.setdefault(person, _History())
        if history.blocked_until > now:
            return False
        step = _matching_step(key, code, int(now) // STEP_S)
        if step is None or step <= history.last_step:
            self._count_failure(history, now)
            return False
        history.last_step = step
        history.failures = 0
        return True

    @staticmethod
    def _count_failure(history: _History, now: float) -> None:
        history.failures += 1
        doublings = min(history.failures - FREE_FAILURES, 16)
        if doublings >= 0:
            history.blocked_until = now + min(FIRST_WAIT_S * 2**doublings, LONGEST_WAIT_S)


def _matching_step(key: bytes, code: str, current: int) -> int | None:
    """Every step of the window is computed and compared, so that time does not tell which of them came near."""
    given = "".join(code.split())
    is_code = len(given) == DIGITS and given.isascii() and given.isdigit()
    matching = None
    for step in range(max(0, current - SKEW_STEPS), current + SKEW_STEPS + 1):
        is_same = hmac.compare_digest(code_at(key, step).encode("ascii"), given.encode("utf-8", "replace"))
        if is_same and is_code:
            matching = step
    return matching
