"""What the proofs of a finished login say: the subject, and what their certificate lets them do.

Owns forming both from proofs of one person. Decides nothing about whether a proof holds (`proxyd.identity.ssh`). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from policy.facts import Subject
from proxyd.config import Issuer
from proxyd.identity.certificate import problem_with_name
from proxyd.identity.ssh_settings import Factor, Person
from proxyd.ssh_blobs import BlobError, fingerprint
from proxyd.ssh_certificate import Certificate, Permissions


@dataclass(frozen=True, slots=True)
class SshIdentity:
    """Who is there, and what their certificate lets them do beside what the policy says.

    logins: the accounts that the certificate names; None where it does not speak of accounts. forced_command: run
    whatever was asked for (a certificate's force-command).
    """

    subject: Subject
    logins: frozenset[str] | None = None
    forced_command: str | None = None
    may_use_pty: bool = True
    may_forward: bool = True
    may_use_agent: bool = True
    may_use_x11: bool = True


@dataclass(frozen=True, slots=True)
class CertificateProof:
    certificate: Certificate
    permissions: Permissions


@dataclass(frozen=True, slots=True)
class Proof:
    """What one step has shown.

    key: blob of the plain key that signed, b"" for a code or token. shown: its certificate. token: whom a token names,
    by the word of issuer.
    """

    factor: Factor
    person: str
    key: bytes = b""
    shown: CertificateProof | None = None
    token: Subject | None = None
    issuer: Issuer | None = None


def certificate_name(certificate: Certificate, source: Literal["key_id", "principal"]) -> str:
    """The subject's name. Raises BlobError: it is refused, not repaired."""
    if source == "key_id":
        name = certificate.key_id
    elif len(certificate.principals) == 1:
        name = certificate.principals[0]
    else:
        raise BlobError(
            f"it has {len(certificate.principals)} principals, and does not say which its holder is"
        )
    if problem := problem_with_name(name):
        raise BlobError(f"the name in it, {name[:64]!a}, {problem}")
    return name


def form_identity(
    proofs: Sequence[Proof], person: Person, principals: Literal["logins", "groups"]
) -> SshIdentity:
    """Of proofs that are all of `person`, at most one of them with a certificate, and at most one with a token."""
    identity = _without_token(proofs, person, principals)
    for proof in proofs:
        if proof.token is not None:
            return replace(identity, subject=_with_token(identity.subject, proof.token, proofs))
    return identity


def _with_token(shown: Subject, token: Subject, proofs: Sequence[Proof]) -> Subject:
    """Groups and claims are the token's, as at every door; what else was shown is added, and the first end counts."""
    told = {name: shown.claims[name] for name in _TOLD if shown.claims.get(name)}
    ends = [end for end in (shown.expires_at, token.expires_at) if end is not None]
    factors = [proof.factor.value for proof in proofs]
    claims = {**token.claims, **told, **({"factors": factors} if len(factors) > 1 else {})}
    return msgspec.structs.replace(token, claims=claims, expires_at=min(ends, default=None))


# Claims that a key or certificate gives; the configuration lets no token have them.
_TOLD = ("keys", "key_id", "principals", "serial", "authority")


def _without_token(
    proofs: Sequence[Proof], person: Person, principals: Literal["logins", "groups"]
) -> SshIdentity:
    keys = [fingerprint(proof.key) for proof in proofs if proof.key]
    for proof in proofs:
        if proof.shown is not None:
            return _certified(proof.shown, person, principals, keys)
    claims = {**person.claims, "keys": keys}
    return SshIdentity(Subject(person.name, tuple(dict.fromkeys(person.groups)), claims, method="ssh_key"))


def _certified(
    shown: CertificateProof, person: Person, principals: Literal["logins", "groups"], keys: list[str]
) -> SshIdentity:
    certificate, permissions = shown.certificate, shown.permissions
    as_groups = principals == "groups"
    groups = (*person.groups, *certificate.principals) if as_groups else person.groups
    subject = Subject(
        person.name,
        tuple(dict.fromkeys(groups)),
        {
            **person.claims,
            "keys": keys,
            "key_id": certificate.key_id,
            "principals": list(certificate.principals),
            "serial": str(certificate.serial),
            "authority": fingerprint(certificate.authority_blob),
        },
        method="ssh_certificate",
        expires_at=certificate.expires_at,
    )
    return SshIdentity(
        subject,
        logins=None if as_groups else frozenset(certificate.principals),
        forced_command=permissions.forced_command,
        may_use_pty=permissions.may_use_pty,
        may_forward=permissions.may_forward,
        may_use_agent=permissions.may_use_agent,
        may_use_x11=permissions.may_use_x11,
    )
