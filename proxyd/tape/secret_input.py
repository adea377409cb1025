"""Commands that are known to read a secret from their input: what such a command is given stays off the tape.

Pure. Asked by `ssh_taping` for commands without a terminal; a terminal's input is judged by its echo
(`echo_guard`). This is a list of what is known, not a proof: a script of one's own that reads a password
looks like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policy.facts import SimpleCommand, SshFacts

READERS: Final = frozenset(
    {
        "chgpasswd",
        "chpasswd",
        "cryptsetup",
        "doas",
        "gpasswd",
        "htpasswd",
        "kinit",
        "kpasswd",
        "ldappasswd",
        "mkpasswd",
        "newusers",
        "passwd",
        "saslpasswd2",
        "smbpasswd",
        "ssh-add",
        "ssh-keygen",
        "sshpass",
        "su",
        "systemd-ask-password",
        "vault",
    }
)
_TELLING: Final = ("passw", "passphrase", "secret", "token", "credential")
"""Parts of a word that tell of a secret: `docker login --password-stdin`, `gh auth login --with-token`."""


def reads_secret(facts: SshFacts) -> bool:
    """Might the command read a password from its input? When its text cannot be seen through, it might."""
    if facts.unresolved:
        return True
    return any(_is_reader(command) for command in _all(facts.commands))


def _all(commands: tuple[SimpleCommand, ...]) -> Iterator[SimpleCommand]:
    waiting = list(commands)
    while waiting:
        command = waiting.pop()
        waiting += command.inner
        yield command


def _is_reader(command: SimpleCommand) -> bool:
    if not command.words:
        return False
    first = command.words[0]
    if not first.is_known:
        return True
    name = first.text.rpartition("/")[2]
    if name in READERS or (name == "sudo" and any(_is_from_input(word.text) for word in command.words[1:])):
        return True
    return any(part in word.text.lower() for word in command.words for part in _TELLING)


def _is_from_input(option: str) -> bool:
    """`sudo -S`, `sudo -HSn`, `sudo --stdin`."""
    return option == "--stdin" or (option.startswith("-") and not option.startswith("--") and "S" in option)
