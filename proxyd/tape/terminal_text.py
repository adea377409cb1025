"""A terminal's output as plain lines, for pipes and lists: what is left of each line when it is over.

Follows the cursor within the current line only (carriage return, backspace, erasing, a progress bar that draws
itself again); what moves between lines or fills the screen comes out in the order in which it was sent. Pure,
streaming, bounded.
"""

from __future__ import annotations

from typing import Final

from proxyd.tape.screen import plain
from proxyd.tape.terminal_sequences import Control, Csi, TerminalParser, Text

MAX_LINE_CHARACTERS: Final = 4096
_TAB: Final = 8


class TerminalText:
    """The lines of one stream. What it gives has passed `screen.plain`."""

    def __init__(self) -> None:
        self._parser = TerminalParser()
        self._line: list[str] = []
        self._column = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that this ends."""
        lines: list[str] = []
        for token in self._parser.feed(data):
            match token:
                case Text(text=text):
                    self._put(text)
                    if len(self._line) >= MAX_LINE_CHARACTERS:
                        lines.append(self._take())
                case Control(character="\n"):
                    lines.append(self._take())
                case Control(character="\r"):
                    self._column = 0
                case Control(character="\b"):
                    self._column = max(0, self._column - 1)
                case Control(character="\t"):
                    self._move(_TAB - self._column % _TAB)
                case Csi(prefix="", intermediates="", final=final):
                    self._sequence(final, token.parameters)
                case _:
                    pass
        return lines

    def finish(self) -> list[str]:
        """The line that was not ended."""
        return [self._take()] if self._line else []

    def _put(self, text: str) -> None:
        end = self._column + len(text)
        self._line += " " * (self._column - len(self._line))
        self._line[self._column : end] = text
        self._column = end

    def _sequence(self, final: str, parameters: str) -> None:
        count = int(parameters) if parameters.isdecimal() and len(parameters) < 5 else 0
        match final:
            case "K" if count == 0:
                del self._line[self._column :]
            case "K" if count == 2:
                self._line.clear()
            case "C":
                self._move(max(1, count))
            case "D":
                self._move(-max(1, count))
            case "G":
                self._column = max(1, count) - 1
            case "P":
                del self._line[self._column : self._column + max(1, count)]
            case _:
                pass

    def _move(self, cells: int) -> None:
        self._column = min(max(0, self._column + cells), MAX_LINE_CHARACTERS)

    def _take(self) -> str:
        text = "".join(self._line).rstrip()
        self._line.clear()
        self._column = 0
        return plain(text)
