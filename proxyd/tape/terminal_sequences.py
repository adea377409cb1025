"""Takes a terminal's output apart: text, controls and escape sequences (ECMA-48, section 5; xterm's ctlseqs).

Pure, streaming and bounded: bytes in pieces of any size, tokens out; a character or sequence that is cut waits for
its rest. Whoever reads the tokens decides what they mean: `terminal_filter` (what an auditor's terminal may get),
`terminal_text` (lines for people) and `echo_guard` (was this typed?).

The bytes are taken for UTF-8; what is none becomes U+FFFD. C1 controls (U+0080 to U+009F) are taken for the
sequences that they begin.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Final

import msgspec

MAX_SEQUENCE_CHARACTERS: Final = 256
MAX_STRING_CHARACTERS: Final = 256 * 1024
"""A string (OSC, DCS...) that goes on for longer is over: its rest is text, so that nobody hides a session in one."""


class Text(msgspec.Struct, frozen=True):
    """Characters that are no controls."""

    text: str


class Control(msgspec.Struct, frozen=True):
    """One C0 or C1 control, or DEL."""

    character: str


class Csi(msgspec.Struct, frozen=True):
    """A control sequence. `prefix` is the private marker ("?", ">"...) or "", `parameters` what follows it."""

    prefix: str
    parameters: str
    intermediates: str
    final: str


class Escape(msgspec.Struct, frozen=True):
    """ESC, intermediates, final: "ESC ( B", "ESC 7"."""

    intermediates: str
    final: str


class ControlString(msgspec.Struct, frozen=True):
    """The beginning of an OSC ("]"), DCS ("P"), APC ("_"), PM ("^"), SOS ("X") or of screen's title ("k"). What is
    in it is dropped.
    """

    kind: str


Token = Text | Control | Csi | Escape | ControlString

_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
_CSI = re.compile(r"(?:\x1b\[|\x9b)([<=>?]?)([0-9:;]*)([ -/]*)([@-~])")
_CSI_BEGUN = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*")
_ESCAPE = re.compile(r"\x1b([ -/]*)([0-~])")
_ESCAPE_BEGUN = re.compile(r"\x1b[ -/]*")
_STRINGS: Final = {"\x9d": "]", "\x90": "P", "\x9f": "_", "\x9e": "^", "\x98": "X"}
_STRING_END = re.compile(r"[\x18\x1a\x1b\x9c]")
_OSC_END = re.compile(r"[\x07\n\r\x18\x1a\x1b\x9c]")
_BEGINNINGS: Final = "\x1b\x9b"


class TerminalParser:
    """The parser of one stream."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._string = ""
        self._string_room = 0

    @property
    def is_ground(self) -> bool:
        """Nothing is begun and not yet over: neither a sequence nor a string nor a character."""
        return not (self._rest or self._string or self._decoder.getstate()[0])

    def feed(self, data: bytes) -> Iterator[Token]:
        """The tokens that this completes. Take them all, or feed nothing more."""
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        at = 0
        while at < len(text):
            if self._string:
                at = self._skip_string(text, at)
                continue
            run = _TEXT.match(text, at)
            if run is not None:
                at = run.end()
                yield Text(run[0])
            elif text[at] in _BEGINNINGS:
                token, end = self._sequence(text, at)
                if end == at:
                    self._rest = text[at:]
                    return
                at = end
                if token is not None:
                    yield token
            elif text[at] in _STRINGS:
                yield self._begin_string(_STRINGS[text[at]])
                at += 1
            else:
                yield Control(text[at])
                at += 1

    def _sequence(self, text: str, at: int) -> tuple[Token | None, int]:
        """The sequence that begins at `at`, and where it ends: at `at` when it is cut. None: a malformed one."""
        whole = _CSI.match(text, at)
        if whole is not None:
            return Csi(*whole.groups()), whole.end()
        begun = _CSI_BEGUN.match(text, at)
        if begun is None:
            escape = _ESCAPE.match(text, at)
            if escape is not None:
                return self._escape(*escape.groups()), escape.end()
            begun = _ESCAPE_BEGUN.match(text, at)
        end = begun.end() if begun is not None else at + 1
        if end == len(text) and end - at <= MAX_SEQUENCE_CHARACTERS:
            return None, at
        # Malformed or endless. A control within it counts by itself; a final byte is dropped with it.
        return None, end + (end < len(text) and "@" <= text[end] <= "~")

    def _escape(self, intermediates: str, final: str) -> Token:
        if not intermediates and final in "]P_^Xk":
            return self._begin_string(final)
        return Escape(intermediates, final)

    def _begin_string(self, kind: str) -> ControlString:
        self._string = kind
        self._string_room = MAX_STRING_CHARACTERS
        return ControlString(kind)

    def _skip_string(self, text: str, at: int) -> int:
        """Where the string ends, or the end of what is here.

        ESC ends it, whatever follows: "ESC \\" (ST) is then an escape of its own, which nobody minds.
        """
        limit = at + self._string_room
        found = (_OSC_END if self._string in "]k" else _STRING_END).search(text, at, limit)
        if found is None:
            end = min(len(text), limit)
            self._string_room -= end - at
            if not self._string_room:
                self._string = ""
            return end
        self._string = ""
        return found.end() if found[0] in "\x07\x9c\x18\x1a" else found.start()
