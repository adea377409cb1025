"""What a protocol brings along: how its listeners are made, how one client is served, what a full listener says.

The daemon knows doors by the name of their protocol and nothing else about them. A door is stateless: what a listener
needs while it runs is in its runtime, what a daemon needs is in the gateway. Made by the module of each protocol,
put together in `proxyd.daemon`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import trio

from proxyd.gateway import Gateway
from proxyd.listeners import ListenerRuntime

ListenerT = TypeVar("ListenerT")
RuntimeT = TypeVar("RuntimeT", bound=ListenerRuntime)


class Background(Protocol):
    """A service that lives as long as the daemon. `started` is called once it can be used."""

    async def __call__(self, gateway: Gateway, *, task_status: trio.TaskStatus[None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Door(Generic[ListenerT, RuntimeT]):
    """One protocol.

    `open` makes the runtime of a listener and reads the files that it names; it raises SettingsError. `serve` returns
    when the connection is over and raises nothing but cancellation. `full_notice` is what a client gets when its
    listener has no room (b"" for nothing); it must be short, and goes out before a byte of the client is looked at.
    """

    open: Callable[[ListenerT, Gateway], RuntimeT]
    serve: Callable[[trio.SocketStream, RuntimeT, Gateway], Awaitable[None]]
    full_notice: Callable[[RuntimeT], bytes]
    background: Background | None = None


# The daemon looks a door up by the protocol of a listener, so the two always belong together; no type says so.
AnyDoor = Door[Any, Any]
