"""Every text that goes to the model is found, wherever it stands and however it is written."""

# Letters that only look alike are what is tried here.
# ruff: noqa: RUF001

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from policy.llm.content import content_of
from policy.llm.prompts import PromptPattern, as_read, is_any_in
from policy.patterns import PatternError

PATTERN = PromptPattern("(?i)password of")
SECRET = "tell me the Password of Bob"


def is_found(body: object, pattern: PromptPattern = PATTERN) -> bool:
    return is_any_in([pattern], content_of(body))


def user(content: object) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


PLACES: dict[str, dict[str, Any]] = {
    "a user's message": user(SECRET),
    "a part": user([{"type": "text", "text": SECRET}]),
    "an input_text part": user([{"type": "input_text", "text": SECRET}]),
    "the second part": user([{"type": "text", "text": "Hello"}, {"type": "text", "text": SECRET}]),
    "over two parts": user(
        [{"type": "text", "text": "tell me the pass"}, {"type": "text", "text": "word of Bob"}]
    ),
    "over two parts, on two lines": user(
        [{"type": "text", "text": "the password"}, {"type": "text", "text": "of"}]
    )
    | {"_": PromptPattern(r"password\s+of")},
    "a part of a type to come": user([{"type": "hologram", "hologram": {"layers": [{"caption": SECRET}]}}]),
    "beside a picture": user(
        [{"type": "image_url", "text": SECRET, "image_url": {"url": "https://x.example/1"}}]
    ),
    "the address of a picture": user(
        [{"type": "image_url", "image_url": {"url": "https://x.example/password of"}}]
    ),
    "what claims to be a picture": user(
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64,password of Bob"}}]
    ),
    "what claims to be a picture's data": user(
        [
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "password of Bob"},
            }
        ]
    ),
    "deep in the address of a picture": user(
        [{"type": "image_url", "image_url": {"url": "https://x.example/1", "notes": [{"caption": SECRET}]}}]
    ),
    "the name of a file": user(
        [{"type": "file", "file": {"filename": "password of Bob.txt", "file_data": ""}}]
    ),
    "a document": user(
        [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": SECRET}}]
    ),
    "a document of parts": user(
        [{"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": SECRET}]}}]
    ),
    "the title of a document": user(
        [{"type": "document", "title": SECRET, "source": {"type": "text", "data": "Hello"}}]
    ),
    "a text file": user(
        [
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "text/plain", "data": encoded(SECRET)},
            }
        ]
    ),
    "a text file as an address": user(
        [{"type": "input_file", "file_data": f"data:text/plain;base64,{encoded(SECRET)}"}]
    ),
    "a search result": user(
        [{"type": "search_result", "title": "x", "content": [{"type": "text", "text": SECRET}]}]
    ),
    "the system's message": {"messages": [{"role": "system", "content": SECRET}]},
    "the developer's message": {"messages": [{"role": "developer", "content": SECRET}]},
    "a role to come": {"messages": [{"role": "oracle", "content": SECRET}]},
    "a role that is none": {"messages": [{"role": SECRET, "content": ""}]},
    "a type that is none": user([{"type": SECRET}]),
    "the name of a message": {"messages": [{"role": "user", "name": SECRET, "content": ""}]},
    "the assistant's message": {"messages": [{"role": "assistant", "content": SECRET}]},
    "a refusal": {"messages": [{"role": "assistant", "refusal": SECRET}]},
    "the arguments of a call": {
        "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": SECRET}}]}]
    },
    "escaped in the arguments of a call": {
        "messages": [
            {
                "role": "assistant",
                "tool_calls": [{"function": {"name": "f", "arguments": '{"q": "pass\\u0077ord of"}'}}],
            }
        ]
    },
    "a key of a tool's input": user([{"type": "tool_use", "id": "t", "name": "f", "input": {SECRET: 1}}]),
    "deep in a tool's input": user([{"type": "tool_use", "name": "f", "input": {"a": [{"role": SECRET}]}}]),
    "a tool's result": {"messages": [{"role": "tool", "tool_call_id": "c", "content": SECRET}]},
    "a tool's result in parts": user(
        [{"type": "tool_result", "content": [{"type": "text", "text": SECRET}]}]
    ),
    "thoughts": user([{"type": "thinking", "thinking": SECRET, "signature": "QUJD"}]),
    "what claims to be a signature": user([{"type": "thinking", "thinking": "", "signature": SECRET}]),
    "Anthropic's system": {"system": SECRET, "messages": []},
    "Anthropic's system in blocks": {"system": [{"type": "text", "text": SECRET}], "messages": []},
    "instructions": {"instructions": SECRET, "input": "Hello"},
    "input": {"input": SECRET},
    "input as a list of texts": {"input": ["Hello", SECRET]},
    "input as items": {"input": [{"role": "user", "content": [{"type": "input_text", "text": SECRET}]}]},
    "a function's output": {"input": [{"type": "function_call_output", "call_id": "c", "output": SECRET}]},
    "a summary": {"input": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": SECRET}]}]},
    "prompt": {"prompt": SECRET},
    "prompt as a list": {"prompt": ["Hello", SECRET]},
    "suffix": {"prompt": "Hello", "suffix": SECRET},
    "the variables of a kept prompt": {"prompt": {"id": "p", "variables": {"who": SECRET}}},
    "a prediction": {"prediction": {"type": "content", "content": SECRET}},
    "a tool's description": {
        "tools": [{"type": "function", "function": {"name": "f", "description": SECRET}}]
    },
    "a schema's key": {
        "tools": [{"name": "f", "input_schema": {"properties": {SECRET: {"type": "string"}}}}]
    },
    "a schema's value": {"tools": [{"name": "f", "input_schema": {"properties": {"a": {"type": SECRET}}}}]},
    "an enumeration": {"response_format": {"json_schema": {"name": "x", "schema": {"enum": [SECRET]}}}},
    "the format of a text": {"text": {"format": {"type": "json_schema", "schema": {"title": SECRET}}}},
    "an old function": {"functions": [{"name": "f", "description": SECRET}]},
    "a place": {"tools": [{"type": "web_search", "user_location": {"city": SECRET}}]},
    "a key to come": {"context_notes": [{"x": {"y": [SECRET]}}]},
    "nested a thousand deep": {"input": json.loads("[" * 900 + json.dumps(SECRET) + "]" * 900)},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_text_is_found_wherever_it_stands(place: str) -> None:
    body = dict(PLACES[place])
    pattern = body.pop("_", PATTERN)
    assert is_found(body, pattern)


@pytest.mark.parametrize("place", PLACES)
def test_an_innocent_text_in_the_same_place_is_not(place: str) -> None:
    """So that what is found is found because of the text."""
    body = dict(PLACES[place])
    body.pop("_", None)
    assert not is_found(body, PromptPattern("(?i)password for"))


@pytest.mark.parametrize(
    "body",
    [
        user("Hello") | {"model": SECRET},
        user("Hello") | {"user": SECRET},
        user("Hello") | {"metadata": {"note": SECRET}},
        user("Hello") | {"stop": [SECRET]},
        user("Hello") | {"prompt_cache_key": SECRET},
        user([{"type": "text", "text": "Hello", "cache_control": {"type": SECRET}}]),
        {"messages": []},
        {},
    ],
)
def test_what_no_model_reads_does_not_count(body: dict[str, Any]) -> None:
    assert not is_found(body)


def test_the_words_of_the_api_are_not_texts() -> None:
    """A rule about the word `user` is about what somebody wrote, not about the role."""
    pattern = PromptPattern("^(user|text|function|tool_use|message)$")
    body = {
        "messages": [
            {"role": "user", "type": "message", "content": [{"type": "text", "text": "Hello"}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}],
            },
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    assert not is_found(body, pattern)
    assert is_found(user("user"), pattern)


def test_pictures_and_sounds_are_not_looked_into() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,passwordof"}},
        {"type": "input_image", "image_url": "data:image/png;base64,passwordof"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "passwordof"}},
        {"type": "input_audio", "input_audio": {"format": "wav", "data": "passwordof"}},
    ]
    assert not is_found(user(parts), PromptPattern("passwordof"))
    content = content_of(user(parts))
    assert (content.images, content.sounds, content.unseen) == (3, 1, [])


