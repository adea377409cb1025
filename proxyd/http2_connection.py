"""An HTTP/2 connection while it runs, as server or as client: one reader, and the streams on it.

Theory of operation. One task reads and hands what comes to the streams; whoever has something to send writes. What a
peer may send ahead is bounded by its windows, which are opened again only when a stream has passed its data on: a slow
reader slows its writer. Sending data waits for the peer's window. What the kernel does not take at once is sent by a
second task: an exchange may be given up at any time, and must not leave half a frame before the frames of others. The
reader does not go on while much is unsent, so that a peer which asks without listening is no longer read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

import trio

from protocols.errors import LocalProtocolError, ProtocolError
from protocols.http.http2 import Http2, Http2Limits
from protocols.http.http2_events import (
    ConnectionEnding,
    FarewellHeard,
    Received,
    StreamEvent,
    StreamReset,
    WindowOpened,
)
from protocols.http.messages import MessageEnded, RequestHead, ResponseHead
from proxyd.http2_streams import Http2Request, Http2Stream, Stream
from proxyd.http_link import Link, send
from proxyd.http_streams import PeerGone
from proxyd.wire import ConnectionLost

# Exchanges at a time on one connection to a target.
MAX_SHARED_STREAMS: Final = 100
# Unsent bytes with which a peer is no longer read.
MAX_UNSENT_BYTES: Final = 64 * 1024
# A target that has said nothing at all for so long gets no further streams on this connection.
SILENT_S: Final = 1.0
PROTOCOL_ERROR: Final = 1
REFUSED_STREAM: Final = 7


class Http2Connection:
    """`run` reads until the end; raises nothing but cancellation. `ended` says why it ended.

    `on_end`, `on_room`, `on_farewell`: called when it has ended, when one more stream may be opened, and as a server
    once it takes no more.
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
        self._streams: dict[int, Stream] = {}
        self._received = received
        self.ended: PeerGone | None = None
        self.is_broken_protocol = False
        self.takes_no_more = False
        self.moved_at = trio.current_time()
        self.on_end: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self.on_farewell: Callable[[], None] | None = None
        self._is_closing = False
        self._has_said_farewell = False
        self._unnumbered = 0
        self._settled = trio.Event()
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

    async def takes_upgrades(self) -> bool:
        await self._settled.wait()
        return self.ended is None and self.http2.takes_upgrades

    def open(self) -> Http2Stream:
        """As a client: a new stream. It gets its number with its head, since numbers have to go out in their order."""
        self._unnumbered += 1
        return Http2Stream(self, 0, RequestHead("", "", "", "", ()))

    def enter(self, stream: Stream) -> None:
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
            self._settled.set()
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
                if self.http2.has_peer_settings:
                    self._settled.set()
            case FarewellHeard():
                self.refuse_more()
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

    # Taking leave, as a server

    def say_farewell(self) -> None:
        """No more streams will be taken soon: the client should open its next one elsewhere. Once it has heard that
        (or when `refuse_more` is called) none are."""
        if not self._has_said_farewell:
            self._has_said_farewell = True
            self.http2.say_farewell()
            self.flush_soon()

    def refuse_more(self) -> None:
        if not self.takes_no_more:
            self.takes_no_more = True
            self.http2.refuse_more()
            self.flush_soon()
            if self.on_farewell is not None:
                self.on_farewell()

    def _open_request(self, number: int, head: RequestHead) -> None:
        stream = Http2Request(self, number, head)
        self._streams[number] = stream
        if self._on_request is None or self.takes_no_more:
            self.http2.reset(number, REFUSED_STREAM)
            self.forget(number)
            return
        self._on_request(stream)

    # Sending

    @property
    def is_congested(self) -> bool:
        return self._is_writing

    def acknowledge(self, number: int, flow_bytes: int) -> None:
        self.http2.acknowledge(number, flow_bytes)

    async def flush(self) -> None:
        self._push()
        if self._is_writing:
            await self._written.wait()
            if self.ended is not None:
                raise ConnectionLost(self.ended.reason)

    def flush_soon(self) -> None:
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
