from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from policy.decision import Decision, Effect, Reason
from proxyd.tape.entries import Judgement, Unknown, entry_of
from proxyd.tape.format import Frame, unpack
from proxyd.tape.frames import FrameKind
from proxyd.tape.http_entries import HttpBody, HttpBodyEnd, HttpMessage, HttpRequest, HttpResponse
from proxyd.tape.http_exchanges import MAX_NOTES, MAX_REMEMBERED
from proxyd.tape.http_taping import HttpTape
from proxyd.tape.http_view import MAX_HEADERS, MAX_OPEN, PREVIEW_BYTES, HttpView
from proxyd.tape.json_lines import MAX_NESTED, TOO_DEEP, entry_json
from proxyd.tape.live import LiveView
from proxyd.tape.reader import read_tape
from proxyd.tape.render import Renderer
from tests.proxyd.tape.http_tapes import (
    ALLOWED,
    ANSWER_HEADERS,
    DENIED,
    HEADERS,
    URL,
    facts,
    get,
    http_tape,
    small_http_tape,
)
from tests.proxyd.tape.tapes import Clock, header

EVENTS = (("content-type", "text/event-stream; charset=utf-8"),)


def shown(path: Path, *, detailed: bool = True, max_rows: int = 100) -> list[str]:
    with read_tape(path) as tape:
        assert tape.header is not None
        renderer = Renderer(tape.header, max_rows=max_rows, detailed=detailed)
        lines = [line for entry in tape.entries() for line in renderer.lines(entry)]
        return [*lines, *renderer.finish()]


def test_a_tape_in_detail(tmp_path: Path) -> None:
    assert shown(small_http_tape(tmp_path)) == [
        "",
        "-- 08:26:40.250 [1] GET https://api.internal/v1/customers/7 -> 200, 0 bytes up, 15 down, 12.0 ms",
        "-- allowed by read-customers: allowed",
        "--   GET /v1/customers/7 of api.internal",
        "--   policy p1",
        "> accept: application/json",
        "> user-agent: curl/8.5.0",
        "< 200",
        "< content-type: application/json",
        "< server: nginx",
        "<",
        '< {"name": "Ada"}',
        "",
        "-- 08:26:40.762 [2] POST https://api.internal/v1/chat -> 200",
        "-- allowed by read-customers: allowed",
        "--   POST /v1/chat of api.internal; body 40 bytes, json; openai chat of gpt-4o; about 12 tokens in; "
        "at most 100 out; at most 0.001000 USD; offers tools search",
        "--   policy p1",
        "> accept: application/json",
        "> user-agent: curl/8.5.0",
        ">",
        '> {"model": "m", "n": 1.5, "x": "y',
        "-- [2] 21 more bytes of the request are not on the tape, "
        "sha256 045463d2b5e57739e495d2458617c298d66fb2fec9c032da50d11004b30afd74",
        "> x-sum: 1 (trailer)",
        "< 200",
        "< content-type: text/event-stream",
        "[2] < data: one",
        '-- [2] tool call search {"q": "cats"}',
        "-- [2] usage: input tokens 12, output tokens 3",
        "-- [2] masked: email 2",
        "[2] < data: two",
        "-- 08:26:40.961 [2] ended: 53 bytes up, 22 down, 200.0 ms",
        "",
        "-- 08:26:40.961 [3] GET https://api.internal/v1/customers/7 -> 403 by the gateway, "
        "0 bytes up, 2 down, 12.0 ms",
        "-- denied by no-delete: Nothing is deleted here. (Ask.)",
        "--   GET /v1/customers/7 of api.internal",
        "--   policy p1",
        "> accept: application/json",
        "> user-agent: curl/8.5.0",
        "< 403",
        "< content-type: application/json",
        "< server: nginx",
        "<",
        "< {}",
        "",
        "-- 08:26:40.973 [4] GET https://api.internal/ws -> 101",
        "-- allowed by read-customers: allowed",
        "--   GET /ws of api.internal; changes to websocket",
        "--   policy p1",
        "> accept: application/json",
        "> user-agent: curl/8.5.0",
        "< 101",
        "< upgrade: websocket",
        "08:26:40.973 [4] > hello",
        "08:26:41.223 [4] < binary, 32 bytes: " + "\\x00\\x01" * 16 + " and 28 more bytes",
        "-- 08:26:41.223 [4] ended: 5 bytes up, 60 down, 250.0 ms, broke off: the client left",
        "-- 08:26:41.223 event note: text: x",
        "-- session ended: client left",
    ]


