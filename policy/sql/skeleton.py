"""Texts that differ only in plain integers: their common form, so that one analysis may serve them all."""

from __future__ import annotations

import re

# An integer that is a token by itself and fits four bytes: no part of a name, a float or a parameter.
_INTEGER = re.compile(r"(?<![\w.$])\d{1,9}(?![\w.$])")
_HIDES_TOKENS = re.compile(r"['\"\\$\x00]|--|/\*")
LONGEST_TEXT_CHARS = 2_000
PLACE = "\x00"


def skeleton(text: str) -> str | None:
    """`text` with every plain integer replaced by a mark; None when it holds none or could hide one."""
    if not _is_plain(text):
        return None
    marked, count = _INTEGER.subn(PLACE, text)
    return marked if count else None


def integer_offsets(text: str) -> set[int] | None:
    """Where the integers stand that `skeleton` replaces; None where it gives None."""
    if not _is_plain(text):
        return None
    offsets = {match.start() for match in _INTEGER.finditer(text)}
    return offsets or None


def _is_plain(text: str) -> bool:
    return len(text) <= LONGEST_TEXT_CHARS and text.isascii() and _HIDES_TOKENS.search(text) is None
