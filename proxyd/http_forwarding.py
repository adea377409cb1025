"""An allowed and recorded request on its way to the target, and the answer back.

A request that is here whole is sent in one go; one that streams is sent by a second task while the answer is read. What
was sent on a connection that turned out to be closed is sent once more, where that is safe. Called by `http_judging`.
"""

from __future__ import annotations

import os
import time
from typing import Final

import trio

from policy.http.masks import HttpMasks
from protocols.http.messages import Data, RequestHead
from proxyd.gates.http import requests
from proxyd.gates.http.bodies.interfaces import BodyRefused, Transformer
from proxyd.gates.http.refusals import Kind, Refusal
from proxyd.gates.http.upgrades import KEY_BYTES, client_key, new_key, with_key
from proxyd.http1_connection import Http1Target
from proxyd.http_answering import CONTINUE, Answering
from proxyd.http_exchange_state import ExchangeState
from proxyd.http_pool import TargetUnavailable
from proxyd.http_sessions import HttpSession
from proxyd.http_streams import PeerGone, TargetStream

# A target that says nothing to `Expect` for so long is sent the body all the same (RFC 9110, 10.1.1).
CONTINUE_TIMEOUT_S: Final = 1.0
# RFC 9110, 9.2.2: what may be asked again when nobody knows whether it was heard.
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class Forwarding:
    """One request."""

    __slots__ = ("_head", "_state", "_upload_fault")

    def __init__(self, state: ExchangeState) -> None:
        self._state = state
        self._head: RequestHead | None = None
        self._upload_fault: Exception | None = None

    async def run(
        self,
        session: HttpSession,
        head: RequestHead,
        masks: HttpMasks,
        body: bytes,
        masker: Transformer | None,
        *,
        is_whole: bool,
        encoded: bytes = b"",
    ) -> None:
        """`encoded`: the head as HTTP/1.1 has it, where it is known."""
        tape, number = session.tape, self._state.number
        self._head = head
        if self._state.trailers:
            self._state.trailers = requests.trailers_behind(head, self._state.trailers)
        if is_whole:
            tape.request_end(number, self._state.trailers)
        tape.flush()
        pool = self._state.gateway.http_pools.of(session.target, session.account)
        is_upgrade = bool(head.upgrade)
        key = client_key(self._state.head) if is_upgrade else ""
        is_idempotent = head.method in IDEMPOTENT and not is_upgrade
        is_fresh = False
        while True:
            try:
                upstream, release = await pool.acquire(
                    session.subject.name, is_fresh=is_fresh, is_upgrade=is_upgrade
                )
            except TargetUnavailable as fault:
                if self._state.call is not None:
                    self._state.call.unsent()
                raise _unavailable(fault) from fault
            try:
                if is_upgrade:
                    await self._ask_for_upgrade(upstream, head, key)
                    await Answering(self._state).run(session, upstream, masks)
                    return
                upstream.put_head(head, encoded)
                if body:
                    upstream.put_data(body)
                if is_whole:
                    upstream.put_end(self._state.trailers)
                    await upstream.flush()
                    await Answering(self._state).run(session, upstream, masks)
                else:
                    await self._exchange_bodies(session, upstream, masks, masker)
                return
            except PeerGone as gone:
                if self._state.client_gone is gone:
                    raise
                is_unheard = gone.is_unheard or (gone.is_untouched and is_idempotent)
                if is_unheard and is_whole and not is_fresh and not self._state.has_answered:
                    is_fresh = True  # a connection kept open was closed meanwhile: once more, on a new one
                    continue
                raise self._target_lost(gone) from gone
            finally:
                release()

    async def _ask_for_upgrade(self, upstream: TargetStream, head: RequestHead, client_key: str) -> None:
        """Each hop has a key of its own. Over HTTP/2 there is none, and the request ends with the messages."""
        sent_key = new_key(os.urandom(KEY_BYTES)) if isinstance(upstream, Http1Target) else ""
        self._state.websocket_keys = client_key, sent_key
        upstream.put_head(with_key(head, sent_key) if sent_key else head)
        if sent_key:
            upstream.put_end()
        await upstream.flush()

    def _target_lost(self, gone: PeerGone) -> Refusal:
        return Refusal(
            502,
            Kind.TARGET,
            "The target has closed the connection, or answered what is not HTTP.",
            hint="Try again in a moment.",
            reason=f"target: {gone.reason}",
        )

    async def _exchange_bodies(
        self,
        session: HttpSession,
        upstream: TargetStream,
        masks: HttpMasks,
        masker: Transformer | None,
    ) -> None:
        """Send the rest of the body and read the answer, at the same time."""
        fault: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upload, session, upstream, masker, nursery.cancel_scope)
            try:
                await Answering(self._state).run(session, upstream, masks)
            except Exception as found:  # raised below: a nursery would put it into a group
                fault = found
            nursery.cancel_scope.cancel()
        if self._upload_fault is not None:
            raise self._upload_fault
        if self._state.client_gone is not None:
            raise self._state.client_gone
        if fault is not None:
            raise fault

    async def _upload(
        self,
        session: HttpSession,
        upstream: TargetStream,
        masker: Transformer | None,
        scope: trio.CancelScope,
    ) -> None:
        try:
            await self._upload_rest(session, upstream, masker)
        except BodyRefused as refused:
            self._upload_fault = Refusal(
                415,
                Kind.DENIED,
                f"The body cannot be masked: {refused.reason}.",
                hint=refused.hint,
                closes=True,
            )
        except PeerGone as gone:
            if self._state.client_gone is not gone:
                return  # the target reads no more: what it answers is still read
        except Exception as fault:
            self._upload_fault = fault
        else:
            return
        scope.cancel()

    async def _upload_rest(
        self, session: HttpSession, upstream: TargetStream, masker: Transformer | None
    ) -> None:
        tape, number, stream = session.tape, self._state.number, self._state.stream
        if self._state.head.expects_continue and self._state.may_send is None:
            may_send = self._state.may_send = trio.Event()
            await upstream.flush()
            with trio.move_on_after(CONTINUE_TIMEOUT_S):
                await may_send.wait()
            if self._state.has_final:
                return  # it has answered without the body, which the client may keep
            if not may_send.is_set():
                may_send.set()
                stream.put_head(CONTINUE)
                await self._state.client_flush()
        while True:
            is_target = False
            try:
                event = stream.poll()
                if event is None:
                    tape.flush()
                    is_target = True
                    await upstream.flush()
                    is_target = False
                    event = await self._state.from_client()
            except PeerGone as gone:
                if not is_target:
                    self._state.client_gone = gone
                raise
            session.moved_at = self._state.moved_at = time.monotonic()
            if isinstance(event, Data):
                data = event.data if masker is None else masker.feed(event.data)
                if data:
                    tape.request_body(number, data)
                    upstream.put_data(data)
                continue
            rest = b"" if masker is None else masker.finish()
            if rest:
                tape.request_body(number, rest)
                upstream.put_data(rest)
            if masker is not None:
                self._state.note_masked(masker)
            trailers = requests.trailers_behind(self._head, event.trailers)
            tape.request_end(number, trailers)
            tape.flush()
            upstream.put_end(trailers)
            await upstream.flush()
            return


def _unavailable(fault: TargetUnavailable) -> Refusal:
    if fault.status != 429:
        return Refusal(fault.status, Kind.TARGET, fault.text, hint=fault.hint, reason=fault.reason)
    hint = "Wait for the answers to others first."
    return Refusal(
        429, Kind.LIMIT, fault.text, hint=hint, reason=fault.reason, headers=(("retry-after", "1"),)
    )
