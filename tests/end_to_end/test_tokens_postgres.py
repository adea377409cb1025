"""Tokens of a real OpenID provider at the PostgreSQL door: as the password, and by OAUTHBEARER."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from demo.issuer import LocalIssuer, new_keys
from tests.end_to_end.conftest import GatewayFactory
from tests.end_to_end.gateway import TARGET, Gateway, run_psql, wait_until
from tests.end_to_end.issuers import running_issuer, take_tokens, token
from tests.end_to_end.raw import TIMEOUT_S, RawConnection, error_fields, message, query, text
from tests.proxyd.identity.oidc.issuing import raw_token

LOGINS = {"alice": "readonly", "dora": "admin", "brief": "readonly", "eve": "readonly"}
OAUTH_CLIENT = Path(__file__).parent / "scripts" / "oauthbearer_client.py"
WHO = "select current_user"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIssuer]:
    with running_issuer(tmp_path_factory.mktemp("issuer")) as made:
        yield made


@pytest.fixture(scope="module")
def tokens_gateway(
    shop18: Any, issuer: LocalIssuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Takes tokens alone."""
    directory = tmp_path_factory.mktemp("tokens_gateway")
    with Gateway(shop18, directory, adjust=lambda config: take_tokens(config, issuer, [["token"]])) as made:
        yield made


