from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyd.tape.terminal_sequences import (
    MAX_SEQUENCE_CHARACTERS,
    MAX_STRING_CHARACTERS,
    Control,
    ControlString,
    Csi,
    Escape,
    TerminalParser,
    Text,
    Token,
)


def tokens(*pieces: bytes) -> list[Token]:
    parser = TerminalParser()
    return [token for piece in pieces for token in parser.feed(piece)]


def joined(found: list[Token]) -> list[Token]:
    """Runs of text that only the cut between two pieces parted are one."""
    result: list[Token] = []
    for token in found:
        if isinstance(token, Text) and result and isinstance(result[-1], Text):
            result[-1] = Text(result[-1].text + token.text)
        else:
            result.append(token)
    return result


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"plain text", [Text("plain text")]),
        (b"a\r\n", [Text("a"), Control("\r"), Control("\n")]),
        (b"\x1b[m", [Csi("", "", "", "m")]),
        (b"\x1b[1;31m", [Csi("", "1;31", "", "m")]),
        (b"\x1b[38:2::1:2:3m", [Csi("", "38:2::1:2:3", "", "m")]),
        (b"\x1b[?1049h", [Csi("?", "1049", "", "h")]),
        (b"\x1b[>4;2m", [Csi(">", "4;2", "", "m")]),
        (b"\x1b[2 q", [Csi("", "2", " ", "q")]),
        (b"\x1b[?2026$p", [Csi("?", "2026", "$", "p")]),
        ("\x9b31m".encode(), [Csi("", "31", "", "m")]),
        (b"\x1b(0", [Escape("(", "0")]),
        (b"\x1b7\x1bc", [Escape("", "7"), Escape("", "c")]),
        (b"\x1b]0;title\x07x", [ControlString("]"), Text("x")]),
        (b"\x1b]0;title\x1b\\x", [ControlString("]"), Escape("", "\\"), Text("x")]),
        ("\x9d0;title\x9cx".encode(), [ControlString("]"), Text("x")]),
        (b"\x1bP$q m\x1b\\x", [ControlString("P"), Escape("", "\\"), Text("x")]),
        (b"\x1bP bell \x07 is in it\x1b\\", [ControlString("P"), Escape("", "\\")]),
        (b"\x1b_apc\x18x", [ControlString("_"), Text("x")]),
        (b"\x1b]0;cancelled\x1b[1mx", [ControlString("]"), Csi("", "1", "", "m"), Text("x")]),
        (b"\x1b]0;no end\nx", [ControlString("]"), Control("\n"), Text("x")]),
        # Malformed: dropped to the final byte, and a control within counts by itself.
        (b"\x1b[1?2hx", [Text("x")]),
        (b"\x1b[3\n1m", [Control("\n"), Text("1m")]),
        (b"\x1b\x1b[1m", [Csi("", "1", "", "m")]),
        (b"\x1b\nx", [Control("\n"), Text("x")]),
        ("\x1bé".encode(), [Text("é")]),
        ("\x1b[é".encode(), [Text("é")]),
        (b"\xff\xfe", [Text("\ufffd\ufffd")]),
        (b"\x9b31m", [Text("\ufffd31m")]),  # a raw byte is no C1 control in UTF-8
        (b"\x7f", [Control("\x7f")]),
    ],
)
def test_tokens(data: bytes, expected: list[Token]) -> None:
    assert tokens(data) == expected
    assert joined(tokens(*(data[at : at + 1] for at in range(len(data))))) == joined(expected)


@given(
    st.lists(
        st.sampled_from([b"\x1b", b"[", b"]", b"P", b"1", b";", b"?", b"m", b"\x07", b"\\", b"\n", b"x"])
        | st.text(alphabet="aé€😀\x9b\x9c\x9d").map(str.encode)
        | st.binary(max_size=3)
    ).map(b"".join),
    st.data(),
)
def test_where_the_output_is_cut_changes_nothing(data: bytes, choices: st.DataObject) -> None:
    cuts = sorted(choices.draw(st.lists(st.integers(0, len(data)), max_size=5)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert joined(tokens(*pieces)) == joined(tokens(data))


@pytest.mark.parametrize(
    "data", [b"\x1b", b"\x1b[", b"\x1b[1;", b"\x1b(", b"\x1b]x", b"\xc3", b"\xf0\x9f\x98"]
)
def test_what_is_cut_waits(data: bytes) -> None:
    parser = TerminalParser()
    assert [token for token in parser.feed(data) if not isinstance(token, ControlString)] == []
    assert not parser.is_ground


def test_a_sequence_without_an_end_is_given_up() -> None:
    parser = TerminalParser()
    assert list(parser.feed(b"\x1b[" + b"1" * MAX_SEQUENCE_CHARACTERS)) == []
    assert list(parser.feed(b"x")) == [Text("x")]
    assert parser.is_ground


def test_nobody_hides_a_session_in_a_string() -> None:
    parser = TerminalParser()
    assert list(parser.feed(b"\x1bP")) == [ControlString("P")]
    for _ in range(MAX_STRING_CHARACTERS // 1024):
        assert list(parser.feed(b"." * 1024)) == []
    assert list(parser.feed(b"rm -rf /")) == [Text("rm -rf /")]
