"""Errors, and what the target says without being asked: notices, notifications, reports of its parameters.

All of it is output. For sessions under masks or detectors the texts pass only as far as they cannot carry a value.
Called by the replies side; no I/O.
"""

from __future__ import annotations

from protocols.errors import RemoteProtocolError
from protocols.postgres.exchange import OwedKind
from protocols.postgres.messages import (
    ErrorFields,
    ErrorResponse,
    Frame,
    NoticeResponse,
    NotificationResponse,
    ParameterStatus,
    decode_backend,
)
from proxyd.gates.postgres.denials import in_words_of, withhold_values
from proxyd.gates.postgres.detected_results import detected_fields
from proxyd.gates.postgres.effects import end_effects
from proxyd.gates.postgres.incoming import Incoming
from proxyd.gates.postgres.ledger import Operation
from proxyd.gates.postgres.search_path import parse_search_path
from proxyd.gates.postgres.state import State

_PINNED = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}


class Asides:
    def __init__(self, state: State, incoming: Incoming) -> None:
        self._state = state
        self._incoming = incoming

    def error(self, frame: Frame) -> None:
        """Something under way has failed, and with it what the target skips now."""
        state = self._state
        failing, dropped = state.exchange.failed()
        self._settle_failed(failing, dropped)
        raw = frame.raw
        if failing is not None and failing.replacement is not None:
            raw = in_words_of(frame, failing.replacement)
        elif state.takes_rows_apart:
            error = decode_backend(frame)
            if not isinstance(error, ErrorResponse):
                raise RemoteProtocolError("malformed ErrorResponse")
            raw = ErrorResponse(self._shown(error.fields, failing)).encode()
        self._incoming.tell_detected()
        if failing is None or not failing.withheld:
            self._incoming.out.append(raw)

    def _settle_failed(self, failing: Operation | None, dropped: list[Operation]) -> None:
        state = self._state
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
            end_effects(state, operation)

    def notice(self, frame: Frame) -> None:
        raw = frame.raw
        if self._state.takes_rows_apart:
            notice = decode_backend(frame)
            if not isinstance(notice, NoticeResponse):
                raise RemoteProtocolError("malformed NoticeResponse")
            owed = self._state.exchange.owed
            raw = NoticeResponse(self._shown(notice.fields, owed[0] if owed else None)).encode()
        self._incoming.out.append(raw)

    def _shown(self, fields: ErrorFields, operation: Operation | None) -> ErrorFields:
        """The fields of an error or notice as masks and detectors leave them."""
        state = self._state
        if state.masks_on:
            # With nothing under way the target speaks of itself.
            may_hold_values = operation is not None and operation.may_touch_masked
            fields = withhold_values(fields, may_hold_values=may_hold_values)
        return fields if state.detection is None else detected_fields(fields, state.detection)

    def notification(self, frame: Frame) -> None:
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
        self._incoming.out.append(raw)

    def parameter_status(self, frame: Frame) -> None:
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
        self._incoming.out.append(frame.raw)
