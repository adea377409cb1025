"""Where in an event of a model's stream pieces of text stand, and which text each of them goes on.

A stream brings a text in pieces: what a mask looks for may begin in one event and end in another. `pieces_of` names the
pieces of one event: the place in its document, and the block (one running text) that it belongs to. `ended_by` names
the blocks after which no more of them comes. Both shapes, and for OpenAI chat, completions and responses. Strings that
are no pieces are texts of their own; `is_text` says which of them a reader reads. Called by
`proxyd.gates.http.llm.streams`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Block = tuple[object, ...]
"""What a running text is known by: ("chat", choice, field...), ("response", ...), ("anthropic", index...)."""

_CHAT_FIELDS: Final = ("content", "refusal", "reasoning_content", "reasoning")
_ANTHROPIC_FIELDS: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
_LABELS: Final = frozenset(
    {
        "call_id",
        "encrypted_content",
        "event_id",
        "finish_reason",
        "id",
        "item_id",
        "model",
        "object",
        "obfuscation",
        "response_id",
        "previous_response_id",
        "role",
        "service_tier",
        "signature",
        "status",
        "stop_reason",
        "system_fingerprint",
        "tool_call_id",
        "tool_use_id",
        "type",
    }
)
DROPPED: Final = "logprobs"
"""The text once more, token by token, which no mask could see."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`holder[key]` is a piece of `block`. is_json: what the pieces make together is a JSON document."""

    block: Block
    holder: dict[str, Any]
    key: str
    is_json: bool = False

    @property
    def text(self) -> str:
        return str(self.holder[self.key])


def pieces_of(event: Mapping[str, Any]) -> Iterator[Piece]:
    kind = event.get("type")
    if not isinstance(kind, str):
        for choice in _objects(event.get("choices")):
            yield from _choice_pieces(choice)
    elif kind == "content_block_delta":
        delta = event.get("delta")
        if isinstance(delta, dict):
            yield from _block_pieces(label(event.get("index")), delta)
    elif kind.endswith(".delta") and isinstance(event, dict) and isinstance(event.get("delta"), str):
        yield Piece(_response_block(kind, event), event, "delta", is_json="arguments" in kind)
    elif kind == "completion":
        yield from _strings(("anthropic", "completion"), event, ("completion",))


def ended_by(event: Mapping[str, Any], open_blocks: Iterable[Block]) -> list[Block]:
    """Those of `open_blocks` that have come to their end before what `event` says."""
    kind = event.get("type")
    if kind == "content_block_stop":
        return [block for block in open_blocks if block[:2] == ("anthropic", label(event.get("index")))]
    if isinstance(kind, str):
        if kind in {"message_delta", "message_stop", "error"}:
            return list(open_blocks)
        return _ended_response(kind, event, open_blocks) if kind.startswith("response.") else []
    ended: list[Block] = []
    for choice in _objects(event.get("choices")):
        index = label(choice.get("index"))
        mine = [block for block in open_blocks if block[:2] == ("chat", index)]
        if choice.get("finish_reason") is not None:
            going_on = {piece.block for piece in _choice_pieces(choice)}
            ended += [block for block in mine if block not in going_on]
        else:
            ended += _overtaken(choice, mine)
    return ended


def ends_choice(event: Mapping[str, Any], block: Block) -> bool:
    """Does this event hold the last piece of `block` and its end in one?"""
    if event.get("type") == "completion":
        return event.get("stop_reason") is not None
    return block[0] == "chat" and any(
        label(choice.get("index")) == block[1] and choice.get("finish_reason") is not None
        for choice in _objects(event.get("choices"))
    )


def is_text(key: str) -> bool:
    """Is a string under this key one that a person reads, rather than a label of the API's?"""
    return key not in _LABELS


def _choice_pieces(choice: Mapping[str, Any]) -> Iterator[Piece]:
    index = label(choice.get("index"))
    if isinstance(choice, dict) and isinstance(choice.get("text"), str):
        yield Piece(("chat", index, "text"), choice, "text")
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return
    yield from _strings(("chat", index), delta, _CHAT_FIELDS)
    for number, call in enumerate(_objects(delta.get("tool_calls"))):
        place = ("chat", index, "tool", label(call.get("index", number)))
        for name, key in (("function", "arguments"), ("custom", "input")):
            inner = call.get(name)
            if isinstance(inner, dict) and isinstance(inner.get(key), str):
                yield Piece(place, inner, key, is_json=key == "arguments")
    function = delta.get("function_call")
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        yield Piece(("chat", index, "function_call"), function, "arguments", is_json=True)


def _block_pieces(index: object, delta: dict[str, Any]) -> Iterator[Piece]:
    key = _ANTHROPIC_FIELDS.get(str(delta.get("type")))
    if key is not None and isinstance(delta.get(key), str):
        yield Piece(("anthropic", index, key), delta, key, is_json=key == "partial_json")


def _strings(place: Block, holder: Mapping[str, Any], keys: Iterable[str]) -> Iterator[Piece]:
    for key in keys:
        if isinstance(holder, dict) and isinstance(holder.get(key), str):
            yield Piece((*place, key), holder, key)


def _response_block(kind: str, event: Mapping[str, Any]) -> Block:
    place = tuple(
        label(event.get(key)) for key in ("output_index", "item_id", "content_index", "summary_index")
    )
    return ("response", kind.removesuffix(".delta"), *place)


def _ended_response(kind: str, event: Mapping[str, Any], open_blocks: Iterable[Block]) -> list[Block]:
    if kind in {"response.completed", "response.incomplete", "response.failed", "response.output_item.done"}:
        index = label(event.get("output_index"))
        return [block for block in open_blocks if index is None or block[2:3] == (index,)]
    if kind == "response.content_part.done":
        place = tuple(label(event.get(key)) for key in ("output_index", "item_id", "content_index"))
        return [block for block in open_blocks if block[2:5] == place]
    if kind.endswith(".done"):
        return [
            block
            for block in open_blocks
            if block == _response_block(f"{kind.removesuffix('.done')}.delta", event)
        ]
    return []


def _overtaken(choice: Mapping[str, Any], mine: Iterable[Block]) -> list[Block]:
    """Clients take a call of a tool as complete when the next one begins, and the text when the first one does."""
    begun = {piece.block for piece in _choice_pieces(choice) if piece.block[2] == "tool"}
    if not begun:
        return []
    return [block for block in mine if block not in begun]


def label(value: object) -> int | str | None:
    """What tells one part of an answer from others; whatever is no such thing is none."""
    return value if isinstance(value, (int, str)) else None


def _objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))
