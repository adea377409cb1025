"""Open files in the sftp gate: what a handle may be used for, and what is recorded of its transfer."""

from __future__ import annotations

import hashlib

import pytest

from protocols.ssh.fields import string, uint32
from protocols.ssh.sftp import MAX_DATA_BYTES, Kind, data_head, packet, write_head
from protocols.ssh.sftp_attributes import Attributes
from protocols.ssh.sftp_replies import StatusCode, status
from protocols.ssh.sftp_requests import (
    FSTATVFS,
    FSYNC,
    CopyData,
    ExtendedOnHandle,
    OnHandle,
    OnPath,
    Open,
    OpenFlag,
    Read,
    Request,
    Unknown,
)
from proxyd.gates.files import FileContents, FileRecord
from proxyd.gates.sftp_state import MAX_HANDLES
from tests.proxyd.gates.ssh.sftp_scene import Scene, Sent, Told

READ, WRITE = OpenFlag.READ, OpenFlag.WRITE
CREATE = OpenFlag.WRITE | OpenFlag.CREAT | OpenFlag.TRUNC


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read(scene: Scene, offset: int, data: bytes | None, handle: bytes = b"h") -> None:
    """The client reads, the target answers with `data` or with the end of the file."""
    scene.ask(Read(2, handle, offset, 1000))
    answer_read(scene, data)


def answer_read(scene: Scene, data: bytes | None) -> None:
    asked = scene.asked()
    assert isinstance(asked, Read)
    if data is None:
        scene.target(status(asked.id, StatusCode.EOF, ""))
        scene.refused(2, StatusCode.EOF)
    else:
        scene.target(data_head(asked.id, len(data)) + data)
        assert scene.told() == Told(Kind.DATA, 2, string(data))


def write(scene: Scene, offset: int, data: bytes, code: int = 0, handle: bytes = b"h") -> None:
    scene.client(write_head(3, handle, offset, len(data)) + data)
    sent = scene.asked()
    assert isinstance(sent, Sent)
    assert (sent.offset, sent.data) == (offset, data)
    scene.target(status(sent.id, code, ""))
    assert scene.reply().code == code


def close(scene: Scene, handle: bytes = b"h", code: int = 0) -> None:
    scene.ask(OnHandle(Kind.CLOSE, 4, handle))
    settle(scene, code)


def settle(scene: Scene, code: int = 0) -> None:
    """The target answers what it was asked last with a status."""
    asked = scene.asked()
    assert not isinstance(asked, Sent | Unknown)
    scene.target(status(asked.id, code, ""))  # type: ignore[union-attr]
    assert scene.reply().code == code


# What is recorded


def test_a_file_read_to_its_end() -> None:
    scene = Scene(contents=FileContents(4))
    scene.opened(1, "/a", b"h", READ)
    read(scene, 0, b"hello ")
    read(scene, 6, b"world")
    read(scene, 11, None)
    scene.done()
    close(scene)
    assert scene.file() == FileRecord("/a", "read", 11, sha256(b"hello world"), True, True, 0, b"hell")
    scene.done()
    assert scene.finish() == []


def test_an_empty_file() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    read(scene, 0, None)
    close(scene)
    assert scene.file() == FileRecord("/a", "read", 0, sha256(b""), True)
    scene.opened(1, "/b", b"h", CREATE)
    close(scene)
    assert scene.file() == FileRecord("/b", "write", 0, sha256(b""), True)
    scene.opened(1, "/c", b"h", READ)
    close(scene)  # opened, but nothing was asked of it
    scene.opened(1, "/d", b"h", WRITE)
    close(scene)
    scene.done()


def test_pipelined_reads_answered_in_order() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    for offset in (0, 5, 10):
        scene.ask(Read(2, b"h", offset, 5))
    for data in (b"abcde", b"fg", None):
        answer_read(scene, data)
    read(scene, 7, None)  # the short answer is asked for again
    close(scene)
    assert scene.file() == FileRecord("/a", "read", 7, sha256(b"abcdefg"), True)
    scene.done()


def test_a_read_up_to_the_size_that_the_target_told() -> None:
    for asks in (
        [OnPath(Kind.STAT, 9, "/a")],
        [OnPath(Kind.LSTAT, 9, "/a")],
        [OnPath(Kind.STAT, 9, "/other")],
    ):
        scene = Scene()
        for request in asks:
            scene.ask(request)
            scene.judged()
            asked = scene.asked()
            assert isinstance(asked, OnPath)
            scene.target(packet(Kind.ATTRS, asked.id, Attributes(size=5, permissions=0o100644).encode()))
            scene.reply()
        scene.opened(1, "/a", b"h", READ)
        read(scene, 0, b"hello")
        close(scene)
        assert scene.file().is_complete == (asks[0].path == "/a")
        scene.done()


