"""Whatever JSON a caller or a provider sends: facts come out, or a refusal, and never an accident."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.llm.content import content_of
from policy.llm.prices import PriceTable, price
from policy.llm.prompts import PromptPattern
from policy.llm.reading import read_call
from policy.llm.rule import LlmRule, Range
from policy.patterns import Glob
from proxyd.gates.http.bodies.interfaces import BodyRefused
from proxyd.gates.http.llm.answers import AnswerWatcher
from proxyd.gates.http.llm.streams import LlmStream
from tests.proxyd.gates.http.llm.masks import events, masks

WORDS = """
    arguments cache_control choices completion content content_block content_index data delta document file file_data
    finish_reason function function_call functions image_url index input input_audio input_schema item item_id logprobs
    max_tokens mcp_servers message messages metadata model n name object output output_index parameters part
    partial_json previous_response_id prompt response role source stop_reason stream system text thinking tool_calls
    tools type url usage
""".split()  # noqa: SIM905
TYPES = """
    content_block_delta content_block_start content_block_stop custom document file function function_call image
    image_url input_audio input_json_delta message_delta message_start message_stop response.completed
    response.function_call_arguments.delta response.output_item.added response.output_text.delta
    response.output_text.done text text_delta thinking_delta tool_result tool_use completion
""".split()  # noqa: SIM905
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["4111 1111 1111 1111", "password of", "{", '{"a": "4111', "", "\ud800", *TYPES]),
    st.text(max_size=5),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6)
PRICES = PriceTable((price(["*"], 1.0, 2.0),))
RULE = LlmRule(
    models=(Glob("gpt-*"),),
    tools=(Glob("search_*"),),
    prompts=(PromptPattern("password"),),
    max_tokens=Range(None, 100),
    cost_usd=Range(None, 1.0),
)
PATHS = {
    "openai": ["/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings", "/v1/files"],
    "anthropic": ["/v1/messages", "/v1/complete", "/v1/messages/count_tokens"],
}


@settings(max_examples=200, deadline=None)
@given(api=st.sampled_from(sorted(PATHS)), body=st.one_of(BODIES, VALUES), data=st.data())
def test_any_request(api: str, body: Any, data: st.DataObject) -> None:
    facts = read_call(api, "POST", data.draw(st.sampled_from(PATHS[api])), body, PRICES)
    assert facts is not None
    assert facts.input_tokens >= 0 and (facts.max_tokens is None or 0 <= facts.max_tokens <= 2**53)
    RULE.touches(facts, body)
    RULE.covers(facts, body)
    if facts.estimated_cost_usd is not None:
        assert 0 <= facts.estimated_cost_usd < 1e12


@settings(max_examples=200, deadline=None)
@given(st.one_of(BODIES, VALUES))
def test_a_text_with_the_words_is_found_unless_it_is_a_setting(body: Any) -> None:
    """Below `messages` every text counts that is no plain word under a key of the API's."""
    found = content_of(
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "the words"}, body]}]}
    )
    assert "the words" in set(found.texts)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(BODIES, VALUES), max_size=5), st.integers(1, 40))
def test_any_stream(given_documents: list[Any], size: int) -> None:
    wire = events([json.dumps(document) for document in given_documents])
    watcher = AnswerWatcher(is_stream=True)
    watcher.feed(wire)
    watcher.finish()
    for with_masks in (masks("credit_card"), masks("credit_card", paths=["$..name", "$.choices[*].index"])):
        stream = LlmStream(with_masks)
        out = b""
        try:
            for start in range(0, len(wire), size):
                out += stream.feed(wire[start : start + size])
            out += stream.finish()
        except BodyRefused:
            pass
        assert b"4111 1111 1111 1111" not in _without_labels(out)


def _without_labels(out: bytes) -> bytes:
    """What a text under a label of the API's says is the API's own, and stays."""
    labels = b"model role type object item_id finish_reason previous_response_id stop_reason"
    for label in labels.split():
        out = out.replace(b'"%s":"4111 1111 1111 1111"' % label, b"")
    return out


@settings(max_examples=200, deadline=None)
@given(st.one_of(BODIES, VALUES))
def test_any_answer(document: Any) -> None:
    watcher = AnswerWatcher(is_stream=False)
    watcher.feed(json.dumps(document).encode())
    facts = watcher.finish()
    assert facts.output_tokens >= 0
