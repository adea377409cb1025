"""Proving the gateway's login to a target: cleartext, md5, SCRAM-SHA-256 with and without channel binding.

Owns the authentication part of the startup phase as plain state: a request of the target goes in, the answer
comes out. No I/O but the reading of the secret, at the moment it is needed. Must never: send a password in
clear over a wire that others may read, believe a SCRAM exchange that the target has not finished with its own
signature, or let a target ask twice in two ways. Called by `proxyd.upstream`.

Sources: PostgreSQL documentation "Message Formats" and "SASL Authentication"; RFC 5802, RFC 7677, RFC 5929
section 4.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import scramp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import SignatureAlgorithmOID

from protocols.postgres.messages import (
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    AuthenticationUnsupported,
    PasswordMessage,
    SaslInitialResponse,
)
from proxyd.credentials import Secret

# A hostile target must not buy much of our CPU with one small message. PostgreSQL's default is 4,096.
MAX_SCRAM_ITERATIONS = 200_000
# Above this (about 5 ms) the key is derived in a thread.
SLOW_SCRAM_ITERATIONS = 16_384
MAX_SASL_BYTES = 8192

PLAIN_MECHANISM = "SCRAM-SHA-256"
BOUND_MECHANISM = "SCRAM-SHA-256-PLUS"

_NAMES = {2: "Kerberos V5", 4: "crypt", 6: "SCM credentials", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}

AuthenticationRequest = (
    AuthenticationOk
    | AuthenticationCleartextPassword
    | AuthenticationMD5Password
    | AuthenticationSASL
    | AuthenticationSASLContinue
    | AuthenticationSASLFinal
    | AuthenticationUnsupported
)


class AuthenticationFault(Exception):
    """The target asks for what we do not give, or did not prove what it must. `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Wire:
    """What is known of the connection: may others read it, and what binds the TLS channel
    (tls-server-end-point).
    """

    is_private: bool
    end_point: bytes | None = None


class _State(Enum):
    START = "start"
    ANSWERED = "answered"
    SCRAM_FIRST_SENT = "SCRAM started"
    SCRAM_FINAL_SENT = "SCRAM proof sent"
    SCRAM_VERIFIED = "SCRAM verified"
    DONE = "done"


class Authenticator:
    """One attempt. Give each Authentication message to `respond` and send what it returns.

    secret: called when the target wants a password; may raise CredentialError.
    """

    def __init__(
        self, user: str, secret: Callable[[], Secret | None], wire: Wire, *, allow_cleartext: bool = False
    ) -> None:
        self._user = user
        self._secret = secret
        self._wire = wire
        self._allow_cleartext = allow_cleartext
        self._state = _State.START
        self._scram: scramp.ScramClient | None = None
        self.method = "trust"

    @property
    def is_done(self) -> bool:
        """Has the target accepted us, and proved itself where the method demands it?"""
        return self._state is _State.DONE

    def is_slow(self, request: AuthenticationRequest) -> bool:
        """Will `respond(request)` compute for long enough to want a thread?"""
        return (
            isinstance(request, AuthenticationSASLContinue)
            and _iterations(request.data) > SLOW_SCRAM_ITERATIONS
        )

    def respond(self, request: AuthenticationRequest) -> bytes | None:
        """The message to send, or None when there is nothing to say.

        Raises AuthenticationFault, CredentialError.
        """
        match request, self._state:
            case AuthenticationOk(), _State.START | _State.ANSWERED | _State.SCRAM_VERIFIED:
                self._state = _State.DONE
                return None
            case AuthenticationOk(), _:
                raise AuthenticationFault("the target did not prove that it knows the password")
            case AuthenticationCleartextPassword(), _State.START:
                return self._cleartext()
            case AuthenticationMD5Password(salt), _State.START:
                return self._md5(salt)
            case AuthenticationSASL(mechanisms), _State.START:
                return self._scram_first(mechanisms)
            case AuthenticationSASLContinue(data), _State.SCRAM_FIRST_SENT:
                return self._scram_proof(data)
            case AuthenticationSASLFinal(data), _State.SCRAM_FINAL_SENT:
                self._scram_verify(data)
                return None
            case AuthenticationUnsupported(method), _State.START:
                name = _NAMES.get(method, f"number {method}")
                raise AuthenticationFault(f"the target asks for an authentication we do not support: {name}")
            case _, state:
                raise AuthenticationFault(f"authentication request out of turn ({state.value})")

    def _password(self) -> str:
        secret = self._secret()
        if secret is None:
            raise AuthenticationFault(f"the target asks for a password ({self.method}), the login has none")
        return secret.reveal()

    def _cleartext(self) -> bytes:
        self.method = "password"
        if not (self._wire.is_private or self._allow_cleartext):
            raise AuthenticationFault(
                "the target asks for the password in clear, and the connection has no TLS"
            )
        self._state = _State.ANSWERED
        return _string(self._password().encode())

    def _md5(self, salt: bytes) -> bytes:
        self.method = "md5"
        self._state = _State.ANSWERED
        inner = _md5_hex(self._password().encode() + self._user.encode())
        return _string(b"md5" + _md5_hex(inner + salt))

    def _scram_first(self, offered: tuple[str, ...]) -> bytes:
        self.method = "scram-sha-256"
        mechanisms = [name for name in (PLAIN_MECHANISM, BOUND_MECHANISM) if name in offered]
        binding = self._wire.end_point
        if not mechanisms or (mechanisms == [BOUND_MECHANISM] and binding is None):
            raise AuthenticationFault("the target offers no SASL mechanism that we support (SCRAM-SHA-256)")
        try:
            # The server takes the name from the startup message and ignores this one.
            self._scram = scramp.ScramClient(
                mechanisms,
                "*",
                self._password(),
                channel_binding=None if binding is None else ("tls-server-end-point", binding),
            )
            first: bytes = self._scram.get_client_first().encode()
        except scramp.ScramException as error:
            raise AuthenticationFault("the password cannot be used with SCRAM (RFC 4013)") from error
        self._state = _State.SCRAM_FIRST_SENT
        name: str = self._scram.mechanism_name
        if name == BOUND_MECHANISM:
            self.method = "scram-sha-256-plus"
        return SaslInitialResponse(name, first).encode()

    def _scram_proof(self, message: bytes) -> bytes:
        iterations = _iterations(message)
        if iterations > MAX_SCRAM_ITERATIONS:
            raise AuthenticationFault(
                f"the target asks for {iterations} SCRAM iterations, more than {MAX_SCRAM_ITERATIONS}"
            )
        client = self._client()
        try:
            client.set_server_first(_sasl_text(message))
            proof: bytes = client.get_client_final().encode()
        except (scramp.ScramException, ValueError) as error:
            raise AuthenticationFault(f"malformed SCRAM challenge ({error})") from error
        self._state = _State.SCRAM_FINAL_SENT
        return PasswordMessage(proof).encode()

    def _scram_verify(self, message: bytes) -> None:
        try:
            self._client().set_server_final(_sasl_text(message))
        except (scramp.ScramException, ValueError) as error:
            raise AuthenticationFault(
                f"the target did not prove that it knows the password ({error})"
            ) from error
        self._state = _State.SCRAM_VERIFIED

    def _client(self) -> scramp.ScramClient:
        if self._scram is None:
            raise AuthenticationFault("SCRAM out of turn")
        return self._scram


def channel_end_point(certificate: x509.Certificate) -> bytes | None:
    """The tls-server-end-point binding of the target's certificate (RFC 5929 section 4.1).

    None when the RFC leaves it open: signatures without a hash of their own (Ed25519), and RSASSA-PSS, on
    which servers of different age disagree.
    """
    digest = certificate.signature_hash_algorithm
    if digest is None or certificate.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        return None
    if digest.name in {"md5", "sha1"}:
        digest = hashes.SHA256()
    return hashlib.new(digest.name, certificate.public_bytes(Encoding.DER)).digest()


def _string(value: bytes) -> bytes:
    return PasswordMessage(value + b"\0").encode()


def _iterations(message: bytes) -> int:
    """The iteration count of a server-first-message (0 when it has none), before any of it is believed."""
    if len(message) > MAX_SASL_BYTES:
        raise AuthenticationFault(f"SASL message of {len(message)} bytes is longer than {MAX_SASL_BYTES}")
    found = re.search(rb"(?:^|,)i=([0-9]{1,12})(?=,|$)", message)
    return int(found[1]) if found else 0


def _sasl_text(message: bytes) -> str:
    if len(message) > MAX_SASL_BYTES:
        raise ValueError("too long")
    return message.decode("ascii")


def _md5_hex(data: bytes) -> bytes:
    # The protocol's own use of MD5; what it is worth is the operator's choice in pg_hba.conf.
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()
