"""The threats to HTTP through the gateway: other people's answers, other targets, credentials, masks, memory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h2.events
import pytest

from demo.issuer import LocalIssuer
from tests.end_to_end.conftest import HttpGatewayFactory
from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, SECRET, HttpGateway
from tests.end_to_end.http_raw import TIMEOUT_S, Http2Client, OddTarget, RawClient, answer
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.running import Document, wait_until
from tests.pki import Authority

JSON = "Content-Type: application/json"
VALUE = "hunter2-the-masked-value"
MEBI = 1 << 20

POLICY = (
    EVERYTHING_BY_HTTP
    + """\
masks:
  - name: secrets
    targets: {names: [masked]}
    json: ["$..secret"]
    method: redact
"""
)


def for_agents(policy: str) -> str:
    """The roles of people and of the issuer's agents."""
    return policy.replace("data: {groups: [data]}", "data: {groups: [data, operators, agents, analysts]}")


@pytest.fixture(scope="module")
def odd() -> Iterator[OddTarget]:
    with OddTarget() as target:
        yield target


@pytest.fixture(scope="module")
def gateway(
    odd: OddTarget,
    http_app: Hypercorn,
    issuer: LocalIssuer,
    target_ca: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[HttpGateway]:
    targets: dict[str, Document] = {
        "odd": {"url": odd.url, "hosts": ["odd.internal"]},
        "masked": {"url": odd.url},
        "shared": {"url": odd.url, "origins": ["https://app.example"]},
        "app": {"url": http_app.url, "hosts": ["app.internal"]},
        "app2": {"url": http_app.url, "protocols": ["h2"]},
    }
    directory = tmp_path_factory.mktemp("threats")
    with HttpGateway(directory, targets, policy=for_agents(POLICY), issuer=issuer, ca=target_ca) as running:
        yield running


# What was denied never arrives

DENIED_PATHS = [
    "/admin/x",
    "/admin/",
    "/%61dmin/x",
    "/%61%64%6d%69%6e/x",
    "/./admin/x",
    "/a/../admin/x",
    "/a/%2e%2e/admin/x",
    "/a/..%2fadmin/x",
    "//admin/x",
    "/admin//x",
    "/admin;a=b/x",
    "/admin%3ba=b/x",
    "/admin/x?y",
    "/admin/%2e/x",
    "/a\\..\\admin\\x",
    "/admin%00/x",
    "/%2561dmin/../admin/x",
    "/admin/x#y",
]


@pytest.mark.parametrize("path", DENIED_PATHS)
@pytest.mark.parametrize("http2", [False, True])
def test_what_is_denied_never_reaches_the_target(
    gateway: HttpGateway, odd: OddTarget, path: str, http2: bool
) -> None:
    before = len(odd.heads)
    if http2:
        with Http2Client(gateway) as client:
            status = client.answer_on(client.request(f"/t/odd{path}"))[0]
            assert status in (0, 400, 403, 404), status
            assert client.answer_on(client.request("/t/odd/open")) == (200, b"ok")
    else:
        with RawClient(gateway) as client1:
            assert client1.ask(f"/t/odd{path}")[0] in (400, 403, 404)
            assert client1.ask("/t/odd/open")[0] == 200
    assert odd.paths()[before:] == ["/open"]


@pytest.mark.parametrize(
    "field",
    [
        "X-HTTP-Method-Override: DELETE",
        "X-Original-URL: /admin/x",
        "X-Rewrite-URL: /admin/x",
        "X-Forwarded-Prefix: /admin",
        "X_Original_URL: /admin/x",
    ],
)
def test_fields_that_retell_a_request_do_not_arrive(gateway: HttpGateway, odd: OddTarget, field: str) -> None:
    with RawClient(gateway) as client:
        assert client.ask("/t/odd/open", field)[0] in (200, 400)
    assert b"/admin" not in odd.heads[-1]
    assert b"DELETE" not in odd.heads[-1]


# Credentials


def test_credentials_stay_on_their_side(gateway: HttpGateway, odd: OddTarget, issuer: LocalIssuer) -> None:
    """The client's never reach the target; the target's reach neither the client nor anything that is kept."""
    token = gateway.token("agent-alice")
    shown = [
        f"Authorization: Bearer {token}",
        f"Proxy-Authorization: Bearer {token}",
        f"X-Api-Key: {token}",
        f"Api-Key: {token}",
    ]
    odd.behaviours["/leaks"] = answer(b"x", f"X-Request-Auth: Bearer {SECRET}", "Proxy-Authenticate: Basic")
    with RawClient(gateway, None) as client:
        for fields in ([shown[0]], [shown[2]], [shown[3]], shown[:2], shown):
            before = len(odd.heads)
            status, _, _ = client.ask("/t/odd/open", *fields)
            assert status == 200, fields
            assert len(odd.heads) == before + 1
            assert token.encode() not in odd.heads[-1], fields
            assert f"Bearer {SECRET}".encode() in odd.heads[-1]
        trailers = "0\r\nX-Sum: 1\r\nX-Token-Is: no\r\n\r\n"
        client.send(
            f"POST /t/odd/open HTTP/1.1\r\nHost: localhost\r\n{shown[0]}\r\nTransfer-Encoding: chunked\r\n"
            f"\r\n2\r\nab\r\n{trailers}".encode()
        )
        assert client.answer()[0] == 200
        assert token.encode() not in odd.bodies[-1]
    kept = gateway.daemon.log_path.read_bytes() + gateway.tape_bytes() + gateway.http("/metrics").encode()
    assert token.encode() not in kept
    assert SECRET.encode() not in kept


def test_the_fields_that_say_who_asks_are_the_gateways(gateway: HttpGateway, odd: OddTarget) -> None:
    with RawClient(gateway) as client:
        lies = [
            "X-Forwarded-For: 6.6.6.6",
            "Forwarded: for=6.6.6.6",
            "X-Real-IP: 6.6.6.6",
            "Remote-User: root",
        ]
        assert client.ask("/t/odd/open", *lies)[0] == 200
    assert b"6.6.6.6" not in odd.heads[-1]
    assert b"root" not in odd.heads[-1]


def test_requests_of_two_people_on_one_connection(gateway: HttpGateway, odd: OddTarget) -> None:
    """Each is judged by its own token; a stranger in between gets nothing of what was there before."""
    token = gateway.token("agent-alice")
    auth = f"Authorization: Bearer {token}"
    before = len(odd.heads)
    with RawClient(gateway, None) as client:
        assert client.ask("/t/odd/mine", auth)[0] == 200
        assert client.ask("/t/odd/mine")[0] == 401
        assert client.ask("/t/odd/mine", f"Authorization: Bearer {token[:-4]}AAAA")[0] == 401
        assert client.ask("/t/odd/mine", "Authorization: Bearer " + "x" * 20_000)[0] == 401
        assert client.ask("/t/odd/mine", auth)[0] == 200
    with Http2Client(gateway, None) as client2:
        streams = [
            (client2.request("/t/odd/mine", ("authorization", f"Bearer {one}")), status)
            for one, status in ((token, 200), ("forged", 401), (token, 200))
        ]
        found: dict[int, int] = {}
        while len(found) < len(streams):
            for event in client2.until(lambda event: isinstance(event, h2.events.StreamEnded)):
                if isinstance(event, h2.events.ResponseReceived):
                    found[event.stream_id] = int(dict(event.headers or [])[b":status"])
        assert [found[stream] for stream, _ in streams] == [status for _, status in streams]
    assert len(odd.heads) == before + 4


# Nobody gets another's answer


@pytest.mark.parametrize("target", ["app", "app2"])
def test_everybody_gets_their_own_answer(gateway: HttpGateway, target: str) -> None:
    """Many at once, among clients that break off, with bodies that stream: over pooled and shared connections."""

    def one(number: int) -> bool:
        word = f"word-{target}-{number}"
        with RawClient(gateway) if number % 2 else Http2Client(gateway) as client:
            for turn in range(4):
                path = f"/t/{target}/echo?{word}-{turn}"
                if number % 5 == 0 and turn == 3:  # this one goes away in the middle
                    client.send(
                        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab".encode()
                    )
                    return True
                if isinstance(client, Http2Client):
                    stream = client.request(path, method="POST", ends=False)
                    client.h2.send_data(stream, word.encode(), end_stream=True)
                    client.flush()
                    status, body = client.answer_on(stream)
                else:
                    status, _, body = client.ask(path, method="POST", body=word.encode())
                told = json.loads(body)
                if (status, told["query"], told["body"]) != (200, f"{word}-{turn}", word):
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(24)))


