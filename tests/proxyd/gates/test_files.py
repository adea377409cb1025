from __future__ import annotations

from proxyd.config.document import LARGEST_FILE_CONTENT
from proxyd.gates.files import MAX_HELD_BYTES, FileContents, KeptContent
from proxyd.tape.ssh_taping import MAX_FILE_CONTENT


def kept(contents: FileContents, *pieces: bytes) -> KeptContent:
    content = KeptContent(contents)
    for piece in pieces:
        content.add(memoryview(piece))
    return content


def test_the_first_bytes_are_kept() -> None:
    contents = FileContents(5)
    assert kept(contents, b"abc", b"defg", b"h").take() == b"abcde"
    assert kept(FileContents(), b"abc").take() == b""


def test_all_files_of_a_session_share_a_budget() -> None:
    contents = FileContents(10, budget_bytes=8)
    first, second = kept(contents, b"12345"), kept(contents, b"abc", b"def")
    assert contents.left_bytes == 0
    assert first.take() == b"12345"
    second.add(memoryview(b"ghi"))
    assert second.take() == b"abc", "what was left out would be a hole"
    assert contents.left_bytes == 8
    assert kept(contents, b"1234567890").take() == b"12345678"


def test_nothing_is_kept_after_the_end() -> None:
    contents = FileContents(10)
    content = kept(contents, b"abc")
    assert content.take() == b"abc"
    content.add(memoryview(b"def"))
    assert content.take() == b""
    assert contents.left_bytes == MAX_HELD_BYTES


def test_what_may_be_asked_for_fits_into_a_frame() -> None:
    assert LARGEST_FILE_CONTENT <= MAX_FILE_CONTENT
