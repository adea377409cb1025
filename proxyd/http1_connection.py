"""An HTTP/1.1 connection while it runs: one exchange after the other, as server (`Http1Client`) or as client
(`Http1Target`).

Reading is done by whoever waits for it, in the same task; nothing is read ahead of what was asked for but the rest of
a read, and nothing at all of the next request before this one is answered. See `http_streams` for the calls.
"""

from __future__ import annotations

import msgspec

from protocols.errors import LocalProtocolError, ProtocolError
from protocols.http.http1 import (
    RequestReader,
    ResponseReader,
    chunk,
    last_chunk,
    request_head,
    response_head,
)
from protocols.http.messages import Data, Headers, MessageEnded, RequestHead, ResponseHead
from proxyd.http_link import Link
from proxyd.http_streams import PeerGone
from proxyd.wire import ConnectionLost


class _Writer:
    """What is to be sent, until `flush`. Knows how the body of the message under way is framed."""

    __slots__ = ("_is_chunked", "_link", "_parts", "has_body")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._parts: list[bytes] = []
        self._is_chunked = False
        self.has_body = True

    def start(self, head: bytes, *, is_chunked: bool, has_body: bool) -> None:
        self._parts.append(head)
        self._is_chunked = is_chunked
        self.has_body = has_body

    def put(self, data: bytes) -> None:
        self._parts.append(data)

    def put_data(self, data: bytes) -> None:
        if data and self.has_body:
            self._parts.append(chunk(data) if self._is_chunked else data)

    def put_end(self, trailers: Headers) -> None:
        if self._is_chunked and self.has_body:
            self._parts.append(last_chunk(trailers))

    async def flush(self) -> None:
        parts, self._parts = self._parts, []
        if not parts:
            return
        try:
            pending = self._link.send_soon(parts[0] if len(parts) == 1 else b"".join(parts))
            if pending is not None:
                await pending
        except ConnectionLost as lost:
            raise PeerGone(str(lost)) from lost


class Http1Client:
    """A client's connection. `next_request` makes it ready for the next exchange; it is the stream of this one."""

    __slots__ = (
        *("_link", "_reader", "_told", "_told_as", "_told_to", "_writer"),
        *("closes", "head", "is_abandoned", "upgraded"),
    )

    def __init__(self, link: Link, reader: RequestReader) -> None:
        self._link = link
        self._reader = reader
        self._writer = _Writer(link)
        self.head = RequestHead("", "", "", "", ())
        self.closes = False
        self.is_abandoned = False
        self.upgraded = False
        # The last head as it was written, since answers often begin with the very same.
        self._told: ResponseHead | None = None
        self._told_to = ""
        self._told_as = b""

    @property
    def link(self) -> Link:
        return self._link

    def leftover(self) -> bytes:
        return self._reader.leftover()

    async def part(self, timeout_s: float) -> None:
        """What was changed ends with its connection, which whoever has opened it closes."""

    def announced(self) -> RequestHead | None:
        """The next request, if its head is here already. Raises ProtocolError."""
        event = self._reader.next_event()
        if event is None:
            return None
        if not isinstance(event, RequestHead):
            raise LocalProtocolError("a request was not read to its end")
        self.head = event
        self.closes = not event.keep_alive
        if event.body_bytes == 0 and event.method != "CONNECT":
            self._reader.next_event()  # its end, which is here with the head
        return event

    async def more(self) -> None:
        """Wait for bytes. Raises ConnectionLost."""
        self._reader.feed(await self._link.receive())

    @property
    def is_idle(self) -> bool:
        return self._reader.is_idle

    def start_next(self) -> None:
        self._reader.start_next()

    # The stream

    @property
    def is_received(self) -> bool:
        return self._reader.has_ended

    def poll(self) -> Data | MessageEnded | None:
        try:
            event = self._reader.next_event()
        except ProtocolError as fault:
            self.closes = True
            raise PeerGone(f"broke the protocol: {fault.message}", fault=fault) from fault
        if isinstance(event, RequestHead):
            raise LocalProtocolError("a second head in one message")
        return event

    async def receive(self) -> Data | MessageEnded:
        while True:
            event = self.poll()
            if event is not None:
                return event
            try:
                self._reader.feed(await self._link.receive())
            except ConnectionLost as lost:
                self.closes = True
                raise PeerGone(str(lost)) from lost

    def put_head(self, head: ResponseHead) -> None:
        request = self.head
        if head.status >= 200 and (self.closes or not head.keep_alive):
            self.closes = True
        is_old = request.version != "1.1"
        has_body = not (
            request.method == "HEAD" or head.status < 200 or head.status in (204, 304) or head.upgrade
        )
        if has_body and head.body_bytes is None and is_old:
            self.closes = True
        if head.keep_alive is self.closes:
            head = msgspec.structs.replace(head, keep_alive=not self.closes)
        try:
            if head is self._told and request.version == self._told_to:
                data = self._told_as
            else:
                data = response_head(head, version=request.version)
                self._told, self._told_to, self._told_as = head, request.version, data
        except LocalProtocolError as fault:
            self.closes = True
            raise PeerGone(fault.message) from fault
        if head.status >= 200 or head.upgrade:
            self._writer.start(
                data, is_chunked=has_body and head.body_bytes is None and not is_old, has_body=has_body
            )
        else:
            self._writer.put(data)

    def put_data(self, data: bytes) -> None:
        self._writer.put_data(data)

    def put_end(self, trailers: Headers = ()) -> None:
        try:
            self._writer.put_end(trailers)
        except LocalProtocolError as fault:
            self.closes = True
            raise PeerGone(fault.message) from fault

    async def flush(self) -> None:
        try:
            await self._writer.flush()
        except PeerGone:
            self.closes = True
            raise

    def abandon(self, reason: str) -> None:
        """A body that ends without its end is what HTTP/1.1 has to say here."""
        self.closes = True
        self.is_abandoned = True

    def count_as_answered(self) -> None:
        """Nothing counts on this: there is one exchange at a time."""

    @property
    def is_gone(self) -> bool:
        return self._link.is_gone


