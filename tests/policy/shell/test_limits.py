"""Any text at all: no exception, bounded effort, and what is plainly quoted comes out as it went in."""

from __future__ import annotations

import shlex
import string
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.facts import Word
from policy.shell.agreement import MAX_SHOWN_BYTES, MAX_SIGNS
from policy.shell.analyze import analyze_command
from policy.shell.explain import MAX_INNER_BYTES
from policy.shell.reading import MAX_PIPED
from policy.shell.screen import MAX_NESTING, MAX_TEXT_BYTES
from policy.shell.tokens import MAX_COMMANDS, MAX_DEPTH, MAX_WORDS
from policy.shell.tree import MAX_BROKEN_BYTES, TreeReading, read_tree
from policy.shell.words import MAX_EXPANSIONS
from tests.policy.shell.sandbox import every_command
from tests.policy.shell.shown import is_unresolved, resolved

PIECES = (
    *(
        "a",
        "rm",
        "x=",
        " ",
        " ",
        "\n",
        ";",
        "&",
        "|",
        "<",
        ">",
        "(",
        ")",
        "{",
        "}",
        "'",
        '"',
        "`",
        "\\",
        "$",
        "$(",
        "${",
    ),
    *(
        "<<E",
        "\nE\n",
        "#",
        "!",
        "~",
        "*",
        "?",
        "[",
        "]",
        "=",
        ":-",
        "((",
        "))",
        "if ",
        "then ",
        "fi",
        "do ",
        "done",
        "é",
    ),
    *(
        "sh -c ",
        "eval ",
        "env ",
        "sudo ",
        "xargs ",
        "find . -exec ",
        "[[ ",
        " ]]",
        "case x in ",
        ";;",
        "esac",
        "\0",
        "\r",
    ),
)


@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60), st.lists(st.sampled_from(PIECES)).map("".join))
)
@settings(max_examples=400, deadline=None)
def test_any_text_is_answered(text: str | bytes) -> None:
    analysis = analyze_command(text)
    assert analyze_command(text) == analysis
    for command in every_command(analysis.commands):
        assert all(isinstance(word.text, str) for word in command.words)
    assert all(isinstance(reason, str) for reason in analysis.unresolved)


PLAIN_LETTERS = string.ascii_letters + string.digits + " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\t\n"


def quoted(word: str) -> str:
    """shlex.quote leaves `=x` bare, which zsh expands."""
    return "'" + word.replace("'", "'\\''") + "'"


ARGUMENTS = st.lists(st.text(PLAIN_LETTERS, max_size=12), max_size=6)


@given(ARGUMENTS)
@settings(deadline=None)
def test_quoted_words_come_out_as_they_went_in(words: list[str]) -> None:
    analysis = analyze_command(" ".join(map(quoted, ["a", *words])))
    assert analysis.unresolved == ()
    (command,) = analysis.commands
    assert command.words == tuple(map(Word, ["a", *words]))


@given(st.lists(ARGUMENTS, min_size=1, max_size=4), st.sampled_from(("; ", " && ", " | ", "\n", " & ")))
@settings(deadline=None)
def test_a_text_in_a_text_is_the_same(lists: list[list[str]], operator: str) -> None:
    text = operator.join(shlex.join(["a", *words]) for words in lists)
    outer = analyze_command(f"sh -c {shlex.quote(text)}")
    assert outer.commands[0].inner == analyze_command(text).commands
    assert outer.unresolved == ()


# --- each limit, just kept and just broken ----------------------------------------------------------------------------


