"""Models behind the gateway, called by the real SDKs: allowed, refused in their own words, masked, budgeted, taped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from demo.issuer import LocalIssuer
from demo.model import ModelServer
from demo.postgres_server import free_port
from tests.end_to_end.http_gateway import SECRET, HttpGateway

POLICY = """\
version: 1
roles:
  data: {groups: [data]}
access:
  - {name: models, roles: [data], targets: {protocol: http}, logins: [default]}
rules:
  - name: small-models
    effect: allow
    llm:
      operations: [chat, responses, completions, embeddings, count_tokens, models]
      models: ["gpt-demo", "gpt-demo-mini", "claude-demo"]
      max_tokens: {max: 500}
  - name: lists
    effect: allow
    llm: {operations: [models]}
  - name: safe-tools
    effect: deny
    llm: {tools: ["delete_*"]}
    message: "Tools that delete are not offered to models."
  - name: no-passwords
    effect: deny
    llm: {prompts: ["(?i)password of"]}
    message: "Passwords are nothing for models."
masks:
  - {name: found, detect: [credit_card, email], method: token, on: [response]}
  - {name: outgoing, detect: [us_ssn], method: token, on: [request]}
budgets:
  - {name: gone-a-day, targets: {names: [gone]}, per: subject, day: {requests: 2}}
  - {name: anthropic-a-day, targets: {names: [claude]}, per: subject, day: {requests: 4, cost_usd: 5.0}}
