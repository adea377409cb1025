"""The detectors that apply to a subject at a target, and what they make of what they find. For every door.

Called by the gates that show text to a client, or take it from one. The same object is given for the same document,
roles and target.
"""

from __future__ import annotations

from typing import Literal

from policy.detectors import Detection
from policy.document import PolicyDocument
from policy.facts import Subject, Target
from policy.view import view_of

Direction = Literal["response", "request"]


def detection_for(
    document: PolicyDocument, subject: Subject, target: Target, direction: Direction = "response"
) -> Detection | None:
    """What to look for in what the target answers, or in what is sent to it; None for nothing."""
    view = view_of(document, subject, target)
    if not view.detect_masks:
        return None
    if direction not in view.detections:
        masks = [(entry.kinds, entry.mask) for entry in view.detect_masks if direction in entry.on]
        view.detections[direction] = Detection.of(masks, document.detectors)
    return view.detections[direction]
