"""The stand-in for a model: the real SDKs take it for the real thing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from demo.model import ModelServer
from demo.model_replies import CUSTOMER, count

HELLO = [{"role": "user", "content": "Hello"}]
USE = [{"role": "user", "content": "Use the tool, please"}]
FUNCTION = {"name": "search", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def gpt(model: ModelServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{model.url}/v1", api_key="sk-demo", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(model: ModelServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=model.url, api_key="sk-demo", max_retries=0) as client:
        yield client


def test_chat(gpt: openai.OpenAI) -> None:
    answer = gpt.chat.completions.create(model="gpt-demo", messages=HELLO, n=2)
    assert [choice.message.content for choice in answer.choices] == ["You said: Hello"] * 2
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 2 * count("You said: Hello"))
    cut = gpt.chat.completions.create(model="gpt-demo", messages=HELLO, max_tokens=3)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("You said", "length")


def test_chat_as_a_stream(gpt: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    with gpt.chat.completions.stream(model="gpt-demo", messages=HELLO, stream_options=options) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(pieces) == final.choices[0].message.content == "You said: Hello"
    assert max(map(len, pieces)) == 3
    assert final.usage is not None and final.usage.prompt_tokens == 1


def test_tools(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    tools: Any = [{"type": "function", "function": FUNCTION}]
    with gpt.chat.completions.stream(model="gpt-demo", messages=USE, tools=tools) as stream:
        for _ in stream:
            pass
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("search", '{"question": "Use the tool, please"}')
    given: Any = [{"name": "search", "input_schema": {"type": "object"}}]
    with claude.messages.stream(model="claude-demo", max_tokens=50, messages=USE, tools=given) as other:
        (block,) = other.get_final_message().content
    assert block.type == "tool_use" and block.input == {"question": "Use the tool, please"}


def test_a_tool_s_result_is_answered_in_words(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    tools: Any = [{"type": "function", "function": FUNCTION}]
    messages: Any = [*USE, {"role": "tool", "tool_call_id": "c", "content": "Use the tool: found"}]
    answer = gpt.chat.completions.create(model="gpt-demo", messages=messages, tools=tools)
    assert answer.choices[0].message.content == "You said: Use the tool: found"
    given: Any = [{"name": "search", "input_schema": {"type": "object"}}]
    result = {"type": "tool_result", "tool_use_id": "t", "content": "Use the tool: found"}
    asked: Any = [*USE, {"role": "user", "content": [result]}]
    message = claude.messages.create(model="claude-demo", max_tokens=50, messages=asked, tools=given)
    assert message.content[0].type == "text"


def test_responses(gpt: openai.OpenAI) -> None:
    whole = gpt.responses.create(model="gpt-demo", input="a customer")
    assert whole.output_text == CUSTOMER
    with gpt.responses.stream(model="gpt-demo", input="a customer") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == CUSTOMER
    cut = gpt.responses.create(model="gpt-demo", input="a customer", max_output_tokens=3)
    assert cut.status == "incomplete"


def test_the_rest_of_openai(gpt: openai.OpenAI) -> None:
    completion = gpt.completions.create(model="gpt-demo", prompt=["a", "b"], max_tokens=50)
    assert [choice.text for choice in completion.choices] == ["You said: a", "You said: b"]
    vectors = gpt.embeddings.create(model="gpt-demo", input="abc", encoding_format="float")
    assert vectors.data[0].embedding == [3.0, 1.0]
    assert next(each.id for each in gpt.models.list()) == "gpt-demo"


def test_messages(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(model="claude-demo", max_tokens=50, messages=HELLO, system="Be kind")
    assert message.content[0].type == "text" and message.content[0].text == "You said: Hello"
    assert message.usage.input_tokens == count("Hello") + count("Be kind")
    with claude.messages.stream(model="claude-demo", max_tokens=3, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == "You said"
        assert stream.get_final_message().stop_reason == "max_tokens"
    assert claude.messages.count_tokens(model="claude-demo", messages=HELLO).input_tokens == 1
    assert next(each.id for each in claude.models.list()) == "claude-demo"


def test_errors(model: ModelServer, gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-9'"):
        gpt.chat.completions.create(model="gpt-9", messages=HELLO)
    with pytest.raises(openai.InternalServerError, match="has fallen over"):
        gpt.chat.completions.create(model="gpt-demo", messages=HELLO, user="fail")
    with pytest.raises(openai.BadRequestError, match="not understood"):
        gpt.chat.completions.create(model="gpt-demo", messages=[])
    with pytest.raises(openai.BadRequestError, match="not understood"):
        gpt.chat.completions.create(model="gpt-demo", messages=[], stream=True)
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="gpt-9", max_tokens=5, messages=HELLO)
    with (
        openai.OpenAI(base_url=f"{model.url}/v1", api_key="another", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_what_reached_it_is_known(model: ModelServer, gpt: openai.OpenAI) -> None:
    before = len(model.calls)
    gpt.chat.completions.create(model="gpt-demo", messages=HELLO)
    (call,) = model.calls[before:]
    assert (call.method, call.path, call.body["messages"]) == ("POST", "/v1/chat/completions", HELLO)
    assert call.headers["authorization"] == "Bearer sk-demo"
