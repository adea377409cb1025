"""A whole text under masks: a message of a WebSocket, the data of an event."""

from __future__ import annotations

from collections import Counter

from policy.masking import MaskingError
from protocols.errors import RemoteProtocolError
from proxyd.gates.http.bodies.interfaces import DEFAULT_LIMITS, BodyLimits, BodyMasks, BodyRefused
from proxyd.gates.http.bodies.plan import Plan, begins_document, plan_of

_BLANKS = " \t\r\n\ufeff"


def mask_message(
    text: str, masks: BodyMasks, *, limits: BodyLimits = DEFAULT_LIMITS
) -> tuple[str, Counter[str]]:
    """A whole message masked: as JSON where it is JSON, else as text, which must not name what is masked by path.

    Raises BodyRefused.
    """
    counts: Counter[str] = Counter()
    if not masks.json and masks.detectors is None:
        return text, counts
    try:
        return masked_text(text, plan_of(masks, limits), counts), counts
    except (RemoteProtocolError, MaskingError) as fault:
        raise BodyRefused("it holds a message that cannot be masked") from fault


def masked_text(text: str, plan: Plan, counts: Counter[str]) -> str:
    """Raises BodyRefused, RemoteProtocolError, MaskingError."""
    if plan.may_mask(text) or (plan.detection is not None and begins_document(text)):
        masked = plan.whole(text, counts)
        if masked is not None:
            return masked
        found: Counter[str] = Counter()
        rewriter = plan.rewriter(found)
        start = len(text) - len(text.lstrip("\ufeff"))
        try:
            out = rewriter.feed(text[start:].encode()) + rewriter.finish()
        except (RemoteProtocolError, UnicodeEncodeError):
            if plan.names_masked(text) and text.strip(_BLANKS):
                raise BodyRefused("it is no JSON, and it names a field that is masked") from None
        else:
            counts.update(found)
            return text[:start] + out.decode()
    return plan.detected(text, counts)
