"""Fetching keys from issuers that answer, and from those that answer slowly, hugely, elsewhere or nonsense."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from proxyd.identity.oidc.documents import MAX_DOCUMENT_BYTES, FetchError, fetch_keys, tls_context
from proxyd.settings_files import SettingsError
from tests.pki import SERVER, Authority
from tests.proxyd.identity.oidc.issuing import document, issuer, jwk
from tests.proxyd.identity.oidc.web import Web, ok, status, web

KEYS = document(jwk("rsa"))
DESCRIPTION = "/.well-known/openid-configuration"


async def fetched(url: str, timeout: str = "5s", **settings: Any) -> list[str]:
    configured = issuer(issuer=url, timeout=timeout, **settings)
    found = await fetch_keys(configured, tls_context(configured)[0])
    return [key.id for key in found.keys]


async def test_keys_are_found_by_discovery() -> None:
    async with web() as server:
        server.publish(KEYS)
        assert await fetched(server.url) == ["rsa"]
        assert server.asked == [DESCRIPTION, "/keys"]
        assert "accept-encoding: identity" in server.heads[0].lower()


async def test_an_issuer_below_a_path() -> None:
    async with web() as server:
        url = f"{server.url}/realms/main"
        described = {"issuer": url, "jwks_uri": f"{server.url}/keys"}
        server.answers[f"/realms/main{DESCRIPTION}"] = ok(json.dumps(described).encode())
        server.answers["/keys"] = ok(KEYS)
        assert await fetched(url) == ["rsa"]


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    async with web() as server:
        server.publish(KEYS)
        assert await fetched(server.url) == ["rsa"]


async def stall(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def drip(stream: trio.SocketStream) -> None:
    """One byte, again and again: each read has an answer, and the whole none."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        await stream.send_all(b" ")
        await trio.sleep(0.01)


async def flood(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await stream.send_all(b"10000\r\n" + b" " * 65536 + b"\r\n")


async def endless_head(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"X-More: " + b"a" * 8192 + b"\r\n")


async def hang_up(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


BAD: dict[str, tuple[Any, str]] = {
    "no answer": (stall, "did not answer within"),
    "an answer byte by byte": (drip, "did not answer within"),
    "an endless body": (flood, "more than 1048576 bytes"),
    "an endless head": (endless_head, "cannot be reached"),
    "a body that is cut off": (hang_up, "cannot be reached"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot be reached"),
    "a large body": (ok(b" " * (MAX_DOCUMENT_BYTES + 1)), "more than 1048576 bytes"),
    "HTML": (ok(b"<!doctype html><title>Log in</title>"), "not JSON"),
    "broken JSON": (ok(KEYS[:-5]), "not JSON"),
    "a list": (ok(b"[]"), "not a JSON object"),
    "an error": (status(500, b"{}"), "status 500"),
    "not found": (status(404, b"{}"), "status 404"),
    "nothing": (status(204, b""), "status 204"),
    "a redirect": (status(302, b"", "Location: http://127.0.0.1:1/"), "sends elsewhere"),
    "a redirect for good": (status(308, b"", "Location: /keys2"), "sends elsewhere"),
    "compressed": (ok(gzip.compress(b" " * 1000), "Content-Encoding: gzip"), "compressed"),
}


@pytest.mark.parametrize("path", [DESCRIPTION, "/keys"])
@pytest.mark.parametrize(("answer", "words"), [pytest.param(*case, id=name) for name, case in BAD.items()])
async def test_bad_answers(path: str, answer: Any, words: str) -> None:
    async with web() as server:
        server.publish(KEYS)
        server.answers[path] = answer
        with pytest.raises(FetchError, match=words):
            await fetched(server.url, timeout="300ms" if "did not" in words else "5s")


async def test_a_redirect_is_not_even_tried() -> None:
    async with web() as server:
        server.publish(KEYS)
        server.answers["/keys"] = status(307, b"", "Location: /elsewhere")
        server.answers["/elsewhere"] = ok(KEYS)
        with pytest.raises(FetchError, match="307"):
            await fetched(server.url)
        assert "/elsewhere" not in server.asked


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"issuer": "https://evil.example"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"issuer": ["x"]}, "another issuer"),
        ({"jwks_uri": None}, "does not say where the keys are"),
        ({"jwks_uri": 1}, "does not say where the keys are"),
        ({"jwks_uri": "http://keys.example/"}, "is not https"),
        ({"jwks_uri": "file:///etc/passwd"}, "names no host"),
        ({"jwks_uri": "ftp://127.0.0.1/keys"}, "is not https"),
        ({"jwks_uri": "https://user:pw@127.0.0.1/keys"}, "holds a user name"),
        ({"jwks_uri": "http://127.0.0.1.evil.example/keys"}, "is not https"),
        ({"jwks_uri": "http://[::ffff/keys"}, "is no URL"),
        ({"jwks_uri": "http://127.0.0.1:99999/keys"}, "is no URL"),
        ({"jwks_uri": "/keys"}, "names no host"),
        ({"jwks_uri": "http://127.0.0.1/\r\nX: y"}, "is no URL"),
        ({"jwks_uri": "http://127.0.0.1/" + "a" * 5000}, "is no URL"),
    ],
)
async def test_descriptions_that_are_not_followed(more: dict[str, Any], words: str) -> None:
    async with web() as server:
        server.publish(KEYS, **more)
        with pytest.raises(FetchError, match=words):
            await fetched(server.url)
        assert server.asked == [DESCRIPTION]


