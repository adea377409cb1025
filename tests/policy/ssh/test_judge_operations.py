"""Shells, subsystems, agent and display; who is asked, and what is looked at again each time."""

from __future__ import annotations

import pytest

from policy.decision import Effect
from policy.document import load_document
from policy.evaluate import admit, refuse_admission
from policy.facts import SshFacts, SshOperation, Subject, Target
from policy.ssh.evaluate import judge_ssh, may_reach
from tests.policy.ssh.operations import (
    AGENT,
    GUEST,
    HEAD,
    OPS,
    SHELL,
    WEB,
    X11,
    A,
    D,
    H,
    document,
    file,
    forward,
    judged,
    listen,
    run,
    subsystem,
    verdict,
)

EVERY = [SHELL, AGENT, X11, run("ls"), subsystem("sftp"), subsystem("netconf"), file("read", "/x"),
         forward("db:1"), forward("unix:/x"), listen("db:1"), listen("unix:/x")]  # fmt: skip


@pytest.mark.parametrize("facts", EVERY, ids=lambda facts: facts.operation.value)
def test_silence_is_deny(facts: SshFacts) -> None:
    decision = judged(facts)
    assert decision.effect is D
    assert decision.reasons[0].rule == ""
    assert decision.reasons[0].message.startswith("no rule allows ")
    assert decision.reasons[0].hint
    assert decision.policy_version == document().version


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        (SHELL, "shell: true"),
        (AGENT, "agent: true"),
        (X11, "x11: true"),
        (run("ls"), 'exec: ["ls"]'),
        (subsystem("netconf"), "subsystems: [netconf]"),
        (file("read", "/x"), "files: [read]"),
        (file("read", "/x"), "paths: [/x]"),
        (forward("db:1"), 'forward: ["db:1"]'),
        (listen("db:1"), 'listen: ["db:1"]'),
    ],
)
def test_each_key_is_about_one_operation(facts: SshFacts, key: str) -> None:
    assert verdict(facts, f"allow {key}") is A
    assert verdict(facts, f"hold {key}") is H
    allowed = f"allow {key}, {'x11' if 'agent' in key else 'agent'}: true"
    assert verdict(facts, allowed, f"hold {key}") is H
    assert verdict(facts, allowed, f"deny {key}") is D
    assert verdict(facts, allowed, f"hold {key}", f"deny {key}") is D
    for other in EVERY:
        if other.operation is not facts.operation and not (other.command == "sftp" and facts.verb):
            assert verdict(other, f"allow {key}") is D
    others = [each for each in ("shell: true", "agent: true", "x11: true") if each != key]
    assert verdict(facts, f"allow {key}", *(f"deny {other}" for other in others)) is A


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("netconf", "netconf", A),
        ("net*", "netconf", A),
        ("*", "anything at all", A),
        ("netconf", "Netconf", D),
        ("netconf", "netconf2", D),
        ("netconf", "x" * 1000, D),
        ("x*", "x" * 1000, A),
    ],
)
def test_subsystems(pattern: str, name: str, expected: Effect) -> None:
    assert verdict(subsystem(name), f'allow subsystems: ["{pattern}"]') is expected


def test_a_terminal_makes_no_difference_to_a_command() -> None:
    assert verdict(run("ls", has_pty=True), 'allow exec: ["ls"]', "deny shell: true") is A


def test_a_message_of_the_rule_is_what_the_client_is_told() -> None:
    text = HEAD + "rules:\n  - {name: no, effect: deny, message: Not here., ssh: {shell: true}}\n"
    (reason, _) = judge_ssh(load_document(text, "p.yaml"), OPS, WEB, "deploy", SHELL).reasons
    assert (reason.rule, reason.message) == ("no", "Not here.")


def test_every_reason_is_told() -> None:
    decision = judged(SHELL, "deny shell: true", "deny shell: true, agent: true")
    assert [reason.rule for reason in decision.reasons] == ["deny-0", "deny-1", ""]


RULES = """\
rules:
  - {name: for-ops, effect: allow, roles: [ops], ssh: {shell: true}}
  - {name: in-test, effect: allow, targets: {labels: {env: test}}, ssh: {agent: true}}
  - {name: both, effect: allow, ssh: {x11: true}, postgres: {commands: [select]}}
"""