def test_a_tape_in_short_is_a_line_for_each_exchange(tmp_path: Path) -> None:
    lines = shown(small_http_tape(tmp_path), detailed=False)
    assert lines[0] == (
        "-- [1] GET https://api.internal/v1/customers/7 -> 200, 0 bytes up, 15 down, 12.0 ms; "
        "allowed by read-customers: allowed"
    )
    assert lines[1] == "-- [2] POST https://api.internal/v1/chat -> 200; allowed by read-customers: allowed"
    assert [line for line in lines if line.startswith("-- [3]")] == [
        "-- [3] GET https://api.internal/v1/customers/7 -> 403 by the gateway, 0 bytes up, 2 down, 12.0 ms; "
        "denied by no-delete: Nothing is deleted here. (Ask.)"
    ]
    assert "[4] > hello" in lines


def test_exchanges_are_told_when_they_are_over(tmp_path: Path) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    view = LiveView(header(protocol="http"), is_terminal=True)
    with read_tape(tape.path) as read:

        def told() -> str:
            tape.flush()
            return "".join(view.text(entry) for entry in read.entries())

        tape.request(1, "GET", URL + "/1", "2", HEADERS, facts(), ALLOWED)
        tape.request(3, "GET", URL + "/3", "2", HEADERS, facts(), ALLOWED)
        assert told() == ""
        tape.response(3, 200, ANSWER_HEADERS, made_here=False)
        tape.response_body(3, b"abc")
        assert told() == ""
        tape.response_end(3)
        assert re.fullmatch(r"-- \[3\] GET \S+/3 -> 200, 0 bytes up, 3 down, .*allowed\r\n", told())
        tape.response(1, 200, EVENTS, made_here=False)
        assert told() == f"-- [1] GET {URL}/1 -> 200; allowed by read-customers: allowed\r\n"
        tape.response_body(1, b"data: o")
        assert told() == ""
        tape.response_body(1, b"ne\r\n\r\ndata: tw")
        assert told() == "[1] < data: one\r\n"
        tape.aborted(1, "the target left")
        assert told() == (
            "[1] < data: tw\r\n-- [1] ended: 0 bytes up, 21 down, 0.0 ms, broke off: the target left\r\n"
        )
    tape.close()


