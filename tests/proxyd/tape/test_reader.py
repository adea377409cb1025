from __future__ import annotations

import os
from pathlib import Path

import msgpack
import pytest

from proxyd.tape.entries import Event, Reply, Request, Unknown
from proxyd.tape.errors import TapeError
from proxyd.tape.format import MAGIC, FrameEncoder, Tampered, Torn, Whole
from proxyd.tape.reader import (
    TAIL_BYTES,
    TapeState,
    find_tape,
    read_tape,
    session_of,
    summarise,
    tape_paths,
)
from tests.proxyd.tape.tapes import STARTED_AT, Clock, header, record, small_tape


def write(path: Path, payloads: list[list[object]]) -> Path:
    encoder = FrameEncoder()
    path.write_bytes(MAGIC + b"".join(encoder.frame(msgpack.packb(payload)) for payload in payloads))
    return path


HEAD: list[object] = [
    0,
    0,
    {
        "session": "s",
        "protocol": "ssh",
        "subject": {"name": "bob"},
        "target": "web1",
        "login": "deploy",
        "client": "::1",
        "policy_version": "p",
        "software_version": "9",
        "started_at": 1,
        "added_later": [1],
    },
]


def test_a_torn_tape_plays_to_its_last_whole_frame(tmp_path: Path) -> None:
    path = small_tape(tmp_path)
    data = path.read_bytes()
    seen = set()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        with read_tape(path) as tape:
            entries = list(tape.entries())
            verdict = tape.verdict
        assert isinstance(verdict, Torn)
        assert verdict.frames == len(entries) + (tape.header is not None)
        assert not tape.is_live
        seen.add(len(entries))
    assert seen == set(range(6))


def test_a_flipped_bit_in_the_file(tmp_path: Path) -> None:
    path = small_tape(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with read_tape(path) as tape:
        assert isinstance(tape.verdict, Tampered)


def test_a_live_tape_is_read_up_to_where_it_is(tmp_path: Path) -> None:
    recorder = record(tmp_path)
    recorder.request(1, (), b"x")
    with read_tape(recorder.path) as tape:
        assert tape.is_live
        assert [type(entry) for entry in tape.entries()] == [Request]
        assert isinstance(tape.verdict, Torn)
    recorder.reply(1, b"y")
    recorder.end("done")
    with read_tape(recorder.path) as tape:
        assert not tape.is_live
        assert isinstance(tape.verdict, Whole)


def test_readers_do_not_disturb_each_other_or_the_recorder(tmp_path: Path) -> None:
    path = small_tape(tmp_path)
    with read_tape(path) as one, read_tape(path) as two:
        assert not one.is_live
        assert not two.is_live
    recorder = record(tmp_path, session="other")
    with read_tape(recorder.path) as one:
        assert one.is_live
        recorder.event("x", {})
    recorder.close()


def test_what_a_later_version_wrote_is_shown(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.tape",
        [
            HEAD,
            [77, 5, "stdin", b"ls\n", {"x": 1}],
            [2, 6],
            [2, 7, "one", [], b""],
            [3, 8, 1, b"r", "one field more"],
            [6, 9, "done", 0, 0],
        ],
    )
    with read_tape(path) as tape:
        assert tape.header is not None
        assert tape.header.protocol == "ssh"
        first, short, wrong, longer, _ = tape.entries()
        assert isinstance(tape.verdict, Whole)
    assert isinstance(first, Unknown)
    assert (first.kind, first.at_us, first.fields) == (77, 5, ("stdin", b"ls\n", {"x": 1}))
    assert isinstance(short, Unknown)
    assert isinstance(wrong, Unknown)
    assert isinstance(longer, Reply)
    assert longer.raw == b"r"


@pytest.mark.parametrize("content", [{}, {"session": 1}, None, []])
def test_a_header_of_another_shape(tmp_path: Path, content: object) -> None:
    path = write(tmp_path / "t.tape", [[0, 0, content], [6, 1, "done", 0, 0]])
    with read_tape(path) as tape:
        assert tape.header is None
        assert list(tape.entries()) == []
        assert isinstance(tape.verdict, Tampered)
    assert summarise(path).state is TapeState.DAMAGED


def test_no_header_fields_at_all(tmp_path: Path) -> None:
    with read_tape(write(tmp_path / "t.tape", [[0, 0]])) as tape:
        assert isinstance(tape.verdict, Tampered)


@pytest.mark.parametrize("content", [b"", b"P", b"hello world, this is a text file and not a tape"])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.tape"
    path.write_bytes(content)
    with read_tape(path) as tape:
        assert tape.header is None
        assert not isinstance(tape.verdict, Whole)
    assert summarise(path).header is None


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "none", tmp_path, tmp_path / "fifo"):
        with pytest.raises(TapeError, match="cannot open"):
            read_tape(path)
        with pytest.raises(TapeError, match="cannot open"):
            summarise(path)


