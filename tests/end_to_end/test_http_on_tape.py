"""What real clients do through the gateway stands on the tape: before it is forwarded, whole, and without secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from policy.facts import HttpFacts
from proxyd.cli.main import main
from proxyd.tape.entries import Entry, Judgement
from proxyd.tape.http_entries import HttpBody, HttpHeaders, HttpMessage, HttpRequest, HttpResponse
from proxyd.tape.reader import read_tape
from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, SECRET, HttpGateway
from tests.end_to_end.http_servers import Hypercorn
from tests.pki import Authority

HIDDEN = "nobody-may-find-this-on-a-tape"


def entries_of(path: Path) -> list[Entry]:
    with read_tape(path) as tape:
        return list(tape.entries())


def opened(gateway: HttpGateway) -> Path:
    """The tape of the session that was opened last, and goes on."""
    return Path(gateway.logged("session opened")[-1]["tape"])


def exported(path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["tape", "export", "--format", "har", str(path)]) == 0
    entries = json.loads(capsys.readouterr().out)["log"]["entries"]
    assert isinstance(entries, list)
    return entries


def test_exchanges_of_a_connection_are_on_its_tape(
    http_gateway: HttpGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    with http_gateway.client() as client:
        assert client.get("/t/app/people?x=1").status_code == 200
        assert client.post("/t/app/typed?type=text/plain", content="grüß" * 10_000).status_code == 200
        assert client.delete("/t/app/echo").status_code == 403
        assert client.get("/t/app/admin/x").status_code == 403
        assert client.get("/t/app/redirect?to=/x").status_code == 302
    session = http_gateway.last_session()
    path = http_gateway.tape(session)
    chain = str(http_gateway.logged("session ended", session=session)[0]["chain"])
    assert main(["tape", "verify", str(path), "--chain", chain]) == 0
    entries = exported(path, capsys)
    assert [(one["request"]["method"], one["response"]["status"]) for one in entries] == [
        ("GET", 200),
        ("POST", 200),
        ("DELETE", 403),
        ("GET", 403),
        ("GET", 302),
    ]
    assert [one["_proxyd"]["decisions"][0]["effect"] for one in entries] == [
        "allow",
        "allow",
        "hold",
        "deny",
        "allow",
    ]
    assert [one["_proxyd"]["madeHere"] for one in entries] == [False, False, True, True, False]
    assert entries[0]["request"]["url"].endswith("/people?x=1")
    assert json.loads(entries[0]["response"]["content"]["text"])["people"][0]["name"] == "Ada"
    assert entries[1]["request"]["postData"]["text"] == "grüß" * 10_000
    assert entries[1]["response"]["content"]["text"] == "grüß" * 10_000
    assert json.loads(entries[3]["response"]["content"]["text"])["rule"] == "no-admin"
    assert main(["tape", "show", str(path)]) == 0
    assert "-- denied by no-admin" in capsys.readouterr().out


def test_no_secret_is_on_a_tape(http_gateway: HttpGateway) -> None:
    """Of the client, of the target, in each direction. The credential that the gateway puts in is never recorded."""
    token = http_gateway.token("agent-alice")
    headers = {"cookie": f"a={HIDDEN}", "x-api-token": HIDDEN, "referer": f"https://x/?access_token={HIDDEN}"}
    with http_gateway.client(token=token) as client:
        for path in (
            f"/t/app/people?access_token={HIDDEN}&sig={HIDDEN}",
            f"/t/app/redirect?to=/y%3Ftoken%3D{HIDDEN}",
            f"/t/app/admin/x?api_key={HIDDEN}",
        ):
            assert client.get(path, headers=headers).status_code in (200, 302, 403)
    tape = http_gateway.tape(http_gateway.last_session()).read_bytes()
    assert tape.count(b"<removed>") > 6
    for secret in (HIDDEN, token, SECRET):
        assert secret.encode() not in tape


@pytest.mark.parametrize("http2", [False, True])
def test_what_a_client_gets_is_on_the_tape_already(http_gateway: HttpGateway, *, http2: bool) -> None:
    """Event by event, the session still open."""
    seen = 0
    with http_gateway.client(http2=http2) as client, client.stream("GET", "/t/app/sse?n=5") as answer:
        path = opened(http_gateway)
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                recorded = b"".join(
                    entry.raw for entry in entries_of(path) if isinstance(entry, HttpBody | HttpResponse)
                )
                assert line.encode() in recorded
                seen += 1
    assert seen == 5


def test_streams_side_by_side_are_told_apart(
    http_gateway: HttpGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [(f"/t/app/bytes?n={size}&chunk=700", {}) for size in range(0, 9000, 450)]
    sizes = [len(answer.content) for answer in http_gateway.side_by_side(asked)]
    assert sizes == list(range(0, 9000, 450))
    entries = exported(http_gateway.tape(http_gateway.last_session()), capsys)
    found = {
        one["request"]["queryString"][0]["value"]: one["response"]["bodySize"]
        for one in entries
        if "/bytes" in one["request"]["url"]
    }
    assert found == {str(size): size for size in sizes}


def test_messages_of_a_websocket(http_gateway: HttpGateway, capsys: pytest.CaptureFixture[str]) -> None:
    url = http_gateway.url.replace("https://", "wss://")
    with connect(f"{url}/t/app/ws?token={HIDDEN}", ssl=http_gateway.context(), proxy=None) as socket:
        path = opened(http_gateway)
        for message in ("hello", b"\x00\x01", "grüß"):
            socket.send(message)
            assert socket.recv() == message
            raw = message.encode() if isinstance(message, str) else message
            told = [
                entry for entry in entries_of(path) if isinstance(entry, HttpMessage) and entry.raw == raw
            ]
            assert [entry.way for entry in told] == [0, 1]
    (entry,) = exported(http_gateway.tape(http_gateway.last_session()), capsys)
    assert HIDDEN not in json.dumps(entry)
    assert entry["response"]["status"] == 101
    assert [one["data"] for one in entry["_webSocketMessages"][:6]] == [
        *["hello"] * 2,
        *["AAE="] * 2,
        *["grüß"] * 2,
    ]


MASKED_ON_THE_WAY = (
    EVERYTHING_BY_HTTP
    + """
  - name: no-large-orders
    effect: deny
    http: {body: {"$.amount": {min: 100}}}
