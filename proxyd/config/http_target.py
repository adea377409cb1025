"""`targets` with `protocol: http`: where they are, under which names, and what the gateway shows them.

Used by what connects to them, by `proxyd.http_credentials`, and by `proxyd.references`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from policy.located_yaml import Duration, Section, refusal
from policy.located_yaml import Path as DocumentPath
from proxyd.addresses import Address
from proxyd.config.fields import FilePath, SecretSource, Some, refuse_twice
from proxyd.config.host_names import BaseUrl, EndpointUrl, HostAndPort, HostPattern, OriginUrl
from proxyd.config.http_listener import HeadSize, HttpVersions
from proxyd.config.target_base import LoginBase, TargetBase, TargetTls, login_named, refuse_dots

# Fields that say how a message travels, or to whom: the gateway makes them itself (RFC 9110 section 7.6.1).
FRAMING_FIELDS = frozenset(
    {
        *("connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive"),
        *("proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")  # RFC 9110 section 5.6.2
_VISIBLE = re.compile(r"[!-~]{1,256}")
_TEXT = re.compile(r"[ -~]{1,4096}")
_REGION = re.compile(r"[a-z0-9-]{1,64}")


def _field_name(value: str) -> str:
    if _TOKEN.fullmatch(value) is None:
        raise refusal("not the name of a header field", "write one, as `x-api-key`")
    if value.lower() in FRAMING_FIELDS or value.lower().startswith("proxyd-"):
        raise refusal(
            f"`{value}` is a field that the gateway makes itself", "name the one that carries the credential"
        )
    return value.lower()


def _user(value: str) -> str:
    """RFC 7617 section 2: what follows the first colon is the password."""
    if ":" in value or any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
        raise refusal("a colon or a control character in a user", "write the user alone")
    return value


def _visible(value: str) -> str:
    if _VISIBLE.fullmatch(value) is None:
        raise refusal("not such an identifier", "write visible characters without blanks, at most 256")
    return value


def _text(value: str) -> str:
    if _TEXT.fullmatch(value) is None:
        raise refusal("not a line of ASCII text", "write it without control characters")
    return value


def _region(value: str) -> str:
    if _REGION.fullmatch(value) is None:
        raise refusal("not in the form that AWS uses", "write it in lower case, as `eu-central-1` or `s3`")
    return value


class HttpBasic(Section):
    user: Annotated[str, AfterValidator(_user)] = Field(examples=["gateway"])
    password: SecretSource = Field(examples=["{file: secrets/api}"])


class HttpHeader(Section):
    name: Annotated[str, AfterValidator(_field_name)] = Field(examples=["x-api-key"])
    value: SecretSource = Field(examples=["{file: secrets/api}"])


class HttpClientCertificate(Section):
    certificate: FilePath = Field(examples=["pki/gateway.crt"])
    key: FilePath = Field(examples=["pki/gateway.key"])


class HttpOAuth2(Section):
    """Client credentials (RFC 6749 section 4.4). `client_authentication`: how the gateway says who it is there."""

    token_url: EndpointUrl = Field(examples=["https://login.example/token"])
    client_id: Annotated[str, AfterValidator(_visible)] = Field(examples=["proxyd"])
    client_secret: SecretSource = Field(examples=["{file: secrets/oauth2}"])
    client_authentication: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"
    scope: Annotated[str, AfterValidator(_text)] | None = None
    audience: Annotated[str, AfterValidator(_text)] | None = None
    ca: Literal["system"] | FilePath | None = None
    timeout: Duration = 5.0

    @model_validator(mode="after")
    def _secret_stays_secret(self) -> Self:
        if self.token_url.is_tls and self.ca is None:
            raise refusal(
                "nobody is trusted to vouch for the token endpoint",
                "add `ca`, the file of the authority that issued its certificate, or `ca: system`",
            )
        if not self.token_url.is_tls and not self.token_url.address.is_loopback:
            raise refusal("the secret would travel in clear", "write a URL of https", at=("token_url",))
        if not self.token_url.is_tls and self.ca is not None:
            raise refusal("no TLS, so nothing is verified", "remove it, or write a URL of https", at=("ca",))
        return self


class HttpSigV4(Section):
    """Requests signed as AWS does (Signature Version 4), with keys that stay or with those that `credentials` holds."""

    region: Annotated[str, AfterValidator(_region)] = Field(examples=["eu-central-1"])
    service: Annotated[str, AfterValidator(_region)] = Field(examples=["s3"])
    access_key: Annotated[str, AfterValidator(_visible)] | None = Field(
        default=None, examples=["AKIDEXAMPLE"]
    )
    secret_key: SecretSource | None = Field(default=None, examples=["{file: secrets/aws}"])
    session_token: SecretSource | None = None
    credentials: SecretSource | None = None

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if self.credentials is not None:
            if (self.access_key, self.secret_key, self.session_token) != (None, None, None):
                raise refusal(
                    "two sets of keys",
                    "give `credentials`, or `access_key` and `secret_key`",
                    at=("credentials",),
                )
        elif self.access_key is None or self.secret_key is None:
            missing = "access_key" if self.access_key is None else "secret_key"
            example = "AKIDEXAMPLE" if self.access_key is None else "{file: secrets/aws}"
            raise refusal(
                f"`{missing}` is missing",
                f"add it, as in `{missing}: {example}`, or give temporary keys as `credentials`",
            )
        return self


_CREDENTIALS = ("bearer", "basic", "header", "certificate", "oauth2", "sigv4")


class HttpTargetLogin(LoginBase):
    """What a request carries in place of the client's own credential. Exactly one kind."""

    bearer: SecretSource | None = None
    basic: HttpBasic | None = None
    header: HttpHeader | None = None
    certificate: HttpClientCertificate | None = None
    oauth2: HttpOAuth2 | None = None
    sigv4: HttpSigV4 | None = None
    none: bool = False

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in _CREDENTIALS) + self.none != 1:
            raise refusal(
                "not one credential",
                "give exactly one of `bearer`, `basic`, `header`, `certificate`, `oauth2`, `sigv4` "
                "or, for a target that asks for none, `none: true`",
            )
        return self

    @property
    def account(self) -> str:
        """What the target calls the gateway, as far as that can be said without a secret."""
        if self.basic is not None:
            return self.basic.user
        if self.oauth2 is not None:
            return self.oauth2.client_id
        if self.sigv4 is not None and self.sigv4.access_key is not None:
            return self.sigv4.access_key
        return self.name


