"""The menu of targets that a shell without a target gets: keys in, what is shown out, and at some point a choice.

Knows no channel and no protocol. Made by the lobby for each shell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxyd.gates.refusals import printable
from proxyd.gates.ssh.actions import Choice

MAX_LINE_CHARACTERS = 256
MAX_PLACES_SHOWN = 200
MAX_WRONG_LINES = 50

_INTERRUPT, _END, _RETURN, _NEWLINE = 0x03, 0x04, 0x0D, 0x0A
_ERASE = frozenset({0x7F, 0x08})
_WORDS_TO_LEAVE = frozenset({"q", "quit", "exit"})
_PROMPT = "Its number, or LOGIN+TARGET (q to leave): "


@dataclass(frozen=True, slots=True)
class Typed:
    """What came of some input. `rest` stood behind the choice."""

    shown: bytes
    choice: Choice | None = None
    has_left: bool = False
    rest: bytes = b""


def place_name(place: Choice) -> str:
    return f"{place.login}+{place.target}"


class Menu:
    """`is_echoing`: the client has a terminal, which it has put into raw mode, so that echo is ours to do."""

    def __init__(self, places: Sequence[Choice], *, is_echoing: bool) -> None:
        self._places = places
        self._is_echoing = is_echoing
        self._line = bytearray()
        self._wrong_lines = 0

    def greeting(self) -> bytes:
        lines = [
            f"{index:>4}  {printable(place_name(place))}"
            for index, place in enumerate(self._places[:MAX_PLACES_SHOWN], 1)
        ]
        hidden = len(self._places) - len(lines)
        if hidden > 0:
            lines.append(f"      and {hidden} more")
        return "\r\n".join(["proxyd: which target?", *lines, _PROMPT]).encode()

    def typed(self, data: bytes) -> Typed:
        """Keys, or lines where there is no terminal."""
        line, shown = self._line, bytearray()
        for position, byte in enumerate(data):
            if byte in {_RETURN, _NEWLINE}:
                if byte == _NEWLINE and position and data[position - 1] == _RETURN:
                    continue
                shown += self._echo(b"\r\n")
                text = line.decode().strip()
                line.clear()
                if text.lower() in _WORDS_TO_LEAVE:
                    return Typed(bytes(shown), has_left=True)
                if (choice := self._find(text)) is not None:
                    rest = data[position + 1 :]
                    return Typed(
                        bytes(shown), choice, rest=rest.removeprefix(b"\n") if byte == _RETURN else rest
                    )
                shown += self._not_found(text)
                if self._wrong_lines > MAX_WRONG_LINES:
                    return Typed(bytes(shown), has_left=True)
            elif byte in {_INTERRUPT, _END}:
                return Typed(bytes(shown + self._echo(b"\r\n")), has_left=True)
            elif byte in _ERASE:
                if line:
                    line.pop()
                    shown += self._echo(b"\b \b")
            elif 0x20 <= byte < 0x7F and len(line) < MAX_LINE_CHARACTERS:
                line.append(byte)
                shown += self._echo(bytes([byte]))
        return Typed(bytes(shown))

    def _echo(self, data: bytes) -> bytes:
        return data if self._is_echoing else b""

    def _not_found(self, text: str) -> bytes:
        self._wrong_lines += 1
        if self._wrong_lines > MAX_WRONG_LINES:
            return b"These are too many wrong answers.\r\n"
        wrong = f"There is no {text!r} here.\r\n" if text else ""
        return f"{wrong}{_PROMPT}".encode()

    def _find(self, text: str) -> Choice | None:
        if text.isdigit() and len(text) < 6:
            number = int(text)
            shown = self._places[:MAX_PLACES_SHOWN]
            return shown[number - 1] if 1 <= number <= len(shown) else None
        return next((place for place in self._places if place_name(place) == text), None)
