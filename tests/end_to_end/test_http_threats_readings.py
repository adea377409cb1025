"""Requests and answers that say two things at once: the gateway reads one, the target would read the other."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from demo.issuer import LocalIssuer
from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, HttpGateway
from tests.end_to_end.http_raw import Http2Client, OddTarget, RawClient, answer
from tests.end_to_end.test_http_threats import for_agents

FORM = "application/x-www-form-urlencoded"
CRASHES = "proxyd_session_crashes_total"
VALUE = "hunter2-the-masked-value"

POLICY = (
    for_agents(EVERYTHING_BY_HTTP)
    + """\
  - name: small-payments
    effect: deny
    http: {paths: ["/pay"], body: {"$.amount": {min: 100}}}
masks:
  - name: secrets
    targets: {names: [masked]}
    json: ["$..secret"]
    method: redact
    on: [request, response]
"""
)


@pytest.fixture(scope="module")
def odd() -> Iterator[OddTarget]:
    with OddTarget() as target:
        yield target


@pytest.fixture(scope="module")
def gateway(
    odd: OddTarget, issuer: LocalIssuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpGateway]:
    targets = {"odd": {"url": odd.url}, "masked": {"url": odd.url}}
    with HttpGateway(tmp_path_factory.mktemp("readings"), targets, policy=POLICY, issuer=issuer) as running:
        yield running


@pytest.mark.parametrize(
    ("types", "body", "status"),
    [
        (["application/json"], '{"amount": 5}', 200),
        (["application/json; charset=UTF-8"], '{"amount": 5}', 200),
        (
            ["application/json; charset=utf-7"],
            '{"x": "+ACIALAAiAGEAbQBvAHUAbgB0ACIAOgA1ADAAMAAsACIAYg-"}',
            403,
        ),
        (["application/json; charset=utf-16le"], '{"amount": 5}', 403),
        ([f"{FORM}; charset=utf-7"], "%2BAGEAbQBvAHUAbgB0-=500", 403),
        ([f"{FORM}; charset=ibm037"], "%81%94%96%A4%95%A3=%F5%F0%F0", 403),
        (["application/json", FORM], '{"x": "&amount=500&"}', 400),
        (["application/json", "application/json"], '{"amount": 5}', 400),
        ([f"application/json, {FORM}"], '{"amount": 5}', 403),
    ],
)
@pytest.mark.parametrize("http2", [False, True])
def test_a_body_has_one_type_and_one_encoding(
    gateway: HttpGateway, odd: OddTarget, types: list[str], body: str, status: int, *, http2: bool
) -> None:
    before = len(odd.heads)
    if http2:
        with Http2Client(gateway) as client:
            fields = [("content-type", kind) for kind in types]
            stream = client.request("/t/odd/pay", *fields, method="POST", ends=False)
            client.h2.send_data(stream, body.encode(), end_stream=True)
            client.flush()
            assert client.answer_on(stream)[0] == status
    else:
        with RawClient(gateway) as client1:
            fields1 = [f"Content-Type: {kind}" for kind in types]
            assert client1.ask("/t/odd/pay", *fields1, method="POST", body=body.encode())[0] == status
    assert len(odd.heads) == before + (status == 200)


UPGRADE = (
    "Upgrade: websocket",
    "Connection: upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@pytest.mark.parametrize("target", ["odd", "masked"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_body_of_an_upgrade_does_not_become_frames(
    gateway: HttpGateway, odd: OddTarget, target: str, method: str
) -> None:
    """Servers stop reading HTTP at the head: frames in the body would go round masks, judging and the tape."""
    before = len(odd.heads)
    frames = bytes([0x81, 0x85, 0, 0, 0, 0]) + b"hello"
    with RawClient(gateway) as client:
        assert client.ask(f"/t/{target}/ws", *UPGRADE, method=method, body=frames)[0] == 400
    with RawClient(gateway) as client:
        head = "\r\n".join((f"{method} /t/{target}/ws HTTP/1.1", "Host: localhost", *UPGRADE))
        client.send(f"{head}\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n".encode() + frames + b"\r\n0\r\n\r\n")
        assert client.answer()[0] == 400
    with RawClient(gateway) as client:
        assert client.ask(f"/t/{target}/ws", *UPGRADE, method="PUT")[0] == 400
    assert len(odd.heads) == before


@pytest.mark.parametrize("scheme", ["ftp", "", "https\t", "data"])
def test_a_scheme_of_the_clients_own_costs_its_stream(gateway: HttpGateway, scheme: str) -> None:
    before = gateway.metrics()[CRASHES]
    with Http2Client(gateway, None) as client:
        stream = client.h2.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", scheme), (":authority", "localhost"), (":path", "/t/odd/x")]
        client.h2.send_headers(stream, head, end_stream=True)
        client.flush()
        assert client.answer_on(stream)[0] in (0, 400)
    assert gateway.metrics()[CRASHES] == before


@pytest.mark.parametrize("field", ["X-Api-Key", "Api-Key", "X-Goog-Api-Key"])
def test_a_token_beside_what_let_the_client_in_does_not_go_on(
    gateway: HttpGateway, odd: OddTarget, field: str
) -> None:
    token, other = gateway.token("agent-alice"), gateway.token("agent-alice")
    forged = f"{other[:-6]}AAAAAA"
    for shown in ([], [f"Authorization: Bearer {token}"]):
        for key in (token, other, forged, f"Bearer {other}"):
            with RawClient(gateway, None if shown else "alice") as client:
                assert client.ask("/t/odd/open", *shown, f"{field}: {key}")[0] == 200
            assert key.rpartition(" ")[2].encode() not in odd.heads[-1]
    with RawClient(gateway) as client:
        assert client.ask("/t/odd/open", f"{field}: key-of-the-target")[0] == 200
    assert b"key-of-the-target" in odd.heads[-1]


def test_an_answer_of_two_types_is_not_masked_by_the_first(gateway: HttpGateway, odd: OddTarget) -> None:
    body = json.dumps({"secret": VALUE}).encode()
    odd.behaviours["/two"] = answer(body, "Content-Type: text/html", "Content-Type: application/json")
    with RawClient(gateway) as client:
        status, _, told = client.ask("/t/masked/two")
    assert status == 502
    assert VALUE.encode() not in told
