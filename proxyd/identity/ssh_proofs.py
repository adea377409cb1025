"""What a key or a certificate proves about whoever holds its private half, and what else a proof needs to count.

Owns the judgement of one proof under one `Trust`: at a login, and again for a session that is open when a reload has
brought another one. Never decides in which order proofs come (`proxyd.identity.ssh`). Pure: the time is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence

from policy.facts import Subject
from proxyd.config import Issuer
from proxyd.identity.ssh_identity import CertificateProof, Proof, certificate_name
from proxyd.identity.ssh_settings import Factor, SshLoginSettings
from proxyd.identity.ssh_trust import Trust
from proxyd.ssh_blobs import (
    USER_PRESENT,
    USER_VERIFIED,
    BlobError,
    PublicKey,
    Signature,
    algorithm_of,
    algorithms_agree,
    key_from_blob,
)
from proxyd.ssh_certificate import Address, Certificate, Permissions, check_user_certificate


class ProofRefused(Exception):
    """It does not count. The text is for the log."""


def certificate_proof(
    certificate: Certificate,
    login: str,
    trust: Trust,
    settings: SshLoginSettings,
    now: float,
    peer: Address | None,
) -> Proof:
    """What a signature by the certificate's key would prove. Raises ProofRefused, BlobError."""
    named = f"certificate {certificate.key_id[:64]!a} (serial {certificate.serial})"
    try:
        permissions = check_user_certificate(certificate, trust.authorities, now, peer)
    except BlobError as error:
        raise ProofRefused(f"{named}: {error}") from error
    if trust.revocations.covers(certificate):
        raise ProofRefused(f"{named} is revoked")
    if certificate.key.blob in trust.authorities:
        raise ProofRefused("the certificate is for the key of an authority")
    if settings.principals == "logins" and login not in certificate.principals:
        raise ProofRefused(f"{login!a} is not one of the certificate's principals")
    name = certificate_name(certificate, settings.name)
    return Proof(Factor.CERTIFICATE, name, certificate.key.blob, CertificateProof(certificate, permissions))


def key_proof(key: PublicKey, trust: Trust) -> Proof:
    """What a signature by a plain key would prove. Raises ProofRefused."""
    if key.blob in trust.authorities:
        raise ProofRefused(f"{key.fingerprint} is the key of an authority")
    if trust.revocations.covers_key(key.blob):
        raise ProofRefused(f"{key.fingerprint} is revoked")
    person = trust.owners.get(key.blob)
    if person is None:
        raise ProofRefused(f"{key.fingerprint} is nobody's key")
    return Proof(Factor.PUBLIC_KEY, person.name, key.blob)


def check_again(
    proof: Proof,
    login: str,
    settings: SshLoginSettings,
    trust: Trust,
    before: Trust,
    now: float,
    peer: Address | None,
) -> None:
    """Does what counted under `before` count under `trust`? Raises ProofRefused, BlobError."""
    if proof.factor is Factor.TOTP:
        if trust.totp.get(proof.person) != before.totp.get(proof.person):
            raise ProofRefused(f"the one-time codes of {proof.person!a} are others now")
        return
    if proof.shown is not None:
        again = certificate_proof(proof.shown.certificate, login, trust, settings, now, peer)
    elif proof.key:
        again = key_proof(key_from_blob(proof.key), trust)
    else:
        return
    if again.person != proof.person:
        raise ProofRefused(f"what was of {proof.person!a} is of {again.person!a} now")


def check_issuer(proof: Proof, issuer: Issuer | None) -> None:
    """`issuer`: who vouches for the token of `proof` now. Raises ProofRefused."""
    if issuer is None:
        raise ProofRefused("tokens of its issuer do not count any more")
    if proof.issuer is not issuer and (proof.issuer is None or not issuer.believes_as(proof.issuer)):
        raise ProofRefused(f"what counts of tokens of issuer {issuer.name} has changed")


def check_requested(algorithm: bytes, blob: bytes, key: PublicKey) -> None:
    """A signature by another algorithm would be refused, so say it at the offer. b"": it is not known."""
    name = algorithm.decode("ascii", "replace")
    if name and not any(algorithms_agree(name, algorithm_of(blob), kind) for kind in key.signatures):
        raise ProofRefused(f"{name[:64]!a} does not go with this key, or is not accepted")


def check_still_valid(proofs: Sequence[Proof], now: float) -> None:
    """A certificate was looked at when it was shown; the factors after it may have taken their time."""
    for proof in proofs:
        if proof.shown is not None and now >= proof.shown.certificate.valid_before:
            raise ProofRefused("the certificate has expired meanwhile")
        if _has_ended(proof.token, now):
            raise ProofRefused("the token has expired meanwhile")


def _has_ended(subject: Subject | None, now: float) -> bool:
    return subject is not None and subject.expires_at is not None and now >= subject.expires_at


def check_flags(key: PublicKey, made: Signature, permissions: Permissions | None) -> None:
    """Of a security key: somebody has to have touched it, unless the certificate says otherwise."""
    if made.flags is None:
        return
    if (permissions is None or permissions.needs_presence) and not made.flags & USER_PRESENT:
        raise ProofRefused(f"{key.fingerprint} was not touched for this signature")
    if permissions is not None and permissions.needs_verification and not made.flags & USER_VERIFIED:
        raise ProofRefused(f"{key.fingerprint} did not verify its user, and the certificate demands it")
