"""Text that may go to a terminal: recorded data cannot drive it, and tables stay within bounds.

Pure. A tape holds whatever clients and targets sent, escape sequences included, and the auditor's
terminal would obey them. So everything from a tape passes `plain` or `plain_lines` on its way out:
whatever is not a printable character (controls, C1 controls, bidirectional overrides, line and paragraph
separators, surrogates) is shown as an escape.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

MAX_COLUMN_WIDTH: Final = 80
MAX_COLUMNS: Final = 200
ELLIPSIS: Final = "..."

_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SUSPECT: Final = re.compile(r"[^\x20-\x7e]")


def plain(text: str) -> str:
    """One line without anything a terminal would obey."""
    if text.isascii() and text.isprintable():
        return text
    return _SUSPECT.sub(_escape, text)


def plain_lines(text: str) -> list[str]:
    """The lines of a text that a person laid out (a statement): newlines part them, tabs are four spaces."""
    return [plain(line.expandtabs(4)) for line in text.replace("\r\n", "\n").split("\n")]


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters; what was cut off is said to be so."""
    return text if len(text) <= limit else text[: max(0, limit - len(ELLIPSIS))] + ELLIPSIS


def display_width(text: str) -> int:
    """Terminal cells that a plain text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells(character) for character in text)


def table(
    names: Sequence[str], rows: Sequence[Sequence[str | None]], right_aligned: Sequence[bool]
) -> list[str]:
    """Lines of an aligned table as psql draws it; None is shown as nothing. Wide values are cut."""
    shown = min(len(names), MAX_COLUMNS)
    heads = [_cell(name) for name in names[:shown]]
    body = [[_cell(value) for value in row[:shown]] for row in rows]
    widths = [
        max([display_width(head), *(display_width(row[index]) for row in body if index < len(row))])
        for index, head in enumerate(heads)
    ]
    lines = [
        "|".join(f" {_centred(head, width)} " for head, width in zip(heads, widths, strict=True)).rstrip()
    ]
    lines.append("+".join("-" * (width + 2) for width in widths))
    for row in body:
        cells = [
            f" {_padded(value, widths[index], right=right_aligned[index])} "
            for index, value in enumerate(row)
        ]
        lines.append("|".join(cells).rstrip())
    if len(names) > shown:
        lines.append(f"({len(names) - shown} more columns are not shown)")
    return lines


def _cell(value: str | None) -> str:
    # Cut before escaping, so that a huge value costs little, and after, because escapes are longer.
    return "" if value is None else shortened(plain(shortened(value, MAX_COLUMN_WIDTH)), MAX_COLUMN_WIDTH)


def _padded(text: str, width: int, *, right: bool) -> str:
    filler = " " * (width - display_width(text))
    return filler + text if right else text + filler


def _centred(text: str, width: int) -> str:
    room = width - display_width(text)
    return " " * (room // 2) + text + " " * (room - room // 2)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x100:
        return _SHORT.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
