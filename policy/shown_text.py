"""Texts of clients as they may stand in reasons: short, and without characters that a terminal would obey.

Called by the wordings of the doors and by `proxyd explain`.
"""

from __future__ import annotations

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
