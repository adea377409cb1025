"""What an exec does, as far as its commands can be seen: all of them in one row, and what stays out of sight.

Called by `policy.ssh.evaluate`. No rules here: the same facts give the same sight under every document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from policy.facts import Redirect, SimpleCommand, SshFacts, Word
from policy.shown_text import shown
from policy.ssh.wording import command_text
from policy.ssh_rules.commands import base_name

MAX_COMMANDS = 2_000

_SHELLS = frozenset(
    {
        "sh",
        "ash",
        "bash",
        "csh",
        "dash",
        "fish",
        "ksh",
        "mksh",
        "pwsh",
        "rbash",
        "rksh",
        "tcsh",
        "xonsh",
        "yash",
        "zsh",
    }
)
# These start a shell, or run a command for another account, in a session of its own...: `inner` tells which.
_STARTERS = frozenset(
    {
        "abduco",
        "byobu",
        "doas",
        "dtach",
        "login",
        "newgrp",
        "runuser",
        "screen",
        "script",
        "sg",
        "su",
        "sudo",
        "tmux",
        "zellij",
    }
)
_WITH_A_VALUE = frozenset({"--init-file", "--rcfile"})


@dataclass(frozen=True, slots=True)
class Sight:
    """commands: every simple command, what each runs itself included. redirects: of all of them.

    shells: those that start a shell, or may. unseen: why not everything is in `commands`. code: the commands that
    read further commands from their input. Both as texts for reasons.
    """

    commands: tuple[SimpleCommand, ...]
    redirects: tuple[Redirect, ...]
    shells: tuple[SimpleCommand, ...]
    unseen: tuple[str, ...]
    code: tuple[str, ...]


def sight_of(facts: SshFacts) -> Sight:
    commands = tuple(_all(facts.commands))
    unseen = [shown(text) for text in facts.unresolved]
    if len(commands) > MAX_COMMANDS:
        commands = commands[:MAX_COMMANDS]
        unseen.append(f"it has more than {MAX_COMMANDS:,} commands")
    if not commands and not unseen:
        unseen.append("there is no command in it")
    nameless = [command for command in commands if command.words and not command.words[0].is_known]
    unseen.extend(f"`{shown(command.words[0].text)}` may be any command" for command in nameless)
    reading = [command for command in commands if command.reads_code]
    return Sight(
        commands=commands,
        redirects=tuple(redirect for command in commands for redirect in command.redirects),
        shells=tuple(command for command in commands if _starts_shell(command)),
        unseen=tuple(dict.fromkeys(unseen)),
        code=tuple(
            dict.fromkeys(f"`{command_text(command)}` takes commands from its input" for command in reading)
        ),
    )


def _all(commands: Iterable[SimpleCommand]) -> Iterator[SimpleCommand]:
    """Every command and what it runs itself, in order; one more than MAX_COMMANDS at most."""
    pending = list(reversed(tuple(commands)))
    count = 0
    while pending and count <= MAX_COMMANDS:
        command = pending.pop()
        count += 1
        yield command
        pending.extend(reversed(command.inner))


def _starts_shell(command: SimpleCommand) -> bool:
    """Does it give the caller a shell, or may it? Shells without a script or with `-i` or `-s`, and what starts
    them."""
    if command.reads_code:
        return True
    if not command.words:
        return False
    first, *rest = command.words
    if not first.is_known:
        return True
    name = base_name(first.text).lower()
    if name in _STARTERS:
        return not command.inner
    return name in _SHELLS and _is_interactive(rest)


def _is_interactive(words: Sequence[Word]) -> bool:
    """Do the words behind the name of a shell leave it without a script?"""
    is_value = False
    for word in words:
        if not word.is_known:
            return True  # it may be `-i`, or nothing
        if is_value:
            is_value = False
            continue
        text = word.text
        if text[:1] not in ("-", "+"):
            return False
        letters = "" if text.startswith("--") else text[1:]
        if text == "--interactive" or "i" in letters or "s" in letters:
            return True
        if "c" in letters:
            return False
        is_value = text in _WITH_A_VALUE or "o" in letters.lower()
    return True
