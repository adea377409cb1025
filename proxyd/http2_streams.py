"""The streams of an HTTP/2 connection: one exchange each, as either end sees it (`http_streams`).

What comes waits in its stream until it is asked for, within the window that the peer was given; sending waits for the
window of the peer. The connection (`http2_connection`) hands over what comes and carries what goes. A stream whose
protocol was changed, or which is a tunnel, is a link like any other from then on (`http_stream_link`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import trio

from protocols.errors import LocalProtocolError
from protocols.http.http2 import Http2
from protocols.http.http2_events import Received
from protocols.http.messages import Data, Headers, MessageEnded, RequestHead, ResponseHead
from proxyd.http_stream_link import StreamLink
from proxyd.http_streams import PeerGone
from proxyd.wire import ConnectionLost

# Pieces of a body are put together up to this size: many tiny ones would take far more memory than their window says.
MERGED_BYTES: Final = 4096
NO_ERROR: Final = 0
INTERNAL_ERROR: Final = 2
CANCEL: Final = 8

Item: TypeAlias = ResponseHead | Received | MessageEnded


class Carrier(Protocol):
    """The connection, as its streams need it."""

    http2: Http2
    is_server: bool

    @property
    def is_congested(self) -> bool:
        """Does the kernel take nothing more just now?"""

    async def flush(self) -> None:
        """Send what there is, and wait until the kernel has it. Raises ConnectionLost."""

    def flush_soon(self) -> None:
        """From where nothing can wait."""

    def acknowledge(self, number: int, flow_bytes: int) -> None: ...

    def enter(self, stream: Stream) -> None:
        """Its head is sent now. Raises PeerGone."""

    def leave(self) -> None:
        """A stream that was opened was never used."""

    def forget(self, number: int) -> None: ...

    def doubt(self, since: float) -> None:
        """A stream of `since` was given up without an answer."""

    async def takes_upgrades(self) -> bool:
        """As a client: does the target know the extended CONNECT? Waits for its first settings (RFC 8441, 3)."""


class Stream:
    """One exchange, either way."""

    __slots__ = (
        "_arrived",
        "_connection",
        "_ended",
        "_gone",
        "_is_closed",
        "_is_finished",
        "_items",
        "_link",
        "_out",
        "_window",
        "head",
        "number",
        "on_lost",
        "opened_at",
        "upgraded",
    )

    def __init__(self, connection: Carrier, number: int, head: RequestHead) -> None:
        self._connection = connection
        self.number = number
        self.head = head
        self._items: deque[Item] = deque()
        self._arrived: trio.Event | None = None
        self._window: trio.Event | None = None
        self._gone: PeerGone | None = None
        self._ended = False  # everything of the peer's message has come
        self._is_finished = False  # our own message has been sent whole
        self._is_closed = False
        self._link: StreamLink | None = None
        self.upgraded = False
        self.on_lost: Callable[[PeerGone], None] | None = None
        self.opened_at = trio.current_time()
        self._out: list[Data | MessageEnded | RequestHead | ResponseHead] = []

    # What the connection's reader calls

    def take(self, event: Item) -> None:
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
            self._window = None

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

    async def receive_any(self) -> ResponseHead | Data | MessageEnded:
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
                        if item.upgrade:
                            self.count_as_answered()
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
        at = 0
        while at < len(data):
            sent = self.send_now(data[at:], ends=ends)
            at += sent
            await self._connection.flush()
            if not sent:
                await self.window_opened()

    def send_now(self, data: bytes, *, ends: bool = False) -> int:
        """As much of `data` as the peer's window takes; what is put together leaves by a flush. Raises PeerGone.

        `ends`: nothing follows behind the last of it.
        """
        if self._gone is not None:
            raise self._gone
        http2 = self._connection.http2
        try:
            piece = data[: http2.window(self.number)]
            if piece:
                http2.send_data(self.number, piece, ends=ends and len(piece) == len(data))
        except LocalProtocolError as fault:
            raise PeerGone(fault.message) from fault
        return len(piece)

    async def window_opened(self) -> None:
        """Wait until something may be sent. Raises PeerGone."""
        while self._gone is None:
            try:
                if self._connection.http2.window(self.number):
                    return
            except LocalProtocolError as fault:
                raise PeerGone(fault.message) from fault
            if self._window is None:
                self._window = trio.Event()
            await self._window.wait()
        raise self._gone

    def finish_now(self) -> None:
        """Nothing follows. Raises PeerGone."""
        if self._is_finished:
            return
        if self._gone is not None:
            raise self._gone
        try:
            self._connection.http2.send_data(self.number, b"", ends=True)
        except LocalProtocolError as fault:
            raise PeerGone(fault.message) from fault
        self._is_finished = True
        self._connection.http2.finished()

    def count_as_answered(self) -> None:
        """A change of protocol, or a tunnel, has come about: to reset it now is no more than to close it."""
        self._connection.http2.finished()

    # Once it is a link

    @property
    def connection(self) -> Carrier:
        return self._connection

    @property
    def link(self) -> StreamLink:
        if self._link is None:
            self._link = StreamLink(self)
        return self._link

    def leftover(self) -> bytes:
        return b""

    # The end

    def abandon(self, reason: str) -> None:
        if not self._is_finished:
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


class Http2Request(Stream):
    """At the server: `head` is the client's request."""

    def put_head(self, head: ResponseHead) -> None:
        self._put_head(head)

    async def part(self, timeout_s: float) -> None:
        """Both sides end (RFC 8441, 5). A reset would tear the last words out of hands."""
        self.link.send_last(b"")
        await self.link.linger(timeout_s)

    def poll(self) -> Data | MessageEnded | None:
        item = self._poll()
        if isinstance(item, ResponseHead):
            raise PeerGone("a response from a client")
        return item

    async def receive(self) -> Data | MessageEnded:
        item = await self.receive_any()
        if isinstance(item, ResponseHead):
            raise PeerGone("a response from a client")
        return item


class Http2Stream(Stream):
    """At the client: the request goes out, its answer comes in."""

    def put_head(self, head: RequestHead, encoded: bytes = b"") -> None:
        self._put_head(head)

    async def part(self, timeout_s: float) -> None:
        """It is the server that ends first (RFC 6455, 7.1.1). Some stumble over data for what they have ended."""
        await self.link.linger(timeout_s)

    async def takes_upgrades(self) -> bool:
        return await self._connection.takes_upgrades()

    def release(self) -> None:
        if not self._ended and self.number:
            self._connection.doubt(self.opened_at)
        self.close()

    def poll(self) -> ResponseHead | Data | MessageEnded | None:
        return self._poll()

    async def receive(self) -> ResponseHead | Data | MessageEnded:
        return await self.receive_any()
