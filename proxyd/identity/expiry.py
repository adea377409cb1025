"""What of a subject ends, in words for people. Pure. Called by the doors when somebody's time is over."""

from __future__ import annotations

from policy.facts import Subject
from proxyd.identity.oidc.claims import METHOD


def proof_of(subject: Subject) -> str:
    """What `expires_at` is of, as in "the ... has expired"."""
    if subject.method != METHOD:
        return "certificate"
    return "token or certificate" if "certificate" in subject.claims.get("factors", ()) else "token"
