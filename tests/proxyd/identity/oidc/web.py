"""A web server on loopback that answers as badly as the test wants, for the tests beside this."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

Answer = bytes | Callable[[trio.SocketStream], Any]


@dataclass
class Web:
    """`answers`: by path, bytes to send or an async function that deals with the stream. `asked`: paths, in order."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, keys: bytes, **more: Any) -> None:
        """A sound issuer that has `keys`."""
        described = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **more}
        self.answers["/.well-known/openid-configuration"] = ok(json.dumps(described).encode())
        self.answers["/keys"] = ok(keys)

    async def serve(self, stream: trio.SocketStream) -> None:
        head = b""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                while b"\r\n\r\n" not in head:
                    data = await stream.receive_some(65536)
                    if not data:
                        return
                    head += bytes(data)
                path = head.split(b" ")[1].decode()
                self.asked.append(path)
                self.heads.append(head.decode())
                answer = self.answers.get(path, status(404, b"{}"))
                if isinstance(answer, bytes):
                    await stream.send_all(answer)
                else:
                    await answer(stream)


def ok(body: bytes, *fields: str) -> bytes:
    return status(200, body, "Content-Type: application/json", *fields)


def status(code: int, body: bytes, *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {code} Something", f"Content-Length: {len(body)}", "Connection: close", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def web() -> AsyncIterator[Web]:
    made = Web()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        made.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, made.serve, [listener])
        yield made
        nursery.cancel_scope.cancel()
