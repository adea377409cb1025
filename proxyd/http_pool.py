"""Connections to the HTTP targets, kept open and lent to one exchange each (HTTP/1.1) or shared (HTTP/2).

One pool for each target and login. What came back in order is lent again, the latest first; what has been silent for
too long, or says anything while nobody asked, is closed. Owned by the gateway's HTTP door, which runs `HttpPools.run`;
asked by `http_exchange`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio

from protocols.http.http1 import Http1Limits, ResponseReader
from protocols.http.http2 import Http2Limits
from protocols.http.messages import ResponseHead
from proxyd.dialling import dial, os_reason
from proxyd.http1_connection import Http1Target
from proxyd.http2_connection import MAX_SHARED_STREAMS, Http2Connection
from proxyd.http2_streams import Http2Stream
from proxyd.http_streams import TargetStream
from proxyd.http_targets import HttpAccount, HttpTargetRuntime
from proxyd.http_upstream_target import HttpUpstreamTarget
from proxyd.metrics import Metrics
from proxyd.telemetry import Log
from proxyd.tls import TlsStream
from proxyd.tls_engine import HandshakeError
from proxyd.wire import ConnectionLost, Wire

SWEEP_S = 5.0


class TargetUnavailable(Exception):
    """`status`, `text` and `hint` are for the client, `reason` for the log."""

    def __init__(self, status: int, text: str, reason: str, hint: str = "Try again in a moment.") -> None:
        super().__init__(reason)
        self.hint = hint
        self.status = status
        self.text = text
        self.reason = reason


class Lent:
    """An exchange on an HTTP/1.1 connection, which goes back to its pool when it is released in order."""

    __slots__ = ("_is_out", "_pool", "connection", "epoch", "idle_since", "wire")

    def __init__(self, pool: HttpPool, connection: Http1Target, wire: Wire, epoch: int) -> None:
        self._pool = pool
        self._is_out = True
        self.epoch = epoch
        self.connection = connection
        self.wire = wire
        self.idle_since = 0.0

    def lend(self) -> None:
        self._is_out = True

    def release(self) -> None:
        if self._is_out:
            self._is_out = False
            self._pool.take_back(self)


class HttpPool:
    """The connections to one target as one login. `start` runs what reads a shared one."""

    def __init__(
        self,
        target: HttpTargetRuntime,
        upstream: HttpUpstreamTarget,
        start: Callable[[Http2Connection, Wire], None],
        metrics: Metrics,
    ) -> None:
        config = target.config
        self._metrics = metrics
        self._counted: dict[Wire, tuple[int, int]] = {}  # how much of what a connection has carried
        self._upstream = upstream
        self._start = start
        self._idle: list[Lent] = []
        self._shared: list[tuple[Http2Connection, Wire]] = []
        self._limit = config.limits.connections
        self._open = 0
        self._busy: Counter[str] = Counter()  # exchanges under way, by subject
        self._share = config.requests_per_subject(MAX_SHARED_STREAMS)
        self._changed = trio.Event()
        self._idle_s = config.timeouts.idle
        self._connect_s = config.connect_timeout
        self._known_heads: dict[bytes, ResponseHead] = {}
        self._limits1 = Http1Limits(head_bytes=config.limits.response_head)
        # Room for every stream's window: one whose client reads slowly must not hold up the others.
        window = Http2Limits().stream_window * MAX_SHARED_STREAMS
        self._limits2 = Http2Limits(head_bytes=config.limits.response_head, connection_window=window)
        self._protocols = config.protocols
        self._is_sharing = trio.Lock()
        self._epoch = 0  # a connection of an earlier one is not used again

    async def acquire(
        self, subject: str = "", *, is_fresh: bool = False, is_upgrade: bool = False
    ) -> tuple[TargetStream, Callable[[], None]]:
        """A stream for one exchange, and what to call when that is over. Raises TargetUnavailable.

        `subject`: for whom, so that nobody takes all there is; "" for nobody in particular. `is_fresh`: not on a
        connection that was used before. `is_upgrade`: where its protocol can be changed.
        """
        if not subject:
            return await self._acquired(is_fresh=is_fresh, is_upgrade=is_upgrade)
        if self._busy[subject] >= self._share:
            text = f"{self._share} requests of {subject} are under way at the target, and that is the most."
            raise TargetUnavailable(429, text, "the subject's share of the pool is used up")
        self._busy[subject] += 1
        try:
            stream, release = await self._acquired(is_fresh=is_fresh, is_upgrade=is_upgrade)
        except BaseException:
            self._leave(subject)
            raise

        def leave() -> None:
            self._leave(subject)
            release()

        return stream, leave

    def _leave(self, subject: str) -> None:
        self._busy[subject] -= 1
        if not self._busy[subject]:
            del self._busy[subject]

    async def _acquired(self, *, is_fresh: bool, is_upgrade: bool) -> tuple[TargetStream, Callable[[], None]]:
        if not is_upgrade:
            if not is_fresh and (lent := self._quiet()) is not None:
                return lent.connection, lent.release
            if self._shared and (stream := self._room()) is not None:
                return stream, stream.release
        with trio.move_on_after(self._connect_s):
            if is_upgrade:
                return await self._acquire_for_upgrade()
            return await self._acquire_slowly(is_fresh=is_fresh)
        if self._open >= self._limit:
            text = "All connections to the target are in use."
            raise TargetUnavailable(503, text, "the pool of connections is used up")
        text = "The target cannot be reached in time."
        raise TargetUnavailable(504, text, f"no connection within {self._connect_s:g} s")

    async def _acquire_slowly(self, *, is_fresh: bool) -> tuple[TargetStream, Callable[[], None]]:
        while True:
            if not is_fresh and (lent := self._quiet()) is not None:
                return lent.connection, lent.release
            if "h2" in self._protocols and (stream := self._room()) is not None:
                return stream, stream.release
            if self._open >= self._limit and self._idle:
                # A fresh one is wanted, and the old ones hold all the places.
                self._close(self._idle.pop(0))
            if self._open >= self._limit:
                changed = self._changed
                await changed.wait()
                continue
            if "h2" not in self._protocols:
                lent = await self._open_one()
                return lent.connection, lent.release
            async with self._is_sharing:  # one opens, the others wait and share
                if (stream := self._room()) is not None:
                    return stream, stream.release
                if self._open < self._limit:
                    return await self._open_shared()

    async def _acquire_for_upgrade(self) -> tuple[TargetStream, Callable[[], None]]:
        """By HTTP/2 where the target has offered that (RFC 8441, 3), else on an HTTP/1.1 connection of its own."""
        if "h2" in self._protocols:
            stream, release = await self._acquire_slowly(is_fresh=True)
            if not isinstance(stream, Http2Stream):
                return stream, release  # by ALPN the target has chosen HTTP/1.1
            takes_upgrades = False
            try:
                takes_upgrades = await stream.takes_upgrades()
            finally:
                if not takes_upgrades:
                    release()
            if takes_upgrades:
                return stream, release
            if "http/1.1" not in self._protocols:
                raise TargetUnavailable(
                    501,
                    "The target speaks HTTP/2, and does not offer WebSockets over it.",
                    "the target has not announced the extended CONNECT",
                    "Tell the operators of the gateway: its `protocols` need http/1.1 too.",
                )
        await self._wait_for_room()
        lent = await self._open_one(is_upgrade=True)
        return lent.connection, lent.release

    async def _wait_for_room(self) -> None:
        while self._open >= self._limit:
            if self._idle:
                self._close(self._idle.pop(0))
                continue
            changed = self._changed
            await changed.wait()

    def _quiet(self) -> Lent | None:
        while self._idle:
            lent = self._idle.pop()
            lent.lend()
            # Always asked: what a target says behind its answer would be the answer to the next one's request.
            if lent.wire.is_quiet:
                return lent
            self._close(lent)
        return None

    def _room(self) -> Http2Stream | None:
        for connection, _ in self._shared:
            if connection.has_room:
                return connection.open()
        return None

    async def _open_one(self, *, is_upgrade: bool = False) -> Lent:
        self._open += 1
        epoch = self._epoch
        try:
            wire, _ = await self._connect(is_upgrade=is_upgrade)
        except BaseException:
            self._gone()
            raise
        return self._lend(wire, epoch)

    def _lend(self, wire: Wire, epoch: int) -> Lent:
        return Lent(self, Http1Target(wire, ResponseReader(self._limits1, self._known_heads)), wire, epoch)

    async def _open_shared(self) -> tuple[TargetStream, Callable[[], None]]:
        self._open += 1
        epoch = self._epoch
        try:
            wire, protocol = await self._connect()
            if protocol != "h2":
                lent = self._lend(wire, epoch)
                return lent.connection, lent.release
            connection = Http2Connection(wire, self._limits2, is_server=False)
            try:
                await connection.begin()
            except ConnectionLost as lost:
                wire.close()
                raise _unreachable(str(lost)) from lost
            except BaseException:
                wire.close()
                raise
        except BaseException:
            self._gone()
            raise
        self._shared.append((connection, wire))
        connection.takes_no_more = epoch != self._epoch  # this exchange may have it, others open their own
        connection.on_end = lambda: self._forget(connection, wire)
        connection.on_room = self._wake
        self._start(connection, wire)
        stream = connection.open()
        return stream, stream.release

    async def _connect(self, *, is_upgrade: bool = False) -> tuple[Wire, str]:
        """`is_upgrade`: HTTP/1.1 alone will do. Raises TargetUnavailable."""
        upstream = self._upstream
        try:
            transport = await dial(upstream.address)
        except OSError as error:
            raise _unreachable(os_reason(error)) from error
        try:
            tls, engine = None, upstream.engine(is_upgrade=is_upgrade)
            if engine is not None:
                tls = TlsStream(transport, engine)
                await tls.do_handshake(timeout_s=self._connect_s)
            protocol = upstream.version_after(None if tls is None else tls.alpn_protocol)
            if protocol is None or (is_upgrade and protocol != "http/1.1"):
                why = "the target agreed by ALPN on none of its protocols in the configuration"
                raise TargetUnavailable(502, "The target speaks another version of HTTP.", why)
            return Wire(transport, tls, is_eager=True), protocol
        except HandshakeError as fault:
            transport.socket.close()
            text = "The gateway does not trust the target, or the other way round."
            raise TargetUnavailable(502, text, f"TLS: {fault.reason}") from fault
        except BaseException:
            transport.socket.close()
            raise

    # Back

    def take_back(self, lent: Lent) -> None:
        """At the end of an exchange, whatever became of it."""
        self._count(lent.wire)
        if lent.connection.is_ready and lent.epoch == self._epoch:
            lent.idle_since = trio.current_time()
            self._idle.append(lent)
            self._wake()
        else:
            self._close(lent)

    def _count(self, wire: Wire) -> None:
        """Connections live long: the metrics get what has passed since they were told last."""
        received, sent = self._counted.get(wire, (0, 0))
        self._counted[wire] = wire.received_bytes, wire.sent_bytes
        self._metrics.bytes_from_targets += wire.received_bytes - received
        self._metrics.bytes_to_targets += wire.sent_bytes - sent

    def _close(self, lent: Lent) -> None:
        lent.wire.send_last(b"")
        lent.wire.close()
        self._counted.pop(lent.wire, None)
        self._gone()

    def _forget(self, connection: Http2Connection, wire: Wire) -> None:
        self._shared = [one for one in self._shared if one[0] is not connection]
        wire.close()
        self._count(wire)
        del self._counted[wire]
        self._gone()

    def _gone(self) -> None:
        self._open -= 1
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long, and count what shared connections carry."""
        stale = [lent for lent in self._idle if now - lent.idle_since >= self._idle_s]
        self._idle = [lent for lent in self._idle if now - lent.idle_since < self._idle_s]
        for lent in stale:
            self._close(lent)
        for connection, wire in list(self._shared):
            self._count(wire)
            is_stale = connection.takes_no_more or now - connection.moved_at >= self._idle_s
            if not connection.streams and is_stale:
                connection.takes_no_more = True
                wire.send_last(b"")
                wire.close()

    def drop(self) -> None:
        """No connection of now is used again: credentials or trust have changed."""
        self._epoch += 1
        for lent in self._idle:
            self._close(lent)
        self._idle = []
        for connection, _ in self._shared:
            connection.takes_no_more = True

    def close(self) -> None:
        """At the end of the daemon."""
        self.drop()
        for _, wire in self._shared:
            wire.close()


def _unreachable(why: str) -> TargetUnavailable:
    return TargetUnavailable(502, "The target cannot be reached.", why)


class HttpPools:
    """All of them, by target and login. `run` keeps them for as long as the daemon lives."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics
        self._pools: dict[tuple[str, str], HttpPool] = {}
        self._nursery: trio.Nursery | None = None

    def of(self, target: HttpTargetRuntime, account: HttpAccount) -> HttpPool:
        key = (target.facts.name, account.login.name)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = HttpPool(target, account.upstream, self._start, self._metrics)
        return pool

    def _start(self, connection: Http2Connection, wire: Wire) -> None:
        if self._nursery is None:
            raise RuntimeError("the pools are not running")
        self._nursery.start_soon(self._run_shared, connection)

    async def _run_shared(self, connection: Http2Connection) -> None:
        """A fault of ours in there costs the exchanges on it, not the daemon."""
        try:
            await connection.run()
        except Exception:
            self._log.exception("a connection to a target failed")

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                while True:
                    await trio.sleep(SWEEP_S)
                    for pool in self._pools.values():
                        pool.sweep(trio.current_time())
        finally:
            for pool in self._pools.values():
                pool.close()

    def drop(self) -> None:
        for pool in self._pools.values():
            pool.drop()
