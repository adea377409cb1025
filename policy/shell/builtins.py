"""Builtins of the shells that change what later words mean, or that take their arguments for code.

Each of them has harmless uses, and those are named here; every other use makes the text unresolved. That a shell lacks
a builtin does no harm: then its name is that of a program. Builtins that run a command are in `wrappers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from policy.shell.commands import ShellWord
from policy.shell.names import names
from policy.shell.options import may_be_option
from policy.shell.variables import is_special

# With any argument they change names, options or the history; without one they only report.
_DOUBTFUL = names("""
    alias unalias hash unhash rehash enable disable shopt setopt unsetopt emulate bind bindkey complete compgen compopt
    compctl autoload functions zmodload zle zstyle zparseopts zformat zregexparse zcompile vared sched add-zsh-hook
    fc history hist r let declare typeset local integer float nameref private setvar mapfile readarray getopts print
    caller getln pushln unfunction limit unlimit zpty bltin jobs compound enum coproc ttyctl log noglob nocorrect -
    """)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SET_LETTERS = re.compile(r"[-+][aCefuvx]+")
_SET_O = re.compile(r"([-+][aCefuvx]*)o")
_SET_NAMES = names(
    "allexport errexit noclobber noglob nounset pipefail verbose xtrace ignoreeof monitor notify"
)
_READ_OPTION = re.compile(r"-[rs]*[pdtnu]?")
_LIMIT = re.compile(r"-[A-Za-z]+|[0-9]*|hard|soft|unlimited")
_WAITED = re.compile(r"-[nf]|%[0-9]*")
_NUMBER = re.compile(r"[0-9]*")
_COMPARISONS = names("-eq -ne -lt -le -gt -ge")
_OPERATORS = names("= == != < > -nt -ot -ef")
_EVALUATING = frozenset(("-v", "-R"))
_PLAIN_FORMAT = re.compile(r"(?:[^%]|%%|%-?[0-9]*(?:\.[0-9]+)?[sbcq])*")
_CODE_FILE = re.compile(r"(?:^|/)(?:stdin|tty|fd(?:/|$))")

Words = Sequence[ShellWord]


def builtin_doubt(words: Words) -> str | None:
    """Why a command whose name is known may be more than its words say."""
    name = words[0].text
    if name in _DOUBTFUL:
        return None if len(words) == 1 else f'"{name}" changes what later commands mean'
    judge = _JUDGES.get(name)
    return (
        None
        if judge is None or judge(words)
        else f'"{name}" with these arguments may change or run something else'
    )


def is_read_from_elsewhere(path: str) -> bool:
    """Whether a file of code is a stream, so that its content comes with the session."""
    return path == "-" or _CODE_FILE.search(path) is not None


def _is_number(word: ShellWord) -> bool:
    return word.is_number or (word.is_known and _NUMBER.fullmatch(word.text) is not None)


def _is_plain_name(word: ShellWord) -> bool:
    return word.is_known and _IDENTIFIER.fullmatch(word.text) is not None and not is_special(word.text)


def _set(words: Words) -> bool:
    at = 1
    while at < len(words):
        word = words[at]
        if not word.is_known:
            return not may_be_option(word)
        if word.text in ("--", "-"):
            return True
        if word.text[:1] not in ("-", "+"):
            return True
        if _SET_O.fullmatch(word.text):
            if at + 1 == len(words):
                return True
            if not (words[at + 1].is_known and words[at + 1].text in _SET_NAMES):
                return False
            at += 1
        elif not _SET_LETTERS.fullmatch(word.text):
            return False
        at += 1
    return True


def _export(words: Words) -> bool:
    """Names, or names with a value. Unquoted values are split by dash, and would be further names."""
    for word in words[1:]:
        if word.is_known and word.text == "-p":
            continue
        name, equals, _ = word.head.partition("=")
        if not word.is_single or not (equals or word.is_known):
            return False
        if _IDENTIFIER.fullmatch(name) is None or is_special(name):
            return False
    return True


def _unset(words: Words) -> bool:
    return all(_is_plain_name(word) or (word.is_known and word.text == "-v") for word in words[1:])


def _read(words: Words) -> bool:
    """Plain names, and options whose values are numbers or one word."""
    at = 1
    while at < len(words):
        word = words[at]
        if not word.is_known:
            return False
        if word.text.startswith("-"):
            if _READ_OPTION.fullmatch(word.text) is None:
                return False
            if word.text[-1] in "pdtnu":
                at += 1
                value = words[at : at + 1]
                if not all(
                    _is_number(other) or (other.is_single and word.text[-1] in "pd") for other in value
                ):
                    return False
        elif not _is_plain_name(word):
            return False
        at += 1
    return True


def _printf(words: Words) -> bool:
    """zsh evaluates what a numeric directive is given, and -v sets a variable."""
    if len(words) == 1:
        return True
    form = words[1]
    if form.is_known and form.text == "--":
        return _printf(words[1:])
    if not form.is_known or form.text.startswith("-"):
        return False
    return _PLAIN_FORMAT.fullmatch(form.text) is not None or all(_is_number(word) for word in words[2:])


def _test(words: Words) -> bool:
    """Comparisons whose operator is known. With others the shells could evaluate an operand, and what that may run."""
    operands = list(words[1:] if words[0].text == "test" else words[1:-1])
    segment: list[ShellWord] = []
    for word in operands:
        if word.is_known and word.text in ("-a", "-o") and segment:
            if not _is_plain_condition(segment):
                return False
            segment = []
        else:
            segment.append(word)
    return _is_plain_condition(segment)


def _is_plain_condition(words: list[ShellWord]) -> bool:
    if words and words[0].is_known and words[0].text == "!":
        words = words[1:]
    if not all(word.is_single or word.is_number for word in words):
        return False
    match words:
        case [] | [_]:
            return True
        case [operator, operand]:
            if not operator.is_known or operator.text in _EVALUATING:
                return False
            return operator.text != "-t" or _is_number(operand)
        case [left, operator, right]:
            if not operator.is_known:
                return False
            if operator.text in _COMPARISONS:
                return _is_number(left) and _is_number(right)
            return operator.text in _OPERATORS
        case _:
            return False


def _numeric(words: Words) -> bool:
    return all(_is_number(word) for word in words[1:])


def _source(words: Words) -> bool:
    """A known file is run as a script would be."""
    return len(words) == 1 or (words[1].is_known and words[1].text[:1] not in ("-", ""))


def _wait(words: Words) -> bool:
    """One process, or several that are known; bash has an option that sets a variable."""
    if len(words) == 2 and not words[1].is_known:
        return words[1].is_single or words[1].is_number
    return all(
        _is_number(word) or (word.is_known and _WAITED.fullmatch(word.text) is not None) for word in words[1:]
    )


def _ulimit(words: Words) -> bool:
    return all(word.is_known and _LIMIT.fullmatch(word.text) is not None for word in words[1:])


_JUDGES: dict[str, Callable[[Words], bool]] = {
    "set": _set,
    "export": _export,
    "readonly": _export,
    "unset": _unset,
    "read": _read,
    "printf": _printf,
    "test": _test,
    "[": _test,
    "ulimit": _ulimit,
    "wait": _wait,
    "[[": _test,
    "exit": _numeric,
    "return": _numeric,
    "break": _numeric,
    "continue": _numeric,
    "shift": _numeric,
    "logout": _numeric,
    "bye": _numeric,
    ".": _source,
    "source": _source,
}
