"""TLS as a trio stream: the conformance checks, deadlines, cancellation, and what real OpenSSL clients
read.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

import pytest
import trio
import trio.testing

from proxyd.tls import ALERT_TIMEOUT_S, CLOSE_TIMEOUT_S, HandshakeError, TlsError, TlsStream
from proxyd.tls_contexts import ServerTls, ServerTlsSettings
from tests import pki
from tests.proxyd.tls_pairs import World, client_engine, shake_hands_on

Pair = tuple[TlsStream, TlsStream]
PipeMaker = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.in_directory(tmp_path_factory.mktemp("pki"))


def streams(world: World, pipes: PipeMaker, server: ServerTlsSettings | None = None) -> Pair:
    near, far = pipes()
    client = TlsStream(near, client_engine(world.client))
    return client, TlsStream(far, ServerTls(server or world.server).engine())


async def established(world: World, pipes: PipeMaker = trio.testing.memory_stream_pair) -> Pair:
    client, server = streams(world, pipes)
    await shake_hands_on(client, server)
    return client, server


# --- conformance ------------------------------------------------------------------------------------


def only_version(world: World, version: str) -> Callable[[PipeMaker], Awaitable[Pair]]:
    async def make(pipes: PipeMaker) -> Pair:
        client, server = streams(world, pipes)
        if version == "1.2":
            client.engine._connection.set_options(ssl.OP_NO_TLSv1_3)
        await shake_hands_on(client, server)
        assert server.version == f"TLSv{version}"
        return client, server

    return make


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_the_stream_conforms_over_memory(world: World, version: str) -> None:
    make = partial(only_version(world, version), trio.testing.memory_stream_pair)
    await trio.testing.check_two_way_stream(make, None)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_the_stream_conforms_over_lockstep(
    world: World, version: str, autojump_clock: trio.testing.MockClock
) -> None:
    # Every send waits for its receive, so these streams are clogged as they are. Two ends that close at
    # once both send a close_notify that nobody reads: that takes CLOSE_TIMEOUT_S, hence the clock.
    make = partial(only_version(world, version), trio.testing.lockstep_stream_pair)
    await trio.testing.check_two_way_stream(make, make)


async def test_the_server_may_write_first_over_lockstep(world: World) -> None:
    client, server = await established(world, trio.testing.lockstep_stream_pair)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"welcome")
        assert await client.receive_some() == b"welcome"


async def test_both_may_write_first_over_lockstep(world: World) -> None:
    client, server = await established(world, trio.testing.lockstep_stream_pair)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"from the client")
            nursery.start_soon(server.send_all, b"from the server")
            assert await client.receive_some() == b"from the server"
            assert await server.receive_some() == b"from the client"


# --- the stream's own rules -------------------------------------------------------------------------


async def test_nothing_moves_before_the_handshake(world: World) -> None:
    client, _ = streams(world, trio.testing.memory_stream_pair)
    with pytest.raises(trio.NeedHandshakeError):
        await client.send_all(b"x")
    with pytest.raises(trio.NeedHandshakeError):
        await client.receive_some()


async def test_a_large_value_arrives(world: World) -> None:
    client, server = await established(world, trio.testing.lockstep_stream_pair)
    value = bytes(range(256)) * 4096
    got = bytearray()

    async def receive() -> None:
        while len(got) < len(value):
            got.extend(await server.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await client.send_all(value)
    assert got == value


async def test_a_cancelled_send_kills_the_stream(world: World) -> None:
    client, _ = await established(world, trio.testing.lockstep_stream_pair)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"x")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"y")
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()


async def test_a_cancelled_receive_loses_nothing(world: World) -> None:
    client, server = await established(world)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    await client.send_all(b"still here")
    assert await server.receive_some() == b"still here"


async def test_a_cut_connection_is_not_an_end(world: World) -> None:
    client, server = await established(world)
    await trio.aclose_forcefully(client.transport)
    with pytest.raises(trio.BrokenResourceError, match="close_notify"):
        await server.receive_some()


async def test_a_forged_record_breaks_the_stream(world: World) -> None:
    client, server = await established(world)
    forged = bytearray(client.encrypt(b"transfer 10"))
    forged[-1] ^= 1
    await client.transport.send_all(forged)
    with pytest.raises(trio.BrokenResourceError, match="bad record mac"):
        await server.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await server.send_all(b"x")


async def test_closing_does_not_wait_for_a_peer_that_does_not_read(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    client, _ = await established(world, trio.testing.lockstep_stream_pair)
    start = trio.current_time()
    await client.aclose()
    assert trio.current_time() - start == pytest.approx(CLOSE_TIMEOUT_S)


async def test_the_relay_takes_over_in_mid_stream(world: World) -> None:
    client, server = await established(world)
    await client.send_all(b"startup and more")
    assert await server.receive_some(7) == b"startup"
    assert server.read_plaintext() == b" and more"
    assert server.read_plaintext() == b""
    server.feed_ciphertext(client.encrypt(b"query"))
    assert server.read_plaintext() == b"query"
    await server.transport.send_all(server.encrypt(b"reply"))
    assert await client.receive_some() == b"reply"
    await client.aclose()
    server.feed_ciphertext(bytes(await server.transport.receive_some()))
    assert server.read_plaintext() == b""
    assert server.is_peer_closed


async def test_bytes_already_read_are_not_lost(world: World) -> None:
    near, far = trio.testing.memory_stream_pair()
    client = TlsStream(near, client_engine(world.client))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: client.do_handshake(timeout_s=5))
        first = bytes(await far.receive_some(100))
        server = TlsStream(far, ServerTls(world.server).engine(), received=first)
        await server.do_handshake(timeout_s=5)
    await client.send_all(b"x")
    assert await server.receive_some() == b"x"


# --- handshakes that fail ---------------------------------------------------------------------------


async def test_a_silent_client_meets_the_deadline(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    _, server = streams(world, trio.testing.memory_stream_pair)
    start = trio.current_time()
    with pytest.raises(HandshakeError, match="no TLS handshake within 7 s"):
        await server.do_handshake(timeout_s=7)
    assert trio.current_time() - start == pytest.approx(7)


async def test_a_client_that_goes_away_is_an_error(world: World) -> None:
    client, server = streams(world, trio.testing.memory_stream_pair)
    await client.transport.aclose()
    with pytest.raises(HandshakeError, match="the peer closed the connection"):
        await server.do_handshake(timeout_s=5)


async def test_a_broken_transport_is_a_handshake_error(world: World) -> None:
    client, server = streams(world, trio.testing.memory_stream_pair)
    await trio.aclose_forcefully(server.transport)
    with pytest.raises(HandshakeError, match="broke during the TLS handshake"):
        await client.do_handshake(timeout_s=5)


async def test_a_refused_client_has_a_moment_to_read_why(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    near, far = trio.testing.memory_stream_pair()
    client = TlsStream(near, client_engine(world.client_as(None)))
    server = TlsStream(far, ServerTls(world.server).engine())
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: client.do_handshake(timeout_s=5))
        with pytest.raises(HandshakeError, match="no client certificate"):
            await server.do_handshake(timeout_s=5)
        # The client has not closed: it was waited for, but not longer than this.
        assert trio.current_time() - start == pytest.approx(ALERT_TIMEOUT_S)
    await server.aclose()
    with pytest.raises(trio.BrokenResourceError, match="certificate required"):
        await client.receive_some()


async def test_a_failed_stream_stays_failed(world: World) -> None:
    near, far = trio.testing.memory_stream_pair()
    server = TlsStream(far, ServerTls(world.server).engine())
    await near.send_all(b"GET / HTTP/1.1\r\n\r\n")
    await near.aclose()
    with pytest.raises(HandshakeError):
        await server.do_handshake(timeout_s=5)
    for attempt in (server.send_all(b"x"), server.receive_some(), server.do_handshake(timeout_s=5)):
        with pytest.raises(trio.BrokenResourceError):
            await attempt


# --- real OpenSSL clients over TCP ------------------------------------------------------------------


@asynccontextmanager
async def gateway(settings: ServerTlsSettings, outcomes: list[str]) -> AsyncIterator[int]:
    """A server on loopback that answers each line with itself; notes how each handshake went. Gives its
    port.
    """
    tls = ServerTls(settings)

    async def handle(transport: trio.SocketStream) -> None:
        stream = TlsStream(transport, tls.engine())
        try:
            await stream.do_handshake(timeout_s=10)
            outcomes.append(f"{stream.version} {stream.alpn_protocol} {stream.sni}")
            while data := await stream.receive_some():
                await stream.send_all(data)
        except HandshakeError as exc:
            outcomes.append(exc.reason)
        except trio.BrokenResourceError:
            outcomes.append("broken")
        finally:
            await stream.aclose()

    with trio.fail_after(60):
        async with trio.open_nursery() as handlers, trio.open_nursery() as accepting:
            serve = partial(trio.serve_tcp, handle, 0, host="127.0.0.1", handler_nursery=handlers)
            listeners = await accepting.start(serve)
            yield listeners[0].socket.getsockname()[1]
            accepting.cancel_scope.cancel()  # the handlers are waited for: each notes its outcome


def stdlib_client(world: World, files: pki.Files | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(world.bundle))
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


async def talk(context: ssl.SSLContext, port: int) -> bytes:
    """Send a line to the gateway with Python's own TLS, and read what comes back."""
    transport = await trio.open_tcp_stream("127.0.0.1", port)
    async with transport:
        stream = trio.SSLStream(transport, context, server_hostname="gateway.test")
        await stream.send_all(b"hello\n")
        data = bytes(await stream.receive_some())
        await stream.aclose()
        return data


