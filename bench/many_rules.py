"""What 10,000 rules cost beside 10, for the three doors: one judgement of what was never seen before.

    .venv/bin/python -m bench.many_rules [--json]

The rules do not concern the operation; a tenth of them has the shape of the one that does (the same schema and another
table, the same command and other words, the same beginning of a path). Verdicts are not cached, and every operation
names something new, so that nothing is remembered from the one before. Medians, in turns, so that both see the same
machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from policy.decision import Decision, Effect
from policy.document import PolicyDocument, load_document
from policy.evaluate import judge_sql
from policy.facts import (
    ColumnName,
    ColumnUse,
    HttpFacts,
    Output,
    RelationAccess,
    SqlFacts,
    SshFacts,
    SshOperation,
    Subject,
    Target,
    Use,
)
from policy.http.evaluate import judge_http
from policy.shell.analyze import analyze_command
from policy.ssh.evaluate import judge_ssh

FEW, MANY = 10, 10_000
OPERATIONS = 2000
TARGET_RATIO = 1.5
SUBJECT = Subject("olga", ("ops",), {"kind": "agent"})
HEAD = """\
version: 1
roles: {ops: {groups: [ops]}, others: {groups: [others]}}
access:
  - {name: all, roles: [ops, others], targets: {names: ["*"]}, logins: ["*"]}
rules:
"""


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds of one judgement."""

    few: float
    many: float

    @property
    def ratio(self) -> float:
        return self.many / self.few


def _select(number: int) -> SqlFacts:
    column = ColumnName("shop", f"table{number}", "id")
    access = RelationAccess("select", "shop", column.relation, columns=("id",))
    uses = (ColumnUse(column, Use.OUTPUT),)
    return SqlFacts("select", ("select",), (access,), uses=uses, outputs=(Output("id", column),))


def _update(number: int) -> SqlFacts:
    column = ColumnName("shop", f"table{number}", "total")
    access = RelationAccess("update", "shop", column.relation, columns=("total",))
    return SqlFacts("update", ("update",), (access,), uses=(ColumnUse(column, Use.ASSIGN),))


def _create(number: int) -> SqlFacts:
    return SqlFacts("create_schema", ("create_schema",))


def _exec(number: int) -> SshFacts:
    command = f"work file{number} --now"
    return SshFacts(SshOperation.EXEC, command, analyze_command(command.encode()).commands)


def _read(number: int) -> SshFacts:
    return SshFacts(SshOperation.FILE, verb="read", path=f"/srv/data/set{number}/a.csv")


def _get(number: int) -> HttpFacts:
    return HttpFacts("GET", "https", "api.internal", f"/v1/orders/{number}")


def _post(number: int) -> HttpFacts:
    query = (("page", str(number)), ("sort", "name"))
    return HttpFacts("POST", "https", "api.internal", f"/v1/orders/{number}/lines", query=query)


POSTGRES, SSH, HTTP = (Target(name, name, {"env": "prod"}) for name in ("postgres", "ssh", "http"))


class Kind(NamedTuple):
    """One kind of operation. concerning: the section of the rule that allows it. near, far: those of rules that are
    not about it; near ones have its shape."""

    target: Target
    concerning: str
    near: str
    far: str
    facts: Callable[[int], SqlFacts | SshFacts | HttpFacts]


