"""Tokens that must not count, each for its own reason: forged, confused, expired, for others, oversized, nested."""

from __future__ import annotations

import json
import warnings
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxyd.identity.oidc import TokenRefused
from tests.proxyd.identity.oidc.issuing import (
    NOW,
    Bench,
    claims,
    issuer,
    jwk,
    key_set,
    private_key,
    raw_token,
    segment,
    token,
)

KEYS = key_set(jwk("rsa"), jwk("P-256"), jwk("Ed25519"))


def hmac_token(secret: bytes, algorithm: str = "HS256", **headers: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyJWT warns of secrets that are public keys or short
        import hmac

        head = segment(json.dumps({"alg": algorithm, "typ": "JWT", **headers}).encode())
        body = segment(json.dumps(claims()).encode())
        digest = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}[algorithm]
        signature = hmac.new(secret, f"{head}.{body}".encode(), digest).digest()
        return f"{head}.{body}.{segment(signature)}"


def public_pem(kind: str = "rsa") -> bytes:
    return private_key(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def other_signature(text: str) -> str:
    """`text` with the signature of another key of the same kind."""
    head, body, _ = text.split(".")
    forged = private_key("rsa/forger").sign(f"{head}.{body}".encode(), *_rs256())
    return f"{head}.{body}.{segment(forged)}"


def _rs256() -> tuple[Any, ...]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    return padding.PKCS1v15(), hashes.SHA256()


def swapped_payload(text: str, **more: Any) -> str:
    head, _, signature = text.split(".")
    return f"{head}.{segment(json.dumps(claims(**more)).encode())}.{signature}"


RS = {"alg": "RS256", "kid": "rsa", "typ": "JWT"}
DEEP = b"[" * 3000 + b"]" * 3000

FORGED = {
    "another key's signature": lambda: other_signature(token()),
    "another payload": lambda: swapped_payload(token(), email="root@example.com"),
    "signature cut off": lambda: token()[:-4],
    "signature of zeros": lambda: raw_token(RS, claims(), b"\0" * 256),
    "no signature": lambda: token().rpartition(".")[0] + ".",
    "another kind of key under the same kid": lambda: token(kind="P-256", algorithm="ES256", key_id="rsa"),
    "EdDSA by a key for ES256": lambda: token(kind="Ed25519", algorithm="EdDSA", key_id="P-256"),
}

UNSIGNED = {
    "none": lambda: raw_token({"alg": "none"}, claims(), b""),
    "none with a signature": lambda: raw_token({"alg": "none", "kid": "rsa"}, claims()),
    "None": lambda: raw_token({"alg": "None"}, claims()),
    "nOnE": lambda: raw_token({"alg": "nOnE"}, claims(), b""),
    "no alg": lambda: raw_token({"kid": "rsa"}, claims()),
    "alg null": lambda: raw_token({"alg": None}, claims()),
    "alg a list": lambda: raw_token({"alg": ["RS256"]}, claims()),
}

SHARED = {
    "HS256 with the public key as PEM": lambda: hmac_token(public_pem(), kid="rsa"),
    "HS256 with the PEM without its last line feed": lambda: hmac_token(public_pem().strip(), kid="rsa"),
    "HS512 with the modulus": lambda: hmac_token(jwk("rsa")["n"].encode(), "HS512", kid="rsa"),
    "HS256 with an empty secret": lambda: hmac_token(b"", kid="rsa"),
    "HS384 with the Ed25519 key": lambda: hmac_token(jwk("Ed25519")["x"].encode(), "HS384", kid="Ed25519"),
    "unknown alg": lambda: raw_token({"alg": "RS1", "kid": "rsa"}, claims()),
    "ES256K": lambda: raw_token({"alg": "ES256K", "kid": "P-256"}, claims()),
    "PS384, not configured": lambda: token(algorithm="PS384"),
}

BROKEN = {
    "empty": lambda: "",
    "a password": lambda: "correct horse battery staple",
    "one part": lambda: "abc",
    "two parts": lambda: "abc.def",
    "five parts (JWE)": lambda: "a.b.c.d.e",
    "with blanks": lambda: f" {token()}",
    "with a line feed": lambda: f"{token()}\n",
    "with quotes": lambda: f'"{token()}"',
    "with padding": lambda: f"{token()}==",
    "Bearer in front": lambda: f"Bearer {token()}",
    "NUL inside": lambda: token().replace(".", "\0.", 1),
    "not ASCII": lambda: token().replace(".", ".é", 1),
    "longer than 16 KiB": lambda: token(claims(padding="x" * 16 * 1024)),
    "a million characters": lambda: "a" * 1_000_000,
    "header not base64": lambda: "a." + ".".join(token().split(".")[1:]),
    "header not JSON": lambda: raw_token(b"{", claims()),
    "header a list": lambda: raw_token([RS], claims()),
    "header nested 3000 deep": lambda: raw_token(b'{"alg":"RS256","x":' + DEEP + b"}", claims()),
    "header names alg twice": lambda: raw_token(b'{"alg":"none","alg":"RS256"}', claims()),
    "payload not JSON": lambda: raw_token(RS, b"\xff\xfe"),
    "payload nested 3000 deep": lambda: raw_token(RS, b'{"iss":"x","x":' + DEEP + b"}"),
    "payload names iss twice": lambda: raw_token(
        RS, b'{"iss":"https://login.example","iss":"https://login.example"}'
    ),
    "a number of 5000 digits": lambda: raw_token(RS, b'{"iss":"x","exp":' + b"9" * 5000 + b"}"),
    "NaN": lambda: raw_token(RS, b'{"iss":"https://login.example","exp":NaN}'),
    "iss a list": lambda: raw_token(RS, claims(iss=["https://login.example"])),
    "no iss": lambda: token(claims(iss=None)),
    "kid a number": lambda: raw_token({**RS, "kid": 1}, claims()),
    "kid an object": lambda: raw_token({**RS, "kid": {"a": 1}}, claims()),
}

EXTENDED = {
    "crit": lambda: raw_token({**RS, "crit": ["exp"], "exp": 1}, claims()),
    "crit empty": lambda: raw_token({**RS, "crit": []}, claims()),
    "b64": lambda: raw_token({**RS, "b64": True}, claims()),
    "logout+jwt": lambda: raw_token({**RS, "typ": "logout+jwt"}, claims()),
    "dpop+jwt": lambda: raw_token({**RS, "typ": "dpop+jwt"}, claims()),
    "secevent+jwt": lambda: raw_token({**RS, "typ": "secevent+jwt"}, claims()),
    "typ a number": lambda: raw_token({**RS, "typ": 1}, claims()),
}

ELSEWHERE = {
    "another issuer": lambda: token(claims(iss="https://evil.example")),
    "the issuer with a slash": lambda: token(claims(iss="https://login.example/")),
    "the issuer in capitals": lambda: token(claims(iss="https://LOGIN.example")),
    "the issuer with a port": lambda: token(claims(iss="https://login.example:443")),
}

# Of tokens whose signature holds.
CLAIMS = {
    "expired": ({"exp": NOW - 1}, "has expired"),
    "expiring now": ({"exp": NOW}, "has expired"),
    "no end": ({"exp": None}, "no end"),
    "end a text": ({"exp": "2030"}, "no number"),
    "end true": ({"exp": True}, "no number"),
    "end null": ({"exp": "null"}, "no number"),
    "end in milliseconds": ({"exp": NOW * 1000}, "out of range"),
    "end an immense integer": ({"exp": 10**400}, "out of range"),
    "end negative": ({"exp": -1}, "out of range"),
    "begins later": ({"nbf": NOW + 31}, "not valid yet"),
    "issued later": ({"iat": NOW + 31}, "not valid yet"),
    "nbf a text": ({"nbf": "now"}, "no number"),
    "for others": ({"aud": "billing"}, "somebody else"),
    "for a longer name": ({"aud": "proxyd2"}, "somebody else"),
    "for others, as a list": ({"aud": ["billing", "mail"]}, "somebody else"),
    "for nobody": ({"aud": None}, "whom it is for"),
    "for an empty list": ({"aud": []}, "whom it is for"),
    "aud a number": ({"aud": 1}, "whom it is for"),
    "aud with a number": ({"aud": ["proxyd", 1]}, "whom it is for"),
    "several audiences, nobody named": ({"aud": ["proxyd", "mail"]}, "several audiences"),
    "several audiences, given to a stranger": (
        {"aud": ["proxyd", "mail"], "azp": "mail"},
        "several audiences",
    ),
    "a logout token": ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, "logout"),
    "bound to a key by DPoP": (
        {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
        "bound to a key",
    ),
    "bound to a certificate": (
        {"cnf": {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}},
        "bound to",
    ),
    "bound to who knows what": ({"cnf": "x"}, "bound to a key"),
    "no name": ({"email": None}, "names nobody"),
    "name a number": ({"email": 7}, "names nobody"),
    "name empty": ({"email": ""}, "is empty"),
    "name with a NUL": ({"email": "alice\0@example.com"}, "control"),
    "name with a line feed": ({"email": "alice@example.com\n"}, "white space"),
    "name turned around": ({"email": "\u202ealice@example.com"}, "control"),
    "name not NFC": ({"email": "zoe\u0308@example.com"}, "normal form"),
    "name too long": ({"email": "a" * 300}, "longer"),
    "name a blank": ({"email": " "}, "is empty"),
    "e-mail not verified": ({"email_verified": False}, "nobody has verified"),
    "e-mail verified by a word": ({"email_verified": "true"}, "nobody has verified"),
    "groups a number": ({"groups": 1}, "not texts"),
    "groups with an object": ({"groups": ["data", {}]}, "not texts"),
    "group with a NUL": ({"groups": ["da\0ta"]}, "control"),
    "300 groups": ({"groups": [f"g{n}" for n in range(300)]}, "more than 256"),
    "groups elsewhere": ({"groups": None, "_claim_names": {"groups": "src1"}}, "where they are"),
}


def table(*cases: dict[str, Any]) -> Any:
    return pytest.mark.parametrize(
        "make", [pytest.param(make, id=name) for each in cases for name, make in each.items()]
    )


def refusal_of(text: str, bench: Bench | None = None) -> TokenRefused:
    bench = bench or Bench(keys=KEYS)
    tokens = bench.tokens()
    with pytest.raises(TokenRefused) as caught:
        tokens.check(text)
    assert tokens.known(text) is None
    return caught.value


@pytest.fixture(autouse=True)
def _sound_tokens_count() -> None:
    """Every table here would pass if nothing were accepted."""
    assert Bench(keys=KEYS).tokens().check(token()).name == "alice@example.com"


@table(FORGED)
def test_forged(make: Any) -> None:
    text = make()
    refusal = refusal_of(text)
    assert "signature" in refusal.text or "not signed" in refusal.text or "does not publish" in refusal.text


@table(UNSIGNED)
def test_unsigned(make: Any) -> None:
    assert "not signed" in refusal_of(make()).text


@table(SHARED)
def test_algorithms_that_are_not_configured(make: Any) -> None:
    assert "signed in a way that is not accepted here" in refusal_of(make()).text


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS1", "ES256K", "dir"])
def test_no_configuration_allows_others(algorithm: str) -> None:
    with pytest.raises(ValueError, match="algorithms"):
        issuer(algorithms=(algorithm,))


@table(BROKEN)
def test_broken(make: Any) -> None:
    refusal_of(make())


@table(EXTENDED)
def test_extensions_and_other_types(make: Any) -> None:
    text = refusal_of(make()).text
    assert "crit" in text or "typ" in text


@table(ELSEWHERE)
def test_other_issuers(make: Any) -> None:
    assert "an issuer that is not known here" in refusal_of(make()).text


@pytest.mark.parametrize(
    ("more", "words"), [pytest.param(more, words, id=name) for name, (more, words) in CLAIMS.items()]
)
def test_claims(more: dict[str, Any], words: str) -> None:
    assert words in refusal_of(token(claims(**more))).text


@pytest.mark.parametrize(
    "key_id",
    [
        "../../etc/passwd",
        "/dev/null",
        "file:///etc/passwd",
        "https://evil.example/key.json",
        "rsa' OR '1'='1",
        "rsa\0",
        "",
        "a" * 5000,
    ],
)
def test_key_ids_are_only_compared(key_id: str) -> None:
    """Signed by the very key: what the header calls it does not lead anywhere."""
    refusal = refusal_of(token(key_id=key_id))
    assert refusal.may_pass
    assert "does not publish" in refusal.text


@pytest.mark.parametrize("name", ["jku", "x5u"])
def test_addresses_of_keys_are_not_followed(name: str) -> None:
    forged = token(kind="rsa/forger", headers={name: "https://evil.example/keys"})
    assert "signature" in refusal_of(forged).text


def test_keys_inside_of_tokens_are_not_used() -> None:
    forged = token(kind="rsa/forger", headers={"jwk": jwk("rsa/forger"), "x5c": ["MIIB"]})
    assert "signature" in refusal_of(forged).text
    unnamed = token(kind="rsa/forger", key_id=None, headers={"jwk": jwk("rsa/forger")})
    assert "signature" in refusal_of(unnamed).text


def test_what_is_refused_is_not_quoted() -> None:
    """Neither for the log nor for the client: a token of a moment's fault may be good later."""
    for text in (token(claims(nbf=NOW + 600)), token(key_id="unknown"), other_signature(token())):
        refusal = refusal_of(text)
        for part in text.split("."):
            assert part not in refusal.reason + refusal.text + repr(refusal)


def test_tokens_of_one_issuer_are_not_signed_by_another() -> None:
    """Both are configured, and each has keys: the one whose name is in the token has to have signed it."""
    bench = Bench(
        issuers=(issuer(), issuer(name="partner", issuer="https://partner.example", name_prefix="p:"))
    )
    tokens = bench.tokens()
    tokens._sources["https://login.example"]._succeeded(key_set(jwk("rsa")))
    tokens._sources["https://partner.example"]._succeeded(key_set(jwk("rsa/forger", "rsa")))
    assert tokens.check(token()).name == "alice@example.com"
    partner = token(claims(iss="https://partner.example"), kind="rsa/forger")
    assert tokens.check(partner).name == "p:alice@example.com"
    with pytest.raises(TokenRefused, match="signature"):
        tokens.check(token(kind="rsa/forger"))
    with pytest.raises(TokenRefused, match="signature"):
        tokens.check(token(claims(iss="https://partner.example")))


def test_an_issuer_does_not_give_names_of_another() -> None:
    bench = Bench(
        issuers=(issuer(), issuer(name="partner", issuer="https://partner.example", name_prefix="p:")),
        keys=KEYS,
    )
    tokens = bench.tokens()
    with pytest.raises(TokenRefused, match="another issuer's names"):
        tokens.check(token(claims(email="p:bob@example.com")))
    assert tokens.check(token(claims(iss="https://partner.example", email="p:x"))).name == "p:p:x"


def test_a_token_is_a_secret_of_its_issuers_whether_it_counts_or_not() -> None:
    tokens = Bench(keys=KEYS).tokens()
    for text in (token(), token(claims(exp=1)), other_signature(token()), token(key_id="unknown")):
        assert tokens.is_of_issuer(text)
    for text in ("", "sk-live-1", "a.b.c", token(claims(iss="https://elsewhere.example"))):
        assert not tokens.is_of_issuer(text)


def test_pyjwt_signs_as_the_table_expects() -> None:
    """The tables are about tokens that PyJWT itself would take for sound ones."""
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_aud": False, "verify_nbf": False}
    read = jwt.decode(token(), private_key("rsa").public_key(), algorithms=["RS256"], options=options)
    assert read == claims()