def test_an_aborted_upload_does_not_become_part_of_the_next_request(
    gateway: HttpGateway, odd: OddTarget
) -> None:
    for _ in range(5):
        with RawClient(gateway) as client:
            client.send(
                b"POST /t/odd/cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nGET /smuggled"
            )
        with RawClient(gateway) as other:
            assert other.ask("/t/odd/open")[::2] == (200, b"ok")
    assert not [path for path in odd.paths() if "smuggled" in path]


# Other places


def test_hosts_and_tunnels_are_not_confused(gateway: HttpGateway, odd: OddTarget) -> None:
    before = len(odd.heads)
    for lines in (
        "GET http://elsewhere/ HTTP/1.1\r\nHost: odd.internal",
        "GET http://odd.internal:1/ HTTP/1.1\r\nHost: odd.internal",
        "GET /x HTTP/1.1\r\nHost: odd.internal.evil.example",
        "GET /x HTTP/1.1\r\nHost: evil.example",
        "GET /x HTTP/1.1\r\nHost: odd.internal@evil.example",
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443",
        "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22",
        "CONNECT /t/odd/ HTTP/1.1\r\nHost: localhost",
        "OPTIONS * HTTP/1.1\r\nHost: localhost",
        "TRACE /t/odd/open HTTP/1.1\r\nHost: localhost",
    ):
        with RawClient(gateway) as client:
            client.send(lines.encode() + b"\r\n\r\n")
            assert client.answer()[0] in (400, 403, 404, 405, 421, 501), lines
    # An upload that was broken off before may still arrive.
    assert [path for path in odd.paths()[before:] if path not in ("/open", "/cut")] == []


