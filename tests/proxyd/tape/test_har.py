from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import brotli
import jsonschema
import pytest
import zstandard
from haralyzer import HarParser

from policy.facts import LlmFacts
from proxyd.tape.errors import TapeError
from proxyd.tape.har import LINGERING, HarExport
from proxyd.tape.har_content import MAX_DECODED_BYTES
from proxyd.tape.reader import read_tape
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
from tests.proxyd.tape.tapes import STARTED_AT, Clock, header, small_tape

SCHEMA = json.loads(Path(__file__).with_name("har-schema.json").read_text())
VALIDATOR = jsonschema.Draft6Validator(SCHEMA, format_checker=jsonschema.Draft6Validator.FORMAT_CHECKER)


def pieces_of(path: Path) -> Iterator[str]:
    with read_tape(path) as tape:
        assert tape.header is not None
        with HarExport(tape.header) as har:
            yield from har.pieces(tape.entries(), lambda: type(tape.verdict).__name__)


def exported(path: Path) -> dict[str, Any]:
    """The log, which is valid by the schema and by what the specification says in words."""
    text = "".join(pieces_of(path))
    assert text.isascii()
    document = json.loads(text, parse_constant=pytest.fail)
    VALIDATOR.validate(document)
    log: dict[str, Any] = document["log"]
    for entry in log["entries"]:
        timings = {name: time for name, time in entry["timings"].items() if name != "ssl"}
        assert entry["time"] == pytest.approx(sum(time for time in timings.values() if time != -1))
        assert all(time >= -1 for time in timings.values())
        assert min(timings[name] for name in ("send", "wait", "receive")) >= 0
        assert entry["request"]["cookies"] == entry["response"]["cookies"] == []
        content = entry["response"]["content"]
        if "compression" in content:
            assert content["size"] - content["compression"] == entry["response"]["bodySize"]
    return log


def only(path: Path) -> dict[str, Any]:
    (entry,) = exported(path)["entries"]
    assert isinstance(entry, dict)
    return entry


def content_of(entry: dict[str, Any]) -> bytes:
    content = entry["response"]["content"]
    text: str = content.get("text", "")
    return base64.b64decode(text) if content.get("encoding") == "base64" else text.encode()


def answered(
    tmp_path: Path, body: bytes, *headers: tuple[str, str], limit: int = 1 << 26, step: int = 50_000
) -> Path:
    tape = http_tape(tmp_path, limit=limit)
    tape.request(1, "GET", URL, "1.1", HEADERS, facts(), ALLOWED)
    tape.request_end(1)
    tape.response(1, 200, headers, made_here=False)
    for start in range(0, len(body), step):
        tape.response_body(1, body[start : start + step])
    tape.response_end(1)
    tape.end("left")
    return tape.path


def test_the_schema_is_one_that_refuses() -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({"log": {"version": "1.2", "creator": {"name": "x"}, "entries": []}})
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(
            {"log": {"version": "1.2", "creator": {"name": "x", "version": "1"}, "entries": [{"time": 1}]}}
        )


