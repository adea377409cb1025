from __future__ import annotations

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyd.tape.echo_guard import (
    ECHO_BYTES,
    MAX_LINE_CHARACTERS,
    TAIL_BYTES,
    EchoGuard,
    ReleasedLine,
    Settled,
    WithheldBecause,
    WithheldLine,
)

NOT_ECHOED = WithheldBecause.NOT_ECHOED
EDITED = WithheldBecause.EDITED


def played(*steps: str | bytes | list[bytes]) -> list[Settled]:
    """A str is typed key by key and each key is echoed; bytes are typed; a list is output."""
    guard = EchoGuard()
    settled: list[Settled] = []
    for step in steps:
        if isinstance(step, str):
            for key in step:
                settled += guard.typed(key.encode())
                guard.shown(key.encode() if key >= " " else b"\r\n")
        elif isinstance(step, bytes):
            settled += guard.typed(step)
        else:
            for data in step:
                guard.shown(data)
    return settled + guard.finish()


def test_a_line_that_is_echoed_is_released_when_it_ends() -> None:
    guard = EchoGuard()
    for key in (b"l", b"s"):
        assert guard.typed(key) == []
        guard.shown(key)
    assert guard.typed(b"\r") == [ReleasedLine("ls\r")]
    assert guard.finish() == []


def test_lines_one_after_the_other() -> None:
    assert played([b"$ "], "ls\r", [b"a b\r\n$ "], "cd\r") == [ReleasedLine("ls\r"), ReleasedLine("cd\r")]


@pytest.mark.parametrize("ender", [b"\r", b"\n", b"\x03", b"\x04", b"\x1a", b"\x1c"])
def test_every_key_that_ends_a_line_settles_it(ender: bytes) -> None:
    assert played("ls", ender) == [ReleasedLine("ls" + ender.decode())]
    assert played(b"ls", ender) == [WithheldLine(3, NOT_ECHOED)]


def test_a_password_is_withheld_whatever_comes_later() -> None:
    password = [WithheldLine(8, NOT_ECHOED)]
    assert played([b"Password: "], b"hunter2\r") == password
    assert played([b"Password: "], b"hunter2\r", [b"\r\n"]) == password
    assert played([b"? "], b"hunter2\r", [b"\r\nhunter2\r\n"]) == password
    assert played([b"? "], b"hunter2\r", [b"hunter2"]) == password
    assert played([b"? "], b"hunter2", b"\r", [b"hunter2\r\n"]) == password
    assert played([b"? "], *(bytes([key]) for key in b"hunter2"), b"\r", [b"hunter2"]) == password


def test_asterisks_are_no_echo() -> None:
    steps = [step for key in b"hunter2" for step in (bytes([key]), [b"*"])]
    assert played([b"? "], *steps, b"\r") == [WithheldLine(8, NOT_ECHOED)]
    # As sudo's pwfeedback, also where somebody takes a key back.
    assert played([b"? "], b"h", [b"*"], b"\x7f", [b"\b \b"], b"i", [b"*"], b"\r") == [
        WithheldLine(4, NOT_ECHOED)
    ]
    # A password of asterisks looks like their echo.
    assert played([b"? "], "***", b"\r") == [WithheldLine(4, NOT_ECHOED)]
    assert played([b"? "], "\u2022\u2022", b"\r") == [WithheldLine(7, NOT_ECHOED)]


def test_a_key_that_is_shown_for_a_moment_is_no_echo() -> None:
    steps = [step for key in b"hunter2" for step in (bytes([key]), [bytes([key]), b"\b*"])]
    assert played([b"? "], *steps, b"\r") == [WithheldLine(8, NOT_ECHOED)]


def test_output_that_begins_like_the_password() -> None:
    for output in (
        b"h",
        b"hu",
        b"hunter",
        b"hunter2 ",
        b"hunter22",
        b"\nhunter2",
        b" hunter2",
        b"x\bhunter2",
    ):
        steps = [bytes([key]) for key in b"hunter2"]
        assert played([b"? "], *steps, [output], b"\r") == [WithheldLine(8, NOT_ECHOED)]
        cut = [bytes([byte]) for byte in output]
        assert played([b"? "], *steps, cut, b"\r") == [WithheldLine(8, NOT_ECHOED)]


def test_output_before_the_keys_is_no_echo() -> None:
    assert played([b"hunter2"], b"hunter2", b"\r") == [WithheldLine(8, NOT_ECHOED)]
    steps = [step for key in b"hunter2" for step in ([bytes([key])], bytes([key]))]
    assert played([b"? "], *steps, b"\r") == [WithheldLine(8, NOT_ECHOED)]


