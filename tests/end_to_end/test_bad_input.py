"""Bad input: each kind ends in a clear error for the one who caused it, a log line, and nothing lost for others."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.postgres_server import free_port
from protocols.postgres.messages import (
    SYNC,
    Parse,
    Query,
    authentication_ok,
    backend_key_data,
    parameter_status,
    ready_for_query,
)
from tests.end_to_end.conftest import GatewayFactory
from tests.end_to_end.gateway import HOST, TARGET, Document, Gateway, psql_env, psql_words, wait_until
from tests.end_to_end.policies import ALICE_AND_DORA
from tests.end_to_end.servers import PostgresServer
from tests.end_to_end.shop_server import shop_server
from tests.end_to_end.wire_client import SSL_REQUEST, Answer, WireClient, startup_packet
from tests.pki import CLIENT, Authority

STARTUP = {"user": "readonly", "database": TARGET}
SLOW = "SELECT count(*) FROM generate_series(1, 2000000000)"


def with_limits(**limits: object) -> Callable[[Document], None]:
    def adjust(config: Document) -> None:
        config["listeners"][0]["limits"] |= limits

    return adjust


def with_session(section: str) -> str:
    """The everyday policy with other session limits for alice."""
    return ALICE_AND_DORA.replace("session: {max: 8h, idle: 30m}", f"session: {{{section}}}")


def is_served(gateway: Gateway, person: str = "alice") -> bool:
    with WireClient.connect(gateway, person) as client:
        return client.simple("SELECT 1").rows == [(b"1",)]


def refused(gateway: Gateway, client: WireClient, **parameters: str) -> dict[str, str]:
    """The FATAL error by which a session does not begin."""
    client.send(startup_packet({**STARTUP, **parameters}))
    answer = client.until_end()
    assert not answer.bodies(b"R"), answer.kinds
    assert answer.error["S"] == "FATAL"
    return answer.error


# Clients that stall


def test_who_stalls_in_the_handshake_is_sent_away_and_others_are_not_held_up(
    make_gateway: GatewayFactory,
) -> None:
    gateway = make_gateway(adjust=with_limits(connections=300, handshake_timeout="2s"))
    packet = startup_packet(STARTUP)
    stalled = []
    try:
        for number in range(200):
            client = WireClient.plain(gateway)
            stalled.append(client)
            # nothing, half an SSLRequest, an SSLRequest, garbage that looks like the start of TLS
            client.send([b"", SSL_REQUEST[:5], SSL_REQUEST, SSL_REQUEST, b"\x16\x03\x01"][number % 5])
        assert is_served(gateway)
        inside = WireClient.secured(gateway)
        stalled.append(inside)
        inside.send(packet[:-1])
        assert is_served(gateway)
        for client in stalled:
            assert not client.until_end().bodies(b"R")
    finally:
        for client in stalled:
            client.close()
    wait_until(lambda: len(gateway.logged("connection refused", failure="timeout")) >= 150, "the log lines")
    assert is_served(gateway)


def test_a_stall_in_the_middle_of_a_message_ends_with_the_idle_limit(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway(policy=with_session("max: 8h, idle: 1s"))
    with WireClient.connect(gateway) as client:
        client.send(Query("SELECT 1").encode()[:-3])
        answer = client.until_end()
        assert (answer.error["S"], answer.error["C"]) == ("FATAL", "57P05")
        assert "idle" in answer.error["M"]
    wait_until(lambda: bool(gateway.logged("session ended", outcome="idle")), "the log line")


def test_a_statement_that_runs_is_not_idle(make_gateway: GatewayFactory, shop18: PostgresServer) -> None:
    gateway = make_gateway(policy=with_session("max: 8h, idle: 1s"))
    with WireClient.connect(gateway) as client:
        started = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%runs and runs%'"
        started += " AND query_start < now() - interval '2s'"
        client.send(Query("SELECT 'runs and runs', count(*) FROM generate_series(1, 2000000000)").encode())
        wait_until(
            lambda: int(shop18.psql(f"{started} AND pid <> pg_backend_pid()")) > 0, "two seconds of running"
        )
        assert not gateway.logged("session ended", outcome="idle")


def test_maximum_age_and_statement_and_row_limits(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway(policy=with_session("max: 2s, statements: 4, rows: 30"))
    with WireClient.connect(gateway) as client:
        for _ in range(4):
            assert client.simple("SELECT 1").rows
        for mode in ("simple", "extended"):
            error = client.run("SELECT 1", mode).error
            assert (error["S"], error["C"]) == ("ERROR", "53400")
        ended = client.until_end()
        assert (ended.error["S"], ended.error["C"]) == ("FATAL", "57P05")
    with WireClient.connect(gateway) as client:
        answer = client.simple("SELECT id FROM shop.orders")
        assert len(answer.rows) <= 30
        assert (answer.error["S"], answer.error["C"]) == ("FATAL", "53400")
    wait_until(lambda: bool(gateway.logged("session ended", outcome="max_age")), "the log line")
    wait_until(lambda: bool(gateway.logged("session ended", outcome="limit")), "the log line")


@pytest.mark.parametrize("kind", [b"Q", b"P", b"d", b"B"])
def test_a_message_that_claims_a_gigabyte_ends_the_connection_and_takes_no_memory(
    gateway18: Gateway, kind: bytes
) -> None:
    before = gateway18.daemon.memory_kib()
    with WireClient.connect(gateway18) as client:
        client.send(kind + (1 << 30).to_bytes(4, "big") + b"x" * 1000)
        answer = client.until_end()
        assert answer.error["S"] == "FATAL"
    assert gateway18.daemon.memory_kib() - before < 32 * 1024
    assert is_served(gateway18)


# Who may not come in


def test_unknown_target_login_and_subject_are_told_the_same(gateway18: Gateway) -> None:
    told = []
    for person, parameters in (
        ("alice", {"database": "nowhere"}),
        ("alice", {"database": f"{TARGET}x"}),
        ("alice", {"user": "nobody"}),
        ("alice", {"user": "admin"}),
        ("alice", {"user": "catalog"}),
        ("mallory", {}),
        ("mallory", {"user": "admin"}),
        ("dora", {"user": "readonly"}),
        ("mallory", {"database": "nowhere"}),
    ):
        with WireClient.secured(gateway18, person) as client:
            error = refused(gateway18, client, **parameters)
        given = {**STARTUP, **parameters}
        # The client's own words are all that differs.
        text = "\n".join(f"{key} {value}" for key, value in error.items())
        for word in (person, given["database"], given["user"]):
            text = text.replace(f'"{word}"', "...").replace(f" {word} ", " ... ")
        told.append(text)
    assert set(told) == {told[0]}
    assert "C 28000" in told[0]
    assert len(gateway18.logged("connection refused", failure="not_admitted")) >= 9


def test_certificates_that_do_not_count(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    pki = gateway.directory / "pki"
    gateway.authority.issue_expired("ed").write(pki)
    gateway.authority.issue_for_tomorrow("tom").write(pki)
    Authority.root("Somebody else's CA").issue("eve", unit=["dba"], purpose=CLIENT).write(pki)
    for person, words in (
        ("ed", "certificate expired"),
        ("tom", "certificate"),
        ("eve", "unknown ca"),
        ("server", "certificate"),
    ):
        gateway.people[person] = ("data", "readonly")
        done = gateway.psql(person, "SELECT 1", check=False)
        assert done.returncode != 0
        assert words in done.stderr.lower(), done.stderr
    dsn = gateway.dsn("alice").replace("alice.crt", "none.crt").replace("alice.key", "none.key")
    done = subprocess.run(
        [*psql_words(dsn), "-c", "SELECT 1"],
        capture_output=True,
        text=True,
        check=False,
        env=psql_env(),
        timeout=60,
    )
    assert done.returncode != 0
    assert "certificate required" in done.stderr, done.stderr
    wait_until(lambda: len(gateway.logged("connection refused", failure="tls")) >= 5, "the log lines")
    assert is_served(gateway)


def test_a_certificate_revoked_by_reload_opens_no_session_and_keeps_none(
    make_gateway: GatewayFactory,
) -> None:
    gateway = make_gateway()
    pki = gateway.directory / "pki"
    credential = gateway.authority.issue("vera", unit=["data"], purpose=CLIENT)
    credential.write(pki)
    gateway.people["vera"] = ("data", "readonly")
    with WireClient.connect(gateway, "vera") as open_one:
        gateway.authority.revoke(credential)
        gateway.authority.write_crl(pki / "ca.crl")
        assert is_served(gateway, "vera")
        assert gateway.reload()
        with pytest.raises((ssl.SSLError, AssertionError, ConnectionError)):
            is_served(gateway, "vera")
        assert "revoked" in gateway.psql("vera", "SELECT 1", check=False).stderr
        assert b"certificate revoked" in open_one.simple("SELECT 1").messages[0][1]
        assert is_served(gateway)


# Targets that fail


class _Listening:
    """A socket of its own with threads behind it, all gone after `close`."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._serve)

    def close(self) -> None:
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        for end in (self._listener, *self._sockets):
            end.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._sockets.append(connection)
                self._start(self._accepted, connection)

    def _accepted(self, connection: socket.socket) -> None:
        raise NotImplementedError


