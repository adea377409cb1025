"""Commands that run another as another user: sudo, doas, su, runuser. What they run is seen, never explained."""

from __future__ import annotations

from dataclasses import replace

from policy.shell.calls import NOTHING, READS_CODE, Call, Ran, Runner, Unclear
from policy.shell.commands import ShellWord
from policy.shell.names import names
from policy.shell.options import Options, Scanned, scan
from policy.shell.variables import is_special

_SUDO = Options(
    flags="ABbEeHiKklNnPSsvV",
    values="CDgpRrTtUuh",
    long_flags=names(
        """askpass background bell edit preserve-env set-home login remove-timestamp reset-timestamp list no-update
        non-interactive preserve-groups stdin shell validate version"""
    ),
    long_values=names(
        "close-from chdir group host prompt chroot role command-timeout type other-user user preserve-env"
    ),
)
_SUDO_WITHOUT_COMMAND = ("e", "K", "l", "v", "V", "edit", "remove-timestamp", "list", "validate", "version")


def _sudo(call: Call) -> Ran:
    scanned = scan(call.words, _SUDO)
    if scanned.has(*_SUDO_WITHOUT_COMMAND):
        return NOTHING
    return _run_with_assignments(call, scanned, starts_shell=scanned.has("s", "i", "shell", "login"))


def _doas(call: Call) -> Ran:
    scanned = scan(call.words, Options(flags="nsL", values="uC"))
    return _run_with_assignments(call, scanned, starts_shell=scanned.has("s"))


def _run_with_assignments(call: Call, scanned: Scanned, *, starts_shell: bool) -> Ran:
    at = scanned.at
    assigned: list[str] = []
    while at < len(call.words):
        word = call.words[at]
        name, equals, _ = word.head.partition("=")
        if not word.is_known and (not equals or not word.is_single):
            raise Unclear(at)
        if not equals:
            break
        if is_special(name) or not name.isidentifier():
            call.explaining.doubt(f'"{call.name}" sets a variable that may change what commands do')
        assigned.append(name)
        at += 1
    if at == len(call.words):
        return READS_CODE if starts_shell else NOTHING
    if starts_shell and any("$" in word.text for word in call.words[at:] if word.is_known):
        # sudo -s escapes every sign in the words that it gives the shell, only this one not.
        call.explaining.doubt(f'"{call.name}" gives words with a "$" to a shell')
    return call.seen(at, assigned)


_SU = Options(
    flags="lmpfP",
    values="cgGsw",
    long_flags=names("login preserve-environment fast pty"),
    long_values=names("command session-command group supp-group shell whitelist-environment user"),
)
_RUNUSER = replace(_SU, values=_SU.values + "u")


def _su(call: Call) -> Ran:
    """Options may stand behind the name of the user; further words go to the shell."""
    options = _RUNUSER if call.name == "runuser" else _SU
    operands: list[ShellWord] = []
    at = 1
    scanned = Scanned(at)
    while at < len(call.words):
        more = scan(call.words, options, at)
        scanned.given += more.given
        at = more.at
        if at < len(call.words):
            operands.append(call.words[at])
            at += 1
    if options is _RUNUSER and scanned.has("u", "user"):
        return _runuser(call)
    if scanned.has("s", "shell"):
        call.explaining.doubt(f'"{call.name}" with a shell of its own choice')
    texts = scanned.values("c", "command", "session-command")
    if len(texts) == 1:
        return call.text(texts[0], is_explained=False)
    if operands and operands[0].text == "-":
        operands = operands[1:]
    if texts or len(operands) > 1:
        raise Unclear(1)
    return READS_CODE


def _runuser(call: Call) -> Ran:
    scanned = scan(call.words, _RUNUSER)
    return call.seen(scanned.at) if scanned.at < len(call.words) else READS_CODE


def _sg(call: Call) -> Ran:
    """sg GROUP -c TEXT; newgrp GROUP."""
    words = call.words[1:]
    if len(words) > 2 and words[-2].is_known and words[-2].text == "-c":
        return call.text(words[-1], is_explained=False)
    if len(words) > 1:
        raise Unclear(1)
    return READS_CODE


ACCOUNTS: dict[str, Runner] = {
    "sudo": _sudo,
    "doas": _doas,
    "su": _su,
    "runuser": _su,
    "sg": _sg,
    "newgrp": _sg,
}
