"""An HTTP/2 connection while it runs, as server or as client: one reader, and the streams on it.

Theory of operation. One task reads and hands what comes to the streams; whoever has something to send writes. What a
peer may send ahead is bounded by its windows, which are opened again only when a stream has passed its data on: a slow
reader slows its writer. Sending data waits for the peer's window. What the kernel does not take at once is sent by a
second task: an exchange may be given up at any time, and must not leave half a frame before the frames of others. The
reader does not go on while much is unsent, so that a peer which asks without listening is no longer read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

import trio

from protocols.errors import LocalProtocolError, ProtocolError
from protocols.http.http2 import (
    ConnectionEnding,
    Http2,
    Http2Limits,
    Received,
    StreamEvent,
    StreamReset,
    WindowOpened,
)
from protocols.http.messages import Data, Headers, MessageEnded, RequestHead, ResponseHead
from proxyd.http_link import Link, send
from proxyd.http_streams import PeerGone
from proxyd.wire import ConnectionLost

# Exchanges at a time on one connection to a target.
MAX_SHARED_STREAMS: Final = 100
# Unsent bytes with which a peer is no longer read.
MAX_UNSENT_BYTES: Final = 64 * 1024
# Pieces of a body are put together up to this size: many tiny ones would take far more memory than their window says.
MERGED_BYTES: Final = 4096
# A target that has said nothing at all for so long gets no further streams on this connection.
SILENT_S: Final = 1.0
NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
REFUSED_STREAM: Final = 7
CANCEL: Final = 8

_Item = ResponseHead | Received | MessageEnded


class _Stream:
    """One exchange, either way."""

    __slots__ = (
        "_arrived",
        "_connection",
        "_ended",
        "_gone",
        "_is_closed",
        "_is_finished",
        "_items",
        "_out",
        "_window",
        "head",
        "number",
        "on_lost",
        "opened_at",
    )

    def __init__(self, connection: Http2Connection, number: int, head: RequestHead) -> None:
        self._connection = connection
        self.number = number
        self.head = head
        self._items: deque[_Item] = deque()
        self._arrived: trio.Event | None = None
        self._window: trio.Event | None = None
        self._gone: PeerGone | None = None
        self._ended = False  # everything of the peer's message has come
        self._is_finished = False  # our own message has been sent whole
        self._is_closed = False
        self.on_lost: Callable[[PeerGone], None] | None = None
        self.opened_at = trio.current_time()
        self._out: list[Data | MessageEnded | RequestHead | ResponseHead] = []

    # What the connection's reader calls

    def take(self, event: _Item) -> None:
        if isinstance(event, MessageEnded):
            self._ended = True
        items = self._items
        if isinstance(event, Received) and items:
            last = items[-1]
            if isinstance(last, Received) and len(last.data) < MERGED_BYTES:
                items[-1] = Received(last.data + event.data, last.flow_bytes + event.flow_bytes)
                return
        items.append(event)
        self._wake()

    def lose(self, gone: PeerGone) -> None:
        if self._gone is None:
            self._gone = gone
            if self.on_lost is not None and not self._is_closed:
                self.on_lost(gone)
        self._wake()
        self.open_window()

    def open_window(self) -> None:
        if self._window is not None:
            self._window.set()

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()

    # Receiving

    @property
    def is_received(self) -> bool:
        return self._ended and not self._items

    def _poll(self) -> ResponseHead | Data | MessageEnded | None:
        if not self._items:
            if self._gone is not None:
                raise self._gone
            return None
        item = self._items.popleft()
        if isinstance(item, Received):
            self._connection.acknowledge(self.number, item.flow_bytes)
            return Data(item.data)
        return item

    async def _receive(self) -> ResponseHead | Data | MessageEnded:
        while True:
            item = self._poll()
            # Also when there is nothing: what was polled before may have opened the window that the peer waits for.
            self._connection.flush_soon()
            if item is not None:
                await trio.lowlevel.checkpoint_if_cancelled()
                return item
            self._arrived = trio.Event()
            await self._arrived.wait()

    @property
    def is_gone(self) -> bool:
        return self._gone is not None

    # Sending

    def _put_head(self, head: RequestHead | ResponseHead) -> None:
        self._out.append(head)

    def put_data(self, data: bytes) -> None:
        if data:
            self._out.append(Data(data))

    def put_end(self, trailers: Headers = ()) -> None:
        self._out.append(MessageEnded(trailers))

    async def flush(self) -> None:
        out, self._out = self._out, []
        if not out:
            await trio.lowlevel.checkpoint()
            return
        if self._gone is not None:
            raise self._gone
        http2 = self._connection.http2
        try:
            for index, item in enumerate(out):
                following = out[index + 1] if index + 1 < len(out) else None
                ends = isinstance(following, MessageEnded) and not following.trailers
                match item:
                    case RequestHead():
                        self._connection.enter(self)
                        http2.send_request(self.number, item, ends=ends)
                        self._is_finished = ends
                    case ResponseHead():
                        http2.send_response(self.number, item, ends=ends)
                        self._is_finished = ends
                    case Data(data=data):
                        await self._send_data(data, ends=ends)
                        self._is_finished = ends
                    case MessageEnded(trailers=trailers):
                        if trailers:
                            http2.send_trailers(self.number, trailers)
                        elif not self._is_finished:
                            http2.send_data(self.number, b"", ends=True)
                        self._is_finished = True
            if self._is_finished:
                self._connection.http2.finished()
            await self._connection.flush()
        except LocalProtocolError as fault:
            raise self._gone or PeerGone(fault.message) from fault
        except ConnectionLost as fault:
            raise PeerGone(str(fault)) from fault

    async def _send_data(self, data: bytes, *, ends: bool) -> None:
        http2 = self._connection.http2
        at = 0
        while at < len(data):
            if self._gone is not None:
                raise self._gone
            window = http2.window(self.number)
            if not window:
                opened = self._window = trio.Event()
                await self._connection.flush()
                await opened.wait()
                continue
            piece = data[at : at + window]
            at += len(piece)
            http2.send_data(self.number, piece, ends=ends and at >= len(data))
            await self._connection.flush()

    def abandon(self, reason: str) -> None:
        self._reset(INTERNAL_ERROR)

    def close(self) -> None:
        """The exchange is over, whole or not."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self.number:
            self._connection.leave()
            return
        if not (self._ended and self._is_finished):
            # RFC 9113, 8.1: an answer that is whole counts, also when nobody wants the rest of the request.
            self._reset(NO_ERROR if self._is_finished and self._connection.is_server else CANCEL)
        for item in self._items:
            if isinstance(item, Received):
                self._connection.acknowledge(self.number, item.flow_bytes)
        self._items.clear()
        self._connection.forget(self.number)

    def _reset(self, code: int) -> None:
        if self._gone is None:
            self._gone = PeerGone("given up")
            self._connection.http2.reset(self.number, code)
            self._connection.flush_soon()


