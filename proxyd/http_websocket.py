"""A WebSocket once both sides have changed to it: messages from one to the other, masked and recorded.

Two tasks, one for each direction. Frames are read and written anew, so that what is recorded is what is sent. Under
masks a text message is held until it is whole; a binary one is refused, since nobody can tell what is in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import trio

from protocols.errors import ProtocolError
from protocols.http.websocket import (
    GOING_AWAY,
    INTERNAL_ERROR,
    POLICY_VIOLATION,
    PROTOCOL_ERROR,
    Closed,
    Piece,
    Pinged,
    Ponged,
    WebSocket,
)
from proxyd.gates.http.bodies.interfaces import BodyMasks, BodyRefused
from proxyd.gates.http.bodies.transformers import mask_message
from proxyd.http_link import Link, send
from proxyd.http_sessions import HttpSession
from proxyd.tape.errors import TapeError
from proxyd.wire import ConnectionLost

MAX_MESSAGE_BYTES = 1 << 20
CLOSE_TIMEOUT_S = 2.0
# A close is answered within so long, and the end of a stream by the end of the other side's.
ANSWER_TIMEOUT_S = 10.0
PART_TIMEOUT_S = 1.0
# Nobody waits longer for who is cut off, or for a target.
CUT_TIMEOUT_S = 0.25
# Who takes nothing for so long is not there any more.
SEND_TIMEOUT_S = 60.0


class Upgraded(Protocol):
    """An end that has changed its protocol."""

    @property
    def link(self) -> Link: ...
    def leftover(self) -> bytes: ...
    async def part(self, timeout_s: float) -> None:
        """All has been said: let the peer see that, and say so itself, where no connection ends with it."""


class _End:
    def __init__(self, peer: Upgraded, *, is_server: bool) -> None:
        self.link = peer.link
        self.first = peer.leftover()
        self.frames = WebSocket(is_server=is_server)

    async def receive(self) -> bytes:
        first, self.first = self.first, b""
        return first or await self.link.receive()

    async def close(self, code: int, reason: str) -> None:
        """Say that it is over, if that can still be said."""
        if not self.frames.may_close or self.link.is_gone:
            return
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            try:
                await send(self.link, self.frames.send(Closed(code, reason)))
            except (ConnectionLost, ProtocolError):
                return


class _Ended(Exception):
    """`code` and `reason` go to both sides."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Direction:
    """One way. `masks` are those of requests or of answers."""

    def __init__(
        self,
        source: _End,
        sink: _End,
        masks: BodyMasks,
        session: HttpSession,
        exchange: int,
        on_close: Callable[[], None],
        *,
        from_client: bool,
    ) -> None:
        self._source = source
        self._sink = sink
        self._masks = masks
        self._is_masked = bool(masks.json) or masks.detectors is not None
        self._session = session
        self._exchange = exchange
        self._on_close = on_close
        self._from_client = from_client
        self._held: list[str | bytes] = []
        self._held_bytes = 0

    async def run(self) -> None:
        """Until a close has gone through and its sender is gone. Raises _Ended for every other end."""
        side = "client" if self._from_client else "target"
        while True:
            try:
                data = await self._source.receive()
                out = b"".join([self._take(event) for event in self._source.frames.receive(data)])
            except ConnectionLost as lost:
                if self._source.frames.has_closed:
                    return  # it has said what it had to say: the other side answers
                raise _Ended(GOING_AWAY, f"{side}: {lost}") from lost
            except ProtocolError as fault:
                code = PROTOCOL_ERROR if self._from_client else INTERNAL_ERROR
                raise _Ended(code, f"{side} broke the protocol: {fault.message}") from fault
            except BodyRefused as refused:
                raise _Ended(POLICY_VIOLATION, f"proxyd: {refused.reason}") from refused
            self._session.moved_at = time.monotonic()
            if not out:
                continue
            self._session.tape.flush()
            other = "target" if self._from_client else "client"
            try:
                with trio.move_on_after(SEND_TIMEOUT_S) as scope:
                    await send(self._sink.link, out)
            except ConnectionLost as lost:
                raise _Ended(GOING_AWAY, f"{other}: {lost}") from lost
            if scope.cancelled_caught:
                raise _Ended(GOING_AWAY, f"{other}: takes nothing any more")
            if not self._sink.frames.may_close and not self._source.frames.may_close:
                raise _Ended(1000, "closed")

    def _take(self, event: Piece | Pinged | Ponged | Closed) -> bytes:
        match event:
            case Piece():
                return self._take_piece(event)
            case Pinged(data=data):
                self._record("ping", data)
            case Ponged(data=data):
                self._record("pong", data)
            case Closed(code=code, reason=reason):
                self._record("close", f"{code} {reason}".strip().encode())
                self._on_close()
        frames = self._sink.frames
        if not (frames.may_close if isinstance(event, Closed) else frames.is_open):
            return b""  # what still comes behind a close goes nowhere
        return self._sink.frames.send(event)

    def _take_piece(self, piece: Piece) -> bytes:
        self._held.append(piece.data)
        self._held_bytes += len(piece.data) + 1  # empty ones take room too
        if not piece.ends:
            if self._is_masked and self._held_bytes > MAX_MESSAGE_BYTES:
                raise BodyRefused("a message is too long to be masked", "Send shorter messages.")
            if not self._is_masked:
                return self._pass(piece.data, ends=False)
            return b""
        if not self._is_masked:
            return self._pass(piece.data, ends=True)
        held, self._held, self._held_bytes = self._held, [], 0
        if not isinstance(piece.data, str):
            raise BodyRefused("binary messages cannot be masked", "Ask for access without masks.")
        text, counts = mask_message("".join(str(part) for part in held), self._masks)
        if counts:
            self._session.tape.masked(self._exchange, counts)
        return self._pass(text, ends=True)

    def _pass(self, data: str | bytes, *, ends: bool) -> bytes:
        if not self._is_masked:
            self._held, self._held_bytes = [], 0
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        self._record("text" if isinstance(data, str) else "binary", raw)
        if not self._sink.frames.is_open:
            return b""
        return self._sink.frames.send(Piece(data, ends))

    def _record(self, kind: str, data: bytes) -> None:
        self._session.tape.message(self._exchange, self._from_client, kind, data)


