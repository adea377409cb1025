"""One exchange with a model, as the executor of exchanges sees it: facts, budget, what of the answer is masked, noted.

Between `proxyd.http_exchange` and `proxyd.gates.http.llm`, which knows the providers' shapes. Does no I/O but through
the store of budgets that it is given.
"""

from __future__ import annotations

from collections.abc import Callable

from policy.document import PolicyDocument
from policy.evaluate import roles_of
from policy.facts import BodyState, HttpFacts, Subject, Target
from policy.llm.prices import PriceTable
from protocols.http.messages import Headers
from proxyd.gates.http.bodies.interfaces import BodyMasks, Transformer
from proxyd.gates.http.bodies.transformers import transformer_for
from proxyd.gates.http.llm.errors import denial, denial_headers
from proxyd.gates.http.llm.gate import LlmGate, Spender, Spendings, stream_masks, unmaskable
from proxyd.gates.http.refusals import Kind, Refusal
from proxyd.gates.http.requests import with_llm
from proxyd.tape.http_taping import HttpTape

_CODES = {
    Kind.DENIED: "policy_denied",
    Kind.HELD: "approval_needed",
    Kind.UNKNOWN: "unknown_caller",
    Kind.NOT_ADMITTED: "no_access",
    Kind.TARGET: "target_failed",
}


class ModelCall:
    """`settle` has to be called at the end, whatever happened. `complain` is told of a store that failed."""

    def __init__(
        self, api: str, prices: PriceTable, store: Spendings | None, complain: Callable[[str], None]
    ) -> None:
        self._api = api
        self._gate = LlmGate(api, prices)
        self._store = store
        self._complain = complain
        self._facts: HttpFacts | None = None
        self._is_sent = False
        self._is_finished = False

    # The request

    @property
    def reads_body(self) -> bool:
        """Does what is asked stand in the body?"""
        facts = self._facts
        return facts is not None and self._gate.reads_body(facts.method, facts.path)

    def read_head(self, facts: HttpFacts) -> HttpFacts:
        self._facts = facts
        return with_llm(facts, self._gate.read(facts.method, facts.path))

    def read_body(self, facts: HttpFacts) -> HttpFacts:
        self._facts = facts
        body = facts.body if facts.body_state is BodyState.JSON else None
        return with_llm(facts, self._gate.read(facts.method, facts.path, body))

    def reserve(
        self, document: PolicyDocument, subject: Subject, target: Target, masks: BodyMasks, now: float
    ) -> None:
        """Take the worst case out of the budgets. Raises Refusal."""
        why = unmaskable(self._facts.body if self._facts is not None else None, masks)
        if why:
            raise Refusal(403, Kind.DENIED, f"The answer could not be masked: {why}.", hint="Leave it out.")
        budgets = document.budgets
        if budgets:
            roles = roles_of(document, subject)
            applying = tuple(budget for budget in budgets if budget.applies(roles, target))
            refused = self._gate.reserve(Spender(subject.name, applying), now, self._store)
            if refused is not None:
                status, headers, content_type, body = refused.answer(self._api)
                raise Refusal(
                    status,
                    Kind.LIMIT,
                    refused.message,
                    hint=refused.hint,
                    rule=refused.rule,
                    headers=headers,
                    body=(content_type, body),
                )
        self._is_sent = True

    def is_not_sent(self) -> None:
        """The target has not been reached: nothing was spent."""
        self._is_sent = False

    # The answer

    def answer_transformer(
        self, status: int, content_type: str, content_encoding: str, masks: BodyMasks
    ) -> Transformer | None:
        """What masks the answer, None for nothing. Raises BodyRefused."""
        self._gate.on_answer(status, content_type)
        if status < 400 and not content_encoding:
            streamed = stream_masks(content_type, masks)
            if streamed is not None:
                return streamed
        return transformer_for(content_type, masks, content_encoding=content_encoding)

    def has_no_body(self, status: int) -> None:
        self._gate.on_answer(status, "")

    def feed(self, data: bytes) -> None:
        """A piece of the answer, as the client gets it."""
        self._gate.feed(data)

    def record_answer(self, tape: HttpTape, exchange: int) -> None:
        """The answer has come to its end: what it took, and which tools it asks for, on the tape."""
        self._is_finished = True
        answer = self._gate.finish()
        if answer is None:
            return
        for call in answer.tool_calls:
            tape.tool_call(exchange, call.name, call.arguments)
        tape.usage(
            exchange,
            {
                "model": answer.model,
                "input_tokens": answer.input_tokens,
                "output_tokens": answer.output_tokens,
                "is_estimated": answer.is_estimated,
                "stop_reason": answer.stop_reason,
            },
        )

    def settle(self) -> None:
        if not self._is_finished:
            self._is_finished = True
            if self._is_sent:
                self._gate.finish(is_whole=False)
            else:
                self._gate.abandon()
        if self._gate.fault:
            self._complain(self._gate.fault)

    def in_its_shape(self, refusal: Refusal) -> Refusal:
        """The refusal as the provider would put it, so that its SDK raises its own exception with our words."""
        code = _CODES.get(refusal.kind, "refused")
        body = denial(self._api, refusal.status, refusal.detail, refusal.rule, refusal.hint, code)
        headers: Headers = (*denial_headers(), *refusal.headers)
        return Refusal(
            refusal.status,
            refusal.kind,
            refusal.detail,
            hint=refusal.hint,
            rule=refusal.rule,
            reason=refusal.reason,
            headers=headers,
            closes=refusal.closes,
            body=body,
        )
