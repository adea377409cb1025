"""What a text must be before anybody reads it: its length, its bytes, its characters, its nesting.

Shells work on bytes and in the character set of the target. What they would not all take for the same characters is
named here, so that the readers need think of plain UTF-8 only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TEXT_BYTES = 128 * 1024
# Brackets open at once, those in quotes included. Ordinary texts stay under ten.
MAX_NESTING = 200

_CONTROLS = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")
# In GBK, Big5 or Shift JIS the last byte of a character may be one of these, and then it is no sign of the shell's.
_CHARSET_DEPENDENT = re.compile(rb"[\x80-\xff][@\[\\\]^`{|}~]")
_BRACKET = re.compile(rb"[(){}]")


@dataclass(frozen=True, slots=True)
class Screened:
    """What is wrong with a text. One that is too large is not read at all."""

    reasons: tuple[str, ...] = ()
    is_too_large: bool = False


def screen(data: bytes) -> Screened:
    """Look at a text before it is read."""
    if len(data) > MAX_TEXT_BYTES:
        return Screened((f"it is longer than {MAX_TEXT_BYTES} bytes",), is_too_large=True)
    if _is_too_nested(data):
        return Screened((f"it opens more than {MAX_NESTING} brackets in one another",), is_too_large=True)
    reasons = []
    if not _is_utf8(data):
        reasons.append("it is not UTF-8")
    if _CONTROLS.search(data) is not None:
        reasons.append("it holds control characters")
    if not data.isascii() and _CHARSET_DEPENDENT.search(data) is not None:
        reasons.append("it means something else in other character sets of the target")
    if not data.strip():
        reasons.append("it is empty, for which some servers start a shell")
    return Screened(tuple(reasons))


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_too_nested(data: bytes) -> bool:
    """A cheap upper bound of the nesting, blind to quotes; a closer without an opener counts for nothing."""
    if data.count(b"(") + data.count(b"{") <= MAX_NESTING:
        return False
    depth = 0
    for match in _BRACKET.finditer(data):
        if match.group() in b"({":
            depth += 1
            if depth > MAX_NESTING:
                return True
        elif depth:
            depth -= 1
    return False
