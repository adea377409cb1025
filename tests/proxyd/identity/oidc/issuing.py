"""An issuer's keys and tokens made in the test, sound or not, for the tests beside this."""

from __future__ import annotations

import base64
import functools
import json
from dataclasses import dataclass, field
from typing import Any

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from proxyd.config import Issuer
from proxyd.identity.oidc import Tokens
from proxyd.identity.oidc.jwks import KeySet, read_keys
from proxyd.metrics import Metrics

URL = "https://login.example"
NOW = 1_800_000_000.0


@functools.cache
def private_key(kind: str) -> Any:
    """One key of each kind for the whole run: RSA keys are slow to make."""
    match kind.split("/", maxsplit=1)[0]:
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "rsa1024":
            return rsa.generate_private_key(65537, 1024)  # noqa: S505 (to be refused)
        case "P-256":
            return ec.generate_private_key(ec.SECP256R1())
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case "P-521":
            return ec.generate_private_key(ec.SECP521R1())
        case "secp256k1":
            return ec.generate_private_key(ec.SECP256K1())
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return ed448.Ed448PrivateKey.generate()


def jwk(kind: str, key_id: str | None = None, **more: Any) -> dict[str, Any]:
    """The public key as its issuer publishes it. `kind` may end in "/2" and the like for another key."""
    key = private_key(kind).public_key()
    if kind.startswith("rsa"):
        made = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif kind.startswith("Ed"):
        made = OKPAlgorithm.to_jwk(key, as_dict=True)
    else:
        made = ECAlgorithm.to_jwk(key, as_dict=True)
    made.pop("key_ops", None)
    return {**made, "kid": kind if key_id is None else key_id, **more}


def document(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def key_set(*keys: object) -> KeySet:
    return read_keys(document(*keys))


def claims(**more: Any) -> dict[str, Any]:
    """Of a sound token; a claim that is None is left out."""
    sound = {
        "iss": URL,
        "aud": "proxyd",
        "sub": "u-1",
        "email": "alice@example.com",
        "groups": ["data"],
        "iat": NOW - 10,
        "exp": NOW + 600,
    }
    return {name: value for name, value in {**sound, **more}.items() if value is not None}


def token(
    payload: dict[str, Any] | None = None,
    *,
    kind: str = "rsa",
    algorithm: str = "RS256",
    key_id: str | None = "rsa",
    headers: dict[str, Any] | None = None,
    key: Any = None,
) -> str:
    """Signed as `algorithm` by the key of `kind`, or by `key`. `headers` are added; one that is None is left out."""
    made = {"kid": key_id, **(headers or {})}
    kept = {name: value for name, value in made.items() if value is not None}
    if "typ" in made and made["typ"] is None:
        kept["typ"] = None  # PyJWT would put its own
    text = jwt.encode(
        claims() if payload is None else payload,
        private_key(kind) if key is None else key,
        algorithm=algorithm,
        headers=kept,
    )
    return text


def raw_token(header: object, payload: object, signature: bytes = b"x" * 256) -> str:
    """Any three parts, whatever they are worth. Bytes stand as they are; anything else becomes JSON."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return ".".join(segment(part) for part in (*parts, signature))


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def issuer(**settings: Any) -> Issuer:
    """As configured; without settings the one that signs `token()`."""
    basic: dict[str, Any] = {
        "name": "company",
        "issuer": URL,
        "audiences": ("proxyd",),
        "algorithms": ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"),
        "claims": {"name": "email"},
    }
    return Issuer(**{**basic, **settings})


@dataclass
class Clock:
    """Both clocks of a `Tokens`: set them by hand."""

    now: float = NOW
    monotonic: float = 0.0


@dataclass
class Bench:
    """A `Tokens` whose issuers' keys are put in by hand. `log`: what was said, as dictionaries."""

    issuers: tuple[Issuer, ...] = field(default_factory=lambda: (issuer(),))
    keys: KeySet | None = None
    clock: Clock = field(default_factory=Clock)
    metrics: Metrics = field(default_factory=Metrics)
    log: list[dict[str, Any]] = field(default_factory=list)

    def tokens(self) -> Tokens:
        made = Tokens(
            self.issuers,
            log=quiet_log(self.log),
            metrics=self.metrics,
            clock=lambda: self.clock.now,
            monotonic=lambda: self.clock.monotonic,
        )
        for source in made._sources.values():
            if self.keys is not None:
                source._succeeded(self.keys)
        return made


def quiet_log(lines: list[dict[str, Any]]) -> Any:
    """A logger that keeps its lines."""

    def keep(_: object, method: str, event: dict[str, Any]) -> Any:
        lines.append({"level": method, **event})
        raise structlog.DropEvent

    return structlog.wrap_logger(
        None, processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