def test_events_that_are_compressed_are_told_as_any_body(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    tape.request(1, "GET", URL, "2", (), facts(), ALLOWED)
    tape.response(1, 200, (*EVENTS, ("content-encoding", "gzip")), made_here=False)
    tape.response_body(1, gzip.compress(b"data: one\n\n"))
    tape.response_end(1)
    tape.end("left")
    assert "< data: one" in shown(tape.path)


def body_lines(tmp_path: Path, content_type: str, body: bytes, coding: str = "", **more: int) -> list[str]:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    headers = (("content-type", content_type), *((("content-encoding", coding),) if coding else ()))
    get(tape, clock, headers=headers, body=body)
    tape.end("left")
    lines = shown(tape.path, **more)  # type: ignore[arg-type]
    return lines[lines.index("<") + 1 : -1]


@pytest.mark.parametrize(
    ("content_type", "coding", "body", "expected"),
    [
        ("text/plain", "", b"one\r\ntwo\n", ["< one", "< two"]),
        ("application/json", "gzip", gzip.compress(b'{"a": 1}'), ['< {"a": 1}']),
        ("application/json", "gzip", b"not gzip", ["< 8 bytes: not gzip"]),
        ("image/png", "", b"\x89PNG\r\n", ["< 6 bytes: \\x89PNG\\r\\n"]),
        ("text/plain", "", b"a\x00b", ["< 3 bytes: a\\x00b"]),
        ("", "", "grüß".encode(), ["< grüß"]),
        ("text/plain", "", b"\xff\xfe", ["< \\xff\\xfe"]),
        ("text/plain", "", b"\x1b]52;c;aGk=\x07\x1b[2J", ["< \\x1b]52;c;aGk=\\x07\\x1b[2J"]),
        ("text/plain", "", "\u202eevil\u2066 \x9b31m".encode(), ["< \\u202eevil\\u2066 \\x9b31m"]),
        ("text/plain", "", b"a\rb", ["< a\\rb"]),
        ("text/plain", "", b"x" * 3000, ["< " + "x" * 1997 + "..."]),
    ],
)
def test_bodies(tmp_path: Path, content_type: str, coding: str, body: bytes, expected: list[str]) -> None:
    assert body_lines(tmp_path, content_type, body, coding) == expected


def test_of_long_bodies_the_first_lines_are_shown(tmp_path: Path) -> None:
    assert body_lines(tmp_path, "text/plain", b"line\n" * 10, max_rows=3) == [
        "< line",
        "< line",
        "< line",
        "-- [1] 7 more lines are not shown",
    ]


def test_of_very_long_bodies_the_beginning_is_shown(tmp_path: Path) -> None:
    lines = body_lines(tmp_path, "text/plain", b"0123456789abcde\n" * 5000, max_rows=2000)
    assert len(lines) == PREVIEW_BYTES // 16 + 1
    assert lines[-1] == "-- [1] the rest is not shown"


def test_of_what_is_no_text_the_size_is_told(tmp_path: Path) -> None:
    assert body_lines(tmp_path, "image/png", b"x" * 100_000) == [f"< 100000 bytes: {'x' * 64}..."]


def test_a_bomb_is_shown_up_to_a_limit(tmp_path: Path) -> None:
    lines = body_lines(tmp_path, "text/plain", gzip.compress(b"boom\n" * 2_000_000), "gzip", max_rows=50)
    assert lines == [*["< boom"] * 50, "-- [1] the rest is not shown"]


def test_events_of_a_long_stream_are_counted(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    tape.request(1, "GET", URL, "2", (), facts(), ALLOWED)
    tape.response(1, 200, EVENTS, made_here=False)
    for number in range(10):
        tape.response_body(1, b"data: %d\n\n" % number)
    tape.response_end(1)
    tape.end("left")
    lines = shown(tape.path, detailed=False, max_rows=3)
    assert lines[1:4] == ["[1] < data: 0", "[1] < data: 1", "[1] < data: 2"]
    assert lines[4] == "-- [1] 7 more lines of the answer"


def test_an_event_without_an_end_is_cut(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    tape.request(1, "GET", URL, "2", (), facts(), ALLOWED)
    tape.response(1, 200, EVENTS, made_here=False)
    for _ in range(10):
        tape.response_body(1, b"x" * 10_000)
    tape.response_end(1)
    tape.end("left")
    lines = [line for line in shown(tape.path, detailed=False) if line.startswith("[1] <")]
    assert len(lines) == 5
    assert all(len(line) < 2100 for line in lines)


ATTACKS = [
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\x9b31m",
    "\u202egnp.exe",
    "a\nb\r\nc",
    "\x00",
    "\ud800",
    "\x85",
    "\u2028",
]


@pytest.mark.parametrize("attack", ATTACKS, ids=ascii)
def test_nothing_on_a_tape_drives_a_terminal(tmp_path: Path, attack: str) -> None:
    """Wherever a client or a target can put it."""
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    headers = ((f"x-{attack}", attack), ("content-type", f"text/plain{attack}"))
    raw = attack.encode("utf-8", "surrogatepass")
    decision = Decision(Effect.DENY, (Reason(attack, attack, attack),), (), attack)
    odd = facts(attack, attack, other_paths=(attack,), upgrade=attack, content_type=attack)
    tape.request(1, attack, f"https://x/{attack}", attack, headers, odd, decision)
    tape.request_body(1, raw)
    tape.request_end(1, headers)
    tape.response(1, 200, headers, made_here=False)
    tape.response_body(1, raw)
    tape.masked(1, {attack: 1})
    tape.tool_call(1, attack, attack)
    tape.usage(1, {attack: attack})
    tape.event(attack, {attack: attack})
    tape.response_end(1, headers)
    tape.request(2, "GET", URL, "1.1", (), facts(), ALLOWED)
    tape.response(2, 200, EVENTS, made_here=False)
    tape.response_body(2, b"data: " + raw + b"\n\n")
    tape.tool_call(2, attack, attack)
    tape.aborted(2, attack)
    tape.usage(2, {attack: attack})  # late
    tape.request(3, "GET", URL, "1.1", (), facts(), ALLOWED)
    tape.message(3, True, "text", raw)
    tape.message(3, False, attack, raw)
    tape.end(attack)
    for detailed in (True, False):
        lines = shown(tape.path, detailed=detailed)
        assert len(lines) > 10
        for line in lines:
            assert re.fullmatch(r"[\x20-\x7e]*", line), line
    with read_tape(tape.path) as read:
        assert read.header is not None
        view = LiveView(read.header, is_terminal=True)
        text = "".join(view.text(entry) for entry in read.entries()) + view.end_text()
    assert re.fullmatch(r"(?:[\x20-\x7e]*\r\n)*", text)


def test_huge_things_are_cut(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    headers = (("x-huge", "v" * 1_000_000), *((f"x-{number}", "1") for number in range(300)))
    tape.request(1, "GET", URL + "?" + "q" * 500_000, "1.1", headers, facts(), ALLOWED)
    tape.tool_call(1, "f", "a" * 60_000)
    tape.usage(1, {"x": "y" * 100_000})
    tape.response(1, 200, headers, made_here=False)
    tape.response_end(1)
    tape.end("left")
    lines = shown(tape.path)
    assert max(len(line) for line in lines) < 2200
    assert lines.count(f"-- {len(headers) - MAX_HEADERS} more headers") == 2


def test_many_open_exchanges_are_told_before_they_are_over() -> None:
    view = HttpView(header(protocol="http"), max_lines=1)
    told = 0
    for number in range(MAX_OPEN * 2):
        entry = HttpRequest(
            position=0,
            at_us=number,
            exchange=number,
            judgement=0,
            method="GET",
            url="/",
            version="2",
            headers=0,
            raw=b"x",
            has_ended=False,
        )
        told += len(list(view.entry(entry)))
    assert told == MAX_OPEN
    assert len(list(view.finish())) == MAX_OPEN


def test_what_belongs_to_no_exchange_is_no_fault() -> None:
    view = HttpView(header(protocol="http"), max_lines=1)
    placed = {"position": 0, "at_us": 0, "exchange": 7}
    for entry in (
        HttpResponse(**placed, status=200, headers=9, made_here=False, raw=b"", has_ended=True),
        HttpBody(**placed, way=0, raw=b"x"),
        HttpBody(**placed, way=9, raw=b"x"),
        HttpBodyEnd(**placed, way=1, kept=1, omitted=2, sha256=b"", trailers=("odd",)),
        HttpMessage(**placed, way=5, message_kind="text", raw=b"", omitted=0, sha256=b""),
    ):
        assert list(view.entry(entry)) == []


def test_a_tape_that_begins_in_the_middle_says_what_is_missing() -> None:
    renderer = Renderer(header(protocol="http"), detailed=True)
    request = HttpRequest(
        position=0,
        at_us=0,
        exchange=1,
        judgement=5,
        method="GET",
        url="/",
        version="2",
        headers=9,
        raw=b"",
        has_ended=True,
    )
    assert list(renderer.lines(request)) == []
    for way in (2, 0):
        assert list(renderer.lines(HttpBody(position=0, at_us=0, exchange=1, way=way, raw=b"x"))) == []
    lines = list(renderer.finish())
    assert "-- judgement 5 is not at hand" in lines
    assert lines[1].endswith("[1] GET / -> no answer, 1 bytes up, 0 down, 0.0 ms")


def test_a_number_used_again_tells_the_first(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    for _ in range(2):
        tape.request(1, "GET", URL, "1.1", (), facts(), ALLOWED)
    tape.end("left")
    lines = shown(tape.path, detailed=False)
    assert "broke off: the number of the exchange was used again" in lines[0]
    assert lines[1].startswith(f"-- [1] GET {URL} -> no answer")


def test_notes_and_memory_are_bounded(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    tape.request(1, "GET", URL, "1.1", (), facts(), ALLOWED)
    for number in range(MAX_NOTES * 3):
        tape.tool_call(1, "f", str(number))
        tape.masked(1, {f"m{number}": 1})
        tape.usage(1, {"n": number})
        tape.response(1, 103, (), made_here=False)
    tape.response(1, 200, (), made_here=False)
    tape.response_end(1)
    for number in range(2, MAX_REMEMBERED * 2):
        tape.request(number, "GET", URL, "1.1", (("x", str(number)),), facts(f"/{number}"), ALLOWED)
        tape.response_end(number)
    tape.end("left")
    lines = shown(tape.path)
    assert len([line for line in lines if "tool call" in line]) == MAX_NOTES
    assert len([line for line in lines if "usage" in line]) == MAX_NOTES
    assert lines.count(f"> x: {MAX_REMEMBERED * 2 - 1}") == 1
    assert not [line for line in lines if "not at hand" in line]


def test_an_http_frame_on_another_tape_is_no_fault() -> None:
    entry = HttpBody(position=0, at_us=0, exchange=1, way=0, raw=b"x")
    for protocol in ("postgres", "ssh"):
        renderer = Renderer(header(protocol=protocol))
        assert list(renderer.lines(entry)) == ["-- httpbody of an exchange, which this protocol has not"]
    unknown = Unknown(position=0, at_us=0, kind=16, fields=(1,))
    assert list(Renderer(header(protocol="http")).lines(unknown)) == [
        "-- frame of kind 16 (http_headers, of another shape): 1"
    ]


def test_refusals_say_why_in_the_judgement_only_once(tmp_path: Path) -> None:
    clock = Clock()
    tape: HttpTape = http_tape(tmp_path, clock)
    get(tape, clock, decision=DENIED, status=403)
    tape.event("denied", {"operation": 1})  # of something else
    tape.end("left")
    lines = shown(tape.path)
    assert len([line for line in lines if "denied" in line]) == 2
    with read_tape(tape.path) as read:
        assert len([entry for entry in read.entries() if isinstance(entry, Judgement)]) == 1


@pytest.mark.parametrize("kind", [FrameKind.EVENT, FrameKind.HTTP_USAGE, 99])
@pytest.mark.parametrize("levels", [MAX_NESTED, MAX_NESTED + 1, 1000])
def test_values_nested_deep_are_cut(kind: int, levels: int) -> None:
    """Only a forged tape has them."""
    fields = {FrameKind.EVENT: b"\xa1x", FrameKind.HTTP_USAGE: b"\x01"}.get(kind, b"")  # type: ignore[call-overload]
    head = bytes((0x93 + bool(fields), kind, 0))
    parts = unpack(head + fields + b"\x81\xa1k" + b"\x91" * levels + b"\xc0")
    assert parts is not None
    entry = entry_of(Frame(0, 0, *parts), "http")
    assert isinstance(entry, Unknown) is (kind == 99)
    assert (TOO_DEEP in entry_json(entry)) is (levels > MAX_NESTED - 3)
    (line,) = Renderer(header(protocol="http")).lines(entry)
    assert "[[[[" in line