def test_the_size_that_fstat_told() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    scene.ask(OnHandle(Kind.FSTAT, 9, b"h"))
    asked = scene.asked()
    assert isinstance(asked, OnHandle)
    scene.target(packet(Kind.ATTRS, asked.id, Attributes(size=5).encode()))
    assert scene.reply().kind == Kind.ATTRS
    read(scene, 0, b"hello")
    close(scene)
    assert scene.file().is_complete
    scene.done()


def test_attributes_that_cannot_be_read_are_the_clients_affair() -> None:
    scene = Scene()
    scene.ask(OnPath(Kind.STAT, 9, "/a"))
    scene.judged()
    asked = scene.asked()
    assert isinstance(asked, OnPath)
    scene.target(packet(Kind.ATTRS, asked.id, uint32(0x10) + b"more"))
    assert scene.told() == Told(Kind.ATTRS, 9, uint32(0x10) + b"more")
    scene.done()


@pytest.mark.parametrize(
    ("pieces", "is_in_order", "start"),
    [
        ([(0, b"abc")], True, 0),  # the end was not seen
        ([(3, b"def"), (6, None)], True, 3),
        ([(0, b"abc"), (6, b"ghi"), (9, None)], False, 0),
        ([(3, b"def"), (0, b"abc"), (6, None)], False, 3),
        ([(0, b"abc"), (9, None)], True, 0),
    ],
)
def test_reads_that_are_not_the_whole_file(
    pieces: list[tuple[int, bytes | None]], is_in_order: bool, start: int
) -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    for offset, data in pieces:
        read(scene, offset, data)
    close(scene)
    content = b"".join(data for _, data in pieces if data)
    assert scene.file() == FileRecord("/a", "read", len(content), sha256(content), False, is_in_order, start)
    scene.done()


def test_a_read_that_failed() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    read(scene, 0, b"abc")
    scene.ask(Read(2, b"h", 3, 10))
    settle(scene, StatusCode.FAILURE)
    read(scene, 3, None)
    close(scene)
    assert not scene.file().is_complete
    scene.done()


def test_a_file_written() -> None:
    scene = Scene(contents=FileContents(100))
    scene.opened(1, "/a", b"h", CREATE)
    write(scene, 0, b"hello ")
    write(scene, 6, b"world")
    close(scene)
    assert scene.file() == FileRecord("/a", "write", 11, sha256(b"hello world"), True, content=b"hello world")
    scene.done()


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
def test_a_file_written_in_pieces_that_are_not_its_packets(piece_bytes: int) -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", CREATE)
    content = bytes(range(256)) * 4
    stream = b"".join(write_head(3, b"h", at, 256) + content[at : at + 256] for at in range(0, 1024, 256))
    stream += OnHandle(Kind.CLOSE, 4, b"h").encode(4)
    for at in range(0, len(stream), piece_bytes):
        scene.client(stream[at : at + piece_bytes])
    for at in range(0, 1024, 256):
        sent = scene.asked()
        assert isinstance(sent, Sent)
        assert (sent.offset, sent.data) == (at, content[at : at + 256])
        scene.target(status(sent.id, 0, ""))
        scene.refused(3, StatusCode.OK)
    settle(scene)
    assert scene.file() == FileRecord("/a", "write", 1024, sha256(content), True)
    scene.done()


@pytest.mark.parametrize("how", ["failed write", "failed close", "gap", "append", "start", "longer", "cut"])
def test_writes_that_are_not_the_whole_file(how: str) -> None:
    scene = Scene()
    flags = CREATE | (OpenFlag.APPEND if how == "append" else 0)
    scene.opened(1, "/a", b"h", flags)
    write(scene, 1 if how == "start" else 0, b"abc", StatusCode.FAILURE if how == "failed write" else 0)
    if how == "gap":
        write(scene, 10, b"def")
    if how in {"longer", "cut"}:
        scene.ask(OnHandle(Kind.FSETSTAT, 5, b"h", Attributes(size=10 if how == "longer" else 1)))
        settle(scene)
    close(scene, code=StatusCode.FAILURE if how == "failed close" else 0)
    found = scene.file()
    assert not found.is_complete
    assert found.is_in_order == (how != "gap")
    scene.done()


def test_a_write_in_place_that_is_cut_to_its_length() -> None:
    """As scp does since OpenSSH 9: opened without TRUNC, and the size set at the end; that is part of the write."""
    scene = Scene()
    scene.opened(1, "/a", b"h", OpenFlag.WRITE | OpenFlag.CREAT)
    write(scene, 0, b"hello")
    scene.ask(OnHandle(Kind.FSETSTAT, 5, b"h", Attributes(size=5)))
    settle(scene)
    close(scene)
    assert scene.file() == FileRecord("/a", "write", 5, sha256(b"hello"), True)
    scene.done()


