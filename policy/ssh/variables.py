"""What a `when` over an SSH operation can read: `ssh`, `subject`, `target` and `login`, as plain values.

What is not known is left out, so that a condition that reads it fails, which refuses: commands that cannot all be seen,
a path that is not normal, an address that may be another. Called by `policy.ssh.evaluate`.
"""

from __future__ import annotations

from policy.conditions.known import Known, who_and_where
from policy.facts import SimpleCommand, SshFacts, SshOperation, Subject, Target
from policy.ssh.sight import sight_of
from policy.ssh_rules.addresses import endpoint
from policy.ssh_rules.commands import base_name
from policy.ssh_rules.paths import normal_parts


def ssh_variables(facts: SshFacts, subject: Subject, target: Target, login: str) -> Known:
    return {**who_and_where(subject, target, login), "ssh": _operation(facts)}


def _operation(facts: SshFacts) -> Known:
    known: Known = {"operation": facts.operation.value, "has_pty": facts.has_pty}
    match facts.operation:
        case SshOperation.EXEC:
            known["command"] = facts.command
            commands = _commands(facts)
            if commands is not None:
                known["commands"] = commands
        case SshOperation.SUBSYSTEM:
            known["command"] = facts.command
        case SshOperation.FILE:
            known["verb"] = facts.verb
            for name, path in (("path", facts.path), ("other_path", facts.other_path)):
                if normal_parts(path) is not None:
                    known[name] = path
        case SshOperation.FORWARD | SshOperation.LISTEN:
            known.update(_address(facts))
    return known


def _commands(facts: SshFacts) -> list[Known] | None:
    """Every command of the text, what each runs itself included; None when not all of them can be seen."""
    sight = sight_of(facts)
    if sight.unseen or sight.code or not all(_is_known(command) for command in sight.commands):
        return None
    return [
        {
            "name": base_name(command.words[0].text) if command.words else "",
            "words": [word.text for word in command.words],
        }
        for command in sight.commands
    ]


def _is_known(command: SimpleCommand) -> bool:
    return all(word.is_known for word in command.words)


def _address(facts: SshFacts) -> Known:
    where = endpoint(facts)
    if where.is_socket:
        return {} if where.socket is None else {"path": facts.path}
    known: Known = {}
    if where.is_certain and where.is_sound and not where.may_be_any and not where.is_own:
        known["host"] = where.host
    if not where.may_be_any_port:
        known["port"] = where.port
    return known
