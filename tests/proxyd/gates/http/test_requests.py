"""The facts of requests, and what a request becomes for its target."""

from __future__ import annotations

import msgspec
import pytest

from policy.facts import BodyState, HttpFacts
from protocols.http.messages import Headers, RequestHead
from protocols.http.targets import destination
from proxyd.gates.http import requests
from proxyd.gates.http.refusals import Refusal
from proxyd.gates.http.routing import Route
from proxyd.http_credentials.injecting import Injected

ROUTE = Route("api", "", "/v1/x", "/t/api")


def head_of(headers: Headers = (), target: str = "/t/api/v1/x?a=1&b=%20", **more: object) -> RequestHead:
    return RequestHead("POST", target, "https", "gateway.example", headers, **more)  # type: ignore[arg-type]


def facts_of(head: RequestHead, route: Route = ROUTE) -> HttpFacts:
    shown = requests.shown_headers(head.headers, "authorization")
    return requests.head_facts(head, destination(head), route, "api.internal", "https", shown)


def test_facts_are_about_the_target() -> None:
    facts = facts_of(head_of((("content-type", 'Application/JSON; charset="utf-8"'),), body_bytes=3))
    assert (facts.host, facts.scheme, facts.path) == ("api.internal", "https", "/v1/x")
    assert facts.query == (("a", "1"), ("b", " "))
    assert facts.content_type == "application/json"
    assert facts.body_state is BodyState.UNREAD


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "proxy-authorization", "proxyd-login", "x-forwarded-for", "x-forwarded-host"),
        *("forwarded", "x-real-ip", "x-ssl-client-cert", "remote-user", "x_forwarded_for"),
        *("remote-groups", "x-remote-group", "impersonate-user", "impersonate-group", "x-auth-request-email"),
        *("x-webauth-user", "x-amzn-oidc-identity", "x-goog-authenticated-user-email", "cf-connecting-ip"),
        *("x-ms-client-principal", "x-original-url", "x-original-forwarded-for", "x-override-url", "proxy"),
        *("x-middleware-subrequest", "x-envoy-original-path", "x_original_url"),
    ],
)
def test_what_no_target_gets_from_a_client(name: str) -> None:
    assert requests.shown_headers(((name, "x"), ("accept", "*/*")), "") == (("accept", "*/*"),)


def test_a_token_does_not_go_on_wherever_it_was() -> None:
    headers = (("x-api-key", "the token"), ("accept", "*/*"))
    assert requests.shown_headers(headers, "x-api-key") == (("accept", "*/*"),)


def test_a_token_that_is_sent_twice_goes_on_in_neither_field() -> None:
    headers = (("authorization", "Bearer t.o.k"), ("x-api-key", "t.o.k"), ("api-key", "of the target"))
    assert requests.shown_headers(headers, "authorization") == (("api-key", "of the target"),)


@pytest.mark.parametrize(
    ("content_type", "body", "state", "value"),
    [
        ("application/json", b'{"a": 1}', BodyState.JSON, {"a": 1}),
        ("application/merge-patch+json", b"[1]", BodyState.JSON, [1]),
        ("application/json", b'{"a": 1, "a": 2}', BodyState.BROKEN, None),
        ("application/json", b'{"a": ', BodyState.BROKEN, None),
        ("application/json", b"[" * 1000 + b"]" * 1000, BodyState.BROKEN, None),
        ("application/json", b"", BodyState.NONE, None),
        (requests.FORM, b"a=1&b=%41+c&a=2", BodyState.FORM, {"a": ["1", "2"], "b": ["A c"]}),
        (requests.FORM, b"a=%zz", BodyState.BROKEN, None),
        (requests.FORM, "a=\u00e9".encode(), BodyState.BROKEN, None),
        ("text/plain", b'{"a": 1}', BodyState.UNKNOWN, None),
        ('application/json; charset="UTF-8"; x=y', b'{"a": 1}', BodyState.JSON, {"a": 1}),
        ("application/json; charset=utf-7", b'{"x": "+ACI-"}', BodyState.UNKNOWN, None),
        ("application/json; charset=utf-16", b'{"a": 1}', BodyState.UNKNOWN, None),
        ("application/json; charset=utf-8; charset=utf-7", b'{"a": 1}', BodyState.UNKNOWN, None),
        ("application/json; charset", b'{"a": 1}', BodyState.UNKNOWN, None),
        (f"{requests.FORM}; charset=ibm037", b"a=1", BodyState.UNKNOWN, None),
        ("", b'{"a": 1}', BodyState.UNKNOWN, None),
    ],
)
def test_bodies(content_type: str, body: bytes, state: BodyState, value: object) -> None:
    facts = facts_of(head_of((("content-type", content_type),), body_bytes=len(body)))
    read = requests.with_body(facts, body, "", is_whole=True)
    assert read.body_state is state
    assert read.body == value
    assert read.body_bytes == len(body)


def test_a_long_body_is_read_as_far_as_it_was_let_in() -> None:
    body = b'{"a": "%b"}' % (b"x" * (2 << 20))
    facts = facts_of(head_of((("content-type", "application/json"),), body_bytes=len(body)))
    assert requests.with_body(facts, body, "", is_whole=True).body_state is BodyState.JSON


