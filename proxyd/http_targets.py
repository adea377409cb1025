"""The HTTP targets while the daemon runs: what the policy sees of each, and how each of its logins gets there.

Made by `proxyd.gateway` when the daemon starts; what is behind an account is read anew at each reload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from policy import facts
from proxyd.config import HttpTarget, HttpTargetLogin
from proxyd.http_credentials import Injector, injector_for
from proxyd.http_upstream_target import HttpUpstreamTarget


@dataclass(frozen=True, slots=True)
class HttpAccount:
    """One login of an HTTP target: the way there, and what a request carries. Both change at a reload."""

    login: HttpTargetLogin
    upstream: HttpUpstreamTarget
    injector: Injector


@dataclass(frozen=True, slots=True)
class HttpTargetRuntime:
    """One HTTP target. `facts` is what the policy sees of it, `accounts` how it is reached, by the names of logins."""

    config: HttpTarget
    facts: facts.Target
    accounts: Mapping[str, HttpAccount] = field(default_factory=dict)


def http_target_runtime(
    target: HttpTarget, known: facts.Target, clock: Callable[[], float]
) -> HttpTargetRuntime:
    """Raises SettingsError. Reads the TLS files of the target and the secrets of its logins."""
    accounts = {
        login.name: HttpAccount(
            login, HttpUpstreamTarget.from_config(target, login), injector_for(target, login, clock)
        )
        for login in target.logins
    }
    return HttpTargetRuntime(target, known, accounts)
