from __future__ import annotations

from pathlib import Path

import pytest

from policy.facts import BodyState
from proxyd.tape.har import HarExport
from proxyd.tape.http_secrets import (
    REMOVED,
    without_header_secrets,
    without_query_secrets,
    without_url_secrets,
)
from proxyd.tape.json_lines import entry_json
from proxyd.tape.reader import read_tape
from proxyd.tape.render import Renderer
from tests.proxyd.tape.http_tapes import ALLOWED, DENIED, HEADERS, URL, facts, http_tape
from tests.proxyd.tape.tapes import Clock

SECRET = "hunter2ThatNobodyMaySee"

SECRET_HEADERS = [
    "authorization",
    "Authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "X-API-Key",
    "api-key",
    "apikey",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "x-functions-key",
    "x-auth-token",
    "x-amz-security-token",
    "x-vault-token",
    "x-csrf-token",
    "x-hub-signature-256",
    "signature",
    "signature-input",
    "client-secret",
    "x-credentials",
    "x-password",
    "x-access-key",
    "private-key",
    "client-assertion",
    "authentication-info",
    "dpop",
    "x-tokens",
    "private-token",
    "x-authorization",
    "x-session-id",
    "mcp-session-id",
    "x-oauth",
    "x-amz-server-side-encryption-customer-key",
]

