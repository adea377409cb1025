"""Document and facts of an HTTP request to a decision. Pure: the same facts and document give the same answer.

Deny beats hold beats allow; silence is deny. Called by the HTTP gates (each request), by `proxyd explain` and by
whoever judges a tape again.

How a request is judged:

1. Deny rules and hold rules that touch it are found. What is not known (which of two readings of a path, a body that
   cannot be looked into) counts as meant.
2. What is left must be covered by one allow rule (or by a hold rule that holds it anyway), for certain. An upgrade is
   covered only by a rule that names it, a call of a model only by a rule with `llm`.

Before a body is read, `needs_of` says from the head alone whether any rule depends on it.

The session's access entry is looked at again with every request, so that a reload that takes it away takes effect on
open connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from policy.decision import Decision, Effect, Reason
from policy.document import PolicyDocument
from policy.evaluate import bounded, has_standing_access, held_by, no_admission
from policy.facts import HttpFacts, Subject, Target
from policy.http.near_misses import limits_reached, near_misses
from policy.http.wording import SEND_WHAT_CAN_BE_READ, SET_MAX_TOKENS, asked_for, described, hint, why_unseen
from policy.http_rules.index import Found
from policy.http_rules.rule import Asked, HttpRule, Touch
from policy.view import view_of

# With `_` besides: gateways in front of a program (CGI, WSGI) do not tell the two apart.
_OVERRIDES = frozenset(
    mark.join(words)
    for words in (("x", "http", "method", "override"), ("x", "http", "method"), ("x", "method", "override"))
    for mark in "-_"
)


class Needs(msgspec.Struct, frozen=True):
    """What must be known before a request can be judged. reasons: names of the rules that ask for it."""

    body: bool
    reasons: tuple[str, ...] = ()


_NOTHING = Needs(False)


def judge_http(
    document: PolicyDocument, subject: Subject, target: Target, login: str, facts: HttpFacts
) -> Decision:
    """May this request be sent to the target?

    ALLOW carries the rule that covers it; HOLD the rules that hold it; DENY every reason there is (bounded).
    """
    view = view_of(document, subject, target)
    if not has_standing_access(view, login):
        return Decision(Effect.DENY, (no_admission(target.protocol),), policy_version=document.version)
    methods = methods_of(facts)
    found = view.http_rules.find(facts, methods)
    if found.decision is not None and not facts.upgrade and facts.llm is None:
        return found.decision
    decision = _judged(found, Asked(facts, subject, target, login, methods), document.version)
    if found.is_all_head and not facts.upgrade and facts.llm is None:
        found.decision = decision
    return decision


def needs_of(
    document: PolicyDocument, subject: Subject, target: Target, login: str, facts: HttpFacts
) -> Needs:
    """Does the answer depend on the body? `facts` are those of the head (`body_state` UNREAD, or NONE).

    `facts.llm` is to be there already for what is a call of a model by its path, with what the head tells of it. A
    request that is refused whatever its body says needs none.
    """
    view = view_of(document, subject, target)
    if not has_standing_access(view, login):
        return _NOTHING
    methods = methods_of(facts)
    found = view.http_rules.find(facts, methods)
    if found.is_all_head and facts.llm is None:
        return _NOTHING
    asked = Asked(facts, subject, target, login, methods)
    refusing = [
        rule for rule in (*found.denies, *found.holds) if rule.needs_body(facts) and rule.may_touch(asked)
    ]
    if any(not rule.needs_body(facts) and rule.touches_rest(asked) is Touch.YES for rule in found.denies):
        return _NOTHING
    allows = [rule for rule in found.allows if _may_cover(rule, asked)]
    held = [rule for rule in found.held if _may_cover(rule, asked)]
    if not allows and not held:
        return _NOTHING
    if all(rule.needs_body(facts) for rule in allows):
        refusing.extend(rule for rule in (*allows, *held) if rule.needs_body(facts))
    return Needs(True, tuple(dict.fromkeys(rule.name for rule in refusing))) if refusing else _NOTHING


def _may_cover(rule: HttpRule, asked: Asked) -> bool:
    if rule.needs_body(asked.facts):
        return rule.may_cover(asked)
    return rule.covers_rest(asked)


def methods_of(facts: HttpFacts) -> tuple[str, ...]:
    """The method, and those that a target could take instead because a header or a parameter names them."""
    values = [value for name, value in facts.headers if name in _OVERRIDES]
    values.extend(value for name, value in facts.query if len(name) == 7 and name.lower() == "_method")
    if not values:
        return (facts.method,)
    others = (part.strip() for value in values for part in value.split(","))
    return (facts.method, *dict.fromkeys(other for other in others if other))


def _judged(found: Found, asked: Asked, version: str) -> Decision:
    facts = asked.facts
    holds = [(rule, how) for rule in found.holds if (how := rule.touches_rest(asked)) is not Touch.NO]
    refusals = _refusals(found.denies, asked)
    refusals.extend(_unseen(rule, facts) for rule, how in holds if how is Touch.UNSEEN)
    covering = _covering(found, asked, [rule for rule, _ in holds])
    if covering is None:
        refusals.extend(_uncovered(found, asked))
        refusals.extend(asked.answers.withheld())
    if refusals:
        return Decision(Effect.DENY, bounded(refusals), policy_version=version)
    if holds:
        reasons = bounded([held_by(rule, asked.answers.doubt(rule)) for rule, _ in holds])
        return Decision(Effect.HOLD, reasons, policy_version=version)
    name = covering.name if covering is not None else ""
    return Decision(Effect.ALLOW, (Reason(name, "allowed"),), policy_version=version)


def _refusals(denies: Sequence[HttpRule], asked: Asked) -> list[Reason]:
    """Where one is sure, what could not be seen does not matter."""
    touched = [(rule, how) for rule in denies if (how := rule.touches_rest(asked)) is not Touch.NO]
    sure = [_denied_by(rule, asked) for rule, how in touched if how is Touch.YES]
    return sure or [_unseen(rule, asked.facts) for rule, how in touched]


def _covering(found: Found, asked: Asked, holding: Sequence[HttpRule]) -> HttpRule | None:
    for rule in found.allows:
        if rule.covers_rest(asked):
            return rule
    return next((rule for rule in found.held if rule in holding and rule.covers_rest(asked)), None)


def _denied_by(rule: HttpRule, asked: Asked) -> Reason:
    llm = asked.facts.llm
    unknown = rule.llm.unknown_of(llm) if rule.llm is not None and llm is not None else ()
    doubt = f" (it is not known {' and '.join(unknown)}, which counts as too much)" if unknown else ""
    doubt += asked.answers.doubt(rule)
    reached = limits_reached(rule, asked.facts)
    text = rule.message or f"{described(asked.facts)} is denied" + (f": {reached}" if reached else "")
    ask = f"Ask the owners of the policy about rule {rule.name}."
    return Reason(
        rule.name,
        f"{text.rstrip('.')}{doubt}" if doubt else text,
        f"{SET_MAX_TOKENS}. {ask}" if unknown and llm is not None and llm.max_tokens is None else ask,
    )


def _unseen(rule: HttpRule, facts: HttpFacts) -> Reason:
    return Reason(
        rule.name,
        f"rule {rule.name} looks into the body of {described(facts)}, and {why_unseen(facts.body_state)}",
        f"{SEND_WHAT_CAN_BE_READ}.",
    )


def _uncovered(found: Found, asked: Asked) -> Iterator[Reason]:
    facts = asked.facts
    unseen = [
        rule
        for rule in (*found.allows, *found.held)
        if (not asked.is_seen or asked.has_too_much) and rule.needs_body(facts) and rule.may_cover(asked)
    ]
    yield from (_unseen(rule, facts) for rule in unseen)
    if not unseen:
        near = near_misses(found.allows, asked)
        yield Reason("", f"no rule allows {asked_for(facts, methods_of(facts))}", "" if near else hint(facts))
        yield from near
