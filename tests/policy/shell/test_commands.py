"""Texts and the commands in them: lists, compound commands, substitutions, words, redirections."""

from __future__ import annotations

import pytest

from policy.facts import Redirect, SimpleCommand, Word
from policy.shell.analyze import ShellAnalysis, analyze_command
from tests.policy.shell.shown import commands_of, resolved

COMMANDS = {
    "rm x": ["rm x"],
    "  rm   x  ": ["rm x"],
    "rm": ["rm"],
    # lists and pipes
    "a; b": ["a", "b"],
    "a ;b;": ["a", "b"],
    "a\nb\n\n\nc": ["a", "b", "c"],
    "a && b || c": ["a", "b", "c"],
    "a &&\nb ||\n c": ["a", "b", "c"],
    "a & b": ["a", "b"],
    "a&": ["a"],
    "a | b | c": ["a", "b", "c"],
    "a |\n b": ["a", "b"],
    "a |& b": ["a", "b"],
    "! a": ["a"],
    "! a | b": ["a", "b"],
    "a \\\n  b": ["a b"],
    "\ta\tb": ["a b"],
    # groups and subshells
    "(a; b) && c": ["a", "b", "c"],
    "( (a) )": ["a"],
    "{ a; b; }": ["a", "b"],
    "{ a; } && { b; }": ["a", "b"],
    "(a) | { b; }": ["a", "b"],
    # compound commands
    "if a; then b; fi": ["a", "b"],
    "if a; then b; else c; fi": ["a", "b", "c"],
    "if a\nthen b\nelif c; then d\nelse e\nfi; f": ["a", "b", "c", "d", "e", "f"],
    "if a; b; then c; d; fi": ["a", "b", "c", "d"],
    "while a; do b; done": ["a", "b"],
    "until a | b; do c & done": ["a", "b", "c"],
    "for x in 1 2; do rm $x; done": ["rm ?$x"],
    "for x in $(a); do b; done": ["a", "b"],
    "for x; do a; done": ["a"],
    "case $x in a|b) c;; *) d; e;; esac": ["c", "d", "e"],
    'case "$(a)" in\n x) b\n;;\n"y z") ;;\n *.c) d\nesac; e': ["a", "b", "d", "e"],
    "case x in esac": [],
    # reserved words as arguments
    "echo if then fi done { !": ["echo if then fi done { !"],
    "a | if b; then c; fi": ["a", "b", "c"],
    # substitutions
    "a $(b c) d": ["a ?$(b c) d", "b c"],
    "a `b` c": ["a ?`b` c", "b"],
    'a "`b`" "`c`"': ['a ?"`b`" ?"`c`"', "b", "c"],
    'a "$(b "c d")" e': ['a ?"$(b "c d")" e', "b 'c d'"],
    "a $(b $(c $(d)))": ["a ?$(b $(c $(d)))", "b ?$(c $(d))", "c ?$(d)", "d"],
    'a "x $(b | c; d) y"': ['a ?"x $(b | c; d) y"', "b", "c", "d"],
    "a $(if b; then c; fi)": ["a ?$(if b; then c; fi)", "b", "c"],
    "a <(b) >(c d)": ["a ?<(b) ?>(c d)", "b", "c d"],
    "x=$(rm y)": ["x=", "rm y"],
    'x="`rm y`" z=1 a': ["rm y", "x= z= a"],
    "a ${x:-$(b)}": ["a ?${x:-$(b)}", "b"],
    "a > $(b)": ["a >$(b)", "b"],
    "cat $(<f)": ["cat ?$(<f)", "<f"],
    "cat <<< $(a)": ["cat", "a"],
    # assignments
    "x=1": ["x="],
    "x=1 y=2 a b=3": ["x= y= a b=3"],
    "x= a": ["x= a"],
    "a x=1": ["a x=1"],
    # comments
    "a # b; c": ["a"],
    "a #": ["a"],
    "# a\nb": ["b"],
    "a;# b\nc": ["a", "c"],
    "a b#c #d": ["a b#c"],
    "if a # x\nthen b # y `\nfi": ["a", "b"],
    # redirections
    "a >f": ["a >f"],
    "a > f b": ["a b >f"],
    ">f a <g": ["a >f <g"],
    "a >>f 2>g": ["a >>f >g"],
    "a >|f": ["a >|f"],
    "a > f > g": ["a >f >g"],
    'a > "f g" >h\\ i': ["a >f g >h i"],
    "a >/dev/null 2>&1 </dev/null": ["a"],
    "a 2>&1 >&2 3<&0 <&- 2>&-": ["a"],
    "a &>f": ["a &>f"],
    "a &>/dev/null && b": ["a", "b"],
    "a >&f": ["a >&f"],
    "a > $x": ["a >$x"],
    "a > ~/f": ["a >~/f"],
    "a 2 > f": ["a 2 >f"],
    "> f": [">f"],
    "{ a; b; } > f 2>&1": ["a", "b", ">f"],
    "(a) <f | b": ["a", "<f", "b"],
    "while a; do b; done < f": ["a", "b", "<f"],
    "if a; then b; fi >>f; c": ["a", "b", ">>f", "c"],
    # here-documents
    "cat <<E\nrm x; $y\nE\nls": ["cat", "ls"],
    "cat <<E\na $(b c) $d\nE": ["cat", "b c"],
    "cat <<'E'\na $(b) `c`\nE": ["cat"],
    'cat <<"E"\n$(b)\nE\n': ["cat"],
    "cat <<\\E\n$(b)\nE\n": ["cat"],
    "cat <<-E\n\ta $(b)\n\tE\nc": ["cat", "b", "c"],
    "cat <<E | a && b\n$(c)\nE\nd": ["cat", "a", "b", "c", "d"],
    "cat <<E >f\nx\nE": ["cat >f"],
    "a <<E\n$(b)\nE\nc <<F\n$(d)\nF\ne": ["a", "b", "c", "d", "e"],
    "if a <<E\nx\nE\nthen b; fi": ["a", "b"],
    "cat <<E\nE\na": ["cat", "a"],
}


