"""The doors' sockets: open them, accept under a cap, hand each connection to its handler, close it.

Theory of operation. One task a socket accepts and does nothing else: it never reads from a client, so a
silent one cannot hold it up. Each connection gets a task of its own in the nursery of sessions, so that
accepting can end (the scope around `serve`) while sessions go on. The handler's deadlines are the handler's;
what is here for each connection is the cap of its listener, the guard that turns a crash into one log line,
and the close. When the process is out of descriptors or memory, accepting waits a moment instead of spinning.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from proxyd import config as configuration
from proxyd.addresses import Address
from proxyd.metrics import HandshakeFailure, Metrics
from proxyd.telemetry import Log

BACKLOG = 1024
# accept(2): the system has no room just now; trying again at once would only burn the processor.
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_ROOM_WAIT_S = 0.1
_COMPLAINT_INTERVAL_S = 10.0
_MAX_FAREWELLS = 32
_FAREWELL_TIMEOUT_S = 1.0
_FAREWELL_READ_BYTES = 4096
_UNIX_SOCKET_MODE = 0o660

Handler = Callable[[trio.SocketStream, "ListenerRuntime"], Awaitable[None]]
FullNotice = Callable[["ListenerRuntime"], bytes]


class ListenError(Exception):
    """A listener's socket cannot be opened. `name` is the listener's."""

    def __init__(self, name: str, why: str, remedy: str) -> None:
        super().__init__(f"listener {name}: {why}; {remedy}")
        self.name = name


class Side(Protocol):
    """Something read from files that can be read anew: swapped in one step, or left as it is."""

    def reload(self) -> bool:
        """True when something has changed. Raises, and keeps what it has, when the new files are no good."""


@dataclass(slots=True, eq=False, kw_only=True)
class ListenerRuntime:
    """One listener while it runs; each protocol adds its own.

    `identity` is what it goes by, `open_connections` what was accepted and is not closed yet.
    """

    name: str
    protocol: str
    limits: configuration.ListenerLimits
    identity: configuration.Identity
    open_connections: int = 0

    @property
    def is_full(self) -> bool:
        return self.open_connections >= self.limits.connections

    def sides(self) -> tuple[Side, ...]:
        """What a reload reads anew, in a worker thread."""
        return ()

    def take_identity(self, identity: configuration.Identity) -> None:
        """Go by another `identity`. In a worker thread; raises, and goes by the old one, if that cannot be."""


async def open_sockets(
    listener: configuration.Listener, activated: Mapping[str, Sequence[socket.socket]]
) -> list[trio.SocketListener]:
    """The listener's sockets, listening. `activated`: those that systemd opened. Raises ListenError."""
    if listener.socket is not None:
        return _take_activated(listener.name, listener.socket, activated)
    return await open_address(listener.name, listener.address or Address())


async def open_address(name: str, address: Address) -> list[trio.SocketListener]:
    """Listening sockets at `address`; `name` says what for in ListenError."""
    try:
        if address.is_unix:
            return [open_unix(Path(address.path))]
        return await trio.open_tcp_listeners(address.port, host=address.host, backlog=BACKLOG)
    except OSError as error:
        why = f"{address} cannot be opened ({error.strerror or error})"
        raise ListenError(name, why, "free the address, or choose another") from error


def _take_activated(
    name: str, wanted: str, activated: Mapping[str, Sequence[socket.socket]]
) -> list[trio.SocketListener]:
    sockets = activated.get(wanted, ())
    if not sockets:
        known = ", ".join(sorted(activated)) or "none"
        raise ListenError(
            name,
            f"systemd has handed over no socket named {wanted!r} (it gave: {known})",
            f"start proxyd by a socket unit with FileDescriptorName={wanted}, or give the listener an address",
        )
    return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]


def open_unix(
    path: Path, *, mode: int = _UNIX_SOCKET_MODE, group_id: int | None = None
) -> trio.SocketListener:
    """A listening socket at `path`, at no moment open to more than `mode` says. Raises OSError."""
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        if group_id is not None and path.stat().st_gid != group_id:
            os.chown(path, -1, group_id)
        path.chmod(mode)
        sock.listen(BACKLOG)
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    except BaseException:
        sock.close()
        raise


