"""Secrets of the gateway's own: read from a file, an environment variable or a systemd credential, never from
a client.

Owns: where a secret may come from, how its file must be protected, and the type that carries it through the
process without ever showing it. Must never: cache (rotation is a file replaced, and works at the next use),
log, or put a value into an error. Called whenever a target asks for a password, and by masking for its keys.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, final

from proxyd.config import SecretSource

MAX_SECRET_BYTES = 64 * 1024
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"  # systemd.exec(5), LoadCredential=

_FOREIGN_ACCESS = stat.S_IRWXO | stat.S_IWGRP


class CredentialError(Exception):
    """A secret cannot be had. `what` names its source, `why` the fault, `remedy` what to do. Never holds the
    value.
    """

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what}: {why}; {remedy}")
        self.what = what
        self.why = why
        self.remedy = remedy


@final
class Secret:
    """A value that shows itself only to whoever calls `reveal`. It cannot be pickled, copied into a log or
    compared.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, specification: str) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not to be stored")


def read_secret(source: SecretSource, environment: Mapping[str, str] | None = None) -> Secret:
    """The secret that `source` names, as it is now. `environment`: by default the process's own.

    A file's text loses one newline at its end. Raises CredentialError.
    """
    variables = os.environ if environment is None else environment
    if source.file is not None:
        what = f"secret file {source.file}"
        return _checked(what, _read_file(what, source.file))
    if source.environment is not None:
        return _read_variable(source.environment, variables)
    if source.credential is not None:
        return _read_credential(source.credential, variables)
    raise CredentialError("secret", "no source is configured", "give one of file, environment or credential")


def _read_variable(name: str, variables: Mapping[str, str]) -> Secret:
    what = f"environment variable {name}"
    value = variables.get(name)
    if value is None:
        raise CredentialError(what, "is not set", "set it in the environment that starts proxyd")
    return _checked(what, value)


def _read_credential(name: str, variables: Mapping[str, str]) -> Secret:
    what = f"systemd credential {name}"
    directory = variables.get(CREDENTIALS_DIRECTORY)
    if not directory:
        raise CredentialError(
            what, f"{CREDENTIALS_DIRECTORY} is not set", f"add LoadCredential={name}:/PATH to the unit"
        )
    if "/" in name or name in {".", ".."}:
        raise CredentialError(what, "the name is a path", "give the name alone, as in LoadCredential=")
    return _checked(what, _read_file(what, Path(directory) / name))


def _read_file(what: str, path: Path) -> str:
    try:
        # O_NONBLOCK: opening a FIFO must fail the check below, not hang the daemon.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        why = f"cannot be opened ({error.strerror})"
        raise CredentialError(what, why, "check the path and that proxyd's account may read it") from None
    try:
        _refuse_exposed(what, path, os.fstat(descriptor))
        content = _read_all(descriptor)
    except OSError as error:
        raise CredentialError(what, f"cannot be read ({error.strerror})", "check the disk") from None
    finally:
        os.close(descriptor)
    if len(content) > MAX_SECRET_BYTES:
        raise CredentialError(what, f"is longer than {MAX_SECRET_BYTES} bytes", "name the file of one secret")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise CredentialError(what, "is not UTF-8 text", "write the secret as UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _read_all(descriptor: int) -> bytes:
    """The file's content, up to one byte more than is allowed."""
    content = b""
    while len(content) <= MAX_SECRET_BYTES:
        piece = os.read(descriptor, MAX_SECRET_BYTES + 1 - len(content))
        if not piece:
            break
        content += piece
    return content


def _refuse_exposed(what: str, path: Path, status: os.stat_result) -> None:
    """The owner and, for reading, the group are who an operator chose; everybody else is not."""
    if not stat.S_ISREG(status.st_mode):
        raise CredentialError(what, "is not a regular file", "name a file that holds the secret")
    if status.st_mode & _FOREIGN_ACCESS:
        mode = stat.S_IMODE(status.st_mode)
        raise CredentialError(what, f"is open to other accounts (mode {mode:04o})", f"run: chmod 600 {path}")
    if status.st_uid not in {0, os.geteuid()}:
        why = f"belongs to another account (uid {status.st_uid}), which may change it"
        raise CredentialError(what, why, f"run: chown root {path}, or give it to proxyd's account")


def _checked(what: str, value: str) -> Secret:
    if not value:
        raise CredentialError(what, "is empty", "write the secret into it")
    if "\0" in value:
        raise CredentialError(what, "holds a NUL byte", "write the secret as text")
    return Secret(value)
