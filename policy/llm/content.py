"""What of a request goes to the model: its texts, and what else is there that is not text.

Both shapes are walked by the same eyes: whatever key a text stands under, it counts, unless the key is known to hold
something that the model does not read (settings, identifiers, the bytes of a picture). So a role, a part or a key that
comes into fashion tomorrow is seen today. What reaches the model without standing in the request (a file by its id, a
conversation kept by the provider) is named in `unseen`. Pure, and without recursion: depth is no attack. Called by
`policy.llm.reading` and `policy.llm.rule`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# What stands at the top of a request and says how the model is to be run, not what it is to read.
_SETTINGS = frozenset(
    {
        "audio", "background", "best_of", "betas", "dimensions", "echo", "encoding_format",
        "frequency_penalty", "include", "inference_geo", "logit_bias", "logprobs", "max_completion_tokens",
        "max_output_tokens", "max_tokens", "max_tokens_to_sample", "max_tool_calls", "metadata",
        "modalities", "model", "models", "n", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
        "prompt_cache_retention", "reasoning", "reasoning_effort", "safety_identifier", "seed",
        "service_tier", "stop", "stop_sequences", "store", "stream", "stream_options", "temperature",
        "thinking", "tool_choice", "top_k", "top_logprobs", "top_p", "truncation", "user", "verbosity",
    }
)  # fmt: skip
# What names or sorts a thing. Left out only while the value is one plain word: a sentence is read wherever it stands.
_WORDS = frozenset(
    {
        "action", "call_id", "detail", "format", "id", "item_id", "media_type", "mime_type", "phase",
        "role", "server_label", "status", "strict", "tool_call_id", "tool_use_id", "ttl", "type",
        "verbosity",
    }
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9_.:/+-]{0,128}")
_SEALED = frozenset({"encrypted_content", "signature"})  # made by the provider, and nobody else can make one
_BASE64 = re.compile(r"[A-Za-z0-9+/_=\r\n-]*")
_DATA_URL = re.compile(
    r"data:(?P<type>[^,;]*)(?:;[^,;]*)*;base64,(?P<data>[A-Za-z0-9+/_=\r\n-]*)", re.IGNORECASE
)
_FREE = frozenset({"input_schema", "output_schema", "parameters", "schema", "examples", "input_examples"})

_IMAGES = frozenset({"image", "image_url", "input_image", "computer_screenshot"})
_FILES = frozenset({"file", "input_file", "document", "container_upload"})
_SOUNDS = frozenset({"input_audio", "audio"})
IN_TOKENS = "a prompt in tokens instead of text"
_KEPT = {
    "previous_response_id": "a conversation that the provider keeps (previous_response_id)",
    "conversation": "a conversation that the provider keeps",
    "container": "a container that the provider keeps",
    "data_sources": "sources that the provider asks itself (data_sources)",
    "plugins": "what the provider's plug-ins bring",
}


@dataclass(slots=True)
class Content:
    """groups: the texts of each message, tool or other item, in their order. unseen: what the model reads besides
    them, and why it is not seen. things: messages, parts and tools, each of which costs a few tokens around it."""

    groups: list[list[str]] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    images: int = 0
    sounds: int = 0
    tokens: int = 0  # given as numbers instead of text
    things: int = 0
    is_cached: bool = False

    @property
    def texts(self) -> Iterator[str]:
        for group in self.groups:
            yield from group

    @property
    def text_bytes(self) -> int:
        return sum(
            len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in self.texts
        )


def content_of(body: object) -> Content:
    """What the parsed JSON `body` gives the model to read."""
    content = Content()
    if not isinstance(body, Mapping):
        content.unseen.append("the body is not a JSON object")
        return content
    for key, value in body.items():
        if value is None:
            continue
        if key in _KEPT:
            content.unseen.append(_KEPT[key])
            _take(content, value)
        elif key == "prompt" and isinstance(value, Mapping):
            content.unseen.append("a prompt that the provider keeps")
            _take(content, value)
        elif key == "thread":
            if value != {"type": "create"}:
                content.unseen.append("a conversation that the provider keeps (thread)")
            _take(content, value)
        elif key in {"cache_control", "prompt_cache_options"}:
            content.is_cached = True
        elif key not in _SETTINGS:
            items = value if isinstance(value, list) else [value]
            if items and all(type(item) is int for item in items):  # a prompt in tokens
                _take_tokens(content, len(items))
                continue
            for item in items:
                if isinstance(item, list) and item and all(type(token) is int for token in item):
                    _take_tokens(content, len(item))
                else:
                    _take(content, item)
    return content


def _take_tokens(content: Content, count: int) -> None:
    content.tokens += count
    content.unseen.append(IN_TOKENS)


def _take(content: Content, item: object) -> None:
    group: list[str] = []
    # (value, is free): inside of what is free, as a schema or the arguments of a call, keys are read by the model too
    stack: list[tuple[object, bool]] = [(item, False)]
    while stack:
        value, is_free = stack.pop()
        if isinstance(value, str):
            if value:
                group.append(value)
        elif isinstance(value, list):
            stack.extend((inner, is_free) for inner in reversed(value))
        elif isinstance(value, Mapping):
            if is_free:
                for key, inner in reversed(list(value.items())):
                    stack.append((inner, True))
                    stack.append((key, True))
            else:
                stack.extend(reversed(list(_inside(content, value))))
    content.things += 1
    if group:
        content.groups.append(group)


def _inside(content: Content, part: Mapping[str, Any]) -> Iterator[tuple[object, bool]]:
    """The values of one object of the API's own that the model reads."""
    content.things += 1
    kind = part.get("type")
    if not isinstance(kind, str):
        kind = ""
    if kind in _IMAGES:
        content.images += 1
    elif kind in _SOUNDS:
        content.sounds += 1
    elif kind == "item_reference":
        content.unseen.append("an item that the provider keeps")
    if kind in _FILES:
        yield from _file(content, part)
        return
    for key, value in part.items():
        if key in {"cache_control", "prompt_cache_breakpoint"}:
            content.is_cached = content.is_cached or value is not None
        elif isinstance(value, str):
            if _is_read(content, kind, key, value):
                yield value, False
            if key == "arguments" and "\\" in value:
                yield _decoded(value), True
        elif kind in _IMAGES and key in {"source", "image_url"} and isinstance(value, Mapping):
            yield from ((inner, False) for inner in _addresses(value))
        elif kind in _SOUNDS and isinstance(value, Mapping):
            yield (
                {name: inner for name, inner in value.items() if name != "data" or not _is_base64(inner)},
                False,
            )
        else:
            is_call = key in {"input", "arguments"} and isinstance(value, Mapping)
            yield value, key in _FREE or is_call


