"""What a request is addressed to: the forms of a request target, the host, the path and the query in one reading.

Owns which targets are refused because a gateway and a server have been known to read them in two ways (`paths` for the
path). Must never guess or repair. Called by the HTTP gates for every request before it is routed or judged, with heads
of HTTP/1 and HTTP/2 alike.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import msgspec

from protocols.errors import RemoteProtocolError
from protocols.http.media_types import media_type
from protocols.http.messages import Headers, RequestHead
from protocols.http.paths import Path, percent_decoded, read_path

__all__ = ["Destination", "destination", "field_value", "media_type", "read_host", "split_prefix"]

_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\\]*)([^#]*)(#.*)?")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[0-9A-Za-z._-]*)(?::([0-9]*))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_QUERY = re.compile(r"[!-~]*")
_PREFIX = re.compile(r"/t/([A-Za-z0-9._~!$&'()*+,:=@%-]+)(?=[/?]|$)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PORTS = 65535


class Destination(msgspec.Struct, frozen=True):
    """form: "origin", "absolute", "authority" (CONNECT) or "asterisk" (OPTIONS).

    host: lower case, ASCII, no trailing dot, IPv6 without brackets; "" when HTTP/1.0 names none. path: canonical, to be
    sent. decoded_path: to be matched; other_paths: what else a target may take it for (see `paths`). segments: of
    decoded_path. query: as it came, without `?`. query_pairs: decoded, in their order; behind them those that only a
    target which splits at `;` would see. For "authority" path is "", for "asterisk" "*".
    """

    form: str
    scheme: str
    host: str
    port: int
    path: str
    decoded_path: str
    other_paths: tuple[str, ...] = ()
    query: str = ""
    query_pairs: tuple[tuple[str, str], ...] = ()

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.decoded_path.split("/")[1:])


def destination(head: RequestHead, *, keep_encoded_slashes: bool = False) -> Destination:
    """Raises RemoteProtocolError: code 400, or 501 for methods that would show the injected credential."""
    target = head.target
    if head.method in ("TRACE", "TRACK"):
        raise RemoteProtocolError(
            f"{head.method} is not passed on: it would answer with the target's credentials", "501"
        )
    if head.method == "CONNECT":
        return _of_connect(head)
    if target.startswith("/"):
        host, port = (
            read_host(head.authority, head.scheme) if head.authority else ("", _DEFAULT_PORTS[head.scheme])
        )
        return _located("origin", head.scheme, host, port, target, keep_encoded_slashes)
    if target == "*":
        if head.method != "OPTIONS":
            raise RemoteProtocolError("the target `*` is for OPTIONS only", "400")
        host, port = (
            read_host(head.authority, head.scheme) if head.authority else ("", _DEFAULT_PORTS[head.scheme])
        )
        return Destination("asterisk", head.scheme, host, port, "*", "*")
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise RemoteProtocolError("a request target that is neither a path nor a URL", "400")
    scheme = match[1].lower()
    if scheme not in _DEFAULT_PORTS:
        raise RemoteProtocolError("a request target of a scheme other than http and https", "400")
    if match[4] is not None:
        raise RemoteProtocolError("a request target with a fragment", "400")
    host, port = read_host(match[2], scheme)
    if head.authority and read_host(head.authority, scheme) != (host, port):
        raise RemoteProtocolError("the Host field and the request target name different hosts", "400")
    rest = match[3]
    return _located(
        "absolute", scheme, host, port, rest if rest.startswith("/") else "/" + rest, keep_encoded_slashes
    )


@lru_cache(maxsize=256)  # of a few names that come with every request; what is refused is not kept
def read_host(authority: str, scheme: str) -> tuple[str, int]:
    """Host and port of an authority; the port is the scheme's where none is said. No user information."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise RemoteProtocolError(
            "a host with characters that a host does not have, or user information", "400"
        )
    host, port = match[1].lower(), match[2]
    if port is None:
        number = _DEFAULT_PORTS[scheme]
    elif not _PORT.fullmatch(port) or (number := int(port)) > _PORTS:
        raise RemoteProtocolError("a port that is not a number from 1 to 65535", "400")
    if host.startswith("["):
        try:
            return ipaddress.IPv6Address(host[1:-1]).compressed, number
        except ValueError:
            raise RemoteProtocolError("a host in brackets that is not an IPv6 address", "400") from None
    host = host.removesuffix(".")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise RemoteProtocolError("a host that is not a name of labels", "400")
    if _NUMBER.fullmatch(labels[-1]):  # resolvers read 0x7f.1 and 127.1 as addresses
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise RemoteProtocolError(
                "a host that ends in a number and is not an IPv4 address", "400"
            ) from None
    return host, number


def split_prefix(path: str) -> tuple[str, str, str] | None:
    """LOGIN ("" when not said), TARGET and what follows of `/t/LOGIN+TARGET/...`; None for any other path.

    path: a request target in origin form (with its query) or a path. The rest begins with a slash.
    """
    match = _PREFIX.match(path)
    if match is None:
        return None
    login, _, target = percent_decoded(match[1], "the name of a target").rpartition("+")
    if not target:
        return None
    rest = path[match.end() :]
    return login, target, rest if rest.startswith("/") else "/" + rest


def field_value(headers: Headers, name: str) -> str | None:
    """The value of a field that may stand once only. name: in lower case."""
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise RemoteProtocolError(f"more than one {name} field", "400")
    return values[0] if values else None


def _of_connect(head: RequestHead) -> Destination:
    target = head.target or head.authority
    if not re.search(r":[0-9]+$", target):
        raise RemoteProtocolError("CONNECT needs a host and a port", "400")
    host, port = read_host(target, "https")
    if head.authority and head.authority != target:
        named = read_host(head.authority, "https")
        if named[0] != host or (named[1] != port and re.search(r":[0-9]+$", head.authority)):
            raise RemoteProtocolError("the Host field and the request target name different hosts", "400")
    return Destination("authority", "https", host, port, "", "")


def _located(
    form: str, scheme: str, host: str, port: int, rest: str, keep_encoded_slashes: bool
) -> Destination:
    """rest: path and query as they came."""
    raw_path, mark, query = rest.partition("?")
    path: Path = read_path(raw_path, keep_encoded_slashes=keep_encoded_slashes)
    pairs = _query_pairs(query) if mark else ()
    return Destination(form, scheme, host, port, path.canonical, path.decoded, path.others, query, pairs)


def _query_pairs(query: str) -> tuple[tuple[str, str], ...]:
    if not _QUERY.fullmatch(query) or "#" in query:
        raise RemoteProtocolError(
            "a query with a fragment, blanks, controls or characters beyond ASCII", "400"
        )
    if "%00" in query:
        raise RemoteProtocolError("a query with an encoded NUL", "400")
    pairs = _pairs(query.split("&"))
    if ";" in query:
        pairs += [pair for pair in _pairs(re.split("[&;]", query)) if pair not in pairs]
    return tuple(pairs)


def _pairs(parts: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for part in parts:
        if part:
            name, _, value = part.replace("+", " ").partition("=")
            pairs.append((percent_decoded(name, "the query"), percent_decoded(value, "the query")))
    return pairs