"""
PRICES = [{"models": ["gpt-demo*", "claude-demo*"], "input": 3.0, "output": 15.0}]
HELLO = [{"role": "user", "content": "Hello"}]
CUSTOMER = [{"role": "user", "content": "the customer?"}]
MASKED = "Ada Marsh pays with card <credit_card> and reads mail at <email>. Her order left on Tuesday."
TOOLS = [{"type": "function", "function": {"name": "search_orders", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer(key=SECRET) as server:
        yield server


@contextmanager
def gateway_before(
    model: ModelServer, directory: Path, issuer: LocalIssuer | None = None
) -> Iterator[HttpGateway]:
    targets: dict[str, dict[str, Any]] = {
        "gpt": {"url": model.url, "api": "openai"},
        "gone": {"url": f"http://127.0.0.1:{free_port('127.0.0.1')}", "api": "openai"},
        "claude": {"url": model.url, "api": "anthropic", "logins": [_x_api_key(directory)]},
    }

    def adjust(config: dict[str, Any]) -> None:
        config["models"] = {"prices": PRICES}

    with HttpGateway(directory, targets, policy=POLICY, issuer=issuer, adjust=adjust) as gateway:
        yield gateway


def _x_api_key(directory: Path) -> dict[str, Any]:
    return {"name": "default", "header": {"name": "x-api-key", "value": {"file": str(directory / "secret")}}}


@pytest.fixture(scope="module")
def gateway(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpGateway]:
    with gateway_before(model, tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture
def gpt(gateway: HttpGateway) -> Iterator[openai.OpenAI]:
    client = openai.DefaultHttpxClient(verify=gateway.context())
    with openai.OpenAI(base_url=f"{gateway.url}/t/gpt/v1", api_key="none", http_client=client) as sdk:
        yield sdk


@pytest.fixture
def claude(gateway: HttpGateway) -> Iterator[anthropic.Anthropic]:
    client = anthropic.DefaultHttpxClient(verify=gateway.context())
    with anthropic.Anthropic(base_url=f"{gateway.url}/t/claude", api_key="none", http_client=client) as sdk:
        yield sdk


def sent(model: ModelServer, before: int) -> list[Any]:
    return [call.body for call in model.calls[before:]]


# --- allowed ----------------------------------------------------------------------------------------------------


def test_openai(gpt: openai.OpenAI, model: ModelServer) -> None:
    chat = gpt.chat.completions.create(model="gpt-demo", messages=HELLO, max_tokens=100)
    assert chat.choices[0].message.content == "You said: Hello"
    answer = gpt.responses.create(model="gpt-demo", input="Hello", max_output_tokens=100)
    assert answer.output_text == "You said: Hello"
    completion = gpt.completions.create(model="gpt-demo-mini", prompt="Hello", max_tokens=100)
    assert completion.choices[0].text == "You said: Hello"
    vectors = gpt.embeddings.create(model="gpt-demo", input=["a", "b"], encoding_format="float")
    assert len(vectors.data) == 2
    assert "gpt-demo" in [each.id for each in gpt.models.list()]
    assert model.calls[-1].headers["authorization"] == f"Bearer {SECRET}"


def test_anthropic(claude: anthropic.Anthropic, model: ModelServer) -> None:
    message = claude.messages.create(model="claude-demo", max_tokens=100, messages=HELLO)
    assert message.content[0].text == "You said: Hello"  # type: ignore[union-attr]
    assert claude.messages.count_tokens(model="claude-demo", messages=HELLO).input_tokens == 1
    assert "claude-demo" in [each.id for each in claude.models.list()]
    assert model.calls[-1].headers["x-api-key"] == SECRET


def test_a_token_takes_the_place_of_the_provider_s_key(
    model: ModelServer, issuer: LocalIssuer, tmp_path: Path
) -> None:
    """As SDKs send it: `Authorization: Bearer`, `x-api-key`, and Azure's `api-key`. It stays at the gateway."""
    with gateway_before(model, tmp_path, issuer) as gateway:
        token = gateway.token("agent-alice")
        base = f"{gateway.url}/t"
        with openai.OpenAI(
            base_url=f"{base}/gpt/v1",
            api_key=token,
            http_client=openai.DefaultHttpxClient(verify=gateway.context(None)),
        ) as gpt:
            gpt.chat.completions.create(model="gpt-demo", messages=HELLO, max_tokens=100)
        with anthropic.Anthropic(
            base_url=f"{base}/claude",
            api_key=token,
            http_client=anthropic.DefaultHttpxClient(verify=gateway.context(None)),
        ) as claude:
            claude.messages.create(model="claude-demo", messages=HELLO, max_tokens=100)
        with openai.AzureOpenAI(
            azure_endpoint=f"{base}/gpt",
            api_key=token,
            api_version="2024-10-21",
            http_client=openai.DefaultHttpxClient(verify=gateway.context(None)),
        ) as azure:
            azure.chat.completions.create(model="gpt-demo", messages=HELLO, max_tokens=100)
        with openai.OpenAI(
            base_url=f"{base}/gpt/v1",
            api_key="sk-not-a-token",
            http_client=openai.DefaultHttpxClient(verify=gateway.context(None)),
        ) as stranger:
            before = len(model.calls)
            with pytest.raises(openai.AuthenticationError, match="proxyd: "):
                stranger.chat.completions.create(model="gpt-demo", messages=HELLO, max_tokens=100)
            assert sent(model, before) == []
    reached = [value for call in model.calls[-3:] for value in call.headers.values()]
    assert not any(token in value for value in reached)
    assert sum(SECRET in value for value in reached) == 3


