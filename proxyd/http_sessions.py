"""The sessions of one client connection: one for each subject, target and login that its requests are for.

A session has a tape, an entry in the registry and the limits of its access entry. It begins with the first request and
ends with the connection, when its time is over, or when somebody ends it: what runs in it is cancelled then, and each
exchange tells its client. Called by `http_connection` and `http_exchange`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

import trio

from policy.decision import Effect, SessionLimits
from policy.evaluate import admit
from policy.facts import Subject
from proxyd.gates.http.refusals import Kind, Refusal
from proxyd.gateway import Gateway
from proxyd.http_listener import HttpListenerRuntime
from proxyd.http_targets import HttpAccount, HttpTargetRuntime
from proxyd.identity.standing import Shown
from proxyd.metrics import HandshakeFailure, SessionOutcome
from proxyd.sessions import Session, SubjectLimitReached
from proxyd.standing import access_problem, identity_problem
from proxyd.tape.entries import TapeHeader
from proxyd.tape.errors import TapeError
from proxyd.tape.http_taping import HttpTape, HttpTapeLimits
from proxyd.telemetry import Log

# Sessions of one connection: who shares it among more people or targets loses the one that was idle longest.
MAX_SESSIONS = 32

Key = tuple[tuple[object, ...], str, str]


class Running(Protocol):
    """An exchange under way."""

    def end(self) -> None: ...


class HttpSession:
    """`running`: its exchanges. `ended` says why it is over, None while it is not."""

    def __init__(
        self,
        session: Session,
        subject: Subject,
        target: HttpTargetRuntime,
        account: HttpAccount,
        limits: SessionLimits,
        tape: HttpTape,
        stack: ExitStack,
        gateway: Gateway,
        log: Log,
    ) -> None:
        self.session = session
        self.subject = subject
        self.target = target
        self.account = account
        self.limits = limits
        self.tape = tape
        self.running: set[Running] = set()
        self.requests = 0
        self.ended: tuple[SessionOutcome, str] | None = None
        self.on_end: Callable[[], None] = _nothing
        self.takes_late: Callable[[], bool] = _never
        self._policy: object = gateway.in_force
        self._stack = stack
        self._gateway = gateway
        self._log = log
        self._is_finished = False
        self._has_expired = False
        self._began = self.moved_at = time.monotonic()
        self._expires_at = subject.expires_at
        session.tape_path, session.record = tape.path, tape.event
        session.operations = lambda: self.requests
        session.end = self.end
        session.is_idle = lambda: not self.running and not self.takes_late()
        session.idle_s = lambda: time.monotonic() - self.moved_at

    def end(self, outcome: SessionOutcome, reason: str) -> None:
        """From outside: what runs is cancelled, and no more begins."""
        if self.ended is None:
            self.ended = (outcome, reason)
        for exchange in tuple(self.running):
            exchange.end()
        self.on_end()

    def due(self, now: float) -> None:
        """End it if its time is over. `now` is the gateway's clock, in Unix seconds."""
        if self.ended is not None:
            return
        monotonic, limits = time.monotonic(), self.limits
        if self._expires_at is not None and now >= self._expires_at:
            self._has_expired = True
            self.end(SessionOutcome.MAX_AGE, f"the {_credential_of(self.subject)} has expired")
        elif limits.max_age_s is not None and monotonic - self._began >= limits.max_age_s:
            self.end(SessionOutcome.MAX_AGE, "maximum age reached")
        elif limits.idle_s is not None and monotonic - self.moved_at >= limits.idle_s:
            self.end(SessionOutcome.IDLE, "idle for too long")
        elif self._policy is not self._gateway.in_force:
            self._policy = self._gateway.in_force
            problem = access_problem(self._gateway, self.subject, self.target.facts, self.account.login.name)
            if problem:
                self.end(SessionOutcome.REVOKED, problem)

    def begin_request(self) -> int:
        """The number of the exchange. Raises Refusal."""
        if self.ended is not None or (self._gateway.drain.is_set() and not self.takes_late()):
            raise self.over()
        if self.limits.statements is not None and self.requests >= self.limits.statements:
            raise Refusal(
                403,
                Kind.LIMIT,
                f"This session has made all of the {self.limits.statements} requests that it may make.",
                hint="Connect again.",
                closes=True,
            )
        self.requests += 1
        self.moved_at = time.monotonic()
        return self.requests

    def over(self) -> Refusal:
        """What a request is told that comes too late, or is cut off."""
        outcome, reason = self.ended or (SessionOutcome.DRAINED, "the gateway is shutting down")
        if self._has_expired:
            return expired(self.subject)
        if outcome is SessionOutcome.REVOKED:
            hint = "Connect again, with what counts now."
            return Refusal(
                403, Kind.NOT_ADMITTED, f"This session was ended: {reason}.", hint=hint, closes=True
            )
        status = 503 if outcome is SessionOutcome.DRAINED else 403
        return Refusal(
            status, Kind.LIMIT, f"This session was ended: {reason}.", hint="Connect again.", closes=True
        )

    def finish(self, outcome: SessionOutcome, reason: str) -> None:
        """Close the tape and leave the registry."""
        if self._is_finished:
            return
        self._is_finished = True
        if self.ended is not None:
            outcome, reason = self.ended
        else:
            self.ended = (outcome, reason)
        metrics, tape = self._gateway.metrics, self.tape
        chain = ""
        try:
            chain = tape.end(reason)
        except TapeError as fault:
            metrics.tape_errors += 1
            self._log.error("tape could not be finished", reason=str(fault))
        metrics.tape_bytes += tape.bytes_written
        metrics.session_ended(self.session.listener, "http", outcome)
        self._log.info(
            "session ended", reason=reason, outcome=outcome.value, operations=self.requests, chain=chain
        )
        self._stack.close()


