"""Moves messages between a client and a target, and does what the gate decides: the only executor of actions.

Theory of operation. Two tasks a session: one reads the client, one reads the target; each asks the gate and then, in
this order, puts the records on the tape and sends. What the tape cannot take is not sent: the session ends. A third
task waits for the session's deadlines. Nothing is queued between the tasks: a peer that does not read stops the task
that writes to it, and that task stops reading from the other side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from policy.decision import Effect, SessionLimits
from protocols.errors import ProtocolError
from protocols.postgres.codec import BackendCodec, FrontendCodec
from protocols.postgres.messages import error_response
from proxyd.catalog import CatalogUnavailable
from proxyd.config import Limits
from proxyd.gates.postgres.actions import Actions, Need
from proxyd.gates.postgres.judge import Verdict
from proxyd.gates.postgres.replies import Replies
from proxyd.gates.postgres.requests import Requests
from proxyd.gates.postgres.state import State
from proxyd.metrics import Metrics, SessionOutcome
from proxyd.tape.errors import TapeError
from proxyd.tape.taping import SessionTape
from proxyd.wire import ConnectionLost, Wire

CATALOG_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 3600.0
_TERMINATING = "terminating connection due to administrator command"


class CatalogRefresh(Protocol):
    async def refresh(self) -> object: ...


class SessionEnd(Exception):
    """Ends a session: why (for the log), and the last message for the client, b"" for none."""

    def __init__(self, outcome: SessionOutcome, reason: str, farewell: bytes = b"") -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.farewell = farewell


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Bytes of one protocol message, either way, and of one SQL text."""

    message_bytes: int
    statement_bytes: int

    @classmethod
    def of(cls, limits: Limits) -> RelayLimits:
        return cls(limits.message, limits.statement)


class ClientLost(Exception):
    """The client has gone: nobody is left to be told."""


def fatal(sqlstate: str, message: str, *, detail: str = "", hint: str = "") -> bytes:
    return error_response("FATAL", sqlstate, message, detail=detail, hint=hint)


def _protocol_end(side: str, fault: ProtocolError) -> SessionEnd:
    if side == "client":
        farewell = fatal(fault.code or "08P01", f"proxyd: {fault.message}")
    else:
        farewell = fatal("08P01", f"proxyd: the target sent what the gateway cannot follow: {fault.message}")
    return SessionEnd(SessionOutcome.PROTOCOL, f"{side} broke the protocol: {fault.message}", farewell)


def last_words(outcome: SessionOutcome, reason: str) -> bytes:
    """What a client is told whose session is ended from outside.

    For a drain and an administrator in the words that PostgreSQL itself uses: drivers know them and reconnect, as they
    do by the code alone where something has been taken away.
    """
    match outcome:
        case SessionOutcome.DRAINED:
            return fatal("57P01", _TERMINATING)
        case SessionOutcome.ENDED:
            return fatal("57P01", _TERMINATING, detail=f"{reason[:1].upper()}{reason[1:]}.")
        case SessionOutcome.REVOKED:
            hint = (
                "Connect again, with what counts now. If you are refused, ask the operators of the gateway."
            )
            return fatal("57P01", f"proxyd: this session was ended: {reason}", hint=hint)
        case SessionOutcome.MAX_AGE:
            return fatal("57P05", "proxyd: this session has reached its maximum age", hint="Connect again.")
        case SessionOutcome.IDLE:
            return fatal("57P05", "proxyd: this session was idle for too long", hint="Connect again.")
        case _:
            return fatal("57P01", f"proxyd: this session was ended: {reason}")


def _ended(outcome: SessionOutcome, reason: str) -> SessionEnd:
    return SessionEnd(outcome, reason, last_words(outcome, reason))


def _stuck() -> SessionEnd:
    farewell = fatal("XX000", "proxyd: the gateway lost track of this session", hint="Connect again.")
    return SessionEnd(SessionOutcome.FAILED, "a message waits for something that cannot come", farewell)


