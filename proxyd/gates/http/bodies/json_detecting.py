"""Detectors over a run of a JSON document at once, with the same outcome as value by value.

Theory of operation. With each quote turned into the end of a line, every string of a run is a line of its own, at the
place where it stood: one search over all of it finds what is in any string, and what lies outside of strings is
numbers. Strings with escapes are blanked and looked at by themselves, as what they say, in a search of their own. Two
more expressions tell where a name stands that says what its value is, and where a value is written in base64 or
hexadecimal. So a run in which nothing is costs a few passes of RE2, and else the values that are touched are dealt with
one by one.

Called by the JSON rewriter with what its grammar has passed over. Pure.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import Counter
from itertools import accumulate

from policy.detectors import Match
from policy.detectors.encoded import ENCODED, encoded_lines
from policy.detectors.engine import Pattern
from policy.json_masking import json_text
from protocols.http import json_tokens as tokens
from protocols.http.json_runs import string_text
from proxyd.gates.http.bodies.detecting import TELLING, ValueDetection, beside, may_be_named

_BLANKED = b"\x01"  # stands in no run: JSON has its controls written as escapes
_QUOTE = b'"'
_END = b"\n"

_between = rb"[ \t\n\r]*:[ \t\n\r]*"
_long_number = rb"-?[0-9][-+0-9.eE]{6,}"
# Behind a name that tells, only what these are in becomes a value: seven digits, forty characters of base64.
_shape = rb'(?:(?:[0-9][^0-9"]{0,6}){6}[0-9]|[A-Za-z0-9/+]{40}|[\x80-\xff])'
_telling_name = rb'"(?:[^"]*(?i:' + TELLING.encode() + rb')[^"]*|\x01+)"' + _between
_NAMED = Pattern(_telling_name + rb'(?:"(?:\x01|[^"]*' + _shape + rb")|" + _long_number + rb")")
_NAMED_FOR_OWN = Pattern(_telling_name + rb'(?:"(?:\x01|[^"]{7})|' + _long_number + rb")")
_ENCODED_STRING = Pattern(rb'"' + ENCODED + rb'"')
_pair = re.compile(rb'("[^"]*+")' + _between + rb'("[^"]*+"|' + _long_number + rb")")
_numbers = re.compile(_long_number)
_NUMBER_BYTES = b"-+.0123456789eE"
_LONGEST_NUMBER = 1024
# Of a run, token by token: its strings, and numbers worth looking at.
_tokens = re.compile(rb'("' + tokens.BODY + rb'"|' + _long_number + rb")")
_plain_stand_in = re.compile(rb"[ !#-\[\]-~]*+").fullmatch  # what can stand in a string as it is

Edit = tuple[int, bytes]  # the end of a token, and what becomes of it


class RunDetection:
    def __init__(self, values: ValueDetection) -> None:
        self._values = values
        self._detectors = values.detectors
        self._named = _NAMED_FOR_OWN if values.detectors.has_own else _NAMED

    def cleaned(self, run: bytes, counts: Counter[str]) -> bytes:
        """What becomes of a run; the same object where that is nothing."""
        reading = _Reading(run)
        found: Counter[str] = Counter()
        edits: dict[int, Edit] = {}
        if not (self._look_into_lines(reading, edits, found) and self._look_into_numbers(reading)):
            return self._token_by_token(run, counts)
        if reading.escaped:
            self._look_into_escaped(reading, edits, found)
        self._look_into_encoded(reading, edits, found)
        self._look_into_named(reading, edits, found)
        if not edits:
            return run
        counts.update(found)
        return _edited(run, edits)

    def suspects(self, text: bytes) -> list[tuple[int, int]]:
        """Places without which nothing is found in `text`, as it is or as JSON without escapes. For a look ahead."""
        found = [(match.start, match.end) for match in self._detectors.find(text)]
        if self._detectors.has_own and self._detectors.find(_END.join(_numbers.findall(text))):
            found.append((0, len(text)))
        for pattern in (self._named, _ENCODED_STRING):
            found += pattern.find_all(text, 0, len(text))
        return found

    # --- what is in any string --------------------------------------------------------------------------------

    def _look_into_lines(self, reading: _Reading, edits: dict[int, Edit], found: Counter[str]) -> bool:
        """False when something goes over the end of a string, so that each has to be looked at alone."""
        plain = reading.plain
        matches = self._detectors.find(plain.replace(_QUOTE, _END))
        inside: dict[int, list[Match]] = {}
        quotes = counted = 0
        for match in matches:
            if (
                plain.find(_QUOTE, match.start, match.end) >= 0
                or plain.find(_END, match.start, match.end) >= 0
            ):
                return False
            quotes += plain.count(_QUOTE, counted, match.start)
            counted = match.start
            if quotes % 2:
                inside.setdefault(plain.rfind(_QUOTE, 0, match.start), []).append(match)
            else:
                self._look_at_number(plain, match, edits, found)
        for start, here in inside.items():
            if plain[start + 1 : start + 2] != _BLANKED:
                self._edit_string(plain, start, here, edits, found)
        return True

    def _edit_string(
        self, plain: bytes, start: int, matches: list[Match], edits: dict[int, Edit], found: Counter[str]
    ) -> None:
        end = plain.index(_QUOTE, matches[-1].end)
        pieces = [_QUOTE]
        position = start + 1
        for match in matches:
            value = plain[match.start : match.end]
            stand_in = self._detectors.write(match, value)
            # What needs an escape, or could have cut a character, goes the slow way.
            if _plain_stand_in(stand_in) is None or not value.isascii():
                self._edit(start, end + 1, plain[start + 1 : end].decode(), "", edits, found)
                return
            pieces += (plain[position : match.start], stand_in)
            position = match.end
        pieces += (plain[position:end], _QUOTE)
        edits[start] = end + 1, b"".join(pieces)
        for match in matches:
            found[match.kind] += 1

    def _look_at_number(
        self, plain: bytes, match: Match, edits: dict[int, Edit], found: Counter[str]
    ) -> None:
        before = plain[max(0, match.start - _LONGEST_NUMBER) : match.start]
        start = match.start - (len(before) - len(before.rstrip(_NUMBER_BYTES)))
        number = _numbers.match(plain, start)
        if number is not None and start not in edits:
            self._edit(start, number.end(), number[0].decode(), "", edits, found)

    def _look_into_numbers(self, reading: _Reading) -> bool:
        """Patterns of a policy's own may say where a value ends. False when one does so of a number."""
        if not self._detectors.has_own:
            return True
        return not self._detectors.find(_END.join(_numbers.findall(reading.plain)))

    # --- strings that say something else than what they are written in ----------------------------------------

    def _look_into_escaped(self, reading: _Reading, edits: dict[int, Edit], found: Counter[str]) -> None:
        texts = [text.encode("utf-8", "surrogatepass") for text in reading.texts]
        lines = _END.join(texts)
        spans = [(match.start, match.end) for match in self._detectors.find(lines)]
        spans += encoded_lines(lines)
        if not spans:
            return
        starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
        touched: set[int] = set()
        for start, end in spans:
            touched.update(range(bisect_right(starts, start) - 1, bisect_right(starts, max(start, end - 1))))
        for number in touched:
            start, end = reading.escaped[number]
            self._edit(start, end, reading.texts[number], "", edits, found)

    def _look_into_encoded(self, reading: _Reading, edits: dict[int, Edit], found: Counter[str]) -> None:
        plain = reading.plain
        for start, end in _ENCODED_STRING.find_all(plain, 0, len(plain)):
            if start not in edits:
                self._edit(start, end, plain[start + 1 : end - 1].decode(), "", edits, found)

    # --- values behind names ----------------------------------------------------------------------------------

    def _look_into_named(self, reading: _Reading, edits: dict[int, Edit], found: Counter[str]) -> None:
        named: list[tuple[int, int, str, str]] = []
        for at, _ in self._named.find_all(reading.plain, 0, len(reading.plain)):
            pair = _pair.match(reading.plain, at)
            if pair is None or pair.start(2) in edits:
                continue
            name, value = reading.text(pair, 1), reading.text(pair, 2)
            if may_be_named(name, value):
                named.append((pair.start(2), pair.end(2), name, value))
        if not named:
            return
        lines = "\n".join([beside(name) + value for _, _, name, value in named])
        if self._detectors.find(lines.encode("utf-8", "surrogatepass")):
            for start, end, name, value in named:
                self._edit(start, end, value, name, edits, found)

    def _edit(
        self, start: int, end: int, text: str, name: str, edits: dict[int, Edit], found: Counter[str]
    ) -> None:
        token = self._values.token(text, found, name)
        if token is not None:
            edits[start] = end, token

    # --- the slow way -----------------------------------------------------------------------------------------

    def _token_by_token(self, run: bytes, counts: Counter[str]) -> bytes:
        parts = _tokens.split(run)  # what is between, and what is looked at, by turns
        texts = [_text_of(token) for token in parts[1::2]]
        is_changed = False
        for number, text in enumerate(texts):
            is_value = number > 0 and parts[2 * number].strip() == b":"
            new = self._values.replaced(text, counts, texts[number - 1] if is_value else "")
            if new != text:
                parts[2 * number + 1] = json_text(new).encode()
                is_changed = True
        return b"".join(parts) if is_changed else run


