"""The ASGI application behind the gateway in end-to-end tests: it tells what it was asked, streams, and misbehaves.

/echo               JSON of what came: version, method, path, query, headers, body (base64 when it is not text)
/people             JSON with what masks look for
/sse?n=3&wait=0.01  server-sent events; /lines?n=3 JSON lines
/bytes?n=1000       that many bytes; with chunk=100 in pieces of that size
/status?code=418    an answer with that status
/redirect?to=/x     302 with a Location and a cookie
/trailers           a body with a trailer (HTTP/2)
/slow?wait=1        says nothing for so long
/broken?at=10       ends in the middle of a body of known length
/typed?type=T       the request's body again, as that media type
(websocket) any     echoes; "close" closes with 4000; takes the first sub-protocol that is asked for
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PEOPLE = {
    "people": [
        {"id": 1, "name": "Ada", "email": "ada@example.com", "card": "4111 1111 1111 1111"},
        {
            "id": 2,
            "name": "Grace",
            "email": "grace@example.com",
            "ssn": "536-22-1234",
            "notes": "call ada@example.com",
        },
    ],
    "customer": {"address": {"street": "Main 1", "city": "Aarau"}},
    "total": 12345678901234567890,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    match scope["type"]:
        case "lifespan":
            await _lifespan(receive, send)
        case "websocket":
            await _websocket(scope, receive, send)
        case "http":
            await _http(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _websocket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    asked = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": asked[0] if asked else None})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        if text == "close":
            await send({"type": "websocket.close", "code": 4000, "reason": "asked to"})
            return
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


class _Exchange:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        self.query = {name: values[-1] for name, values in query.items()}

    async def body(self) -> bytes:
        parts = []
        while True:
            message = await self.receive()
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)

    async def start(self, status: int, content_type: str, *headers: tuple[str, str]) -> None:
        fields = [("content-type", content_type), *headers]
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields]
        await self.send({"type": "http.response.start", "status": status, "headers": encoded})

    async def piece(self, data: bytes, *, ends: bool = False) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": not ends})

    async def whole(self, status: int, content_type: str, data: bytes, *headers: tuple[str, str]) -> None:
        await self.start(status, content_type, ("content-length", str(len(data))), *headers)
        await self.piece(data, ends=True)


async def _http(scope: Scope, receive: Receive, send: Send) -> None:
    exchange = _Exchange(scope, receive, send)
    query = exchange.query
    number, wait_s = int(query.get("n", "3")), float(query.get("wait", "0.01"))
    match scope["path"].rstrip("/").rpartition("/")[2]:
        case "people":
            await exchange.whole(200, "application/json", json.dumps(PEOPLE).encode())
        case "sse":
            await exchange.start(200, "text/event-stream")
            for index in range(number):
                event = {"n": index, "email": "ada@example.com", "text": "card 4111 1111 1111 1111"}
                await exchange.piece(f"id: {index}\ndata: {json.dumps(event)}\n\n".encode())
                await asyncio.sleep(wait_s)
            await exchange.piece(b"data: [DONE]\n\n", ends=True)
        case "held":
            await _held(exchange, _releases.setdefault(query["name"], asyncio.Event()))
        case "release":
            _releases.setdefault(query["name"], asyncio.Event()).set()
            await exchange.whole(200, "text/plain", b"released\n")
        case "lines":
            await exchange.start(200, "application/x-ndjson")
            for index in range(number):
                await exchange.piece(json.dumps({"n": index, "email": "ada@example.com"}).encode() + b"\n")
            await exchange.piece(b"", ends=True)
        case "bytes":
            await _bytes(exchange, number, int(query.get("chunk", "65536")))
        case "status":
            await exchange.whole(int(query["code"]), "text/plain", b"as asked\n")
        case "redirect":
            headers = (
                ("location", query["to"]),
                ("set-cookie", "seen=1; Path=/; Domain=example.com; HttpOnly"),
            )
            await exchange.whole(302, "text/plain", b"", *headers)
        case "trailers":
            await exchange.start(200, "text/plain", ("trailer", "x-sum"))
            await exchange.piece(b"body")
            await exchange.piece(b"", ends=True)
        case "slow":
            await asyncio.sleep(wait_s)
            await exchange.whole(200, "text/plain", b"at last\n")
        case "broken":
            await exchange.start(200, "text/plain", ("content-length", "1000"))
            await exchange.piece(b"x" * int(query.get("at", "10")))
            raise RuntimeError("as asked")
        case "typed":
            await exchange.whole(200, query["type"], await exchange.body())
        case _:
            await exchange.whole(200, "application/json", json.dumps(await _told(exchange)).encode())


_releases: dict[str, asyncio.Event] = {}


async def _held(exchange: _Exchange, released: asyncio.Event) -> None:
    """Events until somebody else asks for its release; not for ever, where nobody does. `whole`: all of it then."""
    if "whole" in exchange.query:
        await asyncio.wait_for(released.wait(), 60)
        await exchange.whole(200, "text/plain", b"at last\n")
        return
    await exchange.start(200, "text/event-stream")
    for _ in range(6000):
        if released.is_set():
            break
        await exchange.piece(b"data: held\n\n")
        await asyncio.sleep(0.01)
    await exchange.piece(b"data: [DONE]\n\n", ends=True)


async def _bytes(exchange: _Exchange, number: int, chunk: int) -> None:
    await exchange.start(200, "application/octet-stream", ("content-length", str(number)))
    left = number
    while left > 0:
        size = min(left, chunk)
        left -= size
        await exchange.piece(b"x" * size, ends=not left)


async def _told(exchange: _Exchange) -> dict[str, Any]:
    body, scope = await exchange.body(), exchange.scope
    try:
        text, encoding = body.decode(), "text"
    except UnicodeDecodeError:
        text, encoding = base64.b64encode(body).decode(), "base64"
    return {
        "version": scope["http_version"],
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": text,
        "encoding": encoding,
        "length": len(body),
    }
