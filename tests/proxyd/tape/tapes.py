"""Builds tapes for the tests: headers, recorders on a clock that is set by hand, and PostgreSQL conversations."""

from __future__ import annotations

from pathlib import Path

from policy.decision import Decision, Effect, Reason
from policy.facts import RelationAccess, SqlFacts, Subject
from proxyd.tape.entries import TapeHeader
from proxyd.tape.recorder import TapeRecorder

STARTED_AT = 1_753_000_000.25  # 2025-07-20 08:26:40.25 UTC
ALLOWED = Decision(Effect.ALLOW, (Reason("read-the-shop", "allowed"),), (), "p1")
DENIED = Decision(Effect.DENY, (Reason("no-secrets-table", "API keys are not readable.", "Ask."),), (), "p1")
FACTS = SqlFacts("select", ("select",), (RelationAccess("select", "shop", "orders"),))


class Clock:
    """Seconds that move only when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def header(session: str = "s1a2b3", **changes: object) -> TapeHeader:
    values: dict[str, object] = {
        "session": session,
        "protocol": "postgres",
        "subject": Subject("alice", ("data",), {"email": "alice@example.com"}),
        "target": "shop",
        "login": "readonly",
        "client": "127.0.0.1:50000",
        "policy_version": "p1",
        "software_version": "0.1.0",
        "started_at": STARTED_AT,
        "target_labels": {"env": "prod"},
        "database": "shop",
    }
    return TapeHeader(**(values | changes))  # type: ignore[arg-type]


def record(
    directory: Path, clock: Clock | None = None, *, reply_limit_bytes: int = 1 << 20, **changes: object
) -> TapeRecorder:
    return TapeRecorder.create(
        directory, header(**changes), reply_limit_bytes=reply_limit_bytes, clock=clock or Clock()
    )


def small_tape(directory: Path, **changes: object) -> Path:
    """A whole tape with a frame of every kind."""
    clock = Clock()
    tape = record(directory, clock, reply_limit_bytes=8, **changes)
    judged = tape.judgement("select 1", [FACTS], [ALLOWED], "p1")
    clock.now_s += 0.001
    tape.request(1, (judged,), b"Q\0\0\0\rselect 1\0")
    clock.now_s += 0.002
    tape.reply(1, b"0123456789")
    tape.reply_end(1)
    tape.event("denied", {"operation": 2, "message": "no"})
    clock.now_s += 1
    tape.end("client left")
    return tape.path
