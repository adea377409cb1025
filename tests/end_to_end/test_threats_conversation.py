"""Threat list C: parting the gateway's view of the conversation from the server's.

Raw messages over TLS. Each test ends with the proof that both still agree, or with the gateway closing the connection.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator

import pytest

from protocols.postgres.messages import (
    FLUSH,
    SYNC,
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Parse,
    Query,
)
from tests.end_to_end.gateway import TARGET, Gateway, wait_until
from tests.end_to_end.wire_client import (
    GSSENC_REQUEST,
    SSL_REQUEST,
    Answer,
    ConnectionEnded,
    WireClient,
    assert_denied,
    cancel_request,
    startup_packet,
)

STARTUP = {"user": "readonly", "database": TARGET}
DENIED = "SELECT upper(email) FROM shop.customers"


@pytest.fixture
def alice(either_gateway: Gateway) -> Iterator[WireClient]:
    with WireClient.connect(either_gateway, "alice") as client:
        yield client
        # Still in step: the answer to the last question is the last answer.
        client.send(Query("ROLLBACK").encode())
        client.until_ready()
        assert client.simple("SELECT 'in step'").rows == [(b"in step",)]


@pytest.fixture
def doomed(gateway18: Gateway) -> Iterator[WireClient]:
    """A session that the test has ended by the gateway."""
    with WireClient.connect(gateway18, "alice") as client:
        yield client


def batch(*messages: object) -> bytes:
    return b"".join(
        message if isinstance(message, bytes) else message.encode()  # type: ignore[attr-defined]
        for message in messages
    )


def run(client: WireClient, *messages: object) -> Answer:
    client.send(batch(*messages, SYNC))
    return client.until_ready()


def is_masked(answer: Answer) -> bool:
    emails = [row[0] for row in answer.rows]
    return bool(emails) and all(email is not None and b"*" in email for email in emails)


EMAIL = "SELECT email FROM shop.customers WHERE id < 4"
OPEN = "SELECT 'a' || id FROM shop.orders WHERE id < 4"


# Names


def test_names_are_the_servers_after_its_truncation(alice: WireClient) -> None:
    long, cut = b"n" * 80, b"n" * 63
    assert run(alice, Parse(long, EMAIL)).kinds == "1Z"
    assert is_masked(run(alice, Bind(b"", cut), Execute(b"")))
    assert run(alice, Parse(b"n" * 63 + b"other", OPEN)).error["C"] == "42P05"
    assert is_masked(run(alice, Bind(b"", b"n" * 64), Execute(b"")))
    assert is_masked(alice.simple(f"EXECUTE {'n' * 70}"))
    assert run(alice, Close("S", b"n" * 99)).kinds == "3Z"
    assert run(alice, Bind(b"", cut), Execute(b"")).error["C"] == "26000"
    alice.simple("BEGIN")
    portal = b"p" * 70
    assert run(alice, Parse(b"", EMAIL), Bind(portal, b""), Execute(b"p" * 63, 1)).kinds.endswith("DsZ")
    assert is_masked(alice.simple(f"FETCH ALL FROM {'p' * 66}"))


def test_names_of_many_bytes_a_character_are_cut_alike(alice: WireClient) -> None:
    name = "é" * 40  # 80 bytes: SQL cuts at a character, the protocol at a byte
    assert alice.simple(f'PREPARE "{name}" AS {OPEN}').tags == ["PREPARE"]
    assert run(alice, Parse(name.encode(), EMAIL)).kinds in {"1Z", "EZ"}
    for candidate in (name.encode(), name.encode()[:63], name.encode()[:62]):
        answer = run(alice, Bind(b"", candidate), Execute(b""))
        assert answer.errors or is_masked(answer) or answer.rows[0][0].startswith(b"a")  # type: ignore[union-attr]


def test_a_name_in_wrong_encoding_is_no_name(alice: WireClient) -> None:
    assert run(alice, Parse(b"\xff\xfe", EMAIL)).errors
    assert run(alice, Bind(b"", b"\xff\xfe"), Execute(b"")).errors


def test_a_failed_parse_of_an_existing_name_leaves_the_old_one(alice: WireClient) -> None:
    run(alice, Parse(b"s", EMAIL))
    assert run(alice, Parse(b"s", OPEN)).error["C"] == "42P05"
    assert is_masked(run(alice, Bind(b"", b"s"), Execute(b"")))
    assert run(alice, Parse(b"s", "SELEC"), Bind(b"", b"s"), Execute(b"")).error["C"] == "42601"
    assert is_masked(run(alice, Bind(b"", b"s"), Execute(b"")))
    assert_denied(run(alice, Parse(b"s", DENIED), Bind(b"", b"s"), Execute(b"")))
    assert is_masked(run(alice, Bind(b"", b"s"), Execute(b"")))


def test_a_failed_parse_destroys_the_unnamed_statement(alice: WireClient) -> None:
    for bad in ("SELEC", "SELECT 1 FROM shop.nowhere", DENIED):
        assert run(alice, Parse(b"", EMAIL)).kinds == "1Z"
        assert run(alice, Parse(b"", bad)).errors
        assert run(alice, Bind(b"", b""), Execute(b"")).error["C"] == "26000"


def test_a_simple_query_destroys_the_unnamed_statement(alice: WireClient) -> None:
    for query in ("SELECT 1", "SELEC", "", DENIED):
        run(alice, Parse(b"", EMAIL))
        alice.simple(query)
        answer = run(alice, Bind(b"", b""), Execute(b""))
        assert is_masked(answer) if not answer.errors else answer.error["C"] == "26000"


def test_a_bind_in_the_batch_of_a_failing_parse_binds_nothing_else(alice: WireClient) -> None:
    run(alice, Parse(b"s", EMAIL))
    answer = run(alice, Parse(b"t", "SELECT 1 FROM shop.nowhere"), Bind(b"", b"s"), Execute(b""))
    assert answer.kinds == "EZ"
    assert run(alice, Close("S", b"s"), Parse(b"s", "SELECT 1/0 FROM shop.nowhere")).errors
    assert run(alice, Bind(b"", b"s"), Execute(b"")).error["C"] == "26000"


@pytest.mark.parametrize("seed", range(6))
def test_pipelined_names_never_come_apart(alice: WireClient, seed: int) -> None:
    """PREPARE, DEALLOCATE, EXECUTE, Parse, Close, Bind of two names at random, in one write: e-mails stay masked.

    The two texts look alike from outside, so that a mix-up would show plain ones.
    """
    dice = random.Random(seed)  # noqa: S311
    texts = {
        "mail": "SELECT email FROM shop.customers WHERE id < 3",
        "open": "SELECT 'x' || name FROM shop.customers WHERE id < 3",
        "bad": "SELECT 1 FROM shop.nowhere",
        "denied": DENIED,
    }
    pieces: list[bytes] = []
    expected = 0
    for _ in range(150):
        name = dice.choice(["s", "t"])
        text = texts[dice.choice(["mail", "open", "mail", "open", "bad", "denied"])]
        choice = dice.randrange(8)
        if choice == 0:
            pieces.append(Query(f"PREPARE {name} AS {text}").encode())
        elif choice == 1:
            pieces.append(
                Query(dice.choice([f"DEALLOCATE {name}", "DEALLOCATE ALL", "DISCARD ALL"])).encode()
            )
        elif choice == 2:
            pieces.append(Query(f"EXECUTE {name}").encode())
        elif choice == 3:
            pieces.append(Query(f"DEALLOCATE {name}; PREPARE {name} AS {text}; EXECUTE {name}").encode())
        elif choice == 4:
            pieces.append(batch(Parse(name.encode(), text), Bind(b"", name.encode()), Execute(b""), SYNC))
        elif choice == 5:
            pieces.append(
                batch(
                    Close("S", name.encode()), Parse(name.encode(), text), Describe("S", name.encode()), SYNC
                )
            )
        else:
            pieces.append(batch(Bind(b"", name.encode()), Execute(b"", dice.choice([0, 1])), SYNC))
        expected += 1
    alice.send(pieces)
    for _ in range(expected):
        answer = alice.until_ready()
        assert answer.bodies(b"Z")
        for row in answer.rows:
            assert row[0] is not None
            assert b"@" not in row[0], row


@pytest.mark.parametrize("seed", range(4))
def test_pipelined_cursors_never_come_apart(alice: WireClient, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    texts = ["SELECT email FROM shop.customers", "SELECT 'x' || name FROM shop.customers"]
    alice.simple("BEGIN")
    pieces: list[bytes] = []
    for _ in range(100):
        name = dice.choice(["c", "d"])
        text = dice.choice(texts)
        match dice.randrange(6):
            case 0:
                pieces.append(
                    Query(f"SAVEPOINT z; DECLARE {name} CURSOR FOR {text}; FETCH 1 FROM {name}").encode()
                )
            case 1:
                pieces.append(Query(f"CLOSE {dice.choice([name, 'ALL'])}").encode())
            case 2:
                pieces.append(Query(f"FETCH 1 FROM {name}").encode())
            case 3:
                pieces.append(
                    batch(Parse(b"", text), Bind(name.encode(), b""), Execute(name.encode(), 1), SYNC)
                )
            case 4:
                pieces.append(batch(Execute(name.encode(), 1), SYNC))
            case _:
                pieces.append(Query("ROLLBACK; BEGIN").encode())
    alice.send(pieces)
    for _ in pieces:
        for row in alice.until_ready().rows:
            assert row[0] is not None
            assert b"@" not in row[0], row


# Errors and what is skipped


def test_everything_up_to_sync_is_skipped_after_an_error(alice: WireClient) -> None:
    for wrong in ("SELEC", "SELECT 1/0", "SELECT 1 FROM shop.nowhere", DENIED):
        answer = run(
            alice,
            Parse(b"", wrong),
            Bind(b"", b""),
            Execute(b""),
            Parse(b"x", "SELECT 1"),
            Query("SELECT 'skipped'"),
            Query(DENIED),
            Bind(b"", b"x"),
            Execute(b""),
            FLUSH,
        )
        assert answer.kinds.endswith("EZ")
        assert answer.kinds.count("E") == 1
        assert run(alice, Bind(b"", b"x"), Execute(b"")).error["C"] == "26000"


def test_what_comes_after_an_error_was_read_is_skipped_too(alice: WireClient) -> None:
    alice.send(batch(Parse(b"", "SELECT 1 FROM shop.nowhere"), FLUSH))
    assert alice.until(b"E").errors
    alice.send(batch(Parse(b"y", EMAIL), Query("SELECT 'skipped'"), Query(DENIED), FLUSH))
    alice.send(SYNC)
    assert alice.until_ready().kinds == "Z"
    assert run(alice, Bind(b"", b"y"), Execute(b"")).error["C"] == "26000"


def test_a_text_with_a_syntax_error_anywhere_runs_nothing(alice: WireClient) -> None:
    assert alice.simple("CREATE TEMP TABLE pieces (a int)").errors
    assert alice.simple("SELECT 1; SELEC; SELECT 2").kinds == "EZ"
    answer = alice.simple("SELECT 1; SELECT 1/0; SELECT 2")
    assert (answer.kinds, answer.rows) == ("TDCEZ", [(b"1",)])
    answer = alice.simple(f"{EMAIL}; SELECT 1/0; {EMAIL}")
    assert is_masked(answer)
    assert is_masked(alice.simple(f"{EMAIL}; {EMAIL}; ; ;{EMAIL}"))
    assert alice.simple("").kinds == "IZ"
    assert alice.simple(" ; -- ").kinds == "IZ"


def test_bound_formats_and_parameters_that_do_not_fit_are_errors(alice: WireClient) -> None:
    two = "SELECT email, name FROM shop.customers WHERE id = 1"
    run(alice, Parse(b"s", two))
    assert run(alice, Bind(b"", b"s", result_formats=(1, 0, 1)), Execute(b"")).errors
    assert run(alice, Bind(b"", b"s", (0,), (b"1",)), Execute(b"")).errors
    for formats in ((1, 0), (0, 1), (1,), ()):
        assert is_masked(run(alice, Bind(b"", b"s", result_formats=formats), Execute(b"")))


def test_a_portal_suspended_is_read_on_masked(alice: WireClient) -> None:
    alice.simple("BEGIN")
    answer = run(
        alice,
        Parse(b"", EMAIL),
        Bind(b"", b""),
        Execute(b"", 1),
        Execute(b"", 1),
        Describe("P", b""),
        Execute(b"", 0),
    )
    assert answer.kinds == "12DsDsTDCZ"
    assert is_masked(answer)


# COPY


COPY_IN = "COPY shop.products (id, name, price) FROM STDIN"


def test_copy_from_stdin_and_its_states(alice: WireClient) -> None:
    alice.simple("BEGIN")
    alice.send(Query(COPY_IN).encode())
    assert alice.until(b"G", b"Z").kinds == "G"
    alice.send(batch(FLUSH, SYNC, CopyData(b"901\ta\t1\n"), FLUSH))
    alice.send(CopyDone().encode())
    assert alice.until_ready().tags == ["COPY 1"]
    alice.send(Query(COPY_IN).encode())
    assert alice.until(b"G", b"Z").kinds == "G"
    alice.send(CopyFail("no more").encode())
    assert alice.until_ready().error["C"] == "57014"


def test_a_copy_that_has_failed_ignores_the_data_that_follows(alice: WireClient) -> None:
    """Data sent after the failure is dropped, and a Query in it runs: it is judged."""
    alice.send(batch(Query("COPY shop.nowhere FROM STDIN"), CopyData(b"1\n"), CopyDone(), Query(DENIED)))
    assert alice.until_ready().errors
    assert_denied(alice.until_ready())
    alice.send(batch(Query(COPY_IN)))
    assert alice.until(b"G", b"Z").kinds == "G"
    alice.send(batch(CopyData(b"not a number\n"), CopyData(b"\\.\n")))
    alice.send(batch(CopyData(b"x"), CopyDone()))
    assert alice.until_ready().error["C"] == "22P02"


def test_data_pipelined_before_the_server_has_answered_is_not_taken_for_a_query(alice: WireClient) -> None:
    alice.send(batch(Query("BEGIN"), Query(COPY_IN), CopyData(b"902\tb\t1\n"), CopyDone(), Query(DENIED)))
    assert alice.until_ready().status == "T"
    assert alice.until_ready().tags == ["COPY 1"]
    assert_denied(alice.until_ready(), status="T")


def test_copy_in_by_the_extended_protocol(alice: WireClient) -> None:
    alice.simple("BEGIN")
    alice.send(batch(Parse(b"", COPY_IN), Bind(b"", b""), Execute(b""), SYNC))
    assert alice.until(b"G", b"Z").kinds == "12G"
    alice.send(batch(CopyData(b"903\tc\t1\n"), CopyDone(), SYNC))
    assert alice.until_ready().tags == ["COPY 1"]


def test_a_query_in_the_middle_of_copy_ends_the_connection(doomed: WireClient, gateway18: Gateway) -> None:
    doomed.send(Query(COPY_IN).encode())
    assert doomed.until(b"G", b"Z").kinds == "G"
    doomed.send(batch(CopyData(b"904\td\t1\n"), Query("SELECT key FROM shop.api_keys")))
    answer = doomed.until_end()
    assert not answer.rows
    assert gateway18.server.psql("SELECT count(*) FROM shop.products WHERE id = 904", "shop") == "0"


def test_copy_messages_outside_of_copy_are_ignored(alice: WireClient) -> None:
    alice.send(batch(CopyData(b"x"), CopyDone(), CopyFail("y"), Query(EMAIL)))
    assert is_masked(alice.until_ready())


def test_copy_both_ways_in_one_text(alice: WireClient) -> None:
    alice.simple("BEGIN")
    alice.send(Query(f"{COPY_IN}; COPY shop.customers (email) TO STDOUT; {COPY_IN}; {EMAIL}").encode())
    assert alice.until(b"G", b"Z").kinds == "G"
    alice.send(batch(CopyData(b"905\te\t1\n"), CopyDone()))
    middle = alice.until(b"G", b"Z")
    assert all(b"*" in body for body in middle.bodies(b"d"))
    assert middle.bodies(b"d")
    alice.send(batch(CopyData(b"906\tf\t1\n"), CopyDone()))
    assert is_masked(alice.until_ready())


# Malformed messages: close.


def _raw(kind: bytes, length: int, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", length) + body


@pytest.mark.parametrize(
    "data",
    [
        _raw(b"Q", 3),
        _raw(b"Q", 0),
        _raw(b"Q", 4),
        _raw(b"Q", 0x40000000),
        _raw(b"Q", 0x7FFFFFFF),
        _raw(b"Q", 0x80000004, b"SELECT 1\0"),
        _raw(b"Q", 0xFFFFFFFF),
        _raw(b"Q", 5, b"x"),
        _raw(b"Q", 14, b"SELECT 1\0x"),
        _raw(b"Q", 30, b"SELECT 1\0; TABLE shop.api_keys"[:26]),
        _raw(b"P", 10, b"\0\0\0\0xx"),
        _raw(b"P", 9, b"\0\0\xff\xff\0"),
        _raw(b"B", 6, b"\0\0"),
        _raw(b"B", 4 + 12, b"\0\0\0\1\0\2\0\0\0\0\0\0"),
        _raw(b"B", 4 + 13, b"\0\0\0\0\0\1\x7f\xff\xff\xff\0\0\0"),
        _raw(b"B", 4 + 13, b"\0\0\0\0\0\1\x80\0\0\0\0\0\0"),
        _raw(b"E", 7, b"\0\0\0"),
        _raw(b"E", 11, b"\0\0\0\0\0\0\0"),
        _raw(b"D", 6, b"X\0"),
        _raw(b"D", 5, b"S"),
        _raw(b"C", 6, b"X\0"),
        _raw(b"S", 5, b"x"),
        _raw(b"H", 8, b"xxxx"),
        _raw(b"X", 6, b"xx"),
        _raw(b"c", 5, b"x"),
        _raw(b"f", 6, b"xx"),
        Bind(b"", b"", result_formats=(7,)).encode(),
        _raw(b"p", 9, b"pass\0"),
        _raw(b"\0", 4),
        _raw(b"!", 4),
        _raw(b"T", 6, b"\0\0"),
        _raw(b"Z", 5, b"I"),
        _raw(b"d", 3),
        _raw(b"v", 8, b"\0\0\0\0"),
        SSL_REQUEST,
        startup_packet(STARTUP),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_malformed_message_ends_the_connection(doomed: WireClient, gateway18: Gateway, data: bytes) -> None:
    doomed.send(data)
    if data[:1] in b"Q" and data[1:5] not in {b"\0\0\0\0", b"\0\0\0\3"}:
        doomed.socket.settimeout(10)
    answer = doomed.until_end()
    assert not answer.rows
    assert not answer.bodies(b"Z")
    assert [error["S"] for error in answer.errors] in (["FATAL"], [])
    ended = gateway18.log_lines()
    wait_until(
        lambda: any(line.get("outcome") == "protocol" for line in gateway18.logged("session ended")),
        "a log line",
    )
    assert ended


# Startup


def _first(client: WireClient, size: int = 1) -> bytes:
    try:
        return client.socket.recv(size)
    except ConnectionResetError:
        return b""


def test_bytes_behind_sslrequest_are_never_read_as_if_they_had_been_protected(gateway18: Gateway) -> None:
    for smuggled in (
        startup_packet(STARTUP),
        Query(DENIED).encode(),
        b"x",
        startup_packet(STARTUP) + SSL_REQUEST,
    ):
        with WireClient.plain(gateway18) as client:
            client.send(SSL_REQUEST + smuggled)
            rest = b""
            while piece := _first(client, 4096):
                rest += piece
            assert b"R\0\0\0\x08\0\0\0\0" not in rest
            assert not rest.startswith(b"S")


def test_a_second_sslrequest_and_one_inside_tls_end_the_connection(gateway18: Gateway) -> None:
    with WireClient.plain(gateway18) as client:
        client.send(SSL_REQUEST)
        assert _first(client) == b"S"
        client.send(SSL_REQUEST)
        assert _first(client, 4096)[:1] in {b"", b"\x15", b"E"}
    for packet in (SSL_REQUEST, GSSENC_REQUEST):
        with WireClient.secured(gateway18) as client:
            client.send(packet)
            assert not client.until_end().bodies(b"R")


def test_gssencrequest_is_declined_once(gateway18: Gateway) -> None:
    with WireClient.plain(gateway18) as client:
        client.send(GSSENC_REQUEST)
        assert _first(client) == b"N"
        client.send(SSL_REQUEST)
        assert _first(client) == b"S"
        client.start_tls(gateway18, "alice")
        client.send(startup_packet(STARTUP))
        assert client.until_ready().status == "I"
    with WireClient.plain(gateway18) as client:
        client.send(GSSENC_REQUEST)
        assert _first(client) == b"N"
        client.send(GSSENC_REQUEST)
        assert _first(client, 4096)[:1] in {b"", b"E"}
    with WireClient.plain(gateway18) as client:
        client.send(GSSENC_REQUEST + startup_packet(STARTUP))
        assert not client.until_end().bodies(b"R")


def test_a_startup_packet_in_clear_is_refused(gateway18: Gateway) -> None:
    with WireClient.plain(gateway18) as client:
        client.send(startup_packet(STARTUP))
        answer = client.until_end()
        assert (answer.error["S"], answer.error["C"]) == ("FATAL", "28000")
        assert "TLS" in answer.error["M"]


def test_direct_tls_needs_the_postgresql_protocol(gateway18: Gateway) -> None:
    with WireClient.plain(gateway18) as client:
        client.start_tls(gateway18, "alice", alpn=["postgresql"])
        client.send(startup_packet(STARTUP))
        assert client.until_ready().status == "I"
        assert is_masked(client.simple(EMAIL))
    for alpn in ([], ["http/1.1"]):
        with WireClient.plain(gateway18) as client:
            try:
                client.start_tls(gateway18, "alice", alpn=alpn)
                client.send(startup_packet(STARTUP))
                answer = client.until_end()
            except OSError:
                continue
            assert not answer.bodies(b"R")


def test_a_startup_packet_in_pieces_is_one(gateway18: Gateway) -> None:
    packet = startup_packet(STARTUP)
    with WireClient.secured(gateway18) as client:
        for index in range(len(packet)):
            client.send(packet[index : index + 1])
        assert client.until_ready().status == "I"


def test_what_follows_the_startup_packet_in_one_write_waits_for_its_turn(gateway18: Gateway) -> None:
    with WireClient.secured(gateway18) as client:
        client.send(startup_packet(STARTUP) + Query(EMAIL).encode() + Query(DENIED).encode())
        assert client.until_ready().status == "I"
        assert is_masked(client.until_ready())
        assert_denied(client.until_ready())


@pytest.mark.parametrize("version", [2 << 16, 4 << 16, (3 << 16) | 3, (3 << 16) | 9999, 0, 80877105])
def test_protocol_versions(gateway18: Gateway, version: int) -> None:
    with WireClient.secured(gateway18) as client:
        client.send(startup_packet(STARTUP, version))
        answer = client.until_ready()
        if version >> 16 == 3:
            assert answer.bodies(b"v")
            assert is_masked(client.simple(EMAIL))
        else:
            assert not answer.bodies(b"R")
            assert answer.errors


def test_options_of_the_protocol_are_negotiated_away(gateway18: Gateway) -> None:
    with WireClient.secured(gateway18) as client:
        client.send(startup_packet({**STARTUP, "_pq_.magic": "1", "_pq_.report": "x"}))
        answer = client.until_ready()
        assert b"_pq_.magic" in answer.bodies(b"v")[0]
        assert is_masked(client.simple(EMAIL))


@pytest.mark.parametrize(
    "packet",
    [
        struct.pack(">ii", 4, 3 << 16),
        struct.pack(">ii", 7, 3 << 16),
        struct.pack(">ii", 0x7FFFFFFF, 3 << 16),
        struct.pack(">ii", -1, 3 << 16),
        struct.pack(">ii", 20_000, 3 << 16) + b"x" * 20_000,
        struct.pack(">ii", 8, 3 << 16),
        struct.pack(">ii", 9, 3 << 16) + b"x",
        struct.pack(">ii", 17, 3 << 16) + b"user\0ann\0",
        struct.pack(">ii", 14, 3 << 16) + b"user\0\0",
        startup_packet({"user": "readonly", "database": TARGET})[:-1] + b"user\0\0",
        startup_packet({"database": TARGET}),
        startup_packet({"user": "", "database": TARGET}),
    ],
)
def test_a_malformed_startup_packet_is_refused(gateway18: Gateway, packet: bytes) -> None:
    with WireClient.secured(gateway18) as client:
        client.send(packet)
        answer = client.until_end()
        assert not answer.bodies(b"R")
        assert [error["S"] for error in answer.errors] == ["FATAL"]


def test_random_bytes_at_the_door_end_in_an_error_and_a_log_line(gateway18: Gateway) -> None:
    dice = random.Random(3)  # noqa: S311
    before = len(gateway18.logged("connection refused"))
    for size in (1, 4, 8, 60, 5_000):
        with WireClient.plain(gateway18) as client:
            client.send(b"\xff" + dice.randbytes(size))
            client.socket.shutdown(socket.SHUT_WR)
            assert not client.until_end().bodies(b"R")
        with WireClient.secured(gateway18) as client:
            client.send(b"\xff" + dice.randbytes(size + 8))
            assert not client.until_end().bodies(b"R")
    wait_until(lambda: len(gateway18.logged("connection refused")) >= before + 8, "log lines")


# Cancel


SLOW = "SELECT count(*) FROM generate_series(1, 2000000000)"


def _send_alone(gateway: Gateway, packet: bytes, *, secured: bool) -> None:
    client = WireClient.secured(gateway, "mallory") if secured else WireClient.plain(gateway)
    with client:
        client.send(packet)
        try:
            while client.socket.recv(4096):
                pass
        except OSError:
            return


@pytest.mark.parametrize("secured", [True, False])
def test_only_the_right_key_cancels_and_only_its_session(gateway18: Gateway, secured: bool) -> None:
    with WireClient.connect(gateway18, "alice") as one, WireClient.connect(gateway18, "alice") as two:
        assert one.process_id != two.process_id
        assert one.key != two.key
        backend = one.simple("SELECT pg_backend_pid()").rows[0][0]
        assert backend != str(one.process_id).encode()
        one.send(Query(SLOW).encode())
        cancelled = len(gateway18.logged("cancel request with an unknown key"))
        wrong = [
            cancel_request(one.process_id, b"\0" * len(one.key)),
            cancel_request(one.process_id, two.key),
            cancel_request(two.process_id, one.key),
            cancel_request(int(backend or 0), one.key),
            cancel_request(one.process_id, one.key[:2]),
            cancel_request(one.process_id, one.key + b"x"),
            cancel_request(one.process_id, b""),
        ]
        for packet in wrong:
            _send_alone(gateway18, packet, secured=secured)
        wait_until(
            lambda: len(gateway18.logged("cancel request with an unknown key")) >= cancelled + 4,
            "the log lines",
        )
        one.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            one.socket.recv(1)
        one.socket.settimeout(30)
        _send_alone(gateway18, cancel_request(one.process_id, one.key), secured=secured)
        assert one.until_ready().error["C"] == "57014"
        assert one.simple("SELECT 1").rows == two.simple("SELECT 1").rows == [(b"1",)]


def test_a_key_ends_with_its_session(gateway18: Gateway) -> None:
    with WireClient.connect(gateway18, "alice") as client:
        packet = cancel_request(client.process_id, client.key)
    gateway18.last_session("alice")
    before = len(gateway18.logged("cancel request with an unknown key"))
    _send_alone(gateway18, packet, secured=True)
    wait_until(lambda: len(gateway18.logged("cancel request with an unknown key")) > before, "the log line")


def test_terminate_ends_at_once_and_what_follows_it_is_not_run(gateway18: Gateway) -> None:
    with WireClient.connect(gateway18, "alice") as client:
        client.send(b"X\0\0\0\4" + Query("UPDATE shop.orders SET status = 'new' WHERE id = 3").encode())
        with pytest.raises(ConnectionEnded):
            client.message()
