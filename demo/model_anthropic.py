"""The wire shape of Anthropic's API, as far as its SDK needs it: messages, counting of tokens, models.

Pure: a parsed request in, an answer out, whole or as events. Called by `demo.model`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from demo.model_replies import Reply, count, reply_to, text_of

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    500: "api_error",
}
Document = dict[str, Any]


def error(status: int, message: str) -> Document:
    return {"type": "error", "error": {"type": ERRORS[status], "message": message}}


def models(names: tuple[str, ...]) -> Document:
    listed = [
        {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}
        for name in names
    ]
    return {"data": listed, "has_more": False, "first_id": names[0], "last_id": names[-1]}


def asked_tokens(body: Document) -> int:
    messages = sum(count(text_of(message.get("content"))) for message in body["messages"])
    return messages + count(text_of(body.get("system")))


def counted(body: Document) -> Document:
    return {"input_tokens": asked_tokens(body)}


def _reply(body: Document) -> Reply:
    last = body["messages"][-1]
    tools = [tool["name"] for tool in body.get("tools") or ()]
    if isinstance(last["content"], list) and any(
        part.get("type") == "tool_result" for part in last["content"]
    ):
        tools = []  # it has been called already
    return reply_to(text_of(last["content"]), tools, body["max_tokens"])


def _stop_reason(reply: Reply) -> str:
    return "tool_use" if reply.tool else "max_tokens" if reply.is_cut else "end_turn"


def _message(body: Document, content: list[Document], stop_reason: str | None, answered: int) -> Document:
    return {
        "id": "msg_demo",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": asked_tokens(body), "output_tokens": answered},
    }


def _block(reply: Reply) -> Document:
    if reply.tool:
        arguments = json.loads(reply.arguments)
        return {"type": "tool_use", "id": "toolu_demo", "name": reply.tool, "input": arguments}
    return {"type": "text", "text": reply.text}


def message(body: Document) -> Document:
    reply = _reply(body)
    return _message(body, [_block(reply)], _stop_reason(reply), reply.tokens)


def message_events(body: Document) -> Iterator[Document]:
    reply = _reply(body)
    yield {"type": "message_start", "message": _message(body, [], None, 1)}
    block = {**_block(reply), "input": {}} if reply.tool else {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "ping"}
    for piece in reply.pieces():
        if reply.tool:
            delta = {"type": "input_json_delta", "partial_json": piece}
        else:
            delta = {"type": "text_delta", "text": piece}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    stop = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": reply.tokens}}
    yield {"type": "message_stop"}
