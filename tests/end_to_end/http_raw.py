"""HTTP as bytes, from both ends: a client that sends what no library would, a target that answers what none would.

with OddTarget({"/echo": answer(b"hello")}) as target: ...   # target.heads: what has arrived
with RawClient(gateway) as client: client.send(b"GET ..."); client.answer()
frames: Http2Client(gateway) with hyperframe's frames
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import Frame

from tests.end_to_end.http_gateway import HttpGateway
from tests.end_to_end.running import HOST

TIMEOUT_S = 60.0
GOAWAY = 7

Behaviour = Callable[[socket.socket, bytes, bytes], None]


def answer(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class OddTarget:
    """Answers a path by bytes, or by a function of the socket, the head and what came behind it. Else `ok`.

    It closes after each answer of a function, and keeps the connection after bytes.
    """

    def __init__(self, behaviours: Mapping[str, bytes | Behaviour] | None = None) -> None:
        self.behaviours = dict(behaviours or {})
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.closed = threading.Event()
        self._listener = socket.create_server((HOST, 0))
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._listener.getsockname()[1]}"

    def paths(self) -> list[str]:
        return [head.split(b" ", 2)[1].decode("latin-1") for head in self.heads]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT_S)

    def _accept(self) -> None:
        threads = []
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.settimeout(TIMEOUT_S)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join(TIMEOUT_S)

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = sock.recv(65536)
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                self.heads.append(head)
                path = head.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
                behaviour = self.behaviours.get(path, answer(b"ok"))
                if not isinstance(behaviour, bytes):
                    behaviour(sock, head, buffer)
                    return
                body, buffer = self._body(sock, head, buffer)
                self.bodies.append(body)
                sock.sendall(behaviour)

    @staticmethod
    def _body(sock: socket.socket, head: bytes, buffer: bytes) -> tuple[bytes, bytes]:
        """The request's body as it came on the wire, and what is behind it."""
        fields = dict(
            (name.strip().lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        )
        if b"transfer-encoding" in fields:
            while b"0\r\n" not in buffer or not buffer.endswith(b"\r\n\r\n"):
                buffer += _received(sock)
            return buffer, b""
        length = int(fields.get(b"content-length", b"0"))
        while len(buffer) < length:
            buffer += _received(sock)
        return buffer[:length], buffer[length:]


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise OSError("closed")
    return data


class RawClient:
    """One connection to the gateway, over TLS. `person` None: without a certificate."""

    alpn = "http/1.1"

    def __init__(self, gateway: HttpGateway, person: str | None = "alice") -> None:
        context = gateway.context(person)
        context.set_alpn_protocols([self.alpn])
        plain = socket.create_connection((HOST, gateway.port), timeout=TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.socket.sendall(data)

    def ask(
        self, path: str, *fields: str, method: str = "GET", body: bytes = b""
    ) -> tuple[int, bytes, bytes]:
        """A sound request, and the answer to it."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return self.answer(has_body=method != "HEAD")

    def answer(self, *, has_body: bool = True) -> tuple[int, bytes, bytes]:
        """Status, head and body of the next answer of known length. (0, b"", what came) at the end of the stream."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                rest, self._buffer = self._buffer, b""
                return 0, b"", rest
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length" and has_body:
                length = int(value)
        while len(self._buffer) < length and self._more():
            pass
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return status, head, body

    def rest(self) -> bytes:
        """Everything until the end of the connection."""
        while self._more():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLError):
            return False
        self._buffer += data
        return bool(data)


class Http2Client(RawClient):
    """h2 for what is sound, and `frames` for what is not."""

    alpn = "h2"

    def __init__(self, gateway: HttpGateway, person: str | None = "alice") -> None:
        super().__init__(gateway, person)
        config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        # h2 would take a GOAWAY for the end, as no other client does (RFC 9113, 6.8).
        machine, state = self.h2.state_machine, h2.connection.ConnectionState.CLIENT_OPEN
        goaway = (state, h2.connection.ConnectionInputs.RECV_GOAWAY)
        machine._transitions = machine._transitions | {goaway: (None, state)}
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.send(self.h2.data_to_send())

    def frames(self, *frames: Frame) -> None:
        self.send(b"".join(frame.serialize() for frame in frames))

    def request(
        self, path: str, *fields: tuple[str | bytes, str | bytes], method: str = "GET", ends: bool = True
    ) -> int:
        stream = self.h2.get_next_available_stream_id()
        head: list[tuple[str | bytes, str | bytes]] = [(":method", method), (":scheme", "https")]
        head += [(":authority", "localhost"), (":path", path)]
        self.h2.send_headers(stream, [*head, *fields], end_stream=ends)
        self.flush()
        return stream

    def until(self, is_enough: Callable[[h2.events.Event], bool]) -> list[h2.events.Event]:
        """What came, up to the event that is enough, or to the end of the connection."""
        found: list[h2.events.Event] = []
        while True:
            try:
                data = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                return found
            if not data:
                return found
            events = self.h2.receive_data(data)
            self.flush()
            found += events
            if any(is_enough(event) for event in events):
                return found

    def ending(self) -> int | None:
        """Read to the end of the connection: the error code of the GOAWAY, None without one. Takes any frames."""
        received, code = b"", None
        with contextlib.suppress(ConnectionResetError, ssl.SSLError):
            while data := self.socket.recv(65536):
                received += data
        while len(received) >= 9:
            length, kind = int.from_bytes(received[:3], "big"), received[3]
            if kind == GOAWAY:
                code = int.from_bytes(received[13:17], "big")
            received = received[9 + length :]
        return code

    def answer_on(self, stream: int) -> tuple[int, bytes]:
        """Status and body; the status is 0 when the stream was reset, or the connection has ended."""
        events = self.until(
            lambda event: (
                isinstance(event, h2.events.StreamEnded | h2.events.StreamReset) and event.stream_id == stream
            )
        )
        status, body = 0, b""
        for event in events:
            if getattr(event, "stream_id", None) != stream:
                continue
            if isinstance(event, h2.events.ResponseReceived):
                status = int(dict(event.headers or [])[b":status"])
            elif isinstance(event, h2.events.DataReceived):
                body += event.data or b""
            elif isinstance(event, h2.events.StreamReset) and not status:
                return 0, b""
        return status, body
