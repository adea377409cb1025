"""One request to a model's API to facts. Pure; what it cannot see it says in `unresolved`.

Each reason there begins with what it is about (one of ASPECTS), so that only rules that depend on it fail closed:
`operation`, `model`, `tools`, `prompts`, `length` (of the answer), `cost`, and `body` for all of them at once. Called
by the HTTP gate for targets with an `api`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from policy.facts import LlmFacts
from policy.llm.content import IN_TOKENS, Content, content_of
from policy.llm.length import Most, input_tokens, most_output
from policy.llm.operations import APIS, COUNT_TOKENS, MODELS, OTHER, Place, place_of
from policy.llm.prices import PriceTable
from policy.llm.tools import Tools, has_other_case, tools_of

ASPECTS = ("operation", "model", "tools", "prompts", "length", "cost", "body")

PROMPT_IN_TOKENS = f"prompts: {IN_TOKENS}"

# Keys by which some gateways in front of models are told to take another model than `model`, or another provider.
_OTHER_MODELS = (
    *(
        "models",
        "fallbacks",
        "fallback_models",
        "route",
        "preset",
        "model_list",
        "user_config",
        "deployment_id",
    ),
    *("engine", "context_window_fallbacks", "content_policy_fallbacks", "default_fallbacks", "api_base"),
    *("base_url",),
)
# Parameters of the URL that some of them take for the model, before that of the body.
_IN_QUERY = frozenset({"model", "model_id", "model_name", "deployment", *_OTHER_MODELS})
# Some take a list of names with commas; and what cannot be seen in a name, a server may leave out.
_SEVERAL = re.compile(r"[,\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|^\s|\s$")
_SEARCHES = ":online"  # behind a model's name: the provider looks into the web for it
# Names by which something that is judged is said.
_SIGNIFICANT = frozenset(
    {
        *(
            "audio",
            "best_of",
            "cache_control",
            "container",
            "conversation",
            "data_sources",
            "functions",
            "input",
        ),
        *("instructions", "max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample"),
        *("mcp_servers", "messages", "model", "n", "plugins", "prediction", "previous_response_id", "prompt"),
        *(
            "service_tier",
            "compaction",
            "extra_body",
            "context_management",
            "inference_geo",
            "speed",
            "stream",
            "suffix",
            "thread",
            "system",
            "thinking",
            "tools",
            "web_search_options",
            *_OTHER_MODELS,
        ),
    }
)
_USUAL_TIERS = frozenset({None, "auto", "default", "flex", "standard", "standard_only", "batch"})


def reads_body(api: str, method: str, path: str) -> bool:
    """Does what the request asks stand in its body? (A call that is "other" may have any body, of any length.)"""
    if api not in APIS:
        return False
    place = place_of(api, method, path)
    return place.has_body and place.operation != OTHER


def is_unresolved(facts: LlmFacts, *aspects: str) -> bool:
    """Is one of `aspects` something that could not be seen? All but `operation` stand in the body."""
    prefixes = [f"{aspect}: " for aspect in aspects]
    if aspects != ("operation",):
        prefixes.append("body: ")
    return any(reason.startswith(tuple(prefixes)) for reason in facts.unresolved)


def read_call(
    api: str,
    method: str,
    path: str,
    body: object | None,
    prices: PriceTable,
    *,
    query: Iterable[tuple[str, str]] = (),
    upgrade: str = "",
) -> LlmFacts | None:
    """The facts of one request; None when `api` is none that is known, and plain HTTP rules decide.

    `path` without the query, in its normal form. `body`: the parsed JSON, None when there is none or it could not be
    read. Every request to a target with an `api` is a call of a model: what is not a known operation is "other".
    `upgrade`: what comes behind a change of the protocol asks models too, and nothing of that is known.
    """
    if api not in APIS:
        return None
    place = place_of(api, method, path)
    call = _call_at(place, api, body, prices)
    named = sorted({name for name, _ in query if name.casefold().partition("[")[0] in _IN_QUERY})
    if named and place.operation != MODELS:
        faults = [f"model: the address names one too (`{name}`)" for name in named]
        call = msgspec.structs.replace(
            call,
            estimated_cost_usd=0.0 if call.estimated_cost_usd == 0.0 else None,
            unresolved=(*call.unresolved, *faults),
        )
    if upgrade:
        why = f"it is asked for by messages, once the protocol is {upgrade}"
        return msgspec.structs.replace(
            call,
            max_tokens=None,
            estimated_cost_usd=None,
            unresolved=(
                *call.unresolved,
                *(f"{aspect}: {why}" for aspect in ASPECTS if aspect != "operation"),
            ),
        )
    return call


def _call_at(place: Place, api: str, body: object | None, prices: PriceTable) -> LlmFacts:
    faults = [] if place.is_certain else ["operation: the path is not exactly that of the operation"]
    if not place.has_body:
        return LlmFacts(api, place.operation, place.model, 0, 0, 0.0, unresolved=tuple(faults))
    if not isinstance(body, Mapping):
        faults.append("body: it is not a JSON object that could be read")
        return LlmFacts(api, place.operation, place.model, unresolved=tuple(faults))
    if body.get("extra_body"):
        # Gateways in front of models put it over what they send on, so that it may say anything once more.
        faults += [
            f"{aspect}: `extra_body` may say it again" for aspect in ("model", "tools", "length", "cost")
        ]
    if has_other_case(body, _SIGNIFICANT):
        faults.append("body: a name in it stands in another case, which some servers read and others do not")
    model = _model(place, body, faults)
    content, tools = content_of(body), tools_of(body)
    if model.casefold().endswith(_SEARCHES):
        tools = Tools((*tools.names, "web_search"), tools.faults, (*tools.hosted, "web_search"))
    most = most_output(place.operation, body)
    faults += [f"prompts: {reason}" for reason in dict.fromkeys(content.unseen)]
    faults += [f"tools: {reason}" for reason in tools.faults]
    if body.get("extra_body"):
        most = Most(None)
    if most.fault:
        faults.append(f"length: {most.fault}")
    unknown_cost = _unknown_cost(place, body, content, tools)
    faults += [f"cost: {reason}" for reason in unknown_cost]
    tokens = input_tokens(content, has_tools=bool(tools.names or tools.faults))
    is_priced = not unknown_cost and not any(fault.startswith("model: ") for fault in faults)
    return LlmFacts(
        api=api,
        operation=place.operation,
        model=model,
        max_tokens=most.tokens,
        input_tokens=tokens,
        estimated_cost_usd=_cost(place, model, tokens, most, content, prices) if is_priced else None,
        tools=tools.names,
        is_stream=body.get("stream") is True,
        unresolved=tuple(faults),
    )


def _model(place: Place, body: Mapping[str, Any], faults: list[str]) -> str:
    model = body.get("model")
    for key in _OTHER_MODELS:
        if body.get(key):
            faults.append(f"model: the request names others by `{key}`")
    if _SEVERAL.search(place.model or (model if isinstance(model, str) else "")):
        faults.append("model: its name may be that of several")
    if place.model:
        if model not in {None, place.model} if isinstance(model, str) or model is None else True:
            faults.append("model: the path and the body name two")
        return place.model
    if isinstance(model, str) and model:
        return model
    faults.append("model: the request names none")
    return ""


def _unknown_cost(place: Place, body: Mapping[str, Any], content: Content, tools: Tools) -> list[str]:
    """Why the price table cannot tell what the call costs."""
    if place.operation == COUNT_TOKENS:
        return []
    reasons = [f"the provider runs {name} itself" for name in tools.hosted]
    reasons += [
        f"the model reads {reason}" for reason in dict.fromkeys(content.unseen) if reason != IN_TOKENS
    ]
    if content.sounds or body.get("audio") is not None:
        reasons.append("sound has a price of its own")
    if body.get("prediction") is not None:
        reasons.append("a prediction is paid for as far as it was wrong")
    if body.get("compaction") is not None or _compacts(body.get("context_management")):
        reasons.append("what the provider shortens is paid for beside the answer")
    if body.get("speed") not in (None, "standard"):
        reasons.append("the speed has a price of its own")
    if body.get("inference_geo") not in (None, "global"):
        reasons.append("the region has a price of its own")
    tier = body.get("service_tier")
    if tier is not None and (not isinstance(tier, str) or tier not in _USUAL_TIERS):
        reasons.append("the service tier has prices of its own")
    return reasons


def _compacts(management: object) -> bool:
    """Is it told to have a model write a summary? Other ways of forgetting cost nothing."""
    if management is None:
        return False
    edits = management.get("edits") if isinstance(management, Mapping) else management
    if not isinstance(edits, list) or not all(isinstance(edit, Mapping) for edit in edits):
        return True
    return any(not str(edit.get("type")).startswith("clear_") for edit in edits)


def _cost(
    place: Place, model: str, tokens: int, most: Most, content: Content, prices: PriceTable
) -> float | None:
    if place.operation in {COUNT_TOKENS, MODELS}:
        return 0.0
    price = prices.price(model)
    if price is None or most.tokens is None or place.operation == OTHER:
        return None
    if content.is_cached:
        return price.cost_usd(0, most.tokens, written_tokens=tokens)
    return price.cost_usd(tokens, most.tokens)
