"""The `llm` section of a rule: what it touches, what it covers, and which words it takes."""

# Letters that only look alike are what is tried here.
# ruff: noqa: RUF001

from __future__ import annotations

from typing import Any

import pytest

from policy.facts import LlmFacts
from policy.llm.content import content_of
from policy.llm.prices import PriceTable, price
from policy.llm.reading import read_call
from policy.llm.rule import LlmRule
from policy.llm.section import LlmMatcher, check_effect
from policy.located_yaml import DocumentError, Located, parse, validate

PRICES = PriceTable((price(["gpt-*"], 2.50, 10.0),))
CHAT = "/v1/chat/completions"


def rule(text: str) -> LlmRule:
    return LlmRule.of(validate(LlmMatcher, parse(text, "rule")))


def body(**keys: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100, **keys}


def facts(given: object, path: str = CHAT, method: str = "POST") -> LlmFacts:
    found = read_call("openai", method, path, given, PRICES)
    assert found is not None
    return found


def answers(text: str, given: object, path: str = CHAT, method: str = "POST") -> tuple[bool, bool]:
    """(touches, covers)"""
    call = facts(given, path, method)
    compiled = rule(text)
    found = compiled.touches(call, given), compiled.covers(call, given)
    assert found == (compiled.touches(call, content_of(given)), compiled.covers(call, content_of(given)))
    return found


NO, YES = (False, False), (True, True)
ONLY_TOUCHES = (True, False)


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        # operations
        ("operations: [chat]", body(), YES),
        ("operations: [embeddings]", body(), NO),
        ("operations: [responses, chat]", body(), YES),
        ("operations: [other]", body(), NO),
        # models
        ("models: ['gpt-4o']", body(), YES),
        ("models: ['gpt-*']", body(), YES),
        ("models: ['*']", body(), YES),
        ("models: ['gpt-4']", body(), NO),
        ("models: ['o1', 'gpt-4o*']", body(), YES),
        ("models: ['gpt-4o']", body(model="GPT-4o"), ONLY_TOUCHES),
        ("models: ['gpt-4o']", body(model=" gpt-4o "), ONLY_TOUCHES),
        ("models: ['gpt-4o']", body(model="ｇｐｔ-4o"), ONLY_TOUCHES),
        ("models: ['gpt-4o']", body(model=None), ONLY_TOUCHES),
        ("models: ['gpt-4o']", body(models=["o1"]), ONLY_TOUCHES),
        ("models: ['*']", body(model=None), ONLY_TOUCHES),
        # tools
        ("tools: ['search_*']", body(tools=[{"name": "search_a"}]), YES),
        ("tools: ['search_*']", body(tools=[{"name": "search_a"}, {"name": "delete_a"}]), ONLY_TOUCHES),
        ("tools: ['search_*']", body(tools=[{"name": "delete_a"}]), NO),
        ("tools: ['search_*']", body(), (False, True)),
        ("tools: ['search_*']", body(tools="?"), ONLY_TOUCHES),
        ("tools: ['search_*']", body(tools=[{"type": "code_interpreter", "name": "search_a"}]), ONLY_TOUCHES),
        # prompts
        ("prompts: ['(?i)hello']", body(), YES),
        ("prompts: ['(?i)bye']", body(), NO),
        ("prompts: ['(?i)bye', 'Hel']", body(), YES),
        ("prompts: ['(?i)bye']", body(previous_response_id="r"), ONLY_TOUCHES),
        # length
        ("max_tokens: {max: 100}", body(), YES),
        ("max_tokens: {max: 99}", body(), NO),
        ("max_tokens: {min: 100}", body(), YES),
        ("max_tokens: {min: 101}", body(), NO),
        ("max_tokens: {max: 100}", body(n=2), NO),
        ("max_tokens: {max: 100}", body(max_tokens=None), ONLY_TOUCHES),
        ("max_tokens: {min: 101}", body(max_tokens=None), ONLY_TOUCHES),
        ("max_tokens: {min: 101}", body(max_tokens="100"), ONLY_TOUCHES),
        # cost
        ("cost_usd: {max: 0.01}", body(), YES),
        ("cost_usd: {max: 0.001}", body(), NO),
        ("cost_usd: {min: 0.001}", body(), YES),
        ("cost_usd: {max: 0.01}", body(model="o1"), ONLY_TOUCHES),
        ("cost_usd: {min: 5.0}", body(model="o1"), ONLY_TOUCHES),
        ("cost_usd: {min: 5.0}", body(), NO),
        # several
        ("{models: ['gpt-*'], max_tokens: {max: 100}}", body(), YES),
        ("{models: ['gpt-*'], max_tokens: {max: 50}}", body(), NO),
        ("{models: ['o1'], prompts: [Hello]}", body(), NO),
        # bodies that could not be read
        ("operations: [chat]", None, ONLY_TOUCHES),
        ("models: ['*']", None, ONLY_TOUCHES),
        ("prompts: [bye]", None, ONLY_TOUCHES),
        ("operations: [embeddings]", None, NO),
    ],
)
def test_touching_and_covering(text: str, given: object, expected: tuple[bool, bool]) -> None:
    assert answers(text, given) == expected


