"""A message refused: what the client is told in its place, and what the target is sent so that it fails there too.

A denial of a simple Query is answered by the gateway alone, and the transaction stays as it is. In the extended
protocol a denial stands in the order of replies and the rest is skipped up to Sync, as after an error of the server.
Where the same batch has already executed something, answering alone would be a lie: the target would commit at Sync
what the client must believe rolled back. There the gateway sends the target a text that cannot be parsed in place of
the denied message, so that the target fails at the same point, and gives the client the true reason. No I/O.
"""

from __future__ import annotations

from protocols.postgres.exchange import OwedKind
from protocols.postgres.messages import Close, Frontend
from proxyd.gates.postgres.denials import Denial
from proxyd.gates.postgres.judge import Verdict
from proxyd.gates.postgres.ledger import Operation
from proxyd.gates.postgres.outgoing import Outgoing
from proxyd.gates.postgres.provocations import NOBODY, in_place_of, in_place_of_query
from proxyd.gates.postgres.state import State

DENIED = "denied"


class Refusing:
    """For one session. The bytes refused are in `outgoing.raw` by then."""

    def __init__(self, state: State, outgoing: Outgoing) -> None:
        self._state = state
        self._outgoing = outgoing

    def deny(self, kind: int, denial: Denial) -> None:
        """Refuse a message of this kind, before it has been judged."""
        if kind in (Frontend.QUERY, Frontend.FUNCTION_CALL):
            self.deny_simple(denial)
        else:
            self.deny_extended(kind, denial)

    def deny_simple(self, denial: Denial, verdict: Verdict | None = None) -> None:
        state = self._state
        exchange = state.exchange
        self._note(denial)
        if verdict is not None:
            self._outgoing.verdicts.append(verdict)
        self._outgoing.record()
        if state.batch_is_open or denial.is_servers_answer:
            # The target must fail here too: an open batch would be committed, and what the target itself refuses
            # fails a transaction.
            self._outgoing.actions.to_target.append(in_place_of_query(denial))
            operation = Operation(OwedKind.QUERY, verdict)
            operation.replacement = denial.encode()
            drop_unnamed(state, operation)
            exchange.expect(operation)
        else:
            exchange.expect_local(_local(denial, verdict, with_ready=True))
        state.end_batch()

    def deny_extended(self, kind: int, denial: Denial, verdict: Verdict | None = None) -> None:
        state = self._state
        self._note(denial)
        if verdict is not None:
            self._outgoing.verdicts.append(verdict)
        if state.batch_has_executed or denial.is_servers_answer:
            self._provoke(denial, verdict, *in_place_of(kind, denial))
        else:
            state.exchange.expect_local(_local(denial, verdict, with_ready=False))
        state.is_discarding = True

    def deny_name(self, kind: int, name: str, what: str) -> None:
        """There is no statement ("S") or portal ("P") of this name: the target is asked for one it has not either."""
        denial = _no_statement(name) if what == "S" else _no_portal(name)
        self._note(denial)
        nobody = NOBODY
        if what == "S" and not name:
            # The target says other words for the unnamed statement. Closed, it surely does not exist.
            nobody = b""
            self.close_unnamed()
        provocation = in_place_of(kind, denial, describes=what, name=nobody)
        self._provoke(denial, None, *provocation)
        self._state.is_discarding = True

    def close_unnamed(self) -> None:
        """The unnamed statement, on the target and in the ledger, without the client's asking."""
        state = self._state
        operation = Operation(OwedKind.CLOSE)
        operation.hidden = True
        operation.change_name(state.prepared, "", state.exchange.batch, None)
        self._outgoing.actions.to_target.append(Close("S", b"").encode())
        state.exchange.expect(operation)
        state.batch_is_open = True

    def _provoke(self, denial: Denial, verdict: Verdict | None, owed: OwedKind, provocation: bytes) -> None:
        self._outgoing.actions.to_target.append(provocation)
        operation = Operation(owed, verdict)
        operation.replacement = denial.encode()
        self._state.exchange.expect(operation)
        self._state.batch_is_open = True

    def _note(self, denial: Denial) -> None:
        data = {
            "operation": self._state.exchange.batch,
            "sqlstate": denial.sqlstate,
            "message": denial.message,
            "detail": denial.detail,
        }
        self._outgoing.actions.events.append((DENIED, data))


def drop_unnamed(state: State, operation: Operation) -> None:
    """A simple Query drops the unnamed statement, whatever becomes of it."""
    if state.prepared.may_have(""):
        operation.change_name(state.prepared, "", state.exchange.batch, None)


def _no_statement(name: str) -> Denial:
    text = (
        f'prepared statement "{name}" does not exist' if name else "unnamed prepared statement does not exist"
    )
    return Denial(message=text, sqlstate="26000", is_servers_answer=True)


def _no_portal(name: str) -> Denial:
    return Denial(message=f'portal "{name}" does not exist', sqlstate="34000", is_servers_answer=True)


def _local(denial: Denial, verdict: Verdict | None, *, with_ready: bool) -> Operation:
    """The gateway's own answer, to be entered in the ledger."""
    operation = Operation(OwedKind.LOCAL, verdict)
    operation.reply = denial.encode()
    operation.with_ready = with_ready
    return operation
