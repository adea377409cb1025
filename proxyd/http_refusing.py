"""The gateway's own answer to a request that it does not pass on, or whose answer it cannot pass on.

In the shape that the client's SDK knows, on the tape, and so that the connection stays usable where it can. Called by
`http_exchange`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

import trio

from policy.decision import Decision, Effect, Reason
from policy.shown_text import shown
from protocols.http.messages import Headers, MessageEnded, RequestHead
from proxyd.gates.http import requests
from proxyd.gates.http.llm.call import in_shape_of, sdk_of
from proxyd.gates.http.refusals import GRPC, Answer, Kind, Refusal, answer
from proxyd.http_exchange_state import ExchangeState
from proxyd.http_sessions import HttpSession
from proxyd.http_streams import PeerGone
from proxyd.metrics import SessionOutcome
from proxyd.tape.errors import TapeError
from proxyd.tape.http_secrets import REMOVED, without_url_secrets

# What of a refused body is read away, so that the connection can be used again.
MAX_DRAINED_BYTES: Final = 1 << 20
DRAIN_TIMEOUT_S: Final = 2.0
EVENTS: Final = "text/event-stream"
_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:[.][A-Za-z0-9_-]*)*")  # a JWT, or the beginning of one
EVENT_ENDS: Final = (b"\n\n", b"\r\r", b"\r\n\r\n")


async def refuse(state: ExchangeState, refusal: Refusal, *, is_taped: bool = True) -> None:
    """Tell the client. Raises PeerGone."""
    session, connection = state.session, state.connection
    if session is None:
        connection.log_refusal(refusal, state.head, state.subject)
    elif refusal.kind not in (Kind.DENIED, Kind.HELD):
        connection.log_failure(session, refusal)
    if state.has_answered:
        await _break_off(state, refusal)
        return
    is_grpc = requests.content_type_of(state.head.headers).startswith(GRPC)
    sdk = sdk_of(state.head.headers) if state.call is None and not is_grpc else ""
    if state.call is not None and not is_grpc:
        refusal = state.call.in_its_shape(refusal)
    elif sdk:
        refusal = in_shape_of(sdk, refusal)
    if state.head.version != "2" and not refusal.closes and not await _drained(state):
        refusal.closes = True  # the rest of the body would be taken for the next request
    told = answer(refusal, is_grpc=is_grpc)
    if session is not None and is_taped and session.tape.is_usable:
        _record_refusal(state, session, told, refusal)
    state.stream.put_head(told.head)
    state.stream.put_data(told.body)
    state.stream.put_end(told.trailers)
    await state.stream.flush()
    if state.head.version == "2" and not refusal.closes and not state.head.upgrade:
        # A reset would do. But some clients (httpx) send to the end before they look at the answer.
        with suppress(PeerGone):
            await _drained(state)


def told_of(head: RequestHead) -> dict[str, str]:
    """What was asked for, for the log: without query, whose values are nobody's business there, and without tokens that
    somebody has put into the path."""
    path = _TOKEN.sub(REMOVED, without_url_secrets(head.target.partition("?")[0]))
    return {
        "method": shown(head.method),
        "host": shown(head.authority),
        "path": shown(path),
        "version": head.version,
    }


async def _break_off(state: ExchangeState, refusal: Refusal) -> None:
    """The answer is under way. In one of events or of gRPC there is room for a last word; any other just breaks off."""
    word, trailers = _last_word(state, refusal)
    session, stream = state.session, state.stream
    is_whole = False
    try:
        if word and session is not None and session.tape.is_usable:
            session.tape.response_body(state.number, word)
        state.note_abort(refusal.reason)
        if word:
            stream.put_data(word)
        elif trailers:
            stream.put_end(trailers)
        await stream.flush()  # also what stands on the tape as told already
        is_whole = bool(trailers)
    except (PeerGone, TapeError) as fault:
        state.connection.log.debug("a last word was not said", reason=str(fault))
    finally:
        if not is_whole:
            stream.abandon(refusal.reason)


def _last_word(state: ExchangeState, refusal: Refusal) -> tuple[bytes, Headers]:
    head = state.answered
    if head is None or state.is_switched or head.body_bytes is not None:
        return b"", ()
    content_type = requests.content_type_of(head.headers)
    if content_type.startswith(GRPC):
        return b"", answer(refusal, is_grpc=True).head.headers[1:]
    is_plain = requests.is_plain(requests.content_encoding_of(head.headers))
    if not content_type.startswith(EVENTS) or not is_plain or not state.last_data.endswith(EVENT_ENDS):
        return b"", ()
    if state.call is not None:
        refusal = state.call.in_its_shape(refusal)
    data = answer(refusal).body.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"event: error\ndata: " + data + b"\n\n", ()


async def _drained(state: ExchangeState) -> bool:
    """Read away what is left of the body, if that is little and on its way: then the connection stays usable."""
    stream = state.stream
    if stream.is_received:
        return True
    if state.head.expects_continue and (state.may_send is None or not state.may_send.is_set()):
        return False  # it may come or not
    left = MAX_DRAINED_BYTES
    with trio.move_on_after(DRAIN_TIMEOUT_S):
        while left > 0:
            event = await stream.receive()
            if isinstance(event, MessageEnded):
                return True
            left -= len(event.data)
    return False


def _record_refusal(state: ExchangeState, session: HttpSession, told: Answer, refusal: Refusal) -> None:
    tape, number = session.tape, state.number
    try:
        if not state.is_recorded:
            url = state.head.target
            headers = requests.shown_headers(state.head.headers, "")
            tape.request(
                number,
                state.head.method,
                url,
                state.head.version,
                headers,
                None,
                refused_decision(refusal),
            )
        elif refusal.kind is Kind.TARGET:
            tape.event("answer refused", {"exchange": number, "reason": refusal.reason})
        tape.response(number, told.head.status, told.head.headers, made_here=True)
        tape.response_body(number, told.body)
        tape.response_end(number)
        tape.flush()
    except TapeError as fault:
        state.connection.log.error("tape cannot be written", reason=str(fault))
        session.end(SessionOutcome.TAPE, "the session cannot be recorded")


def refused_decision(refusal: Refusal) -> Decision:
    """On the tape: refused for a reason outside of the policy's rules."""
    return Decision(Effect.DENY, (Reason(refusal.rule, refusal.reason, refusal.hint),))
