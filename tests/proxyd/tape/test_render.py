from __future__ import annotations

import json
from pathlib import Path

import msgspec

from policy.decision import Decision, Effect, MaskObligation, Reason
from policy.facts import ColumnName, SqlFacts, Subject
from protocols.postgres.messages import Query, command_complete, ready_for_query
from proxyd.tape.entries import Entry, Event, Request, Unknown
from proxyd.tape.format import Tampered, Torn, Whole
from proxyd.tape.json_lines import entry_json, header_json, verdict_json
from proxyd.tape.reader import read_tape
from proxyd.tape.render import Renderer
from proxyd.tape.wording import decision_lines, header_lines, stamp, verdict_line
from tests.proxyd.tape.tapes import ALLOWED, DENIED, FACTS, Clock, header, record, small_tape


def lines(path: Path, **options: bool) -> list[str]:
    with read_tape(path) as tape:
        assert tape.header is not None
        renderer = Renderer(tape.header, **options)
        return [line for entry in tape.entries() for line in renderer.lines(entry)] + list(renderer.finish())


def conversation(directory: Path) -> Path:
    clock = Clock()
    tape = record(directory, clock)
    judged = tape.judgement("select 1", [FACTS], [ALLOWED], "p1")
    denied = tape.judgement("select 2; drop", [FACTS], [ALLOWED, DENIED], "p2")
    tape.request(1, (judged, judged), Query("select 1").encode())
    clock.now_s += 0.25
    tape.reply(1, command_complete("OK") + ready_for_query("I"))
    tape.event("denied", {"sqlstate": "42501", "count": 2})
    tape.request(2, (denied, 99), Query("select 2; drop").encode())
    tape.end("client left")
    return tape.path


def test_what_a_person_sees(tmp_path: Path) -> None:
    assert lines(conversation(tmp_path)) == [
        "shop=> select 1",
        "-- allowed by read-the-shop: allowed",
        "OK",
        "-- 250.000 ms",
        "-- event denied: sqlstate: 42501, count: 2",
        "shop=> select 2; drop",
        "-- allowed by read-the-shop: allowed",
        "-- denied by no-secrets-table: API keys are not readable. (Ask.)",
        "-- judgement 99 is not at hand",
        "-- session ended: client left",
    ]


def test_details(tmp_path: Path) -> None:
    assert lines(conversation(tmp_path), detailed=True) == [
        "",
        "-- 08:26:40.250 operation 1",
        "shop=> select 1",
        "-- allowed by read-the-shop: allowed",
        "--   select; touches select shop.orders",
        "--   policy p1",
        "OK",
        "-- 250.000 ms",
        "-- event denied: sqlstate: 42501, count: 2",
        "",
        "-- 08:26:40.500 operation 2",
        "shop=> select 2; drop",
        "-- allowed by read-the-shop: allowed",
        "--   select; touches select shop.orders",
        "--   policy p2",
        "-- denied by no-secrets-table: API keys are not readable. (Ask.)",
        "-- judgement 99 is not at hand",
        "-- session ended: client left",
    ]


def test_decisions() -> None:
    mask = MaskObligation(1, "contact-data", ColumnName("shop", "customers", "email"))
    assert decision_lines(Decision(Effect.ALLOW, masks=(mask,))) == [
        "-- allowed",
        "-- masked: shop.customers.email by contact-data",
    ]
    assert decision_lines(Decision(Effect.HOLD, (Reason("wait", ""), Reason("", "ask")))) == [
        "-- held by wait",
        "-- held: ask",
    ]


def test_the_header() -> None:
    assert header_lines(header()) == [
        "-- session s1a2b3, 2025-07-20 08:26:40 UTC",
        "-- alice (data) by certificate from 127.0.0.1:50000",
        "-- postgres to shop/shop as readonly",
        "-- policy p1, proxyd 0.1.0",
    ]


