"""Detectors over one JSON document as PostgreSQL writes it: values replaced, everything else byte for byte.

Strings are read with their escapes undone, so that `\\u0040` is an at sign. A number that is a value becomes a string.
What could not be put back as JSON is replaced whole. Called by `proxyd.gates.postgres.detecting.values`; no I/O.
"""

from __future__ import annotations

import json
import re
from collections import Counter

from policy.detectors import Detection, Match
from policy.masking import REDACTED

_TOKEN = re.compile(rb'"((?:[^"\\]++|\\.)*+)"|(-?[0-9][0-9.eE+-]*+)', re.DOTALL)
_WHOLE = json.dumps(REDACTED).encode()


def detected_json(text: bytes, detection: Detection, counts: Counter[str]) -> bytes:
    """`text` without what detectors find in it; the same object when there is nothing."""
    found = detection.detectors.find(text)
    if not found and b"\\" not in text:
        return text
    rewriter = _Rewriter(text, detection, found)
    replaced = rewriter.replaced()
    counts.update(rewriter.counts)
    return replaced


class _Rewriter:
    """One document. found: the matches in its raw text, by which a name in front of a value is seen."""

    def __init__(self, text: bytes, detection: Detection, found: list[Match]) -> None:
        self.counts: Counter[str] = Counter()
        self._text = text
        self._detection = detection
        self._found = found
        self._next = 0

    def replaced(self) -> bytes:
        out: list[bytes] = []
        position = 0
        for token in _TOKEN.finditer(self._text):
            inside = self._inside(token)
            new = self._number(token, inside) if token[1] is None else self._string(token, inside)
            if new is not None:
                out += (self._text[position : token.start()], new)
                position = token.end()
        if not out:
            if self._found:
                return self._whole()
            return self._text
        out.append(self._text[position:])
        replaced = b"".join(out)
        return replaced if is_json(replaced) else self._whole()

    def _inside(self, token: re.Match[bytes]) -> list[Match]:
        """The matches that touch the token. They and the tokens both come in order."""
        while self._next < len(self._found) and self._found[self._next].end <= token.start():
            self._next += 1
        inside: list[Match] = []
        for match in self._found[self._next :]:
            if match.start >= token.end():
                break
            inside.append(match)
        return inside

    def _number(self, token: re.Match[bytes], inside: list[Match]) -> bytes | None:
        if not inside:
            return None
        self.counts[inside[0].kind] += 1
        return _quoted(self._detection.write(inside[0], token[0]).decode("utf-8", "replace"))

    def _string(self, token: re.Match[bytes], inside: list[Match]) -> bytes | None:
        raw = token[1]
        if b"\\" in raw:
            return self._escaped(raw, inside)
        if not inside:
            return None
        first, last = token.start(1), token.end(1)
        pieces: list[str] = []
        position = first
        for match in inside:
            start, end = max(match.start, first), min(match.end, last)
            self.counts[match.kind] += 1
            pieces += (
                self._text[position:start].decode("utf-8", "replace"),
                self._detection.write(match, self._text[start:end]).decode("utf-8", "replace"),
            )
            position = end
        pieces.append(self._text[position:last].decode("utf-8", "replace"))
        return _quoted("".join(pieces))

    def _escaped(self, raw: bytes, inside: list[Match]) -> bytes | None:
        try:
            value = json.loads(b'"' + raw + b'"', strict=False)
        except ValueError:
            return _WHOLE if inside else None
        replaced, counts = self._detection.replace(value)
        if counts:
            self.counts.update(counts)
            return _quoted(replaced)
        if not inside:
            return None
        # Seen only together with what stands in front of the string, so that it is all of it.
        self.counts[inside[0].kind] += 1
        return _quoted(self._detection.write(inside[0], raw).decode("utf-8", "replace"))

    def _whole(self) -> bytes:
        self.counts.update({match.kind: 1 for match in self._found[:1]})
        return _WHOLE


def _quoted(text: str) -> bytes:
    encoded = json.dumps(text, ensure_ascii=False)
    try:
        return encoded.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which was written as an escape
        return json.dumps(text).encode()


def is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
