"""Which commands speak a protocol of their own over their output, so that not a byte of it may change.

Called by `SessionRequests`. Must never call a command a transfer that could show text of the client's choosing.
"""

from __future__ import annotations

import re

from policy.facts import SimpleCommand, SshFacts, SshOperation

SCP_OPTIONS = re.compile("-[tfrpdvq]+")  # those that scp gives its other side, alone or run together
_GIT = frozenset({"git-upload-pack", "git-receive-pack", "git-upload-archive"})
_GIT_WORDS = frozenset({"upload-pack", "receive-pack", "upload-archive"})
_SFTP_SERVERS = frozenset({"sftp-server", "internal-sftp"})
# Where a program of such a name is that program. From elsewhere it may be anything that somebody has put there.
_PLACES = frozenset(
    {
        "",
        "/bin",
        "/usr/bin",
        "/usr/local/bin",
        "/usr/lib",
        "/usr/lib/git-core",
        "/usr/lib/openssh",
        "/usr/lib/ssh",
        "/usr/libexec",
        "/usr/libexec/git-core",
        "/usr/libexec/openssh",
    }
)


def scp_direction(facts: SshFacts) -> str | None:
    """ "-t" when the command is scp that takes files, "-f" when it sends them.

    Only with options that the far end of an scp gets: with others a "-f" may be a file, or the value of an option.
    """
    words = _words(facts)
    if not words or words[0] != "scp" or _is_more(facts.commands[0]):
        return None
    letters = ""
    for word in words[1:]:
        if word == "--" or not word.startswith("-"):
            break
        if SCP_OPTIONS.fullmatch(word) is None:
            return None
        letters += word[1:]
    return "-t" if "t" in letters else "-f" if "f" in letters else None


def is_transfer(facts: SshFacts) -> bool:
    """Is it one command, seen whole, that answers its client in the protocol of scp, sftp, rsync or git?"""
    if facts.operation is SshOperation.SUBSYSTEM:
        return facts.command == "sftp"
    if scp_direction(facts) is not None:
        return True
    words = _words(facts)
    if not words or any(not word.is_known for word in facts.commands[0].words) or _is_more(facts.commands[0]):
        return False
    match words:
        case ["rsync", "--server", *_]:
            return True
        case ["git", word, *_] if word in _GIT_WORDS:
            return True
        case [name, *_]:
            return name in _GIT or name in _SFTP_SERVERS
        case _:
            return False


def _is_more(command: SimpleCommand) -> bool:
    return bool(command.assignments or command.redirects or command.inner)


def _words(facts: SshFacts) -> list[str]:
    """The words of the one command, its name without the directory; none where there is more to it, or elsewhere."""
    if facts.unresolved or len(facts.commands) != 1 or facts.has_pty:
        return []
    words = facts.commands[0].words
    if not words or not words[0].is_known:
        return []
    directory, _, name = words[0].text.rpartition("/")
    if directory not in _PLACES or words[0].text.startswith("/") != bool(directory):
        return []
    return [name, *(word.text if word.is_known else "" for word in words[1:])]
