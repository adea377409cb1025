"""When frames of HTTP are written, what a full disk does, and what is found in the file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from policy.decision import Decision
from proxyd.tape import batching, http_frames, writer
from proxyd.tape.errors import TapeError
from proxyd.tape.format import FrameDecoder, Tampered, Torn, Whole
from proxyd.tape.frames import FrameKind
from proxyd.tape.http_taping import HttpTape
from proxyd.tape.reader import TapeState, read_tape, summarise
from proxyd.tape.writer import COPY_LIMIT_BYTES
from tests.proxyd.tape.http_tapes import (
    ALLOWED,
    ANSWER_HEADERS,
    DENIED,
    HEADERS,
    URL,
    entries_of,
    facts,
    get,
    http_tape,
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


# --- when it is written -----------------------------------------------------------------------------------------


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all writes."""
    sizes: list[int] = []
    real_write, real_writev = os.write, os.writev

    def counted(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return real_write(fd, data)

    def counted_v(fd: int, parts: tuple[bytes, ...]) -> int:
        sizes.append(sum(len(part) for part in parts))
        return real_writev(fd, parts)

    monkeypatch.setattr(batching, "_write", counted)
    monkeypatch.setattr(writer, "_write", counted)
    monkeypatch.setattr(os, "writev", counted_v)
    return sizes


def test_each_flush_is_one_write_of_everything(tmp_path: Path, writes: list[int]) -> None:
    tape = http_tape(tmp_path)
    assert len(writes) == 1  # the header
    begun(tape)
    tape.request_body(1, b"x" * 100)
    tape.request_end(1)
    tape.masked(1, {"email": 1})
    assert len(writes) == 1
    tape.flush()
    assert len(writes) == 2
    assert tape.bytes_written == tape.path.stat().st_size
    tape.flush()
    assert len(writes) == 2
    tape.response(1, 200, ANSWER_HEADERS, made_here=False)
    tape.response_body(1, b"y" * COPY_LIMIT_BYTES)
    tape.response_end(1)
    tape.flush()
    assert len(writes) == 3
    tape.end("left")
    assert len(writes) == 4


def test_what_was_flushed_is_in_the_file(tmp_path: Path) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    calls: list[Callable[[], None]] = [
        lambda: begun(tape),
        lambda: tape.request_body(1, b"a"),
        lambda: tape.request_end(1),
        lambda: tape.response(1, 200, (), made_here=False),
        lambda: tape.response_body(1, b"b"),
        lambda: tape.response_body(1, b"c" * 20_000),
        lambda: tape.message(1, True, "text", b"d"),
        lambda: tape.masked(1, {"x": 1}),
        lambda: tape.tool_call(1, "f", "{}"),
        lambda: tape.usage(1, {"n": 1}),
        lambda: tape.response_end(1),
        lambda: tape.aborted(1, "x"),
        lambda: tape.event("x", {}),
    ]
    for call in calls:
        before = len(entries_of(tape.path))
        call()
        tape.flush()
        assert len(entries_of(tape.path)) > before
        assert tape.bytes_written == tape.path.stat().st_size
        decoder = FrameDecoder()
        decoder.feed(tape.path.read_bytes())
        while decoder.next_frame() is not None:
            pass
        assert decoder.chain.hex() == tape.chain
    tape.end("left")


def test_an_event_is_written_at_once(tmp_path: Path, writes: list[int]) -> None:
    tape = http_tape(tmp_path)
    begun(tape)
    tape.event("watched", {"by": "root"})
    assert len(writes) == 2
    assert kinds(tape.path) == ["Judgement", "HttpHeaders", "HttpRequest", "Event"]
    tape.end("left")


def test_a_refusal_waits_for_the_flush(tmp_path: Path, writes: list[int]) -> None:
    tape = http_tape(tmp_path)
    begun(tape, decision=DENIED)
    tape.request_end(1)
    tape.response(1, 403, (), made_here=True)
    tape.response_body(1, b"no")
    tape.response_end(1)
    assert len(writes) == 1
    tape.flush()
    assert len(writes) == 2
    tape.end("left")


def test_nothing_pending_grows_without_bounds(tmp_path: Path, writes: list[int]) -> None:
    tape = http_tape(tmp_path)
    begun(tape)
    for _ in range(100):
        tape.request_body(1, b"x" * 10_000)
    assert max(writes) < batching.MAX_PENDING_BYTES * 2
    assert sum(writes) > 700_000
    tape.end("left")


def test_times_do_not_go_back(tmp_path: Path) -> None:
    class Ticking(Clock):
        def __call__(self) -> float:
            self.now_s += 0.001
            return self.now_s

    tape = http_tape(tmp_path, Ticking())
    for number in range(5):
        get(tape, Clock(), number, headers=(("x-n", str(number)),))
        tape.event("x", {})
    tape.end("left")
    times = [entry.at_us for entry in entries_of(tape.path)]
    assert times == sorted(times)


def test_the_end_settles_and_flushes(tmp_path: Path) -> None:
    tape = http_tape(tmp_path, limit=2)
    begun(tape)
    tape.request_body(1, b"abc")
    chain = tape.end("left")
    with read_tape(tape.path) as read:
        verdict = read.verdict
        assert isinstance(verdict, Whole)
        assert verdict.chain.hex() == chain
    assert kinds(tape.path)[-2:] == ["HttpBodyEnd", "End"]
    assert summarise(tape.path).operations == 1


def test_closing_writes_what_is_pending(tmp_path: Path) -> None:
    tape = http_tape(tmp_path)
    begun(tape)
    tape.event("x", {})
    tape.close()
    tape.close()
    assert kinds(tape.path)[-1] == "Event"
    with pytest.raises(TapeError, match="closed"):
        tape.flush()


# --- faults -----------------------------------------------------------------------------------------------------

_CALLS: dict[str, Callable[[HttpTape], None]] = {
    "request": lambda tape: begun(tape, 9),
    "request body": lambda tape: tape.request_body(1, b"x"),
    "large body": lambda tape: tape.request_body(1, b"x" * 100_000),
    "body beyond the limit": lambda tape: tape.request_body(1, b"x" * 3_000_000),
    "request end": lambda tape: tape.request_end(1),
    "response": lambda tape: tape.response(1, 200, ANSWER_HEADERS, made_here=False),
    "response body": lambda tape: tape.response_body(1, b"x"),
    "response end": lambda tape: tape.response_end(1),
    "message": lambda tape: tape.message(1, True, "text", b"x"),
    "aborted": lambda tape: tape.aborted(1, "x"),
    "masked": lambda tape: tape.masked(1, {"x": 1}),
    "tool call": lambda tape: tape.tool_call(1, "f", {}),
    "usage": lambda tape: tape.usage(1, {}),
    "event": lambda tape: tape.event("x", {}),
    "flush": lambda tape: tape.flush(),
}


def full(written: int) -> Callable[[int, bytes], int]:
    """A disk that takes so many bytes of a write."""

    def write(fd: int, data: bytes) -> int:
        if not written:
            raise OSError(28, "No space left on device")
        return os.write(fd, data[:written])

    return write


@pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS)
def test_a_full_disk_fails_the_flush_and_every_call_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[HttpTape], None]
) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    get(tape, clock)
    begun(tape)
    chain = tape.chain
    monkeypatch.setattr(batching, "_write", full(0))
    with pytest.raises(TapeError, match="No space left on device"):
        tape.flush()
    monkeypatch.undo()  # the disk has room again, the tape has not
    assert not tape.is_usable
    with pytest.raises(TapeError, match="No space left"):
        call(tape)
    assert tape.end("left") == chain
    with read_tape(tape.path) as read:
        assert isinstance(read.verdict, Torn)
        assert read.verdict.chain.hex() == chain


