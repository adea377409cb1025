"""Forms as browsers send them (`application/x-www-form-urlencoded`): names and values, read strictly.

Owns the decoding and encoding of one field, and what the steps of a name like `user[email]` are. Refused: a broken
percent escape and what is not UTF-8, because servers read both in ways of their own. Called by the masking of bodies.
Pure.
"""

from __future__ import annotations

import re
from urllib.parse import quote_plus, unquote_to_bytes

from protocols.errors import RemoteProtocolError

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_STEPS = re.compile(r"\[([^\[\]]*)\]")
_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)


def decode_field(field: bytes) -> tuple[str, str]:
    """One `name=value`. Raises RemoteProtocolError."""
    name, _, value = field.partition(b"=")
    return _decoded(name), _decoded(value)


def encode_field(name: str, value: str) -> bytes:
    return f"{quote_plus(name)}={quote_plus(value)}".encode("ascii")


def _decoded(text: bytes) -> str:
    if _BROKEN_ESCAPE.search(text) is not None:
        raise RemoteProtocolError("a form with a broken percent escape")
    try:
        return unquote_to_bytes(text.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("a form that is not UTF-8") from None


def readings(name: str) -> list[tuple[str | int, ...]]:
    """The places in a document where a server may put a field of this name, as steps from the root: `user[email]` and
    `user.email` are also the member `email` of `user`, `tags[]` and `tags[0]` elements of `tags`.
    """
    found: list[tuple[str | int, ...]] = [(name,)]
    start = name.find("[")
    if start > 0 and name.endswith("]"):
        steps = _STEPS.findall(name, start)
        found.append((name[:start], *(_step(step) for step in steps)))
    if "." in name:
        found.append(tuple(step for step in re.split(r"[.\[\]]+", name) if step))
    return found


def _step(text: str) -> str | int:
    return int(text or "0") if not text or _INDEX.fullmatch(text) else text
