from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from policy.decision import Decision, Effect, Reason
from policy.facts import BodyState, HttpFacts, LlmFacts
from proxyd.tape import http_taping
from proxyd.tape.entries import End, Event
from proxyd.tape.format import Whole
from proxyd.tape.http_entries import (
    HttpAborted,
    HttpBody,
    HttpBodyEnd,
    HttpHeaders,
    HttpMasked,
    HttpMessage,
    HttpRequest,
    HttpResponse,
    HttpToolCall,
    HttpUsage,
)
from proxyd.tape.http_facts import MAX_NESTED, TOO_DEEP, TOO_LONG
from proxyd.tape.http_secrets import REMOVED
from proxyd.tape.http_taping import HttpTape
from proxyd.tape.reader import read_tape
from proxyd.tape.writer import COPY_LIMIT_BYTES, RAW_PIECE_BYTES
from tests.proxyd.tape.http_tapes import (
    ALLOWED,
    ANSWER_HEADERS,
    DENIED,
    HEADERS,
    HELD,
    URL,
    entries_of,
    facts,
    get,
    http_tape,
    judgements_of,
    small_http_tape,
)
from tests.proxyd.tape.tapes import Clock

T = TypeVar("T")


def of_kind(path: Path, kind: type[T]) -> list[T]:
    return [entry for entry in entries_of(path) if isinstance(entry, kind)]


def kinds(path: Path) -> list[str]:
    return [type(entry).__name__ for entry in entries_of(path)]


def begun(tape: HttpTape, exchange: int = 1, decision: Decision = ALLOWED, **more: object) -> None:
    tape.request(exchange, "POST", URL, "1.1", HEADERS, facts(**more), decision)


# --- what is written --------------------------------------------------------------------------------------------


def test_a_small_exchange_is_two_frames_and_what_they_refer_to(tmp_path: Path) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    get(tape, clock)
    tape.end("left")
    assert kinds(tape.path) == [
        "Judgement",
        "HttpHeaders",
        "HttpRequest",
        "HttpHeaders",
        "HttpResponse",
        "End",
    ]
    (request,) = of_kind(tape.path, HttpRequest)
    assert (request.exchange, request.method, request.url, request.version) == (1, "GET", URL, "1.1")
    assert (request.raw, request.has_ended, request.at_us) == (b"", True, 0)
    (answer,) = of_kind(tape.path, HttpResponse)
    assert (answer.status, answer.made_here, answer.raw) == (200, False, b'{"name": "Ada"}')
    assert (answer.has_ended, answer.at_us) == (True, 12_000)
    heads = {entry.id: entry.pairs() for entry in of_kind(tape.path, HttpHeaders)}
    assert heads[request.headers] == HEADERS
    assert heads[answer.headers] == ANSWER_HEADERS
    (judgement,) = judgements_of(tape.path)
    assert judgement.id == request.judgement
    assert judgement.text == f"GET {URL}"
    assert judgement.facts == (facts(),)
    assert judgement.decisions == (ALLOWED,)
    assert (judgement.policy_version, judgement.omitted) == ("p1", "")


def test_what_repeats_is_written_once(tmp_path: Path) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    for number in range(50):
        get(tape, clock, number)
    tape.end("left")
    assert len(of_kind(tape.path, HttpHeaders)) == 2
    assert len(judgements_of(tape.path)) == 1
    assert [request.exchange for request in of_kind(tape.path, HttpRequest)] == list(range(50))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((facts(), ALLOWED), (facts("/other"), ALLOWED)),
        ((facts(), ALLOWED), (facts(), DENIED)),
        ((facts(), ALLOWED), (facts(), msgspec.structs.replace(ALLOWED, policy_version="p2"))),
        ((facts(), ALLOWED), (None, ALLOWED)),
        ((facts(body={"a": 1}), ALLOWED), (facts(body={"a": 1}), ALLOWED)),
        ((facts(body={"a": 1}), ALLOWED), (facts(), ALLOWED)),
    ],
)
def test_other_facts_or_another_decision_are_another_judgement(
    tmp_path: Path, first: tuple[HttpFacts | None, Decision], second: tuple[HttpFacts | None, Decision]
) -> None:
    tape = http_tape(tmp_path)
    for number, (seen, decided) in enumerate((first, second)):
        tape.request(number, "GET", URL, "1.1", HEADERS, seen, decided)
        tape.response_end(number)
    tape.end("left")
    judged = judgements_of(tape.path)
    assert [request.judgement for request in of_kind(tape.path, HttpRequest)] == [0, 1]
    assert [one.facts[0] if one.facts else None for one in judged] == [first[0], second[0]]
    assert [one.decisions[0] for one in judged] == [first[1], second[1]]


