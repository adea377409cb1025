"""Values that are written in base64 or hexadecimal, as a whole: what they say.

A value counts as written so when all of it decodes to printable ASCII, which noise of that length does not; so keys,
hashes and ids cost one look and are left alone. One level: what is in it is not decoded again. Called by
`policy.detectors.detector_set` and by the readers of runs of values, who look for `ENCODED` first.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator

from policy.detectors.engine import Pattern, Span

MAX_ENCODED = 64 * 1024
# Four characters for three bytes below 0x80: the top bits of each byte decide which characters can stand where.
_FIRST = rb"[A-Za-f]"
_SECOND = rb"[A-HQ-Xg-nw-z0-3]"
_THIRD = rb"[ABEFIJMNQRUVYZcdghklopstwx014589]"
_FOURTH = rb"[A-Za-z0-9+/_-]"
_BASE64 = (
    rb"(?:" + _FIRST + _SECOND + _THIRD + _FOURTH + rb"){3,}(?:" + _FIRST + _SECOND + _THIRD + rb"?={0,2})?"
)
_HEX = rb"(?:0x)?(?:[2-7][0-9a-fA-F]|0[9aAdD]){8,}"
ENCODED = rb"(?:" + _BASE64 + rb"|" + _HEX + rb")"
_WHOLE = Pattern(rb"^" + ENCODED + rb"$")
_LINE = Pattern(rb"(?m)^" + ENCODED + rb"$")
_ANYWHERE = Pattern(ENCODED)
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_PRINTABLE = bytes(range(0x20, 0x7F)) + b"\t\r\n"


def decoded_value(value: bytes) -> bytes | None:
    """What `value` says if all of it is base64 or hexadecimal of printable ASCII; None if not."""
    if len(value) > MAX_ENCODED or _WHOLE.find(value, 0, len(value)) is None:
        return None
    for decode in (_from_hex, _from_base64):
        text = decode(value)
        if text is not None and not text.translate(None, _PRINTABLE):
            return text
    return None


def encoded_lines(data: bytes) -> Iterator[Span]:
    """The lines of `data` that may be such values."""
    return _LINE.find_all(data, 0, len(data))


def holds_encoded(data: bytes) -> bool:
    """May a line of `data` be such a value?"""
    return _LINE.find(data, 0, len(data)) is not None


def may_hold_encoded(data: bytes) -> bool:
    """The same for values with anything around them."""
    return _ANYWHERE.find(data, 0, len(data)) is not None


def _from_hex(value: bytes) -> bytes | None:
    try:
        return binascii.unhexlify(value.removeprefix(b"0x"))
    except binascii.Error:
        return None


def _from_base64(value: bytes) -> bytes | None:
    text = value.translate(_FROM_URL).rstrip(b"=")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return None
