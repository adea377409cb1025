"""What the executor of exchanges is told about a call of a model, and what goes on the tape."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policy.document import load_document
from policy.facts import BodyState, HttpFacts, Subject, Target
from policy.llm.budget import Amounts
from policy.llm.prices import PriceTable, price
from policy.llm.reading import is_unresolved
from proxyd.gates.http.bodies.interfaces import BodyRefused
from proxyd.gates.http.llm.call import LlmCall, sdk_of
from proxyd.gates.http.refusals import Kind, Refusal
from proxyd.store.budgets import BudgetStore
from proxyd.store.database import Database
from tests.proxyd.gates.http.llm.masks import documents, events, masks

POLICY = """\
version: 1
roles:
  data: {groups: [data]}
access:
  - {name: all, roles: [data], targets: {protocol: http}, logins: [default]}
rules:
  - {name: models, effect: allow, llm: {models: ["*"]}}
masks:
  - {name: cards, detect: [credit_card], method: token, targets: {names: [masked]}}
budgets:
  - {name: few, roles: [data], targets: {names: [model]}, per: subject, day: {requests: 2}}
"""
DOCUMENT = load_document(POLICY, "policy.yaml")
ALICE = Subject("alice", ("data",))
MODEL, MASKED, FREE = (Target(name, "http") for name in ("model", "masked", "free"))
NOW = 1_800_000_000.0
PRICES = PriceTable((price(["gpt-*"], 10.0, 100.0),))
BODY = {"model": "gpt-demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1000}
CALL = {"id": "c", "type": "function", "function": {"name": "search_a", "arguments": '{"q": 1}'}}
ANSWER = {
    "model": "gpt-demo-1",
    "choices": [{"index": 0, "message": {"tool_calls": [CALL]}, "finish_reason": "tool_calls"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 20},
}


class Tape:
    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def tool_call(self, exchange: int, name: str, arguments: object) -> None:
        self.lines.append((exchange, name, arguments))

    def usage(self, exchange: int, data: Mapping[str, object]) -> None:
        self.lines.append((exchange, dict(data)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BudgetStore]:
    database = Database.open(tmp_path / "proxyd.db")
    yield BudgetStore(database)
    database.close()


def head(path: str = "/v1/chat/completions", method: str = "POST", **more: Any) -> HttpFacts:
    return HttpFacts(method, "https", "api.example", path, body_state=BodyState.UNREAD, **more)


def call_of(
    store: BudgetStore | None = None, body: object = BODY, api: str = "openai", **where: Any
) -> LlmCall:
    call = LlmCall(api, PRICES, store)
    facts = call.read_head(head(**where))
    call.read_body(msgspec.structs.replace(facts, body=body, body_state=BodyState.JSON))
    return call


def spent(store: BudgetStore) -> list[Amounts]:
    return [row.amounts for row in store.spending("2027-01-15")]


# --- facts ------------------------------------------------------------------------------------------------------


def test_the_head_tells_the_operation_and_the_body_the_rest() -> None:
    call = LlmCall("openai", PRICES, None)
    facts = call.read_head(head())
    assert facts.llm is not None and facts.llm.operation == "chat"
    assert is_unresolved(facts.llm, "model")
    assert call.reads_body and call.is_known
    facts = call.read_body(msgspec.structs.replace(facts, body=BODY, body_state=BodyState.JSON))
    assert facts.llm is not None
    assert (facts.llm.model, facts.llm.unresolved) == ("gpt-demo", ())


@pytest.mark.parametrize(
    "state", [BodyState.NONE, BodyState.FORM, BodyState.UNKNOWN, BodyState.BROKEN, BodyState.TOO_LARGE]
)
def test_a_body_that_is_no_json_is_not_seen(state: BodyState) -> None:
    """BROKEN is also a body that says `model` twice: nobody knows which of them the provider takes."""
    call = LlmCall("openai", PRICES, None)
    facts = call.read_head(head())
    given = {"model": ["gpt-demo"]} if state is BodyState.FORM else None
    facts = call.read_body(msgspec.structs.replace(facts, body=given, body_state=state))
    assert facts.llm is not None and is_unresolved(facts.llm, "model", "prompts", "cost")


@pytest.mark.parametrize(
    ("path", "other", "is_certain"),
    [
        ("/v1/chat/completions", (), True),
        ("/v1/chat%2Fcompletions", ("/v1/chat/completions",), False),
        ("/v1/models/a%2Fb", ("/v1/models/a/b",), True),
        ("/v1/files/..%2Fresponses", ("/v1/responses",), False),
    ],
)
def test_a_path_that_can_be_read_in_two_ways(path: str, other: tuple[str, ...], is_certain: bool) -> None:
    call = LlmCall("openai", PRICES, None)
    facts = call.read_head(head(path, "GET" if "models" in path else "POST", other_paths=other))
    assert facts.llm is not None
    assert is_unresolved(facts.llm, "operation") is not is_certain


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/chat/completions", (True, True)),
        ("GET", "/v1/models", (False, False)),
        ("POST", "/v1/files", (False, False)),
    ],
)
def test_what_is_read_and_looked_into(method: str, path: str, expected: tuple[bool, bool]) -> None:
    call = LlmCall("openai", PRICES, None)
    assert not call.reads_body
    call.read_head(head(path, method))
    assert (call.reads_body, call.is_known) == expected


# --- budgets and masks ------------------------------------------------------------------------------------------


def test_budgets_are_those_of_the_subject_at_the_target(store: BudgetStore) -> None:
    for _ in range(2):
        call_of(store).reserve(DOCUMENT, ALICE, MODEL, NOW)
    with pytest.raises(Refusal) as caught:
        call_of(store).reserve(DOCUMENT, ALICE, MODEL, NOW)
    refusal = caught.value
    assert (refusal.status, refusal.kind, refusal.rule) == (429, Kind.DENIED, "few")
    assert dict(refusal.headers)["retry-after"] == str(16 * 3600)
    assert dict(refusal.headers)["x-should-retry"] == "false"
    assert refusal.body is not None
    assert "2 of 2 requests" in json.loads(refusal.body[1])["error"]["message"]
    call_of(store).reserve(DOCUMENT, ALICE, FREE, NOW)
    call_of(store).reserve(DOCUMENT, Subject("bob", ("data",)), MODEL, NOW)


def test_a_call_that_was_not_sent_is_given_back(store: BudgetStore) -> None:
    call = call_of(store)
    call.reserve(DOCUMENT, ALICE, MODEL, NOW)
    call.unsent()
    call.settle()
    assert spent(store) == [Amounts()]


def test_a_call_without_an_answer_stays_the_worst_case(store: BudgetStore) -> None:
    call = call_of(store)
    call.reserve(DOCUMENT, ALICE, MODEL, NOW)
    before = spent(store)
    call.settle()
    call.settle()
    assert spent(store) == before and call.fault == ""


def test_what_no_mask_could_be_put_on_is_not_asked_for() -> None:
    with pytest.raises(Refusal) as caught:
        call_of(body={**BODY, "logprobs": True}).reserve(DOCUMENT, ALICE, MASKED, NOW)
    assert caught.value.status == 400 and "logprobs" in caught.value.detail
    call_of(body={**BODY, "logprobs": True}).reserve(DOCUMENT, ALICE, FREE, NOW)


# --- answers ----------------------------------------------------------------------------------------------------


def test_an_answer_is_looked_into_and_passes_as_it_is(store: BudgetStore) -> None:
    call, tape = call_of(store), Tape()
    call.reserve(DOCUMENT, ALICE, MODEL, NOW)
    reader = call.answer_transformer(200, "application/json", "", masks())
    assert reader is not None
    data = json.dumps(ANSWER).encode()
    assert reader.feed(data[:50]) + reader.feed(data[50:]) + reader.finish() == data
    assert reader.counts == {}
    call.record_answer(tape, 7)
    call.settle()
    usage = {
        "model": "gpt-demo-1",
        "input_tokens": 10,
        "output_tokens": 20,
        "is_estimated": False,
        "stop_reason": "tool_calls",
        "cost_usd": pytest.approx((10 * 10 + 20 * 100) / 1e6),
    }
    assert tape.lines == [(7, "search_a", '{"q": 1}'), (7, usage)]
    assert spent(store) == [Amounts(pytest.approx(0.0021), 10, 20, 1)]


def test_what_is_taped_is_what_the_client_got() -> None:
    call, tape = call_of(), Tape()
    function = {"name": "pay", "arguments": json.dumps({"card": "4111 1111 1111 1111"})}
    choice = {"index": 0, "message": {"tool_calls": [{"function": function}]}, "finish_reason": "tool_calls"}
    reader = call.answer_transformer(200, "application/json", "", masks("credit_card"))
    assert reader is not None
    out = reader.feed(json.dumps({"choices": [choice]}).encode()) + reader.finish()
    assert b"<credit_card>" in out and b"1111" not in out
    assert reader.counts == {"credit_card": 1}
    call.record_answer(tape, 1)
    assert tape.lines[0] == (1, "pay", json.dumps({"card": "<credit_card>"}))


def test_a_stream_is_masked_over_its_events() -> None:
    call, tape = call_of(body={**BODY, "stream": True}), Tape()
    reader = call.answer_transformer(200, "text/event-stream", "", masks("credit_card"))
    assert reader is not None
    pieces = ["card 4111 11", "11 1111 1111"]
    chunks = [json.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]}) for piece in pieces]
    out = reader.feed(
        events([*chunks, json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})])
    )
    out += reader.feed(b"data: [DONE]\n\n") + reader.finish()
    texts = [
        document["choices"][0]["delta"].get("content", "")
        for _, document in documents(out)
        if document != "[DONE]"
    ]
    assert "".join(texts) == "card <credit_card>"
    call.record_answer(tape, 1)
    assert tape.lines[0][1]["is_estimated"] is True
    assert tape.lines[0][1]["output_tokens"] == 6


@pytest.mark.parametrize("detect", [(), ("credit_card",)])
def test_a_compressed_answer_is_read(detect: tuple[str, ...]) -> None:
    call, tape = call_of(), Tape()
    reader = call.answer_transformer(200, "application/json", "gzip", masks(*detect))
    assert reader is not None
    out = reader.feed(gzip.compress(json.dumps(ANSWER).encode())) + reader.finish()
    assert json.loads(out) == ANSWER
    call.record_answer(tape, 1)
    assert tape.lines[-1][1]["output_tokens"] == 20


def test_a_compression_that_is_not_read_passes_only_without_masks(store: BudgetStore) -> None:
    call = call_of(store)
    call.reserve(DOCUMENT, ALICE, MODEL, NOW)
    worst = spent(store)
    assert call.answer_transformer(200, "application/json", "compress", masks()) is None
    call.settle()
    assert spent(store) == worst
    with pytest.raises(BodyRefused):
        call_of().answer_transformer(200, "application/json", "compress", masks("email"))


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("GET", "/v1/files/f/content")])
def test_other_answers_are_masked_and_not_looked_into(method: str, path: str) -> None:
    call = LlmCall("openai", PRICES, None)
    call.read_head(head(path, method))
    assert call.answer_transformer(200, "application/json", "", masks()) is None
    assert call.answer_transformer(200, "application/json", "", masks("email")) is not None


def test_an_answer_that_broke_off_is_not_on_the_tape() -> None:
    call, tape = call_of(), Tape()
    reader = call.answer_transformer(200, "application/json", "", masks())
    assert reader is not None
    reader.feed(b'{"model"')
    call.settle()
    call.record_answer(tape, 1)
    assert tape.lines == []


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "path"), [("openai", ("error", "message")), ("anthropic", ("error", "message"))]
)
@pytest.mark.parametrize(
    ("status", "kind", "is_final"),
    [
        (403, Kind.DENIED, True),
        (403, Kind.HELD, True),
        (401, Kind.UNKNOWN, True),
        (502, Kind.TARGET, False),
        (504, Kind.TARGET, False),
        (503, Kind.INTERNAL, True),
    ],
)
def test_refusals_of_others_get_the_shape_too(
    api: str, path: tuple[str, str], status: int, kind: Kind, is_final: bool
) -> None:
    call = LlmCall(api, PRICES, None)
    given = Refusal(status, kind, "No.", hint="Do this.", rule="r", headers=(("x-a", "b"),), closes=True)
    shaped = call.in_its_shape(given)
    assert (shaped.status, shaped.kind, shaped.rule, shaped.reason, shaped.closes) == (
        status,
        kind,
        "r",
        "No.",
        True,
    )
    assert shaped.body is not None and shaped.body[0] == "application/json"
    document = json.loads(shaped.body[1])
    assert document[path[0]][path[1]] == "proxyd: No (rule r). Do this."
    headers = dict(shaped.headers)
    assert headers["x-a"] == "b"
    assert (headers.get("x-should-retry") == "false") is is_final, (
        "what a target could not do may be tried again"
    )


def test_a_shape_is_given_once() -> None:
    given = Refusal(429, Kind.DENIED, "No.", body=("application/json", b"{}"))
    assert LlmCall("openai", PRICES, None).in_its_shape(given) is given


@pytest.mark.parametrize(
    ("headers", "api"),
    [
        ((("x-stainless-lang", "python"), ("authorization", "x")), "openai"),
        ((("x-stainless-lang", "python"), ("anthropic-version", "2023-06-01")), "anthropic"),
        ((("anthropic-version", "2023-06-01"),), "anthropic"),
        ((("user-agent", "curl"),), ""),
        ((), ""),
    ],
)
def test_whose_sdk_asks(headers: tuple[tuple[str, str], ...], api: str) -> None:
    assert sdk_of(headers) == api
