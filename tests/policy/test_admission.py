"""Roles and admission: who is whom, who gets in, and with which limits."""

from __future__ import annotations

import pytest

from policy.decision import Effect, SessionLimits
from policy.document import PolicyDocument, load_document
from policy.evaluate import admit, refuse_admission, roles_of
from policy.facts import Subject, Target

DOCUMENT = """\
version: 1
roles:
  analyst: {groups: [data, Data Team]}
  agent: {claims: {kind: agent, name: [robot, spiffe://corp/robot]}}
  dba: {groups: [dba], claims: {level: ["5", "6"]}}
access:
  - name: read
    roles: [analyst, agent]
    targets: {labels: {env: prod}, protocol: postgres}
    logins: [readonly]
    session: {max: 8h, idle: 30m, statements: 5000}
  - name: read-briefly
    roles: [analyst]
    targets: {names: ["shop*"], labels: {env: [prod, stage]}}
    logins: [readonly, report]
    session: {max: 1h, idle: 45m, rows: 100}
  - name: on-request
    roles: [dba]
    targets: {labels: {env: prod}}
    logins: [admin]
    grant: {approvers: [security], approvals: 2, max: 1h}
  - name: any-login
    roles: [dba]
    targets: {names: [lab]}
    logins: ["*"]
"""
SHOP = Target("shop", "postgres", {"env": "prod"})
HR = Target("hr", "postgres", {"env": "prod"})
LAB = Target("lab", "postgres")
NOW = 1_700_000_000.0


@pytest.fixture(scope="module")
def document() -> PolicyDocument:
    return load_document(DOCUMENT, "p.yaml")


@pytest.mark.parametrize(
    ("subject", "roles"),
    [
        (Subject("ada", ("data",)), {"analyst"}),
        (Subject("ada", ("Data Team", "dba")), {"analyst", "dba"}),
        (Subject("ada", ("database", "dat", "DATA", "data ")), set()),
        (Subject("ada", ()), set()),
        (Subject("ada", (), {"kind": "agent"}), {"agent"}),
        (Subject("ada", (), {"kind": "agents"}), set()),
        (Subject("ada", (), {"kind": ["human", "agent"]}), {"agent"}),
        (Subject("ada", (), {"kind": []}), set()),
        (Subject("ada", (), {"level": "6"}), {"dba"}),
        (Subject("ada", (), {"levels": "6"}), set()),
        (Subject("robot"), {"agent"}),
        (Subject("spiffe://corp/robot"), {"agent"}),
        (Subject("spiffe://corp/robot/x"), set()),
        (
            Subject("ada", (), {"name": "robot"}),
            set(),
        ),  # a claim that calls itself so is not the subject's name
        (Subject("data", (), {"groups": "data", "group": "dba"}), set()),
    ],
)
def test_roles(document: PolicyDocument, subject: Subject, roles: set[str]) -> None:
    assert roles_of(document, subject) == roles


ANALYST = Subject("ada", ("data",))
AGENT = Subject("bot", (), {"kind": "agent"})
DBA = Subject("dee", ("dba",))


@pytest.mark.parametrize(
    ("subject", "target", "login", "limits"),
    [
        (AGENT, SHOP, "readonly", SessionLimits(28800.0, 1800.0, 5000, None)),
        (ANALYST, SHOP, "readonly", SessionLimits(3600.0, 1800.0, 5000, 100)),  # the tightest of both entries
        (ANALYST, SHOP, "report", SessionLimits(3600.0, 2700.0, None, 100)),
        (ANALYST, HR, "readonly", SessionLimits(28800.0, 1800.0, 5000, None)),
        (
            ANALYST,
            Target("shop2", "postgres", {"env": "stage"}),
            "report",
            SessionLimits(3600.0, 2700.0, None, 100),
        ),
        (DBA, LAB, "whatever", SessionLimits()),
    ],
)
def test_admitted(
    document: PolicyDocument, subject: Subject, target: Target, login: str, limits: SessionLimits
) -> None:
    admission = admit(document, subject, target, login, NOW)
    assert (admission.effect, admission.limits) == (Effect.ALLOW, limits)
    assert admission.policy_version == document.version
    assert all(reason.rule for reason in admission.reasons)


@pytest.mark.parametrize(
    ("subject", "target", "login"),
    [
        (ANALYST, SHOP, "admin"),
        (ANALYST, SHOP, "READONLY"),
        (ANALYST, SHOP, "*"),
        (ANALYST, SHOP, ""),
        (ANALYST, HR, "report"),
        (ANALYST, LAB, "readonly"),
        (ANALYST, Target("shop", "ssh", {"env": "test"}), "readonly"),
        (ANALYST, Target("workshop", "postgres", {"env": "stage"}), "report"),
        (ANALYST, Target("nowhere", "postgres"), "readonly"),
        (AGENT, Target("shop", "ssh", {"env": "prod"}), "readonly"),
        (AGENT, Target("shop", "postgres", {"env": "production"}), "readonly"),
        (AGENT, Target("shop", "postgres", {"ENV": "prod"}), "readonly"),
        (Subject("stranger"), SHOP, "readonly"),
    ],
)
def test_a_stranger_learns_nothing(
    document: PolicyDocument, subject: Subject, target: Target, login: str
) -> None:
    admission = admit(document, subject, target, login, NOW)
    assert admission == refuse_admission(document, target.protocol)
    assert admission.effect is Effect.DENY
    assert admission.reasons[0].hint


def test_a_grant_is_needed(document: PolicyDocument) -> None:
    admission = admit(document, DBA, SHOP, "admin", NOW)
    assert admission.effect is Effect.DENY
    (reason,) = admission.reasons
    assert reason.rule == "on-request"
    assert reason.message == "access by on-request needs a grant, which needs an approval"
    assert "security" in reason.hint


def test_standing_access_beside_a_grant() -> None:
    text = DOCUMENT + "  - {name: standing, roles: [dba], targets: {names: [shop]}, logins: [admin]}\n"
    admission = admit(load_document(text, "p.yaml"), DBA, SHOP, "admin", NOW)
    assert admission.effect is Effect.ALLOW
    assert [reason.rule for reason in admission.reasons] == ["standing"]


@pytest.mark.parametrize(
    ("expires_at", "effect"), [(NOW - 1, Effect.DENY), (NOW, Effect.DENY), (NOW + 1, Effect.ALLOW)]
)
def test_expiry(document: PolicyDocument, expires_at: float, effect: Effect) -> None:
    subject = Subject("ada", ("data",), expires_at=expires_at)
    assert admit(document, subject, SHOP, "readonly", NOW).effect is effect