def test_a_line_half_of_which_was_echoed_is_withheld_whole() -> None:
    assert played("hun", b"ter2", b"\r") == [WithheldLine(8, NOT_ECHOED)]
    assert played(b"hun", "ter2", b"\r") == [WithheldLine(8, NOT_ECHOED)]


def test_the_echo_must_be_there_when_the_line_ends() -> None:
    assert played(b"ls\r", [b"ls\r\n"]) == [WithheldLine(3, NOT_ECHOED)]
    assert played(b"l", [b"l"], b"s\r", [b"s\r\n"]) == [WithheldLine(3, NOT_ECHOED)]
    assert played(b"ls", [b"l", b"s"], b"\r") == [ReleasedLine("ls\r")]


def test_keys_typed_ahead_into_a_password_prompt() -> None:
    # The kernel echoes them before the program has switched the echo off: then they are in the output too.
    assert played("sudo -s\r", "hun", [b"[sudo] password for a: "], b"ter2", b"\r") == [
        ReleasedLine("sudo -s\r"),
        WithheldLine(8, NOT_ECHOED),
    ]


@pytest.mark.parametrize(
    "prompt",
    [
        b"Password: ",
        b"[sudo] password for alice: ",
        b"\r\n\x1b[1mEnter passphrase for key '/x':\x1b[0m ",
        b"Verification code: ",
        b"PIN: ",
        b"Enter your API token? ",
        "Passwort für alice: ".encode(),
        "\u5bc6\u7801\uff1a".encode(),
        b"New password: \x1b[?25h",
    ],
)
def test_a_prompt_that_speaks_of_a_secret_is_believed(prompt: bytes) -> None:
    assert played([prompt], "root", b"\r") == [WithheldLine(5, NOT_ECHOED)]
    assert played([prompt], "root", b"\r", [b"\r\n$ "], "ls\r") == [
        WithheldLine(5, NOT_ECHOED),
        ReleasedLine("ls\r"),
    ]


@pytest.mark.parametrize(
    "prompt", [b"$ ", b"alice@host:~/passwords$ ", b"Password: x\r\n$ ", b"continue? [y/N] "]
)
def test_other_prompts_are_none(prompt: bytes) -> None:
    assert played([prompt], "yes", b"\r") == [ReleasedLine("yes\r")]


def test_backspace() -> None:
    kernel = played("lx", b"\x7f", [b"\b \b"], "s", b"\r")
    readline = played("lx", b"\x7f", [b"\b\x1b[K"], "s", b"\r")
    assert kernel == readline == [ReleasedLine("ls\r")]
    assert played("a", b"\x08", [b"\b \b"], b"\x7f", [b"\x07"], "b", b"\r") == [ReleasedLine("b\r")]
    # A key that the target did not take back: the echo went off in between.
    assert played("ab", b"\x7f", b"\r") == [WithheldLine(4, NOT_ECHOED)]
    assert played([b"? "], b"hux\x7fnter2", b"\r") == [WithheldLine(10, NOT_ECHOED)]
    assert played("ab", b"\x7f\x7f\x7f", [b"\b \b\b \b\b"], b"\r") == [WithheldLine(6, NOT_ECHOED)]


def test_a_shell_that_draws_the_line_again() -> None:
    """zsh with colours, fish, readline after a paste."""
    assert played(b"l", [b"\x1b[31ml\x1b[39m"], b"s", [b"\b\x1b[32ml\x1b[32ms\x1b[39m"], b"\r") == [
        ReleasedLine("ls\r")
    ]
    assert played(b"\x1b[200~ls -l\x1b[201~", [b"\x1b[7mls -l\x1b[27m\x1b[5Dls -l"], b"\r") == [
        ReleasedLine("ls -l\r")
    ]
    # A suggestion behind what was typed is not typed.
    assert played(b"l", [b"l\x1b[90ms -la\x1b[39m\x1b[5D"], b"\r") == [WithheldLine(2, NOT_ECHOED)]


def test_a_pasted_password() -> None:
    assert played([b"? "], b"\x1b[200~hunter2\x1b[201~", b"\r") == [WithheldLine(20, NOT_ECHOED)]
    assert played([b"? "], b"\x1b[200~hunter2\r\x1b[201~", [b"hunter2\r\n"]) == [
        WithheldLine(14, NOT_ECHOED),
        WithheldLine(6, NOT_ECHOED),
    ]


