"""Bodies of HTTP messages under masks, as they stream: JSON, JSON lines, events, forms, CSV, text. No I/O.

The relay calls `transformer_for` once a body and feeds it what comes; `mask_message` masks one message of a WebSocket.
What cannot be read under a mask raises BodyRefused: it is never passed on as it is.
"""

from proxyd.gates.http.bodies.interfaces import (
    DEFAULT_LIMITS,
    BodyLimits,
    BodyMasks,
    BodyRefused,
    Detectors,
    StreamDetector,
    Transformer,
)
from proxyd.gates.http.bodies.messages import mask_message
from proxyd.gates.http.bodies.transformers import transformer_for

__all__ = [
    "DEFAULT_LIMITS",
    "BodyLimits",
    "BodyMasks",
    "BodyRefused",
    "Detectors",
    "StreamDetector",
    "Transformer",
    "mask_message",
    "transformer_for",
]