def _nothing() -> None:
    """Nobody waits for the end."""


def _never() -> bool:
    """A drain finds every session idle that has nothing under way."""
    return False


class HttpSessions:
    """Those of one connection. `one_ended` is set when one of them has been ended, until the next `check`.

    `takes_late`: in a drain, what the client sends is still taken, for it has not heard of that yet.
    """

    def __init__(self, listener: HttpListenerRuntime, gateway: Gateway, log: Log, client: str) -> None:
        self._listener = listener
        self._gateway = gateway
        self._log = log
        self._client = client
        self._open: dict[Key, HttpSession] = {}
        self._by_identity: dict[tuple[int, str, str], HttpSession] = {}
        self.one_ended = trio.Event()
        self.takes_late = False

    def all(self) -> tuple[HttpSession, ...]:
        return tuple(self._open.values())

    def get(
        self,
        subject: Subject,
        target: HttpTargetRuntime,
        account: HttpAccount,
        shown_of: Callable[[Subject], tuple[Shown, ...]],
    ) -> HttpSession:
        """The session for these, begun now if need be. shown_of: what makes them the subject. Raises Refusal."""
        quick = (id(subject), target.facts.name, account.login.name)
        found = self._by_identity.get(quick)
        if found is not None and found.subject is subject:
            found.due(self._gateway.clock())
            if found.ended is None:
                return found
        key = (_identity_of(subject), target.facts.name, account.login.name)
        session = self._open.get(key)
        if session is not None:
            session.due(self._gateway.clock())
            if session.ended is not None:
                over = session.over()
                if not session.running:
                    self._drop(key)
                raise over
        else:
            session = self._begin(key, subject, target, account, shown_of(subject))
        if len(self._by_identity) > 4 * MAX_SESSIONS:
            self._by_identity.clear()
        self._by_identity[quick] = session
        return session

    def _drop(self, key: Key) -> None:
        session = self._open.pop(key)
        self._by_identity = {k: v for k, v in self._by_identity.items() if v is not session}
        session.finish(SessionOutcome.CLIENT_CLOSED, "over")

    def _begin(
        self,
        key: Key,
        subject: Subject,
        target: HttpTargetRuntime,
        account: HttpAccount,
        shown: tuple[Shown, ...],
    ) -> HttpSession:
        gateway = self._gateway
        if subject.expires_at is not None and gateway.clock() >= subject.expires_at:
            raise expired(subject)
        limits = self._admitted(subject, target, account)
        self._make_room()
        session = Session(
            id=gateway.sessions.new_id(),
            listener=self._listener.name,
            protocol="http",
            subject=subject.name,
            target=target.facts.name,
            login=account.login.name,
            client=self._client,
            started_at=gateway.clock(),
            problem=lambda: (
                identity_problem(shown) or access_problem(gateway, subject, target.facts, account.login.name)
            ),
        )
        log = self._log.bind(
            session=session.id, subject=subject.name, target=target.facts.name, login=account.login.name
        )
        with ExitStack() as stack:
            try:
                per_subject = self._listener.limits.connections_per_subject
                stack.enter_context(gateway.sessions.entered(session, per_subject))
            except SubjectLimitReached as limit:
                gateway.metrics.handshake_failed(self._listener.name, HandshakeFailure.SUBJECT_LIMIT)
                raise Refusal(
                    429,
                    Kind.LIMIT,
                    f"There are too many sessions of {subject.name} ({limit}).",
                    hint="Close a connection first.",
                ) from limit
            tape = self._open_tape(session, subject, target)
            gateway.metrics.session_opened(self._listener.name, "http")
            opened = HttpSession(
                session, subject, target, account, limits, tape, stack.pop_all(), gateway, log
            )
        log.info("session opened", tape=str(tape.path))
        opened.on_end = self._note_end
        opened.takes_late = lambda: self.takes_late
        self._open[key] = opened
        return opened

    def _make_room(self) -> None:
        if len(self._open) < MAX_SESSIONS:
            return
        idle = [(session.moved_at, key) for key, session in self._open.items() if not session.running]
        if not idle:
            raise Refusal(
                429,
                Kind.LIMIT,
                f"This connection has {MAX_SESSIONS} sessions under way.",
                hint="Use one connection for each person and target.",
            )
        self._drop(min(idle, key=lambda one: one[0])[1])

    def _admitted(self, subject: Subject, target: HttpTargetRuntime, account: HttpAccount) -> SessionLimits:
        gateway = self._gateway
        if gateway.drain.is_set() and not self.takes_late:
            raise Refusal(
                503, Kind.NOT_ADMITTED, "The gateway is shutting down.", hint="Try again in a moment."
            )
        admission = admit(gateway.policy, subject, target.facts, account.login.name, gateway.clock())
        if admission.effect is not Effect.ALLOW:
            raise not_admitted(
                subject, target.facts.name, "; ".join(reason.message for reason in admission.reasons)
            )
        return admission.limits

    def _open_tape(self, session: Session, subject: Subject, target: HttpTargetRuntime) -> HttpTape:
        gateway = self._gateway
        header = TapeHeader(
            session=session.id,
            protocol="http",
            subject=subject,
            target=session.target,
            login=session.login,
            client=session.client,
            policy_version=gateway.policy.version,
            software_version=gateway.version,
            started_at=session.started_at,
            target_labels=target.facts.labels,
        )
        try:
            limits = HttpTapeLimits(gateway.config.tapes.reply_limit)
            return HttpTape.open(gateway.tape_directory, header, limits)
        except TapeError as fault:
            gateway.metrics.tape_errors += 1
            raise Refusal(
                503,
                Kind.INTERNAL,
                "The session cannot be recorded, so it does not begin.",
                hint="Tell the operators of the gateway.",
                reason=f"tape: {fault}",
            ) from fault

    def _note_end(self) -> None:
        self.one_ended.set()

    def check(self) -> bool:
        """End those whose time is over. Called every few seconds, and after an end.

        True when the last of them is over: the connection should not outlive it.
        """
        self.one_ended = trio.Event()
        now = self._gateway.clock()
        has_dropped = False
        for key, session in list(self._open.items()):
            session.due(now)
            if session.ended is not None and not session.running:
                self._drop(key)
                has_dropped = True
        return has_dropped and not self._open

    @property
    def is_ending(self) -> bool:
        """One was ended, and what ran in it is not over yet."""
        return any(session.ended is not None for session in self._open.values())

    def close(self, outcome: SessionOutcome, reason: str) -> None:
        for session in self._open.values():
            session.finish(outcome, reason)
        self._open.clear()
        self._by_identity.clear()


