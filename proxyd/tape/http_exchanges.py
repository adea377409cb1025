"""Puts the entries of a tape of HTTP together again: requests with their answers. Used by `http_view` and `har`.

Entries of several exchanges may stand between each other (HTTP/2), numbers may come again, and a tape may begin or
break off anywhere; what cannot be placed is left to the caller. Where bodies are kept, and how much of them, is the
business of the `Content` that is handed in. Memory is bounded by that and by the numbers below; pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from proxyd.tape.entries import Entry, Judgement
from proxyd.tape.http_entries import (
    TO_CLIENT,
    TO_TARGET,
    HttpAborted,
    HttpBody,
    HttpBodyEnd,
    HttpHeaders,
    HttpMasked,
    HttpMessage,
    HttpRequest,
    HttpResponse,
    HttpToolCall,
    HttpUsage,
    paired,
)

MAX_REMEMBERED: Final = 2048
"""Headers, and judgements. A recorder refers to none but its last 512."""
MAX_NOTES: Final = 100
"""Tool calls, and reports of usage, of one exchange."""
SWITCHING: Final = 101

Pairs = tuple[tuple[str, str], ...]


class Content(Protocol):
    """Takes the bytes of one body."""

    def add(self, raw: bytes) -> None: ...

    def close(self) -> None:
        """Nobody wants them any longer."""


C = TypeVar("C", bound=Content)


class Way(Generic[C]):
    """One direction of an exchange. `kept` bytes of its body went into `content`, `omitted` are not on the tape.
    `message_bytes` are those of a WebSocket, which are nobody's body.
    """

    __slots__ = (
        "content",
        "ended_at_us",
        "headers",
        "kept",
        "message_bytes",
        "omitted",
        "sha256",
        "trailers",
    )

    def __init__(self, headers: Pairs, content: C) -> None:
        self.headers = headers
        self.content = content
        self.kept = 0
        self.omitted = 0
        self.sha256 = b""
        self.trailers: Pairs = ()
        self.message_bytes = 0
        self.ended_at_us: int | None = None

    @property
    def size(self) -> int:
        return self.kept + self.omitted + self.message_bytes

    def header(self, name: str) -> str:
        """The first header of that name (in lower case), or ""."""
        return next((value for known, value in self.headers if known.lower() == name), "")

    def add(self, raw: bytes) -> None:
        if raw:
            self.kept += len(raw)
            self.content.add(raw)


class Exchange(Generic[C]):
    """A request and, once there is one, its answer. Changes while entries come, until `is_over`."""

    __slots__ = (
        "aborted",
        "calls",
        "counts",
        "informational",
        "is_over",
        "judgement",
        "last_at_us",
        "request",
        "response",
        "to_client",
        "to_target",
        "usage",
    )

    def __init__(self, request: HttpRequest, judgement: Judgement | None, headers: Pairs, content: C) -> None:
        self.request = request
        self.judgement = judgement
        self.to_target: Way[C] = Way(headers, content)
        self.response: HttpResponse | None = None
        self.to_client: Way[C] | None = None
        self.informational: list[int] = []
        self.counts: dict[str, int] = {}
        self.calls: list[HttpToolCall] = []
        self.usage: list[dict[str, object]] = []
        self.aborted: str | None = None
        self.is_over = False
        self.last_at_us = request.at_us

    @property
    def is_websocket(self) -> bool:
        """Did it change its protocol? By HTTP/1.1, or by the CONNECT of HTTP/2 (RFC 8441)."""
        if self.response is None:
            return False
        status = self.response.status
        return status == SWITCHING or (self.request.method == "CONNECT" and 200 <= status < 300)

    def close(self) -> None:
        self.to_target.content.close()
        if self.to_client is not None:
            self.to_client.content.close()


class Exchanges(Generic[C]):
    """The exchanges of one tape. Give it each entry; take what is over.

    `lingering`: so many that are over are kept, because reports about them (usage, counts) may come a little later.
    """

    def __init__(self, new_content: Callable[[], C], *, max_open: int, lingering: int = 0) -> None:
        self._new_content = new_content
        self._max_open = max_open
        self._lingering = lingering
        self._open: dict[int, Exchange[C]] = {}
        self._over: dict[int, Exchange[C]] = {}
        self._done: deque[Exchange[C]] = deque()
        self._headers: dict[int, Pairs] = {}
        self._judgements: dict[int, Judgement] = {}

    def feed(self, entry: Entry) -> Exchange[C] | None:
        """The exchange that the entry is about; None when it is about none, or none that is known."""
        match entry:
            case Judgement():
                _remember(self._judgements, entry.id, entry)
                return None
            case HttpHeaders():
                _remember(self._headers, entry.id, entry.pairs())
                return None
            case HttpRequest():
                return self._begin(entry)
            case HttpResponse():
                exchange = self._open.get(entry.exchange)
                if exchange is not None:
                    self._respond(exchange, entry)
            case HttpBody():
                exchange = self._open.get(entry.exchange)
                way = _way(exchange, entry.way)
                if way is not None:
                    way.add(entry.raw)
            case HttpBodyEnd():
                exchange = self._open.get(entry.exchange)
                if exchange is not None:
                    self._end_way(exchange, entry)
            case HttpMessage():
                exchange = self._open.get(entry.exchange)
                way = _way(exchange, entry.way)
                if way is not None:
                    way.message_bytes += len(entry.raw) + entry.omitted
            case HttpAborted():
                exchange = self._open.get(entry.exchange)
                if exchange is not None:
                    exchange.aborted = entry.reason
                    self._finish(exchange)
            case HttpMasked() | HttpToolCall() | HttpUsage():
                exchange = self._open.get(entry.exchange) or self._over.get(entry.exchange)
                if exchange is not None:
                    _note(exchange, entry)
            case _:
                return None
        if exchange is not None:
            exchange.last_at_us = entry.at_us
        return exchange

    def taken(self) -> list[Exchange[C]]:
        """Those that are over (`is_over`), or that others have displaced, since the last call."""
        done = list(self._done)
        self._done.clear()
        return done

    def finish(self) -> list[Exchange[C]]:
        """All that are left, in the order in which they began."""
        left = [*self.taken(), *self._over.values(), *self._open.values()]
        self._over.clear()
        self._open.clear()
        return sorted(left, key=lambda exchange: exchange.request.at_us)

    def _begin(self, entry: HttpRequest) -> Exchange[C]:
        number = entry.exchange
        for known in (self._over, self._open):
            if number in known:
                self._done.append(known.pop(number))
        if len(self._open) >= self._max_open:
            self._done.append(self._open.pop(next(iter(self._open))))
        headers = self._headers.get(entry.headers, ())
        exchange = Exchange(entry, self._judgements.get(entry.judgement), headers, self._new_content())
        self._open[number] = exchange
        exchange.to_target.add(entry.raw)
        if entry.has_ended:
            exchange.to_target.ended_at_us = entry.at_us
        return exchange

    def _respond(self, exchange: Exchange[C], entry: HttpResponse) -> None:
        if 100 <= entry.status < 200 and entry.status != SWITCHING:
            exchange.informational = [*exchange.informational, entry.status][-MAX_NOTES:]
            return
        if exchange.to_client is not None:
            exchange.to_client.content.close()
        exchange.response = entry
        exchange.to_client = Way(self._headers.get(entry.headers, ()), self._new_content())
        exchange.to_client.add(entry.raw)
        if entry.has_ended:
            exchange.to_client.ended_at_us = entry.at_us
            self._finish(exchange)

    def _end_way(self, exchange: Exchange[C], entry: HttpBodyEnd) -> None:
        way = _way(exchange, entry.way)
        if way is None:
            return
        way.omitted += entry.omitted
        way.sha256 = entry.sha256
        way.trailers = paired(entry.trailers)
        way.ended_at_us = entry.at_us
        if entry.way == TO_CLIENT:
            self._finish(exchange)

    def _finish(self, exchange: Exchange[C]) -> None:
        number = exchange.request.exchange
        exchange.is_over = True
        self._open.pop(number, None)
        self._over[number] = exchange
        while len(self._over) > self._lingering:
            self._done.append(self._over.pop(next(iter(self._over))))


Known = TypeVar("Known")


def _remember(known: dict[int, Known], identifier: int, value: Known) -> None:
    known.pop(identifier, None)
    known[identifier] = value
    if len(known) > MAX_REMEMBERED:
        del known[next(iter(known))]


def _way(exchange: Exchange[C] | None, way: int) -> Way[C] | None:
    if exchange is None:
        return None
    if way == TO_TARGET:
        return exchange.to_target
    return exchange.to_client if way == TO_CLIENT else None


def _note(exchange: Exchange[C], entry: HttpMasked | HttpToolCall | HttpUsage) -> None:
    match entry:
        case HttpMasked(counts=counts):
            for name, count in counts.items():
                if name in exchange.counts or len(exchange.counts) < MAX_NOTES:
                    exchange.counts[name] = exchange.counts.get(name, 0) + count
        case HttpToolCall():
            exchange.calls = [*exchange.calls, entry][:MAX_NOTES]
        case HttpUsage(data=data):
            exchange.usage = [*exchange.usage, data][:MAX_NOTES]
