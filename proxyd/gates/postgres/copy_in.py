"""COPY FROM STDIN: the data of a client on its way to the target. Called by the requests side; no I/O."""

from __future__ import annotations

from protocols.postgres.exchange import OwedKind
from protocols.postgres.messages import Frame, decode_frontend
from proxyd.gates.postgres.outgoing import Outgoing
from proxyd.gates.postgres.state import State


class CopyIn:
    def __init__(self, state: State, outgoing: Outgoing) -> None:
        self._state = state
        self._outgoing = outgoing

    def data(self, frame: Frame) -> None:
        if self._state.copies_in:
            self._state.copy_has_data = True
            self._outgoing.send(frame)
        # otherwise the COPY has failed already: the target ignores what was still under way, and so do we

    def end(self, frame: Frame) -> None:
        """CopyDone or CopyFail."""
        state = self._state
        decode_frontend(frame)
        if not state.copies_in:
            return
        self._outgoing.send(frame)
        state.copies_in = False
        owed = state.exchange.owed
        if owed and owed[0].kind is OwedKind.QUERY:
            state.awaits_copy = True  # another statement of the same text may ask for more
