"""What no sound client and no sound target sends: each ends in the right answer, and nobody else is harmed."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator

import h2.events
import h2.settings
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.end_to_end.http_gateway import HttpGateway
from tests.end_to_end.http_raw import Http2Client, OddTarget, RawClient, answer
from tests.end_to_end.running import Document, wait_until
from tests.pki import Authority

GET = b"GET /t/odd/ HTTP/1.1\r\nHost: localhost\r\n"
JSON = "Content-Type: application/json"

POLICY = """\
version: 1
roles:
  data: {groups: [data]}
access:
  - {name: all, roles: [data], targets: {protocol: http}, logins: [default]}
rules:
  - {name: everything, effect: allow, roles: [data], http: {methods: ["*"], paths: ["/**"]}}
  - {name: websockets, effect: allow, roles: [data], http: {paths: ["/**"], upgrade: websocket}}
  - name: no-admins
    effect: deny
    http: {paths: ["/judged"], body: {"$.admin": present}}
masks:
  - name: secrets
    targets: {names: [masked]}
    json: ["$..secret"]
    method: redact
"""


def adjusted(config: Document) -> None:
    config["listeners"][0]["timeouts"] = {"head": "1s", "idle": "60s", "body": "1s"}
    config["listeners"][0]["limits"] = {"judged_body": "64KiB", "head": "32KiB"}


@contextlib.contextmanager
def no_harm(gateway: HttpGateway) -> Iterator[None]:
    """Another client is served before, meanwhile and after; the daemon does not stumble."""
    crashes = gateway.metrics()["proxyd_session_crashes_total"]
    with RawClient(gateway) as other:
        assert other.ask("/t/odd/other")[0] == 200
        yield
        assert other.ask("/t/odd/other")[::2] == (200, b"ok")
    assert gateway.metrics()["proxyd_session_crashes_total"] == crashes


# Targets that misbehave


def hangs(sock: socket.socket, head: bytes, rest: bytes) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass


def says(*pieces: bytes) -> Callable[[socket.socket, bytes, bytes], None]:
    """And closes."""

    def behave(sock: socket.socket, head: bytes, rest: bytes) -> None:
        for piece in pieces:
            sock.sendall(piece)

    return behave


def resets(sock: socket.socket, head: bytes, rest: bytes) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def for_ever(piece: bytes, first: bytes = b"") -> Callable[[socket.socket, bytes, bytes], None]:
    def behave(sock: socket.socket, head: bytes, rest: bytes) -> None:
        sock.sendall(first)
        while True:
            sock.sendall(piece)

    return behave


def zipped(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(b"x" * (1 << 20)) for _ in range(size)), packer.flush()])


BOMB = zipped(64)

BAD_TARGETS: dict[str, tuple[bytes | Callable[[socket.socket, bytes, bytes], None], int, bytes]] = {
    # path: what it does, the status that the client gets (0: an answer that breaks off), words of the body
    "/hangs": (hangs, 504, b"said nothing"),
    "/hangs-within": (says(b"HTTP/1.1 200 OK\r\nContent-Le"), 502, b"closed the connection"),
    "/closes": (says(), 502, b"closed the connection"),
    "/resets": (resets, 502, b"closed the connection"),
    "/no-http": (says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), 502, b"not HTTP"),
    "/http2": (says(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\r\n\r\n"), 502, b"not HTTP"),
    "/tls": (says(b"\x16\x03\x01\0\x05\x01\0\0\x01\0\r\n\r\n"), 502, b"not HTTP"),
    "/1xx": (for_ever(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), 502, b"not HTTP"),
    "/100": (for_ever(b"HTTP/1.1 100 Continue\r\n\r\n"), 502, b"not HTTP"),
    "/101": (
        answer(b"", "Upgrade: websocket", "Connection: upgrade", status="101 Switching Protocols"),
        502,
        b"not HTTP",
    ),
    "/long-head": (for_ever(b"x-a: " + b"a" * 1000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"), 502, b"not HTTP"),
    "/long-line": (for_ever(b"a" * 4096, b"HTTP/1.1 200 "), 502, b"not HTTP"),
    "/two-lengths": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!"),
        502,
        b"not",
    ),
    "/both": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        502,
        b"not",
    ),
    "/huge-length": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        502,
        b"not HTTP",
    ),
    "/short": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 2147483648\r\n\r\nhalf"), 0, b""),
    "/bad-chunk": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhaXX"), 0, b""),
    "/status-0": (says(b"HTTP/1.1 000 No\r\n\r\n"), 502, b"not HTTP"),
    "/status-999": (says(b"HTTP/1.1 999 No\r\n\r\n"), 502, b"not HTTP"),
    "/folded": (says(b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n"), 502, b"not HTTP"),
    "/nul": (says(b"HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 0\r\n\r\n"), 502, b"not HTTP"),
}


@pytest.fixture(scope="module")
def odd() -> Iterator[OddTarget]:
    with OddTarget({path: what for path, (what, _, _) in BAD_TARGETS.items()}) as target:
        yield target


@pytest.fixture(scope="module")
def gateway(
    odd: OddTarget, target_ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpGateway]:
    targets: dict[str, Document] = {
        name: {"url": odd.url, "timeouts": {"response": "1s"}} for name in ("odd", "masked")
    }
    directory = tmp_path_factory.mktemp("bad_input")
    with HttpGateway(directory, targets, policy=POLICY, ca=target_ca, adjust=adjusted) as running:
        yield running


@pytest.mark.parametrize("path", BAD_TARGETS)
def test_targets_that_misbehave(gateway: HttpGateway, odd: OddTarget, path: str) -> None:
    _, status, words = BAD_TARGETS[path]
    with no_harm(gateway), RawClient(gateway) as client:
        got, _, body = client.ask(f"/t/odd{path}")
        while got in (100, 103):
            got, _, body = client.answer()
        if status:
            assert got == status, (got, body)
            assert words in body
        else:  # it broke off: the end is missing, and the connection is closed
            assert got == 200
            assert client.rest() == b""
            assert b"0\r\n\r\n" not in body
    said = gateway.logged("request failed", target="odd")
    assert said[-1]["reason"]


def test_an_answer_that_is_too_long_reaches_nobody_else(gateway: HttpGateway, odd: OddTarget) -> None:
    """What comes behind it would be the answer to the next request on that connection."""
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
    odd.behaviours["/longer"] = answer(b"ok") + b"more" + poison
    odd.behaviours["/twice"] = answer(b"ok") + poison
    odd.behaviours["/head"] = answer(b"the body of a HEAD") + poison
    odd.behaviours["/204"] = b"HTTP/1.1 204 No Content\r\n\r\n" + poison
    odd.behaviours["/304"] = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n" + poison
    with no_harm(gateway), RawClient(gateway) as client:
        for path, method, expected in [
            ("/longer", "GET", 200),
            ("/twice", "GET", 200),
            ("/head", "HEAD", 200),
            ("/204", "GET", 204),
            ("/304", "GET", 304),
        ]:
            lines = f"{method} /t/odd{path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            client.send(lines.encode())
            got, _, body = client.answer(has_body=method == "GET" and expected == 200)
            assert (got, body) == (expected, b"ok" if expected == 200 and method == "GET" else b"")
            for _ in range(3):
                assert client.ask("/t/odd/next")[::2] == (200, b"ok")


# Clients that misbehave

BAD_REQUESTS = {
    # what is sent, the status
    "no-host": (b"GET /t/odd/poison HTTP/1.1\r\n\r\n", 400),
    "two-hosts": (b"GET /t/odd/poison HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
    "cl-te": (GET + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /poison", 400),
    "te-te": (GET + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
    "te-odd": (GET + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "te-space": (GET + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "te-underscore": (GET + b"Transfer_Encoding: chunked\r\n\r\n", 400),
    "cl-cl": (GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "cl-plus": (GET + b"Content-Length: +1\r\n\r\na", 400),
    "cl-minus": (GET + b"Content-Length: -1\r\n\r\na", 400),
    "cl-hex": (GET + b"Content-Length: 0x1\r\n\r\na", 400),
    "cl-huge": (GET + b"Content-Length: 99999999999999999999999\r\n\r\na", 400),
    "bare-lf": (b"GET /t/odd/poison HTTP/1.1\nHost: localhost\n\n", 400),
    "bare-cr": (GET + b"A: b\rC: d\r\n\r\n", 400),
    "nul": (GET + b"A: \0\r\n\r\n", 400),
    "folded": (GET + b"A: b\r\n c\r\n\r\n", 400),
    "lower-case": (b"get /t/odd/poison HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "version": (b"GET /t/odd/poison HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
    "no-version": (b"GET /t/odd/poison\r\n\r\n", 400),
    "blanks": (b"GET /t/odd/poison bad HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "dots": (b"GET /t/odd/%2e%2e/poison HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "slash": (b"GET /t/odd/a%2fbad HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "percent": (b"GET /t/odd/%zz/poison HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "nul-path": (b"GET /t/odd/%00poison HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "long-head": (GET + b"A: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "many-fields": (GET + b"".join(b"A%d: b\r\n" % n for n in range(200)) + b"\r\n", 431),
    "long-line": (b"GET /t/odd/poison" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "tls-again": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n", 400),
    "two-tokens": (GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
    "slow-head": (GET, 408),
    "half-a-line": (b"GET /t/odd/poison", 408),
    "http2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_requests_that_no_sound_client_sends(gateway: HttpGateway, odd: OddTarget, name: str) -> None:
    data, status = BAD_REQUESTS[name]
    with no_harm(gateway), RawClient(gateway) as client:
        client.send(data)
        got, _, body = client.answer()
        assert got == status, (got, body)
        assert json.loads(body)["status"] == got
        if name in {
            "dots",
            "slash",
            "percent",
            "nul-path",
            "two-tokens",
        }:  # what is asked for is wrong, no more
            assert client.ask("/t/odd/other")[0] == 200
        else:
            assert client.rest() == b""
    assert not [path for path in odd.paths() if "poison" in path]


BAD_BODIES = {
    "chunk-size": (b"XX\r\n", 400),
    "chunk-negative": (b"-1\r\n\r\n", 400),
    "chunk-end": (b"2\r\nabXX", 400),
    "chunk-extension-bomb": (b"1;" + b"a" * 100_000, 400),
    "chunk-huge": (b"fffffffffffffffff\r\n", 400),
    "trailer-length": (b"0\r\nContent-Length: 5\r\n\r\n", 400),
    "trailer-credential": (b"0\r\nAuthorization: Bearer x\r\n\r\n", 400),
    "never": (b"", 408),
    "half": (b"5\r\nab", 408),
}


@pytest.mark.parametrize("name", BAD_BODIES)
@pytest.mark.parametrize("path", ["/t/odd/upload", "/t/odd/judged", "/t/masked/upload"])
def test_bodies_that_break_off_or_break_the_protocol(gateway: HttpGateway, name: str, path: str) -> None:
    data, status = BAD_BODIES[name]
    with no_harm(gateway), RawClient(gateway) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head.encode() + data)
        got, _, body = client.answer()
        assert (got, json.loads(body)["status"]) == (status, status)
        assert client.rest() == b""


def test_a_body_of_two_gigabytes_is_not_waited_for(gateway: HttpGateway) -> None:
    with no_harm(gateway), RawClient(gateway) as client:
        client.send(
            f"POST /t/odd/judged HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n"
            "Content-Length: 2147483648\r\n\r\n".encode()
            + b" " * 100_000
        )
        got, _, body = client.answer()
        assert got == 403, body
        assert client.rest() == b""


@pytest.mark.parametrize(
    "body",
    [
        b'{"admin": 1',
        b"[" * 1000 + b"]" * 1000,
        b'{"admin": 1, "admin": 2}',
        b'{"a": NaN}',
        b'"\xff\xfe"',
        b"\xef\xbb\xbf{}",
        b'{"a": 1e999999999}',
        b"{} {}",
        b'{"a": "\\ud800"}',
    ],
)
def test_documents_that_may_be_read_in_two_ways_are_not_passed(
    gateway: HttpGateway, odd: OddTarget, body: bytes
) -> None:
    before = odd.paths().count("/judged")
    with no_harm(gateway), RawClient(gateway) as client:
        got = client.ask("/t/odd/judged", JSON, method="POST", body=body)[0]
        if got == 200:  # odd, and yet it can be read in one way only
            assert body in (b'{"a": "\\ud800"}', b'{"a": 1e999999999}')
            return
        assert got == 403
        assert client.ask("/t/odd/judged", JSON, method="POST", body=b'{"a": 1}')[0] == 200  # still usable
    assert odd.paths().count("/judged") == before + 1


# Bombs under masks


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "gzip, gzip", "unknown"])
def test_compressed_bodies_under_masks(gateway: HttpGateway, odd: OddTarget, encoding: str) -> None:
    """Looked into, or refused; never passed on as they are, and never blown up in memory."""
    odd.behaviours["/bomb"] = answer(BOMB, JSON, f"Content-Encoding: {encoding}")
    odd.behaviours["/small"] = answer(
        gzip.compress(b'{"secret": "plaintext"}'), JSON, f"Content-Encoding: {encoding}"
    )
    with no_harm(gateway), RawClient(gateway) as client:
        client.send(b"GET /t/masked/bomb HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, _, body = client.answer()
        assert status == 502 or BOMB not in body
    with RawClient(gateway) as client:
        client.send(b"GET /t/masked/small HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        whole = client.rest()
        assert b"plaintext" not in whole
        assert gzip.compress(b'{"secret": "plaintext"}')[10:] not in whole


# HTTP/2


def head_frames(
    client: Http2Client, stream: int, *fields: tuple[bytes, bytes], path: bytes = b"/t/odd/x"
) -> bytes:
    head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
    return bytes(client.h2.encoder.encode([*head, *fields]))


def settings(count: int) -> list[Frame]:
    return [SettingsFrame(0, settings={4: 65535 + n}) for n in range(count)]


FLOODS: dict[str, Callable[[Http2Client], list[Frame]]] = {
    "settings": lambda client: settings(5000),
    "ping": lambda client: [PingFrame(0, opaque_data=b"12345678") for _ in range(5000)],
    "priority": lambda client: [PriorityFrame(2 * n + 1, depends_on=0) for n in range(5000)],
    "empty-data": lambda client: [
        HeadersFrame(1, head_frames(client, 1), flags=["END_HEADERS"]),
        *[DataFrame(1, b"") for _ in range(5000)],
    ],
    "window": lambda client: [WindowUpdateFrame(0, window_increment=1) for _ in range(5000)],
    "continuation": lambda client: [
        HeadersFrame(1, head_frames(client, 1)),
        *[ContinuationFrame(1, b"") for _ in range(5000)],
    ],
    "rapid-reset": lambda client: [
        frame
        for n in range(3000)
        for frame in (
            HeadersFrame(2 * n + 1, head_frames(client, 1), flags=["END_HEADERS", "END_STREAM"]),
            RstStreamFrame(2 * n + 1, error_code=8),
        )
    ],
    "made-you-reset": lambda client: [
        frame
        for n in range(3000)
        for frame in (
            HeadersFrame(2 * n + 1, head_frames(client, 1), flags=["END_HEADERS", "END_STREAM"]),
            WindowUpdateFrame(2 * n + 1, window_increment=2**31 - 1),
        )
    ],
    "hpack-bomb": lambda client: [
        HeadersFrame(
            1,
            head_frames(client, 1, (b"a", b"x" * 3000)) + b"\xbe" * 10_000,
            flags=["END_HEADERS"],
        )
    ],
    "stream-even": lambda client: [HeadersFrame(2, head_frames(client, 2), flags=["END_HEADERS"])],
    "stream-again": lambda client: [
        HeadersFrame(5, head_frames(client, 5), flags=["END_HEADERS", "END_STREAM"]),
        HeadersFrame(3, head_frames(client, 3), flags=["END_HEADERS", "END_STREAM"]),
    ],
    "data-on-0": lambda client: [ExtensionFrame(0, 0, body=b"x")],
    "data-on-idle": lambda client: [DataFrame(7, b"x")],
    "window-overflow": lambda client: [WindowUpdateFrame(0, window_increment=2**31 - 1)],
    "window-0": lambda client: [WindowUpdateFrame(0, window_increment=0)],
    "push": lambda client: [
        HeadersFrame(1, head_frames(client, 1), flags=["END_HEADERS"]),
        PushPromiseFrame(1, 2, b"", flags=["END_HEADERS"]),
    ],
    "depends-on-itself": lambda client: [PriorityFrame(1, depends_on=1)],
    "settings-window": lambda client: [SettingsFrame(0, settings={4: 2**31})],
    "settings-frame-size": lambda client: [SettingsFrame(0, settings={5: 1})],
    "too-much-data": lambda client: [
        HeadersFrame(1, head_frames(client, 1, path=b"/t/odd/hangs"), flags=["END_HEADERS"]),
        *[DataFrame(1, b"x" * 16384) for _ in range(40)],
    ],
    "hpack-garbage": lambda client: [HeadersFrame(1, b"\xff\xff\xff\xff\xff", flags=["END_HEADERS"])],
}


@pytest.mark.parametrize("name", FLOODS)
def test_http2_that_is_an_attack_ends_the_connection(gateway: HttpGateway, name: str) -> None:
    with no_harm(gateway), Http2Client(gateway) as client:
        client.frames(*FLOODS[name](client))
        assert client.ending()  # a GOAWAY with a reason that is not "no error"
    wait_until(lambda: bool(gateway.logged("connection broke the protocol")), "the line")


@pytest.mark.parametrize(
    "fields",
    [
        [(b"connection", b"close")],
        [(b"transfer-encoding", b"chunked")],
        [(b"upgrade", b"h2c")],
        [(b"host", b"elsewhere")],
        [(b"a b", b"c")],
        [(b"content_length", b"5")],
        [(b"content-length", b"1"), (b"content-length", b"2")],
        [(b"x", b"a\r\nb: c")],
        [(b"x", b"\0")],
        [(b"Upper", b"c")],
        [(b":path", b"/second")],
        [(b"x%d" % n, b"y") for n in range(200)],
    ],
)
def test_http2_heads_that_a_later_hop_might_read_otherwise(
    gateway: HttpGateway, odd: OddTarget, fields: list[tuple[bytes, bytes]]
) -> None:
    with no_harm(gateway), Http2Client(gateway) as client:
        assert client.answer_on(client.request("/t/odd/poison", *fields)) == (0, b"")
    assert not [path for path in odd.paths() if "poison" in path]


def test_a_window_that_never_opens_holds_nothing_for_ever(gateway: HttpGateway, odd: OddTarget) -> None:
    odd.behaviours["/much"] = answer(b"x" * 300_000)
    with no_harm(gateway), Http2Client(gateway) as client:
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        client.flush()
        resets: set[int] = set()
        streams = {client.request("/t/odd/much"), client.request("/nowhere")}
        while resets != streams:
            events = client.until(lambda event: isinstance(event, h2.events.StreamReset))
            resets |= {event.stream_id for event in events if isinstance(event, h2.events.StreamReset)}
            assert events
        # The connection is as good as before.
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65535})
        client.flush()
        assert client.answer_on(client.request("/t/odd/after")) == (200, b"ok")


def test_a_stream_without_its_body_ends(gateway: HttpGateway) -> None:
    with no_harm(gateway), Http2Client(gateway) as client:
        stream = client.request(
            "/t/odd/judged", ("content-type", "application/json"), method="POST", ends=False
        )
        assert client.answer_on(stream)[0] == 408
        assert client.answer_on(client.request("/t/odd/after")) == (200, b"ok")


# Before anything is said


def test_connections_that_say_nothing(gateway: HttpGateway) -> None:
    """TCP alone, half a TLS handshake, garbage in its place: none of them keeps a place for long."""
    with no_harm(gateway):
        sockets = [socket.create_connection(("127.0.0.1", gateway.port), timeout=60) for _ in range(3)]
        sockets[1].sendall(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03")
        sockets[2].sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while sockets[2].recv(1000):
                pass
        for sock in sockets:
            sock.close()
        wait_until(lambda: len(gateway.logged("connection refused")) >= 1, "the line")


# Requests and answers that overlap


def test_an_answer_before_the_body_is_not_torn_apart(gateway: HttpGateway, odd: OddTarget) -> None:
    """A client that waits for a 100 has its final answer: no 100 may come in the middle of that."""

    def early(sock: socket.socket, head: bytes, rest: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(8):  # past the moment at which the gateway would send the 100 itself
            sock.sendall(b"4\r\nwait\r\n")
            gone.wait(0.2)
        sock.sendall(b"0\r\n\r\n")

    gone = threading.Event()
    odd.behaviours["/early"] = early
    with no_harm(gateway), RawClient(gateway) as client:
        client.send(
            b"POST /t/odd/early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        whole = client.rest()
    assert whole.count(b"HTTP/1.1") == 1, whole
    assert whole.endswith(b"4\r\nwait\r\n0\r\n\r\n")


def test_a_long_upload_is_not_the_targets_silence(gateway: HttpGateway) -> None:
    pause = threading.Event()
    with no_harm(gateway), RawClient(gateway) as client:
        client.send(b"POST /t/odd/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):  # together twice as long as the target may be silent
            pause.wait(0.2)
            client.send(b"x")
        assert client.answer()[::2] == (200, b"ok")


def test_an_answer_that_cannot_be_masked_while_the_body_still_comes(
    gateway: HttpGateway, odd: OddTarget
) -> None:
    odd.behaviours["/unmaskable"] = says(
        b"HTTP/1.1 206 Partial Content\r\nContent-Type: application/json\r\n"
        b"Content-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\n{}"
    )
    with no_harm(gateway), RawClient(gateway) as client:
        head = "POST /t/masked/unmaskable HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head.encode() + b"2\r\nab\r\n")
        status, _, body = client.answer()
        assert status == 502, body
        assert b"cannot be masked" in body
