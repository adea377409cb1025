"""What would be decided about an HTTP request, and why, as plain data and as text for people.

The counterpart of `proxyd.explanation` for the third door: who the subject is to the policy, whether it is let in, what
the request is, which rules and masks follow. Judges by the same functions as a session. Pure: the caller brings the
policy and the clock. Called by `proxyd explain`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from policy.decision import Admission, Decision, Effect
from policy.document import PolicyDocument
from policy.evaluate import admit, roles_of
from policy.facts import BodyState, HttpFacts, LlmFacts, Subject, Target
from policy.http.budgets import budgets_for
from policy.http.evaluate import judge_http, needs_of
from policy.http.wording import described, why_unseen
from policy.rules import DetectMaskEntry, JsonMaskEntry
from policy.shown_text import shown
from policy.view import view_of
from proxyd.explanation import (
    condition_lines,
    condition_words,
    limit_words,
    reason_lines,
    strictest,
    subject_line,
)


class HttpQuestion(msgspec.Struct, frozen=True):
    """Who asks for what of which target. `now` in Unix seconds.

    refusal: why such a request is never judged, "" when it is. head: its facts before the body is read.
    """

    subject: Subject
    target: Target
    login: str
    facts: HttpFacts | None
    head: HttpFacts | None
    now: float
    refusal: str = ""


class HttpExplanation(msgspec.Struct, frozen=True):
    """The whole answer. `effect` is what the client would meet.

    request: its facts, without the body that the caller has. looks_into_body: the rules for which it is read. masks:
    those on answers and on requests. unknown: what a session would know besides. conditions: of the rules that the
    reasons name.
    """

    effect: Effect
    subject: Subject
    roles: tuple[str, ...]
    target: Target
    login: str
    policy_version: str
    admission: Admission
    masks: tuple[str, ...]
    request: HttpFacts | None
    decision: Decision | None
    looks_into_body: tuple[str, ...] = ()
    refusal: str = ""
    unknown: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()


def explain_http(document: PolicyDocument, question: HttpQuestion) -> HttpExplanation:
    """Answer `question` under `document`."""
    subject, target, login = question.subject, question.target, question.login
    admission = admit(document, subject, target, login, question.now)
    decision = None
    needed: tuple[str, ...] = ()
    if question.facts is not None:
        decision = judge_http(document, subject, target, login, question.facts)
    if question.head is not None:
        needed = needs_of(document, subject, target, login, question.head).reasons
    view = view_of(document, subject, target)
    return HttpExplanation(
        effect=strictest([admission.effect, Effect.DENY if decision is None else decision.effect]),
        subject=subject,
        roles=tuple(sorted(roles_of(document, subject))),
        target=target,
        login=login,
        policy_version=document.version,
        admission=admission,
        masks=(*map(_mask_words, view.json_masks), *map(_mask_words, view.detect_masks)),
        request=None if question.facts is None else msgspec.structs.replace(question.facts, body=None),
        decision=decision,
        looks_into_body=needed,
        refusal=question.refusal,
        unknown=tuple(_unknown(document, question)),
        conditions=() if decision is None else condition_words(document.http_rules, decision.reasons),
    )


def _mask_words(entry: JsonMaskEntry | DetectMaskEntry) -> str:
    name = entry.mask.name if isinstance(entry, JsonMaskEntry) else entry.name
    return f"{name} (on {' and '.join(sorted(entry.on, reverse=True))})"


def _unknown(document: PolicyDocument, question: HttpQuestion) -> Iterator[str]:
    if question.facts is None or question.facts.llm is None:
        return
    names = [budget.name for budget in budgets_for(document, question.subject, question.target)]
    if names:
        yield f"budgets: what is left of {', '.join(names)} is not looked at"


def render_http(explanation: HttpExplanation) -> str:
    """The explanation as lines of text, without a newline at the end."""
    return "\n".join(_lines(explanation))


def _lines(e: HttpExplanation) -> Iterator[str]:
    yield subject_line(e.subject, e.roles)
    yield f"target     {e.target.name} as {e.login}"
    yield f"policy     version {e.policy_version}"
    yield f"admission  {e.admission.effect.value}{limit_words(e.admission)}"
    yield from reason_lines(e.admission.reasons)
    yield f"masks      {', '.join(e.masks) or 'none apply to this subject here'}"
    for what in e.unknown:
        yield f"unknown    {what}"
    yield ""
    if e.request is not None:
        yield from _request(e.request)
    if e.looks_into_body:
        yield f"  body     read whole, for {', '.join(e.looks_into_body)}"
    if e.refusal:
        yield f"refused    {e.refusal}"
    if e.decision is not None:
        yield f"  decision {e.decision.effect.value}"
        yield from reason_lines(e.decision.reasons)
    yield from condition_lines(e.conditions)
    yield ""
    yield f"=> {e.effect.value}"


def _request(facts: HttpFacts) -> Iterator[str]:
    yield f"request    {described(facts)} to {shown(facts.host)}"
    for other in facts.other_paths:
        yield f"  or       {shown(other)}, as some servers would read the path"
    if facts.body_state is not BodyState.NONE:
        kind = shown(facts.content_type) or "of no type"
        size = "of unknown length" if facts.body_bytes is None else f"{facts.body_bytes} bytes"
        unseen = facts.body_state not in (BodyState.JSON, BodyState.FORM)
        why = f"; {why_unseen(facts.body_state)}" if unseen else ""
        yield f"  sends    {kind}, {size}{why}"
    if facts.llm is not None:
        yield from _call(facts.llm)


def _call(llm: LlmFacts) -> Iterator[str]:
    most = "as many tokens as it likes" if llm.max_tokens is None else f"at most {llm.max_tokens} tokens"
    cost = "cost not known" if llm.estimated_cost_usd is None else f"at most {llm.estimated_cost_usd:.6g} USD"
    model = f" {shown(llm.model)}" if llm.model else ""
    yield f"  calls    {llm.operation}{model}, {llm.input_tokens} tokens in, {most} out, {cost}"
    if llm.tools:
        yield f"  tools    {shown(', '.join(llm.tools))}"
    for why in llm.unresolved:
        yield f"  unsure   {shown(why)}"
