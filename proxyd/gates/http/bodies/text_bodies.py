"""Bodies that are text of no form that is known here: HTML, XML, YAML, plain text, scripts.

Detectors look through them as they stream. Masks by path cannot find a field in them, so a text that names a field
which is masked is refused: the same record as XML, YAML or in a page is a known way round masks on its JSON. (A path
that ends in no name masks whatever there is: no text passes then.) Text that turns out to be JSON is masked as JSON.
"""

from __future__ import annotations

import codecs
from collections import Counter

from protocols.errors import RemoteProtocolError
from proxyd.gates.http.bodies.interfaces import BodyRefused, Transformer
from proxyd.gates.http.bodies.json_bodies import JsonBody, prefix_length
from proxyd.gates.http.bodies.plan import Plan

LOOKED_AT_BYTES = 512
_BLANKS = b" \t\r\n"
_TAIL_CHARACTERS = 1100  # longer than the longest name that a path can hold, with what stands around it


class TextBody:
    """Text that is no JSON."""

    def __init__(self, plan: Plan) -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._tail = ""
        self._stream = None if plan.detectors is None else plan.detectors.stream()

    def feed(self, data: bytes) -> bytes:
        self._guard(data, is_last=False)
        return data if self._stream is None else self._stream.feed(data)

    def finish(self) -> bytes:
        self._guard(b"", is_last=True)
        if self._stream is None:
            return b""
        rest = self._stream.finish()
        self.counts.update(self._stream.counts)
        return rest

    def _guard(self, data: bytes, *, is_last: bool) -> None:
        try:
            text = self._utf8.decode(data, is_last)
        except UnicodeDecodeError:
            raise BodyRefused("it is a text that is not UTF-8") from None
        if "\0" in text:  # another encoding, in which nothing would be found
            raise BodyRefused("it is a text that holds NUL characters")
        if not self._plan.has_paths or not (text or is_last):
            return
        text = self._tail + text
        if text and self._plan.names_masked(text, may_go_on=not is_last):
            raise BodyRefused("it is no JSON, and it names a field that is masked")
        self._tail = text[-_TAIL_CHARACTERS:]


class MaybeJson:
    """A body that may be JSON, whatever its type says. A body whose beginning reads as JSON is JSON from there on.

    is_text: it is text in any case. may_be_text: it may be text; what is neither is refused.
    """

    def __init__(self, plan: Plan, *, is_text: bool = False, may_be_text: bool = False) -> None:
        self._plan = plan
        self._is_text = is_text
        self._may_be_text = may_be_text
        self._held = b""
        self._chosen: Transformer | None = None

    @property
    def counts(self) -> Counter[str]:
        return Counter() if self._chosen is None else self._chosen.counts

    def feed(self, data: bytes) -> bytes:
        if self._chosen is not None:
            return self._chosen.feed(data)
        self._held += data
        if len(self._held) < LOOKED_AT_BYTES and not self._is_plainly_text():
            return b""
        held, self._held = self._held, b""
        return self._choose(held, is_last=False)

    def finish(self) -> bytes:
        if self._chosen is None:
            return self._choose(self._held, is_last=True)
        return self._chosen.finish()

    def _is_plainly_text(self) -> bool:
        """So that text that comes slowly is not held back."""
        length = prefix_length(self._held)
        return self._is_text and length is not None and not begins_like_json(self._held)

    def _choose(self, held: bytes, *, is_last: bool) -> bytes:
        if begins_like_json(held):
            json = JsonBody(self._plan)
            try:
                out = json.feed(held)
                if is_last:
                    out += json.finish()
            except BodyRefused as refused:
                if not (self._is_text or self._may_be_text) or not isinstance(
                    refused.__cause__, RemoteProtocolError
                ):
                    raise
            else:
                self._chosen = json
                return out
        if held and not (self._is_text or (self._may_be_text and is_text(held, is_last=is_last))):
            raise BodyRefused("it is of a type that cannot be looked into")
        self._chosen = TextBody(self._plan)
        out = self._chosen.feed(held)
        return out + self._chosen.finish() if is_last else out


def begins_like_json(data: bytes) -> bool:
    """Does a body begin like an object or an array?"""
    length = prefix_length(data)
    return length is not None and data[length:].lstrip(_BLANKS)[:1] in (b"{", b"[")


def is_text(data: bytes, *, is_last: bool) -> bool:
    """Does the beginning of a body look like text? Characters of UTF-8, and no control characters but blanks."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(
            data[:LOOKED_AT_BYTES], is_last and len(data) < LOOKED_AT_BYTES
        )
    except UnicodeDecodeError:
        return False
    return all(character >= " " or character in "\t\r\n\f" for character in text) and "\x7f" not in text