class _Reading:
    """A run, and what its strings with escapes say. plain: the run with those blanked."""

    __slots__ = ("_by_start", "escaped", "plain", "texts")

    def __init__(self, run: bytes) -> None:
        self.escaped: list[tuple[int, int]] = []
        self.texts: list[str] = []
        self._by_start: dict[int, str] = {}
        self.plain = self._blanked(run) if b"\\" in run else run

    def _blanked(self, run: bytes) -> bytes:
        pieces: list[bytes] = []
        position = 0
        while (at := run.find(b"\\", position)) >= 0:
            start = run.rfind(_QUOTE, position, at)
            body = tokens.string_body.match(run, start + 1)
            end = start + 1 if body is None else body.end()
            self.escaped.append((start, end + 1))
            pieces += (run[position : start + 1], _BLANKED * (end - start - 1), _QUOTE)
            position = end + 1
        pieces.append(run[position:])
        self.texts = json.loads(b"[" + b",".join([run[start:end] for start, end in self.escaped]) + b"]")
        self._by_start = {start: text for (start, _), text in zip(self.escaped, self.texts, strict=True)}
        return b"".join(pieces)

    def text(self, pair: re.Match[bytes], group: int) -> str:
        known = self._by_start.get(pair.start(group))
        return _text_of(pair[group]) if known is None else known


def _text_of(token: bytes) -> str:
    return string_text(token) if token.startswith(_QUOTE) else token.decode()


def _edited(run: bytes, edits: dict[int, Edit]) -> bytes:
    pieces: list[bytes] = []
    position = 0
    for start in sorted(edits):
        end, token = edits[start]
        pieces += (run[position:start], token)
        position = end
    pieces.append(run[position:])
    return b"".join(pieces)
