"""Which transformer a body needs under masks, by what it says that it is.

The table, where masks by path (`json`) or detectors apply:

    JSON, lines or sequences of it, events, forms, multipart, tables      both
    other text          read as JSON if it is JSON; else detectors, and refused if it names a field masked by path
    pictures, sound     pass, if they begin as such a body does
    documents (PDF)     the same under masks by path, refused under detectors
    gRPC and its kin    refused
    anything else       refused, unless it is JSON; or text, where it says no type or only detectors apply
"""

from __future__ import annotations

from proxyd.gates.http.bodies.compressed import decoded
from proxyd.gates.http.bodies.event_bodies import EventBody
from proxyd.gates.http.bodies.form_bodies import FormBody
from proxyd.gates.http.bodies.interfaces import (
    DEFAULT_LIMITS,
    BodyLimits,
    BodyMasks,
    BodyRefused,
    Transformer,
)
from proxyd.gates.http.bodies.json_bodies import JsonBody, JsonLines
from proxyd.gates.http.bodies.media_bodies import MediaBody
from proxyd.gates.http.bodies.media_types import Form, MediaType, media_type
from proxyd.gates.http.bodies.messages import mask_message
from proxyd.gates.http.bodies.part_bodies import PartsBody
from proxyd.gates.http.bodies.plan import Plan, plan_of
from proxyd.gates.http.bodies.table_bodies import TableBody
from proxyd.gates.http.bodies.text_bodies import MaybeJson, TextBody

__all__ = ["mask_message", "transformer_for"]

MAX_NESTED_PARTS = 3
_NO_TEXT = (Form.MEDIA, Form.DOCUMENT, Form.OPAQUE, Form.UNKNOWN, Form.MULTIPART)


def transformer_for(
    content_type: str, masks: BodyMasks, *, content_encoding: str = "", limits: BodyLimits = DEFAULT_LIMITS
) -> Transformer | None:
    """What a body of this type has to go through; None when `masks` are empty (then it passes byte for byte).

    content_type: the field's value as it came, "" when there is none. content_encoding: likewise; `gzip` and `deflate`
    are decoded, and what comes out is then not encoded (so the field must not be sent on). What comes out has another
    length than what goes in: no `content-length`, `etag`, `digest` or `content-range` of the body holds for it.
    Raises BodyRefused.
    """
    if not masks.json and masks.detectors is None:
        return None
    inner = _transformer(media_type(content_type), plan_of(masks, limits), MAX_NESTED_PARTS)
    return decoded(content_encoding, inner, limits)


def _transformer(media: MediaType, plan: Plan, nested: int) -> Transformer:
    form = media.form
    if form not in _NO_TEXT and not media.is_utf8:
        raise BodyRefused("it is text in an encoding that is not UTF-8", "Ask for UTF-8.")
    match form:
        case Form.JSON:
            return JsonBody(plan)
        case Form.JSON_LINES:
            return JsonLines(plan)
        case Form.JSON_SEQUENCE:
            return JsonLines(plan, b"\x1e")
        case Form.EVENTS:
            return EventBody(plan)
        case Form.FORM:
            return FormBody(plan)
        case Form.CSV | Form.TABS:
            separator = "\t" if form is Form.TABS else ""
            return TableBody(
                plan, separator, has_titles=media.parameters.get("header", "").lower() != "absent"
            )
        case Form.MULTIPART:
            if not nested or media.name == "multipart/byteranges":
                raise BodyRefused("it is made of parts that cannot be taken apart")
            return PartsBody(plan, media, lambda part: _transformer(part, plan, nested - 1))
        case Form.TEXT:
            return MaybeJson(plan, is_text=True) if plan.has_paths else TextBody(plan)
        case Form.OPAQUE:
            raise BodyRefused("it is of a type that cannot be looked into")
        case Form.DOCUMENT if plan.detectors is not None:
            raise BodyRefused("it is of a type that cannot be looked into")
        case Form.MEDIA | Form.DOCUMENT:
            return MediaBody(may_be_document=plan.detectors is None)
        case _:
            return MaybeJson(plan, may_be_text=not (media.name and plan.has_paths))
