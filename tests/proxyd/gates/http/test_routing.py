"""Which target a request names, by host or path, and where nothing is named."""

from __future__ import annotations

import pytest

from protocols.http.messages import RequestHead
from protocols.http.targets import destination
from proxyd.gates.http.refusals import Refusal
from proxyd.gates.http.routing import OwnNames, Route, Tunnel, route

OWN = OwnNames("gateway.example", frozenset({"bastion.example"}), "10.0.0.1")


def target_at(host: str, port: int | None) -> str | None:
    return {
        ("api.example.com", None): "api",
        ("api.example.com", 443): "api",
        ("api.internal", 8443): "api",
        ("plain.internal", 80): "plain",
    }.get((host, port))


def routed(host: str, target: str, tunnel: Tunnel | None = None, own: OwnNames = OWN) -> Route:
    head = RequestHead("GET", target, "https", host, ())
    return route(destination(head, keep_encoded_slashes=True), own, target_at, tunnel)


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        ("api.gateway.example", "/x", Route("api", "", "/x", "", is_host_name=True)),
        ("API.Gateway.Example:8443", "/x?a=1", Route("api", "", "/x", "", is_host_name=True)),
        ("api.example.com", "/x", Route("api", "", "/x", "")),
        ("api.example.com:8443", "/t/other/x", Route("api", "", "/t/other/x", "")),
        ("gateway.example", "/t/api/v1/x", Route("api", "", "/v1/x", "/t/api")),
        ("bastion.example", "/t/api", Route("api", "", "/", "/t/api")),
        ("bastion.example", "/t/api/", Route("api", "", "/", "/t/api")),
        ("10.0.0.1:8443", "/t/admin+api/x", Route("api", "admin", "/x", "/t/admin+api")),
        ("gateway.example", "/t/api/t/api/x", Route("api", "", "/t/api/x", "/t/api")),
        ("gateway.example", "http://plain.internal/x", Route("plain", "", "/x", "")),
    ],
)
def test_where_a_request_goes(host: str, target: str, expected: Route) -> None:
    if "://" in target:
        host = target.split("/")[2]
    assert routed(host, target) == expected


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("gateway.example", "/"),
        ("gateway.example", "/t/"),
        ("gateway.example", "/tt/api/x"),
        ("unknown.example", "/t/api/x"),
        ("evil-gateway.example", "/x"),
        ("10.0.0.2", "/t/api/x"),
        ("localhost", "/t/api/x"),
    ],
)
def test_what_names_no_target(host: str, target: str) -> None:
    with pytest.raises(Refusal) as raised:
        routed(host, target)
    assert raised.value.status == 404


def test_localhost_is_the_gateway_where_it_is_reached_by_loopback() -> None:
    own = OwnNames("", frozenset(), "127.0.0.1")
    assert routed("localhost:1", "/t/api/x", own=own).target == "api"


def test_no_name_of_its_own_is_not_an_empty_host() -> None:
    head = RequestHead("GET", "/t/api/x", "http", "", (), "1.0")
    with pytest.raises(Refusal):
        route(destination(head), OwnNames(), target_at, None)


TUNNEL = Tunnel("api.internal", 8443, "api")


def test_a_tunnel_leads_to_one_target() -> None:
    assert routed("api.internal:8443", "/t/other/x", TUNNEL) == Route("api", "", "/t/other/x", "")


@pytest.mark.parametrize(
    "host", ["api.internal", "api.internal:443", "other.internal:8443", "gateway.example"]
)
def test_another_host_inside_of_a_tunnel(host: str) -> None:
    with pytest.raises(Refusal) as raised:
        routed(host, "/x", TUNNEL)
    assert raised.value.status == 421
