"""Whether a PostgreSQL client that has said who it is may go where it wants.

Decides only, from the handshake, the configuration and the policy in force: nothing here waits or sends. Called by
`postgres_door`.
"""

from __future__ import annotations

from dataclasses import dataclass

from policy.decision import Effect, SessionLimits
from policy.evaluate import admit
from policy.facts import Subject
from protocols.postgres.messages import error_response
from protocols.postgres.startup import StartupReceived
from proxyd.config import PostgresLogin
from proxyd.gateway import Gateway, PostgresTargetRuntime
from proxyd.identity.expiry import proof_of
from proxyd.metrics import HandshakeFailure, SessionOutcome
from proxyd.postgres_handshake import Handshake, Refused, refuse
from proxyd.relay import SessionEnd
from proxyd.upstream import startup_parameters

NOT_ADMITTED = "28000"
_NEW_PROOF = "Get a new one and connect again."


@dataclass(slots=True)
class Request:
    """Who wants to go where, as admitted."""

    subject: Subject
    target: PostgresTargetRuntime
    database: str
    login: PostgresLogin
    startup: StartupReceived
    parameters: dict[str, str]
    limits: SessionLimits


def admit_client(greeted: Handshake, gateway: Gateway) -> Request:
    """Who may go where. Raises Refused."""
    startup = greeted.startup
    if gateway.drain.is_set():
        raise refuse(HandshakeFailure.NOT_ADMITTED, "57P03", "proxyd: the gateway is shutting down")
    subject = greeted.subject
    if subject is None:
        raise refuse(
            HandshakeFailure.IDENTITY,
            NOT_ADMITTED,
            f"proxyd: {greeted.lacks or 'a client certificate is'} needed",
            hint="Give sslcert and sslkey.",
        )
    if subject.expires_at is not None and subject.expires_at <= gateway.clock():
        raise refuse(
            HandshakeFailure.IDENTITY,
            NOT_ADMITTED,
            f"proxyd: the {proof_of(subject)} has expired",
            hint=_NEW_PROOF,
        )
    login_name = startup.parameters.get("user", "")
    place = startup.parameters.get("database") or login_name
    target_name, _, database = place.partition("/")
    target = gateway.postgres_target(target_name)
    login = target.config.login(login_name) if target is not None else None
    if target is None or login is None:
        raise _not_admitted(subject, place, login_name, "no such target or login")
    database = database or target.config.database
    if not target.config.allows_database(database):
        raise _not_admitted(subject, place, login_name, "database is not in the target's list")
    admission = admit(gateway.policy, subject, target.facts, login_name, gateway.clock())
    if admission.effect is not Effect.ALLOW:
        why = "; ".join(reason.message for reason in admission.reasons)
        hints = " ".join(reason.hint for reason in admission.reasons if reason.hint)
        if admission.effect is Effect.HOLD:
            raise refuse(
                HandshakeFailure.NOT_ADMITTED,
                NOT_ADMITTED,
                f"proxyd: {why}",
                reason=f"not admitted: {why}",
                hint=hints,
            )
        raise _not_admitted(subject, place, login_name, why)
    parameters, refused = startup_parameters(startup.parameters)
    if refused:
        listed = "; ".join(f"{name}: {reason}" for name, reason in refused)
        raise refuse(
            HandshakeFailure.NOT_ADMITTED,
            "42501",
            f"proxyd: startup parameter refused: {listed}",
            hint="Leave it out of the connection's settings (PGOPTIONS, options=, or the driver's).",
        )
    return Request(subject, target, database, login, startup, parameters, admission.limits)


def _not_admitted(subject: Subject, place: str, login: str, why: str) -> Refused:
    """One text for every reason, so that strangers cannot learn which targets and logins there are."""
    return refuse(
        HandshakeFailure.NOT_ADMITTED,
        NOT_ADMITTED,
        f'proxyd: "{subject.name}" has no access to "{place[:128]}" as "{login[:64]}"',
        reason=f"not admitted to {place[:128]!r} as {login[:64]!r}: {why}",
        hint="The database name is TARGET or TARGET/DATABASE, the user name is the login. "
        "Ask the owners of the gateway's policy for access.",
    )


def limits_until_expiry(request: Request, gateway: Gateway) -> SessionLimits:
    """The limits of the admission, cut to the life of the certificate or token."""
    limits = request.limits
    expires_at = request.subject.expires_at
    if expires_at is None:
        return limits
    left_s = max(0.0, expires_at - gateway.clock())
    max_age_s = left_s if limits.max_age_s is None else min(limits.max_age_s, left_s)
    return SessionLimits(max_age_s, limits.idle_s, limits.statements, limits.rows)


def end_of_age(request: Request, limits: SessionLimits) -> SessionEnd | None:
    """What ends the session when it has reached the age in `limits`, if that is its subject's end; else None."""
    if limits.max_age_s is None or limits.max_age_s == request.limits.max_age_s:
        return None
    proof = proof_of(request.subject)
    farewell = error_response("FATAL", "57P05", f"proxyd: the {proof} has expired", hint=_NEW_PROOF)
    return SessionEnd(SessionOutcome.MAX_AGE, f"{proof} expired", farewell)
