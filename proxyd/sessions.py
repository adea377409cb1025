"""The live sessions of this process: who they are, how many a subject has, and the keys that cancel them.

The gateway hands out cancel keys of its own, so the target's never leave. Owned by the gateway object; doors enter and
remove their sessions, the daemon's drain and the admin socket list and end them, its reload has each of them judged
again. No I/O of its own: ending, cancelling and recording are done by the session.
"""

from __future__ import annotations

import hmac
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from proxyd.metrics import SessionOutcome

MAX_PROCESS_ID = 0x7FFFFFFF
KEY_BYTES_3_0 = 4
KEY_BYTES_3_2 = 32


class SubjectLimitReached(Exception):
    """The subject has as many sessions as it may have. `limit` is that number."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} sessions are open already")
        self.limit = limit


def _end_nothing(outcome: SessionOutcome, reason: str) -> None:
    """A session that its door cannot end yet: its handshake has a deadline of its own."""


def _nothing_wrong() -> str:
    """A session that nobody can take away."""
    return ""


def _record_nothing(name: str, data: dict[str, Any]) -> None:
    """A session that has no tape yet."""


@dataclass(slots=True, eq=False)
class Session:
    """One live session. What others may do to it is set by its door as soon as it can be done.

    `end` closes it from outside; the door puts outcome and reason into words for its client. `cancel` asks the target
    to stop what is running. `record` puts an event on the session's tape; it raises TapeError. `gone` is set when the
    session is over, its tape included. `detail` says more about the target (a database). `process_id` (0 for none) and
    `secret_key` are what a PostgreSQL client cancels with. `problem` says why the session would not begin now, by what
    is believed and allowed now, "" when it would; it may raise.
    """

    id: str
    listener: str
    protocol: str
    subject: str
    target: str
    login: str
    client: str
    started_at: float
    detail: str = ""
    tape_path: Path | None = None
    process_id: int = 0
    secret_key: bytes = field(default=b"", repr=False)
    end: Callable[[SessionOutcome, str], None] = field(default=_end_nothing, repr=False)
    problem: Callable[[], str] = field(default=_nothing_wrong, repr=False)
    cancel: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    record: Callable[[str, dict[str, Any]], None] = field(default=_record_nothing, repr=False)
    is_idle: Callable[[], bool] = field(default=lambda: False, repr=False)
    idle_s: Callable[[], float] = field(default=lambda: 0.0, repr=False)
    operations: Callable[[], int] = field(default=lambda: 0, repr=False)
    gone: trio.Event = field(default_factory=trio.Event, repr=False)


class Sessions:
    """All of them. `limit_per_subject` counts over one listener, as configured there.

    generation: how often what sessions stand on (policy, identities, certificates) has been read anew. Who was looked
    at in another one than that in which the session begins is looked at again.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._by_id: dict[str, Session] = {}
        self._by_process_id: dict[int, Session] = {}
        self._by_subject: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        """Oldest first, as they are now."""
        return iter(tuple(self._by_id.values()))

    def beginning(self, prefix: str) -> list[Session]:
        """The sessions whose id begins so; one alone when it is the whole id."""
        exact = self._by_id.get(prefix)
        return [exact] if exact is not None else [one for one in self if one.id.startswith(prefix)]

    def new_process_id(self) -> int:
        """A number that no live session has. Random, so that it tells nothing about the others."""
        while True:
            number = secrets.randbelow(MAX_PROCESS_ID) + 1
            if number not in self._by_process_id:
                return number

    @staticmethod
    def new_id() -> str:
        """A session id: 16 hex digits, fit for file names and log lines."""
        return secrets.token_hex(8)

    @staticmethod
    def new_key(length_bytes: int) -> bytes:
        """A secret key to cancel with: 4 bytes for protocol 3.0, 32 for 3.2."""
        return secrets.token_bytes(length_bytes)

    @contextmanager
    def entered(self, session: Session, limit_per_subject: int) -> Iterator[None]:
        """Keep `session` in the registry for the length of the block. Raises SubjectLimitReached."""
        key = (session.listener, session.subject)
        if self._by_subject[key] >= limit_per_subject:
            raise SubjectLimitReached(limit_per_subject)
        self._by_subject[key] += 1
        self._by_id[session.id] = session
        if session.process_id:
            self._by_process_id[session.process_id] = session
        try:
            yield
        finally:
            session.gone.set()
            del self._by_id[session.id]
            self._by_process_id.pop(session.process_id, None)
            self._by_subject[key] -= 1
            if not self._by_subject[key]:
                del self._by_subject[key]

    def by_cancel_key(self, process_id: int, secret_key: bytes) -> Session | None:
        """The session that this key belongs to; compared in constant time."""
        session = self._by_process_id.get(process_id)
        if session is None or not hmac.compare_digest(session.secret_key, secret_key):
            return None
        return session

    def end_idle(self, outcome: SessionOutcome, reason: str) -> int:
        """End the sessions in which nothing is under way; how many those were."""
        idle = [session for session in self if session.is_idle()]
        for session in idle:
            session.end(outcome, reason)
        return len(idle)

    async def judge_again(self, failed: Callable[[Session], None]) -> int:
        """Everything may have changed: end the sessions that would not begin now; how many those were.

        `failed`: a session whose question could not be answered, and which has to end for that. Others get their turn
        between two sessions.
        """
        self.generation += 1
        ended = 0
        for session in self:
            try:
                problem = session.problem()
            except Exception:
                failed(session)
                problem = "the gateway could not find out whether it may go on"
            if problem:
                session.end(SessionOutcome.REVOKED, problem)
                ended += 1
            await trio.lowlevel.checkpoint()
        return ended

    def end_all(self, outcome: SessionOutcome, reason: str) -> None:
        for session in self:
            session.end(outcome, reason)
