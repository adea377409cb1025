"""Texts of clients as they may stand in reasons: short, and without characters that a terminal would obey.

Called by the wordings of the doors and by `proxyd explain`.
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_SHOWN = 120


def shown(text: str) -> str:
    """`text` cut to LONGEST_SHOWN characters, with everything that is not printable escaped."""
    cut = text[:LONGEST_SHOWN]
    safe = cut if cut.isprintable() else "".join(map(_escaped, cut))
    return safe if len(text) <= LONGEST_SHOWN else f"{safe}..."


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def listed(texts: Iterable[str], most: int = 8) -> str:
    """ "`a`, `b` and 3 more": texts as a reason names them."""
    every = [f"`{shown(text)}`" for text in texts]
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")
