"""`proxyd explain` of HTTP requests: what is asked, what is said, and what is no question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxyd.cli.main import main
from tests.proxyd.documents import CONFIG, POLICY, write_setup

Output = pytest.CaptureFixture[str]

TARGETS = """\
  - name: api
    protocol: http
    url: http://api.internal:8080/base
    hosts: [api.example]
    labels: {env: prod}
    logins: [{name: readonly, none: true}]
  - name: models
    protocol: http
    url: http://models.internal
    api: openai
    labels: {env: prod}
    logins: [{name: readonly, none: true}, {name: admin, bearer: {file: secrets/reader}}]
models:
  prices: [{models: ["gpt-4o-mini*"], input: 0.15, output: 0.60}]
"""
RULES = """\
  - name: read
    effect: allow
    roles: [analyst]
    http: {methods: [GET], paths: ["/v1/**"], query: {debug: absent}}
  - name: pay-a-little
    effect: allow
    http: {methods: [POST], paths: [/v1/pay], body: {"$.amount": {max: 100}}}
  - name: no-export
    effect: deny
    http: {paths: ["/**/export"]}
    message: "Exports are made at night."
  - name: ask-first
    effect: hold
    http: {methods: [DELETE]}
    approval: {approvers: [boss]}
  - name: talk
    effect: allow
    http: {upgrade: websocket}
  - name: small-models
    effect: allow
    llm: {models: ["gpt-4o-mini"], max_tokens: {max: 100}}
masks:
  - {name: contact-data, json: ["$..email"], method: redact, on: [response, request]}
  - {name: found, detect: [credit_card]}
