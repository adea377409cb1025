"""`listeners` with `protocol: http`: by which names the gateway is called, and what it wants to see of a client.

Used by the HTTP door and by `proxyd.references`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from policy.located_yaml import Duration, Section, Size, refusal
from proxyd.config.factors import ClientFactor, ClientFactors, check_client_factors, sensible_client_factors
from proxyd.config.fields import FilePath, SecretSource, Some
from proxyd.config.host_names import DomainName, HostName
from proxyd.config.listener_base import ListenerBase, ListenerLimits, ListenerTls

HttpVersion = Literal["h2", "http/1.1"]

SMALLEST_HEAD = 4 * 1024
LARGEST_HEAD = 1024 * 1024
LARGEST_JUDGED_BODY = 64 * 1024 * 1024


def _head_size(size: int) -> int:
    if not SMALLEST_HEAD <= size <= LARGEST_HEAD:
        raise refusal(
            "too small for usual requests, or too large to be one", "write a size from `4KiB` to `1MiB`"
        )
    return size


def _body_size(size: int) -> int:
    if size > LARGEST_JUDGED_BODY:
        raise refusal("more than is kept in memory for one request", "write at most `64MiB`")
    return size


def no_version_twice(versions: tuple[HttpVersion, ...]) -> tuple[HttpVersion, ...]:
    if len(set(versions)) != len(versions):
        raise refusal("a version stands twice", "name each once")
    return versions


HeadSize = Annotated[Size, AfterValidator(_head_size)]
HttpVersions = Annotated[Some[HttpVersion], AfterValidator(no_version_twice)]


class HttpListenerLimits(ListenerLimits):
    """`streams`: requests at a time on one HTTP/2 connection. `head`: bytes of a request's line and fields.

    `headers`: their number. `judged_body`: bytes of a body that rules and masks look at.
    """

    streams: int = Field(default=100, ge=1, le=10_000)
    head: HeadSize = 64 * 1024
    headers: int = Field(default=128, ge=16, le=10_000)
    judged_body: Annotated[Size, AfterValidator(_body_size)] = 1024 * 1024


class HttpListenerTimeouts(Section):
    """`head`: until a request's head is there. `idle`: between requests. `body`: the longest silence within one."""

    head: Duration = 10.0
    idle: Duration = 60.0
    body: Duration = 60.0


class CertificateAuthority(Section):
    certificate: FilePath = Field(examples=["pki/inspect-ca.crt"])
    key: SecretSource = Field(examples=["{file: pki/inspect-ca.key}"])


class HttpProxy(Section):
    """For clients that know nothing but HTTPS_PROXY. The authority signs what the gateway shows inside of a tunnel."""

    certificate_authority: CertificateAuthority = Field(
        examples=["{certificate: pki/inspect-ca.crt, key: {file: pki/inspect-ca.key}}"]
    )


class HttpListener(ListenerBase):
    """`domain`: TARGET.DOMAIN is the target. `hosts`: more names of the gateway's own, for `/t/TARGET/`."""

    protocol: Literal["http"] = Field(examples=["http"])
    tls: ListenerTls | None = None
    factors: Some[Annotated[ClientFactors, AfterValidator(sensible_client_factors)]] = (("certificate",),)
    domain: DomainName | None = None
    hosts: tuple[HostName, ...] = ()
    proxy: HttpProxy | None = None
    protocols: HttpVersions = ("h2", "http/1.1")
    timeouts: HttpListenerTimeouts = HttpListenerTimeouts()
    limits: HttpListenerLimits = HttpListenerLimits()

    @model_validator(mode="after")
    def _clear_text_stays_here(self) -> Self:
        """Tokens and what the target answers travel on this connection."""
        if self.tls is None and (self.address is None or not self.address.is_loopback):
            raise refusal(
                "requests and tokens would travel in clear",
                "add `tls`, or let the listener have an `address` on loopback or a Unix socket",
            )
        return self

    @model_validator(mode="after")
    def _factors_can_be_shown(self) -> Self:
        check_client_factors(self.factors, self.tls)
        return self

    @model_validator(mode="after")
    def _own_names_are_told_apart(self) -> Self:
        own = [*([self.domain] if self.domain else []), *self.hosts]
        for index, host in enumerate(self.hosts):
            place = ("hosts", index)
            if own.count(host) > 1:
                raise refusal(f"`{host}` is a name of this listener already", "remove it here", at=place)
            if self.domain is not None and host.endswith(f".{self.domain}"):
                raise refusal(
                    f"names below `{self.domain}` are those of targets", "choose a name elsewhere", at=place
                )
        return self

    def takes(self, factor: ClientFactor) -> bool:
        """Does any combination ask for `factor`?"""
        return any(factor in combination for combination in self.factors)
