"""Many server-sent events at once: which of them may hold something that masks concern.

An event may be JSON or text, and both readings have to be clean for it to pass as it is. So this says no more than
where to look; an event is masked where it is taken apart (`event_bodies`). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from policy.detectors.encoded import ENCODED
from policy.detectors.engine import Pattern
from proxyd.gates.http.bodies.json_detecting import RunDetection
from proxyd.gates.http.bodies.plan import Plan

_END = b"\n\n"
_FIELD = rb"(?:data|event|id|retry)?"
_EVENTS = Pattern(rb"^(?:" + _FIELD + rb"(?::[^\r\n\x00]*)?\n)*$")
_ENCODED = Pattern(rb"(?m)^" + _FIELD + rb": ?" + ENCODED + rb"$")
_prefix = re.compile(rb"(?m)^(?:data|event|id|retry)?: ?")

Place = tuple[int, int]


class EventRuns:
    """For the events of one direction."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._detection: RunDetection | None = plan.runs
        self._has_own = plan.detectors is not None and plan.detectors.has_own

    def doubtful(self, run: bytes) -> list[Place] | None:
        """The places of events in `run`, which are whole, that have to be taken apart. None: all of them."""
        plan = self._plan
        if len(run) > plan.limits.event_bytes or _EVENTS.find(run, 0, len(run)) is None:
            return None
        try:
            text = run.decode()
        except UnicodeDecodeError:
            return None
        if plan.has_paths and plan.may_mask(text):
            return None if self._detection is not None else list(self._by_path(run))
        return [] if self._detection is None else _events_at(run, self._suspects(run, self._detection))

    def _by_path(self, run: bytes) -> Iterator[Place]:
        position = 0
        while position < len(run):
            end = run.index(_END, position) + len(_END)
            if self._plan.may_mask(run[position:end].decode()):
                yield position, end
            position = end

    def _suspects(self, run: bytes, detection: RunDetection) -> list[Place]:
        if self._has_own:  # its patterns may say where a value begins and ends
            lines = _prefix.sub(b"", run)
            if detection.suspects(lines) or detection.suspects(lines.replace(b'"', b"\n")):
                return [(0, len(run))]
        found = detection.suspects(run)
        found += _ENCODED.find_all(run, 0, len(run))
        position = run.find(b"\\")
        while position >= 0:
            found.append((position, position + 1))
            position = run.find(b"\\", run.index(_END, position))
        return found


def _events_at(run: bytes, places: list[Place]) -> list[Place]:
    """The events that these places touch, in order."""
    events: list[Place] = []
    position = 0
    for first, last in sorted(places):
        if last <= position:
            continue
        before = run.rfind(_END, position, max(position, first))
        start = position if before < 0 else before + len(_END)
        position = run.index(_END, max(start, min(last, len(run)) - len(_END))) + len(_END)
        events.append((start, position))
    return events
