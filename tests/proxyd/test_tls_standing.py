"""Certificates that were believed once, under the authorities and lists of today."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509

from proxyd.tls_standing import Standing
from tests.pki import Authority, now


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority.root()


def chain_of(*authorities: Authority, name: str = "alice") -> list[x509.Certificate]:
    """A new certificate of the first of them, and the way up."""
    own = authorities[0].issue(name).certificate
    return [own, *(authority.certificate for authority in authorities)]


def test_what_was_believed_and_is() -> None:
    root = Authority.root()
    chain = chain_of(root)
    assert Standing([root.certificate], []).problem_with(chain) == ""
    assert Standing([root.certificate], [root.crl()]).problem_with(chain) == ""


def test_a_revoked_certificate() -> None:
    root = Authority.root()
    revoked, fine = root.issue("alice"), root.issue("bob")
    root.revoke(revoked)
    standing = Standing([root.certificate], [root.crl()])
    assert standing.problem_with([revoked.certificate, root.certificate]) == "certificate revoked"
    assert standing.problem_with([fine.certificate, root.certificate]) == ""


def test_a_revoked_intermediate_takes_along_whom_it_vouches_for() -> None:
    root = Authority.root()
    between = root.intermediate()
    chain = chain_of(between, root)
    lists = [root.crl(), between.crl()]
    assert Standing([root.certificate, between.certificate], lists).problem_with(chain) == ""
    root.revoke(between)
    standing = Standing([root.certificate, between.certificate], [root.crl(), between.crl()])
    assert standing.problem_with(chain) == "its issuer's certificate is revoked"


def test_a_list_of_somebody_else_is_none(root: Authority) -> None:
    other = Authority.root("Another CA")
    standing = Standing([root.certificate], [other.crl()])
    assert standing.problem_with(chain_of(root)) == "no certificate revocation list of its issuer"


def test_an_authority_that_has_gone_or_has_another_key(root: Authority) -> None:
    chain = chain_of(root)
    for other in (Authority.root("Another CA"), Authority.root()):
        assert "not trusted any more" in Standing([other.certificate], []).problem_with(chain)


def test_a_list_that_has_ended_still_says_whom_it_names() -> None:
    root = Authority.root()
    revoked, fine = root.issue("alice"), root.issue("bob")
    root.revoke(revoked)
    standing = Standing([root.certificate], [root.crl_expired()])
    assert standing.problem_with([revoked.certificate, root.certificate]) == "certificate revoked"
    # Nobody new comes in under such a list; whoever is in is not thrown out because a day has passed.
    assert standing.problem_with([fine.certificate, root.certificate]) == ""


def test_what_a_later_list_takes_back_is_not_revoked(root: Authority) -> None:
    credential = root.issue("alice")
    removed = (
        x509.RevokedCertificateBuilder()
        .serial_number(credential.certificate.serial_number)
        .revocation_date(now() - datetime.timedelta(hours=1))
        .add_extension(x509.CRLReason(x509.ReasonFlags.remove_from_crl), critical=False)
        .build()
    )
    lists = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.certificate.subject)
        .last_update(now() - datetime.timedelta(hours=1))
        .next_update(now() + datetime.timedelta(days=1))
        .add_revoked_certificate(removed)
        .sign(root.credential.key, root.certificate.signature_hash_algorithm)  # type: ignore[arg-type]
    )
    standing = Standing([root.certificate], [lists])
    assert standing.problem_with([credential.certificate, root.certificate]) == ""


def test_no_chain_is_nobody(root: Authority) -> None:
    assert Standing([root.certificate], []).problem_with([]) == "no certificate was verified"