def _identity_of(subject: Subject) -> tuple[object, ...]:
    """Everything that is known of the subject: who comes with another claim has another session."""
    claims = tuple(
        (name, value if isinstance(value, str) else tuple(value))
        for name, value in sorted(subject.claims.items())
    )
    return subject.name, subject.groups, claims, subject.method, subject.expires_at


def _credential_of(subject: Subject) -> str:
    return "token" if subject.method == "oidc" else "certificate"


def expired(subject: Subject) -> Refusal:
    """The session is over because what the subject has shown is."""
    return Refusal(
        401,
        Kind.UNKNOWN,
        f"This session is over: the {_credential_of(subject)} has expired.",
        hint="Get a new one, and send the request again.",
        headers=(("www-authenticate", 'Bearer realm="proxyd", error="invalid_token"'),),
        closes=True,
    )


def not_admitted(subject: Subject, target: str, why: str) -> Refusal:
    """One text for every reason, so that strangers cannot learn which targets and logins there are."""
    return Refusal(
        403,
        Kind.NOT_ADMITTED,
        f'"{subject.name}" has no access to "{target[:128]}".',
        hint="Ask the owners of the gateway's policy for access. A login is named by /t/LOGIN+TARGET/ "
        "or the field Proxyd-Login.",
        reason=f"not admitted to {target[:128]!r}: {why}",
    )
