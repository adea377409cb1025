"""Text patterns that are asked twice: is this what was meant, and could a target take it for what was meant?

Covering (allow) compares text as it stands. Touching (deny, hold) compares it folded: case, compatibility forms of
characters and ligatures do not count, because many targets do not count them. Used by everything in
`policy.http_rules`.
"""

from __future__ import annotations

import re
import unicodedata

from policy.patterns import Glob

_STARS = re.compile(r"\*+")


def fold(text: str) -> str:
    """`text` as the most lenient target reads it."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text.casefold()).casefold()


def folded_glob(text: str) -> Glob:
    return Glob(text, pieces=[fold(piece) for piece in _STARS.split(text)])


class TextPattern:
    """A glob over one text: exact for covering, folded for touching."""

    __slots__ = ("exact", "folded", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.exact = Glob(text)
        self.folded = folded_glob(text)

    def touches(self, folded: str) -> bool:
        """Could the text that `folded` was made of be one that the pattern means?"""
        return self.folded.matches(folded)

    def covers(self, text: str) -> bool:
        return self.exact.matches(text)

    def is_wider(self, other: TextPattern) -> bool:
        """Does it touch whatever `other` covers? May say False where it is hard to tell."""
        return self.exact.covers(other.exact)
