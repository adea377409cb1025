"""A reload that takes a certificate, an authority, an issuer or access away takes live PostgreSQL sessions along."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import yaml
from cryptography import x509

from demo.issuer import LocalIssuer
from tests.end_to_end.conftest import GatewayFactory
from tests.end_to_end.gateway import HOST, Document, Gateway, wait_until
from tests.end_to_end.issuers import running_issuer, take_tokens, token
from tests.end_to_end.policies import ALICE_AND_DORA
from tests.end_to_end.raw import SSL_REQUEST, TIMEOUT_S, startup
from tests.pki import Authority, now

REVOKED = (
    "proxyd: this session was ended: the client certificate does not count any more: certificate revoked"
)
NO_ANALYSTS = ALICE_AND_DORA.replace("analyst: {groups: [data]}", "analyst: {groups: [others]}")
RUNNING = "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(600)'"


def revoke(gateway: Gateway, person: str) -> None:
    """Put the person's certificate on the list, and have the list read."""
    (certificate, *_) = x509.load_pem_x509_certificates(
        (gateway.directory / "pki" / f"{person}.crt").read_bytes()
    )
    gateway.authority.revoked[certificate.serial_number] = now()
    gateway.authority.write_crl(gateway.directory / "pki" / "ca.crl")
    assert gateway.reload()


def reconfigure(gateway: Gateway, change: Callable[[Document], None]) -> None:
    config = yaml.safe_load(gateway.config_path.read_text())
    change(config)
    gateway.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert gateway.reload()


def last_words(connection: psycopg.Connection[Any]) -> str:
    """What an idle client is told: it has come by the time it asks again."""
    with pytest.raises(psycopg.errors.AdminShutdown) as caught:
        connection.execute("select 1")
    return str(caught.value.diag.message_primary)


def ends(gateway: Gateway, person: str) -> Document:
    """The log's line about the end of the person's session."""
    wait_until(
        lambda: bool(gateway.logged("session ended", subject=person)), f"the end of {person}'s session"
    )
    return gateway.logged("session ended", subject=person)[-1]


