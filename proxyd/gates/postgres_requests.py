"""The requests side of the PostgreSQL gate: what a client asks becomes what the target is sent, or a denial.

Theory of operation. Messages are handled in order. Each text is judged before any part of it is forwarded; each name
is looked up in the session's own ledger; everything the target will answer is entered in the exchange. When a decision
needs something that has not come yet (an answer of the target, a fresh catalog), the message is kept, `Actions.need`
says what for, and the relay calls again.

A denial of a simple Query is answered by the gateway alone, and the transaction stays as it is. In the extended
protocol a denial stands in the order of replies and the rest is skipped up to Sync, as after an error of the server.
Where the same batch has already executed something, answering alone would be a lie: the target would commit at Sync
what the client must believe rolled back. There the gateway sends the target a text that cannot be parsed in place of
the denied message, so that the target fails at the same point, and gives the client the true reason.

No I/O; the relay executes the actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from protocols.errors import InvalidEncoding, RemoteProtocolError
from protocols.postgres.exchange import OwedKind
from protocols.postgres.messages import (
    FLUSH,
    Bind,
    Close,
    Describe,
    Execute,
    Frame,
    Frontend,
    Parse,
    Query,
    decode_frontend,
    truncate_name,
)
from proxyd.gates.actions import Actions, Need
from proxyd.gates.denials import Denial
from proxyd.gates.judge import Verdict
from proxyd.gates.names import Names, TooManyNames, Unsettled
from proxyd.gates.provocations import NOBODY, in_place_of, in_place_of_query
from proxyd.gates.state import Operation, Portal, Prepared, State

DENIED = "denied"


class CatalogNeeded(Exception):
    """The verdict depends on relations that a fresh snapshot may know."""


def _key(name: bytes) -> str:
    if not name:
        return ""
    return truncate_name(name).decode("utf-8", "surrogateescape")


class Requests:
    """Handles client messages for one session."""

    def __init__(self, state: State, max_statement_bytes: int) -> None:
        self._state = state
        self._max_statement_bytes = max_statement_bytes
        self._kept: deque[Frame] = deque()
        self._raw: list[bytes] = []
        self._verdicts: list[Verdict] = []
        self._actions = Actions()
        self._retried: str | None = None
        self._handlers: dict[int, Callable[[Frame], None]] = {
            Frontend.QUERY: self._query,
            Frontend.PARSE: self._parse,
            Frontend.BIND: self._bind,
            Frontend.DESCRIBE: self._describe,
            Frontend.EXECUTE: self._execute,
            Frontend.CLOSE: self._close,
            Frontend.SYNC: self._sync,
            Frontend.FLUSH: self._flush,
            Frontend.COPY_DATA: self._copy_data,
            Frontend.COPY_DONE: self._copy_end,
            Frontend.COPY_FAIL: self._copy_end,
            Frontend.FUNCTION_CALL: self._function_call,
            Frontend.TERMINATE: self._terminate,
        }

    def receive(self, frames: Sequence[Frame]) -> Actions:
        """Handle what was kept back and then `frames`. Raises RemoteProtocolError."""
        state = self._state
        actions = self._actions = Actions()
        kept = self._kept
        if kept:
            kept.extend(frames)
            frames = tuple(kept)
            kept.clear()
        if not frames:
            return actions
        if not state.refresh():
            actions.need = Need.CATALOG
            kept.extend(frames)
            return actions
        if state.exchange.is_overfull and not state.can_proceed:
            actions.need = Need.SETTLED  # looked at once a read: what one read can add is bounded as well
            kept.extend(frames)
            return actions
        for position, frame in enumerate(frames):
            need = self._handle(frame)
            if need is not None:
                actions.need = need
                kept.extend(frames[position:])
                break
            if actions.close is not None:
                break
        self._record()
        return actions

    def _handle(self, frame: Frame) -> Need | None:
        """Handle one message; what must come first if it cannot be handled yet."""
        state = self._state
        if state.awaits_copy and not state.can_proceed:
            return Need.SETTLED
        if state.is_changed and not state.refresh():
            return Need.CATALOG
        handler = self._handlers.get(frame.type)
        if handler is None:
            raise RemoteProtocolError(f"message {chr(frame.type)!r} is not expected here")
        try:
            handler(frame)
        except Unsettled:
            if state.batch_is_open:
                self._actions.to_target.append(FLUSH)
            return Need.SETTLED
        except CatalogNeeded:
            return Need.CATALOG
        except InvalidEncoding as fault:
            self._raw.append(frame.raw)
            self._deny(
                frame.type,
                Denial(message=fault.message, sqlstate=fault.code or "22021", is_servers_answer=True),
            )
        except TooManyNames:
            self._raw.append(frame.raw)
            self._deny(
                frame.type,
                Denial(
                    message="proxyd: too many prepared statements or portals in this session",
                    hint="Close those that are not used any more (DEALLOCATE, or Close).",
                    sqlstate="53400",
                ),
            )
        return None

    @property
    def has_kept(self) -> bool:
        return bool(self._kept)

    @property
    def kept_count(self) -> int:
        return len(self._kept)

    # What is put down: the client's bytes of one batch, with the verdicts that let them through or not.

    def _record(self) -> None:
        if self._raw:
            raw = self._raw[0] if len(self._raw) == 1 else b"".join(self._raw)
            self._actions.requests.append((self._state.exchange.batch, tuple(self._verdicts), raw))
            self._raw.clear()
            self._verdicts.clear()

    def _send(self, frame: Frame) -> None:
        self._raw.append(frame.raw)
        self._actions.to_target.append(frame.raw)

    # Judging

    def _judge(self, text: str) -> Verdict:
        state = self._state
        verdict = state.judge.judge(text)
        if verdict.ends_transactions and state.path_is_in_doubt and state.resolution.search_path is not None:
            # What follows the end of the transaction in this text may resolve by the path that was before it.
            state.use_path(None)
            state.refresh()
            verdict = state.judge.judge(text)
        if verdict.is_stale_guess:
            if self._retried != text:
                self._retried = text
                state.session.catalog.mark_stale()
                raise CatalogNeeded
            verdict.is_stale_guess = False  # a fresh snapshot has confirmed it
        self._retried = None
        if state.changed_catalog and state.masks_on and verdict.denial is None and verdict.reads:
            return verdict.refused(
                Denial(
                    message="proxyd: the catalog was changed in this transaction, so masks cannot be proved to hold",
                    detail="rule: built-in: masks",
                    hint="COMMIT or ROLLBACK first, then run this statement.",
                )
            )
        return verdict

    def _count_statement(self) -> Denial | None:
        state = self._state
        limit = state.session.limits.statements
        state.statements += 1
        if limit is not None and state.statements > limit:
            return Denial(
                message=f"proxyd: this session has run its {limit} statements",
                detail="limit: session.statements",
                hint="Open a new session.",
                sqlstate="53400",
            )
        return None

    def _is_too_long(self, frame: Frame) -> bool:
        """Refuse a text that is longer than the limit before it is looked at."""
        if len(frame.raw) <= self._max_statement_bytes:
            return False
        self._raw.append(frame.raw)
        self._deny(
            frame.type,
            Denial(
                message=f"proxyd: the statement is longer than the {self._max_statement_bytes} bytes allowed",
                detail="limit: limits.statement",
                hint="Split it, or use COPY for bulk data.",
                sqlstate="54000",
            ),
        )
        return True

    # Denials

    def _deny(self, kind: int, denial: Denial) -> None:
        if kind in (Frontend.QUERY, Frontend.FUNCTION_CALL):
            self._deny_simple(denial)
        else:
            self._deny_extended(kind, denial)

    def _deny_simple(self, denial: Denial, verdict: Verdict | None = None) -> None:
        state = self._state
        exchange = state.exchange
        self._note(denial)
        if verdict is not None:
            self._verdicts.append(verdict)
        self._record()
        if state.batch_is_open or denial.is_servers_answer:
            # The target must fail here too: an open batch would be committed, and what the target itself refuses
            # fails a transaction.
            self._actions.to_target.append(in_place_of_query(denial))
            operation = Operation(OwedKind.QUERY, verdict)
            operation.replacement = denial.encode()
            self._drops_unnamed(operation)
            exchange.expect(operation)
        else:
            exchange.expect_local(_local(denial, verdict, with_ready=True))
        self._end_batch()

    def _deny_extended(self, kind: int, denial: Denial, verdict: Verdict | None = None) -> None:
        state = self._state
        exchange = state.exchange
        self._note(denial)
        if verdict is not None:
            self._verdicts.append(verdict)
        if state.batch_has_executed or denial.is_servers_answer:
            self._provoke(denial, verdict, *in_place_of(kind, denial))
        else:
            exchange.expect_local(_local(denial, verdict, with_ready=False))
        state.is_discarding = True

    def _provoke(self, denial: Denial, verdict: Verdict | None, owed: OwedKind, provocation: bytes) -> None:
        self._actions.to_target.append(provocation)
        operation = Operation(owed, verdict)
        operation.replacement = denial.encode()
        self._state.exchange.expect(operation)
        self._state.batch_is_open = True

    def _deny_name(self, kind: int, name: str, what: str = "S") -> None:
        """There is no statement ("S") or portal ("P") of this name: the target is asked for one it has not either."""
        state = self._state
        denial = _no_statement(name) if what == "S" else _no_portal(name)
        self._note(denial)
        nobody = NOBODY
        if what == "S" and not name:
            # The target says other words for the unnamed statement. Closed, it surely does not exist.
            nobody = b""
            self._close_unnamed()
        provocation = in_place_of(kind, denial, describes=what, name=nobody)
        self._provoke(denial, None, *provocation)
        state.is_discarding = True

    def _close_unnamed(self) -> None:
        """On the target and in the ledger, without the client's asking."""
        state = self._state
        operation = Operation(OwedKind.CLOSE)
        operation.hidden = True
        self._change(operation, state.prepared, "", None)
        self._actions.to_target.append(Close("S", b"").encode())
        state.exchange.expect(operation)
        state.batch_is_open = True

    def _note(self, denial: Denial) -> None:
        data = {
            "operation": self._state.exchange.batch,
            "sqlstate": denial.sqlstate,
            "message": denial.message,
            "detail": denial.detail,
        }
        self._actions.events.append((DENIED, data))

    def _end_batch(self) -> None:
        state = self._state
        state.batch_is_open = False
        state.batch_has_executed = False
        state.is_discarding = False

    def _is_skipped(self, frame: Frame) -> bool:
        """Would the target discard this message? Then it goes no further than the tape."""
        state = self._state
        if state.is_discarding or state.exchange.is_skipping:
            self._raw.append(frame.raw)
            return True
        if state.copies_in:
            raise RemoteProtocolError(f"message {chr(frame.type)!r} is not expected during COPY FROM STDIN")
        return False

    # Simple protocol

    def _query(self, frame: Frame) -> None:
        if self._is_skipped(frame) or self._is_too_long(frame):
            return
        message = decode_frontend(frame)
        if not isinstance(message, Query):
            raise RemoteProtocolError("malformed Query")
        state = self._state
        verdict = self._judge(message.text)
        denial = verdict.denial or self._count_statement()
        if denial is not None:
            self._raw.append(frame.raw)
            self._deny_simple(denial, verdict)
            return
        self._verdicts.append(verdict)
        self._send(frame)
        operation = Operation(OwedKind.QUERY, verdict)
        self._note_effects(verdict, operation)
        self._record()
        self._drops_unnamed(operation)
        state.exchange.expect(operation)
        self._end_batch()

    def _drops_unnamed(self, operation: Operation) -> None:
        """A simple Query drops the unnamed statement, whatever becomes of it."""
        names = self._state.prepared
        if names.may_have(""):
            self._change(operation, names, "", None)

    def _note_effects(self, verdict: Verdict, operation: Operation) -> None:
        state = self._state
        if verdict.changes_names:
            operation.holds_names = True
            state.prepared.hold_uncertain()
            state.portals.hold_uncertain()
        if verdict.copies_in:
            state.awaits_copy = True
        if verdict.changes_catalog:
            state.changed_catalog = True
        if verdict.effects:
            state.foresee(verdict.effects)

    def _function_call(self, frame: Frame) -> None:
        if self._is_skipped(frame):
            return
        self._raw.append(frame.raw)
        self._deny_simple(
            Denial(
                message="proxyd: the function-call message is refused: it runs any function by number, unseen",
                detail="rule: built-in: fast path",
                hint="Call the function in a SELECT statement.",
            )
        )

    # Extended protocol

    def _parse(self, frame: Frame) -> None:
        if self._is_skipped(frame) or self._is_too_long(frame):
            return
        message = decode_frontend(frame)
        if not isinstance(message, Parse):
            raise RemoteProtocolError("malformed Parse")
        state = self._state
        verdict = self._judge(message.text)
        name = _key(message.statement)
        if verdict.denial is not None:
            self._raw.append(frame.raw)
            if not name and state.prepared.may_have(""):
                self._close_unnamed()  # as after a failed Parse: nothing unnamed is left to bind
            self._deny_extended(frame.type, verdict.denial, verdict)
            return
        prepared = Prepared.parsed(message.text, verdict)
        operation = Operation(OwedKind.PARSE, verdict)
        self._change(operation, state.prepared, name, prepared)
        self._verdicts.append(verdict)
        self._send(frame)
        state.exchange.expect(operation)
        state.batch_is_open = True

    def _bind(self, frame: Frame) -> None:
        if self._is_skipped(frame):
            return
        message = decode_frontend(frame)
        if not isinstance(message, Bind):
            raise RemoteProtocolError("malformed Bind")
        state = self._state
        name = _key(message.statement)
        prepared = state.prepared.lookup(name, state.exchange.batch)
        if prepared is None:
            self._raw.append(frame.raw)
            self._deny_name(frame.type, name)
            return
        denial = self._judge_again(prepared)
        if denial is not None:
            self._raw.append(frame.raw)
            self._deny_extended(frame.type, denial, prepared.verdict)
            return
        operation = Operation(OwedKind.BIND, prepared.verdict)
        portal = Portal(prepared, prepared.known.facts if prepared.known else None, message.result_formats)
        self._change(operation, state.portals, _key(message.portal), portal)
        self._send(frame)
        state.exchange.expect(operation)
        state.batch_is_open = True

    def _judge_again(self, prepared: Prepared) -> Denial | None:
        """A verdict holds in its context only: policy, catalog, search path or names may have changed since Parse."""
        state = self._state
        verdict = prepared.verdict
        if (
            verdict is not None
            and verdict.context is state.judge.context
            and not verdict.depends_on_names
            and not state.changed_catalog
        ):
            return None
        verdict = self._judge(prepared.text)
        if verdict is not prepared.verdict:
            prepared.verdict = verdict
            prepared.take_facts()
            prepared.description = None  # names may mean other tables now: ask again
        return verdict.denial

    def _describe(self, frame: Frame) -> None:
        if self._is_skipped(frame):
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
            self._raw.append(frame.raw)
            self._deny_name(frame.type, name, message.kind)
            return
        self._send(frame)
        state.exchange.expect(operation)
        state.batch_is_open = True

    def _execute(self, frame: Frame) -> None:
        if self._is_skipped(frame):
            return
        message = decode_frontend(frame)
        if not isinstance(message, Execute):
            raise RemoteProtocolError("malformed Execute")
        state = self._state
        name = _key(message.portal)
        portal = state.portals.lookup(name, state.exchange.batch)
        if portal is None:
            self._raw.append(frame.raw)
            self._deny_name(frame.type, name, "P")
            return
        before = portal.prepared.verdict
        denial = self._judge_again(portal.prepared) or self._count_statement()
        verdict = portal.prepared.verdict
        if denial is not None:
            self._raw.append(frame.raw)
            self._deny_extended(frame.type, denial, verdict)
            return
        if verdict is None:
            raise RuntimeError("a prepared statement was allowed without a verdict")
        if verdict is not before:
            portal.forget_description()
        if state.takes_rows_apart and not portal.is_asked:
            # Rows come without a description unless somebody asks, and without one no column can be found.
            portal.is_asked = True
            self._actions.to_target.append(Describe("P", message.portal).encode())
            asked = Operation(OwedKind.DESCRIBE_PORTAL)
            asked.hidden = True
            asked.portal = portal
            state.exchange.expect(asked)
        operation = Operation(OwedKind.EXECUTE, verdict)
        operation.portal = portal
        self._note_effects(verdict, operation)
        if verdict not in self._verdicts:
            self._verdicts.append(verdict)
        self._send(frame)
        state.exchange.expect(operation)
        state.batch_is_open = True
        state.batch_has_executed = True

    def _close(self, frame: Frame) -> None:
        if self._is_skipped(frame):
            return
        message = decode_frontend(frame)
        if not isinstance(message, Close):
            raise RemoteProtocolError("malformed Close")
        state = self._state
        names = state.prepared if message.kind == "S" else state.portals
        operation = Operation(OwedKind.CLOSE)
        self._change(operation, names, _key(message.name), None)
        self._send(frame)
        state.exchange.expect(operation)
        state.batch_is_open = True

    def _change(
        self,
        operation: Operation,
        names: Names[Prepared] | Names[Portal],
        name: str,
        value: Prepared | Portal | None,
    ) -> None:
        names.change(name, self._state.exchange.batch, value)  # type: ignore[arg-type]  # one of two name spaces
        operation.change = (names, name)

    def _sync(self, frame: Frame) -> None:
        state = self._state
        decode_frontend(frame)
        if state.copies_in:
            if state.copy_has_data:
                raise RemoteProtocolError("Sync is not expected in the middle of COPY data")
            self._raw.append(frame.raw)  # the target ignores a Sync while it waits for COPY data
            return
        self._send(frame)
        self._record()
        state.exchange.expect(Operation(OwedKind.SYNC))
        self._end_batch()

    def _flush(self, frame: Frame) -> None:
        decode_frontend(frame)
        if self._state.copies_in:
            return
        self._send(frame)

    # COPY FROM STDIN

    def _copy_data(self, frame: Frame) -> None:
        if self._state.copies_in:
            self._state.copy_has_data = True
            self._send(frame)
        # otherwise the COPY has failed already: the target ignores what was still under way, and so do we

    def _copy_end(self, frame: Frame) -> None:
        state = self._state
        decode_frontend(frame)
        if not state.copies_in:
            return
        self._send(frame)
        state.copies_in = False
        owed = state.exchange.owed
        if owed and owed[0].kind is OwedKind.QUERY:
            state.awaits_copy = True  # another statement of the same text may ask for more

    def _terminate(self, frame: Frame) -> None:
        decode_frontend(frame)
        self._actions.to_target.append(frame.raw)
        self._actions.close = "client terminated"


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
