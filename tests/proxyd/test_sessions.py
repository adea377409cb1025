"""The registry of live sessions."""

from __future__ import annotations

import pytest

from proxyd.metrics import SessionOutcome
from proxyd.sessions import Session, Sessions, SubjectLimitReached


def session_of(identifier: str = "", subject: str = "ann", **more: object) -> Session:
    values = {
        "id": identifier or Sessions.new_id(),
        "listener": "postgres",
        "protocol": "postgres",
        "subject": subject,
        "target": "shop",
        "login": "readonly",
        "client": "127.0.0.1:50000",
        "started_at": 1.0,
    }
    return Session(**(values | more))  # type: ignore[arg-type]


async def test_a_session_is_there_for_the_length_of_the_block() -> None:
    registry = Sessions()
    session = session_of()
    with registry.entered(session, 10):
        assert list(registry) == [session]
        assert len(registry) == 1
        assert not session.gone.is_set()
    assert list(registry) == []
    assert session.gone.is_set()


async def test_sessions_without_a_cancel_key_live_side_by_side() -> None:
    registry = Sessions()
    with registry.entered(session_of(), 10):
        with registry.entered(session_of(), 10):
            assert len(registry) == 2
        assert len(registry) == 1
        assert registry.by_cancel_key(0, b"") is None


async def test_a_cancel_key_belongs_to_its_session() -> None:
    registry = Sessions()
    session = session_of(process_id=registry.new_process_id(), secret_key=b"1234")
    with registry.entered(session, 10):
        assert registry.by_cancel_key(session.process_id, b"1234") is session
        assert registry.by_cancel_key(session.process_id, b"1235") is None
        assert registry.by_cancel_key(session.process_id ^ 1, b"1234") is None
    assert registry.by_cancel_key(session.process_id, b"1234") is None


async def test_a_subject_has_a_limit_on_each_listener() -> None:
    registry = Sessions()
    with registry.entered(session_of(), 1):
        with pytest.raises(SubjectLimitReached), registry.entered(session_of(), 1):
            pass
        with (
            registry.entered(session_of(subject="bob"), 1),
            registry.entered(session_of(listener="other"), 1),
        ):
            assert len(registry) == 3
    with registry.entered(session_of(), 1):
        assert len(registry) == 1


async def test_a_session_is_found_by_the_beginning_of_its_id() -> None:
    registry = Sessions()
    one, two, three = session_of("abc1"), session_of("abd2"), session_of("abc")
    with registry.entered(one, 10), registry.entered(two, 10), registry.entered(three, 10):
        assert registry.beginning("abd") == [two]
        assert registry.beginning("ab") == [one, two, three]
        assert registry.beginning("abc") == [three]
        assert registry.beginning("x") == []


async def test_idle_ones_are_ended_apart() -> None:
    registry = Sessions()
    ended: list[tuple[str, SessionOutcome, str]] = []
    idle, busy = session_of("idle", is_idle=lambda: True), session_of("busy")
    for session in (idle, busy):
        session.end = lambda outcome, reason, name=session.id: ended.append((name, outcome, reason))
    with registry.entered(idle, 10), registry.entered(busy, 10):
        assert registry.end_idle(SessionOutcome.DRAINED, "stop") == 1
        assert ended == [("idle", SessionOutcome.DRAINED, "stop")]
        registry.end_all(SessionOutcome.ENDED, "go")
        assert ended[1:] == [("idle", SessionOutcome.ENDED, "go"), ("busy", SessionOutcome.ENDED, "go")]


class Ended:
    """What was done to one session, and what is wrong with it now."""

    def __init__(self, problem: str | Exception) -> None:
        self.calls: list[tuple[SessionOutcome, str]] = []
        self._problem = problem
        self.session = session_of(problem=self._say)
        self.session.end = lambda outcome, reason: self.calls.append((outcome, reason))

    def _say(self) -> str:
        if isinstance(self._problem, Exception):
            raise self._problem
        return self._problem


async def test_who_would_not_come_in_now_is_not_left_in() -> None:
    registry = Sessions()
    fine, revoked, broken = Ended(""), Ended("revoked"), Ended(ValueError("broken"))
    failed: list[Session] = []
    with (
        registry.entered(revoked.session, 10),
        registry.entered(broken.session, 10),
        registry.entered(fine.session, 10),
    ):
        assert await registry.judge_again(failed.append) == 2
    assert fine.calls == []
    assert revoked.calls == [(SessionOutcome.REVOKED, "revoked")]
    # What cannot be found out is no reason to let anybody stay.
    assert [outcome for outcome, _ in broken.calls] == [SessionOutcome.REVOKED]
    assert failed == [broken.session]


async def test_who_was_looked_at_before_a_reload_can_tell() -> None:
    registry = Sessions()
    before = registry.generation
    await registry.judge_again(lambda _: None)
    assert registry.generation != before
