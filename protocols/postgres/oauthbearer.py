"""OAUTHBEARER (RFC 7628), the server's side: what a client sends, and the answer that tells it where tokens come from.

Strict as PostgreSQL 18's own server (src/backend/libpq/auth-oauth.c): no channel binding, no authorization identity,
one `auth`, nothing behind the end. Pure. Called by `proxyd.postgres_token`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from protocols.errors import RemoteProtocolError

MECHANISM: Final = "OAUTHBEARER"
KVSEP: Final = b"\x01"

_KEY: Final = re.compile(rb"[A-Za-z]+")
_VALUE: Final = re.compile(rb"[!-~ \t\r\n]*")
_HEADERS: Final = (b"n,,", b"y,,")  # "y": the client could bind to the channel, and thinks that we cannot
_SCHEME: Final = "bearer "


def read_initial_response(data: bytes) -> str:
    """The token; "" when the client only asks where tokens come from. Raises RemoteProtocolError."""
    header, separator, rest = data.partition(KVSEP)
    if not separator or header not in _HEADERS:
        raise RemoteProtocolError(
            "malformed OAUTHBEARER message: channel binding and identities are not spoken"
        )
    *pairs, last, end = rest.split(KVSEP) if rest.endswith(KVSEP) else [b"", b"?", b"?"]
    if last or end:
        raise RemoteProtocolError("malformed OAUTHBEARER message: no end, or more behind it")
    found: dict[bytes, bytes] = {}
    for pair in pairs:
        key, equals, value = pair.partition(b"=")
        if not equals or _KEY.fullmatch(key) is None or _VALUE.fullmatch(value) is None or key in found:
            raise RemoteProtocolError("malformed OAUTHBEARER message: a bad key or value")
        found[key] = value
    if b"auth" not in found:
        raise RemoteProtocolError("malformed OAUTHBEARER message: no auth value")
    return _token(found[b"auth"].decode("ascii"))


def _token(value: str) -> str:
    """RFC 6750 section 2.1; the scheme's case does not matter, and PostgreSQL takes spaces behind it."""
    if not value:
        return ""
    if not value.lower().startswith(_SCHEME):
        raise RemoteProtocolError("malformed OAUTHBEARER message: not a bearer token")
    return value[len(_SCHEME) :].lstrip(" ")


def refusal(discovery_url: str, scopes: Sequence[str]) -> bytes:
    """The challenge that says "no" (RFC 7628 section 3.2.2); the client answers with KVSEP alone."""
    answer = {"status": "invalid_token", "openid-configuration": discovery_url, "scope": " ".join(scopes)}
    return json.dumps(answer).encode("ascii")
