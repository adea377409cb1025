"""Tokens that count, what becomes of them, and how long they are remembered."""

from __future__ import annotations

from typing import Any

import pytest

from policy.facts import Subject
from proxyd.identity.oidc import TokenRefused, both_factors
from proxyd.identity.oidc.verifier import MAX_KNOWN
from tests.proxyd.identity.oidc.issuing import NOW, URL, Bench, claims, issuer, jwk, key_set, token

ALL_KEYS = key_set(
    jwk("rsa"),
    jwk("P-256"),
    jwk("P-384"),
    jwk("P-521"),
    jwk("Ed25519"),
    jwk("Ed448"),
    jwk("rsa/2", alg="PS256"),
)


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("rsa", "RS256"),
        ("rsa", "RS384"),
        ("rsa", "RS512"),
        ("rsa", "PS256"),
        ("rsa/2", "PS256"),
        ("P-256", "ES256"),
        ("P-384", "ES384"),
        ("P-521", "ES512"),
        ("Ed25519", "EdDSA"),
        ("Ed448", "EdDSA"),
    ],
)
def test_algorithms(kind: str, algorithm: str) -> None:
    text = token(kind=kind, key_id=kind, algorithm=algorithm)
    assert Bench(keys=ALL_KEYS).tokens().check(text).name == "alice@example.com"


@pytest.mark.parametrize(
    "typ", [None, "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/jwt"]
)
def test_types(typ: str | None) -> None:
    text = token(headers={"typ": typ} if typ else {})
    assert Bench(keys=ALL_KEYS).tokens().check(text).name == "alice@example.com"


@pytest.mark.parametrize(
    "more",
    [
        {"aud": ["proxyd"]},
        {"aud": ["mail", "proxyd"], "azp": "proxyd"},
        {"nonce": "n", "at_hash": "h"},
        {"nbf": NOW + 30, "iat": NOW + 30},
        {"iat": None},
        {"exp": NOW + 0.5},
        {"exp": int(NOW) + 1},
        {"email_verified": True},
        {"deep": {"er": {"and": ["deeper"]}}},
    ],
)
def test_claims_that_do_no_harm(more: dict[str, Any]) -> None:
    assert Bench(keys=ALL_KEYS).tokens().check(token(claims(**more))).name == "alice@example.com"


def test_what_becomes_of_a_token() -> None:
    subject = Bench(keys=ALL_KEYS).tokens().check(token(claims(azp="cli")))
    assert subject == Subject(
        name="alice@example.com",
        groups=("data",),
        claims={
            "issuer": URL,
            "issuer_name": "company",
            "audience": ["proxyd"],
            "subject": "u-1",
            "client_id": "cli",
        },
        method="oidc",
        expires_at=NOW + 600,
    )


MAPPINGS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "groups renamed and doubled": (
        {"group_map": {"Data Team": ("data", "readers")}},
        {"groups": ["Data Team", "data", "ops"]},
        {"groups": ("data", "readers", "ops")},
    ),
    "one group as a text": ({}, {"groups": "data"}, {"groups": ("data",)}),
    "no groups": ({}, {"groups": None}, {"groups": ()}),
    "groups not asked for": ({"claims": {"name": "email", "groups": None}}, {"groups": [1]}, {"groups": ()}),
    "groups further in": (
        {"claims": {"name": "email", "groups": "realm_access.roles"}},
        {"realm_access": {"roles": ["ops"]}},
        {"groups": ("ops",)},
    ),
    "a claim with dots in its name": (
        {"claims": {"name": "email", "groups": "proxyd.example/groups"}},
        {"proxyd.example/groups": ["ops"], "proxyd": {"example/groups": ["no"]}},
        {"groups": ("ops",)},
    ),
    "a path that ends at a text": (
        {"claims": {"name": "email", "groups": "email.domain"}},
        {},
        {"groups": ()},
    ),
    "the subject by default": ({"claims": {}}, {}, {"name": "u-1"}),
    "a prefix": ({"name_prefix": "partner:"}, {}, {"name": "partner:alice@example.com"}),
    "another name with a blank": ({"claims": {"name": "name"}}, {"name": "Alice Doe"}, {"name": "Alice Doe"}),
}


@pytest.mark.parametrize(
    ("settings", "more", "expected"), [pytest.param(*case, id=name) for name, case in MAPPINGS.items()]
)
def test_mapping(settings: dict[str, Any], more: dict[str, Any], expected: dict[str, Any]) -> None:
    bench = Bench(issuers=(issuer(**settings),), keys=ALL_KEYS)
    subject = bench.tokens().check(token(claims(**more)))
    assert {name: getattr(subject, name) for name in expected} == expected


