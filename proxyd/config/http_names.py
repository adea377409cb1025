"""Whether every name that HTTP clients may ask for means one thing over the whole configuration.

A name that two targets share, or a target and the gateway itself, would send requests with their credentials to
whichever came first. Called by `proxyd.config.document`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policy.located_yaml import Path as DocumentPath
from policy.located_yaml import refusal
from proxyd.config.host_names import HostPattern
from proxyd.config.http_listener import HttpListener
from proxyd.config.http_target import HttpTarget
from proxyd.config.listeners import Listener
from proxyd.config.targets import Target


def check_http_names(listeners: Sequence[Listener], targets: Sequence[Target]) -> None:
    """Raises a refusal, at its place below the whole document."""
    _names_below_a_domain(listeners, targets)
    owners: dict[tuple[str, int | None], str] = {}
    for place, target, pattern in _patterns(targets):
        for name in target.names_of(pattern):
            owner = owners.setdefault(name, target.name)
            if owner != target.name:
                raise refusal(
                    f"`{pattern}` is the target `{owner}` already", "give each its own names", at=place
                )
        _is_nobody_elses_address(targets, place, target, pattern)
        _is_not_the_gateway(listeners, place, pattern)


def _patterns(targets: Sequence[Target]) -> Iterator[tuple[DocumentPath, HttpTarget, HostPattern]]:
    for index, target in enumerate(targets):
        if not isinstance(target, HttpTarget):
            continue
        for number, pattern in enumerate(target.hosts):
            yield ("targets", index, "hosts", number), target, pattern


def _names_below_a_domain(listeners: Sequence[Listener], targets: Sequence[Target]) -> None:
    """Host names know no case."""
    if not any(isinstance(listener, HttpListener) and listener.domain for listener in listeners):
        return
    names: dict[str, str] = {}
    for index, target in enumerate(targets):
        if not isinstance(target, HttpTarget):
            continue
        other = names.setdefault(target.name.lower(), target.name)
        if other != target.name:
            raise refusal(
                f"as a host name it is the same as `{other}`",
                "rename one of them",
                at=("targets", index, "name"),
            )


def _is_nobody_elses_address(
    targets: Sequence[Target], place: DocumentPath, target: HttpTarget, pattern: HostPattern
) -> None:
    for other in targets:
        if not isinstance(other, HttpTarget) or other.url.address == target.url.address:
            continue
        if other.url.host == pattern.host and target.is_listed(other.url.host, other.url.port):
            raise refusal(
                f"`{pattern}` is where the target `{other.name}` is",
                "remove it here, or correct the `url` of one of them",
                at=place,
            )


def _is_not_the_gateway(listeners: Sequence[Listener], place: DocumentPath, pattern: HostPattern) -> None:
    for listener in listeners:
        if not isinstance(listener, HttpListener):
            continue
        own = {*listener.hosts, *([listener.domain] if listener.domain else ())}
        if pattern.host in own or (listener.domain and pattern.host.endswith(f".{listener.domain}")):
            raise refusal(
                f"`{pattern}` is a name of the gateway's own, of the listener `{listener.name}`",
                "choose a name that is not below its `domain` nor among its `hosts`",
                at=place,
            )