# Lists


def test_the_summary_of_a_whole_tape(tmp_path: Path) -> None:
    path = small_tape(tmp_path)
    summary = summarise(path)
    assert summary.header == header()
    assert summary.state is TapeState.ENDED
    assert (summary.operations, summary.denials, summary.duration_us) == (1, 1, 1_003_000)
    assert (summary.reason, summary.size_bytes) == ("client left", path.stat().st_size)


def test_the_summary_without_an_end(tmp_path: Path) -> None:
    clock = Clock()
    recorder = record(tmp_path, clock)
    for operation in (1, 1, 2, 3):
        clock.now_s += 1
        recorder.request(operation, (), b"x" * 3000)
        recorder.reply(operation, b"y" * 3000)
    recorder.event("denied", {"text": "z" * 3000})
    recorder.event("notice", {})
    live = summarise(recorder.path)
    assert (live.state, live.operations, live.denials) == (TapeState.LIVE, 3, 1)
    assert live.duration_us == 4_000_000
    recorder.close()
    torn = summarise(recorder.path)
    assert (torn.state, torn.operations, torn.denials) == (TapeState.TORN, 3, 1)
    os.truncate(recorder.path, recorder.path.stat().st_size - 1)
    assert summarise(recorder.path).denials == 1


def test_the_summary_of_a_cut_tape_never_fails(tmp_path: Path) -> None:
    path = small_tape(tmp_path)
    data = path.read_bytes()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        assert summarise(path).state in (TapeState.TORN, TapeState.DAMAGED)


def test_the_summary_counts_by_heads_as_the_end_frame_does(tmp_path: Path) -> None:
    path = small_tape(tmp_path)
    whole = summarise(path)
    with read_tape(path) as tape:
        last = list(tape.entries())[-1]
    os.truncate(path, last.position)
    torn = summarise(path)
    assert (torn.operations, torn.denials) == (whole.operations, whole.denials)


def test_an_end_frame_longer_than_the_tail_is_not_needed(tmp_path: Path) -> None:
    recorder = record(tmp_path)
    recorder.request(1, (), b"x")
    recorder.end("z" * TAIL_BYTES)
    summary = summarise(recorder.path)
    assert summary.operations == 1


def test_tapes_are_listed_oldest_first(tmp_path: Path) -> None:
    paths = [
        small_tape(tmp_path, session=name, started_at=STARTED_AT + later)
        for name, later in (("c", 0), ("a", 60), ("b", 86400))
    ]
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "2025-07-20" / "other").write_text("")
    (tmp_path / "2025-07-20" / "000000-link.tape").symlink_to(paths[0])
    assert list(tape_paths(tmp_path)) == paths
    assert [session_of(path) for path in paths] == ["c", "a", "b"]


def test_no_directory_of_tapes(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="cannot list"):
        list(tape_paths(tmp_path / "none"))


def test_a_tape_is_found(tmp_path: Path) -> None:
    one, two, three = (small_tape(tmp_path, session=name) for name in ("abc", "abcd", "ax-1"))
    assert find_tape(tmp_path, "abc") == one
    assert find_tape(tmp_path, "abcd") == two
    assert find_tape(tmp_path, "ax") == three
    assert find_tape(tmp_path, str(two)) == two
    assert find_tape(None, str(two)) == two
    assert find_tape(None, "x.tape") == Path("x.tape")
    with pytest.raises(TapeError, match="begins 3 session ids"):
        find_tape(tmp_path, "a")
    with pytest.raises(TapeError, match="no tape"):
        find_tape(tmp_path, "q")
    with pytest.raises(TapeError, match="not a path"):
        find_tape(None, "abc")


def test_events_keep_their_data(tmp_path: Path) -> None:
    recorder = record(tmp_path)
    data = {"text": "ä", "number": -5, "list": [1, None, True], "map": {"x": 1.5}, "bytes": b"\0"}
    recorder.event("notice", data)
    recorder.end("done")
    with read_tape(recorder.path) as tape:
        event = next(tape.entries())
    assert isinstance(event, Event)
    assert event.data == data
