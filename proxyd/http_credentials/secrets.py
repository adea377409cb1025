"""Secrets of logins at HTTP targets, and the fault of one that is no good.

Used by the injectors of this package.
"""

from __future__ import annotations

from proxyd.config import SecretSource
from proxyd.credentials import CredentialError, read_secret
from proxyd.settings_files import SettingsError


class TargetCredentialError(SettingsError):
    """A secret cannot be had or used. Never holds its value."""

    def __init__(self, source: SecretSource, message: str, remedy: str) -> None:
        if source.file is not None:
            super().__init__(source.file, message, remedy)
        else:
            super().__init__("", f"{_name_of(source)} {message}", remedy)


def read_target_secret(source: SecretSource) -> str:
    """The value as it is now. Raises TargetCredentialError. Blocks on the disk."""
    try:
        return read_secret(source).reveal()
    except CredentialError as error:
        raise TargetCredentialError(source, error.why, error.remedy) from None


def _name_of(source: SecretSource) -> str:
    if source.environment is not None:
        return f"environment variable {source.environment}"
    return f"systemd credential {source.credential}"
