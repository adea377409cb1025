"""Rows of results on their way to a client: untouched as whole runs, with columns rewritten, or not at all.

A RowDescription decides, at once in the simple protocol, when the first row comes in the extended one. What was
decided for it is remembered with the statement. Called by the replies side; no I/O.
"""

from __future__ import annotations

from protocols.errors import RemoteProtocolError
from protocols.postgres.codec import RowPart, RowRun
from protocols.postgres.exchange import OwedKind
from protocols.postgres.messages import Backend, Frame, RowDescription, decode_backend, error_response
from protocols.postgres.rows import RowRewriter
from proxyd.gates.postgres.copy_out import CopyOut
from proxyd.gates.postgres.detected_results import detection_of
from proxyd.gates.postgres.detecting.values import VALUE_FAULTS as DETECTION_FAULTS
from proxyd.gates.postgres.detecting.values import ValueDetection
from proxyd.gates.postgres.incoming import Incoming
from proxyd.gates.postgres.ledger import Operation
from proxyd.gates.postgres.results import (
    VALUE_FAULTS,
    Outcome,
    Plan,
    formats_of,
    plan_result,
    refuse,
    row_rewriter,
)
from proxyd.gates.postgres.state import State


class StaleCatalog(Exception):
    """A column belongs to a table that the snapshot does not know: read the catalog again, then decide."""


class ResultRows:
    """is_retry: the message has been handled before, and the catalog read again since."""

    def __init__(self, state: State, incoming: Incoming, copies: CopyOut) -> None:
        self._state = state
        self._incoming = incoming
        self._copies = copies
        self.is_retry = False

    def description(self, frame: Frame) -> None:
        state = self._state
        owed = state.exchange.owed
        if state.masks_on and owed and owed[0].kind is OwedKind.QUERY:
            # Plan first: it may ask for a fresh catalog, and then this message is handled again.
            self._begin_result(owed[0], frame.raw)
        operation = state.exchange.answered(frame.type)
        if operation.kind is OwedKind.QUERY:
            operation.description = frame.raw
            self._incoming.emit(operation, frame.raw)
            return
        operation.described(frame.raw)
        self._incoming.emit(operation, frame.raw)
        if state.exchange.locals:
            self._incoming.give_out_local()

    def receive(self, item: RowRun | RowPart) -> None:
        """Rows of a result, or of COPY data."""
        state = self._state
        operation = state.exchange.answered(item.type)
        if operation.hidden:
            raise RemoteProtocolError("rows that nobody asked for")
        if operation.withheld:
            return
        if item.type == Backend.DATA_ROW:
            plan = (operation.plan or self._plan_portal(operation)) if state.masks_on else None
            self._count(item)
            if self._incoming.actions.close is not None:
                return
            raw = item.raw
            if plan is not None:
                if plan.outcome is Outcome.REFUSE:
                    return
                if operation.rewriter is not None:
                    raw = self._rewritten(item, operation, operation.rewriter)
            if state.detection is not None:
                raw = self._detected(item, raw, operation, state.detection)
            if raw:
                self._incoming.out.append(raw)
            return
        if operation.copy is not None or operation.detection is not None:
            self._copies.rows(item, operation)
            return
        self._incoming.out.append(item.raw)

    # What is decided for a result

    def _begin_result(self, operation: Operation, raw: bytes) -> None:
        """Plan the result of a simple Query whose RowDescription has come."""
        plan = self._plan(operation, raw)
        operation.plan = plan
        if plan.outcome is Outcome.REWRITE:
            operation.rewriter = row_rewriter(plan, plan.formats)
        elif plan.outcome is Outcome.REFUSE:
            self._incoming.withhold(operation, plan.denial)

    def _plan_portal(self, operation: Operation) -> Plan:
        """Plan the rows of an Execute from the description of its portal or statement."""
        portal = operation.portal
        if portal is None:
            raise RemoteProtocolError("rows came before their description")
        if portal.plan is None:
            raw = portal.description or portal.prepared.description
            if not raw:
                raise RemoteProtocolError("rows came for a statement that returns none")
            plan = self._plan(operation, raw)
            if plan.outcome is Outcome.REWRITE:
                formats = formats_of(portal.result_formats, plan.column_count)
                if formats is None:
                    raise RemoteProtocolError("result formats do not fit the columns")
                portal.rewriter = row_rewriter(plan, formats)
            portal.plan = plan
        operation.plan = portal.plan
        operation.rewriter = portal.rewriter
        if portal.plan.outcome is Outcome.REFUSE:
            self._incoming.withhold(operation, portal.plan.denial)
        return portal.plan

    def _plan(self, operation: Operation, raw: bytes) -> Plan:
        """The plan for a RowDescription, from the statement's memory or made now. May raise StaleCatalog."""
        state = self._state
        verdict = operation.verdict
        statement = operation.statement
        if statement is not None and verdict is not None and verdict.context is state.judge.context:
            known = statement.plan(raw)
            if known is not None:
                return known
        if not state.refresh() and not self.is_retry:
            raise StaleCatalog
        description = decode_backend(Frame(Backend.ROW_DESCRIPTION, raw))
        if not isinstance(description, RowDescription) or state.masks is None:
            raise RemoteProtocolError("malformed RowDescription")
        plan = plan_result(
            description.fields,
            statement.facts if statement is not None else None,
            statement.obligations if statement is not None else (),
            state.masks,
            state.catalog,
            statement.touches_masked if statement is not None else True,
            is_fresh=self.is_retry,
        )
        if plan.outcome is Outcome.STALE:
            if not self.is_retry:
                raise StaleCatalog
            return refuse("it has a column of a table that the catalog does not show to the gateway")
        if statement is not None and verdict is not None and verdict.context is state.judge.context:
            statement.remember_plan(raw, plan)
        return plan

    # The rows

    def _rewritten(self, item: RowRun | RowPart, operation: Operation, rewriter: RowRewriter) -> bytes:
        if not isinstance(item, RowRun):
            raise RemoteProtocolError("a masked row came in parts")
        try:
            self._state.rows_masked += item.count
            return rewriter.rewrite(item.raw)
        except VALUE_FAULTS:
            refused = refuse("a masked value is not of the shape that its type promises")
            self._incoming.withhold(operation, refused.denial)
            return b""

    def _detected(
        self, item: RowRun | RowPart, raw: bytes, operation: Operation, values: ValueDetection
    ) -> bytes:
        if not raw or operation.withheld:
            return raw
        if not isinstance(item, RowRun):
            raise RemoteProtocolError("a row that detectors look into came in parts")
        try:
            return detection_of(operation, values).rewrite(raw)
        except DETECTION_FAULTS:
            refused = refuse("a value is not of the shape that its type promises")
            self._incoming.withhold(operation, refused.denial)
            return b""

    def _count(self, item: RowRun | RowPart) -> None:
        state = self._state
        limit = state.session.limits.rows
        if isinstance(item, RowRun):
            state.rows += item.count
        elif item.last:
            state.rows += 1
        if limit is not None and state.rows > limit:
            self._incoming.out.append(
                error_response(
                    "FATAL",
                    "53400",
                    f"proxyd: this session has read its {limit} rows",
                    detail="limit: session.rows",
                    hint="Open a new session, or ask for fewer rows.",
                )
            )
            self._incoming.actions.close = "row limit reached"
