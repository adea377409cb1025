"""Detectors over what a channel shows: its output and its errors, each a stream of its own, with escape sequences.

Theory of operation. A terminal's output is text with sequences between (ECMA-48). Detectors see the text without those
that only colour it, so that a value of which half is red is found; where one is replaced, its sequences stay behind the
stand-in. A sequence that moves the cursor counts as the end of a line. What a sequence holds itself (the title of a
window) is looked at by itself. What could be the beginning of a value is held until more comes, until the stream ends,
or until it has been quiet for some ticks of the relay's clock, or has gone on for too many. That is long for most of a
number, and short for all else: somebody waits for the echo of what is typed.

Owned by a channel, called by `Flow`. No I/O and no clock.
"""

from __future__ import annotations

import re
from collections import Counter, deque

from policy.detectors import Detection
from policy.detectors.stream import Piece, StreamScanner
from proxyd.gates.ssh.windows import STDERR, STDOUT

QUIET_TICKS_OF_TERMINALS = 1
QUIET_TICKS = 5
MAX_STALLED_TICKS = 25
"""What goes on without a place where it could be cut (a row of dots) is shown after so many ticks all the same."""
QUIET_TICKS_IN_NUMBERS = 50
MAX_STALLED_TICKS_IN_NUMBERS = 200
"""The same where most of a number has come that may become a value: a card printed digit by digit is not shown so."""
MAX_SEQUENCE_BYTES = 4096
MAX_MARKED_BYTES = 64 * 1024
"""Of sequences that wait for the text before them."""

_STRING = rb"\x1b[\]PX^_]"  # OSC, DCS, SOS, PM, APC: up to BEL or ST
_SEQUENCE = re.compile(
    rb"\x1b\[[0-?]*+[ -/]*+[@-~]|"
    + _STRING
    + rb"[^\x07\x1b]*+(?:\x07|\x1b\\)|\x1b[ -/]++[0-~]|\x1b[0-OQ-WYZ\\`-~]|[\x0e\x0f]"
)
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*+[ -/]*+|[\]PX^_][^\x07\x1b]*+\x1b?|[ -/]*+)\Z")
# Ends of control sequences that change how text looks, or a mode, and not where it stands.
_COLOURING = frozenset(b"mKhlqtn")
_MOVING_ESCAPES = frozenset(b"78DEMHc")
_STAND_IN = b"\n"


class ScreenedStream:
    """One stream. What is fed comes out in order, replaced where something was found."""

    __slots__ = (
        "_detection",
        "_fed",
        "_marked_bytes",
        "_marks",
        "_scanner",
        "_sent",
        "_unfinished",
        "counts",
    )

    def __init__(self, detection: Detection) -> None:
        self._detection = detection
        self._scanner = StreamScanner(detection.detectors)
        self._unfinished = b""  # a sequence that has not ended
        # Sequences with the place in the text at which they stand; is_moving: a byte of the text stands for it.
        self._marks: deque[tuple[int, bytes, bool]] = deque()
        self._marked_bytes = 0  # of the sequences since they were last counted
        self._fed = 0  # bytes of text that the scanner has been given
        self._sent = 0  # and of those that have left
        self.counts: Counter[str] = Counter()

    @property
    def has_held(self) -> bool:
        return bool(self._unfinished) or self._scanner.held_bytes > 0

    @property
    def is_in_number(self) -> bool:
        return not self._unfinished and self._scanner.is_in_number

    def feed(self, data: bytes) -> bytes:
        out = self._written(self._scanner.feed(self._text_of(data)))
        if self._marked_bytes > MAX_MARKED_BYTES:
            self._marked_bytes = sum(len(sequence) for _, sequence, _ in self._marks)
            if self._marked_bytes > MAX_MARKED_BYTES:
                return out + self.flush()
        return out

    def flush(self) -> bytes:
        """What is held, judged as it is."""
        out = self._written(self._scanner.flush())
        unfinished, counts = self._detection.replace(self._unfinished)
        self.counts.update(counts)
        self._unfinished = b""
        return out + unfinished

    def _text_of(self, data: bytes) -> bytes:
        """The text in `data`; its sequences are marked."""
        if self._unfinished:
            data = self._unfinished + data
            self._unfinished = b""
        elif b"\x1b" not in data and b"\x0e" not in data and b"\x0f" not in data:
            self._fed += len(data)
            return data
        tail = _UNFINISHED.search(data, max(0, len(data) - MAX_SEQUENCE_BYTES))
        if tail is not None:
            self._unfinished = tail[0]
            data = data[: tail.start()]
        text: list[bytes] = []
        position = 0
        for found in _SEQUENCE.finditer(data):
            plain = data[position : found.start()]
            position = found.end()
            self._fed += len(plain)
            text.append(plain)
            sequence, is_moving = found[0], _is_moving(found[0])
            if sequence[1:2] in b"]PX^_" and len(sequence) > 2:
                sequence, counts = self._detection.replace(sequence)
                self.counts.update(counts)
            self._marks.append((self._fed, sequence, is_moving))
            self._marked_bytes += len(sequence)
            if is_moving:
                self._fed += 1
                text.append(_STAND_IN)
        rest = data[position:]
        self._fed += len(rest)
        text.append(rest)
        return b"".join(text)

    def _written(self, pieces: list[Piece]) -> bytes:
        out: list[bytes] = []
        for piece in pieces:
            if piece.match is None:
                self._write_text(piece.text, out)
                continue
            self._write_marks(self._sent, out)
            if not piece.is_rest:
                self.counts[piece.match.kind] += 1
                out.append(self._detection.write(piece.match, piece.text))
            self._sent += len(piece.text)
            while self._marks and self._marks[0][0] < self._sent:
                out.append(self._marks.popleft()[1])
        self._write_marks(self._sent, out)
        return b"".join(out)

    def _write_text(self, text: bytes, out: list[bytes]) -> None:
        start = self._sent
        end = start + len(text)
        marks = self._marks
        while marks and marks[0][0] < end:
            at, sequence, is_moving = marks.popleft()
            out += (text[self._sent - start : at - start], sequence)
            self._sent = at + is_moving
        out.append(text[self._sent - start :])
        self._sent = end

    def _write_marks(self, at: int, out: list[bytes]) -> None:
        """The sequences that stand before the text at `at`. One that a byte stands for waits for that byte."""
        while self._marks and self._marks[0][0] <= at and not self._marks[0][2]:
            out.append(self._marks.popleft()[1])


