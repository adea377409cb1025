"""What one step of the replies side gives to the client, and puts on the tape as the client will see it.

Denials of the gateway's own stand in the ledger between the target's replies and are given out when their turn has
come. A result that may not be seen is withheld here: the client is told why in its place. Filled by the handlers of
the replies side; no I/O.
"""

from __future__ import annotations

from protocols.postgres.exchange import OwedKind
from protocols.postgres.messages import ready_for_query
from proxyd.gates.postgres.actions import Actions
from proxyd.gates.postgres.denials import Denial
from proxyd.gates.postgres.ledger import Operation
from proxyd.gates.postgres.state import State

_WITHHELD = Denial(message="proxyd: result withheld")


class Incoming:
    """actions: of the step under way. out: messages for the client that are not in it yet."""

    __slots__ = ("_state", "actions", "out")

    def __init__(self, state: State) -> None:
        self._state = state
        self.actions = Actions()
        self.out: list[bytes] = []

    def begin(self) -> Actions:
        """A step begins; what it comes to be."""
        self.actions = actions = Actions()
        return actions

    def emit(self, operation: Operation, raw: bytes) -> None:
        """A reply to `operation`, for the client unless the gateway had asked, or the client has been told no."""
        if not operation.hidden and not operation.withheld:
            self.out.append(raw)

    def give_out_local(self) -> None:
        """Give out denials that stand at the head of the ledger."""
        exchange = self._state.exchange
        if not exchange.locals:
            return
        for entry in exchange.take_local():
            if entry.withheld:
                continue
            self.out.append(entry.reply)
            if entry.with_ready:
                self.out.append(ready_for_query(chr(exchange.transaction_status)))
                self.record(ends=True, number=entry.batch)

    def record(self, *, ends: bool, number: int | None = None) -> None:
        """What has been gathered goes out. ends: the operation does; number: its batch, None for the one in turn."""
        out = self.out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if number is None:
            owed = self._state.exchange.owed
            number = owed[0].batch if owed else self._state.exchange.batch
        self.actions.to_client.append(data)
        self.actions.replies.append((number, data, ends))

    def withhold(self, operation: Operation, denial: Denial | None) -> None:
        """Give the client the reason in place of this result, and nothing more of this operation.

        In the extended protocol the client takes that for the end of the batch: what follows up to Sync is hidden too.
        """
        if operation.withheld:
            return
        operation.withheld = True
        denial = denial or _WITHHELD
        self.out.append(denial.encode())
        self.actions.events.append(("withheld", {"message": denial.message}))
        owed = self._state.exchange.owed
        if not owed or owed[0].kind is OwedKind.QUERY:
            return
        for entry in owed:
            if entry.kind is OwedKind.SYNC:
                return
            entry.withheld = True
        self._state.is_discarding = True

    def tell_detected(self) -> None:
        """Put on record how many values detectors have found since the last time, never which."""
        values = self._state.detection
        found = None if values is None else values.take_news()
        if found:
            self.actions.events.append(("detected", {"kinds": dict(found)}))