@pytest.mark.parametrize(
    "key", [b"\t", b"\x1b[A", b"\x1bOD", b"\x01", b"\x12", b"\x15", b"\x17", b"\x1b", b"\x1b[3~"]
)
def test_keys_that_edit_the_line(key: bytes) -> None:
    assert played("cat /et", key, [b"c/"], b"\r", "ls\r") == [
        WithheldLine(8 + len(key), EDITED),
        ReleasedLine("ls\r"),
    ]
    # In a password they say nothing of what was there before.
    assert played([b"? "], b"hunt", key, b"er2", b"\r") == [WithheldLine(8 + len(key), NOT_ECHOED)]


@pytest.mark.parametrize("answer", [b"\x1b[12;40R", b"\x1b[?62;c", b"\x1b[>0;10;1c", b"\x1b[I", b"\x1b[O"])
def test_what_a_terminal_answers_by_itself_is_not_typed(answer: bytes) -> None:
    assert played("l", answer, "s", b"\r") == [ReleasedLine("ls\r")]


def test_characters_in_pieces() -> None:
    euro = "€".encode()
    assert played(euro[:1], euro[1:], [euro[:2], euro[2:]], b"\r") == [ReleasedLine("€\r")]
    assert played("grüße 😀", b"\r") == [ReleasedLine("grüße 😀\r")]
    # Not UTF-8, and half a character.
    assert played(b"\xfc", [b"\xfc"], b"\r") == [WithheldLine(2, NOT_ECHOED)]
    assert played(euro[:2], b"\r") == [WithheldLine(3, NOT_ECHOED)]
    assert played("\x9b".encode(), ["\x9b".encode()], b"\r") == [WithheldLine(3, EDITED)]


def test_a_full_screen_program() -> None:
    screen = b"\x1b[?1049h\x1b[2J\x1b[24;1H-- INSERT --\x1b[1;1H"
    assert played("vi\r", [screen], b"i", [b"\x1b[24;1H-- INSERT --\x1b[1;1H"], b"hunter2", b"\x1b:wq\r") == [
        ReleasedLine("vi\r"),
        WithheldLine(13, NOT_ECHOED),
    ]


def test_an_empty_line_shows_that_a_key_was_pressed() -> None:
    assert played(b"\r", b"\x04") == [ReleasedLine("\r"), ReleasedLine("\x04")]
    assert played([b"Password: "], b"\r") == [ReleasedLine("\r")]


def test_lines_that_come_together() -> None:
    assert played("ls", b"\r\r\x04") == [ReleasedLine("ls\r\r\x04")]
    assert played("ls", b"\rwhoami\r\rid\r") == [ReleasedLine("ls\r"), WithheldLine(11, NOT_ECHOED)]
    assert played("ls", b"\rwho", [b"\r\n$ who"], "am", b"\r") == [
        ReleasedLine("ls\r"),
        WithheldLine(6, NOT_ECHOED),
    ]
    guard = EchoGuard()
    assert len(guard.typed(b"a\r\rb\r\r" * 10_000)) == 1


def test_a_long_line_is_withheld_and_takes_little() -> None:
    assert played("x" * MAX_LINE_CHARACTERS, b"\r") == [ReleasedLine("x" * MAX_LINE_CHARACTERS + "\r")]
    assert played("x" * (MAX_LINE_CHARACTERS + 1), b"\r", "ls\r") == [
        WithheldLine(MAX_LINE_CHARACTERS + 2, WithheldBecause.TOO_LONG),
        ReleasedLine("ls\r"),
    ]


@pytest.mark.parametrize("cut", [b"\x1b]0;title", b"\x1b[1;", "€".encode()[:2]])
def test_a_line_that_begins_within_a_sequence_is_withheld(cut: bytes) -> None:
    assert played([b"$ " + cut], "ls", b"\r") == [WithheldLine(3, NOT_ECHOED)]


def test_an_old_prompt_is_forgotten() -> None:
    assert played([b"Password: " + b"." * TAIL_BYTES], "ls", b"\r") == [ReleasedLine("ls\r")]
    assert played([b"Password: "], [b"."] * TAIL_BYTES, "ls", b"\r") == [ReleasedLine("ls\r")]


