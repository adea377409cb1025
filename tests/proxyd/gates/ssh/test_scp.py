"""The observer of the legacy scp protocol: transfers seen, and what ends the observation."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyd.gates.files import FileContents, FileRecord
from proxyd.gates.scp import MAX_AHEAD_BYTES, MAX_DEPTH, MAX_LINE_BYTES, MAX_SAID, ScpObserver

ROOT = Path(__file__).parents[4]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def record(path: str, data: bytes, verb: str = "write", *, is_complete: bool = True) -> FileRecord:
    return FileRecord(path, verb, len(data), sha256(data), is_complete)


def play(*steps: tuple[str, bytes], direction: str = "-t") -> tuple[list[FileRecord], str | None]:
    """Steps are ("source" or "sink", bytes). The records, and why the observation ended (None: it did not)."""
    observer = ScpObserver(direction)
    found: list[FileRecord] = []
    for side, data in steps:
        is_client = (side == "source") == (direction == "-t")
        found += observer.from_client(data) if is_client else observer.from_target(data)
    ended = observer.ended
    return found + observer.finish(), ended


SOURCE, SINK = "source", "sink"
HELLO = [
    (SINK, b"\0"),
    (SOURCE, b"C0644 5 a.txt\n"),
    (SINK, b"\0"),
    (SOURCE, b"hello\0"),
    (SINK, b"\0"),
]


@pytest.mark.parametrize(("direction", "verb"), [("-t", "write"), ("-f", "read")])
def test_a_file(direction: str, verb: str) -> None:
    assert play(*HELLO, direction=direction) == ([record("a.txt", b"hello", verb)], None)


def test_who_never_stops_talking_is_not_followed() -> None:
    observer = ScpObserver("-t")
    for _ in range(MAX_SAID):
        observer.from_target(b"\1scp: no\n")
    assert observer.ended is None
    assert observer.take_said() == ["scp: no"] * MAX_SAID
    observer.from_target(b"\1scp: no\n")
    assert observer.ended == "too many messages"
    assert observer.take_said() == ["scp: no"]


def test_a_size_with_zeros_before_it_is_a_size() -> None:
    """scp reads it so, and the file must not go by unseen."""
    steps = [HELLO[0], (SOURCE, b"C0644 " + b"0" * 30 + b"5 a.txt\n"), *HELLO[2:]]
    assert play(*steps) == ([record("a.txt", b"hello")], None)


def test_a_file_byte_by_byte() -> None:
    steps = [(side, data[at : at + 1]) for side, data in HELLO for at in range(len(data))]
    assert play(*steps) == ([record("a.txt", b"hello")], None)


def test_times_directories_and_empty_files() -> None:
    steps = [
        (SINK, b"\0"),
        (SOURCE, b"T1700000000 0 1700000000 0\n"),
        (SINK, b"\0"),
        (SOURCE, b"D0755 0 d\n"),
        (SINK, b"\0"),
        (SOURCE, b"D0755 0 sub dir\n"),
        (SINK, b"\0"),
        (SOURCE, b"C0644 0 empty\n"),
        (SINK, b"\0"),
        (SOURCE, b"\0"),
        (SINK, b"\0"),
        (SOURCE, b"E\n"),
        (SINK, b"\0"),
        (SOURCE, b"C0600 3 b\xff\n"),
        (SINK, b"\0"),
        (SOURCE, b"abc\0"),
        (SINK, b"\0"),
        (SOURCE, b"E\n"),
        (SINK, b"\0"),
        (SOURCE, b"C0600 1 c\n"),
        (SINK, b"\0"),
        (SOURCE, b"x\0"),
        (SINK, b"\0"),
    ]
    expected = [record("d/sub dir/empty", b""), record("d/b\udcff", b"abc"), record("c", b"x")]
    assert play(*steps) == (expected, None)


def test_a_source_that_does_not_wait_is_read_once_the_sink_has_answered() -> None:
    stream = b"D0755 0 d\nC0644 5 a\nhello\0C0644 1 b\nx\0E\n"
    assert play((SOURCE, stream), (SINK, b"\0" * 7)) == ([record("d/a", b"hello"), record("d/b", b"x")], None)


def test_a_refused_file_has_no_data() -> None:
    steps = [
        (SINK, b"\0"),
        (SOURCE, b"C0644 20 a\n"),
        (SINK, b"\1scp: a: Permission denied\n"),
        (SOURCE, b"C0644 1 b\n"),
        (SINK, b"\0"),
        (SOURCE, b"x\0"),
        (SINK, b"\0"),
    ]
    assert play(*steps) == ([record("b", b"x")], None)


def test_a_refused_directory_is_not_entered() -> None:
    steps = [(SINK, b"\0"), (SOURCE, b"D0755 0 d\n"), (SINK, b"\1no\n"), *HELLO[1:]]
    assert play(*steps) == ([record("a.txt", b"hello")], None)


def test_a_file_that_could_not_be_written_or_read_is_not_complete() -> None:
    assert play(*HELLO[:-1], (SINK, b"\1disk full\n")) == (
        [record("a.txt", b"hello", is_complete=False)],
        None,
    )
    steps = [*HELLO[:3], (SOURCE, b"hello\1scp: a.txt: I/O error\n"), (SINK, b"\0"), *HELLO[1:]]
    expected = [record("a.txt", b"hello", is_complete=False), record("a.txt", b"hello")]
    assert play(*steps) == (expected, None)


def test_what_the_source_could_not_open_is_a_word_to_the_user() -> None:
    assert play(HELLO[0], (SOURCE, b"\1scp: x: No such file\n"), *HELLO[1:]) == (
        [record("a.txt", b"hello")],
        None,
    )


def test_the_channel_ends_in_the_midst() -> None:
    for sent, is_there in ((b"", True), (b"he", True), (b"hello", True), (b"hello\0", True)):
        records, ended = play(*HELLO[:3], (SOURCE, sent))
        assert records == [record("a.txt", sent[:5], is_complete=False)] * is_there
        assert ended is None
    assert play(*HELLO[:2]) == ([], None)  # never accepted, never begun


def test_the_first_bytes_are_kept() -> None:
    observer = ScpObserver("-t", contents=FileContents(3))
    found = []
    for side, data in [*HELLO[:3], (SOURCE, b"h"), (SOURCE, b"e"), (SOURCE, b"llo\0"), HELLO[4]]:
        found += observer.from_client(data) if side == SOURCE else observer.from_target(data)
    assert [entry.content for entry in found] == [b"hel"]


@pytest.mark.parametrize(
    "steps",
    [
        [(SINK, b"\0"), (SOURCE, b"hello\n")],
        [(SINK, b"\0"), (SOURCE, b"E\n")],
        [(SINK, b"\0"), (SOURCE, b"C0644 -1 a\n")],
        [(SINK, b"\0"), (SOURCE, b"C0644 99999999999999999999 a\n")],
        [(SINK, b"\0"), (SOURCE, b"C0644 1 \n")],
        [(SINK, b"\0"), (SOURCE, b"C0644 1 a\0b\n")],
        [(SINK, b"\0"), (SOURCE, b"Cwhat\n")],
        [(SINK, b"\0"), (SOURCE, b"\n")],
        [(SINK, b"\0"), (SOURCE, b"C" * (MAX_LINE_BYTES + 1))],
        [(SINK, b"\1" * (MAX_LINE_BYTES + 2))],
        [(SINK, b"Welcome!\n")],
        [(SINK, b"\0\0")],
        [(SOURCE, bytes(MAX_AHEAD_BYTES + 1))],
        [*HELLO[:3], (SOURCE, b"hello, and more\n")],
    ],
)
def test_what_cannot_be_followed_ends_the_observation(steps: list[tuple[str, bytes]]) -> None:
    records, ended = play(*steps, *HELLO)
    assert ended is not None
    assert [entry.is_complete for entry in records] in ([], [False])


def test_directories_are_followed_so_deep_and_no_deeper() -> None:
    steps = [(SINK, b"\0"), *[(SOURCE, b"D0755 0 d\n"), (SINK, b"\0")] * (MAX_DEPTH + 1)]
    assert play(*steps)[1] == "directories are nested too deeply"


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=20) | st.sampled_from([s for _, s in HELLO]))))
def test_noise_is_tolerated(steps: list[tuple[bool, bytes]]) -> None:
    observer = ScpObserver("-f")
    for is_client, data in steps:
        observer.from_client(data) if is_client else observer.from_target(data)
    observer.finish()
    assert observer.from_client(b"more") == observer.from_target(b"more") == observer.finish() == []


# The real scp at both ends


def scp(place: Path, *arguments: str) -> tuple[list[list[object]], str | None, int]:
    log, script = place / "log", place / "ssh"
    command = shlex.join([sys.executable, "-m", "tests.proxyd.gates.ssh.scp_bridge", str(log)])
    script.write_text(f'#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {command} "$@"\n')
    script.chmod(0o755)
    run = subprocess.run(
        ["scp", "-O", "-S", str(script), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    seen = json.loads(log.read_text())
    return sorted(seen["files"]), seen["ended"], run.returncode


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    found = tmp_path / "tree"
    (found / "d").mkdir(parents=True)
    (found / "a").write_bytes(b"hello")
    (found / "empty").write_bytes(b"")
    (found / "d" / "big").write_bytes(b"abc" * 100_000)
    return found


@pytest.mark.parametrize("flags", [["-r"], ["-rp"]])
@pytest.mark.parametrize("is_upload", [True, False])
def test_trees_both_ways(tmp_path: Path, tree: Path, flags: list[str], is_upload: bool) -> None:
    target = tmp_path / "copy"
    here, there = (str(tree), f"host:{target}") if is_upload else (f"host:{tree}", str(target))
    files, ended, code = scp(tmp_path, *flags, here, there)
    assert code == 0
    verb = "write" if is_upload else "read"
    # The first name is the source's: where the sink puts it, only its command says.
    assert files == [
        ["tree/a", verb, 5, sha256(b"hello"), True, "hel"],
        ["tree/d/big", verb, 300_000, sha256(b"abc" * 100_000), True, "abc"],
        ["tree/empty", verb, 0, sha256(b""), True, ""],
    ]
    assert (target / "d" / "big").read_bytes() == b"abc" * 100_000
    assert ended is None


def test_a_file_that_the_sink_cannot_take(tmp_path: Path, tree: Path) -> None:
    target = tmp_path / "copy"
    (target / "a").mkdir(parents=True)
    files, ended, code = scp(tmp_path, str(tree / "a"), str(tree / "empty"), f"host:{target}")
    assert code != 0
    assert files == [["empty", "write", 0, sha256(b""), True, ""]] or not files
    assert ended is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    files, ended, code = scp(tmp_path, f"host:{tmp_path}/none", str(tmp_path))
    assert (files, ended) == ([], None)
    assert code != 0
