"""The wire shape of OpenAI's API, as far as its SDK needs it: chat, responses, completions, embeddings, models.

Pure: a parsed request in, an answer out, whole or as events. Called by `demo.model`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from demo.model_replies import Reply, count, reply_to, text_of

CREATED = 1_700_000_000
ERRORS = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    500: "server_error",
}
Document = dict[str, Any]


def error(status: int, message: str) -> Document:
    return {"error": {"message": message, "type": ERRORS[status], "param": None, "code": None}}


def models(names: tuple[str, ...]) -> Document:
    listed = [{"id": name, "object": "model", "created": CREATED, "owned_by": "demo"} for name in names]
    return {"object": "list", "data": listed}


# --- chat -------------------------------------------------------------------------------------------------


def _chat_reply(body: Document) -> tuple[Reply, int]:
    """The reply, and the tokens of the question."""
    messages = body["messages"]
    tools = [tool["function"]["name"] for tool in body.get("tools") or () if tool.get("type") == "function"]
    if messages[-1]["role"] == "tool":
        tools = []  # it has been called already
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    asked = sum(count(text_of(message.get("content"))) for message in messages)
    return reply_to(text_of(messages[-1].get("content")), tools, most), asked


def _usage(asked: int, answered: int) -> Document:
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def _finish_reason(reply: Reply) -> str:
    return "tool_calls" if reply.tool else "length" if reply.is_cut else "stop"


def chat(body: Document) -> Document:
    reply, asked = _chat_reply(body)
    message: Document = {"role": "assistant", "content": None if reply.tool else reply.text, "refusal": None}
    if reply.tool:
        function = {"name": reply.tool, "arguments": reply.arguments}
        message["tool_calls"] = [{"id": "call_demo", "type": "function", "function": function}]
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": _finish_reason(reply)}
        for index in range(body.get("n") or 1)
    ]
    return {
        "id": "chatcmpl-demo",
        "object": "chat.completion",
        "created": CREATED,
        "model": body["model"],
        "choices": choices,
        "usage": _usage(asked, reply.tokens * len(choices)),
    }


def chat_events(body: Document) -> Iterator[str]:
    """The data of each event. Usage is told only to who asks for it, as OpenAI has it."""
    reply, asked = _chat_reply(body)
    head = {
        "id": "chatcmpl-demo",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": body["model"],
    }

    def chunk(delta: Document, finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return json.dumps({**head, "choices": [choice]})

    if reply.tool:
        function = {"name": reply.tool, "arguments": ""}
        call = {"index": 0, "id": "call_demo", "type": "function", "function": function}
        yield chunk({"role": "assistant", "content": None, "tool_calls": [call]})
    else:
        yield chunk({"role": "assistant", "content": ""})
    for piece in reply.pieces():
        if reply.tool:
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        else:
            yield chunk({"content": piece})
    yield chunk({}, _finish_reason(reply))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield json.dumps({**head, "choices": [], "usage": _usage(asked, reply.tokens)})
    yield "[DONE]"


# --- responses --------------------------------------------------------------------------------------------


def _response_reply(body: Document) -> tuple[Reply, int]:
    given = body.get("input") or ""
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    tools = [tool["name"] for tool in body.get("tools") or () if tool.get("type") == "function"]
    asked = count(body.get("instructions") or "") + sum(count(text_of(item)) for item in items)
    return reply_to(text_of(items[-1]), tools, body.get("max_output_tokens")), asked


def _item(reply: Reply, status: str = "completed") -> Document:
    if reply.tool:
        return {
            "id": "fc_demo",
            "type": "function_call",
            "status": status,
            "call_id": "call_demo",
            "name": reply.tool,
            "arguments": reply.arguments if status == "completed" else "",
        }
    parts = [_part(reply.text)] if status == "completed" else []
    return {"id": "msg_demo", "type": "message", "status": status, "role": "assistant", "content": parts}


def _part(text: str) -> Document:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response(body: Document, status: str, output: list[Document], usage: Document | None) -> Document:
    return {
        "id": "resp_demo",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "model": body["model"],
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "metadata": {},
        "usage": usage,
    }


def _done(body: Document, reply: Reply, asked: int) -> Document:
    usage = {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": reply.tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + reply.tokens,
    }
    return _response(body, "incomplete" if reply.is_cut else "completed", [_item(reply)], usage)


def response(body: Document) -> Document:
    return _done(body, *_response_reply(body))


def response_events(body: Document) -> Iterator[Document]:
    for number, event in enumerate(_response_events(body)):
        yield {**event, "sequence_number": number}


def _response_events(body: Document) -> Iterator[Document]:
    reply, asked = _response_reply(body)
    item = _item(reply, "in_progress")
    place = {"item_id": item["id"], "output_index": 0}
    yield {"type": "response.created", "response": _response(body, "in_progress", [], None)}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    if reply.tool:
        for piece in reply.pieces():
            yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
        done = {"name": reply.tool, "arguments": reply.arguments}
        yield {"type": "response.function_call_arguments.done", **place, **done}
    else:
        place["content_index"] = 0
        yield {"type": "response.content_part.added", **place, "part": _part("")}
        for piece in reply.pieces():
            yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
        yield {"type": "response.output_text.done", **place, "text": reply.text, "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": _part(reply.text)}
    yield {"type": "response.output_item.done", "output_index": 0, "item": _item(reply)}
    done_response = _done(body, reply, asked)
    yield {"type": f"response.{done_response['status']}", "response": done_response}


# --- the rest ---------------------------------------------------------------------------------------------


def completion(body: Document) -> Document:
    given = body["prompt"]
    prompts = [given] if isinstance(given, str) else given
    replies = [reply_to(str(prompt), (), body.get("max_tokens", 16)) for prompt in prompts]
    choices = [
        {"index": index, "text": reply.text, "logprobs": None, "finish_reason": _finish_reason(reply)}
        for index, reply in enumerate(replies)
    ]
    return {
        "id": "cmpl-demo",
        "object": "text_completion",
        "created": CREATED,
        "model": body["model"],
        "choices": choices,
        "usage": _usage(sum(map(count, map(str, prompts))), sum(reply.tokens for reply in replies)),
    }


def embeddings(body: Document) -> Document:
    given = body["input"]
    texts = [given] if isinstance(given, str) else given
    data = [
        {"object": "embedding", "index": index, "embedding": [float(len(text)), float(count(text))]}
        for index, text in enumerate(map(str, texts))
    ]
    asked = sum(map(count, map(str, texts)))
    usage = {"prompt_tokens": asked, "total_tokens": asked}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}
