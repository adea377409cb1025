"""The answer of a target on its way to the client: interim answers, its head, its body under masks, its end.

What an answer says is on the tape before it leaves. An answer that has to be masked is held back until enough of it is
known to be maskable, so that one that is not becomes an error and not half an answer. Called by `http_forwarding`.
"""

from __future__ import annotations

import time
from typing import Final

from policy.http.masks import HttpMasks
from protocols.http.messages import Data, Headers, MessageEnded, ResponseHead
from proxyd.gates.http import requests
from proxyd.gates.http.answers import client_headers
from proxyd.gates.http.bodies.interfaces import BodyRefused, Transformer
from proxyd.gates.http.bodies.transformers import transformer_for
from proxyd.gates.http.refusals import GRPC, Kind, Refusal
from proxyd.gates.http.upgrades import changed, refuse_unchanged
from proxyd.http1_connection import Http1Client, Http1Target
from proxyd.http2_streams import Http2Request, Http2Stream
from proxyd.http_exchange_state import ExchangeState
from proxyd.http_sessions import HttpSession
from proxyd.http_streams import TargetStream
from proxyd.http_websocket import relay_messages

HELD_BACK_BYTES: Final = 64 * 1024
STREAMED_TYPES: Final = ("text/event-stream", "application/x-ndjson", "application/jsonl", GRPC)

CONTINUE = ResponseHead(100, ())


