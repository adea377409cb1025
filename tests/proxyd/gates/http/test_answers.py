"""What becomes of the head of an answer: redirects and cookies below a prefix, fields that lead around the gateway."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from protocols.http.messages import Headers
from proxyd.gates.http.answers import client_headers
from proxyd.gates.http.routing import Route

ORIGIN = "https://api.internal:8443"
PREFIXED = Route("api", "", "/x", "/t/api")
HOSTED = Route("api", "", "/x", "")


@dataclass(frozen=True)
class Place:
    origin: str = ORIGIN
    base_path: str = ""


def placed(headers: Headers, route: Route = PREFIXED, base_path: str = "") -> Headers:
    return client_headers(headers, route, Place(base_path=base_path), is_changed=False)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/login?next=/x", "/t/api/login?next=/x"),
        ("/", "/t/api/"),
        (ORIGIN, "/t/api/"),
        (f"{ORIGIN}/a", "/t/api/a"),
        (f"{ORIGIN}.evil.example/a", f"{ORIGIN}.evil.example/a"),
        ("https://elsewhere.example/a", "https://elsewhere.example/a"),
        ("//elsewhere.example/a", "//elsewhere.example/a"),
        ("relative", "relative"),
        ("?page=2", "?page=2"),
    ],
)
def test_redirects_below_a_prefix(location: str, expected: str) -> None:
    assert placed((("location", location),)) == (("location", expected),)


@pytest.mark.parametrize(
    ("location", "expected"),
    [("/base/a", "/t/api/a"), ("/base", "/t/api/"), ("/basement/a", "/basement/a"), ("/other", "/other")],
)
def test_redirects_below_a_base_path(location: str, expected: str) -> None:
    assert placed((("location", location),), base_path="/base") == (("location", expected),)


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        ("a=b", "a=b; Path=/t/api/"),
        ("a=b; Path=/x; Secure", "a=b; Secure; Path=/t/api/x"),
        ("a=b; path=/; DOMAIN=example.com; HttpOnly", "a=b; HttpOnly; Path=/t/api/"),
        ("a=b; Path=x", "a=b; Path=/t/api/"),
        ("a=b; Domain =example.com; Path\t= /x", "a=b; Path=/t/api/x"),
    ],
)
def test_cookies_of_one_target_stay_with_it(cookie: str, expected: str) -> None:
    assert placed((("set-cookie", cookie),)) == (("set-cookie", expected),)
    assert placed((("set-cookie", cookie),), HOSTED) == (("set-cookie", cookie),)


def test_cookies_of_one_host_are_not_for_the_others_of_the_domain() -> None:
    headers = (("set-cookie", "a=b; Domain=gateway.example; Path=/; domain = x; Secure"),)
    named = Route("api", "", "/x", "", is_host_name=True)
    assert placed(headers, named) == (("set-cookie", "a=b; Path=/; Secure"),)


@pytest.mark.parametrize("name", ["service-worker-allowed", "clear-site-data", "strict-transport-security"])
def test_under_a_prefix_no_target_speaks_for_the_origin(name: str) -> None:
    assert placed(((name, "/"), ("server", "x"))) == (("server", "x"),)
    assert placed(((name, "/"), ("server", "x")), HOSTED) == ((name, "/"), ("server", "x"))


def test_what_would_lead_around_the_gateway() -> None:
    assert placed((("alt-svc", 'h3=":443"'), ("server", "x"))) == (("server", "x"),)


def test_what_says_something_of_another_body() -> None:
    headers = (
        ("etag", '"1"'),
        ("content-encoding", "gzip"),
        ("content-range", "bytes 0-1/2"),
        ("grpc-message", "ada@example.com is taken"),
        ("grpc-status-details-bin", "YWRh"),
        ("server", "x"),
    )
    assert client_headers(headers, HOSTED, Place(), is_changed=True) == (("server", "x"),)
    assert client_headers(headers, HOSTED, Place(), is_changed=False) == headers