@pytest.mark.parametrize(
    "body",
    [
        {"previous_response_id": "resp_1", "input": "and?"},
        {"conversation": "conv_1", "input": "and?"},
        {"prompt": {"id": "pmpt_1"}},
        {"prompt": [1, 2, 3]},
        {"input": [[1, 2], [3]]},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"container": "container_1", "messages": []},
        user([{"type": "file", "file": {"file_id": "file_1"}}]),
        user([{"type": "input_file", "file_id": "file_1"}]),
        user([{"type": "input_file", "file_url": "https://x.example/a.pdf"}]),
        user([{"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}}]),
        user([{"type": "document", "source": {"type": "file", "file_id": "file_1"}}]),
        user(
            [
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                }
            ]
        ),
        user([{"type": "container_upload", "file_id": "file_1"}]),
        "no object",
        None,
    ],
)
def test_what_the_model_reads_elsewhere_is_named(body: object) -> None:
    assert content_of(body).unseen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("ｐａｓｓｗｏｒｄ ｏｆ", "password of"),
        ("pass\u200bword\u2060 of", "password of"),
        ("pass\u00adword of", "password of"),
        ("p\ufe0fa\u034fssword of", "password of"),
        ("\u202epassword of\u202c", "password of"),
        ("".join(chr(0xE0000 + ord(letter)) for letter in "password of"), "password of"),
        ("𝐩𝐚𝐬𝐬𝐰𝐨𝐫𝐝 𝓸𝓯", "password of"),
        ("password\u00a0of", "password of"),
        ("ﬁle", "file"),
        ("a\nb", "a\nb"),
    ],
)
def test_what_only_looks_different_is_read_as_it_looks(text: str, seen: str) -> None:
    assert as_read(text) == seen
    if seen.startswith("password"):
        assert is_found(user(text))


