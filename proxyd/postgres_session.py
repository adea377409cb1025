"""One PostgreSQL session from admission to its last byte: record, connect the target, welcome, relay, clean up.

Called by `postgres_door` once it is known who is there and where they may go. Raises Refused for what the client is
still to be told; whatever comes later is told by the relay.
"""

from __future__ import annotations

import trio

from protocols.postgres.messages import (
    authentication_ok,
    backend_key_data,
    negotiate_protocol_version,
    parameter_status,
    ready_for_query,
)
from proxyd.catalog import CatalogSource, CatalogUnavailable
from proxyd.gates.postgres.search_path import parse_search_path
from proxyd.gates.postgres.state import SessionSetting, State
from proxyd.gateway import Gateway
from proxyd.metrics import HandshakeFailure, SessionOutcome
from proxyd.postgres_admission import Request, end_of_age, limits_until_expiry
from proxyd.postgres_handshake import Handshake, Refused, refuse
from proxyd.postgres_listener import PostgresListenerRuntime
from proxyd.relay import PostgresRelay, RelayLimits, last_words
from proxyd.sessions import KEY_BYTES_3_0, KEY_BYTES_3_2, Session, SubjectLimitReached
from proxyd.standing import access_problem, identity_problem
from proxyd.tape.entries import TapeHeader
from proxyd.tape.errors import TapeError
from proxyd.tape.taping import SessionTape
from proxyd.telemetry import Log
from proxyd.upstream import PINNED, UpstreamConnection, UpstreamError, connect
from proxyd.upstream_query import query
from proxyd.wire import Wire

ENDED_LINGER_S = 0.25
LAST_WORD_TIMEOUT_S = 2.0
CANCEL_TIMEOUT_S = 2.0

_SOON_GONE = frozenset({SessionOutcome.ENDED, SessionOutcome.REVOKED})


async def serve_session(
    stream: trio.SocketStream,
    greeted: Handshake,
    request: Request,
    listener: PostgresListenerRuntime,
    gateway: Gateway,
    log: Log,
    *,
    session_id: str,
    client: str,
    generation: int,
) -> None:
    """Until it is over. client: its address. generation: of what the client was looked at in. Raises Refused."""
    sessions = gateway.sessions
    minor = min(greeted.startup.minor, 2)

    def problem() -> str:
        return identity_problem(greeted.shown) or access_problem(
            gateway, request.subject, request.target.facts, request.login.name
        )

    session = Session(
        id=session_id,
        listener=listener.name,
        protocol="postgres",
        subject=request.subject.name,
        target=request.target.facts.name,
        login=request.login.name,
        client=client,
        started_at=gateway.clock(),
        detail=request.database,
        process_id=sessions.new_process_id(),
        secret_key=sessions.new_key(KEY_BYTES_3_2 if minor == 2 else KEY_BYTES_3_0),
        problem=problem,
    )
    try:
        with sessions.entered(session, listener.limits.connections_per_subject):
            reason = problem() if sessions.generation != generation else ""
            if reason:
                farewell = last_words(SessionOutcome.REVOKED, reason)
                raise Refused(reason, HandshakeFailure.IDENTITY, farewell)
            await _run_session(stream, greeted, request, session, listener, gateway, log)
    except SubjectLimitReached as limit:
        raise refuse(
            HandshakeFailure.SUBJECT_LIMIT,
            "53300",
            f"proxyd: too many connections for {request.subject.name} ({limit})",
            hint="Close a session first.",
        ) from limit


