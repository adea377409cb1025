"""Whatever is recorded, in whatever order, reads back as it was; whatever a forged tape holds harms nobody."""

from __future__ import annotations

import base64
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyd.tape.entries import HTTP, entry_of
from proxyd.tape.format import Frame, Whole, unpack
from proxyd.tape.frames import FrameKind
from proxyd.tape.har import HarExport
from proxyd.tape.http_taping import HttpTape
from proxyd.tape.json_lines import entry_json
from proxyd.tape.live import LiveView
from proxyd.tape.reader import read_tape
from proxyd.tape.render import Renderer
from tests.proxyd.tape.http_tapes import ALLOWED, URL, facts, http_tape
from tests.proxyd.tape.tapes import Clock, header
from tests.proxyd.tape.test_har import VALIDATOR

LIMIT = 40_000
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("request", "up", "up end", "answer", "down", "down end", "abort", "flush", "note", "wait")
        ),
        st.integers(0, 3),
        st.one_of(st.binary(max_size=20), st.integers(0, 60_000).map(bytes)),
    ),
    max_size=40,
)


class _Expected:
    """What one exchange has to be in the export."""

    def __init__(self) -> None:
        self.up = b""
        self.down: bytes | None = None
        self.is_up_ended = False


class _Relay:
    """Calls a tape as a relay may: nothing of an exchange that has not begun or is over, all else in any order."""

    def __init__(self, tape: HttpTape, clock: Clock) -> None:
        self.tape, self.clock = tape, clock
        self.open: dict[int, _Expected] = {}
        self.over: list[_Expected] = []

    def step(self, what: str, number: int, data: bytes) -> None:
        tape, exchange = self.tape, self.open.get(number)
        if what == "wait":
            self.clock.now_s += 0.25
        elif what == "flush":
            tape.flush()
        elif what == "request":
            if exchange is not None:
                self.over.append(exchange)
            self.open[number] = _Expected()
            tape.request(number, "POST", URL, "2", (("x", str(len(data))),), facts(), ALLOWED)
        elif exchange is not None:
            self._go_on(exchange, what, number, data)

    def _go_on(self, exchange: _Expected, what: str, number: int, data: bytes) -> None:
        tape = self.tape
        match what:
            case "up" if not exchange.is_up_ended:
                exchange.up += data
                tape.request_body(number, data)
            case "up end" if not exchange.is_up_ended:
                exchange.is_up_ended = True
                tape.request_end(number, (("x", "y"),) if len(data) % 2 else ())
            case "answer" if exchange.down is None:
                exchange.down = b""
                tape.response(number, 200, (("content-type", "image/png"),), made_here=False)
            case "down" if exchange.down is not None:
                exchange.down += data
                tape.response_body(number, data)
            case "down end" if exchange.down is not None:
                tape.response_end(number)
                self.over.append(self.open.pop(number))
            case "abort":
                tape.aborted(number, "gone")
                self.over.append(self.open.pop(number))
            case "note":
                tape.masked(number, {"m": 1})


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_what_was_recorded_reads_back(steps: list[tuple[str, int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        clock = Clock()
        relay = _Relay(http_tape(Path(directory), clock, limit=LIMIT), clock)
        for step in steps:
            relay.step(*step)
        relay.tape.end("left")
        with read_tape(relay.tape.path) as tape:
            assert tape.header is not None
            entries = list(tape.entries())
            assert isinstance(tape.verdict, Whole)
            with HarExport(tape.header) as har:
                document = json.loads("".join(har.pieces(entries, lambda: "")))
    VALIDATOR.validate(document)
    expected = [*relay.over, *relay.open.values()]
    found = document["log"]["entries"]
    assert sorted(map(_found, found)) == sorted(map(_told, expected))


def _told(exchange: _Expected) -> tuple[int, bytes, int, bytes]:
    down = exchange.down
    return len(exchange.up), exchange.up[:LIMIT], -1 if down is None else len(down), (down or b"")[:LIMIT]


def _found(entry: dict[str, Any]) -> tuple[int, bytes, int, bytes]:
    request, response = entry["request"], entry["response"]
    data = request.get("postData", {"text": ""})
    is_base64 = data.get("_encoding") == "base64"
    up = base64.b64decode(data["text"]) if is_base64 else data["text"].encode()
    return (
        request["bodySize"],
        up,
        response["bodySize"],
        base64.b64decode(response["content"].get("text", "")),
    )


_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.integers(-3, 3),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(("\x1b[2J", "\u202e", "GET", "text", "ping", "denied")),
        st.binary(max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(-9, 9)), inner, max_size=2),
    ),
    max_leaves=4,
)
_SMALL = st.integers(0, 2)
_TEXT = st.one_of(
    st.text(max_size=6), st.sampled_from(("\x1b]0;x\x07", "CONNECT", "content-type", "text/event-stream"))
)
_RAW = st.binary(max_size=12)
_SHAPES: dict[int, tuple[st.SearchStrategy[Any], ...]] = {
    FrameKind.HTTP_HEADERS: (_SMALL, st.lists(_TEXT, max_size=5)),
    FrameKind.HTTP_REQUEST: (_SMALL, _SMALL, _TEXT, _TEXT, _TEXT, _SMALL, _RAW, st.booleans()),
    FrameKind.HTTP_RESPONSE: (
        _SMALL,
        st.integers(-(2**63), 2**63),
        _SMALL,
        st.booleans(),
        _RAW,
        st.booleans(),
    ),
    FrameKind.HTTP_BODY: (_SMALL, st.integers(-1, 2), _RAW),
    FrameKind.HTTP_BODY_END: (
        _SMALL,
        st.integers(-1, 2),
        st.integers(-5, 2**60),
        st.integers(-5, 2**60),
        _RAW,
        st.lists(_TEXT, max_size=3),
    ),
    FrameKind.HTTP_MESSAGE: (_SMALL, st.integers(-1, 2), _TEXT, _RAW, st.integers(-5, 2**60), _RAW),
    FrameKind.HTTP_ABORTED: (_SMALL, _TEXT),
    FrameKind.HTTP_MASKED: (_SMALL, st.dictionaries(_TEXT, st.integers(-5, 2**60), max_size=2)),
    FrameKind.HTTP_TOOL_CALL: (_SMALL, _TEXT, _TEXT, st.integers(-5, 2**60)),
    FrameKind.HTTP_USAGE: (_SMALL, st.dictionaries(_TEXT, _VALUES, max_size=2)),
}
_FRAMES = st.one_of(
    *(st.tuples(st.just(int(kind)), st.tuples(*shape)) for kind, shape in _SHAPES.items()),
    st.tuples(st.integers(0, 30), st.lists(_VALUES, max_size=8).map(tuple)),
)


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), _FRAMES), max_size=25))
def test_a_forged_tape_harms_nobody(frames: list[tuple[int, tuple[int, tuple[object, ...]]]]) -> None:
    """Its frames are sound as bytes, and hold anything."""
    entries = []
    for position, (at_us, (kind, fields)) in enumerate(frames):
        packed = msgpack.packb((kind, at_us, *fields), unicode_errors="surrogatepass")
        parts = unpack(packed)
        assert parts is not None
        entries.append(entry_of(Frame(position, len(packed), parts[0], parts[1], parts[2]), HTTP))
    head = header(protocol=HTTP)
    for detailed in (True, False):
        renderer = Renderer(head, detailed=detailed, max_rows=3)
        lines = [line for entry in entries for line in renderer.lines(entry)]
        for line in [*lines, *renderer.finish()]:
            assert all(character.isprintable() for character in line)
    view = LiveView(head, is_terminal=True)
    text = "".join(view.text(entry) for entry in entries) + view.end_text()
    assert re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]", text) is None
    for entry in entries:
        assert entry_json(entry).isascii()
        json.loads(entry_json(entry))
    with HarExport(head) as har:
        exported = "".join(har.pieces(entries, lambda: ""))
    assert exported.isascii()
    document = json.loads(exported)
    VALIDATOR.validate(document)
