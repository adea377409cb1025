"""Keys as issuers publish them: which count, for what, and which are left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyd.identity.oidc.json_text import JsonError, read_object
from proxyd.identity.oidc.jwks import MAX_KEYS, KeysError, read_keys
from tests.proxyd.identity.oidc.issuing import document, jwk, key_set, private_key, segment

RSA = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


@pytest.mark.parametrize(
    ("kind", "more", "algorithms"),
    [
        ("rsa", {}, RSA),
        ("rsa", {"use": "sig"}, RSA),
        ("rsa", {"key_ops": ["verify"]}, RSA),
        ("rsa", {"alg": "RS256"}, {"RS256"}),
        ("P-256", {}, {"ES256"}),
        ("P-384", {"alg": "ES384"}, {"ES384"}),
        ("P-521", {}, {"ES512"}),
        ("Ed25519", {}, {"EdDSA"}),
        ("Ed448", {"alg": "EdDSA"}, {"EdDSA"}),
        ("rsa", {"x5c": ["MII"], "x5u": "https://evil.example", "x5t": "a"}, RSA),
    ],
)
def test_what_a_key_may_verify(kind: str, more: dict[str, Any], algorithms: set[str]) -> None:
    (key,) = key_set(jwk(kind, **more)).keys
    assert key.algorithms == algorithms
    assert key.id == kind


def octets(**more: Any) -> dict[str, Any]:
    return {"kty": "oct", "kid": "s", "k": segment(b"secret" * 8), **more}


def without(made: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in made.items() if name not in names}


UNUSABLE: dict[str, Any] = {
    "a shared secret": octets(),
    "a shared secret said to be RS256": octets(alg="RS256"),
    "a private key": {**jwk("rsa"), "d": "AQAB"},
    "for encryption": jwk("rsa", use="enc"),
    "for other operations": jwk("rsa", key_ops=["encrypt"]),
    "operations no list": jwk("rsa", key_ops=1),
    "a small RSA key": jwk("rsa1024"),
    "an immense RSA key": {**jwk("rsa"), "n": "A" * 100_000},
    "an RSA key of 20,000 bits": {**jwk("rsa"), "n": segment(b"\xff" * 2500)},
    "exponent 1": {**jwk("rsa"), "e": segment(b"\1")},
    "an even exponent": {**jwk("rsa"), "e": segment(b"\2")},
    "an immense exponent": {**jwk("rsa"), "e": segment(b"\xff" * 200)},
    "no modulus": without(jwk("rsa"), "n"),
    "modulus a number": {**jwk("rsa"), "n": 5},
    "modulus empty": {**jwk("rsa"), "n": ""},
    "modulus not base64": {**jwk("rsa"), "n": "é"},
    "curve secp256k1": jwk("secp256k1"),
    "a point off the curve": {**jwk("P-256"), "x": jwk("P-256/2")["x"]},
    "a point of another curve": {**jwk("P-256"), "crv": "P-384"},
    "curve a list": {**jwk("P-256"), "crv": ["P-256"]},
    "point not text": {**jwk("P-256"), "y": 1},
    "alg of another kind": jwk("rsa", alg="ES256"),
    "alg of another curve": jwk("P-256", alg="ES384"),
    "alg HS256": jwk("rsa", alg="HS256"),
    "alg none": jwk("rsa", alg="none"),
    "alg a list": jwk("rsa", alg=["RS256"]),
    "X25519": {"kty": "OKP", "crv": "X25519", "x": jwk("Ed25519")["x"]},
    "Ed25519 too short": {**jwk("Ed25519"), "x": "AAAA"},
    "kid a number": jwk("rsa", kid=5),
    "kid immense": jwk("rsa", "k" * 2000),
    "no kty": without(jwk("rsa"), "kty"),
    "unknown kty": jwk("rsa", kty="AKP"),
    "kty a list": jwk("rsa", kty=["RSA"]),
    "a text": "rsa",
    "null": None,
}


@pytest.mark.parametrize("made", [pytest.param(made, id=name) for name, made in UNUSABLE.items()])
def test_unusable_keys_are_left_out(made: Any) -> None:
    found = key_set(made, jwk("Ed25519", "good"))
    assert [key.id for key in found.keys] == ["good"]
    assert len(found.ignored) == 1
    assert "no key is published" in key_set(made).lack
    assert not found.lack


def test_a_private_key_is_no_public_one() -> None:
    """An issuer that publishes the private part has given its key away."""
    numbers = private_key("P-256").private_numbers()
    made = {**jwk("P-256"), "d": segment(numbers.private_value.to_bytes(32))}
    assert "everybody has it" in key_set(made).lack


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not JSON"),
        (b"<html><body>Log in</body></html>", "not JSON"),
        (b'{"keys": [', "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "no list `keys`"),
        (b'{"keys": {}}', "no list `keys`"),
        (b'{"keys": [], "keys": []}', "twice"),
        (b"\xff\xfe{}", "not JSON"),
        (b'{"keys": ' + b"[" * 5000 + b"]" * 5000 + b"}", "deeper"),
        (b'{"keys": ' + b"[" * 20 + b"]" * 20 + b"}", "deeper"),
        (b'{"keys": [' + b"9" * 5000 + b"]}", "not JSON"),
        (document(*[{}] * (MAX_KEYS + 1)), "101 keys"),
        (b'{"keys":[' + b",".join([b"{}"] * 100_000) + b"]}", "100000 keys"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_documents_that_are_no_set_of_keys(text: bytes, words: str) -> None:
    with pytest.raises(KeysError, match=words):
        read_keys(text)


def test_what_was_left_out_is_told_in_bounds() -> None:
    assert len(key_set(*[octets()] * 100).lack) < 500


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*"nexy", "kty", "crv", "kid", "alg"]), inner)
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4))
def test_no_document_does_harm(listed: list[Any]) -> None:
    try:
        found = read_keys(json.dumps({"keys": listed}).encode())
    except KeysError:
        return
    assert len(found.keys) + len(found.ignored) == len(listed)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_json_is_read_as_it_stands(value: dict[str, Any]) -> None:
    assert read_object(json.dumps(value).encode()) == value


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_are_no_json(constant: str) -> None:
    with pytest.raises(JsonError):
        read_object(f'{{"a": {constant}}}'.encode())