@pytest.mark.parametrize("text", COMMANDS)
def test_every_command_is_named(text: str) -> None:
    assert resolved(text) == COMMANDS[text]


# Each as it stands behind "a", with what is known of it.
WORDS = {
    "b": "b",
    "'b c'": "'b c'",
    '"b c"': "'b c'",
    "b'c'\"d\"e": "bcde",
    "\\b\\ c": "'b c'",
    "''": "''",
    '""': "''",
    "'$x `y` \\'": "'$x `y` \\'",
    '"\\$x \\` \\" \\\\ \\y"': "'$x ` \" \\ \\y'",
    '"a\\\nb"': "ab",
    '"$"': "$",
    '"a$ b"': "'a$ b'",
    "b$": "b$",
    "'(b|c)$'": "(b|c)$",
    "\\*": "*",
    "'*'": "*",
    "\\~": "~",
    "b~c": "b~c",
    "b=c": "b=c",
    "--b=c,d": "--b=c,d",
    "{}": "{}",
    "b!": "b!",
    "^b": "^b",
    "b#c": "b#c",
    "]": "]",
    "@:%+,.-_/": "@:%+,.-_/",
    "äöü": "äöü",
    "'日本'": "日本",
    "=": "=",
    # what a shell may make something else
    "$b": "?$b",
    '"$b"': '?"$b"',
    "x$b": "?x$b",
    "${b}": "?${b}",
    "${b:-c}": "?${b:-c}",
    "${#b}": "?${#b}",
    "${b##*/}": "?${b##*/}",
    "$1": "?$1",
    "$?": "?$?",
    '"$@"': '?"$@"',
    "$((1 + 2))": "?$((1 + 2))",
    "*": "?*",
    "b*": "?b*",
    "b?": "?b?",
    "[bc]": "?[bc]",
    "~": "?~",
    "~/b": "?~/b",
    "b=~/c": "?b=~/c",
    "b:~": "?b:~",
    "{b,c}": "?{b,c}",
    "b{1..3}": "?b{1..3}",
    "=b": "?=b",
    '""=b': '?""=b',
}


@pytest.mark.parametrize("source", WORDS)
def test_a_word_is_known_only_if_nothing_can_change_it(source: str) -> None:
    assert resolved(f"a {source} z") == [f"a {WORDS[source]} z"]


def test_facts_are_the_classes_of_the_policy() -> None:
    assert analyze_command("x=1 rm 'a b' $y > f") == ShellAnalysis(
        commands=(
            SimpleCommand(
                words=(Word("rm"), Word("a b"), Word("$y", is_known=False)),
                assignments=("x",),
                redirects=(Redirect(">", Word("f")),),
            ),
        ),
        unresolved=(),
    )


def test_bytes_and_text_are_the_same() -> None:
    for text in ("rm é", "a; b $(c)", "(", "é 'ü"):
        assert analyze_command(text.encode()) == analyze_command(text)


def test_what_could_be_seen_is_given_with_the_doubts() -> None:
    assert "rm x" in commands_of("a; rm x; f() { b; }; f")
    assert commands_of("[[ -f x && $(rm x) ]]").count("rm x") == 1
    assert "rm x" in commands_of("a $((1 + $(rm x)))")
    assert "rm x" in commands_of('a "${x:-"$(rm x)"}"')
    assert "rm x" in commands_of("a=(1 $(rm x))")
    assert "rm x" in commands_of("for ((i=0; i<3; i++)); do rm x; done")
    assert commands_of("rm x; " + "b" * 2000 + " )")[0] == "rm x"


def test_reasons_are_for_people_and_hold_nothing_of_the_text() -> None:
    secret = "hunter2"
    for text in (
        f"a $(({secret}))",
        f"f() {{ {secret}; }}",
        f"alias {secret}=b",
        f"{secret}$x y",
        f"a '{secret}",
    ):
        (*reasons,) = analyze_command(text).unresolved
        assert reasons
        assert all(secret not in reason and "\n" not in reason and len(reason) < 160 for reason in reasons)
