"""One request from its head to the end of its answer: its life within a session, how it fails, how it is ended.

Theory of operation. Who asks for what, and whether it may, is found out by `http_judging`. What a request says is
recorded before it goes to the target (`http_forwarding`), what an answer says before it goes to the client
(`http_answering`). Whatever goes wrong before the answer's head has left becomes an answer of the gateway's own; after
that, an answer that visibly breaks off.
"""

from __future__ import annotations

import time
from typing import Final

import trio

from protocols.errors import ProtocolError
from proxyd.gates.http.refusals import Kind, Refusal
from proxyd.http_exchange_state import Caller, ExchangeState
from proxyd.http_judging import Judging
from proxyd.http_refusing import refuse
from proxyd.http_streams import ClientStream, PeerGone
from proxyd.metrics import SessionOutcome
from proxyd.tape.errors import TapeError

# How long the target may think before the client's own connection is watched too.
WATCH_AFTER_S: Final = 1.0
CUT_OFF_TIMEOUT_S: Final = 2.0
PROGRESS_GRACE_S: Final = 5.0


class Exchange:
    """`run` serves it, within `scope`. `stream` is the client's side.

    Whoever cancels `scope` has to call `cut_off` behind it.
    """

    def __init__(self, connection: Caller, stream: ClientStream, scope: trio.CancelScope) -> None:
        self._state = ExchangeState(connection, stream)
        self._scope = scope
        self._cut: Refusal | None = None

    async def run(self) -> None:
        """Raises PeerGone when the client has gone, TapeError when nothing can be recorded any more."""
        try:
            await self._serve()
        except Refusal as refusal:
            await refuse(self._state, refusal)
        except TapeError as fault:
            self._state.gateway.metrics.tape_errors += 1
            if self._state.session is not None:
                self._state.session.end(SessionOutcome.TAPE, "the session cannot be recorded")
            self._state.connection.log.error("tape cannot be written", reason=str(fault))
            await refuse(
                self._state,
                Refusal(
                    503,
                    Kind.INTERNAL,
                    "The session cannot be recorded, so it ends here.",
                    hint="Tell the operators of the gateway.",
                    closes=True,
                ),
                is_taped=False,
            )
        except PeerGone as gone:
            if gone.fault is not None and not self._state.has_answered:
                await refuse(self._state, _broken(gone.fault))
                return
            self._state.note_abort(f"client: {gone.reason}")
            raise
        except Exception:
            self._state.gateway.metrics.session_crashes += 1
            self._state.connection.log.exception("an exchange failed")
            text, hint = "The gateway has failed.", "Tell the operators of the gateway."
            await refuse(self._state, Refusal(500, Kind.INTERNAL, text, hint=hint, closes=True))
        finally:
            if self._state.held_body_bytes and self._state.session is not None:
                subject = self._state.session.subject.name
                self._state.gateway.held_bodies.give_back(subject, self._state.held_body_bytes)
            if self._state.call is not None:
                self._state.call.settle()
                if self._state.call.fault:
                    self._state.connection.log.error(
                        "what was spent is not written down", reason=self._state.call.fault
                    )

    # From outside

    def lose(self, gone: PeerGone) -> None:
        """The client has given the stream up: nobody waits for what the target is asked."""
        if self._state.is_switched:
            return  # what it has said before is still passed on, as over TCP
        if self._state.client_gone is None:
            self._state.client_gone = gone
        self._scope.cancel()

    def end(self) -> None:
        """The session is over: this goes no further."""
        self._scope.cancel()

    def check(self, now: float) -> None:
        """Called every moment by the connection's watcher. `now` is monotonic."""
        session = self._state.session
        if self._state.is_switched:
            return
        if session is None or not self._state.waits_since:
            self._check_progress(now)
            return
        # While the client still sends it is not the target that is late.
        waited_s = (
            0.0 if self._state.awaits_client else now - max(self._state.waits_since, self._state.moved_at)
        )
        timeout_s = session.target.config.timeouts.response
        if waited_s >= timeout_s:
            self._cut = Refusal(
                504,
                Kind.TARGET,
                f"The target has said nothing for {timeout_s:g} seconds.",
                hint="Ask for less at once, or try again.",
            )
            self._scope.cancel()
        elif waited_s >= WATCH_AFTER_S and self._state.stream.is_received and self._state.stream.is_gone:
            self._state.client_gone = PeerGone("closed by the peer")
            self._scope.cancel()

    def _check_progress(self, now: float) -> None:
        """Somebody has to take what is sent: a client or a target that does not read holds up what others wait for."""
        timeout_s = self._state.connection.listener.config.timeouts.body
        if now - self._state.moved_at >= timeout_s + PROGRESS_GRACE_S:
            text = f"Nothing could be sent for {timeout_s:g} seconds."
            self._cut = Refusal(408, Kind.PROTOCOL, text, closes=True)
            self._scope.cancel()

    async def cut_off(self) -> None:
        """It was cancelled: tell the client why, if that can still be said. Raises PeerGone."""
        session = self._state.session
        if session is not None:
            session.running.discard(self)
            session.moved_at = time.monotonic()
        if self._state.client_gone is not None:
            self._state.note_abort(f"client: {self._state.client_gone.reason}")
            raise self._state.client_gone
        refusal = self._cut
        if refusal is None and session is not None and session.ended is not None:
            refusal = session.over()
        if refusal is None:
            refusal = Refusal(503, Kind.NOT_ADMITTED, "The gateway is shutting down.", closes=True)
        refusal.closes = True  # nobody knows how much of either message is still under way
        with trio.move_on_after(CUT_OFF_TIMEOUT_S, shield=True):
            await refuse(self._state, refusal)

    # Within its session

    async def _serve(self) -> None:
        connection, judging = self._state.connection, Judging(self._state)
        prepared = judging.known() or await judging.prepare()
        session = connection.sessions.get(
            prepared.subject, prepared.target, prepared.account, connection.shown_of
        )
        self._state.route = prepared.route
        self._state.number = session.begin_request()
        self._state.session = session
        session.running.add(self)
        try:
            await judging.run(session, prepared)
        finally:
            session.running.discard(self)
            session.moved_at = time.monotonic()


def _broken(fault: ProtocolError) -> Refusal:
    """A request that was sound in its head and is not in its body."""
    status = int(fault.code) if fault.code.isdigit() else 400
    return Refusal(status, Kind.PROTOCOL, f"{fault.message[:1].upper()}{fault.message[1:]}.", closes=True)
