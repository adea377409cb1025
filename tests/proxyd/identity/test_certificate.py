"""Certificates made into subjects: which name wins, which groups follow, and which names are refused."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.facts import Subject
from proxyd.identity.certificate import (
    MAX_NAMES,
    CertificateRules,
    IdentityError,
    subject_from_certificate,
)
from tests import pki

CA = pki.Authority.root()
SPIFFE = "spiffe://example.org/ns/data/alice"


def subject(rules: CertificateRules | None = None, **names: Any) -> Subject:
    credential = CA.issue(names.pop("cn", None), **names)
    return subject_from_certificate(credential.certificate, rules or CertificateRules())


def refusal(rules: CertificateRules | None = None, **names: Any) -> IdentityError:
    with pytest.raises(IdentityError) as caught:
        subject(rules, **names)
    return caught.value


# --- the name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"cn": "alice", "emails": ["alice@example.org"], "uris": [SPIFFE]}, SPIFFE),
        ({"cn": "alice", "emails": ["alice@example.org"]}, "alice@example.org"),
        ({"cn": "alice"}, "alice"),
        ({"cn": "alice", "dns": ["alice.example.org"]}, "alice"),
        ({"cn": "Ålice Ωmega"}, "Ålice Ωmega"),
        ({"uris": ["urn:employee:1234"]}, "urn:employee:1234"),
        ({"uris": ["https://example.org/people/alice"]}, "https://example.org/people/alice"),
    ],
)
def test_the_first_kind_of_name_that_is_there_wins(names: dict[str, Any], expected: str) -> None:
    assert subject(**names).name == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (("cn", "san_email", "san_uri"), "alice"),
        (("san_email", "cn"), "alice@example.org"),
        (("cn",), "alice"),
    ],
)
def test_the_order_is_the_rules(order: tuple[str, ...], expected: str) -> None:
    rules = CertificateRules(name=order)
    assert subject(rules, cn="alice", emails=["alice@example.org"], uris=[SPIFFE]).name == expected


def test_a_certificate_without_a_listed_name_names_nobody() -> None:
    error = refusal(CertificateRules(name=("san_uri", "san_email")), cn="alice")
    assert error.what == "the certificate names nobody"
    assert error.why == "it has none of: URI name, e-mail name"
    assert "identity.certificates.name" in error.next
    assert error.what in str(error)
    assert error.next in str(error)


def test_an_empty_certificate_names_nobody() -> None:
    assert refusal().what == "the certificate names nobody"


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ({"uris": [SPIFFE, "urn:x:y"], "cn": "alice"}, "2 values of URI name"),
        ({"emails": ["a@example.org", "b@example.org"], "cn": "alice"}, "2 values of e-mail name"),
    ],
)
def test_two_names_of_the_chosen_kind_are_refused(names: dict[str, Any], what: str) -> None:
    # Never the next kind instead: the certificate does have a name of this one, only not a clear one.
    assert what in refusal(**names).what


def common_names(*values: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value) for value in values])


def test_two_common_names_are_refused() -> None:
    assert "2 values of common name" in refusal(subject=common_names("alice", "root")).what


def test_two_names_of_another_kind_do_no_harm() -> None:
    found = subject(subject=common_names("alice", "ally"), uris=[SPIFFE])
    assert found.name == SPIFFE
    assert found.claims["cn"] == ["alice", "ally"]


# --- names that are refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("alice\x00.example.org", "control"),
        ("alice\nrole=admin", "control"),
        ("alice\r", "white space"),
        ("alice\x1b[31m", "control"),
        ("alice\x7f", "control"),
        ("alice\x85b", "control"),
        ("alice\u2028b", "control"),
        ("al\u200bice", "control"),
        ("\u202eecila", "control"),
        ("A\u030alice", "normal form"),
        (" ", "is empty"),
        (" alice", "white space"),
        ("alice ", "white space"),
    ],
)
def test_a_name_that_could_be_read_as_another_is_refused(value: str, what: str) -> None:
    error = refusal(subject=common_names(value))
    assert what in error.what
    assert not any(ord(c) < 32 or ord(c) > 126 for c in str(error))


@pytest.mark.parametrize("kind", [NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME])
def test_a_bad_group_name_is_refused(kind: x509.ObjectIdentifier) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice"), x509.NameAttribute(kind, "dba\x00x")])
    assert "control" in refusal(subject=name).what


def test_a_bad_name_is_refused_also_where_it_is_not_used() -> None:
    error = refusal(subject=common_names("alice\x00"), uris=[SPIFFE])
    assert "common name" in error.what


def test_a_long_name_is_refused() -> None:
    long = "urn:" + "x" * 252
    assert subject(uris=[long]).name == long
    assert "longer than 256" in refusal(uris=[long + "x"]).what


def test_many_names_are_refused() -> None:
    uris = [f"urn:{i}" for i in range(MAX_NAMES + 1)]
    assert "more than 64" in refusal(uris=uris).why


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org/a/",
        "spiffe://example.org//a",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/./a",
        "spiffe://example.org/a%2fb",
        "spiffe://example.org/a?x=1",
        "spiffe://example.org/a#x",
        "spiffe://Example.org/a",
        "spiffe://user@example.org/a",
        "spiffe://example.org:8443/a",
        "spiffe:///a",
        "SPIFFE://example.org/a",
        "spiffe:example.org/a",
    ],
)
def test_what_looks_like_spiffe_must_be_spiffe(uri: str) -> None:
    assert "is no SPIFFE ID" in refusal(uris=[uri]).what


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ({"uris": ["alice"]}, "is no URI"),
        ({"uris": [":alice"]}, "is no URI"),
        ({"emails": ["alice"]}, "is no e-mail address"),
        ({"emails": ["alice smith@example.org"]}, "is no e-mail address"),
    ],
)
def test_a_name_in_a_doubtful_form_is_refused(names: dict[str, Any], what: str) -> None:
    assert what in refusal(cn="alice", **names).what


def with_raw_alternative_names(content: bytes) -> x509.Certificate:
    """A certificate whose subjectAltName is `content`, which no careful CA would sign."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(common_names("alice"))
        .issuer_name(CA.certificate.subject)
        .public_key(CA.credential.key.public_key())
        .serial_number(1)
        .not_valid_before(pki.now() - pki.DAY)
        .not_valid_after(pki.now() + pki.DAY)
        .add_extension(x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, content), critical=False)
    )
    return builder.sign(CA.credential.key, hashes.SHA256())


