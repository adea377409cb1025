"""Whether an SSH client that has said who it is may go where it wants, and where else it may go.

Decides only, from identity, configuration and the policy in force: nothing here waits or sends. Called by
`ssh_session`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from policy.decision import Effect, SessionLimits
from policy.evaluate import admit
from policy.facts import Target
from policy.patterns import Glob
from policy.ssh.evaluate import may_reach
from proxyd.config import SshTargetLogin
from proxyd.gates.ssh.actions import Choice
from proxyd.gates.ssh.judge import Permits, SshJudge
from proxyd.gateway import Gateway, SshTargetRuntime
from proxyd.identity.ssh_identity import SshIdentity

SSH_PORT = 22
Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who goes where, as what."""

    identity: SshIdentity
    target: SshTargetRuntime
    login: SshTargetLogin
    limits: SessionLimits

    @property
    def environment(self) -> tuple[Glob, ...]:
        return tuple(Glob(name) for name in self.target.config.environment)


class NotAdmitted(Exception):
    """`text` is for the client: the same whatever was wrong. `reason` is for the log."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(reason)
        self.text = text
        self.reason = reason


def admit_client(gateway: Gateway, identity: SshIdentity, target_name: str, login_name: str) -> Admitted:
    """Raises NotAdmitted."""
    if gateway.drain.is_set():
        raise NotAdmitted("proxyd: the gateway is shutting down. Try again in a moment.", "draining")
    subject = identity.subject
    target = gateway.ssh_target(target_name)
    login = target.config.login(login_name) if target is not None else None
    if target is None or login is None:
        raise _refused(identity, target_name, login_name, "no such target or login")
    if identity.logins is not None and login_name not in identity.logins:
        raise _refused(identity, target_name, login_name, "the certificate does not name the login")
    admission = admit(gateway.policy, subject, target.facts, login_name, gateway.clock())
    if admission.effect is not Effect.ALLOW:
        reasons = "; ".join(reason.message for reason in admission.reasons)
        raise _refused(identity, target_name, login_name, reasons)
    return Admitted(identity, target, login, _until_expiry(gateway, identity, admission.limits))


def _refused(identity: SshIdentity, target: str, login: str, why: str) -> NotAdmitted:
    """One text for every reason, so that strangers cannot learn which targets and logins there are."""
    return NotAdmitted(
        f'proxyd: "{identity.subject.name}" has no access to "{target}" as "{login}". '
        "The user name is LOGIN+TARGET. Ask the owners of the gateway's policy for access.",
        f"not admitted to {target!r} as {login!r}: {why}",
    )


def _until_expiry(gateway: Gateway, identity: SshIdentity, limits: SessionLimits) -> SessionLimits:
    """The limits of the admission, cut to the life of the certificate."""
    expires_at = identity.subject.expires_at
    if expires_at is None:
        return limits
    left_s = max(0.0, expires_at - gateway.clock())
    max_age_s = left_s if limits.max_age_s is None else min(limits.max_age_s, left_s)
    return SessionLimits(max_age_s, limits.idle_s, limits.statements, limits.rows)


def new_judge(
    gateway: Gateway,
    identity: SshIdentity,
    target: Target,
    login: str,
    limits: SessionLimits,
    known_as: Sequence[tuple[str, int]] = (),
) -> SshJudge:
    permits = Permits(
        identity.may_use_pty,
        identity.may_forward,
        identity.may_use_agent,
        identity.may_use_x11,
        identity.forced_command,
    )
    metrics = gateway.metrics
    return SshJudge(
        identity.subject,
        target,
        login,
        lambda: gateway.policy,
        permits,
        limits,
        metrics.denied_by,
        metrics.operations("ssh"),
        known_as,
    )


def places(gateway: Gateway, identity: SshIdentity) -> list[Choice]:
    """What the subject may choose from the menu."""
    known = [
        (target.facts, tuple(login.name for login in target.config.logins))
        for target in gateway.targets.values()
        if isinstance(target, SshTargetRuntime)
    ]
    return [
        Choice(target.name, login)
        for target, logins in may_reach(gateway.policy, identity.subject, known)
        for login in logins
        if identity.logins is None or login in identity.logins
    ]


def jump_target(
    gateway: Gateway, identity: SshIdentity, login: str, host: str, port: int
) -> tuple[SshTargetRuntime, SessionLimits] | None:
    """The target whose name or address is the destination of a jump, and the limits there; None: there is none.

    Only targets can be reached so: the gateway is no way into its network.
    """
    if identity.logins is not None and login not in identity.logins:
        return None
    for target in gateway.targets.values():
        if isinstance(target, SshTargetRuntime) and (host, port) in jump_addresses(target):
            admission = admit(gateway.policy, identity.subject, target.facts, login, gateway.clock())
            if admission.effect is Effect.ALLOW:
                return target, _until_expiry(gateway, identity, admission.limits)
    return None


def jump_addresses(target: SshTargetRuntime) -> tuple[tuple[str, int], ...]:
    """By which hosts and ports a jump may name the target."""
    address, name = target.config.address, target.facts.name
    return () if address.is_unix else ((address.host, address.port), (name, address.port), (name, SSH_PORT))


def tighter(one: SessionLimits, other: SessionLimits) -> SessionLimits:
    """Each limit as the stricter of the two has it."""
    return SessionLimits(
        _least(one.max_age_s, other.max_age_s),
        _least(one.idle_s, other.idle_s),
        _least(one.statements, other.statements),
        _least(one.rows, other.rows),
    )


def _least(one: Number | None, other: Number | None) -> Number | None:
    return min((value for value in (one, other) if value is not None), default=None)