def _is_moving(sequence: bytes) -> bool:
    if sequence[1:2] == b"[":
        return sequence[-1] not in _COLOURING
    return len(sequence) == 2 and sequence[1] in _MOVING_ESCAPES


class ChannelScreens:
    """Both streams of a channel. skips_output: what it puts out is a protocol of its own, which must stay whole."""

    __slots__ = ("_detection", "_news", "_quiet", "_quiet_ticks", "_stalled", "_streams", "skips_output")

    def __init__(self, detection: Detection, *, skips_output: bool, is_terminal: bool) -> None:
        self._detection = detection
        self.skips_output = skips_output
        self._quiet_ticks = QUIET_TICKS_OF_TERMINALS if is_terminal else QUIET_TICKS
        self._streams: dict[int, ScreenedStream] = {}
        self._quiet: Counter[int] = Counter()  # ticks since something came, by stream
        self._stalled: Counter[int] = Counter()  # and since something was shown
        self._news: Counter[str] = Counter()

    @property
    def has_held(self) -> bool:
        return any(stream.has_held for stream in self._streams.values())

    def feed(self, code: int, data: bytes) -> bytes:
        """What may be shown now of what has come."""
        if self.skips_output and code == STDOUT:
            return data
        stream = self._streams.get(code)
        if stream is None:
            stream = self._streams[code] = ScreenedStream(self._detection)
        self._quiet[code] = 0
        shown = self._told(stream, stream.feed(data))
        if shown or not stream.has_held:
            self._stalled[code] = 0
        return shown

    def flush(self) -> list[tuple[int, bytes]]:
        """Everything that is held, errors behind output."""
        return self._flushed([STDOUT, STDERR])

    def tick(self) -> list[tuple[int, bytes]]:
        """Some time has passed: what has been quiet for long enough."""
        due: list[int] = []
        for code, stream in self._streams.items():
            if stream.has_held:
                self._quiet[code] += 1
                self._stalled[code] += 1
                if self._has_waited(code, stream):
                    due.append(code)
                    self._stalled[code] = 0
        return self._flushed(due)

    def _has_waited(self, code: int, stream: ScreenedStream) -> bool:
        quiet, stalled = self._quiet[code], self._stalled[code]
        if quiet <= self._quiet_ticks and stalled <= MAX_STALLED_TICKS:
            return False
        if stream.is_in_number:
            return quiet > QUIET_TICKS_IN_NUMBERS or stalled > MAX_STALLED_TICKS_IN_NUMBERS
        return True

    def _flushed(self, codes: list[int]) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        for code in codes:
            stream = self._streams.get(code)
            if stream is not None and stream.has_held:
                found.append((code, self._told(stream, stream.flush())))
        return found

    def _told(self, stream: ScreenedStream, data: bytes) -> bytes:
        if stream.counts:
            self._news.update(stream.counts)
            stream.counts.clear()
        return data

    def take_news(self) -> dict[str, int]:
        """How many values were found since the last call, by kind."""
        news = dict(self._news)
        self._news.clear()
        return news