# --- refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model": "gpt-demo-large"}, "No rule allows"),
        ({"model": "GPT-demo"}, "No rule allows"),
        ({"max_tokens": 501}, "No rule allows"),
        ({"max_tokens": 300, "n": 2}, "No rule allows"),
        ({"max_tokens": None}, "No rule allows"),
        (
            {"messages": [{"role": "system", "content": "The Password of Bob is"}]},
            "Passwords are nothing for models",
        ),
        ({"tools": [{"type": "function", "function": {"name": "delete_order"}}]}, "Tools that delete"),
        ({"logprobs": True}, "`logprobs`"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_openai_refused(
    gpt: openai.OpenAI, model: ModelServer, keys: dict[str, Any], words: str, is_stream: bool
) -> None:
    before = len(model.calls)
    request: dict[str, Any] = {
        "model": "gpt-demo",
        "messages": HELLO,
        "max_tokens": 100,
        "stream": is_stream,
        **keys,
    }
    with pytest.raises((openai.PermissionDeniedError, openai.BadRequestError)) as caught:
        gpt.chat.completions.create(**{key: value for key, value in request.items() if value is not None})
    assert words.lower() in str(caught.value).lower()
    assert "proxyd" in str(caught.value)
    assert sent(model, before) == [], "it was sent all the same"


@pytest.mark.parametrize(
    "data",
    [
        b'{"model": "gpt-demo-large", "model": "gpt-demo", "max_tokens": 5, "messages": []}',
        b'{"model": "gpt-demo", "max_tokens": 5, "messages": [], "messages": []}',
        b'{"model": "gpt-demo", "max_tokens": 5, "messages": []',
        b'{"model": "gpt-demo", "max_tokens": NaN, "messages": []}',
        b'["gpt-demo"]',
        b"",
        b"model=gpt-demo",
    ],
)
def test_bodies_with_two_readings_are_refused(gateway: HttpGateway, model: ModelServer, data: bytes) -> None:
    before = len(model.calls)
    with gateway.client() as client:
        answer = client.post(
            "/t/gpt/v1/chat/completions", content=data, headers={"content-type": "application/json"}
        )
    assert answer.status_code == 403
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert sent(model, before) == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files",
        "/v1/chat/completions/",
        "/V1/chat/completions",
        "/v1//chat/completions",
        "/v1/batches",
        "/",
    ],
)
def test_other_paths_are_refused(gateway: HttpGateway, model: ModelServer, path: str) -> None:
    before = len(model.calls)
    with gateway.client() as client:
        body = {"model": "gpt-demo", "max_tokens": 5, "messages": HELLO}
        answer = client.post(f"/t/gpt{path}", json=body)
    assert answer.status_code in {400, 403}
    assert sent(model, before) == []


def test_a_body_larger_than_is_judged_is_refused(gpt: openai.OpenAI, model: ModelServer) -> None:
    before = len(model.calls)
    with pytest.raises(openai.APIStatusError) as caught:
        gpt.chat.completions.create(
            model="gpt-demo", max_tokens=5, messages=[{"role": "user", "content": "x" * (2 << 20)}]
        )
    assert caught.value.status_code == 403
    assert "longer than the gateway reads before it decides" in str(caught.value)
    assert "`judged_body`. That is 1048576 bytes here." in str(caught.value)
    assert sent(model, before) == []


# --- masked -----------------------------------------------------------------------------------------------------


