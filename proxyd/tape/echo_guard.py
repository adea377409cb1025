"""Which typed input may go on the tape in clear: lines that the target showed while they were typed, nothing else.

A terminal's input may be a password, and only the target knows: it has switched the echo off. So what is typed is
held back, and the output is watched. A line is released when the key that ends it arrives and until then every
character of it was shown, in order, and nothing else was shown. Then it is on the tape already, as output. In
every other case the whole line is withheld for good: silence, asterisks, another program's output in between,
completion, history and cursor keys, a full-screen program, a prompt that speaks of a password. When in doubt, it is
withheld; all that is lost is a copy of what the output shows.

    theory    `typed` is the line as keyed; `confirmed` how many of its first characters the output has shown. The
              output moves a cursor over the line: a character must equal the one typed at its place, and may not be
              ahead of what is confirmed. Backspace ("\\b \\b", "\\b ESC [K") and shells that draw the line again in
              colours fit in. Anything that does not fit is a fault, and the line cannot be mended.

Pure; one guard a terminal channel. Bounded: a line longer than MAX_LINE_CHARACTERS is withheld, and so is one with
much more output than an echo of it takes (a target must not make us read a flood); only the tail of the output
before a line is kept.
"""

from __future__ import annotations

import codecs
import re
from enum import Enum
from typing import Final

import msgspec

from proxyd.tape.terminal_sequences import Control, ControlString, Csi, Escape, TerminalParser, Text, Token

MAX_LINE_CHARACTERS: Final = 4096
ECHO_BYTES: Final = 4096
ECHO_BYTES_PER_KEY: Final = 256
"""How much output may go with a line and with each byte of it: room for a shell that draws the line anew."""
TAIL_BYTES: Final = 512
"""Of the output before a line: the prompt, and whether a sequence is half way through."""

_ENDERS = re.compile(rb"[\r\n\x03\x04\x1a\x1c]")
"""Return, line feed, and the keys that interrupt, end, suspend and quit: after them comes another line."""
_KEYS = re.compile(
    "(?P<silent>\x1b\\[(?:20[01]~|[IO]|[0-9]+;[0-9]+R|[?>][0-9;]*c))|(?P<rubout>[\x08\x7f])|(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
)
"""`silent`: the marks around a pasted text, and what a terminal answers by itself."""
_MASKS: Final = frozenset("*\u2022\u25cf\u00b7")
_SECRET_PROMPT = re.compile(
    "(?i)(pass(?:word|phrase|code|wd)|\\bpin\\b|secret|token|\\botp\\b|\\bcode\\b|credential|one[- ]time|passwort"
    "|kennwort|mot de passe|contrase|senha|has\u0142o|\u043f\u0430\u0440\u043e\u043b\u044c|\u5bc6\u7801"
    "|\u30d1\u30b9\u30ef)[^\n]*[:?\uff1a]\\s*$"
)
_HARMLESS_MOTIONS: Final = frozenset("CD")
_IGNORED: Final = frozenset("mhl")


class WithheldBecause(Enum):
    """NOT_ECHOED may be a password. EDITED: up to a key that edits the line, all characters had been shown."""

    NOT_ECHOED = "not echoed"
    EDITED = "edited, see the output"
    TOO_LONG = "too long"


class ReleasedLine(msgspec.Struct, frozen=True):
    """Lines with the keys that ended them, as they stood when these were pressed."""

    text: str


class WithheldLine(msgspec.Struct, frozen=True):
    size: int
    reason: WithheldBecause


Settled = ReleasedLine | WithheldLine


