"""JSON as issuers and tokens may write it: one object, no name twice, no depth that costs anything.

Owns those bounds; the caller has bounded the length. Pure. Used by the other modules of this package.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 16


class JsonError(Exception):
    """The text is "not ...": the end of a sentence that begins with what it is."""


def read_object(text: bytes) -> dict[str, Any]:
    """Raises JsonError. `text` is UTF-8, at most as long as the caller allows."""
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise JsonError(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # bad UTF-8 and numbers of thousands of digits as well
        raise JsonError("not JSON") from None
    if not isinstance(value, dict):
        raise JsonError("not a JSON object")
    _check_depth(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7519 section 4: of two readers of a doubled name one takes the first, the other the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonError("not sound: one name stands twice in an object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            values = item.values() if isinstance(item, dict) else item
            inner.extend(each for each in values if isinstance(each, dict | list))
        if not inner:
            return
        level = inner
    raise JsonError(f"nested deeper than {MAX_DEPTH} levels")
