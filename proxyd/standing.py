"""Whether a session that has begun would begin now: by who its subject is, and by the access that the policy gives.

Asked of every live session when a reload has changed what is believed or allowed, in the same words at every door. No
I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

from policy.decision import Effect
from policy.evaluate import admit
from policy.facts import Subject, Target
from proxyd.gateway import Gateway
from proxyd.identity.standing import Shown


def identity_problem(shown: Iterable[Shown]) -> str:
    """Why what was shown does not make its holder the subject any more; "" when it does."""
    return next((problem for one in shown if (problem := one.problem())), "")


def access_problem(gateway: Gateway, subject: Subject, target: Target, login: str) -> str:
    """Why no session to the target, as it was known to the session, would begin now; "" when one would."""
    now = gateway.targets.get(target.name)
    if now is None or all(each.name != login for each in now.config.logins):
        return f"{target.name} has no such login any more"
    if now.facts != target:
        return f"what the policy goes by of {target.name} has changed"
    admission = admit(gateway.policy, subject, target, login, gateway.clock())
    return "" if admission.effect is Effect.ALLOW else f"access to {target.name} has been taken away"
