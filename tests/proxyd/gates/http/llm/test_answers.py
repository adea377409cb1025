"""What an answer came to, whole or streamed, in both shapes, however it is cut into pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from demo import model_anthropic, model_openai
from proxyd.gates.http.llm.answer_facts import MAX_ARGUMENTS, MAX_TOOL_CALLS, AnswerFacts, ToolCall
from proxyd.gates.http.llm.answers import MAX_WHOLE_BYTES, AnswerWatcher

ASK = [{"role": "user", "content": "Use the tool, please"}]
TOOLS = [{"type": "function", "function": {"name": "search_a", "parameters": {}}}]
CALL = ToolCall("search_a", '{"question": "Use the tool, please"}')


def events(documents: Iterable[str | dict[str, Any]], end: str = "\n") -> bytes:
    lines = [
        f"data: {each}{end}{end}"
        if isinstance(each, str)
        else f"event: {each['type']}{end}data: {json.dumps(each)}{end}{end}"
        for each in documents
    ]
    return "".join(lines).encode()


def watched(data: bytes, *, is_stream: bool, size: int = 0) -> AnswerFacts:
    watcher = AnswerWatcher(is_stream=is_stream)
    for start in range(0, len(data), size or max(1, len(data))):
        watcher.feed(data[start : start + (size or len(data))])
    return watcher.finish()


def whole(document: object) -> AnswerFacts:
    return watched(json.dumps(document).encode(), is_stream=False)


CHAT = {"model": "gpt-demo", "messages": ASK, "tools": TOOLS}
RESPONSE = {
    "model": "gpt-demo",
    "input": "Use the tool, please",
    "tools": [{"type": "function", "name": "search_a"}],
}
MESSAGE = {"model": "claude-demo", "max_tokens": 99, "messages": ASK, "tools": [{"name": "search_a"}]}


@pytest.mark.parametrize(
    ("answer", "stop_reason"),
    [
        (model_openai.chat(CHAT), "tool_calls"),
        (model_openai.response(RESPONSE), "completed"),
        (model_anthropic.message(MESSAGE), "tool_use"),
    ],
)
def test_whole_answers(answer: dict[str, Any], stop_reason: str) -> None:
    facts = whole(answer)
    assert (facts.model, facts.stop_reason, facts.is_whole) == (answer["model"], stop_reason, True)
    assert (facts.input_tokens, facts.is_estimated) == (8, False)
    assert facts.output_tokens > 5
    (call,) = facts.tool_calls
    assert call.name == "search_a"
    assert json.loads(call.arguments) == {"question": "Use the tool, please"}


@pytest.mark.parametrize("size", [0, 1, 7, 100])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("stream", "stop_reason"),
    [
        (list(model_openai.chat_events({**CHAT, "stream_options": {"include_usage": True}})), "tool_calls"),
        (list(model_openai.response_events(RESPONSE)), "completed"),
        (list(model_anthropic.message_events(MESSAGE)), "tool_use"),
    ],
)
def test_streams(stream: list[str | dict[str, Any]], stop_reason: str, end: str, size: int) -> None:
    facts = watched(events(stream, end), is_stream=True, size=size)
    assert (facts.stop_reason, facts.is_whole) == (stop_reason, True)
    assert (facts.input_tokens, facts.is_estimated) == (8, False)
    assert facts.output_tokens > 5
    assert facts.tool_calls == (CALL,)


def test_a_stream_without_usage_is_estimated() -> None:
    stream = list(
        model_openai.chat_events({"model": "gpt-demo", "messages": [{"role": "user", "content": "x" * 300}]})
    )
    facts = watched(events(stream), is_stream=True)
    assert facts.is_estimated and facts.is_whole
    assert facts.input_tokens is None
    assert facts.output_tokens == -(-len("You said: " + "x" * 300) // 3)


@pytest.mark.parametrize("kept", range(0, 12))
def test_a_stream_that_is_cut_off_is_not_whole(kept: int) -> None:
    """Wherever it is cut before the model has said that it is done."""
    for stream in (
        list(model_openai.chat_events(CHAT)),
        list(model_openai.response_events(RESPONSE)),
        list(model_anthropic.message_events(MESSAGE)),
    ):
        assert len(stream) > 14
        assert not watched(events(stream[:kept]), is_stream=True).is_whole


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, (10, 0, 0, 5)),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 8}},
            (2, 8, 0, 5),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 80}},
            (0, 10, 0, 5),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": None}, (10, 0, 0, 5)),
        (
            {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}},
            (6, 4, 0, 5),
        ),
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 50,
            },
            (10, 100, 50, 5),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 5},
            },
            (2, 3, 5, 5),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 50},
            },
            (0, 3, 7, 5),
        ),
        ({"prompt_tokens": 10, "total_tokens": 10}, (10, 0, 0, 0)),
    ],
)
def test_usage(usage: dict[str, Any], expected: tuple[int, int, int, int]) -> None:
    facts = whole({"model": "m", "usage": usage})
    assert (facts.input_tokens, facts.cached_tokens, facts.written_tokens, facts.output_tokens) == expected
    assert not facts.is_estimated


@pytest.mark.parametrize(
    "usage",
    [None, [], "many", {"completion_tokens": -5}, {"completion_tokens": "5"}, {"output_tokens": 1e9}, {}],
)
def test_usage_that_is_none_is_estimated(usage: object) -> None:
    facts = whole({"model": "m", "choices": [{"message": {"content": "abcdef"}}], "usage": usage})
    assert facts.is_estimated and facts.output_tokens == 2


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_answer_that_goes_on_without_us_is_not_whole(status: str) -> None:
    """`background: true` gives a number to ask for later: what it costs is not known yet."""
    facts = whole({"object": "response", "status": status, "model": "m", "output": [], "usage": None})
    assert not facts.is_whole


def test_an_incomplete_response_says_why() -> None:
    body = {"model": "gpt-demo", "input": "one two three four", "max_output_tokens": 2}
    assert whole(model_openai.response(body)).stop_reason == "max_output_tokens"
    stream = list(model_openai.response_events(body))
    assert watched(events(stream), is_stream=True).stop_reason == "max_output_tokens"


def test_several_calls_each_with_their_arguments() -> None:
    def chunk(index: int, **function: str) -> str:
        call = {"index": index, "function": function}
        return json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]})

    stream = [
        chunk(0, name="a", arguments=""),
        chunk(0, arguments='{"x":'),
        chunk(1, name="b", arguments='{"y":'),
        chunk(0, arguments="1}"),
        chunk(1, arguments="2}"),
    ]
    facts = watched(events(stream), is_stream=True)
    assert facts.tool_calls == (ToolCall("a", '{"x":1}'), ToolCall("b", '{"y":2}'))


@pytest.mark.parametrize(
    ("item", "call"),
    [
        ({"type": "custom_tool_call", "name": "code", "input": "print(1)"}, ToolCall("code", "print(1)")),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, ToolCall("web_search")),
        ({"type": "mcp_call", "name": "ask", "arguments": "{}"}, ToolCall("ask", "{}")),
    ],
)
def test_other_calls_of_responses(item: dict[str, Any], call: ToolCall) -> None:
    assert whole({"object": "response", "output": [item]}).tool_calls == (call,)


def test_the_old_function_call() -> None:
    message = {"function_call": {"name": "a", "arguments": "{}"}}
    assert whole({"choices": [{"index": 0, "message": message}]}).tool_calls == (ToolCall("a", "{}"),)


# --- bounds and nonsense ----------------------------------------------------------------------------------------


def test_what_is_kept_of_calls_is_bounded() -> None:
    calls = [{"function": {"name": "n" * 9000, "arguments": "x" * 90_000}}] * (MAX_TOOL_CALLS + 5)
    facts = whole({"choices": [{"index": 0, "message": {"tool_calls": calls}}]})
    assert (len(facts.tool_calls), facts.more_tool_calls) == (MAX_TOOL_CALLS, 5)
    assert all(len(call.arguments) == MAX_ARGUMENTS and call.is_cut for call in facts.tool_calls)
    assert all(len(call.name) < 1000 for call in facts.tool_calls)


def test_an_answer_too_long_to_be_kept_is_counted_by_its_bytes() -> None:
    watcher = AnswerWatcher(is_stream=False)
    for _ in range(10):
        watcher.feed(b"x" * (MAX_WHOLE_BYTES // 8))
    facts = watcher.finish()
    assert facts.output_tokens == -(-(MAX_WHOLE_BYTES // 8 * 10) // 3)
    assert not facts.is_whole


def test_an_event_too_long_to_be_kept_ends_the_reading() -> None:
    watcher = AnswerWatcher(is_stream=True)
    watcher.feed(events(list(model_anthropic.message_events(MESSAGE))[:3]))
    for _ in range(40):
        watcher.feed(b"data: " + b"x" * 40_000)
    facts = watcher.finish()
    assert facts.model == "claude-demo" and not facts.is_whole


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b'"text"',
        b"\xff\xfe",
        b"<html>",
        b"[" * 100_000,
        b'{"choices": 5, "usage": 5, "model": 5}',
        b'{"choices": [5, null, {"message": 5}, {"message": {"tool_calls": [5, {"function": 5}]}}]}',
        b'{"content": [{"type": "tool_use"}, {"type": 5, "text": 5}], "output": [{"type": 5}, []]}',
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_nonsense_is_no_accident(data: bytes, is_stream: bool) -> None:
    facts = watched(b"data: " + data + b"\n\n" if is_stream else data, is_stream=is_stream)
    assert facts.tool_calls == () and facts.output_tokens == 0


def test_odd_events_are_no_accident() -> None:
    stream: list[str | dict[str, Any]] = [
        {"type": "response.output_text.delta", "delta": 5},
        {"type": "response.completed", "response": None},
        {"type": "response.output_item.added", "item": []},
        {"type": "content_block_start", "content_block": 5},
        {"type": "content_block_delta", "delta": []},
        {"type": "message_delta", "usage": 5, "delta": 5},
        {"type": "message_start", "message": 5},
        json.dumps({"choices": [{"delta": {"tool_calls": [{"index": [], "function": {"arguments": "x"}}]}}]}),
        json.dumps({"type": 5, "choices": None}),
    ]
    assert watched(events(stream), is_stream=True).tool_calls == ()
