"""The masks that apply to bodies, for answers and for requests apart.

Owns the choice of masks for a subject at a target. What a mask makes of a body is the gate's (`BodyMasks` there is what
it asks for). Called by the HTTP gates; the same object is given for the same document, roles and target.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from policy.document import PolicyDocument
from policy.facts import Subject, Target
from policy.json_paths import JsonPath
from policy.masking import Mask
from policy.rules import JsonMaskEntry
from policy.view import view_of


@dataclass(frozen=True, slots=True, eq=False)
class DirectionMasks:
    """What applies to the bodies of one direction."""

    json: tuple[tuple[JsonPath, Mask], ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.json


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
    made = HttpMasks(
        response=_direction(view.json_masks, "response"), request=_direction(view.json_masks, "request")
    )
    view.body_masks = made
    return made


def _direction(entries: Iterable[JsonMaskEntry], direction: str) -> DirectionMasks:
    return DirectionMasks(
        json=tuple((path, entry.mask) for entry in entries if direction in entry.on for path in entry.paths)
    )
