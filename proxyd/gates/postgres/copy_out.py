"""COPY TO STDOUT on its way to a client: what is decided when it begins, and its data as that has it.

How the data is taken apart is in `copying` (masks) and `detecting.copies`. Called by the replies side; no I/O.
"""

from __future__ import annotations

from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.postgres.codec import RowPart, RowRun
from protocols.postgres.messages import CopyResponse, Frame, decode_backend
from proxyd.gates.postgres.copying import copy_rewriter, rewrite_copy_run
from proxyd.gates.postgres.denials import Denial
from proxyd.gates.postgres.detecting.copies import CopyDetection, copy_detection
from proxyd.gates.postgres.detecting.values import VALUE_FAULTS as DETECTION_FAULTS
from proxyd.gates.postgres.incoming import Incoming
from proxyd.gates.postgres.ledger import Operation
from proxyd.gates.postgres.results import VALUE_FAULTS, refuse
from proxyd.gates.postgres.state import State


class CopyOut:
    def __init__(self, state: State, incoming: Incoming) -> None:
        self._state = state
        self._incoming = incoming

    def begin(self, frame: Frame) -> None:
        state = self._state
        operation = state.exchange.answered(frame.type)
        response = decode_backend(frame)
        if not isinstance(response, CopyResponse):
            raise RemoteProtocolError("malformed CopyOutResponse")
        if state.masks_on:
            masked = copy_rewriter(operation.statement, response, state.catalog)
            if isinstance(masked, Denial):
                self._incoming.withhold(operation, masked)
                return
            operation.copy = masked
        if state.detection is not None:
            detected = copy_detection(operation.statement, response, state.catalog, state.detection)
            if isinstance(detected, Denial):
                self._incoming.withhold(operation, detected)
                return
            operation.detection = detected
        self._incoming.emit(operation, frame.raw)

    def rows(self, item: RowRun | RowPart, operation: Operation) -> None:
        """Data that is masked or looked into."""
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
            self._incoming.withhold(operation, refuse("COPY data cannot be taken apart").denial)
            return
        if raw:
            self._incoming.out.append(raw)
