"""SSH operations in words, for reasons: short, and without characters that a terminal would obey.

What a client sends stands in these texts, and they reach terminals, logs and tapes. Called by `policy.ssh.evaluate`,
`policy.ssh.coverage` and `proxyd explain`.
"""

from __future__ import annotations

from policy.facts import Redirect, SimpleCommand, SshFacts, SshOperation
from policy.shown_text import LONGEST_SHOWN, shown

ASK = "ask the owners of the policy for a rule that allows it"


def described(facts: SshFacts) -> str:
    """The operation as a noun, as in "subsystem `netconf`"."""
    match facts.operation:
        case SshOperation.SHELL:
            return "an interactive shell"
        case SshOperation.EXEC:
            return f"exec of `{shown(facts.command)}`"
        case SshOperation.SUBSYSTEM:
            return f"subsystem `{shown(facts.command)}`"
        case SshOperation.FILE:
            link = {"rename": " to ", "link": " pointing to "}.get(facts.verb, " with ")
            other = f"{link}{shown(facts.other_path)}" if facts.other_path else ""
            return f"`{shown(facts.verb)}` of {shown(facts.path)}{other}"
        case SshOperation.FORWARD:
            return f"forwarding to {_address(facts)}"
        case SshOperation.LISTEN:
            return f"listening on {_address(facts)}"
        case SshOperation.AGENT:
            return "forwarding of the key agent"
        case SshOperation.X11:
            return "forwarding of the display (X11)"


def _address(facts: SshFacts) -> str:
    if facts.path:
        return f"the socket {shown(facts.path)}"
    if facts.host in ("", "*"):
        host = "every address" if facts.operation is SshOperation.LISTEN else "no host"
        port = f", port {facts.port}"
    else:
        text = shown(facts.host)
        host = f"[{text}]" if ":" in text else text
        port = f":{facts.port}"
    return f"{host}{port}" if facts.port else f"{host}, a port of the target's choice"


def command_text(command: SimpleCommand) -> str:
    """The words of one command, cut; what stands around it where it has none."""
    length = 0
    words: list[str] = []
    for word in command.words:
        words.append(word.text)
        length += len(word.text)
        if length > LONGEST_SHOWN:
            break
    if not words:
        words = [f"{name}=" for name in command.assignments[:LONGEST_SHOWN]]
        words.extend(redirect_text(redirect) for redirect in command.redirects[:LONGEST_SHOWN])
    return shown(" ".join(words))


def redirect_text(redirect: Redirect) -> str:
    return shown(f"{redirect.operator} {redirect.word.text}")
