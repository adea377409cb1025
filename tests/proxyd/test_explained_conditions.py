"""`proxyd explain` tells the conditions of the rules that its reasons name, at each door."""

from __future__ import annotations

import pytest

from policy.document import PolicyDocument, load_document
from policy.facts import HttpFacts, SshFacts, SshOperation, Subject, Target
from policy.sql.state import SessionState
from proxyd.explanation import Question, Sight, explain, render
from proxyd.http_explanation import HttpQuestion, explain_http, render_http
from proxyd.ssh_explanation import SshQuestion, explain_ssh, render_ssh
from tests.proxyd.gates.postgres.playbook import shop

RULES = """\
version: 1
roles: {ops: {groups: [ops]}}
access:
  - {name: all, roles: [ops], targets: {names: ["*"]}, logins: [app]}
rules:
  - {name: everything, effect: allow, postgres: {commands: [select]}, ssh: {shell: true}, http: {methods: ["*"]}}
  - name: mine
    effect: deny
    postgres: {commands: [select]}
    ssh: {shell: true}
    http: {methods: ["*"]}
    when: |
      subject.name == 'olga'   // a remark
      && login == 'app'
  - {name: other, effect: deny, http: {methods: ["*"]}, when: "login == 'other'"}
"""
WHEN = "  when     mine: subject.name == 'olga' // a remark && login == 'app'"
SUBJECT = Subject("olga", ("ops",))


def sql(document: PolicyDocument) -> str:
    question = Question(
        SUBJECT, Target("shop", "postgres"), "app", "shop", "select id from shop.customers", 0.0
    )
    return render(explain(document, question, Sight(shop(), SessionState(search_path=("shop",)))))


def ssh(document: PolicyDocument) -> str:
    question = SshQuestion(SUBJECT, Target("web", "ssh"), "app", SshFacts(SshOperation.SHELL), 0.0)
    return render_ssh(explain_ssh(document, question))


def http(document: PolicyDocument) -> str:
    facts = HttpFacts("GET", "https", "api", "/a")
    question = HttpQuestion(SUBJECT, Target("api", "http"), "app", facts, facts, 0.0)
    return render_http(explain_http(document, question))


@pytest.mark.parametrize("door", [sql, ssh, http])
def test_the_condition_of_the_rule_that_decided_is_told(door: object) -> None:
    assert callable(door)
    text: str = door(load_document(RULES, "p.yaml"))
    assert WHEN in text.splitlines()
    assert "login == 'other'" not in text
    assert "=> deny" in text
    unconditional: str = door(load_document(RULES.replace("== 'olga'", "== 'boris'"), "p.yaml"))
    assert "  when  " not in unconditional
    assert "=> allow" in unconditional