class Answering:
    """One answer."""

    __slots__ = ("_held", "_held_bytes", "_held_data", "_state", "_transformer")

    def __init__(self, state: ExchangeState) -> None:
        self._state = state
        self._held: ResponseHead | None = None
        self._held_data: list[bytes] = []
        self._held_bytes = 0
        self._transformer: Transformer | None = None

    async def run(self, session: HttpSession, upstream: TargetStream, masks: HttpMasks) -> None:
        """Until the end of the answer. Raises Refusal, PeerGone, TapeError."""
        tape, number, stream = session.tape, self._state.number, self._state.stream
        while True:
            event = upstream.poll()
            if event is None:
                if self._state.has_answered:
                    await self._state.flush(session)
                session.moved_at = self._state.waits_since = time.monotonic()
                event = await upstream.receive()
                self._state.waits_since = 0.0
                self._state.moved_at = time.monotonic()
            if isinstance(event, Data):
                self._pass_on(session, event.data)
            elif isinstance(event, MessageEnded):
                self._finish_body(session)
                trailers = event.trailers
                if self._transformer is not None:  # they go through no mask
                    trailers = tuple([field for field in trailers if field[0] == "grpc-status"])
                tape.response_end(number, trailers)
                stream.put_end(trailers)
                await self._state.flush(session)
                return
            else:
                self._state.has_final = event.status >= 200
                if event.status == 101:
                    await self._switch(session, event, upstream, masks)
                    return
                if event.status < 200:
                    self._interim(session, event, masks)
                    await self._state.flush(session)
                    continue
                if event.status == 401:
                    session.account.injector.invalidate()
                refuse_unchanged(self._state.head, event)
                self._start_answer(session, event, masks)

    def _interim(self, session: HttpSession, head: ResponseHead, masks: HttpMasks) -> None:
        if head.status == 100:
            if self._state.may_send is not None and not self._state.may_send.is_set():
                self._state.may_send.set()
                self._state.stream.put_head(CONTINUE)
        elif self._state.head.version != "1.0":
            headers = self._headers(session, head, is_changed=not masks.response.is_empty)
            session.tape.response(self._state.number, head.status, headers, made_here=False)
            self._state.stream.put_head(ResponseHead(head.status, headers))

    def _headers(self, session: HttpSession, head: ResponseHead, *, is_changed: bool) -> Headers:
        """What the client gets of the fields of a head, whatever its status."""
        route = self._state.route
        if route is None:
            raise RuntimeError("an answer without a route")
        return client_headers(head.headers, route, session.account.upstream, is_changed=is_changed)

    def _start_answer(self, session: HttpSession, head: ResponseHead, masks: HttpMasks) -> None:
        if masks.response.is_empty and self._state.call is None:
            headers = self._headers(session, head, is_changed=False)
            if headers is not head.headers or not head.keep_alive:
                head = ResponseHead(head.status, headers, head.body_bytes)
            self._state.has_answered = True
            self._state.answered = head
            session.tape.response(self._state.number, head.status, headers, made_here=False)
            self._state.stream.put_head(head)
            return
        has_body = (
            self._state.head.method != "HEAD" and head.status not in (204, 304) and head.body_bytes != 0
        )
        transformer = None
        content_type = requests.content_type_of(head.headers)
        if has_body:
            transformer = self._response_transformer(head, content_type, masks)
        is_changed = transformer is not None or (not has_body and not masks.response.is_empty)
        headers = self._headers(session, head, is_changed=is_changed)
        self._transformer = transformer
        # Also where the body is not sent (HEAD, 304): the length of what a mask would change tells of its values.
        length = None if is_changed and head.body_bytes != 0 else head.body_bytes
        self._held = ResponseHead(head.status, headers, length)
        if transformer is None or content_type.startswith(STREAMED_TYPES):
            self._let_go(session)

    def _let_go(self, session: HttpSession) -> None:
        """From here on the answer is the target's, whatever comes."""
        head, self._held = self._held, None
        if head is None:
            return
        self._state.has_answered = True
        self._state.answered = head
        session.tape.response(self._state.number, head.status, head.headers, made_here=False)
        self._state.stream.put_head(head)
        for data in self._held_data:
            self._put(session, data)
        self._held_data = []

    def _response_transformer(
        self, head: ResponseHead, content_type: str, masks: HttpMasks
    ) -> Transformer | None:
        if masks.response.is_empty and self._state.call is None:
            return None
        encoding = requests.content_encoding_of(head.headers)
        try:
            if not masks.response.is_empty:
                _check_readable(head)
            encoding = "" if requests.is_plain(encoding) else encoding
            if self._state.call is not None:
                return self._state.call.answer_transformer(
                    head.status, content_type, encoding, masks.response
                )
            return transformer_for(content_type, masks.response, content_encoding=encoding)
        except BodyRefused as refused:
            raise self._unmaskable(refused) from refused

    def _unmaskable(self, refused: BodyRefused) -> Refusal:
        return Refusal(
            502, Kind.TARGET, f"The target's answer cannot be masked: {refused.reason}.", hint=refused.hint
        )

    def _pass_on(self, session: HttpSession, data: bytes) -> None:
        transformer = self._transformer
        if transformer is not None:
            try:
                data = transformer.feed(data)
            except BodyRefused as refused:
                raise self._unmaskable(refused) from refused
        if not data:
            return
        if self._held is not None:
            self._held_data.append(data)
            self._held_bytes += len(data)
            if self._held_bytes >= HELD_BACK_BYTES:
                self._let_go(session)
            return
        self._put(session, data)

    def _put(self, session: HttpSession, data: bytes) -> None:
        session.tape.response_body(self._state.number, data)
        self._state.stream.put_data(data)
        self._state.last_data = data

    def _finish_body(self, session: HttpSession) -> None:
        transformer = self._transformer
        if transformer is not None:
            try:
                rest = transformer.finish()
            except BodyRefused as refused:
                raise self._unmaskable(refused) from refused
            self._let_go(session)
            if rest:
                self._put(session, rest)
            self._state.note_masked(transformer)
        if self._state.call is not None:
            used = self._state.call.record_answer(session.tape, self._state.number)
            if used is not None:
                numbers = self._state.gateway.metrics.model(session.target.facts.name)
                numbers.add(used.input_tokens or 0, used.output_tokens or 0, used.cost_usd or 0.0)

    async def _switch(
        self, session: HttpSession, head: ResponseHead, upstream: TargetStream, masks: HttpMasks
    ) -> None:
        """The target changes to WebSocket: from here on it is messages."""
        stream = self._state.stream
        if not isinstance(stream, Http1Client | Http2Request) or not isinstance(
            upstream, Http1Target | Http2Stream
        ):
            raise RuntimeError("a change of protocol where there is none")
        client_key, sent_key = self._state.websocket_keys
        head = changed(head, self._headers(session, head, is_changed=False), sent_key, client_key)
        session.tape.response(self._state.number, 101, head.headers, made_here=False)
        session.tape.flush()
        self._state.has_answered = True
        stream.put_head(head)
        await self._state.client_flush()
        stream.upgraded = self._state.is_switched = True
        await relay_messages(stream, upstream, session, self._state.number, masks.request, masks.response)
        session.tape.response_end(self._state.number)
        session.tape.flush()


def _check_readable(head: ResponseHead) -> None:
    """Raises BodyRefused for a body that is cut out of another, or that clients take for different things."""
    if head.status == 206:
        raise BodyRefused("the target sent a part of a body, and masks apply to it")
    if sum(name == "content-type" for name, _ in head.headers) > 1:
        raise BodyRefused("it has two content types")
