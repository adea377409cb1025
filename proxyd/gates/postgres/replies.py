"""The replies side of the PostgreSQL gate: what the target answers becomes what the client may see.

Theory of operation. Each reply is held against the exchange, which tells whose it is. A RowDescription (or, for COPY,
the judged shape) decides how the rows of that result leave (`result_rows`, `copy_out`). For sessions under masks the
texts of errors and notices are withheld where they could carry a value (`asides`). Replies to questions of the
gateway's own are swallowed. Anything that does not fit raises RemoteProtocolError: the gateway's view of the
conversation and the target's have parted, and the session ends.

No I/O; the relay executes the actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from protocols.errors import RemoteProtocolError
from protocols.postgres.codec import HEADER_BYTES, RowPart, RowRun
from protocols.postgres.exchange import OwedKind
from protocols.postgres.messages import Backend, Frame
from proxyd.gates.postgres.actions import Actions, Need
from proxyd.gates.postgres.asides import Asides
from proxyd.gates.postgres.copy_out import CopyOut
from proxyd.gates.postgres.effects import apply_effect, end_effects, end_transaction
from proxyd.gates.postgres.incoming import Incoming
from proxyd.gates.postgres.result_rows import ResultRows, StaleCatalog
from proxyd.gates.postgres.state import State

_IDLE = ord("I")

Item = Frame | RowRun | RowPart


class Replies:
    """Handles the target's messages for one session."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._kept: deque[Item] = deque()
        incoming = self._incoming = Incoming(state)
        copies = CopyOut(state, incoming)
        rows = self._rows = ResultRows(state, incoming, copies)
        asides = Asides(state, incoming)
        self._handlers: dict[int, Callable[[Frame], None]] = {
            Backend.ROW_DESCRIPTION: rows.description,
            Backend.COMMAND_COMPLETE: self._complete,
            Backend.EMPTY_QUERY_RESPONSE: self._complete,
            Backend.READY_FOR_QUERY: self._ready,
            Backend.PARSE_COMPLETE: self._settle_change,
            Backend.BIND_COMPLETE: self._settle_change,
            Backend.CLOSE_COMPLETE: self._settle_change,
            Backend.NO_DATA: self._no_data,
            Backend.PARAMETER_DESCRIPTION: self._pass_on,
            Backend.PORTAL_SUSPENDED: self._suspended,
            Backend.ERROR_RESPONSE: asides.error,
            Backend.NOTICE_RESPONSE: asides.notice,
            Backend.NOTIFICATION_RESPONSE: asides.notification,
            Backend.PARAMETER_STATUS: asides.parameter_status,
            Backend.COPY_IN_RESPONSE: self._copy_in,
            Backend.COPY_OUT_RESPONSE: copies.begin,
            Backend.COPY_DONE: self._pass_on,
        }

    def receive(self, items: Sequence[Item]) -> Actions:
        """Handle what was kept back and then `items`. Raises ProtocolError when the session cannot go on."""
        incoming, rows = self._incoming, self._rows
        actions = incoming.begin()
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
                    rows.receive(item)
            except StaleCatalog:
                rows.is_retry = True
                self._state.session.catalog.mark_stale()
                actions.need = Need.CATALOG
                kept.extend(items[position:])
                break
            rows.is_retry = False
            if actions.close is not None:
                break
        incoming.give_out_local()
        incoming.record(ends=False)
        return actions

    def local_replies(self) -> Actions:
        """The gateway's own replies whose turn has come although the target has said nothing."""
        actions = self._incoming.begin()
        self._incoming.give_out_local()
        self._incoming.record(ends=False)
        return actions

    # What confirms, and what ends an operation: after those a denial may be next in line.

    def _settle_change(self, frame: Frame) -> None:
        exchange, incoming = self._state.exchange, self._incoming
        operation = exchange.answered(frame.type)
        if operation.change is not None:
            names, name = operation.change
            names.confirm(name)
        if not operation.hidden and not operation.withheld:
            incoming.out.append(frame.raw)
        if exchange.locals:
            incoming.give_out_local()

    def _pass_on(self, frame: Frame) -> None:
        self._incoming.emit(self._state.exchange.answered(frame.type), frame.raw)

    def _no_data(self, frame: Frame) -> None:
        operation = self._state.exchange.answered(frame.type)
        operation.described(b"")
        self._incoming.emit(operation, frame.raw)
        self._after_entry()

    def _after_entry(self) -> None:
        if self._state.exchange.locals:
            self._incoming.give_out_local()

    def _suspended(self, frame: Frame) -> None:
        operation = self._state.exchange.answered(frame.type)
        self._incoming.emit(operation, frame.raw)
        end_effects(self._state, operation)
        self._after_entry()

    def _complete(self, frame: Frame) -> None:
        """CommandComplete or EmptyQueryResponse: one statement is done, and with it what it changes."""
        state, incoming = self._state, self._incoming
        operation = state.exchange.answered(frame.type)
        incoming.emit(operation, frame.raw)
        apply_effect(state, operation)
        if operation.rewriter is not None or operation.copy is not None:
            state.results_masked += 1
        if state.detection is not None:
            incoming.tell_detected()
        operation.plan = None
        operation.rewriter = None
        operation.copy = None
        operation.detection = None
        if operation.kind is OwedKind.QUERY:
            operation.index += 1
        else:
            end_effects(state, operation)
            self._after_entry()

    def _ready(self, frame: Frame) -> None:
        state, incoming = self._state, self._incoming
        exchange = state.exchange
        operation = exchange.ready(frame.raw[HEADER_BYTES])
        if operation.kind is OwedKind.QUERY:
            end_effects(state, operation)
            if operation.change is not None:
                names, name = operation.change
                names.confirm(name)
        incoming.out.append(frame.raw)
        if exchange.is_settled:
            state.settle_path(operation.new_path)
        if exchange.transaction_status == _IDLE:
            end_transaction(state)
        incoming.record(ends=True, number=operation.batch)
        if exchange.locals:
            incoming.give_out_local()

    def _copy_in(self, frame: Frame) -> None:
        state = self._state
        operation = state.exchange.answered(frame.type)
        state.awaits_copy = False
        state.copies_in = True
        state.copy_has_data = False
        self._incoming.emit(operation, frame.raw)
