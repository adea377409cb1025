"""Everything about one call of a model: its facts, its budgets, its answer. One object for each exchange.

    gate = LlmGate(api, prices)                     # for a target with an `api`
    facts.llm = gate.read(method, path)             # before the body: what the head tells
    facts.llm = gate.read(method, path, body)       # the parsed JSON; None when it could not be read
    refusal = gate.reserve(who, now, store)         # after the policy has allowed it, before it is sent
    gate.on_answer(status, content_type)            # its head, then its body as the client gets it:
    gate.feed(data); ...; answer = gate.finish()    # decoded bytes; for the tape, and to settle the budgets
    gate.abandon()                                  # instead: it was never sent

Decides, and does no I/O but through the store that it is given, which is quick and synchronous. What has been set aside
is settled once, whatever happens: if nothing is called after `reserve`, the worst case stays spent.

Called by `proxyd.gates.http.llm.call`. The target has to be asked for answers without a
content coding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from policy.facts import LlmFacts
from policy.llm.budget import (
    Amounts,
    Budget,
    Exceeded,
    Reservation,
    day_of,
    unknown_of,
    until_tomorrow_s,
    worst_case,
)
from policy.llm.operations import COUNT_TOKENS, MODELS, WITHOUT_OUTPUT, place_of
from policy.llm.prices import PriceTable
from policy.llm.reading import read_call, reads_body
from proxyd.gates.http.bodies.interfaces import BodyMasks, Transformer
from proxyd.gates.http.llm.answer_facts import AnswerFacts
from proxyd.gates.http.llm.answers import AnswerWatcher
from proxyd.gates.http.llm.streams import LlmStream
from proxyd.store.errors import StoreError

EVENT_STREAM: Final = "text/event-stream"

_UNITS: Final = {
    "cost_usd": "USD",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "requests": "requests",
}
_LIMIT_IT: Final = "Set `max_tokens` (or what the API calls it)"


class Spendings(Protocol):
    """Where budgets are kept: `proxyd.store.budgets`. Both raise StoreError."""

    def reserve(
        self, subject: str, day: str, budgets: Sequence[Budget], amounts: Amounts
    ) -> Reservation | Exceeded: ...

    def settle(self, reservation: Reservation, actual: Amounts) -> None: ...


@dataclass(frozen=True, slots=True)
class Spender:
    """Whose budgets a call counts against: a subject, and the budgets that apply to it at this target."""

    subject: str
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetRefusal:
    """A call that the budgets do not let through. `rule` is the budget's name."""

    status: int
    message: str
    rule: str
    hint: str
    code: str
    retry_after_s: int | None = None


class LlmGate:
    """One call."""

    def __init__(self, api: str, prices: PriceTable) -> None:
        self.api = api
        self.facts: LlmFacts | None = None
        self.fault = ""
        """Why the budgets could not be settled, for the log; "" when they were, or nothing was set aside."""
        self._prices = prices
        self._store: Spendings | None = None
        self._reservation: Reservation | None = None
        self._watcher: AnswerWatcher | None = None
        self._status = 0

    # --- the request ---

    def reads_body(self, method: str, path: str) -> bool:
        """Does the body say what the call is? (A rule can need it besides, see `LlmRule.needs_body`.)"""
        return reads_body(self.api, method, path)

    def place(self, method: str, path: str) -> tuple[str, str]:
        """The operation, and the model that the path names."""
        place = place_of(self.api, method, path)
        return place.operation, place.model or (self.facts.model if self.facts is not None else "")

    def read(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        query: Sequence[tuple[str, str]] = (),
        upgrade: str = "",
    ) -> LlmFacts | None:
        self.facts = read_call(self.api, method, path, body, self._prices, query=query, upgrade=upgrade)
        return self.facts

    def reserve(self, spender: Spender, now: float, store: Spendings | None) -> BudgetRefusal | None:
        """Set aside what the call may come to. None: it may be sent. `now`: Unix seconds."""
        if not spender.budgets or self.facts is None or self.facts.operation == MODELS:
            return None
        amounts = worst_case(self.facts)
        for budget in spender.budgets:
            unknown = unknown_of(budget.day, amounts)
            if unknown:
                return _unknown(budget, unknown, self.facts)
        if store is None:
            return _no_store("there is no store in the configuration")
        try:
            reserved = store.reserve(spender.subject, day_of(now), spender.budgets, amounts)
        except StoreError:
            return _no_store("the store of the budgets cannot be written")
        if isinstance(reserved, Exceeded):
            return _exceeded(reserved, now)
        self._store, self._reservation = store, reserved
        return None

    # --- the answer ---

    def on_answer(self, status: int, content_type: str) -> None:
        """The head of the answer that the client gets. Interim answers (1xx) are none."""
        self._status = status
        media_type = content_type.partition(";")[0].strip().lower()
        self._watcher = AnswerWatcher(is_stream=media_type == EVENT_STREAM)

    def feed(self, data: bytes) -> None:
        if self._watcher is not None:
            self._watcher.feed(data)

    def finish(self, *, is_whole: bool = True) -> AnswerFacts | None:
        """The exchange is over; `is_whole`: the answer came to the end that HTTP says. None if there was no answer."""
        answer = self._watcher.finish() if self._watcher is not None else None
        self._watcher = None
        self._settle(self._came_to(answer, is_whole=is_whole))
        return answer

    def abandon(self) -> None:
        """The target has never heard of the call."""
        self._settle(Amounts())

    def _came_to(self, answer: AnswerFacts | None, *, is_whole: bool) -> Amounts:
        """None, for an amount, is the worst case that was set aside."""
        facts = self.facts
        if answer is None or facts is None:
            return _WORST
        if self._status >= 400:
            return Amounts(requests=1)  # providers take nothing for what they have refused
        if facts.operation == COUNT_TOKENS:
            return Amounts(requests=1)
        if not is_whole or not answer.is_whole:
            return _WORST
        if answer.is_estimated and facts.operation not in WITHOUT_OUTPUT:
            return (
                _WORST  # its text does not tell what it thought: who wants to be counted by usage asks for it
            )
        inputs = facts.input_tokens
        if answer.input_tokens is not None:
            inputs = answer.input_tokens + answer.cached_tokens + answer.written_tokens
        cost = None if facts.estimated_cost_usd is None else self.cost_usd(answer)
        return Amounts(cost, inputs, answer.output_tokens, 1)

    def cost_usd(self, answer: AnswerFacts) -> float | None:
        """What the answer's tokens cost by the price table; None for a model without a price."""
        facts = self.facts
        price = self._prices.price(facts.model) if facts is not None else None
        if facts is None or price is None:
            return None
        if answer.input_tokens is None:
            return price.cost_usd(facts.input_tokens, answer.output_tokens)
        return price.cost_usd(
            answer.input_tokens,
            answer.output_tokens,
            cached_tokens=answer.cached_tokens,
            written_tokens=answer.written_tokens,
        )

    def _settle(self, amounts: Amounts) -> None:
        reservation, self._reservation = self._reservation, None
        if reservation is None or self._store is None:
            return
        try:
            self._store.settle(reservation, amounts)
        except StoreError as error:
            self.fault = str(error)


