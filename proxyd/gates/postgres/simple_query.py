"""The simple protocol: one text a message; the function call is refused. Called by the requests side; no I/O."""

from __future__ import annotations

from protocols.errors import RemoteProtocolError
from protocols.postgres.exchange import OwedKind
from protocols.postgres.messages import Frame, Query, decode_frontend
from proxyd.gates.postgres.denials import Denial
from proxyd.gates.postgres.effects import expect_effects
from proxyd.gates.postgres.judging import Judging
from proxyd.gates.postgres.ledger import Operation
from proxyd.gates.postgres.outgoing import Outgoing
from proxyd.gates.postgres.refusing import Refusing, drop_unnamed
from proxyd.gates.postgres.state import State


class SimpleQuery:
    def __init__(self, state: State, outgoing: Outgoing, judging: Judging, refusing: Refusing) -> None:
        self._state = state
        self._outgoing = outgoing
        self._judging = judging
        self._refusing = refusing

    def query(self, frame: Frame) -> None:
        outgoing = self._outgoing
        if outgoing.skips(frame):
            return
        too_long = self._judging.too_long(frame)
        if too_long is not None:
            outgoing.raw.append(frame.raw)
            self._refusing.deny_simple(too_long)
            return
        message = decode_frontend(frame)
        if not isinstance(message, Query):
            raise RemoteProtocolError("malformed Query")
        state = self._state
        verdict = self._judging.judge(message.text)
        denial = verdict.denial or self._judging.count_statement()
        if denial is not None:
            outgoing.raw.append(frame.raw)
            self._refusing.deny_simple(denial, verdict)
            return
        outgoing.verdicts.append(verdict)
        outgoing.send(frame)
        operation = Operation(OwedKind.QUERY, verdict)
        expect_effects(state, verdict, operation)
        outgoing.record()
        drop_unnamed(state, operation)
        state.exchange.expect(operation)
        state.end_batch()

    def function_call(self, frame: Frame) -> None:
        if self._outgoing.skips(frame):
            return
        self._outgoing.raw.append(frame.raw)
        self._refusing.deny_simple(
            Denial(
                message="proxyd: the function-call message is refused: it runs any function by number, unseen",
                detail="rule: built-in: fast path",
                hint="Call the function in a SELECT statement.",
            )
        )