@pytest.mark.parametrize(
    ("facts", "subject", "target", "login", "expected"),
    [
        (SHELL, OPS, WEB, "deploy", A),
        (SHELL, GUEST, WEB, "deploy", D),
        (SHELL, OPS, WEB, "root", D),
        (SHELL, OPS, Target("shop", "postgres"), "deploy", D),
        (SHELL, Subject("stranger"), WEB, "deploy", D),
        (AGENT, OPS, WEB, "deploy", D),
        (AGENT, OPS, Target("t", "ssh", {"env": "test"}), "deploy", A),
        (X11, GUEST, WEB, "deploy", A),
    ],
)
def test_roles_targets_and_logins(
    facts: SshFacts, subject: Subject, target: Target, login: str, expected: Effect
) -> None:
    assert judge_ssh(load_document(HEAD + RULES, "p.yaml"), subject, target, login, facts).effect is expected


def test_an_entry_with_a_grant_admits_nobody() -> None:
    text = HEAD.replace("logins: [deploy]", "logins: [deploy], grant: {approvers: [x], max: 1h}") + RULES
    policy = load_document(text, "p.yaml")
    decision = judge_ssh(policy, OPS, WEB, "deploy", SHELL)
    assert decision.effect is D
    assert decision.reasons == refuse_admission(policy, "ssh").reasons
    assert "LOGIN+TARGET" in decision.reasons[0].hint


def test_admission_is_told_in_the_words_of_the_door() -> None:
    policy = document()
    assert admit(policy, OPS, WEB, "root", 0.0) == refuse_admission(policy, "ssh")
    assert admit(policy, OPS, WEB, "deploy", 0.0).effect is A
    assert "database" in refuse_admission(policy).reasons[0].hint
    assert "Proxyd-Login" in refuse_admission(policy, "http").reasons[0].hint
    assert "names of target and login" in refuse_admission(policy, "mcp").reasons[0].hint


# --- the menu ---

MENU = """\
version: 1
roles:
  ops: {groups: [ops]}
  guest: {groups: [guests]}
access:
  - {name: any-login, roles: [ops], targets: {labels: {env: test}}, logins: ["*"]}
  - {name: web, roles: [ops, guest], targets: {names: ["web*"]}, logins: [deploy, nobody]}
  - {name: root, roles: [ops], targets: {names: ["*"]}, logins: [root], grant: {approvers: [x], max: 1h}}
"""
TARGETS = [
    (Target("web1", "ssh", {"env": "prod"}), ("root", "deploy")),
    (Target("web2", "ssh", {"env": "test"}), ("root", "deploy")),
    (Target("db1", "ssh", {"env": "prod"}), ("root",)),
    (Target("db2", "ssh", {"env": "test"}), ("root",)),
]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (OPS, [("web1", ("deploy",)), ("web2", ("root", "deploy")), ("db2", ("root",))]),
        (GUEST, [("web1", ("deploy",)), ("web2", ("deploy",))]),
        (Subject("stranger"), []),
    ],
)
def test_what_a_subject_may_reach(subject: Subject, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    policy = load_document(MENU, "p.yaml")
    assert [(target.name, logins) for target, logins in may_reach(policy, subject, TARGETS)] == expected
    for target, logins in may_reach(policy, subject, TARGETS):
        assert all(admit(policy, subject, target, login, 0.0).effect is A for login in logins)
    reachable = {
        (target.name, login) for target, logins in may_reach(policy, subject, TARGETS) for login in logins
    }
    for target, logins in TARGETS:
        for login in logins:
            admitted = admit(policy, subject, target, login, 0.0).effect is A
            assert admitted is ((target.name, login) in reachable)


def test_facts_with_nothing_in_them_are_denied() -> None:
    everything = (
        'allow exec: ["ls *"], subsystems: [a], files: [read], paths: [/a], forward: ["a:1"], listen: ["a:1"]'
    )
    for operation in SshOperation:
        assert verdict(SshFacts(operation), everything) is D
