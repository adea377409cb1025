"""Which rules would have allowed a request, and what about it they do not allow: limits with their values. And which
limits of a rule that denies it has reached.

Of rules that mean the method, host and path. Reasons that are made here reach the client, the log and the tape: they
name a rule's limits, sizes, types, models and numbers of tokens, but no value of a field, a parameter or a body, and no
text that a rule compares these with, since some hold what nobody else should read. Asked only about requests that are
refused, so its time does not matter; how many rules are looked at is bounded. Called by `policy.http.evaluate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policy.decision import Reason
from policy.facts import HttpFacts
from policy.http_rules.bodies import BodyCondition, TooMuch
from policy.http_rules.fields import Fields, NamedValues, Presence
from policy.http_rules.rule import Asked, HttpRule, types_of
from policy.http_rules.values import Bounds
from policy.llm.shortfalls import Shortfall, dollars, is_elsewhere, llm_shortfalls
from policy.shown_text import listed, shown

MAX_LOOKED_AT = 200
MAX_NAMED = 3


def near_misses(rules: Sequence[HttpRule], asked: Asked) -> list[Reason]:
    """A reason for each of the nearest of `rules`, which do not cover the request: those with the fewest shortfalls.

    Rules whose condition alone does not hold are not among them: `Answers.withheld` tells of these.
    """
    found: list[tuple[int, int, Reason]] = []
    for rule in rules[:MAX_LOOKED_AT]:
        shortfalls = list(_shortfalls(rule, asked))
        if shortfalls:
            found.append((len(shortfalls), rule.order, _reason(rule, shortfalls)))
    found.sort(key=lambda item: item[:2])
    return [reason for _, _, reason in found[:MAX_NAMED]]


def limits_reached(rule: HttpRule, facts: HttpFacts) -> str:
    """What of a request made a rule touch it that denies or holds from a limit on; "" for nothing of that kind."""
    words: list[str] = []
    size, llm = facts.body_bytes, facts.llm
    if rule.body_bytes is not None and rule.body_bytes.least is not None:
        has = "it is not known how long the body is" if size is None else f"the body has {size} bytes"
        words.append(f"{has}, and the rule is about {rule.body_bytes.least:.0f} or more")
    if rule.llm is not None and llm is not None:
        tokens, cost = rule.llm.max_tokens, rule.llm.cost_usd
        if tokens is not None and tokens.least is not None and llm.max_tokens is not None:
            words.append(
                f"the answer may have {llm.max_tokens} tokens, and the rule is about {tokens.least:.0f} or more"
            )
        if cost is not None and cost.least is not None and llm.estimated_cost_usd is not None:
            words.append(
                f"the call may cost {dollars(llm.estimated_cost_usd)} USD, "
                f"and the rule is about {dollars(cost.least)} or more"
            )
    return "; ".join(words)


def _reason(rule: HttpRule, shortfalls: Sequence[Shortfall]) -> Reason:
    advice = [f"{shortfall.advice}." for shortfall in shortfalls if shortfall.advice]
    ask = f"sk the owners of the policy about rule {rule.name}."
    return Reason(
        rule.name,
        f"rule {rule.name} does not cover it: " + "; ".join(shortfall.what for shortfall in shortfalls),
        " ".join((*dict.fromkeys(advice), f"Or a{ask}" if advice else f"A{ask}")),
    )


def _shortfalls(rule: HttpRule, asked: Asked) -> Iterator[Shortfall]:
    facts = asked.facts
    if rule.upgrade != facts.upgrade or (rule.llm is None) != (facts.llm is None):
        return  # about another kind of request, which the first reason says
    if rule.llm is not None and facts.llm is not None and is_elsewhere(rule.llm, facts.llm):
        return
    yield from _size(rule, facts)
    if not rule.covers_types(facts):
        yield _type(rule, facts)
    yield from _named("parameter", rule.query, asked.query)
    yield from _named("field", rule.headers, asked.headers)
    if rule.llm is not None and facts.llm is not None and asked.is_seen:
        yield from llm_shortfalls(rule.llm, facts.llm)
    if rule.body and asked.is_seen:
        yield from _body(rule, asked)


def _size(rule: HttpRule, facts: HttpFacts) -> Iterator[Shortfall]:
    limit = rule.body_bytes
    if limit is None or limit.most is None:
        return
    advice = f"Send a body of {limit.most:.0f} bytes or less"
    if facts.body_bytes is None:
        yield Shortfall(
            f"it is not known how long the body is, and it allows {limit.most:.0f} bytes",
            f"{advice}, with its length",
        )
    elif not limit.holds(facts.body_bytes):
        yield Shortfall(f"the body has {facts.body_bytes} bytes, and it allows {limit.most:.0f}", advice)


def _type(rule: HttpRule, facts: HttpFacts) -> Shortfall:
    allowed = listed(pattern.text for pattern in rule.content_types or ())
    given = listed(sorted(types_of(facts)))
    what = f"the body is {given}" if given else "it is not said of what type the body is"
    return Shortfall(f"{what}, and it allows {allowed}", f"Send {allowed}")


def _named(kind: str, wanted: Sequence[NamedValues], fields: Fields) -> Iterator[Shortfall]:
    for values in wanted:
        if values.covers(fields):
            continue
        name = f"the {kind} `{shown(values.name)}`"
        if values.presence is Presence.ABSENT:
            yield Shortfall(f"{name} is not allowed", f"Leave out {name}")
        elif fields.is_too_many:
            yield Shortfall(f"there are too many {kind}s to look at")
        elif values.name not in fields.by_name:
            yield Shortfall(f"{name} is not there", f"Send {name}")
        else:
            yield Shortfall(f"{name} has a value that it does not allow")


def _body(rule: HttpRule, asked: Asked) -> Iterator[Shortfall]:
    try:
        for condition in rule.body:
            if not condition.covers(asked.body):
                yield _in_body(condition, asked)
    except TooMuch:
        return  # which is a reason of its own


def _in_body(condition: BodyCondition, asked: Asked) -> Shortfall:
    path = f"`{shown(str(condition.path))}`"
    if condition.presence is Presence.ABSENT:
        return Shortfall(f"{path} is not allowed in the body", f"Leave out {path}")
    if not asked.body.certain(condition.path):
        return Shortfall(f"{path} is not there in the body", f"Send {path}")
    if condition.bounds is not None:
        return Shortfall(f"{path} has to be {_within(condition.bounds)}", f"Send {path} within that")
    return Shortfall(f"{path} has a value that it does not allow")


def _within(bounds: Bounds) -> str:
    least = "" if bounds.least is None else f"{bounds.least:.15g} or more"
    most = "" if bounds.most is None else f"{bounds.most:.15g} or less"
    return "a number, " + " and ".join(part for part in (least, most) if part)
