"""The gateway as a client of its targets: connect, secure, log in, cancel, end.

Owns a connection from the first SYN until the target is ready for queries; from then on the relay owns the
bytes. Must never: let the target's key, password or raw words reach a client, go on in clear where the
configuration demands TLS, or wait without a deadline. Called by the PostgreSQL door (one connection a
session) and by `proxyd.catalog`.

Theory of operation. TCP, then (by mode) SSLRequest and its one-byte answer, then TLS, then StartupMessage,
the authentication exchange, and the messages up to the first ReadyForQuery. One task does it all, one wait
after the other, under the caller's deadline; any fault closes the socket and becomes one UpstreamError. A
connection remembers the address that it reached, so that a cancel goes to the same machine when a name has
several.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import trio

from protocols.errors import LocalProtocolError, ProtocolError
from protocols.postgres.messages import (
    TERMINATE,
    BackendKeyData,
    ErrorResponse,
    NegotiateProtocolVersion,
    NoticeResponse,
    ParameterStatus,
    ReadyForQuery,
)
from protocols.postgres.startup import build_cancel_request, build_ssl_request, build_startup
from proxyd.addresses import Address
from proxyd.config import Login, PostgresTarget
from proxyd.credentials import CredentialError, Secret, read_secret
from proxyd.dialling import dial, dial_again, os_reason
from proxyd.target_tls import client_tls_settings
from proxyd.tls import TlsStream
from proxyd.tls_contexts import ClientTls
from proxyd.tls_engine import TlsError
from proxyd.tls_files import TlsSettingsError
from proxyd.upstream_auth import (
    AuthenticationFault,
    AuthenticationRequest,
    Authenticator,
    Wire,
    channel_end_point,
)
from proxyd.upstream_errors import (
    UpstreamError,
    UpstreamQueryError,
    broken_off,
    not_authenticated,
    not_trusted,
    out_of_protocol,
    refused_startup,
    unreachable,
)
from proxyd.upstream_parameters import startup_parameters
from proxyd.upstream_wire import MessageReader, PeerClosed

__all__ = [
    "UpstreamConnection",
    "UpstreamError",
    "UpstreamQueryError",
    "UpstreamTarget",
    "connect",
    "open_session",
    "startup_parameters",
]

ALPN = "postgresql"
# How the gateway reads a text must be how the target reads it. Given at startup they are also what RESET goes back to.
PINNED = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
MAX_STARTUP_MESSAGE_BYTES = 1 << 16
MAX_STARTUP_MESSAGES = 1000
CLOSE_TIMEOUT_S = 2.0
CANCEL_TIMEOUT_S = 5.0
# A dead target is noticed within about a minute and a half of silence (tcp(7)).


@dataclass(frozen=True, slots=True)
class UpstreamTarget:
    """How a target is reached. Made once for a configuration; holds its TLS context.

    tls: None for a connection in clear. tls_optional: go on in clear when the target declines TLS.
    protocol_minor: ask for protocol 3.`protocol_minor`. allow_cleartext: send a password in clear without TLS
    when asked.
    """

    name: str
    address: Address
    tls: ClientTls | None = None
    tls_optional: bool = False
    protocol_minor: int = 0
    allow_cleartext: bool = False

    @classmethod
    def from_config(cls, target: PostgresTarget) -> Self:
        """Raises TlsSettingsError. Reads the TLS files."""
        t = target.tls
        optional = t.mode in {"allow", "prefer"}
        if t.mode == "disable" or target.address.is_unix:
            return cls(target.name, target.address)
        tls = ClientTls(client_tls_settings(t, (ALPN,)))
        return cls(target.name, target.address, tls, tls_optional=optional)

    @property
    def host(self) -> str:
        return self.address.host or "localhost"


@dataclass(slots=True)
class UpstreamConnection:
    """A session of a target, ready for queries.

    transport: the raw stream, a trio.SocketStream unless a test made it. tls: over it, or None. parameters:
    what the target has reported. secret_key: for `cancel` only. leftover: bytes received behind
    ReadyForQuery, b"" as a rule; whoever reads from `stream` starts with them. transaction_status: "I", "T"
    or "E". is_broken: an exchange was left in the middle, nothing but `aclose` makes sense.
    """

    target: UpstreamTarget
    transport: trio.abc.Stream
    tls: TlsStream | None
    parameters: dict[str, str] = field(default_factory=dict)
    process_id: int = 0
    secret_key: bytes = field(default=b"", repr=False)
    protocol_minor: int = 0
    transaction_status: str = "I"
    authentication: str = "trust"
    leftover: bytes = field(default=b"", repr=False)
    is_broken: bool = False

    @property
    def stream(self) -> trio.abc.Stream:
        """Where messages travel: TLS if there is any."""
        return self.transport if self.tls is None else self.tls

    async def cancel(self, *, deadline_s: float = CANCEL_TIMEOUT_S) -> None:
        """Ask the target to cancel what this session is running, on a connection of its own.

        Returns when the target has taken note (it closes that connection), so that the cancel cannot hit a
        later statement. Raises UpstreamError.
        """
        target = self.target
        try:
            packet = build_cancel_request(self.process_id, self.secret_key)
        except LocalProtocolError as error:
            raise broken_off(target.name, "the target gave no key to cancel with") from error
        with _faults(target), _deadline(deadline_s):
            transport = await dial_again(self.transport)
            async with transport:
                tls = await _secure(transport, target, deadline_s)
                stream = transport if tls is None else tls
                await stream.send_all(packet)
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.receive_some(1)

    async def aclose(self) -> None:
        """Say goodbye if that is still possible, and close. Takes at most CLOSE_TIMEOUT_S."""
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            with contextlib.suppress(
                trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError
            ):
                if not self.is_broken:
                    await self.stream.send_all(TERMINATE)
                await self.stream.aclose()
        self.is_broken = True
        await trio.aclose_forcefully(self.transport)


async def connect(
    target: UpstreamTarget, login: Login, database: str, parameters: dict[str, str], *, deadline_s: float
) -> UpstreamConnection:
    """Open a session on `target` as `login` within `deadline_s` seconds.

    `parameters` are sent as they are: pass what `startup_parameters` let through. client_encoding is always
    UTF8. Raises UpstreamError.
    """
    with _faults(target), _deadline(deadline_s):
        transport = await dial(target.address)
        try:
            return await open_session(transport, target, login, database, parameters, deadline_s=deadline_s)
        except BaseException:
            await trio.aclose_forcefully(transport)
            raise


async def open_session(
    transport: trio.abc.Stream,
    target: UpstreamTarget,
    login: Login,
    database: str,
    parameters: dict[str, str],
    *,
    deadline_s: float,
) -> UpstreamConnection:
    """As `connect`, on a stream that is already there. The caller closes it when this raises."""
    with _faults(target), _deadline(deadline_s):
        tls = await _secure(transport, target, deadline_s)
        connection = UpstreamConnection(target, transport, tls)
        startup = {**parameters, "user": login.account, "database": database, **PINNED}
        try:
            packet = build_startup(startup, target.protocol_minor)
        except LocalProtocolError as error:
            raise UpstreamError(
                "08P01", error.message, error.message, "Check the startup parameters."
            ) from error
        await connection.stream.send_all(packet)
        await _Startup(connection, login, database).run()
        return connection


class _Startup:
    """The conversation from the startup packet to ReadyForQuery."""

    def __init__(self, connection: UpstreamConnection, login: Login, database: str) -> None:
        self._connection = connection
        self._target = connection.target
        self._login = login
        self._database = database
        self._reader = MessageReader(connection.stream, MAX_STARTUP_MESSAGE_BYTES)
        self._authenticator = Authenticator(
            login.account,
            self._read_secret,
            _wire(connection),
            allow_cleartext=self._target.allow_cleartext,
        )

    def _read_secret(self) -> Secret | None:
        return None if self._login.password is None else read_secret(self._login.password)

    async def run(self) -> None:
        connection = self._connection
        connection.protocol_minor = self._target.protocol_minor
        for _ in range(MAX_STARTUP_MESSAGES):
            match await self._reader.message():
                case ReadyForQuery(status):
                    self._finish(status)
                    return
                case ErrorResponse(fields):
                    raise refused_startup(self._target.name, self._login.name, self._database, fields)
                case NoticeResponse():
                    continue
                case ParameterStatus(name, value):
                    connection.parameters[name] = value
                case BackendKeyData(process_id, secret_key):
                    connection.process_id, connection.secret_key = process_id, secret_key
                case NegotiateProtocolVersion() as answer:
                    self._negotiated(answer)
                case message if isinstance(message, AuthenticationRequest):
                    await self._authenticate(message)
                case message:
                    raise out_of_protocol(self._target.name, f"{type(message).__name__} during startup")
        raise out_of_protocol(self._target.name, f"more than {MAX_STARTUP_MESSAGES} messages during startup")

    async def _authenticate(self, request: AuthenticationRequest) -> None:
        authenticator = self._authenticator
        try:
            if authenticator.is_slow(request):
                answer = await trio.to_thread.run_sync(authenticator.respond, request)
            else:
                answer = authenticator.respond(request)
        except (AuthenticationFault, CredentialError) as error:
            raise not_authenticated(self._target.name, self._login.name, str(error)) from error
        if answer is not None:
            await self._connection.stream.send_all(answer)

    def _negotiated(self, answer: NegotiateProtocolVersion) -> None:
        """The target speaks an older minor version than we asked for. We send no protocol options to be
        refused.
        """
        if answer.minor >= self._target.protocol_minor or answer.unsupported_options:
            raise out_of_protocol(self._target.name, "NegotiateProtocolVersion that answers nothing we asked")
        self._connection.protocol_minor = answer.minor

    def _finish(self, status: str) -> None:
        if not self._authenticator.is_done:
            raise out_of_protocol(self._target.name, "ready for queries without authentication")
        self._connection.transaction_status = status
        self._connection.authentication = self._authenticator.method
        self._connection.leftover = self._reader.take_rest()


def _wire(connection: UpstreamConnection) -> Wire:
    tls = connection.tls
    if tls is None:
        return Wire(is_private=connection.target.address.is_unix)
    certificate = tls.peer_certificate
    return Wire(is_private=True, end_point=None if certificate is None else channel_end_point(certificate))


async def _secure(transport: trio.abc.Stream, target: UpstreamTarget, timeout_s: float) -> TlsStream | None:
    """TLS over `transport` as the target's settings demand; None when they let it go on in clear."""
    if target.tls is None:
        return None
    await transport.send_all(build_ssl_request())
    # More than the one byte can only come from somebody on the way, who wants it read as if it had been
    # encrypted.
    answer = bytes(await transport.receive_some(16))
    if not answer:
        raise PeerClosed("the target closed the connection at the request for TLS")
    if answer[:1] in (b"S", b"N") and len(answer) > 1:
        raise not_trusted(target.name, "bytes in clear behind the answer to the request for TLS")
    if answer == b"N":
        if target.tls_optional:
            return None
        raise not_trusted(target.name, "the target does not offer TLS, the configuration demands it")
    if answer != b"S":
        what = "an error" if answer[:1] == b"E" else f"byte {answer[0]:#04x}"
        raise out_of_protocol(target.name, f"{what} in answer to the request for TLS")
    tls = TlsStream(transport, target.tls.engine(target.host))
    await tls.do_handshake(timeout_s=timeout_s)
    return tls


@contextlib.contextmanager
def _deadline(deadline_s: float) -> Iterator[None]:
    try:
        with trio.fail_after(deadline_s):
            yield
    except trio.TooSlowError as error:
        raise TimeoutError(f"no answer within {deadline_s:g} s") from error


@contextlib.contextmanager
def _faults(target: UpstreamTarget) -> Iterator[None]:
    """Whatever may come out of the wire, as one UpstreamError."""
    try:
        yield
    except UpstreamError:
        raise
    except (TlsError, TlsSettingsError) as error:
        raise not_trusted(target.name, _tls_reason(error)) from error
    except (PeerClosed, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise broken_off(target.name, str(error) or "connection lost") from error
    except ProtocolError as error:
        raise out_of_protocol(target.name, error.message) from error
    except OSError as error:
        raise unreachable(target.name, os_reason(error)) from error


def _tls_reason(error: TlsError | TlsSettingsError) -> str:
    certificate = getattr(error, "certificate", "")
    return f"{error}: {certificate}" if certificate else str(error)
