"""The whole file `proxyd.yaml`, and reading it.

Owns everything that can be said about the file without touching what it names: unknown keys, wrong types, names
used twice, a factor that nobody could show. What the file refers to (certificates, keys, secrets, the policy,
directories) is looked at by `proxyd.references`. Nothing here opens any other file. Relative paths come back
resolved against the directory of the configuration file. Read by the daemon and by every command.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from policy.located_yaml import (
    DocumentError,
    Duration,
    Fault,
    Located,
    Name,
    Section,
    Size,
    parse,
    refusal,
    validate,
)
from proxyd.addresses import MAX_UNIX_PATH_BYTES
from proxyd.config.fields import FilePath, SecretSource, SizeOrNothing, SocketAddress, Some, refuse_twice
from proxyd.config.http_names import check_http_names
from proxyd.config.identity import Identity
from proxyd.config.listeners import Factors, Listener, SshListener
from proxyd.config.models import Models, Store
from proxyd.config.targets import SshTarget, Target

DEFAULT_PATH = Path("/etc/proxyd/proxyd.yaml")

SHORTEST_CERTIFICATE_S = 30.0
LONGEST_CERTIFICATE_S = 86400.0
LARGEST_FILE_CONTENT = 16 * 1024 * 1024  # one frame of a tape has to hold it


class Masking(Section):
    keys: dict[Name, SecretSource] = Field(default={})


def _fits_into_a_tape(size: int) -> int:
    if size > LARGEST_FILE_CONTENT:
        raise refusal("more than a tape keeps of a file", "write at most `16MiB`")
    return size


class Tapes(Section):
    """`reply_limit`: bytes of one reply that are kept; what is beyond is counted and hashed.

    `input`: which of what is typed at a terminal is kept. `file_content`: bytes of each transferred file.
    """

    directory: FilePath = Field(examples=["tapes"])
    reply_limit: Size = 16 * 1024 * 1024
    input: Literal["echoed", "all", "none"] = "echoed"
    file_content: Annotated[SizeOrNothing, AfterValidator(_fits_into_a_tape)] = 0


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


def _lifetime(seconds: float) -> float:
    if not SHORTEST_CERTIFICATE_S <= seconds <= LONGEST_CERTIFICATE_S:
        raise refusal(
            "too short for clocks that differ, or too long for a certificate that is used once",
            "write a duration from `30s` to `1d`; `5m` is a good one",
        )
    return seconds


class SshAuthority(Section):
    """Signs the certificates by which the gateway logs in to targets."""

    key: SecretSource = Field(examples=["{file: ssh/gateway_ca}"])
    lifetime: Annotated[Duration, AfterValidator(_lifetime)] = 300.0


def _short_enough(path: Path) -> Path:
    if len(str(path).encode()) > MAX_UNIX_PATH_BYTES:
        raise refusal(f"longer than {MAX_UNIX_PATH_BYTES} bytes", "move the socket to a shorter path")
    return path


class Admin(Section):
    """The socket of `proxyd sessions`. `group`: whose members may use it besides proxyd's account and root."""

    socket: Annotated[FilePath, AfterValidator(_short_enough)] = Field(examples=["/run/proxyd/admin.sock"])
    group: str | None = Field(default=None, min_length=1)


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """The whole file."""

    version: Literal[1] = Field(examples=["1"])
    listeners: Some[Annotated[Listener, Field(discriminator="protocol")]]
    identity: Identity = Identity()
    ssh_authority: SshAuthority | None = None
    targets: Some[Annotated[Target, Field(discriminator="protocol")]]
    masking: Masking = Masking()
    models: Models = Models()
    store: Store | None = None
    policy: FilePath = Field(examples=["policy.yaml"])
    tapes: Tapes = Field(examples=["{directory: tapes}"])
    limits: Limits = Limits()
    metrics: MetricsEndpoint | None = None
    admin: Admin | None = None
    log: Log = Log()
    drain_timeout: Duration = 30.0

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        refuse_twice("listener", ("listeners",), [listener.name for listener in self.listeners])
        refuse_twice("target", ("targets",), [target.name for target in self.targets])
        check_http_names(self.listeners, self.targets)
        return self

    @model_validator(mode="after")
    def _somebody_can_come_in(self) -> Self:
        """A combination of factors that no person could show is a slip of the pen."""
        for index, listener in enumerate(self.listeners):
            for number, factors in enumerate(listener.factors if isinstance(listener, SshListener) else ()):
                missing = self._missing_for(factors)
                if missing:  # a certificate alone asks nothing of the people
                    raise refusal(
                        f"nobody can show [{', '.join(factors)}]: no person has {missing}",
                        f"add {missing} to somebody in `identity.people`, or remove this combination",
                        at=("listeners", index, "factors", number),
                    )
        return self

    @model_validator(mode="after")
    def _tokens_have_an_issuer(self) -> Self:
        for index, listener in enumerate(self.listeners):
            if listener.takes("token") and not self.identity.issuers:
                raise refusal(
                    "tokens let in, but nobody is trusted to issue them",
                    "add the issuer to `identity.issuers`, or remove `token` from `factors`",
                    at=("listeners", index, "factors"),
                )
        return self

    def _missing_for(self, factors: Factors) -> str:
        """What a person needs in the configuration to show `factors`, if nobody has it; else ""."""
        keys, has_code = factors.count("public_key"), "totp" in factors
        for person in self.identity.people:
            if len(person.keys) >= keys and (person.totp is not None or not has_code):
                return ""
        needs = ["`keys`"] if keys == 1 else [f"{keys} `keys`"] if keys else []
        return " and ".join([*needs, *(["`totp`"] if has_code else [])])

    @model_validator(mode="after")
    def _certificates_have_a_signer(self) -> Self:
        for index, target in enumerate(self.targets):
            for number, login in enumerate(target.logins if isinstance(target, SshTarget) else ()):
                if login.certificate and self.ssh_authority is None:
                    raise refusal(
                        "nobody signs the certificate of this login",
                        "add `ssh_authority` at the top, as in `ssh_authority: {key: {file: ssh/gateway_ca}}`",
                        at=("targets", index, "logins", number, "certificate"),
                    )
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
