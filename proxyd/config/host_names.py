"""Host names and URLs of HTTP in the configuration, in the one form in which they are compared.

Pure: nothing is resolved. Names are in lower case without a dot at the end, addresses in their shortest form without
brackets. Used by the other modules of this package; the routing of requests compares with what is here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, PlainValidator

from policy.located_yaml import refusal
from proxyd.addresses import Address

DEFAULT_PORTS = {"http": 80, "https": 443}

_MAX_NAME = 253  # RFC 1035 section 2.3.4
# Underscores are no part of host names, but of names that DNS is asked for and that certificates are issued to.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_BASE_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%(?!2[fFeE]|5[cC]|00)[0-9A-Fa-f]{2})+)*/?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


def normal_host(text: str) -> str | None:
    """`text` (a name or an address, of IPv6 with or without brackets) as it is compared; None when it is no host."""
    is_bracketed = text.startswith("[") and text.endswith("]")
    try:
        address = ipaddress.ip_address(text[1:-1] if is_bracketed else text)
    except ValueError:
        pass
    else:
        # A zone counts on one machine only, and brackets are for IPv6 alone (RFC 3986 section 3.2.2).
        return None if "%" in text or (is_bracketed and address.version == 4) else str(address)
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    # A name that ends in digits would be read as an IPv4 address in an odd notation by some resolvers.
    is_sound = len(name) <= _MAX_NAME and all(_LABEL.fullmatch(label) for label in labels)
    return name if is_sound and not labels[-1].isdigit() else None


def normal_port(text: str) -> int | None:
    return int(text) if _PORT.fullmatch(text) and int(text) <= 65535 else None


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A name of a target. Without a port it is a virtual host, and through CONNECT it is at the usual ports."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TargetUrl:
    """Where an HTTP target or an endpoint is. `path`: absolute, or ""."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def address(self) -> Address:
        return Address(self.host, self.port)

    @property
    def authority(self) -> str:
        """As in a Host field: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def _read_host(value: object) -> str:
    host = normal_host(value) if isinstance(value, str) else None
    if host is None:
        raise refusal("not the name of a host", "write a name as `gateway.example`, without a port or a `*`")
    return host


def _read_domain(value: str) -> str:
    if _is_address(value):
        raise refusal("an address, and names below it there are none", "write a name, as `gateway.example`")
    return value


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _read_pattern(value: object) -> HostPattern:
    text = value if isinstance(value, str) else ""
    host = normal_host(text)
    if host is not None:
        return HostPattern(host)
    before, _, after = text.rpartition(":")
    host, port = normal_host(before), normal_port(after)
    if host is None or port is None:
        raise refusal(
            "not the name of a host", "write `NAME` or `NAME:PORT`, without a scheme, a path or a `*`"
        )
    return HostPattern(host, port)


def read_url(value: object) -> TargetUrl:
    """Raises a refusal. An URL here has neither a user nor a query: those come with the request or from a login."""
    example = "write `https://HOST`, `https://HOST:PORT` or `https://HOST/PATH`"
    text = value if isinstance(value, str) else ""
    if not text.isascii() or any(ord(char) <= 0x20 or ord(char) == 0x7F or char == "\\" for char in text):
        raise refusal("not the URL of a target", example)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise refusal(f"not a URL ({error})", example) from None
    if parts.scheme not in DEFAULT_PORTS:
        raise refusal("not the URL of a target", example)
    if "@" in parts.netloc:
        raise refusal(
            "a user in the URL, where everybody reads it", "remove it, and write a login with `basic`"
        )
    if "?" in text or "#" in text:
        raise refusal("a query or a fragment in the URL", "end it with the path")
    host = normal_host(parts.hostname or "")
    if host is None or port == 0 or parts.netloc.endswith(":"):
        raise refusal("not the URL of a target", example)
    if not _BASE_PATH.fullmatch(parts.path) or any(part in {".", ".."} for part in parts.path.split("/")):
        raise refusal(
            "a path that could be read in two ways",
            "write it without `//`, `.`, `..`, `%2F` and characters that have to be encoded",
        )
    return TargetUrl(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], parts.path)


def _read_base(value: object) -> TargetUrl:
    url = read_url(value)
    return replace(url, path=url.path.removesuffix("/"))


def _read_origin(value: object) -> TargetUrl:
    url = read_url(value)
    if url.path:
        raise refusal("an origin has no path", "write `https://HOST` or `https://HOST:PORT` alone")
    return url


HostName = Annotated[str, PlainValidator(_read_host)]
"""A name or an address, in the form in which it is compared."""

DomainName = Annotated[HostName, AfterValidator(_read_domain)]
"""A name, not an address: there are names below it."""

HostAndPort = Annotated[HostPattern, PlainValidator(_read_pattern)]

BaseUrl = Annotated[TargetUrl, PlainValidator(_read_base)]
"""To put paths behind: its own has no slash at the end."""

EndpointUrl = Annotated[TargetUrl, PlainValidator(read_url)]
"""To call as it is."""

OriginUrl = Annotated[TargetUrl, PlainValidator(_read_origin)]
"""A site: scheme, host and port."""
