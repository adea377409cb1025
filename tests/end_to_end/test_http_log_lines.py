"""What an auditor finds in the log of a request that was refused before it had a session, and so a tape: what was asked
for, by whom as far as that is known, from where, and why not. Never a token, and never the query."""

from __future__ import annotations

from typing import Any

import pytest

from tests.end_to_end.http_gateway import HttpGateway
from tests.end_to_end.running import wait_until


@pytest.fixture
def gateway(http_gateway: HttpGateway) -> HttpGateway:
    """Others' too: each test looks for a path of its own."""
    return http_gateway


def refused(gateway: HttpGateway, **values: object) -> dict[str, Any]:
    """The one line with these values, once it is there."""
    wait_until(lambda: bool(gateway.logged("request refused", **values)), "the line")
    (line,) = gateway.logged("request refused", **values)
    assert line["level"] == "warning" and line["listener"] == "web"
    assert line["client"].startswith("127.0.0.1:")
    return line


@pytest.mark.parametrize("http2", [False, True])
def test_somebody_without_access(gateway: HttpGateway, http2: bool) -> None:
    path = f"/t/app/stranger/{http2}"
    with gateway.client("mallory", http2=http2) as client:
        assert client.get(path, params={"q": "not-to-be-told"}).status_code == 403
    line = refused(gateway, path=path)
    assert (line["subject"], line["by"]) == ("mallory@example.com", "certificate")
    assert (line["method"], line["host"]) == ("GET", f"localhost:{gateway.port}")
    assert line["version"] == ("2" if http2 else "1.1")
    assert (line["status"], line["failure"]) == (403, "not_admitted")
    assert "'app'" in line["reason"]


def test_a_target_that_is_none(gateway: HttpGateway) -> None:
    with gateway.client("alice") as client:
        assert client.post("/t/nowhere/x").status_code == 403
    line = refused(gateway, path="/t/nowhere/x")
    assert (line["subject"], line["method"]) == ("alice@example.com", "POST")
    assert line["reason"] == "not admitted to 'nowhere': no such target"


def test_nobody(gateway: HttpGateway) -> None:
    with gateway.client(None) as client:
        assert client.get("/t/app/nobody").status_code == 401
    line = refused(gateway, path="/t/app/nobody")
    assert "subject" not in line and line["failure"] == "identity"


def test_a_token_that_is_forged(gateway: HttpGateway) -> None:
    token = gateway.token("agent-alice")
    head, _, signature = token.rpartition(".")
    forged = f"{head}.{signature[::-1]}"
    with gateway.client(token=forged) as client:
        assert client.get("/t/app/forged").status_code == 401
    line = refused(gateway, path="/t/app/forged")
    assert "subject" not in line
    assert line["reason"] == "the token's signature is not the issuer's (issuer company)"


def test_a_token_that_its_issuer_has_signed_tells_whose_it_is(gateway: HttpGateway) -> None:
    with gateway.client(token=gateway.token("nameless")) as client:
        assert client.get("/t/app/nameless").status_code == 401
    line = refused(gateway, path="/t/app/nameless")
    assert "subject" not in line
    assert line["reason"].endswith("(issuer company, sub nameless)")


def test_a_tunnel_to_nowhere(gateway: HttpGateway) -> None:
    done = gateway.curl(
        "https://nowhere.example/x",
        "--proxy",
        gateway.url,
        "--proxy-cacert",
        str(gateway.ca),
        "--proxy-header",
        f"Proxy-Authorization: Bearer {gateway.token('agent-alice')}",
        person=None,
    )
    assert done.returncode != 0
    line = refused(gateway, host="nowhere.example:443")
    assert (line["method"], line["by"]) == ("CONNECT", "oidc")


def test_what_is_no_request(gateway: HttpGateway) -> None:
    with gateway.client("alice") as client:
        assert client.get("/t/app/a%2Fb", params={"q": "not-to-be-told"}).status_code == 400
    line = refused(gateway, path="/t/app/a%2Fb")
    assert (line["subject"], line["failure"]) == ("alice@example.com", "protocol")


def test_a_token_in_the_wrong_place_is_not_told(gateway: HttpGateway) -> None:
    with gateway.client(None) as client:
        assert client.get(f"/t/app/lost/{gateway.token('agent-alice')}/x").status_code == 401
    refused(gateway, path="/t/app/lost/<removed>/x")


def test_none_of_it_tells_a_token_or_a_query(gateway: HttpGateway) -> None:
    text = gateway.daemon.log_path.read_text()
    assert "not-to-be-told" not in text
    head, _, _ = gateway.token("agent-alice").partition(".")
    assert head not in text
