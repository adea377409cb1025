"""Asking a PostgreSQL client for a token: what it may answer, and what ends the connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from protocols.errors import ProtocolError
from protocols.postgres.codec import frame
from protocols.postgres.messages import (
    PasswordMessage,
    SaslInitialResponse,
    authentication_cleartext_password,
    authentication_sasl,
)
from proxyd.identity.oidc import TokenRefused
from proxyd.postgres_token import MAX_MESSAGE_BYTES, ClientLeft, TokenMethod, TokenQuestion, TokenSought
from tests.proxyd.identity.oidc.issuing import Bench, jwk, key_set, token

KEYS = key_set(jwk("rsa"))
KVSEP = b"\x01"


class Client:
    """Plays the client's stream: gives `pieces` one after the other, then the end. `sent`: what it was sent."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.sent: list[bytes] = []

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > max_bytes:
            self.pieces.insert(0, piece[max_bytes:])
        return piece[:max_bytes]

    async def send_all(self, data: bytes) -> None:
        self.sent.append(data)


def password(secret: str) -> bytes:
    return PasswordMessage(secret.encode() + b"\0").encode()


def bearer(secret: str) -> bytes:
    value = f"Bearer {secret}".encode() if secret else b""
    return b"n,," + KVSEP + b"auth=" + value + KVSEP + KVSEP


def initial(data: bytes | None, mechanism: str = "OAUTHBEARER") -> bytes:
    return SaslInitialResponse(mechanism, data).encode()


def response(data: bytes) -> bytes:
    return frame(ord("p"), data)


def question(
    method: TokenMethod, pieces: Sequence[bytes], received: bytes = b""
) -> tuple[TokenQuestion, Client]:
    client: Any = Client(*pieces)
    tokens = Bench(keys=KEYS).tokens()
    return TokenQuestion(client, tokens, method, received), client


@pytest.mark.parametrize("size", [1, 3, 1000, 100_000])
async def test_a_password_in_pieces(size: int) -> None:
    data = password(token()) + b"Q\0\0\0\5\0"
    asked, client = question("password", [data[at : at + size] for at in range(0, len(data), size)])
    assert (await asked.ask()).name == "alice@example.com"
    assert client.sent == [authentication_cleartext_password()]
    assert (asked.received + b"".join(client.pieces)) == b"Q\0\0\0\5\0"


async def test_what_came_with_the_startup_packet_counts() -> None:
    asked, _ = question("password", [], password(token()) + b"rest")
    assert (await asked.ask()).name == "alice@example.com"
    assert asked.received == b"rest"


async def test_a_bearer_token() -> None:
    asked, client = question("oauthbearer", [initial(bearer(token()))])
    assert (await asked.ask()).name == "alice@example.com"
    assert client.sent == [authentication_sasl(["OAUTHBEARER"])]


async def test_a_bearer_token_after_an_empty_challenge() -> None:
    asked, client = question("oauthbearer", [initial(None), response(bearer(token()))])
    assert (await asked.ask()).name == "alice@example.com"
    assert client.sent[1:] == [b"R\0\0\0\x08\0\0\0\x0b"]


async def test_a_client_that_asks_where_tokens_come_from() -> None:
    asked, client = question("oauthbearer", [initial(bearer("")), response(KVSEP)])
    with pytest.raises(TokenSought):
        await asked.ask()
    assert b"https://login.example/.well-known/openid-configuration" in client.sent[-1]


async def test_a_bearer_token_that_does_not_count() -> None:
    asked, client = question("oauthbearer", [initial(bearer(token()[:-4] + "AAAA")), response(KVSEP)])
    with pytest.raises(TokenRefused, match="signature"):
        await asked.ask()
    assert b'"invalid_token"' in client.sent[-1]


HUGE = b"p" + (MAX_MESSAGE_BYTES + 1).to_bytes(4)
BAD: dict[str, tuple[TokenMethod, list[bytes], type[Exception]]] = {
    "another message": ("password", [b"Q\0\0\0\5\0"], ProtocolError),
    "a terminate": ("password", [b"X\0\0\0\4"], ProtocolError),
    "a message that is too long": ("password", [HUGE], ProtocolError),
    "a length of two thousand million": ("password", [b"p\x7f\xff\xff\xff"], ProtocolError),
    "a negative length": ("password", [b"p\xff\xff\xff\xff"], ProtocolError),
    "a length of 3": ("password", [b"p\0\0\0\3"], ProtocolError),
    "no NUL": ("password", [b"p\0\0\0\x07abc"], ProtocolError),
    "a NUL inside": ("password", [b"p\0\0\0\x08a\0b\0"], ProtocolError),
    "nothing": ("password", [], ClientLeft),
    "half a header": ("password", [b"p\0\0"], ClientLeft),
    "half a message": ("password", [b"p\0\0\0\x20abc"], ClientLeft),
    "an empty password": ("password", [password("")], TokenRefused),
    "not ASCII": ("password", [password("ü" * 30)], TokenRefused),
    "another mechanism": ("oauthbearer", [initial(b"x", "SCRAM-SHA-256")], ProtocolError),
    "a password in place of SASL": ("oauthbearer", [password(token())], ProtocolError),
    "a wrong inner length": ("oauthbearer", [response(b"OAUTHBEARER\0\0\0\0\x09abc")], ProtocolError),
    "broken text": ("oauthbearer", [initial(b"n,,abc")], ProtocolError),
    "channel binding": ("oauthbearer", [initial(b"p=tls-unique" + bearer(token())[1:])], ProtocolError),
    "leaving at the refusal": ("oauthbearer", [initial(bearer(""))], ClientLeft),
    "a token in answer to a refusal": (
        "oauthbearer",
        [initial(bearer("")), response(bearer(token()))],
        ProtocolError,
    ),
    "a second empty initial response": ("oauthbearer", [initial(None), response(b"")], ProtocolError),
}


@pytest.mark.parametrize(
    ("method", "pieces", "error"), [pytest.param(*case, id=name) for name, case in BAD.items()]
)
async def test_bad_answers(method: TokenMethod, pieces: list[bytes], error: type[Exception]) -> None:
    asked, _ = question(method, pieces)
    with pytest.raises(error) as caught:
        await asked.ask()
    assert token().split(".")[2] not in repr(caught.value)


async def test_no_more_is_read_than_a_message_may_hold() -> None:
    """A client that keeps sending is not listened to for longer than it takes to see the length."""
    flood = [HUGE] + [b"x" * 4096] * 1000
    asked, client = question("password", flood)
    with pytest.raises(ProtocolError):
        await asked.ask()
    assert len(client.pieces) >= 999
