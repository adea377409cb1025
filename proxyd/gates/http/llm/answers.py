"""Watching a model's answer as the client gets it: what it came to, for budgets and for the tape.

Changes nothing, keeps little: of a whole answer at most MAX_WHOLE_BYTES until its end, of a stream one event. What is
longer is not read, and its tokens are counted from its bytes. Fed with decoded bytes (no content coding) by
`proxyd.gates.http.llm.gate`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from policy.llm.length import BYTES_PER_TOKEN
from protocols.errors import LimitExceeded
from protocols.http.event_stream import EventReader
from proxyd.gates.http.llm.answer_facts import AnswerFacts, AnswerReading

MAX_WHOLE_BYTES: Final = 8 << 20
MAX_EVENT_BYTES: Final = 1 << 20
_DONE: Final = b"[DONE]"


class AnswerWatcher:
    """One answer. `is_stream`: it is of type text/event-stream."""

    def __init__(self, *, is_stream: bool) -> None:
        self._reading = AnswerReading()
        self._events = EventReader(event_bytes=MAX_EVENT_BYTES) if is_stream else None
        self._whole: bytearray | None = None if is_stream else bytearray()
        self._unread_bytes = 0

    def feed(self, data: bytes) -> None:
        if self._whole is not None:
            self._whole += data
            if len(self._whole) > MAX_WHOLE_BYTES:
                self._unread_bytes, self._whole = len(self._whole), None
        elif self._events is None:
            self._unread_bytes += len(data)
        else:
            self._feed_events(self._events, data)

    def finish(self) -> AnswerFacts:
        """The answer is over, or has been cut off."""
        if self._whole is not None:
            document = _decoded(bytes(self._whole))
            if document is not None:
                self._reading.take_whole(document)
            self._whole = None
        facts = self._reading.facts()
        if self._unread_bytes and facts.is_estimated:
            more = -(-self._unread_bytes // BYTES_PER_TOKEN)
            return msgspec.structs.replace(facts, output_tokens=facts.output_tokens + more, is_whole=False)
        return facts

    def _feed_events(self, events: EventReader, data: bytes) -> None:
        try:
            for event in events.feed(data):
                self._take(event.data)
        except LimitExceeded:
            self._events = None
            self._unread_bytes += len(data)

    def _take(self, data: bytes | None) -> None:
        if data is None:
            return
        if data.strip() == _DONE:
            self._reading.end()
            return
        document = _decoded(data)
        if document is not None:
            self._reading.take_event(document)


def _decoded(data: bytes) -> object | None:
    try:
        decoded: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return decoded
