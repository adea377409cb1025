"""Which transformer a body needs under masks, by its type. See `transformer_for`."""

from __future__ import annotations

from collections import Counter

from proxyd.gates.http.bodies.interfaces import (
    DEFAULT_LIMITS,
    BodyLimits,
    BodyMasks,
    BodyRefused,
    Transformer,
)


def transformer_for(
    content_type: str, masks: BodyMasks, *, content_encoding: str = "", limits: BodyLimits = DEFAULT_LIMITS
) -> Transformer | None:
    """What a body of this type has to go through; None when nothing of `masks` concerns it (it passes byte for byte).

    content_type: the field's value as it came, "" when there is none. content_encoding: likewise; `gzip` and `deflate`
    are decoded, and what comes out is then not encoded (so the field must not be sent on). What comes out has another
    length than what goes in: no `content-length`, `etag`, `digest` or `content-range` of the body holds for it.
    Raises BodyRefused.
    """
    if not masks.json and masks.detectors is None:
        return None
    raise BodyRefused("masks apply, and bodies cannot be masked yet")


def mask_message(
    text: str, masks: BodyMasks, *, limits: BodyLimits = DEFAULT_LIMITS
) -> tuple[str, Counter[str]]:
    """A whole text message (WebSocket) masked: as JSON where it is a JSON object or array, else as text.

    Raises BodyRefused.
    """
    if not masks.json and masks.detectors is None:
        return text, Counter()
    raise BodyRefused("masks apply, and messages cannot be masked yet")
