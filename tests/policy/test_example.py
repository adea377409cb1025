"""A document in the shape that the whole gateway is planned for loads, with warnings for the doors to come."""

from __future__ import annotations

import pytest

from policy.decision import Effect
from policy.document import DocumentError, load_document
from policy.evaluate import admit, judge_sql, masks_for
from policy.facts import ColumnName, Output, RelationAccess, SqlFacts, Subject, Target

EXAMPLE = """\
version: 1

roles:
  analyst: {groups: [data]}
  dba:     {groups: [dba]}
  agent:   {claims: {kind: agent}}

access:
  - name: analysts-read-orders
    roles: [analyst, agent]
    targets: {labels: {env: prod}, protocol: postgres}
    logins: [readonly]
    session: {max: 8h, idle: 30m, statements: 5000, rows: 200000}
  - name: dba-on-request
    roles: [dba]
    targets: {labels: {env: prod}}
    logins: [admin]
    grant: {approvers: [security], approvals: 2, max: 1h}

rules:
  - name: read-the-shop
    effect: allow
    roles: [analyst, agent]
    postgres: {commands: [select], relations: ["shop.*"]}
  - name: no-secrets-table
    effect: deny
    postgres: {relations: ["*.api_keys"]}
    message: "API keys are not readable through the gateway."
  - name: writes-wait-for-a-human
    effect: hold
    postgres: {commands: [insert, update, delete, merge], relations: ["shop.*"]}
    approval: {approvers: [dba], approvals: 1, timeout: 10m}
  - name: no-unbounded-change
    effect: deny
    postgres: {commands: [update, delete], where: absent}
  - name: careful-shell
    effect: hold
    ssh: {exec: ["rm *", "systemctl stop *"]}
    approval: {approvers: [ops], timeout: 5m}
  - name: expensive-prompts
    effect: hold
    http: {methods: [POST], paths: ["/v1/chat/completions"]}
    when: "llm.max_tokens > 4000 || llm.estimated_cost_usd > 0.50"
    approval: {approvers: [ml-leads], timeout: 10m}
  - name: safe-tools-only
    effect: allow
    roles: [agent]
    mcp: {tools: ["search_*", "read_*"]}

masks:
  - name: contact-data
    columns: ["shop.customers.email", "*.*.phone"]
    method: {partial: {keep_last: 4}}
    unless: {roles: [dba]}
  - name: identity-numbers
    columns: ["*.*.ssn"]
    method: redact
  - name: same-person-same-token
    columns: ["shop.customers.id_number"]
    method: {pseudonym: {key: customers}}
  - name: api-fields
    json: ["$..email", "$.customer.address.*"]
    method: redact
  - name: anything-that-looks-like-it
    detect: [credit_card, us_ssn, email, iban, jwt, aws_key, private_key]
    method: token
"""
ADA = Subject("ada", ("data",))
SHOP = Target("shop", "postgres", {"env": "prod"})


def test_it_loads_and_says_what_has_no_effect_yet() -> None:
    document = load_document(EXAMPLE, "policy.yaml", {"customers": b"0123456789abcdef"})
    assert [warning.path for warning in document.warnings] == ["rules[6].mcp"]
    assert [rule.name for rule in document.rules] == [
        "read-the-shop",
        "no-secrets-table",
        "writes-wait-for-a-human",
        "no-unbounded-change",
    ]
    assert [rule.name for rule in document.ssh_rules] == ["careful-shell"]
    assert [rule.name for rule in document.http_rules] == ["expensive-prompts"]
    assert [entry.mask.name for entry in document.json_masks] == ["api-fields"]
    assert [entry.name for entry in document.detect_masks] == ["anything-that-looks-like-it"]


def test_a_wrong_condition_is_refused_with_its_line() -> None:
    with pytest.raises(DocumentError) as caught:
        load_document(EXAMPLE.replace("llm.max_tokens", "llm.max_token"), "policy.yaml")
    (fault,) = caught.value.faults
    assert fault.path == "rules[5].when"
    assert "did you mean `max_tokens`?" in fault.remedy


def test_it_does_what_it_says() -> None:
    document = load_document(EXAMPLE, "policy.yaml", {"customers": b"0123456789abcdef"})
    admission = admit(document, ADA, SHOP, "readonly", 0.0)
    assert (admission.effect, admission.limits.idle_s, admission.limits.rows) == (
        Effect.ALLOW,
        1800.0,
        200_000,
    )
    assert admit(document, Subject("dee", ("dba",)), SHOP, "admin", 0.0).effect is Effect.DENY

    def verdict(*accesses: RelationAccess) -> tuple[Effect, list[str]]:
        facts = SqlFacts(accesses[0].command, (accesses[0].command,), accesses, outputs=())
        decision = judge_sql(document, ADA, SHOP, "readonly", facts)
        return decision.effect, [reason.rule for reason in decision.reasons]

    assert verdict(RelationAccess("select", "shop", "orders")) == (Effect.ALLOW, ["read-the-shop"])
    assert verdict(RelationAccess("select", "shop", "api_keys")) == (Effect.DENY, ["no-secrets-table"])
    assert verdict(RelationAccess("insert", "shop", "orders")) == (Effect.HOLD, ["writes-wait-for-a-human"])
    assert verdict(RelationAccess("update", "shop", "orders", bounded=False)) == (
        Effect.DENY,
        ["no-unbounded-change"],
    )

    email = ColumnName("shop", "customers", "email")
    select = RelationAccess("select", "shop", "customers", columns=("email",))
    facts = SqlFacts("select", ("select",), (select,), outputs=(Output("email", email),))
    decision = judge_sql(document, ADA, SHOP, "readonly", facts)
    assert [obligation.mask for obligation in decision.masks] == ["contact-data"]
    mask = masks_for(document, ADA, SHOP).for_column((email,))
    assert mask is not None
    assert mask.apply("ada@example.com", "text") == "***********.com"