class PostgresRelay:
    """One session's traffic. `run` returns the reason for the end; it raises only for faults of our own."""

    def __init__(
        self,
        client: Wire,
        target: Wire,
        state: State,
        tape: SessionTape,
        catalog: CatalogRefresh,
        limits: RelayLimits,
        metrics: Metrics,
    ) -> None:
        self._client = client
        self._target = target
        self._state = state
        self._tape = tape
        self._catalog = catalog
        self._metrics = metrics
        self._operations = metrics.operations("postgres")
        self._requests = Requests(state, limits.statement_bytes)
        self._replies = Replies(state)
        self._frontend = FrontendCodec(limits.message_bytes)
        self._backend = BackendCodec(limits.message_bytes)
        self._settled = trio.Event()
        self._waits_for_target = False
        self._started_at = self._moved_at = time.monotonic()
        self._end: SessionEnd | None = None
        self._scope: trio.CancelScope | None = None

    @property
    def is_idle(self) -> bool:
        """Nothing is under way: the session may be ended without loss."""
        return self._state.exchange.is_settled and self._state.exchange.transaction_status == ord("I")

    @property
    def idle_s(self) -> float:
        """Seconds since anything moved, either way."""
        return time.monotonic() - self._moved_at

    def end(self, outcome: SessionOutcome, reason: str) -> None:
        """End the session from outside: an administrator, the drain, a deadline."""
        self._finish(_ended(outcome, reason))

    def _finish(self, end: SessionEnd) -> None:
        """The first reason is the one that counts."""
        if self._end is None:
            self._end = end
        if self._scope is not None:
            self._scope.cancel()

    async def run(self, limits: SessionLimits, end_of_age: SessionEnd | None = None) -> SessionEnd:
        """Relay until either side ends. The client has been told why where that makes sense.

        `end_of_age`: what ends the session at `max_age_s`, where that is more than an age.
        """
        with trio.CancelScope() as self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._guard, self._relay_requests)
                nursery.start_soon(self._guard, self._relay_replies)
                if limits.max_age_s is not None or limits.idle_s is not None:
                    nursery.start_soon(self._watch_deadlines, limits, end_of_age)
        # Without a reason it was cancelled from further out: the daemon is stopping.
        end = self._end or _ended(SessionOutcome.DRAINED, "the gateway is shutting down")
        self._client.send_last(end.farewell)
        return end

    async def _guard(self, pump: Callable[[], Awaitable[None]]) -> None:
        """Run one pump; whatever ends it ends the session, with one reason."""
        try:
            await pump()
        except ClientLost as lost:
            self._finish(SessionEnd(SessionOutcome.CLIENT_CLOSED, f"client connection lost: {lost}"))
        except ConnectionLost as lost:
            farewell = fatal("08006", "proxyd: the target closed the connection", hint="Connect again.")
            self._finish(
                SessionEnd(SessionOutcome.TARGET_CLOSED, f"target connection lost: {lost}", farewell)
            )
        except SessionEnd as end:
            self._finish(end)
        except TapeError as fault:
            self._finish(
                SessionEnd(
                    SessionOutcome.TAPE,
                    f"tape cannot be written: {fault}",
                    fatal(
                        "58030",
                        "proxyd: the session cannot be recorded, so it ends here",
                        hint="Nothing after the last answer has reached the target. Tell the operators of the gateway.",
                    ),
                )
            )

    # Client to target

    async def _relay_requests(self) -> None:
        while True:
            try:
                data = await self._client.receive()
            except ConnectionLost as lost:
                raise ClientLost(str(lost)) from lost
            self._moved_at = time.monotonic()
            try:
                actions = self._requests.receive(self._frontend.receive(data))
            except ProtocolError as fault:
                raise _protocol_end("client", fault) from fault
            await self._perform_requests(actions)
            while self._requests.has_kept:
                kept = self._requests.kept_count
                await self._wait_for(actions.need)
                is_settled = self._state.exchange.is_settled
                try:
                    actions = self._requests.receive(())
                except ProtocolError as fault:
                    raise _protocol_end("client", fault) from fault
                await self._perform_requests(actions)
                if is_settled and actions.need is Need.SETTLED and self._requests.kept_count == kept:
                    raise _stuck()  # nothing is left to come that could settle it

    async def _perform_requests(self, actions: Actions) -> None:
        tape = self._tape
        for operation, verdicts, raw in actions.requests:
            tape.request(operation, verdicts, raw)
            self._count(verdicts)
        for name, data in actions.events:
            tape.event(name, data)
        if actions.to_target:
            pieces = actions.to_target
            pending = self._target.send_soon(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            if pending is not None:
                await pending
        owed = self._state.exchange.owed
        if owed and owed[0].reply:
            await self._perform_replies(self._replies.local_replies())
        if actions.close is not None:
            raise SessionEnd(SessionOutcome.CLIENT_CLOSED, actions.close)

    def _count(self, verdicts: tuple[Verdict, ...]) -> None:
        operations = self._operations
        for verdict in verdicts:
            if verdict.denial is None:
                operations.allowed += len(verdict.statements)
                continue
            reasons = [statement.decision for statement in verdict.statements]
            if any(decision.effect is Effect.HOLD for decision in reasons):
                operations.held += 1
            else:
                operations.denied += 1
            for decision in reasons:
                if decision.effect is not Effect.ALLOW:
                    for reason in decision.reasons:
                        self._metrics.denied_by(reason.rule)

    async def _wait_for(self, need: Need | None) -> None:
        if need is Need.CATALOG:
            await self._refresh_catalog()
            return
        await trio.lowlevel.checkpoint()  # whatever happens here, other sessions get their turn
        while not self._state.can_proceed:
            self._settled = trio.Event()
            self._waits_for_target = True
            with trio.move_on_after(ANSWER_TIMEOUT_S) as scope:
                await self._settled.wait()
            self._waits_for_target = False
            if scope.cancelled_caught:
                raise SessionEnd(
                    SessionOutcome.FAILED,
                    "the target did not answer in time",
                    fatal("08006", "proxyd: the target did not answer in time"),
                )

    async def _refresh_catalog(self) -> None:
        try:
            with trio.fail_after(CATALOG_TIMEOUT_S):
                await self._catalog.refresh()
        except (trio.TooSlowError, CatalogUnavailable) as fault:
            raise SessionEnd(
                SessionOutcome.FAILED,
                f"catalog unavailable: {fault}",
                fatal(
                    "57P03",
                    "proxyd: the catalog of the target cannot be read, so nothing can be judged",
                    hint="Try again in a moment. If it stays so, tell the operators of the gateway.",
                ),
            ) from fault

    # Target to client

    async def _relay_replies(self) -> None:
        backend = self._backend
        replies = self._replies
        while True:
            data = await self._target.receive()
            backend.whole_rows = self._state.takes_rows_apart
            try:
                actions = replies.receive(backend.receive(data))
                await self._perform_replies(actions)
                while actions.need is not None:
                    await self._refresh_catalog()
                    actions = replies.receive(())
                    await self._perform_replies(actions)
            except ProtocolError as fault:
                raise _protocol_end("target", fault) from fault
            if self._waits_for_target and self._state.can_proceed:
                self._settled.set()

    async def _perform_replies(self, actions: Actions) -> None:
        tape = self._tape
        for name, data in actions.events:
            tape.event(name, data)
        for operation, raw, ends in actions.replies:
            tape.reply(operation, raw, ends)
        if actions.to_client:
            pieces = actions.to_client
            try:
                pending = self._client.send_soon(pieces[0] if len(pieces) == 1 else b"".join(pieces))
                if pending is not None:
                    await pending
            except ConnectionLost as lost:
                raise ClientLost(str(lost)) from lost
        self._moved_at = time.monotonic()
        if actions.close is not None:
            raise SessionEnd(SessionOutcome.LIMIT, actions.close)

    # Deadlines

    async def _watch_deadlines(self, limits: SessionLimits, end_of_age: SessionEnd | None) -> None:
        max_age_s = limits.max_age_s if limits.max_age_s is not None else math.inf
        idle_s = limits.idle_s if limits.idle_s is not None else math.inf
        while True:
            now = time.monotonic()
            ends_at = self._started_at + max_age_s
            idle_at = self._moved_at + idle_s
            if now >= ends_at:
                self._finish(end_of_age or _ended(SessionOutcome.MAX_AGE, "maximum age reached"))
                return
            if now >= idle_at:
                self.end(SessionOutcome.IDLE, "idle for too long")
                return
            await trio.sleep(min(ends_at, idle_at) - now)
