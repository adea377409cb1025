"""WebSockets over HTTP/2 (RFC 8441), from clients and to targets: judged, masked, recorded and ended as over HTTP/1.1.

By Node's HTTP/2 client, which knows nothing of this house's libraries, and by hand for what no client would send.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from wsproto.events import Ping

from demo.issuer import LocalIssuer
from proxyd.tape.http_entries import HttpMessage, HttpRequest, HttpResponse
from proxyd.tape.reader import read_tape
from tests.end_to_end.http2_socket import Http2Socket, play
from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, HttpGateway
from tests.end_to_end.http_raw import Http2Client, OddTarget, answer
from tests.end_to_end.http_servers import Caddy, Hypercorn
from tests.end_to_end.running import Document, wait_until
from tests.pki import Authority

Make = Callable[..., HttpGateway]
TEXTS = ["hello", "\u00e4\u4e2d\U0001f600", "x" * 70_000]
EVERYWHERE = pytest.mark.parametrize("target", ["app", "app2", "both"])
NOT_ALLOWED = EVERYTHING_BY_HTTP.replace("upgrade: websocket", 'methods: ["HEAD"]')
POLICY = EVERYTHING_BY_HTTP.replace("groups: [data]", "groups: [data, dba]")


@pytest.fixture(scope="module")
def odd() -> Iterator[OddTarget]:
    with OddTarget() as target:
        yield target


@pytest.fixture(scope="module")
def caddy(target_ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caddy]:
    """A server that speaks HTTP/2 and offers no WebSockets over it."""
    server = Caddy(tmp_path_factory.mktemp("caddy"), target_ca)
    with server:
        (server.www / "index.html").write_text("a page")
        yield server


def targets(http_app: Hypercorn) -> dict[str, Document]:
    return {
        "app": {"url": http_app.url},
        "app2": {"url": http_app.url, "protocols": ["h2"]},
        "both": {"url": http_app.url, "protocols": ["h2", "http/1.1"]},
    }


@pytest.fixture(scope="module")
def gateway(
    http_app: Hypercorn,
    caddy: Caddy,
    odd: OddTarget,
    issuer: LocalIssuer,
    target_ca: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[HttpGateway]:
    all_targets = {
        **targets(http_app),
        "files2": {"url": caddy.url, "protocols": ["h2"]},
        "files": {"url": caddy.url, "protocols": ["h2", "http/1.1"]},
        "odd": {"url": odd.url},
    }

    def adjust(config: Document) -> None:
        config["listeners"][0]["limits"] = {"streams": 1000}

    directory = tmp_path_factory.mktemp("websockets")
    with ExitStack() as stack:
        made = HttpGateway(directory, all_targets, policy=POLICY, issuer=issuer, ca=target_ca, adjust=adjust)
        yield stack.enter_context(made)


@pytest.fixture
def client(gateway: HttpGateway) -> Iterator[Http2Client]:
    with Http2Client(gateway) as opened:
        yield opened


# --- there and back -------------------------------------------------------------------------------------------


@EVERYWHERE
def test_node_through_the_gateway(gateway: HttpGateway, target: str) -> None:
    told = play(
        gateway,
        "echo",
        path=f"/t/{target}/ws",
        texts=TEXTS,
        headers={"sec-websocket-protocol": "chat, other", "sec-websocket-extensions": "permessage-deflate"},
    )
    assert told["announced"] is True
    assert (told["status"], told["echoed"], told["isSame"]) == (200, TEXTS, True)
    assert told["pong"] == "are you there"
    assert told["closing"] == {"code": 4000, "reason": "asked to"}
    assert told["code"] == 0  # the stream has ended, and was not reset
    assert told["protocol"] == "chat"
    assert not {"sec-websocket-accept", "sec-websocket-extensions"} & set(told["headers"])


@pytest.mark.parametrize("target", ["app2", "both"])
def test_a_client_of_http1_reaches_a_target_of_http2(gateway: HttpGateway, target: str) -> None:
    url = f"{gateway.url.replace('https', 'wss')}/t/{target}/ws"
    with connect(url, ssl=gateway.context(), subprotocols=["chat"], max_size=None) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "chat"
        for message in (*TEXTS, b"\x00\xff" * 100_000):
            socket.send(message)
            assert socket.recv(timeout=60) == message
        assert socket.ping().wait(60)
        socket.send("close")
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=60)
        assert (socket.close_code, socket.close_reason) == (4000, "asked to")


@EVERYWHERE
def test_many_at_a_time_on_one_connection(gateway: HttpGateway, target: str) -> None:
    before = len(gateway.logged("session opened"))
    told = play(gateway, "many", path=f"/t/{target}/ws", count=60)
    assert told == [[200, 1000]] * 60
    assert len(gateway.logged("session opened")) == before + 1


def test_requests_go_on_beside_it(client: Http2Client) -> None:
    socket = Http2Socket(client, "/t/app2/ws")
    assert client.answer_on(client.request("/t/app2/echo"))[0] == 200
    socket.say("still here")
    assert socket.text() == "still here"


# --- judged and recorded --------------------------------------------------------------------------------------


@EVERYWHERE
def test_a_refusal_is_an_answer(gateway: HttpGateway, target: str) -> None:
    told = play(gateway, "refused", path=f"/t/{target}/admin/ws", next=f"/t/{target}/echo")
    assert (told["status"], told["next"]) == (403, 200)
    assert json.loads(told["text"])["rule"] == "no-admin"


def test_it_needs_a_rule_of_its_own(make_http_gateway: Make, http_app: Hypercorn) -> None:
    gateway = make_http_gateway(targets(http_app), policy=NOT_ALLOWED)
    told = play(gateway, "refused", path="/t/app/ws", next="/t/app/echo")
    assert told["status"] == 403
    assert "upgrade: websocket" in told["text"]


def test_who_asks_is_asked_as_for_any_request(gateway: HttpGateway) -> None:
    assert play(gateway, "refused", person=None, path="/t/app/ws", next="/t/app/echo")["status"] == 401
    token = {"authorization": f"Bearer {gateway.token('agent-alice')}"}
    told = play(gateway, "echo", person=None, path="/t/app/ws", texts=["hello"], headers=token)
    assert told["echoed"] == ["hello"]


def test_a_page_of_another_site_gets_none_by_a_certificate_alone(gateway: HttpGateway) -> None:
    for origin, status in (("https://evil.example", 403), (f"https://localhost:{gateway.port}", 200)):
        with Http2Client(gateway) as client:
            authority = ("host", f"localhost:{gateway.port}")
            stream = client.h2.get_next_available_stream_id()
            head = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https")]
            head += [(":authority", authority[1]), (":path", "/t/app/ws"), ("origin", origin)]
            client.h2.send_headers(stream, [*head, ("sec-websocket-version", "13")])
            client.flush()
            events = client.until(lambda event: hasattr(event, "headers"))
            (found,) = [dict(event.headers) for event in events if hasattr(event, "headers")]
            assert int(found[b":status"]) == status, origin


@EVERYWHERE
def test_it_is_on_the_tape_as_over_http1(gateway: HttpGateway, target: str) -> None:
    with Http2Client(gateway) as client:
        socket = Http2Socket(client, f"/t/{target}/ws?token=hidden-word")
        path = Path(gateway.logged("session opened")[-1]["tape"])
        for message in ("hello", b"\x00\x01"):
            socket.say(message)
            assert socket.hear() is not None
            raw = message.encode() if isinstance(message, str) else message
            told = [
                one for one in read_tape(path).entries() if isinstance(one, HttpMessage) and one.raw == raw
            ]
            assert [one.way for one in told] == [0, 1]
        socket.close(1000, "done")
        assert socket.closing()[0] == 1000
    entries = list(read_tape(gateway.tape(gateway.last_session())).entries())
    (request,) = [one for one in entries if isinstance(one, HttpRequest)]
    (response,) = [one for one in entries if isinstance(one, HttpResponse)]
    assert (request.method, request.version, response.status) == ("GET", "2", 101)
    assert b"hidden-word" not in path.read_bytes()
    assert [one.raw for one in entries if isinstance(one, HttpMessage) and one.message_kind == "close"] == [
        b"1000 done",
        b"1000 done",
    ]


MASKS = (
    POLICY
    + """
