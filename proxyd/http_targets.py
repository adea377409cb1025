"""The HTTP targets while the daemon runs: what the policy sees of each, and how each of its logins gets there.

Made by `proxyd.gateway` when the daemon starts; what is behind an account is read anew at each reload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from policy import facts
from proxyd.config import HttpTarget, HttpTargetLogin
from proxyd.http_credentials import Injector, injector_for
from proxyd.http_upstream_target import HttpUpstreamTarget
from proxyd.telemetry import Log

AFTER_CRASH_S: Final = 5.0


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

    @property
    def origins(self) -> frozenset[tuple[str, str, int]]:
        """Of other sites, whose pages may ask: scheme, host and port."""
        return frozenset((url.scheme, url.host, url.port) for url in self.config.origins)


class HttpTargetIndex:
    """Targets by the names that clients ask for. What a name means does not depend on how many targets there are."""

    def __init__(self, targets: Iterable[HttpTargetRuntime]) -> None:
        self._labels: dict[str, HttpTargetRuntime] = {}
        self._listed: dict[tuple[str, int | None], HttpTargetRuntime] = {}
        there: dict[tuple[str, int | None], list[HttpTargetRuntime]] = {}
        for target in targets:
            self._labels.setdefault(target.facts.name.lower(), target)
            self._listed.update(dict.fromkeys(target.config.names(), target))
            there.setdefault((target.config.url.host, target.config.url.port), []).append(target)
        # An address that several share means none of them, unless one lists it.
        alone = {address: targets[0] for address, targets in there.items() if len(targets) == 1}
        self._by_address = {**alone, **self._listed}

    def named(self, host_label: str) -> HttpTargetRuntime | None:
        """By its name as a label of a host name, which knows no case."""
        return self._labels.get(host_label)

    def at(self, host: str, port: int | None) -> HttpTargetRuntime | None:
        """See `Gateway.http_target_of`."""
        return (self._listed if port is None else self._by_address).get((host, port))


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


async def keep_credentials(targets: Iterable[HttpTargetRuntime], log: Log) -> None:
    """In the background, for as long as the daemon runs: see `Injector.keep_fresh`."""
    async with trio.open_nursery() as nursery:
        for target in targets:
            for login, account in target.accounts.items():
                bound = log.bind(target=target.facts.name, login=login)
                nursery.start_soon(_keep_fresh, account.injector, bound)


async def _keep_fresh(injector: Injector, log: Log) -> None:
    """A fault of ours in one credential is no other's."""
    while True:
        try:
            await injector.keep_fresh(log)
            return
        except Exception:
            log.exception("keeping a target's credential fresh crashed")
            await trio.sleep(AFTER_CRASH_S)
