"""A PostgreSQL client that is only bytes: for what no driver would ever send, and for comparing every byte that
comes back.

Builders of frontend messages, a socket (TLS through the gateway, a unix socket to the target itself), and
replies as `(type, body)` pairs.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from tests.end_to_end.gateway import HOST, TARGET, Gateway
from tests.end_to_end.shop_server import ADMIN

Message = tuple[bytes, bytes]
TIMEOUT_S = 60.0

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def text(value: str | bytes) -> bytes:
    return (value.encode() if isinstance(value, str) else value) + b"\0"


def startup(user: str, database: str, minor: int = 0, **parameters: str) -> bytes:
    words = {"user": user, "database": database, **parameters}
    body = struct.pack("!i", 3 << 16 | minor) + b"".join(text(k) + text(v) for k, v in words.items()) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def query(sql: str | bytes) -> bytes:
    return message(b"Q", text(sql))


def parse(sql: str | bytes, name: str = "", types: Sequence[int] = ()) -> bytes:
    oids = b"".join(struct.pack("!I", oid) for oid in types)
    return message(b"P", text(name) + text(sql) + struct.pack("!h", len(types)) + oids)


def bind(
    values: Sequence[bytes | None] = (),
    *,
    portal: str = "",
    name: str = "",
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    body = text(portal) + text(name) + struct.pack("!h", len(formats))
    body += b"".join(struct.pack("!h", code) for code in formats) + struct.pack("!h", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    body += struct.pack("!h", len(results)) + b"".join(struct.pack("!h", code) for code in results)
    return message(b"B", body)


def describe(what: str, name: str = "") -> bytes:
    """what: S for a statement, P for a portal."""
    return message(b"D", what.encode() + text(name))


def close(what: str, name: str = "") -> bytes:
    return message(b"C", what.encode() + text(name))


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message(b"E", text(portal) + struct.pack("!i", rows))


def copy_data(data: bytes) -> bytes:
    return message(b"d", data)


def copy_fail(why: str) -> bytes:
    return message(b"f", text(why))


SYNC = message(b"S")
FLUSH = message(b"H")
COPY_DONE = message(b"c")
TERMINATE = message(b"X")


class RawConnection:
    """A socket after a finished startup. `received`: every byte that has come. A context manager."""

    def __init__(self, sock: socket.socket, hello: bytes) -> None:
        self._socket = sock
        self._pending = b""
        self.received = bytearray()
        sock.settimeout(TIMEOUT_S)
        sock.sendall(hello)
        self.welcome = self.read_until(b"Z")
        if self.welcome[-1][0] != b"Z":
            raise ConnectionError(f"the session did not begin: {self.welcome[-1]}")

    @classmethod
    def through(
        cls, gateway: Gateway, person: str, database: str = TARGET, minor: int = 0, **parameters: str
    ) -> Self:
        plain = socket.create_connection((HOST, gateway.port), TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.sendall(SSL_REQUEST)
        if plain.recv(1) != b"S":
            raise ConnectionError("no TLS")
        words = gateway.words(person)
        context = ssl.create_default_context(cafile=words["sslrootcert"])
        context.load_cert_chain(words["sslcert"], words["sslkey"])
        tls = context.wrap_socket(plain, server_hostname=HOST)
        return cls(tls, startup(words["user"], database, minor, **parameters))

    @classmethod
    def direct(cls, gateway: Gateway, user: str = ADMIN, minor: int = 0, **parameters: str) -> Self:
        """To the target itself, where the unix socket trusts everybody."""
        server = gateway.server
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(server.directory / f".s.PGSQL.{server.port}"))
        return cls(sock, startup(user, gateway.database, minor, **parameters))

    def send(self, *messages: bytes) -> None:
        self._socket.sendall(b"".join(messages))

    def read(self) -> Message | None:
        """The next message; None when the other side has closed."""
        while len(self._pending) < 5 or len(self._pending) < 1 + self._length():
            chunk = self._socket.recv(65536)
            if not chunk:
                return None
            self._pending += chunk
            self.received += chunk
        end = 1 + self._length()
        found = self._pending[:1], self._pending[5:end]
        self._pending = self._pending[end:]
        return found

    def read_until(self, kind: bytes, count: int = 1) -> list[Message]:
        """Everything up to the `count`-th message of this type, or to the end of the connection."""
        found: list[Message] = []
        for reply in self.replies():
            found.append(reply)
            count -= reply[0] == kind
            if count == 0:
                break
        return found

    def replies(self) -> Iterator[Message]:
        while (reply := self.read()) is not None:
            yield reply

    def ask(self, *messages: bytes, syncs: int = 1) -> list[Message]:
        """Send all at once; the replies up to the last ReadyForQuery."""
        self.send(*messages)
        return self.read_until(b"Z", syncs)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _length(self) -> int:
        return int(struct.unpack("!i", self._pending[1:5])[0])


def error_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse by their letter."""
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}


def row_values(body: bytes) -> list[bytes | None]:
    """The values of a DataRow."""
    (count,) = struct.unpack_from("!h", body)
    at, found = 2, list[bytes | None]()
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        found.append(None if length < 0 else body[at : at + length])
        at += max(length, 0)
    return found
