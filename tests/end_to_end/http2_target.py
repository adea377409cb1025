"""A target of HTTP/2 that a test plays: each stream is answered by a function of its path, in any way at all.

    with OddHttp2Target({"/ws": lambda stream: stream.accept()}) as target:
        target.url, target.heads

Streams without a behaviour echo WebSocket frames, as bytes: what comes masked goes back unmasked.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import Frame
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from tests.end_to_end.running import HOST

TIMEOUT_S = 20.0


class PlayedStream:
    """`head`: the fields of the request."""

    def __init__(self, peer: _Peer, number: int, head: dict[str, str]) -> None:
        self.peer = peer
        self.number = number
        self.head = head
        self.frames = Connection(ConnectionType.SERVER)

    def answer(self, status: int, *fields: tuple[str, str], ends: bool = False) -> None:
        self.peer.h2.send_headers(self.number, [(":status", str(status)), *fields], end_stream=ends)

    def accept(self) -> None:
        self.answer(200)

    def data(self, data: bytes, *, ends: bool = False) -> None:
        self.peer.h2.send_data(self.number, data, end_stream=ends)

    def reset(self, code: int = 2) -> None:
        self.peer.h2.reset_stream(self.number, code)

    def frame(self, *frames: Frame) -> None:
        self.peer.raw += b"".join(frame.serialize() for frame in frames)

    def echo(self, data: bytes) -> None:
        self.frames.receive_data(data)
        for event in self.frames.events():
            match event:
                case TextMessage() | BytesMessage():
                    self.data(self.frames.send(event))
                case Ping():
                    self.data(self.frames.send(event.response()))
                case CloseConnection():
                    self.data(self.frames.send(event.response()), ends=True)


Behaviour = Callable[[PlayedStream], None]


class _Peer:
    """One connection."""

    def __init__(self, target: OddHttp2Target, sock: socket.socket) -> None:
        self.target = target
        self.sock = sock
        self.raw = b""
        self.streams: dict[int, PlayedStream] = {}
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, validate_outbound_headers=False)
        )
        # After a GOAWAY of its own h2 would not go on.
        machine, state = self.h2.state_machine, h2.connection.ConnectionState.SERVER_OPEN
        goaway = (state, h2.connection.ConnectionInputs.SEND_GOAWAY)
        machine._transitions = machine._transitions | {goaway: (None, state)}
        codes = h2.settings.SettingCodes
        self.h2.local_settings = h2.settings.Settings(
            client=False, initial_values={codes.ENABLE_CONNECT_PROTOCOL: 1, **target.settings}
        )
        self.h2.initiate_connection()

    def serve(self) -> None:
        with self.sock, contextlib.suppress(OSError):
            self.flush()
            while data := self.sock.recv(65536):
                for event in self.h2.receive_data(data):
                    with contextlib.suppress(h2.exceptions.StreamClosedError):  # given up meanwhile
                        self.take(event)
                self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send() + self.raw)
        self.raw = b""

    def take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                head = {bytes(n).decode(): bytes(v).decode() for n, v in event.headers or ()}
                self.target.heads.append(head)
                stream = self.streams[event.stream_id] = PlayedStream(self, event.stream_id, head)
                self.target.behaviours.get(head[":path"], PlayedStream.accept)(stream)
            case h2.events.DataReceived():
                self.target.received += len(event.data or b"")
                if not self.target.is_deaf:
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                found = self.streams.get(event.stream_id)
                if found is not None and found.head[":path"] not in self.target.behaviours and event.data:
                    found.echo(event.data)
            case h2.events.StreamReset():
                self.target.resets.append(int(event.error_code or 0))
                self.streams.pop(event.stream_id, None)


class OddHttp2Target:
    """`is_deaf`: windows are not opened again. `resets`: the codes of streams that were given up."""

    def __init__(
        self, behaviours: Mapping[str, Behaviour] | None = None, settings: Mapping[int, int] | None = None
    ) -> None:
        self.behaviours = dict(behaviours or {})
        self.settings = {h2.settings.SettingCodes(code): value for code, value in (settings or {}).items()}
        self.heads: list[dict[str, str]] = []
        self.resets: list[int] = []
        self.received = 0
        self.is_deaf = False
        self.connections = 0
        self._listener = socket.create_server((HOST, 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._sockets.append(sock)
                thread = threading.Thread(target=_Peer(self, sock).serve, daemon=True)
                thread.start()
                self._threads.append(thread)
