"""A listener that asks for a certificate and a token: both of one person, over both versions of HTTP and in tunnels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demo.issuer import LocalIssuer
from tests.end_to_end.http_gateway import HttpGateway
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.running import Document
from tests.pki import Authority

PATH = "/t/app/echo"


@pytest.fixture(scope="module")
def gateway(
    http_app: Hypercorn, issuer: LocalIssuer, target_ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpGateway]:
    def both(config: Document) -> None:
        config["listeners"][0]["factors"] = [["certificate", "token"]]
        config["listeners"][0]["tls"]["client_certificates"] = "required"
        config["identity"]["certificates"] = {"name": ["cn"]}

    directory: Path = tmp_path_factory.mktemp("both")
    targets = {"app": {"url": http_app.url, "hosts": ["app.internal"]}}
    with HttpGateway(directory, targets, issuer=issuer, ca=target_ca, adjust=both) as running:
        yield running


def ask(gateway: HttpGateway, person: str, token: str, *, http2: bool = False) -> httpx.Response:
    headers = {"authorization": f"Bearer {gateway.token(token)}"} if token else {}
    with gateway.client(person, http2=http2, headers=headers) as client:
        return client.get(PATH)


@pytest.mark.parametrize("http2", [False, True])
def test_both_of_one_person(gateway: HttpGateway, http2: bool) -> None:
    assert ask(gateway, "alice", "agent-alice", http2=http2).status_code == 200
    opened = gateway.logged("session opened")[-1]
    assert opened["subject"] == "alice"


@pytest.mark.parametrize(
    ("person", "token", "words"),
    [
        ("alice", "", "asks for a certificate and a token"),
        ("alice", "agent-dora", "of different people"),
        ("mallory", "agent-alice", "of different people"),
    ],
)
def test_one_of_them_or_two_of_two_people(gateway: HttpGateway, person: str, token: str, words: str) -> None:
    answer = ask(gateway, person, token)
    assert answer.status_code == 401
    told = answer.json()
    assert words in told["detail"]
    assert told["hint"]


def test_a_token_alone_gets_no_connection(gateway: HttpGateway) -> None:
    with pytest.raises(httpx.HTTPError), gateway.client(token=gateway.token("agent-alice")) as client:
        client.get(PATH)


def test_the_token_of_another_on_the_same_connection(gateway: HttpGateway) -> None:
    """Each request is asked anew."""
    with gateway.client("alice") as client:
        for token, status in (("agent-alice", 200), ("agent-dora", 401), ("agent-alice", 200)):
            headers = {"authorization": f"Bearer {gateway.token(token)}"}
            assert client.get(PATH, headers=headers).status_code == status


@pytest.mark.parametrize(("token", "is_opened"), [("agent-alice", True), ("agent-dora", False)])
def test_a_tunnel(gateway: HttpGateway, token: str, is_opened: bool) -> None:
    files = gateway.people["alice"]
    done = gateway.curl(
        "https://app.internal/echo",
        *("--proxy", gateway.url, "--proxy-cacert", str(gateway.ca)),
        *("--proxy-cert", str(files.certificate), "--proxy-key", str(files.key)),
        *("--proxy-header", f"Proxy-Authorization: Bearer {gateway.token(token)}"),
        *("--cacert", str(gateway.inspection_ca)),
        person=None,
    )
    assert (done.returncode == 0) is is_opened, done.stderr
    assert is_opened or b"407" in done.stderr
