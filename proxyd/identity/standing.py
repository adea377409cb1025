"""Whether what somebody has shown still makes them who they are, once the files and settings behind it have changed.

Owns the question for certificates shown over TLS and for tokens; SSH's own factors are asked about in
`proxyd.identity.ssh`. Called by the doors for each live session when a reload has happened. A subject never changes
while a session lasts: who would be another one now, in name, groups or claims, has to come again. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from policy.facts import Subject
from proxyd.config import Issuer
from proxyd.identity.certificate import CertificateRules, IdentityError, subject_from_certificate
from proxyd.identity.oidc import Tokens
from proxyd.identity.oidc.claims import METHOD
from proxyd.tls import TlsStream
from proxyd.tls_contexts import ServerTls


class TlsListener(Protocol):
    """A listener as it is now."""

    @property
    def tls(self) -> ServerTls | None: ...

    @property
    def certificate_rules(self) -> CertificateRules: ...


@dataclass(frozen=True, slots=True)
class CertificateShown:
    """The certificate of one connection, whose handshake is over, and the subject that it named then."""

    connection: TlsStream
    listener: TlsListener
    subject: Subject

    def problem(self) -> str:
        """Why it does not count any more, as a sentence without its end; "" when it does."""
        tls, chain = self.listener.tls, self.connection.peer_chain
        if tls is None:
            return ""
        reason = tls.problem_with(chain)
        if reason:
            return f"the client certificate does not count any more: {reason}"
        try:
            now = subject_from_certificate(chain[0], self.listener.certificate_rules)
        except IdentityError as fault:
            return f"the client certificate names nobody any more: {fault.what}"
        return "" if now == self.subject else "the client certificate stands for another subject now"


@dataclass(frozen=True, slots=True)
class TokenShown:
    """A token that was believed, by the issuer as it was configured then; None: it has gone meanwhile."""

    issuer: Issuer | None
    tokens: Tokens
    subject: Subject

    def problem(self) -> str:
        """As `CertificateShown.problem`."""
        now = self.tokens.issuer_of(self.subject)
        if now is None or self.issuer is None:
            return "tokens of this issuer do not count any more"
        if now is not self.issuer and not now.believes_as(self.issuer):
            return f"what counts of tokens of issuer {now.name} has changed"
        return ""


Shown = CertificateShown | TokenShown


def token_shown(tokens: Tokens, subject: Subject) -> TokenShown | None:
    """What to ask about later, of somebody who has come just now; None for who has come without a token."""
    return TokenShown(tokens.issuer_of(subject), tokens, subject) if subject.method == METHOD else None