def _is_read(content: Content, kind: str, key: str, value: str) -> bool:
    if key in _WORDS:
        return _WORD.fullmatch(value) is None
    if key in _SEALED or (kind == "redacted_thinking" and key == "data"):
        return _BASE64.fullmatch(value) is None
    if kind in _IMAGES and key == "image_url":
        return _DATA_URL.fullmatch(value) is None
    return True


def _addresses(source: Mapping[str, Any]) -> Iterator[object]:
    """What says where a picture is to be had, and what else is said there; not the picture."""
    for key, value in source.items():
        is_text = isinstance(value, str)
        is_word = is_text and key in _WORDS and _WORD.fullmatch(value)
        is_picture = (key == "data" and _is_base64(value)) or (
            key == "url" and is_text and _DATA_URL.fullmatch(value)
        )
        if not is_word and not is_picture:
            yield value


def _is_base64(value: object) -> bool:
    return isinstance(value, str) and _BASE64.fullmatch(value) is not None


def _file(content: Content, part: Mapping[str, Any]) -> Iterator[tuple[object, bool]]:
    """A document: text where it is given as text, else something that only the provider reads."""
    for key, value in part.items():
        if key in {"file", "source"} and isinstance(value, Mapping):
            yield from _file_source(content, value)
        elif isinstance(value, str) and key in {"file_data", "file_id", "file_url"}:
            yield from _file_source(content, {key: value})
        elif key == "cache_control":
            content.is_cached = content.is_cached or value is not None
        elif not (key in _WORDS and isinstance(value, str) and _WORD.fullmatch(value)):
            yield value, False


def _file_source(content: Content, source: Mapping[str, Any]) -> Iterator[tuple[object, bool]]:
    kind = source.get("type")
    for key, value in source.items():
        if key in {"file_id", "file_url"} or (key == "url" and kind == "url"):
            content.unseen.append("a file that stands elsewhere")
        elif key in {"file_data", "data"} and kind != "text":
            text = _text_in(value, str(source.get("media_type", "")))
            if text is None:
                content.unseen.append("a file that is not text")
            else:
                yield text, False
        elif not (key in _WORDS and isinstance(value, str) and _WORD.fullmatch(value)):
            yield value, False


def _text_in(value: object, media_type: str) -> str | None:
    """The text of a file that was sent as base64, if its type says that it is text."""
    if not isinstance(value, str):
        return None
    address = _DATA_URL.fullmatch(value)
    if address is not None:
        media_type, value = address["type"], address["data"]
    if not media_type.lower().startswith("text/") and media_type.lower() != "application/json":
        return None
    try:
        return base64.b64decode(value, validate=False).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return None


def _decoded(text: str) -> object:
    """What JSON in a text says: an escaped letter is a letter to the model."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
