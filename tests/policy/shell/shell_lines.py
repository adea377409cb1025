"""Command lines for the comparison with real shells: from a grammar that is larger than what is read, and from tokens.

Deterministic for one seed. Names of commands are stubs and programs of `sandbox.REAL`; paths stay in the directory.
Most lines are made of pieces that alone are accepted, so that what is tried is how they come together; the others may
hold anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.policy.shell.sandbox import STUBS

NAMES = STUBS[:5]
_PLAIN = (
    "x",
    "-a",
    "--b=c",
    "a=b",
    "1",
    "one",
    "two.txt",
    "+x",
    "@",
    "%1",
    "a:b",
    "é",
    ",",
    "]",
    "-",
    "--",
    ".",
    "0",
)
_ODD = (
    *("{}", "{a,b}", "{1..3}", "*", "?", "o*", "[a-z]", "~", "a~", "a=~", "~/x", "=aa", "=", "!", "!x"),
    *("^", "a^b"),
    *("$", "a$", "$.", "#x", "a#b", "{", "}", "a}", "{a", "$'a'", '$"a"', "$'a\\tb'", "\\ ", "\\x", "\\\\"),
    *("\\'", '\\"'),
    *("\\$x", "\\`", "\\;", "\\&", "\\(", "a\\\nb", "''", '""', "'a b'", '"a b"', "'$x'", "'`'", "a'b'c"),
    *('a"b"c',),
    *('"\\$x"', '"\\""', '"\\\\"', '"a\\b"', "'\\'", '"\'"', "'\"'", '"$"', '"a$ b"', '"$ x"', "'a;b'"),
    *('"a|b"', "'a\nb'"),
    *('"a\nb"', '"a\\\nb"', '"!x"', '"*"', "'*'", "\\*", "a\\", "if", "then", "done", "in", "do", "esac"),
    *("time", "fi"),
    *(
        "\u00a0",
        "a\u00a0b",
        "\u3000",
        "\u201aé\u201b",
        "(",
        ")",
        "a(b)",
        "<1-2>",
        "a[b",
        "[",
        "[[",
        "]]",
        "a\\ b",
    ),
    *("\\\n",),
)
_EXPANSIONS = (
    *("$x", '"$x"', "${x}", "${x:-aa}", '"${x:-aa}"', "${x:-a b}", '"${x:-a b}"', "${x:=bb}", "${x+cc}"),
    *("${#x}", "$#"),
    *("$?", "$$", "$@", '"$@"', "$*", "$1", "${1}", "${x%b}", "${x##*/}", "${x/a/b}", "${!x}", "${x:1}"),
    *("${x^^}",),
    *("${x@P}", "$x[1]", "$xé", '"$x"y', "$((1+2))", '"$((1))"', "$((x))", "$(( 1 ))", "$[1]", "${x:-$y}"),
    *("${x:-'a'}",),
    *('"${x:-"a"}"', "${x:-$(aa)}", "${x:-`aa`}", "${x:-}", "$'\\''", "\"$'x'\"", "$-", "${x:?}", "${x#?}"),
    *("~$x", "$x$y"),
)
_OPERATORS = (
    "; ",
    " && ",
    " || ",
    " | ",
    " & ",
    "\n",
    " |& ",
    ";",
    "&",
    "|",
    "&&",
    "||",
    "\n\n",
    " ;\n",
    " &\n",
    ";;",
    "\\\n; ",
)
_REDIRECTS = (
    *("> f", ">f", ">>f", "2>f", "2>&1", "<one", "< one", ">&2", "&>f", "&>>f", ">|f", "<>f"),
    *("2>/dev/null", "</dev/null"),
    *(">$x", '>"f g"', ">f\\ g", "3>&1", ">&-", "<&-", ">&f", "10>f", "{v}>f", "<<<a", '<<< "$(aa)"'),
    *("> f > g", ">!f"),
    *("1>f", "a2>f", "2>>f", "<(aa)", ">(bb)", ">`aa`", "> $(aa)", ">&1f", "&> f x", ">\\\nf", "2>& 1"),
    *(">& f",),
)
_TOKENS = (
    *NAMES,
    *("x", "$x", '"', "'", "`", "$(", ")", "(", "{ ", "; }", "}", ";", "&", "|", "&&", "||", "\n", " "),
    *(" ", " ", "\\", "\\\n"),
    *("<", ">", ">>", "<<", "<<<", "<<-E\n", "<<E\n", "\nE\n", "E", "#", "$", "=", "x=", "$((", "))", "(("),
    *("[[ ", " ]]", "[ "),
    *(" ]", "!", "! ", "if ", "; then ", "; fi", "for x in ", "; do ", "; done", "while ", "case x in "),
    *("x) ", ";; ", "esac"),
    *("eval ", "sh -c ", "exec ", "command ", "env ", "*", "?", "~", "{", ",", "2", "&>", ">&", "|&", "${"),
    *(":-", "-", "@", "^"),
    *("time ", "coproc ", "function ", "() ", "\t", "é", "%", "+", "[", "]", "\r", "'a b'", '"$x"', "é\\"),
    *("in", "\x0b"),
)


class Lines:
    """An endless supply. `accepts` says whether a command line is one that is judged at all."""

    def __init__(self, seed: int, accepts: Callable[[str], bool]) -> None:
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._depth = 0
        self._is_tame = True
        self._words_of = {
            kind: (words, tuple(word for word in words if accepts(f"aa {word} x")))
            for kind, words in (("odd", _ODD), ("expansion", _EXPANSIONS), ("redirect", _REDIRECTS))
        }

    def line(self) -> str:
        kind = self._random.random()
        self._depth = 0
        self._is_tame = kind > 0.3
        if kind < 0.1:
            return "".join(self._random.choices(_TOKENS, k=self._random.randint(1, 14)))
        text = self._list()
        return self._spoiled(text) if kind < 0.2 or kind > 0.93 else text

    def _any(self, kind: str) -> str:
        every, tame = self._words_of[kind]
        return self._random.choice(tame if self._is_tame else every)

    def _spoiled(self, text: str) -> str:
        """A token more or less somewhere."""
        for _ in range(self._random.randint(1, 2)):
            at = self._random.randint(0, len(text))
            if self._random.random() < 0.5:
                text = text[:at] + self._random.choice(_TOKENS) + text[at:]
            else:
                text = text[:at] + text[at + self._random.randint(1, 2) :]
        return text

    def _pick(self, *options: str) -> str:
        return self._random.choice(options)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _list(self) -> str:
        self._depth += 1
        parts = [self._command()]
        while self._chance(0.4) and len(parts) < 4:
            operator = self._random.choice(_OPERATORS[:6] if self._is_tame else _OPERATORS)
            parts += [operator, self._command()]
        self._depth -= 1
        return "".join(parts)

    def _command(self) -> str:
        if self._depth > 3 or self._chance(0.55):
            return self._simple()
        return self._random.choice(
            (self._compound, self._compound, self._wrapped, self._wrapped, self._document)
            if self._is_tame
            else (self._compound, self._wrapped, self._document, self._shadowed)
        )()

    def _compound(self) -> str:
        inner, other = self._list(), self._list()
        text = self._pick(
            f"({inner})",
            f"( {inner} )",
            f"{{ {inner}; }}",
            f"if {inner}; then {other}; fi",
            f"if {inner}\nthen {other}\nelse {self._simple()}\nfi",
            f"if {inner}; then {other}; elif {self._simple()}; then aa; else bb; fi",
            f"for x in {self._words()}; do {inner}; done",
            f"for x in {self._words()}\ndo {inner}\ndone",
            f"while {inner}; do {other}; break; done",
            f"until {inner}; do {other}; break; done",
            f"case {self._word()} in a|{self._word()}) {inner};; *) {other};; esac",
            f"case {self._word()} in\n{self._word()}) {inner} ;;\n x) {other}\nesac",
            f"! {inner}",
            f"if # a\n {inner} # b\n\nthen # `\n{other}\nfi # c",
            f"for x in {self._words()} # '\ndo # a\n{inner}\n\ndone",
            f"case {self._word()} in # a\n # b\n x) # c\n{inner} # d\n;; # e\n*)\n;;\nesac",
            f"{inner} && # a\n\n {other} |\n# b\n {self._simple()}",
            f"while {inner} # a\ndo\n# b\n{other}; break\ndone; {self._simple()}",
            f"[[ {self._word()} == {self._word()} ]] && {inner}",
            f"[ {self._word()} = {self._word()} ] || {inner}",
            f"(( 1 + 1 )); {inner}",
            f"x=({self._words()}); {inner}",
            f"f() {{ {inner}; }}; f {self._words()}",
            f"time {inner}",
            f"{inner} # {other}".replace("\n", " "),
            f"aa <({inner})",
        )
        return text + (" " + self._any("redirect") if self._chance(0.15) else "")

    def _simple(self) -> str:
        parts = []
        if self._chance(0.12):
            name = self._pick("x", "y", "z") if self._is_tame else self._pick("x", "IFS", "PATH", "x+")
            parts.append(f"{name}={self._word()}")
        if self._chance(0.95):
            parts.append(self._name())
            parts += [self._word() for _ in range(self._random.choice((0, 1, 1, 2, 3)))]
        if self._chance(0.2):
            parts.insert(self._random.randint(0, len(parts)), self._any("redirect"))
        return self._pick(" ", " ", " ", "  ", "\t", " \\\n ").join(parts)

    def _name(self) -> str:
        name = self._random.choice(NAMES)
        if self._chance(0.97 if self._is_tame else 0.75):
            return name
        return self._pick(
            *(f"\\{name}", f"'{name}'", f'"{name}"', f"{name[0]}''{name[1:]}", f"{name[0]}\\{name[1:]}"),
            *(f"$'{name}'",),
            *(f"{name[0]}\\\n{name[1:]}", f"${{x:-{name}}}", f"$(aa {name})", f"`aa`{name}"),
            *(f"{name[0]}{{{name[1:]},}}",),
            *(f"{name}$x", f"!{name}", f"={name}", f"{name}*", f"\t{name}", f"\u00a0{name}", "''"),
            *(f"-{name}", "$x", '"$x"'),
        )

    def _words(self) -> str:
        return " ".join(self._word() for _ in range(self._random.randint(1, 3)))

    def _word(self) -> str:
        kind = self._random.random()
        if kind < 0.4:
            return self._random.choice((*_PLAIN, *NAMES))
        if kind < 0.6:
            return self._any("odd")
        if kind < 0.75:
            return self._any("expansion")
        if kind < 0.9 and self._depth < 4:
            return self._substituted()
        return self._joined() + self._joined()

    def _joined(self) -> str:
        kind = self._random.random()
        return self._random.choice(_PLAIN) if kind < 0.3 else self._any("odd" if kind < 0.7 else "expansion")

    def _substituted(self) -> str:
        inner = self._list()
        return self._pick(
            *(f"$({inner})", f'"$({inner})"', f"`{inner}`", f'"`{inner}`"', f'"a $({inner}) b"'),
            *(f"x$({inner})y",),
            *(f"$( {inner} )", f"$(({inner}))", f"${{x:-$({inner})}}", f"<({inner})", f"$(\n{inner}\n)"),
            *(f"'$({inner})'",),
        )

    def _wrapped(self) -> str:
        inner = self._simple()
        text = self._list()
        quoted = "'" + text.replace("'", "'\\''") + "'"
        doubled = (
            '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`") + '"'
        )
        return self._pick(
            *(f"sh -c {quoted}", f"bash -c {quoted}", f"dash -c {doubled}", f"sh -ec {quoted} x y"),
            *(f"eval {quoted}",),
            *(f"sh -c -- {quoted}", f"bash -o pipefail -c {doubled}", f'sh -c "{text}"', f"eval {inner}"),
            *(f"eval {doubled}",),
            *(f"command {inner}", f"exec {inner}", f"env {inner}", f"env x=1 {inner}", f"env -i {inner}"),
            *(f"nice {inner}",),
            *(f"nice -n 1 {inner}", f"nohup {inner}", f"timeout 5 {inner}", f"timeout -s INT 5 {inner}"),
            *(f"setsid {inner}",),
            *(f"stdbuf -oL {inner}", f"aa | xargs {inner}", f"xargs -n1 {inner} <one"),
            *(f"xargs -I{{}} {inner}", f"time {inner}"),
            *(f"find . -name one -exec {inner} \\;", f"find one -exec {inner} {{}} +"),
            *(f"find . -exec sh -c {quoted} ';'",),
            *(f"command -v {inner}", f"builtin {inner}", f"trap {quoted} EXIT", f"set -- {inner}"),
            *(f"printf %s {inner}",),
            *(f"{quoted}", f"echo {inner}", f"echo {inner} | sh", f"read x; {inner}", f"export x={inner}"),
            *(f"cd .; {inner}",),
            *(f"alias ls={quoted}\nls", f"env -S {quoted}", f"exec -a x {inner}", f"command -p {inner}"),
            *(f"env -- {inner}",),
            *(f"nice --adjustment=1 {inner}", f"timeout {inner}", f"env {self._word()} {inner}"),
            *(f"nice {self._word()} aa",),
            *(f"sh {self._word()} -c {quoted}", f"xargs -n {self._word()} aa", f"time -p {inner}"),
            *(f"time ! {inner}",),
        )

    def _document(self) -> str:
        delimiter = self._pick("E", "'E'", '"E"', "\\E", "E", "-E", "- 'E'", "E'F'", "$E", "E")
        body = self._pick(
            *(self._list(), self._words(), f"a {self._substituted()} b", "x\\", "$x `aa` \\`bb\\` \\$(cc)"),
            *("E", " E", "\tE"),
            *('"', "'", "$((1+1))", '\\$x "$(aa)"', "a\\\nE", "$(aa\nbb)", "${x:-$(aa)}", "'$(aa)'"),
        )
        rest = self._pick(
            "",
            "",
            f" {self._words()}",
            f" | {self._simple()}",
            "; bb",
            " > f",
            f" && {self._simple()}",
            " # a",
        )
        close = self._pick("E", "E", "E", "\tE", " E", "EE", "")
        return f"{self._simple()} <<{delimiter}{rest}\n{body}\n{close}\n{self._simple()}"

    def _shadowed(self) -> str:
        return self._pick(
            *("ls() { rm x; }; ls", "alias ls=rm\nls", "function ls { rm x; }; ls", "x=rm; $x y"),
            *("x='rm y'; $x", "IFS=a; x=rmay; $x"),
            *("set -- rm y; $@", "x=rm; eval $x y", "trap 'rm x' EXIT", "hash -p /bin/rm ls; ls"),
            *("x='a[$(rm x)]'; aa $((x))",),
            *("x='a[$(rm x)]'; [ -v $x ]", "x='$(rm x)'; eval aa $x", "read x <one; $x"),
            *("PS4='$(rm x)'; set -x; aa", "x=eval; $x 'rm y'"),
            *("ENV=one sh -c aa", "x='rm y'; sh -c \"$x\"", "x='a[$(rm x)]'; [[ $x -eq 1 ]]"),
            *("cc=1 aa; bb", "unset PATH; aa", ". ./one; aa"),
            *("echo rm x | sh", "sh <<E\nrm x\nE", "exec 3>f; aa >&3", "coproc rm x"),
            *("select x in aa; do rm x; break; done </dev/null",),
            *("declare -n x=PATH; aa", "printf -v PATH x; aa", "x=rm; ${!x}", "x=rm; x+=' y'; $x"),
            *("set -o posix; aa", "command eval 'rm x'"),
        )
