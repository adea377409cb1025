"""Makes a recorded terminal's output safe for the terminal of whoever watches it.

A tape holds what targets sent, and a terminal obeys: sequences set the clipboard (OSC 52) and the title, make the
terminal type answers into the auditor's shell (DSR, DA, ENQ, DECRQSS, title reports), switch keyboard and mouse,
print, erase the scrollback, leave another alphabet behind. So the output is taken apart and only what is on the lists
below is put together again: colours, cursor movement, erasing, scrolling, the alternate screen. What is not listed
is dropped, C1 controls in any form too. The line-drawing alphabet is drawn with Unicode instead.

Pure, streaming, bounded. `reset` gives what brings the terminal back.
"""

from __future__ import annotations

import re
from typing import Final

from proxyd.tape.terminal_sequences import Control, ControlString, Csi, Escape, TerminalParser, Text, Token

MAX_NUMBER: Final = 9999
MAX_REPEATED: Final = 1000
MAX_PARAMETERS: Final = 32

_MOTION: Final = frozenset("ABCDEFGHIZ`adefrXLMPST@")
"""Movement of the cursor, margins, and insertion, deletion and scrolling of cells and lines: two numbers at most."""
_ERASE: Final = frozenset("JK")
_ERASE_WHAT: Final = frozenset(("", "0", "1", "2"))  # 3 would be the scrollback
_CURSOR_SAVING: Final = frozenset("su")
_PRIVATE_MODES: Final = frozenset(("5", "6", "7", "12", "25", "47", "1047", "1048", "1049"))
"""Reverse video, origin, wrapping, the cursor's look, the alternate screen. None that changes what keys send."""
_ALTERNATE_SCREEN: Final = frozenset(("47", "1047", "1049"))
_ORIGIN_MODE: Final = "6"
_INSERT_MODE: Final = "4"
_ESCAPES: Final = frozenset("78DEM")
_CONTROLS: Final = frozenset("\b\t\r")
_LINE_FEEDS: Final = frozenset("\n\v\f")
_INDEX: Final = "\x1bD"
_SHIFTS: Final = {"\x0e": 1, "\x0f": 0}
_ALPHABETS: Final = {"(": 0, ")": 1}
_LINE_DRAWING: Final = "0"
_MODES_OFF: Final = "\x1b[?5l\x1b[4l\x1b[0m\x1b7\x1b[r\x1b8\x1b[?7h\x1b[?25h"
_ORIGIN_OFF: Final = "\x1b[?6l"  # moves the cursor home too
_CLEARED: Final = "\x1b[H\x1b[2J"
_CURSOR_LOOK: Final = "\x1b[0 q"
_NUMBER = re.compile(r"\d+")
# Characters without a width that turn the order of a line around or hide in it.
_INVISIBLE = re.compile(
    "[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_DRAWN: Final = str.maketrans("`abcdefghijklmnopqrstuvwxyz{|}~", "◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·")


class TerminalFilter:
    """Of one terminal's output; what it gives is text for a UTF-8 terminal.

    `is_cooked`: the text goes to a terminal whose driver adds a carriage return to each line feed; a line feed that
    must not have one is then given as an index (ESC D), which does the same.
    """

    def __init__(self, *, is_cooked: bool = False) -> None:
        self._parser = TerminalParser()
        self._is_cooked = is_cooked
        self._is_drawing = [False, False]  # the alphabets G0 and G1
        self._shift = 0
        self._is_alternate = False
        self._has_cursor_look = False
        self._had_origin = False  # once: a saved cursor brings it back
        self._is_returned = False  # the last character was a carriage return

    def feed(self, data: bytes) -> str:
        return "".join([self._safe(token) for token in self._parser.feed(data)])

    def reset(self) -> str:
        """Ends what the output may have left on: the alternate screen, colours, margins, modes, a hidden cursor."""
        left = "\x1b[?1049l" if self._is_alternate else ""
        look = _CURSOR_LOOK if self._has_cursor_look else ""
        self._parser = TerminalParser()
        self._is_alternate = self._has_cursor_look = False
        self._forget_alphabets()
        return f"{left}{self._modes_off()}{look}"

    def _safe(self, token: Token) -> str:
        was_returned, self._is_returned = self._is_returned, False
        match token:
            case Text(text=text):
                if not text.isascii():
                    text = _INVISIBLE.sub("", text)
                return text.translate(_DRAWN) if self._is_drawing[self._shift] else text
            case Control(character=character):
                return self._control(character, was_returned=was_returned)
            case Csi(prefix="", intermediates=""):
                return _plain_sequence(token)
            case Csi(prefix="?", intermediates="", final="h" | "l"):
                return self._private_modes(token)
            case Csi(prefix="", parameters=look, intermediates=" ", final="q"):
                return self._cursor_look(look)
            case Csi(prefix="", parameters="", intermediates="!", final="p"):
                self._forget_alphabets()
                return self._modes_off()
            case Escape():
                return self._escape(token)
            case Csi() | ControlString():
                return ""

    def _control(self, character: str, *, was_returned: bool) -> str:
        if character in _LINE_FEEDS:
            return _INDEX if self._is_cooked and not was_returned else "\n"
        if character in _CONTROLS:
            self._is_returned = character == "\r"
            return character
        self._shift = _SHIFTS.get(character, self._shift)
        return ""

    def _escape(self, token: Escape) -> str:
        if token.intermediates in _ALPHABETS:
            self._is_drawing[_ALPHABETS[token.intermediates]] = token.final == _LINE_DRAWING
            return ""
        if token.intermediates:
            return ""
        if token.final == "c":  # RIS, which would also erase the scrollback
            return self.reset() + _CLEARED
        return f"\x1b{token.final}" if token.final in _ESCAPES else ""

    def _private_modes(self, token: Csi) -> str:
        modes = [mode for mode in token.parameters.split(";") if mode in _PRIVATE_MODES]
        if not modes:
            return ""
        if not _ALTERNATE_SCREEN.isdisjoint(modes):
            self._is_alternate = token.final == "h"
        self._had_origin = self._had_origin or _ORIGIN_MODE in modes
        return f"\x1b[?{';'.join(modes[:MAX_PARAMETERS])}{token.final}"

    def _cursor_look(self, look: str) -> str:
        if look not in frozenset("0123456"):
            return ""
        self._has_cursor_look = True
        return f"\x1b[{look} q"

    def _modes_off(self) -> str:
        return f"{_ORIGIN_OFF if self._had_origin else ''}{_MODES_OFF}"

    def _forget_alphabets(self) -> None:
        self._is_drawing = [False, False]
        self._shift = 0


def _plain_sequence(token: Csi) -> str:
    """A sequence without marker and intermediates, if it is on the lists and within bounds, else nothing."""
    final, parameters = token.final, token.parameters
    numbers = parameters.split(";")
    limit = MAX_NUMBER
    if final == "m":
        is_allowed = len(numbers) + parameters.count(":") <= MAX_PARAMETERS
    elif final in _MOTION:
        is_allowed = len(numbers) <= 2 and ":" not in parameters
    elif final in _ERASE:
        is_allowed = parameters in _ERASE_WHAT
    elif final in _CURSOR_SAVING:
        is_allowed = not parameters
    elif final == "b":
        is_allowed = len(numbers) == 1 and ":" not in parameters
        limit = MAX_REPEATED
    else:
        is_allowed = final in "hl" and parameters == _INSERT_MODE
    if not is_allowed:
        return ""
    return f"\x1b[{_NUMBER.sub(lambda number: _clipped(number[0], limit), parameters)}{final}"


def _clipped(digits: str, limit: int) -> str:
    return str(min(int(digits), limit)) if len(digits) < 10 else str(limit)