class _Opening:
    """The time before a session relays. Ended from outside, its client is told so in place of a welcome."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.outcome, self.reason = SessionOutcome.FAILED, "failed"

    def end(self, outcome: SessionOutcome, reason: str) -> None:
        if not self.scope.cancel_called:
            self.outcome, self.reason = outcome, reason
        self.scope.cancel()


async def _run_session(
    stream: trio.SocketStream,
    greeted: Handshake,
    request: Request,
    session: Session,
    listener: PostgresListenerRuntime,
    gateway: Gateway,
    log: Log,
) -> None:
    tape = _open_tape(request, session, gateway)
    outcome = SessionOutcome.FAILED
    reason = "failed"
    upstream: UpstreamConnection | None = None
    session.tape_path, session.record = tape.path, tape.event
    session.operations = lambda: tape.requests
    opening = _Opening()
    session.end = opening.end
    gateway.metrics.session_opened(listener.name, "postgres")
    try:
        with opening.scope:
            catalog = await _ready_catalog(request, gateway)
            upstream = await _connect(request)
            session.cancel = upstream.cancel
            search_path = await _search_path(upstream, request)
            await _welcome(greeted, upstream, session)
        if upstream is None or opening.scope.cancel_called:
            outcome, reason = opening.outcome, opening.reason
            raise Refused(reason, HandshakeFailure.ENDED, last_words(outcome, reason))
        log.info("session opened", database=request.database, tape=str(tape.path))
        client = Wire(stream, greeted.tls, greeted.startup.rest)
        target = Wire(_socket_stream(upstream), upstream.tls, upstream.leftover)
        reports = "search_path" in upstream.parameters
        state = State(_setting(request, gateway, catalog, search_path, reports=reports))
        relay = PostgresRelay(
            client, target, state, tape, catalog, RelayLimits.of(gateway.config.limits), gateway.metrics
        )
        session.end = relay.end
        session.is_idle = lambda: relay.is_idle
        session.idle_s = lambda: relay.idle_s
        farewell = b""
        try:
            limits = limits_until_expiry(request, gateway)
            end = await relay.run(limits, end_of_age(request, limits))
            outcome, reason, farewell = end.outcome, end.reason, end.farewell
        finally:
            _count(gateway, client, target, state)
            try:
                await _stop_target(upstream, state, log)
                if farewell:
                    # A session that somebody wants gone is gone soon; the others read what their client still sends.
                    is_soon = outcome in _SOON_GONE
                    await client.linger(ENDED_LINGER_S if is_soon else LAST_WORD_TIMEOUT_S)
            finally:
                client.close()
                target.close()
    except UpstreamError as fault:
        reason = f"target: {fault.reason}"
        raise refuse(
            HandshakeFailure.TARGET,
            fault.sqlstate,
            f"proxyd: {fault.message}",
            reason=fault.reason,
            hint=fault.hint,
        ) from fault
    except CatalogUnavailable as fault:
        reason = f"catalog: {fault}"
        raise refuse(
            HandshakeFailure.TARGET,
            "57P03",
            "proxyd: the catalog of the target cannot be read, so nothing can be judged",
            reason=str(fault),
            hint="Try again in a moment. If it stays so, tell the operators of the gateway.",
        ) from fault
    finally:
        if upstream is not None:
            await upstream.aclose()
        gateway.metrics.session_ended(listener.name, "postgres", outcome)
        if outcome is SessionOutcome.TAPE:
            gateway.metrics.tape_errors += 1
        chain = ""
        try:
            chain = tape.end(reason)
        except TapeError as fault:
            gateway.metrics.tape_errors += 1
            log.error("tape could not be finished", reason=str(fault))
        gateway.metrics.tape_bytes += tape.bytes_written
        log.info("session ended", reason=reason, outcome=outcome.value, requests=tape.requests, chain=chain)


def _open_tape(request: Request, session: Session, gateway: Gateway) -> SessionTape:
    header = TapeHeader(
        session=session.id,
        protocol="postgres",
        subject=request.subject,
        target=request.target.facts.name,
        login=request.login.name,
        client=session.client,
        policy_version=gateway.policy.version,
        software_version=gateway.version,
        started_at=session.started_at,
        target_labels=request.target.facts.labels,
        database=request.database,
    )
    try:
        return SessionTape.open(gateway.tape_directory, header, gateway.config.tapes.reply_limit)
    except TapeError as fault:
        gateway.metrics.tape_errors += 1
        raise refuse(
            HandshakeFailure.TAPE,
            "58030",
            "proxyd: the session cannot be recorded, so it does not begin",
            reason=f"tape: {fault}",
            hint="Tell the operators of the gateway.",
        ) from fault


async def _ready_catalog(request: Request, gateway: Gateway) -> CatalogSource:
    source = gateway.catalog(request.target, request.database)
    if source.latest is None or source.is_stale:
        await source.refresh()
    return source


async def _connect(request: Request) -> UpstreamConnection:
    target = request.target
    upstream = await connect(
        target.upstream,
        request.login,
        request.database,
        request.parameters,
        deadline_s=target.config.connect_timeout,
    )
    for name, value in PINNED.items():
        told = upstream.parameters.get(name)
        if told != value:
            await upstream.aclose()
            raise refuse(
                HandshakeFailure.TARGET,
                "0A000",
                f"proxyd: the target does not keep {name} at {value}",
                reason=f"{name} is {told!r} on the target",
                hint="Tell the operators of the gateway.",
            )
    return upstream


async def _search_path(upstream: UpstreamConnection, request: Request) -> tuple[str, ...] | None:
    value = upstream.parameters.get("search_path")
    if value is None:
        rows = await query(upstream, "SHOW search_path")
        value = rows[0][0] if rows else None
    return None if value is None else parse_search_path(value)


async def _welcome(greeted: Handshake, upstream: UpstreamConnection, session: Session) -> None:
    startup = greeted.startup
    answer: list[bytes] = []
    if startup.needs_negotiation and not greeted.is_negotiated:
        answer.append(negotiate_protocol_version(startup.negotiated_minor, startup.unsupported_options))
    answer.append(authentication_ok())
    answer += [parameter_status(name, value) for name, value in upstream.parameters.items()]
    answer.append(backend_key_data(session.process_id, session.secret_key))
    answer.append(ready_for_query("I"))
    await greeted.tls.send_all(b"".join(answer))


def _setting(
    request: Request,
    gateway: Gateway,
    catalog: CatalogSource,
    search_path: tuple[str, ...] | None,
    *,
    reports: bool,
) -> SessionSetting:
    return SessionSetting(
        subject=request.subject,
        target=request.target.facts,
        database=request.database,
        login=request.login.name,
        role=request.login.account,
        limits=request.limits,
        policy=lambda: gateway.in_force,
        catalog=catalog,
        cache=gateway.verdicts,
        search_path=search_path,
        reports_search_path=reports,
    )


def _socket_stream(upstream: UpstreamConnection) -> trio.SocketStream:
    if not isinstance(upstream.transport, trio.SocketStream):
        raise RuntimeError("the target is not reached over a socket")
    return upstream.transport


def _count(gateway: Gateway, client: Wire, target: Wire, state: State) -> None:
    metrics = gateway.metrics
    metrics.bytes_from_clients += client.received_bytes
    metrics.bytes_to_clients += client.sent_bytes
    metrics.bytes_from_targets += target.received_bytes
    metrics.bytes_to_targets += target.sent_bytes
    metrics.rows_masked += state.rows_masked
    metrics.results_masked += state.results_masked
    metrics.detected.update(state.detected)


async def _stop_target(upstream: UpstreamConnection, state: State, log: Log) -> None:
    """A statement of a client that has gone must not run on."""
    if state.exchange.is_settled:
        return
    with trio.CancelScope(deadline=trio.current_time() + CANCEL_TIMEOUT_S, shield=True):
        try:
            await upstream.cancel(deadline_s=CANCEL_TIMEOUT_S)
        except UpstreamError as fault:
            log.info("the target could not be told to stop", reason=fault.reason)
