"""Verdicts on SQL under conditions: shared by who has the same roles, but not where a condition reads the subject."""

from __future__ import annotations

from dataclasses import dataclass

from policy.document import PolicyDocument, load_document
from policy.facts import Subject, Target
from policy.sql.state import SessionState
from proxyd.gates.postgres.judge import Judge, VerdictCache
from tests.proxyd.gates.postgres.playbook import shop

HEAD = """\
version: 1
roles: {analyst: {groups: [data]}}
access:
  - {name: read, roles: [analyst], targets: {names: ["*"]}, logins: [reader]}
rules:
  - name: read
    effect: allow
    postgres: {commands: [select], relations: ["shop.*"]}
"""
TARGET = Target("shop", "postgres")
ALICE, BOB = Subject("alice", ("data",)), Subject("bob", ("data",))
AGENT = Subject("alice", ("data",), {"kind": "agent"})
TEXT = "select id from shop.customers"


@dataclass(frozen=True)
class InForce:
    document: PolicyDocument
    serial: int = 1


def judges(when: str, *subjects: Subject) -> list[Judge]:
    text = f'{HEAD}    when: "{when}"\n' if when else HEAD
    in_force = InForce(load_document(text, "p.yaml"))
    cache = VerdictCache()
    made = []
    for subject in subjects:
        judge = Judge(subject, TARGET, "shop", "reader", cache)
        judge.use(in_force, shop(), SessionState(search_path=("shop",)))
        made.append(judge)
    return made


def test_a_verdict_for_one_subject_is_none_for_another_of_the_same_roles() -> None:
    for when in ("subject.name == 'alice'", "!(has(subject.claims.kind))"):
        others = (BOB,) if "name" in when else (AGENT,)
        alice, *rest = judges(when, ALICE, *others)
        for _ in range(2):
            assert alice.judge(TEXT).denial is None
            assert all(other.judge(TEXT).denial is not None for other in rest)
        assert alice.judge(TEXT) is alice.judge(TEXT)


def test_verdicts_are_shared_where_no_condition_reads_the_subject() -> None:
    for when in ("", "sql.command == 'select'", "login == 'reader'"):
        alice, bob = judges(when, ALICE, BOB)
        assert alice.judge(TEXT).denial is None
        assert bob.judge(TEXT) is alice.judge(TEXT)


def test_the_shape_of_a_text_is_enough_for_conditions() -> None:
    (alice,) = judges("sql.relations == ['shop.customers']", ALICE)
    assert alice.judge(f"{TEXT} where id = 1").denial is None
    assert alice.judge(f"{TEXT} where id = 2") is alice.judge(f"{TEXT} where id = 1")
    denial = alice.judge("select id from shop.orders").denial
    assert denial is not None
    assert "under a condition, which does not hold" in f"{denial.detail} {denial.message}"
