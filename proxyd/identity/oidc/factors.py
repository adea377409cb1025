"""A certificate and a token of one connection, made into one subject.

Owns that both have to be of the same name, and what of each the subject keeps. Pure. Called by the doors.
"""

from __future__ import annotations

from typing import Final

import msgspec

from policy.facts import Subject
from proxyd.identity.oidc.refusal import TokenRefused

# Claims of a certificate that say which one it was.
_BOTH: Final = ("certificate", "token")
_TOLD: Final = {"serial": "serial", "issuer": "certificate_issuer"}


def both_factors(certificate: Subject, token: Subject) -> Subject:
    """The subject of whoever has shown both. Raises TokenRefused when they are not of one name.

    Name, groups, claims and method are the token's, which is the younger word; `factors`, and the certificate's
    `serial` and `certificate_issuer`, are added to its claims. What ends first ends both.
    """
    if certificate.name != token.name:
        raise TokenRefused(
            f"the token is of {token.name!a}, the certificate of {certificate.name!a}",
            "the token and the certificate are of different people: use a token of the certificate's owner",
        )
    told = {
        ours: certificate.claims[theirs] for theirs, ours in _TOLD.items() if theirs in certificate.claims
    }
    ends = [end for end in (certificate.expires_at, token.expires_at) if end is not None]
    return msgspec.structs.replace(
        token,
        claims={**token.claims, **told, "factors": list(_BOTH)},
        expires_at=min(ends, default=None),
    )


def has_both_factors(subject: Subject) -> bool:
    """Is it one that `both_factors` has made? No token can say so of itself."""
    return subject.claims.get("factors") == list(_BOTH)
