"""A JSON text read whole, with one reading only: what two parsers could read in two ways is refused.

Refused beside broken grammar (RFC 8259): a byte order mark, what is not UTF-8, NaN and Infinity, a name that stands
twice in one object, half of a surrogate pair, numbers that do not fit (over 4,300 digits, or too large for a float),
nesting deeper than `max_depth`. Integers stay exact. Called for bodies of requests that rules look into, and for
small documents of peers. Pure.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from itertools import accumulate
from typing import NoReturn

from protocols.errors import LimitExceeded, RemoteProtocolError

MAX_DEPTH = 200
MAX_BYTES = 1 << 20

_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_AS_STEPS = bytes.maketrans(b"[{]}", b"\1\1\xff\xff")  # one down, one up, as signed bytes


def parse_json(data: bytes, *, max_depth: int = MAX_DEPTH, max_bytes: int = MAX_BYTES) -> object:
    """dict, list, str, int, float, bool or None. Raises RemoteProtocolError (LimitExceeded for size and depth)."""
    if len(data) > max_bytes:
        raise LimitExceeded(f"a JSON text longer than {max_bytes} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("a JSON text that is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise RemoteProtocolError("a JSON text that begins with a byte order mark")
    if text.count("[") + text.count("{") > max_depth and _depth(text) > max_depth:
        raise LimitExceeded(f"a JSON text nested deeper than {max_depth}")
    try:
        value: object = json.loads(
            text, object_pairs_hook=_object, parse_float=_float, parse_constant=_constant
        )
    except (ValueError, RecursionError):  # JSONDecodeError is one, and an integer of too many digits
        raise RemoteProtocolError("a JSON text that does not parse") from None
    if _HALF_PAIR.search(data) is not None:
        _refuse_half_pairs(value)
    return value


def _depth(text: str) -> int:
    """How deep brackets are nested outside of strings. Of a text that is no JSON, whatever comes of it."""
    outside = _STRING.sub("", text).encode()
    return max(accumulate(array("b", outside.translate(_AS_STEPS, _NOT_BRACKETS))), default=0)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RemoteProtocolError("a JSON object that holds one name twice")
    return found


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise RemoteProtocolError("a JSON number that is too large")
    return number


def _constant(name: str) -> NoReturn:
    raise RemoteProtocolError(f"a JSON text with {name}, which is no JSON")


def _refuse_half_pairs(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RemoteProtocolError("a JSON text with half of a surrogate pair") from None
