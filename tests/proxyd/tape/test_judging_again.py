"""What is on a tape of HTTP is enough to judge each request again, under the same policy or another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.decision import Decision, Effect
from policy.document import PolicyDocument
from policy.facts import HttpFacts, LlmFacts, Target
from policy.http.evaluate import judge_http
from proxyd.tape.entries import Judgement
from proxyd.tape.reader import read_tape
from tests.policy.http.requests import API, OPS, document, request
from tests.proxyd.tape.http_tapes import http_tape

LLM = LlmFacts("openai", "chat", "gpt-4o", 100, 12, 0.001, ("search",))
THEN = (
    "allow paths: [/v1/**], upgrade: websocket",
    "deny methods: [DELETE]",
    'hold body: {"$.amount": {min: 100}}',
)
NOW = ("allow methods: [DELETE]", "deny paths: ['/v1/secret/**']", "allow headers: {x-env: [dev]}")
REQUESTS = [
    request("GET /v1/customers/7?status=open&a=%26"),
    request("DELETE /v1/customers/7"),
    request("POST /v1/orders", json={"amount": 150.5, "n": 2**53, "items": [{"a": None}, True, "ü"]}),
    request("POST /v1/orders", json={"amount": 10}),
    request("POST /v1/orders", form="a=1&a=2&b="),
    request("GET /v1/secret/a", others=("/v1/secret%2Fa",)),
    request("GET /v1/ws", upgrade="websocket"),
    request("GET /v1/x", headers=(("x-env", "dev"), ("x-env", "prod"))),
    request("POST /v1/chat", llm=LLM, json={"model": "gpt-4o"}),
    request("POST /v1/up", size=None),
]


def judged(policy: PolicyDocument, facts: HttpFacts) -> Decision:
    return judge_http(policy, OPS, API, "default", facts)


@pytest.mark.parametrize("facts", REQUESTS, ids=lambda facts: f"{facts.method} {facts.path}")
def test_a_request_is_judged_again_from_its_tape_alone(tmp_path: Path, facts: HttpFacts) -> None:
    then, now = document(*THEN), document(*NOW)
    decision = judged(then, facts)
    tape = http_tape(tmp_path, target=API.name, login="default", subject=OPS, target_labels=API.labels)
    tape.request(1, facts.method, f"https://api.internal{facts.path}", "1.1", facts.headers, facts, decision)
    tape.end("left")
    with read_tape(tape.path) as read:
        head = read.header
        (judgement,) = (entry for entry in read.entries() if isinstance(entry, Judgement))
    assert head is not None
    target = Target(head.target, head.protocol, head.target_labels)
    (recorded,) = judgement.facts
    assert isinstance(recorded, HttpFacts)
    assert recorded == facts
    assert judgement.decisions == (decision,)
    for policy in (then, now):
        again = judge_http(policy, head.subject, target, head.login, recorded)
        assert again == judged(policy, facts)


def test_the_policies_do_judge_them_differently() -> None:
    effects = [[judged(document(*rules), facts).effect for facts in REQUESTS] for rules in (THEN, NOW)]
    assert effects[0] != effects[1]
    assert all(set(found) >= {Effect.ALLOW, Effect.DENY} for found in effects)
