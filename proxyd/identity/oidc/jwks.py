"""An issuer's public keys, read from the document in which it publishes them (RFC 7517).

Owns which keys may verify anything at all, and for which algorithms: the kind of the key decides that, never a token
(RFC 8725 section 3.1). Never follows an address in a key (`x5u`), and never takes a certificate for a reason to trust
one (`x5c`). Pure. Called by `issuer_keys`.

A key that cannot be used is left out, and the others count: issuers publish keys for other purposes beside those that
sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from proxyd.identity.oidc.json_text import JsonError, read_object

MAX_KEYS: Final = 100
MAX_KEY_ID_CHARS: Final = 1024
SMALLEST_RSA_BITS: Final = 2048
LARGEST_RSA_BITS: Final = 16384  # what a check of a signature may cost
MAX_RSA_EXPONENT: Final = 1 << 32

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}

VerifyingKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


class KeysError(Exception):
    """The document is no set of keys. The text is for the log and for operators."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """`id`: only ever compared; "" when the issuer gives none. `algorithms`: what signatures by it may be."""

    id: str
    algorithms: frozenset[str]
    key: VerifyingKey


@dataclass(frozen=True, slots=True)
class KeySet:
    """`ignored`: why keys of the document were left out."""

    keys: tuple[IssuerKey, ...]
    ignored: tuple[str, ...] = ()

    @property
    def lack(self) -> str:
        """What is wrong with a set that has no key; "" when it has one."""
        if self.keys:
            return ""
        why = f" ({'; '.join(self.ignored[:4])})" if self.ignored else ""
        return f"no key is published that could verify a token{why}"

    def candidates(self, key_id: str | None, algorithm: str) -> tuple[IssuerKey, ...]:
        """The keys that may have made a signature. A token that names none is looked at when only one fits."""
        fitting = tuple(key for key in self.keys if algorithm in key.algorithms)
        if key_id is None:
            return fitting if len(fitting) == 1 else ()
        return tuple(key for key in fitting if key.id == key_id)


def read_keys(document: bytes) -> KeySet:
    """Raises KeysError. A set may be empty: an issuer that publishes no key (any more) says so by that."""
    try:
        listed = read_object(document).get("keys")
    except JsonError as error:
        raise KeysError(f"the keys are {error}") from None
    if not isinstance(listed, list):
        raise KeysError("the document of keys has no list `keys`")
    if len(listed) > MAX_KEYS:
        raise KeysError(f"{len(listed)} keys are published, and more than {MAX_KEYS} are not looked at")
    keys: list[IssuerKey] = []
    ignored: list[str] = []
    for number, jwk in enumerate(listed):
        try:
            keys.append(_usable_key(jwk))
        except KeysError as error:
            ignored.append(f"key {number}: {error}")
    return KeySet(tuple(keys), tuple(ignored))


def _usable_key(jwk: object) -> IssuerKey:
    if not isinstance(jwk, dict):
        raise KeysError("not an object")
    if "d" in jwk or "k" in jwk:
        raise KeysError("a private or shared key: everybody has it by now")
    _check_purpose(jwk)
    key_id = jwk.get("kid", "")
    if not isinstance(key_id, str) or len(key_id) > MAX_KEY_ID_CHARS:
        raise KeysError("its `kid` is no text, or too long")
    key, algorithms = _public_key(jwk)
    meant = jwk.get("alg")
    if meant is not None:
        algorithms &= {meant} if isinstance(meant, str) else set()
    if not algorithms:
        raise KeysError("its `alg` does not go with its kind")
    return IssuerKey(key_id, algorithms, key)


def _check_purpose(jwk: Mapping[str, Any]) -> None:
    if jwk.get("use", "sig") != "sig":
        raise KeysError("not for signatures (`use`)")
    operations = jwk.get("key_ops")
    if operations is not None and not (isinstance(operations, Sequence) and "verify" in operations):
        raise KeysError("not for verifying (`key_ops`)")


def _public_key(jwk: dict[str, Any]) -> tuple[VerifyingKey, frozenset[str]]:
    """The key and what it can verify, from its kind alone."""
    try:
        match jwk.get("kty"):
            case "RSA":
                return _rsa_key(jwk), _RSA
            case "EC" if isinstance(jwk.get("crv"), str) and jwk["crv"] in _CURVES:
                key = ECAlgorithm.from_jwk(jwk)
                if isinstance(key, EllipticCurvePublicKey):
                    return key, frozenset({_CURVES[jwk["crv"]]})
            case "OKP":
                okp = OKPAlgorithm.from_jwk(jwk)
                if isinstance(okp, Ed25519PublicKey | Ed448PublicKey):
                    return okp, frozenset({"EdDSA"})
            case _:
                pass
    except (InvalidKeyError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise KeysError(f"cannot be read ({type(error).__name__})") from None
    raise KeysError("of a kind or curve that is not used here")


def _rsa_key(jwk: dict[str, Any]) -> RSAPublicKey:
    if not all(isinstance(jwk.get(part), str) and len(jwk[part]) <= LARGEST_RSA_BITS // 4 for part in "ne"):
        raise KeysError("without sound numbers")
    key = RSAAlgorithm.from_jwk(jwk)
    if not isinstance(key, RSAPublicKey):
        raise KeysError("not a public key")
    if not SMALLEST_RSA_BITS <= key.key_size <= LARGEST_RSA_BITS:
        raise KeysError(f"an RSA key of {key.key_size} bits")
    if not 2 < key.public_numbers().e < MAX_RSA_EXPONENT:
        raise KeysError("an RSA key with an unusual exponent")
    return key