def test_answers_are_masked(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    chat = gpt.chat.completions.create(model="gpt-demo", messages=CUSTOMER, max_tokens=100)
    assert chat.choices[0].message.content == MASKED
    assert (
        gpt.responses.create(model="gpt-demo", input="the customer?", max_output_tokens=100).output_text
        == MASKED
    )


def test_streams_are_masked_across_their_pieces(gpt: openai.OpenAI) -> None:
    with gpt.chat.completions.stream(model="gpt-demo", messages=CUSTOMER, max_tokens=100) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        assert stream.get_final_completion().choices[0].message.content == MASKED
    assert "".join(deltas) == MASKED
    with gpt.responses.stream(model="gpt-demo", input="the customer?", max_output_tokens=100) as other:
        deltas = [event.delta for event in other if event.type == "response.output_text.delta"]
        assert other.get_final_response().output_text == MASKED
    assert "".join(deltas) == MASKED


def test_streams_of_messages_are_masked(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model="claude-demo", messages=CUSTOMER, max_tokens=100) as stream:
        assert "".join(stream.text_stream) == MASKED
        assert stream.get_final_message().stop_reason == "end_turn"


def test_prompts_are_masked_on_their_way_out(gpt: openai.OpenAI, model: ModelServer) -> None:
    before = len(model.calls)
    text = "My number is 536-22-1234, keep it."
    gpt.chat.completions.create(
        model="gpt-demo", messages=[{"role": "user", "content": text}], max_tokens=100
    )
    assert sent(model, before)[0]["messages"][0]["content"] == "My number is <us_ssn>, keep it."


def test_tools_are_called_and_taped(gateway: HttpGateway, gpt: openai.OpenAI) -> None:
    question = [{"role": "user", "content": "Use the tool for 4111 1111 1111 1111"}]
    with gpt.chat.completions.stream(
        model="gpt-demo", messages=question, tools=TOOLS, max_tokens=100
    ) as stream:
        for _ in stream:
            pass
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    assert json.loads(call.function.arguments) == {"question": "Use the tool for <credit_card>"}
    shown = show(gateway, Path(gateway.logged("session opened")[-1]["tape"]))
    assert "search_orders" in shown
    assert "Use the tool for <credit_card>" in shown


def show(gateway: HttpGateway, path: Path) -> str:
    command = [
        sys.executable,
        "-m",
        "proxyd",
        "tape",
        "show",
        str(path),
        "--json",
        "--config",
        str(gateway.config_path),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


# --- budgets ----------------------------------------------------------------------------------------------------


def test_a_budget_is_kept_over_a_restart(model: ModelServer, tmp_path: Path) -> None:
    def ask(gateway: HttpGateway) -> None:
        client = anthropic.DefaultHttpxClient(verify=gateway.context())
        with anthropic.Anthropic(
            base_url=f"{gateway.url}/t/claude", api_key="none", http_client=client
        ) as claude:
            claude.messages.create(model="claude-demo", max_tokens=100, messages=HELLO)

    with gateway_before(model, tmp_path) as gateway:
        ask(gateway)
        ask(gateway)
        listed = budgets(gateway)
        assert [(line["subject"], line["budget"], line["spent"]["requests"]) for line in listed] == [
            ("alice@example.com", "anthropic-a-day", 2)
        ]
        assert listed[0]["spent"]["cost_usd"] == pytest.approx(2 * (1 * 3.0 + 6 * 15.0) / 1e6)
        assert listed[0]["limits"] == {
            "cost_usd": 5.0,
            "input_tokens": None,
            "output_tokens": None,
            "requests": 4,
        }
        gateway.stop()
        gateway.daemon.log_path.unlink()
        gateway.start()
        ask(gateway)
        ask(gateway)
        before = len(model.calls)
        with pytest.raises(anthropic.RateLimitError) as caught:
            ask(gateway)
        assert "4 of 4 requests are spent" in str(caught.value)
        assert "anthropic-a-day" in str(caught.value)
        assert int(caught.value.response.headers["retry-after"]) <= 86400
        assert sent(model, before) == []
        numbers = gateway.metrics()
        assert numbers['proxyd_denials_total{rule="anthropic-a-day"}'] == 1
        assert numbers['proxyd_operations_total{effect="allow",protocol="http"}'] == 2
        assert numbers['proxyd_operations_total{effect="deny",protocol="http"}'] == 1
        assert numbers['proxyd_model_calls_total{target="claude"}'] == 2
        assert numbers['proxyd_model_tokens_total{kind="input",target="claude"}'] == 2
        assert numbers['proxyd_model_tokens_total{kind="output",target="claude"}'] == 12
        cost = numbers['proxyd_model_cost_usd_total{target="claude"}']
        assert cost == pytest.approx(2 * (1 * 3.0 + 6 * 15.0) / 1e6)
        (line,) = gateway.logged("request denied")
        assert (line["rule"], line["subject"]) == ("anthropic-a-day", "alice@example.com")


def test_what_never_reached_the_model_costs_nothing(gateway: HttpGateway) -> None:
    client = openai.DefaultHttpxClient(verify=gateway.context())
    with openai.OpenAI(
        base_url=f"{gateway.url}/t/gone/v1", api_key="none", http_client=client, max_retries=0
    ) as gone:
        for _ in range(4):
            with pytest.raises(openai.InternalServerError) as caught:
                gone.chat.completions.create(model="gpt-demo", messages=HELLO, max_tokens=100)
            assert caught.value.status_code == 502
    (listed,) = [line for line in budgets(gateway) if line["budget"] == "gone-a-day"]
    assert listed["spent"] == {"cost_usd": 0.0, "input_tokens": 0, "output_tokens": 0, "requests": 0}


def budgets(gateway: HttpGateway) -> list[dict[str, Any]]:
    command = [
        sys.executable,
        "-m",
        "proxyd",
        "budgets",
        "ls",
        "--json",
        "--config",
        str(gateway.config_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]
