"""The replies side of the PostgreSQL gate: what the target answers becomes what the client may see.

Theory of operation. Each reply is held against the exchange, which tells whose it is. A RowDescription (or, for COPY,
the judged shape) decides how the rows of that result leave: untouched as whole runs, with columns rewritten, or not at
all. For sessions under masks the texts of errors and notices are withheld where they could carry a value. Replies to
questions of the gateway's own are swallowed. Anything that does not fit raises RemoteProtocolError: the gateway's view
of the conversation and the target's have parted, and the session ends.

No I/O; the relay executes the actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from policy.sql.state import NO_EFFECT
from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.postgres.codec import HEADER_BYTES, RowPart, RowRun
from protocols.postgres.exchange import OwedKind
from protocols.postgres.messages import (
    Backend,
    CopyResponse,
    ErrorFields,
    ErrorResponse,
    Frame,
    NoticeResponse,
    NotificationResponse,
    ParameterStatus,
    RowDescription,
    decode_backend,
    error_response,
    ready_for_query,
)
from protocols.postgres.rows import RowRewriter
from proxyd.gates.actions import Actions, Need
from proxyd.gates.copying import copy_rewriter, rewrite_copy_run
from proxyd.gates.denials import Denial, in_words_of, withhold_values
from proxyd.gates.detected_copies import CopyDetection, copy_detection
from proxyd.gates.detected_results import detected_fields, detection_of
from proxyd.gates.detecting import VALUE_FAULTS as DETECTION_FAULTS
from proxyd.gates.detecting import ValueDetection
from proxyd.gates.judge import JudgedStatement
from proxyd.gates.results import VALUE_FAULTS, Outcome, Plan, formats_of, plan_result, refuse, row_rewriter
from proxyd.gates.search_path import parse_search_path
from proxyd.gates.state import (
    Operation,
    State,
    cursor_by_name,
    forget,
    forget_unheld,
    prepared_by_name,
)

_IDLE = ord("I")
_PINNED = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}

Item = Frame | RowRun | RowPart


class StaleCatalog(Exception):
    """A column belongs to a table that the snapshot does not know: read the catalog again, then decide."""


class Replies:
    """Handles the target's messages for one session."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._kept: deque[Item] = deque()
        self._out: list[bytes] = []
        self._actions = Actions()
        self._is_retry = False
        self._handlers: dict[int, Callable[[Frame], None]] = {
            Backend.ROW_DESCRIPTION: self._row_description,
            Backend.COMMAND_COMPLETE: self._complete,
            Backend.EMPTY_QUERY_RESPONSE: self._complete,
            Backend.READY_FOR_QUERY: self._ready,
            Backend.PARSE_COMPLETE: self._settle_change,
            Backend.BIND_COMPLETE: self._settle_change,
            Backend.CLOSE_COMPLETE: self._settle_change,
            Backend.NO_DATA: self._no_data,
            Backend.PARAMETER_DESCRIPTION: self._pass_on,
            Backend.PORTAL_SUSPENDED: self._suspended,
            Backend.ERROR_RESPONSE: self._error,
            Backend.NOTICE_RESPONSE: self._notice,
            Backend.NOTIFICATION_RESPONSE: self._notification,
            Backend.PARAMETER_STATUS: self._parameter_status,
            Backend.COPY_IN_RESPONSE: self._copy_in,
            Backend.COPY_OUT_RESPONSE: self._copy_out,
            Backend.COPY_DONE: self._copy_done,
        }

    def receive(self, items: Sequence[Item]) -> Actions:
        """Handle what was kept back and then `items`. Raises ProtocolError when the session cannot go on."""
        actions = self._actions = Actions()
        kept = self._kept
        if kept:
            kept.extend(items)
            items = tuple(kept)
            kept.clear()
        handlers = self._handlers
        for position, item in enumerate(items):
            try:
                if isinstance(item, Frame):
                    handler = handlers.get(item.type)
                    if handler is None:
                        raise RemoteProtocolError(
                            f"the target sent message {chr(item.type)!r}, which is not expected"
                        )
                    handler(item)
                else:
                    self._rows(item)
            except StaleCatalog:
                self._is_retry = True
                self._state.session.catalog.mark_stale()
                actions.need = Need.CATALOG
                kept.extend(items[position:])
                break
            self._is_retry = False
            if actions.close is not None:
                break
        self.give_out_local()
        self._record(ends=False)
        return actions

    def local_replies(self) -> Actions:
        """The gateway's own replies whose turn has come although the target has said nothing."""
        actions = self._actions = Actions()
        self.give_out_local()
        self._record(ends=False)
        return actions

    # What the client gets, and the tape with it

    def give_out_local(self) -> None:
        """Give out denials that stand at the head of the ledger."""
        exchange = self._state.exchange
        if not exchange.locals:
            return
        for entry in exchange.take_local():
            if entry.withheld:
                continue
            self._out.append(entry.reply)
            if entry.with_ready:
                self._out.append(ready_for_query(chr(exchange.transaction_status)))
                self._record(ends=True, number=entry.batch)

    def _record(self, *, ends: bool, number: int | None = None) -> None:
        out = self._out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if number is None:
            owed = self._state.exchange.owed
            number = owed[0].batch if owed else self._state.exchange.batch
        self._actions.to_client.append(data)
        self._actions.replies.append((number, data, ends))

    def _emit(self, operation: Operation, raw: bytes) -> None:
        if not operation.hidden and not operation.withheld:
            self._out.append(raw)

    # Extended protocol: confirmations

    def _settle_change(self, frame: Frame) -> None:
        operation = self._state.exchange.answered(frame.type)
        if operation.change is not None:
            names, name = operation.change
            names.confirm(name)
        if not operation.hidden and not operation.withheld:
            self._out.append(frame.raw)
        if self._state.exchange.locals:
            self.give_out_local()

    def _pass_on(self, frame: Frame) -> None:
        operation = self._state.exchange.answered(frame.type)
        self._emit(operation, frame.raw)

    def _no_data(self, frame: Frame) -> None:
        operation = self._state.exchange.answered(frame.type)
        self._describe(operation, b"")
        self._emit(operation, frame.raw)
        self._after_entry()

    def _after_entry(self) -> None:
        """An operation has been settled: a denial may be next in line."""
        if self._state.exchange.locals:
            self.give_out_local()

    def _describe(self, operation: Operation, body: bytes) -> None:
        if operation.prepared is not None:
            operation.prepared.description = body
        if operation.portal is not None:
            operation.portal.description = body
            operation.portal.plan = None
            operation.portal.detection = None

    # Results

    def _row_description(self, frame: Frame) -> None:
        state = self._state
        owed = state.exchange.owed
        if state.masks_on and owed and owed[0].kind is OwedKind.QUERY:
            # Plan first: it may ask for a fresh catalog, and then this message is handled again.
            self._begin_result(owed[0], frame.raw)
        operation = self._state.exchange.answered(frame.type)
        if operation.kind is not OwedKind.QUERY:
            self._describe(operation, frame.raw)
        else:
            operation.description = frame.raw
        self._emit(operation, frame.raw)
        if operation.kind is not OwedKind.QUERY:
            self._after_entry()

    def _begin_result(self, operation: Operation, raw: bytes) -> None:
        """Plan the result of a simple Query whose RowDescription has come."""
        plan = self._plan(operation, raw)
        operation.plan = plan
        if plan.outcome is Outcome.REWRITE:
            operation.rewriter = row_rewriter(plan, plan.formats)
        elif plan.outcome is Outcome.REFUSE:
            self._withhold(operation, plan)

    def _plan(self, operation: Operation, raw: bytes) -> Plan:
        """The plan for a RowDescription, from the statement's memory or made now. May raise StaleCatalog."""
        state = self._state
        verdict = operation.verdict
        statement = self._statement_of(operation)
        if statement is not None and verdict is not None and verdict.context is state.judge.context:
            known = statement.plan(raw)
            if known is not None:
                return known
        if not self._state.refresh() and not self._is_retry:
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
            is_fresh=self._is_retry,
        )
        if plan.outcome is Outcome.STALE:
            if not self._is_retry:
                raise StaleCatalog
            return refuse("it has a column of a table that the catalog does not show to the gateway")
        if statement is not None and verdict is not None and verdict.context is state.judge.context:
            statement.remember_plan(raw, plan)
        return plan

    def _withhold(self, operation: Operation, plan: Plan) -> None:
        """Give the client the reason in place of this result, and nothing more of this operation.

        In the extended protocol the client takes that for the end of the batch: what follows up to Sync is hidden too.
        """
        if operation.withheld:
            return
        operation.withheld = True
        denial = plan.denial or Denial(message="proxyd: result withheld")
        self._out.append(denial.encode())
        self._actions.events.append(("withheld", {"message": denial.message}))
        owed = self._state.exchange.owed
        if not owed or owed[0].kind is OwedKind.QUERY:
            return
        for entry in owed:
            if entry.kind is OwedKind.SYNC:
                return
            entry.withheld = True
        self._state.is_discarding = True

    def _rows(self, item: RowRun | RowPart) -> None:
        state = self._state
        operation = state.exchange.answered(item.type)
        if operation.hidden:
            raise RemoteProtocolError("rows that nobody asked for")
        if operation.withheld:
            return
        if item.type == Backend.DATA_ROW:
            plan = (operation.plan or self._plan_portal(operation)) if state.masks_on else None
            self._count_rows(item)
            if self._actions.close is not None:
                return
            raw = item.raw
            if plan is not None:
                if plan.outcome is Outcome.REFUSE:
                    return
                if operation.rewriter is not None:
                    raw = self._rewritten(item, operation, operation.rewriter)
            if state.detection is not None:
                raw = self._rows_detected(item, raw, operation, state.detection)
            if raw:
                self._out.append(raw)
            return
        if operation.copy is not None or operation.detection is not None:
            self._copy_rows(item, operation)
            return
        self._out.append(item.raw)

    # Detectors

    def _rows_detected(
        self, item: RowRun | RowPart, raw: bytes, operation: Operation, values: ValueDetection
    ) -> bytes:
        if not raw or operation.withheld:
            return raw
        if not isinstance(item, RowRun):
            raise RemoteProtocolError("a row that detectors look into came in parts")
        try:
            return detection_of(operation, values).rewrite(raw)
        except DETECTION_FAULTS:
            self._withhold(operation, refuse("a value is not of the shape that its type promises"))
            return b""

    def _rewritten(self, item: RowRun | RowPart, operation: Operation, rewriter: RowRewriter) -> bytes:
        if not isinstance(item, RowRun):
            raise RemoteProtocolError("a masked row came in parts")
        try:
            self._state.rows_masked += item.count
            return rewriter.rewrite(item.raw)
        except VALUE_FAULTS:
            self._withhold(operation, refuse("a masked value is not of the shape that its type promises"))
            return b""

    def _count_rows(self, item: RowRun | RowPart) -> None:
        state = self._state
        limit = state.session.limits.rows
        if isinstance(item, RowRun):
            state.rows += item.count
        elif item.last:
            state.rows += 1
        if limit is not None and state.rows > limit:
            self._out.append(
                error_response(
                    "FATAL",
                    "53400",
                    f"proxyd: this session has read its {limit} rows",
                    detail="limit: session.rows",
                    hint="Open a new session, or ask for fewer rows.",
                )
            )
            self._actions.close = "row limit reached"

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
            self._withhold(operation, portal.plan)
        return portal.plan

    def _suspended(self, frame: Frame) -> None:
        operation = self._state.exchange.answered(frame.type)
        self._emit(operation, frame.raw)
        self._end_effects(operation)
        self._after_entry()

    def _complete(self, frame: Frame) -> None:
        """CommandComplete or EmptyQueryResponse: one statement is done, and with it what it changes."""
        operation = self._state.exchange.answered(frame.type)
        self._emit(operation, frame.raw)
        self._apply_effect(operation)
        if operation.rewriter is not None or operation.copy is not None:
            self._state.results_masked += 1
        self._tell_detected()
        operation.plan = None
        operation.rewriter = None
        operation.copy = None
        operation.detection = None
        if operation.kind is OwedKind.QUERY:
            operation.index += 1
        else:
            self._end_effects(operation)
            self._after_entry()

    def _apply_effect(self, operation: Operation) -> None:
        verdict = operation.verdict
        if verdict is None or operation.index >= len(verdict.statements):
            return
        statement = verdict.statements[operation.index]
        effect = statement.effect
        state = self._state
        if effect is NO_EFFECT:
            return
        if effect.discards == "all":
            state.prepared.clear()
            state.portals.clear()
        if effect.deallocates is not None:
            forget(state.prepared, effect.deallocates)
        if effect.closes is not None:
            forget(state.portals, effect.closes)
        if effect.prepares is not None:
            name, known = effect.prepares
            state.prepared.settle(name, prepared_by_name(name, known))
        if effect.declares_cursor is not None:
            name, facts = effect.declares_cursor
            state.portals.settle(name, cursor_by_name(name, facts))
        if len(verdict.statements) > 1:
            return  # what a later statement of the text does to the path is not followed
        if effect.resets_search_path or effect.discards == "all":
            operation.new_path = state.session.search_path
        elif effect.changes_search_path:
            operation.new_path = None if effect.is_local else effect.search_path

    def _end_effects(self, operation: Operation) -> None:
        """The text is done, whatever became of it: names are certain again."""
        verdict = operation.verdict
        if verdict is not None and verdict.changes_names and operation.holds_names:
            operation.holds_names = False
            self._state.prepared.release_uncertain()
            self._state.portals.release_uncertain()
        if verdict is not None and verdict.copies_in:
            self._state.awaits_copy = False
            self._state.copies_in = False

    def _ready(self, frame: Frame) -> None:
        state = self._state
        operation = state.exchange.ready(frame.raw[HEADER_BYTES])
        if operation.kind is OwedKind.QUERY:
            self._end_effects(operation)
            if operation.change is not None:
                names, name = operation.change
                names.confirm(name)
        self._out.append(frame.raw)
        if state.exchange.is_settled:
            state.settle_path(operation.new_path)
        if state.exchange.transaction_status == _IDLE:
            if state.portals.confirmed:
                forget_unheld(state.portals)
            if state.changed_catalog:
                state.changed_catalog = False
                state.session.catalog.mark_stale()
        self._record(ends=True, number=operation.batch)
        self._after_entry()

    # COPY

    def _copy_in(self, frame: Frame) -> None:
        operation = self._state.exchange.answered(frame.type)
        state = self._state
        state.awaits_copy = False
        state.copies_in = True
        state.copy_has_data = False
        self._emit(operation, frame.raw)

    def _copy_out(self, frame: Frame) -> None:
        operation = self._state.exchange.answered(frame.type)
        response = decode_backend(frame)
        if not isinstance(response, CopyResponse):
            raise RemoteProtocolError("malformed CopyOutResponse")
        if self._state.masks_on:
            outcome = copy_rewriter(self._statement_of(operation), response, self._state.catalog)
            if isinstance(outcome, Denial):
                self._withhold(operation, Plan(Outcome.REFUSE, denial=outcome))
                return
            operation.copy = outcome
        if self._state.detection is not None:
            found = copy_detection(
                self._statement_of(operation), response, self._state.catalog, self._state.detection
            )
            if isinstance(found, Denial):
                self._withhold(operation, Plan(Outcome.REFUSE, denial=found))
                return
            operation.detection = found
        self._emit(operation, frame.raw)

    def _tell_detected(self) -> None:
        """Put on record how many values detectors have found since the last time, never which."""
        values = self._state.detection
        found = None if values is None else values.take_news()
        if found:
            self._actions.events.append(("detected", {"kinds": dict(found)}))

    def _statement_of(self, operation: Operation) -> JudgedStatement | None:
        """The statement whose answer is passing, None when it is not known."""
        verdict = operation.verdict
        if verdict is None or operation.index >= len(verdict.statements):
            return None
        return verdict.statements[operation.index]

    def _copy_rows(self, item: RowRun | RowPart, operation: Operation) -> None:
        if not isinstance(item, RowRun):
            raise RemoteProtocolError("masked COPY data came in parts")
        raw = item.raw
        try:
            if operation.copy is not None:
                raw = rewrite_copy_run(raw, operation.copy)
                self._state.rows_masked += item.count
            if isinstance(operation.detection, CopyDetection):
                raw = operation.detection.rewrite(raw)
        except (ProtocolError, *VALUE_FAULTS, *DETECTION_FAULTS):
            self._withhold(operation, refuse("COPY data cannot be taken apart"))
            return
        if raw:
            self._out.append(raw)

    def _copy_done(self, frame: Frame) -> None:
        operation = self._state.exchange.answered(frame.type)
        self._emit(operation, frame.raw)

    # Errors and what comes at any time

    def _error(self, frame: Frame) -> None:
        state = self._state
        failing, dropped = state.exchange.failed()
        if failing is not None:
            failing.new_path = None
            if failing.kind is OwedKind.QUERY and failing.verdict is not None and failing.verdict.copies_in:
                state.awaits_copy = False
                state.copies_in = False
        for index, operation in enumerate(dropped):
            if operation.change is not None:
                names, name = operation.change
                names.abandon(name)
                if index == 0 and not name:
                    names.settle("", None)  # a failed Parse or Bind leaves nothing unnamed behind
            self._end_effects(operation)
        raw = frame.raw
        if failing is not None and failing.replacement is not None:
            raw = in_words_of(frame, failing.replacement)
        elif state.takes_rows_apart:
            error = decode_backend(frame)
            if not isinstance(error, ErrorResponse):
                raise RemoteProtocolError("malformed ErrorResponse")
            raw = ErrorResponse(self._shown(error.fields, failing)).encode()
        self._tell_detected()
        if failing is None or not failing.withheld:
            self._out.append(raw)

    def _notice(self, frame: Frame) -> None:
        raw = frame.raw
        if self._state.takes_rows_apart:
            notice = decode_backend(frame)
            if not isinstance(notice, NoticeResponse):
                raise RemoteProtocolError("malformed NoticeResponse")
            owed = self._state.exchange.owed
            raw = NoticeResponse(self._shown(notice.fields, owed[0] if owed else None)).encode()
        self._out.append(raw)

    def _shown(self, fields: ErrorFields, operation: Operation | None) -> ErrorFields:
        """The fields of an error or notice as masks and detectors leave them."""
        state = self._state
        if state.masks_on:
            fields = withhold_values(fields, may_hold_values=_touches_masked(operation))
        return fields if state.detection is None else detected_fields(fields, state.detection)

    def _notification(self, frame: Frame) -> None:
        state = self._state
        raw = frame.raw
        if state.takes_rows_apart:
            told = decode_backend(frame)
            if not isinstance(told, NotificationResponse):
                raise RemoteProtocolError("malformed NotificationResponse")
            payload = "" if state.masks_on else told.payload
            if state.detection is not None:
                payload = state.detection.text(payload.encode()).decode()
            raw = NotificationResponse(told.process_id, told.channel, payload).encode()
        self._out.append(raw)

    def _parameter_status(self, frame: Frame) -> None:
        status = decode_backend(frame)
        if not isinstance(status, ParameterStatus):
            raise RemoteProtocolError("malformed ParameterStatus")
        wanted = _PINNED.get(status.name)
        if wanted is not None and status.value != wanted:
            raise RemoteProtocolError(
                f"the target changed {status.name} to {status.value}: SQL would mean something else"
            )
        if status.name == "search_path":
            self._state.reported_path = parse_search_path(status.value)
        self._out.append(frame.raw)


def _touches_masked(operation: Operation | None) -> bool:
    """May what is being answered look at masked columns? Yes where it is not known."""
    if operation is None:
        return False  # nothing is under way: the target speaks of itself
    return operation.verdict is None or operation.verdict.touches_masked
