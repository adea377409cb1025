"""Commands that only run another: who may run that may run them. `inner` is all that they do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from policy.shell.calls import NOTHING, Call, Ran, Runner, Unclear
from policy.shell.names import names
from policy.shell.options import Options, scan
from policy.shell.tokens import RESERVED
from policy.shell.variables import is_special


@dataclass(frozen=True, slots=True)
class Wrapper:
    """How a command stands in front of another: its options, then at most one word of a certain form."""

    options: Options
    operand: re.Pattern[str] | None = None


_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[smhd]?")
_PRIORITY = re.compile(r"[0-9]{1,3}")
_CPUS = re.compile(r"0x[0-9a-fA-F]+|[0-9][0-9a-fA-F,:-]*")

# Options that make them do something else to other processes (-p PID) are left out, and so are unclear.
_WRAPPERS = {
    "nice": Wrapper(Options(flags="0123456789", values="n", long_values=names("adjustment"))),
    "nohup": Wrapper(Options()),
    "setsid": Wrapper(Options(flags="cfw", long_flags=names("ctty fork wait"))),
    "stdbuf": Wrapper(Options(values="ioe", long_values=names("input output error"))),
    "timeout": Wrapper(
        Options(
            flags="v",
            values="ks",
            long_flags=names("foreground preserve-status verbose"),
            long_values=names("signal kill-after"),
        ),
        _DURATION,
    ),
    "ionice": Wrapper(
        Options(flags="t", values="cn", long_flags=names("ignore"), long_values=names("class classdata"))
    ),
    "chrt": Wrapper(
        Options(
            flags="abdfiorRv",
            values="TPD",
            long_flags=names("batch deadline fifo idle other rr reset-on-fork verbose"),
        ),
        _PRIORITY,
    ),
    "taskset": Wrapper(Options(flags="c", long_flags=names("cpu-list")), _CPUS),
}


def _wrapper(call: Call) -> Ran:
    wrapper = _WRAPPERS[call.name]
    at = scan(call.words, wrapper.options).at
    if wrapper.operand is not None:
        if at < len(call.words) and not (
            call.words[at].is_known and wrapper.operand.fullmatch(call.words[at].text) is not None
        ):
            raise Unclear(at)
        at += 1
    return _run_at(call, at)


def _run_at(call: Call, at: int) -> Ran:
    if at < len(call.words) and not call.words[at].is_known:
        raise Unclear(at)
    return call.explained(at)


def _command(call: Call) -> Ran:
    scanned = scan(call.words, Options(flags="pvV"))
    return NOTHING if scanned.has("v", "V") else _run_at(call, scanned.at)


def _without_options(call: Call) -> Ran:
    """Some shells know options here, and others run a program of that name."""
    if len(call.words) > 1 and call.words[1].head.startswith("-"):
        raise Unclear(1)
    return _run_at(call, 1)


def _time(call: Call) -> Ran:
    """A reserved word in some shells: then what follows is read as at the start of a command."""
    if len(call.words) > 1 and ("=" in call.words[1].head or call.words[1].text in RESERVED):
        raise Unclear(1)
    return _without_options(call)


def _env(call: Call) -> Ran:
    scanned = scan(
        call.words,
        Options(
            flags="i0v",
            values="uC",
            long_flags=names("ignore-environment null debug"),
            long_values=names("unset chdir"),
        ),
    )
    if scanned.has("u", "unset"):
        _check_unset(call, scanned.at)
    at = scanned.at
    assigned: list[str] = []
    while at < len(call.words):
        word = call.words[at]
        name, equals, _ = word.head.partition("=")
        if not word.is_single or not (equals or word.is_known):
            raise Unclear(at)
        if word.text == "-" and not assigned:
            at += 1
            continue
        if not equals:
            break
        if is_special(name) or not name.isidentifier():
            call.explaining.doubt(f'"env" sets a variable that may change what commands do: {_shown(name)}')
        assigned.append(name)
        at += 1
    if scanned.has("C", "chdir"):
        # In another directory a relative path is another program or file; `cd` too is allowed by a rule of its own.
        return call.seen(at, assigned)
    return call.explained(at, assigned)


def _check_unset(call: Call, end: int) -> None:
    for word in call.words[1:end]:
        name = word.text.removeprefix("--unset=").removeprefix("-u")
        if not word.is_known or is_special(name):
            call.explaining.doubt('"env" takes away a variable that may change what commands do')


def _shown(name: str) -> str:
    return name if name.isidentifier() and len(name) <= 64 else "a name of an unusual form"


def _eval(call: Call) -> Ran:
    words = call.words[1:]
    if words and words[0].is_known and words[0].text.startswith("-"):
        raise Unclear(1)
    ran = call.joined(1)
    return Ran(ran.inner, is_explained=True)


def _trap(call: Call) -> Ran:
    """trap TEXT CONDITION...; without a text it clears or reports."""
    words = call.words[1:]
    if words and words[0].is_known and words[0].text == "--":
        words = words[1:]
    if len(words) < 2:
        if words and not words[0].is_known:
            raise Unclear(1)
        return NOTHING
    if words[0].is_known and (words[0].text in ("-", "") or words[0].text.isdigit()):
        return NOTHING
    if words[0].is_known and words[0].text.startswith("-"):
        raise Unclear(1)
    return call.text(words[0], is_explained=True)


WRAPPERS: dict[str, Runner] = {
    **dict.fromkeys(_WRAPPERS, _wrapper),
    "command": _command,
    "exec": _without_options,
    "builtin": _without_options,
    "time": _time,
    "env": _env,
    "eval": _eval,
    "trap": _trap,
}
