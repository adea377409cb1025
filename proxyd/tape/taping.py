"""The tape of one session as the relay uses it: verdicts become judgement frames, each written once.

Between the gate's verdicts and the recorder's frames; every call is synchronous and raises TapeError when the tape
cannot take it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from policy.decision import Decision, Effect, Reason
from proxyd.gates.postgres.denials import Denial
from proxyd.gates.postgres.judge import Verdict
from proxyd.tape.entries import TapeHeader
from proxyd.tape.recorder import TapeRecorder

MAX_KNOWN_VERDICTS = 10_000


class SessionTape:
    """Records one session. `requests` counts what clients sent, in batches."""

    def __init__(self, recorder: TapeRecorder) -> None:
        self._recorder = recorder
        self._known: dict[Verdict, int] = {}
        self.requests = 0
        self.request_bytes = 0

    @classmethod
    def open(cls, directory: Path, header: TapeHeader, reply_limit_bytes: int) -> SessionTape:
        return cls(
            TapeRecorder.create(directory, header, reply_limit_bytes=reply_limit_bytes, clock=time.monotonic)
        )

    @property
    def path(self) -> Path:
        return self._recorder.path

    def request(self, operation: int, verdicts: tuple[Verdict, ...], raw: bytes) -> None:
        self.requests += 1
        known = self._known
        identifiers = tuple(
            [known[verdict] if verdict in known else self._judgement(verdict) for verdict in verdicts]
        )
        self._recorder.request(operation, identifiers, raw)

    def _judgement(self, verdict: Verdict) -> int:
        if len(self._known) >= MAX_KNOWN_VERDICTS:
            self._known.clear()
        facts = tuple(statement.facts for statement in verdict.statements)
        decisions = tuple(statement.decision for statement in verdict.statements)
        if verdict.denial is not None and all(decision.effect is Effect.ALLOW for decision in decisions):
            # Refused for a reason outside the policy: a text that cannot be parsed, a limit, a changed catalog.
            decisions = (*decisions, _refusal(verdict.denial, verdict.context.policy_version))
        identifier = self._recorder.judgement(verdict.text, facts, decisions, verdict.context.policy_version)
        self._known[verdict] = identifier
        return identifier

    def reply(self, operation: int, raw: bytes, ends: bool) -> None:
        self._recorder.reply(operation, raw, is_last=ends)
        if ends:
            self._recorder.reply_end(operation)

    def event(self, name: str, data: dict[str, Any]) -> None:
        self._recorder.event(name, data)

    def end(self, reason: str) -> str:
        """Finish the tape; its final chain hash, which proves the whole tape when it is kept elsewhere.

        A recorder that has failed already is only closed.
        """
        if self._recorder.is_usable:
            return self._recorder.end(reason)
        self._recorder.close()
        return self._recorder.chain

    @property
    def bytes_written(self) -> int:
        return self._recorder.bytes_written


def _refusal(denial: Denial, policy_version: str) -> Decision:
    return Decision(Effect.DENY, (Reason("", denial.message, denial.hint),), policy_version=policy_version)
