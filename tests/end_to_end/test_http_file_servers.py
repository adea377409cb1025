"""Servers of other people's making behind the gateway: nginx and Caddy, in clear and over TLS, HTTP/1.1 and HTTP/2.

What a client gets is what it would get from them, in pieces or whole, whichever version either side speaks; under masks
it is whole and readable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, HttpGateway
from tests.end_to_end.http_servers import Caddy, HttpServer, Nginx
from tests.end_to_end.running import Document
from tests.pki import Authority

LARGE = bytes(range(256)) * 40_000  # 10 MB
PEOPLE = json.dumps([{"id": number, "email": f"user{number}@example.net"} for number in range(2000)])
MASKS = """
masks:
  - {name: mail, json: ["$..email"], method: redact, targets: {names: ["*-masked"]}}
"""
KINDS = ("nginx", "nginx-tls", "caddy", "caddy-tls", "caddy-h2")
both = pytest.mark.parametrize("http2", [False, True])
every = pytest.mark.parametrize("kind", KINDS)


def fill(www: Path) -> None:
    (www / "folder").mkdir(parents=True)
    (www / "folder" / "index.html").write_text("<p>here</p>")
    (www / "large.bin").write_bytes(LARGE)
    (www / "people.json").write_text(PEOPLE)
    (www / "empty.txt").write_text("")
    (www / "a b\N{LATIN SMALL LETTER E WITH ACUTE}.txt").write_text("blank")


@pytest.fixture(scope="module")
def gateway(target_ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpGateway]:
    directory = tmp_path_factory.mktemp("files")
    servers: dict[str, HttpServer] = {
        "nginx": Nginx(directory / "nginx"),
        "nginx-tls": Nginx(directory / "nginx-tls", ca=target_ca),
        "caddy": Caddy(directory / "caddy"),
        "caddy-tls": Caddy(directory / "caddy-tls", target_ca),
    }
    targets: dict[str, Document] = {}
    for more in ("", "-masked"):
        targets |= {f"{name}{more}": {"url": server.url} for name, server in servers.items()}
        targets[f"caddy-h2{more}"] = {"url": servers["caddy-tls"].url, "protocols": ["h2"]}
    for name in servers:
        fill(directory / name / "www")
    try:
        for server in servers.values():
            server.start()
        policy = EVERYTHING_BY_HTTP + MASKS
        with HttpGateway(directory / "gateway", targets, policy=policy, ca=target_ca) as running:
            yield running
    finally:
        for server in servers.values():
            server.stop()


@every
@both
def test_files_whole_and_in_pieces(gateway: HttpGateway, kind: str, *, http2: bool) -> None:
    with gateway.client(http2=http2) as client:
        whole = client.get(f"/t/{kind}/large.bin")
        assert whole.status_code == 200
        assert hashlib.sha256(whole.content).digest() == hashlib.sha256(LARGE).digest()
        piece = client.get(f"/t/{kind}/large.bin", headers={"range": "bytes=1000-1999"})
        assert (piece.status_code, piece.content) == (206, LARGE[1000:2000])
        assert piece.headers["content-range"] == f"bytes 1000-1999/{len(LARGE)}"
        beyond = client.get(f"/t/{kind}/large.bin", headers={"range": "bytes=99999999-"})
        assert beyond.status_code == 416
        assert client.get(f"/t/{kind}/empty.txt").content == b""
        assert client.get(f"/t/{kind}/a%20b%C3%A9.txt").text == "blank"


@every
@both
def test_heads_conditions_and_errors(gateway: HttpGateway, kind: str, *, http2: bool) -> None:
    with gateway.client(http2=http2) as client:
        head = client.head(f"/t/{kind}/large.bin")
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(LARGE)), b"")
        known = client.get(f"/t/{kind}/people.json")
        again = client.get(f"/t/{kind}/people.json", headers={"if-none-match": known.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        lost = client.get(f"/t/{kind}/nowhere")
        assert lost.status_code == 404
        assert "problem" not in lost.headers.get("content-type", "")  # the target's own
        assert client.post(f"/t/{kind}/people.json", content=b"x").status_code == 405
        assert client.get(f"/t/{kind}/people.json").text == PEOPLE  # the connection goes on


@every
def test_a_redirect_stays_at_the_gateway(gateway: HttpGateway, kind: str) -> None:
    with gateway.client() as client:
        sent = client.get(f"/t/{kind}/folder")
        assert sent.status_code in {301, 307, 308}
        assert httpx.URL(sent.headers["location"]).path == f"/t/{kind}/folder/"
        assert client.get(f"/t/{kind}/folder", follow_redirects=True).text == "<p>here</p>"


@pytest.mark.parametrize("kind", ["caddy", "caddy-tls", "caddy-h2"])
@both
def test_what_is_compressed_passes_and_under_masks_is_asked_for_plain(
    gateway: HttpGateway, kind: str, *, http2: bool
) -> None:
    with gateway.client(http2=http2, headers={"accept-encoding": "gzip"}) as client:
        plain = client.get(f"/t/{kind}/people.json")
        assert plain.headers["content-encoding"] == "gzip"
        assert plain.text == PEOPLE
        masked = client.get(f"/t/{kind}-masked/people.json")
        assert "content-encoding" not in masked.headers
        assert [row["email"] for row in masked.json()] == ["[redacted]"] * 2000


@every
@both
def test_under_masks_pieces_are_whole(gateway: HttpGateway, kind: str, *, http2: bool) -> None:
    """The middle of a document cannot be read, and an ETag would tell whether a value has changed."""
    with gateway.client(http2=http2) as client:
        answer = client.get(f"/t/{kind}-masked/people.json", headers={"range": "bytes=100-200"})
        assert answer.status_code == 200
        assert "etag" not in answer.headers
        assert "example.net" not in answer.text
        assert len(answer.json()) == 2000
        assert client.get(f"/t/{kind}-masked/large.bin").status_code == 502  # of no type that masks can read


@every
def test_side_by_side_on_one_connection(gateway: HttpGateway, kind: str) -> None:
    asked = [(f"/t/{kind}/large.bin", {"range": f"bytes={n * 1000}-{n * 1000 + 99_999}"}) for n in range(30)]
    for number, answer in enumerate(gateway.side_by_side(asked)):
        assert answer.status_code == 206
        assert answer.content == LARGE[number * 1000 : number * 1000 + 100_000]
