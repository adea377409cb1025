"""HTTP's clients through the gateway, each as its users run it: curl, httpx, aiohttp, websockets, grpcio.

The SDKs of model providers are in `test_models`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import httpx
import pytest
import websockets
import websockets.sync.client

from tests.end_to_end.http_gateway import DOMAIN, HttpGateway
from tests.end_to_end.running import HOST

MEGABYTE = 1_000_000
VERSIONS = ["--http1.1", "--http2"]


# --- curl -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("target", ["app", "app2"])
def test_curl_up_and_down(http_gateway: HttpGateway, tmp_path: Path, version: str, target: str) -> None:
    sent = os.urandom(3 * MEGABYTE)
    (tmp_path / "sent").write_bytes(sent)
    done = http_gateway.curl(
        f"/t/{target}/typed?type=application/octet-stream",
        *(version, "--data-binary", f"@{tmp_path / 'sent'}"),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(sent).digest()


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_streams_an_upload_of_unknown_length(http_gateway: HttpGateway, version: str) -> None:
    done = http_gateway.curl(
        "/t/app/echo", version, "--request", "PUT", "--upload-file", "-", data=b"a" * MEGABYTE
    )
    assert json.loads(done.stdout)["length"] == MEGABYTE


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_waits_for_the_100(http_gateway: HttpGateway, version: str) -> None:
    done = http_gateway.curl(
        "/t/app/echo", version, "--include", "--header", "Expect: 100-continue", "--data", "x" * 2000
    )
    assert b"200" in done.stdout
    assert b'"length": 2000' in done.stdout
    if version == "--http1.1":
        assert b"HTTP/1.1 100" in done.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_sees_a_denial_and_goes_on(http_gateway: HttpGateway, version: str) -> None:
    done = http_gateway.curl(
        "/t/app/echo",
        version,
        "--write-out",
        "\n%{http_code} %{num_connects}\n",
        f"{http_gateway.url}/t/app/admin/x",  # comes first
    )
    assert b"The admin API is not open through the gateway." in done.stdout
    assert b"\n200 0\n" in done.stdout  # the second request needed no second connection


def test_curl_by_a_virtual_host(http_gateway: HttpGateway) -> None:
    name = f"app.{DOMAIN}"
    done = http_gateway.curl(
        f"https://{name}:{http_gateway.port}/echo", "--resolve", f"{name}:{http_gateway.port}:{HOST}"
    )
    assert json.loads(done.stdout)["path"] == "/echo"


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_through_a_tunnel(http_gateway: HttpGateway, version: str) -> None:
    """HTTPS_PROXY: curl knows the target by its own name and trusts the gateway's authority for it."""
    token = http_gateway.token("agent-alice")
    done = http_gateway.curl(
        "https://app.internal/echo",
        *(version, "--proxy", http_gateway.url, "--proxy-cacert", str(http_gateway.ca)),
        *("--proxy-user", f"anybody:{token}", "--cacert", str(http_gateway.inspection_ca)),
        person=None,
    )
    told = json.loads(done.stdout)
    assert told["path"] == "/echo"
    assert token not in done.stdout.decode()


def test_curl_does_not_trust_the_tunnel(http_gateway: HttpGateway) -> None:
    done = http_gateway.curl(
        "https://app.internal/echo",
        *("--proxy", http_gateway.url, "--proxy-cacert", str(http_gateway.ca)),
        *("--proxy-user", f"anybody:{http_gateway.token('agent-alice')}"),
        person=None,
    )
    assert done.returncode != 0
    assert b"echo" not in done.stdout


@pytest.mark.parametrize("place", ["elsewhere.example:443", "app.internal:22", "localhost:443"])
def test_curl_finds_no_tunnel_elsewhere(http_gateway: HttpGateway, place: str) -> None:
    done = http_gateway.curl(
        f"https://{place}/",
        *("--proxy", http_gateway.url, "--proxy-cacert", str(http_gateway.ca)),
        *("--proxy-user", f"anybody:{http_gateway.token('agent-alice')}"),
        person=None,
    )
    assert done.returncode == 56  # CURLE_RECV_ERROR: the tunnel was refused
    assert b"403" in done.stderr


def test_curl_asks_for_a_websocket(http_gateway: HttpGateway) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    done = http_gateway.curl(
        "/t/app/ws",
        *("--http1.1", "--include", "--max-time", "3", "--header", "Connection: Upgrade"),
        *("--header", "Upgrade: websocket", "--header", "Sec-WebSocket-Version: 13"),
        *("--header", f"Sec-WebSocket-Key: {key}"),
    )
    expected = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())  # noqa: S324
    assert b"HTTP/1.1 101" in done.stdout
    assert expected in done.stdout


# --- httpx and aiohttp ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("http2", [False, True])
def test_httpx_reads_events_as_they_come(http_gateway: HttpGateway, *, http2: bool) -> None:
    with http_gateway.client(http2=http2) as client, client.stream("GET", "/t/app/sse?n=3") as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert len(lines) == 4
    assert lines[-1] == "data: [DONE]"


@pytest.mark.parametrize("http2", [False, True])
def test_httpx_follows_a_redirect(http_gateway: HttpGateway, *, http2: bool) -> None:
    with http_gateway.client(http2=http2, follow_redirects=True) as client:
        answer = client.get("/t/app/redirect?to=/echo")
        assert answer.json()["path"] == "/echo"
        assert str(answer.url).endswith("/t/app/echo")
        assert client.cookies.get("seen", path="/t/app/") == "1"


