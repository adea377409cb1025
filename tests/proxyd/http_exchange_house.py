"""Stand-ins around one HTTP exchange: its client, its targets, its tape, its session. All that happens is in `told`.

house = House([Target(ResponseHead(200, ()), END)])
await house.forward(head)
assert house.told == [...]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from policy.http.masks import HttpMasks
from protocols.http.messages import Data, Headers, MessageEnded, RequestHead, ResponseHead
from proxyd.gates.http.routing import Route
from proxyd.http_exchange_state import ExchangeState
from proxyd.http_forwarding import Forwarding
from proxyd.http_pool import TargetUnavailable
from proxyd.http_streams import PeerGone

Told = list[tuple[Any, ...]]
GET = RequestHead("GET", "/x", "http", "target", ())
POST = RequestHead("POST", "/x", "http", "target", (), body_bytes=None)
WAIT = "wait"  # in a script: what follows comes once somebody waits for it and everybody else does, too


class Script:
    """Events that come one by one; WAIT in it makes `poll` say None once. An exception is raised."""

    def __init__(self, *events: Any) -> None:
        self._events = deque(events)
        self.more = trio.Event()

    def poll(self) -> Any:
        if not self._events:
            return None
        event = self._events[0]
        if event == WAIT:
            return None
        self._events.popleft()
        if isinstance(event, Exception):
            raise event
        return event

    async def receive(self) -> Any:
        await trio.lowlevel.checkpoint()
        while self._events and self._events[0] == WAIT:
            self._events.popleft()
            await trio.testing.wait_all_tasks_blocked()
        event = self.poll()
        if event is not None:
            return event
        await self.more.wait()
        raise PeerGone("the script is over")


class Client:
    """The client's side. `body`: what it sends."""

    def __init__(self, told: Told, head: RequestHead, *body: Any) -> None:
        self.head = head
        self._told = told
        self._script = Script(*body)
        self.fault: PeerGone | None = None
        self.is_gone = False
        self.heads: list[ResponseHead] = []

    @property
    def is_received(self) -> bool:
        return self.head.body_bytes == 0

    def poll(self) -> Any:
        return self._script.poll()

    async def receive(self) -> Any:
        return await self._script.receive()

    def put_head(self, head: ResponseHead) -> None:
        self.heads.append(head)
        self._told.append(("client", head.status))

    def put_data(self, data: bytes) -> None:
        self._told.append(("client", data))

    def put_end(self, trailers: Headers = ()) -> None:
        self._told.append(("client", "end", *trailers))

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
        self._told.append(("client", "flush"))

    def abandon(self, reason: str) -> None:
        self._told.append(("client", "abandoned"))


class Target:
    """One connection to a target. `answer`: what comes back."""

    def __init__(self, *answer: Any, on_flush: PeerGone | None = None) -> None:
        self._script = Script(*answer)
        self._on_flush = on_flush
        self.told: Told = []

    def put_head(self, head: RequestHead, encoded: bytes = b"") -> None:
        self.told.append(("target", head.method, head.target))

    def put_data(self, data: bytes) -> None:
        self.told.append(("target", data))

    def put_end(self, trailers: Headers = ()) -> None:
        self.told.append(("target", "end", *trailers))

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._on_flush is not None:
            raise self._on_flush
        self.told.append(("target", "flush"))

    def poll(self) -> Any:
        return self._script.poll()

    async def receive(self) -> Any:
        return await self._script.receive()


@dataclass
class Tape:
    told: Told
    is_usable: bool = True
    heads: list[Headers] = field(default_factory=list)

    def request_body(self, exchange: int, data: bytes) -> None:
        self.told.append(("tape", "sent", data))

    def request_end(self, exchange: int, trailers: Headers = ()) -> None:
        self.told.append(("tape", "sent whole"))

    def response(self, exchange: int, status: int, headers: Headers, *, made_here: bool) -> None:
        self.heads.append(headers)
        self.told.append(("tape", status))

    def response_body(self, exchange: int, data: bytes) -> None:
        self.told.append(("tape", data))

    def response_end(self, exchange: int, trailers: Headers = ()) -> None:
        self.told.append(("tape", "end"))

    def masked(self, exchange: int, counts: Any) -> None:
        self.told.append(("tape", "masked", dict(counts)))

    def flush(self) -> None:
        self.told.append(("tape", "flush"))


@dataclass
class House:
    """`targets`: the connections that the pool gives, one after the other."""

    targets: list[Target]
    head: RequestHead = GET
    body: tuple[Any, ...] = ()
    masks: HttpMasks = field(default_factory=HttpMasks)
    told: Told = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)
    released: int = 0
    invalidated: int = 0
    body_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        for target in self.targets:
            target.told = self.told
        self.client = Client(self.told, self.head, *self.body)
        self.tape = Tape(self.told)
        upstream = SimpleNamespace(origin="http://target", base_path="")
        injector = SimpleNamespace(invalidate=self._invalidate)
        self.session: Any = SimpleNamespace(
            tape=self.tape,
            subject=SimpleNamespace(name="alice"),
            target=None,
            account=SimpleNamespace(upstream=upstream, injector=injector),
            moved_at=0.0,
            ended=None,
        )
        gateway = SimpleNamespace(
            http_pools=SimpleNamespace(of=lambda _target, _account: self),
            metrics=SimpleNamespace(masked=lambda _: None),
        )
        timeouts = SimpleNamespace(body=self.body_timeout_s)
        listener = SimpleNamespace(config=SimpleNamespace(timeouts=timeouts))
        caller: Any = SimpleNamespace(gateway=gateway, listener=listener)
        self.state = ExchangeState(caller, self.client)
        self.state.session = self.session
        self.state.number = 1
        self.state.route = Route("target", "", "/x", "")

    async def acquire(
        self, subject: str = "", *, is_fresh: bool = False, is_upgrade: bool = False
    ) -> tuple[Target, Callable[[], None]]:
        """As a pool."""
        await trio.lowlevel.checkpoint()
        self.fresh.append(is_fresh)
        if not self.targets:
            raise TargetUnavailable(502, "The target cannot be reached.", "refused")
        return self.targets.pop(0), self._release

    def _release(self) -> None:
        self.released += 1

    def _invalidate(self) -> None:
        self.invalidated += 1

    async def forward(self, body: bytes = b"", masker: Any = None) -> None:
        is_whole = self.head.body_bytes is not None
        await Forwarding(self.state).run(self.session, self.head, self.masks, body, masker, is_whole=is_whole)

    def of(self, who: str) -> Told:
        return [event for event in self.told if event[0] == who]


def gone(reason: str = "closed", **how: bool) -> PeerGone:
    return PeerGone(reason, **how)


__all__ = ["GET", "POST", "WAIT", "Data", "House", "MessageEnded", "ResponseHead", "Target", "gone"]
