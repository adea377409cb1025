from __future__ import annotations

import os

import pytest

from proxyd.tape import spool as module
from proxyd.tape.spool import PIECE_BYTES, Spool


def test_contents_do_not_mix() -> None:
    spool = Spool()
    one, two = spool.content(), spool.content()
    for number in range(100):
        one.add(b"a%d" % number)
        two.add(b"b%d" % number)
    for _ in range(2):
        assert b"".join(one.pieces()) == b"".join(b"a%d" % number for number in range(100))
        assert b"".join(two.pieces()) == b"".join(b"b%d" % number for number in range(100))
    assert one.size == len(b"".join(one.pieces()))
    spool.close()


def test_long_ones_come_in_pieces() -> None:
    spool = Spool()
    content = spool.content()
    content.add(b"x" * (PIECE_BYTES + 1))
    content.add(b"y")
    assert [len(piece) for piece in content.pieces()] == [PIECE_BYTES, 2]
    spool.close()


def test_what_is_closed_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """One stays open for long; a hundred come and go meanwhile."""
    monkeypatch.setattr(module, "FILE_BYTES", 1000)
    monkeypatch.setattr(module, "MEMORY_BYTES", 100)
    before = len(os.listdir("/proc/self/fd"))
    spool = Spool()
    long = spool.content()
    long.add(b"first")
    waiting = []
    for number in range(100):
        content = spool.content()
        content.add(b"x" * 400)
        waiting.append(content)
        if len(waiting) > 5:
            waiting.pop(0).close()
        if number == 50:
            long.add(b"second")
        assert spool.files <= 6
        assert len(os.listdir("/proc/self/fd")) - before <= 6
    assert b"".join(long.pieces()) == b"firstsecond"
    for content in [*waiting, long]:
        content.close()
        content.close()
    assert spool.files == 1
    spool.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_left_of_an_empty_one() -> None:
    spool = Spool()
    content = spool.content()
    assert list(content.pieces()) == []
    content.close()
    other = spool.content()
    other.add(b"x")
    assert list(other.pieces()) == [b"x"]
    spool.close()
