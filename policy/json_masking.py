"""What a masked value of a JSON document becomes: valid JSON of the same kind, wherever the method leaves a kind.

Owns what each method of `policy.masking` makes of strings, numbers, booleans, objects and arrays. Redact, null and
fixed look at nothing of the value; an object or array of theirs becomes one constant, so that neither its names nor its
length show. Partial and pseudonym go into objects and arrays and mask every leaf; names stay. A null stays null. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from policy.masking import REDACTED, Fixed, Mask, Null, Partial, Pseudonym, Redact

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,300})(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class JsonStandIns:
    """JSON texts. string, number: constants, or functions of the value's text. object, array: None when their leaves
    are masked one by one.
    """

    string: str | Callable[[str], str]
    number: str | Callable[[str], str]
    boolean: str
    object: str | None
    array: str | None


def stand_ins(mask: Mask) -> JsonStandIns:
    """What becomes of the values that `mask` is on. The functions raise policy.masking.MaskingError."""
    match mask.method:
        case Redact():
            return JsonStandIns(json_text(REDACTED), "0", "false", "{}", "[]")
        case Null():
            return JsonStandIns("null", "null", "null", "null", "null")
        case Fixed(value):
            return _fixed(value)
        case Partial():
            return JsonStandIns(lambda text: _string(mask, text), "0", "false", None, None)
        case Pseudonym():
            return JsonStandIns(
                lambda text: _string(mask, text), lambda text: _number(mask, text), "false", None, None
            )


def text_stand_in(mask: Mask, text: str) -> str:
    """What becomes of a value that has no kind (a field of a form or of CSV). Raises MaskingError."""
    return mask.apply(text, "text") or ""


def json_text(text: str) -> str:
    """`text` as a JSON string that can be sent: half of a surrogate pair stays an escape."""
    token = json.dumps(text, ensure_ascii=False)
    return token if _is_sendable(token) else json.dumps(text)


def _is_sendable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _string(mask: Mask, text: str) -> str:
    return json_text(mask.apply(text, "text") or "")


def _number(mask: Mask, text: str) -> str:
    return mask.apply(text, "json") or "0"


def _fixed(value: str) -> JsonStandIns:
    kept = _parsed(value)
    return JsonStandIns(
        string=json_text(value),
        number=value if _NUMBER.fullmatch(value) else "0",
        boolean=value if value in ("true", "false") else "false",
        object=value if isinstance(kept, dict) else "{}",
        array=value if isinstance(kept, list) else "[]",
    )


def _parsed(value: str) -> object:
    def refuse(constant: str) -> None:
        raise ValueError(constant)  # NaN and Infinity are no JSON

    try:
        return json.loads(value, parse_constant=refuse) if _is_sendable(value) else None
    except (ValueError, RecursionError):
        return None
