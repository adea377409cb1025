"""What conditions can read of a caller and a target, and of an SQL statement, as plain values.

What is not known is left out, so that a condition that reads it fails, which refuses. The names are those of
`policy.conditions.names`; for the other doors see `policy.ssh.variables` and `policy.http_rules.variables`. Called by
these and by `policy.evaluate`.
"""

from __future__ import annotations

from policy.facts import SqlFacts, Subject, Target
from policy.rules import UNKNOWN_SCHEMA

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
