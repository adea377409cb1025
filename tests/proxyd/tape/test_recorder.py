from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from policy.decision import Decision, Effect
from policy.facts import SqlFacts
from proxyd.tape import recorder as module
from proxyd.tape import writer
from proxyd.tape.entries import (
    End,
    Event,
    Judgement,
    Reply,
    ReplyDigest,
    Request,
)
from proxyd.tape.errors import TapeError
from proxyd.tape.format import MAX_FRAME_BYTES, Torn, Whole
from proxyd.tape.frames import FrameKind
from proxyd.tape.reader import read_tape
from proxyd.tape.recorder import TapeRecorder
from proxyd.tape.writer import RAW_PIECE_BYTES, tape_name
from tests.proxyd.tape.tapes import ALLOWED, DENIED, FACTS, Clock, header, record, small_tape

T = TypeVar("T")


def entries(path: Path) -> list[object]:
    with read_tape(path) as tape:
        return list(tape.entries())


def of_kind(path: Path, kind: type[T]) -> list[T]:
    return [entry for entry in entries(path) if isinstance(entry, kind)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = small_tape(tmp_path)
    with read_tape(path) as tape:
        assert tape.header == header()
        judgement, request, reply, digest, event, end = tape.entries()
        assert isinstance(tape.verdict, Whole)
    assert isinstance(judgement, Judgement)
    assert (judgement.id, judgement.text, judgement.policy_version) == (0, "select 1", "p1")
    assert judgement.facts == (FACTS,)
    assert judgement.decisions == (ALLOWED,)
    assert isinstance(request, Request)
    assert (request.at_us, request.operation, request.judgements) == (1000, 1, (0,))
    assert request.raw == b"Q\0\0\0\rselect 1\0"
    assert isinstance(reply, Reply)
    assert (reply.at_us, reply.raw) == (3000, b"01234567")
    assert isinstance(digest, ReplyDigest)
    assert (digest.kept, digest.omitted, digest.sha256) == (8, 2, hashlib.sha256(b"89").digest())
    assert isinstance(event, Event)
    assert (event.name, event.data) == ("denied", {"operation": 2, "message": "no"})
    assert isinstance(end, End)
    assert (end.at_us, end.reason, end.operations, end.denials) == (1_003_000, "client left", 1, 1)


def test_the_path_is_made_of_time_and_session_only(tmp_path: Path) -> None:
    tape = record(tmp_path / "tapes", session="abc-1", login="../../etc/passwd", target="/x")
    tape.close()
    assert tape.path == tmp_path / "tapes" / "2025-07-20" / "082640-abc-1.tape"
    assert stat.S_IMODE(tape.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(tape.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(tape.path.parent.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("session", ["", "../x", "a/b", "a.b", "a\0", "-a", "a" * 65, "ä", "a\n"])
def test_a_session_id_that_could_be_a_path_is_refused(tmp_path: Path, session: str) -> None:
    with pytest.raises(TapeError, match="cannot name a file"):
        record(tmp_path, session=session)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_tape_is_never_touched(tmp_path: Path) -> None:
    path = small_tape(tmp_path)
    before = path.read_bytes()
    with pytest.raises(TapeError, match="cannot create"):
        record(tmp_path)
    assert path.read_bytes() == before


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    day = tmp_path / "2025-07-20"
    day.mkdir()
    (day / "082640-s1a2b3.tape").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TapeError):
        record(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_day_that_is_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "2025-07-20").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TapeError):
        record(tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_file_is_not_inherited_and_is_appended_to(tmp_path: Path) -> None:
    seen: list[int] = []

    def opener(path: Path, flags: int) -> int:
        seen.append(flags)
        return os.open(tmp_path / "t", flags, 0o600)

    TapeRecorder.create(tmp_path, header(), reply_limit_bytes=1, clock=Clock(), opener=opener).close()
    for flag in (os.O_APPEND, os.O_CREAT, os.O_EXCL, os.O_CLOEXEC, os.O_NOFOLLOW):
        assert seen[0] & flag


def test_a_judgement_is_written_once(tmp_path: Path) -> None:
    tape = record(tmp_path)
    first = tape.judgement("select 1", [FACTS], [ALLOWED], "p1")
    assert tape.judgement("select 1", (FACTS,), (ALLOWED,), "p1") == first
    equal = SqlFacts(*(getattr(FACTS, name) for name in FACTS.__struct_fields__))
    assert tape.judgement("select 1", [equal], [ALLOWED], "p1") == first
    assert tape.judgement("select 2", [FACTS], [ALLOWED], "p1") != first
    tape.end("done")
    assert [one.id for one in of_kind(tape.path, Judgement)] == [0, 1]


def test_another_judgement_of_the_same_text_is_written(tmp_path: Path) -> None:
    tape = record(tmp_path)
    ids = [
        tape.judgement("select 1", [FACTS], [ALLOWED], "p1"),
        tape.judgement("select 1", [FACTS], [ALLOWED], "p2"),
        tape.judgement("select 1", [FACTS], [DENIED], "p2"),
        tape.judgement("select 1", [], [DENIED], "p2"),
    ]
    tape.end("done")
    assert ids == [0, 1, 2, 3]
    assert [(one.policy_version, one.decisions) for one in of_kind(tape.path, Judgement)] == [
        ("p1", (ALLOWED,)),
        ("p2", (ALLOWED,)),
        ("p2", (DENIED,)),
        ("p2", (DENIED,)),
    ]


def test_remembered_judgements_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED_JUDGEMENTS", 3)
    tape = record(tmp_path)
    ids = [tape.judgement(text, [FACTS], [ALLOWED], "p1") for text in "abcda"]
    assert ids == [0, 1, 2, 3, 4]
    assert tape.judgement("d", [FACTS], [ALLOWED], "p1") == 3
    tape.close()


def test_remembered_text_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED_TEXT", 80)
    tape = record(tmp_path)
    texts = [str(number) * 10 for number in range(9)]
    assert [tape.judgement(text, [FACTS], [ALLOWED], "p1") for text in texts] == list(range(9))
    assert tape.judgement(texts[1], [FACTS], [ALLOWED], "p1") == 1
    assert tape.judgement(texts[0], [FACTS], [ALLOWED], "p1") == 9
    assert tape.judgement("x" * 11, [FACTS], [ALLOWED], "p1") == 10
    assert tape.judgement("x" * 11, [FACTS], [ALLOWED], "p1") == 11
    tape.close()


def test_text_that_is_not_unicode_is_kept(tmp_path: Path) -> None:
    text = b"select '\xff\xfe'".decode("utf-8", "surrogateescape") + "\ud800"
    tape = record(tmp_path)
    tape.judgement(text, [], [Decision(Effect.DENY)], "p1")
    tape.event("notice", {"text": text})
    tape.end("done")
    assert of_kind(tape.path, Judgement)[0].text == text
    assert of_kind(tape.path, Event)[0].data == {"text": text}


@pytest.mark.parametrize(
    "size", [0, 1, 255, 16 * 1024, 16 * 1024 + 1, RAW_PIECE_BYTES, 3 * RAW_PIECE_BYTES + 1]
)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_raw_bytes_of_any_size(tmp_path: Path, size: int, wrap: Callable[[bytes], bytes]) -> None:
    raw = os.urandom(size)
    tape = record(tmp_path, reply_limit_bytes=1 << 30)
    tape.request(7, (1, 2), wrap(raw))
    tape.reply(7, wrap(raw))
    tape.end("done")
    with read_tape(tape.path) as whole:
        assert isinstance(whole.verdict, Whole)
    requests, replies = of_kind(tape.path, Request), of_kind(tape.path, Reply)
    assert b"".join(one.raw for one in requests) == raw
    assert b"".join(one.raw for one in replies) == raw
    assert all(one.judgements == (1, 2) for one in requests)
    assert max(len(one.raw) for one in requests) <= RAW_PIECE_BYTES
    assert tape.bytes_written == tape.path.stat().st_size


def test_the_limit_of_replies_is_for_each_operation(tmp_path: Path) -> None:
    tape = record(tmp_path, reply_limit_bytes=10)
    for operation in (1, 2):
        tape.reply(operation, b"a" * 6)
        tape.reply(operation, b"b" * 6)
        tape.reply(operation, b"c" * 6)
        tape.reply_end(operation)
    tape.reply(3, b"d" * 10)
    tape.reply_end(3)
    tape.end("done")
    kept = [(one.operation, one.raw) for one in of_kind(tape.path, Reply)]
    assert kept == [(1, b"a" * 6), (1, b"b" * 4), (2, b"a" * 6), (2, b"b" * 4), (3, b"d" * 10)]
    rest = hashlib.sha256(b"bbcccccc").digest()
    digests = [(one.operation, one.kept, one.omitted, one.sha256) for one in of_kind(tape.path, ReplyDigest)]
    assert digests == [(1, 10, 8, rest), (2, 10, 8, rest)]


def test_interleaved_replies_keep_their_own_limits(tmp_path: Path) -> None:
    tape = record(tmp_path, reply_limit_bytes=4)
    for _ in range(3):
        tape.reply(0, b"n")
        tape.reply(1, b"rr")
    tape.end("done")
    assert b"".join(one.raw for one in of_kind(tape.path, Reply) if one.operation == 1) == b"rrrr"
    assert [(one.operation, one.omitted) for one in of_kind(tape.path, ReplyDigest)] == [(1, 2)]


def test_replies_that_are_never_ended_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN_REPLIES", 4)
    tape = record(tmp_path, reply_limit_bytes=1)
    for operation in range(10):
        tape.reply(operation, b"xx")
    assert len(of_kind(tape.path, ReplyDigest)) == 6
    tape.end("done")
    assert len(of_kind(tape.path, ReplyDigest)) == 10


def test_the_end_closes_and_gives_the_last_hash(tmp_path: Path) -> None:
    tape = record(tmp_path)
    chain = tape.end("done")
    with read_tape(tape.path) as read:
        verdict = read.verdict
    assert verdict == Whole(2, bytes.fromhex(chain))
    assert chain == tape.chain
    calls: list[Callable[[], object]] = [
        lambda: tape.request(1, (), b"x"),
        lambda: tape.reply(1, b"x"),
        lambda: tape.event("x", {}),
        lambda: tape.judgement("x", [], [], ""),
        lambda: tape.end("again"),
    ]
    for call in calls:
        with pytest.raises(TapeError, match="is closed"):
            call()
    tape.close()


def test_fsync_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    record(tmp_path, session="a").end("done")
    assert synced == []
    clock = Clock()
    TapeRecorder.create(tmp_path, header("b"), reply_limit_bytes=1, clock=clock, fsync=True).end("done")
    assert len(synced) == 1


def test_a_failed_fsync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    tape = TapeRecorder.create(tmp_path, header(), reply_limit_bytes=1, clock=Clock(), fsync=True)
    with pytest.raises(TapeError, match="Input/output error"):
        tape.end("done")
    assert not tape.is_usable


# Faults


def every_call(tape: TapeRecorder) -> list[Callable[[], object]]:
    return [
        lambda: tape.request(1, (), b"x"),
        lambda: tape.request(1, (), b"x" * 100_000),
        lambda: tape.reply(1, b"x"),
        lambda: tape.reply(1, b"x" * 10_000_000),
        lambda: tape.judgement("select 1", [FACTS], [ALLOWED], "p1"),
        lambda: tape.event("x", {}),
        lambda: tape.end("done"),
    ]


@pytest.mark.parametrize("index", range(7))
def test_after_a_fault_every_call_raises(tmp_path: Path, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = record(tmp_path)
    tape.judgement("select 1", [FACTS], [ALLOWED], "p1")
    size = tape.path.stat().st_size

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_write", fail)
        with pytest.raises(TapeError, match="No space left"):
            tape.event("x", {})
    with pytest.raises(TapeError, match="No space left"):
        every_call(tape)[index]()
    tape.close()
    assert tape.path.stat().st_size == size


@pytest.mark.parametrize("large", [False, True])
def test_a_short_write_is_a_fault(tmp_path: Path, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = record(tmp_path)
    write, writev = os.write, os.writev
    monkeypatch.setattr(writer, "_write", lambda fd, data: write(fd, data[:-1]))
    monkeypatch.setattr(os, "writev", lambda fd, parts: writev(fd, parts[:1]))
    with pytest.raises(TapeError, match="bytes were written"):
        tape.request(1, (), b"x" * (100_000 if large else 1))
    with pytest.raises(TapeError):
        tape.request(2, (), b"x")
    tape.close()
    with read_tape(tape.path) as read:
        assert isinstance(read.verdict, Torn)
        assert read.verdict.frames == 1


def test_what_cannot_be_packed_is_a_fault(tmp_path: Path) -> None:
    tape = record(tmp_path)
    with pytest.raises(TapeError, match="cannot be packed"):
        tape.event("x", {"bad": object()})
    with pytest.raises(TapeError):
        tape.request(1, (), b"x")
    tape.close()


def test_a_judgement_over_the_frame_limit_is_a_fault(tmp_path: Path) -> None:
    tape = record(tmp_path)
    with pytest.raises(TapeError, match="over the limit"):
        tape.judgement("x" * MAX_FRAME_BYTES, [], [DENIED], "p1")
    tape.close()


def test_no_space_at_the_start(tmp_path: Path) -> None:
    """/dev/full answers every write with ENOSPC."""
    opened: list[int] = []

    def opener(path: Path, flags: int) -> int:
        opened.append(os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC))
        return opened[0]

    with pytest.raises(TapeError, match="No space left on device"):
        TapeRecorder.create(tmp_path, header(), reply_limit_bytes=1, clock=Clock(), opener=opener)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_no_directory_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TapeError, match="cannot create"):
        record(tmp_path / "file" / "tapes")


FULL_BYTES = 65536


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Full at `FULL_BYTES`, for this process: the kernel writes what fits, then refuses.

    Never around more than the recorder: pytest's own output may be a file, and a longer one.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [100, 20_000])
def test_a_disk_that_fills_up(tmp_path: Path, size: int) -> None:
    tape = record(tmp_path)
    done = 0
    with full_disk():
        with pytest.raises(TapeError, match="cannot write the tape"):
            while True:
                tape.request(done, (), b"x" * size)
                done += 1
        with pytest.raises(TapeError):
            tape.end("done")
    assert tape.path.stat().st_size == FULL_BYTES
    with read_tape(tape.path) as read:
        kept = [entry.operation for entry in read.entries() if isinstance(entry, Request)]
        assert isinstance(read.verdict, Torn)
    assert kept == list(range(done))


def test_a_killed_recorder_loses_nothing_that_was_written(tmp_path: Path) -> None:
    code = """
import os, signal, sys, time
from pathlib import Path
from tests.proxyd.tape.tapes import record
tape = record(Path(sys.argv[1]))
for number in range(100):
    tape.request(number, (), b"x" * 50)
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    path = tmp_path / tape_name(header())
    assert [one.operation for one in of_kind(path, Request)] == list(range(100))
    with read_tape(path) as tape:
        assert isinstance(tape.verdict, Torn)
        assert not tape.is_live


def test_frame_kinds_never_change() -> None:
    """Tapes outlive the software that wrote them."""
    assert [(kind.name, kind.value) for kind in FrameKind] == [
        ("HEADER", 0),
        ("JUDGEMENT", 1),
        ("REQUEST", 2),
        ("REPLY", 3),
        ("REPLY_DIGEST", 4),
        ("EVENT", 5),
        ("END", 6),
        ("INPUT", 7),
        ("TYPED", 8),
        ("ECHOED", 9),
        ("WITHHELD", 10),
        ("OUTPUT", 11),
        ("STREAM_DIGEST", 12),
        ("TERMINAL", 13),
        ("RESIZED", 14),
        ("FILE", 15),
        ("HTTP_HEADERS", 16),
        ("HTTP_REQUEST", 17),
        ("HTTP_RESPONSE", 18),
        ("HTTP_BODY", 19),
        ("HTTP_BODY_END", 20),
        ("HTTP_MESSAGE", 21),
        ("HTTP_ABORTED", 22),
        ("HTTP_MASKED", 23),
        ("HTTP_TOOL_CALL", 24),
        ("HTTP_USAGE", 25),
    ]