def raw_names(tag: int, value: bytes) -> bytes:
    return bytes([0x30, len(value) + 2, tag, len(value)]) + value


EMAIL, DNS, URI = 0x81, 0x82, 0x86


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (raw_names(EMAIL, b"alice@"), "is no e-mail address"),
        (raw_names(EMAIL, b"a@b@c"), "is no e-mail address"),
        (raw_names(EMAIL, b""), "e-mail name '' is empty"),
        (raw_names(EMAIL, b"root@example.org\x00.evil.test"), "control"),
        (raw_names(URI, b"spiffe://example.org/root\x00/alice"), "control"),
        (raw_names(URI, b"spiffe://example.org/a\nb"), "control"),
        (raw_names(DNS, b"a\x00b"), "control"),
        (raw_names(EMAIL, b"\xc3\xa4@example.org"), "is not ASCII"),
        (b"\x30\x03\x82\x05x", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_alternative_names_as_an_attacker_writes_them(content: bytes, what: str) -> None:
    with pytest.raises(IdentityError) as caught:
        subject_from_certificate(with_raw_alternative_names(content), CertificateRules())
    assert what in caught.value.what


@settings(deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_whatever_the_name_it_is_kept_as_it_is_or_refused(value: str) -> None:
    try:
        credential = CA.issue(value)
    except ValueError:
        return  # not even a certificate can hold it
    try:
        found = subject_from_certificate(credential.certificate, CertificateRules())
    except IdentityError:
        return
    assert found.name == value
    assert found.claims["cn"] == [value]


# --- groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (CertificateRules(), ("Example", "Data Team", "dba")),
        (CertificateRules(groups_from=("ou",)), ("Data Team", "dba")),
        (CertificateRules(groups_from=("ou", "o")), ("Data Team", "dba", "Example")),
        (CertificateRules(groups_from=()), ()),
        (
            CertificateRules(groups_map={"Data Team": ("data", "readers")}),
            ("Example", "data", "readers", "dba"),
        ),
        (CertificateRules(groups_map={"Example": ("dba",)}), ("dba", "Data Team")),
        (CertificateRules(groups_map={"Example": ()}), ("Data Team", "dba")),
        (
            CertificateRules(groups_map={"data team": ("root",), "Data": ("root",)}),
            ("Example", "Data Team", "dba"),
        ),
    ],
)
def test_groups_come_from_the_listed_fields(rules: CertificateRules, expected: tuple[str, ...]) -> None:
    assert subject(rules, cn="alice", organization=["Example"], unit=["Data Team", "dba"]).groups == expected


def test_a_certificate_without_o_and_ou_has_no_groups() -> None:
    assert subject(cn="alice").groups == ()


# --- claims -----------------------------------------------------------------------------------------


def test_claims_hold_every_name() -> None:
    ends = datetime.datetime(2999, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    credential = CA.issue(
        "alice",
        dns=["alice.example.org"],
        uris=[SPIFFE],
        emails=["alice@example.org", "ally@example.org"],
        organization=["Example"],
        unit=["data", "dba"],
        not_after=ends,
    )
    found = subject_from_certificate(credential.certificate, CertificateRules())
    assert found.claims == {
        "cn": ["alice"],
        "o": ["Example"],
        "ou": ["data", "dba"],
        "san_uri": [SPIFFE],
        "san_email": ["alice@example.org", "ally@example.org"],
        "san_dns": ["alice.example.org"],
        "serial": f"{credential.certificate.serial_number:x}",
        "issuer": "CN=Test CA",
    }
    assert found.method == "certificate"
    assert found.expires_at == ends.timestamp()


def test_kinds_of_name_that_are_not_there_are_no_claims() -> None:
    assert set(subject(cn="alice").claims) == {"cn", "serial", "issuer"}


# --- rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"name": ("dns",)}, "name: 'dns' is unknown; known are san_uri, san_email, cn"),
        ({"name": ()}, "list at least one"),
        ({"groups_from": ("cn",)}, "groups_from: 'cn' is unknown; known are o, ou"),
    ],
)
def test_rules_with_unknown_fields_are_refused(rules: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CertificateRules(**rules)  # type: ignore[arg-type]