class Http2Request(_Stream):
    """At the server: `head` is the client's request."""

    def put_head(self, head: ResponseHead) -> None:
        self._put_head(head)

    def poll(self) -> Data | MessageEnded | None:
        item = self._poll()
        if isinstance(item, ResponseHead):
            raise PeerGone("a response from a client")
        return item

    async def receive(self) -> Data | MessageEnded:
        item = await self._receive()
        if isinstance(item, ResponseHead):
            raise PeerGone("a response from a client")
        return item


class Http2Stream(_Stream):
    """At the client: the request goes out, its answer comes in."""

    def put_head(self, head: RequestHead, encoded: bytes = b"") -> None:
        self._put_head(head)

    def release(self) -> None:
        if not self._ended and self.number:
            self._connection.doubt(self.opened_at)
        self.close()

    def poll(self) -> ResponseHead | Data | MessageEnded | None:
        return self._poll()

    async def receive(self) -> ResponseHead | Data | MessageEnded:
        return await self._receive()


class Http2Connection:
    """`run` reads until the end; raises nothing but cancellation. `ended` says why it ended.

    `on_end`, `on_room`: called when it has ended, and when one more stream may be opened.
    """

    def __init__(
        self,
        link: Link,
        limits: Http2Limits,
        *,
        is_server: bool,
        scheme: str = "https",
        on_request: Callable[[Http2Request], None] | None = None,
        received: bytes = b"",
    ) -> None:
        self._link = link
        self.is_server = is_server
        self.http2 = Http2(limits, is_server=is_server, scheme=scheme)
        self._on_request = on_request
        self._streams: dict[int, _Stream] = {}
        self._received = received
        self.ended: PeerGone | None = None
        self.is_broken_protocol = False
        self.takes_no_more = False
        self.moved_at = trio.current_time()
        self.on_end: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self._is_closing = False
        self._unnumbered = 0
        # What the kernel has not taken: the sending of it, which is the writer's.
        self._is_writing = False
        self._pending: Coroutine[Any, Any, None] | None = None
        self._kicked = trio.Event()
        self._written = trio.Event()

    @property
    def streams(self) -> int:
        return len(self._streams) + self._unnumbered

    @property
    def has_room(self) -> bool:
        """As a client: may another stream be opened now?"""
        return (
            self.ended is None
            and not self.takes_no_more
            and self.streams < min(self.http2.peer_streams, MAX_SHARED_STREAMS)
        )

    async def begin(self) -> None:
        """Raises ConnectionLost."""
        self.http2.begin()
        await send(self._link, self.http2.take())

    def open(self) -> Http2Stream:
        """As a client: a new stream. It gets its number with its head, since numbers have to go out in their order."""
        self._unnumbered += 1
        return Http2Stream(self, 0, RequestHead("", "", "", "", ()))

    def enter(self, stream: _Stream) -> None:
        """Its head is sent now. Raises PeerGone."""
        if stream.number:
            raise LocalProtocolError("a second head on one stream")
        if self.ended is not None or self._is_closing:
            raise PeerGone("the target takes no more requests", is_unheard=True)
        try:
            stream.number = self.http2.next_stream()
        except LocalProtocolError as fault:
            self.takes_no_more = True
            raise PeerGone(fault.message, is_unheard=True) from fault
        self._unnumbered -= 1
        stream.opened_at = trio.current_time()
        self._streams[stream.number] = stream

    def leave(self) -> None:
        """A stream that was opened was never used."""
        self._unnumbered -= 1
        if self.on_room is not None:
            self.on_room()

    def doubt(self, since: float) -> None:
        """A stream of `since` was given up. Nothing at all has come from the target meanwhile? It may be gone."""
        if self.moved_at <= since and trio.current_time() - since >= SILENT_S:
            self.takes_no_more = True

    def forget(self, number: int) -> None:
        if self._streams.pop(number, None) is not None and self.on_room is not None:
            self.on_room()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, nursery.cancel_scope)
            try:
                await self._read()
            finally:
                self._end(PeerGone("closed"))
                if self._pending is not None:
                    self._pending.close()
                nursery.cancel_scope.cancel()

    async def _read(self) -> None:
        try:
            while True:
                data, self._received = self._received, b""
                if not data:
                    data = await self._link.receive()
                self.moved_at = trio.current_time()
                for number, event in self.http2.receive(data):
                    self._hand_over(number, event)
                for number, why in self.http2.malformed:
                    self._reset_malformed(number, why)
                self.http2.malformed.clear()
                self._push()
                if self._is_writing and self.http2.unsent > MAX_UNSENT_BYTES:
                    await self._written.wait()
        except ConnectionLost as lost:
            self._end(PeerGone(str(lost)))
        except ProtocolError as fault:
            self.is_broken_protocol = True
            self.http2.close(PROTOCOL_ERROR)
            self._link.send_last(self.http2.take())
            self._end(PeerGone(fault.message))

    async def _write(self, scope: trio.CancelScope) -> None:
        while True:
            await self._kicked.wait()
            self._kicked = trio.Event()
            pending, self._pending = self._pending, None
            if pending is None:
                continue
            try:
                await pending
                while data := self.http2.take():
                    await send(self._link, data)
            except ConnectionLost as lost:
                self._end(PeerGone(str(lost)))
                scope.cancel()
                return
            self._is_writing = False
            self._written.set()

    def _end(self, gone: PeerGone) -> None:
        if self.ended is None:
            self.ended = gone
            self._written.set()
            if self.on_end is not None:
                self.on_end()
        for stream in list(self._streams.values()):
            stream.lose(self.ended)

    def _reset_malformed(self, number: int, why: str) -> None:
        self.http2.reset(number, PROTOCOL_ERROR)
        stream = self._streams.get(number)
        if stream is not None:
            stream.lose(PeerGone(f"malformed: {why}"))

    def _hand_over(self, number: int, event: StreamEvent) -> None:
        match event:
            case WindowOpened():
                for stream in [self._streams.get(number)] if number else list(self._streams.values()):
                    if stream is not None:
                        stream.open_window()
                if not number:
                    return
            case ConnectionEnding(last_stream=last):
                self.takes_no_more = True
                if self.is_server:
                    return  # it counts the streams that we have opened, which are none
                self._is_closing = True
                for opened, stream in list(self._streams.items()):
                    if opened > last:
                        stream.lose(PeerGone("the target takes no more requests", is_unheard=True))
            case StreamReset(code=code):
                stream = self._streams.get(number)
                if stream is not None:
                    stream.lose(PeerGone(f"reset by the peer ({code})", is_unheard=code == REFUSED_STREAM))
            case RequestHead():
                self._open_request(number, event)
            case Received() | MessageEnded() | ResponseHead():
                stream = self._streams.get(number)
                if stream is not None:
                    stream.take(event)
                elif isinstance(event, Received):
                    self.http2.acknowledge(number, event.flow_bytes)

    def _open_request(self, number: int, head: RequestHead) -> None:
        stream = Http2Request(self, number, head)
        self._streams[number] = stream
        if self._on_request is None or self.takes_no_more:
            self.http2.reset(number, REFUSED_STREAM)
            self.forget(number)
            return
        self._on_request(stream)

    def acknowledge(self, number: int, flow_bytes: int) -> None:
        self.http2.acknowledge(number, flow_bytes)

    async def flush(self) -> None:
        """Send what there is, and wait until the kernel has it. Raises ConnectionLost."""
        self._push()
        if self._is_writing:
            await self._written.wait()
            if self.ended is not None:
                raise ConnectionLost(self.ended.reason)

    def flush_soon(self) -> None:
        """From where nothing can wait."""
        try:
            self._push()
        except ConnectionLost:
            return  # the reader says so

    def _push(self) -> None:
        if self.ended is not None:
            raise ConnectionLost(self.ended.reason)
        if self._is_writing:
            return  # the writer takes it along
        data = self.http2.take()
        pending = self._link.send_soon(data) if data else None
        if pending is not None:
            self._is_writing, self._pending = True, pending
            self._written = trio.Event()
            self._kicked.set()
