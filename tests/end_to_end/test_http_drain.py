"""The gateway takes its leave: clients of HTTP/2 are told first, so that they go elsewhere, and lose nothing.

By Node, curl and a client by hand, which go on after a GOAWAY as RFC 9113 (6.8) wants it. What ends too late is in
`test_http_life`.
"""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import h2.events
import httpx
import pytest
from h2.errors import ErrorCodes
from websockets.sync.client import connect

from demo.issuer import LocalIssuer
from tests.end_to_end.http2_socket import Http2Socket, node_command
from tests.end_to_end.http_gateway import HttpGateway
from tests.end_to_end.http_raw import Http2Client, RawClient
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.running import wait_until

Make = Callable[..., HttpGateway]
ANY_STREAM = 2**31 - 1


@pytest.fixture
def gateway(make_http_gateway: Make, http_app: Hypercorn) -> HttpGateway:
    return make_http_gateway(
        {"app": {"url": http_app.url}, "app2": {"url": http_app.url, "protocols": ["h2"]}}
    )


class Held:
    """`path`: an answer that goes on until `release`."""

    def __init__(self, gateway: HttpGateway, http_app: Hypercorn) -> None:
        self._name = secrets.token_hex(8)
        self._gateway = gateway
        self._app = http_app
        self.path = f"/t/app/held?name={self._name}"

    def release(self) -> None:
        context = ssl.create_default_context(cafile=str(self._gateway.target_ca))
        url = f"{self._app.url}/release?name={self._name}"
        assert httpx.get(url, verify=context, trust_env=False, timeout=60).is_success


@pytest.fixture
def held(gateway: HttpGateway, http_app: Hypercorn) -> Held:
    return Held(gateway, http_app)


@contextmanager
def draining(gateway: HttpGateway) -> Iterator[Future[int | None]]:
    """SIGTERM was sent; the exit status is the result."""
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(gateway.stop)
        wait_until(lambda: bool(gateway.logged("draining")), "the drain")
        yield stopped
        assert stopped.result(60) == 0
    assert not gateway.logged("drain deadline passed")


def goaways(events: list[h2.events.Event]) -> list[int | None]:
    return [event.last_stream_id for event in events if isinstance(event, h2.events.ConnectionTerminated)]


def test_node_hears_of_it_and_gets_its_answer(gateway: HttpGateway, held: Held) -> None:
    command = node_command(gateway, "drain", "alice", "", {"path": held.path})
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as node:
        assert node.stderr is not None
        assert node.stderr.readline() == "open\n"
        with draining(gateway):
            held.release()
            told, errors = node.communicate(timeout=60)
    assert node.returncode == 0, errors
    found = json.loads(told)
    assert found["goaways"][:2] == [[0, ANY_STREAM], [0, 1]]
    assert (found["end"], found["code"]) == ("data: [DONE]", 0)


def test_curl_gets_its_answer(gateway: HttpGateway, held: Held) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(gateway.curl, held.path, "--http2")
        wait_until(lambda: bool(gateway.logged("session opened")), "the request")
        with draining(gateway):
            held.release()
            done = asked.result(60)
    assert (done.returncode, done.stdout.endswith(b"data: [DONE]\n\n")) == (0, True), done.stderr


