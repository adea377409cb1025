"""Where a JSON rewriter stands in what has come: what has been dealt with, what goes out, how a string goes on.

Owns the buffer and the tokens that are copied, replaced or dropped in it. Knows strings, because those alone are passed
on before their end has come; the grammar around them is `protocols.http.json_stream`, which builds on this. Pure.
"""

from __future__ import annotations

import codecs
from enum import IntEnum
from typing import Protocol

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http import json_tokens as tokens


class StringRewriter(Protocol):
    """What becomes of a string that is too long to be held: its body as it is written, in pieces that cut no escape."""

    def feed(self, body: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class Passing(IntEnum):
    """What is done with the rest of a string that has begun and is not held."""

    NO = 0
    KEEP = 1
    DROP = 2
    REWRITE = 3


class JsonCursor:
    """The buffer of one document. held_bytes: the longest token that waits for its end."""

    def __init__(self, held_bytes: int) -> None:
        self._held_bytes = held_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._buffer = b""
        self._position = 0  # everything before it has been dealt with
        self._mark = 0  # everything from here to the position is to be sent as it is
        self._scanned = 0  # how far the string that begins at the position has been looked at
        self._passing = Passing.NO
        self._long_string: StringRewriter | None = None
        self._is_dropping = False  # of an object or array that has become something else
        self._out: list[bytes] = []

    def _add(self, data: bytes) -> None:
        try:
            self._utf8.decode(data)
        except UnicodeDecodeError:
            raise RemoteProtocolError("a JSON text that is not UTF-8") from None
        self._buffer = self._buffer + data if self._buffer else data

    def _taken(self) -> bytes:
        """What goes out; what has not been dealt with is kept."""
        if not self._is_dropping and self._mark < self._position:
            self._out.append(self._buffer[self._mark : self._position])
        out = b"".join(self._out)
        self._out.clear()
        held = len(self._buffer) - self._position
        if held > self._held_bytes:
            raise LimitExceeded(
                f"a value in a JSON text is longer than the {self._held_bytes} bytes that are held"
            )
        self._buffer = self._buffer[self._position :]
        self._scanned = max(0, self._scanned - self._position)
        self._mark = self._position = 0
        return out

    def _replace(self, end: int, token: bytes | None) -> None:
        """What is between the position and `end` becomes `token` (None: stays)."""
        if token is not None and not self._is_dropping:
            self._out.append(self._buffer[self._mark : self._position])
            self._out.append(token)
            self._mark = end
        self._position = end

    # --- strings ----------------------------------------------------------------------------------------------

    def _rewrite_string(self, rewriter: StringRewriter) -> None:
        """The string at the position goes on through `rewriter`."""
        self._replace(self._position + 1, b'"')
        self._passing = Passing.REWRITE
        self._long_string = rewriter
        self._scanned = 0

    def _pass(self) -> bool:
        """Go on in a string that is not held. False when it has not ended."""
        found = tokens.string_body.match(self._buffer, self._position)
        end = self._position if found is None else found.end()
        has_ended = self._is_end_of_body(end)
        if self._long_string is not None:
            body = self._long_string.feed(self._buffer[self._position : end])
            self._replace(end, body + self._long_string.finish() if has_ended else body)
        if self._passing is Passing.DROP:
            self._mark = end
        self._position = end
        if not has_ended:
            return False
        self._position = end + 1
        if self._passing is Passing.DROP:
            self._mark = end + 1
        self._passing = Passing.NO
        self._long_string = None
        return True

    def _begins_document(self) -> bool | None:
        """Does the string at the position begin like an object or array? None when too little of it is there."""
        start = self._position + 1
        if tokens.begins_document.match(self._buffer, start):
            return True
        found = tokens.inner_blanks.match(self._buffer, start)
        after = start if found is None else found.end()
        rest = self._buffer[after : after + tokens.LONGEST_ESCAPE]
        is_open = not rest or rest[0] in b"\\\xef"  # what may still become a blank or a beginning
        return None if is_open and len(rest) < tokens.LONGEST_ESCAPE and b'"' not in rest[1:] else False

    def _end_of_string(self) -> int | None:
        """Behind the closing quote of the string at the position; None when it is not there yet."""
        found = tokens.string_body.match(self._buffer, max(self._scanned, self._position + 1))
        end = self._position + 1 if found is None else found.end()
        self._scanned = end
        return end + 1 if self._is_end_of_body(end) else None

    def _is_end_of_body(self, end: int) -> bool:
        """Is there a quote at `end`, where the body of a string stops? False when that is not known yet."""
        if end == len(self._buffer):
            return False
        if self._buffer[end] == 0x22:
            return True
        if tokens.part_of_escape.fullmatch(self._buffer, end):
            return False
        raise RemoteProtocolError("a JSON text with a string that has a wrong escape or a control character")
