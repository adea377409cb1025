"""How HTTP sessions live and end: seen and ended by an administrator, reloads, limits, expiry, a shutdown.

Whoever is cut off is told: an answer of events ends with an event that says why, a WebSocket with a close, gRPC with a
status; any other answer that is under way visibly breaks off.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from demo.gateway import program
from demo.issuer import LocalIssuer
from proxyd.tape.http_entries import HttpBody
from proxyd.tape.reader import read_tape
from tests.end_to_end.http_gateway import DOMAIN, EVERYTHING_BY_HTTP, HttpGateway
from tests.end_to_end.http_raw import RawClient
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.running import HOST, Document, wait_until
from tests.end_to_end.test_http_threats import inner_tls
from tests.pki import SERVER, Authority

Make = Callable[..., HttpGateway]
Shared = Callable[..., HttpGateway]
ALICE = "alice@example.com"  # by her certificate
PARTIAL_FILE = 18  # of curl
VERSIONS = pytest.mark.parametrize("http2", [False, True])
FOREVER = "/t/app/sse?n=100000&wait=0.02"
LONG = "/t/app/bytes?n=500000000"  # more than all buffers on the way take
OPEN_SESSIONS = 'proxyd_sessions_open{listener="web",protocol="http"}'
OPEN_CONNECTIONS = 'proxyd_connections_open{listener="web"}'
FOR_TOKENS = EVERYTHING_BY_HTTP.replace("groups: [data]", "groups: [data, dba]")
TAKEN_AWAY = EVERYTHING_BY_HTTP.replace("groups: [data]", "groups: [others]")


def limited(limits: str) -> str:
    return EVERYTHING_BY_HTTP.replace("logins: [default]", f"logins: [default]\n    session: {{{limits}}}")


@pytest.fixture
def gateway(make_http_gateway: Make, http_app: Hypercorn) -> HttpGateway:
    """One's own, before `app` over HTTP/1.1 and `app2` over HTTP/2."""
    return make_http_gateway(targets(http_app))


@pytest.fixture(scope="module")
def shared(
    http_app: Hypercorn,
    issuer: LocalIssuer,
    target_ca: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shared]:
    """`shared(policy)`: the gateway with that policy, for all tests that neither reload nor stop it. Takes tokens."""
    with ExitStack() as stack:
        made: dict[str, HttpGateway] = {}

        def get(policy: str = EVERYTHING_BY_HTTP) -> HttpGateway:
            if policy not in made:
                directory = tmp_path_factory.mktemp("shared")
                made[policy] = stack.enter_context(
                    HttpGateway(directory, targets(http_app), policy=policy, issuer=issuer, ca=target_ca)
                )
            return made[policy]

        yield get


def targets(http_app: Hypercorn) -> dict[str, Document]:
    return {
        "app": {"url": http_app.url, "hosts": ["app.internal"]},
        "app2": {"url": http_app.url, "protocols": ["h2"]},
    }


def listed(gateway: HttpGateway) -> list[dict[str, Any]]:
    done = gateway.proxyd("sessions", "ls", "--json", "--config", str(gateway.config_path))
    return [json.loads(line) for line in done.stdout.splitlines()]


def ended(gateway: HttpGateway, session: str) -> tuple[str, str]:
    """Outcome and reason, once it is over."""
    wait_until(lambda: bool(gateway.logged("session ended", session=session)), "the end of the session")
    (line,) = gateway.logged("session ended", session=session)
    return line["outcome"], line["reason"]


def end(gateway: HttpGateway, session: str, *more: str) -> dict[str, Any]:
    done = gateway.proxyd("sessions", "end", session, "--json", "--config", str(gateway.config_path), *more)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def opened(gateway: HttpGateway, **values: object) -> str:
    return str(gateway.logged("session opened", **values)[-1]["session"])


def through_tunnel(gateway: HttpGateway, path: str, token: str) -> subprocess.CompletedProcess[bytes]:
    """curl of app.internal, with the gateway as its HTTPS proxy."""
    proxy = ("--proxy", gateway.url, "--proxy-cacert", str(gateway.ca), "--proxy-user", f"any:{token}")
    trust = ("--cacert", str(gateway.inspection_ca))
    return gateway.curl(f"https://app.internal{path}", *proxy, *trust, "--http1.1", person=None)