def test_a_write_that_was_cut_leaves_the_frames_that_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = http_tape(tmp_path / "whole")
    begun(whole)
    whole.request_end(1)
    whole.event("x", {})
    before = whole.path.stat().st_size
    whole.flush()
    size = whole.path.stat().st_size - before
    whole.close()
    for written in range(1, size, 7):
        tape = http_tape(tmp_path / str(written))
        begun(tape)
        tape.request_end(1)
        tape.event("x", {})
        with monkeypatch.context() as patch:
            patch.setattr(batching, "_write", full(written))
            with pytest.raises(TapeError, match=f"{written} of {size} bytes"):
                tape.flush()
        tape.close()
        with read_tape(tape.path) as read:
            assert isinstance(read.verdict, Torn)
            assert read.verdict.chain.hex() == tape.chain


def test_a_full_disk_while_a_large_body_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(fd: int, parts: tuple[bytes, ...]) -> int:
        raise OSError(28, "No space left on device")

    tape = http_tape(tmp_path)
    begun(tape)
    monkeypatch.setattr(os, "writev", no_room)
    with pytest.raises(TapeError, match="No space left"):
        tape.request_body(1, b"x" * 100_000)
    tape.close()
    with read_tape(tape.path) as read:
        assert isinstance(read.verdict, Torn)
        assert read.verdict.chain.hex() == tape.chain


