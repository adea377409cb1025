"""What a running gateway knows: configuration, policy in force, targets, live sessions, tapes, log, numbers.

Owns what of it a reload swaps, each in one step: which policy (with its masking keys) is in force, read anew at each
judgement, and which targets there are, read when a session begins. Must never do protocol work. Built once by
`proxyd.daemon`, handed to every door.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Self, assert_never

import trio

from policy import facts
from policy.document import PolicyDocument
from proxyd.catalog import CatalogSource
from proxyd.catalogs import Catalogs
from proxyd.config import Config, HttpTarget, PostgresTarget, SshTarget, Target
from proxyd.gates.postgres.judge import VerdictCache
from proxyd.http_credentials.oauth2 import OAuth2Injector
from proxyd.http_held_bodies import HeldBodies
from proxyd.http_pool import HttpPools
from proxyd.http_targets import HttpTargetIndex, HttpTargetRuntime, http_target_runtime, keep_credentials
from proxyd.identity.oidc import Tokens
from proxyd.identity.totp import TotpGuard
from proxyd.metrics import Metrics
from proxyd.sessions import Sessions
from proxyd.store.budgets import BudgetStore
from proxyd.telemetry import Log, Telemetry
from proxyd.upstream import UpstreamTarget


@dataclass(frozen=True, slots=True)
class PostgresTargetRuntime:
    """One PostgreSQL target. `facts` is what the policy sees of it, `upstream` how it is reached."""

    config: PostgresTarget
    facts: facts.Target
    upstream: UpstreamTarget


@dataclass(frozen=True, slots=True)
class SshTargetRuntime:
    """One SSH target. `facts` is what the policy sees of it. How it is reached is read at each connection."""

    config: SshTarget
    facts: facts.Target


TargetRuntime = PostgresTargetRuntime | SshTargetRuntime | HttpTargetRuntime


def target_runtime(target: Target, clock: Callable[[], float] = time.time) -> TargetRuntime:
    """Raises SettingsError. Reads the TLS files of the target, where it has any, and of HTTP the secrets."""
    known = facts.Target(target.name, target.protocol, dict(target.labels))
    match target:
        case PostgresTarget():
            return PostgresTargetRuntime(target, known, UpstreamTarget.from_config(target))
        case SshTarget():
            return SshTargetRuntime(target, known)
        case HttpTarget():
            return http_target_runtime(target, known, clock)
        case _:
            assert_never(target)


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """The document, with the keys of its masks. `serial` grows with each swap, also of a key alone."""

    document: PolicyDocument
    serial: int = 1


class Gateway:
    """The runtime of one daemon. What a reload changes is swapped in single steps: nobody sees half of it."""

    def __init__(
        self,
        config: Config,
        policy: PolicyDocument,
        *,
        targets: Mapping[str, TargetRuntime],
        telemetry: Telemetry,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.targets = targets
        self._http_targets = _http_index(targets)
        self.telemetry = telemetry
        self.metrics = metrics
        self.clock = clock
        self.sessions = Sessions()
        self.drain = trio.Event()
        self.version = version("proxyd")
        self.verdicts = VerdictCache()
        self.totp = TotpGuard()
        self.tokens = Tokens(config.identity.issuers, log=telemetry.log, metrics=metrics, clock=clock)
        # The loop of the SSH doors' library. Set by their background service for as long as it runs.
        self.ssh_loop: asyncio.AbstractEventLoop | None = None
        self.http_pools = HttpPools(telemetry.log, self.metrics)
        self.held_bodies = HeldBodies()
        self.model_prices = config.models.table()
        # What has been spent of budgets: opened by the daemon, for it is a file that it alone writes.
        self.budgets: BudgetStore | None = None
        self._in_force = PolicyInForce(policy)
        self.catalogs = Catalogs(telemetry.log, metrics)
        self._has_other_targets = trio.Event()
        metrics.set_rules(_rule_names(policy))

    @classmethod
    def from_config(
        cls,
        config: Config,
        policy: PolicyDocument,
        *,
        telemetry: Telemetry | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """`policy` comes with its keys. Reads the TLS files of targets and issuers. Raises SettingsError."""
        telemetry = telemetry or Telemetry(config.log.level)
        lost = partial(getattr, telemetry, "lost_lines")
        return cls(
            config,
            policy,
            targets={target.name: target_runtime(target, clock) for target in config.targets},
            telemetry=telemetry,
            metrics=metrics or Metrics(version("proxyd"), lost),
            clock=clock,
        )

    @property
    def log(self) -> Log:
        return self.telemetry.log

    @property
    def tape_directory(self) -> Path:
        return self.config.tapes.directory

    @property
    def policy(self) -> PolicyDocument:
        """The document in force now. Read it at each judgement, do not keep it."""
        return self._in_force.document

    @property
    def in_force(self) -> PolicyInForce:
        """Document and serial of one moment. Another object once policy or masking keys have changed."""
        return self._in_force

    def swap_policy(self, policy: PolicyDocument) -> None:
        """From now on judge by this. One step: no session ever sees a document with another's keys."""
        self._in_force = PolicyInForce(policy, self._in_force.serial + 1)
        self.metrics.set_rules(_rule_names(policy))

    def target(self, name: str) -> TargetRuntime | None:
        return self.targets.get(name)

    def postgres_target(self, name: str) -> PostgresTargetRuntime | None:
        """None also for a target that speaks something else."""
        target = self.targets.get(name)
        return target if isinstance(target, PostgresTargetRuntime) else None

    def ssh_target(self, name: str) -> SshTargetRuntime | None:
        """None also for a target that speaks something else."""
        target = self.targets.get(name)
        return target if isinstance(target, SshTargetRuntime) else None

    def http_target(self, name: str) -> HttpTargetRuntime | None:
        """None also for a target that speaks something else."""
        target = self.targets.get(name)
        return target if isinstance(target, HttpTargetRuntime) else None

    def prepare_targets(self, wanted: Iterable[Target]) -> dict[str, TargetRuntime]:
        """What `take_targets` needs: those that stay as they are, and new ones of the others.

        Blocks on the disk, so call it from a worker thread. Raises SettingsError.
        """
        prepared = {}
        for target in wanted:
            known = self.targets.get(target.name)
            is_same = known is not None and known.config == target
            prepared[target.name] = (
                known if known is not None and is_same else target_runtime(target, self.clock)
            )
        return prepared

    def take_targets(self, targets: Mapping[str, TargetRuntime]) -> tuple[str, ...]:
        """From now on these are the targets; the names of those that are new, others than before, or gone.

        Sessions that are open go on with what they began with.
        """
        before, self.targets = self.targets, targets
        changed = [name for name in {**before, **targets} if before.get(name) is not targets.get(name)]
        if changed:
            self._http_targets = _http_index(targets)
            self.catalogs.retire(frozenset(changed), tuple(self.sessions))
            self._has_other_targets.set()
        return tuple(changed)

    async def keep_credentials(self) -> None:
        """Runs in the background: what the gateway shows to HTTP targets is renewed before it ends."""
        while True:
            self._has_other_targets = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_credentials)
                await self._has_other_targets.wait()
                nursery.cancel_scope.cancel()

    async def _keep_credentials(self) -> None:
        self.metrics.forget_tokens()
        targets = [target for target in self.targets.values() if isinstance(target, HttpTargetRuntime)]
        for target in targets:
            for login, account in target.accounts.items():
                if isinstance(account.injector, OAuth2Injector):
                    self.metrics.watch_tokens(target.facts.name, login, account.injector.numbers)
        await keep_credentials(targets, self.log)

    def http_target_named(self, host_label: str) -> HttpTargetRuntime | None:
        """By its name as a label of a host name, which knows no case."""
        return self._http_targets.named(host_label)

    def http_target_of(self, host: str, port: int | None = None) -> HttpTargetRuntime | None:
        """Whom a client means that asks for `host` (as `config.normal_host` gives it).

        Without `port` as a virtual host, which has to be listed in `hosts`. With one as through a forward proxy: then
        a target's own address counts too, unless several share it.
        """
        return self._http_targets.at(host, port)

    def catalog(self, target: PostgresTargetRuntime, database: str) -> CatalogSource:
        """See `Catalogs.get`."""
        return self.catalogs.get(target.config, target.upstream, database)


def _http_index(targets: Mapping[str, TargetRuntime]) -> HttpTargetIndex:
    return HttpTargetIndex(target for target in targets.values() if isinstance(target, HttpTargetRuntime))


def _rule_names(policy: PolicyDocument) -> set[str]:
    """Whatever may stand as the rule of a reason: rules, access entries, masks and budgets."""
    return {
        *(rule.name for rule in policy.rules),
        *(rule.name for rule in policy.ssh_rules),
        *(rule.name for rule in policy.http_rules),
        *(entry.name for entry in policy.access),
        *(entry.mask.name for entry in policy.masks),
        *(entry.mask.name for entry in policy.json_masks),
        *(budget.name for budget in policy.budgets),
    }
