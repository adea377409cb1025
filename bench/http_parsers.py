"""What reading and writing HTTP/1 heads costs, by the gateway's own reader, by httptools (llhttp) and by h11.

`python -m bench.http_parsers` prints requests a second, on one core, for a request of about 400 bytes on a kept
connection and for one with a body in chunks. Each contestant ends with the same: method, target, names in lower case
and values as text. The gateway's own also judges framing, Host and Connection, which the others leave to the caller.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import h11
import httptools

from protocols.http.http1 import Http1Limits, RequestReader, request_head
from protocols.http.messages import MessageEnded
from protocols.http.targets import destination

REQUEST = (
    b"GET /v1/customers/42?status=open&limit=20 HTTP/1.1\r\n"
    b"Host: api.gateway.example:8443\r\n"
    b"User-Agent: python-httpx/0.28.1\r\n"
    b"Accept: application/json\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Connection: keep-alive\r\n"
    b"X-Request-Id: %032x\r\n"
    b"Authorization: Bearer abcdefghijklmnopqrstuvwxyz0123456789abcdefgh\r\n"
    b"X-Env: prod\r\n"
    b"Cookie: session=0123456789abcdef; theme=dark\r\n"
    b"\r\n"
)
POST = (
    b"POST /v1/orders HTTP/1.1\r\nHost: api.gateway.example\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\nX-Request-Id: %032x\r\n\r\n"
    b"40\r\n" + b"x" * 64 + b"\r\n400\r\n" + b"y" * 1024 + b"\r\n0\r\n\r\n"
)
ROUNDS = 20_000
TRIES = 5


class _Collected:
    """What a server keeps of a request that httptools reads."""

    __slots__ = ("body", "fields", "is_complete", "target")

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.target = ""
        self.fields: list[tuple[str, str]] = []
        self.body: list[bytes] = []
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url.decode("ascii")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.decode("ascii").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.is_complete = True


def own(request: bytes) -> None:
    reader = _READER
    reader.feed(request)
    while not isinstance(reader.next_event(), MessageEnded):
        pass
    reader.start_next()


def with_httptools(request: bytes) -> None:
    _COLLECTED.start()
    _LLHTTP.feed_data(request)
    _LLHTTP.get_method().decode("ascii"), _LLHTTP.get_http_version()
    if not _COLLECTED.is_complete:
        raise RuntimeError("httptools has not read the request to its end")


def with_h11(request: bytes) -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(request)
    while not isinstance(connection.next_event(), h11.EndOfMessage):
        pass


_READER = RequestReader(Http1Limits(), "https")
_COLLECTED = _Collected()
_LLHTTP = httptools.HttpRequestParser(_COLLECTED)


def rate(do: Callable[[bytes], object], template: bytes) -> float:
    """The best of some tries, as calls a second. One header differs from call to call, as requests' ids do."""
    requests = [template % number for number in range(ROUNDS)]
    best = 0.0
    for _ in range(TRIES):
        started = time.perf_counter()
        for request in requests:
            do(request)
        best = max(best, ROUNDS / (time.perf_counter() - started))
    return best


def own_and_rebuilt(request: bytes) -> None:
    """All that the codec does for a request that is passed on: read, taken apart, written anew."""
    reader = _READER
    reader.feed(request)
    head = reader.next_event()
    reader.next_event()
    reader.start_next()
    place = destination(head)  # type: ignore[arg-type]
    request_head(head, place.path + "?" + place.query, place.host)  # type: ignore[arg-type]


def main() -> None:
    print("requests a second, one core, reading only unless it says more\n")
    print(f"{'':34}{'GET, 430 bytes':>16}{'POST, two chunks':>18}")
    for name, do in (("own reader", own), ("httptools (llhttp)", with_httptools), ("h11", with_h11)):
        print(f"{name:34}{rate(do, REQUEST):16,.0f}{rate(do, POST):18,.0f}")
    print(f"{'own, with target and written anew':34}{rate(own_and_rebuilt, REQUEST):16,.0f}")


if __name__ == "__main__":
    main()
