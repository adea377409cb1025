"""Events that are like the one before: dealt with in short, and with the same outcome as each taken apart."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxyd.gates.http.bodies.interfaces import BodyRefused
from proxyd.gates.http.llm.repeated import RepeatedEvent
from tests.proxyd.gates.http.llm.masks import events, masks
from tests.proxyd.gates.http.llm.test_streams import chat_chunk, through

CARDS = masks("credit_card", "email")
BY_PATH = masks("credit_card", paths=["$..email", "$..name"])
TEXTS = st.sampled_from(
    ["4111 11", "11 1111", " 1111", "bob@", "example.org", " ", "", "ü", '"', "\n", "\\", "\u2028", "x"]
)


def response(text: str, number: int, padding: str) -> dict[str, Any]:
    return {
        "type": "response.output_text.delta",
        "sequence_number": number,
        "item_id": "m1",
        "output_index": 0,
        "content_index": 0,
        "delta": text,
        "obfuscation": padding,
    }


def anthropic(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


EVENTS = st.one_of(
    TEXTS.map(lambda text: chat_chunk({"content": text})),
    st.tuples(TEXTS, st.integers(0, 1)).map(lambda made: chat_chunk({"content": made[0]}, index=made[1])),
    TEXTS.map(lambda text: chat_chunk({"content": text}, "stop")),
    TEXTS.map(lambda text: chat_chunk({"content": text, "name": "bob@example.org"})),
    TEXTS.map(lambda text: chat_chunk({"reasoning": "4111 1111 1111 1111", "content": text})),
    st.builds(response, TEXTS, st.integers(0, 300), st.sampled_from(["", "abc", "4111111111111111"])),
    TEXTS.map(anthropic),
    TEXTS.map(
        lambda text: chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": f'"{text}"'}}]})
    ),
    st.just("[DONE]"),
)
STREAMS = st.lists(st.tuples(EVENTS, st.integers(1, 4)), max_size=8).map(
    lambda runs: events([event for event, times in runs for _ in range(times)])
)


@pytest.mark.parametrize("these", [CARDS, BY_PATH], ids=["detectors", "both"])
@given(data=STREAMS, size=st.sampled_from([0, 1, 50, 333]))
@example(
    data=events([chat_chunk({"content": text}) for text in ["a", "b", "4111 1111", " 1111 11", "11 c"]]),
    size=0,
)
@settings(deadline=None, max_examples=200)
def test_the_outcome_is_that_of_each_taken_apart(these: Any, data: bytes, size: int) -> None:
    with patch.object(RepeatedEvent, "like", staticmethod(lambda *_: None)):
        expected = outcome(data, these)
    assert outcome(data, these, size) == expected


def outcome(data: bytes, these: Any, size: int = 0) -> bytes | str:
    try:
        return through(data, these, size)
    except BodyRefused as refused:
        return refused.reason


def test_the_third_of_a_kind_is_dealt_with_in_short() -> None:
    sent = [chat_chunk({"content": f"word {number} "}) for number in range(10)]
    with patch.object(
        RepeatedEvent, "with_text", autospec=True, side_effect=RepeatedEvent.with_text
    ) as short:
        through(events(sent), CARDS)
    assert short.call_count == 8


def test_what_differs_beside_the_piece_stays() -> None:
    sent = [response(f"word{number} ", number, "x" * number) for number in range(6)]
    out = through(events(sent), CARDS)
    found = [json.loads(line[6:]) for line in out.decode().splitlines() if line.startswith("data: ")]
    assert [(each["sequence_number"], each["obfuscation"]) for each in found[:6]] == [
        (number, "x" * number) for number in range(6)
    ]


def test_nothing_may_differ_where_any_member_may_be_text() -> None:
    sent = [
        {**response("word ", 7, ""), "arguments": {"obfuscation": padding}}
        for padding in ("a", "b", "c", "4111111111111111", "d")
    ]
    assert b"4111" not in through(events(sent), CARDS)
