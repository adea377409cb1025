"""A reload that takes a certificate, an issuer or access away takes live HTTP sessions along, streams too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml
from cryptography import x509
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from demo.issuer import LocalIssuer
from tests.end_to_end.conftest import HttpGatewayFactory
from tests.end_to_end.http_gateway import HttpGateway
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.running import Document, wait_until
from tests.end_to_end.test_http_life import (
    ALICE,
    FOREVER,
    OPEN_CONNECTIONS,
    TAKEN_AWAY,
    VERSIONS,
    Events,
    opened,
    streaming,
    targets,
)
from tests.pki import now

REASON = "the client certificate does not count any more: certificate revoked"
TAKEN = "access to app has been taken away"


@pytest.fixture
def gateway(make_http_gateway: HttpGatewayFactory, http_app: Hypercorn, issuer: LocalIssuer) -> HttpGateway:
    """With a list of what is revoked, empty at first."""
    made: HttpGateway = make_http_gateway(targets(http_app), issuer=issuer)

    def with_list(config: Document) -> None:
        config["listeners"][0]["tls"]["crl"] = str(made.authority.write_crl(made.ca.with_name("people.crl")))

    made.stop()
    change(made, with_list)
    made.start()
    return made


def change(gateway: HttpGateway, how: Callable[[Document], None]) -> None:
    config = yaml.safe_load(gateway.config_path.read_text())
    how(config)
    gateway.config_path.write_text(yaml.safe_dump(config, sort_keys=False))


def revoke(gateway: HttpGateway, person: str = "alice") -> None:
    (certificate, *_) = x509.load_pem_x509_certificates(Path(gateway.people[person].certificate).read_bytes())
    gateway.authority.revoked[certificate.serial_number] = now()
    gateway.authority.write_crl(gateway.ca.with_name("people.crl"))
    assert gateway.reload()


def ended(gateway: HttpGateway, session: str) -> tuple[str, str]:
    wait_until(lambda: bool(gateway.logged("session ended", session=session)), "the end of the session")
    (line,) = gateway.logged("session ended", session=session)
    assert line["reason"] in gateway.proxyd("tape", "show", str(gateway.tape(session))).stdout
    return line["outcome"], line["reason"]


@VERSIONS
def test_a_revoked_certificate_ends_an_answer_of_events(gateway: HttpGateway, *, http2: bool) -> None:
    with streaming(gateway, http2=http2) as events:
        session = opened(gateway)
        assert gateway.reload()
        events.more()
        revoke(gateway)
        told = events.last()
    assert (told["status"], told["detail"]) == (403, f"This session was ended: {REASON}.")
    assert ended(gateway, session) == ("revoked", REASON)


@VERSIONS
def test_a_revoked_certificate_closes_a_connection_that_is_idle(gateway: HttpGateway, *, http2: bool) -> None:
    with gateway.client(http2=http2) as client:
        assert client.get("/t/app/echo").status_code == 200
        revoke(gateway)
        assert ended(gateway, opened(gateway)) == ("revoked", REASON)
        wait_until(lambda: gateway.metrics()[OPEN_CONNECTIONS] == 0, "the end of the connection")
        with pytest.raises(httpx.TransportError):
            client.get("/t/app/echo")  # the handshake fails now


def test_access_taken_away_closes_a_websocket_with_the_reason(gateway: HttpGateway) -> None:
    url = gateway.url.replace("https://", "wss://")
    with connect(f"{url}/t/app/ws", ssl=gateway.context(), proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
        assert gateway.reload(TAKEN_AWAY)
        with pytest.raises(ConnectionClosed) as caught:
            websocket.recv(timeout=60)
    received = caught.value.rcvd
    assert received is not None
    assert (received.code, received.reason) == (1008, f"proxyd: this session was ended: {TAKEN}")


def test_a_connection_that_has_no_session_is_looked_at_when_it_asks(gateway: HttpGateway) -> None:
    """What it was refused left no session behind that a reload could end."""
    with gateway.client(http2=True) as client:
        assert client.get("/t/nowhere/echo").status_code == 403
        revoke(gateway)
        answer = client.get("/t/app/echo")
        assert (answer.status_code, answer.json()["detail"]) == (401, f"{REASON[:1].upper()}{REASON[1:]}.")
    assert not gateway.logged("session opened", subject=ALICE)


def test_an_issuer_that_has_gone_takes_its_tokens_sessions(gateway: HttpGateway) -> None:
    def remove(config: Document) -> None:
        del config["identity"]["issuers"]

    def narrow(config: Document) -> None:
        config["identity"]["issuers"][0]["audiences"] = ["another"]

    token = gateway.token("agent-alice")
    with gateway.client() as other, gateway.client(token=token) as client:
        with client.stream("GET", FOREVER) as answer:
            events = Events(answer)
            session = opened(gateway)
            assert other.get("/t/app/echo").status_code == 200
            change(gateway, narrow)
            assert gateway.reload()
            told = events.last()
        assert told["status"] == 403
        reason = "what counts of tokens of issuer company has changed"
        assert ended(gateway, session) == ("revoked", reason)
        assert client.get("/t/app/echo").status_code == 401
        assert other.get("/t/app/echo").status_code == 200
    assert not gateway.logged("session ended", subject=ALICE, outcome="revoked")
