"""The daemon's life: load, listen, serve, reload, drain, end.

Owns the nurseries, the signals and the order of things. Doors, relay and gates do the work; nothing here knows
a protocol. Called by `proxyd run`.

Theory of operation. Three nurseries, one inside the other: background (catalogs, metrics, admin, watchdog) outlives
sessions, which outlive the doors that accept. SIGHUP reads everything anew and, only if all of it is sound,
swaps what can be swapped. SIGTERM closes the doors first, then ends idle sessions at once and busy ones when
they fall idle or the deadline passes; a second one does not wait. The watchdog is fed from the event loop
itself, so a loop that is stuck is a daemon that gets restarted.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from pathlib import Path

import trio

from policy.llm.budget import day_of
from policy.located_yaml import DocumentError
from policy.view import prepare as prepare_views
from proxyd.addresses import shown_name
from proxyd.admin import AdminServer
from proxyd.config import Config, HttpTarget, Identity
from proxyd.config.differences import differing_keys
from proxyd.doors import AnyDoor, Background
from proxyd.gateway import Gateway, PostgresTargetRuntime, TargetRuntime
from proxyd.http_door import HTTP_DOOR
from proxyd.http_targets import HttpTargetRuntime
from proxyd.listeners import Handler, ListenerRuntime, Reception, Side, open_address, open_sockets
from proxyd.metrics import SessionOutcome
from proxyd.metrics_endpoint import MetricsEndpoint
from proxyd.notify import Notifier, activated_sockets
from proxyd.postgres_door import POSTGRES_DOOR
from proxyd.references import Material
from proxyd.sessions import Session
from proxyd.settings_files import SettingsError
from proxyd.ssh_door import SSH_DOOR
from proxyd.store.budgets import BudgetStore
from proxyd.store.database import Database
from proxyd.store.errors import StoreError
from proxyd.telemetry import Telemetry

DOORS: Mapping[str, AnyDoor] = {"postgres": POSTGRES_DOOR, "ssh": SSH_DOOR, "http": HTTP_DOOR}

# What a reload can change. Anything else that differs is named in the log and waits for a restart.
RELOADABLE = frozenset(
    {
        *("policy", "masking", "identity", "models", "log", "drain_timeout"),
        *("targets", "ssh_authority", "tapes", "limits"),
    }
)

DRAIN_STEP_S = 0.1
GC_THRESHOLDS = (50_000, 20, 50)
LAST_WORDS_S = 2.0
SERVICE_RETRY_S = 1.0
SYNC_INTERVAL_S = 1.0
_DESCRIPTORS_PER_SESSION = 3  # client, target, tape
_SPARE_DESCRIPTORS = 256


async def run_daemon(
    config_path: Path,
    *,
    environment: MutableMapping[str, str] | None = None,
    telemetry: Telemetry | None = None,
    doors: Mapping[str, AnyDoor] = DOORS,
    clock: Callable[[], float] = time.time,
    task_status: trio.TaskStatus[Daemon] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM or SIGINT. Raises DocumentError, ListenError or ActivationError if it cannot start.

    `environment`: by default the process's own; systemd's variables are taken out of it. `task_status` gets
    the daemon once it is ready.
    """
    variables = os.environ if environment is None else environment
    notifier = Notifier.from_environment(variables)
    try:
        activated = activated_sockets(variables)
        material = Material.read(config_path, clock())
        config = material.config
        gateway = Gateway.from_config(
            config, material.policy, telemetry=telemetry or Telemetry(config.log.level), clock=clock
        )
        gateway.metrics.policy_loaded_at = clock()
        for warning in material.warnings:
            gateway.log.warning("configuration warning", what=str(warning))
        _raise_descriptor_limit(config, gateway)
        daemon = Daemon(gateway, config_path, notifier, doors)
        try:
            await daemon.open(activated)
            await daemon.run(task_status)
        finally:
            daemon.close()
    finally:
        notifier.close()


