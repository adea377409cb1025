"""One call of a model as the executor of exchanges asks for it: `LlmGate` in the terms of `proxyd.gates.http`.

Implements `proxyd.gates.http.models.ModelCall`. Made by the gateway for each request to a target with an `api`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from policy.document import PolicyDocument
from policy.facts import BodyState, HttpFacts, LlmFacts, Subject, Target
from policy.http.budgets import budgets_for
from policy.http.masks import masks_for_http
from policy.llm.budget import Amounts
from policy.llm.operations import ANTHROPIC, MODELS, OPENAI, OTHER
from policy.llm.prices import PriceTable
from protocols.http.messages import Headers
from proxyd.gates.http.bodies.compressed import decoded
from proxyd.gates.http.bodies.interfaces import DEFAULT_LIMITS, BodyMasks, BodyRefused, Transformer
from proxyd.gates.http.bodies.transformers import transformer_for
from proxyd.gates.http.llm.answer_facts import AnswerFacts
from proxyd.gates.http.llm.errors import denial, denial_headers
from proxyd.gates.http.llm.gate import BudgetRefusal, LlmGate, Spender, Spendings, stream_masks, unmaskable
from proxyd.gates.http.refusals import Kind, Refusal

_CODES: Final = {
    Kind.DENIED: "policy_denied",
    Kind.HELD: "approval_needed",
    Kind.UNKNOWN: "not_authenticated",
    Kind.NOT_ADMITTED: "not_admitted",
    Kind.PROTOCOL: "bad_request",
    Kind.TARGET: "target_failed",
    Kind.LIMIT: "limit_reached",
    Kind.INTERNAL: "gateway_failed",
}
_AMBIGUOUS: Final = "operation: the path can be read in two ways"


class Recorder(Protocol):
    """The tape of the session: `proxyd.tape.http_taping`."""

    def tool_call(self, exchange: int, name: str, arguments: object) -> None: ...

    def usage(self, exchange: int, data: Mapping[str, object]) -> None: ...


class LlmCall:
    """One exchange."""

    def __init__(self, api: str, prices: PriceTable, store: Spendings | None) -> None:
        self._gate = LlmGate(api, prices)
        self._store = store
        self._body: object = None
        self._head: HttpFacts | None = None
        self._answer: AnswerFacts | None = None
        self._is_over = False

    # --- the request ---

    @property
    def reads_body(self) -> bool:
        """Does what is asked stand in the body? Known once the head has been read."""
        return self._head is not None and self._gate.reads_body(self._head.method, self._head.path)

    @property
    def is_known(self) -> bool:
        """Is it an operation whose answers are looked into?"""
        return self._gate.facts is not None and self._gate.facts.operation not in {OTHER, MODELS}

    def read_head(self, facts: HttpFacts) -> HttpFacts:
        self._head = facts
        return self._read(facts)

    def read_body(self, facts: HttpFacts) -> HttpFacts:
        self._body = facts.body if facts.body_state is BodyState.JSON else None
        return self._read(facts)

    def _read(self, facts: HttpFacts) -> HttpFacts:
        llm = self._gate.read(facts.method, facts.path, self._body, query=facts.query, upgrade=facts.upgrade)
        if llm is not None and any(self._is_other(llm, facts.method, path) for path in facts.other_paths):
            llm = self._gate.facts = msgspec.structs.replace(llm, unresolved=(*llm.unresolved, _AMBIGUOUS))
        return msgspec.structs.replace(facts, llm=llm)

    def _is_other(self, llm: LlmFacts, method: str, path: str) -> bool:
        """Would the same request to `path` be another call?"""
        return self._gate.place(method, path) != (llm.operation, llm.model)

    # --- budgets ---

    def reserve(self, document: PolicyDocument, subject: Subject, target: Target, now: float) -> None:
        """Take the worst case out of the budgets. Raises Refusal, also for an answer that no mask could be put on."""
        masks = masks_for_http(document, subject, target).response
        reason = unmaskable(self._body, masks)
        if reason:
            raise Refusal(400, Kind.DENIED, f"Masks apply to the answer: {reason}.", hint="Ask without it.")
        spender = Spender(subject.name, budgets_for(document, subject, target))
        refused = self._gate.reserve(spender, now, self._store)
        if refused is not None:
            raise self._refusal(refused)

    def _refusal(self, refused: BudgetRefusal) -> Refusal:
        body = denial(self._gate.api, refused.status, refused.message, "", refused.hint, refused.code)
        return Refusal(
            refused.status,
            Kind.INTERNAL if refused.status == 503 else Kind.DENIED,
            refused.message,
            hint=refused.hint,
            rule=refused.rule,
            headers=denial_headers(refused.retry_after_s),
            body=body,
        )

    def unsent(self) -> None:
        """The target has never heard of the call: what was set aside for it is given back."""
        self._gate.abandon()

    def settle(self) -> None:
        """The exchange is over. What it has cost is what was used, or the worst case where that is not known."""
        self._finish(is_whole=False)

    @property
    def fault(self) -> str:
        """Why `settle` could not be written (the worst case stays spent), for the log; "" when it could."""
        return self._gate.fault

    # --- the answer ---

    def answer_transformer(
        self, status: int, content_type: str, content_encoding: str, masks: BodyMasks
    ) -> Transformer | None:
        """Looks into the answer as the client gets it, and masks it before. Raises BodyRefused.

        What comes out is not compressed. None: it passes as it is, because nothing of it is looked at (a file, a list
        of models), or because nothing of it can be (a compression that is not read, and no masks): then the worst case
        stays spent.
        """
        masker = stream_masks(content_type, masks) or transformer_for(content_type, masks)
        if masker is None and not self.is_known:
            return None
        watched = _Watched(self._gate, masker)
        try:
            reading = decoded(content_encoding, watched, DEFAULT_LIMITS)
        except BodyRefused:
            if masker is not None:
                raise
            return None
        self._gate.on_answer(status, content_type)
        return reading

    def record_answer(self, tape: Recorder, exchange: int) -> Amounts | None:
        """The answer has come to its end. What it used; None when that cannot be said."""
        self._finish(is_whole=True)
        answer, call = self._answer, self._gate.facts
        if answer is None or call is None or not self.is_known:
            return None
        inputs = call.input_tokens if answer.input_tokens is None else self._input_tokens(answer)
        for tool in answer.tool_calls:
            tape.tool_call(exchange, tool.name, tool.arguments)
        usage: dict[str, object] = {
            "model": answer.model or call.model,
            "input_tokens": inputs,
            "output_tokens": answer.output_tokens,
            "is_estimated": answer.is_estimated,
            "stop_reason": answer.stop_reason,
        }
        cost = self._gate.cost_usd(answer)
        if cost is not None:
            usage["cost_usd"] = round(cost, 9)
        if answer.more_tool_calls:
            usage["more_tool_calls"] = answer.more_tool_calls
        tape.usage(exchange, usage)
        return Amounts(cost, inputs, answer.output_tokens, 1)

    def _input_tokens(self, answer: AnswerFacts) -> int:
        return (answer.input_tokens or 0) + answer.cached_tokens + answer.written_tokens

    def _finish(self, *, is_whole: bool) -> None:
        if self._is_over:
            return
        self._is_over = True
        answer = self._gate.finish(is_whole=is_whole)
        self._answer = answer if is_whole else None

    def in_its_shape(self, refusal: Refusal) -> Refusal:
        """The refusal as the provider would put it."""
        return in_shape_of(self._gate.api, refusal)


def sdk_of(headers: Headers) -> str:
    """The API whose SDK asks, by the fields that it sends; "" for no such SDK.

    For refusals that come before the target is known: who is refused is told nothing of targets, but can be told in
    words that its SDK shows. What a caller says of itself here decides about nothing else.
    """
    names = {name for name, _ in headers}
    if "anthropic-version" in names:
        return ANTHROPIC
    return OPENAI if any(name.startswith("x-stainless-") for name in names) else ""


def in_shape_of(api: str, refusal: Refusal) -> Refusal:
    """The refusal as the provider would put it; the same where it has a shape already."""
    if refusal.body is not None:
        return refusal
    # What the target could not do now it may do in a moment; what was decided stays decided.
    may_retry = refusal.kind is Kind.TARGET and refusal.status >= 500
    return Refusal(
        refusal.status,
        refusal.kind,
        refusal.detail,
        hint=refusal.hint,
        rule=refusal.rule,
        reason=refusal.reason,
        headers=refusal.headers if may_retry else (*refusal.headers, *denial_headers()),
        closes=refusal.closes,
        body=denial(api, refusal.status, refusal.detail, refusal.rule, refusal.hint, _CODES[refusal.kind]),
    )


class _Watched:
    """What comes out of the masks is what the client gets, and what is watched."""

    def __init__(self, gate: LlmGate, masker: Transformer | None) -> None:
        self._gate = gate
        self._masker = masker
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Counter[str]:
        return self._counts if self._masker is None else self._masker.counts

    def feed(self, data: bytes) -> bytes:
        return self._seen(data if self._masker is None else self._masker.feed(data))

    def finish(self) -> bytes:
        return b"" if self._masker is None else self._seen(self._masker.finish())

    def _seen(self, data: bytes) -> bytes:
        if data:
            self._gate.feed(data)
        return data