def test_the_length() -> None:
    assert resolved("a " + "b" * (MAX_TEXT_BYTES - 2))
    assert analyze_command("a " + "b" * (MAX_TEXT_BYTES - 1)).commands == ()
    assert is_unresolved("a " + "b" * (MAX_TEXT_BYTES - 1))
    assert is_unresolved("é" * (MAX_TEXT_BYTES // 2 + 1))


def test_long_quoted_data_is_no_burden() -> None:
    data = "a|b;$(c)`d` "
    assert resolved(f"a '{data * 5000}'; b") == [f"a '{data * 5000}'", "b"]
    assert resolved(f"cat <<'E'\n{data * 5000}\nE\nb") == ["cat", "b"]
    assert len(data) * 5000 > MAX_SHOWN_BYTES


def test_the_depth() -> None:
    deepest = MAX_DEPTH
    assert resolved("a " + "$(a " * deepest + ")" * deepest)
    assert is_unresolved("a " + "$(a " * (deepest + 1) + ")" * (deepest + 1))
    assert resolved("( " * deepest + "a" + " )" * deepest)
    assert is_unresolved("( " * (deepest + 1) + "a" + " )" * (deepest + 1))
    assert is_unresolved("if a; then " * (deepest + 1) + "b" + "; fi" * (deepest + 1))


@pytest.mark.parametrize(
    "opener", ["$(", "`", "(", "{ ", '"$(', "${x:-", "<(", "((", "[[ ", "if ", "! ", "x=(", "$(("]
)
@pytest.mark.parametrize("count", [1_000, 10_000])
def test_a_thousand_levels_are_nothing_special(opener: str, count: int) -> None:
    closer = {
        "$(": ")",
        "(": ")",
        "{ ": "; }",
        '"$(': ')"',
        "${x:-": "}",
        "<(": ")",
        "((": "))",
        "x=(": ")",
        "$((": "))",
    }
    assert is_unresolved(opener * count)
    assert is_unresolved(opener * count + "rm x" + closer.get(opener, "") * count)
    assert sys.getrecursionlimit() < count + 1


def test_brackets_in_quotes_count_as_brackets() -> None:
    assert resolved("a '" + "(" * MAX_NESTING + "'")
    assert is_unresolved("a '" + "(" * (MAX_NESTING + 1) + "'")
    assert resolved("a '" + "()" * (MAX_NESTING + 1) + "'")


@pytest.mark.parametrize(
    ("piece", "limit"),
    [
        ("a;", MAX_COMMANDS),
        ("a ", MAX_WORDS),
        ("a|", MAX_PIPED),
        ('"$x"', MAX_EXPANSIONS),
        ("a=b ", MAX_WORDS),
    ],
)
def test_the_number_of_parts(piece: str, limit: int) -> None:
    start = "a " if "$" in piece else ""
    assert resolved(start + piece * (limit - 1) + "a")
    assert is_unresolved(start + piece * (limit + 1) + "a")


def test_the_number_of_signs() -> None:
    assert resolved("a" + " " * (MAX_SIGNS - 1) + "b")
    assert is_unresolved("a" + " " * (MAX_SIGNS + 1) + "b")


def test_what_is_not_well_formed_is_shown_to_the_grammar_only_if_it_is_short() -> None:
    broken = "b )" + "\nrm x"
    padding = "a" * (MAX_BROKEN_BYTES - len(broken) - 1) + "\n"
    seen = analyze_command(padding + broken)
    assert ["rm", "x"] in [[word.text for word in command.words] for command in seen.commands]
    assert len(analyze_command("a" + padding + broken).commands) == 2


def test_only_one_text_that_is_not_well_formed_is_shown_to_the_grammar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[bytes] = []

    def counted(data: bytes) -> TreeReading:
        shown.append(data)
        return read_tree(data)

    monkeypatch.setattr("policy.shell.agreement.read_tree", counted)
    assert is_unresolved("; ".join(["eval 'a )'"] * 50))
    assert shown.count(b"a )") == 1
    assert is_unresolved("\r; " + "; ".join(["eval 'a; b'"] * 50))
    assert shown.count(b"a; b") == 0


def test_texts_in_texts_share_a_limit() -> None:
    text = "sh -c '" + "b" * 60_000 + "'"
    inner = analyze_command(f"{text}; {text}").commands
    assert len(inner) == 2 and MAX_INNER_BYTES >= 120_000
    nested = "eval " * 8 + "b" * 60_000
    assert is_unresolved(nested)
