from __future__ import annotations

import pytest

from proxyd.tape.terminal_text import MAX_LINE_CHARACTERS, TerminalText


def lines(*pieces: bytes) -> list[str]:
    text = TerminalText()
    return [line for piece in pieces for line in text.feed(piece)] + text.finish()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"one\r\ntwo\nthree", ["one", "two", "three"]),
        (b"", []),
        (b"\r\n\r\n", ["", ""]),
        (b"10%\r20%\r100%\r\n", ["100%"]),
        (b"a long line\rshort\x1b[K\r\n", ["short"]),
        (b"lx\x08s\r\n", ["ls"]),
        (b"ls\x08\x08\x08\x1b[P\r\n", ["s"]),
        (b"a\tb\r\n", ["a       b"]),
        (b"a\x1b[3Cb\x1b[4Dx\r\n", ["ax  b"]),
        (b"abc\x1b[2K\x1b[2Gx\r\n", [" x"]),
        (b"abc\x1b[1Gx\x1b[Gy\r\n", ["ybc"]),
        (b"\x1b[1;31mred\x1b[0m\x1b]0;title\x07\x1b[?25l\x1b(B\r\n", ["red"]),
        ("grüße\r\n".encode(), ["grüße"]),
        (b"\x00\x05\x07bell\r\n", ["bell"]),
        ("\u202eevil\r\n".encode(), ["\\u202eevil"]),
    ],
)
def test_lines(data: bytes, expected: list[str]) -> None:
    assert lines(data) == expected
    assert lines(*(data[at : at + 1] for at in range(len(data)))) == expected


def test_a_line_without_an_end_is_cut() -> None:
    found = lines(*[b"x" * 1000] * 10)
    assert "".join(found) == "x" * 10_000
    assert max(len(line) for line in found) < MAX_LINE_CHARACTERS + 1000
    assert lines(b"\x1b[9999C" * 100 + b"x") == ["x".rjust(MAX_LINE_CHARACTERS + 1)]
