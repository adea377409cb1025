"""Operations as the SSH gate judges them: by the credential, by the session's limit, by the policy in force."""

from __future__ import annotations

import pytest

from policy.decision import Decision, Effect, SessionLimits
from policy.document import PolicyDocument
from policy.facts import SshFacts, SshOperation
from proxyd.gates.refusals import refusal_text
from proxyd.gates.ssh.judge import Permits, SshJudge, exec_facts
from tests.proxyd.gates.ssh.playbook import NOTHING, POLICY, SUBJECT, WEB1, WITHOUT_WAYS, document

SHELL = SshFacts(SshOperation.SHELL)
FORWARD = SshFacts(SshOperation.FORWARD, host="db.internal", port=5432)
LISTEN = SshFacts(SshOperation.LISTEN, host="localhost", port=8080)
AGENT = SshFacts(SshOperation.AGENT)
X11 = SshFacts(SshOperation.X11)
FILE = SshFacts(SshOperation.FILE, verb="read", path="/srv/x")

EVERYTHING = Permits()


class Bench:
    """A judge whose policy can be swapped; `blamed` are the rules that have denied."""

    def __init__(self, policy: str = POLICY, permits: Permits = EVERYTHING, limit: int | None = None) -> None:
        self.document: PolicyDocument = document(policy)
        self.blamed: list[str] = []
        limits = SessionLimits(statements=limit)
        self.judge = SshJudge(
            SUBJECT, WEB1, "deploy", lambda: self.document, permits, limits, self.blamed.append
        )

    def decide(self, facts: SshFacts) -> Decision:
        return self.judge.judge(facts)


@pytest.mark.parametrize("facts", [SHELL, FORWARD, LISTEN, AGENT, X11, FILE], ids=lambda f: f.operation.value)
def test_a_decision_is_the_policys(facts: SshFacts) -> None:
    assert Bench().decide(facts).effect is Effect.ALLOW
    decision = Bench(NOTHING).decide(facts)
    assert decision.effect is Effect.DENY
    assert decision.policy_version == document(NOTHING).version


@pytest.mark.parametrize(
    ("facts", "permits", "what"),
    [
        (FORWARD, Permits(forwarding=False), "port forwarding"),
        (LISTEN, Permits(forwarding=False), "port forwarding"),
        (AGENT, Permits(agent=False), "agent forwarding"),
        (X11, Permits(x11=False), "X11 forwarding"),
    ],
)
def test_what_a_credential_does_not_permit_no_policy_allows(
    facts: SshFacts, permits: Permits, what: str
) -> None:
    bench = Bench(permits=permits)
    decision = bench.decide(facts)
    assert decision.effect is Effect.DENY
    assert (
        refusal_text(decision) == f"proxyd: your certificate does not permit {what}. Ask for one that does."
    )
    assert decision.policy_version == bench.document.version
    assert bench.decide(SHELL).effect is Effect.ALLOW


def test_counts() -> None:
    bench = Bench()
    for command in (b"ls /", b"rm -r /", b"cat /etc/shadow", b"reboot now"):
        bench.decide(exec_facts(command, has_pty=False))
    counts = bench.judge.counts
    assert (counts.allowed, counts.denied, counts.held) == (1, 2, 1)
    assert bench.blamed == ["", "no-secrets"]


def test_operations_are_limited_and_files_are_not_counted() -> None:
    bench = Bench(limit=2)
    for _ in range(5):
        assert bench.decide(FILE).effect is Effect.ALLOW
    assert bench.decide(SHELL).effect is Effect.ALLOW
    # What is denied has been asked too.
    assert bench.decide(exec_facts(b"rm -r /", has_pty=False)).effect is Effect.DENY
    decision = bench.decide(SHELL)
    assert decision.effect is Effect.DENY
    assert refusal_text(decision) == "proxyd: this session has used its 2 operations. Connect again."
    assert bench.decide(FILE).effect is Effect.ALLOW


def test_a_review_counts_nothing() -> None:
    bench = Bench(limit=1)
    assert bench.decide(LISTEN).effect is Effect.ALLOW
    for _ in range(3):
        assert bench.judge.review(LISTEN).effect is Effect.ALLOW
    bench.document = document(NOTHING)
    assert bench.judge.review(LISTEN).effect is Effect.DENY
    assert (bench.judge.counts.allowed, bench.judge.counts.denied, bench.blamed) == (1, 0, [])
    assert Bench(permits=Permits(agent=False)).judge.review(AGENT).effect is Effect.DENY


@pytest.mark.parametrize("denied", ["db.internal:5432", "web1.internal:22", "web1:*"])
def test_a_rule_about_one_name_of_a_place_means_it_under_each(denied: str) -> None:
    rule = f'  - {{name: closed, effect: deny, ssh: {{forward: ["{denied}"]}}}}\n'
    known = document(POLICY + rule)
    places = [("db.internal", 5432), ("web1.internal", 22), ("web1", 22)]
    judge = SshJudge(SUBJECT, WEB1, "deploy", lambda: known, known_as=places)
    decision = judge.judge(FORWARD)
    assert (decision.effect, decision.reasons[0].rule) == (Effect.DENY, "closed")
    assert judge.judge(SHELL).effect is Effect.ALLOW
    # Only what denies spreads: an allow rule is about the name that it lists.
    known = document(POLICY)
    assert judge.judge(FORWARD).effect is Effect.ALLOW
    other = SshFacts(SshOperation.FORWARD, host="web1", port=22)
    assert judge.judge(other).effect is Effect.DENY


def test_the_policy_is_asked_anew_each_time() -> None:
    bench = Bench()
    assert bench.judge.depends_on_paths
    assert bench.decide(AGENT).effect is Effect.ALLOW
    bench.document = document(WITHOUT_WAYS)
    assert bench.decide(AGENT).effect is Effect.DENY
    bench.document = document(NOTHING)
    assert not bench.judge.depends_on_paths


@pytest.mark.parametrize("command", [b"", b"\xff\xfe", b"ls\0-l", b"\x1b]0;x\x07", "ls \N{SNOWMAN}".encode()])
def test_odd_bytes_of_a_command_stay_what_they_are(command: bytes) -> None:
    facts = exec_facts(command, has_pty=True)
    assert facts.command.encode(errors="surrogateescape") == command
    assert facts.has_pty
    assert refusal_text(Bench().decide(facts)).isprintable()
