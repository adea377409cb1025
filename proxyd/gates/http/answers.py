"""What the head of a target's answer becomes on its way to the client. Pure; called by `http_exchange`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from protocols.http.messages import Headers
from proxyd.gates.http.routing import Route

# They would lead the client past the gateway, or tell of a body that it does not get as it was.
_AROUND = frozenset({"alt-svc", "proxy-authenticate"})
# For a whole origin, which under `/t/` is that of all targets.
_OF_THE_ORIGIN = frozenset({"service-worker-allowed", "clear-site-data", "strict-transport-security"})
_OF_THE_BODY = frozenset(
    {
        *("etag", "content-md5", "digest", "content-digest", "repr-digest", "accept-ranges"),
        *("content-range", "content-encoding"),
        *(
            "grpc-message",
            "grpc-status-details-bin",
        ),  # of an answer that has no body: its text and values stand there
    }
)

_LOOKED_AT = _AROUND | _OF_THE_ORIGIN | _OF_THE_BODY | {"location", "content-location", "set-cookie"}


class Place(Protocol):
    """Where the target is, in its own words."""

    @property
    def origin(self) -> str: ...
    @property
    def base_path(self) -> str: ...


def client_headers(headers: Headers, route: Route, place: Place, *, is_changed: bool) -> Headers:
    """`is_changed`: the body is masked on its way. The very same object when nothing in it matters here."""
    for name, _ in headers:
        if name in _LOOKED_AT:
            break
    else:
        return headers
    kept = [
        field
        for field in headers
        if field[0] not in _AROUND and not (is_changed and field[0] in _OF_THE_BODY)
    ]
    if route.is_host_name:
        kept = [(name, _of_one_host(value) if name == "set-cookie" else value) for name, value in kept]
    if not route.prefix and not place.base_path:
        return tuple(kept)
    return tuple(_placed(kept, route, place.origin, place.base_path))


def _placed(
    headers: list[tuple[str, str]], route: Route, origin: str, base_path: str
) -> Iterator[tuple[str, str]]:
    """Under `/t/TARGET/` every path of the target is below the prefix: redirects and cookies too."""
    for name, value in headers:
        if name in {"location", "content-location"}:
            yield name, _relocated(value, route.prefix, origin, base_path)
        elif name == "set-cookie" and route.prefix:
            yield name, _cookie(value, route.prefix)
        elif name in _OF_THE_ORIGIN and route.prefix:
            continue
        else:
            yield name, value


def _relocated(value: str, prefix: str, origin: str, base_path: str) -> str:
    rest = (
        value[len(origin) :] if value.startswith(origin) and value[len(origin) :][:1] in {"", "/"} else value
    )
    if not rest.startswith("/") or rest.startswith("//"):
        return value if rest is value else prefix + "/"
    if base_path and (rest == base_path or rest.startswith(base_path + "/")):
        rest = rest[len(base_path) :] or "/"
    elif base_path:
        return value  # outside of what the gateway shows of this target
    return prefix + rest


def _cookie(value: str, prefix: str) -> str:
    """A cookie of one target must not go to another one: below its prefix, and for this host alone."""
    first, *parts = [part.strip() for part in value.split(";")]
    kept = [part for part in parts if _attribute(part) not in {"path", "domain"}]
    path = next((part.partition("=")[2].strip() for part in parts if _attribute(part) == "path"), "/")
    path = path if path.startswith("/") else "/"
    return "; ".join([first, *kept, f"Path={prefix}{path}"])


def _of_one_host(value: str) -> str:
    """A cookie of TARGET.DOMAIN is not for the other targets of the domain."""
    first, *parts = [part.strip() for part in value.split(";")]
    return "; ".join([first, *(part for part in parts if _attribute(part) != "domain")])


def _attribute(part: str) -> str:
    """Its name as browsers read it, which let blanks stand around it (RFC 6265, 5.2)."""
    return part.partition("=")[0].strip().lower()