class FakeTarget(_Listening):
    """Does `say` to each connection, then closes it."""

    def __init__(self, say: Callable[[socket.socket], None]) -> None:
        self._say = say
        super().__init__()

    def _accepted(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._say(connection)
            connection.shutdown(socket.SHUT_RDWR)


class Relayed(_Listening):
    """Stands between the gateway and a real server, and does `spoil` to what the server says."""

    def __init__(self, server: PostgresServer, spoil: Callable[[bytes], bytes | None]) -> None:
        self._server = server
        self._spoil = spoil
        super().__init__()

    def _accepted(self, client: socket.socket) -> None:
        server = socket.create_connection((HOST, self._server.port))
        self._sockets.append(server)
        self._start(self._pump, client, server, lambda data: data)
        self._pump(server, client, self._spoil)

    def _pump(
        self, source: socket.socket, sink: socket.socket, spoil: Callable[[bytes], bytes | None]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                changed = spoil(data)
                if changed is None:
                    break
                sink.sendall(changed)
                if changed != data:
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_WR)


@pytest.fixture
def spoiled(shop18: PostgresServer, make_gateway: GatewayFactory) -> Iterator[Callable[..., Gateway]]:
    relays: list[Relayed] = []

    def make(spoil: Callable[[bytes], bytes | None]) -> Gateway:
        relay = Relayed(shop18, spoil)
        relays.append(relay)

        def adjust(config: Document) -> None:
            config["targets"][0]["address"] = f"{HOST}:{relay.port}"

        return make_gateway(adjust=adjust)

    yield make
    for relay in relays:
        relay.close()


MARK = b"here it happens"


def _from_mark(change: Callable[[bytes], bytes | None]) -> Callable[[bytes], bytes | None]:
    return lambda data: change(data) if MARK in data else data


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (lambda data: None, "target_closed"),
        (lambda data: data[: data.index(MARK)], "target_closed"),
        (lambda data: data[: data.index(MARK) - 11] + b"\0\xff" * 40, "protocol"),
        (lambda data: data[: data.rindex(b"C\0\0\0")] + b"!\0\0\0\4", "protocol"),
        (lambda data: data[: data.rindex(b"C\0\0\0")] + b"Z\0\0\0\5X", "protocol"),
        (lambda data: data[: data.rindex(b"C\0\0\0")] + b"D\xff\xff\xff\xff", "protocol"),
        (lambda data: data + b"G\0\0\0\7\0\0\0", "protocol"),
        (lambda data: data + b"R\0\0\0\x08\0\0\0\3", "protocol"),
        (lambda data: data + b"S\0\0\0\x19client_encoding\0SJIS\0"[:26], "protocol"),
    ],
)
def test_a_target_that_closes_or_lies_in_the_middle_ends_that_session_only(
    spoiled: Callable[..., Gateway], change: Callable[[bytes], bytes | None], outcome: str
) -> None:
    gateway = spoiled(_from_mark(change))
    with WireClient.connect(gateway) as other, WireClient.connect(gateway) as client:
        client.send(Query(f"SELECT '{MARK.decode()}' FROM generate_series(1, 3)").encode())
        answer = client.until_end()
        assert [error["S"] for error in answer.errors] == ["FATAL"], answer.messages
        assert "target" in answer.error["M"]
        assert other.simple("SELECT 1").rows == [(b"1",)]
    wait_until(lambda: bool(gateway.logged("session ended", outcome=outcome)), "the log line")