@pytest.fixture(scope="module")
def oauth_gateway(
    shop18: Any, issuer: LocalIssuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    def adjust(config: Any) -> None:
        take_tokens(config, issuer, [["token"]], token_method="oauthbearer")

    with Gateway(shop18, tmp_path_factory.mktemp("oauth_gateway"), adjust=adjust) as made:
        yield made


def bare_dsn(gateway: Gateway, login: str = "readonly", **more: str) -> str:
    """Without a certificate."""
    words = gateway.words("alice", login) | {"sslcert": "", "sslkey": ""} | more
    return " ".join(
        f"{key}='{value}'" for key, value in words.items() if key not in ("sslcert", "sslkey") or value
    )


def refusal(gateway: Gateway, secret: str, **more: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(bare_dsn(gateway, **more), password=secret)
    return str(caught.value)


# --- as the password --------------------------------------------------------------------------------------


@pytest.mark.parametrize("major", [15, 18])
@pytest.mark.parametrize("name", ["alice", "dora"])
def test_psql_with_a_token_as_password(
    tokens_gateway: Gateway, issuer: LocalIssuer, name: str, major: int
) -> None:
    """alice's is signed by RS256, dora's by ES256."""
    dsn = bare_dsn(tokens_gateway, LOGINS[name])
    sql = "select email from shop.customers order by id limit 1"
    done = run_psql(dsn, sql, "-At", major=major, PGPASSWORD=token(issuer, name))
    assert ("****" in done.stdout) == (name == "alice")
    tokens_gateway.last_session(name)


async def test_asyncpg_with_a_token_as_password(tokens_gateway: Gateway, issuer: LocalIssuer) -> None:
    import trio_asyncio

    async with trio_asyncio.open_loop():
        await trio_asyncio.aio_as_trio(_asyncpg_asks)(tokens_gateway, token(issuer, "dora"))


async def _asyncpg_asks(gateway: Gateway, secret: str) -> None:
    words = gateway.words("alice", "admin")
    import ssl

    connection = await asyncpg.connect(
        host=words["host"],
        port=int(words["port"]),
        user="admin",
        database=TARGET,
        password=secret,
        ssl=ssl.create_default_context(cafile=words["sslrootcert"]),
    )
    assert await connection.fetchval("select 1") == 1
    await connection.close()


def test_what_is_known_of_a_session(tokens_gateway: Gateway, issuer: LocalIssuer) -> None:
    secret = token(issuer, "alice")
    with psycopg.connect(bare_dsn(tokens_gateway), password=secret) as connection:
        connection.execute("select 1")
    session = tokens_gateway.last_session("alice")
    shown = tokens_gateway.proxyd("tape", "show", "--json", str(tokens_gateway.tape(session))).stdout
    assert issuer.url in shown
    everything = tokens_gateway.tape_bytes() + tokens_gateway.daemon.log_path.read_bytes() + shown.encode()
    for part in secret.split("."):
        assert part.encode() not in everything


def test_the_wire_of_a_token_is_encrypted(tokens_gateway: Gateway, issuer: LocalIssuer) -> None:
    dsn = bare_dsn(tokens_gateway, sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="this door needs TLS"):
        psycopg.connect(dsn, password=token(issuer, "alice"))


def test_refusals_say_what_to_do(tokens_gateway: Gateway, issuer: LocalIssuer) -> None:
    good = token(issuer, "alice")
    head, body, signature = good.split(".")
    assert "get a new one from your identity provider" in refusal(
        tokens_gateway, f"{head}.{body}.{signature[::-1]}"
    )
    assert "not a signed JWT" in refusal(tokens_gateway, "a-password")
    assert "not a signed JWT" in refusal(tokens_gateway, "ümlaut")
    assert "is not signed" in refusal(tokens_gateway, raw_token({"alg": "none"}, {"iss": issuer.url}, b""))
    assert "has no access" in refusal(tokens_gateway, token(issuer, "eve"))
    assert "has no access" in refusal(tokens_gateway, good, login="admin")
    assert "authentication message of" in refusal(tokens_gateway, "x" * 100_000)


def test_a_token_for_somebody_else(shop18: Any, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer", audience="billing") as other:

        def adjust(config: Any) -> None:
            take_tokens(config, other, [["token"]])

        with Gateway(shop18, tmp_path / "gateway", adjust=adjust) as gateway:
            assert "is for somebody else" in refusal(gateway, token(other, "alice"))


def test_a_session_ends_with_its_token(tokens_gateway: Gateway, issuer: LocalIssuer) -> None:
    connection = psycopg.connect(bare_dsn(tokens_gateway, "admin"), password=token(issuer, "brief"))
    with connection, pytest.raises(psycopg.OperationalError) as caught:
        connection.execute("select pg_sleep(60)")
    assert "the token has expired" in str(caught.value)
    assert "Get a new one and connect again" in str(caught.value)
    session = tokens_gateway.last_session("alice")
    assert tokens_gateway.logged("session ended", session=session)[0]["reason"] == "token expired"


# --- with certificates ------------------------------------------------------------------------------------


def test_who_shows_a_certificate_is_not_asked(make_gateway: GatewayFactory, issuer: LocalIssuer) -> None:
    gateway = make_gateway(adjust=lambda config: take_tokens(config, issuer, [["certificate"], ["token"]]))
    done = run_psql(f"{gateway.dsn('alice')} require_auth=none", WHO, "-At", major=18)
    assert done.stdout.strip()
    done = run_psql(bare_dsn(gateway), WHO, "-At", major=15, PGPASSWORD=token(issuer, "alice"))
    assert done.stdout.strip()
    assert "no password supplied" in run_psql(bare_dsn(gateway), WHO, "-w", major=15, check=False).stderr


def test_both_have_to_be_of_one_person(make_gateway: GatewayFactory, issuer: LocalIssuer) -> None:
    gateway = make_gateway(adjust=lambda config: take_tokens(config, issuer, [["certificate", "token"]]))
    with psycopg.connect(gateway.dsn("alice"), password=token(issuer, "alice")) as connection:
        connection.execute("select 1")
    shown = gateway.proxyd("tape", "show", "--json", str(gateway.tape(gateway.last_session("alice")))).stdout
    assert '"factors"' in shown
    assert '"certificate_issuer"' in shown
    for name, other in (("alice", "dora"), ("dora", "alice")):
        with pytest.raises(psycopg.OperationalError, match="of different people"):
            psycopg.connect(gateway.dsn(name), password=token(issuer, other))
    assert "no password supplied" in run_psql(gateway.dsn("alice"), WHO, "-w", major=15, check=False).stderr
    with pytest.raises(psycopg.OperationalError, match="certificate required"):
        psycopg.connect(bare_dsn(gateway), password=token(issuer, "alice"))
    reasons = [line["reason"] for line in gateway.logged("connection refused")]
    assert "the token is of 'dora', the certificate of 'alice'" in reasons


def test_one_of_two_factors_is_none(make_gateway: GatewayFactory, issuer: LocalIssuer) -> None:
    """Where TLS does without a certificate, the door does not."""

    def adjust(config: Any) -> None:
        take_tokens(config, issuer, [["certificate", "token"]])
        config["listeners"][0]["tls"]["client_certificates"] = "optional"

    gateway = make_gateway(adjust=adjust)
    assert "a client certificate and a token are needed" in refusal(gateway, token(issuer, "alice"))
    psycopg.connect(gateway.dsn("alice"), password=token(issuer, "alice")).close()


# --- issuers come and go ----------------------------------------------------------------------------------


def test_keys_are_rotated_and_an_issuer_dies(shop18: Any, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:

        def adjust(config: Any) -> None:
            take_tokens(config, issuer, [["token"]])

        with Gateway(shop18, tmp_path / "gateway", adjust=adjust) as gateway:

            def works(secret: str) -> bool:
                try:
                    psycopg.connect(bare_dsn(gateway), password=secret).close()
                except psycopg.OperationalError as error:
                    assert "does not publish" in str(error)
                    return False
                return True

            old = token(issuer, "alice")
            assert works(old)
            issuer.rotate(new_keys("2"))
            new = token(issuer, "alice")
            wait_until(lambda: works(new), "the new key")
            assert not works(old)
            later = token(issuer, "alice")
            issuer.stop()
            unknown = raw_token({"alg": "RS256", "kid": "nobody"}, {"iss": issuer.url})
            wait_until(
                lambda: not works(unknown) and gateway.metrics()[UP] == 0, "word of the issuer's death"
            )
            assert works(new)
            assert works(later)
            assert gateway.logged("issuer does not give its keys", issuer="company", has_keys=True)
            assert gateway.metrics()['proxyd_issuer_keys{issuer="company"}'] == 3
            checked = gateway.proxyd("check", "--config", str(gateway.config_path))
            assert "identity.issuers[0].issuer" in checked.stderr
            assert "cannot be reached" in checked.stderr


UP = 'proxyd_issuer_up{issuer="company"}'


def test_a_gateway_starts_without_its_issuer(shop18: Any, tmp_path: Path) -> None:
    with running_issuer(tmp_path / "issuer") as issuer:
        secret = token(issuer, "alice")
        issuer.stop()

        def adjust(config: Any) -> None:
            take_tokens(config, issuer, [["token"]])

        with Gateway(shop18, tmp_path / "gateway", adjust=adjust) as gateway:
            assert "its issuer does not give its keys" in refusal(gateway, secret)
            issuer.start()
            wait_until(lambda: gateway.metrics()[UP] == 1, "the keys")
            psycopg.connect(bare_dsn(gateway), password=secret).close()


def test_issuers_are_reloaded(make_gateway: GatewayFactory, issuer: LocalIssuer) -> None:
    gateway = make_gateway(adjust=lambda config: take_tokens(config, issuer, [["token"]]))
    secret = token(issuer, "alice")
    with psycopg.connect(bare_dsn(gateway), password=secret) as connection:
        text = gateway.config_path.read_text()
        gateway.config_path.write_text(text.replace("- proxyd", "- billing"))
        assert gateway.reload()
        assert "is for somebody else" in refusal(gateway, secret)
        with pytest.raises(psycopg.errors.AdminShutdown, match="tokens of issuer company has changed"):
            connection.execute("select 1")  # admitted before
        gateway.config_path.write_text(text.replace(str(issuer.ca), "/nonexistent"))
        assert not gateway.reload()
        assert "is for somebody else" in refusal(gateway, secret)
        gateway.config_path.write_text(text)
        assert gateway.reload()
        psycopg.connect(bare_dsn(gateway), password=secret).close()
    assert len(gateway.logged("issuer's keys loaded")) == 1  # the same issuer: no need to ask again


# --- on the wire ------------------------------------------------------------------------------------------


class AskedConnection(RawConnection):
    """A client that has been asked for its token; `welcome` is what it heard until then."""

    def __init__(self, sock: socket.socket, hello: bytes) -> None:
        self._socket, self._pending, self.received = sock, b"", bytearray()
        sock.settimeout(TIMEOUT_S)
        sock.sendall(hello)
        self.welcome = self.read_until(b"R")


def test_what_is_sent_before_and_after_the_question(tokens_gateway: Gateway, issuer: LocalIssuer) -> None:
    """A newer protocol is negotiated down before the question and not again, and a statement may come at once."""
    with AskedConnection.through(tokens_gateway, "alice", minor=9) as client:
        assert [kind for kind, _ in client.welcome] == [b"v", b"R"]
        assert client.welcome[-1][1] == b"\0\0\0\3"
        client.send(message(b"p", text(token(issuer, "alice"))), query("select 41 + 1"))
        kinds = [kind for kind, _ in client.read_until(b"Z", 2)]
        assert kinds[0] == b"R"
        assert b"v" not in kinds
        assert kinds[-4:] == [b"T", b"D", b"C", b"Z"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (query("select 1"), "something else than the answer"),
        (message(b"p", b"x" * 30_000), "authentication message of"),
        (b"p\x7f\xff\xff\xff", "authentication message of"),
        (message(b"p", b"no end"), "malformed password"),
    ],
)
def test_bad_answers_are_refused_in_words(tokens_gateway: Gateway, answer: bytes, words: str) -> None:
    with AskedConnection.through(tokens_gateway, "alice") as client:
        client.send(answer)
        ((kind, body),) = client.read_until(b"never")
        assert kind == b"E"
        assert words in error_fields(body)["M"]


def test_a_client_that_does_not_answer(make_gateway: GatewayFactory, issuer: LocalIssuer) -> None:
    def adjust(config: Any) -> None:
        take_tokens(config, issuer, [["token"]])
        config["listeners"][0]["limits"]["handshake_timeout"] = "1s"

    gateway = make_gateway(adjust=adjust)
    with AskedConnection.through(gateway, "alice") as client:
        client.send(b"p\0\0")
        assert client.read_until(b"never") == []
    wait_until(lambda: bool(gateway.logged("connection refused", failure="timeout")), "the end of its time")


# --- OAUTHBEARER ------------------------------------------------------------------------------------------


def by_oauth(
    gateway: Gateway, issuer: LocalIssuer, secret: str, directory: Path, **more: str
) -> dict[str, Any]:
    """What a client of libpq 18 gets."""
    file = directory / "token"
    file.write_text(secret)
    words = {"oauth_issuer": issuer.url, "oauth_client_id": "psql", "require_auth": "oauth", **more}
    command = [sys.executable, str(OAUTH_CLIENT), bare_dsn(gateway, **words), str(file), "select 40 + 2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["version"] >= 180000
    return found


def test_libpq_18_learns_where_tokens_come_from_and_brings_one(
    oauth_gateway: Gateway, issuer: LocalIssuer, tmp_path: Path
) -> None:
    secret = token(issuer, "alice")
    found = by_oauth(oauth_gateway, issuer, secret, tmp_path)
    assert found.get("rows") == [[42]], found
    assert found["told"] == [
        {"configuration": f"{issuer.url}/.well-known/openid-configuration", "scope": "openid"}
    ]
    oauth_gateway.last_session("alice")
    (asked,) = oauth_gateway.logged("connection refused", failure="discovery")[-1:]
    assert asked["level"] == "info"
    text = oauth_gateway.tape_bytes() + oauth_gateway.daemon.log_path.read_bytes()
    assert secret.split(".")[2].encode() not in text


def test_libpq_18_that_knows_where_tokens_come_from(
    oauth_gateway: Gateway, issuer: LocalIssuer, tmp_path: Path
) -> None:
    known = f"{issuer.url}/.well-known/openid-configuration"
    found = by_oauth(oauth_gateway, issuer, token(issuer, "alice"), tmp_path, oauth_issuer=known)
    assert found.get("rows") == [[42]], found


def test_libpq_18_with_a_token_that_does_not_count(
    oauth_gateway: Gateway, issuer: LocalIssuer, tmp_path: Path
) -> None:
    found = by_oauth(oauth_gateway, issuer, token(issuer, "alice")[:-8] + "AAAAAAAA", tmp_path)
    assert "rows" not in found
    assert "the token's signature is not its issuer's" in found["error"]


def test_older_clients_are_told_that_they_cannot(oauth_gateway: Gateway, issuer: LocalIssuer) -> None:
    done = run_psql(bare_dsn(oauth_gateway), WHO, major=15, check=False, PGPASSWORD=token(issuer, "alice"))
    assert "none of the server's SASL authentication mechanisms are supported" in done.stderr
