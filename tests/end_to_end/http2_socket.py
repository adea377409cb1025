"""WebSockets over HTTP/2 by hand (h2 and wsproto), and Node's own HTTP/2 client (`node/http2_client.js`).

    with Http2Client(gateway) as client:
        socket = Http2Socket(client, "/t/app/ws")
        socket.say("hello"); socket.hear(); socket.bytes(b"...", ends=True); socket.end()

Several sockets of one client take turns: what comes for the others is kept for them.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import h2.connection
import h2.events
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, TextMessage

from tests.end_to_end.http_gateway import HttpGateway
from tests.end_to_end.http_raw import Http2Client

SCRIPT = Path(__file__).parent / "node" / "http2_client.js"
WEBSOCKET = ((":protocol", "websocket"), ("sec-websocket-version", "13"))
NODE_TIMEOUT_S = 60.0


def play(gateway: HttpGateway, scene: str, person: str | None = "alice", url: str = "", **given: Any) -> Any:
    """What a scene of Node's client tells. With `person` None it shows no certificate."""
    done = subprocess.run(
        node_command(gateway, scene, person, url, given),
        capture_output=True,
        text=True,
        check=False,
        timeout=NODE_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def node_command(
    gateway: HttpGateway, scene: str, person: str | None, url: str, given: Mapping[str, Any]
) -> list[str]:
    words = {"url": url or gateway.url, "ca": str(gateway.ca)}
    if person is not None:
        files = gateway.people[person]
        words |= {"cert": str(files.certificate), "key": str(files.key)}
    return ["node", str(SCRIPT), json.dumps(words), scene, json.dumps(given)]


def _of(client: Http2Client) -> dict[int, Http2Socket]:
    """The sockets of one connection, by their streams."""
    found: dict[int, Http2Socket] = client.__dict__.setdefault("websockets", {})
    return found


class Http2Socket:
    """One WebSocket. `status`: of the answer to the CONNECT, 0 when the stream was reset in its place."""

    def __init__(
        self, client: Http2Client, path: str, *fields: tuple[str, str], first: bytes = b"", wait: bool = True
    ) -> None:
        """`first`: sent before the answer has come. `wait`: for the answer."""
        self.client = client
        self.frames = Connection(ConnectionType.CLIENT)
        self.number = client.request(path, *WEBSOCKET, *fields, method="CONNECT", ends=False)
        self.headers: dict[str, str] = {}
        self.status = 0
        self.has_ended = False
        self.reset: int | None = None
        self.body = b""
        _of(client)[self.number] = self
        if first:
            self.bytes(first)
        if wait:
            self.wait_for_answer()

    def wait_for_answer(self) -> None:
        while not self.headers and not self.is_over:
            self._more()

    @property
    def is_over(self) -> bool:
        return self.has_ended or self.reset is not None

    # Sending

    def bytes(self, data: bytes, *, ends: bool = False) -> None:
        self.client.h2.send_data(self.number, data, end_stream=ends)
        self.client.flush()

    def say(self, message: str | bytes, *, ends: bool = True) -> None:
        kind = TextMessage if isinstance(message, str) else BytesMessage
        self.bytes(self.frames.send(kind(data=message, message_finished=ends)))

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.bytes(self.frames.send(CloseConnection(code=code, reason=reason)))

    def end(self) -> None:
        self.client.h2.end_stream(self.number)
        self.client.flush()

    def give_up(self, code: int = 8) -> None:
        self.client.h2.reset_stream(self.number, code)
        self.client.flush()

    # Receiving

    def hear(self) -> Event | None:
        """The next event, a message as one; None at the end of the stream."""
        text, data = "", b""
        while True:
            for event in self.frames.events():
                if isinstance(event, TextMessage):
                    text += event.data
                elif isinstance(event, BytesMessage):
                    data += event.data
                if isinstance(event, TextMessage) and event.message_finished:
                    return TextMessage(data=text)
                if isinstance(event, BytesMessage) and event.message_finished:
                    return BytesMessage(data=data)
                if not isinstance(event, TextMessage | BytesMessage):
                    return event
            if self.is_over:
                return None
            self._more()

    def text(self) -> str:
        event = self.hear()
        assert isinstance(event, TextMessage), event
        return event.data

    def closing(self) -> tuple[int, str]:
        """Code and reason of the close that comes next, whatever comes before it."""
        while not isinstance(event := self.hear(), CloseConnection):
            assert event is not None, f"the stream has ended (reset: {self.reset})"
        return int(event.code), event.reason or ""

    def rest(self) -> None:
        """Read to the end of the stream."""
        while not self.is_over:
            self._more()

    def _more(self) -> None:
        came = self.client.until(lambda _: True)
        if not came:
            for socket in _of(self.client).values():
                socket.has_ended = True
        for event in came:
            socket = _of(self.client).get(getattr(event, "stream_id", None) or 0)
            if socket is not None:
                socket._take(event)

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.headers = {
                    bytes(name).decode(): bytes(value).decode("latin-1")
                    for name, value in event.headers or ()
                }
                self.status = int(self.headers[":status"])
            case h2.events.DataReceived():
                if event.data and self.status == 200:
                    self.frames.receive_data(event.data)
                self.body += event.data or b""
                self.client.h2.acknowledge_received_data(event.flow_controlled_length or 0, self.number)
                self.client.flush()
            case h2.events.StreamEnded():
                self.has_ended = True
            case h2.events.StreamReset():
                self.reset = int(event.error_code or 0)


class InnerHttp2:
    """HTTP/2 with TLS inside of a tunnel, which is a stream of `outer` that was answered with 200."""

    def __init__(self, outer: Http2Client, stream: int, name: str, ca: Path) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        context.set_alpn_protocols(["h2"])
        self._outer = outer
        self._stream = stream
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self.h2 = h2.connection.H2Connection()

    def __enter__(self) -> Self:
        self._do(self._tls.do_handshake)
        self.h2.initiate_connection()
        return self

    def __exit__(self, *_: object) -> None:
        self._outer.h2.reset_stream(self._stream, 8)
        self._outer.flush()

    def ask(self, head: list[tuple[str, str]], *, ends: bool = False) -> tuple[int, bytes]:
        """Status and body of the answer."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, head, end_stream=ends)
        status, body = 0, b""
        while True:
            if data := self.h2.data_to_send():
                self._do(lambda data=data: self._tls.write(data))  # type: ignore[misc]
            for event in self.h2.receive_data(self._do(lambda: self._tls.read(65536))):
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers or [])[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data or b""
                elif isinstance(event, h2.events.StreamEnded):
                    return status, body

    def _do(self, step: Callable[[], Any]) -> Any:
        """One step of TLS, with what it takes of the stream."""
        while True:
            try:
                done, is_done = step(), True
            except ssl.SSLWantReadError:
                done, is_done = None, False
            if data := self._out.read():
                self._outer.h2.send_data(self._stream, data)
                self._outer.flush()
            if is_done:
                return done
            self._receive()

    def _receive(self) -> None:
        came = self._outer.until(lambda _: True)
        assert came, "the tunnel has ended"
        for event in came:
            if isinstance(event, h2.events.DataReceived) and event.stream_id == self._stream:
                self._in.write(event.data or b"")
                self._outer.h2.acknowledge_received_data(event.flow_controlled_length or 0, self._stream)
                self._outer.flush()
