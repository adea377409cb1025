"""Things that open doors: tokens, keys of clouds and services, private keys.

Each `find_*` yields the spans of one kind in data[begin:end]. Keys that only look like noise (a secret of AWS is
forty characters of base64) are found by the name in front of them or by the key id beside them. A JWT and a private
key can be of any length: `policy.detectors.stream` needs to know how they go on, which is what `TOKEN_BYTES` and
`BODY_BYTES` say. Called by `policy.detectors.kinds` and `policy.detectors.stream`.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator

from policy.detectors.engine import Pattern, Span

_WORD = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE64 = frozenset(_WORD + b"+/")

# --- JWT ----------------------------------------------------------------------------------------------------

JWT = rb"\bey[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8}"
TOKEN_BYTES = _WORD + b"_-."
MAX_JWT_HEADER = 3 * 1024  # of base64; what a header with a chain of certificates takes
_JWT_BEGINNING = Pattern(rb"\bey[A-Za-z0-9_-]{8}")
_JWT_RUN = Pattern(rb"[A-Za-z0-9_-]*")
_JWT_REST = Pattern(rb"\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,3}")
_JWT_NAMES = (b'"alg"', b'"typ"', b'"kid"', b'"enc"')


def find_jwts(data: bytes, begin: int, end: int) -> Iterator[Span]:
    position = header_end = begin
    while (found := _JWT_BEGINNING.find(data, position, end)) is not None:
        start = found[0]
        position = start + 2
        if (
            start >= header_end
        ):  # once for all that begin in one run, or many beginnings would cost the square
            header_end = _JWT_RUN.find_at(data, start, end)
        if header_end - start > MAX_JWT_HEADER or not is_jose_header(data[start:header_end]):
            continue
        stop = _JWT_REST.find_at(data, header_end, end)
        if stop > 0:
            yield start, stop
            position = header_end = stop


def is_jose_header(text: bytes) -> bool:
    """RFC 7515, 4: base64url of a JSON object that says at least what kind of token follows."""
    if not _decoded(text[:12]).lstrip().startswith(b"{"):
        return False
    header = _decoded(text)
    return any(name in header for name in _JWT_NAMES)


def _decoded(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4))
    except binascii.Error:
        return b""


_FROM_URL = bytes.maketrans(b"-_", b"+/")

# --- AWS ----------------------------------------------------------------------------------------------------

AWS_ID = rb"(?:\b|_)(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"
AWS_SECRET = rb"(?i)(?:secret[_-]?(?:access)?[_-]?key|aws[_-]?secret)[^a-z0-9/+\n]{1,12}[a-z0-9/+]{40}"
AWS_SESSION = rb"(?i)(?:session|security)[_-]?token[^a-z0-9/+\n]{1,12}[a-z0-9/+]{100,}={0,2}"
_AWS_ID = Pattern(AWS_ID)
_AWS_SECRET = Pattern(AWS_SECRET)
_AWS_SESSION = Pattern(AWS_SESSION)
_AWS_BESIDE = Pattern(rb"[^A-Za-z0-9/+\n][A-Za-z0-9/+]{40}")
_BESIDE = 128


def find_aws_ids(data: bytes, begin: int, end: int) -> Iterator[Span]:
    for start, stop in _AWS_ID.find_all(data, begin, end):
        yield start + (data[start] == 0x5F), stop
        yield from _secrets_beside(data, stop, end)


def find_aws_secrets(data: bytes, begin: int, end: int) -> Iterator[Span]:
    for _, stop in _AWS_SECRET.find_all(data, begin, end):
        if _ends_base64(data, stop):
            yield stop - 40, stop


def find_aws_sessions(data: bytes, begin: int, end: int) -> Iterator[Span]:
    for start, stop in _AWS_SESSION.find_all(data, begin, end):
        text = data[start:stop].rstrip(b"=")
        yield start + len(text.rstrip(_WORD + b"+/")), stop


def _secrets_beside(data: bytes, id_end: int, end: int) -> Iterator[Span]:
    """What looks like a secret behind a key id, on the same line."""
    line_end = data.find(b"\n", id_end, min(end, id_end + _BESIDE))
    limit = min(end, id_end + _BESIDE) if line_end < 0 else line_end
    position = id_end
    while (found := _AWS_BESIDE.find(data, position, limit)) is not None:
        start, stop = found[0] + 1, found[1]
        position = found[0] + 1
        if _ends_base64(data, stop) and _is_mixed(data[start:stop]):
            yield start, stop
            return


def _ends_base64(data: bytes, at: int) -> bool:
    return at >= len(data) or data[at] not in _BASE64


def _is_mixed(text: bytes) -> bool:
    """Small letters, capitals and digits, as forty characters of noise have and a path or a hash has not."""
    return text.upper() != text and text.lower() != text and any(byte in b"0123456789" for byte in text)


# --- other services -----------------------------------------------------------------------------------------

GCP = rb"\bAIza[0-9A-Za-z_-]{35}|\bya29\.[0-9A-Za-z_.-]{20,}|\bGOCSPX-[0-9A-Za-z_-]{20,}|\b1//0[0-9A-Za-z_-]{40,}"
# Keys of Azure say by letters near their end which service they are for.
AZURE = (
    rb"(?i)(?:account|access|shared|primary|secondary)_?key[\"']?[=: ][\"' ]{0,2}[a-z0-9+/]{42,86}={1,2}"
    rb"|[?&;\"'= ]sig=[a-z0-9%+/]{43,60}(?:%3d|=){0,2}"
    rb"|\b[a-z0-9_~.-]{3}[78]q~[a-z0-9_~.-]{31,34}"
)
LETTERS = _WORD
HEX = b"0123456789abcdef"
DIGITS = b"0123456789"
AZURE_BYTES = _WORD + b"/+_-"
AZURE_SIGNED = (
    rb"(?:\+ASt|ACDb)[A-Za-z0-9/+]{6}==|AzFu[A-Za-z0-9_-]{4}==|AzSe[A-D][A-Za-z0-9]{5}\b|JQQJ99[A-Za-z0-9]{26}\b"
    rb"|AZDO[A-Za-z0-9]{4}\b"
)
GITHUB = (
    rb"\bgh[pousr]_[A-Za-z0-9]{36,255}|\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"
    rb"|\bgh[pousr]_[A-Za-z0-9_.-]{120,}"
)
GITLAB = (
    rb"\bgl(?:pat|dt|rt|rtr|ptt|cbt|soat|oas|ft|ffct|imt|agent|wt)-[0-9A-Za-z_-]{20,}"
    rb"(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?|\bGR1348941[0-9A-Za-z_-]{20,}"
)
SLACK = (
    rb"\bxox[abceoprs](?:\.xox[bp])?-[0-9A-Za-z-]{10,}|\bxapp-[0-9]-[0-9A-Za-z-]{10,}"
    rb"|hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/+_-]{20,}"
)
STRIPE = rb"\b(?:sk|rk)_(?:org_)?(?:live|test)_[0-9A-Za-z]{16,}|\bwhsec_[0-9A-Za-z+/=]{20,}"
MODEL = (
    rb"\bsk-(?:proj-|svcacct-|admin-|ant-[a-z0-9]+-|or-v1-)[A-Za-z0-9_-]{20,}|\bsk-[A-Za-z0-9]{40,}|\bsk-[a-f0-9]{32}\b"
    rb"|\bhf_[A-Za-z0-9]{30,}|\bgsk_[A-Za-z0-9]{48,}|\bxai-[A-Za-z0-9]{70,}|\bpplx-[A-Za-z0-9]{40,}|\br8_[A-Za-z0-9]{37,}"
    rb"|\bABSK[A-Za-z0-9+/]{109,}={0,2}"
)
REGISTRY = (
    rb"\bnpm_[A-Za-z0-9]{36}\b|\bpypi-AgE[A-Za-z0-9_-]{40,}|\bdckr_[po]at_[A-Za-z0-9_-]{20,}|\brubygems_[a-f0-9]{48}"
    rb"|\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}|\bdo[opr]_v1_[a-f0-9]{64}|\bhv[sbr]\.[A-Za-z0-9_-]{24,}"
)
TERRAFORM = rb"\.atlasv1\.[A-Za-z0-9_=-]{60,70}"
SERVICE = (
    rb"\bSK[a-f0-9]{32}\b|\bkey-[a-f0-9]{32}\b|\bshp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"
    rb"|\bdapi[a-f0-9]{32}\b|\blin_api_[A-Za-z0-9]{40}|\bATATT3[A-Za-z0-9_=-]{100,}|\bglsa_[A-Za-z0-9]{32}_[a-f0-9]{8}"
    rb"|\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}|\bNRAK-[A-Z0-9]{27}|\bpul-[a-f0-9]{40}|\bdp\.(?:pt|st|ct|sa|scim)\.[A-Za-z0-9]{40,44}"
    rb"|\bsbp_[a-f0-9]{40}|\bsntry[su]_[A-Za-z0-9+/=_]{60,}|\btskey-[a-z]+-[A-Za-z0-9]{10,}-[A-Za-z0-9]{20,}"
    rb"|\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}|\bAGE-SECRET-KEY-1[0-9A-Z]{58}"
    rb"|\bsq0(?:atp|csp)-[0-9A-Za-z_-]{22,43}|\bEAAA[A-Za-z0-9_-]{60}\b|\bHRKU-[A-Za-z0-9_-]{36,}"
)
MAILCHIMP = rb"[a-f0-9]-us[0-9]{1,2}\b"
TELEGRAM = rb"[0-9]:AA[A-Za-z0-9_-]{33}\b"
# What is found by a name in front: how the secret itself is told from it.
_NAMED = Pattern(
    rb"(?i)^(?:(?:account|access|shared|primary|secondary)_?key[\"']?[=: ][\"' ]{0,2}|[?&;\"'= ]sig=)"
)


class Tokens:
    """Finds what one expression describes; nothing but the expression decides."""

    __slots__ = ("_pattern",)

    def __init__(self, expression: bytes) -> None:
        self._pattern = Pattern(expression)

    def __call__(self, data: bytes, begin: int, end: int) -> Iterator[Span]:
        for start, stop in self._pattern.find_all(data, begin, end):
            named = _NAMED.find_at(data[start:stop], 0, stop - start)
            yield start + max(named, 0), stop


class Endings:
    """Finds what an expression ends: so many characters of a class go before it. A search for those would be slow."""

    __slots__ = ("_before", "_least", "_most", "_pattern", "_skipped")

    def __init__(self, expression: bytes, before: bytes, least: int, most: int, *, skipped: int = 0) -> None:
        """skipped: how many of those characters the expression itself begins with."""
        self._pattern = Pattern(expression)
        self._before = before
        self._least = least
        self._most = most
        self._skipped = skipped

    def __call__(self, data: bytes, begin: int, end: int) -> Iterator[Span]:
        for found, stop in self._pattern.find_all(data, begin, end):
            limit = found + self._skipped
            before = data[max(begin, limit - self._most - 1) : limit]
            length = len(before) - len(before.rstrip(self._before))
            if self._least <= length <= self._most:
                yield limit - length, stop


# --- private keys -------------------------------------------------------------------------------------------

PRIVATE_KEY = rb"-----? ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-----?|PuTTY-User-Key-File-[0-9]"
MAX_PRIVATE_KEY = 16 * 1024
BODY_BYTES = _WORD + b"+/= \t\r\n\\"
_BEGIN_KEY = Pattern(PRIVATE_KEY)
_END_KEY = Pattern(
    rb"-----? ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,}|Private-MAC: ?[0-9A-Fa-f]+\r?\n"
)
_LONGEST_END = 160
# Without an end in reach: the headers (RFC 1421, 4.6; RFC 4880, 6.2; PuTTY's) and all that may be base64.
_KEY_HEAD = Pattern(
    rb"(?:"
    + PRIVATE_KEY
    + rb")(?:(?:\s|\\[nr])*(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset|Subject|Encryption"
    rb"|Public-Lines|Private-Lines|Key-Derivation|Argon2-[A-Za-z]+|X-[A-Za-z-]+): ?[^\r\n\\]*|: ?[a-z0-9-]+)*"
)


def find_private_keys(data: bytes, begin: int, end: int) -> Iterator[Span]:
    """Beginnings between begin and end; the key goes on to wherever it ends."""
    position = begin
    while (found := _BEGIN_KEY.find(data, position, end)) is not None:
        yield found[0], private_key_end(data, found[0])
        position = found[1]


def private_key_end(data: bytes, start: int) -> int:
    """Where the private key that begins at `start` ends."""
    reach = min(len(data), start + MAX_PRIVATE_KEY)
    closing = _END_KEY.find(data, start, reach)
    if closing is not None:
        return closing[1]
    head_end = _KEY_HEAD.find_at(data, start, reach)
    return body_end(data, head_end)


def body_end(data: bytes, start: int) -> int:
    """The end of what may be the body of a key, piece by piece: it can be as long as the text."""
    position = start
    while position < len(data):
        piece = data[position : position + 4096]
        left = len(piece.lstrip(BODY_BYTES))
        position += len(piece) - left
        if left:
            break
    return position


def key_beginning(data: bytes, begin: int, end: int) -> int:
    """Where the first private key in data[begin:end] begins, -1 for none."""
    found = _BEGIN_KEY.find(data, begin, end)
    return -1 if found is None else found[0]


def has_key_end(data: bytes, begin: int) -> bool:
    return _END_KEY.find(data, begin, len(data)) is not None


def open_key(data: bytes, begin: int) -> int:
    """Where a private key begins whose end has not come and may still come; the length of `data` for none."""
    length = len(data)
    position = begin
    while (found := _BEGIN_KEY.find(data, position, length)) is not None:
        start = found[0]
        reach = start + MAX_PRIVATE_KEY
        closing = _END_KEY.find(data, start, min(length, reach))
        if closing is None and length < reach:
            return start
        position = found[1]
    return length


def ends_key(data: bytes, end: int) -> bool:
    """Is it the end of a private key that stands before `end`?"""
    position = max(0, end - _LONGEST_END)
    return any(stop == end for _, stop in _END_KEY.find_all(data, position, end))
