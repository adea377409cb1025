"""The TLS machine without I/O: bytes cut anywhere, faults at the right place, nothing piling up."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from proxyd import tls_engine
from proxyd.tls_contexts import ServerTls
from proxyd.tls_engine import HandshakeError, TlsEngine, TlsError, Verdict
from tests.proxyd.tls_pairs import World, client_engine, engines, shake_hands


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.in_directory(tmp_path_factory.mktemp("pki"))


@pytest.fixture(params=["1.2", "1.3"])
def pair(world: World, request: pytest.FixtureRequest) -> tuple[TlsEngine, TlsEngine]:
    server = ServerTls(world.server).engine()
    client = client_engine(world.client)
    if request.param == "1.2":
        # The two sides agree on the highest version; OP_NO_TLSv1_3 takes that one away.
        client._connection.set_options(SSL.OP_NO_TLSv1_3)
    shake_hands(client, server)
    assert server.version == client.version == f"TLSv{request.param}"
    return client, server


def test_a_message_passes_in_both_directions(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    server.feed_ciphertext(client.encrypt(b"question"))
    assert server.read_plaintext() == b"question"
    client.feed_ciphertext(server.encrypt(b"answer"))
    assert client.read_plaintext() == b"answer"
    assert client.read_plaintext() == server.read_plaintext() == b""


def test_a_handshake_shows_who_is_there(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    certificate = server.peer_certificate
    assert certificate is not None
    assert certificate.subject.rfc4514_string() == "CN=alice"
    names = [c.subject.rfc4514_string() for c in server.peer_chain]
    assert names == ["CN=alice", "CN=Test people CA", "CN=Test CA"]
    assert client.sni == server.sni == "gateway.test"
    assert client.alpn_protocol is server.alpn_protocol is None
    assert server.cipher


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 65536, 65537, 1_000_000])
def test_any_size_arrives_whole(pair: tuple[TlsEngine, TlsEngine], size: int) -> None:
    client, server = pair
    message = bytes(range(256)) * (size // 256 + 1)
    message = message[:size]
    ciphertext = client.encrypt(message)
    server.feed_ciphertext(ciphertext)
    assert server.read_plaintext() == message
    assert server.read_plaintext() == b""


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_plaintext_may_be_any_buffer(
    pair: tuple[TlsEngine, TlsEngine], kind: type[bytes] | type[bytearray] | type[memoryview]
) -> None:
    client, server = pair
    server.feed_ciphertext(client.encrypt(kind(b"hello")))
    server.feed_ciphertext(client.encrypt(kind(b"x" * 20000)))
    assert server.read_plaintext() == b"hello" + b"x" * 20000


def test_ciphertext_may_come_byte_by_byte(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    ciphertext = client.encrypt(b"one") + client.encrypt(b"two")
    got = []
    for i in range(len(ciphertext)):
        server.feed_ciphertext(ciphertext[i : i + 1])
        if plaintext := server.read_plaintext():
            got.append(plaintext)
    assert got == [b"one", b"two"]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40000), max_size=4), st.lists(st.integers(0, 170000), max_size=8))
def test_ciphertext_may_be_cut_anywhere(
    engine_pair: tuple[TlsEngine, TlsEngine], messages: list[bytes], cuts: list[int]
) -> None:
    client, server = engine_pair
    ciphertext = b"".join([client.encrypt(message) for message in messages])
    borders = [0, *sorted(min(cut, len(ciphertext)) for cut in cuts), len(ciphertext)]
    got = b""
    for start, end in itertools.pairwise(borders):
        server.feed_ciphertext(ciphertext[start:end])
        got += server.read_plaintext()
    assert got == b"".join(messages)


@pytest.fixture(scope="module")
def engine_pair(world: World) -> tuple[TlsEngine, TlsEngine]:
    return engines(world)


def test_what_comes_with_the_end_of_the_handshake_is_not_lost(world: World) -> None:
    client, server = client_engine(world.client), ServerTls(world.server).engine()
    client.handshake()
    server.feed_ciphertext(client.take_outgoing())
    server.handshake()
    client.feed_ciphertext(server.take_outgoing())
    client.handshake()
    early = client.encrypt(b"early")  # the client's Finished and its first request in one packet
    more = client.encrypt(b"more")
    server.feed_ciphertext(early + more[:7])
    assert server.handshake()
    assert server.read_plaintext() == b"early"
    server.feed_ciphertext(more[7:])
    assert server.read_plaintext() == b"more"


def test_the_last_flight_of_a_server_goes_with_its_first_write(world: World) -> None:
    client, server = engines(world)
    assert server.version == "TLSv1.3"
    assert server.take_outgoing() == b""
    first = server.encrypt(b"x")
    second = server.encrypt(b"x")
    assert len(first) > len(second)
    client.feed_ciphertext(first + second)
    assert client.read_plaintext() == b"xx"


def test_an_empty_write_releases_nothing(world: World) -> None:
    _, server = engines(world)
    assert server.encrypt(b"") == b""


def test_close_notify_ends_the_stream_after_the_data(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    server.feed_ciphertext(client.encrypt(b"last words") + client.close())
    assert server.read_plaintext() == b"last words"
    assert server.read_plaintext() == b""
    assert server.is_peer_closed
    server.feed_eof()
    assert not server.is_truncated


def test_a_server_that_never_wrote_can_close(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    client.feed_ciphertext(server.close())
    assert client.read_plaintext() == b""
    assert client.is_peer_closed


def test_the_end_without_close_notify_is_a_truncation(pair: tuple[TlsEngine, TlsEngine]) -> None:
    _, server = pair
    server.feed_eof()
    assert server.is_peer_closed
    assert server.is_truncated


def test_a_forged_record_is_refused_after_the_good_ones(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    good = client.encrypt(b"good")
    bad = bytearray(client.encrypt(b"bad"))
    bad[-1] ^= 1
    server.feed_ciphertext(good + bytes(bad))
    assert server.read_plaintext() == b"good"
    with pytest.raises(TlsError, match="bad record mac"):
        server.read_plaintext()
    with pytest.raises(TlsError, match="bad record mac"):
        server.encrypt(b"more")
    client.feed_ciphertext(server.take_outgoing())
    with pytest.raises(TlsError, match="alert bad record mac"):
        client.read_plaintext()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\xff\xff" + b"x" * 70000])
def test_garbage_after_the_handshake_ends_it(pair: tuple[TlsEngine, TlsEngine], garbage: bytes) -> None:
    client, server = pair
    server.feed_ciphertext(client.encrypt(b"good") + garbage)
    assert server.read_plaintext() == b"good"
    with pytest.raises(TlsError):
        server.read_plaintext()
    server.feed_ciphertext(client.encrypt(b"too late"))
    with pytest.raises(TlsError):
        server.read_plaintext()


def test_an_incomplete_record_is_bounded(pair: tuple[TlsEngine, TlsEngine]) -> None:
    _, server = pair
    server.feed_ciphertext(b"\x17\x03\x03\x48\x00" + b"x" * 18431)  # one byte short of the largest record
    assert server.read_plaintext() == b""
    assert len(server._tail) == 18436
    server.feed_ciphertext(b"x")
    with pytest.raises(TlsError):
        server.read_plaintext()


def test_renegotiation_ends_the_connection(world: World) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_chain_file(str(world.alice.certificate))
    context.use_privatekey_file(str(world.alice.key))
    connection = SSL.Connection(context)
    connection.set_connect_state()
    client = TlsEngine(connection, Verdict(context), is_server=False)
    server = ServerTls(world.server).engine()
    shake_hands(client, server)
    question = client.encrypt(b"question")
    connection.renegotiate()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    server.feed_ciphertext(question + client.take_outgoing())
    assert server.read_plaintext() == b"question"
    with pytest.raises(TlsError, match="renegotiate"):
        server.read_plaintext()
    assert server.take_outgoing() == b""


def test_replies_nobody_reads_do_not_pile_up(pair: tuple[TlsEngine, TlsEngine]) -> None:
    client, server = pair
    # Whatever made OpenSSL queue them: here they are put into its outgoing buffer directly.
    tls_engine._BIO_write(server._outgoing, b"x" * 70000, 70000)
    server.feed_ciphertext(client.encrypt(b"a"))
    assert server.read_plaintext() == b"a"
    server._records = 1
    with pytest.raises(TlsError, match="too many TLS replies"):
        server.read_plaintext()


def test_nothing_is_sent_before_the_handshake(world: World) -> None:
    with pytest.raises(TlsError, match="before the TLS handshake"):
        client_engine(world.client).encrypt(b"secret")


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "the peer does not speak TLS (an HTTP request)"),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", "the peer does not speak TLS"),
        (b"\xff" * 64, "the peer does not speak TLS"),
    ],
)
def test_a_peer_that_does_not_speak_tls_is_told_apart(world: World, hello: bytes, reason: str) -> None:
    server = ServerTls(world.server).engine()
    server.feed_ciphertext(hello)
    with pytest.raises(HandshakeError) as caught:
        server.handshake()
    assert caught.value.reason == reason


def test_an_end_in_the_middle_of_the_handshake_is_an_error(world: World) -> None:
    server = ServerTls(world.server).engine()
    client = client_engine(world.client)
    client.handshake()
    server.feed_ciphertext(client.take_outgoing()[:50])
    assert not server.handshake()
    server.feed_eof()
    with pytest.raises(HandshakeError, match="the peer closed the connection"):
        server.handshake()


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_random_bytes_never_do_more_than_fail(world: World, noise: bytes) -> None:
    server = ServerTls(world.server).engine()
    server.feed_ciphertext(noise)
    try:
        assert server.handshake() is False
    except HandshakeError as exc:
        assert exc.reason


@settings(deadline=None)
@given(st.integers(0, 1 << 20), st.integers(1, 255))
def test_a_changed_hello_never_lets_anyone_in(world: World, where: int, change: int) -> None:
    server = ServerTls(world.server).engine()
    client = client_engine(world.client_as(None))
    client.handshake()
    hello = bytearray(client.take_outgoing())
    hello[where % len(hello)] ^= change
    server.feed_ciphertext(bytes(hello))
    try:
        assert server.handshake() is False
    except HandshakeError as exc:
        assert exc.reason


def test_the_minimum_version_is_kept(world: World) -> None:
    server = ServerTls(replace(world.server, minimum_version="1.3")).engine()
    client = client_engine(world.client)
    client._connection.set_options(SSL.OP_NO_TLSv1_3)
    with pytest.raises(HandshakeError, match="the peer's TLS version is not allowed"):
        shake_hands(client, server)