def test_an_exchange(tmp_path: Path) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    get(tape, clock, url=f"{URL}?a=1&b=%C3%BC+x&c&access_token=secret")
    tape.end("left")
    log = exported(tape.path)
    assert (log["version"], log["creator"]) == ("1.2", {"name": "proxyd", "version": "0.1.0"})
    assert log["comment"] == "Whole"
    assert log["_proxyd"]["session"]["subject"]["name"] == "alice"
    (entry,) = log["entries"]
    assert entry["startedDateTime"] == "2025-07-20T08:26:40.250Z"
    assert entry["time"] == 12.0
    assert entry["timings"] == {
        "blocked": -1,
        "dns": -1,
        "connect": -1,
        "ssl": -1,
        "send": 0,
        "wait": 12.0,
        "receive": 0,
    }
    assert entry["cache"] == {}
    assert entry["connection"] == "s1a2b3"
    assert entry["request"] == {
        "method": "GET",
        "url": f"{URL}?a=1&b=%C3%BC+x&c&access_token=<removed>",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": [
            {"name": "accept", "value": "application/json"},
            {"name": "user-agent", "value": "curl/8.5.0"},
        ],
        "queryString": [
            {"name": "a", "value": "1"},
            {"name": "b", "value": "ü x"},
            {"name": "c", "value": ""},
            {"name": "access_token", "value": "<removed>"},
        ],
        "headersSize": -1,
        "bodySize": 0,
    }
    assert entry["response"] == {
        "status": 200,
        "statusText": "OK",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": [
            {"name": "content-type", "value": "application/json"},
            {"name": "server", "value": "nginx"},
        ],
        "content": {"size": 15, "mimeType": "application/json", "text": '{"name": "Ada"}'},
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": 15,
    }
    assert entry["_proxyd"] == {
        "exchange": 1,
        "policy": "p1",
        "decisions": [
            {"effect": "allow", "reasons": [{"rule": "read-customers", "message": "allowed", "hint": ""}]}
        ],
        "madeHere": False,
    }


def test_a_tape_with_everything(tmp_path: Path) -> None:
    log = exported(small_http_tape(tmp_path))
    plain, chat, denied, socket = log["entries"]
    assert plain["response"]["status"] == 200
    told = chat["_proxyd"]
    assert told["llm"]["model"] == "gpt-4o"
    assert told["toolCalls"] == [{"name": "search", "arguments": '{"q": "cats"}'}]
    assert told["usage"] == [{"input_tokens": 12, "output_tokens": 3}]
    assert told["masked"] == {"email": 2}
    assert told["requestTrailers"] == [{"name": "x-sum", "value": "1"}]
    assert told["requestOmitted"]["bytes"] == 21
    assert chat["request"]["bodySize"] == 53
    assert chat["request"]["postData"]["text"] == '{"model": "m", "n": 1.5, "x": "y'
    assert "21 more bytes are not on the tape, sha256 04546" in chat["request"]["postData"]["comment"]
    assert chat["response"]["content"]["text"] == "data: one\n\ndata: two\n\n"
    assert (chat["timings"]["wait"], chat["timings"]["receive"]) == (pytest.approx(100, abs=0.01), 100.0)
    assert denied["_proxyd"]["madeHere"] is True
    assert denied["_proxyd"]["decisions"][0]["effect"] == "deny"
    assert denied["response"]["status"] == 403
    assert socket["_resourceType"] == "websocket"
    assert socket["response"]["_error"] == "the client left"
    assert socket["response"]["content"] == {"size": 0, "mimeType": "x-unknown"}
    sent, received = socket["_webSocketMessages"]
    assert {**sent, "time": 0} == {"type": "send", "time": 0, "opcode": 1, "data": "hello"}
    assert received["time"] - sent["time"] == pytest.approx(0.25)
    assert (received["type"], received["opcode"]) == ("receive", 2)
    assert base64.b64decode(received["data"]) == b"\x00\x01" * 16
    assert received["_omitted"] == {
        "bytes": 28,
        "sha256": hashlib.sha256((b"\x00\x01" * 30)[32:]).hexdigest(),
    }


def test_another_program_reads_it(tmp_path: Path) -> None:
    parser = HarParser(json.loads("".join(pieces_of(small_http_tape(tmp_path)))))
    assert parser.version == "1.2"
    assert parser.creator["name"] == "proxyd"
    (page,) = parser.pages
    assert [(entry.request.method, entry.response.status) for entry in page.entries] == [
        ("GET", 200),
        ("POST", 200),
        ("GET", 403),
        ("GET", 101),
    ]
    first = page.entries[0]
    assert first.startTime.timestamp() == pytest.approx(STARTED_AT)
    assert (first.time, first.response.text, first.response.contentType) == (
        12.0,
        '{"name": "Ada"}',
        "application/json",
    )
    assert page.post_requests[0].request.text.startswith('{"model"')


