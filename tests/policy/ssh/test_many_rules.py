"""Ten thousand rules: the work to judge one operation is that of ten, counted in calls and not in time."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from policy.document import PolicyDocument
from policy.facts import SshFacts
from policy.ssh.evaluate import judge_ssh
from tests.policy.ssh.operations import OPS, WEB, A, D, document, file, forward, listen, run, subsystem

FEW, MANY = 10, 10_000


def calls_of(work: Callable[[], object]) -> int:
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def judging(policy: PolicyDocument, facts: SshFacts) -> int:
    """Calls of one judgement, when the views are there."""
    return calls_of(lambda: judge_ssh(policy, OPS, WEB, "deploy", facts))


RULES: dict[str, Callable[[int], str]] = {
    "commands": lambda number: f'exec: ["tool{number} *"]',
    "words of one command": lambda number: f'exec: ["systemctl restart app{number}"]',
    "paths": lambda number: f'paths: ["/srv/www/site{number}/**"]',
    "verbs and paths": lambda number: f'files: [read], paths: ["/srv/http/site{number}/*"]',
    "hosts": lambda number: f'forward: ["db{number}.internal:5432"]',
    "ports": lambda number: f'forward: ["db.internal:{number + 1}"]',
    "ports of any host": lambda number: f'forward: ["*:{number + 10_000}"]',
    "sockets": lambda number: f'forward: ["unix:/run/app{number}/*.sock"]',
    "listeners": lambda number: f'listen: ["localhost:{number + 1}"]',
    "subsystems": lambda number: f"subsystems: [sub{number}]",
}
OPERATIONS = {
    "commands": run("tool0 x", "tool0"),
    "words of one command": run("systemctl restart app0"),
    "paths": file("write", "/srv/www/site0/a/b"),
    "verbs and paths": file("read", "/srv/http/site0/a"),
    "hosts": forward("db0.internal:5432"),
    "ports": forward("db.internal:1"),
    "ports of any host": forward("web.internal:10000"),
    "sockets": forward("unix:/run/app0/x.sock"),
    "listeners": listen("localhost:1"),
    "subsystems": subsystem("sub0"),
}


@pytest.mark.parametrize("effect", ["allow", "deny"])
def test_ten_thousand_rules_cost_what_ten_cost(effect: str) -> None:
    few, many = (
        document(
            *(f"{effect} {rule(number)}" for rule in RULES.values() for number in range(count // len(RULES)))
        )
        for count in (FEW, MANY)
    )
    assert (len(few.ssh_rules), len(many.ssh_rules)) == (FEW, MANY)
    for kind, facts in OPERATIONS.items():
        for policy in (few, many):
            assert judge_ssh(policy, OPS, WEB, "deploy", facts).effect is (A if effect == "allow" else D)
        assert judging(many, facts) <= judging(few, facts) * 1.5, kind
