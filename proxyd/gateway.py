"""What a running gateway knows: configuration, policy in force, targets, live sessions, tapes, log, numbers.

Owns the one mutable thing among them, which policy (with its masking keys) is in force: it is swapped in one
step, and sessions read `gateway.policy` anew at each judgement. Must never do protocol work. Built once by
`proxyd.daemon`, handed to every door.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Self

import trio

from policy import facts
from proxyd import config as configuration
from proxyd.config import Config
from proxyd.metrics import Metrics
from proxyd.sessions import Sessions
from proxyd.telemetry import Log, Telemetry
from proxyd.upstream import UpstreamTarget

if TYPE_CHECKING:
    from policy.document import PolicyDocument
    from proxyd.catalog import CatalogSource


@dataclass(frozen=True, slots=True)
class TargetRuntime:
    """One target. `facts` is what the policy sees of it, `upstream` how it is reached."""

    config: configuration.Target
    facts: facts.Target
    upstream: UpstreamTarget

    @classmethod
    def from_config(cls, target: configuration.Target) -> Self:
        """Raises TlsSettingsError. Reads the TLS files."""
        known = facts.Target(target.name, target.protocol, dict(target.labels))
        return cls(target, known, UpstreamTarget.from_config(target))


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """The document and the keys of its masks. `serial` grows with each swap, also when only a key changed."""

    document: PolicyDocument
    mask_keys: Mapping[str, bytes] = field(repr=False)
    serial: int = 1


class Gateway:
    """The runtime of one daemon. Everything but the policy in force stays as it is until the daemon ends."""

    def __init__(
        self,
        config: Config,
        policy: PolicyDocument,
        *,
        mask_keys: Mapping[str, bytes],
        targets: Mapping[str, TargetRuntime],
        telemetry: Telemetry,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.targets = targets
        self.telemetry = telemetry
        self.metrics = metrics
        self.clock = clock
        self.sessions = Sessions()
        self.drain = trio.Event()
        self.version = version("proxyd")
        self._in_force = PolicyInForce(policy, mask_keys)
        self._catalogs: dict[tuple[str, str], CatalogSource] = {}
        metrics.set_rules(rule.name for rule in policy.rules)

    @classmethod
    def from_config(
        cls,
        config: Config,
        policy: PolicyDocument,
        mask_keys: Mapping[str, bytes],
        *,
        telemetry: Telemetry | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Reads the targets' TLS files. Raises TlsSettingsError."""
        return cls(
            config,
            policy,
            mask_keys=mask_keys,
            targets={target.name: TargetRuntime.from_config(target) for target in config.targets},
            telemetry=telemetry or Telemetry(config.log.level),
            metrics=metrics or Metrics(version("proxyd")),
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
    def mask_keys(self) -> Mapping[str, bytes]:
        return self._in_force.mask_keys

    @property
    def policy_serial(self) -> int:
        """Another number once policy or masking keys have changed: caches of decisions are keyed by it."""
        return self._in_force.serial

    @property
    def in_force(self) -> PolicyInForce:
        """Document, keys and serial of one moment."""
        return self._in_force

    def swap_policy(self, policy: PolicyDocument, mask_keys: Mapping[str, bytes]) -> None:
        """From now on judge by these. One step: no session ever sees a document with the other's keys."""
        self._in_force = PolicyInForce(policy, mask_keys, self._in_force.serial + 1)
        self.metrics.set_rules(rule.name for rule in policy.rules)

    def target(self, name: str) -> TargetRuntime | None:
        return self.targets.get(name)