@contextlib.contextmanager
def _collecting_later() -> Iterator[None]:
    """Ten thousand rules are a million objects. The collector would go through them again and again while they are
    made, and every session would wait for it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Daemon:
    """One running daemon: `open` its sockets, `run` it, and `close` what a start that failed has left open."""

    def __init__(
        self, gateway: Gateway, config_path: Path, notifier: Notifier, doors: Mapping[str, AnyDoor] = DOORS
    ) -> None:
        self.gateway = gateway
        self.listeners: list[tuple[ListenerRuntime, list[trio.SocketListener]]] = []
        self.metrics_listeners: list[trio.SocketListener] = []
        self.admin: AdminServer | None = None
        self._config_path = config_path
        self._notifier = notifier
        self._doors = doors
        self._log = gateway.log
        self._is_ready = False
        self._store: Database | None = None

    async def open(self, activated: Mapping[str, Sequence[socket.socket]]) -> None:
        """`activated`: the sockets of systemd. Raises ListenError, StoreError, and what a door's `open` raises."""
        config = self.gateway.config
        for listener in config.listeners:
            runtime = self._doors[listener.protocol].open(listener, self.gateway)
            self.listeners.append((runtime, await open_sockets(listener, activated)))
        if config.store is not None:
            self._store = Database.open(config.store.path)
            self.gateway.budgets = BudgetStore(self._store)
            self.gateway.budgets.forget(day_of(self.gateway.clock()))
        if config.metrics is not None:
            self.metrics_listeners = await open_address("metrics", config.metrics.address)
        if config.admin is not None:
            self.admin = AdminServer.open(config.admin, self.gateway)

    def close(self) -> None:
        if self.admin is not None:
            self.admin.close()
        for listener in (*(one for _, many in self.listeners for one in many), *self.metrics_listeners):
            listener.socket.close()
        if self._store is not None:
            self._store.close()

    async def run(self, task_status: trio.TaskStatus[Daemon] = trio.TASK_STATUS_IGNORED) -> None:
        gateway = self.gateway
        with trio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as background:
                gateway.catalogs.nursery = background
                self._open_background(background)
                await self._open_services(background)
                async with trio.open_nursery() as sessions:
                    async with trio.open_nursery() as doors:
                        self._open_doors(doors, sessions)
                        self._announce()
                        task_status.started(self)
                        await self._obey(signals)
                        doors.cancel_scope.cancel()
                    await self._drain(sessions, signals)
                background.cancel_scope.cancel()
        self._log.info("stopped")

    # Start

    def _open_background(self, background: trio.Nursery) -> None:
        if self._notifier.watchdog_interval_s is not None:
            background.start_soon(self._feed_watchdog, self._notifier.watchdog_interval_s)
        if self.metrics_listeners:
            server = MetricsEndpoint(self.gateway.metrics, lambda: self._is_ready)
            serve = partial(self._guarded, server.serve)
            background.start_soon(trio.serve_listeners, serve, self.metrics_listeners)
        if self.admin is not None:
            background.start_soon(self.admin.serve, name="admin socket")
        background.start_soon(self.gateway.tokens.run, name="issuers")
        if self._store is not None:
            background.start_soon(self._keep_durable, self._store, name="store")
        background.start_soon(self.gateway.keep_credentials, name="credentials of targets")

    async def _keep_durable(self, store: Database) -> None:
        """A power cut loses no more of the store than what was written since the last moment."""
        has_failed = False
        while True:
            await trio.sleep(SYNC_INTERVAL_S)
            if not store.has_news:
                continue
            try:
                await trio.to_thread.run_sync(store.sync)
                has_failed = False
            except StoreError as error:
                if not has_failed:
                    self._log.error("the store cannot be written to the disk", reason=str(error))
                has_failed = True

    async def _open_services(self, background: trio.Nursery) -> None:
        """What the doors in use need behind them. One that cannot start keeps the daemon from starting."""
        for protocol in dict.fromkeys(runtime.protocol for runtime, _ in self.listeners):
            service = self._doors[protocol].background
            if service is not None:
                await background.start(self._keep_serving, protocol, service)

    async def _keep_serving(
        self, protocol: str, service: Background, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """A service that fails later costs its own sessions; it starts again, and other doors do not notice."""
        status = _Status(task_status)
        while True:
            try:
                await service(self.gateway, task_status=status)
                if not status.is_started:
                    raise RuntimeError(f"the service of {protocol} has ended without a start")
            except Exception:
                if not status.is_started:
                    raise
                self._log.exception("service of a door failed, it starts again", protocol=protocol)
            await trio.sleep(SERVICE_RETRY_S)

    def _open_doors(self, doors: trio.Nursery, sessions: trio.Nursery) -> None:
        for runtime, listeners in self.listeners:
            self.gateway.metrics.operations(runtime.protocol)  # shown as 0 from the start
            door = self._doors[runtime.protocol]
            reception = Reception(
                self._handler(door), door.full_notice, sessions, self.gateway.metrics, self._log
            )
            for listener in listeners:
                doors.start_soon(reception.serve, runtime, listener)
                name = listener.socket.getsockname()
                self._log.info("listening", listener=runtime.name, address=shown_name(name))

    def _handler(self, door: AnyDoor) -> Handler:
        async def handle(stream: trio.SocketStream, listener: ListenerRuntime) -> None:
            await door.serve(stream, listener, self.gateway)

        return handle

    def _announce(self) -> None:
        # What was loaded until now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        # Sessions make much and keep little, and hardly any of it in circles: measured, the default of 700 new objects
        # costs some ten per cent of a short statement's time.
        gc.set_threshold(*GC_THRESHOLDS)
        self._is_ready = True
        self._log.info("ready", version=self.gateway.version, policy=self.gateway.policy.version)
        self._notifier.ready(self._status())

    def _status(self) -> str:
        count = len(self.listeners)
        return f"serving {count} listener{'s' if count != 1 else ''}, policy {self.gateway.policy.version}"

    async def _guarded(
        self, serve: Callable[[trio.SocketStream], Awaitable[None]], stream: trio.SocketStream
    ) -> None:
        """A fault of the metrics page is a line in the log, and never the end of the daemon."""
        try:
            await serve(stream)
        except Exception:
            self._log.exception("metrics endpoint failed")

    async def _feed_watchdog(self, interval_s: float) -> None:
        while True:
            self._notifier.alive()
            await trio.sleep(interval_s)

    # Reload

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        """Reload at each SIGHUP; return at the first signal to stop."""
        async for number in signals:
            if number == signal.SIGHUP:
                await self.reload()
            else:
                self._log.info("stopping", signal=signal.Signals(number).name)
                return

    async def reload(self) -> bool:
        """Read everything anew; True when it was sound and is in force, False when the old stays."""
        self._notifier.reloading()
        gateway = self.gateway
        now = gateway.clock()
        try:
            with _collecting_later():
                material = await trio.to_thread.run_sync(Material.read, self._config_path, now)
                await trio.to_thread.run_sync(prepare_views, material.policy, gateway.policy)
            issuers = await trio.to_thread.run_sync(gateway.tokens.prepare, material.config.identity.issuers)
            targets = await trio.to_thread.run_sync(gateway.prepare_targets, material.config.targets)
            await trio.to_thread.run_sync(self._reload_sides, material.config.identity)
        except DocumentError as error:
            for fault in error.faults:
                self._log.error("configuration fault", what=str(fault))
            is_success = False
        except SettingsError as error:
            self._log.error("configuration fault", what=str(error))
            is_success = False
        except Exception:
            self._log.exception("reload crashed")
            is_success = False
        else:
            self._apply(material, targets)
            gateway.tokens.take(issuers)
            is_success = True
            await self._judge_sessions()
        gateway.metrics.reloaded(is_success=is_success, now=now)
        if is_success:
            self._log.info("reloaded", policy=gateway.policy.version)
        else:
            self._log.error("reload refused: the old configuration and policy stay in force")
        self._notifier.ready(self._status() if is_success else f"{self._status()} (last reload refused)")
        return is_success

    async def _judge_sessions(self) -> None:
        """Whoever could not come in now is not left in."""

        def failed(session: Session) -> None:
            self._log.exception("a session could not be judged again", session=session.id)

        ended = await self.gateway.sessions.judge_again(failed)
        if ended:
            self._log.warning("sessions ended by the reload", sessions=ended)

    def _apply(self, material: Material, targets: Mapping[str, TargetRuntime]) -> None:
        gateway, new = self.gateway, material.config
        for warning in material.warnings:
            self._log.warning("configuration warning", what=str(warning))
        waiting = [
            key for key in differing_keys(gateway.config, new) if key.partition(".")[0] not in RELOADABLE
        ]
        if waiting:
            self._log.warning("changed, but needs a restart to take effect", keys=waiting)
        changed = gateway.take_targets(targets)
        if changed:
            self._log.info("targets changed", targets=changed)
            _raise_descriptor_limit(new, gateway)
        gateway.config = gateway.config.model_copy(update={name: getattr(new, name) for name in RELOADABLE})
        gateway.telemetry.set_level(new.log.level)
        gateway.model_prices = new.models.table()
        gateway.http_pools.drop()  # what was opened under other files is not used again
        gateway.swap_policy(material.policy)

    def _reload_sides(self, identity: Identity) -> None:
        """In a worker thread. Each side swaps in one step; one whose files are bad keeps what it has."""
        for runtime, _ in self.listeners:
            with self._keeping("identity", f"listener {runtime.name}"):
                if identity != runtime.identity:
                    runtime.take_identity(identity)
                    runtime.identity = identity
        for name, side in self._sides():
            with self._keeping("files", name):
                if side.reload():
                    self._log.info("files reloaded", side=name)

    def _sides(self) -> Iterator[tuple[str, Side]]:
        for runtime, _ in self.listeners:
            for side in runtime.sides():
                yield f"listener {runtime.name}", side
        for target in self.gateway.targets.values():
            if isinstance(target, PostgresTargetRuntime) and target.upstream.tls is not None:
                yield f"target {target.facts.name}", target.upstream.tls
            for account in target.accounts.values() if isinstance(target, HttpTargetRuntime) else ():
                yield f"target {target.facts.name}", account.upstream
                yield f"target {target.facts.name}, login {account.login.name}", account.injector

    @contextlib.contextmanager
    def _keeping(self, what: str, side: str) -> Iterator[None]:
        try:
            yield
        except SettingsError as error:
            self._log.error(f"new {what} refused, the old stay in use", side=side, reason=str(error))

    # Stop

    async def _drain(self, sessions: trio.Nursery, signals: AsyncIterator[int]) -> None:
        gateway = self.gateway
        timeout_s = gateway.config.drain_timeout
        self._is_ready = False
        gateway.metrics.is_draining = True
        gateway.drain.set()
        count = len(gateway.sessions)
        self._log.info("draining", sessions=count, deadline_s=timeout_s)
        self._notifier.stopping(f"draining {count} sessions")
        async with trio.open_nursery() as watch:
            watch.start_soon(self._end_at_second_signal, sessions, watch, signals)
            await self._wait_for_sessions(sessions, timeout_s)
            watch.cancel_scope.cancel()

    async def _wait_for_sessions(self, sessions: trio.Nursery, timeout_s: float) -> None:
        registry = self.gateway.sessions
        with trio.move_on_after(timeout_s):
            while sessions.child_tasks:
                registry.end_idle(SessionOutcome.DRAINED, "the gateway is shutting down")
                await trio.sleep(DRAIN_STEP_S)
            return
        self._log.warning("drain deadline passed", sessions=len(registry))
        registry.end_all(SessionOutcome.DRAINED, "the gateway is shutting down and does not wait any longer")
        with trio.move_on_after(LAST_WORDS_S):
            while sessions.child_tasks:  # noqa: ASYNC110 (a nursery has no event for "empty")
                await trio.sleep(DRAIN_STEP_S)
        sessions.cancel_scope.cancel()

    async def _end_at_second_signal(
        self, sessions: trio.Nursery, watch: trio.Nursery, signals: AsyncIterator[int]
    ) -> None:
        async for number in signals:
            if number != signal.SIGHUP:
                self._log.warning(
                    "second signal: ending every session now", sessions=len(self.gateway.sessions)
                )
                sessions.cancel_scope.cancel()
                watch.cancel_scope.cancel()
                return


class _Status:
    """Tells the daemon once that a service has started, and remembers it."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status
        self.is_started = False

    def started(self, value: None = None) -> None:
        if not self.is_started:
            self.is_started = True
            self._task_status.started()


def _raise_descriptor_limit(config: Config, gateway: Gateway) -> None:
    """As many descriptors as all listeners together may need, as far as the hard limit allows."""
    connections = sum(listener.limits.connections for listener in config.listeners)
    pooled = sum(
        target.limits.connections * len(target.logins)
        for target in config.targets
        if isinstance(target, HttpTarget)
    )
    wanted = connections * _DESCRIPTORS_PER_SESSION + pooled + _SPARE_DESCRIPTORS
    # Under a system call filter even asking may be forbidden: then the unit's LimitNOFILE= is what counts.
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
            if reachable < wanted:
                gateway.log.warning("file descriptors may run out", limit=reachable, wanted=wanted)
