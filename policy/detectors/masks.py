"""What the detector masks of a policy do to a text: which values are looked for, and what each becomes.

Owns `Detection`, made once for a subject at a target from the masks that apply to them. Called by the gates; pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import AnyStr

from policy.detectors.detector_set import DetectorSet
from policy.detectors.kinds import expanded
from policy.detectors.matches import Match, placeholder
from policy.detectors.stream import StreamDetector
from policy.masking import Mask


class Detection:
    """`detectors` is what is looked for, `write` what takes the place of a match."""

    __slots__ = ("_masks", "detectors")

    def __init__(self, detectors: DetectorSet, masks: Mapping[str, Mask | None]) -> None:
        self.detectors = detectors
        self._masks = masks

    @staticmethod
    def of(
        masks: Iterable[tuple[tuple[str, ...], Mask | None]], own: Mapping[str, str] | None = None
    ) -> Detection | None:
        """masks: (names in `detect`, method; None for `token`). own: name -> expression. None for no mask at all.

        Where several masks name one detector the most concealing method is used; `token` conceals all there is.
        """
        chosen: dict[str, Mask | None] = {}
        for names, mask in masks:
            for name in expanded(names):
                if name not in chosen:
                    chosen[name] = mask
                    continue
                before = chosen[name]
                if before is not None and (mask is None or mask.concealment < before.concealment):
                    chosen[name] = mask
        return Detection(DetectorSet.of(tuple(chosen), own), chosen) if chosen else None

    def write(self, match: Match, value: bytes) -> bytes:
        """The stand-in of a match. Bytes that are no UTF-8 keep their place in a partial mask."""
        mask = self._masks.get(match.kind)
        if mask is None:
            return placeholder(match, value)
        masked = mask.apply(value.decode("utf-8", "surrogateescape"), "text")
        return b"" if masked is None else masked.encode("utf-8", "surrogateescape")

    def replace(self, text: AnyStr) -> tuple[AnyStr, Counter[str]]:
        """`text` with the stand-ins in it, and how many values of each kind there were. The same text if none."""
        if isinstance(text, bytes):
            return self.detectors.replace(text, self.write)
        return self._decoded(text, *self.detectors.replace(_bytes_of(text), self.write))

    def replace_value(self, text: AnyStr) -> tuple[AnyStr, Counter[str]]:
        """The same for one whole value, which may be written in base64 or hexadecimal."""
        if isinstance(text, bytes):
            return self.detectors.replace_value(text, self.write)
        return self._decoded(text, *self.detectors.replace_value(_bytes_of(text), self.write))

    @staticmethod
    def _decoded(text: str, replaced: bytes, counts: Counter[str]) -> tuple[str, Counter[str]]:
        if not counts:
            return text, counts
        try:
            return replaced.decode("utf-8", "surrogatepass"), counts
        except UnicodeDecodeError:  # a mask has taken half a character apart
            return replaced.decode("utf-8", "replace"), counts

    def may_match(self, data: bytes) -> bool:
        """False only if there is nothing to replace. Quicker than replacing."""
        return self.detectors.may_match(data)

    def may_match_inside(self, data: bytes) -> bool:
        """The same where something else than text stands beside the values (`DetectorSet.may_match_inside`)."""
        return self.detectors.may_match_inside(data)

    def stream(self) -> StreamDetector:
        return StreamDetector(self.detectors, self.write)


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