@pytest.mark.parametrize(
    ("content_type", "coding", "body", "content"),
    [
        ("text/plain", "", "grüß\U0001f600".encode(), "grüß\U0001f600".encode()),
        ("", "", b"plain", b"plain"),
        ("text/plain", "", b"\xff\xfe", b"\xff\xfe"),
        ("text/plain", "", b"a\x00b", b"a\x00b"),
        ("text/plain; charset=ISO-8859-1", "", b"gr\xfc\xdf", "grüß".encode()),
        ('text/plain; charset="utf-8"', "", "ü".encode(), "ü".encode()),
        ("image/png", "", b"\x89PNG", b"\x89PNG"),
        ("image/png", "", b"abcd", b"abcd"),
        ("application/json", "gzip", gzip.compress(b'{"a": 1}'), b'{"a": 1}'),
        ("application/json", "deflate", zlib.compress(b'{"a": 1}'), b'{"a": 1}'),
        ("application/json", "br", brotli.compress(b'{"a": 1}'), b'{"a": 1}'),
        ("application/json", "zstd", zstandard.compress(b'{"a": 1}'), b'{"a": 1}'),
        ("image/png", "gzip", gzip.compress(b"\x89PNG"), b"\x89PNG"),
        ("application/json", "gzip", b"not gzip", b"not gzip"),
        ("application/json", "odd", b"odd", b"odd"),
        ("application/json", "", b"", b""),
        ("application/json", "gzip", b"", b""),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_contents(
    tmp_path: Path, content_type: str, coding: str, body: bytes, content: bytes, step: int
) -> None:
    headers = (("content-type", content_type), *((("content-encoding", coding),) if coding else ()))
    entry = only(answered(tmp_path, body, *headers, step=step))
    assert content_of(entry) == content
    assert entry["response"]["bodySize"] == len(body)
    if "charset=ISO" not in content_type:
        assert entry["response"]["content"]["size"] == len(content)
    if coding in ("gzip", "deflate", "br", "zstd") and content != body:
        assert entry["response"]["content"]["compression"] == len(content) - len(body)


@pytest.mark.parametrize("size", [0, 1, 47, 48 * 1024, 48 * 1024 + 1, 200_001])
def test_base64_is_whole_whatever_the_pieces(tmp_path: Path, size: int) -> None:
    body = bytes(number % 251 for number in range(size))
    entry = only(answered(tmp_path, body, ("content-type", "image/png"), step=7919))
    assert content_of(entry) == body


def test_text_is_whole_whatever_the_pieces(tmp_path: Path) -> None:
    text = 'é"\\\u2028\U0001f600\n' * 40_000
    entry = only(answered(tmp_path, text.encode(), ("content-type", "text/plain"), step=7919))
    assert entry["response"]["content"]["text"] == text


def test_compressed_content_that_is_cut_stays_as_it_is(tmp_path: Path) -> None:
    raw = gzip.compress(bytes(range(256)) * 100)
    entry = only(answered(tmp_path, raw, ("content-encoding", "gzip"), limit=100))
    assert content_of(entry) == raw[:100]
    content = entry["response"]["content"]
    assert content["size"] == entry["response"]["bodySize"] == len(raw)
    assert content["comment"].startswith(f"compressed: gzip; {len(raw) - 100} more bytes are not on the tape")


def test_a_bomb_stays_compressed(tmp_path: Path) -> None:
    raw = gzip.compress(bytes(MAX_DECODED_BYTES + 1))
    entry = only(answered(tmp_path, raw, ("content-encoding", "gzip")))
    assert content_of(entry) == raw
    assert "the content is longer" in entry["response"]["content"]["comment"]


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"a=1&b=2", (("content-type", "application/x-www-form-urlencoded"),), {"text": "a=1&b=2"}),
        (
            b"\x00\xff",
            (("content-type", "application/octet-stream"),),
            {"text": "AP8=", "_encoding": "base64", "comment": "in base64"},
        ),
        (
            gzip.compress(b"x", mtime=0),
            (("content-type", "text/plain"), ("content-encoding", "gzip")),
            {"_encoding": "base64"},
        ),
    ],
)
def test_bodies_of_requests(
    tmp_path: Path, body: bytes, headers: tuple[tuple[str, str], ...], expected: dict[str, str]
) -> None:
    tape = http_tape(tmp_path)
    tape.request(1, "POST", URL, "1.1", headers, facts(), ALLOWED)
    tape.request_body(1, body)
    tape.request_end(1)
    tape.end("left")
    data = only(tape.path)["request"]["postData"]
    assert data["mimeType"] == headers[0][1]
    assert data == {**data, **expected}


