"""Targets of HTTP/2 that break off, lie or stop listening while a WebSocket is carried to them, and many at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hyperframe.frame import GoAwayFrame

from tests.end_to_end.http2_socket import Http2Socket
from tests.end_to_end.http2_target import Behaviour, OddHttp2Target, PlayedStream
from tests.end_to_end.http_gateway import HttpGateway
from tests.end_to_end.http_raw import Http2Client
from tests.end_to_end.running import Document, wait_until
from tests.pki import Authority


def hello(stream: PlayedStream) -> None:
    stream.accept()
    stream.data(b"\x81\x05hello")


def with_interim(stream: PlayedStream) -> None:
    for _ in range(30):
        stream.answer(103)


def in_mid_frame(stream: PlayedStream) -> None:
    stream.accept()
    stream.data(b"\x81\x7e\xff", ends=True)


def masked(stream: PlayedStream) -> None:
    stream.accept()
    stream.data(b"\x81\x85\0\0\0\0hello")


def reset_later(stream: PlayedStream) -> None:
    hello(stream)
    stream.reset(8)


def going_away(stream: PlayedStream) -> None:
    hello(stream)
    stream.frame(GoAwayFrame(0, last_stream_id=stream.number))


@pytest.fixture(scope="module")
def odd() -> Iterator[OddHttp2Target]:
    with OddHttp2Target() as target:
        yield target


@pytest.fixture(scope="module")
def gateway(
    odd: OddHttp2Target, target_ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpGateway]:
    all_targets: dict[str, Document] = {
        "odd": {"url": odd.url, "protocols": ["h2"], "timeouts": {"response": "2s"}}
    }

    def adjust(config: Document) -> None:
        config["listeners"][0]["limits"] = {"streams": 1000}

    with HttpGateway(tmp_path_factory.mktemp("odd"), all_targets, ca=target_ca, adjust=adjust) as made:
        yield made


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        (lambda stream: stream.answer(200, ends=True), 200, 1001),
        (lambda stream: stream.answer(204, ends=True), 200, 1001),
        (lambda stream: stream.answer(302, ("location", "/x"), ends=True), 302, None),
        (lambda stream: stream.answer(403, ends=True), 403, None),
        (lambda stream: stream.answer(101), 502, None),
        (lambda stream: stream.reset(8), 502, None),
        (lambda stream: stream.reset(7), 502, None),
        (lambda stream: None, 504, None),
        (with_interim, 502, None),
        (in_mid_frame, 200, 1001),
        (masked, 200, 1011),
        (reset_later, 200, 1001),
    ],
)
def test_what_a_target_of_http2_does_ends_its_stream_alone(
    gateway: HttpGateway, odd: OddHttp2Target, behaviour: Behaviour, status: int, code: int | None
) -> None:
    odd.behaviours["/odd"] = behaviour
    with Http2Client(gateway) as client:
        bystander = Http2Socket(client, "/t/odd/echo")
        socket = Http2Socket(client, "/t/odd/odd")
        assert socket.status == status
        if code is not None:
            assert socket.closing()[0] == code
        bystander.say("still here")
        assert bystander.text() == "still here"


def test_a_target_that_goes_away_lets_its_streams_end(gateway: HttpGateway, odd: OddHttp2Target) -> None:
    """RFC 9113, 6.8: those that it has taken go on, others have another connection."""
    odd.behaviours["/odd"] = going_away
    with Http2Client(gateway) as client:
        before = Http2Socket(client, "/t/odd/echo")
        last = Http2Socket(client, "/t/odd/odd")
        assert last.text() == "hello"
        connections = odd.connections
        other = Http2Socket(client, "/t/odd/echo")
        for socket in (before, other):
            socket.say("still here")
            assert socket.text() == "still here"
        assert odd.connections == connections + 1


def test_a_thousand_on_one_connection(gateway: HttpGateway, odd: OddHttp2Target) -> None:
    with Http2Client(gateway) as client:
        sockets = [Http2Socket(client, "/t/odd/echo", wait=False) for _ in range(1000)]
        for number, socket in enumerate(sockets):
            socket.wait_for_answer()
            assert socket.status == 200
            socket.say(str(number))
        assert [socket.text() for socket in sockets] == [str(number) for number in range(1000)]
    gateway.last_session()


def test_a_target_that_takes_nothing_still_answers_others(gateway: HttpGateway, odd: OddHttp2Target) -> None:
    """Its window for the connection is used up by one who sends, so others cannot send there; but they can ask."""
    odd.is_deaf = True
    odd.behaviours["/plain"] = lambda stream: stream.answer(200, ends=True)
    try:
        with Http2Client(gateway) as client, Http2Client(gateway) as other:
            stuck = Http2Socket(client, "/t/odd/echo")
            before = odd.received
            while client.h2.local_flow_control_window(stuck.number) >= 10_010:
                stuck.say(b"x" * 10_000)
            wait_until(lambda: odd.received >= before + 60_000, "what its window takes")
            assert other.answer_on(other.request("/t/odd/plain"))[0] == 200
            assert Http2Socket(other, "/t/odd/echo").status == 200
    finally:
        odd.is_deaf = False
