"""Patterns for addresses: where a forward may lead and where a target may listen.

    db.internal:5432    *.internal:443    10.0.0.5:*    [fd00::1]:22    unix:/run/*.sock

Hosts are compared as text, without case and without a dot at the end; addresses in their one normal form. Nobody
looks a name up: a pattern with an address does not mean the names that lead there, nor the other way round.
`*` is any run of characters of a name; with digits and dots around it, of an IPv4 address.

Touching (deny, hold) counts what may be meant: this machine under any of its own names, every address where one is
written in a form that is not normal. Covering (allow) counts what is certain. Called by `policy.ssh_rules.rule`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Hashable
from dataclasses import dataclass

from policy.facts import SshFacts, SshOperation
from policy.narrowing import Need
from policy.patterns import Glob, PatternError
from policy.ssh_rules.paths import Parts, PathPattern, normal_parts

LARGEST_PORT = 65535
LONGEST_HOST = 255
_SOCKET = "unix:"
_HOST = re.compile(r"[a-z0-9_*-]+(?:\.[a-z0-9_*-]+)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ADDRESS_GLOB = re.compile(r"(?=.*[0-9])[0-9.*]+")
_OWN_NAMES = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost4.localdomain4",
        "localhost6",
        "localhost6.localdomain6",
        "ip6-localhost",
        "ip6-loopback",
    }
)
HOST, PORT = "host", "port"
OWN = "<this machine>"  # stands for all of these in an index; no host is called so


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What FORWARD and LISTEN facts name, in one form.

    socket: the parts of a unix socket's path, None where it could be any; is_socket tells it from TCP. host: in
    normal form. is_address: it is an address and no name. may_be_any: what stands there could be any address (an odd
    form of a number, an empty host, a name to listen on). is_own: this machine, by whatever name. is_certain: it can
    be compared, so that a rule other than `*` may cover it. is_sound: it can be an address at all.
    """

    host: str = ""
    port: int = 0
    is_socket: bool = False
    socket: Parts | None = None
    is_address: bool = False
    may_be_any: bool = False
    is_own: bool = False
    is_certain: bool = True
    is_sound: bool = True
    may_be_any_port: bool = False