# The number of a rule stands where `#` does.
WAYS: dict[str, Kind] = {
    "SQL select": Kind(
        POSTGRES,
        'postgres: {commands: [select], relations: ["shop.*"]}',
        'postgres: {commands: [select], relations: ["shop.special#"], columns: [secret]}',
        'postgres: {relations: ["schema#.*"]}',
        _select,
    ),
    "SQL update under conditions": Kind(
        POSTGRES,
        'postgres: {commands: [update], relations: ["shop.*"]}, when: "!sql.unbounded"',
        'postgres: {commands: [update], relations: ["shop.special#"]}, when: "subject.name == \'user#\'"',
        'postgres: {relations: ["schema#.*"]}, when: "subject.name == \'user#\'"',
        _update,
    ),
    "SQL create schema": Kind(
        POSTGRES,
        "postgres: {commands: [create_schema]}",
        'postgres: {commands: [create_table], relations: ["shop.special#"]}',
        'postgres: {relations: ["schema#.*"]}',
        _create,
    ),
    "SSH exec": Kind(
        SSH,
        'ssh: {exec: ["work *"]}',
        'ssh: {exec: ["work special# *"]}',
        'ssh: {exec: ["tool# *"]}',
        _exec,
    ),
    "SSH sftp": Kind(
        SSH,
        'ssh: {files: [read], paths: ["/srv/data/**"]}',
        'ssh: {files: [read], paths: ["/srv/data/special#/**"]}',
        'ssh: {paths: ["/srv/other#/**"]}',
        _read,
    ),
    "HTTP get": Kind(
        HTTP,
        'http: {methods: [GET], paths: ["/v1/orders/{id}"]}',
        'http: {methods: [GET], paths: ["/v1/orders/{id}/special#"]}',
        'http: {paths: ["/v2/things#/**"]}',
        _get,
    ),
    "HTTP post with a query": Kind(
        HTTP,
        'http: {methods: [POST], paths: ["/v1/orders/{id}/lines"], query: {sort: [name]}}, '
        'when: "size(http.query) < 9"',
        'http: {methods: [POST], paths: ["/v1/orders/{id}/special#"], query: {sort: [secret]}}, '
        "when: \"subject.name == 'user#'\"",
        'http: {paths: ["/v2/things#/**"]}',
        _post,
    ),
}


def measure(operations: int = OPERATIONS, many: int = MANY) -> dict[str, Times]:
    """The times by the name of the way."""
    return {name: _measure_one(kind, operations, many) for name, kind in WAYS.items()}


def ratios(found: dict[str, Times]) -> dict[str, float]:
    return {name: times.ratio for name, times in found.items()}


def policy_of(kind: Kind, rules: int) -> PolicyDocument:
    return load_document(HEAD + "".join(_lines(kind, rules)), "many.yaml")


def _lines(kind: Kind, rules: int) -> Iterator[str]:
    yield f"  - {{name: it, effect: allow, {kind.concerning}}}\n"
    for number in range(1, rules):
        section = kind.near if number % 10 == 1 else kind.far
        effect = ("allow", "deny", "hold")[number % 3]
        approval = ", approval: {approvers: [boss]}" if effect == "hold" else ""
        yield f"  - {{name: r{number}, effect: {effect}, {section.replace('#', str(number))}{approval}}}\n"


def _measure_one(kind: Kind, operations: int, many: int) -> Times:
    documents = policy_of(kind, FEW), policy_of(kind, many)
    times: tuple[list[float], list[float]] = ([], [])
    for document in documents:  # the views are made with the first judgement
        judged(kind, document, -1)
    for number in range(operations):
        for document, found in zip(documents, times, strict=True):
            facts = kind.facts(number)
            begin = time.perf_counter_ns()
            decision = decide(kind, document, facts)
            found.append((time.perf_counter_ns() - begin) / 1000)
            if decision.effect is not Effect.ALLOW:
                raise RuntimeError(f"it was to be allowed: {decision.reasons}")
    return Times(statistics.median(times[0]), statistics.median(times[1]))


def judged(kind: Kind, document: PolicyDocument, number: int) -> Decision:
    return decide(kind, document, kind.facts(number))


def decide(kind: Kind, document: PolicyDocument, facts: SqlFacts | SshFacts | HttpFacts) -> Decision:
    return judge(document, SUBJECT, kind.target, facts)


def judge(
    document: PolicyDocument, subject: Subject, target: Target, facts: SqlFacts | SshFacts | HttpFacts
) -> Decision:
    match facts:
        case SqlFacts():
            return judge_sql(document, subject, target, "app", facts)
        case SshFacts():
            return judge_ssh(document, subject, target, "app", facts)
        case HttpFacts():
            return judge_http(document, subject, target, "app", facts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.many_rules", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--operations", type=int, default=OPERATIONS)
    options = parser.parse_args()
    found = measure(options.operations)
    if options.json:
        shown = {name: {"few": times.few, "many": times.many} for name, times in found.items()}
        print(json.dumps(shown, indent=2))
        return 0
    print(
        f"{'one judgement':28} {'10 rules':>12} {'10,000 rules':>13} {'ratio':>7}   (asked for: {TARGET_RATIO})"
    )
    for name, times in found.items():
        print(f"{name:28} {times.few:9.1f} us {times.many:10.1f} us {times.ratio:7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
