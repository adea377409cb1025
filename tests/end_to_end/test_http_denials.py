"""What a client is told when a rule would have allowed its request but for a limit: at the gate of HTTP and, in the
shape of either provider, at that of models. Each tells what, which rule, the limit and the value, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.http_gateway import HttpGateway
from tests.end_to_end.http_servers import Hypercorn
from tests.pki import Authority

POLICY = """\
version: 1
roles:
  data: {groups: [data]}
access:
  - {name: data, roles: [data], targets: {protocol: http}, logins: [default]}
rules:
  - name: small-orders
    effect: allow
    http:
      methods: [POST]
      paths: [/echo]
      content_types: [application/json]
      body_bytes: {max: 64B}
      body: {"$.amount": {max: 10}, "$.to": absent}
      query: {debug: absent}
      headers: {x-env: [s3cret]}
  - name: small-models
    effect: allow
    llm: {operations: [chat], models: ["small-*"], max_tokens: {max: 100}, cost_usd: {max: 0.01}, tools: ["search_*"]}
  - name: no-large-files
    effect: deny
    http: {paths: [/upload], body_bytes: {min: 1KiB}}
  - name: uploads
    effect: allow
    http: {paths: [/upload]}
"""
ASK = "sk the owners of the policy about rule small-orders."
GOOD: dict[str, Any] = {
    "model": "small-1",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Hello"}],
}


@pytest.fixture(scope="module")
def gateway(
    http_app: Hypercorn, target_ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpGateway]:
    targets = {"app": {"url": http_app.url}}
    for api in ("openai", "anthropic"):
        targets[api] = {"url": http_app.url, "api": api}
    prices = [{"models": ["small-*"], "input": 1.0, "output": 100.0}]
    with HttpGateway(
        tmp_path_factory.mktemp("denials"),
        targets,
        policy=POLICY,
        ca=target_ca,
        adjust=lambda config: config.update(models={"prices": prices}),
    ) as running:
        yield running


JSON = {"x-env": "s3cret", "content-type": "application/json"}
SENT = {"url": "/t/app/echo", "json": {"amount": 1}, "headers": {"x-env": "s3cret"}}
HTTP: dict[str, tuple[dict[str, Any], str, str]] = {
    "size": (
        {"json": None, "content": b'{"amount": 1}' + b" " * 100, "headers": JSON},
        "the body has 113 bytes, and it allows 64",
        "Send a body of 64 bytes or less.",
    ),
    "type": (
        {"json": None, "data": {"amount": "1"}},
        "the body is `application/x-www-form-urlencoded`, and it allows `application/json`",
        "Send `application/json`.",
    ),
    "bound": (
        {"json": {"amount": 4111}},
        "`$.amount` has to be a number, 10 or less",
        "Send `$.amount` within that.",
    ),
    "absent": (
        {"json": {"amount": 1, "to": 4111}},
        "`$.to` is not allowed in the body",
        "Leave out `$.to`.",
    ),
    "parameter": (
        {"params": {"debug": "4111"}},
        "the parameter `debug` is not allowed",
        "Leave out the parameter `debug`.",
    ),
    "field": ({"headers": {"x-env": "4111"}}, "the field `x-env` has a value that it does not allow", ""),
}


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("kind", HTTP)
def test_limits_of_http(gateway: HttpGateway, kind: str, *, http2: bool) -> None:
    changed, why, advice = HTTP[kind]
    with gateway.client(http2=http2) as client:
        answer = client.post(**{**SENT, **changed})
        assert client.post(**SENT).status_code == 200  # the connection goes on
    assert answer.status_code == 403
    told = answer.json()
    assert told["rule"] == "small-orders"
    assert told["detail"].startswith("no rule allows `POST /echo`. Rule small-orders does not cover it: ")
    assert why in told["detail"]
    assert told["hint"] == (f"{advice} Or a{ASK}" if advice else f"A{ASK}")
    assert "4111" not in answer.text and "s3cret" not in answer.text


def test_a_limit_from_which_on_is_denied(gateway: HttpGateway) -> None:
    with gateway.client() as client:
        told = client.post("/t/app/upload", content=b"x" * 2000).json()
    assert told["rule"] == "no-large-files"
    assert "the body has 2000 bytes, and the rule is about 1024 or more" in told["detail"]


MODELS: dict[str, tuple[dict[str, Any], str, str]] = {
    "model": (
        {"model": "small"},
        "the model `small` is not among `small-*`; it is not known what it may cost (the model `small` has no price)",
        "Use one of `small-*`.",
    ),
    "tokens": (
        {"max_tokens": 101},
        "the answer may have 101 tokens, and it allows 100; the call may cost 0.0101",
        "to 100 or less.",
    ),
    "cost": (
        {"messages": [{"role": "user", "content": "x" * 30_000}]},
        "the call may cost 0.015",
        "Ask for a shorter answer, with a shorter prompt, or of a cheaper model.",
    ),
}


@pytest.mark.parametrize(("api", "path"), [("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")])
@pytest.mark.parametrize("kind", [*MODELS, "length", "tools"])
def test_limits_of_models(gateway: HttpGateway, api: str, path: str, kind: str) -> None:
    if kind == "length":
        body = {key: value for key, value in GOOD.items() if key != "max_tokens"}
        why, advice = (
            "it is not said how long the answer may be, and it may have 100 tokens",
            "to 100 or less.",
        )
    elif kind == "tools":
        named = {"name": "rm", "description": "x"}
        tool = (
            {**named, "input_schema": {}} if api == "anthropic" else {"type": "function", "function": named}
        )
        body, why = {**GOOD, "tools": [tool]}, "the tool `rm` is not among `search_*`"
        advice = "Offer no tools but `search_*`."
    else:
        changed, why, advice = MODELS[kind]
        body = {**GOOD, **changed}
    with gateway.client() as client:
        answer = client.post(f"/t/{api}{path}", json=body)
    assert answer.status_code == 403
    text = answer.json()["error"]["message"]
    assert text.startswith(f"proxyd: no rule allows chat of model `{body['model']}` (`POST {path}`). ")
    assert f"Rule small-models does not cover it: {why}" in text
    assert advice in text
    assert text.endswith("Or ask the owners of the policy about rule small-models.")
    assert answer.headers["x-should-retry"] == "false"


def test_the_tape_has_the_same(gateway: HttpGateway) -> None:
    with gateway.client() as client:
        client.post("/t/app/echo", json={"amount": 11}, headers={"x-env": "s3cret"})
    tape = gateway.tape(gateway.last_session())
    shown = gateway.proxyd("tape", "show", str(tape)).stdout
    assert "rule small-orders does not cover it: `$.amount` has to be a number, 10 or less" in shown
