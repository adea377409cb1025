"""The command text of an SSH exec, taken apart into simple commands. Pure: text in, facts out.

Sound for login shells of the Bourne family (dash, bash, zsh, ksh, busybox): where `unresolved` is empty, every program
that such a shell starts because of the text is named in `commands`, those in substitutions, here-documents and texts
for other shells included, each with the words it is given (words that are not known stand for any). What the target
itself brings along is not seen: its start-up files, aliases and functions set there, the content of scripts. Shells of
other families (fish, csh) read quotes differently, and are no login shells for accounts whose commands policy judges.

`unresolved` says why that does not hold. Then `commands` has what could be seen, and only a policy that allows anything
may allow the text. A name that is made at run time is such a reason too: it could be that of a shell.

Called by the SSH gate for each exec, before any of it is forwarded, and by the console to judge again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policy.facts import SimpleCommand
from policy.shell.agreement import read_commands
from policy.shell.commands import RawCommand
from policy.shell.explain import Explainer
from policy.shell.screen import screen


@dataclass(frozen=True, slots=True)
class ShellAnalysis:
    """The commands in the order in which they stand; why there may be others, empty if there are none."""

    commands: tuple[SimpleCommand, ...]
    unresolved: tuple[str, ...]


def analyze_command(text: str | bytes) -> ShellAnalysis:
    """What a shell would run that is given `text` with -c. Never raises; the effort is bounded."""
    explainer = Explainer(_read)
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    commands = explainer.commands(data)
    return ShellAnalysis(commands, tuple(explainer.doubts))


def _read(data: bytes, is_compared: bool) -> tuple[Sequence[RawCommand], Sequence[str]]:
    doubts = screen(data)
    if doubts.is_too_large:
        return (), doubts.reasons
    commands, more = read_commands(data, is_compared=is_compared)
    return commands, (*doubts.reasons, *more)