def test_a_revoked_certificate_ends_idle_sessions_and_running_queries(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    with gateway.connect("dora") as idle, gateway.connect("alice") as other:
        caught: list[BaseException] = []

        def sleep() -> None:
            with gateway.connect("dora") as busy:
                try:
                    busy.execute("select pg_sleep(600)")
                except psycopg.Error as error:
                    caught.append(error)

        sleeper = threading.Thread(target=sleep)
        sleeper.start()
        with psycopg.connect(gateway.direct_dsn(), autocommit=True) as server:
            wait_until(lambda: server.execute(RUNNING).fetchone() == (1,), "a running query")
            revoke(gateway, "dora")
            sleeper.join(60)
            assert not sleeper.is_alive()
            # The target does not go on with what nobody waits for.
            wait_until(lambda: server.execute(RUNNING).fetchone() == (0,), "the end of the query")
        (error,) = caught
        assert isinstance(error, psycopg.errors.AdminShutdown)
        assert error.diag.message_primary == REVOKED
        assert last_words(idle) == REVOKED
        assert other.execute("select 1").fetchone() == (1,)
    wait_until(lambda: len(gateway.logged("session ended", subject="dora")) == 2, "the end of both")
    for line in gateway.logged("session ended", subject="dora"):
        assert (line["outcome"], line["reason"]) == (
            "revoked",
            REVOKED.removeprefix("proxyd: this session was ended: "),
        )
        shown = gateway.proxyd("tape", "show", str(gateway.tape(line["session"]))).stdout
        assert "certificate revoked" in shown
    assert gateway.logged("sessions ended by the reload")[-1]["sessions"] == 2
    assert gateway.metrics()['proxyd_sessions_total{outcome="revoked"}'] == 2


def test_a_reload_that_changes_nothing_ends_nobody(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    with gateway.connect("alice") as alice, gateway.connect("dora") as dora:
        for policy in (None, ALICE_AND_DORA + "# later\n"):
            assert gateway.reload(policy)
            assert alice.execute("select 1").fetchone() == (1,)
            assert dora.execute("select 1").fetchone() == (1,)
    assert not gateway.logged("sessions ended by the reload")


def test_a_refused_reload_ends_nobody(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    with gateway.connect("alice") as alice:
        assert not gateway.reload(NO_ANALYSTS + "rules: twice\n")
        assert alice.execute("select 1").fetchone() == (1,)


def test_access_taken_away_ends_the_session_at_once(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    with gateway.connect("alice") as alice, gateway.connect("dora") as dora:
        assert gateway.reload(NO_ANALYSTS)
        line = ends(gateway, "alice")  # before she asks for anything
        assert (line["outcome"], line["reason"]) == ("revoked", "access to shop has been taken away")
        assert last_words(alice) == "proxyd: this session was ended: access to shop has been taken away"
        assert dora.execute("select 1").fetchone() == (1,)


def test_an_authority_that_is_not_believed_any_more(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    with gateway.connect("alice") as alice:
        other = Authority.root("People's CA")  # of the same name, with another key
        other.write_bundle(gateway.directory / "pki" / "ca.crt")
        other.write_crl(gateway.directory / "pki" / "ca.crl")
        assert gateway.reload()
        assert "not trusted any more" in last_words(alice)


def test_a_certificate_that_makes_another_subject_now(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    with gateway.connect("alice") as alice, gateway.connect("dora") as dora:

        def regroup(config: Document) -> None:
            config["identity"]["certificates"]["groups"]["map"] = {"data": ["data", "more"]}

        reconfigure(gateway, regroup)
        assert "stands for another subject now" in last_words(alice)
        assert dora.execute("select 1").fetchone() == (1,)
        with gateway.connect("alice") as again:
            assert again.execute("select 1").fetchone() == (1,)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIssuer]:
    with running_issuer(tmp_path_factory.mktemp("issuer")) as made:
        yield made


def test_tokens_of_an_issuer_that_has_gone(make_gateway: GatewayFactory, issuer: LocalIssuer) -> None:
    gateway = make_gateway(adjust=lambda config: take_tokens(config, issuer, [["token"], ["certificate"]]))

    def by_token() -> psycopg.Connection[Any]:
        words = gateway.words("alice")
        bare = " ".join(f"{key}='{words[key]}'" for key in words if key not in ("sslcert", "sslkey"))
        return psycopg.connect(bare, password=token(issuer, "alice"), autocommit=True)

    def widen(config: Document) -> None:
        config["identity"]["issuers"][0]["audiences"].append("another")

    def narrow(config: Document) -> None:
        config["identity"]["issuers"][0]["audiences"] = ["another"]

    def remove(config: Document) -> None:
        del config["identity"]["issuers"]
        config["listeners"][0]["factors"] = [["certificate"]]

    with by_token() as session:
        reconfigure(gateway, widen)
        assert session.execute("select 1").fetchone() == (1,)
        reconfigure(gateway, narrow)
        assert "what counts of tokens of issuer company has changed" in last_words(session)
    reconfigure(gateway, widen)


def test_who_is_in_the_middle_of_the_handshake_does_not_slip_in(make_gateway: GatewayFactory) -> None:
    """TLS is done under the old list; the startup packet comes under the new one."""
    gateway = make_gateway()
    words = gateway.words("alice")
    context = ssl.create_default_context(cafile=words["sslrootcert"])
    context.load_cert_chain(words["sslcert"], words["sslkey"])
    with socket.create_connection((HOST, gateway.port), TIMEOUT_S) as plain:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname=HOST) as tls:
            revoke(gateway, "alice")
            tls.sendall(startup(words["user"], words["dbname"]))
            told = tls.recv(65536)
    assert told[:1] == b"E"
    assert REVOKED.encode() in told
    assert not gateway.logged("session opened", subject="alice")
