"""Where a request goes: which target its host or path names, and the path there.

Names only: whether the caller may go there is judged later, with one answer for what does not exist and what is not
allowed. Called by `http_exchange`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from protocols.errors import RemoteProtocolError
from protocols.http.targets import Destination, split_prefix
from proxyd.gates.http.refusals import Kind, Refusal

DEFAULT_PORTS = {"http": 80, "https": 443}
LOGIN_FIELD = "proxyd-login"


class OwnNames(msgspec.Struct, frozen=True):
    """By which names a listener is called. domain: "" for none. address: the one at which the client reached it."""

    domain: str = ""
    hosts: frozenset[str] = frozenset()
    address: str = ""

    def target_of(self, host: str) -> str | None:
        """TARGET of TARGET.DOMAIN."""
        if not self.domain or not host.endswith(f".{self.domain}"):
            return None
        return host[: -len(self.domain) - 1]

    def has(self, host: str) -> bool:
        if host == self.domain or host in self.hosts or host == self.address:
            return bool(host)
        return host == "localhost" and self.address in {"127.0.0.1", "::1"}


class Tunnel(msgspec.Struct, frozen=True):
    """What a CONNECT was for. `target` is the name of the target that is there."""

    host: str
    port: int
    target: str


class Route(msgspec.Struct, frozen=True):
    """target: its name, in lower case when it came as a host. login: "" when none is named. path: at the target,
    canonical, with a slash. prefix: what of the client's path is the gateway's ("" or "/t/TARGET")."""

    target: str
    login: str
    path: str
    prefix: str
    is_host_name: bool = False


TargetAt = Callable[[str, int | None], str | None]


def route(
    destination: Destination,
    own: OwnNames,
    target_at: TargetAt,
    tunnel: Tunnel | None,
) -> Route:
    """`target_at`: the name of the target that is known by this host and port. Raises Refusal."""
    host, path = destination.host, destination.path
    if tunnel is not None:
        port = destination.port or DEFAULT_PORTS["https"]
        if host != tunnel.host or port != tunnel.port:
            raise Refusal(
                421,
                Kind.PROTOCOL,
                f"This tunnel leads to {tunnel.host}:{tunnel.port}, and the request is for another host.",
                hint="Open a tunnel of its own for each host.",
            )
        return Route(tunnel.target, "", path, "")
    named = own.target_of(host)
    if named is not None:
        return Route(named, "", path, "", is_host_name=True)
    if not own.has(host) or destination.form == "absolute":
        # A virtual host is known by its name, whatever the port of this listener is.
        is_proxied = destination.form == "absolute"
        target = target_at(host, _port(destination) if is_proxied else None)
        if target is not None:
            return Route(target, "", path, "")
        if not own.has(host):
            raise nowhere(host)
    try:
        prefixed = split_prefix(path)
    except RemoteProtocolError as fault:
        raise Refusal(400, Kind.PROTOCOL, fault.message) from fault
    if prefixed is None:
        raise nowhere(host)
    login, name, rest = prefixed
    return Route(name, login, rest, path[: len(path) - len(rest)] if rest != "/" else path.rstrip("/"))


def _port(destination: Destination) -> int:
    return destination.port or DEFAULT_PORTS.get(destination.scheme, 0)


def nowhere(host: str) -> Refusal:
    return Refusal(
        404,
        Kind.NOT_ADMITTED,
        "This address of the gateway names no target.",
        hint="Use the host name of a target (TARGET.DOMAIN), or a path that begins with /t/TARGET/.",
        reason=f"no target is named by the host {host[:100]!r}",
    )