def endpoint(facts: SshFacts) -> Endpoint:
    """The endpoint of FORWARD or LISTEN facts."""
    if facts.path:
        return Endpoint(is_socket=True, socket=normal_parts(facts.path))
    is_listening = facts.operation is SshOperation.LISTEN
    smallest = 0 if is_listening else 1
    has_port = smallest <= facts.port <= LARGEST_PORT
    # The target picks port 0 itself; what is no port at all may be cut to one.
    may_be_any_port = facts.port == 0 or not has_port
    host = facts.host.lower().rstrip(".")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if len(host) > LONGEST_HOST:
        return Endpoint(host[:LONGEST_HOST], facts.port, may_be_any=True, is_certain=False, is_sound=False)
    address = _address(host)
    is_name = address is None and host.isascii() and not _is_number(host) and host not in ("", "*")
    is_everywhere = address is not None and address.is_unspecified
    return Endpoint(
        host=host if address is None else str(address),
        port=facts.port,
        is_address=address is not None,
        may_be_any=(address is None and not is_name)
        or (is_listening and (is_everywhere or (is_name and not _is_own_name(host)))),
        is_own=not host
        or _is_own_name(host)
        or (address is not None and (address.is_loopback or is_everywhere)),
        is_certain=is_name or address is not None,
        is_sound=has_port and host.isprintable() and " " not in host,
        may_be_any_port=may_be_any_port,
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `host` is the text of, without its zone; IPv4 also where it is mapped into IPv6.

    IPv4 knows no zones: with one it is a name to some resolvers and an address to others.
    """
    address, zone, _ = host.partition("%")
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return found if found.ipv4_mapped is None else found.ipv4_mapped
    return None if zone else found


def _is_number(host: str) -> bool:
    """Would a resolver take this for a number, as in 127.1, 0x7f.1, 0177.0.0.1 and 2130706433?"""
    return _NUMBER.fullmatch(host.partition("%")[0].rpartition(".")[2]) is not None


def _is_own_name(host: str) -> bool:
    return host in _OWN_NAMES or host.endswith(".localhost")


class AddressPattern:
    """One pattern: `socket` for a unix socket, else a host and a port."""

    __slots__ = ("_is_address", "_is_address_glob", "_is_own", "host", "port", "socket", "text")

    def __init__(self, text: str, *, to_listen: bool = False) -> None:
        """Raises PatternError. `to_listen`: port 0, which the target picks, can be asked for."""
        self.text = text
        self.socket: PathPattern | None = None
        self.host = Glob("*")
        self.port: int | None = None
        if text.startswith(_SOCKET):
            self.socket = PathPattern(text.removeprefix(_SOCKET))
            host = ""
        else:
            host, port = _split(text)
            self.host = Glob(host)
            self.port = _port(text, port, to_listen=to_listen)
        address = _address(host)
        self._is_address = address is not None
        self._is_address_glob = _ADDRESS_GLOB.fullmatch(host) is not None and address is None
        self._is_own = self.socket is None and (
            any(self.host.matches(name) for name in ("localhost", "127.0.0.1", "0.0.0.0", "::1", "::"))  # noqa: S104
            or _is_own_name(host)
            or (address is not None and address.is_loopback)
        )

    def needs(self) -> dict[Hashable, Need]:
        """For an index; a name of this machine stands under OWN besides."""
        found: dict[Hashable, Need] = {} if self.port is None else {PORT: (self.port,)}
        if not self.host.is_any:
            found[HOST] = (self.host, OWN) if self._is_own else (self.host,)
        return found

    def touches(self, where: Endpoint) -> bool:
        if self.socket is not None or where.is_socket:
            return self.socket is not None and where.is_socket and self.socket.may_match(where.socket)
        if self.port is not None and self.port != where.port and not where.may_be_any_port:
            return False
        if self._is_own and where.is_own:
            return True
        if where.may_be_any and (self._is_address or self._is_address_glob or self._is_own):
            return True
        return self.host.matches(where.host)

    def covers(self, where: Endpoint) -> bool:
        if self.socket is not None or where.is_socket:
            return self.socket is not None and where.is_socket and self.socket.covers(where.socket)
        if not where.is_sound or (self.port is not None and self.port != where.port):
            return False
        if self.host.is_any:
            return True
        if not where.is_certain or not self.host.matches(where.host):
            return False
        # "10.*" means addresses and not 10.example.com; "db*" means names and not db8::1.
        return where.is_address == (self._is_address or self._is_address_glob)

    def is_wider(self, other: AddressPattern) -> bool:
        """Does it touch whatever `other` covers? May say False where it is hard to tell."""
        if self.socket is not None or other.socket is not None:
            return self.socket is not None and other.socket is not None and self.socket.is_wider(other.socket)
        return self.port in (None, other.port) and self.host.covers(other.host)


_SHAPE = "write HOST:PORT, HOST:* or unix:/PATH, as in `db.internal:5432`"


def _split(text: str) -> tuple[str, str]:
    """Host in normal form and port. Raises PatternError."""
    if text.startswith("/"):
        raise PatternError(f"`{text}` names no host", f"write `unix:{text}` for a socket")
    host, colon, port = text.rpartition(":")
    if not colon or not port:
        name = host if colon else text
        raise PatternError(f"`{text}` names no port", f"write `{name}:*` for every port, or one port")
    if not host:
        raise PatternError(f"`{text}` names no host", f"write `*:{port}` for every host")
    if host.startswith("[") and host.endswith("]"):
        return _bracketed(text, host[1:-1]), port
    if ":" in host:
        raise PatternError(
            f"`{text}`: it cannot be told where the address ends and the port begins",
            "put an IPv6 address in brackets, as in `[fd00::1]:22`",
        )
    name = host.lower().removesuffix(".")
    address = _address(name)
    if address is None and name.rpartition(".")[2] != "*" and _is_number(name):
        raise PatternError(
            f"`{text}`: `{host}` is not an IPv4 address in its normal form",
            "write four numbers, as in `10.0.0.5:22`",
        )
    if _HOST.fullmatch(name) is None:
        raise PatternError(f"`{text}`: `{host}` is not the name of a host", _SHAPE)
    return name, port


def _bracketed(text: str, inside: str) -> str:
    if "*" in inside:
        raise PatternError(
            f"`{text}`: `*` inside an IPv6 address, whose text has many forms",
            "name each address, or write `*:PORT`",
        )
    address = _address(inside)
    if address is None or ":" not in inside or "%" in inside:
        raise PatternError(f"`{text}`: `{inside}` is not an IPv6 address", "write one, as in `[fd00::1]:22`")
    return str(address)


def _port(text: str, port: str, *, to_listen: bool) -> int | None:
    if port == "*":
        return None
    if re.fullmatch(r"[0-9]{1,5}", port) is None or not 0 <= int(port) <= LARGEST_PORT:
        raise PatternError(
            f"`{text}`: `{port}` is not a port", f"write 1 to {LARGEST_PORT}, or `*` for every port"
        )
    if int(port) == 0 and not to_listen:
        raise PatternError(
            f"`{text}`: nothing can be reached at port 0", f"write 1 to {LARGEST_PORT}, or `*`"
        )
    return int(port)
