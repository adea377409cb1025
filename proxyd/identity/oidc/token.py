"""A token (JWS, compact form) taken apart, and its signature verified.

Owns what a token may look like before anything in it is believed, and which header may stand in it. Never lets a token
choose how it is verified: its `alg` has to be one that the issuer is configured for and that the issuer's key is made
for, its `kid` is only compared, and addresses or keys in its header (`jku`, `x5u`, `jwk`, `x5c`) are never looked at.
Pure. PyJWT verifies. Called by `verifier`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from proxyd.identity.oidc.json_text import JsonError, read_object
from proxyd.identity.oidc.jwks import IssuerKey
from proxyd.identity.oidc.refusal import TokenRefused, refused

MAX_TOKEN_BYTES: Final = 16 * 1024

# ID tokens have none or "JWT", access tokens "at+jwt" (RFC 9068 section 2.1). A logout token is neither.
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_ALGORITHMS: Final = get_default_algorithms()


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a token says of itself. Good for choosing whom to ask, and for nothing else.

    signed: the bytes that `signature` is of. payload: what they say, to be believed once it holds.
    """

    signed: bytes
    signature: bytes
    algorithm: str
    key_id: str | None
    issuer: str
    is_access_token: bool
    payload: dict[str, Any]


def read_token(text: str) -> UnverifiedToken:
    """Raises TokenRefused."""
    if len(text) > MAX_TOKEN_BYTES:
        raise refused(f"is longer than {MAX_TOKEN_BYTES // 1024} KiB", "ask for one with fewer claims")
    if _COMPACT.fullmatch(text) is None:
        raise refused(
            "is not a signed JWT", "send the token as the identity provider gave it, without quotes or blanks"
        )
    head, body, signature = text.split(".")
    header = _header(head)
    if not signature:
        raise _not_signed()
    payload = _segment("payload", body)
    issuer = payload.get("iss")
    if not isinstance(issuer, str):
        raise refused("does not say who issued it (`iss`)")
    return UnverifiedToken(
        signed=f"{head}.{body}".encode("ascii"),
        signature=_octets("signature", signature),
        algorithm=header.algorithm,
        key_id=header.key_id,
        issuer=issuer,
        is_access_token=header.is_access_token,
        payload=payload,
    )


@dataclass(frozen=True, slots=True)
class _Header:
    algorithm: str
    key_id: str | None
    is_access_token: bool


@lru_cache(maxsize=128)
def _header(text: str) -> _Header:
    """All tokens that one key signs begin with the same header. Raises TokenRefused."""
    header = _segment("header", text)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm.lower() == "none":
        raise _not_signed()
    if "crit" in header or "b64" in header:
        raise refused("demands extensions that are not understood here (`crit`)", "ask for one without them")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise refused("is of another type (`typ`)", "send an access token or an ID token")
    key_id = header.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        raise refused("names its key by something that is no text (`kid`)")
    return _Header(algorithm, key_id, kind.lower().endswith("at+jwt"))


def _not_signed() -> TokenRefused:
    return refused("is not signed", "have the identity provider sign its tokens")


def verified_claims(token: UnverifiedToken, keys: Iterable[IssuerKey]) -> dict[str, Any]:
    """The payload, signed by one of `keys`, each of which fits the token's algorithm. Raises TokenRefused."""
    algorithm = _ALGORITHMS[token.algorithm]
    for key in keys:
        try:
            prepared = algorithm.prepare_key(key.key)
            if token.algorithm in key.algorithms and algorithm.verify(
                token.signed, prepared, token.signature
            ):
                return token.payload
        except (PyJWTError, ValueError, TypeError):
            continue  # not by this key; PyJWT's own words may quote the token
    raise TokenRefused(
        "the token's signature is not the issuer's",
        "the token's signature is not its issuer's: get a new one from your identity provider and try again",
    )


def _segment(what: str, text: str) -> dict[str, Any]:
    try:
        return read_object(_octets(what, text))
    except JsonError as error:
        raise refused(f"is broken: its {what} is {error}") from None


def _octets(what: str, text: str) -> bytes:
    """`text` has the alphabet's characters only."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise refused(f"is broken: its {what} is not base64url") from None
