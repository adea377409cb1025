"""`proxyd.upstream` against targets that misbehave, over streams without sockets and without waiting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import scramp
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_pair

from protocols.postgres.messages import (
    AuthenticationMD5Password,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    AuthenticationUnsupported,
    authentication_cleartext_password,
    authentication_ok,
    authentication_sasl,
    backend_key_data,
    command_complete,
    error_response,
    frame,
    negotiate_protocol_version,
    notice,
    parameter_status,
    ready_for_query,
)
from proxyd.addresses import Address
from proxyd.config import Login, SecretSource
from proxyd.tls_contexts import ClientTls, ClientTlsSettings
from proxyd.upstream import UpstreamConnection, UpstreamError, UpstreamTarget, open_session

PASSWORD = "correct horse, battery staple"
DEADLINE_S = 10.0

Peer = trio.StapledStream[MemorySendStream, MemoryReceiveStream]
Script = Callable[[Peer], Awaitable[None]]

CLEAR = UpstreamTarget("shop", Address("target.example", 5432))
SECURED = UpstreamTarget("shop", Address("target.example", 5432), ClientTls(ClientTlsSettings("require")))
OPTIONAL = UpstreamTarget(
    "shop", Address("target.example", 5432), ClientTls(ClientTlsSettings("require")), tls_optional=True
)

READY = authentication_ok() + backend_key_data(7, b"key!") + ready_for_query("I")


@pytest.fixture
def login(tmp_path: Path) -> Login:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    path.chmod(0o600)
    return Login(name="reader", user="shop_reader", password=SecretSource(file=path))


async def play(target: UpstreamTarget, login: Login, script: Script) -> UpstreamConnection | UpstreamError:
    """What comes of a session with a target that follows `script`."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, theirs)
        try:
            return await open_session(ours, target, login, "shop", {}, deadline_s=DEADLINE_S)
        except UpstreamError as error:
            return error
        finally:
            nursery.cancel_scope.cancel()


async def refusal(target: UpstreamTarget, login: Login, script: Script) -> UpstreamError:
    outcome = await play(target, login, script)
    assert isinstance(outcome, UpstreamError)
    assert PASSWORD not in f"{outcome} {outcome.hint}"
    return outcome


async def success(target: UpstreamTarget, login: Login, script: Script) -> UpstreamConnection:
    outcome = await play(target, login, script)
    if isinstance(outcome, UpstreamError):
        raise outcome
    return outcome


def says(*pieces: bytes, then_closes: bool = True) -> Script:
    """A target that reads once before each piece that it sends."""

    async def script(peer: Peer) -> None:
        for piece in pieces:
            await peer.receive_some()
            await peer.send_all(piece)
        if then_closes:
            await peer.aclose()
        else:
            await trio.sleep_forever()

    return script


async def closes(peer: Peer) -> None:
    await peer.receive_some()
    await peer.aclose()


# --- the request for TLS ---


@pytest.mark.parametrize("target", [SECURED, OPTIONAL])
@pytest.mark.parametrize("answer", [b"S" + READY, b"SS", b"N" + READY, b"NN", b"S\x16\x03\x03"])
async def test_bytes_behind_the_answer_to_ssl_request(
    target: UpstreamTarget, answer: bytes, login: Login
) -> None:
    error = await refusal(target, login, says(answer))
    assert error.sqlstate == "08001"
    assert "in clear behind the answer" in error.reason


async def test_tls_declined(login: Login) -> None:
    error = await refusal(SECURED, login, says(b"N", READY))
    assert "does not offer TLS" in error.reason


async def test_tls_declined_where_that_is_allowed(login: Login) -> None:
    assert (await success(OPTIONAL, login, says(b"N", READY))).tls is None


@pytest.mark.parametrize(
    "answer",
    [b"X", b"\0", b"HTTP/1.1 400", error_response("FATAL", "53300", "\x1b[2J sorry"), b"\x15\x03\x01"],
)
@pytest.mark.parametrize("target", [SECURED, OPTIONAL])
async def test_garbage_in_answer_to_ssl_request(target: UpstreamTarget, answer: bytes, login: Login) -> None:
    error = await refusal(target, login, says(answer))
    assert error.sqlstate == "08P01"
    assert "sorry" not in str(error)


@pytest.mark.parametrize("target", [CLEAR, SECURED, OPTIONAL])
async def test_closed_at_once(target: UpstreamTarget, login: Login) -> None:
    assert (await refusal(target, login, closes)).sqlstate == "08006"


@pytest.mark.parametrize("garbage", [b"\x15\x03\x03\0\2\2\x28", b"no TLS record at all", READY])
async def test_tls_handshake_fails(garbage: bytes, login: Login) -> None:
    error = await refusal(SECURED, login, says(b"S", garbage))
    assert error.sqlstate == "08001"
    assert "could not be secured" in error.message


# --- deadlines ---


