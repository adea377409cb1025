"""A bare hop between a real client and a real PostgreSQL that records every byte and judges nothing."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from protocols.postgres.message_types import Frontend
from proxyd.tape.recorder import TapeRecorder
from tests.proxyd.tape.tapes import header


class RecordingHop:
    """Carries one connection to `port` on loopback. `tape` is the path of what was recorded, once left."""

    def __init__(self, directory: Path, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._recorder = TapeRecorder.create(
            directory, header(), reply_limit_bytes=1 << 24, clock=time.monotonic
        )
        self._lock = threading.Lock()
        self._asked = self._answered = 1
        self._thread = threading.Thread(target=self._serve)
        self.port = self._listener.getsockname()[1]
        self.tape = self._recorder.path

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.join(30)
        self._listener.close()
        self._recorder.end("client left")

    def _serve(self) -> None:
        self._listener.settimeout(30)
        client, _ = self._listener.accept()
        with client, socket.create_connection(self._upstream) as target:
            while True:
                startup = _read_startup(client)
                if startup[4:8] not in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"):
                    break
                client.sendall(b"N")
            target.sendall(startup)
            while True:  # the startup phase is not recorded
                message = _read_message(target)
                client.sendall(message)
                if message[:1] == b"Z":
                    break
            back = threading.Thread(target=self._answers, args=(target, client))
            back.start()
            while message := _read_message(client):
                with self._lock:
                    self._recorder.request(self._asked, (), message)
                    self._asked += message[0] in (Frontend.QUERY, Frontend.SYNC)
                target.sendall(message)
            target.shutdown(socket.SHUT_WR)
            back.join(30)

    def _answers(self, target: socket.socket, client: socket.socket) -> None:
        while message := _read_message(target):
            with self._lock:
                self._recorder.reply(self._answered, message)
                if message[:1] == b"Z":
                    self._recorder.reply_end(self._answered)
                    self._answered += 1
            client.sendall(message)


def _read_startup(connection: socket.socket) -> bytes:
    length = _read(connection, 4)
    return length + _read(connection, int.from_bytes(length, "big") - 4)


def _read_message(connection: socket.socket) -> bytes:
    head = _read(connection, 5)
    return head + _read(connection, int.from_bytes(head[1:], "big") - 4) if head else b""


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            return b""
        data += piece
    return data