class Http1Target:
    """A connection to a target, for one exchange at a time. `is_reusable` once an exchange went as it should."""

    __slots__ = ("_has_answer", "_is_ended", "_is_sent", "_link", "_reader", "_writer", "is_reusable", "used")

    def __init__(self, link: Link, reader: ResponseReader) -> None:
        self._link = link
        self._reader = reader
        self._writer = _Writer(link)
        self.is_reusable = True
        self.used = 0
        self._has_answer = False
        self._is_ended = False  # the request is put together whole
        self._is_sent = False  # and has left

    @property
    def link(self) -> Link:
        return self._link

    def leftover(self) -> bytes:
        return self._reader.leftover()

    async def part(self, timeout_s: float) -> None:
        """What was changed ends with its connection, which whoever has opened it closes."""

    def put_head(self, head: RequestHead, encoded: bytes = b"") -> None:
        self.used += 1
        self.is_reusable = False
        self._has_answer = self._is_ended = self._is_sent = False
        try:
            self._reader.expect(head.method, head.upgrade)
        except ProtocolError as fault:
            raise self._gone(fault.message) from fault
        try:
            data = encoded or encoded_request(head)
        except LocalProtocolError as fault:
            raise PeerGone(fault.message) from fault
        self._writer.start(data, is_chunked=head.body_bytes is None, has_body=head.body_bytes != 0)

    def put_data(self, data: bytes) -> None:
        self._writer.put_data(data)

    def put_end(self, trailers: Headers = ()) -> None:
        try:
            self._writer.put_end(trailers)
        except LocalProtocolError as fault:
            raise PeerGone(fault.message) from fault
        self._is_ended = True

    async def flush(self) -> None:
        try:
            await self._writer.flush()
        except PeerGone as gone:
            raise self._gone(gone.reason) from gone
        self._is_sent = self._is_ended

    def poll(self) -> ResponseHead | Data | MessageEnded | None:
        try:
            event = self._reader.next_event()
        except ProtocolError as fault:
            raise PeerGone(f"broke the protocol: {fault.message}") from fault
        if isinstance(event, ResponseHead):
            self._has_answer = True
            self.is_reusable = event.keep_alive and event.status != 101  # no HTTP is spoken behind one
        elif isinstance(event, MessageEnded):
            self.is_reusable = (
                self.is_reusable and self._is_sent
            )  # it has answered early: who knows what it reads
        return event

    async def receive(self) -> ResponseHead | Data | MessageEnded:
        while True:
            event = self.poll()
            if event is not None:
                return event
            try:
                data = await self._link.receive()
            except ConnectionLost as lost:
                try:
                    self._reader.feed_eof()
                except ProtocolError as fault:
                    raise self._gone(fault.message) from lost
                event = self.poll()
                if event is None:
                    raise self._gone(str(lost)) from lost
                self.is_reusable = False
                return event
            self._reader.feed(data)

    def _gone(self, reason: str) -> PeerGone:
        """A connection that was kept open and is closed as soon as it is used again had been given up before."""
        self.is_reusable = False
        return PeerGone(reason, is_untouched=self.used > 1 and not self._has_answer)

    @property
    def is_ready(self) -> bool:
        """May it serve another exchange? Not when half of the request before is still to come."""
        return self.is_reusable and self._is_sent and self._reader.has_ended and not self._reader.buffered


def encoded_request(head: RequestHead) -> bytes:
    """Raises LocalProtocolError."""
    return request_head(head, head.target, head.authority)


def whole(head: ResponseHead, body: bytes) -> bytes:
    """A response for who has sent no request yet."""
    return response_head(head) + body