class HttpTargetLimits(Section):
    """`connections`: to the target, of all clients together. `requests_per_subject`: under way at a time, so that
    nobody takes all connections; None is three quarters of what there is room for. `response_head`: bytes of a status
    line and fields.
    """

    connections: int = Field(default=100, ge=1, le=100_000)
    requests_per_subject: int | None = Field(default=None, ge=1, le=10_000_000, examples=["75"])
    response_head: HeadSize = 64 * 1024


class HttpTargetTimeouts(Section):
    """`response`: until the head of the answer, and the longest silence within it. `idle`: of a kept connection."""

    response: Duration = 60.0
    idle: Duration = 60.0


class HttpTarget(TargetBase):
    """`hosts`: names under which clients ask for it. `origins`: other sites whose pages may ask by what a browser shows
    by itself. `forwarded`: tell the target who asked, by `Forwarded`.
    """

    protocol: Literal["http"] = Field(examples=["http"])
    url: BaseUrl = Field(examples=["https://api.internal"])
    hosts: tuple[HostAndPort, ...] = ()
    origins: tuple[OriginUrl, ...] = Field(default=(), examples=["[https://app.example]"])
    tls: TargetTls | None = Field(default=None, examples=["{ca: pki/target-ca.crt}"])
    protocols: HttpVersions = ("http/1.1",)
    api: Literal["openai", "anthropic"] | None = None
    encoded_slashes: Literal["refuse", "keep"] = "refuse"
    forwarded: bool = False
    logins: Some[HttpTargetLogin] = Field(examples=["[{name: default, bearer: {file: secrets/api}}]"])
    limits: HttpTargetLimits = HttpTargetLimits()
    timeouts: HttpTargetTimeouts = HttpTargetTimeouts()

    @model_validator(mode="after")
    def _can_be_asked_for(self) -> Self:
        refuse_twice("login", ("logins",), [login.name for login in self.logins])
        refuse_dots(self.name, ("name",))
        for index, login in enumerate(self.logins):
            refuse_dots(login.name, ("logins", index, "name"))
        for index, host in enumerate(self.hosts):
            if host in self.hosts[:index]:
                raise refusal(f"`{host}` stands twice", "name it once", at=("hosts", index))
        return self

    @model_validator(mode="after")
    def _tls_goes_with_the_url(self) -> Self:
        if self.url.is_tls and self.tls is None:
            raise refusal(
                "nobody is trusted to vouch for the target",
                "add `tls: {ca: FILE}`, the authority that issued its certificate, or `tls: {ca: system}`",
            )
        if self.tls is not None and not self.url.is_tls:
            raise refusal("the URL says http, so TLS is not used", "write https, or remove it", at=("tls",))
        if self.tls is not None and self.tls.mode in {"disable", "allow", "prefer"}:
            raise refusal(
                f"`{self.tls.mode}`: a URL of https means TLS", "write `verify-full`", at=("tls", "mode")
            )
        if not self.url.is_tls and len(self.protocols) > 1:
            raise refusal(
                "which of them the target speaks is agreed upon by TLS alone",
                "name one: `[http/1.1]`, or `[h2]` when it is known to speak HTTP/2 in clear",
                at=("protocols",),
            )
        return self

    @model_validator(mode="after")
    def _certificates_are_asked_for_by_tls(self) -> Self:
        for index, login in enumerate(self.logins):
            place: DocumentPath = ("logins", index, "certificate")
            if login.certificate is None:
                continue
            if self.tls is None:
                raise refusal("a client certificate needs TLS", "write a URL of https", at=place)
            if self.tls.certificate is not None:
                raise refusal("`tls` of this target has another one", "remove one of the two", at=place)
        return self

    @property
    def address(self) -> Address:
        return self.url.address

    def requests_per_subject(self, streams: int) -> int:
        """Of one login. `streams`: requests that fit on a connection of HTTP/2."""
        limits = self.limits
        if limits.requests_per_subject is not None:
            return limits.requests_per_subject
        room = limits.connections * (streams if "h2" in self.protocols else 1)
        return -(-3 * room // 4)

    def login(self, name: str) -> HttpTargetLogin | None:
        return login_named(self.logins, name)

    def names(self) -> frozenset[tuple[str, int | None]]:
        """What `hosts` says that this target is: (host, port) through a proxy, (host, None) as a virtual host.

        A name without a port is a virtual host, and at the usual ports and the target's own through a proxy.
        """
        return frozenset(name for pattern in self.hosts for name in self.names_of(pattern))

    def names_of(self, pattern: HostPattern) -> tuple[tuple[str, int | None], ...]:
        """The same of one entry."""
        if pattern.port is not None:
            return ((pattern.host, pattern.port),)
        return tuple((pattern.host, port) for port in (None, 80, 443, self.url.port))

    def is_listed(self, host: str, port: int) -> bool:
        """Does `hosts` say that `host`:`port` is this target?"""
        return (host, port) in self.names()

    def is_at(self, host: str, port: int) -> bool:
        """Is that its own address?"""
        return (self.url.host, self.url.port) == (host, port)