async def failure(context: ssl.SSLContext, port: int) -> str:
    """What OpenSSL on the client's side says when the gateway refuses it."""
    with pytest.raises(trio.BrokenResourceError) as caught:
        await talk(context, port)
    return str(caught.value.__cause__)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_real_client_is_served(world: World, version: ssl.TLSVersion) -> None:
    outcomes: list[str] = []
    context = stdlib_client(world, world.alice)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "postgresql"])
    async with gateway(replace(world.server, alpn=("postgresql",)), outcomes) as port:
        assert await talk(context, port) == b"hello\n"
    assert outcomes == [f"{version.name.replace('_', '.')} postgresql gateway.test"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_real_client_reads_why_it_was_refused(world: World, version: ssl.TLSVersion) -> None:
    outcomes: list[str] = []
    context = stdlib_client(world, None)
    context.minimum_version = context.maximum_version = version
    async with gateway(world.server, outcomes) as port:
        words = await failure(context, port)
    # RFC 5246 has no certificate_required: TLS 1.2 says handshake_failure.
    expected = "CERTIFICATE_REQUIRED" if version is ssl.TLSVersion.TLSv1_3 else "HANDSHAKE_FAILURE"
    assert expected in words
    assert outcomes == ["no client certificate"]


@pytest.mark.parametrize(
    ("kind", "alert", "reason"),
    [
        ("revoked", "CERTIFICATE_REVOKED", "certificate revoked"),
        ("expired", "CERTIFICATE_EXPIRED", "certificate has expired"),
        ("stranger", "UNKNOWN_CA", "certificate issuer is not trusted"),
    ],
)
async def test_a_real_client_reads_what_is_wrong_with_its_certificate(
    world: World, kind: str, alert: str, reason: str
) -> None:
    credentials = {
        "revoked": world.people.issue("mallory", purpose=pki.CLIENT),
        "expired": world.people.issue_expired("late"),
        "stranger": pki.Authority.root("Elsewhere CA").issue("eve", purpose=pki.CLIENT),
    }
    world.people.revoke(credentials["revoked"])
    settings = replace(world.server, crl=world.write_crl())
    outcomes: list[str] = []
    context = stdlib_client(world, credentials[kind].write(world.directory))
    async with gateway(settings, outcomes) as port:
        assert alert in await failure(context, port)
    assert outcomes == [reason]


async def test_a_client_that_speaks_at_once_still_reads_the_alert(world: World) -> None:
    """A megabyte behind the handshake: closing on it would send a reset that destroys the alert."""
    outcomes: list[str] = []
    async with gateway(world.server, outcomes) as port:
        transport = await trio.open_tcp_stream("127.0.0.1", port)
        stream = trio.SSLStream(transport, stdlib_client(world, None), server_hostname="gateway.test")
        await stream.do_handshake()
        await stream.send_all(b"x" * 500_000)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert "CERTIFICATE_REQUIRED" in str(caught.value.__cause__)
        await trio.aclose_forcefully(transport)
    assert outcomes == ["no client certificate"]


async def test_no_protocol_in_common_is_told(world: World) -> None:
    outcomes: list[str] = []
    context = stdlib_client(world, world.alice)
    context.set_alpn_protocols(["h2"])
    async with gateway(replace(world.server, alpn=("postgresql",)), outcomes) as port:
        assert "no application protocol" in await failure(context, port)
    assert outcomes == ["no application protocol (ALPN) in common"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_never_resumed(world: World, version: ssl.TLSVersion) -> None:
    outcomes: list[str] = []
    context = stdlib_client(world, world.alice)
    context.minimum_version = context.maximum_version = version
    async with gateway(world.server, outcomes) as port:
        session = None
        for _ in range(3):
            transport = await trio.open_tcp_stream("127.0.0.1", port)
            stream = trio.SSLStream(transport, context, server_hostname="gateway.test")
            if session is not None:
                stream.session = session
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            assert stream.session_reused is False
            session = stream.session
            await stream.aclose()
    assert len(outcomes) == 3


async def s_client(world: World, port: int, *options: str, say: Sequence[tuple[bytes, bytes]]) -> str:
    """Run `openssl s_client`. For each pair in `say`, send the first and wait until the second is printed, or until
    the client ends. Gives all that it printed.
    """
    openssl = shutil.which("openssl")
    assert openssl is not None, "install openssl: its command line client is one of those that must work"
    command = [openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "gateway.test"]
    command += ["-CAfile", str(world.bundle), *options]
    output = bytearray()
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(
                trio.run_process,
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        )
        with trio.fail_after(60):
            for text, answer in say:
                with suppress(trio.BrokenResourceError):  # it has ended, and says why below
                    await process.stdin.send_all(text)
                seen = len(output)
                while answer not in output[seen:] and (chunk := await process.stdout.receive_some()):
                    output += chunk
            await process.stdin.aclose()
            async for chunk in process.stdout:
                output += chunk
    return output.decode("utf-8", "replace")


HELLO = (b"hello\n", b"hello\n")


def showing(files: pki.Files) -> list[str]:
    certificate = str(files.certificate)
    return ["-cert", certificate, "-key", str(files.key), "-cert_chain", certificate]


async def test_openssl_s_client_is_served(world: World) -> None:
    outcomes: list[str] = []
    async with gateway(world.server, outcomes) as port:
        output = await s_client(world, port, *showing(world.alice), say=[HELLO])
    assert "Verify return code: 0 (ok)" in output
    assert "\nhello\n" in output
    assert outcomes == ["TLSv1.3 None gateway.test"]


async def test_openssl_s_client_reads_certificate_required(world: World) -> None:
    outcomes: list[str] = []
    async with gateway(world.server, outcomes) as port:
        output = await s_client(world, port, say=[HELLO])
    assert "certificate required" in output
    assert "unexpected eof" not in output
    assert outcomes == ["no client certificate"]


async def test_openssl_s_client_changes_its_keys(world: World) -> None:
    outcomes: list[str] = []
    async with gateway(world.server, outcomes) as port:
        # "K" alone: change your own keys, and ask the other end for the same.
        changes = [(b"K\n", b"KEYUPDATE")] * 3
        output = await s_client(world, port, *showing(world.alice), say=[HELLO, *changes, HELLO])
    assert output.count("hello\n") == 2
    assert outcomes == ["TLSv1.3 None gateway.test"]


async def test_openssl_s_client_cannot_renegotiate(world: World) -> None:
    outcomes: list[str] = []
    async with gateway(world.server, outcomes) as port:
        options = ["-tls1_2", *showing(world.alice)]
        await s_client(world, port, *options, say=[HELLO, (b"R\n", b"RENEGOTIATING"), HELLO])
    assert outcomes == ["TLSv1.2 None gateway.test", "broken"]


def test_the_errors_have_one_root() -> None:
    assert issubclass(HandshakeError, TlsError)
