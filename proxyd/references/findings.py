"""What is found wrong with a configuration and what it refers to, each at the line that names the thing.

Owns turning errors about files and secrets into faults of the configuration. Used by the other modules of this package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from policy.located_yaml import Fault, Located
from policy.located_yaml import Path as DocumentPath
from proxyd.config import Config, SecretSource
from proxyd.credentials import CredentialError, Secret, read_secret
from proxyd.settings_files import SettingsError
from proxyd.tls_contexts import Expiry

EXPIRY_WARNING_S = 14 * 86400.0

ValueT = TypeVar("ValueT")


class Findings:
    """`faults` keep the daemon from starting or reloading; `warnings` are worth a look."""

    def __init__(self, config: Config, located: Located) -> None:
        self.config = config
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self._located = located

    def fault(self, path: DocumentPath, message: str, remedy: str) -> None:
        self.faults.append(self._located.fault(path, message, remedy))

    def warn(self, path: DocumentPath, message: str, remedy: str) -> None:
        self.warnings.append(self._located.fault(path, message, remedy))

    def secret(self, path: DocumentPath, source: SecretSource) -> Secret | None:
        """The secret named at `path`; None, and a fault, when it cannot be had."""
        try:
            return read_secret(source)
        except CredentialError as error:
            self.fault(path, f"{error.what} {error.why}", error.remedy)
            return None

    def load(self, path: DocumentPath, section: object, read: Callable[[], ValueT]) -> ValueT | None:
        """What `read` makes of `section`, which stands at `path`; None, and a fault, when a file is no good."""
        try:
            return read()
        except SettingsError as error:
            where = (*path, *(place_of(section, error.path) or ()))
            message = f"{error.path}: {error.message}" if error.path else error.message
            self.fault(where, message, error.remedy)
            return None

    def expiry(self, path: DocumentPath, section: object, expiry: Expiry, now: float) -> None:
        left_s = expiry.at_s - now
        where = (*path, *(place_of(section, expiry.path) or ()))
        if left_s <= 0:
            self.warn(where, f"{expiry.what} has expired", "replace it: connections that need it fail")
        elif left_s < EXPIRY_WARNING_S:
            self.warn(where, f"{expiry.what} expires in {left_s / 86400:.1f} days", "replace it before")


def place_of(value: object, file: str) -> DocumentPath | None:
    """Where inside `value` stands `file`, by keys and indexes; None when it does not."""
    if not file:
        return None
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            inner = place_of(getattr(value, name), file)
            if inner is not None:
                return (field.alias or name, *inner)
        return None
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            inner = place_of(item, file)
            if inner is not None:
                return (index, *inner)
        return None
    return () if str(value) == file else None
