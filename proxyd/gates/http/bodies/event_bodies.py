"""Server-sent events under masks: each event is masked and leaves as soon as its blank line has come.

The data of an event that begins like an object or array is JSON and has to parse; other data is text. What a text runs
over several events (as models' answers do) is not put together here: see the gate of the models' APIs.

Events that come together are looked at together first (`event_runs`), and only those in which something may be are
taken apart.
"""

from __future__ import annotations

from collections import Counter

from policy.masking import MaskingError
from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.event_stream import Event, EventLine, EventReader
from proxyd.gates.http.bodies.event_runs import EventRuns
from proxyd.gates.http.bodies.interfaces import BodyRefused
from proxyd.gates.http.bodies.messages import masked_text
from proxyd.gates.http.bodies.plan import Plan

_FIELDS = (b"", b"event", b"id", b"retry")
_DONE = "[DONE]"  # what ends the streams of some APIs, in place of JSON
_MARK = b"\xef\xbb\xbf"
_END = b"\n\n"


class EventBody:
    def __init__(self, plan: Plan) -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._runs = EventRuns(plan)
        self._events = EventReader(event_bytes=plan.limits.event_bytes)
        self._is_plain = True  # so far all lines end with a line feed: where events end needs no reader
        self._held: list[bytes] = []
        self._held_bytes = 0

    def feed(self, data: bytes) -> bytes:
        if not self._is_plain:
            return self._taken_apart(data)
        if not self._held_bytes and data[:1] in (b"", _MARK[:1]):
            self._is_plain = False
            return self._taken_apart(data)
        held_end = self._held[-1][-1:] if self._held else b""
        has_end = _END in data or (held_end == b"\n" and data.startswith(b"\n"))
        self._held.append(data)
        self._held_bytes += len(data)
        if b"\r" in data:
            self._is_plain = False
            return self._taken_apart(self._all_held())
        if has_end:
            held = self._all_held()
            end = held.rfind(_END) + len(_END)
            if end < len(held):
                self._held.append(held[end:])
                self._held_bytes = len(held) - end
            return self._masked_run(held[:end])
        if self._held_bytes > self._plan.limits.event_bytes:
            raise BodyRefused(f"it holds an event longer than {self._plan.limits.event_bytes} bytes")
        return b""

    def finish(self) -> bytes:
        try:
            rest = self._taken_apart(self._all_held())
            return rest + b"".join([self._masked(event) for event in self._events.finish()])
        except LimitExceeded as fault:
            raise BodyRefused(f"it holds {fault.message}") from fault

    def _all_held(self) -> bytes:
        held = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held = []
        self._held_bytes = 0
        return held

    def _masked_run(self, run: bytes) -> bytes:
        """Whole events."""
        places = self._runs.doubtful(run)
        if places is None:
            return self._taken_apart(run)
        if not places:
            return run
        out: list[bytes] = []
        position = 0
        for start, end in places:
            out += (run[position:start], self._taken_apart(run[start:end]))
            position = end
        out.append(run[position:])
        return b"".join(out)

    def _taken_apart(self, data: bytes) -> bytes:
        try:
            return b"".join([self._masked(event) for event in self._events.feed(data)])
        except LimitExceeded as fault:
            raise BodyRefused(f"it holds {fault.message}") from fault

    def _masked(self, event: Event) -> bytes:
        try:
            if "\0" in event.raw.decode():  # another encoding, in which nothing would be found
                raise BodyRefused("it holds an event with NUL characters")
            lines = [self._masked_line(line) for line in event.lines]
            data = event.data
            if data is None:
                return b"".join(line.raw for line in lines)
            text = data.decode()
            masked = text if text.strip() == _DONE else masked_text(text, self._plan, self.counts)
        except UnicodeDecodeError:
            raise BodyRefused("it holds an event that is not UTF-8") from None
        except (RemoteProtocolError, MaskingError) as fault:
            raise BodyRefused("it holds an event that cannot be masked") from fault
        event = Event(tuple(lines))
        # A line end inside of the data would end its line: JSON has them only between its tokens.
        return event.raw if masked == text else event.with_data(masked.replace("\r", "\n").encode())

    def _masked_line(self, line: EventLine) -> EventLine:
        """Of the lines beside the data: detectors look through them, and they must not hold what is masked."""
        if line.field == b"data":
            return line
        if line.field not in _FIELDS:
            raise BodyRefused("it holds a line that is none of an event")
        text = line.value.decode()
        if self._plan.keys_masked(text):
            raise BodyRefused("it holds a line beside its data that names a field that is masked")
        detected = self._plan.detected(text, self.counts)
        if detected == text:
            return line
        return EventLine(line.field, detected.encode(), line.end, line.prefix)
