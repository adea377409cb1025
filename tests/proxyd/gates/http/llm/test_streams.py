"""Masks on streams: whatever is cut where, nothing gets through, nothing is lost, and the stream keeps its shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from demo import model_anthropic, model_openai
from proxyd.gates.http.bodies.interfaces import BodyMasks, BodyRefused
from proxyd.gates.http.llm.gate import stream_masks
from proxyd.gates.http.llm.streams import LlmStream
from tests.proxyd.gates.http.llm.masks import Document, documents, events, masks

CARD = "4111 1111 1111 1111"
BEFORE, AFTER = "Pay with ", ", please."
TEXT = BEFORE + CARD + AFTER
MASKED = BEFORE + "<credit_card>" + AFTER
CARDS = masks("credit_card")


def through(data: bytes, with_masks: BodyMasks = CARDS, size: int = 0) -> bytes:
    stream = LlmStream(with_masks)
    step = size or max(1, len(data))
    out = [stream.feed(data[start : start + step]) for start in range(0, len(data), step)]
    return b"".join([*out, stream.finish()])


# --- one text in pieces, in each shape --------------------------------------------------------------------------


def chat_chunk(delta: Document, finish_reason: str | None = None, index: int = 0) -> str:
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
    return json.dumps({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def chat(pieces: Iterable[str], field: str = "content") -> list[str | Document]:
    chunks = [chat_chunk({field: piece}) for piece in pieces]
    return [chat_chunk({"role": "assistant", "content": ""}), *chunks, chat_chunk({}, "stop"), "[DONE]"]


def refusal(pieces: Iterable[str]) -> list[str | Document]:
    return chat(pieces, "refusal")


def reasoning(pieces: Iterable[str]) -> list[str | Document]:
    return chat(pieces, "reasoning_content")


def completion(pieces: Iterable[str]) -> list[str | Document]:
    chunks = [
        json.dumps({"choices": [{"index": 0, "text": piece, "finish_reason": None}]}) for piece in pieces
    ]
    return [*chunks, json.dumps({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}), "[DONE]"]


def ends_with_text(pieces: Iterable[str]) -> list[str | Document]:
    """The last piece and the end in one chunk."""
    *first, last = pieces
    return [
        *(chat_chunk({"content": piece}) for piece in first),
        chat_chunk({"content": last}, "stop"),
        "[DONE]",
    ]


def no_end(pieces: Iterable[str]) -> list[str | Document]:
    return [chat_chunk({"content": piece}) for piece in pieces]


def message(pieces: Iterable[str], kind: str = "text_delta", key: str = "text") -> list[str | Document]:
    deltas: list[Document] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": kind, key: piece}} for piece in pieces
    ]
    return [
        {"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]


def thinking(pieces: Iterable[str]) -> list[str | Document]:
    return message(pieces, "thinking_delta", "thinking")


def old_completion(pieces: Iterable[str]) -> list[str | Document]:
    made: list[str | Document] = [
        {"type": "completion", "completion": piece, "stop_reason": None} for piece in pieces
    ]
    return [*made, {"type": "completion", "completion": "", "stop_reason": "stop_sequence"}]


def response(pieces: Iterable[str], kind: str = "response.output_text") -> list[str | Document]:
    given = list(pieces)
    place: Document = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    whole = "".join(given)
    part = {"type": "output_text", "text": whole, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "content": [part]}
    return [
        {"type": "response.created", "response": {"id": "resp_1", "output": []}},
        *({"type": f"{kind}.delta", **place, "delta": piece} for piece in given),
        {"type": f"{kind}.done", **place, "text": whole},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "resp_1", "output": [item]}},
    ]


def summary(pieces: Iterable[str]) -> list[str | Document]:
    return response(pieces, "response.reasoning_summary_text")


SHAPES: list[Callable[[Iterable[str]], list[str | Document]]] = [
    chat,
    refusal,
    reasoning,
    completion,
    ends_with_text,
    no_end,
    message,
    thinking,
    old_completion,
    response,
    summary,
]


def text_of(found: list[tuple[str, Any]]) -> str:
    """The running text as a client adds it up."""
    text = ""
    for _, document in found:
        if not isinstance(document, dict):
            continue
        for choice in document.get("choices", ()):
            text += choice.get("text", "")
            for value in choice.get("delta", {}).values():
                text += value if isinstance(value, str) and value != "assistant" else ""
        kind = document.get("type", "")
        if kind == "content_block_delta":
            text += next(value for key, value in document["delta"].items() if key != "type")
        elif kind.endswith(".delta"):
            text += document["delta"]
        elif kind == "completion":
            text += document["completion"]
    return text


@pytest.mark.parametrize("shape", SHAPES)
def test_a_card_cut_anywhere_is_found(shape: Callable[[Iterable[str]], list[str | Document]]) -> None:
    """Every cut into two pieces."""
    for cut in range(1, len(TEXT)):
        out = through(events(shape([TEXT[:cut], TEXT[cut:]])))
        assert text_of(documents(out)) == MASKED, cut
        assert b"1111" not in out


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_a_card_in_many_pieces_is_found(
    shape: Callable[[Iterable[str]], list[str | Document]], size: int
) -> None:
    pieces = [TEXT[start : start + size] for start in range(0, len(TEXT), size)]
    sent = shape(pieces)
    out = through(events(sent))
    found = documents(out)
    assert text_of(found) == MASKED
    assert b"1111" not in out
    assert len(found) >= len(sent), "no event goes missing"


@pytest.mark.parametrize("shape", SHAPES)
def test_every_cut_of_the_wire_gives_the_same(shape: Callable[[Iterable[str]], list[str | Document]]) -> None:
    data = events(shape(["Pay with 41", "11 1111 1111 11", "11, please."]))
    whole = through(data)
    for size in (1, 2, 13):
        assert through(data, size=size) == whole


@pytest.mark.parametrize("shape", SHAPES)
def test_text_without_matches_stays_as_it_is(shape: Callable[[Iterable[str]], list[str | Document]]) -> None:
    pieces = ["Grüße, 世界! ", "🎉 4111 ", "is a number, ", 'a "quote"', "\n\ttoo", ""]
    sent = shape(pieces)
    out = documents(through(events(sent)))
    assert text_of(out) == "".join(pieces)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_card_at_the_very_end_is_found(shape: Callable[[Iterable[str]], list[str | Document]]) -> None:
    out = through(events(shape(["My card: 4111 1111", " 1111 1111"])))
    assert text_of(documents(out)) == "My card: <credit_card>"
    assert b"1111" not in out


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_held_back_comes_before_the_end_of_its_block(
    shape: Callable[[Iterable[str]], list[str | Document]],
) -> None:
    """The end could be a match that began: `4111` is held back until it is known that nothing follows."""
    found = documents(through(events(shape(["It is", " 4111"]))))
    assert text_of(found) == "It is 4111"
    ends = [
        number
        for number, (name, document) in enumerate(found)
        if name in {"content_block_stop", "response.output_text.done", "response.reasoning_summary_text.done"}
        or (
            isinstance(document, dict)
            and any(choice.get("finish_reason") for choice in document.get("choices", ()))
        )
    ]
    for end in ends[:1]:
        assert text_of(found[: end + 1]) == "It is 4111"


def test_counts() -> None:
    stream = LlmStream(masks("credit_card", "email"))
    stream.feed(events(chat([f"{CARD} and {CARD}", " or bob@exam", "ple.net ok"])))
    stream.finish()
    assert stream.counts == {"credit_card": 2, "email": 1}


# --- several texts at once --------------------------------------------------------------------------------------


def test_each_choice_has_a_window_of_its_own() -> None:
    pieces = [TEXT[start : start + 4] for start in range(0, len(TEXT), 4)]
    chunks = [chat_chunk({"content": piece}, index=index) for piece in pieces for index in (0, 1)]
    ends = [chat_chunk({}, "stop", index=index) for index in (0, 1)]
    found = documents(through(events([*chunks, *ends])))
    for index in (0, 1):
        texts = [
            choice["delta"].get("content", "")
            for _, document in found
            for choice in document["choices"]
            if choice["index"] == index
        ]
        assert "".join(texts) == MASKED


def test_two_choices_in_one_chunk() -> None:
    def chunk(texts: tuple[str, str], finish_reason: str | None = None) -> str:
        choices = [
            {"index": index, "delta": {"content": text}, "finish_reason": finish_reason}
            for index, text in enumerate(texts)
        ]
        return json.dumps({"choices": choices})

    out = through(events([chunk(("card 4111 1111", "mail: ")), chunk((" 1111 1111", "none"), "stop")]))
    assert b"1111" not in out and b"<credit_card>" in out and b"none" in out


def test_blocks_of_a_message_are_texts_of_their_own() -> None:
    def block(index: int, text: str) -> list[Document]:
        delta = {"type": "text_delta", "text": text}
        return [
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]

    found = documents(through(events([*block(0, "It is 4111"), *block(1, " 1111 1111 1111")])))
    assert [name for name, _ in found] == [
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
    ] * 2
    assert text_of(found[:3]) == "It is 4111"


# --- arguments of tools -----------------------------------------------------------------------------------------

ARGUMENTS = json.dumps({"note": f"card {CARD}", "number": 4111111111111111, "list": ["a\nb", 5, None, True]})
MASKED_ARGUMENTS = {"note": "card <credit_card>", "number": "<credit_card>", "list": ["a\nb", 5, None, True]}


def chat_call(pieces: Iterable[str]) -> list[str | Document]:
    def chunk(**function: str) -> str:
        return chat_chunk({"tool_calls": [{"index": 0, "function": function}]})

    return [
        chunk(name="f", arguments=""),
        *(chunk(arguments=piece) for piece in pieces),
        chat_chunk({}, "tool_calls"),
    ]


def function_call(pieces: Iterable[str]) -> list[str | Document]:
    return [
        *(chat_chunk({"function_call": {"arguments": piece}}) for piece in pieces),
        chat_chunk({}, "function_call"),
    ]


def message_call(pieces: Iterable[str]) -> list[str | Document]:
    return message(pieces, "input_json_delta", "partial_json")


def response_call(pieces: Iterable[str]) -> list[str | Document]:
    given = list(pieces)
    place: Document = {"item_id": "fc_1", "output_index": 0}
    kind = "response.function_call_arguments"
    whole = "".join(given)
    item = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": whole}
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "arguments": ""}},
        *({"type": f"{kind}.delta", **place, "delta": piece} for piece in given),
        {"type": f"{kind}.done", **place, "arguments": whole},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]


def arguments_of(found: list[tuple[str, Any]]) -> str:
    text = ""
    for _, document in found:
        for choice in document.get("choices", ()):
            for call in choice["delta"].get("tool_calls", ()):
                text += call["function"]["arguments"]
            text += choice["delta"].get("function_call", {}).get("arguments", "")
        if document.get("type") == "content_block_delta":
            text += document["delta"]["partial_json"]
        elif document.get("type", "").endswith(".delta"):
            text += document["delta"]
    return text


@pytest.mark.parametrize("shape", [chat_call, function_call, message_call, response_call])
@pytest.mark.parametrize("size", [1, 3, 8, 1000])
def test_arguments_stay_json(shape: Callable[[Iterable[str]], list[str | Document]], size: int) -> None:
    pieces = [ARGUMENTS[start : start + size] for start in range(0, len(ARGUMENTS), size)]
    out = through(events(shape(pieces)))
    assert json.loads(arguments_of(documents(out))) == MASKED_ARGUMENTS
    assert b"1111" not in out
    for name, document in documents(out):
        if name.endswith(".done"):
            assert json.loads(document.get("arguments") or document["item"]["arguments"]) == MASKED_ARGUMENTS


def test_a_call_is_complete_before_the_next_one_begins() -> None:
    """Clients take it so."""

    def chunk(index: int, arguments: str) -> str:
        return chat_chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})

    found = documents(
        through(events([chunk(0, '{"a": 4111'), chunk(0, "}"), chunk(1, "{}"), chat_chunk({}, "tool_calls")]))
    )
    calls = [call for _, document in found for call in document["choices"][0]["delta"].get("tool_calls", ())]
    first = [call["function"]["arguments"] for call in calls if call["index"] == 0]
    assert json.loads("".join(first)) == {"a": 4111}
    indexes = [call["index"] for call in calls]
    assert indexes == sorted(indexes)


def test_arguments_that_the_model_did_not_end_are_cut_where_they_are_known() -> None:
    out = through(events(chat_call(['{"note": "card 4111 1111 1111 1111'])))
    assert b"1111" not in out


def test_arguments_that_are_no_json_are_refused() -> None:
    with pytest.raises(BodyRefused, match="arguments of a tool"):
        through(events(chat_call(["{card: 4111 1111", " 1111 1111}"])))


def test_the_input_of_a_tool_that_comes_whole() -> None:
    block = {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "f",
        "input": {"note": CARD, "number": 4111111111111111},
    }
    out = through(events([{"type": "content_block_start", "index": 0, "content_block": block}]))
    (start,) = documents(out)
    assert start[1]["content_block"]["input"] == {"note": "<credit_card>", "number": "<credit_card>"}


# --- what stands beside the texts -------------------------------------------------------------------------------


def test_labels_stay_as_they_are() -> None:
    """An identifier may look like anything, and the client needs it."""
    digits = CARD.replace(" ", "")
    labels = {
        "id": digits,
        "system_fingerprint": digits,
        "object": digits,
        "model": digits,
        "service_tier": digits,
    }
    chunk = {**labels, "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": digits}]}}]}
    ((_, found),) = documents(through(events([json.dumps(chunk)])))
    assert found == chunk


def test_logprobs_are_left_out() -> None:
    tokens = {"content": [{"token": "4111", "bytes": [52], "top_logprobs": []}, {"token": " 1111"}]}
    choice = {"index": 0, "delta": {"content": "4111"}, "logprobs": tokens, "finish_reason": None}
    delta = {
        "type": "response.output_text.delta",
        "item_id": "m",
        "delta": "4111",
        "logprobs": [{"token": "4111"}],
    }
    for document in (json.dumps({"choices": [choice]}), delta):
        (found, *_) = documents(through(events([document])))
        assert '"token"' not in json.dumps(found)
        assert '"logprobs"' in json.dumps(found)


def test_texts_that_are_no_pieces_are_masked_whole() -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": f"cannot charge {CARD}"}}
    citation = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "citations_delta", "citation": {"cited_text": f"Card {CARD}"}},
    }
    unknown = {"type": "hologram", "layers": [{"caption": CARD}]}
    out = through(events([citation, unknown, error]))
    assert out.count(b"<credit_card>") == 3 and b"1111" not in out


@pytest.mark.parametrize(
    "raw",
    [
        b": a comment\n\n",
        b"retry: 3000\n\n",
        b"event: ping\ndata: {}\n\n",
        b"id: 5\nevent: x\n\n",
        b"\n\n",
        b"data: [DONE]\n\n",
    ],
)
def test_other_events_pass(raw: bytes) -> None:
    assert through(raw) == raw


def test_comments_and_names_are_looked_through() -> None:
    out = through(f": card {CARD}\nid: {CARD}\ndata: {{}}\n\n".encode())
    assert out == b": card <credit_card>\nid: <credit_card>\ndata: {}\n\n"


def test_an_event_that_was_not_ended_is_dropped() -> None:
    assert through(b'data: {"x": 1}\n\ndata: {"y": ') == b'data: {"x":1}\n\n'


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"data: hello\n\n", "not JSON"),
        (b"data: [1]\n\n", "not a JSON object"),
        (b'data: {"x": NaN}\n\n', "not JSON"),
        (b'data: {"x": "\xff"}\n\n', "not JSON"),
        (b"data: " + b'{"x":' * 300 + b"1" + b"}" * 300 + b"\n\n", "too deep"),
        (b"data: " + b"x" * (2 << 20), "too long"),
    ],
)
def test_what_cannot_be_masked_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BodyRefused, match=words):
        through(data)


def test_texts_at_once_are_bounded() -> None:
    chunks = [chat_chunk({"content": "x"}, index=index) for index in range(1000)]
    with pytest.raises(BodyRefused, match="too many"):
        through(events(chunks))


def test_odd_labels_are_no_accident() -> None:
    odd: list[Document] = [
        {"type": "content_block_delta", "index": [1], "delta": {"type": "text_delta", "text": CARD}},
        {"type": "content_block_delta", "index": 0, "delta": "text"},
        {"type": "content_block_stop", "index": {}},
        {"type": "response.output_text.delta", "output_index": {}, "item_id": [], "delta": CARD},
        {"type": "response.output_text.done", "output_index": {}, "item_id": []},
        {"type": "response.x.delta", "delta": {"deep": CARD}},
    ]
    out = through(
        events([*odd, json.dumps({"choices": [{"index": {}, "delta": {"content": CARD}}, 5, {"delta": 5}]})])
    )
    assert b"1111" not in out


def test_a_name_that_says_it_twice_is_said_once() -> None:
    """Two readers could take different ones: the client gets the one that was looked at."""
    data = f'data: {{"choices": [], "note": "{CARD}", "note": "fine"}}\n\n'.encode()
    assert through(data) == b'data: {"choices":[],"note":"fine"}\n\n'


# --- masks by path ----------------------------------------------------------------------------------------------


def test_paths_are_about_each_event() -> None:
    with_paths = masks(paths=["$..system_fingerprint", "$.usage.prompt_tokens"])
    chunk = {
        "system_fingerprint": "fp_1",
        "choices": [],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7},
    }
    ((_, found),) = documents(through(events([json.dumps(chunk)]), with_paths))
    assert found["system_fingerprint"] == "[redacted]"
    assert found["usage"]["prompt_tokens"] != 5 and found["usage"]["completion_tokens"] == 7


@pytest.mark.parametrize("path", ["$..content", "$.choices[*].delta.content", "$.choices", "$..delta"])
def test_a_text_that_a_path_is_about_does_not_come(path: str) -> None:
    out = through(events(chat(["alpha", " secret", " words"])), masks(paths=[path]))
    assert not any(word in out for word in (b"alpha", b"secret", b"words"))


DOCUMENT = json.dumps({"name": "Ada", "email": "ada@example.net", "nested": {"email": "eve@example.net"}})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("start", ["", " \n"])
def test_a_model_asked_for_json_is_no_way_round_a_path(
    shape: Callable[[Iterable[str]], list[str | Document]], start: str
) -> None:
    whole = start + DOCUMENT
    pieces = [whole[at : at + 5] for at in range(0, len(whole), 5)]
    out = through(events(shape(pieces)), masks(paths=["$..email"]))
    assert b"example.net" not in out
    found = json.loads(text_of(documents(out)))
    assert found == {"name": "Ada", "email": "[redacted]", "nested": {"email": "[redacted]"}}


@pytest.mark.parametrize("shape", [chat_call, function_call, message_call, response_call])
def test_paths_are_about_the_arguments_of_tools_too(
    shape: Callable[[Iterable[str]], list[str | Document]],
) -> None:
    pieces = [DOCUMENT[at : at + 5] for at in range(0, len(DOCUMENT), 5)]
    out = through(events(shape(pieces)), masks(paths=["$..email"]))
    assert b"example.net" not in out
    assert json.loads(arguments_of(documents(out)))["name"] == "Ada"


def test_two_pieces_of_one_text_in_one_event_keep_their_order() -> None:
    calls = [{"index": 0, "function": {"arguments": text}} for text in ('{"a": ', "1}")]
    (found, *_) = documents(through(events([chat_chunk({"tool_calls": calls})]), masks(paths=["$..email"])))
    given = [call["function"]["arguments"] for call in found[1]["choices"][0]["delta"]["tool_calls"]]
    assert json.loads("".join(given)) == {"a": 1}


def test_plain_text_under_paths_still_streams() -> None:
    sent = chat(["Hello ", "there, ", "you"])
    assert documents(through(events(sent), masks(paths=["$..email"]))) == documents(events(sent))


def test_paths_and_detectors_together() -> None:
    both = masks("credit_card", paths=["$..email"])
    whole = json.dumps({"email": "ada@example.net", "note": f"card {CARD}"})
    pieces = [whole[at : at + 5] for at in range(0, len(whole), 5)]
    found = json.loads(text_of(documents(through(events(chat(pieces)), both))))
    assert found == {"email": "[redacted]", "note": "card <credit_card>"}
    assert text_of(documents(through(events(chat([TEXT[:15], TEXT[15:]])), both))) == MASKED


def test_a_document_too_long_to_be_held_is_refused() -> None:
    pieces = ["{", *('"' + "x" * 60_000 for _ in range(20))]
    with pytest.raises(BodyRefused):
        through(events(chat(pieces)), masks(paths=["$..email"]))


# --- when there is something to do ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "with_masks", "expected"),
    [
        ("text/event-stream", CARDS, True),
        ("Text/Event-Stream; charset=utf-8", CARDS, True),
        ("text/event-stream", masks(paths=["$..email"]), True),
        ("text/event-stream", masks(), False),
        ("application/json", CARDS, False),
        ("", CARDS, False),
    ],
)
def test_which_answers_are_streams_to_be_masked(
    content_type: str, with_masks: BodyMasks, expected: bool
) -> None:
    assert (stream_masks(content_type, with_masks) is not None) is expected


@pytest.mark.parametrize(
    "stream",
    [
        list(
            model_openai.chat_events(
                {"model": "m", "messages": [{"role": "user", "content": "the customer?"}]}
            )
        ),
        list(model_openai.response_events({"model": "m", "input": "the customer?"})),
        list(
            model_anthropic.message_events(
                {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "the customer?"}]}
            )
        ),
    ],
)
def test_what_the_stand_in_says(stream: list[str | Document]) -> None:
    out = through(events(stream), masks("credit_card", "email"))
    text = text_of(documents(out))
    assert text.startswith("Ada Marsh pays with card <credit_card> and reads mail at <email>. Her order")
    assert b"1111" not in out and b"example.net" not in out