def test_nothing_recorded_drives_a_terminal(tmp_path: Path) -> None:
    bad = "\x1b[2J\u202e\n"
    head = header(
        subject=Subject(bad, (bad,), {}, bad),
        target=bad,
        login=bad,
        client=bad,
        policy_version=bad,
        software_version=bad,
        database=bad,
    )
    decision = Decision(
        Effect.DENY, (Reason(bad, bad, bad),), (MaskObligation(0, bad, ColumnName(bad, bad, bad)),), bad
    )
    facts = SqlFacts(bad, (bad,), functions=(bad,), settings=(bad,), unresolved=(bad,))
    clock = Clock()
    tape = record(tmp_path, clock, **{key: getattr(head, key) for key in ("subject", "target", "database")})
    tape.judgement(bad, [facts], [decision], bad)
    tape.request(1, (0,), b"")
    tape.event(bad, {bad: bad, "deep": [bad], "raw": bad.encode()})
    tape.end(bad)
    unknown = Unknown(position=0, at_us=0, kind=50, fields=(bad, {bad: bad}, bad.encode()))
    shown = header_lines(head) + lines(tape.path, detailed=True) + list(Renderer(head).lines(unknown))
    with read_tape(tape.path) as read:
        shown += [entry_json(entry) for entry in read.entries()]
    shown += [entry_json(unknown), header_json(head)]
    assert not {"\x1b", "\u202e", "\n"} & set("".join(shown))
    assert "".join(shown).count("\\x1b[2J") > 20


def test_a_protocol_that_is_not_known(tmp_path: Path) -> None:
    shown = lines(small_tape(tmp_path, protocol="gopher"))
    assert "> 14 bytes: Q\\x00\\x00\\x00\\rselect 1\\x00" in shown
    assert "< 8 bytes: 01234567" in shown
    assert shown[-3].startswith("< 2 more bytes, sha256 ")
    assert shown[-1] == "-- session ended: client left"


def test_frames_that_are_not_known() -> None:
    renderer = Renderer(header())
    assert list(renderer.lines(Unknown(position=0, at_us=0, kind=77, fields=("stdin", b"\0", [1])))) == [
        "-- frame of kind 77: stdin, 1 bytes: \\x00, [1]"
    ]
    assert list(renderer.lines(Unknown(position=0, at_us=0, kind=2, fields=(1,)))) == [
        "-- frame of kind 2 (request, of another shape): 1"
    ]


def test_one_json_object_for_each_entry(tmp_path: Path) -> None:
    with read_tape(small_tape(tmp_path)) as tape:
        shown = [json.loads(entry_json(entry)) for entry in tape.entries()]
    assert [one["kind"] for one in shown] == ["judgement", "request", "reply", "reply_digest", "event", "end"]
    assert msgspec.convert(shown[0]["decisions"], list[Decision]) == [ALLOWED]
    assert msgspec.convert(shown[0]["facts"], list[SqlFacts]) == [FACTS]
    assert shown[1]["raw"] == "UQAAAA1zZWxlY3QgMQA="
    assert shown[4]["data"] == {"operation": 2, "message": "no"}
    assert json.loads(header_json(header()))["subject"]["name"] == "alice"


def test_json_of_what_json_has_not() -> None:
    entries: list[Entry] = [
        Event(position=0, at_us=0, name="x", data={"a": {1: b"\0", None: [float(2)]}}),
        Unknown(position=0, at_us=0, kind=9, fields=({b"k": "\udcff"},)),
    ]
    assert json.loads(entry_json(entries[0]))["data"] == {"a": {"1": "AA==", "None": [2.0]}}
    assert json.loads(entry_json(entries[1]))["fields"] == [{"b'k'": "\udcff"}]
    assert json.loads(entry_json(entries[1]))["kind_number"] == 9


def test_verdicts() -> None:
    chain = b"\x01" * 32
    assert verdict_line(Whole(3, chain), is_live=False) == f"whole: 3 frames, chain {'01' * 32}"
    torn = Torn(100, "cut", 2, chain)
    assert verdict_line(torn, is_live=False) == (
        f"torn at byte 100: cut; 2 frames before it are good, chain {'01' * 32}"
    )
    assert verdict_line(torn, is_live=True).startswith(
        "still being written: ends at byte 100 so far; 2 frames"
    )
    tampered = Tampered(8, "odd", 0, b"")
    assert verdict_line(tampered, is_live=False) == (
        "TAMPERED WITH at byte 8: odd; 0 frames before it are good, chain none"
    )
    assert json.loads(verdict_json(torn, is_live=True)) == {
        "kind": "verdict",
        "verdict": "torn",
        "live": True,
        "offset": 100,
        "reason": "cut",
        "frames": 2,
        "chain": "01" * 32,
    }


def test_times_that_no_calendar_has() -> None:
    assert stamp(0) == "1970-01-01 00:00:00 UTC"
    assert stamp(1e300) == "1e+300 s"
    assert stamp(float("nan")) == "nan s"
    request = Request(position=0, at_us=0, operation=1, judgements=(), raw=b"")
    renderer = Renderer(header(started_at=1e300), detailed=True)
    assert list(renderer.lines(request)) == ["", "-- 1e+300 s operation 1"]