@pytest.mark.parametrize("ending", ["/", "?x=1", "x"])
async def test_the_issuer_is_compared_letter_by_letter(ending: str) -> None:
    async with web() as server:
        server.publish(KEYS, issuer=server.url + ending)
        with pytest.raises(FetchError, match="another issuer"):
            await fetched(server.url)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (document(*[jwk("rsa")] * 101), "101 keys"),
        (b'{"keys":1}', "no list"),
    ],
)
async def test_keys_that_are_none(keys: bytes, words: str) -> None:
    async with web() as server:
        server.publish(keys)
        with pytest.raises(FetchError, match=words):
            await fetched(server.url)


async def test_nobody_there() -> None:
    async with web() as server:
        url = server.url
    with pytest.raises(FetchError, match="cannot be reached"):
        await fetched(url)


# --- TLS --------------------------------------------------------------------------------------------------


async def tls_server(
    directory: Path, authority: Authority, use: Callable[[str, Path], Any], **names: Any
) -> None:
    """Serve a sound issuer over TLS, under a certificate for `names`, and `use` its URL and its authority's file."""
    files = authority.issue("issuer", purpose=SERVER, **names).write(directory)
    ca = directory / "ca.crt"
    authority.write_bundle(ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    server = Web()

    async def serve(stream: trio.SocketStream) -> None:
        secure: Any = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await server.serve(secure)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.port = listener.socket.getsockname()[1]
        url = f"https://localhost:{server.port}"
        server.publish(KEYS, issuer=url, jwks_uri=f"{url}/keys")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        await use(url, ca)
        nursery.cancel_scope.cancel()


async def test_tls_by_the_configured_authority(tmp_path: Path) -> None:
    async def use(url: str, ca: Path) -> None:
        assert await fetched(url, ca=ca) == ["rsa"]

    await tls_server(tmp_path, Authority.root("CA"), use, dns=["localhost"])


async def test_tls_by_another_authority(tmp_path: Path) -> None:
    Authority.root("Other").write_bundle(tmp_path / "other.crt")

    async def use(url: str, ca: Path) -> None:
        with pytest.raises(FetchError, match="certificate verify failed"):
            await fetched(url, ca=tmp_path / "other.crt")
        with pytest.raises(FetchError, match="certificate verify failed"):
            await fetched(url)

    await tls_server(tmp_path, Authority.root("CA"), use, dns=["localhost"])


async def test_tls_for_another_name(tmp_path: Path) -> None:
    async def use(url: str, ca: Path) -> None:
        with pytest.raises(FetchError, match="certificate verify failed"):
            await fetched(url, ca=ca)

    await tls_server(tmp_path, Authority.root("CA"), use, dns=["elsewhere.example"])


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff\xfe"])
def test_files_that_hold_no_authority(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.crt").write_bytes(content)
    with pytest.raises(SettingsError, match="PEM"):
        tls_context(issuer(ca=tmp_path / "ca.crt"))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        tls_context(issuer(ca=tmp_path / "ca.crt"))
