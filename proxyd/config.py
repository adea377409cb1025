"""The daemon's configuration: the model of `proxyd.yaml`, and reading it.

Owns the shape of the file and everything that can be said about it without touching what it names: unknown
keys, wrong types, names used twice, a login that does not exist. What the file refers to (certificates,
secrets, the policy, directories) is looked at by `proxyd.references`. Nothing here opens any other file.
Relative paths come back resolved against the directory of the configuration file. Read by the daemon and by
every command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, model_validator

from policy.located_yaml import (
    DocumentError,
    Duration,
    Fault,
    Located,
    Name,
    Section,
    Size,
    closest,
    parse,
    refusal,
    validate,
)
from proxyd.addresses import Address, parse_address

DEFAULT_PATH = Path("/etc/proxyd/proxyd.yaml")

ANY_DATABASE = "*"

ItemT = TypeVar("ItemT")


def _resolve(value: Path, info: ValidationInfo) -> Path:
    """A relative path is relative to the configuration file, not to the directory of whoever starts us."""
    if value == Path():
        raise refusal("an empty path", "name the file")
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / value


def _read_address(value: object) -> Address:
    try:
        return parse_address(str(value))
    except ValueError as error:
        message, _, remedy = str(error).partition("; ")
        raise refusal(message, remedy) from None


def _not_empty(values: tuple[ItemT, ...]) -> tuple[ItemT, ...]:
    """Not `min_length`, which would call a list empty whose only item has a fault."""
    if not values:
        raise refusal("an empty list", "list at least one")
    return values


Some = Annotated[tuple[ItemT, ...], AfterValidator(_not_empty)]
FilePath = Annotated[Path, AfterValidator(_resolve)]
SocketAddress = Annotated[Address, PlainValidator(_read_address)]


class SecretSource(Section):
    """Where a secret is read from. Exactly one of the three."""

    file: FilePath | None = None
    environment: str | None = Field(default=None, min_length=1)
    credential: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+$")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.file, self.environment, self.credential)) != 1:
            raise refusal("not one source", "give exactly one of `file`, `environment` or `credential`")
        return self


class ListenerTls(Section):
    certificate: FilePath = Field(examples=["pki/server.crt"])
    key: FilePath = Field(examples=["pki/server.key"])
    client_ca: FilePath | None = None
    client_certificates: Literal["required", "optional", "none"] = "required"
    crl: FilePath | None = None
    minimum_version: Literal["1.2", "1.3"] = "1.2"

    @model_validator(mode="after")
    def _clients_have_an_issuer(self) -> Self:
        if self.client_certificates != "none" and self.client_ca is None:
            raise refusal(
                f"client certificates are {self.client_certificates}, but nobody is trusted to issue them",
                "add `client_ca`, the file of the authority that issues them",
            )
        return self


class ListenerLimits(Section):
    connections: int = Field(default=1000, ge=1, le=1_000_000)
    connections_per_subject: int = Field(default=100, ge=1, le=1_000_000)
    handshake_timeout: Duration = 10.0


class Listener(Section):
    """One door. `address` opens a socket; `socket` takes one from systemd by its FileDescriptorName."""

    name: Name = Field(examples=["postgres"])
    protocol: Literal["postgres"] = Field(examples=["postgres"])
    address: SocketAddress | None = None
    socket: Name | None = None
    tls: ListenerTls
    limits: ListenerLimits = ListenerLimits()

    @model_validator(mode="after")
    def _one_socket(self) -> Self:
        if (self.address is None) == (self.socket is None):
            raise refusal(
                "a listener needs one socket",
                "give either `address` (HOST:PORT or unix:/PATH) or `socket` (systemd's FileDescriptorName)",
            )
        return self


class CertificateGroups(Section):
    """`from`: the fields whose values become groups. `map`: the groups that such a value stands for."""

    sources: tuple[Literal["o", "ou"], ...] = Field(default=("o", "ou"), alias="from")
    map: dict[str, tuple[str, ...]] = Field(default={})


class CertificateIdentity(Section):
    """`name`: the first of these fields that the certificate has is the subject's name."""

    name: Some[Literal["san_uri", "san_email", "cn"]] = ("san_uri", "san_email", "cn")
    groups: CertificateGroups = CertificateGroups()