def test_what_comes_before_the_last_word_is_served_and_nothing_behind_it(
    gateway: HttpGateway, held: Held
) -> None:
    with Http2Client(gateway) as client:
        stream = client.request(held.path)
        client.until(lambda event: isinstance(event, h2.events.ResponseReceived))
        socket = Http2Socket(client, "/t/app2/ws")
        said: list[bytes] = []
        send, client.send = client.send, said.append  # type: ignore[method-assign, assignment]
        with draining(gateway):
            first = client.until(lambda event: isinstance(event, h2.events.PingReceived))
            assert goaways(first) == [ANY_STREAM]
            client.send = send  # type: ignore[method-assign]
            late = client.request("/t/app/echo")  # it has not heard the farewell, as far as anybody knows
            assert client.answer_on(late)[0] == 200
            client.send(b"".join(said))  # now it has
            second = client.until(lambda event: isinstance(event, h2.events.ConnectionTerminated))
            assert goaways(second) == [late]
            refused = client.request("/t/app/echo")
            events = client.until(lambda event: isinstance(event, h2.events.StreamReset))
            (reset,) = [event for event in events if isinstance(event, h2.events.StreamReset)]
            assert (reset.stream_id, reset.error_code) == (refused, ErrorCodes.REFUSED_STREAM)
            socket.say("still here")
            assert socket.text() == "still here"
            socket.close()
            held.release()
            ended = client.until(
                lambda event: isinstance(event, h2.events.StreamEnded) and event.stream_id == stream
            )
            assert b"[DONE]" in b"".join(
                event.data or b"" for event in ended if isinstance(event, h2.events.DataReceived)
            )
            assert goaways(client.until(lambda _: False)) == [late]  # and the end of the connection


def test_idle_connections_are_closed_at_once(gateway: HttpGateway, held: Held) -> None:
    """While another one is busy, so that the gateway itself goes on."""
    with (
        Http2Client(gateway) as idle2,
        RawClient(gateway) as idle1,
        RawClient(gateway) as fresh,
        RawClient(gateway) as busy,
    ):
        assert idle2.answer_on(idle2.request("/t/app/echo"))[0] == 200
        assert idle1.ask("/t/app/echo")[0] == 200
        busy.send(f"GET {held.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: len(gateway.logged("session opened")) == 3, "the request")
        with draining(gateway) as stopped:
            assert idle1.rest() == b""
            assert goaways(idle2.until(lambda _: False)) == [ANY_STREAM, 1, 1]
            assert fresh.rest() == b""
            assert not stopped.done()
            held.release()
            assert b"[DONE]" in busy.rest()


def test_http1_is_told_with_the_next_answer(gateway: HttpGateway, held: Held) -> None:
    with RawClient(gateway) as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.ask, f"{held.path}&whole=1")
        wait_until(lambda: bool(gateway.logged("session opened")), "the request")
        with draining(gateway):
            held.release()
            status, head, body = asked.result(60)
            assert (status, body) == (200, b"at last\n")
            assert b"\r\nconnection: close" in head.lower()
            assert client.rest() == b""


def test_who_has_just_connected_is_still_answered(gateway: HttpGateway) -> None:
    """Their first request is on its way, as far as anybody knows."""
    with RawClient(gateway) as client, RawClient(gateway) as other:
        assert other.ask("/t/app/echo")[0] == 200
        with draining(gateway):
            status, head, _ = client.ask("/t/app/echo")
            # A moment later the gateway closes without a word, which is as good: nothing was sent by then.
            assert status in (200, 0)
            assert status == 0 or b"\r\nconnection: close" in head.lower()


def test_websockets_are_told_when_nobody_waits_any_longer(
    make_http_gateway: Make, http_app: Hypercorn, issuer: LocalIssuer
) -> None:
    def adjust(config: dict[str, object]) -> None:
        config["drain_timeout"] = "1s"

    gateway = make_http_gateway({"app": {"url": http_app.url}}, adjust=adjust, issuer=issuer)
    url = f"{gateway.url.replace('https', 'wss')}/t/app/ws"
    with (
        Http2Client(gateway) as client,
        connect(url, ssl=gateway.context()) as old,
        ThreadPoolExecutor(1) as pool,
    ):
        new = Http2Socket(client, "/t/app/ws")
        stopped = pool.submit(gateway.stop)
        code, reason = new.closing()
        with pytest.raises(Exception, match="shutting down"):
            old.recv(timeout=60)
        assert (code, "the gateway is shutting down" in reason) == (1008, True)
        assert stopped.result(60) == 0
