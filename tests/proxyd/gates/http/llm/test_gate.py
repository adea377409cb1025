"""One call from its request to what it has cost: budgets set aside, refused, settled, given back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from policy.llm.budget import Amounts, Budget, Exceeded, Limits, Reservation, day_of
from policy.llm.prices import PriceTable, price
from proxyd.gates.http.llm.gate import BudgetRefusal, LlmGate, Spender, unmaskable
from proxyd.store.budgets import BudgetStore
from proxyd.store.database import Database
from proxyd.store.errors import StoreError
from tests.proxyd.gates.http.llm.masks import events, masks

PRICES = PriceTable((price(["gpt-*", "claude-*"], 10.0, 100.0, cached_input=1.0, cache_write=20.0),))
CHAT = "/v1/chat/completions"
NOW = 1_800_000_000.0  # 08:00 UTC
TODAY = day_of(NOW)
BODY = {"model": "gpt-demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1000}
USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 4}}
ANSWER = {"model": "gpt-demo", "choices": [{"index": 0, "finish_reason": "stop"}], "usage": USAGE}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BudgetStore]:
    database = Database.open(tmp_path / "proxyd.db")
    yield BudgetStore(database)
    database.close()


class FailingStore:
    """Fails to reserve, or to settle."""

    def __init__(self, *, reserves: bool) -> None:
        self.reserves = reserves

    def reserve(
        self, subject: str, day: str, budgets: Sequence[Budget], amounts: Amounts
    ) -> Reservation | Exceeded:
        if not self.reserves:
            raise StoreError("the disk is full")
        return Reservation(subject, day, ("b",), amounts)

    def settle(self, reservation: Reservation, actual: Amounts) -> None:
        raise StoreError("the disk is full")


def spender(**limits: float) -> Spender:
    return Spender("alice", (Budget("models", None, None, Limits(**limits)),))  # type: ignore[arg-type]


def gate_of(body: object = BODY, path: str = CHAT, api: str = "openai", method: str = "POST") -> LlmGate:
    gate = LlmGate(api, PRICES)
    gate.read(method, path)
    gate.read(method, path, body)
    return gate


def spent(store: BudgetStore) -> Amounts:
    (row,) = store.spending(TODAY)
    return row.amounts


def answered(gate: LlmGate, answer: Any = ANSWER, status: int = 200, *, is_whole: bool = True) -> None:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    gate.on_answer(status, "text/event-stream" if isinstance(answer, bytes) else "application/json")
    gate.feed(data)
    gate.finish(is_whole=is_whole)


# --- settled ----------------------------------------------------------------------------------------------------


def test_the_worst_case_is_set_aside_and_the_truth_put_in_its_place(store: BudgetStore) -> None:
    gate = gate_of()
    assert gate.reserve(spender(cost_usd=1.0), NOW, store) is None
    assert gate.facts is not None and gate.facts.estimated_cost_usd is not None
    assert spent(store).cost_usd == pytest.approx(gate.facts.estimated_cost_usd)
    assert spent(store).output_tokens == 1000
    answered(gate)
    assert spent(store) == Amounts(pytest.approx((6 * 10 + 4 * 1 + 20 * 100) / 1e6), 10, 20, 1)


def test_the_cost_of_what_was_to_be_kept(store: BudgetStore) -> None:
    body = {"model": "claude-demo", "max_tokens": 1000, "messages": [{"role": "user", "content": "Hello"}]}
    gate = gate_of(body, "/v1/messages", "anthropic")
    gate.reserve(spender(cost_usd=1.0), NOW, store)
    usage = {
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 50,
    }
    answered(gate, {"type": "message", "content": [], "stop_reason": "end_turn", "usage": usage})
    assert spent(store) == Amounts(pytest.approx((10 * 10 + 20 * 100 + 100 * 1 + 50 * 20) / 1e6), 160, 20, 1)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("cut off by HTTP", "worst"),
        ("cut off by the model", "worst"),
        ("no answer", "worst"),
        ("nonsense", "worst"),
        ("goes on without us", "worst"),
        ("refused by the provider", "request"),
        ("the provider failed", "request"),
        ("never sent", "nothing"),
    ],
)
def test_what_a_call_costs_that_did_not_end_well(store: BudgetStore, case: str, expected: str) -> None:
    gate = gate_of()
    gate.reserve(spender(cost_usd=1.0), NOW, store)
    worst = spent(store)
    match case:
        case "cut off by HTTP":
            answered(gate, is_whole=False)
        case "cut off by the model":
            answered(gate, events([json.dumps({"choices": [{"index": 0, "delta": {"content": "Hel"}}]})]))
        case "no answer":
            gate.finish()
        case "nonsense":
            answered(gate, b"data: <html>\n\n")
        case "goes on without us":
            answered(gate, {"object": "response", "status": "queued"})
        case "refused by the provider":
            answered(gate, {"error": {}}, 400)
        case "the provider failed":
            answered(gate, {"error": {}}, 529)
        case "never sent":
            gate.abandon()
            gate.finish()
    amounts = {"worst": worst, "request": Amounts(requests=1), "nothing": Amounts()}
    assert spent(store) == amounts[expected]


def test_a_call_is_settled_once(store: BudgetStore) -> None:
    gate = gate_of()
    gate.reserve(spender(requests=9), NOW, store)
    answered(gate)
    once = spent(store)
    gate.finish()
    gate.abandon()
    assert spent(store) == once


def test_a_gate_that_is_forgotten_stays_spent(store: BudgetStore) -> None:
    """A task that was cancelled, a crash: nobody settles."""
    gate = gate_of()
    gate.reserve(spender(requests=9), NOW, store)
    worst = spent(store)
    del gate
    assert spent(store) == worst


@pytest.mark.parametrize("is_stream", [True, False])
def test_an_answer_without_usage_stays_the_worst_case(store: BudgetStore, *, is_stream: bool) -> None:
    """A model may have thought for long, and shown nothing of it: the text tells the least that was written."""
    gate = gate_of({**BODY, "stream": is_stream})
    gate.reserve(spender(cost_usd=1.0), NOW, store)
    worst = spent(store)
    if is_stream:
        chunk = {"choices": [{"index": 0, "delta": {"content": "x" * 30}, "finish_reason": "stop"}]}
        answered(gate, events([json.dumps(chunk), "[DONE]"]))
    else:
        answered(gate, {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]})
    assert spent(store) == worst


def test_counting_tokens_is_free(store: BudgetStore) -> None:
    gate = gate_of({"model": "gpt-demo", "input": "Hello"}, "/v1/responses/input_tokens")
    gate.reserve(spender(requests=9, cost_usd=1.0), NOW, store)
    answered(gate, {"object": "response.input_tokens", "input_tokens": 5000})
    assert spent(store) == Amounts(requests=1)


def test_the_list_of_models_counts_for_nothing(store: BudgetStore) -> None:
    gate = LlmGate("openai", PRICES)
    gate.read("GET", "/v1/models")
    assert gate.reserve(spender(requests=1), NOW, store) is None
    assert store.spending(TODAY) == []


def test_without_budgets_no_store_is_asked() -> None:
    gate = gate_of()
    assert gate.reserve(Spender("alice"), NOW, None) is None
    answered(gate)


# --- refused ----------------------------------------------------------------------------------------------------


def refused(gate: LlmGate, who: Spender, store: BudgetStore | FailingStore | None) -> BudgetRefusal:
    found = gate.reserve(who, NOW, store)
    assert found is not None
    gate.finish()
    return found


def test_over_budget_says_what_why_and_until_when(store: BudgetStore) -> None:
    first = gate_of()
    first.reserve(spender(cost_usd=0.15), NOW, store)
    found = refused(gate_of(), spender(cost_usd=0.15), store)
    assert (found.status, found.rule, found.code) == (429, "models", "budget_exceeded")
    assert "0.1002 of 0.1500 USD are spent or set aside, and this call may come to 0.1002" in found.message
    assert (
        found.hint
        == "The day ends at 00:00 UTC, in 16 h 0 min. Ask for less, or ask the owners of the policy."
    )
    assert found.retry_after_s == 16 * 3600
    assert spent(store).requests == 1


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"requests": 1}, "1 of 1 requests are spent or set aside, and this call may come to 1"),
        (
            {"output_tokens": 1999},
            "1000 of 1999 output tokens are spent or set aside, and this call may come to 1000",
        ),
        ({"input_tokens": 30}, "of 30 input tokens"),
    ],
)
def test_each_amount_has_its_words(store: BudgetStore, limits: dict[str, float], words: str) -> None:
    assert gate_of().reserve(spender(**limits), NOW, store) is None
    assert words in refused(gate_of(), spender(**limits), store).message


@pytest.mark.parametrize(
    ("body", "limits", "message", "hint"),
    [
        (
            {**BODY, "max_tokens": None},
            {"output_tokens": 9},
            "budget models limits output tokens",
            "`max_tokens`",
        ),
        ({**BODY, "max_tokens": None}, {"cost_usd": 1.0}, "budget models limits the cost", "`max_tokens`"),
        (
            {**BODY, "max_tokens": None},
            {"cost_usd": 1.0, "output_tokens": 9},
            "the cost and output tokens",
            "`max_tokens`",
        ),
        ({**BODY, "model": "o1"}, {"cost_usd": 1.0}, "budget models limits the cost", "a price of `o1`"),
        (
            {**BODY, "tools": [{"type": "web_search"}]},
            {"cost_usd": 1.0},
            "the cost",
            "runs web_search itself",
        ),
        ({**BODY, "n": "many"}, {"cost_usd": 1.0}, "the cost", "n is not a number of answers"),
    ],
)
def test_what_a_budget_limits_must_be_known(
    store: BudgetStore, body: object, limits: dict[str, float], message: str, hint: str
) -> None:
    found = refused(gate_of(body), spender(**limits), store)
    assert (found.status, found.code, found.retry_after_s) == (403, "budget_unknown", None)
    assert message in found.message
    assert hint in found.hint
    assert store.spending(TODAY) == []


def test_what_no_budget_limits_need_not_be_known(store: BudgetStore) -> None:
    assert (
        gate_of({**BODY, "max_tokens": None, "model": "o1"}).reserve(spender(requests=5), NOW, store) is None
    )


@pytest.mark.parametrize("given", [None, FailingStore(reserves=False)])
def test_without_a_store_nothing_is_sent(given: FailingStore | None) -> None:
    found = refused(gate_of(), spender(requests=5), given)
    assert (found.status, found.code) == (503, "store_failed")


def test_a_store_that_fails_afterwards_is_told_of() -> None:
    gate = gate_of()
    assert gate.reserve(spender(requests=5), NOW, FailingStore(reserves=True)) is None
    answered(gate)
    assert gate.fault == "the disk is full"


# --- answers that no mask could be put on -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "is_maskable"),
    [
        ({}, True),
        ({"logprobs": False}, True),
        ({"logprobs": None}, True),
        ({"logprobs": True}, False),
        ({"logprobs": 5}, False),
        ({"top_logprobs": 3}, False),
        ({"include": ["message.output_text.logprobs"]}, False),
        ({"include": ["reasoning.encrypted_content"]}, True),
        ({"modalities": ["text"]}, True),
        ({"modalities": ["text", "audio"]}, False),
        ({"audio": {"voice": "alloy"}}, False),
    ],
)
def test_requests_whose_answers_cannot_be_masked(keys: dict[str, Any], is_maskable: bool) -> None:
    body = {**BODY, **keys}
    assert (unmaskable(body, masks("email")) == "") is is_maskable
    assert unmaskable(body, masks(paths=["$..email"])) == ""
    assert unmaskable(body, masks()) == ""
