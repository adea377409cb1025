"""One running text of a stream under masks: pieces in, pieces out, with a window across their borders.

A plain text goes through a detector. A tool's arguments are a JSON document that comes in pieces: they go through the
masks of JSON, so that they stay JSON, and a string in them comes out once it is complete. A text that begins like a
JSON document, under masks by path, is held until its end and masked as the document that it may be: a model that was
asked for JSON must not be a way round them. Called by `proxyd.gates.http.llm.streams`.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Sequence
from typing import Final

from policy.json_paths import JsonPath
from policy.masking import Mask
from proxyd.gates.http.bodies.interfaces import BodyMasks, BodyRefused, Detectors, StreamDetector, Transformer
from proxyd.gates.http.bodies.transformers import mask_message, transformer_for

MAX_HELD_BYTES: Final = 1 << 20
REFUSED_HINT: Final = "Ask without `stream`, or ask for access without masks."
_BLANKS: Final = b" \t\r\n"


class ChosenMasks:
    """Some of the masks that a policy demands."""

    __slots__ = ("detectors", "json")

    def __init__(
        self, json: Sequence[tuple[JsonPath, Mask]] = (), detectors: Detectors | None = None
    ) -> None:
        self.json = json
        self.detectors = detectors


class Running:
    """One text. `is_json`: what its pieces make together is a JSON document."""

    __slots__ = ("_decoder", "_is_json", "_text")

    def __init__(self, masks: BodyMasks, *, is_json: bool) -> None:
        self._is_json = is_json
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = _text_under(masks, is_json=is_json)

    @property
    def counts(self) -> Counter[str]:
        return self._text.counts

    def feed(self, text: str) -> str:
        """Raises BodyRefused."""
        try:
            return self._decoder.decode(self._text.feed(text.encode("utf-8", "replace")))
        except BodyRefused as refused:
            what = "the arguments of a tool" if self._is_json else "a text of the model's stream"
            raise BodyRefused(f"{what} cannot be masked: {refused.reason}", REFUSED_HINT) from refused

    def finish(self) -> str:
        """Raises BodyRefused."""
        try:
            return self._decoder.decode(self._text.finish(), final=True)
        except BodyRefused:
            if self._is_json:
                return ""  # cut off by the model's limit: what was held back stays back
            raise


def _text_under(masks: BodyMasks, *, is_json: bool) -> StreamDetector | Transformer:
    if is_json:
        document = transformer_for("application/json", masks)
        if document is not None:
            return document
    if masks.json:
        return _Undecided(masks)
    return masks.detectors.stream() if masks.detectors is not None else _Plain()


class _Plain:
    """Nothing is looked for."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class _Undecided:
    """A text under masks by path, until its first letter tells whether it could be a document."""

    def __init__(self, masks: BodyMasks) -> None:
        self._masks = masks
        self._held = b""
        self._plain: StreamDetector | Transformer | None = None
        self._found: Counter[str] = Counter()

    @property
    def counts(self) -> Counter[str]:
        return self._found if self._plain is None else self._plain.counts

    def feed(self, data: bytes) -> bytes:
        if self._plain is not None:
            return self._plain.feed(data)
        self._held += data
        if len(self._held) > MAX_HELD_BYTES:
            raise BodyRefused("it is too long a document")
        start = self._held.lstrip(_BLANKS)[:1]
        if not start or start in b'{["':
            return b""
        self._plain = self._masks.detectors.stream() if self._masks.detectors is not None else _Plain()
        held, self._held = self._held, b""
        return self._plain.feed(held)

    def finish(self) -> bytes:
        if self._plain is not None:
            return self._plain.finish()
        text, self._found = mask_message(self._held.decode("utf-8", "replace"), self._masks)
        self._held = b""
        return text.encode()


def masked_document(text: str, masks: BodyMasks, counts: Counter[str]) -> str | None:
    """A whole JSON document with its masks; None for what is none."""
    document = transformer_for("application/json", masks)
    if document is None:
        return text
    try:
        masked = document.feed(text.encode("utf-8", "replace")) + document.finish()
    except BodyRefused:
        return None
    counts.update(document.counts)
    return masked.decode("utf-8", "replace")
