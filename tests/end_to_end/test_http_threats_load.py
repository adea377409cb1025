"""One subject who asks for too much at once, or sends too slowly: the others are served all the same."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.issuer import LocalIssuer
from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, HttpGateway
from tests.end_to_end.http_raw import Http2Client, OddTarget, RawClient
from tests.end_to_end.running import Document, wait_until

DEADLINE_S = 15.0
POLICY = (
    EVERYTHING_BY_HTTP.replace("data: {groups: [data]}", "data: {groups: [data, guests]}")
    + """\
  - name: small-payments
    effect: deny
    http: {paths: ["/pay"], body: {"$.amount": {min: 100}}}
"""
)


def says_nothing(sock: socket.socket, head: bytes, body: bytes) -> None:
    while sock.recv(65536):
        pass


@pytest.fixture(scope="module")
def odd() -> Iterator[OddTarget]:
    with OddTarget({"/silent": says_nothing}) as target:
        yield target


@pytest.fixture(scope="module")
def gateway(odd: OddTarget, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpGateway]:
    def adjust(config: Document) -> None:
        config["listeners"][0]["timeouts"] = {"body": "300ms"}

    targets: dict[str, Document] = {"odd": {"url": odd.url, "limits": {"connections": 8}}}
    directory = tmp_path_factory.mktemp("load")
    with HttpGateway(directory, targets, policy=POLICY, adjust=adjust) as running:
        yield running


def test_one_subject_does_not_take_all_connections_to_a_target(gateway: HttpGateway, odd: OddTarget) -> None:
    before = len(odd.heads)
    with Http2Client(gateway, "alice") as alice:
        for _ in range(6):
            alice.request("/t/odd/silent")
        wait_until(lambda: len(odd.heads) == before + 6, "six requests at the target")
        assert alice.answer_on(alice.request("/t/odd/open"))[0] == 429
        with RawClient(gateway, "mallory") as mallory:
            assert mallory.ask("/t/odd/open")[0] == 200
    with RawClient(gateway, "alice") as again:
        wait_until(lambda: again.ask("/t/odd/open")[0] == 200, "that those who have gone take no room")


def test_a_body_that_has_to_be_judged_may_not_trickle_for_ever(gateway: HttpGateway, odd: OddTarget) -> None:
    before = len(odd.heads)
    with RawClient(gateway) as client:
        client.send(
            b"POST /t/odd/pay HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100000\r\n\r\n"
        )
        deadline = time.monotonic() + DEADLINE_S
        while not select.select([client.socket], [], [], 0.1)[0]:  # a byte now and then, and never a silence
            client.send(b" ")
            assert time.monotonic() < deadline
        assert client.answer()[0] == 408
    assert len(odd.heads) == before


@pytest.mark.parametrize("http2", [False, True])
def test_strangers_do_not_keep_the_places_of_others(
    odd: OddTarget, issuer: LocalIssuer, tmp_path: Path, *, http2: bool
) -> None:
    """However often they ask: who has said nothing of who they are has the time for a handshake."""

    def adjust(config: Document) -> None:
        config["listeners"][0]["limits"] = {"handshake_timeout": "1s"}

    with HttpGateway(
        tmp_path, {"odd": {"url": odd.url}}, policy=POLICY, issuer=issuer, adjust=adjust
    ) as gateway:
        with Http2Client(gateway, None) if http2 else RawClient(gateway, None) as stranger:
            if isinstance(stranger, Http2Client):
                assert stranger.answer_on(stranger.request("/t/odd/open"))[0] == 401
                assert stranger.ending() == 0
            else:
                assert stranger.ask("/t/odd/open")[0] == 401
                assert stranger.rest() == b""
        with RawClient(gateway) as known:
            assert known.ask("/t/odd/open")[0] == 200
            assert not select.select([known.socket], [], [], 2.5)[0]
            assert known.ask("/t/odd/open")[0] == 200