@pytest.mark.parametrize(
    ("target", "pieces"),
    [
        (CLEAR, ()),
        (SECURED, ()),
        (SECURED, (b"S",)),
        (CLEAR, (b"R\0\0",)),
        (CLEAR, (authentication_ok(),)),
        (CLEAR, (authentication_sasl(["SCRAM-SHA-256"]),)),
    ],
)
async def test_silence(
    target: UpstreamTarget, pieces: tuple[bytes, ...], login: Login, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    error = await refusal(target, login, says(*pieces, then_closes=False))
    assert error.sqlstate == "08001"
    assert (
        trio.current_time() - start <= DEADLINE_S + 2
    )  # the alert of a failed TLS handshake may take a moment


async def test_trickle(login: Login, autojump_clock: MockClock) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_some()
        while True:
            await peer.send_all(notice("NOTICE", "00000", "wait"))
            await trio.sleep(1)

    start = trio.current_time()
    error = await refusal(CLEAR, login, script)
    assert error.sqlstate == "08001"
    assert trio.current_time() - start == pytest.approx(DEADLINE_S)


# --- the startup conversation ---


async def test_plain_success(login: Login) -> None:
    status = parameter_status("server_version", "18.1") + parameter_status("TimeZone", "UTC")
    pieces = (
        notice("NOTICE", "00000", "hello") + authentication_ok() + status + READY[len(authentication_ok()) :]
    )
    connection = await success(CLEAR, login, says(pieces + parameter_status("TimeZone", "GMT")))
    assert connection.parameters == {"server_version": "18.1", "TimeZone": "UTC"}
    assert (connection.process_id, connection.secret_key) == (7, b"key!")
    assert connection.leftover == parameter_status("TimeZone", "GMT")
    assert "key!" not in repr(connection)


async def test_byte_by_byte(login: Login) -> None:
    async def script(peer: Peer) -> None:
        await peer.receive_some()
        for index in range(len(READY)):
            await peer.send_all(READY[index : index + 1])
        await trio.sleep_forever()

    assert (await success(CLEAR, login, script)).leftover == b""


async def test_what_is_sent(login: Login) -> None:
    seen = bytearray()

    async def script(peer: Peer) -> None:
        seen.extend(await peer.receive_some())
        await peer.send_all(READY)
        await trio.sleep_forever()

    await success(CLEAR, login, script)
    body = b"user\0shop_reader\0database\0shop\0client_encoding\0UTF8\0standard_conforming_strings\0on\0\0"
    assert bytes(seen) == (len(body) + 8).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "pieces",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0" * 64,
        b"R\xff\xff\xff\xff",
        b"R\0\0\0\3",
        b"R\0\0\0\4",
        b"S\x7f\xff\xff\xff",
        ready_for_query("I"),
        backend_key_data(1, b"key!") + ready_for_query("I"),
        authentication_ok() + authentication_ok() + ready_for_query("I"),
        authentication_ok() + command_complete("SELECT 1"),
        authentication_ok() + frame(ord("D"), b"\0\0"),
        authentication_ok() + frame(ord("G"), b"\0\0\0"),
        authentication_ok() + frame(ord("Z"), b"X"),
        authentication_ok() + frame(ord("S"), b"name"),
        negotiate_protocol_version(0, []) + READY,
        negotiate_protocol_version(0, ["_pq_.x"]) + READY,
        notice("NOTICE", "00000", "again") * 2000,
    ],
)
async def test_nonsense(pieces: bytes, login: Login) -> None:
    error = await refusal(CLEAR, login, says(pieces, then_closes=False))
    assert error.sqlstate in {"08P01", "28000"}


@pytest.mark.parametrize("length", range(1, len(READY)))
async def test_closed_in_the_middle(length: int, login: Login) -> None:
    assert (await refusal(CLEAR, login, says(READY[:length]))).sqlstate == "08006"


@pytest.mark.parametrize(
    ("sqlstate", "client_sees", "is_quoted"),
    [
        ("28P01", "28000", False),
        ("28000", "28000", False),
        ("3D000", "3D000", False),
        ("42501", "42501", False),
        ("53300", "53300", False),
        ("57P03", "57P03", False),
        ("22023", "22023", True),
        ("XX000", "XX000", False),
        ("bad", "08004", False),
    ],
)
async def test_errors_of_the_target(sqlstate: str, client_sees: str, is_quoted: bool, login: Login) -> None:
    words = "host 10.1.2.3 says\x1b[2J no to shop_reader " + "x" * 5000
    error = await refusal(CLEAR, login, says(error_response("FATAL", sqlstate, words)))
    assert error.sqlstate == client_sees
    assert ("10.1.2.3" in error.message) == is_quoted
    assert "10.1.2.3" in error.reason
    for text in (error.message, error.reason, error.hint):
        assert text.isprintable()
        assert len(text) < 700