class Identity(Section):
    certificates: CertificateIdentity = CertificateIdentity()


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


class Login(Section):
    """An account on the target. `user` is the target's own name for it (by default the same)."""

    name: Name
    user: str | None = Field(default=None, min_length=1, max_length=63)
    password: SecretSource | None = None

    @property
    def account(self) -> str:
        return self.user or self.name


class TargetCatalog(Section):
    """Which login reads the target's catalog, and how often it asks whether that has changed (seconds)."""

    login: Name
    poll: Duration = 1.0


class Target(Section):
    """A system behind the gateway. `databases`: those that may be named (`*`: any), by default `database`."""

    name: Name
    protocol: Literal["postgres"] = Field(examples=["postgres"])
    address: SocketAddress = Field(examples=["db.example:5432"])
    labels: dict[str, str] = Field(default={})
    database: str = Field(min_length=1, max_length=63)
    databases: tuple[str, ...] = ()
    tls: TargetTls = Field(examples=["{mode: verify-full, ca: target-ca.crt}"])
    logins: Some[Login] = Field(examples=["[{name: readonly, password: {file: secrets/readonly}}]"])
    catalog: TargetCatalog = Field(examples=["{login: catalog}"])
    connect_timeout: Duration = 5.0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [login.name for login in self.logins]
        _refuse_twice("login", "logins", names)
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

    def login(self, name: str) -> Login | None:
        return next((login for login in self.logins if login.name == name), None)

    def allows_database(self, database: str) -> bool:
        """Without an allow-list only the default database is open."""
        allowed = self.databases or (self.database,)
        return ANY_DATABASE in allowed or database in allowed


class Masking(Section):
    keys: dict[Name, SecretSource] = Field(default={})


class Tapes(Section):
    """`reply_limit`: bytes of one reply that are kept; what is beyond is counted and hashed."""

    directory: FilePath = Field(examples=["tapes"])
    reply_limit: Size = 16 * 1024 * 1024


class Limits(Section):
    """Bytes. `statement`: the longest SQL text. `message`: the longest protocol message of any kind."""

    statement: Size = 16 * 1024 * 1024
    message: Size = 64 * 1024 * 1024

    @model_validator(mode="after")
    def _statement_fits(self) -> Self:
        if self.statement > self.message:
            raise refusal(
                "statements may be longer than messages, but travel in one",
                "raise `message` or lower `statement`",
                at=("statement",),
            )
        return self


class MetricsEndpoint(Section):
    address: SocketAddress = Field(examples=["127.0.0.1:9187"])


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """The whole file."""

    version: Literal[1] = Field(examples=["1"])
    listeners: Some[Listener]
    identity: Identity = Identity()
    targets: Some[Target]
    masking: Masking = Masking()
    policy: FilePath = Field(examples=["policy.yaml"])
    tapes: Tapes = Field(examples=["{directory: tapes}"])
    limits: Limits = Limits()
    metrics: MetricsEndpoint | None = None
    log: Log = Log()
    drain_timeout: Duration = 30.0

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _refuse_twice("listener", "listeners", [listener.name for listener in self.listeners])
        _refuse_twice("target", "targets", [target.name for target in self.targets])
        return self

    def target(self, name: str) -> Target | None:
        return next((target for target in self.targets if target.name == name), None)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """`config` and where each of its values stands in the text of `path`."""

    config: Config
    located: Located
    path: Path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises DocumentError with every fault, also when the file cannot be read."""
        located = parse(read_text(path), str(path))
        directory = path.absolute().parent
        return cls(validate(Config, located, context={"directory": directory}), located, path)


def read_text(path: Path) -> str:
    """The text of a configuration or policy file. Raises DocumentError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"cannot be read ({error.strerror})"
        remedy = "check the path, and that the account that runs proxyd may read it"
    except UnicodeDecodeError:
        message, remedy = "is not UTF-8 text", "save the file as UTF-8"
    raise DocumentError([Fault(str(path), 1, 1, "", message, remedy)])


def _refuse_twice(what: str, key: str, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise refusal(f"a second {what} named `{name}`", "rename one of them", at=(key, index, "name"))