def test_one_handle_for_both() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ | WRITE)
    read(scene, 0, b"old")
    write(scene, 0, b"new")
    read(scene, 3, None)
    close(scene)
    assert scene.file() == FileRecord("/a", "read", 3, sha256(b"old"), True)
    assert scene.file() == FileRecord("/a", "write", 3, sha256(b"new"), True)
    scene.done()


def test_replies_that_come_after_the_close() -> None:
    """A target may work on several requests at once: the record waits for the last."""
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    read(scene, 0, b"abc")
    scene.ask(Read(2, b"h", 3, 10))
    last = scene.asked()
    assert isinstance(last, Read)
    close(scene)
    scene.target(status(last.id, StatusCode.EOF, ""))
    scene.refused(2, StatusCode.EOF)
    assert scene.file().is_complete
    scene.done()


def test_the_channel_ends_in_the_midst() -> None:
    scene = Scene()
    scene.opened(1, "/b", b"h", READ)
    scene.opened(1, "/a", b"i", CREATE)
    scene.opened(1, "/c", b"j", READ)
    scene.ask(Read(2, b"h", 0, 100))
    asked = scene.asked()
    assert isinstance(asked, Read)
    scene.target(data_head(asked.id, 6) + b"abc")
    scene.client(write_head(3, b"i", 0, 6) + b"xy")
    read_record = FileRecord("/b", "read", 3, sha256(b"abc"), False)
    assert scene.finish() == [FileRecord("/a", "write", 2, sha256(b"xy"), False), read_record]
    assert scene.finish() == []
    scene.client(b"z")
    scene.target(b"z")
    scene.done()


def test_read_to_the_end_but_never_closed_is_complete() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    read(scene, 0, b"abc")
    read(scene, 3, None)
    assert [record.is_complete for record in scene.finish()] == [True]


# What a handle may be used for


@pytest.mark.parametrize(
    "request_",
    [
        Read(7, b"none", 0, 10),
        OnHandle(Kind.CLOSE, 7, b"none"),
        OnHandle(Kind.FSTAT, 7, b"none"),
        OnHandle(Kind.READDIR, 7, b"none"),
        OnHandle(Kind.FSETSTAT, 7, b"none", Attributes(size=0)),
        ExtendedOnHandle(FSYNC, 7, b"none"),
        ExtendedOnHandle(FSTATVFS, 7, b"none"),
        CopyData(7, b"none", 0, 0, b"h", 0),
        CopyData(7, b"h", 0, 0, b"none", 0),
        CopyData(7, b"none", 0, 0, b"nor this", 0),
    ],
)
def test_a_handle_that_was_not_opened_here_is_refused(request_: Request) -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ | WRITE)
    scene.ask(request_)
    assert "no such handle" in scene.refused(7, StatusCode.FAILURE)
    scene.done()


def test_a_write_to_no_handle_is_dropped_and_the_stream_goes_on() -> None:
    scene = Scene()
    scene.client(write_head(7, b"none", 0, 6) + b"abc", b"def" + OnPath(Kind.STAT, 8, "/a").encode(8))
    scene.refused(7, StatusCode.FAILURE)
    assert isinstance(scene.asked(), OnPath)
    scene.judged()
    scene.done()


def test_a_handle_is_for_what_it_was_opened_for() -> None:
    scene = Scene()
    scene.opened(1, "/r", b"r", READ)
    scene.opened(1, "/w", b"w", WRITE)
    scene.ask(Read(2, b"w", 0, 10))
    scene.client(write_head(3, b"r", 0, 3) + b"abc")
    scene.ask(CopyData(4, b"w", 0, 0, b"w", 0))
    scene.ask(CopyData(5, b"r", 0, 0, b"r", 0))
    scene.ask(OnHandle(Kind.READDIR, 6, b"r"))
    assert "not opened for reading" in scene.refused(2)
    assert "not opened for writing" in scene.refused(3)
    assert "not opened for reading" in scene.refused(4)
    assert "not opened for writing" in scene.refused(5)
    assert "not a directory" in scene.refused(6, StatusCode.FAILURE)
    scene.done()


