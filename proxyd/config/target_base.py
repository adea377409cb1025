"""What targets of every protocol have: a name, labels, accounts; and the TLS towards those that use it.

Used by the modules of this package that describe one protocol's targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self, TypeVar

from pydantic import Field, model_validator

from policy.located_yaml import Duration, Name, Section, refusal
from policy.located_yaml import Path as DocumentPath
from proxyd.config.fields import FilePath, SecretSource, SocketAddress


class LoginBase(Section):
    """An account that the gateway has on the target."""

    name: Name


class Login(LoginBase):
    """An account on the target. `user` is the target's own name for it (by default the same)."""

    user: str | None = Field(default=None, min_length=1)
    password: SecretSource | None = None

    @property
    def account(self) -> str:
        return self.user or self.name


LoginT = TypeVar("LoginT", bound=LoginBase)


def login_named(logins: Sequence[LoginT], name: str) -> LoginT | None:
    return next((login for login in logins if login.name == name), None)


def refuse_dots(name: str, place: DocumentPath) -> None:
    """`LOGIN+TARGET` comes from strangers, and two dots in it are refused wherever they stand."""
    if ".." in name:
        raise refusal("`..` in a name that clients give", "write one dot, or none", at=place)


class TargetBase(Section):
    """A system behind the gateway, whatever it speaks."""

    name: Name
    labels: dict[str, str] = Field(default={})
    connect_timeout: Duration = 5.0


class AddressedTarget(TargetBase):
    address: SocketAddress = Field(examples=["db.example:5432"])


class TargetTls(Section):
    """In libpq's words. `ca`: a file, or `system` for the machine's own authorities."""

    mode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "verify-full"
    ca: Literal["system"] | FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise refusal("half of a client certificate", "give both `certificate` and `key`, or neither")
        if self.mode in {"verify-ca", "verify-full"} and self.ca is None:
            raise refusal(
                f"mode {self.mode} without an authority to verify with",
                "add `ca`, the file of the authority that issued the target's certificate, or `ca: system`",
            )
        return self