@pytest.mark.parametrize("http2", [False, True])
def test_httpx_sends_to_the_end_what_is_refused_before(http_gateway: HttpGateway, *, http2: bool) -> None:
    with http_gateway.client(http2=http2) as client:
        for _ in range(2):
            answer = client.post(
                "/t/app/admin/x", content=b"x" * 800_000
            )  # more than a stream's first window
            assert (answer.status_code, answer.json()["rule"]) == (403, "no-admin")
        assert client.get("/t/app/echo").status_code == 200


def test_httpx_many_at_a_time_over_one_connection(http_gateway: HttpGateway) -> None:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            base_url=http_gateway.url, verify=http_gateway.context(), http2=True, trust_env=False
        ) as client:
            await client.get("/t/app/echo")
            return await asyncio.gather(*(client.get(f"/t/app2/echo?n={number}") for number in range(60)))

    answers = asyncio.run(ask())
    assert [answer.json()["query"] for answer in answers] == [f"n={number}" for number in range(60)]


def test_httpx_sees_that_an_answer_is_not_whole(http_gateway: HttpGateway) -> None:
    for http2 in (False, True):
        with http_gateway.client(http2=http2) as client, pytest.raises(httpx.RemoteProtocolError):
            client.get("/t/app/broken")


def test_aiohttp(http_gateway: HttpGateway) -> None:
    async def ask() -> tuple[dict[str, Any], int, bytes]:
        token = http_gateway.token("agent-alice")
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {token}"}) as session:
            context = http_gateway.context(None)
            async with session.post(f"{http_gateway.url}/t/app/echo", json={"a": 1}, ssl=context) as answer:
                told = await answer.json()
            async with session.get(f"{http_gateway.url}/t/app/admin/x", ssl=context) as denied:
                status = denied.status
            async with session.get(
                f"{http_gateway.url}/t/app/bytes?n=500000&chunk=999", ssl=context
            ) as answer:
                return told, status, await answer.read()

    told, status, data = asyncio.run(ask())
    assert (told["body"], status, len(data)) == ('{"a": 1}', 403, 500_000)


# --- WebSocket --------------------------------------------------------------------------------------------------


def test_websockets(http_gateway: HttpGateway) -> None:
    """By the client without asyncio: the one with it does not run on trio's loop, which the suite has loaded."""
    said = ("hello", "\u00e4\u4e2d\U0001f600", b"\x00\xff" * 100_000, "x" * 300_000)
    url = f"{http_gateway.url.replace('https', 'wss')}/t/app/ws"
    with websockets.sync.client.connect(url, ssl=http_gateway.context(), max_size=None) as socket:
        for one in said:
            socket.send(one)
            assert socket.recv(timeout=60) == one
        assert socket.ping().wait(60)
        socket.send("close")
        with pytest.raises(websockets.ConnectionClosed):
            socket.recv(timeout=60)
        assert socket.close_code == 4000


def test_a_websocket_to_where_none_may_go(http_gateway: HttpGateway) -> None:
    url = f"{http_gateway.url.replace('https', 'wss')}/t/app/admin/ws"
    with pytest.raises(websockets.InvalidStatus) as refused:
        websockets.sync.client.connect(url, ssl=http_gateway.context())
    assert refused.value.response.status_code == 403


# --- gRPC -------------------------------------------------------------------------------------------------------


class _Service(grpc.GenericRpcHandler):
    """Methods of bytes: no generated code is needed."""

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        def fail(_request: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort(grpc.StatusCode.NOT_FOUND, "nothing there")

        def tell(request: bytes, context: grpc.ServicerContext) -> bytes:
            context.set_trailing_metadata((("x-count", "1"),))
            return request + b"!"

        match call.method.rpartition("/")[2]:
            case "Echo":
                return grpc.unary_unary_rpc_method_handler(tell)
            case "Chat":
                return grpc.stream_stream_rpc_method_handler(
                    lambda requests, _: (one + b"?" for one in requests)
                )
            case "Fail":
                return grpc.unary_unary_rpc_method_handler(fail)
        return None


@pytest.fixture
def channel(make_http_gateway: Callable[..., HttpGateway]) -> Iterator[grpc.Channel]:
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((_Service(),))
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    gateway = make_http_gateway({"rpc": {"url": f"http://{HOST}:{port}", "protocols": ["h2"]}})
    files = gateway.people["alice"]
    credentials = grpc.ssl_channel_credentials(
        gateway.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    name = f"rpc.{DOMAIN}"
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.default_authority", name)]
    with grpc.secure_channel(f"localhost:{gateway.port}", credentials, options=options) as opened:
        yield opened
    server.stop(0).wait()


def test_grpc(channel: grpc.Channel) -> None:
    echo = channel.unary_unary("/shop.Orders/Echo")
    answer, call = echo.with_call(b"hello", timeout=60)
    assert answer == b"hello!"
    assert ("x-count", "1") in [(name, value) for name, value in call.trailing_metadata()]
    assert len(echo(b"z" * 3_000_000, timeout=60)) == 3_000_001
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/shop.Orders/Fail")(b"", timeout=60)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    assert failed.value.details() == "nothing there"


def test_grpc_both_ways_at_once(channel: grpc.Channel) -> None:
    """Each request is sent once the answer to the one before it has come."""
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = channel.stream_stream("/shop.Orders/Chat")(iter(said.get, None), timeout=60)
    for number in range(5):
        said.put(b"%d" % number)
        assert next(answers) == b"%d?" % number
    said.put(None)
    assert list(answers) == []


def test_grpc_hears_of_a_denial_in_its_own_way(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as denied:
        channel.unary_unary("/admin/Users")(b"", timeout=60)
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "The admin API is not open through the gateway." in denied.value.details()
    assert channel.unary_unary("/shop.Orders/Echo")(b"x", timeout=60) == b"x!"
