"""What is known of a model's answer: usage, calls of tools, why it ended. Read out of documents of either shape.

An answer comes whole, or as a stream of events each of which is a document; `AnswerReading` takes both, one document at
a time, and keeps no more of them than `AnswerFacts` has. Called by `proxyd.gates.http.llm.answers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from policy.llm.length import BYTES_PER_TOKEN
from proxyd.gates.http.llm.deltas import label

MAX_TOOL_CALLS: Final = 64
MAX_ARGUMENTS: Final = 4096
MAX_NAME: Final = 256
_UNFINISHED: Final = ("queued", "in_progress")  # it goes on without us


class ToolCall(msgspec.Struct, frozen=True):
    """A tool that the model asks for. `arguments`: JSON as the client got it, cut at MAX_ARGUMENTS characters."""

    name: str
    arguments: str = ""
    is_cut: bool = False


class AnswerFacts(msgspec.Struct, frozen=True):
    """What an answer came to.

    input_tokens: those that were neither kept by the provider nor are now; None where the answer does not say.
    is_estimated: the answer carries no usage, and `output_tokens` are counted from its text. is_whole: it has come to
    its own end. more_tool_calls: how many there were beyond those listed.
    """

    model: str = ""
    input_tokens: int | None = None
    cached_tokens: int = 0
    written_tokens: int = 0
    output_tokens: int = 0
    is_estimated: bool = True
    is_whole: bool = False
    stop_reason: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    more_tool_calls: int = 0


class _Call:
    """A tool call while its arguments come in pieces."""

    __slots__ = ("arguments", "is_cut", "name")

    def __init__(self, name: str) -> None:
        self.name = name[:MAX_NAME]
        self.arguments = ""
        self.is_cut = False

    def add(self, text: str) -> None:
        self.arguments += text[: MAX_ARGUMENTS - len(self.arguments)]
        self.is_cut = self.is_cut or len(self.arguments) == MAX_ARGUMENTS


class AnswerReading:
    """Reads documents of one answer, in their order."""

    def __init__(self) -> None:
        self._calls: dict[object, _Call] = {}
        self._more_calls = 0
        self._model = ""
        self._stop_reason = ""
        self._is_whole = False
        self._usage: dict[str, int] = {}
        self._text_bytes = 0

    def facts(self) -> AnswerFacts:
        usage = self._usage
        said = "output" in usage
        return AnswerFacts(
            model=self._model,
            input_tokens=usage.get("input"),
            cached_tokens=usage.get("cached", 0),
            written_tokens=usage.get("written", 0),
            output_tokens=usage["output"] if said else -(-self._text_bytes // BYTES_PER_TOKEN),
            is_estimated=not said,
            is_whole=self._is_whole,
            stop_reason=self._stop_reason,
            tool_calls=tuple(
                ToolCall(call.name, call.arguments, call.is_cut) for call in self._calls.values()
            ),
            more_tool_calls=self._more_calls,
        )

    def end(self) -> None:
        """The answer says that it is over (`[DONE]`)."""
        self._is_whole = True

    # --- whole answers ---

    def take_whole(self, document: object) -> None:
        if not isinstance(document, Mapping):
            return
        self._take_head(document)
        for choice in _objects(document.get("choices")):  # OpenAI: chat, completions
            self._take_choice(choice, "message")
        for item in _objects(document.get("output")):  # OpenAI: responses
            self._take_item(item, object())
        for block in _objects(document.get("content")):  # Anthropic
            self._take_block(block, object())
        self._add_text(document.get("completion"))
        self._stop(document.get("stop_reason"))
        self._is_whole = document.get("status") not in _UNFINISHED
        self._stop_of_response(document)

    # --- streams ---

    def take_event(self, document: object) -> None:
        if not isinstance(document, Mapping):
            return
        kind = document.get("type")
        if isinstance(kind, str) and kind.startswith("response."):
            self._take_response_event(kind, document)
        elif isinstance(kind, str):
            self._take_anthropic_event(kind, document)
        else:
            self._take_head(document)
            self._add_text(document.get("completion"))
            for choice in _objects(document.get("choices")):
                self._take_choice(choice, "delta")

    def _take_response_event(self, kind: str, event: Mapping[str, Any]) -> None:
        place = (label(event.get("output_index")), label(event.get("item_id")))
        if kind in {"response.completed", "response.incomplete", "response.failed"}:
            response = event.get("response")
            if isinstance(response, Mapping):
                self._take_head(response)
                self._stop_of_response(response)
            self._is_whole = True
        elif kind == "response.created":
            response = event.get("response")
            self._take_head(response if isinstance(response, Mapping) else {})
        elif kind == "response.output_item.added":
            item = event.get("item")
            if isinstance(item, Mapping):
                self._take_item(item, (label(event.get("output_index")), label(item.get("id"))))
        elif kind.endswith(".delta") and isinstance(event.get("delta"), str):
            self._text_bytes += len(event["delta"].encode("utf-8", "replace"))
            if "arguments" in kind or kind.endswith("_input.delta"):
                self._add_arguments(place, event["delta"])

    def _take_anthropic_event(self, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "message_start" and isinstance(event.get("message"), Mapping):
            self._take_head(event["message"])
        elif kind == "content_block_start" and isinstance(event.get("content_block"), Mapping):
            self._take_block(event["content_block"], label(event.get("index")), in_pieces=True)
        elif kind == "content_block_delta" and isinstance(event.get("delta"), Mapping):
            delta = event["delta"]
            for key in ("text", "thinking", "partial_json"):
                self._add_text(delta.get(key))
            if isinstance(delta.get("partial_json"), str):
                self._add_arguments(label(event.get("index")), delta["partial_json"])
        elif kind == "message_delta":
            self._take_usage(event.get("usage"))
            delta = event.get("delta")
            self._stop(delta.get("stop_reason") if isinstance(delta, Mapping) else None)
        elif kind == "message_stop":
            self._is_whole = True
        elif kind == "completion":  # the old text completions
            self._take_head(event)
            self._add_text(event.get("completion"))
            if event.get("stop_reason") is not None:
                self._stop(event["stop_reason"])
                self._is_whole = True

    # --- their parts ---

    def _take_head(self, document: Mapping[str, Any]) -> None:
        model = document.get("model")
        if isinstance(model, str) and model:
            self._model = model[:MAX_NAME]
        self._take_usage(document.get("usage"))

    def _take_choice(self, choice: Mapping[str, Any], key: str) -> None:
        index = label(choice.get("index"))
        self._add_text(choice.get("text"))
        message = choice.get(key)
        if isinstance(message, Mapping):
            for name in ("content", "refusal", "reasoning_content", "reasoning"):
                self._add_text(message.get(name))
            for number, call in enumerate(_objects(message.get("tool_calls"))):
                self._take_function(call, (index, label(call.get("index", number))))
            if isinstance(message.get("function_call"), Mapping):
                self._take_function({"function": message["function_call"]}, (index, "function_call"))
        self._stop(choice.get("finish_reason"))

    def _take_function(self, call: Mapping[str, Any], place: object) -> None:
        inner = call.get("function") or call.get("custom")
        if not isinstance(inner, Mapping):
            return
        if isinstance(inner.get("name"), str) and inner["name"]:
            self._begin(place, inner["name"])
        for key in ("arguments", "input"):
            if isinstance(inner.get(key), str):
                self._add_text(inner[key])
                self._add_arguments(place, inner[key])

    def _take_item(self, item: Mapping[str, Any], place: object) -> None:
        kind = item.get("type")
        if isinstance(kind, str) and kind.endswith("_call"):
            name = item.get("name")
            self._begin(place, name if isinstance(name, str) else kind.removesuffix("_call"))
            for key in ("arguments", "input"):
                if isinstance(item.get(key), str):
                    self._add_text(item[key])
                    self._add_arguments(place, item[key])
            return
        for part in (*_objects(item.get("content")), *_objects(item.get("summary"))):
            self._add_text(part.get("text"))
            self._add_text(part.get("refusal"))

    def _take_block(self, block: Mapping[str, Any], place: object, *, in_pieces: bool = False) -> None:
        kind = block.get("type")
        self._add_text(block.get("text"))
        self._add_text(block.get("thinking"))
        if isinstance(kind, str) and kind.endswith("tool_use") and isinstance(block.get("name"), str):
            self._begin(place, block["name"])
            if block.get("input") or not in_pieces:  # a stream begins with {}
                arguments = _encoded(block.get("input"))
                self._add_text(arguments)
                self._add_arguments(place, arguments)

    def _begin(self, place: object, name: str) -> None:
        if place in self._calls:
            return
        if len(self._calls) >= MAX_TOOL_CALLS:
            self._more_calls += 1
            return
        self._calls[place] = _Call(name)

    def _add_arguments(self, place: object, text: str) -> None:
        call = self._calls.get(place)
        if call is not None:
            call.add(text)

    def _add_text(self, text: object) -> None:
        if isinstance(text, str):
            self._text_bytes += len(text.encode("utf-8", "replace"))

    def _stop(self, reason: object) -> None:
        if isinstance(reason, str) and reason:
            self._stop_reason = reason[:MAX_NAME]
            self._is_whole = True

    def _stop_of_response(self, response: Mapping[str, Any]) -> None:
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, Mapping) else None
        if response.get("object") == "response" and response.get("status") not in _UNFINISHED:
            self._stop(reason or response.get("status"))

    def _take_usage(self, usage: object) -> None:
        """Later numbers are the whole count, not more of it (both APIs)."""
        if not isinstance(usage, Mapping):
            return
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        inputs = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
        outputs = _count(usage.get("completion_tokens", usage.get("output_tokens")))
        cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else None
        if inputs is not None and cached is not None:
            cached = min(cached, inputs)
            inputs -= cached  # OpenAI counts them in, Anthropic apart
        written = _count(details.get("cache_write_tokens")) if isinstance(details, Mapping) else None
        if inputs is not None and written is not None:
            written = min(written, inputs)
            inputs -= written
        if cached is None:
            cached = _count(usage.get("cache_read_input_tokens"))
        if written is None:
            written = _count(usage.get("cache_creation_input_tokens"))
        if outputs is None and inputs is not None and "total_tokens" in usage:
            outputs = 0  # embeddings
        for key, value in (("input", inputs), ("output", outputs), ("cached", cached), ("written", written)):
            if value is not None:
                self._usage[key] = value


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, Mapping))


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**53 else None