@pytest.mark.parametrize(
    ("text", "path", "method", "expected"),
    [
        ("operations: [chat]", "/v1/chat/completions/", "POST", ONLY_TOUCHES),
        ("models: ['gpt-*']", "/V1/chat/completions", "POST", ONLY_TOUCHES),
        ("operations: [other]", "/V1/chat/completions", "POST", ONLY_TOUCHES),
        ("operations: [other]", "/v1/files", "POST", YES),
        ("models: ['gpt-*']", "/v1/files", "POST", ONLY_TOUCHES),
        ("{operations: [other], models: ['gpt-*']}", "/v1/batches", "POST", YES),
        ("operations: [chat]", "/v1/files", "POST", NO),
        ("operations: [models]", "/v1/models", "GET", YES),
        ("models: ['gpt-4o']", "/v1/models/gpt-4o", "GET", YES),
        ("models: ['o1']", "/v1/models/gpt-4o", "GET", NO),
        ("models: ['gpt-4o']", "/v1/models", "GET", NO),
        ("{operations: [chat, models], models: ['gpt-4o']}", "/v1/models", "GET", (False, True)),
        ("prompts: [Hello]", "/v1/models", "GET", NO),
        ("max_tokens: {max: 10}", "/v1/models", "GET", YES),
        ("operations: [models]", "/v1/files", "GET", NO),
        ("models: ['gpt-*']", "/v1/files", "GET", NO),
        ("operations: [other]", "/v1/files", "GET", YES),
    ],
)
def test_operations_and_paths(text: str, path: str, method: str, expected: tuple[bool, bool]) -> None:
    assert answers(text, body() if method == "POST" else None, path, method) == expected


def test_a_body_that_is_not_there_is_not_needed_for_what_is_not_in_it() -> None:
    """A file that is uploaded passes without being read, when a rule allows uploads as such."""
    call = facts(None, "/v1/files")
    assert rule("operations: [other]").covers(call, None)
    assert not rule("{operations: [other], models: ['*']}").covers(call, None)
    assert rule("prompts: [bye]").touches(call, None)


@pytest.mark.parametrize(
    ("text", "path", "method", "expected"),
    [
        ("operations: [chat]", CHAT, "POST", True),
        ("models: ['*']", CHAT, "POST", True),
        ("operations: [models]", "/v1/models", "GET", False),
        ("models: ['*']", "/v1/models", "GET", False),
        ("operations: [other]", "/v1/files", "POST", False),
        ("{operations: [other], models: ['*']}", "/v1/files", "POST", True),
        ("prompts: [bye]", "/v1/files", "POST", True),
        ("{operations: [chat], prompts: [bye]}", "/v1/files", "POST", False),
    ],
)
def test_which_rules_need_the_body(text: str, path: str, method: str, expected: bool) -> None:
    assert rule(text).needs_body(facts(None, path, method)) is expected


def test_rules_in_a_row_are_asked_about_their_own_body() -> None:
    compiled = rule("prompts: [Hello]")
    first, second = body(), body(messages=[{"role": "user", "content": "Goodbye"}])
    asked = [compiled.touches(facts(given), given) for given in (first, second, first, second)]
    assert asked == [True, False, True, False]


# --- the words of the section -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "says nothing"),
        ("operations: [messages]", "called `chat`"),
        ("operations: [chats]", "did you mean `chat`"),
        ("operations: []", ""),
        ("models: []", ""),
        ("models: ['']", ""),
        ("models: [' gpt']", "names nothing"),
        ("prompts: ['(?=x)']", "not a pattern"),
        ("prompts: ['.*']", "every text"),
        ("max_tokens: {}", "not one limit"),
        ("max_tokens: {min: 1, max: 2}", "not one limit"),
        ("max_tokens: 100", ""),
        ("max_tokens: {max: -1}", ""),
        ("cost_usd: {max: -0.5}", ""),
        ("cost_usd: {}", "not one limit"),
        ("model: [gpt]", "models"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        rule(text)
    assert words in str(caught.value.faults[0])


@pytest.mark.parametrize(
    ("text", "effect", "is_sound"),
    [
        ("prompts: [x]", "allow", False),
        ("prompts: [x]", "deny", True),
        ("prompts: [x]", "hold", True),
        ("max_tokens: {max: 1}", "allow", True),
        ("max_tokens: {max: 1}", "deny", False),
        ("max_tokens: {min: 1}", "allow", False),
        ("max_tokens: {min: 1}", "hold", True),
        ("cost_usd: {max: 1.0}", "hold", False),
        ("cost_usd: {min: 1.0}", "deny", True),
        ("cost_usd: {min: 1.0}", "allow", False),
        ("models: [x]", "allow", True),
    ],
)
def test_what_goes_with_an_effect(text: str, effect: str, is_sound: bool) -> None:
    located: Located = parse(text, "rule")
    section = validate(LlmMatcher, located)
    if is_sound:
        check_effect(section, effect)
        return
    with pytest.raises(ValueError):
        check_effect(section, effect)