masks:
  - {name: notes, json: ["$.note"], method: redact, on: [request]}
"""
)


def test_what_masks_of_requests_hide_is_not_on_the_tape(
    make_http_gateway: Callable[..., HttpGateway], http_app: Hypercorn, target_ca: Authority
) -> None:
    """Neither of a request that goes on nor of one that is refused for what is in its body."""
    gateway = make_http_gateway({"app": {"url": http_app.url}}, policy=MASKED_ON_THE_WAY, ca=target_ca)
    with gateway.client() as client:
        for amount, status in ((5, 200), (500, 403)):
            answer = client.post("/t/app/echo", json={"amount": amount, "note": HIDDEN})
            assert answer.status_code == status
            assert HIDDEN not in answer.text
    path = gateway.tape(gateway.last_session())
    assert HIDDEN.encode() not in path.read_bytes()
    went_on, refused = (entry for entry in entries_of(path) if isinstance(entry, Judgement))
    assert isinstance(went_on.facts[0], HttpFacts)
    assert went_on.facts[0].body["amount"] == 5
    assert refused.decisions[0].reasons[0].rule == "no-large-orders"


def test_what_repeats_is_on_the_tape_once(http_gateway: HttpGateway) -> None:
    with http_gateway.client() as client:
        for _ in range(20):
            assert client.get("/t/app/status?code=200").status_code == 200
    entries = entries_of(http_gateway.tape(http_gateway.last_session()))
    kinds = [type(entry) for entry in entries]
    assert kinds.count(HttpRequest) == kinds.count(HttpResponse) == 20
    assert kinds.count(Judgement) == 1
    assert kinds.count(HttpHeaders) < 20  # the answers' `date` may move on