def test_more_claims() -> None:
    mapped = {
        "name": "email",
        "more": {"kind": "agent_kind", "level": "acr.level", "on_call": "oc", "teams": "t"},
    }
    bench = Bench(issuers=(issuer(claims=mapped),), keys=ALL_KEYS)
    subject = bench.tokens().check(token(claims(agent_kind="coder", acr={"level": 3}, oc=True, t=["a", "b"])))
    assert {name: subject.claims[name] for name in mapped["more"]} == {
        "kind": "coder",
        "level": "3",
        "on_call": "true",
        "teams": ["a", "b"],
    }


@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], [None], "a\0b", "x" * 2000, ["v"] * 100])
def test_more_claims_that_policies_cannot_compare(value: object) -> None:
    bench = Bench(issuers=(issuer(claims={"name": "email", "more": {"kind": "k"}}),), keys=ALL_KEYS)
    with pytest.raises(TokenRefused, match="claim `k`"):
        bench.tokens().check(token(claims(k=value)))


@pytest.mark.parametrize(
    ("more", "is_good"),
    [
        ({"azp": "cli"}, True),
        ({"client_id": "cli"}, True),
        ({"aud": ["proxyd", "account"], "azp": "cli"}, True),
        ({"azp": "other"}, False),
        ({"azp": ["cli"]}, False),
        ({}, False),
    ],
)
def test_authorized_parties(more: dict[str, Any], is_good: bool) -> None:
    tokens = Bench(issuers=(issuer(authorized_parties=("cli",)),), keys=ALL_KEYS).tokens()
    text = token(claims(**more))
    if is_good:
        assert tokens.check(text).name == "alice@example.com"
    else:
        with pytest.raises(TokenRefused, match="a client that is not known here"):
            tokens.check(text)


def test_a_token_without_kid_counts_where_one_key_fits() -> None:
    text = token(key_id=None, kind="P-256", algorithm="ES256")
    assert Bench(keys=key_set(jwk("rsa"), jwk("P-256"))).tokens().check(text).name == "alice@example.com"
    with pytest.raises(TokenRefused, match="does not publish"):
        Bench(keys=key_set(jwk("P-256"), jwk("P-256/2"))).tokens().check(text)


def test_two_keys_of_one_kid_are_both_tried() -> None:
    keys = key_set(jwk("rsa/2", "twin"), jwk("rsa", "twin"), jwk("P-256", "twin"))
    tokens = Bench(keys=keys).tokens()
    assert tokens.check(token(key_id="twin")).name == "alice@example.com"
    assert tokens.check(token(key_id="twin", kind="rsa/2")).name == "alice@example.com"
    assert tokens.check(token(key_id="twin", kind="P-256", algorithm="ES256")).name == "alice@example.com"
    with pytest.raises(TokenRefused, match="signature"):
        tokens.check(token(key_id="twin", kind="rsa/forger"))


# --- remembered -------------------------------------------------------------------------------------------


def test_a_token_is_known_until_it_ends() -> None:
    bench = Bench(keys=ALL_KEYS)
    tokens, text = bench.tokens(), token()
    assert tokens.known(text) is None
    subject = tokens.check(text)
    bench.clock.now = NOW + 599
    assert tokens.known(text) is subject
    bench.clock.now = NOW + 600
    assert tokens.known(text) is None
    with pytest.raises(TokenRefused, match="expired"):
        tokens.check(text)


def test_a_known_token_is_not_verified_again_and_another_is() -> None:
    bench = Bench(keys=ALL_KEYS)
    tokens, text = bench.tokens(), token()
    for _ in range(3):
        tokens.check(text)
    assert bench.metrics.issuer("company").accepted == 1
    with pytest.raises(TokenRefused):
        tokens.check(text[:-1])
    assert tokens.known(text) is not None


def test_a_token_is_forgotten_with_its_keys() -> None:
    bench = Bench(keys=ALL_KEYS)
    tokens, text = bench.tokens(), token()
    tokens.check(text)
    (source,) = tokens._sources.values()
    source._succeeded(
        key_set(*(jwk(kind) for kind in ("rsa", "P-256", "P-384", "P-521", "Ed25519", "Ed448")))
    )
    assert tokens.known(text) is None
    assert tokens.check(text).name == "alice@example.com"
    source._succeeded(key_set(jwk("P-256")))
    assert tokens.known(text) is None
    with pytest.raises(TokenRefused, match="does not publish"):
        tokens.check(text)