def test_an_exchange_without_an_answer(tmp_path: Path) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    tape.request(1, "GET", URL, "1.1", (), None, DENIED)
    clock.now_s += 0.5
    tape.aborted(1, "the target left")
    tape.request(2, "GET", "/x", "1.1", (), facts(), ALLOWED)
    tape.end("left")
    first, second = exported(tape.path)["entries"]
    assert first["response"]["status"] == 0
    assert first["response"]["_error"] == "the target left"
    assert first["timings"]["send"] == 500.0
    assert second["request"]["url"] == "https://api.internal/x"
    assert "_error" not in second["response"]


def test_an_answer_that_comes_before_the_request_is_over(tmp_path: Path) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    tape.request(1, "POST", URL, "1.1", (), facts(), ALLOWED)
    tape.flush()
    clock.now_s += 1
    tape.response(1, 413, (("location", "/other"),), made_here=False)
    tape.flush()
    clock.now_s += 1
    tape.request_body(1, b"x")
    tape.request_end(1)
    clock.now_s += 1
    tape.response_end(1)
    tape.end("left")
    entry = only(tape.path)
    assert (entry["time"], entry["timings"]["send"]) == (3000.0, 1000.0)
    assert (entry["timings"]["wait"], entry["timings"]["receive"]) == (0.0, 2000.0)
    assert entry["response"]["redirectURL"] == "/other"
    assert entry["response"]["statusText"]


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_a_websocket_without_messages_is_one(tmp_path: Path, method: str) -> None:
    tape = http_tape(tmp_path)
    tape.request(1, method, URL, "2", (), facts(), ALLOWED)
    tape.response(1, 101 if method == "GET" else 200, (), made_here=False)
    tape.end("left")
    assert only(tape.path)["_webSocketMessages"] == []