masks:
  - {name: mails, json: ["$..email"], method: redact}
  - {name: cards, detect: [credit_card], on: [request, response]}
"""
)


@EVERYWHERE
def test_messages_are_masked(make_http_gateway: Make, http_app: Hypercorn, target: str) -> None:
    gateway = make_http_gateway(targets(http_app), policy=MASKS)
    with Http2Client(gateway) as client:
        socket = Http2Socket(client, f"/t/{target}/ws")
        socket.say('{"email": "ada@example.com", ', ends=False)
        socket.say('"card": "4111 1111 1111 1111"}')
        assert json.loads(socket.text()) == {"email": "[redacted]", "card": "<credit_card>"}
        socket.say(b"nobody can read this")
        assert socket.closing() == (1008, "proxyd: binary messages cannot be masked")
        socket.rest()
        assert socket.reset is None or socket.reset == 0
        other = Http2Socket(client, f"/t/{target}/ws")
        other.say("the others go on")
        assert other.text() == "the others go on"


# --- how it ends ----------------------------------------------------------------------------------------------


@EVERYWHERE
def test_it_is_told_when_its_session_is_ended(gateway: HttpGateway, target: str) -> None:
    with Http2Client(gateway) as client:
        sockets = [Http2Socket(client, f"/t/{target}/ws") for _ in range(3)]
        session = gateway.logged("session opened")[-1]["session"]
        gateway.proxyd("sessions", "end", session, "--config", str(gateway.config_path))
        for socket in sockets:
            code, reason = socket.closing()
            assert (code, reason.startswith("proxyd: this session was ended")) == (1008, True)
            socket.end()
            socket.rest()
            assert socket.reset in (None, 0)
    wait_until(lambda: bool(gateway.logged("session ended", session=session)), "the line")
    assert gateway.logged("session ended", session=session)[0]["outcome"] == "ended"


def test_it_ends_with_its_token(gateway: HttpGateway) -> None:
    headers = {"authorization": f"Bearer {gateway.token('brief')}"}
    told = play(gateway, "last", person=None, path="/t/app2/ws", headers=headers)
    assert told["closing"] == {
        "code": 1008,
        "reason": "proxyd: this session was ended: the token has expired",
    }
    assert told["code"] == 0


@EVERYWHERE
def test_a_client_that_goes_leaves_nothing_behind(gateway: HttpGateway, target: str) -> None:
    with Http2Client(gateway) as client:
        for leave in (Http2Socket.give_up, Http2Socket.end, lambda one: one.bytes(b"\x81", ends=True)):
            socket = Http2Socket(client, f"/t/{target}/ws")
            socket.say("hello")
            assert socket.text() == "hello"
            leave(socket)
            if leave is not Http2Socket.give_up:
                socket.rest()
        assert client.answer_on(client.request(f"/t/{target}/echo"))[0] == 200
    gateway.last_session()


# --- targets that do not play along -----------------------------------------------------------------------------


def test_a_target_that_does_not_offer_it(gateway: HttpGateway) -> None:
    told = play(gateway, "refused", path="/t/files2/", next="/t/files2/")
    assert (told["status"], told["next"]) == (501, 200)
    assert "http/1.1" in json.loads(told["text"])["hint"]
    url = f"{gateway.url.replace('https', 'wss')}/t/files2/"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, ssl=gateway.context())
    assert refused.value.response.status_code == 501


def test_a_success_that_is_none(gateway: HttpGateway) -> None:
    """By HTTP/1.1 in its place, as its `protocols` allow: a page is no WebSocket, and must not look like one."""
    told = play(gateway, "refused", path="/t/files/", next="/t/files/")
    assert (told["status"], told["next"]) == (502, 200)
    assert "a page" not in told["text"]


ACCEPTS = ("Upgrade: websocket", "Connection: Upgrade")


@pytest.mark.parametrize(
    ("name", "said"),
    {
        "no answer to the key": answer(b"", *ACCEPTS, status="101 Switching Protocols"),
        "a wrong answer": answer(
            b"",
            *ACCEPTS,
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            status="101 Switching Protocols",
        ),
        "another protocol": answer(
            b"", "Upgrade: h2c", "Connection: Upgrade", status="101 Switching Protocols"
        ),
        "a body": answer(b"\x81\x05hello", status="200 OK"),
        "nothing of a body": answer(b"", status="204 No Content"),
        "no HTTP": b"\x81\x05hello",
    }.items(),
)
def test_a_target_that_only_says_that_it_has_changed(
    gateway: HttpGateway, odd: OddTarget, name: str, said: bytes
) -> None:
    odd.behaviours["/ws"] = said
    with Http2Client(gateway) as client:
        socket = Http2Socket(client, "/t/odd/ws")
        socket.rest()
        assert socket.status == 502, name
        assert b"hello" not in socket.body


# --- what no client sends -------------------------------------------------------------------------------------


@EVERYWHERE
def test_frames_in_any_pieces_and_before_the_answer(client: Http2Client, target: str) -> None:
    socket = Http2Socket(client, f"/t/{target}/ws", wait=False)
    socket.say("said before the answer")
    socket.wait_for_answer()
    assert (socket.status, socket.text()) == (200, "said before the answer")
    for byte in socket.frames.send(Ping(payload=b"p")) + b"":
        socket.bytes(bytes([byte]))
    assert type(socket.hear()).__name__ == "Pong"


@EVERYWHERE
@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("not masked", b"\x81\x05hello"),
        ("a reserved bit", b"\xc1\x80\x00\x00\x00\x00"),
        ("an unknown opcode", b"\x83\x80\x00\x00\x00\x00"),
        ("a long ping", b"\x89\xfe\x00\x80" + bytes(132)),
        ("a continuation of nothing", b"\x80\x80\x00\x00\x00\x00"),
        ("no UTF-8", b"\x81\x82\x00\x00\x00\x00\xff\xfe"),
        ("a close of one byte", b"\x88\x81\x00\x00\x00\x00\x03"),
        ("a code that nobody may send", b"\x88\x82\x00\x00\x00\x00\x03\xed"),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ],
)
def test_broken_frames_end_their_stream_alone(
    client: Http2Client, target: str, name: str, sent: bytes
) -> None:
    bystander = Http2Socket(client, f"/t/{target}/ws")
    socket = Http2Socket(client, f"/t/{target}/ws")
    assert socket.status == 200
    socket.bytes(sent)
    assert socket.closing()[0] in (1002, 1007), name
    socket.rest()
    bystander.say("hello")
    assert bystander.text() == "hello"


@pytest.mark.parametrize("protocol", ["connect-udp", "connect-ip", "h2c", "http/1.1", "tls"])
def test_other_protocols_are_not_spoken(client: Http2Client, protocol: str) -> None:
    fields = ((":protocol", protocol), ("sec-websocket-version", "13"))
    stream = client.request("/t/app/ws", *fields, method="CONNECT", ends=False)
    if "/" in protocol:  # no name
        assert client.answer_on(stream)[0] == 0
        return
    status, body = client.answer_on(stream)
    assert (status, "websocket" in json.loads(body)["hint"]) == (501, True)


def test_a_protocol_without_connect_is_no_request(gateway: HttpGateway, odd: OddTarget) -> None:
    before = len(odd.heads)
    for method in ("GET", "POST"):
        with Http2Client(gateway) as client:
            stream = client.request("/t/odd/ws", (":protocol", "websocket"), method=method)
            assert client.answer_on(stream)[0] == 0
    assert len(odd.heads) == before


def test_streams_that_are_opened_and_reset_end_the_connection(gateway: HttpGateway) -> None:
    """CVE-2023-44487, by extended CONNECT."""
    with Http2Client(gateway) as client:
        for _ in range(400):
            Http2Socket(client, "/t/app/ws", wait=False).give_up()
        assert client.ending() == 11  # ENHANCE_YOUR_CALM
    with Http2Client(gateway) as client:
        assert Http2Socket(client, "/t/app/ws").status == 200


def test_streams_that_were_open_may_be_reset(client: Http2Client) -> None:
    for _ in range(300):
        socket = Http2Socket(client, "/t/app2/ws")
        assert socket.status == 200
        socket.give_up()


def test_a_window_that_stays_shut_holds_up_nobody_else(client: Http2Client) -> None:
    shut = Http2Socket(client, "/t/app/ws")
    client.h2.acknowledge_received_data = lambda *_: None  # type: ignore[method-assign]
    for _ in range(3):
        shut.say("x" * 10_000)
    other = Http2Socket(client, "/t/app2/ws")
    other.say("hello")
    assert other.text() == "hello"