def test_what_is_forgotten_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_taping, "MAX_REMEMBERED", 4)
    tape = http_tape(tmp_path)
    for number in range(12):
        tape.request(number, "GET", URL, "1.1", (("x-n", str(number % 6)),), facts(), ALLOWED)
        tape.response_end(number)
    tape.end("left")
    heads = {entry.id: entry.pairs() for entry in of_kind(tape.path, HttpHeaders)}
    told = [heads[request.headers] for request in of_kind(tape.path, HttpRequest)]
    assert told == [(("x-n", str(number % 6)),) for number in range(12)]
    assert len(heads) == 12


def test_memory_of_large_heads_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_taping, "MAX_REMEMBERED_BYTES", 5_000)
    tape = http_tape(tmp_path)
    for number in range(20):
        tape.request(number, "GET", URL, "1.1", (("x-n", f"{number}" + "x" * 1000),), facts(), ALLOWED)
        assert sum(len(key[0][1]) for key in tape._known_headers) < 6_000
    tape.end("left")


def test_the_small_tape_reads_back(tmp_path: Path) -> None:
    path = small_http_tape(tmp_path)
    assert of_kind(path, HttpToolCall)[0].arguments == '{"q": "cats"}'
    assert of_kind(path, HttpUsage)[0].data == {"input_tokens": 12, "output_tokens": 3}
    assert of_kind(path, HttpMasked)[0].counts == {"email": 2}
    assert of_kind(path, HttpAborted)[0].reason == "the client left"
    first, second = of_kind(path, HttpMessage)
    assert (first.way, first.message_kind, first.raw, first.omitted) == (0, "text", b"hello", 0)
    assert (second.way, second.message_kind, len(second.raw), second.omitted) == (1, "binary", 32, 28)
    assert second.sha256 == hashlib.sha256((b"\x00\x01" * 30)[32:]).digest()
    chat = judgements_of(path)[1].facts[0]
    assert isinstance(chat, HttpFacts)
    assert chat.body == {"model": "m", "n": 1.5}
    assert chat.body_state is BodyState.JSON
    assert chat.llm == LlmFacts("openai", "chat", "gpt-4o", 100, 12, 0.001, ("search",), True)
    (end,) = of_kind(path, End)
    assert (end.operations, end.denials) == (4, 1)
    with read_tape(path) as tape:
        assert isinstance(tape.verdict, Whole)


@pytest.mark.parametrize(("decision", "effect"), [(DENIED, "deny"), (HELD, "hold")])
def test_a_refusal_is_an_event_too(tmp_path: Path, decision: Decision, effect: str) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    get(tape, clock, 7, decision=decision, status=403)
    assert tape.denials == 1
    tape.end("left")
    (event,) = of_kind(tape.path, Event)
    message = decision.reasons[0].message
    assert (event.name, event.data) == ("denied", {"exchange": 7, "effect": effect, "message": message})
    assert of_kind(tape.path, HttpResponse)[0].made_here


