"""Bodies of requests that are read whole before they are judged: how many bytes of them are held, and for whom.

Owns the bound for all requests together, and that no one subject takes all of it. Asked by `http_judging`; one for
each gateway.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

MAX_HELD_BYTES: Final = 256 << 20
# More than the longest body that may be judged, so that a subject who asks alone gets through.
MAX_HELD_BYTES_OF_SUBJECT: Final = MAX_HELD_BYTES // 2


class HeldBodies:
    __slots__ = ("_of_subjects", "_total")

    def __init__(self) -> None:
        self._total = 0
        self._of_subjects: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self._total

    def take(self, subject: str, size: int) -> bool:
        """Hold `size` bytes more. False when that is too much, for the subject or for all; nothing is held then."""
        if self._total + size > MAX_HELD_BYTES:
            return False
        if self._of_subjects[subject] + size > MAX_HELD_BYTES_OF_SUBJECT:
            return False
        self._total += size
        self._of_subjects[subject] += size
        return True

    def give_back(self, subject: str, size: int) -> None:
        self._total -= size
        self._of_subjects[subject] -= size
        if self._of_subjects[subject] <= 0:
            del self._of_subjects[subject]
