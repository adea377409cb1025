"""What conditions can read of a caller, a target and an operation of PostgreSQL or SSH, as plain values.

What is not known is left out, so that a condition that reads it fails, which refuses. The names are those of
`policy.conditions.names`; HTTP has its own in `policy.http_rules.variables`. Called by who judges.
"""

from __future__ import annotations

from policy.facts import SimpleCommand, SqlFacts, SshFacts, SshOperation, Subject, Target
from policy.rules import UNKNOWN_SCHEMA
from policy.ssh.sight import sight_of
from policy.ssh_rules.addresses import endpoint
from policy.ssh_rules.commands import base_name
from policy.ssh_rules.paths import normal_parts

Known = dict[str, object]


def who_and_where(subject: Subject, target: Target, login: str) -> Known:
    return {
        "subject": {
            "name": subject.name,
            "groups": subject.groups,
            "claims": subject.claims,
            "method": subject.method,
        },
        "target": {"name": target.name, "protocol": target.protocol, "labels": target.labels},
        "login": login,
    }


def sql_variables(facts: SqlFacts, subject: Subject, target: Target, login: str) -> Known:
    return {**who_and_where(subject, target, login), "sql": _statement(facts)}


def _statement(facts: SqlFacts) -> Known:
    unbounded = any(not access.bounded for access in facts.accesses)
    known: Known = {"command": facts.command, "settings": facts.settings}
    if unbounded:
        known["unbounded"] = True
    if facts.unresolved:
        return known
    known["unbounded"] = unbounded
    known["commands"] = sorted(
        {facts.command, *facts.commands, *(access.command for access in facts.accesses)}
    )
    functions = sorted({*facts.functions, *facts.hidden_functions})
    if not any(name.startswith(UNKNOWN_SCHEMA) for name in functions):
        known["functions"] = functions
    if all(access.schema for access in facts.accesses):
        known["relations"] = sorted({f"{access.schema}.{access.name}" for access in facts.accesses})
        if all(access.columns is not None for access in facts.accesses):
            columns = {
                (access.schema, access.name, column)
                for access in facts.accesses
                for column in access.columns or ()
            }
            columns.update((use.column.schema, use.column.relation, use.column.column) for use in facts.uses)
            if all(all(parts) and parts[2] != "*" for parts in columns):
                known["columns"] = sorted(".".join(parts) for parts in columns)
    return known


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