def test_a_request_that_was_not_understood_has_no_facts(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    refused = Decision(Effect.DENY, (Reason("", "two lengths"),))
    tape.request(1, "GET", "/", "1.1", (), None, refused)
    tape.end("left")
    (judgement,) = judgements_of(tape.path)
    assert (judgement.facts, judgement.decisions) == ((), (refused,))


def test_interim_answers_come_before_the_real_one(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    begun(tape)
    tape.response(1, 103, (("link", "</x.css>"),), made_here=False)
    tape.response(1, 200, ANSWER_HEADERS, made_here=False)
    tape.response_body(1, b"x")
    tape.response_end(1)
    tape.end("left")
    assert [(one.status, one.raw, one.has_ended) for one in of_kind(tape.path, HttpResponse)] == [
        (103, b"", False),
        (200, b"x", True),
    ]


def test_trailers_are_kept(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    begun(tape)
    tape.request_end(1, (("x-sum", "1"), ("x-token", "s3cret")))
    tape.response(1, 200, (), made_here=False)
    tape.response_end(1, (("grpc-status", "0"),))
    tape.end("left")
    assert [one.trailers for one in of_kind(tape.path, HttpBodyEnd)] == [
        ("x-sum", "1", "x-token", REMOVED),
        ("grpc-status", "0"),
    ]


# --- bodies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_answer", [False, True])
@pytest.mark.parametrize(
    ("pieces", "limit"),
    [
        ([b"a" * 10], 10),
        ([b"a" * 10], 9),
        ([b"abc", b"def", b"ghi"], 5),
        ([b"abc", b"def", b"ghi"], 6),
        ([b"abc"], 0),
        ([b"", b"abc", b""], 100),
        ([b"x" * (COPY_LIMIT_BYTES + 1)], 1 << 20),
        ([b"x" * COPY_LIMIT_BYTES, b"y" * COPY_LIMIT_BYTES], 1 << 20),
        ([b"x" * (RAW_PIECE_BYTES * 2 + 5)], RAW_PIECE_BYTES + 7),
        ([b"xyz" * 100_000, b"z" * 70_000, b"end"], 320_000),
    ],
)
def test_of_bodies_the_first_bytes_are_kept_and_the_rest_hashed(
    tmp_path: Path, pieces: list[bytes], limit: int, is_answer: bool
) -> None:
    tape = http_tape(tmp_path, limit=limit)
    begun(tape)
    if is_answer:
        tape.request_end(1)
        tape.response(1, 200, (), made_here=False)
    for piece in pieces:
        (tape.response_body if is_answer else tape.request_body)(1, piece)
        tape.flush()
    (tape.response_end if is_answer else tape.request_end)(1)
    tape.end("left")
    way = int(is_answer)
    found = b""
    for entry in entries_of(tape.path):
        match entry:
            case HttpRequest(raw=raw) if not is_answer:
                found += raw
            case HttpResponse(raw=raw) if is_answer:
                found += raw
            case HttpBody(way=number, raw=raw):
                assert number == way
                found += raw
    whole = b"".join(pieces)
    assert found == whole[:limit]
    ends = [one for one in of_kind(tape.path, HttpBodyEnd) if one.way == way]
    omitted = len(whole) - len(found)
    if omitted:
        (end,) = ends
        assert (end.kept, end.omitted) == (len(found), omitted)
        assert end.sha256 == hashlib.sha256(whole[limit:]).digest()


def test_what_is_beyond_is_only_counted_on_request(tmp_path: Path) -> None:
    tape = http_tape(tmp_path, limit=2, is_hashing=False)
    begun(tape)
    tape.request_body(1, b"abcdef")
    tape.request_end(1)
    tape.response(1, 101, (), made_here=False)
    tape.message(1, False, "text", b"abcdef")
    tape.end("left")
    (end,) = of_kind(tape.path, HttpBodyEnd)
    assert (end.kept, end.omitted, end.sha256) == (2, 4, b"")
    (message,) = of_kind(tape.path, HttpMessage)
    assert (message.raw, message.omitted, message.sha256) == (b"ab", 4, b"")


def test_messages_share_one_limit_each_way(tmp_path: Path) -> None:
    tape = http_tape(tmp_path, limit=8)
    begun(tape)
    tape.response(1, 101, (), made_here=False)
    for _ in range(3):
        tape.message(1, True, "text", b"abcdef")
        tape.message(1, False, "text", bytearray(b"xyz"))
    tape.end("left")
    messages = of_kind(tape.path, HttpMessage)
    assert [(one.raw, one.omitted) for one in messages if one.way == 0] == [
        (b"abcdef", 0),
        (b"ab", 4),
        (b"", 6),
    ]
    assert [(one.raw, one.omitted) for one in messages if one.way == 1] == [
        (b"xyz", 0),
        (b"xyz", 0),
        (b"xy", 1),
    ]


@pytest.mark.parametrize("ending", ["aborted", "used again", "answered", "end", "too many"])
def test_a_body_that_does_not_end_has_its_digest_all_the_same(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_taping, "MAX_OPEN_EXCHANGES", 1)
    tape = http_tape(tmp_path, limit=3)
    begun(tape)
    tape.request_body(1, b"abcdef")
    match ending:
        case "aborted":
            tape.aborted(1, "gone")
        case "used again":
            begun(tape)
        case "answered":
            tape.response(1, 413, (), made_here=False)
            tape.response_end(1)
        case "too many":
            begun(tape, 2)
    tape.end("left")
    (end,) = (one for one in of_kind(tape.path, HttpBodyEnd) if one.way == 0)
    assert (end.kept, end.omitted) == (3, 3)
    assert end.sha256 == hashlib.sha256(b"def").digest()
    if ending == "answered":  # what is said of the request stands before its exchange is over
        assert kinds(tape.path)[-4:] == ["HttpResponse", "HttpBodyEnd", "HttpBodyEnd", "End"]
        assert of_kind(tape.path, HttpBodyEnd)[-1].way == 1


def test_a_number_used_again_is_another_exchange(tmp_path: Path) -> None:
    tape = http_tape(tmp_path, limit=4)
    begun(tape)
    tape.request_body(1, b"abcd")
    begun(tape)
    tape.request_body(1, b"efgh")
    tape.request_end(1)
    tape.end("left")
    assert [one.reason for one in of_kind(tape.path, HttpAborted)] == [http_taping.USED_AGAIN]
    assert [one.raw for one in of_kind(tape.path, HttpRequest)] == [b"abcd", b"efgh"]
    assert not of_kind(tape.path, HttpBodyEnd)  # the second has a limit of its own


def test_exchanges_go_on_side_by_side(tmp_path: Path) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock, limit=6)
    for number in (1, 3, 5):
        tape.request(number, "POST", URL, "2", HEADERS, facts(), ALLOWED)
    for round_ in range(3):
        for number in (5, 1, 3):
            tape.request_body(number, b"%d%d%d" % (number, number, round_))
            tape.flush()
    for number in (3, 5, 1):
        tape.response(number, 200, (), made_here=False)
    for number in (1, 5, 3):
        tape.response_body(number, b"<%d>" % number)
        tape.request_end(number)
        tape.response_end(number)
    tape.end("left")
    for number in (1, 3, 5):
        assert carried(tape.path, number, HttpRequest, 0) == b"%d%d0%d%d1" % (number, number, number, number)
        ends = [one for one in of_kind(tape.path, HttpBodyEnd) if (one.exchange, one.way) == (number, 0)]
        assert [(one.kept, one.omitted) for one in ends] == [(6, 3)]
        assert carried(tape.path, number, HttpResponse, 1) == b"<%d>" % number


def carried(path: Path, exchange: int, head: type[HttpRequest] | type[HttpResponse], way: int) -> bytes:
    """What is on the tape of one body."""
    found = b""
    for entry in entries_of(path):
        if isinstance(entry, head | HttpBody) and entry.exchange == exchange:
            found += entry.raw if isinstance(entry, head) or entry.way == way else b""
    return found


# --- facts ------------------------------------------------------------------------------------------------------


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("body", "lack"),
    [
        ({"a": [1, 2.5, None, True, "x", {"b": "ü"}]}, ""),
        ({"a": "\ud800"}, ""),
        (nested(MAX_NESTED), ""),
        (nested(MAX_NESTED + 10), TOO_DEEP),
        (nested(100_000), TOO_DEEP),
        ({"a": 2**64}, TOO_DEEP),
        ({"a": -(2**63)}, ""),
        ("x" * 2000, TOO_LONG),
        ("", ""),
        (0, ""),
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, list) else "nested",
)
def test_a_body_is_among_the_facts_if_the_tape_can_hold_it(tmp_path: Path, body: object, lack: str) -> None:
    tape = http_tape(tmp_path, limit=1000)
    begun(tape, body=body, body_state=BodyState.JSON)
    tape.end("left")
    (judgement,) = judgements_of(tape.path)
    assert judgement.omitted == lack
    (found,) = judgement.facts
    assert isinstance(found, HttpFacts)
    assert found.body_state is BodyState.JSON
    assert found.body == (None if lack else body)
    with read_tape(tape.path) as read:
        assert isinstance(read.verdict, Whole)


def test_facts_that_were_never_seen_before_survive_everything_in_them(tmp_path: Path) -> None:
    odd = facts(
        "/ü/\ud800",
        query=(("q", "\udcff"), ("", "")),
        headers=(("x", "\xff\x80"),),
        body_bytes=None,
        body_state=BodyState.TOO_LARGE,
        other_paths=("/a", "/b"),
        upgrade="websocket",
        content_type="text/plain",
    )
    tape = http_tape(tmp_path)
    tape.request(1, "GET", URL + "/\ud800", "1.1", (("x", "\udcff"),), odd, ALLOWED)
    tape.end("left")
    assert judgements_of(tape.path)[0].facts == (odd,)
    assert of_kind(tape.path, HttpRequest)[0].url == URL + "/\ud800"


# --- tool calls -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept", "omitted"),
    [
        ('{"q": 1}', '{"q": 1}', 0),
        ({"q": [1, "ü"]}, '{"q":[1,"ü"]}', 0),
        (None, "null", 0),
        ("x" * 100_000, "x" * http_taping.MAX_ARGUMENTS, 100_000 - http_taping.MAX_ARGUMENTS),
        ("\ud800", "\ud800", 0),
    ],
)
def test_arguments_of_tool_calls(tmp_path: Path, given: object, kept: str, omitted: int) -> None:
    tape = http_tape(tmp_path)
    tape.tool_call(1, "search", given)
    tape.end("left")
    (call,) = of_kind(tape.path, HttpToolCall)
    assert (call.name, call.arguments, call.omitted) == ("search", kept, omitted)


def test_arguments_keep_to_the_limit_of_bodies(tmp_path: Path) -> None:
    tape = http_tape(tmp_path, limit=4)
    tape.tool_call(1, "search", "abcdef")
    tape.end("left")
    (call,) = of_kind(tape.path, HttpToolCall)
    assert (call.arguments, call.omitted) == ("abcd", 2)