@pytest.mark.parametrize("second", ["application/json", "text/plain"])
def test_two_types_of_one_body(second: str) -> None:
    headers = (("content-type", "application/json"), ("accept", "*/*"))
    requests.refuse_doubled_fields(headers)
    with pytest.raises(Refusal) as raised:
        requests.refuse_doubled_fields((*headers, ("content-type", second)))
    assert raised.value.status == 400


def test_a_token_does_not_go_on_in_the_place_of_a_key() -> None:
    headers = (
        ("x-api-key", "ours"),
        ("api-key", "Bearer ours"),
        ("x-goog-api-key", "its"),
        ("x-other", "ours"),
    )
    kept = requests.without_tokens(headers, lambda text: text == "ours")
    assert kept == (("x-goog-api-key", "its"), ("x-other", "ours"))
    assert requests.without_tokens(headers[3:], lambda text: True) == headers[3:]


def test_the_key_says_who_pays() -> None:
    headers = (("openai-organization", "org-1"), ("openai-beta", "x"), ("anthropic-workspace-id", "w"))
    assert requests.without_payers(headers) == (("openai-beta", "x"),)


def test_a_compressed_body_is_unknown() -> None:
    facts = facts_of(head_of((("content-type", "application/json"),), body_bytes=None))
    assert requests.with_body(facts, b'{"a": 1}', "gzip", is_whole=True).body_state is BodyState.UNKNOWN


def test_a_body_over_the_limit() -> None:
    facts = facts_of(head_of((("content-type", "application/json"),), body_bytes=None))
    read = requests.with_body(facts, b'{"a": 1}', "", is_whole=False)
    assert (read.body_state, read.body, read.body_bytes) == (BodyState.TOO_LARGE, None, None)


def sent(
    headers: Headers = (), *, is_masked: bool = False, target: str = "/t/api/v1/x?a=1", **more: object
) -> RequestHead:
    return made_of(head_of(headers, target, **more), is_masked=is_masked)


def made_of(head: RequestHead, *, is_masked: bool) -> RequestHead:
    return requests.target_head(
        head,
        ROUTE,
        destination(head),
        requests.shown_headers(head.headers, ""),
        base_path="/base",
        authority="api.internal:8443",
        scheme="https",
        body_bytes=0,
        is_masked=is_masked,
    )


def test_the_request_is_made_anew() -> None:
    head = sent(
        (("accept", "*/*"), ("accept-encoding", "gzip"), ("host", "evil"), ("te", "trailers, deflate"))
    )
    assert (head.target, head.authority) == ("/base/v1/x?a=1", "api.internal:8443")
    assert head.headers == (("accept", "*/*"), ("te", "trailers"), ("accept-encoding", "gzip"))


def test_under_masks_the_answer_has_to_be_readable_and_whole() -> None:
    parts = (
        ("range", "bytes=0-1"),
        ("if-range", "x"),
        ("request-range", "bytes=0-1"),
        ("x-ms-range", "bytes=0-1"),
    )
    headers = (("accept-encoding", "gzip, br"), *parts, ("accept", "*/*"))
    assert sent(headers, is_masked=True).headers == (("accept", "*/*"), ("accept-encoding", "identity"))


def test_under_masks_nobody_finds_out_whether_a_body_is_the_one_that_they_think_of() -> None:
    guess = (("if-none-match", '"5d41402a"'), ("if-match", '"5d41402a"'), ("if-modified-since", "x"))
    reading, writing = head_of(guess, "/t/api/v1/x?a=1"), head_of(guess)
    reading = msgspec.structs.replace(reading, method="GET")
    for head, is_masked, expected in (
        (reading, True, ["if-modified-since"]),
        (reading, False, ["if-none-match", "if-match", "if-modified-since"]),
        (writing, True, ["if-none-match", "if-match", "if-modified-since"]),
    ):
        sent_on = made_of(head, is_masked=is_masked)
        assert [name for name, _ in sent_on.headers if name.startswith("if-")] == expected


def test_an_upgrade_has_no_extensions_and_no_key_of_the_clients() -> None:
    own = (("sec-websocket-extensions", "permessage-deflate"), ("sec-websocket-key", "x"))
    passed = (("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"))
    assert sent((*own, *passed), upgrade="websocket").headers == passed


def test_the_credential_takes_the_place_of_all_of_its_name() -> None:
    head = sent((("x-key", "one"), ("x-key", "two"), ("x-other", "gone"), ("accept", "*/*")))
    injected = requests.with_credential(head, Injected((("x-key", "ours"),), frozenset({"x-other"})))
    assert injected.headers == (("accept", "*/*"), ("x-key", "ours"))


def test_behind_the_body_nothing_is_said_that_the_head_has_said() -> None:
    head = RequestHead("POST", "/", "https", "a", (("x-key", "ours"), ("x-env", "test")))
    trailers = (("x-sum", "1"), ("x-key", "theirs"), ("x_env", "dev"), ("x-original-url", "/admin"))
    assert requests.trailers_behind(head, trailers) == (("x-sum", "1"),)
    assert requests.trailers_behind(head, ()) == ()


@pytest.mark.parametrize("name", ["x_key", "x-key_", "x_other"])
def test_an_underscore_is_a_dash_to_some_servers(name: str) -> None:
    head = sent(((name, "of the client"), ("accept", "*/*")))
    injected = requests.with_credential(
        head, Injected((("x-key", "ours"), ("x-key-", "ours")), frozenset({"x-other"}))
    )
    assert injected.headers == (("accept", "*/*"), ("x-key", "ours"), ("x-key-", "ours"))
