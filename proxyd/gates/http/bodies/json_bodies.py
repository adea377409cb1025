"""Bodies that are JSON: one document, lines of documents, or a sequence of them (RFC 7464).

A byte order mark and the prefix against script inclusion (`)]}',`) stand before a document in the wild; they pass.
Documents of a sequence stream too: a line may be as long as it likes. Called by `transformers`.
"""

from __future__ import annotations

from collections import Counter

from policy.masking import MaskingError
from protocols.errors import RemoteProtocolError
from proxyd.gates.http.bodies.interfaces import BodyRefused, Transformer
from proxyd.gates.http.bodies.plan import Plan

_MARK = b"\xef\xbb\xbf"
_PREFIX = b")]}'"
_BLANKS = b" \t\r\n"
_MOST_LINES_BYTES = 1 << 16
_HINT = "Ask for another form of it, or ask for access without masks."


class JsonBody:
    """One document; or nothing at all, where a body is empty."""

    def __init__(self, plan: Plan) -> None:
        self.counts: Counter[str] = Counter()
        self._rewriter = plan.rewriter(self.counts)
        self._start: bytes | None = b""  # until it is known how the document begins

    def feed(self, data: bytes) -> bytes:
        prefix = b""
        if self._start is not None:
            data = self._start + data
            length = prefix_length(data)
            if length is None:
                self._start = data
                return b""
            self._start = None
            prefix, data = data[:length], data[length:]
        try:
            return prefix + self._rewriter.feed(data)
        except (RemoteProtocolError, MaskingError) as fault:
            raise _refused(fault) from fault

    def finish(self) -> bytes:
        start, self._start = self._start, None
        try:
            if start is None:
                return self._rewriter.finish()
            if not start.removeprefix(_MARK).strip(_BLANKS):
                return start
            return self._rewriter.feed(start) + self._rewriter.finish()
        except (RemoteProtocolError, MaskingError) as fault:
            raise _refused(fault) from fault


def prefix_length(data: bytes) -> int | None:
    """How much of the beginning of a body stands before its document; None when that is not known yet."""
    if len(data) < len(_MARK) and _MARK.startswith(data):
        return None
    start = len(_MARK) if data.startswith(_MARK) else 0
    begins = data[start : start + len(_PREFIX)]
    if begins != _PREFIX:
        stripped = data[start:].strip(_BLANKS)
        return None if not stripped or (len(begins) < len(_PREFIX) and _PREFIX.startswith(begins)) else start
    end = data.find(b"\n", start)
    if end < 0:
        return None if len(data) < start + 8 else start
    return end + 1 if data[start + len(_PREFIX) : end].strip(b" ,\r") == b"" else start


class JsonLines:
    """Documents that end with a line (or, for a sequence, begin with the character RS)."""

    def __init__(self, plan: Plan, separator: bytes = b"\n") -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._separator = separator
        self._run = plan.lines if separator == b"\n" else None
        self._document: Transformer | None = None

    def feed(self, data: bytes) -> bytes:
        out: list[bytes] = []
        position = 0
        while position < len(data):
            end = data.find(self._separator, position)
            if end < 0:
                out.append(self._fed(data[position:]))
                break
            passed = self._passed(data, position, out) if self._document is None else 0
            if passed:
                position = passed
                continue
            out += (self._fed(data[position:end]), self._finished(), self._separator)
            position = end + len(self._separator)
        return b"".join(out)

    def finish(self) -> bytes:
        return self._finished()

    def _passed(self, data: bytes, position: int, out: list[bytes]) -> int:
        """Deal with whole lines from `position` on at once. Where they end, 0 for none."""
        if self._run is None:
            return 0
        found = self._run.pattern.match(data, position, min(len(data), position + _MOST_LINES_BYTES))
        if found is None:
            return 0
        lines = data[position : found.end()]
        try:
            lines.decode()
        except UnicodeDecodeError:
            return 0  # the line that it is in is refused
        out.append(self._plan.cleaned(lines, self.counts))
        return found.end()

    def _fed(self, piece: bytes) -> bytes:
        if self._document is None:
            if not piece.strip(_BLANKS):
                return piece
            self._document = JsonBody(self._plan)
        return self._document.feed(piece)

    def _finished(self) -> bytes:
        document, self._document = self._document, None
        if document is None:
            return b""
        rest = document.finish()
        self.counts.update(document.counts)
        return rest


def _refused(fault: RemoteProtocolError | MaskingError) -> BodyRefused:
    if isinstance(fault, RemoteProtocolError):
        return BodyRefused(f"it is {fault.message}", _HINT)
    return BodyRefused("a mask cannot be applied to it", "Tell the owners of the policy.")