@pytest.mark.parametrize(
    "call",
    [
        lambda tape: tape.usage(1, {"x": object()}),
        lambda tape: tape.event("x", {"x": {1, 2}}),
        lambda tape: tape.message(1, True, "text", b"x") or tape.masked(1, {"x": 2**70}),
    ],
)
def test_what_cannot_be_packed_fails_the_tape(tmp_path: Path, call: Callable[[HttpTape], None]) -> None:
    tape = http_tape(tmp_path)
    with pytest.raises(TapeError, match="cannot be packed"):
        call(tape)
    assert not tape.is_usable
    tape.close()


def test_a_frame_over_the_limit_fails_the_tape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_frames, "MAX_FRAME_BYTES", 1000)
    tape = http_tape(tmp_path)
    with pytest.raises(TapeError, match="over the limit"):
        tape.request(1, "GET", URL, "1.1", (("x", "y" * 2000),), facts(), ALLOWED)
    tape.close()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TapeError, match="cannot create the tape"):
        http_tape(tmp_path / "file")


# --- the file ---------------------------------------------------------------------------------------------------


def test_a_tape_cut_anywhere_is_torn_and_reads_up_to_there(tmp_path: Path) -> None:
    path = small_http_tape(tmp_path)
    whole = path.read_bytes()
    entries = entries_of(path)
    cut = tmp_path / "cut.tape"
    for size in range(400, len(whole), 97):
        cut.write_bytes(whole[:size])
        with read_tape(cut) as tape:
            found = list(tape.entries())
            assert isinstance(tape.verdict, Torn)
        assert found == entries[: len(found)]


def test_a_byte_changed_anywhere_is_found(tmp_path: Path) -> None:
    path = small_http_tape(tmp_path)
    whole = path.read_bytes()
    changed = tmp_path / "changed.tape"
    for at in range(8, len(whole) - 250, 41):
        changed.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        with read_tape(changed) as tape:
            assert isinstance(tape.verdict, Tampered), at


def test_a_frame_taken_out_is_found(tmp_path: Path) -> None:
    path = small_http_tape(tmp_path)
    whole = path.read_bytes()
    places = [entry.position for entry in entries_of(path)]
    for start, stop in itertools.pairwise(places):
        path.write_bytes(whole[:start] + whole[stop:])
        with read_tape(path) as tape:
            assert isinstance(tape.verdict, Tampered)


def test_a_torn_tape_is_counted_by_its_heads(tmp_path: Path) -> None:
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    get(tape, clock)
    get(tape, clock, 2, decision=DENIED)
    live = summarise(tape.path)
    assert (live.operations, live.denials, live.state) == (2, 1, TapeState.LIVE)
    tape.close()
    torn = summarise(tape.path)
    assert (torn.operations, torn.denials, torn.state) == (2, 1, TapeState.TORN)
    assert torn.duration_us == 24_000


def test_the_golden_tape_reads_as_ever(tmp_path: Path) -> None:
    """Written by the first version that recorded HTTP. What is in `golden-http.jsonl` has to stay in the output;
    more may come."""
    from proxyd.tape.json_lines import entry_json

    golden = Path(__file__).with_name("golden-http.tape")
    lines = golden.with_suffix(".jsonl").read_text().splitlines()
    with read_tape(golden) as tape:
        found = [entry_json(entry) for entry in tape.entries()]
        assert isinstance(tape.verdict, Whole)
    assert len(found) == len(lines) > 25
    for line, expected in zip(found, lines, strict=True):
        assert_holds(msgspec.json.decode(line), msgspec.json.decode(expected))


def assert_holds(found: object, expected: object) -> None:
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        for key, value in expected.items():
            assert_holds(found[key], value)
    elif isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_holds(one, other)
    else:
        assert found == expected


def test_every_kind_of_http_is_on_the_golden_tape() -> None:
    decoder = FrameDecoder()
    decoder.feed(Path(__file__).with_name("golden-http.tape").read_bytes())
    found = set()
    while (frame := decoder.next_frame()) is not None:
        found.add(frame.kind)
    assert found >= {kind for kind in FrameKind if kind.name.startswith("HTTP_")}
