"""The masks that apply to bodies, for answers and for requests apart.

Owns the choice of masks for a subject at a target. What a mask makes of a body is the gate's (`BodyMasks` there is what
it asks for). Called by the HTTP gates; the same object is given for the same document, roles and target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from policy.detection import Direction, detection_for
from policy.detectors import Detection, Match, StreamDetector
from policy.detectors.stream import StreamScanner
from policy.document import PolicyDocument
from policy.facts import Subject, Target
from policy.json_paths import JsonPath
from policy.masking import Mask
from policy.rules import JsonMaskEntry
from policy.view import view_of


@dataclass(frozen=True, slots=True, eq=False)
class BodyDetectors:
    """Detectors over the texts of bodies."""

    detection: Detection

    def stream(self) -> StreamDetector:
        return self.detection.stream()

    def replace(self, text: str) -> tuple[str, Counter[str]]:
        """`text` with what was found replaced, and how many of each kind. Half of a surrogate pair passes through."""
        return self.detection.replace(text)

    def replace_value(self, text: str) -> tuple[str, Counter[str]]:
        """The same for one whole value, which may be written in base64 or hexadecimal."""
        return self.detection.replace_value(text)

    @property
    def has_own(self) -> bool:
        return self.detection.detectors.has_own

    def find(self, data: bytes) -> list[Match]:
        return self.detection.detectors.find(data)

    def write(self, match: Match, value: bytes) -> bytes:
        return self.detection.write(match, value)

    def scanner(self) -> StreamScanner:
        return StreamScanner(self.detection.detectors)


@dataclass(frozen=True, slots=True, eq=False)
class DirectionMasks:
    """What applies to the bodies of one direction."""

    json: tuple[tuple[JsonPath, Mask], ...] = ()
    detectors: BodyDetectors | None = None

    @property
    def is_empty(self) -> bool:
        return not self.json and self.detectors is None


@dataclass(frozen=True, slots=True, eq=False)
class HttpMasks:
    """What applies to the answers that a subject gets from a target, and to the requests that it sends there."""

    response: DirectionMasks = DirectionMasks()
    request: DirectionMasks = DirectionMasks()

    @property
    def is_empty(self) -> bool:
        return self.response.is_empty and self.request.is_empty


def masks_for_http(document: PolicyDocument, subject: Subject, target: Target) -> HttpMasks:
    """The masks that apply to bodies between the subject and the target. Cheap after the first time."""
    view = view_of(document, subject, target)
    known = view.body_masks
    if isinstance(known, HttpMasks):
        return known

    def masks_of(direction: Direction) -> DirectionMasks:
        detection = detection_for(document, subject, target, direction)
        detectors = None if detection is None else BodyDetectors(detection)
        return DirectionMasks(_json(view.json_masks, direction), detectors)

    view.body_masks = made = HttpMasks(masks_of("response"), masks_of("request"))
    return made


def _json(entries: Iterable[JsonMaskEntry], direction: Direction) -> tuple[tuple[JsonPath, Mask], ...]:
    return tuple((path, entry.mask) for entry in entries if direction in entry.on for path in entry.paths)