def tunnelled(gateway: HttpGateway, host: str = "app.internal:443") -> RawClient:
    client = RawClient(gateway)
    client.send(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert client.answer()[0] == 200
    return client


def inner_tls(
    gateway: HttpGateway, client: RawClient, name: str
) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    context = ssl.create_default_context(cafile=str(gateway.inspection_ca))
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    inner = context.wrap_bio(came, goes, server_hostname=name)
    while True:
        try:
            inner.do_handshake()
            client.send(goes.read())
            return inner, came, goes
        except ssl.SSLWantReadError:
            client.send(goes.read())
            came.write(client.socket.recv(65536))


def said_inside(gateway: HttpGateway, request: str, name: str = "app.internal") -> int:
    with tunnelled(gateway) as client:
        inner, came, goes = inner_tls(gateway, client, name)
        inner.write(request.encode())
        client.send(goes.read())
        received = b""
        while b"\r\n\r\n" not in received:
            try:
                received += inner.read(65536)
            except ssl.SSLWantReadError:
                data = client.socket.recv(65536)
                if not data:
                    break
                came.write(data)
        return int(received.split(b" ", 2)[1]) if received else 0


@pytest.mark.parametrize(
    ("request_lines", "status"),
    [
        ("GET /echo HTTP/1.1\r\nHost: app.internal\r\n\r\n", 200),
        ("GET /echo HTTP/1.1\r\nHost: odd.internal\r\n\r\n", 421),
        ("GET /echo HTTP/1.1\r\nHost: app.internal:8443\r\n\r\n", 421),
        ("GET https://odd.internal/echo HTTP/1.1\r\nHost: odd.internal\r\n\r\n", 421),
        ("GET /admin/x HTTP/1.1\r\nHost: app.internal\r\n\r\n", 403),
        ("CONNECT odd.internal:443 HTTP/1.1\r\nHost: odd.internal:443\r\n\r\n", 405),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
def test_what_is_asked_inside_of_a_tunnel(gateway: HttpGateway, request_lines: str, status: int) -> None:
    assert said_inside(gateway, request_lines) == status


@pytest.mark.parametrize(
    "data",
    [
        b"GET /echo HTTP/1.1\r\nHost: app.internal\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\x00\x05hello",
    ],
)
def test_a_tunnel_is_for_tls(gateway: HttpGateway, data: bytes) -> None:
    with tunnelled(gateway) as client:
        client.send(data)
        assert b"HTTP/1.1 200" not in client.rest()
    wait_until(lambda: bool(gateway.logged("tunnel refused")), "the line")


def test_pages_of_other_sites_get_nothing_by_a_certificate_alone(
    gateway: HttpGateway, odd: OddTarget
) -> None:
    before = len(odd.heads)
    with RawClient(gateway) as client:
        for origin in ("https://evil.example", "null", "https://localhost.evil.example", "http://localhost"):
            assert client.ask("/t/odd/open", f"Origin: {origin}")[0] == 403
        upgrade = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        assert client.ask("/t/odd/ws", "Origin: https://evil.example", key, *upgrade)[0] == 403
        for site in ("cross-site", "same-site"):
            assert client.ask("/t/odd/open", f"Sec-Fetch-Site: {site}", "Sec-Fetch-Dest: script")[0] == 403
            assert client.ask("/t/odd/open", f"Sec-Fetch-Site: {site}", method="POST")[0] == 403
        twice = ["Origin: https://localhost", "Origin: https://evil.example"]
        assert client.ask("/t/odd/open", *twice)[0] == 400
        assert len(odd.heads) == before
        link = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]
        assert client.ask("/t/odd/open", *link)[0] == 200
        assert client.ask("/t/odd/open", "Origin: https://localhost", "Sec-Fetch-Site: same-origin")[0] == 200


def test_the_password_of_a_proxy_is_shown_to_whatever_page_asks(gateway: HttpGateway, odd: OddTarget) -> None:
    token = gateway.token("agent-alice")
    before = len(odd.heads)
    for field, first, status in (
        (f"Proxy-Authorization: Bearer {token}", "GET http://odd.internal/open", 403),
        (f"Authorization: Bearer {token}", "GET /t/odd/open", 200),
    ):
        with RawClient(gateway, None) as client:
            host = "odd.internal" if "odd.internal" in first else "localhost"
            head = f"{first} HTTP/1.1\r\nHost: {host}\r\n{field}\r\nOrigin: https://evil.example\r\n\r\n"
            client.send(head.encode())
            assert client.answer()[0] == status
    assert len(odd.heads) == before + 1


def test_a_target_may_name_sites_whose_pages_ask(gateway: HttpGateway, odd: OddTarget) -> None:
    with RawClient(gateway) as client:
        for origin, status in (("https://app.example", 200), ("https://app.example:444", 403)):
            fields = [f"Origin: {origin}", "Sec-Fetch-Site: cross-site"]
            assert client.ask("/t/shared/open", *fields, method="POST")[0] == status
            assert client.ask("/t/odd/open", *fields, method="POST")[0] == 403


# Masks

SECRET_JSON = json.dumps({"secret": VALUE, "open": 1}).encode()


def chunked(body: bytes, size: int, *trailers: str) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return chunks + b"0\r\n" + "".join(f"{line}\r\n" for line in trailers).encode() + b"\r\n"


def streamed(body: bytes, content_type: str, size: int = 1, *trailers: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + chunked(body, size, *trailers)


WAYS = {
    "plain": answer(SECRET_JSON, JSON),
    "byte by byte": streamed(SECRET_JSON, "application/json"),
    "an error": answer(SECRET_JSON, JSON, status="500 Oh"),
    "a part": answer(SECRET_JSON, JSON, "Content-Range: bytes 0-40/100", status="206 Partial Content"),
    "no such part": answer(SECRET_JSON, JSON, "Content-Range: bytes */100", status="416 No"),
    "problem": answer(SECRET_JSON, "Content-Type: application/problem+json"),
    "events": streamed(b"data: " + SECRET_JSON + b"\n\n", "text/event-stream"),
    "events with CR": streamed(b"data: " + SECRET_JSON + b"\r\r", "text/event-stream", 3),
    "lines": streamed(SECRET_JSON + b"\n" + SECRET_JSON + b"\n", "application/x-ndjson", 5),
    "utf-16": answer(
        json.dumps({"secret": VALUE}).encode("utf-16"), "Content-Type: application/json; charset=utf-16"
    ),
    "a mark before": answer(b"\xef\xbb\xbf" + SECRET_JSON, JSON),
    "twice the name": answer(f'{{"secret": "x", "secret": "{VALUE}"}}'.encode(), JSON),
    "an escaped name": answer(f'{{"\\u0073ecret": "{VALUE}"}}'.encode(), JSON),
    "two types": answer(SECRET_JSON, JSON, "Content-Type: text/plain"),
    "parts": answer(
        b"--b\r\nContent-Type: application/json\r\n\r\n" + SECRET_JSON + b"\r\n--b--\r\n",
        "Content-Type: multipart/mixed; boundary=b",
    ),
    "byte ranges": answer(
        b"--b\r\nContent-Type: application/json\r\nContent-Range: bytes 0-9/20\r\n\r\n"
        + SECRET_JSON
        + b"\r\n--b--\r\n",
        "Content-Type: multipart/byteranges; boundary=b",
        status="206 Partial Content",
    ),
    "trailers": streamed(b"{}", "application/json", 1, f"X-Sum: {VALUE}"),
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"
    + SECRET_JSON,
}


IN_PIECES = {"events with CR", "lines"}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("http2", [False, True])
def test_masked_values_do_not_get_by(gateway: HttpGateway, odd: OddTarget, name: str, http2: bool) -> None:
    path = f"/way-{name.replace(' ', '-')}"
    data = WAYS[name]
    if name == "cut off":
        odd.behaviours[path] = lambda sock, head, rest: sock.sendall(data)
    else:
        odd.behaviours[path] = data
    if http2:
        with Http2Client(gateway) as client:
            stream = client.request(f"/t/masked{path}", ("range", "bytes=0-20"), ("accept-encoding", "gzip"))
            assert VALUE.encode() not in client.answer_on(stream)[1]
    else:
        with RawClient(gateway) as client1:
            lines = f"GET /t/masked{path} HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-20\r\nConnection: close\r\n\r\n"
            client1.send(lines.encode())
            whole = client1.rest()
            assert VALUE.encode() not in whole
            assert VALUE.encode("utf-16-le") not in whole
    assert b"range:" not in odd.heads[-1].lower()
    assert b"gzip" not in odd.heads[-1].lower()
    assert VALUE.encode() not in gateway.tape_bytes()


def test_without_masks_each_of_these_would_get_by(gateway: HttpGateway, odd: OddTarget) -> None:
    """Behind the test above: the ways lead somewhere."""
    for name, data in WAYS.items():
        if name != "cut off":
            odd.behaviours["/open-way"] = data
            with RawClient(gateway) as client:
                client.send(b"GET /t/odd/open-way HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                came = client.rest()
            letters = came.replace(b"\r\n1\r\n", b"").replace(
                b"\0", b""
            )  # pieces of one byte, and two bytes each
            assert VALUE.encode() in letters or name in IN_PIECES, name


# Memory


class Flood(OddTarget):
    """Sends 300 MB to who asks for /down, takes 300 MB slowly from /up, and has an endless stream of events."""

    SIZE = 300 * MEBI

    def __init__(self) -> None:
        super().__init__({"/down": self._down, "/up": self._up, "/events": self._events})
        self.taken = threading.Event()

    def _down(self, sock: socket.socket, head: bytes, rest: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.SIZE)
        for _ in range(self.SIZE // MEBI):
            sock.sendall(b"x" * MEBI)

    def _up(self, sock: socket.socket, head: bytes, rest: bytes) -> None:
        self.taken.wait(TIMEOUT_S)  # meanwhile all of it would be in the gateway, if it kept it
        left = self.SIZE - len(rest)
        while left > 0:
            left -= len(sock.recv(MEBI))
        sock.sendall(answer(b"taken", "Connection: close"))

    def _events(self, sock: socket.socket, head: bytes, rest: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        with contextlib.suppress(OSError):
            while not self.closed.wait(0.005):
                sock.sendall(b"data: " + b"x" * 4000 + b"\n\n")


@pytest.fixture(scope="module")
def flood(
    target_ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Flood, HttpGateway]]:
    with Flood() as target:
        directory = tmp_path_factory.mktemp("flood")
        targets: dict[str, Document] = {"flood": {"url": target.url, "limits": {"connections": 200}}}
        with HttpGateway(directory, targets, ca=target_ca) as gateway:
            yield target, gateway


def test_a_slow_reader_costs_no_memory(flood: tuple[Flood, HttpGateway]) -> None:
    _, gateway = flood
    before = gateway.daemon.memory_kib()
    with RawClient(gateway) as slow, Http2Client(gateway) as slow2, RawClient(gateway) as other:
        slow.send(b"GET /t/flood/down HTTP/1.1\r\nHost: localhost\r\n\r\n")
        slow2.request("/t/flood/down")
        for _ in range(20):  # they read nothing; others are served
            assert other.ask("/t/flood/open")[0] == 200
        assert gateway.daemon.memory_kib() - before < 48 * 1024
        received = 0
        while received < 300 * MEBI:
            received += len(slow.socket.recv(MEBI))
        assert gateway.daemon.memory_kib() - before < 48 * 1024


def test_a_slow_target_costs_no_memory(flood: tuple[Flood, HttpGateway]) -> None:
    target, gateway = flood
    before = gateway.daemon.memory_kib()
    with RawClient(gateway) as client:
        client.socket.settimeout(1)
        client.socket.sendall(
            b"POST /t/flood/up HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % Flood.SIZE
        )
        sent = 0
        with contextlib.suppress(TimeoutError):  # until nobody takes any more
            while sent < Flood.SIZE:
                sent += client.socket.send(b"x" * 65536)
        assert sent < 100 * MEBI
        assert gateway.daemon.memory_kib() - before < 48 * 1024
        client.socket.settimeout(TIMEOUT_S)
        target.taken.set()
        rest = Flood.SIZE - sent
        piece = b"x" * MEBI
        while rest > 0:
            client.socket.sendall(piece[:rest])
            rest -= len(piece)
        assert client.answer()[::2] == (200, b"taken")
        assert gateway.daemon.memory_kib() - before < 48 * 1024


def test_one_reader_of_many_that_never_reads(flood: tuple[Flood, HttpGateway]) -> None:
    _, gateway = flood
    before = gateway.daemon.memory_kib()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway)) for _ in range(40)]
        for client in clients:
            client.send(b"GET /t/flood/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for client in clients[1:]:
            received = 0
            while received < 100_000:
                received += len(client.socket.recv(65536))
        assert gateway.daemon.memory_kib() - before < 64 * 1024


# A full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system. Who may not mount one takes the right to write away, which open files do not notice."""
    path = tmp_path / "disk"
    (path / "tapes").mkdir(parents=True)
    if os.geteuid() != 0:
        yield path
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=True)
    try:
        (path / "tapes").mkdir()
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    if os.geteuid() != 0:
        directories = [disk / "tapes", *(disk / "tapes").iterdir()]
        for directory in directories:
            directory.chmod(0o500)
        yield
        for directory in directories:
            directory.chmod(0o700)
        return
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


def test_what_cannot_be_recorded_is_not_done(
    make_http_gateway: HttpGatewayFactory, odd: OddTarget, disk: Path
) -> None:
    """Neither a session that begins, nor a request in one that was there before."""

    def there(config: Document) -> None:
        config["tapes"]["directory"] = str(disk / "tapes")

    gateway = make_http_gateway({"odd": {"url": odd.url}}, adjust=there)
    with RawClient(gateway) as client, Http2Client(gateway) as client2:
        assert client.ask("/t/odd/before")[0] == 200
        assert client2.answer_on(client2.request("/t/odd/before")) == (200, b"ok")
        before = len(odd.heads)
        with filled(disk):
            with RawClient(gateway) as another:
                assert another.ask("/t/odd/after")[0] == 503
            if os.geteuid() == 0:
                assert client.ask("/t/odd/after", "X-Long: " + "x" * 9000)[0] == 503
                stream = client2.request("/t/odd/after", ("x-long", "x" * 9000))
                assert client2.answer_on(stream)[0] == 503
                wait_until(lambda: bool(gateway.logged("session ended", outcome="tape")), "the line")
        assert len(odd.heads) == before
        assert gateway.metrics()["proxyd_tape_errors_total"] >= 1
    with RawClient(gateway) as another:
        assert another.ask("/t/odd/again")[0] == 200
    gateway.stop()