_WORST: Final = Amounts(None, None, None, 1)


def stream_masks(content_type: str, masks: BodyMasks) -> Transformer | None:
    """What an answer of a model goes through under `masks` if it is a stream of events; None if it is none, or nothing
    is masked: then `bodies.transformers` is asked, as for every other answer."""
    if content_type.partition(";")[0].strip().lower() != EVENT_STREAM:
        return None
    if not masks.json and masks.detectors is None:
        return None
    return LlmStream(masks)


def unmaskable(body: object, masks: BodyMasks) -> str:
    """Why an answer to this request could not be masked; "" when it can. Asked before it is sent."""
    if masks.detectors is None or not isinstance(body, dict):
        return ""
    if body.get("logprobs") or body.get("top_logprobs"):
        return "`logprobs` would give the text token by token, where masks do not see it"
    include = body.get("include")
    if isinstance(include, list) and any(isinstance(item, str) and "logprobs" in item for item in include):
        return "`logprobs` would give the text token by token, where masks do not see it"
    modalities = body.get("modalities")
    if body.get("audio") is not None or (isinstance(modalities, list) and "audio" in modalities):
        return "sound cannot be masked"
    return ""


# --- words ------------------------------------------------------------------------------------------------------


def _unknown(budget: Budget, unknown: Sequence[str], facts: LlmFacts) -> BudgetRefusal:
    what = " and ".join(_UNITS[name] if name != "cost_usd" else "the cost" for name in unknown)
    reasons = [reason.partition(": ")[2] for reason in facts.unresolved]
    if facts.max_tokens is None and not any(reason.startswith("length: ") for reason in facts.unresolved):
        hint = f"{_LIMIT_IT}, so that the most that this call can come to is known."
    elif reasons:
        hint = f"What cannot be seen: {'; '.join(reasons[:3])}."
    else:
        hint = f"Ask the owners of the gateway for a price of `{facts.model}`, or use a model that has one."
    return BudgetRefusal(
        403,
        f"budget {budget.name} limits {what}, which this call does not tell",
        budget.name,
        hint,
        "budget_unknown",
    )


def _exceeded(exceeded: Exceeded, now: float) -> BudgetRefusal:
    wait = until_tomorrow_s(now)
    message = (
        f"budget {exceeded.budget} does not suffice for today: {_amount(exceeded.what, exceeded.spent)} of "
        f"{_amount(exceeded.what, exceeded.limit)} {_UNITS[exceeded.what]} are spent or set aside, and this call may "
        f"come to {_amount(exceeded.what, exceeded.asked)}"
    )
    hours, minutes = divmod(-(-wait // 60), 60)
    hint = f"The day ends at 00:00 UTC, in {hours} h {minutes} min. Ask for less, or ask the owners of the policy."
    return BudgetRefusal(429, message, exceeded.budget, hint, "budget_exceeded", wait)


def _no_store(reason: str) -> BudgetRefusal:
    return BudgetRefusal(
        503,
        f"what has been spent is not known: {reason}",
        "",
        "Try again later, or tell the owners of the gateway.",
        "store_failed",
    )


def _amount(what: str, value: float) -> str:
    return f"{value:.4f}" if what == "cost_usd" else f"{value:.0f}"