budgets:
  - {name: daily, day: {requests: 10}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    policy = POLICY.partition("masks:\n")[0] + RULES
    text = CONFIG.replace("masking:\n", TARGETS + "masking:\n") + "store: {path: proxyd.db}\n"
    return write_setup(tmp_path, config=text, policy=policy)


def explain(config: Path, *arguments: str, target: str = "api") -> int:
    who = ["--subject", "ann", "--group", "data", "--login", "readonly"]
    return main(["explain", "--config", str(config), *who, "--target", target, *arguments])


def test_a_request(config: Path, capsys: Output) -> None:
    assert explain(config, "--method", "POST", "--path", "/v1/pay?a=b", "--json-body", '{"amount": 500}') == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "subject    ann  (groups: data; roles: analyst)"
    assert lines[1] == "target     api as readonly"
    assert "masks      contact-data (on response and request), found (on response)" in lines
    assert "request    `POST /v1/pay` to api.internal" in lines
    assert "  sends    application/json, 15 bytes" in lines
    assert "  body     read whole, for pay-a-little" in lines
    assert "  decision deny" in lines
    assert "           no rule allows `POST /v1/pay`" in lines
    assert lines[-1] == "=> deny"


@pytest.mark.parametrize(
    ("arguments", "decision"),
    [
        (["--path", "/v1/orders"], "allow"),
        (["--path", "/v1/orders?debug=1"], "deny"),
        (["--path", "/v1/orders", "--header", "X-Http-Method-Override: PUT"], "allow"),
        (["--path", "/v1/orders?_method=put"], "deny"),
        (["--path", "/v1/orders/export"], "deny"),
        (["--path", "/v1/orders/Export/"], "deny"),
        (["--path", "/v1/%6Frders"], "allow"),
        (["--method", "DELETE", "--path", "/v1/orders"], "hold"),
        (["--method", "DELETE", "--path", "/v1/export"], "deny"),
        (["--method", "POST", "--path", "/v1/pay", "--json-body", '{"amount": 5}'], "allow"),
        (["--method", "POST", "--path", "/v1/pay", "--json-body", '{"amount": 5, "amount": 6}'], "deny"),
        (["--method", "POST", "--path", "/v1/pay", "--form-body", "amount=5"], "allow"),
        (["--method", "POST", "--path", "/v1/pay", "--form-body", "amount=500"], "deny"),
        (["--method", "POST", "--path", "/v1/pay", "--body", "amount=5"], "deny"),
        (
            [
                "--method",
                "POST",
                "--path",
                "/v1/pay",
                "--body",
                '{"amount": 5}',
                "--header",
                "content-type: application/json",
            ],
            "allow",
        ),
        (["--method", "POST", "--path", "/v1/pay"], "deny"),
        (["--path", "/v1/chat", "--websocket"], "allow"),
        (["--path", "/v1/../etc"], "deny"),
    ],
)
def test_each_kind_of_request(config: Path, arguments: list[str], decision: str, capsys: Output) -> None:
    assert explain(config, *arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"=> {decision}"


def test_a_body_from_a_file(config: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "body.json").write_text('{"amount": 50}')
    assert (
        explain(config, "--method", "POST", "--path", "/v1/pay", "--json-body", f"@{tmp_path}/body.json") == 0
    )
    assert capsys.readouterr().out.splitlines()[-1] == "=> allow"


def test_a_request_that_is_never_judged(config: Path, capsys: Output) -> None:
    assert explain(config, "--path", "/v1/..;/etc") == 0
    assert (
        "refused    a request path is refused because it holds a segment of dots" in capsys.readouterr().out
    )
    assert explain(config, "--path", "/v1/..;/etc", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["effect"], answer["request"], answer["decision"]) == ("deny", None, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--header", "content-type: text/plain", "--header", "content-type: text/html"], "stands twice"),
        (["--websocket", "--method", "POST"], "another method than GET"),
        (["--websocket", "--body", "x"], "with a body"),
    ],
)
def test_a_request_that_is_refused_at_the_door(
    config: Path, arguments: list[str], words: str, capsys: Output
) -> None:
    assert explain(config, "--path", "/v1/orders", *arguments) == 0
    assert words in capsys.readouterr().out


def test_what_else_a_path_may_be_read_as(config: Path, capsys: Output) -> None:
    assert explain(config, "--path", "/v1/export;v=1") == 0
    shown = capsys.readouterr().out
    assert "  or       /v1/export, as some servers would read the path" in shown
    assert "no-export: Exports are made at night." in shown


CALL = '{"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}'


def test_a_call_of_a_model(config: Path, capsys: Output) -> None:
    path = ("--method", "POST", "--path", "/v1/chat/completions")
    assert explain(config, *path, "--json-body", CALL, target="models") == 0
    shown = capsys.readouterr().out
    assert "  calls    chat gpt-4o-mini, " in shown
    assert "at most 50 tokens out, at most 3." in shown
    assert "unknown    budgets: what is left of daily is not looked at" in shown
    assert shown.splitlines()[-1] == "=> allow"
    assert explain(config, *path, "--json-body", CALL.replace("50", "500"), target="models") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "=> deny"


def test_json(config: Path, capsys: Output) -> None:
    body = f'{{"amount": {10**30}}}'
    assert explain(config, "--method", "POST", "--path", "/v1/pay", "--json-body", body, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["effect"], answer["request"]["method"]) == ("deny", "POST")
    assert answer["looks_into_body"] == ["pay-a-little"]


def test_nothing_reaches_the_terminal_that_it_would_obey(config: Path, capsys: Output) -> None:
    assert explain(config, "--method", "G\x1b[2JET", "--path", "/v1/%C2%9B") == 0
    assert (
        explain(
            config, "--method", "G\x1b[2JET", "--path", "/v1/a%20%E2%80%8B", "--header", "content-type: a/b"
        )
        == 0
    )
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["select 1"], "speaks http; give --path"),
        (["--shell"], "speaks http; give --path"),
        (["--path", "/x", "--target", "shop"], "speaks postgres, and takes no HTTP request"),
        (["select 1", "--method", "POST", "--target", "shop"], "speaks postgres, and takes no HTTP request"),
        (["--path", "/x", "--target", "api/db"], "speaks http, and has no databases"),
        (["--path", "/x", "--login", "nobody"], "--login: name one of readonly"),
    ],
)
def test_what_is_no_question(config: Path, arguments: list[str], words: str, capsys: Output) -> None:
    assert explain(config, *arguments) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--path", "/x", "--header", "x"], "'x' is not NAME: VALUE"),
        (["--path", "/x", "--json-body", "@/does/not/exist"], "/does/not/exist: No such file"),
        (["--path", "/x", "--json-body", "{}", "--form-body", "a"], "not allowed with argument"),
        (["--path", "/x", "--shell"], "not allowed with argument"),
    ],
)
def test_a_wrong_command_line(config: Path, arguments: list[str], words: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        explain(config, *arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