def test_a_target_that_is_down_or_talks_nonsense_is_told_so(make_gateway: GatewayFactory) -> None:
    nonsense = FakeTarget(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    mute = FakeTarget(lambda connection: connection.close())
    try:
        for port in (free_port(HOST), nonsense.port, mute.port):

            def adjust(config: Document, port: int = port) -> None:
                config["targets"][0] |= {"address": f"{HOST}:{port}", "connect_timeout": "2s"}

            gateway = make_gateway(adjust=adjust)
            with WireClient.secured(gateway) as client:
                error = refused(gateway, client)
                assert error["C"].startswith(("08", "57P")), error
                assert "\n" not in error["M"]
            assert gateway.logged("connection refused", failure="target")
            assert gateway.daemon.is_running
    finally:
        nonsense.close()
        mute.close()


def test_a_fake_target_that_greets_and_goes_is_told_so(make_gateway: GatewayFactory) -> None:
    """It lets the gateway in and closes before it has answered anything."""

    def greet(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(
            authentication_ok()
            + parameter_status("client_encoding", "UTF8")
            + backend_key_data(1, b"1234")
            + ready_for_query("I")
        )

    target = FakeTarget(greet)

    def adjust(config: Document) -> None:
        config["targets"][0] |= {"address": f"{HOST}:{target.port}", "connect_timeout": "2s"}

    try:
        gateway = make_gateway(adjust=adjust)
        with WireClient.secured(gateway) as client:
            assert refused(gateway, client)["C"] in {"57P03", "08006", "08001", "08P01"}
    finally:
        target.close()


def test_a_target_that_comes_back_serves_again(make_gateway: GatewayFactory) -> None:
    with shop_server(18) as server:
        gateway = make_gateway(server)
        with WireClient.connect(gateway) as client:
            server.restart()
            answer = client.until_end()
            assert [error["S"] for error in answer.errors][-1:] == ["FATAL"]
        assert is_served(gateway)


# Full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory that can be filled: a small tmpfs."""
    if os.geteuid() != 0:
        yield tmp_path / "tapes-here"
        return
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_what_cannot_be_recorded_is_not_done(
    make_gateway: GatewayFactory, small_disk: Path, shop18: PostgresServer
) -> None:
    tapes = small_disk / "tapes"
    tapes.mkdir(parents=True)
    is_root = os.geteuid() == 0

    def adjust(config: Document) -> None:
        config["tapes"]["directory"] = str(tapes)

    gateway = make_gateway(adjust=adjust)
    filler = small_disk / "filler"

    def fill() -> None:
        if not is_root:
            for directory in (tapes, *tapes.iterdir()):
                directory.chmod(0o500)
            return
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    def free() -> None:
        if is_root:
            filler.unlink()
        else:
            for directory in (tapes, *tapes.iterdir()):
                directory.chmod(0o700)

    change = "UPDATE shop.orders SET placed_at = placed_at + interval '1s' WHERE id = 9"
    moment = "SELECT placed_at FROM shop.orders WHERE id = 9"
    with WireClient.connect(gateway) as open_one, WireClient.connect(gateway) as quiet:
        before = shop18.psql(moment, "shop")
        fill()
        with WireClient.secured(gateway) as client:
            assert refused(gateway, client)["C"] == "58030"
        if is_root:
            answer = Answer()
            for _ in range(500):
                open_one.send(Query(f"SELECT '{'y' * 900}'").encode())
                answer = open_one.until_ready()
                if answer.errors:
                    break
            assert (answer.error["S"], answer.error["C"]) == ("FATAL", "58030")
            quiet.send(Query(f"{change} -- {'z' * 9000}").encode())
            answer = quiet.until_end()
            assert (answer.error["S"], answer.error["C"]) == ("FATAL", "58030")
            assert shop18.psql(moment, "shop") == before
            wait_until(lambda: bool(gateway.logged("session ended", outcome="tape")), "the log line")
    free()
    assert is_served(gateway)
    assert gateway.logged("connection refused", failure="tape")
    for tape in tapes.rglob("*.tape"):
        assert gateway.proxyd("tape", "show", str(tape), check=False).returncode in {0, 1}


# Configuration and policy


def test_check_says_where_a_fault_is_and_what_to_do(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    for path, old, new, words in (
        (gateway.config_path, "drain_timeout: 5s", "drain_timeout: 5s\nspeling: 1", "speling"),
        (gateway.config_path, "  protocol: postgres\n", "  protocol: postgres\n  adress: x\n", "address"),
        (
            gateway.policy_path,
            "masks:\n",
            "  - name: never\n    effect: deny\n    roles: [nobody]\n    postgres: {commands: [select]}\nmasks:\n",
            "nobody",
        ),
        (
            gateway.policy_path,
            "masks:\n",
            "  - name: never\n    effect: deny\n    postgres: {commands: [insert], where: absent}\nmasks:\n",
            "never",
        ),
        (gateway.policy_path, "effect: deny", "effect: deni", "deny"),
    ):
        sound = path.read_text()
        assert old in sound
        path.write_text(sound.replace(old, new, 1))
        done = gateway.proxyd("check", "--config", str(gateway.config_path), check=False)
        path.write_text(sound)
        told = done.stdout + done.stderr
        assert done.returncode == 1, told
        line = next(line for line in told.splitlines() if line.startswith(f"{path}:"))
        assert line.split(":")[1].isdigit()
        assert words in told
        assert ";" in line, "a fault comes with its remedy"
    assert gateway.proxyd("check", "--config", str(gateway.config_path)).returncode == 0


def test_a_bad_policy_on_reload_keeps_the_old_one(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    with WireClient.connect(gateway) as client:
        assert not gateway.reload(ALICE_AND_DORA.replace("effect: deny", "effect: maybe", 1))
        assert client.simple("SELECT * FROM shop.api_keys").error["C"] == "42501"
        assert client.simple("SELECT email FROM shop.customers LIMIT 1").rows[0][0].startswith(b"*")  # type: ignore[union-attr]
        assert is_served(gateway)
        faults = gateway.logged("configuration fault")
        assert "policy.yaml:" in str(faults[0]["what"])
        assert gateway.logged("reload refused: the old configuration and policy stay in force")
        assert gateway.reload(ALICE_AND_DORA.replace("[insert, update, delete, copy_from]", "[insert]"))
        assert client.simple("UPDATE shop.orders SET status = 'new' WHERE id = 0").error["C"] == "42501"


def test_reload_under_load_keeps_sessions_and_masks(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    failures: list[str] = []
    stop = threading.Event()
    rounds = [0] * 4

    def work(number: int) -> None:
        with WireClient.connect(gateway) as client:
            while not stop.is_set():
                answer = client.run(
                    "SELECT email FROM shop.customers", ("simple", "extended", "blind")[rounds[number] % 3]
                )
                if (
                    answer.errors
                    or len(answer.rows) != 240
                    or any(b"@" in (row[0] or b"") for row in answer.rows)
                ):
                    failures.append(repr(answer.errors))
                    return
                rounds[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(6):
            before = list(rounds)
            assert gateway.reload(ALICE_AND_DORA + f"\n# version {number}\n")

            def has_gone_on(before: list[int] = before) -> bool:
                return bool(failures) or all(now > then for now, then in zip(rounds, before, strict=True))

            wait_until(has_gone_on, "work after a reload")
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not failures
    assert len(gateway.logged("session opened")) == 4


# Caps


def test_connection_caps_by_listener_and_by_subject(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway(adjust=with_limits(connections=3, connections_per_subject=2))
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(WireClient.connect(gateway, "alice"))
        with WireClient.secured(gateway, "alice") as third:
            error = refused(gateway, third)
            assert error["C"] == "53300"
            assert "alice" in error["M"]
        wait_until(
            lambda: bool(gateway.logged("connection refused", failure="subject_limit")), "the log line"
        )

        def has_room() -> bool:
            with contextlib.suppress(AssertionError, OSError):
                stack.enter_context(WireClient.connect(gateway, "dora"))
                return True
            return False

        wait_until(has_room, "the end of the third connection")
        with WireClient.plain(gateway) as fourth:
            fourth.send(SSL_REQUEST)
            answer = fourth.until_end()
            assert answer.error["C"] == "53300"
        assert gateway.logged("listener is full")
    wait_until(
        lambda: not gateway.metrics().get('proxyd_connections_open{listener="postgres"}', 0), "room again"
    )
    assert is_served(gateway)


# The end of the daemon


def test_sigterm_lets_busy_sessions_finish_and_ends_idle_ones(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    with WireClient.connect(gateway) as idle, WireClient.connect(gateway) as busy:
        busy.simple("BEGIN")
        os.kill(gateway.daemon.pid, signal.SIGTERM)
        answer = idle.until_end()
        assert (answer.error["S"], answer.error["C"]) == ("FATAL", "57P01")
        assert busy.simple("SELECT 1").rows == [(b"1",)]
        with pytest.raises((OSError, AssertionError)):
            is_served(gateway)
        assert busy.simple("COMMIT").tags == ["COMMIT"]
        assert busy.until_end().error["C"] == "57P01"
    assert gateway.stop() == 0
    assert gateway.logged("stopped")


def test_a_drain_does_not_wait_longer_than_its_deadline(make_gateway: GatewayFactory) -> None:
    def adjust(config: Document) -> None:
        config["drain_timeout"] = "500ms"

    gateway = make_gateway(adjust=adjust)
    with WireClient.connect(gateway) as busy:
        busy.send(Query(SLOW).encode())
        wait_until(lambda: len(gateway.tape_bytes()) > 0, "a tape")
        os.kill(gateway.daemon.pid, signal.SIGTERM)
        assert busy.until_end().error["C"] == "57P01"
    assert gateway.stop() == 0
    running = f"SELECT count(*) FROM pg_stat_activity WHERE query = $q${SLOW}$q$ AND state = 'active'"
    wait_until(lambda: gateway.server.psql(running) == "0", "the end of the statement on the target")


def test_after_kill_9_a_tape_is_torn_at_most_in_its_last_frame_and_plays(
    make_gateway: GatewayFactory,
) -> None:
    gateway = make_gateway()
    with WireClient.connect(gateway) as client:
        for number in range(50):
            client.simple(f"SELECT 'statement number {number}', email FROM shop.customers")
        client.send(Query("SELECT id FROM generate_series(1, 5000000) AS id").encode())
        client.until(b"D")
        os.kill(gateway.daemon.pid, signal.SIGKILL)
        client.until_end()
    tape = gateway.tapes()[-1]
    shown = gateway.proxyd("tape", "show", str(tape), check=False)
    assert "statement number 49" in shown.stdout
    played = gateway.proxyd("tape", "play", str(tape), check=False)
    assert "statement number 49" in played.stdout
    verified = gateway.proxyd("tape", "verify", str(tape), check=False)
    assert "torn" in (verified.stdout + verified.stderr).lower() or "end" in verified.stdout.lower()
    with tape.open("ab") as file:
        file.truncate(tape.stat().st_size - 3)
    again = gateway.proxyd("tape", "show", str(tape), check=False)
    assert "statement number 49" in again.stdout


# Slow readers


def test_a_slow_reader_costs_no_memory_and_hinders_nobody(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    is_served(gateway)
    before = gateway.daemon.memory_kib()
    with WireClient.connect(gateway) as slow, WireClient.connect(gateway) as other:
        text = "SELECT email, repeat('x', 1000) FROM shop.customers, generate_series(1, 800)"
        slow.send(Query(text).encode())
        slow.until(b"D")
        for _ in range(50):
            assert len(other.simple("SELECT email FROM shop.customers").rows) == 240
        assert gateway.daemon.memory_kib() - before < 32 * 1024
        count = 1 + len(slow.until_ready().bodies(b"D"))
        assert count == 240 * 800
    assert gateway.daemon.memory_kib() - before < 32 * 1024


def test_a_client_that_leaves_in_the_middle_stops_its_statement(gateway18: Gateway) -> None:
    text = "SELECT count(*), 'left alone' FROM generate_series(1, 2000000000)"
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%left alone%' AND state = 'active'"
    running += " AND pid <> pg_backend_pid()"
    client = WireClient.connect(gateway18)
    client.send(Query(text).encode())
    wait_until(lambda: gateway18.server.psql(running) == "1", "the statement on the target")
    client.close()
    wait_until(lambda: gateway18.server.psql(running) == "0", "its end")


def test_half_a_parse_and_a_reset_leave_nothing_behind(gateway18: Gateway) -> None:
    sessions = gateway18.metrics()
    for _ in range(5):
        client = WireClient.connect(gateway18)
        client.send(Parse(b"s", "SELECT 1").encode() + SYNC[:3])
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    assert is_served(gateway18)
    key = "proxyd_session_crashes_total"
    crashes = [value for name, value in gateway18.metrics().items() if name.startswith(key)]
    assert crashes == [value for name, value in sessions.items() if name.startswith(key)]
