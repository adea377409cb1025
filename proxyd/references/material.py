"""Everything that is read from disk at a start or a reload, read and checked as one.

Called at the start and at each reload by the daemon, and by `proxyd check` and `proxyd explain`. Blocks on the disk: in
the daemon it runs in a worker thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from policy.document import PolicyDocument
from policy.located_yaml import DocumentError, Fault
from proxyd.config import Config, LoadedConfig
from proxyd.references import http, issuers, models, postgres, ssh, surroundings
from proxyd.references.findings import Findings
from proxyd.references.policy import read_keys, read_policy


@dataclass(frozen=True, slots=True)
class Material:
    """Configuration and policy, both sound. `keys` are the masks' keys by name."""

    loaded: LoadedConfig
    policy: PolicyDocument
    keys: Mapping[str, bytes] = field(repr=False)
    warnings: tuple[Fault, ...] = ()

    @property
    def config(self) -> Config:
        return self.loaded.config

    @classmethod
    def read(cls, path: Path, now: float, policy_path: Path | None = None) -> Self:
        """Raises DocumentError with every fault of the configuration, the policy and what they refer to.

        `now` in Unix seconds, for certificates that end. `policy_path` replaces the policy that the
        configuration names.
        """
        loaded = LoadedConfig.read(path)
        found = _documents(loaded)
        surroundings.check_places(found)
        postgres.check_files(found, now)
        ssh.check_files(found, now)
        http.check_files(found, now)
        issuers.check_files(found)
        models.check_store(found)
        keys = read_keys(found)
        policy = _policy(found, policy_path, keys)
        return cls(loaded, policy, keys, tuple(sorted(found.warnings)))


def read_documents(path: Path, policy_path: Path | None = None) -> tuple[PolicyDocument, tuple[Fault, ...]]:
    """The policy, without its keys, and warnings: from the two documents alone, whatever they refer to.

    For places that have neither secrets nor certificates. Raises DocumentError.
    """
    found = _documents(LoadedConfig.read(path))
    policy = _policy(found, policy_path, {})
    return policy, tuple(sorted(found.warnings))


def _documents(loaded: LoadedConfig) -> Findings:
    found = Findings(loaded.config, loaded.located)
    surroundings.check_names(found)
    postgres.check_documents(found)
    ssh.check_documents(found)
    http.check_documents(found)
    issuers.check_documents(found)
    return found


def _policy(found: Findings, path: Path | None, keys: Mapping[str, bytes]) -> PolicyDocument:
    """Raises DocumentError with all that was found before, too."""
    policy = read_policy(found, path or found.config.policy, keys)
    if found.faults or policy is None:
        raise DocumentError(found.faults)
    return policy