KEPT_HEADERS = [
    ("content-type", "application/json"),
    ("x-ratelimit-remaining-tokens", "149984"),
    ("anthropic-ratelimit-tokens-reset", "2025-07-20T08:00:00Z"),
    ("x-used-tokens", "12"),
    ("cache-control", "max-age=0, no-cache"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-protocol", "graphql-ws"),
    ("location", "/next?page=2"),
    ("www-authenticate", 'Bearer realm="x", error="invalid_token"'),
    ("etag", '"abc=="'),
    ("content-disposition", 'attachment; filename="a.txt"'),
    ("x-keyboard", "qwerty"),
]


@pytest.mark.parametrize("name", SECRET_HEADERS)
def test_headers_that_are_secret_by_name(name: str) -> None:
    before = (("accept", "*/*"), (name, SECRET), ("host", "x"))
    assert without_header_secrets(before) == (("accept", "*/*"), (name, REMOVED), ("host", "x"))


@pytest.mark.parametrize("header", KEPT_HEADERS, ids=[name for name, _ in KEPT_HEADERS])
def test_headers_that_are_not(header: tuple[str, str]) -> None:
    assert without_header_secrets((header,)) == (header,)


def test_headers_that_are_secret_here_only() -> None:
    more = frozenset({"x-pin"})
    assert without_header_secrets((("X-Pin", "1"), ("x-pins", "2")), more=more) == (
        ("X-Pin", REMOVED),
        ("x-pins", "2"),
    )


def test_headers_without_secrets_stay_the_same_object() -> None:
    assert without_header_secrets(HEADERS) is HEADERS


@pytest.mark.parametrize(
    "value",
    [
        f"bearer, {SECRET}",
        f"openai-insecure-api-key.{SECRET}, realtime",
        f"base64url.bearer.authorization.k8s.io.{SECRET}",
    ],
)
def test_subprotocols_can_be_credentials(value: str) -> None:
    assert without_header_secrets((("Sec-WebSocket-Protocol", value),))[0][1] == REMOVED


@pytest.mark.parametrize(
    "name", ["location", "referer", "content-location", "link", "refresh", "x-forwarded-uri"]
)
@pytest.mark.parametrize(
    "value",
    [
        f"https://x/cb?access_token={SECRET}&state=1",
        f"https://x/cb#access_token={SECRET}",
        f"</a?sig={SECRET}>; rel=next",
        f"5; url=/a?key={SECRET}",
        f"https://alice:{SECRET}@x/",
    ],
)
def test_urls_in_headers(name: str, value: str) -> None:
    shown = without_header_secrets(((name, value),))[0][1]
    assert SECRET not in shown
    assert REMOVED in shown


SECRET_URLS = [
    f"https://api/cb?code={SECRET * 2}&state=1",
    f"https://api/x?session={SECRET * 2}",
    f"https://api/x?SAMLResponse={SECRET}",
    f"https://api/x?x-session-id={SECRET}",
    f"https://api/x?access_token={SECRET}",
    f"https://api/x?a=1&ACCESS_TOKEN={SECRET}&b=2",
    f"https://api/x?acc%65ss_token={SECRET}",
    f"https://api/x?api_key={SECRET}",
    f"https://api/x?api-key={SECRET}",
    f"https://api/x?apikey={SECRET}",
    f"https://api/x?key={SECRET}",
    f"https://api/x?sig={SECRET}",
    f"https://api/x?signature={SECRET}",
    f"https://api/x?X-Amz-Signature={SECRET}&X-Amz-Date=1",
    f"https://api/x?X-Amz-Security-Token={SECRET}",
    f"https://api/x?X-Amz-Credential={SECRET}",
    f"https://api/x?client_secret={SECRET}",
    f"https://api/x?password={SECRET}",
    f"https://api/x?id_token={SECRET}",
    f"https://api/x?refresh_token={SECRET}",
    f"https://api/x?a=1;token={SECRET}",
    f"https://api/x;jsessionid={SECRET}?a=1",
    f"https://api/x?a=b?token={SECRET}",
    f"https://api/x?token={SECRET}%26more",
    f"https://api/x?token={SECRET}=",
    f'https://api/x?token="{SECRET} {SECRET}"',
    f"https://api/x?redirect_uri=https%3A%2F%2Fy%2F%3Faccess_token%3D{SECRET}",
    f"https://api/x?redirect_uri=https%3A%2F%2Fy%2F%3Fu%3Dhttps%253A%252F%252Fz%253Ftoken%253D{SECRET}",
    f"https://api/x?next=https%3A%2F%2Falice%3A{SECRET}%40y%2F",
    f"https://alice:{SECRET}@api/x",
    f"//{SECRET}@api/x",
    f"/x?access_token={SECRET}",
    f"/x?jwt={SECRET}",
    f"/x?max_tokens={SECRET}",
    f"/x?%20token%20={SECRET}",
    f"/x?access_token[]={SECRET}",
    f"access_token={SECRET}",
    f"https://api/to/https%3A%2F%2Fy%2F%3Faccess_token%3D{SECRET}",
    f"https://api/to/https%253A%252F%252Fy%252F%253Faccess_token%253D{SECRET}/more?a=1",
    f"https://api/to/https%3A%2F%2Falice%3A{SECRET}%40y",
    f"%2Fx%3Ftoken%3D{SECRET}",
]


@pytest.mark.parametrize("url", SECRET_URLS)
def test_secrets_in_urls(url: str) -> None:
    shown = without_url_secrets(url)
    assert SECRET not in shown
    assert REMOVED in shown
    assert without_url_secrets(shown) == shown


@pytest.mark.parametrize(
    "url",
    [
        "https://api/x?a=1&b=2&max_tokens=100",
        "https://api/x",
        "https://api/x?mail=a@b.example",
        "/x?status=open&status=closed&q=a%26b",
        "/x?q=%ff%fe",
        "/x?code=418&session=morning",
        "/x?monkey=1&keyboard=2&design=3&author=x",
        "*",
        "",
        "?=&==&",
        "/a%20b/c%2Fd%3Fe%3Df",
        "/100%/%zz",
    ],
)
def test_urls_without_secrets_stay_as_they_are(url: str) -> None:
    assert without_url_secrets(url) is url or without_url_secrets(url) == url


def test_parameters() -> None:
    before = (("q", "x"), ("access_token", SECRET), ("max_tokens", "5"), ("u", f"https://y?key={SECRET}"))
    assert without_query_secrets(before) == (
        ("q", "x"),
        ("access_token", REMOVED),
        ("max_tokens", "5"),
        ("u", f"https://y?key={REMOVED}"),
    )
    clean = (("q", "x"),)
    assert without_query_secrets(clean) is clean


def test_a_long_text_full_of_delimiters_is_quick() -> None:
    for text in (
        "&" * 100_000,
        "a" * 100_000 + "=",
        "=" * 100_000,
        "?a" * 50_000 + "=",
        "//" * 50_000 + "@",
        "%" * 100_000,
        "a" * 100_000 + "%20",
        "%25" * 50_000,
        "a=%253D" * 20_000,
    ):
        without_url_secrets(text)
        without_header_secrets((("x", text),))


@pytest.mark.parametrize("url", SECRET_URLS)
def test_secrets_of_urls_are_nowhere_on_the_tape(tmp_path: Path, url: str) -> None:
    """Not in the request, the judgement, its facts, the answer's headers, nor in anything made of the tape."""
    tape = http_tape(tmp_path, Clock())
    query = tuple(tuple(part.split("=", 1)) for part in ("a=1", f"access_token={SECRET}"))
    seen = facts(
        f"/x;token={SECRET}",
        query=query,
        headers=(("authorization", SECRET), ("x-u", url)),
        other_paths=(f"/y;sid={SECRET}",),
        body_state=BodyState.JSON,
        body={"a": 1},
    )
    for number, (decision, known) in enumerate(((ALLOWED, seen), (DENIED, facts(headers=seen.headers)))):
        tape.request(number, "GET", url, "1.1", (("cookie", SECRET), ("referer", url)), known, decision)
        tape.request_end(number, (("x-auth-token", SECRET),))
        tape.response(number, 302, (("set-cookie", SECRET), ("location", url)), made_here=False)
        tape.response_end(number, (("x-signature", SECRET), ("x-url", url)))
    tape.end("left")
    assert SECRET.encode() not in tape.path.read_bytes()
    with read_tape(tape.path) as read:
        assert read.header is not None
        renderer = Renderer(read.header, detailed=True)
        entries = list(read.entries())
        shown = "\n".join(line for entry in entries for line in renderer.lines(entry))
        lines = "\n".join(entry_json(entry) for entry in entries)
        with HarExport(read.header) as har:
            exported = "".join(har.pieces(entries, lambda: ""))
    for text in (shown, lines, exported):
        assert SECRET not in text
        assert REMOVED in text


@pytest.mark.parametrize("name", SECRET_HEADERS)
def test_secret_headers_are_nowhere_on_the_tape(tmp_path: Path, name: str) -> None:
    tape = http_tape(tmp_path, secret_headers=frozenset({"x-ours"}))
    headers = ((name, SECRET), ("x-ours", SECRET), ("accept", "*/*"))
    tape.request(1, "GET", URL, "1.1", headers, facts(headers=headers), ALLOWED)
    tape.request_end(1, headers)
    tape.response(1, 200, headers, made_here=False)
    tape.response_end(1, headers)
    tape.end("left")
    raw = tape.path.read_bytes()
    assert SECRET.encode() not in raw
    assert raw.count(REMOVED.encode()) == 8  # facts, one head for both ways, two ends