def test_the_same_keys_again_change_nothing() -> None:
    tokens, text = Bench(keys=ALL_KEYS).tokens(), token()
    subject = tokens.check(text)
    (source,) = tokens._sources.values()
    source._succeeded(
        key_set(
            jwk("rsa"),
            jwk("P-256"),
            jwk("P-384"),
            jwk("P-521"),
            jwk("Ed25519"),
            jwk("Ed448"),
            jwk("rsa/2", alg="PS256"),
        )
    )
    assert tokens.known(text) is subject


def test_stale_keys_count_for_nothing() -> None:
    bench = Bench(issuers=(issuer(stale="1h"),), keys=ALL_KEYS)
    tokens, text = bench.tokens(), token()
    tokens.check(text)
    bench.clock.monotonic = 3600.0
    assert tokens.known(text) is not None
    bench.clock.monotonic = 3600.1
    assert tokens.known(text) is None
    with pytest.raises(TokenRefused, match="are not known") as caught:
        tokens.check(text)
    assert caught.value.may_pass


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxyd.identity.oidc.verifier.MAX_KNOWN", 3)
    tokens = Bench(keys=ALL_KEYS).tokens()
    texts = [token(claims(jti=str(n))) for n in range(4)]
    for text in texts[:3]:
        tokens.check(text)
    tokens.known(texts[0])  # used, so it is not the oldest any more
    tokens.check(texts[3])
    assert [tokens.known(text) is not None for text in texts] == [True, False, True, True]
    assert MAX_KNOWN <= 10_000


def test_no_token_is_kept_in_memory() -> None:
    """What is remembered is looked up by a hash: a dump of memory shows no token that could be used."""
    tokens, text = Bench(keys=ALL_KEYS).tokens(), token()
    tokens.check(text)
    assert text.split(".")[2] not in repr(tokens._known)


# --- reload -----------------------------------------------------------------------------------------------


def test_issuers_that_stay_keep_their_keys_and_those_that_go_take_them_along() -> None:
    bench = Bench(keys=ALL_KEYS)
    tokens, text = bench.tokens(), token()
    tokens.check(text)
    tokens.take(tokens.prepare(bench.issuers))
    assert tokens.check(text).groups == ("data",)
    tokens.take(tokens.prepare([issuer(group_map={"data": ("readers",)})]))
    assert tokens.known(text) is None
    assert tokens.check(text).groups == ("readers",)
    tokens.take(tokens.prepare([issuer(name="other", issuer="https://other.example")]))
    assert tokens.known(text) is None
    with pytest.raises(TokenRefused, match="an issuer that is not known here"):
        tokens.check(text)
    assert "company" not in bench.metrics.render().decode()


def test_audiences_narrowed_by_a_reload_hold_at_once() -> None:
    tokens, text = Bench(keys=ALL_KEYS).tokens(), token()
    tokens.check(text)
    tokens.take(tokens.prepare([issuer(audiences=("else",))]))
    with pytest.raises(TokenRefused, match="somebody else"):
        tokens.check(text)


# --- both factors -----------------------------------------------------------------------------------------


def certificate(name: str = "alice@example.com", expires_at: float | None = NOW + 60) -> Subject:
    claims: dict[str, str | list[str]] = {"serial": "ab", "issuer": "CN=CA", "ou": ["old"]}
    return Subject(name, ("old",), claims, "certificate", expires_at)


def test_both_factors_make_one_subject() -> None:
    shown = Bench(keys=ALL_KEYS).tokens().check(token())
    both = both_factors(certificate(), shown)
    assert (both.name, both.groups, both.method) == ("alice@example.com", ("data",), "oidc")
    assert both.claims == {
        **shown.claims,
        "serial": "ab",
        "certificate_issuer": "CN=CA",
        "factors": ["certificate", "token"],
    }
    assert both.claims["issuer"] == URL


@pytest.mark.parametrize(
    ("certificate_end", "end"), [(NOW + 60, NOW + 60), (NOW + 900, NOW + 600), (None, NOW + 600)]
)
def test_the_first_end_counts(certificate_end: float | None, end: float) -> None:
    shown = Bench(keys=ALL_KEYS).tokens().check(token())
    assert both_factors(certificate(expires_at=certificate_end), shown).expires_at == end


@pytest.mark.parametrize("name", ["bob@example.com", "Alice@example.com", "alice@example.com."])
def test_factors_of_different_people(name: str) -> None:
    shown = Bench(keys=ALL_KEYS).tokens().check(token())
    with pytest.raises(TokenRefused, match="the certificate of"):
        both_factors(certificate(name), shown)
