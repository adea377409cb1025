"""A tape as lines of JSON for a program. ASCII only, so that it drives no terminal either. Pure."""

from __future__ import annotations

import base64
import json
import math
from pathlib import PurePath
from typing import Final

import msgspec

from proxyd.tape.entries import Entry, TapeHeader, Unknown
from proxyd.tape.format import Verdict

MAX_NESTED: Final = 280
"""Deeper than any facts on a tape; Python itself takes not many more."""
TOO_DEEP: Final = "(nested too deep)"


def entry_json(entry: Entry) -> str:
    """One line of JSON; bytes in base64. ASCII only, so it drives no terminal either."""
    name = entry.__class__.__name__
    kind = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
    fields = {key: getattr(entry, key) for key in entry.__struct_fields__}
    if isinstance(entry, Unknown):
        fields["kind_number"] = fields.pop("kind")
    return to_json({"kind": kind, **fields})


def header_json(header: TapeHeader) -> str:
    return to_json({"kind": "header", "at_us": 0, **msgspec.to_builtins(header)})


def verdict_json(verdict: Verdict, *, is_live: bool) -> str:
    state = type(verdict).__name__.lower()
    fields = {key: getattr(verdict, key) for key in verdict.__struct_fields__}
    return to_json(
        {"kind": "verdict", "verdict": state, "live": is_live, **fields, "chain": verdict.chain.hex()}
    )


def to_json(value: object) -> str:
    return json.dumps(_jsonable(value, MAX_NESTED), ensure_ascii=True, default=_json_default)


def _jsonable(value: object, levels: int) -> object:
    """Maps of a tape may have keys, and numbers, that JSON has not, and a forged one is nested as deep as it likes."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value, builtin_types=(bytes,))
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return (
            TOO_DEEP if not levels else {_key(key): _jsonable(one, levels - 1) for key, one in value.items()}
        )
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return TOO_DEEP if not levels else [_jsonable(one, levels - 1) for one in value]
    return value


def _key(key: object) -> str:
    return key if isinstance(key, str) else repr(key)


def _json_default(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value) if isinstance(value, PurePath) else repr(value)
