"""`proxyd.upstream` against real PostgreSQL servers: every authentication method, every TLS mode, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from proxyd.addresses import Address
from proxyd.config import Login, PostgresLogin, PostgresTarget, SecretSource, TargetCatalog, TargetTls
from proxyd.upstream import (
    UpstreamConnection,
    UpstreamError,
    UpstreamQueryError,
    UpstreamTarget,
    connect,
)
from proxyd.upstream_query import QueryLimits, query
from tests.end_to_end.servers import PASSWORD, PostgresServer
from tests.pki import CLIENT, SERVER, Authority

DEADLINE_S = 60.0


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def ca_file(tmp_path: Path, target_ca: Authority) -> Path:
    return target_ca.write_bundle(tmp_path / "target-ca.crt")


def target_of(server: PostgresServer, host: str = "127.0.0.1", **tls: Any) -> UpstreamTarget:
    """The target as the configuration would give it."""
    config = PostgresTarget(
        name="shop",
        protocol="postgres",
        address=Address(host, server.port),
        database="postgres",
        tls=TargetTls(**({"mode": "disable"} | tls)),
        logins=(PostgresLogin(name="reader"),),
        catalog=TargetCatalog(login="reader"),
    )
    return UpstreamTarget.from_config(config)


def login_of(user: str, password: Path | None = None) -> Login:
    source = None if password is None else SecretSource(file=password)
    return Login(name="reader", user=user, password=source)


async def open_up(
    target: UpstreamTarget, login: Login, database: str = "postgres", **parameters: str
) -> UpstreamConnection:
    return await connect(target, login, database, parameters, deadline_s=DEADLINE_S)


async def refusal(
    target: UpstreamTarget, login: Login, database: str = "postgres", **parameters: str
) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await open_up(target, login, database, **parameters)
    return caught.value


METHODS = {
    "by_trust": "trust",
    "by_password": "password",
    "by_md5": "md5",
    "by_scram": "scram-sha-256",
}


@pytest.mark.parametrize("user", METHODS)
async def test_every_method_over_tls(
    user: str, pg15_tls: PostgresServer, secret: Path, ca_file: Path
) -> None:
    target = target_of(pg15_tls, mode="verify-full", ca=ca_file)
    connection = await open_up(target, login_of(user, secret))
    rows = await query(connection, "select session_user, ssl from pg_stat_ssl where pid = pg_backend_pid()")
    assert rows == [(user, "t")]
    # over TLS the server offers channel binding, and it must have been used
    expected = "scram-sha-256-plus" if user == "by_scram" else METHODS[user]
    assert connection.authentication == expected
    assert connection.tls is not None
    assert connection.tls.version == "TLSv1.3"
    await connection.aclose()


@pytest.mark.parametrize("user", ["by_trust", "by_md5", "by_scram"])
async def test_methods_in_clear(user: str, pg18: PostgresServer, secret: Path) -> None:
    connection = await open_up(target_of(pg18), login_of(user, secret))
    assert await query(connection, "select session_user") == [(user,)]
    assert connection.authentication == METHODS[user]
    assert connection.tls is None
    await connection.aclose()


async def test_password_is_not_sent_in_clear(pg18: PostgresServer, secret: Path) -> None:
    error = await refusal(target_of(pg18), login_of("by_password", secret))
    assert error.sqlstate == "28000"
    assert "in clear" in error.reason
    assert "in clear" not in error.message


async def test_password_in_clear_when_allowed(pg18: PostgresServer, secret: Path) -> None:
    target = UpstreamTarget("shop", Address("127.0.0.1", pg18.port), allow_cleartext=True)
    connection = await open_up(target, login_of("by_password", secret))
    assert connection.authentication == "password"
    await connection.aclose()


async def test_unix_socket(pg18: PostgresServer) -> None:
    path = str(pg18.directory / f".s.PGSQL.{pg18.port}")
    target = UpstreamTarget("shop", Address(path=path))
    connection = await open_up(target, login_of("by_trust"))
    assert await query(connection, "select inet_client_addr()") == [(None,)]
    await connection.cancel()
    await connection.aclose()


async def test_client_certificate(
    pg15_tls: PostgresServer, tmp_path: Path, target_ca: Authority, ca_file: Path
) -> None:
    files = target_ca.issue("by_cert", purpose=CLIENT).write(tmp_path)
    target = target_of(pg15_tls, mode="verify-full", ca=ca_file, certificate=files.certificate, key=files.key)
    connection = await open_up(target, login_of("by_cert"))
    assert await query(connection, "select session_user") == [("by_cert",)]
    await connection.aclose()


async def test_client_certificate_of_somebody_else(
    pg15_tls: PostgresServer, tmp_path: Path, target_ca: Authority, ca_file: Path
) -> None:
    files = target_ca.issue("mallory", purpose=CLIENT).write(tmp_path)
    target = target_of(pg15_tls, mode="verify-full", ca=ca_file, certificate=files.certificate, key=files.key)
    assert (await refusal(target, login_of("by_cert"))).sqlstate == "28000"


async def test_client_certificate_missing(pg15_tls: PostgresServer, ca_file: Path) -> None:
    target = target_of(pg15_tls, mode="verify-full", ca=ca_file)
    error = await refusal(target, login_of("by_cert"))
    assert error.sqlstate == "28000"
    assert "certificate" in error.reason


async def test_client_certificate_of_a_strange_authority(
    pg15_tls: PostgresServer, tmp_path: Path, ca_file: Path
) -> None:
    files = Authority.root("Another CA").issue("by_cert", purpose=CLIENT).write(tmp_path)
    target = target_of(pg15_tls, mode="verify-full", ca=ca_file, certificate=files.certificate, key=files.key)
    error = await refusal(target, login_of("by_cert"))
    assert error.sqlstate in {"08001", "08006"}


@pytest.mark.parametrize("user", ["by_password", "by_md5", "by_scram"])
async def test_wrong_password(user: str, pg15_tls: PostgresServer, tmp_path: Path, ca_file: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-password")
    wrong.chmod(0o600)
    error = await refusal(target_of(pg15_tls, mode="verify-full", ca=ca_file), login_of(user, wrong))
    assert error.sqlstate == "28000"
    assert user not in error.message + error.hint
    assert "not-the-password" not in str(error)


@pytest.mark.parametrize("user", ["by_md5", "by_scram"])
async def test_login_without_a_password(user: str, pg18: PostgresServer) -> None:
    error = await refusal(target_of(pg18), login_of(user))
    assert error.sqlstate == "28000"
    assert "the login has none" in error.reason


async def test_secret_that_cannot_be_read(pg18: PostgresServer, secret: Path) -> None:
    secret.chmod(0o644)
    error = await refusal(target_of(pg18), login_of("by_scram", secret))
    assert error.sqlstate == "28000"
    assert "chmod 600" in error.reason
    assert PASSWORD not in str(error)


async def test_rotation_without_restart(pg18: PostgresServer, secret: Path) -> None:
    target, login = target_of(pg18), login_of("by_scram", secret)
    secret.write_text("stale")
    assert (await refusal(target, login)).sqlstate == "28000"
    secret.write_text(PASSWORD)
    await (await open_up(target, login)).aclose()


async def test_rejected_by_hba(pg18: PostgresServer) -> None:
    error = await refusal(target_of(pg18), login_of("by_reject"))
    assert error.sqlstate == "28000"
    assert "pg_hba" in error.reason
    assert "pg_hba" not in error.message


async def test_unknown_database(pg18: PostgresServer) -> None:
    error = await refusal(target_of(pg18), login_of("by_trust"), "nowhere")
    assert error.sqlstate == "3D000"
    assert '"nowhere"' in error.message


async def test_bad_startup_value(pg18: PostgresServer) -> None:
    error = await refusal(target_of(pg18), login_of("by_trust"), TimeZone="Middle/Earth")
    assert error.sqlstate == "22023"
    assert "Middle/Earth" in error.message


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_tls_demanded_of_a_target_without(mode: str, pg18: PostgresServer, ca_file: Path) -> None:
    tls: dict[str, Any] = {"mode": mode} | ({} if mode == "require" else {"ca": ca_file})
    error = await refusal(target_of(pg18, **tls), login_of("by_trust"))
    assert error.sqlstate == "08001"
    assert "does not offer TLS" in error.reason


@pytest.mark.parametrize("mode", ["allow", "prefer"])
async def test_tls_when_it_is_there(mode: str, pg18: PostgresServer, pg15_tls: PostgresServer) -> None:
    for server, has_tls in ((pg18, False), (pg15_tls, True)):
        connection = await open_up(target_of(server, mode=mode), login_of("by_trust"))
        assert (connection.tls is not None) == has_tls
        await connection.aclose()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_modes_with_a_good_certificate(mode: str, pg15_tls: PostgresServer, ca_file: Path) -> None:
    connection = await open_up(target_of(pg15_tls, mode=mode, ca=ca_file), login_of("by_trust"))
    assert connection.tls is not None
    await connection.aclose()


@pytest.mark.parametrize(
    ("mode", "is_accepted"),
    [("require", True), ("require with ca", False), ("verify-ca", False), ("verify-full", False)],
)
async def test_modes_under_a_wrong_authority(
    mode: str, is_accepted: bool, pg15_tls: PostgresServer, tmp_path: Path
) -> None:
    stranger = Authority.root("Another CA").write_bundle(tmp_path / "other-ca.crt")
    tls: dict[str, Any] = {"mode": mode.partition(" ")[0]} | ({} if mode == "require" else {"ca": stranger})
    target = target_of(pg15_tls, **tls)
    if is_accepted:
        await (await open_up(target, login_of("by_trust"))).aclose()
        return
    error = await refusal(target, login_of("by_trust"))
    assert error.sqlstate == "08001"
    assert "issuer is not trusted" in error.reason


@pytest.fixture
def misnamed(target_ca: Authority) -> Any:
    """A server whose certificate can be replaced: gives a function from credential to server."""
    from tests.end_to_end.servers import TlsFiles, postgres_15

    started: list[PostgresServer] = []

    def start(**certificate: Any) -> PostgresServer:
        credential = target_ca.issue("target", purpose=SERVER, **certificate)
        tls = TlsFiles(credential.certificate_pem(), credential.key_pem())
        server = PostgresServer(postgres_15(), tls=tls)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


async def test_wrong_host_name(misnamed: Any, ca_file: Path) -> None:
    server = misnamed(dns=["elsewhere.example"])
    full = target_of(server, mode="verify-full", ca=ca_file)
    error = await refusal(full, login_of("postgres"))
    assert error.sqlstate == "08001"
    assert "for another" in error.reason
    chain_only = target_of(server, mode="verify-ca", ca=ca_file)
    await (await open_up(chain_only, login_of("postgres"))).aclose()


async def test_expired_certificate(misnamed: Any, ca_file: Path) -> None:
    from tests.pki import DAY, now

    server = misnamed(ips=["127.0.0.1"], not_before=now() - 3 * DAY, not_after=now() - DAY)
    for mode in ("verify-ca", "verify-full"):
        error = await refusal(target_of(server, mode=mode, ca=ca_file), login_of("postgres"))
        assert "expired" in error.reason


async def test_target_down() -> None:
    # bound and not listening: nobody else can take the port, and nobody answers
    with trio.socket.socket() as bound:
        await bound.bind(("127.0.0.1", 0))
        target = UpstreamTarget("shop", Address("127.0.0.1", bound.getsockname()[1]))
        error = await refusal(target, login_of("by_trust"))
    assert error.sqlstate == "08001"
    assert "refused" in error.reason
    assert "127.0.0.1" not in error.message


async def test_unknown_host() -> None:
    target = UpstreamTarget("shop", Address("no-such-host.invalid", 5432))
    assert (await refusal(target, login_of("by_trust"))).sqlstate == "08001"


@pytest.mark.parametrize("minor", [0, 2])
async def test_protocol_versions(minor: int, pg18: PostgresServer, pg15_tls: PostgresServer) -> None:
    for server, newest in ((pg18, 2), (pg15_tls, 0)):
        target = UpstreamTarget("shop", Address("127.0.0.1", server.port), protocol_minor=minor)
        connection = await open_up(target, login_of("by_trust"))
        assert connection.protocol_minor == min(minor, newest)
        assert len(connection.secret_key) == (32 if connection.protocol_minor == 2 else 4)
        assert repr(connection.secret_key) not in repr(connection)
        await connection.cancel()
        await connection.aclose()


async def test_session_settings(pg18: PostgresServer) -> None:
    connection = await open_up(
        target_of(pg18),
        login_of("by_trust"),
        application_name="psql",
        DateStyle="ISO, DMY",
        client_encoding="LATIN1",
    )
    assert connection.parameters["client_encoding"] == "UTF8"
    assert connection.parameters["DateStyle"] == "ISO, DMY"
    assert connection.parameters["application_name"] == "psql"
    assert connection.transaction_status == "I"
    assert connection.leftover == b""
    await connection.aclose()


async def test_empty_startup_values(pg18: PostgresServer) -> None:
    connection = await open_up(target_of(pg18), login_of("by_trust"), application_name="", search_path="")
    assert await query(connection, "show search_path") == [("",)]
    await connection.aclose()


@pytest.mark.parametrize("secured", [False, True])
async def test_cancel(secured: bool, pg15_tls: PostgresServer, ca_file: Path) -> None:
    tls: dict[str, Any] = {"mode": "verify-full", "ca": ca_file} if secured else {}
    target = target_of(pg15_tls, **tls)
    sleeper, bystander, watcher = [await open_up(target, login_of("postgres")) for _ in range(3)]
    ended: list[str] = []

    async def sleep(connection: UpstreamConnection) -> None:
        try:
            await query(connection, "select pg_sleep(600)", QueryLimits(deadline_s=700))
        except UpstreamQueryError as error:
            ended.append(f"{connection.process_id} {error.sqlstate}")

    pids = f"{sleeper.process_id}, {bystander.process_id}"
    running = f"select count(*) from pg_stat_activity where wait_event = 'PgSleep' and pid in ({pids})"
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep, sleeper)
            nursery.start_soon(sleep, bystander)
            while await query(watcher, running) != [("2",)]:
                await trio.sleep(0.01)
            await sleeper.cancel()
            while await query(watcher, running) != [("1",)]:
                await trio.sleep(0.01)
            while not ended:
                await trio.sleep(0.01)
            assert ended == [f"{sleeper.process_id} 57014"]
            await bystander.cancel()
    assert ended == [f"{sleeper.process_id} 57014", f"{bystander.process_id} 57014"]
    # the connection goes on
    assert await query(sleeper, "select 1") == [("1",)]
    for connection in (sleeper, bystander, watcher):
        await connection.aclose()


async def test_goodbye_ends_the_backend(pg18: PostgresServer) -> None:
    target = target_of(pg18)
    connection, watcher = [await open_up(target, login_of("postgres")) for _ in range(2)]
    await connection.aclose()
    with trio.fail_after(DEADLINE_S):
        while await query(watcher, f"select from pg_stat_activity where pid = {connection.process_id}"):
            await trio.sleep(0.01)
    await watcher.aclose()


async def test_query(pg18: PostgresServer) -> None:
    connection = await open_up(target_of(pg18), login_of("by_trust"))
    assert await query(connection, "select 1, null, 'é'; ") == [("1", None, "é")]
    assert await query(connection, "") == []
    assert await query(connection, "select 1; select 2, 3") == [("2", "3")]
    assert await query(connection, "begin") == []
    assert connection.transaction_status == "T"
    with pytest.raises(UpstreamQueryError, match="42P01"):
        await query(connection, "select * from nothing")
    assert connection.transaction_status == "E"
    await query(connection, "rollback")
    await query(connection, "set application_name = 'renamed'")
    assert connection.parameters["application_name"] == "renamed"
    await connection.aclose()


@pytest.mark.parametrize(
    ("sql", "limits"),
    [
        ("select generate_series(1, 11)", QueryLimits(rows=10)),
        ("select repeat('x', 100000)", QueryLimits(bytes=50_000)),
        ("select repeat('x', 1000) from generate_series(1, 100)", QueryLimits(bytes=50_000)),
        ("select pg_sleep(600)", QueryLimits(deadline_s=0.2)),
        ("copy (select 1) to stdout", QueryLimits()),
        ("copy t from stdin", QueryLimits()),
        ("select pg_terminate_backend(pg_backend_pid())", QueryLimits()),
    ],
)
async def test_query_bounds(sql: str, limits: QueryLimits, pg18: PostgresServer) -> None:
    connection = await open_up(target_of(pg18), login_of("postgres"))
    await query(connection, "create temporary table t (a int)")
    with pytest.raises(UpstreamError):
        await query(connection, sql, limits)
    assert connection.is_broken
    with pytest.raises(UpstreamError, match="in the middle"):
        await query(connection, "select 1")
    await connection.aclose()