def test_a_flood_of_output_is_not_read() -> None:
    assert played("l", [b"\x1b[m" * 1000], "s", b"\r") == [ReleasedLine("ls\r")]
    flood = b"\x1b[m" * (ECHO_BYTES // 2)
    assert played("l", [flood], "s", b"\r") == [WithheldLine(3, NOT_ECHOED)]
    assert played("l", [b"\x1b[m"] * ECHO_BYTES, "s", b"\r", [flood], "ls\r") == [
        WithheldLine(3, NOT_ECHOED),
        ReleasedLine("ls\r"),
    ]
    line = "x" * 200
    drawn_anew: list[str | bytes | list[bytes]] = []
    for count in range(len(line)):
        drawn_anew += [b"x", [b"\b" * count + b"x" * (count + 1)]]
    assert played(*drawn_anew, b"\r") == [ReleasedLine(line + "\r")]


def test_what_is_never_ended_is_withheld() -> None:
    assert played("ls") == [WithheldLine(2, NOT_ECHOED)]


SECRET_ALPHABET = "hunter2!"


def bits(secret: str) -> st.SearchStrategy[bytes]:
    """Output made to deceive: pieces of the secret, masks, redrawing, noise."""
    part = st.tuples(st.integers(0, len(secret)), st.integers(0, len(secret))).map(
        lambda ends: secret[min(ends) : max(ends)].encode()
    )
    sequences = [
        b"*",
        b" ",
        b"\b",
        b"\b \b",
        b"\r\n",
        b"\r",
        b"\x1b[K",
        b"\x1b[D",
        b"\x1b[C",
        b"\x1b[m",
        b"\x07",
        b"$ ",
    ]
    return part | st.sampled_from(sequences)


@st.composite
def secret_lines(draw: st.DrawFn) -> tuple[str, list[bytes | list[bytes]]]:
    """A secret typed without echo: keys, and other output in between."""
    secret = draw(st.text(alphabet=SECRET_ALPHABET, min_size=1, max_size=8))
    steps: list[bytes | list[bytes]] = []
    keys = secret.encode()
    while keys:
        count = draw(st.integers(1, len(keys)))
        steps += [keys[:count], draw(st.lists(bits(secret), max_size=3))]
        keys = keys[count:]
    return secret, steps


def is_drawn(secret: str, steps: list[bytes | list[bytes]]) -> bool:
    """Does a terminal show just the secret after this output? Then the output has given it away."""
    screen = pyte.Screen(80, 3)
    stream = pyte.ByteStream(screen)
    for step in steps:
        if isinstance(step, list):
            stream.feed(b"".join(step))
    first, *others = [line.rstrip() for line in screen.display]
    return first == secret and not any(others)


@settings(max_examples=500, deadline=None)
@given(secret_lines(), st.lists(st.sampled_from(["hunter2!", "\r\n", "h", "$ "])))
def test_no_secret_is_ever_released(line: tuple[str, list[bytes | list[bytes]]], later: list[str]) -> None:
    secret, steps = line
    after = [piece.encode() for piece in [*later, "\r\n$ "]]
    settled = played([b"$ "], "ls -a\r", *steps, b"\r", after, "cd\r")
    if not is_drawn(secret, steps):
        assert settled == [
            ReleasedLine("ls -a\r"),
            WithheldLine(len(secret) + 1, NOT_ECHOED),
            ReleasedLine("cd\r"),
        ]


@given(st.text(alphabet="ls -aé€😀*", max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_however_the_echo_is_cut_the_line_is_released(line: str, sizes: list[int]) -> None:
    guard = EchoGuard()
    guard.shown(b"$ ")
    data, owed = line.encode(), b""
    for count in [*sizes, len(data), len(data)]:
        guard.shown(owed[:count])
        typed, data = data[:count], data[count:]
        owed = owed[count:] + typed
        assert guard.typed(typed) == []
    guard.shown(owed)
    is_masked = set(line) == {"*"}
    expected = [WithheldLine(len(line) + 1, NOT_ECHOED)] if is_masked else [ReleasedLine(line + "\r")]
    assert guard.typed(b"\r") == expected


_EVENTS = st.tuples(st.booleans(), st.binary(max_size=8) | st.sampled_from([b"\x1b[", b"\x7f", b"\b"]))


@given(st.lists(_EVENTS))
def test_nothing_is_told_twice(events: list[tuple[bool, bytes]]) -> None:
    guard = EchoGuard()
    settled: list[Settled] = []
    for is_input, data in events:
        if is_input:
            settled += guard.typed(data)
        else:
            guard.shown(data)
    settled += guard.finish()
    withheld = sum(line.size for line in settled if isinstance(line, WithheldLine))
    released = sum(len(line.text.encode()) for line in settled if isinstance(line, ReleasedLine))
    assert released + withheld <= sum(len(data) for is_input, data in events if is_input)
