"""Masks on bodies as real clients meet them: what a target says leaves masked, or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import httpx
import pytest
from websockets.sync.client import connect

from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, HttpGateway
from tests.end_to_end.http_servers import Hypercorn
from tests.pki import Authority

MASKS = (
    EVERYTHING_BY_HTTP
    + """
masks:
  - {name: mails, json: ["$..email"], method: redact}
  - {name: streets, json: ["$.customer.address"], method: {partial: {keep_first: 1}}}
  - {name: found, detect: [credit_card, us_ssn, email]}
  - {name: notes, json: ["$..note"], method: {fixed: {value: hidden}}, on: [request]}
"""
)
SECRETS = ("ada@example.com", "grace@example.com", "4111 1111 1111 1111", "536-22-1234", "Main 1")
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def gateway(
    http_app: Hypercorn, target_ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpGateway]:
    targets = {"app": {"url": http_app.url}}
    with HttpGateway(tmp_path_factory.mktemp("masks"), targets, policy=MASKS, ca=target_ca) as running:
        yield running


@pytest.fixture
def client(gateway: HttpGateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


def test_json(client: httpx.Client) -> None:
    answer = client.get("/t/app/people", headers={"accept-encoding": "gzip, br"})
    assert answer.status_code == 200 and "content-encoding" not in answer.headers
    assert not [secret for secret in SECRETS if secret in answer.text]
    first, second = answer.json()["people"]
    assert first == {"id": 1, "name": "Ada", "email": "[redacted]", "card": "<credit_card>"}
    assert second["notes"] == "call <email>" and second["ssn"] == "<us_ssn>"
    assert answer.json()["customer"] == {"address": {"street": "M*****", "city": "A****"}}
    assert "12345678901234567890" in answer.text


def test_a_head_does_not_tell_how_long_the_values_are(client: httpx.Client) -> None:
    for path, has_length in (
        ("/t/app/people", False),
        ("/t/app/typed?type=text/plain", True),
    ):  # the second is empty
        answer = client.head(path)
        assert answer.status_code == 200 and ("content-length" in answer.headers) is has_length, path
    assert client.get("/t/app/people").status_code == 200


def test_a_compressed_request_is_told_what_to_send(client: httpx.Client) -> None:
    for encoding in ("gzip", "br", "zstd", "what"):
        answer = client.post(
            "/t/app/echo", content=b"not looked at", headers={**JSON, "content-encoding": encoding}
        )
        assert (answer.status_code, answer.json()["hint"]) == (415, "Send it as it is."), encoding


def test_events_and_lines(client: httpx.Client) -> None:
    for path in ("/t/app/sse?n=5&wait=0", "/t/app/lines?n=5&wait=0"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if "{" in line]
        assert [json.loads(line)["email"] for line in lines] == ["[redacted]"] * 5, path
        assert not [secret for secret in SECRETS if secret in answer.text], path


RECORD = '{"id": 1, "email": "ada@example.com"}'


CALLED: list[tuple[str, str, str | None]] = [
    ("text/csv", "id,email\n1,ada@example.com\n", "id,email\n1,[redacted]\n"),
    ("text/html", RECORD, '{"id": 1, "email": "[redacted]"}'),
    ("text/html", "<p>4111 1111 1111 1111</p>", "<p><credit_card></p>"),
    ("application/octet-stream", RECORD, '{"id": 1, "email": "[redacted]"}'),
    ("text/html", "<email>ada@example.com</email>", None),
    ("application/xml", "<user email='ada@example.com'/>", None),
    ("image/png", RECORD, None),
    ("application/pdf", RECORD, None),
    ("application/json", RECORD[:-1], None),
    ("application/json", f"{RECORD} {RECORD}", None),
    ("application/json;charset=utf-16", RECORD, None),
    ("application/x-protobuf", "some text", None),
]


def test_whatever_it_is_called(client: httpx.Client) -> None:
    for content_type, body, shown in CALLED:
        answer = client.post("/t/app/typed", params={"type": content_type}, content=body)
        assert "ada@" not in answer.text and "4111" not in answer.text, content_type
        if shown is None:
            assert answer.status_code == 502, (content_type, answer.text)
            assert "cannot be masked" in answer.text, content_type
        else:
            assert (answer.status_code, answer.text) == (200, shown), content_type
        assert client.get("/t/app/people").status_code == 200, content_type


def test_requests_are_masked_on_their_way(client: httpx.Client) -> None:
    sent = {"note": {"a": "secret"}, "list": [{"Note": "secret"}, {"note": 5}], "other": "kept"}
    echoed = client.post("/t/app/echo", json=sent).json()
    assert json.loads(echoed["body"]) == {
        "note": {},
        "list": [{"Note": "hidden"}, {"note": 0}],
        "other": "kept",
    }
    refused = client.post("/t/app/echo", content=b'{"note": ', headers=JSON)
    assert refused.status_code == 415
    packed = client.post(
        "/t/app/echo", content=gzip.compress(b'{"note": 1}'), headers={**JSON, "content-encoding": "gzip"}
    )
    assert packed.status_code == 415


def test_messages_of_a_websocket(gateway: HttpGateway) -> None:
    address = gateway.url.replace("https:", "wss:") + "/t/app/ws"
    with connect(address, ssl=gateway.context()) as socket:
        socket.send('{"email": "ada@example.com", "card": "4111 1111 1111 1111"}')
        assert json.loads(socket.recv(timeout=60)) == {"email": "[redacted]", "card": "<credit_card>"}
        socket.send("plain words")
        assert socket.recv(timeout=60) == "plain words"