async def relay_messages(
    client: Upgraded,
    target: Upgraded,
    session: HttpSession,
    exchange: int,
    request_masks: BodyMasks,
    response_masks: BodyMasks,
) -> None:
    """Until either side is done. When the session is ended meanwhile the client is told so by a close."""
    ours = _End(client, is_server=True)
    theirs = _End(target, is_server=False)
    ends: list[_Ended] = []
    faults: list[TapeError] = []
    end = _Ended(POLICY_VIOLATION, "")
    timeout_s = CUT_TIMEOUT_S

    async def run(direction: _Direction) -> None:
        try:
            await direction.run()
        except _Ended as why:
            ends.append(why)
            nursery.cancel_scope.cancel()
        except TapeError as fault:
            ends.append(_Ended(INTERNAL_ERROR, "proxyd: the session cannot be recorded"))
            faults.append(fault)
            nursery.cancel_scope.cancel()

    def hurry() -> None:
        """A close has gone through one way: the other side has so long to answer it."""
        nursery.cancel_scope.deadline = min(
            nursery.cancel_scope.deadline, trio.current_time() + ANSWER_TIMEOUT_S
        )

    there = _Direction(ours, theirs, request_masks, session, exchange, hurry, from_client=True)
    back = _Direction(theirs, ours, response_masks, session, exchange, hurry, from_client=False)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, there)
            nursery.start_soon(run, back)
        end = ends[0] if ends else _Ended(GOING_AWAY, "a close was not answered")
        timeout_s = PART_TIMEOUT_S
    finally:
        if not end.reason:
            end = _Ended(POLICY_VIOLATION, _why(session))
        await theirs.close(GOING_AWAY if end.code in (POLICY_VIOLATION, PROTOCOL_ERROR) else end.code, "")
        await ours.close(end.code, end.reason if end.reason.startswith("proxyd") else "")
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.part, timeout_s)
                nursery.start_soon(target.part, CUT_TIMEOUT_S)
    if faults:
        raise faults[0]


def _why(session: HttpSession) -> str:
    reason = session.ended[1] if session.ended is not None else "the gateway is shutting down"
    return f"proxyd: this session was ended: {reason}"
