"""The requests side of the PostgreSQL gate: what a client asks becomes what the target is sent, or a denial.

Theory of operation. Messages are handled in order. Each text is judged (`judging`) before any part of it is forwarded;
each name is looked up in the session's own ledger; everything the target will answer is entered in the exchange. When
a decision needs something that has not come yet (an answer of the target, a fresh catalog), the message is kept,
`Actions.need` says what for, and the relay calls again. What is refused, and how without parting from the target's
view of the conversation, is in `refusing`.

No I/O; the relay executes the actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from protocols.errors import InvalidEncoding, RemoteProtocolError
from protocols.postgres.messages import FLUSH, Frame, Frontend, decode_frontend
from proxyd.gates.postgres.actions import Actions, Need
from proxyd.gates.postgres.copy_in import CopyIn
from proxyd.gates.postgres.denials import Denial
from proxyd.gates.postgres.extended_query import ExtendedQuery
from proxyd.gates.postgres.judging import CatalogNeeded, Judging
from proxyd.gates.postgres.names import TooManyNames, Unsettled
from proxyd.gates.postgres.outgoing import Outgoing
from proxyd.gates.postgres.refusing import Refusing
from proxyd.gates.postgres.simple_query import SimpleQuery
from proxyd.gates.postgres.state import State

_TOO_MANY_NAMES = Denial(
    message="proxyd: too many prepared statements or portals in this session",
    hint="Close those that are not used any more (DEALLOCATE, or Close).",
    sqlstate="53400",
)


class Requests:
    """Handles client messages for one session."""

    def __init__(self, state: State, max_statement_bytes: int) -> None:
        self._state = state
        self._kept: deque[Frame] = deque()
        outgoing = self._outgoing = Outgoing(state)
        refusing = self._refusing = Refusing(state, outgoing)
        judging = Judging(state, max_statement_bytes)
        simple = SimpleQuery(state, outgoing, judging, refusing)
        extended = ExtendedQuery(state, outgoing, judging, refusing)
        copy_in = CopyIn(state, outgoing)
        self._handlers: dict[int, Callable[[Frame], None]] = {
            Frontend.QUERY: simple.query,
            Frontend.PARSE: extended.parse,
            Frontend.BIND: extended.bind,
            Frontend.DESCRIBE: extended.describe,
            Frontend.EXECUTE: extended.execute,
            Frontend.CLOSE: extended.close,
            Frontend.SYNC: extended.sync,
            Frontend.FLUSH: extended.flush,
            Frontend.COPY_DATA: copy_in.data,
            Frontend.COPY_DONE: copy_in.end,
            Frontend.COPY_FAIL: copy_in.end,
            Frontend.FUNCTION_CALL: simple.function_call,
            Frontend.TERMINATE: self._terminate,
        }

    def receive(self, frames: Sequence[Frame]) -> Actions:
        """Handle what was kept back and then `frames`. Raises RemoteProtocolError."""
        state = self._state
        actions = self._outgoing.begin()
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
        self._outgoing.record()
        return actions

    @property
    def has_kept(self) -> bool:
        return bool(self._kept)

    @property
    def kept_count(self) -> int:
        return len(self._kept)

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
                self._outgoing.actions.to_target.append(FLUSH)
            return Need.SETTLED
        except CatalogNeeded:
            return Need.CATALOG
        except InvalidEncoding as fault:
            self._refuse(
                frame, Denial(message=fault.message, sqlstate=fault.code or "22021", is_servers_answer=True)
            )
        except TooManyNames:
            self._refuse(frame, _TOO_MANY_NAMES)
        return None

    def _refuse(self, frame: Frame, denial: Denial) -> None:
        self._outgoing.raw.append(frame.raw)
        self._refusing.deny(frame.type, denial)

    def _terminate(self, frame: Frame) -> None:
        decode_frontend(frame)
        self._outgoing.actions.to_target.append(frame.raw)
        self._outgoing.actions.close = "client terminated"
