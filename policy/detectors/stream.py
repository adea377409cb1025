"""Detectors over a stream that arrives in pieces: the same matches, wherever the pieces end.

Theory of operation. What arrives is put behind what is held, and all of it is looked at together with the last bytes
that have left (the context: a name in front of a number, the letter before a word). What cannot be part of a match
that is still to come leaves; the rest, which is a tail that could be the beginning of one, is held. It is bounded:
`MAX_HELD`, for a private key `MAX_PRIVATE_KEY`. A key or a token that is longer has been recognised by then: its
stand-in leaves, and its bytes are swallowed to their end (`_swallowed`).

`flush` judges what is held as it stands, for output that somebody is waiting for. Owns no clock: when to flush is the
caller's. Called by `policy.detectors.detector_set` and by the gates (`proxyd.gates.ssh.detecting`).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Protocol

import msgspec

from policy.detectors import secrets
from policy.detectors.folding import DIGIT, PART, SEPARATOR
from policy.detectors.matches import Match, Write, placeholder

MAX_HELD = 4 * 1024
_CONTEXT = 256

# Bytes of which values without blanks are made, and those that numbers in groups are made of.
_WORD_BYTES = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_.+%'!#$*~^@:/=-" + bytes(
    range(0x80, 0x100)
)
_GROUPED = re.compile(
    rb"(?:[0-9+(][0-9 ().\-/]*[a-fA-F]{0,2}|[0-9+(][0-9 ().\-/]* [0-9a-fA-F]{2}"  # numbers, and a pair in hexadecimal
    rb"|[A-Za-z]{2}[0-9]{2}(?:[ -][A-Za-z0-9]{4}){0,8}(?:[ -][A-Za-z0-9]{0,4})?)\Z"  # an IBAN
)
_LONGEST_GROUPED = 64
# The same with digits and separators beyond ASCII, up to the first bytes of one. `(?!)`: Python 3.11.2 goes on behind
# an iteration that failed half-way.
_WIDE_GROUPED = re.compile(
    rb"(?:[0-9+(]|" + DIGIT + rb"|\xef\xbc[\x80-\xbf])"
    rb"(?:[0-9 ().\-/]|"
    + DIGIT
    + rb"|"
    + SEPARATOR
    + rb"|\xef[\xbc\xbd][\x80-\xbf]|(?!))*+[a-zA-Z]{0,2}(?:"
    + PART
    + rb")?\Z"
)
_LONGEST_WIDE = 192
_BEGINS_GROUPED = re.compile(rb"[0-9+(]")  # without one of these there is no number to go on
# Numbers of which so much is there that a value may well come of them: they are worth a longer wait.
_BEGUN: dict[str, re.Pattern[bytes]] = {
    "credit_card": re.compile(rb"(?<![0-9A-Za-z.])[2-68][0-9](?:[ .-]?[0-9]){6,17}[ .-]?\Z"),
    "us_ssn": re.compile(rb"(?<![0-9A-Za-z.-])[0-8][0-9]{2}([ .-])[0-9]{2}(?:\1[0-9]{0,3})?\Z"),
    "phone": re.compile(rb"(?<![0-9A-Za-z])\+[1-9](?:[ ()./-]{0,2}[0-9]){5,13}[ ()./-]{0,2}\Z"),
    "iban": re.compile(rb"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}(?:[ .-]?[A-Za-z0-9]){8,29}[ .-]?\Z"),
}
_KEY_BEGINNING = re.compile(rb"-----?(?: (?:B(?:E(?:G(?:I)?)?)?)?| ?BEGIN(?: [A-Z0-9 ]{0,56}-{0,5})?)\Z")
_LONGEST_BEGINNING = 80
_SWALLOWED = {"jwt": secrets.TOKEN_BYTES, "private_key": secrets.BODY_BYTES}


class Finder(Protocol):
    """The set of detectors, as a stream needs it."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def has_own(self) -> bool: ...

    def find(self, data: bytes) -> list[Match]: ...


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Text that may leave. match: it is a value. is_rest: of a value whose stand-in has left already."""

    text: bytes
    match: Match | None = None
    is_rest: bool = False


class StreamScanner:
    """Decides piece by piece; the pieces put together are what was fed, in order. `StreamDetector` writes them."""

    __slots__ = (
        "_begun",
        "_buffer",
        "_detectors",
        "_ends_in_match",
        "_holds_key",
        "_is_cut",
        "_sent",
        "_swallowing",
    )

    def __init__(self, detectors: Finder) -> None:
        self._detectors = detectors
        self._buffer = b""  # the context, then what is held
        self._sent = 0  # how much of it is context
        self._is_cut = False  # does the context begin in the middle of something?
        self._ends_in_match = False  # was what left last a value?
        self._swallowing = ""  # the kind of a value that is going on
        self._holds_key = "private_key" in detectors.names
        self._begun = [begun for kind, begun in _BEGUN.items() if kind in detectors.names]

    @property
    def held_bytes(self) -> int:
        return len(self._buffer) - self._sent

    @property
    def is_in_number(self) -> bool:
        """Is what is held, with what has left before it, most of a card's number or the like?"""
        tail = self._buffer[-_LONGEST_GROUPED:]
        return self.held_bytes > 0 and any(begun.search(tail) is not None for begun in self._begun)

    def feed(self, data: bytes) -> list[Piece]:
        pieces: list[Piece] = []
        if self._swallowing:
            data = self._swallow(data, pieces)
        if data:
            self._buffer += data
            if not self._waits_for_key_end(len(data)):
                self._decide(pieces, is_last=False)
        return pieces

    def flush(self) -> list[Piece]:
        """What is held, judged as it is."""
        pieces: list[Piece] = []
        if self.held_bytes:
            self._decide(pieces, is_last=True)
        return pieces

    def _swallow(self, data: bytes, pieces: list[Piece]) -> bytes:
        """What is left of `data` when the value that is going on has ended."""
        left = data.lstrip(_SWALLOWED[self._swallowing])
        swallowed = data[: len(data) - len(left)]
        if swallowed:
            pieces.append(Piece(swallowed, Match(0, len(swallowed), self._swallowing), is_rest=True))
            self._leave(self._buffer + swallowed, len(self._buffer) + len(swallowed))
        if left:
            self._swallowing = ""
        return left

    def _waits_for_key_end(self, added: int) -> bool:
        """Is a private key held whose end has not come? Then there is nothing to decide yet."""
        if not self._holds_key or not self._buffer.startswith(b"-----", self._sent):
            return False
        start = self._sent
        if len(self._buffer) - start >= secrets.MAX_PRIVATE_KEY or added > secrets.MAX_PRIVATE_KEY:
            return False
        if secrets.key_beginning(self._buffer, start, len(self._buffer)) != start:
            return False
        recent = max(start, len(self._buffer) - added - 2 * _LONGEST_BEGINNING)
        return not secrets.has_key_end(self._buffer, recent)

    def _decide(self, pieces: list[Piece], *, is_last: bool) -> None:
        buffer, sent = self._buffer, self._sent
        matches = [match for match in self._detectors.find(buffer) if match.end > sent]
        if matches and matches[0].start == 0 and self._is_cut:
            del matches[0]
        limit = len(buffer) if is_last else self._first_undecided(buffer)
        for match in matches:
            if match.start < limit < match.end:
                limit = match.start
        if not is_last:
            limit = self._bounded(limit, matches)
        position = sent
        for match in matches:
            if match.start >= limit:
                break
            start = max(match.start, sent)
            if start > position:
                pieces.append(Piece(buffer[position:start]))
            is_rest = match.start < sent and self._ends_in_match
            pieces.append(Piece(buffer[start : match.end], match, is_rest=is_rest))
            position = match.end
            if match.end == len(buffer) and self._may_go_on(match):
                self._swallowing = match.kind
        if limit > position:
            pieces.append(Piece(buffer[position:limit]))
        if pieces:
            self._ends_in_match = pieces[-1].match is not None
        self._leave(buffer, max(limit, position, sent))

    def _may_go_on(self, match: Match) -> bool:
        """Is it of a kind of any length, and has not said its end?"""
        if match.kind == "private_key":
            return not secrets.ends_key(self._buffer, match.end)
        return match.kind in _SWALLOWED

    def _first_undecided(self, buffer: bytes) -> int:
        """Where a match may begin that what comes next would make, or make longer."""
        sent, length = self._sent, len(buffer)
        line = max(sent, buffer.rfind(b"\n", sent) + 1)
        if self._detectors.has_own:
            first = line
        else:
            first = max(line, line + len(buffer[line:].rstrip(_WORD_BYTES)))
            if not buffer.isascii():
                wide = _WIDE_GROUPED.search(buffer, max(line, length - _LONGEST_WIDE))
                if wide is not None:
                    first = min(first, wide.start())
            near = max(line, length - _LONGEST_GROUPED)
            if _BEGINS_GROUPED.search(buffer, near) is not None:
                grouped = _GROUPED.search(buffer, near)
                if grouped is not None:
                    first = min(first, grouped.start())
        if self._holds_key and b"-" in buffer:
            begun = _KEY_BEGINNING.search(buffer, max(line, length - _LONGEST_BEGINNING))
            if begun is not None:
                first = min(first, begun.start())
            first = min(first, secrets.open_key(buffer, sent))
        return first

    def _bounded(self, limit: int, matches: list[Match]) -> int:
        """No more is held than the bounds allow. A match that goes over them leaves as it is."""
        length = len(self._buffer)
        bound = MAX_HELD
        if self._holds_key and secrets.key_beginning(self._buffer, limit, length) == limit:
            bound = secrets.MAX_PRIVATE_KEY
        if length - limit <= bound and not (length - limit == bound == secrets.MAX_PRIVATE_KEY):
            return limit
        limit = max(limit + 1, length - MAX_HELD)
        for match in matches:
            if match.start < limit < match.end:
                limit = match.end
        return limit

    def _leave(self, buffer: bytes, limit: int) -> None:
        """Everything before `limit` has left; its end stays as context."""
        kept = max(0, limit - _CONTEXT)
        self._is_cut = self._is_cut if kept == 0 else True
        self._buffer = buffer[kept:]
        self._sent = limit - kept


class StreamDetector:
    """`DetectorSet.replace` for what comes in pieces. `counts`: values replaced so far, by kind."""

    __slots__ = ("_scanner", "_write", "counts")

    def __init__(self, detectors: Finder, write: Write | None = None) -> None:
        self._scanner = StreamScanner(detectors)
        self._write = write or placeholder
        self.counts: Counter[str] = Counter()

    @property
    def held_bytes(self) -> int:
        return self._scanner.held_bytes

    def feed(self, data: bytes) -> bytes:
        return self._written(self._scanner.feed(data))

    def flush(self) -> bytes:
        """What is held goes out now, judged as it is."""
        return self._written(self._scanner.flush())

    def finish(self) -> bytes:
        """The stream has ended."""
        return self.flush()

    def _written(self, pieces: list[Piece]) -> bytes:
        return b"".join(map(self._write_piece, pieces))

    def _write_piece(self, piece: Piece) -> bytes:
        if piece.match is None:
            return piece.text
        if piece.is_rest:
            return b""
        self.counts[piece.match.kind] += 1
        return self._write(piece.match, piece.text)
