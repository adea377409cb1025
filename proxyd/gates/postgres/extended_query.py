"""The extended protocol: statements parsed, bound, described, executed and closed by name, up to a Sync.

Names are looked up in the session's own ledger; what each stands for is judged when it is parsed and held against the
context again at every Bind and Execute. Called by the requests side; no I/O.
"""

from __future__ import annotations

from protocols.errors import RemoteProtocolError
from protocols.postgres.exchange import OwedKind
from protocols.postgres.messages import (
    Bind,
    Close,
    Describe,
    Execute,
    Frame,
    Parse,
    decode_frontend,
    truncate_name,
)
from proxyd.gates.postgres.effects import expect_effects
from proxyd.gates.postgres.judging import Judging
from proxyd.gates.postgres.ledger import Operation, Portal, Prepared
from proxyd.gates.postgres.outgoing import Outgoing
from proxyd.gates.postgres.refusing import Refusing
from proxyd.gates.postgres.state import State


def _key(name: bytes) -> str:
    if not name:
        return ""
    return truncate_name(name).decode("utf-8", "surrogateescape")


class ExtendedQuery:
    def __init__(self, state: State, outgoing: Outgoing, judging: Judging, refusing: Refusing) -> None:
        self._state = state
        self._outgoing = outgoing
        self._judging = judging
        self._refusing = refusing

    def parse(self, frame: Frame) -> None:
        outgoing = self._outgoing
        if outgoing.skips(frame):
            return
        too_long = self._judging.too_long(frame)
        if too_long is not None:
            outgoing.raw.append(frame.raw)
            self._refusing.deny_extended(frame.type, too_long)
            return
        message = decode_frontend(frame)
        if not isinstance(message, Parse):
            raise RemoteProtocolError("malformed Parse")
        state = self._state
        verdict = self._judging.judge(message.text)
        name = _key(message.statement)
        if verdict.denial is not None:
            outgoing.raw.append(frame.raw)
            if not name and state.prepared.may_have(""):
                self._refusing.close_unnamed()  # as after a failed Parse: nothing unnamed is left to bind
            self._refusing.deny_extended(frame.type, verdict.denial, verdict)
            return
        operation = Operation(OwedKind.PARSE, verdict)
        prepared = Prepared.parsed(message.text, verdict)
        operation.change_name(state.prepared, name, state.exchange.batch, prepared)
        outgoing.verdicts.append(verdict)
        self._forward(frame, operation)

    def bind(self, frame: Frame) -> None:
        outgoing = self._outgoing
        if outgoing.skips(frame):
            return
        message = decode_frontend(frame)
        if not isinstance(message, Bind):
            raise RemoteProtocolError("malformed Bind")
        state = self._state
        batch = state.exchange.batch
        name = _key(message.statement)
        prepared = state.prepared.lookup(name, batch)
        if prepared is None:
            outgoing.raw.append(frame.raw)
            self._refusing.deny_name(frame.type, name, "S")
            return
        denial = self._judging.judge_again(prepared)
        if denial is not None:
            outgoing.raw.append(frame.raw)
            self._refusing.deny_extended(frame.type, denial, prepared.verdict)
            return
        operation = Operation(OwedKind.BIND, prepared.verdict)
        portal = Portal(prepared, prepared.known.facts if prepared.known else None, message.result_formats)
        operation.change_name(state.portals, _key(message.portal), batch, portal)
        self._forward(frame, operation)

    def describe(self, frame: Frame) -> None:
        outgoing = self._outgoing
        if outgoing.skips(frame):
            return
        message = decode_frontend(frame)
        if not isinstance(message, Describe):
            raise RemoteProtocolError("malformed Describe")
        state = self._state
        name = _key(message.name)
        if message.kind == "S":
            operation = Operation(OwedKind.DESCRIBE_STATEMENT)
            operation.prepared = state.prepared.lookup(name, state.exchange.batch)
            is_missing = operation.prepared is None
        else:
            operation = Operation(OwedKind.DESCRIBE_PORTAL)
            operation.portal = state.portals.lookup(name, state.exchange.batch)
            is_missing = operation.portal is None
            if operation.portal is not None:
                operation.portal.is_asked = True
        if is_missing:
            outgoing.raw.append(frame.raw)
            self._refusing.deny_name(frame.type, name, message.kind)
            return
        self._forward(frame, operation)

    def execute(self, frame: Frame) -> None:
        outgoing = self._outgoing
        if outgoing.skips(frame):
            return
        message = decode_frontend(frame)
        if not isinstance(message, Execute):
            raise RemoteProtocolError("malformed Execute")
        state = self._state
        name = _key(message.portal)
        portal = state.portals.lookup(name, state.exchange.batch)
        if portal is None:
            outgoing.raw.append(frame.raw)
            self._refusing.deny_name(frame.type, name, "P")
            return
        prepared = portal.prepared
        before = prepared.verdict
        denial = self._judging.judge_again(prepared) or self._judging.count_statement()
        verdict = prepared.verdict
        if denial is not None:
            outgoing.raw.append(frame.raw)
            self._refusing.deny_extended(frame.type, denial, verdict)
            return
        if verdict is None:
            raise RuntimeError("a prepared statement was allowed without a verdict")
        if verdict is not before:
            portal.forget_description()
        if state.takes_rows_apart and not portal.is_asked:
            self._ask_for_description(portal, message.portal)
        operation = Operation(OwedKind.EXECUTE, verdict)
        operation.portal = portal
        expect_effects(state, verdict, operation)
        if verdict not in outgoing.verdicts:
            outgoing.verdicts.append(verdict)
        self._forward(frame, operation)
        state.batch_has_executed = True

    def _ask_for_description(self, portal: Portal, name: bytes) -> None:
        """Rows come without a description unless somebody asks, and without one no column can be found."""
        portal.is_asked = True
        self._outgoing.actions.to_target.append(Describe("P", name).encode())
        asked = Operation(OwedKind.DESCRIBE_PORTAL)
        asked.hidden = True
        asked.portal = portal
        self._state.exchange.expect(asked)

    def close(self, frame: Frame) -> None:
        if self._outgoing.skips(frame):
            return
        message = decode_frontend(frame)
        if not isinstance(message, Close):
            raise RemoteProtocolError("malformed Close")
        state = self._state
        names = state.prepared if message.kind == "S" else state.portals
        operation = Operation(OwedKind.CLOSE)
        operation.change_name(names, _key(message.name), state.exchange.batch, None)
        self._forward(frame, operation)

    def _forward(self, frame: Frame, operation: Operation) -> None:
        self._outgoing.send(frame)
        self._state.exchange.expect(operation)
        self._state.batch_is_open = True

    def sync(self, frame: Frame) -> None:
        state = self._state
        decode_frontend(frame)
        if state.copies_in:
            if state.copy_has_data:
                raise RemoteProtocolError("Sync is not expected in the middle of COPY data")
            self._outgoing.raw.append(frame.raw)  # the target ignores a Sync while it waits for COPY data
            return
        self._outgoing.send(frame)
        self._outgoing.record()
        state.exchange.expect(Operation(OwedKind.SYNC))
        state.end_batch()

    def flush(self, frame: Frame) -> None:
        decode_frontend(frame)
        if self._state.copies_in:
            return
        self._outgoing.send(frame)
