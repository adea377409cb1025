"""What one step of the requests side sends to the target, and what it puts down of it: the client's bytes with the
verdicts that let them through or did not.

The bytes of a batch are one record. What the target would skip goes no further than the tape. Filled by the handlers
of the requests side; no I/O.
"""

from __future__ import annotations

from protocols.errors import RemoteProtocolError
from protocols.postgres.messages import Frame
from proxyd.gates.postgres.actions import Actions
from proxyd.gates.postgres.judge import Verdict
from proxyd.gates.postgres.state import State


class Outgoing:
    """actions: of the step under way. raw and verdicts: of the record that is being gathered."""

    __slots__ = ("_state", "actions", "raw", "verdicts")

    def __init__(self, state: State) -> None:
        self._state = state
        self.actions = Actions()
        self.raw: list[bytes] = []
        self.verdicts: list[Verdict] = []

    def begin(self) -> Actions:
        """A step begins; what it comes to be."""
        self.actions = actions = Actions()
        return actions

    def send(self, frame: Frame) -> None:
        self.raw.append(frame.raw)
        self.actions.to_target.append(frame.raw)

    def record(self) -> None:
        raw = self.raw
        if raw:
            data = raw[0] if len(raw) == 1 else b"".join(raw)
            self.actions.requests.append((self._state.exchange.batch, tuple(self.verdicts), data))
            raw.clear()
            self.verdicts.clear()

    def skips(self, frame: Frame) -> bool:
        """Would the target discard this message? Then it goes no further than the tape."""
        state = self._state
        if state.is_discarding or state.exchange.is_skipping:
            self.raw.append(frame.raw)
            return True
        if state.copies_in:
            raise RemoteProtocolError(f"message {chr(frame.type)!r} is not expected during COPY FROM STDIN")
        return False