# --- authentication ---


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([authentication_cleartext_password()], "in clear"),
        ([AuthenticationUnsupported(7)], "GSSAPI"),
        ([AuthenticationUnsupported(9)], "SSPI"),
        ([AuthenticationUnsupported(99)], "number 99"),
        ([authentication_sasl(["SCRAM-SHA-512", "OAUTHBEARER"])], "SASL mechanism"),
        ([authentication_sasl(["SCRAM-SHA-256-PLUS"])], "SASL mechanism"),
        ([AuthenticationSASLContinue(b"x").encode()], "out of turn"),
        ([AuthenticationSASLFinal(b"x").encode()], "out of turn"),
        ([AuthenticationMD5Password(b"salt").encode()] * 2, "out of turn"),
        ([AuthenticationMD5Password(b"salt").encode(), authentication_cleartext_password()], "out of turn"),
        ([authentication_sasl(["SCRAM-SHA-256"]), authentication_ok()], "did not prove"),
        ([authentication_sasl(["SCRAM-SHA-256"]), authentication_cleartext_password()], "out of turn"),
        (
            [authentication_sasl(["SCRAM-SHA-256"]), AuthenticationMD5Password(b"salt").encode()],
            "out of turn",
        ),
    ],
)
async def test_authentication_out_of_step(pieces: list[bytes], reason: str, login: Login) -> None:
    sent = [
        frame(ord("R"), piece.method.to_bytes(4, "big"))
        if isinstance(piece, AuthenticationUnsupported)
        else piece
        for piece in pieces
    ]
    error = await refusal(CLEAR, login, says(*sent, then_closes=False))
    assert error.sqlstate == "28000"
    assert reason in error.reason
    assert reason not in error.message


class ScramTarget:
    """The server's side of SCRAM. `alter` changes what it sends: (step, text) -> text."""

    def __init__(self, alter: Callable[[str, str], str], password: str = PASSWORD) -> None:
        self._alter = alter
        mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
        known = mechanism.make_auth_info(password)
        self._server = mechanism.make_server(lambda user: known)

    async def __call__(self, peer: Peer) -> None:
        server = self._server
        await peer.receive_some()
        await peer.send_all(authentication_sasl(["SCRAM-SHA-256"]))
        first = bytes(await peer.receive_some())
        server.set_client_first(first[first.index(b"\0", 5) + 5 :].decode())
        challenge = self._alter("first", server.get_server_first()).encode()
        await peer.send_all(AuthenticationSASLContinue(challenge).encode())
        server.set_client_final(bytes(await peer.receive_some())[5:].decode())
        final = self._alter("final", server.get_server_final()).encode()
        await peer.send_all(AuthenticationSASLFinal(final).encode() + READY)
        await trio.sleep_forever()


def replaced(step: str, old: str, new: str) -> Callable[[str, str], str]:
    """Alters one step: `old` (up to the next comma) becomes `new`."""

    def alter(now: str, text: str) -> str:
        if now != step:
            return text
        return ",".join(new if part.startswith(old) else part for part in text.split(","))

    return alter


async def test_scram(login: Login) -> None:
    connection = await success(CLEAR, login, ScramTarget(lambda step, text: text))
    assert connection.authentication == "scram-sha-256"


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (replaced("first", "i=", "i=10000000"), "iterations"),
        (replaced("first", "i=", "i=200001"), "iterations"),
        (replaced("first", "i=", "i=1"), "malformed"),
        (replaced("first", "i=", "i=99999999999999999999"), "malformed"),
        (replaced("first", "i=", "i=-5"), "malformed"),
        (replaced("first", "r=", "r=anothernonce"), "malformed"),
        (replaced("first", "s=", "s="), "malformed"),
        (lambda step, text: "x" * 10_000 if step == "first" else text, "longer"),
        (lambda step, text: "" if step == "first" else text, "malformed"),
        (lambda step, text: "e=other-error" if step == "first" else text, "malformed"),
        (lambda step, text: "\u00e9" if step == "first" else text, "malformed"),
        (replaced("final", "v=", "v=" + "A" * 43 + "="), "did not prove"),
        (replaced("final", "v=", "e=invalid-proof"), "did not prove"),
        (replaced("final", "v=", ""), "did not prove"),
    ],
)
async def test_scram_of_an_impostor(alter: Callable[[str, str], str], reason: str, login: Login) -> None:
    error = await refusal(CLEAR, login, ScramTarget(alter))
    assert error.sqlstate == "28000"
    assert reason in error.reason


async def test_scram_with_many_iterations_computes_in_a_thread(login: Login) -> None:
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    target = ScramTarget(lambda step, text: text)
    known = mechanism.make_auth_info(PASSWORD, iteration_count=20_000)
    target._server = mechanism.make_server(lambda user: known)
    assert (await success(CLEAR, login, target)).authentication == "scram-sha-256"
