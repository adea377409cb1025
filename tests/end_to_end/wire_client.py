"""A PostgreSQL client of bytes: it sends what a test wants, also what no driver would, and keeps all that comes.

    with WireClient.connect(gateway, "alice") as client:
        client.simple("select 1").rows            # [(b"1",)]
        client.send(Parse(b"s", "select 1").encode() + SYNC)
        client.until_ready().errors

Blocking, over the standard library's TLS, so that the gateway is not tested against its own stream. Every byte
that came in clear text after TLS is in `received`.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from protocols.postgres.messages import SYNC, Bind, Describe, Execute, Parse, Query
from tests.end_to_end.gateway import HOST, TARGET, Gateway

TIMEOUT_S = 60.0
SSL_REQUEST = struct.pack(">ii", 8, 80877103)
GSSENC_REQUEST = struct.pack(">ii", 8, 80877104)
CANCEL_CODE = 80877102
PROTOCOL_3_0 = 3 << 16
_READ_BYTES = 65536

Message = tuple[bytes, bytes]
Row = tuple[bytes | None, ...]


class ConnectionEnded(Exception):
    """The other side has closed the connection."""


def startup_packet(parameters: dict[str, str], version: int = PROTOCOL_3_0) -> bytes:
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
    return struct.pack(">ii", len(body) + 8, version) + body


def cancel_request(process_id: int, key: bytes) -> bytes:
    return struct.pack(">iii", 12 + len(key), CANCEL_CODE, process_id) + key


@dataclass
class Answer:
    """The messages of one reply, up to and with ReadyForQuery (or the end of the connection)."""

    messages: list[Message] = field(default_factory=list)

    def bodies(self, kind: bytes) -> list[bytes]:
        return [body for found, body in self.messages if found == kind]

    @property
    def kinds(self) -> str:
        """The types of the messages in order, as text."""
        return b"".join(kind for kind, _ in self.messages).decode()

    @property
    def errors(self) -> list[dict[str, str]]:
        return [_fields(body) for body in self.bodies(b"E")]

    @property
    def error(self) -> dict[str, str]:
        """The one error. AssertionError when there is none, or more."""
        errors = self.errors
        assert len(errors) == 1, f"{len(errors)} errors in {self.kinds}: {errors}"
        return errors[0]

    @property
    def rows(self) -> list[Row]:
        return [_row(body) for body in self.bodies(b"D")]

    @property
    def tags(self) -> list[str]:
        return [body.rstrip(b"\0").decode() for body in self.bodies(b"C")]

    @property
    def status(self) -> str:
        """Of the transaction, from the last ReadyForQuery."""
        return self.bodies(b"Z")[-1].decode()

    @property
    def raw(self) -> bytes:
        return b"".join(kind + struct.pack(">I", len(body) + 4) + body for kind, body in self.messages)


class WireClient:
    """One connection. `parameters` and `key` are what the gateway told at the start."""

    def __init__(self, transport: socket.socket) -> None:
        self.socket = transport
        self.received = bytearray()
        self.parameters: dict[str, str] = {}
        self.process_id = 0
        self.key = b""
        self._buffer = b""

    # Opening

    @classmethod
    def plain(cls, gateway: Gateway) -> Self:
        """Connected, nothing sent."""
        transport = socket.create_connection((HOST, gateway.port), TIMEOUT_S)
        transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(transport)

    @classmethod
    def secured(cls, gateway: Gateway, person: str | None = "alice") -> Self:
        """TLS is up, no startup packet sent. `person` None: no certificate shown."""
        client = cls.plain(gateway)
        try:
            client.send(SSL_REQUEST)
            answer = client.socket.recv(1)
            assert answer == b"S", answer
            client.start_tls(gateway, person)
        except BaseException:
            client.close()
            raise
        return client

    @classmethod
    def connect(
        cls,
        gateway: Gateway,
        person: str = "alice",
        *,
        login: str | None = None,
        database: str = TARGET,
        **parameters: str,
    ) -> Self:
        """A session that is ready. AssertionError with the error when it is refused."""
        client = cls.secured(gateway, person)
        try:
            user = login or gateway.people[person][1]
            client.send(startup_packet({"user": user, "database": database, **parameters}))
            answer = client.until_ready()
            assert not answer.errors and answer.status == "I", answer.errors
        except BaseException:
            client.close()
            raise
        return client

    def start_tls(self, gateway: Gateway, person: str | None, alpn: Sequence[str] = ()) -> None:
        context = client_context(gateway, person)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        self.socket = context.wrap_socket(self.socket, server_hostname=HOST)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Bytes and messages

    def send(self, data: bytes | Iterable[bytes]) -> None:
        self.socket.sendall(data if isinstance(data, bytes) else b"".join(data))

    def message(self) -> Message:
        """The next message. Raises ConnectionEnded."""
        while len(self._buffer) < 5 or len(self._buffer) < 1 + _length(self._buffer):
            self._buffer += self._receive()
        end = 1 + _length(self._buffer)
        message = self._buffer[:1], self._buffer[5:end]
        self._buffer = self._buffer[end:]
        return message

    def until_ready(self) -> Answer:
        """Everything up to the next ReadyForQuery; up to the end when the connection ends."""
        return self.until(b"Z")

    def until(self, *last: bytes) -> Answer:
        """Everything up to a message of one of these types; up to the end when the connection ends."""
        answer = Answer()
        while True:
            try:
                kind, body = self.message()
            except ConnectionEnded:
                return answer
            answer.messages.append((kind, body))
            self._note(kind, body)
            if kind in last:
                return answer

    def until_end(self) -> Answer:
        """Everything until the other side closes."""
        return self.until(b"")

    def _receive(self) -> bytes:
        try:
            data = self.socket.recv(_READ_BYTES)
        except (ConnectionResetError, ssl.SSLEOFError, BrokenPipeError) as fault:
            raise ConnectionEnded(str(fault)) from fault
        if not data:
            raise ConnectionEnded
        self.received += data
        return data

    def _note(self, kind: bytes, body: bytes) -> None:
        if kind == b"K":
            (self.process_id,) = struct.unpack_from(">i", body)
            self.key = body[4:]
        elif kind == b"S":
            name, value, _ = body.split(b"\0")
            self.parameters[name.decode()] = value.decode()

    # Conversations

    def simple(self, sql: str) -> Answer:
        self.send(Query(sql).encode())
        return self.until_ready()

    def extended(
        self,
        sql: str,
        parameters: Sequence[bytes | None] = (),
        *,
        binary: bool = False,
        describes: bool = True,
        max_rows: int = 0,
    ) -> Answer:
        """Parse, Bind, Describe (unless told not to), Execute, Sync in one write, unnamed."""
        self.send(
            [
                Parse(b"", sql).encode(),
                Bind(b"", b"", (), tuple(parameters), (1,) if binary else ()).encode(),
                Describe("P", b"").encode() if describes else b"",
                Execute(b"", max_rows).encode(),
                SYNC,
            ]
        )
        return self.until_ready()

    def run(self, sql: str, mode: str) -> Answer:
        """`mode`: simple, extended, binary, or blind (binary without Describe)."""
        match mode:
            case "simple":
                return self.simple(sql)
            case "extended":
                return self.extended(sql)
            case "binary":
                return self.extended(sql, binary=True)
            case "blind":
                return self.extended(sql, binary=True, describes=False)
        raise ValueError(mode)


def client_context(gateway: Gateway, person: str | None) -> ssl.SSLContext:
    pki = gateway.directory / "pki"
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    if person is not None:
        context.load_cert_chain(pki / f"{person}.crt", pki / f"{person}.key")
    return context


def assert_denied(answer: Answer, *, status: str = "I") -> dict[str, str]:
    """A denial by policy: ERROR 42501 with rule in DETAIL, a HINT, and this transaction state. Its fields."""
    error = answer.error
    assert (error["S"], error["C"]) == ("ERROR", "42501"), error
    assert "rule" in error.get("D", ""), error
    assert error.get("H"), error
    assert answer.status == status, answer.kinds
    assert not answer.rows
    return error


def _length(data: bytes) -> int:
    return int(struct.unpack_from(">I", data, 1)[0])


def _fields(body: bytes) -> dict[str, str]:
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}


def _row(body: bytes) -> Row:
    (count,) = struct.unpack_from(">H", body)
    position = 2
    values: list[bytes | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from(">i", body, position)
        position += 4
        if length < 0:
            values.append(None)
            continue
        values.append(body[position : position + length])
        position += length
    return tuple(values)