class Events:
    """An answer of events under way; `last` is its last event, once it has broken off."""

    def __init__(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200
        self._lines = answer.iter_lines()
        self._next()

    def _next(self) -> str:
        return next(line for line in self._lines if line)

    def more(self, count: int = 3) -> None:
        for _ in range(count):
            assert self._next().startswith(("id:", "data:"))

    def rest(self) -> list[str]:
        """What comes until the end, which is not cut off."""
        return [line for line in self._lines if line]

    def last(self) -> dict[str, Any]:
        last: list[str] = []
        with pytest.raises(httpx.RemoteProtocolError):
            for line in self._lines:
                last = [*last, line][-3:]
        assert last[0] == "event: error", last
        found: dict[str, Any] = json.loads(last[1].removeprefix("data: "))
        return found


@contextmanager
def streaming(
    gateway: HttpGateway, path: str = FOREVER, *, client: httpx.Client | None = None, **settings: Any
) -> Iterator[Events]:
    with client or gateway.client(**settings) as own, own.stream("GET", path) as answer:
        yield Events(answer)


# --- an administrator -----------------------------------------------------------------------------------------


def test_ls_tells_who_asks_what(shared: Shared) -> None:
    gateway = shared()
    with gateway.client() as client:
        for path in ("/t/app/echo", "/t/app/echo", "/t/app2/echo"):
            assert client.get(path).status_code == 200
        found = [
            (one["protocol"], one["listener"], one["subject"], one["target"], one["login"], one["operations"])
            for one in listed(gateway)
        ]
    assert found == [
        ("http", "web", ALICE, "app", "default", 2),
        ("http", "web", ALICE, "app2", "default", 1),
    ]
    wait_until(lambda: listed(gateway) == [], "the end of the sessions")


def test_watch_is_what_happens(shared: Shared) -> None:
    gateway = shared()
    with gateway.client() as client:
        client.get("/t/app/echo?first=1")
        words = [program(), "sessions", "watch", opened(gateway), "--from-start"]
        watch = [*words, "--config", str(gateway.config_path)]
        with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as watcher:
            wait_until(lambda: bool(gateway.logged("admin request", command="watch")), "watching")
            client.get("/t/app/status?code=418")
            client.get("/t/app/admin/x")
            client.close()
            text = watcher.communicate(timeout=60)[0]
    assert watcher.returncode == 0
    for part in ("/echo?first=1", "/status?code=418", "418", "denied by no-admin", "event watched"):
        assert part in text, text


@VERSIONS
def test_end_is_an_event_in_an_answer_of_events(shared: Shared, *, http2: bool) -> None:
    gateway = shared()
    with streaming(gateway, http2=http2) as events:
        session = opened(gateway)
        assert end(gateway, session, "--reason", "go home")["is_gone"] is True
        told = events.last()
    assert told["status"] == 403
    assert told["detail"] == "This session was ended: ended by an administrator: go home."
    (line,) = gateway.logged("session ended", session=session)
    assert (line["outcome"], line["reason"]) == ("ended", "ended by an administrator: go home")
    with read_tape(gateway.tape(session)) as tape:
        bodies = [entry.raw for entry in tape.entries() if isinstance(entry, HttpBody)]
    assert b"event: error" in bodies[-1]
    assert gateway.proxyd("tape", "verify", str(gateway.tape(session)), "--chain", line["chain"])


@VERSIONS
def test_end_breaks_a_download_off(shared: Shared, *, http2: bool) -> None:
    gateway = shared()
    with gateway.client(http2=http2) as client, client.stream("GET", LONG) as answer:
        data = answer.iter_raw()
        assert next(data)
        # Nobody reads now: what is on its way fills every buffer.
        assert end(gateway, opened(gateway))["is_gone"] is True
        with pytest.raises(httpx.TransportError):
            for _ in data:
                pass
    wait_until(lambda: gateway.metrics()[OPEN_CONNECTIONS] == 0, "the end of the connection")


def test_end_before_the_target_has_answered(shared: Shared) -> None:
    gateway = shared()
    before = len(gateway.logged("session opened"))
    with ThreadPoolExecutor(1) as pool, gateway.client() as client:
        asked = pool.submit(client.get, "/t/app/slow?wait=100")
        wait_until(lambda: len(gateway.logged("session opened")) > before, "the session")
        assert end(gateway, opened(gateway))["is_gone"] is True
        answer = asked.result(60)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert "ended by an administrator" in answer.json()["detail"]
    assert answer.headers["connection"] == "close"


def test_end_closes_a_websocket_with_the_reason(shared: Shared) -> None:
    gateway = shared()
    url = gateway.url.replace("https://", "wss://")
    with connect(f"{url}/t/app/ws", ssl=gateway.context(), proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
        assert end(gateway, opened(gateway), "--reason", "go home")["is_gone"] is True
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv(timeout=60)
    received = caught.value.rcvd
    assert received is not None
    assert (received.code, received.reason) == (
        1008,
        "proxyd: this session was ended: ended by an administrator: go home",
    )


@VERSIONS
def test_end_closes_a_connection_that_is_idle(shared: Shared, *, http2: bool) -> None:
    gateway = shared()
    with gateway.client(http2=http2) as client:
        assert client.get("/t/app/echo").status_code == 200
        first = opened(gateway)
        assert end(gateway, first)["is_gone"] is True
        wait_until(lambda: gateway.metrics()[OPEN_CONNECTIONS] == 0, "the end of the connection")
        assert client.get("/t/app/echo").status_code == 200  # on a new one
    assert opened(gateway) != first


class _Ticks(grpc.GenericRpcHandler):
    """One method, which answers until its client has gone."""

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def tick(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            gone = threading.Event()
            context.add_callback(gone.set)
            while not gone.wait(0.02):
                yield b"tick"

        return grpc.unary_stream_rpc_method_handler(tick)


def test_end_is_a_status_of_grpc(make_http_gateway: Make) -> None:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[_Ticks()])
    url = f"http://{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
    server.start()
    gateway = make_http_gateway({"rpc": {"url": url, "protocols": ["h2"]}})
    files = gateway.people["alice"]
    credentials = grpc.ssl_channel_credentials(
        gateway.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    options = [
        ("grpc.ssl_target_name_override", "localhost"),
        ("grpc.default_authority", f"rpc.{DOMAIN}"),
    ]
    with grpc.secure_channel(f"localhost:{gateway.port}", credentials, options=options) as channel:
        ticks = channel.unary_stream("/shop.Clock/Tick")(b"", timeout=60)
        assert next(ticks) == b"tick"
        assert end(gateway, opened(gateway), "--reason", "go home")["is_gone"] is True
        with pytest.raises(grpc.RpcError) as cut:
            list(ticks)
    assert cut.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "ended by an administrator: go home" in cut.value.details()
    assert server.stop(60).wait(60)


def test_end_of_one_session_leaves_the_others_on_its_connection(shared: Shared) -> None:
    """Also when nobody reads what the one has on its way."""
    gateway = shared()
    with gateway.client(http2=True) as client:
        with client.stream("GET", LONG) as download, client.stream("GET", "/t/app2/sse?n=50") as events:
            assert next(download.iter_raw())
            kept = opened(gateway, target="app2")
            assert end(gateway, opened(gateway, target="app"))["is_gone"] is True
            assert events.read().endswith(b"data: [DONE]\n\n")
        assert client.get("/t/app2/echo").status_code == 200
        assert opened(gateway, target="app2") == kept
        (session,) = [one for one in listed(gateway) if one["id"] == kept]
    assert (session["target"], session["operations"]) == ("app2", 2)


# --- reload ---------------------------------------------------------------------------------------------------


@VERSIONS
def test_another_policy_drops_nobody(gateway: HttpGateway, *, http2: bool) -> None:
    with gateway.client(http2=http2) as client:
        with client.stream("GET", "/t/app/sse?n=100") as answer:
            events = Events(answer)
            assert gateway.reload(EVERYTHING_BY_HTTP.replace("/admin/**", "/echo"))
            events.more()
            assert events.rest()[-1] == "data: [DONE]"
        refused = client.get("/t/app/echo")
        assert (refused.status_code, refused.json()["rule"]) == (403, "no-admin")
        assert client.get("/t/app/admin/x").status_code == 200
    assert len(gateway.logged("session opened")) == 1


@VERSIONS
def test_access_that_is_taken_away_ends_what_runs(gateway: HttpGateway, *, http2: bool) -> None:
    with gateway.client(http2=http2) as client:
        with client.stream("GET", FOREVER) as answer:
            events = Events(answer)
            assert gateway.reload(TAKEN_AWAY)
            told = events.last()
        assert "access to app has been taken away" in told["detail"]
        assert client.get("/t/app/echo").status_code == 403
    assert ended(gateway, opened(gateway)) == ("revoked", "access to app has been taken away")


def test_a_refused_reload_changes_nothing(gateway: HttpGateway) -> None:
    with streaming(gateway) as events:
        assert not gateway.reload("version: 1\nsurprise: yes\n")
        events.more()


def test_the_secret_of_a_target_is_read_anew(gateway: HttpGateway) -> None:
    with gateway.client() as client:

        def credential() -> str:
            return str(dict(client.get("/t/app/echo").json()["headers"])["authorization"])

        before = credential()
        (gateway.directory / "secret").write_text("another")
        assert credential() == before
        assert gateway.reload()
        assert credential() == "Bearer another"


def test_the_certificate_of_the_listener_is_read_anew(gateway: HttpGateway) -> None:
    def shown() -> bytes:
        with (
            socket.create_connection((HOST, gateway.port), timeout=60) as plain,
            gateway.context().wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            return tls.getpeercert(binary_form=True) or b""

    before = shown()
    with streaming(gateway) as events:
        new = gateway.authority.issue("gateway", dns=["localhost"], ips=[HOST], purpose=SERVER)
        new.write(Path(yaml.safe_load(gateway.config_path.read_text())["listeners"][0]["tls"]["key"]).parent)
        assert shown() == before
        assert gateway.reload()
        assert shown() == ssl.PEM_cert_to_DER_cert(new.certificate_pem().decode())
        events.more()


def test_issuers_are_read_anew(make_http_gateway: Make, http_app: Hypercorn, issuer: LocalIssuer) -> None:
    gateway = make_http_gateway(targets(http_app), issuer=issuer)
    with gateway.client(token=gateway.token("agent-alice")) as client:
        assert client.get("/t/app/echo").status_code == 200
        config = yaml.safe_load(gateway.config_path.read_text())
        config["identity"]["issuers"][0]["audiences"] = ["others"]
        gateway.config_path.write_text(yaml.safe_dump(config))
        assert gateway.reload()
        refused = client.get("/t/app/echo")
    assert refused.status_code == 401
    assert "proxyd" in refused.headers["www-authenticate"]


def test_a_tunnel_does_not_outlive_the_belief_in_its_token(
    make_http_gateway: Make, http_app: Hypercorn, issuer: LocalIssuer
) -> None:
    gateway = make_http_gateway(targets(http_app), issuer=issuer)
    with RawClient(gateway, None) as client:
        lines = (
            "CONNECT app.internal:443 HTTP/1.1",
            "Host: app.internal:443",
            "Proxy-Authorization: Bearer ",
        )
        client.send(("\r\n".join(lines) + gateway.token("agent-alice") + "\r\n\r\n").encode())
        assert client.answer()[0] == 200
        inner, came, goes = inner_tls(gateway, client, "app.internal")

        def ask() -> int | None:
            """The status, None at the end of the connection."""
            inner.write(b"GET /echo HTTP/1.1\r\nHost: app.internal\r\n\r\n")
            client.send(goes.read())
            received = b""
            while b"}" not in received:
                try:
                    more = inner.read(65536)
                except ssl.SSLWantReadError:
                    if more := client.socket.recv(65536):
                        came.write(more)
                    else:
                        came.write_eof()
                    continue
                if not more:
                    return None
                received += more
            return int(received.split(b" ", 2)[1])

        assert (ask(), ask()) == (200, 200)
        config = yaml.safe_load(gateway.config_path.read_text())
        config["identity"]["issuers"][0]["audiences"] = ["others"]
        gateway.config_path.write_text(yaml.safe_dump(config))
        assert gateway.reload()
        assert ask() is None
    assert ended(gateway, opened(gateway))[0] == "revoked"


# --- limits ---------------------------------------------------------------------------------------------------


@VERSIONS
def test_a_session_ends_at_its_longest_time(shared: Shared, *, http2: bool) -> None:
    gateway = shared(limited("max: 2s"))
    with streaming(gateway, http2=http2) as events:
        assert events.last()["detail"] == "This session was ended: maximum age reached."
    assert ended(gateway, opened(gateway)) == ("max_age", "maximum age reached")


def test_an_idle_session_ends(shared: Shared) -> None:
    gateway = shared(limited("idle: 1s"))
    with gateway.client() as client:
        assert client.get("/t/app/echo").status_code == 200
        assert ended(gateway, opened(gateway)) == ("idle", "idle for too long")
        wait_until(lambda: gateway.metrics()[OPEN_CONNECTIONS] == 0, "the end of the connection")
        answer = client.get("/t/app/slow?wait=100")
    assert (answer.status_code, answer.json()["detail"]) == (
        403,
        "This session was ended: idle for too long.",
    )


@VERSIONS
def test_requests_are_counted(shared: Shared, *, http2: bool) -> None:
    gateway = shared(limited("statements: 2"))
    with gateway.client(http2=http2) as client:
        codes = [client.get("/t/app/echo").status_code for _ in range(2)]
        third = client.get("/t/app/echo")
    assert [*codes, third.status_code] == [200, 200, 403]
    assert "all of the 2 requests" in third.json()["detail"]


def test_a_subject_has_only_so_many_sessions(make_http_gateway: Make, http_app: Hypercorn) -> None:
    def adjust(config: Document) -> None:
        config["listeners"][0]["limits"] = {"connections_per_subject": 1}

    gateway = make_http_gateway(targets(http_app), adjust=adjust)
    with streaming(gateway) as events:
        with gateway.client() as second:
            refused = second.get("/t/app/echo")
            assert refused.status_code == 429
            assert f"too many sessions of {ALICE}" in refused.json()["detail"]
        events.more()
    gateway.last_session()
    with gateway.client() as third:
        assert third.get("/t/app/echo").status_code == 200
    assert gateway.metrics()['proxyd_handshake_failures_total{listener="web",reason="subject_limit"}'] >= 1


def test_a_listener_has_only_so_many_connections(make_http_gateway: Make, http_app: Hypercorn) -> None:
    def adjust(config: Document) -> None:
        config["listeners"][0]["limits"] = {"connections": 1}

    gateway = make_http_gateway(targets(http_app), adjust=adjust)
    with streaming(gateway) as events:
        with socket.create_connection((HOST, gateway.port), timeout=60) as second:
            assert second.recv(1) == b""  # a client of TLS cannot be told more
        events.more()
    wait_until(lambda: gateway.metrics()[OPEN_CONNECTIONS] == 0, "the end of the connection")
    with gateway.client() as third:
        assert third.get("/t/app/echo").status_code == 200


def test_more_streams_than_there_may_be_wait(make_http_gateway: Make, http_app: Hypercorn) -> None:
    def adjust(config: Document) -> None:
        config["listeners"][0]["limits"] = {"streams": 2}

    gateway = make_http_gateway(targets(http_app), adjust=adjust)
    answers = gateway.side_by_side([("/t/app/slow?wait=0.05", {})] * 8)
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({line["client"] for line in gateway.logged("session opened")}) == 1


# --- expiry ---------------------------------------------------------------------------------------------------


@VERSIONS
def test_a_stream_ends_with_its_token(shared: Shared, *, http2: bool) -> None:
    gateway = shared(FOR_TOKENS)
    token = gateway.token("brief")
    with gateway.client(token=token, http2=http2) as client:
        with client.stream("GET", FOREVER) as answer:
            told = Events(answer).last()
        assert ended(gateway, opened(gateway)) == ("max_age", "the token has expired")
        assert told["status"] == 401
        assert told["detail"] == "This session is over: the token has expired."
        assert told["hint"]
        again = client.get("/t/app/echo")
        assert again.status_code == 401
        assert again.headers["www-authenticate"].startswith("Bearer")
        renewed = client.get(
            "/t/app/echo", headers={"authorization": f"Bearer {gateway.token('agent-alice')}"}
        )
        assert renewed.status_code == 200


def test_a_websocket_ends_with_its_token(shared: Shared) -> None:
    gateway = shared(FOR_TOKENS)
    url = gateway.url.replace("https://", "wss://")
    headers = {"authorization": f"Bearer {gateway.token('brief')}"}
    context = gateway.context(None)
    with (
        connect(f"{url}/t/app/ws", ssl=context, proxy=None, additional_headers=headers) as websocket,
        pytest.raises(ConnectionClosed) as caught,
    ):
        websocket.recv(timeout=60)
    received = caught.value.rcvd
    assert received is not None
    assert (received.code, received.reason) == (
        1008,
        "proxyd: this session was ended: the token has expired",
    )


def test_a_stream_in_a_tunnel_ends_with_the_token_that_opened_it(shared: Shared) -> None:
    gateway = shared(FOR_TOKENS)
    done = through_tunnel(gateway, FOREVER.removeprefix("/t/app"), gateway.token("brief"))
    assert done.returncode == PARTIAL_FILE, done.stderr
    *_, name, data = done.stdout.decode().rstrip().splitlines()
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["detail"] == "This session is over: the token has expired."


def test_a_tunnel_is_not_idle_while_something_runs_in_it(
    make_http_gateway: Make, http_app: Hypercorn, issuer: LocalIssuer
) -> None:
    def adjust(config: Document) -> None:
        config["listeners"][0]["timeouts"] = {"idle": "1s"}

    gateway = make_http_gateway(targets(http_app), issuer=issuer, adjust=adjust)
    done = through_tunnel(gateway, "/slow?wait=3", gateway.token("agent-alice"))
    assert (done.returncode, done.stdout) == (0, b"at last\n"), done.stderr


# --- a shutdown -----------------------------------------------------------------------------------------------


def test_a_shutdown_lets_requests_finish(gateway: HttpGateway, http_app: Hypercorn) -> None:
    """Over HTTP/1.1; over HTTP/2 it is in `test_http_drain`, since httpx gives all up at the first GOAWAY."""
    name = "shutdown"
    with ThreadPoolExecutor(2) as pool, gateway.client() as busy, gateway.client() as idle:
        assert idle.get("/t/app/echo").status_code == 200
        with busy.stream("GET", f"/t/app/held?name={name}") as answer:
            events = Events(answer)
            stopped = pool.submit(gateway.stop)
            wait_until(lambda: bool(gateway.logged("draining")), "the drain")
            with gateway.client() as new, pytest.raises(httpx.TransportError):
                new.get("/t/app/echo")
            with pytest.raises(httpx.TransportError):
                idle.get("/t/app/echo")
            target = ssl.create_default_context(cafile=str(gateway.target_ca))
            assert httpx.get(f"{http_app.url}/release?name={name}", verify=target, trust_env=False).is_success
            assert events.rest()[-1] == "data: [DONE]"
        assert stopped.result(60) == 0
    assert not gateway.logged("drain deadline passed")
    assert {line["outcome"] for line in gateway.logged("session ended")} <= {"drained", "client_closed"}


def test_a_shutdown_lets_requests_in_tunnels_finish(
    make_http_gateway: Make, http_app: Hypercorn, issuer: LocalIssuer
) -> None:
    gateway = make_http_gateway(targets(http_app), issuer=issuer)
    token = gateway.token("agent-alice")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(through_tunnel, gateway, "/slow?wait=3", token)
        wait_until(lambda: bool(gateway.logged("session opened")), "the request")
        assert gateway.stop() == 0
        done = asked.result(60)
    assert (done.returncode, done.stdout) == (0, b"at last\n"), done.stderr


def test_a_shutdown_tells_those_who_take_too_long(make_http_gateway: Make, http_app: Hypercorn) -> None:
    def adjust(config: Document) -> None:
        config["drain_timeout"] = "1s"

    gateway = make_http_gateway(targets(http_app), adjust=adjust)
    with ThreadPoolExecutor(1) as pool, streaming(gateway) as events:
        stopped = pool.submit(gateway.stop)
        told = events.last()
        assert stopped.result(60) == 0
    assert told["status"] == 503
    assert "the gateway is shutting down" in told["detail"]
    assert gateway.logged("drain deadline passed")
    assert gateway.logged("session ended", outcome="drained")


# --- what is left behind --------------------------------------------------------------------------------------


def test_tapes_of_people_and_targets_on_one_connection_are_apart(shared: Shared) -> None:
    gateway = shared(FOR_TOKENS + "# apart\n")
    tokens = {name: gateway.token(f"agent-{name}") for name in ("alice", "dora")}
    wanted = {(name, target): f"{name}-at-{target}" for name in tokens for target in ("app", "app2")}
    asked = [
        (f"/t/{target}/echo?mark={mark}", {"authorization": f"Bearer {tokens[name]}"})
        for (name, target), mark in wanted.items()
    ]
    answers = gateway.side_by_side(asked * 5, None)
    assert {answer.status_code for answer in answers} == {200}
    assert len({line["client"] for line in gateway.logged("session opened")}) == 1
    wait_until(lambda: len(gateway.logged("session ended")) == 4, "the end of the sessions")
    for line in gateway.logged("session opened"):
        tape = Path(line["tape"]).read_bytes()
        found = set(re.findall(rb"mark=([a-z]+-at-[a-z0-9]+)", tape))
        own = wanted.pop((line["subject"], line["target"]))
        assert found == {own.encode()}
    assert not wanted


MASKED = (
    EVERYTHING_BY_HTTP
    + """
masks:
  - {name: cards, detect: [credit_card]}
"""
)


def test_metrics_and_log_lines(shared: Shared) -> None:
    gateway = shared(MASKED)
    with gateway.client() as client:
        assert "4111" not in client.get("/t/app/people").text
        assert client.get("/t/app/admin/x").status_code == 403
        assert client.delete("/t/app/echo").status_code == 403
        assert gateway.metrics()[OPEN_SESSIONS] == 1
    with gateway.client("mallory") as stranger:
        assert stranger.get("/t/app/echo").status_code == 403
    with gateway.client(None) as nobody:
        assert nobody.get("/t/app/echo").status_code == 401
    with gateway.client(token="not.a.token") as forger:
        assert forger.get("/t/app/echo").status_code == 401
    gateway.last_session(ALICE)
    issuer_is_up = 'proxyd_issuer_up{issuer="company"}'
    wait_until(lambda: gateway.metrics()[issuer_is_up] == 1, "the issuer's keys, asked for in the background")
    numbers = gateway.metrics()
    for name, least in {
        'proxyd_operations_total{effect="allow",protocol="http"}': 1,
        'proxyd_operations_total{effect="deny",protocol="http"}': 1,
        'proxyd_operations_total{effect="hold",protocol="http"}': 1,
        'proxyd_denials_total{rule="no-admin"}': 1,
        'proxyd_denials_total{rule="deletes-wait"}': 1,
        'proxyd_detected_total{kind="credit_card"}': 1,
        'proxyd_handshake_failures_total{listener="web",reason="not_admitted"}': 1,
        'proxyd_handshake_failures_total{listener="web",reason="identity"}': 2,
        'proxyd_sessions_total{outcome="client_closed"}': 1,
    }.items():
        assert numbers.get(name, 0) >= least, (name, sorted(numbers))
    assert numbers[OPEN_SESSIONS] == 0
    (opened_line,) = gateway.logged("session opened")
    assert (opened_line["subject"], opened_line["target"], opened_line["login"]) == (
        ALICE,
        "app",
        "default",
    )
    (ended,) = gateway.logged("session ended")
    assert (ended["operations"], ended["outcome"]) == (3, "client_closed")
    denials = [line["rule"] for line in gateway.logged("request denied")]
    assert denials == ["no-admin", "deletes-wait"]
    refusals = [(line["status"], line["failure"]) for line in gateway.logged("request refused")]
    assert refusals == [(403, "not_admitted"), (401, "identity"), (401, "identity")]
    assert "not.a.token" not in gateway.daemon.log_path.read_text()
