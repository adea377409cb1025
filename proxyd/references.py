"""What the configuration refers to (certificates, keys, secrets, policy, directories): reads and checks it.

Owns turning every fault of those into a fault of the configuration file, at the line that names the thing, so
that one list tells an operator everything. Changes nothing on disk. Called at the start and at each reload by
the daemon, and by `proxyd check`. Blocks on the disk: in the daemon it runs in a worker thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from pydantic import BaseModel

from policy.document import PolicyDocument, load_document
from policy.facts import Target as TargetFacts
from policy.located_yaml import DocumentError, Fault, Located, parse
from policy.located_yaml import Path as DocumentPath
from policy.masking import MaskingKeyMissing
from policy.rules import Selector
from proxyd.config import (
    Config,
    Listener,
    LoadedConfig,
    PostgresListener,
    PostgresTarget,
    SecretSource,
    read_text,
)
from proxyd.credentials import CredentialError, read_secret
from proxyd.postgres_listener import certificate_rules, server_tls_settings
from proxyd.tls_contexts import Expiry, ServerTls
from proxyd.tls_files import TlsSettingsError
from proxyd.upstream import UpstreamTarget

SHORTEST_MASK_KEY_BYTES = 16
EXPIRY_WARNING_S = 14 * 86400.0


@dataclass(slots=True)
class Findings:
    """`faults` keep the daemon from starting or reloading; `warnings` are worth a look."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that is read from disk at a start or a reload. `keys` are the masks' keys by name."""

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
        inspection = _Inspection(loaded.config, loaded.located)
        inspection.documents()
        inspection.files(now)
        keys = inspection.keys()
        policy = inspection.policy(policy_path or loaded.config.policy, keys)
        if inspection.found.faults or policy is None:
            raise DocumentError(inspection.found.faults)
        return cls(loaded, policy, keys, tuple(sorted(inspection.found.warnings)))


def read_documents(path: Path, policy_path: Path | None = None) -> tuple[PolicyDocument, tuple[Fault, ...]]:
    """The policy, without its keys, and warnings: from the two documents alone, whatever they refer to.

    For places that have neither secrets nor certificates. Raises DocumentError.
    """
    loaded = LoadedConfig.read(path)
    inspection = _Inspection(loaded.config, loaded.located)
    inspection.documents()
    policy = inspection.policy(policy_path or loaded.config.policy, {})
    if inspection.found.faults or policy is None:
        raise DocumentError(inspection.found.faults)
    return policy, tuple(sorted(inspection.found.warnings))


