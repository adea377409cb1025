"""HTTP requests in words, for reasons: short, and without characters that a terminal would obey.

What a client sends stands in these texts, and they reach clients, logs and tapes. Query strings are left out: they
hold what nobody should find in a log. Called by `policy.http.evaluate` and `proxyd explain`.
"""

from __future__ import annotations

from collections.abc import Sequence

from policy.facts import BodyState, HttpFacts
from policy.shown_text import shown

ASK = "Ask the owners of the policy for a rule"
SET_MAX_TOKENS = "Set the most tokens that may be answered (`max_tokens`, or what the API calls it)"


def described(facts: HttpFacts) -> str:
    """The request as a noun, as in "`POST /v1/orders`"."""
    kind = f" (an upgrade to {shown(facts.upgrade)})" if facts.upgrade else ""
    return f"`{shown(facts.method)} {shown(facts.path)}`{kind}"


def asked_for(facts: HttpFacts, methods: Sequence[str]) -> str:
    """What a rule would have to allow: the request, the model that it calls, the methods that it could be taken for."""
    text = described(facts)
    if facts.llm is not None:
        model = f" of model `{shown(facts.llm.model)}`" if facts.llm.model else ""
        text = f"{facts.llm.operation}{model} ({text})"
    others = ", ".join(shown(method) for method in dict.fromkeys(methods) if method != facts.method)
    return f"{text}, which asks to be taken for {others}" if others else text


def hint(facts: HttpFacts) -> str:
    if facts.llm is not None:
        if facts.llm.operation in ("models", "other"):  # which no list of models covers
            return f"{ASK} that allows it: one with `llm: {{operations: [{facts.llm.operation}]}}`."
        ask = f"{ASK} that allows it: one with `llm`, as every call of a model needs."
        if facts.llm.max_tokens is None and facts.body_state is BodyState.JSON:
            return f"{SET_MAX_TOKENS}: rules that limit length or cost cover no call without it. {ask}"
        return ask
    if facts.upgrade:
        return f"{ASK} that allows it: one with `upgrade: {shown(facts.upgrade)}`, as every change of protocol needs."
    return f"{ASK} that allows it."


_WHY_UNSEEN = {
    BodyState.UNREAD: "it has not been read",
    BodyState.UNKNOWN: "its type is not one that the gateway reads, or it is compressed",
    BodyState.BROKEN: "it does not parse as what its content type says, or has a name twice",
    BodyState.TOO_LARGE: "it is longer than the gateway reads before it decides",
}


def why_unseen(state: BodyState) -> str:
    return _WHY_UNSEEN.get(state, "it holds more values than the gateway looks at")


SEND_WHAT_CAN_BE_READ = (
    "Send application/json or application/x-www-form-urlencoded, not compressed, with each name once, "
    "and no longer than the listener's `judged_body`"
)
