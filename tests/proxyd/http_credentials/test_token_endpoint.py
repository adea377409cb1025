"""One request to a token endpoint: a real issuer, and whatever else may answer in its place."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
import trio

from demo.issuer import Client, LocalIssuer
from policy.located_yaml import parse, validate
from proxyd.config import HttpOAuth2
from proxyd.http_credentials import token_endpoint
from proxyd.http_credentials.token_endpoint import Token, TokenEndpointError, fetch_token, read_token
from tests.pki import SERVER, Authority

SECRET = "p:s%t+&-of-the-gateway-itself"


def login_at(url: str, more: str = "") -> HttpOAuth2:
    ca = ", ca: system" if url.startswith("https") else ""
    text = f"{{token_url: '{url}', client_id: gate, client_secret: {{file: secret}}{ca}{more}}}"
    return validate(HttpOAuth2, parse(text, "login"), context={"directory": Path("/")})


# --- a real issuer ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIssuer]:
    directory = tmp_path_factory.mktemp("issuer")
    authority = Authority.root()
    files = authority.issue("issuer", dns=["localhost"], purpose=SERVER).write(directory)
    ca = authority.write_bundle(directory / "ca.crt")
    clients = (Client("gate", SECRET, {"team": "blue"}, seconds=600),)
    made = LocalIssuer(directory, files.certificate, files.key, ca, clients, audience="api")
    made.start()
    try:
        assert made.kind == "oidc-provider"
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("authentication", ["client_secret_basic", "client_secret_post"])
async def test_a_real_issuer(issuer: LocalIssuer, authentication: str) -> None:
    trusted = ssl.create_default_context(cafile=str(issuer.ca))
    login = login_at(f"{issuer.url}/token", f", client_authentication: {authentication}, scope: openid")
    token = await fetch_token(login, SECRET, trusted)
    claims = jwt.decode(token.value, options={"verify_signature": False})
    assert (claims["aud"], claims["client_id"], claims["team"], claims["scope"]) == (
        "api",
        "gate",
        "blue",
        "openid",
    )
    assert token.lifetime_s == 600


async def test_a_real_issuer_refuses_a_wrong_secret(issuer: LocalIssuer) -> None:
    trusted = ssl.create_default_context(cafile=str(issuer.ca))
    with pytest.raises(TokenEndpointError, match=r"^status 401 \(invalid_client\)$"):
        await fetch_token(login_at(f"{issuer.url}/token"), "wrong", trusted)


async def test_a_real_issuer_that_nobody_vouches_for(issuer: LocalIssuer, tmp_path: Path) -> None:
    other = ssl.create_default_context(cafile=str(Authority.root("Other").write_bundle(tmp_path / "ca.crt")))
    with pytest.raises(TokenEndpointError, match="certificate verify failed"):
        await fetch_token(login_at(f"{issuer.url}/token"), SECRET, other)


# --- anything else ----------------------------------------------------------------------------------------


async def ask(answer: bytes, more: str = "") -> tuple[bytes, Token | str]:
    """What a server sees that gives `answer` (none: it stays silent), and what comes of it."""
    seen = b""

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal seen
        while b"client_credentials" not in seen:
            seen += await stream.receive_some()
        if not answer:
            await trio.sleep_forever()
        with trio.move_on_after(5):
            try:
                await stream.send_all(answer)
            except trio.BrokenResourceError:
                return

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        try:
            result: Token | str = await fetch_token(
                login_at(f"http://127.0.0.1:{port}/token", more), SECRET, None
            )
        except TokenEndpointError as error:
            result = str(error)
        nursery.cancel_scope.cancel()
    return seen, result


def answer_of(body: bytes | dict[str, object], status: str = "200 OK", headers: str = "") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode() + content


GOOD: dict[str, object] = {"access_token": "T", "token_type": "Bearer", "expires_in": 60}


async def test_what_is_asked_for() -> None:
    seen, token = await ask(answer_of(GOOD), ", scope: 'read write', audience: 'urn:api'")
    assert token == Token("T", 60.0)
    head, _, body = seen.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /token HTTP/1.1\r\n")
    assert b"uthorization: Basic Z2F0ZTpwJTNBcyUyNXQlMkIlMjYtb2YtdGhlLWdhdGV3YXktaXRzZWxm" in head
    assert body == b"grant_type=client_credentials&scope=read+write&audience=urn%3Aapi"


ANSWERS: list[tuple[bytes, str]] = [
    (answer_of(GOOD, "302 Found", "Location: http://127.0.0.1:1/\r\n"), "status 302"),
    (
        answer_of({"error": "invalid_scope", "error_description": SECRET}, "400 Bad"),
        "status 400 (invalid_scope)",
    ),
    (answer_of({"error": SECRET}, "400 Bad Request"), "status 400"),
    (answer_of(b"<html>down</html>", "503 Down"), "status 503"),
    (answer_of(b"<html>login</html>"), "an answer that is not the JSON of a token"),
    (answer_of(b'{"a":' * 20_000, "200 OK"), "an answer of more than 65536 bytes"),
    (answer_of(b"[" * 60_000), "an answer that is not the JSON of a token"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000, "an answer of more than 65536 bytes"),
    (b"SSH-2.0-OpenSSH\r\n", "cannot be reached ("),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "cannot be reached ("),
]


@pytest.mark.parametrize(("answer", "words"), ANSWERS)
async def test_answers_that_bring_no_token(answer: bytes, words: str) -> None:
    _, result = await ask(answer)
    assert isinstance(result, str)
    assert result.startswith(words)
    assert "gateway-itself" not in result


async def test_silence() -> None:
    _, result = await ask(b"", ", timeout: 250ms")
    assert result == "no answer within 0.25 seconds"


async def test_nobody_there() -> None:
    with pytest.raises(TokenEndpointError, match="cannot be reached"):
        await fetch_token(login_at("http://127.0.0.1:1/token"), SECRET, None)


async def test_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    _, result = await ask(answer_of(GOOD))
    assert result == Token("T", 60.0)


@pytest.mark.parametrize(
    ("changed", "lifetime_s"),
    [
        ({}, 60.0),
        ({"expires_in": "3600"}, 3600.0),
        ({"expires_in": None}, token_endpoint.UNSAID_LIFETIME_S),
        ({"expires_in": 10**9}, token_endpoint.LONGEST_LIFETIME_S),
        ({"token_type": "bearer", "scope": "x", "more": [1]}, 60.0),
    ],
)
def test_tokens(changed: dict[str, object], lifetime_s: float) -> None:
    assert read_token(json.dumps({**GOOD, **changed}).encode()) == Token("T", lifetime_s)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"token_type": "mac"}, "another type"),
        ({"token_type": None}, "not the JSON of a token"),
        ({"access_token": ""}, "does not fit into a header field"),
        ({"access_token": "a b"}, "does not fit into a header field"),
        ({"access_token": "a\r\nHost: evil"}, "does not fit into a header field"),
        ({"access_token": "x" * 20_000}, "does not fit into a header field"),
        ({"access_token": 5}, "not the JSON of a token"),
        ({"expires_in": 0}, "has ended already"),
        ({"expires_in": -5}, "has ended already"),
        ({"expires_in": "soon"}, "no number"),
        ({"expires_in": "nan"}, "has ended already"),
        ({"expires_in": "inf"}, "has ended already"),
    ],
)
def test_tokens_that_are_none(changed: dict[str, object], words: str) -> None:
    with pytest.raises(TokenEndpointError, match=words):
        read_token(json.dumps({**GOOD, **changed}).encode())