class _Inspection:
    """One pass over a configuration. Each method looks at one part and adds to `found`."""

    def __init__(self, config: Config, located: Located) -> None:
        self.found = Findings()
        self._config = config
        self._located = located
        self._now = 0.0

    def documents(self) -> None:
        """What can be said without opening any other file."""
        self._addresses()
        self._clear_targets()
        self._identity()
        self._metrics()

    def files(self, now: float) -> None:
        """TLS files, passwords and directories."""
        self._now = now
        for index, listener in enumerate(self._config.listeners):
            if isinstance(listener, PostgresListener):
                self._tls(("listeners", index, "tls"), listener.tls, partial(_listener_expiries, listener))
        for index, target in enumerate(self._config.targets):
            if isinstance(target, PostgresTarget):
                self._tls(("targets", index, "tls"), target.tls, partial(_upstream_expiries, target))
            for number, login in enumerate(target.logins):
                if login.password is not None:
                    self._secret(("targets", index, "logins", number, "password"), login.password)
        self._directories()

    def _addresses(self) -> None:
        taken: dict[str, str] = {}
        for index, listener in enumerate(self._config.listeners):
            path: DocumentPath = ("listeners", index)
            key, where = _socket_of(listener)
            if where in taken:
                self._fault((*path, key), f"taken by the listener `{taken[where]}`", "give each its own")
            elif not where.endswith(":0"):
                taken[where] = listener.name
            if isinstance(listener, PostgresListener) and listener.tls.client_certificates != "required":
                self._warn(
                    (*path, "tls", "client_certificates"),
                    "clients without a certificate have no name and are refused after the handshake",
                    "write `required`",
                )

    def _clear_targets(self) -> None:
        for index, target in enumerate(self._config.targets):
            if not isinstance(target, PostgresTarget):
                continue
            path: DocumentPath = ("targets", index)
            if target.tls.mode in {"disable", "allow", "prefer"} and not target.address.is_loopback:
                self._warn(
                    (*path, "tls", "mode"),
                    f"`{target.tls.mode}` sends statements, rows and perhaps the password in clear",
                    "use `verify-full` and `ca`",
                )
            for number, login in enumerate(target.logins):
                has_means = login.password is not None or target.tls.certificate is not None
                if not has_means and not target.address.is_unix:
                    self._warn(
                        (*path, "logins", number),
                        "no password and no client certificate",
                        "works only where the target trusts this machine: add `password`",
                    )

    def _identity(self) -> None:
        try:
            certificate_rules(self._config.identity)
        except ValueError as error:
            self._fault(("identity", "certificates"), str(error), "correct the rules")

    def _directories(self) -> None:
        directory = self._config.tapes.directory
        existing = next(path for path in (directory, *directory.parents) if path.exists())
        if not existing.is_dir():
            self._fault(("tapes", "directory"), f"{existing} is not a directory", "name a directory")
        elif not os.access(existing, os.W_OK | os.X_OK):
            self._fault(
                ("tapes", "directory"),
                f"{existing} is not writable by this account",
                "give it to the account that runs proxyd: without tapes no session opens",
            )
        elif existing == directory and stat.S_IMODE(directory.stat().st_mode) & 0o022:
            self._warn(
                ("tapes", "directory"),
                f"{directory} can be changed by other accounts, which could take tapes away",
                f"run: chmod go-w {directory}",
            )

    def _metrics(self) -> None:
        endpoint = self._config.metrics
        if endpoint is not None and not endpoint.address.is_loopback:
            self._warn(
                ("metrics", "address"),
                "reachable from other machines, and asks nobody who they are",
                "use 127.0.0.1, or keep strangers out with a firewall",
            )

    def keys(self) -> dict[str, bytes]:
        keys: dict[str, bytes] = {}
        for name, source in self._config.masking.keys.items():
            path: DocumentPath = ("masking", "keys", name)
            value = self._secret(path, source)
            if value is None:
                continue
            keys[name] = value.encode()
            if len(keys[name]) < SHORTEST_MASK_KEY_BYTES:
                self._fault(
                    path,
                    f"shorter than {SHORTEST_MASK_KEY_BYTES} bytes: pseudonyms could be guessed back",
                    "make a new one with: openssl rand -base64 32",
                )
        return keys

    def policy(self, path: Path, keys: Mapping[str, bytes]) -> PolicyDocument | None:
        try:
            text = read_text(path)
            document = load_document(text, str(path))
        except DocumentError as error:
            self.found.faults.extend(error.faults)
            return None
        self.found.warnings.extend(document.warnings)
        self._policy_targets(document, parse(text, str(path)))
        # A key that is configured but could not be read is a fault already; here it is not missing.
        unread = dict.fromkeys(self._config.masking.keys, b"\0" * SHORTEST_MASK_KEY_BYTES)
        try:
            return document.with_keys({**unread, **keys})
        except MaskingKeyMissing as error:
            self._fault(("masking", "keys"), f"the policy {path} needs a key: {error}", "add it here")
            return None

    def _policy_targets(self, document: PolicyDocument, located: Located) -> None:
        """Targets and logins that nobody has are a slip of the pen more often than a plan."""
        targets = [
            (target, TargetFacts(target.name, target.protocol, dict(target.labels)))
            for target in self._config.targets
        ]
        nowhere = "none of the configured targets is meant"
        remedy = "correct it here, or add it to the targets of the configuration"
        places = {mask["name"]: index for index, mask in enumerate(located.data.get("masks") or ())}
        selectors: list[tuple[DocumentPath, Selector | None]] = [
            *((("access", index), entry.targets) for index, entry in enumerate(document.access)),
            *((("rules", rule.order), rule.targets) for rule in document.rules),
            *((("masks", places[entry.mask.name]), entry.targets) for entry in document.masks),
        ]
        for path, selector in selectors:
            if selector is not None and not any(selector.matches(known) for _, known in targets):
                self.found.warnings.append(located.fault((*path, "targets"), nowhere, remedy))
        for index, entry in enumerate(document.access):
            chosen = [target for target, known in targets if entry.targets.matches(known)]
            for login in sorted(entry.logins or ()) if chosen else ():
                if all(target.login(login) is None for target in chosen):
                    message = f"none of its targets has the login `{login}`"
                    self.found.warnings.append(located.fault(("access", index, "logins"), message, remedy))

    def _secret(self, path: DocumentPath, source: SecretSource) -> str | None:
        try:
            return read_secret(source).reveal()
        except CredentialError as error:
            self._fault(path, f"{error.what} {error.why}", error.remedy)
            return None

    def _tls(self, path: DocumentPath, section: BaseModel, load: Callable[[], tuple[Expiry, ...]]) -> None:
        try:
            expiries = load()
        except TlsSettingsError as error:
            where = (*path, *_key_naming(section, error.path))
            self._fault(
                where, f"{error.path}: {error.message}" if error.path else error.message, error.remedy
            )
            return
        for expiry in expiries:
            self._expiry((*path, *_key_naming(section, expiry.path)), expiry)

    def _expiry(self, path: DocumentPath, expiry: Expiry) -> None:
        left_s = expiry.at_s - self._now
        if left_s <= 0:
            self._warn(path, f"{expiry.what} has expired", "replace it: connections that need it fail")
        elif left_s < EXPIRY_WARNING_S:
            self._warn(path, f"{expiry.what} expires in {left_s / 86400:.1f} days", "replace it before")

    def _fault(self, path: DocumentPath, message: str, remedy: str) -> None:
        self.found.faults.append(self._located.fault(path, message, remedy))

    def _warn(self, path: DocumentPath, message: str, remedy: str) -> None:
        self.found.warnings.append(self._located.fault(path, message, remedy))


def _socket_of(listener: Listener) -> tuple[str, str]:
    if listener.socket is not None:
        return "socket", listener.socket
    return "address", str(listener.address)


def _listener_expiries(listener: PostgresListener) -> tuple[Expiry, ...]:
    return ServerTls(server_tls_settings(listener)).expiries


def _upstream_expiries(target: PostgresTarget) -> tuple[Expiry, ...]:
    tls = UpstreamTarget.from_config(target).tls
    return () if tls is None else tls.expiries


def _key_naming(section: BaseModel, file: str) -> Iterator[str]:
    """The key of `section` whose value is `file`, if one is."""
    for key, value in section:
        if file and str(value) == file:
            yield key
            return
