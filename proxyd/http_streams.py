"""One exchange as either end of a connection sees it, whichever version of HTTP the connection speaks.

`put_*` collects, `flush` sends: so a small answer leaves as one write. `poll` gives what is there, `receive` waits.
Implemented by `http1_connection` and `http2_streams`; used by `http_exchange`.
"""

from __future__ import annotations

from typing import Protocol

from protocols.errors import ProtocolError
from protocols.http.messages import Data, Headers, MessageEnded, RequestHead, ResponseHead


class PeerGone(Exception):
    """The peer of this stream has closed, reset or broken it. `reason` is for the log.

    is_untouched: a connection that was kept open has ended before anything was answered: most likely nobody has read
    the request. is_unheard: the target says that nobody has. fault: the peer is there, and has broken the protocol.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_untouched: bool = False,
        is_unheard: bool = False,
        fault: ProtocolError | None = None,
    ) -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason
        self.is_untouched = is_untouched
        self.is_unheard = is_unheard


class ClientStream(Protocol):
    """A request that came in, and its answer. Every method that waits or sends raises PeerGone."""

    head: RequestHead

    @property
    def is_received(self) -> bool:
        """The request has come whole."""

    def poll(self) -> Data | MessageEnded | None: ...
    async def receive(self) -> Data | MessageEnded: ...
    def put_head(self, head: ResponseHead) -> None: ...
    def put_data(self, data: bytes) -> None: ...
    def put_end(self, trailers: Headers = ()) -> None: ...
    async def flush(self) -> None: ...

    def abandon(self, reason: str) -> None:
        """The answer cannot be finished: the client must see that it is not whole."""

    @property
    def is_gone(self) -> bool:
        """Has the client closed, as far as that can be seen without waiting? Not while `receive` waits."""


class TargetStream(Protocol):
    """A request that goes out, and its answer. Every method that waits or sends raises PeerGone."""

    def put_head(self, head: RequestHead, encoded: bytes = b"") -> None:
        """`target` and `authority` of the head go out as they are. `encoded`: the same as HTTP/1.1 has it, if known."""

    def put_data(self, data: bytes) -> None: ...
    def put_end(self, trailers: Headers = ()) -> None: ...
    async def flush(self) -> None: ...
    def poll(self) -> ResponseHead | Data | MessageEnded | None: ...
    async def receive(self) -> ResponseHead | Data | MessageEnded: ...
