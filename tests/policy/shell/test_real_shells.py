"""The analysis against real shells: whatever dash and bash start because of a text is among the commands it names.

Texts come from a grammar that is larger than what is read (see `shell_lines`); those that are unresolved are not run.
SHELL_LINES sets how many are; the seed moves with it, so a long run is no repetition of the short one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy.shell.analyze import ShellAnalysis, analyze_command
from tests.policy.shell.sandbox import Run, Sandbox, could_be, every_command
from tests.policy.shell.shell_lines import Lines

SHELLS = (("dash",), ("bash",), ("bash", "--posix"))
LINES = int(os.environ.get("SHELL_LINES", "300"))
# A line starts four stubs in the mean, over the shells. If far fewer start, the lines do not test much.
FEWEST_STARTED = 2 * LINES


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        with contextlib.closing(Sandbox(root)) as sandbox:
            yield sandbox


def is_judged(text: str) -> bool:
    return not analyze_command(text).unresolved


def unnamed(analysis: ShellAnalysis, run: Run) -> list[str]:
    """What a shell did that the analysis does not name."""
    commands = every_command(analysis.commands)
    found = [
        " ".join(started)
        for started in run.started
        if not any(could_be(command.words, started) for command in commands)
    ]
    targets = [redirect.word for command in commands for redirect in command.redirects]
    for name in run.files:
        if not any(not word.is_known or word.text == name for word in targets):
            found.append(f"> {name}")
    return found


def test_generated_lines(sandbox: Sandbox) -> None:
    lines = Lines(LINES, is_judged)
    judged = started = 0
    while judged < LINES:
        text = lines.line()
        analysis = analyze_command(text)
        commands = every_command(analysis.commands)
        if analysis.unresolved or not commands or any(command.reads_code for command in commands):
            continue
        judged += 1
        for shell in SHELLS:
            run = sandbox.run(shell, text)
            started += len(run.started)
            assert not unnamed(analysis, run), (shell, text)
    assert started > FEWEST_STARTED


# What once was, or nearly was, read otherwise than some shell reads it. Resolved or not, nothing may go unnamed.
ONCE_MISREAD = (
    "aa [[ || rm x",
    '""=aa x',
    "aa \\ rm",
    "r\\\nm x",
    "aa &\\\n& rm x",
    "aa x &>f rm y",
    "aa >&-rm",
    "aa |\\- rm x",
    "x+=1 rm y",
    "[[ aa || rm x ]]",
    "[[ x > rm ]]",
    "aa $'x\\' ; rm y ; '",
    "aa <<E\nx\\\nE\nrm y\nE",
    "aa <<E\n$(bb\nE\nrm x\n)\nE",
    "aa <<-E\n\tE\nrm x",
    "aa <<'E'x\nEx\nrm y",
    "aa `bb \\`rm x\\``",
    'aa "`bb "rm x"`"',
    "aa # `\nrm x",
    "aa $(bb # )\nrm x)",
    "case aa in aa) rm x;; esac",
    "aa $(case x in x) rm y;; esac)",
    "aa $((rm x) )",
    "time -p rm x",
    "exec -a aa rm x",
    "command -- rm x",
    "eval -- rm x",
    "trap -- 'rm x' EXIT",
    "sh -c -e 'rm x' aa",
    "sh -ce 'rm x'",
    "bash -c 'rm \"$0\"' aa",
    "bash -o pipefail -c 'rm x'",
    "xargs -n 1 rm <one",
    "aa | xargs -I{} rm {}",
    "xargs -I{} -n1 rm {} x",
    "find one -exec rm {} \\; -exec sh -c 'aa {}' \\;",
    "env -i - x=1 -- rm y",
    "env - PATH=. rm x",
    "nice -5 rm x",
    "timeout -s INT -- 5 rm x",
    "x='bb[$(rm x)]'; aa $((x))",
    "x='bb[$(rm x)]'; [ -v \"$x\" ]",
    "x='bb[$(rm x)]'; [[ $x -eq 1 ]]",
    "x='bb[$(rm x)]'; printf -v \"$x\" y",
    "x=sh; $x -c 'rm x'",
    'set -- rm x; "$@"',
    "alias aa='rm x'\naa",
    "aa() { rm x; }; aa",
    "PS4='$(rm x)'; set -x; aa",
    "{ aa; } 2>f; (bb) >g; if cc; then rm x; fi >>h",
    "aa 2>f >g",
    "aa 2 >f",
    "aa a2>f",
    "aa >f\\ g",
    "aa <>f",
    ">f >g",
    "x=1 >f",
)


@pytest.mark.parametrize("text", ONCE_MISREAD)
def test_what_once_was_misread(sandbox: Sandbox, text: str) -> None:
    analysis = analyze_command(text)
    if not analysis.unresolved:
        for shell in SHELLS:
            assert not unnamed(analysis, sandbox.run(shell, text)), shell


# --- that the comparison could fail -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_the_sandbox_notes_what_is_started(sandbox: Sandbox, shell: tuple[str, ...]) -> None:
    assert sandbox.run(shell, "aa 'x y' ''; ls").started == (("aa", "x y", ""), ("ls",))
    assert sandbox.run(shell, "aa & bb & wait").started in ((("aa",), ("bb",)), (("bb",), ("aa",)))
    assert sandbox.run(shell, "(sleep 0; aa) & exit").started == (("aa",),)
    assert sandbox.run(shell, "env x=1 sh -c 'rm $x'").started == (("rm", "1"),)
    assert sandbox.run(shell, "aa >f; bb 2>g").files == {"f", "g"}
    assert sandbox.run(shell, "cat one; /bin/true").started == ()


def test_what_is_not_named_is_noticed(sandbox: Sandbox) -> None:
    named = analyze_command("aa x; ls $y >f")
    assert unnamed(named, sandbox.run(("dash",), "aa x; ls 1 2 3; ls >f")) == []
    assert unnamed(named, sandbox.run(("dash",), "aa y")) == ["aa y"]
    assert unnamed(named, sandbox.run(("dash",), "aa x z")) == ["aa x z"]
    assert unnamed(named, sandbox.run(("dash",), "rm x")) == ["rm x"]
    assert unnamed(named, sandbox.run(("dash",), ">g")) == ["> g"]
