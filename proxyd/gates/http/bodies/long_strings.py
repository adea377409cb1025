"""A string of JSON that is too long to be held, under detectors: looked at as it streams, with a stream's window.

Owns how what is looked at (the text) and what goes out (the text as it is written, escapes and all) are kept in step:
text in which nothing is found leaves byte for byte. Made by the plan of a body for the JSON rewriter. Pure.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque

from policy.detectors.stream import Piece
from policy.json_masking import json_text
from proxyd.gates.http.bodies.interfaces import Detectors

# A pair of surrogates is one escape; the first half of one waits for the second.
_escape = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?|u[0-9a-fA-F]{4}|.)"
)
_half = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")


class LongString:
    """The body of one string, without its quotes. Pieces cut no escape."""

    def __init__(self, detectors: Detectors, counts: Counter[str]) -> None:
        self._detectors = detectors
        self._scanner = detectors.scanner()
        self._counts = counts
        self._half = b""
        # Escapes with the place in the text at which what they say begins and ends.
        self._escapes: deque[tuple[int, int, bytes]] = deque()
        self._fed = 0  # bytes of text that the scanner has been given
        self._sent = 0  # and of those that have left
        self._written = 0  # up to where an escape that has gone out reaches

    def feed(self, body: bytes) -> bytes:
        return self._out(self._scanner.feed(self._text_of(body, is_last=False)))

    def finish(self) -> bytes:
        rest = self._scanner.feed(self._text_of(b"", is_last=True))
        return self._out([*rest, *self._scanner.flush()])

    def _text_of(self, body: bytes, *, is_last: bool) -> bytes:
        body, self._half = self._half + body, b""
        if b"\\" not in body:
            self._fed += len(body)
            return body
        text: list[bytes] = []
        position = 0
        for found in _escape.finditer(body):
            raw = found[0]
            text.append(body[position : found.start()])
            self._fed += found.start() - position
            position = found.end()
            if position == len(body) and not is_last and _half.fullmatch(raw):
                self._half = raw
                return b"".join(text)
            said = str(json.loads(b'"' + raw + b'"')).encode("utf-8", "surrogatepass")
            self._escapes.append((self._fed, self._fed + len(said), raw))
            self._fed += len(said)
            text.append(said)
        self._fed += len(body) - position
        text.append(body[position:])
        return b"".join(text)

    def _out(self, pieces: list[Piece]) -> bytes:
        out: list[bytes] = []
        for piece in pieces:
            if piece.match is None:
                self._pass(piece.text, out)
                continue
            if not piece.is_rest:
                self._counts[piece.match.kind] += 1
                stand_in = self._detectors.write(piece.match, piece.text).decode("utf-8", "replace")
                out.append(json_text(stand_in)[1:-1].encode())
            self._sent += len(piece.text)
            while self._escapes and self._escapes[0][0] < self._sent:
                self._written = self._escapes.popleft()[1]
        return b"".join(out)

    def _pass(self, text: bytes, out: list[bytes]) -> None:
        start, end = self._sent, self._sent + len(text)
        position = max(start, self._written)
        while self._escapes and self._escapes[0][0] < end:
            first, last, raw = self._escapes.popleft()
            out += (text[position - start : first - start], raw)
            position = last
        out.append(text[position - start :])
        self._written = max(self._written, position)
        self._sent = end