def _remove_stale(path: Path) -> None:
    """A socket that a killed daemon left behind goes; one that somebody serves, or any other file, stays."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except BlockingIOError:
            return


class Reception:
    """Accepts for any number of sockets. `sessions` is the nursery in which connections live."""

    def __init__(
        self,
        handler: Handler,
        full_notice: FullNotice,
        sessions: trio.Nursery,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._handler = handler
        self._full_notice = full_notice
        self._sessions = sessions
        self._metrics = metrics
        self._log = log
        self._farewells = 0
        self._complained_at: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    async def serve(self, runtime: ListenerRuntime, listener: trio.SocketListener) -> None:
        """Accept until cancelled; closes `listener`. Raises OSError only when the socket itself is broken."""
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _NO_ROOM:
                        raise
                    self._complain("accepting waits for room", runtime, reason=os.strerror(error.errno))
                    await trio.sleep(_NO_ROOM_WAIT_S)
                else:
                    self._receive(runtime, stream)

    def _receive(self, runtime: ListenerRuntime, stream: trio.SocketStream) -> None:
        if runtime.is_full:
            self._metrics.handshake_failed(runtime.name, HandshakeFailure.CONNECTION_LIMIT)
            self._complain("listener is full", runtime, connections=runtime.open_connections)
            self._turn_away(runtime, stream)
            return
        runtime.open_connections += 1
        self._metrics.connection_opened(runtime.name)
        self._sessions.start_soon(self._handle, runtime, stream, name=f"connection to {runtime.name}")

    async def _handle(self, runtime: ListenerRuntime, stream: trio.SocketStream) -> None:
        try:
            await self._guard(runtime, stream)
        finally:
            runtime.open_connections -= 1
            self._metrics.connection_closed(runtime.name)
            stream.socket.close()

    async def _guard(self, runtime: ListenerRuntime, stream: trio.SocketStream) -> None:
        """A crash ends this connection only, and is told once."""
        try:
            await self._handler(stream, runtime)
        except Exception:
            self._log_crash(runtime)
        except BaseExceptionGroup as group:
            faults, rest = group.split(Exception)
            if faults is not None:
                self._log_crash(runtime)
            if rest is not None:
                raise rest from None

    def _log_crash(self, runtime: ListenerRuntime) -> None:
        self._metrics.session_crashes += 1
        self._log.error("session crashed", listener=runtime.name, exc_info=True)

    def _turn_away(self, runtime: ListenerRuntime, stream: trio.SocketStream) -> None:
        """Say why if that costs little: a few at a time get the error, the rest of a flood is just closed."""
        if self._farewells >= _MAX_FAREWELLS:
            stream.socket.close()
            return
        self._farewells += 1
        self._sessions.start_soon(self._bid_farewell, runtime, stream)

    async def _bid_farewell(self, runtime: ListenerRuntime, stream: trio.SocketStream) -> None:
        """Bytes left unread would turn our close into a reset that overtakes the error: read them."""
        try:
            with trio.move_on_after(_FAREWELL_TIMEOUT_S), contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(self._full_notice(runtime))
                await stream.send_eof()
                await stream.receive_some(_FAREWELL_READ_BYTES)
        finally:
            self._farewells -= 1
            stream.socket.close()

    def _complain(self, what: str, runtime: ListenerRuntime, **values: object) -> None:
        """Log at most once in ten seconds a listener and kind; the next line says how many went unsaid."""
        key = f"{runtime.name}\0{what}"
        now = trio.current_time()
        if now - self._complained_at.get(key, -_COMPLAINT_INTERVAL_S) < _COMPLAINT_INTERVAL_S:
            self._unsaid[key] = self._unsaid.get(key, 0) + 1
            return
        self._complained_at[key] = now
        self._log.warning(what, listener=runtime.name, unsaid=self._unsaid.pop(key, 0), **values)