def test_directories() -> None:
    scene = Scene()
    scene.ask(OnPath(Kind.OPENDIR, 1, "/d"))
    asked = scene.asked()
    assert isinstance(asked, OnPath)
    assert scene.judged() == ("allow", "list", "/d", "")
    scene.target(packet(Kind.HANDLE, asked.id, string(b"d")))
    assert scene.reply().kind == Kind.HANDLE
    scene.ask(OnHandle(Kind.READDIR, 2, b"d"))
    listing = scene.asked()
    assert isinstance(listing, OnHandle)
    scene.target(packet(Kind.NAME, listing.id, b"names"))
    assert scene.told() == Told(Kind.NAME, 2, b"names")
    scene.ask(Read(3, b"d", 0, 10))
    scene.refused(3)
    close(scene, b"d")
    scene.done()


def test_copy_data_is_passed_and_makes_the_record_incomplete() -> None:
    scene = Scene()
    scene.opened(1, "/r", b"r", READ)
    scene.opened(1, "/w", b"w", CREATE)
    scene.ask(CopyData(4, b"r", 0, 0, b"w", 0))
    settle(scene)
    close(scene, b"w")
    assert scene.file() == FileRecord("/w", "write", 0, sha256(b""), False)
    close(scene, b"r")
    scene.done()


def test_attributes_of_an_open_file_are_judged_by_its_path() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    scene.ask(OnHandle(Kind.FSETSTAT, 2, b"h", Attributes(permissions=0o600)))
    assert scene.judged() == ("allow", "setstat", "/a", "")
    settle(scene)
    scene.ask(OnHandle(Kind.FSETSTAT, 3, b"h", Attributes(size=0)))  # it was not opened to be written
    assert scene.judged() == ("allow", "write", "/a", "")
    settle(scene)
    scene.opened(1, "/w", b"w", WRITE)
    scene.ask(OnHandle(Kind.FSETSTAT, 4, b"w", Attributes(size=0, times=(1, 1))))
    assert scene.judged() == ("allow", "setstat", "/w", "")
    settle(scene)
    scene.done()


def test_other_requests_on_handles_pass() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", WRITE)
    scene.ask(ExtendedOnHandle(FSYNC, 2, b"h"))
    settle(scene)
    scene.ask(ExtendedOnHandle(FSTATVFS, 3, b"h"))
    asked = scene.asked()
    assert isinstance(asked, ExtendedOnHandle)
    scene.target(packet(Kind.EXTENDED_REPLY, asked.id, b"figures"))
    assert scene.told() == Told(Kind.EXTENDED_REPLY, 3, b"figures")
    scene.done()


def test_a_closed_handle_is_no_more_even_before_the_answer() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    scene.ask(OnHandle(Kind.CLOSE, 4, b"h"))
    scene.ask(Read(2, b"h", 0, 10))
    scene.refused(2, StatusCode.FAILURE)
    settle(scene)
    scene.opened(1, "/b", b"h", READ)  # the target uses the name again
    read(scene, 0, b"abc")
    close(scene)
    assert scene.file().path == "/b"
    scene.done()


def test_a_handle_given_twice_breaks_the_protocol() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    scene.ask(Open(2, "/b", READ))
    asked = scene.asked()
    assert isinstance(asked, Open)
    scene.target(packet(Kind.HANDLE, asked.id, string(b"h")))
    assert scene.close is not None
    assert "in use" in scene.close


def test_so_many_files_and_no_more() -> None:
    scene = Scene()
    for index in range(MAX_HANDLES - 1):
        scene.opened(1, "/a", b"%d" % index, READ)
    scene.ask(Open(2, "/a", READ))
    pending = scene.asked()
    assert isinstance(pending, Open)
    scene.judged()
    scene.ask(Open(3, "/a", READ))
    scene.ask(OnPath(Kind.OPENDIR, 4, "/d"))
    scene.refused(3, StatusCode.FAILURE)
    scene.refused(4, StatusCode.FAILURE)
    scene.target(status(pending.id, StatusCode.FAILURE, "too many"))
    scene.refused(2, StatusCode.FAILURE)
    scene.opened(5, "/a", b"last", READ)
    close(scene, b"last")
    scene.opened(6, "/a", b"last", READ)
    scene.done()


def test_a_read_asks_for_no_more_than_passes() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    scene.ask(Read(2, b"h", 0, 0xFFFFFFFF))
    asked = scene.asked()
    assert isinstance(asked, Read)
    assert asked.length == MAX_DATA_BYTES
    scene.target(data_head(asked.id, MAX_DATA_BYTES) + bytes(MAX_DATA_BYTES))
    assert len(scene.reply().rest) == MAX_DATA_BYTES + 4
    scene.done()


def test_more_data_than_was_asked_for_breaks_the_protocol() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", READ)
    scene.ask(Read(2, b"h", 0, 10))
    asked = scene.asked()
    assert isinstance(asked, Read)
    scene.target(data_head(asked.id, 11) + bytes(11))
    assert scene.close is not None
