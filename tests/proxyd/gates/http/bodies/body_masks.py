"""Masks and detectors for the tests of bodies, and ways to feed a body."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from policy.detectors import Match
from policy.detectors.stream import StreamScanner
from policy.json_paths import JsonPath
from policy.masking import Fixed, Mask, Null, Partial, Pseudonym, Redact
from proxyd.gates.http.bodies import DEFAULT_LIMITS, BodyLimits, Detectors, StreamDetector, transformer_for

KEY = b"0123456789abcdef"
REDACT = Mask("redact", Redact())
NULL = Mask("null", Null())
PARTIAL = Mask("partial", Partial(1, 2))
PSEUDONYM = Mask("pseudonym", Pseudonym("k"), key=KEY)
FIXED = Mask("fixed", Fixed("gone"))
METHODS = (REDACT, NULL, PARTIAL, PSEUDONYM, FIXED)

CARD = "4111 1111 1111 1111"


class CardStream:
    """Cards in text that comes in pieces: a line is held until its end."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        lines, mark, self._held = (self._held + data).rpartition(b"\n")
        return self._replaced(lines + mark)

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return self._replaced(held)

    def _replaced(self, data: bytes) -> bytes:
        text, found = Cards().replace(data.decode())
        self.counts.update(found)
        return text.encode()


class Cards:
    """A stand-in for the detectors: four groups of four digits, and codes that fill a line."""

    _card = re.compile(r"(?<![0-9])[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}(?![0-9])")
    _code = re.compile(r"(?m)^E-[0-9]{4}$")

    def replace(self, text: str) -> tuple[str, Counter[str]]:
        counts: Counter[str] = Counter()
        for kind, pattern in (("card", self._card), ("code", self._code)):
            text, found = pattern.subn(f"<{kind}>", text)
            if found:
                counts[kind] = found
        return text, counts

    has_own = True

    def replace_value(self, text: str) -> tuple[str, Counter[str]]:
        return self.replace(text)

    def find(self, data: bytes) -> list[Match]:
        text = data.decode("latin-1")
        found = [
            Match(match.start(), match.end(), kind)
            for kind, pattern in (("card", self._card), ("code", self._code))
            for match in pattern.finditer(text)
        ]
        return sorted(found, key=lambda match: match.start)

    def write(self, match: Match, _: bytes) -> bytes:
        return f"<{match.kind}>".encode()

    def scanner(self) -> StreamScanner:
        raise NotImplementedError

    def stream(self) -> StreamDetector:
        return CardStream()


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    json: Sequence[tuple[JsonPath, Mask]] = ()
    detectors: Detectors | None = None


CARDS = Cards()


def masks(*paths: tuple[str, Mask], detects: bool = False) -> Masks:
    return Masks([(JsonPath.parse(text), mask) for text, mask in paths], CARDS if detects else None)


EMAIL = masks(("$..email", REDACT))
DETECT = masks(detects=True)
BOTH = masks(("$..email", REDACT), detects=True)


def transformed(
    content_type: str,
    data: bytes,
    these: Masks = EMAIL,
    *,
    pieces: int | None = None,
    content_encoding: str = "",
    limits: BodyLimits = DEFAULT_LIMITS,
) -> tuple[bytes, Counter[str]]:
    """A body fed in pieces of so many bytes (None: whole). Raises BodyRefused."""
    transformer = transformer_for(content_type, these, content_encoding=content_encoding, limits=limits)
    assert transformer is not None
    size = pieces or max(len(data), 1)
    out = [transformer.feed(data[start : start + size]) for start in range(0, len(data), size)]
    out.append(transformer.finish())
    return b"".join(out), transformer.counts
