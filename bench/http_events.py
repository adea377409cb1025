"""A server of server-sent events for the bench, and its reader: how long an event is on its way.

    python -m bench.http_events PORT

Each event carries the monotonic time at which it was sent, which on one machine is everybody's.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"
TIMEOUT_S = 30.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        number, pause_s = int(query["n"][0]), float(query["pause"][0])
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for _ in range(number):
            event = f"data: {time.monotonic_ns()}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            time.sleep(pause_s)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def delays_ms(
    url: str, headers: Mapping[str, str], events: int, pause_s: float, context: ssl.SSLContext | None
) -> list[float]:
    """Milliseconds of each event between its server and us."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if context is not None:
        connection = http.client.HTTPSConnection(
            parts.hostname or HOST, parts.port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or HOST, parts.port, timeout=TIMEOUT_S)
    connection.request("GET", f"{parts.path}/events?n={events}&pause={pause_s}", headers=dict(headers))
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{url}: {answer.status} {answer.read(500)!r}")
    found = list(_delays(answer))
    connection.close()
    if len(found) != events:
        raise RuntimeError(f"{url}: {len(found)} of {events} events came")
    return found


def _delays(answer: http.client.HTTPResponse) -> Iterator[float]:
    for line in answer:
        now = time.monotonic_ns()
        if line.startswith(b"data: "):
            yield (now - int(line[6:])) / 1e6


def main() -> None:
    server = ThreadingHTTPServer((HOST, int(sys.argv[1])), _Handler)
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.serve_forever()


if __name__ == "__main__":
    main()
