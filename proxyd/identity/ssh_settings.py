"""The settings of SSH logins.

Owns: which combinations of factors make sense, and translating the configuration's models into plain values, so that
nothing else of SSH's identity knows them. Opens no file. Used by `proxyd.identity.ssh` and `proxyd.identity.ssh_trust`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal, Self

from proxyd.config import Identity, SecretSource, SshListener
from proxyd.ssh_public_keys import SshSettingsError


class Factor(Enum):
    """What a client can prove. The values are the configuration's words."""

    CERTIFICATE = "certificate"
    PUBLIC_KEY = "public_key"
    TOTP = "totp"
    TOKEN = "token"  # noqa: S105 (a word of the configuration)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom the configuration names. `keys` as in .pub files; `totp`: where their secret is."""

    name: str
    groups: tuple[str, ...] = ()
    claims: Mapping[str, str | list[str]] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    totp: SecretSource | None = None


@dataclass(frozen=True, slots=True)
class SshLoginSettings:
    """Who may come in at one listener, and how.

    factors: combinations, of which a client has to prove one, in its order. name: what of a certificate is the
    subject's name. principals: what a certificate's principals are. attempts: how many signatures and codes of one
    connection may be wrong.
    """

    factors: tuple[tuple[Factor, ...], ...] = ((Factor.CERTIFICATE,),)
    client_ca: Path | None = None
    revoked_keys: Path | None = None
    name: Literal["key_id", "principal"] = "key_id"
    principals: Literal["logins", "groups"] = "logins"
    people: tuple[Person, ...] = ()
    attempts: int = 6

    def __post_init__(self) -> None:
        for combination in self.factors:
            _check_combination(combination)
        if not self.factors:
            raise SshSettingsError("", "no combination of factors is listed", "list one, as `[certificate]`")
        if self.takes(Factor.CERTIFICATE) and self.client_ca is None:
            raise SshSettingsError("", "certificates let in, but nobody may sign them", "set client_ca")

    def takes(self, factor: Factor) -> bool:
        return any(factor in combination for combination in self.factors)

    @classmethod
    def from_config(cls, listener: SshListener, identity: Identity) -> Self:
        certificates = identity.ssh_certificates
        return cls(
            factors=tuple(tuple(Factor(word) for word in combination) for combination in listener.factors),
            client_ca=listener.client_ca,
            revoked_keys=listener.revoked_keys,
            name=certificates.name,
            principals=certificates.principals,
            people=tuple(
                Person(person.name, person.groups, person.claims, person.keys, person.totp)
                for person in identity.people
            ),
            attempts=listener.limits.attempts,
        )


def _check_combination(combination: tuple[Factor, ...]) -> None:
    if not combination:
        raise SshSettingsError(
            "", "a combination of no factors lets everybody in", "name one, as `[certificate]`"
        )
    if combination[0] is Factor.TOTP:
        # A code says nothing about who sends it, and the user name is not a person's.
        raise SshSettingsError(
            "", "a code cannot be the first factor", "put a key or a certificate before totp"
        )
    for factor in (Factor.TOTP, Factor.CERTIFICATE, Factor.TOKEN):
        if combination.count(factor) > 1:
            raise SshSettingsError("", f"{factor.value} stands twice in one combination", "name it once")