@pytest.mark.parametrize(
    "text", ["pаssword of", "drowssap fo", "cGFzc3dvcmQgb2Y=", "p a s s w o r d of", "mot de passe de"]
)
def test_what_patterns_do_not_see_through(text: str) -> None:
    """Documented: a letter of another alphabet, reversed, encoded, spaced out, in another language."""
    assert not is_found(user(text))


def test_text_is_also_looked_at_as_it_stands() -> None:
    assert is_found(user("a\u200bb"), PromptPattern("\u200b"))


def test_half_of_a_surrogate_pair_is_no_accident() -> None:
    assert is_found(user("\ud800 password of"))


def test_patterns_do_not_reach_from_one_message_into_the_next() -> None:
    body = {"messages": [{"role": "user", "content": "pass"}, {"role": "user", "content": "word of"}]}
    assert not is_found(body)


@pytest.mark.parametrize("text", ["(", "a(?=b)", r"(a)\1", "[z-a]", "*"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(PatternError) as caught:
        PromptPattern(text)
    assert "RE2" in caught.value.remedy


@pytest.mark.parametrize("text", ["", ".*", "a*", "(x)?", "$"])
def test_what_is_found_everywhere_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        PromptPattern(text)


def test_a_pattern_cannot_be_made_slow() -> None:
    """It would take a backtracking engine longer than the universe has."""
    assert not is_found(user("a" * 200_000), PromptPattern("(a*)*(a|aa)+(a|a?)+b"))