class EchoGuard:
    """Of one terminal channel. The tape calls it with everything that passes, in the order in which it passes."""

    def __init__(self) -> None:
        self._tail = b""
        self._fault: WithheldBecause | None
        self._begin_line()

    def typed(self, data: bytes) -> list[Settled]:
        """Input. What this settles, at most one line released and one withheld; the rest stays held back."""
        at = 0
        released = ""
        withheld = 0
        because = WithheldBecause.NOT_ECHOED
        for ender in _ENDERS.finditer(data):
            self._key_in(data[at : ender.start()])
            self._size += 1
            at = ender.end()
            # What came together with the line before cannot have been shown yet, and goes with it.
            fault = because if withheld else self._fault_at_end()
            if fault is None:
                released += "".join(self._typed) + ender[0].decode("ascii")
            else:
                because = fault
                withheld += self._size
            self._begin_line()
        self._key_in(data[at:])
        settled: list[Settled] = [ReleasedLine(released)] if released else []
        return [*settled, WithheldLine(withheld, because)] if withheld else settled

    def shown(self, data: bytes) -> None:
        """Output."""
        self._tail = data[-TAIL_BYTES:] if len(data) >= TAIL_BYTES else (self._tail + data)[-TAIL_BYTES:]
        if self._parser is None or self._fault is not None:
            return
        self._output_bytes += len(data)
        if self._output_bytes > ECHO_BYTES + ECHO_BYTES_PER_KEY * self._size:
            self._fault = WithheldBecause.NOT_ECHOED
            return
        for token in self._parser.feed(data):
            if not self._fits(token):
                self._fault = WithheldBecause.NOT_ECHOED
                return

    def finish(self) -> list[Settled]:
        """The channel is closed: what was never ended is withheld."""
        size = self._size
        self._begin_line()
        return [WithheldLine(size, WithheldBecause.NOT_ECHOED)] if size else []

    def _begin_line(self) -> None:
        self._size = 0  # bytes
        self._output_bytes = 0
        self._typed: list[str] = []
        self._widest = 0
        self._confirmed = 0
        self._column = 0  # of the target's cursor, from where the line began
        self._fault = None
        self._parser: TerminalParser | None = None  # from the first key on
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    def _key_in(self, keys: bytes) -> None:
        """Keys of one line, without its end."""
        if not keys:
            return
        self._size += len(keys)
        if self._parser is None:
            self._look_at_prompt()
        if self._fault is not None:
            return
        try:
            text = self._decoder.decode(keys)
        except UnicodeDecodeError:
            self._fault = WithheldBecause.NOT_ECHOED
            return
        at = 0
        while at < len(text) and self._fault is None:
            key = _KEYS.match(text, at)
            if key is None:
                is_shown = self._confirmed == len(self._typed)
                self._fault = WithheldBecause.EDITED if is_shown else WithheldBecause.NOT_ECHOED
                return
            at = key.end()
            if key.lastgroup == "text":
                self._typed += key[0]
                self._widest = max(self._widest, len(self._typed))
            elif key.lastgroup == "rubout" and self._typed:
                self._typed.pop()
                self._confirmed = min(self._confirmed, len(self._typed))
            if len(self._typed) > MAX_LINE_CHARACTERS:
                self._typed.clear()
                self._fault = WithheldBecause.TOO_LONG

    def _look_at_prompt(self) -> None:
        self._parser = TerminalParser()
        prompt = ""
        for token in self._parser.feed(self._tail):
            match token:
                case Text(text=text):
                    prompt += text
                case Control(character="\n"):
                    prompt = ""
        if not self._parser.is_ground or _SECRET_PROMPT.search(prompt) is not None:
            self._fault = WithheldBecause.NOT_ECHOED

    def _fault_at_end(self) -> WithheldBecause | None:
        if self._fault is not None:
            return self._fault
        length = len(self._typed)
        is_shown = self._confirmed == self._column == length and not self._decoder.getstate()[0]
        if not is_shown or (length and _MASKS.issuperset(self._typed)):
            return WithheldBecause.NOT_ECHOED
        return None

    def _fits(self, token: Token) -> bool:
        """Is it the echo of what was typed, or without a meaning here? Moves the cursor."""
        match token:
            case Text(text=text):
                return all(self._is_echo(character) for character in text)
            case Control(character="\b"):
                self._column -= 1
                return self._column >= 0
            case Control(character="\x07") | ControlString() | Escape(intermediates="(", final="B"):
                return True
            case Escape(intermediates="", final="\\" | "=" | ">"):
                return True
            case Csi(prefix="", parameters="" | "0", intermediates="", final="K"):
                self._confirmed = min(self._confirmed, self._column)
                return True
            case Csi(prefix="", parameters=count, intermediates="", final=final) if (
                final in _HARMLESS_MOTIONS
            ):
                return self._moves(count, 1 if final == "C" else -1)
            case Csi(intermediates="", final=final):
                return final in _IGNORED
            case _:
                return False

    def _is_echo(self, character: str) -> bool:
        column = self._column
        self._column += 1
        if column < len(self._typed):
            if column > self._confirmed or character != self._typed[column]:
                return False
            self._confirmed = max(self._confirmed, column + 1)
            return True
        return character == " " and column < self._widest  # a character that was taken back is overwritten

    def _moves(self, count: str, direction: int) -> bool:
        if not (count == "" or (count.isdecimal() and len(count) < 5)):
            return False
        self._column += direction * max(1, int(count or "1"))
        return 0 <= self._column <= self._widest
