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

from collections.abc import Iterable, Iterator

import msgspec

from policy.conditions.bundles import Bundle
from policy.decision import Decision, Effect, Reason
from policy.document import PolicyDocument
from policy.evaluate import MAX_REASONS, bounded, has_standing_access, held_by, no_admission
from policy.facts import HttpFacts, Subject, Target
from policy.http.near_misses import MAX_NAMED, limits_reached, near_misses
from policy.http.wording import SEND_WHAT_CAN_BE_READ, SET_MAX_TOKENS, asked_for, described, hint, why_unseen
from policy.http_rules.asking import covering, covering_of, may_cover, touched
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
    asked = Asked(facts, subject, target, login, methods)
    decision = _judged(view.http_rules.about(found, asked), asked, document.version)
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
    head = view.http_rules.find(facts, methods)
    if head.is_all_head and facts.llm is None:
        return _NOTHING
    asked = Asked(facts, subject, target, login, methods)
    found = view.http_rules.before_body(head, asked)
    refusing = [
        bundle
        for bundle in (*found.denies, *found.holds)
        if bundle.first.needs_body(facts) and bundle.first.may_touch(asked)
    ]
    sure = [bundle for bundle in found.denies if not bundle.first.needs_body(facts)]
    if any(how is Touch.YES for _, how in touched(sure, asked)):
        return _NOTHING
    allows = may_cover(found.allows, asked)
    held = may_cover(found.held, asked)
    if not allows and not held:
        return _NOTHING
    if all(bundle.first.needs_body(facts) for bundle in allows):
        refusing.extend(bundle for bundle in (*allows, *held) if bundle.first.needs_body(facts))
    names = (rule.name for bundle in refusing for rule in bundle.rules[:MAX_REASONS])
    return Needs(True, tuple(dict.fromkeys(names))) if refusing else _NOTHING


def methods_of(facts: HttpFacts) -> tuple[str, ...]:
    """The method, and those that a target could take instead because a header or a parameter names them."""
    values = [value for name, value in facts.headers if name in _OVERRIDES]
    values.extend(value for name, value in facts.query if len(name) == 7 and name.lower() == "_method")
    if not values:
        return (facts.method,)
    others = (part.strip() for value in values for part in value.split(","))
    return (facts.method, *dict.fromkeys(other for other in others if other))


def _judged(found: Found, asked: Asked, version: str) -> Decision:
    facts, answers = asked.facts, asked.answers
    holds = touched(found.holds, asked)
    refusals, more = _refusals(found, asked)
    refusals.extend(_unseen(rule, facts) for rule, how in holds if how is Touch.UNSEEN)
    covers = covering(found.allows, asked)
    if covers is None:
        covers = covering_of([rule for rule, _ in holds], found.held, asked)
    if covers is None:
        refusals.extend(_uncovered(found, asked))
        withheld, left = answers.withheld(MAX_REASONS)
        refusals.extend(withheld)
        more += left
    if refusals:
        return Decision(Effect.DENY, bounded(refusals, more), policy_version=version)
    if holds:
        reasons = bounded([held_by(rule, answers.doubt(rule)) for rule, _ in holds])
        return Decision(Effect.HOLD, reasons, policy_version=version)
    name = covers.name if covers is not None else ""
    return Decision(Effect.ALLOW, (Reason(name, "allowed"),), policy_version=version)


def _refusals(found: Found, asked: Asked) -> tuple[list[Reason], int]:
    """The first reasons, and how many more there are. Where one is sure, what could not be seen does not matter."""
    denies = touched(found.denies, asked)
    sure = [rule for rule, how in denies if how is Touch.YES]
    told = [_denied_by(rule, asked) for rule in sure[:MAX_REASONS]]
    told = told or [_unseen(rule, asked.facts) for rule, _ in denies[:MAX_REASONS]]
    return told, len(sure or denies) - len(told)


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


def _needing(bundles: Iterable[Bundle[HttpRule]], asked: Asked) -> list[HttpRule]:
    """The rules that could cover the request if its body could be seen, in the document's order."""
    rules = (
        rule
        for bundle in bundles
        if bundle.first.needs_body(asked.facts) and bundle.first.may_cover(asked)
        for rule in bundle.rules
    )
    return sorted(rules, key=lambda rule: rule.order)


def _uncovered(found: Found, asked: Asked) -> Iterator[Reason]:
    facts = asked.facts
    unseen: list[HttpRule] = []
    if not asked.is_seen or asked.has_too_much:
        unseen = [*_needing(found.allows, asked), *_needing(found.held, asked)]
    yield from (_unseen(rule, facts) for rule in unseen)
    if not unseen:
        rules = [
            rule for bundle in found.allows for rule in bundle.rules[:MAX_NAMED]
        ]  # of a bundle all miss the same
        near = near_misses(rules, asked)
        yield Reason("", f"no rule allows {asked_for(facts, methods_of(facts))}", "" if near else hint(facts))
        yield from near
