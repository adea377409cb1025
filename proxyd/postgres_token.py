"""Asking a PostgreSQL client for a token, over TLS and before anybody is admitted.

Owns the two ways of asking: as the password, which every client can give, and by SASL OAUTHBEARER, by which a client
of PostgreSQL 18 learns where to get a token. Everything is bounded by `MAX_MESSAGE_BYTES`, and by the handshake's
deadline, which the caller sets. Must never put a token into an error, a log line or a tape. Called by
`postgres_handshake`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from policy.facts import Subject
from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.postgres.backend_messages import AuthenticationSASLContinue
from protocols.postgres.codec import HEADER_BYTES
from protocols.postgres.messages import (
    Frontend,
    PasswordMessage,
    authentication_cleartext_password,
    authentication_sasl,
    read_password,
    read_sasl_initial_response,
    read_sasl_response,
)
from protocols.postgres.oauthbearer import KVSEP, MECHANISM, read_initial_response, refusal
from proxyd.identity.oidc import TokenRefused, Tokens
from proxyd.tls import TlsStream

MAX_MESSAGE_BYTES: Final = 20 * 1024  # the longest token, and what OAUTHBEARER wraps around it
_READ_BYTES: Final = 4096

TokenMethod = Literal["password", "oauthbearer"]


class ClientLeft(Exception):
    """The client closed the connection in place of an answer."""


class TokenSought(Exception):
    """The client wanted to know where tokens come from, was told, and will come back with one."""


@dataclass(slots=True)
class TokenQuestion:
    """One client to ask. `received`: what has come and is not read yet; what is left of it is the session's."""

    stream: TlsStream
    tokens: Tokens
    method: TokenMethod
    received: bytes = b""

    async def ask(self) -> Subject:
        """Raises TokenRefused, TokenSought, ClientLeft, ProtocolError."""
        if self.method == "password":
            await self.stream.send_all(authentication_cleartext_password())
            password = read_password(await self._answer())
            return await self.tokens.subject_of(_text(password))
        return await self._by_sasl()

    async def _by_sasl(self) -> Subject:
        await self.stream.send_all(authentication_sasl([MECHANISM]))
        first = read_sasl_initial_response(await self._answer())
        if first.mechanism != MECHANISM:
            raise RemoteProtocolError("the client chose a SASL mechanism that was not offered")
        data = first.data
        if data is None:  # then it comes as the answer to an empty challenge
            await self.stream.send_all(AuthenticationSASLContinue(b"").encode())
            data = read_sasl_response(await self._answer())
        token = read_initial_response(data)
        if not token:
            await self._say_where_tokens_come_from()
            raise TokenSought
        try:
            return await self.tokens.subject_of(token)
        except TokenRefused:
            await self._say_where_tokens_come_from()
            raise

    async def _say_where_tokens_come_from(self) -> None:
        issuer = self.tokens.issuers[0] if self.tokens.issuers else None
        if issuer is None:
            return
        challenge = refusal(issuer.discovery_url, issuer.scopes)
        await self.stream.send_all(AuthenticationSASLContinue(challenge).encode())
        if read_sasl_response(await self._answer()) != KVSEP:
            raise RemoteProtocolError("malformed OAUTHBEARER message: an answer to a refusal that is none")

    async def _answer(self) -> PasswordMessage:
        """The client's next message, which has to be of the one kind that is awaited now."""
        while len(self.received) < HEADER_BYTES:
            await self._read()
        if self.received[0] != Frontend.PASSWORD:
            raise RemoteProtocolError("something else than the answer to the authentication request")
        length = int.from_bytes(self.received[1:HEADER_BYTES])
        if not 4 <= length <= MAX_MESSAGE_BYTES:
            raise LimitExceeded(
                f"an authentication message of {length} bytes; at most {MAX_MESSAGE_BYTES} are read"
            )
        while len(self.received) < 1 + length:
            await self._read()
        body, self.received = self.received[HEADER_BYTES : 1 + length], self.received[1 + length :]
        return PasswordMessage(body)

    async def _read(self) -> None:
        data = bytes(await self.stream.receive_some(_READ_BYTES))
        if not data:
            raise ClientLeft
        self.received += data


def _text(password: bytes) -> str:
    """A token is ASCII; anything else stays recognisable as none."""
    return password.decode("ascii", "replace")
