"""Shells and interpreters: what they run, where it stands in their words; whether they take it from their input.

A shell of the Bourne family with -c runs a text that can be read here. Code of other languages (python -c, perl -e,
awk) is not looked into: such a command is its own words, and a rule that allows it allows all that the language can do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import partial

from policy.shell.builtins import is_read_from_elsewhere
from policy.shell.calls import NOTHING, READS_CODE, Call, Ran, Runner, Unclear
from policy.shell.commands import ShellWord
from policy.shell.names import names
from policy.shell.options import may_be_option

_SHELLS = names("sh ash dash bash rbash zsh rzsh ksh ksh93 mksh lksh pdksh yash posh")
_OTHER_SHELLS = names("fish csh tcsh scsh rc es elvish nu pwsh xonsh ion osh ysh oil")
_LONG_FLAGS = names("--login --norc --noprofile --posix --noediting --restricted --verbose")
_REPORTS = frozenset(("--version", "--help"))
# Letters that leave the reading of the text as it is. "s" and "i" are looked at, "c" and "o" taken.
_FLAGS = frozenset("abefhlmnpruvxC")
_SETTINGS = names("allexport errexit noclobber noglob nounset pipefail verbose xtrace monitor notify")


@dataclass(slots=True)
class _Invocation:
    at: int
    has_text: bool = False
    is_interactive: bool = False
    reads_input: bool = False
    only_reports: bool = False


def _shell(call: Call) -> Ran:
    invocation = _options_of_shell(call)
    if invocation.only_reports:
        return NOTHING
    operands = call.words[invocation.at :]
    if invocation.has_text:
        if not operands:
            return NOTHING
        odd = invocation.is_interactive or invocation.reads_input
        if odd:
            call.explaining.doubt(f'"{call.name}" runs a text as an interactive shell would')
        return call.text(operands[0], is_explained=not odd)
    if invocation.reads_input or invocation.is_interactive or not operands:
        return READS_CODE
    return _script(operands[0])


def _script(word: ShellWord) -> Ran:
    return READS_CODE if is_read_from_elsewhere(word.text if word.is_known else word.head) else NOTHING


def _options_of_shell(call: Call) -> _Invocation:
    """Options go on behind -c: its text is the first word that is none."""
    invocation = _Invocation(1)
    words = call.words
    while invocation.at < len(words):
        word = words[invocation.at]
        if not word.is_known:
            if may_be_option(word):
                raise Unclear(invocation.at)
            break
        text = word.text
        if text in _REPORTS:
            invocation.only_reports = True
            break
        if text in ("--", "-"):
            invocation.at += 1
            break
        if text in _LONG_FLAGS:
            invocation.at += 1
            continue
        if len(text) < 2 or text[0] not in "-+":
            break
        _letters(call, text, invocation)
    return invocation


def _letters(call: Call, text: str, invocation: _Invocation) -> None:
    at = invocation.at
    invocation.at += 1
    for letter in text[1:]:
        if letter == "c" and text[0] == "-":
            invocation.has_text = True
        elif letter == "s":
            invocation.reads_input = True
        elif letter == "i":
            invocation.is_interactive = True
        elif letter == "o":
            names = call.words[invocation.at : invocation.at + 1]
            if not names or not names[0].is_known or names[0].text not in _SETTINGS:
                raise Unclear(at)
            invocation.at += 1
        elif letter not in _FLAGS:
            raise Unclear(at)


def _other_shell(call: Call) -> Ran:
    if len(call.words) == 1:
        return READS_CODE
    call.explaining.doubt(f'"{call.name}" is a shell whose language is not read here')
    return NOTHING


def _source(call: Call) -> Ran:
    return _script(call.words[1]) if len(call.words) > 1 else NOTHING


@dataclass(frozen=True, slots=True)
class _Interpreter:
    """Letters of its options. code: bring the code, or only report; values: have a value; attached: have one directly
    behind; interactive: read the input whatever else is given."""

    code: str = ""
    values: str = ""
    attached: str = ""
    interactive: str = ""
    long_code: frozenset[str] = frozenset()
    takes_script: bool = True


_INTERPRETERS = (
    (re.compile(r"python[0-9.]*|pypy[0-9.]*"), _Interpreter("cmVh", "WX", "", "i")),
    (re.compile(r"perl[0-9.]*"), _Interpreter("eEvVh", "I", "i0lFMmxDCd")),
    (re.compile(r"ruby[0-9.]*"), _Interpreter("evh", "IrCE", "i0FTWxK")),
    (
        re.compile(r"node(?:js)?[0-9.]*"),
        _Interpreter("epvh", "rC", "", "i", frozenset(("--eval", "--print", "--test", "--run"))),
    ),
    (
        re.compile(r"php[0-9.]*"),
        _Interpreter("rBREfvimh", "dczSt", "", "a", frozenset(("--run", "--file"))),
    ),
    (re.compile(r"lua(?:jit)?[0-9.]*"), _Interpreter("ev", "l", "", "i")),
    (re.compile(r"ipython[0-9.]*|irb|deno|bun|guile|ghci|jshell|Rscript|R|octave"), _Interpreter("ehv")),
    (re.compile(r"tclsh[0-9.]*|wish[0-9.]*|expect|gdb|bc|dc|ed|ex"), _Interpreter("c")),
    (re.compile(r"at|batch"), _Interpreter("fcdlrV", "qt", takes_script=False)),
)


def interpreter(name: str) -> Runner | None:
    """Who looks at an interpreter of this name, if it is one."""
    for pattern, kind in _INTERPRETERS:
        if pattern.fullmatch(name) is not None:
            return partial(_interpret, kind=kind)
    return None


def _interpret(call: Call, *, kind: _Interpreter) -> Ran:
    at = 1
    while at < len(call.words):
        word = call.words[at]
        if not word.is_known:
            if may_be_option(word):
                return READS_CODE
            break
        if word.text == "--":
            at += 1
            break
        if word.text == "-" or not word.text.startswith("-"):
            break
        step = (
            _long_option(word.text, kind) if word.text.startswith("--") else _letters_of(word.text[1:], kind)
        )
        match step:
            case _Step.CODE:
                return NOTHING
            case _Step.INPUT:
                return READS_CODE
            case _Step.VALUE:
                at += 2
            case _Step.NEXT:
                at += 1
    if at >= len(call.words):
        return READS_CODE
    return _script(call.words[at]) if kind.takes_script else READS_CODE


class _Step(Enum):
    CODE = "the code stands in the words, or nothing is run"
    INPUT = "the code comes by the input"
    VALUE = "the next word is a value"
    NEXT = "the next word is looked at"


def _long_option(text: str, kind: _Interpreter) -> _Step:
    return _Step.CODE if text in _REPORTS or text.partition("=")[0] in kind.long_code else _Step.NEXT


def _letters_of(letters: str, kind: _Interpreter) -> _Step:
    for index, letter in enumerate(letters):
        if letter in kind.code:
            return _Step.CODE
        if letter in kind.interactive:
            return _Step.INPUT
        if letter in kind.attached:
            return _Step.NEXT
        if letter in kind.values:
            return _Step.VALUE if index == len(letters) - 1 else _Step.NEXT
    return _Step.NEXT


SHELLS: dict[str, Runner] = {
    **dict.fromkeys(_SHELLS, _shell),
    **dict.fromkeys(_OTHER_SHELLS, _other_shell),
    ".": _source,
    "source": _source,
}
