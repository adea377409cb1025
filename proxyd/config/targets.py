"""`targets`: the systems behind the gateway, how they are reached and by which accounts.

One model a protocol, told apart by `protocol`; HTTP's is in `http_target`. Used by what connects to targets, and by
`proxyd.references`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from policy.located_yaml import Duration, Name, Section, closest, refusal
from proxyd.config.fields import FilePath, PublicKey, SecretSource, Some, refuse_twice
from proxyd.config.http_target import HttpTarget
from proxyd.config.target_base import AddressedTarget, Login, TargetTls, login_named, refuse_dots

ANY_DATABASE = "*"

MAX_POSTGRES_USER = 63  # NAMEDATALEN - 1
MAX_SSH_USER = 255


# --- PostgreSQL -------------------------------------------------------------------------------------------


class PostgresLogin(Login):
    user: str | None = Field(default=None, min_length=1, max_length=MAX_POSTGRES_USER)


class TargetCatalog(Section):
    """Which login reads the target's catalog, and how often it asks whether that has changed (seconds)."""

    login: Name
    poll: Duration = 1.0


class PostgresTarget(AddressedTarget):
    """`databases`: those that may be named (`*`: any), by default `database`."""

    protocol: Literal["postgres"] = Field(examples=["postgres"])
    database: str = Field(min_length=1, max_length=63)
    databases: tuple[str, ...] = ()
    tls: TargetTls = Field(examples=["{mode: verify-full, ca: target-ca.crt}"])
    logins: Some[PostgresLogin] = Field(examples=["[{name: readonly, password: {file: secrets/readonly}}]"])
    catalog: TargetCatalog = Field(examples=["{login: catalog}"])

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [login.name for login in self.logins]
        refuse_twice("login", ("logins",), names)
        if self.catalog.login not in names:
            raise refusal(
                f"`{self.catalog.login}` is not a login of this target",
                f"{closest(self.catalog.login, names)}name one of: {', '.join(names)}",
                at=("catalog", "login"),
            )
        if not self.allows_database(self.database):
            raise refusal(
                f"the default database `{self.database}` is not one of `databases`",
                f"add `{self.database}` to the list",
                at=("databases",),
            )
        return self

    def login(self, name: str) -> PostgresLogin | None:
        return login_named(self.logins, name)

    def allows_database(self, database: str) -> bool:
        """Without an allow-list only the default database is open."""
        allowed = self.databases or (self.database,)
        return ANY_DATABASE in allowed or database in allowed


# --- SSH --------------------------------------------------------------------------------------------------


class HostKeys(Section):
    """How the target is known again. Exactly one of the three."""

    known_hosts: FilePath | None = None
    ca: FilePath | None = None
    keys: tuple[PublicKey, ...] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.known_hosts, self.ca, self.keys)) != 1:
            raise refusal(
                "not one way to know the target again",
                "give exactly one of `known_hosts` (a file), `ca` (a file) or `keys` (a list of public keys)",
            )
        if self.keys is not None and not self.keys:
            raise refusal("no key: every connection would be refused", "list at least one", at=("keys",))
        return self


class SshTargetLogin(Login):
    """Exactly one of `certificate` (made by the gateway's own authority), `key` and `password`."""

    user: str | None = Field(default=None, min_length=1, max_length=MAX_SSH_USER)
    certificate: bool = False
    key: SecretSource | None = None
    passphrase: SecretSource | None = None

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if sum((self.certificate, self.key is not None, self.password is not None)) != 1:
            raise refusal(
                "not one credential", "give exactly one of `certificate: true`, `key` or `password`"
            )
        if self.passphrase is not None and self.key is None:
            raise refusal("a passphrase without a key", "remove it, or add `key`", at=("passphrase",))
        return self


def _variables(value: str) -> str:
    if _VARIABLES.fullmatch(value) is None:
        raise refusal(
            "not the name of a variable", "use letters, digits and `_`; `*` stands for any, as in `LC_*`"
        )
    return value


_VARIABLES = re.compile(r"[A-Za-z_*][A-Za-z0-9_*]{0,127}")


class SshTarget(AddressedTarget):
    """`environment`: names (with `*`) of the variables that clients may set."""

    protocol: Literal["ssh"] = Field(examples=["ssh"])
    host_keys: HostKeys = Field(examples=["{known_hosts: ssh/known_hosts}"])
    environment: tuple[Annotated[str, AfterValidator(_variables)], ...] = ("LANG", "LC_*", "COLORTERM")
    logins: Some[SshTargetLogin] = Field(examples=["[{name: deploy, certificate: true}]"])

    @model_validator(mode="after")
    def _can_be_asked_for(self) -> Self:
        refuse_twice("login", ("logins",), [login.name for login in self.logins])
        refuse_dots(self.name, ("name",))
        for index, login in enumerate(self.logins):
            refuse_dots(login.name, ("logins", index, "name"))
        return self

    def login(self, name: str) -> SshTargetLogin | None:
        return login_named(self.logins, name)


Target = PostgresTarget | SshTarget | HttpTarget