def test_messages_of_every_kind(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    tape.request(1, "GET", URL, "1.1", (), facts(), ALLOWED)
    tape.response(1, 101, (), made_here=False)
    for kind in ("text", "binary", "ping", "pong", "close", "odd"):
        tape.message(1, True, kind, b"\xff" if kind == "text" else b"x")
    tape.end("left")
    messages = only(tape.path)["_webSocketMessages"]
    assert [message["opcode"] for message in messages] == [1, 2, 9, 10, 8, 0]
    assert [message["data"] for message in messages] == ["\ufffd", *["eA=="] * 5]


def test_reports_that_come_a_little_later_are_part_of_it(tmp_path: Path) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    for number in range(LINGERING + 5):
        get(tape, clock, number)
    tape.usage(LINGERING + 4, {"n": 1})
    tape.usage(5, {"n": 2})
    tape.usage(0, {"n": 3})  # too late
    tape.end("left")
    entries = exported(tape.path)["entries"]
    assert len(entries) == LINGERING + 5
    assert {
        entry["_proxyd"]["exchange"]: entry["_proxyd"]["usage"]
        for entry in entries
        if "usage" in entry["_proxyd"]
    } == {LINGERING + 4: [{"n": 1}], 5: [{"n": 2}]}


def test_a_torn_tape_is_exported_as_far_as_it_goes(tmp_path: Path) -> None:
    path = small_http_tape(tmp_path)
    whole = path.read_bytes()
    for size in range(500, len(whole), 211):
        path.write_bytes(whole[:size])
        log = exported(path)
        assert log["comment"] == "Torn"
    assert len(log["entries"]) == 4


def test_what_json_has_not_is_no_fault(tmp_path: Path) -> None:
    tape = http_tape(tmp_path, started_at=1e11)
    odd = facts("/\ud800", llm=LlmFacts("openai", "\udcff", estimated_cost_usd=math.inf))
    tape.request(1, "G\ud800", f"{URL}?\ud800=\udcff", "\ud800", (("x\ud800", "\udcff"),), odd, ALLOWED)
    tape.usage(1, {"cost": math.nan, "raw": b"x"})
    tape.response(1, 999, (("content-type", "text/\ud800"),), made_here=False)
    tape.response_body(1, b"x")
    tape.response_end(1)
    tape.end("left")
    entry = only(tape.path)
    assert entry["request"]["method"] == "G?"
    assert entry["_proxyd"]["usage"] == [{"cost": "nan", "raw": "eA=="}]
    assert entry["response"]["statusText"] == ""


def test_times_that_no_calendar_has(tmp_path: Path) -> None:
    path = answered(tmp_path, b"x")
    with read_tape(path) as tape:
        assert tape.header is not None
        odd = header(protocol="http", started_at=1e300)
        with HarExport(odd) as har:
            text = "".join(har.pieces(tape.entries(), lambda: ""))
    assert json.loads(text)["log"]["entries"][0]["startedDateTime"] == "1970-01-01T00:00:00.000Z"


def test_other_tapes_are_refused(tmp_path: Path) -> None:
    with read_tape(small_tape(tmp_path)) as tape:
        assert tape.header is not None
        with pytest.raises(
            TapeError, match="a HAR file is the recording of an HTTP session, and this is one of pos"
        ):
            HarExport(tape.header)


def test_memory_stays_flat_however_large_the_tape(tmp_path: Path) -> None:
    """Two streams side by side, so that neither lies in one piece; 64 MB in all."""
    tape = http_tape(tmp_path, limit=1 << 30)
    block = bytes(range(256)) * 256
    for number in (1, 3):
        tape.request(number, "POST", URL, "2", (), facts(), ALLOWED)
        tape.response(number, 200, (("content-type", "image/png"),), made_here=False)
    for _ in range(256):
        for number in (1, 3):
            tape.request_body(number, block)
            tape.response_body(number, block)
    for number in (1, 3):
        tape.response_end(number)
    tape.end("left")
    size = 0
    tracemalloc.start()
    for piece in pieces_of(tape.path):
        size += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 80_000_000
    assert peak < 24_000_000


def test_many_messages_take_no_memory(tmp_path: Path) -> None:
    tape = http_tape(tmp_path, limit=1 << 30)
    tape.request(1, "GET", URL, "1.1", (), facts(), ALLOWED)
    tape.response(1, 101, (), made_here=False)
    for _ in range(4_000):
        tape.message(1, True, "text", b"x" * 5000)
    tape.end("left")
    tracemalloc.start()
    size = sum(len(piece) for piece in pieces_of(tape.path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 20_000_000
    assert peak < 14_000_000


def test_headers_of_answers_are_those_that_the_client_saw(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    tape.request(1, "GET", URL, "1.1", (), facts(), ALLOWED)
    tape.response(1, 103, (("link", "</x>"),), made_here=False)
    tape.response(1, 200, ANSWER_HEADERS, made_here=False)
    tape.response_end(1, (("x-end", "1"),))
    tape.end("left")
    entry = only(tape.path)
    assert [(one["name"], one["value"]) for one in entry["response"]["headers"]] == list(ANSWER_HEADERS)
    assert entry["_proxyd"]["informational"] == [103]
    assert entry["_proxyd"]["responseTrailers"] == [{"name": "x-end", "value": "1"}]
