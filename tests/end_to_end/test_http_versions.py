"""HTTP through the gateway, in one line each: what the other modules look into more closely."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import HttpGatewayFactory
from tests.end_to_end.http_gateway import SECRET, HttpGateway
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.running import wait_until


@pytest.mark.parametrize("target", ["app", "app2"])
@pytest.mark.parametrize("http2", [False, True])
def test_every_pair_of_versions(http_gateway: HttpGateway, target: str, *, http2: bool) -> None:
    with http_gateway.client(http2=http2) as client:
        answer = client.post(f"/t/{target}/echo?x=1", content=b"hello")
    assert answer.status_code == 200
    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    told = answer.json()
    assert (told["method"], told["path"], told["query"], told["body"]) == ("POST", "/echo", "x=1", "hello")
    assert told["version"] == ("2" if target == "app2" else "1.1")
    assert ["authorization", f"Bearer {SECRET}"] in told["headers"]


@pytest.mark.parametrize("client", ["agent-alice", "agent-dora"])
def test_a_token_of_the_issuer(http_gateway: HttpGateway, client: str) -> None:
    token = http_gateway.token(client)
    with http_gateway.client(token=token) as http:
        answer = http.get("/t/app/echo")
    assert answer.status_code == (200 if client == "agent-alice" else 403)
    assert token not in answer.text


def test_a_denial_is_a_problem(http_gateway: HttpGateway) -> None:
    with http_gateway.client() as client:
        answer = client.get("/t/app/admin/users")
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["rule"] == "no-admin"
        assert client.get("/t/app/echo").status_code == 200  # on the same connection


def test_bytes_of_targets_are_counted(make_http_gateway: HttpGatewayFactory, http_app: Hypercorn) -> None:
    gateway = make_http_gateway({"app": {"url": http_app.url}})
    sent, received = (
        f'proxyd_bytes_total{{direction="{direction}",peer="target"}}' for direction in ("out", "in")
    )
    before = gateway.metrics()
    with gateway.client() as client:
        for _ in range(2):  # on one connection to the target
            assert client.post("/t/app/echo", content=b"x" * 50_000).json()["length"] == 50_000
    wait_until(lambda: gateway.metrics()[sent] >= before[sent] + 100_000, "the count of what was sent")
    after = gateway.metrics()
    assert after[sent] < before[sent] + 110_000
    assert before[received] + 100_000 <= after[received] < before[received] + 110_000
