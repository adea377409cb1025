"""Requests of both shapes to facts: operation, model, length, tools, cost, and what could not be seen."""

from __future__ import annotations

from typing import Any

import pytest

from policy.facts import LlmFacts
from policy.llm.length import TOKENS_PER_IMAGE
from policy.llm.prices import NO_PRICES, PriceTable, price
from policy.llm.reading import ASPECTS, is_unresolved, read_call, reads_body

PRICES = PriceTable(
    (
        price(["gpt-4o-mini*"], 0.15, 0.60),
        price(["gpt-4o*", "claude-*"], 2.50, 10.0),
        price(["text-embedding-*"], 0.02, 0.0),
    )
)
HELLO = [{"role": "user", "content": "Hello there"}]


def read(
    body: object,
    path: str = "/v1/chat/completions",
    api: str = "openai",
    method: str = "POST",
    *,
    query: tuple[tuple[str, str], ...] = (),
    upgrade: str = "",
) -> LlmFacts:
    facts = read_call(api, method, path, body, PRICES, query=query, upgrade=upgrade)
    assert facts is not None
    assert all(reason.split(": ")[0] in ASPECTS for reason in facts.unresolved)
    return facts


def chat(**keys: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": HELLO, "max_tokens": 100, **keys}


def message(**keys: Any) -> dict[str, Any]:
    return {"model": "claude-demo", "messages": HELLO, "max_tokens": 100, **keys}


# --- which operation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "method", "path", "operation", "model"),
    [
        ("openai", "POST", "/v1/chat/completions", "chat", ""),
        ("openai", "POST", "/chat/completions", "chat", ""),
        ("openai", "POST", "/openai/v1/chat/completions", "chat", ""),
        ("openai", "POST", "/openai/deployments/our-gpt/chat/completions", "chat", "our-gpt"),
        ("openai", "POST", "/openai/deployments/our%2Dgpt/embeddings", "embeddings", "our-gpt"),
        ("openai", "POST", "/v1/responses", "responses", ""),
        ("openai", "POST", "/v1/responses/input_tokens", "count_tokens", ""),
        ("openai", "POST", "/v1/completions", "completions", ""),
        ("openai", "POST", "/v1/embeddings", "embeddings", ""),
        ("openai", "GET", "/v1/models", "models", ""),
        ("openai", "GET", "/v1/models/gpt-4o", "models", "gpt-4o"),
        ("openai", "GET", "/models/org/gpt-4o", "models", "org/gpt-4o"),
        ("openai", "DELETE", "/v1/models/gpt-4o", "other", ""),
        ("openai", "GET", "/v1/responses/resp_1", "other", ""),
        ("openai", "GET", "/v1/chat/completions", "other", ""),
        ("openai", "DELETE", "/v1/responses/resp_1", "other", ""),
        ("openai", "POST", "/v1/files", "other", ""),
        ("openai", "POST", "/v1/batches", "other", ""),
        ("openai", "POST", "/v1/fine_tuning/jobs", "other", ""),
        ("openai", "POST", "/v1/audio/transcriptions", "other", ""),
        ("openai", "GET", "/v1/realtime", "other", ""),
        ("openai", "POST", "/v1/messages", "other", ""),
        ("openai", "POST", "/", "other", ""),
        ("anthropic", "POST", "/v1/messages", "chat", ""),
        ("anthropic", "POST", "/v1/messages/count_tokens", "count_tokens", ""),
        ("anthropic", "POST", "/v1/complete", "completions", ""),
        ("anthropic", "GET", "/v1/models", "models", ""),
        ("anthropic", "GET", "/v1/models/claude-demo", "models", "claude-demo"),
        ("anthropic", "POST", "/v1/messages/batches", "other", ""),
        ("anthropic", "POST", "/v1/chat/completions", "other", ""),
        ("anthropic", "POST", "/v1/files", "other", ""),
    ],
)
def test_a_path_is_an_operation(api: str, method: str, path: str, operation: str, model: str) -> None:
    facts = read_call(api, method, path, None, PRICES)
    assert facts is not None
    assert (facts.api, facts.operation, facts.model) == (api, operation, model)
    assert not any(reason.startswith("operation: ") for reason in facts.unresolved)


@pytest.mark.parametrize(
    "path",
    [
        "/V1/Chat/Completions",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/v1/chat/completions;v=1",
        "/v1/chat%2Fcompletions",
        "/v1/chat/completion%73",
        "/v1/chat\\completions",
        "/api/v1/chat/completions",
        "/v2/chat/completions",
        "/v1/proxy/v1/chat/completions",
    ],
)
def test_a_path_that_is_nearly_one_is_marked(path: str) -> None:
    facts = read(chat(), path)
    assert facts.operation == "chat"
    assert is_unresolved(facts, "operation")


def test_a_target_without_a_known_api_has_no_calls() -> None:
    assert read_call("", "POST", "/v1/chat/completions", chat(), PRICES) is None
    assert read_call("cohere", "POST", "/v1/chat/completions", chat(), PRICES) is None


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/chat/completions", True),
        ("POST", "/V1/CHAT/COMPLETIONS", True),
        ("GET", "/v1/models", False),
        ("GET", "/v1/files", False),
        ("POST", "/v1/files", False),
    ],
)
def test_which_bodies_say_what_is_asked(method: str, path: str, expected: bool) -> None:
    assert reads_body("openai", method, path) is expected
    assert not reads_body("", method, path)


# --- the model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"messages": HELLO},
        {"model": "", "messages": HELLO},
        {"model": None, "messages": HELLO},
        {"model": 4, "messages": HELLO},
        {"model": ["gpt-4o"], "messages": HELLO},
        chat(models=["o1-pro"]),
        chat(fallbacks=["o1-pro"]),
        chat(route="fallback"),
        chat(preset="cheap"),
        chat(extra_body={"model": "o1-pro"}),
        chat(user_config={"model_list": []}),
        chat(context_window_fallbacks=[{"gpt-4o": ["o1-pro"]}]),
        chat(api_base="https://elsewhere.example"),
        chat(model="gpt-4o-mini,o1-pro"),
        chat(model="gpt-4o-mini\n"),
        chat(model="gpt-4o\u200b-mini"),
    ],
)
def test_a_model_that_is_not_certain(body: dict[str, Any]) -> None:
    facts = read(body)
    assert is_unresolved(facts, "model")
    assert facts.estimated_cost_usd is None


@pytest.mark.parametrize("name", ["model", "Model", "models[]", "deployment_id", "fallbacks"])
def test_some_servers_take_the_model_from_the_address(name: str) -> None:
    facts = read(chat(), query=(("api-version", "1"), (name, "o1-pro")))
    assert is_unresolved(facts, "model")
    assert facts.estimated_cost_usd is None
    assert not read(chat(), query=(("api-version", "1"),)).unresolved
    assert not read(None, "/v1/models", method="GET", query=((name, "o1-pro"),)).unresolved
    assert is_unresolved(read(None, "/v1/realtime", method="GET", query=((name, "o1-pro"),)), "model")


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/responses", "/v1/models"])
def test_nothing_is_known_of_what_is_asked_over_a_changed_protocol(path: str) -> None:
    facts = read(None, path, method="GET", upgrade="websocket")
    assert (facts.max_tokens, facts.estimated_cost_usd) == (None, None)
    for aspect in ("model", "prompts", "tools", "length", "cost"):
        assert is_unresolved(facts, aspect)
    assert not is_unresolved(facts, "operation")


@pytest.mark.parametrize(
    ("body_model", "is_certain"), [("our-gpt", True), (None, True), ("other-gpt", False), (5, False)]
)
def test_the_path_of_a_deployment_names_the_model(body_model: object, is_certain: bool) -> None:
    facts = read({"messages": HELLO, "model": body_model}, "/openai/deployments/our-gpt/chat/completions")
    assert facts.model == "our-gpt"
    assert is_unresolved(facts, "model") is not is_certain


@pytest.mark.parametrize("body", [None, [], "text", 5, True])
def test_a_body_that_is_no_object_hides_everything(body: object) -> None:
    facts = read(body)
    assert all(is_unresolved(facts, aspect) for aspect in ASPECTS if aspect != "operation")
    assert not is_unresolved(facts, "operation")
    assert facts.max_tokens is None and facts.estimated_cost_usd is None


# --- length ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "most"),
    [
        (chat(), 100),
        (chat(max_tokens=None), None),
        (chat(max_completion_tokens=300), 300),
        (chat(max_tokens=500, max_completion_tokens=300), 500),
        (chat(n=3), 300),
        (chat(n=None), 100),
        (chat(max_tokens=0), 0),
        (chat(n=2, best_of=5), 500),
        (chat(max_tokens=None, n=3), None),
    ],
)
def test_the_most_that_a_chat_may_write(body: dict[str, Any], most: int | None) -> None:
    facts = read(body)
    assert facts.max_tokens == most
    assert not is_unresolved(facts, "length")


@pytest.mark.parametrize(
    "keys",
    [
        {"max_tokens": "100"},
        {"max_tokens": 100.0},
        {"max_tokens": -1},
        {"max_tokens": True},
        {"max_tokens": 2**80},
        {"max_tokens": [100]},
        {"max_completion_tokens": {}},
        {"n": 0},
        {"n": "3"},
        {"n": 2**40, "max_tokens": 2**40},
        {"best_of": -2},
    ],
)
def test_a_length_that_is_none(keys: dict[str, Any]) -> None:
    facts = read(chat(**keys))
    assert facts.max_tokens is None
    assert is_unresolved(facts, "length")
    assert facts.estimated_cost_usd is None


@pytest.mark.parametrize(
    ("path", "body", "most"),
    [
        ("/v1/responses", {"model": "gpt-4o", "input": "hi", "max_output_tokens": 50}, 50),
        ("/v1/responses", {"model": "gpt-4o", "input": "hi"}, None),
        ("/v1/completions", {"model": "gpt-4o", "prompt": "hi", "max_tokens": 50}, 50),
        ("/v1/completions", {"model": "gpt-4o", "prompt": ["a", "b", "c"], "max_tokens": 50}, 150),
        (
            "/v1/completions",
            {"model": "gpt-4o", "prompt": ["a", "b"], "n": 2, "best_of": 3, "max_tokens": 50},
            300,
        ),
        ("/v1/completions", {"model": "gpt-4o", "prompt": [1, 2, 3], "max_tokens": 50}, 50),
        ("/v1/completions", {"model": "gpt-4o", "prompt": [[1, 2], [3]], "max_tokens": 50}, 100),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "hi"}, 0),
        ("/v1/responses/input_tokens", {"model": "gpt-4o", "input": "hi"}, 0),
    ],
)
def test_the_most_that_other_operations_may_write(path: str, body: dict[str, Any], most: int | None) -> None:
    assert read(body, path).max_tokens == most


@pytest.mark.parametrize(
    ("keys", "most"),
    [
        ({}, 100),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, 5000),
        ({"thinking": {"type": "enabled", "budget_tokens": 50}}, 100),
        ({"thinking": {"type": "disabled"}}, 100),
        ({"thinking": {"type": "enabled", "budget_tokens": "all"}}, None),
    ],
)
def test_the_most_that_a_message_may_write(keys: dict[str, Any], most: int | None) -> None:
    assert read(message(**keys), "/v1/messages", "anthropic").max_tokens == most


def test_the_old_completions_of_anthropic() -> None:
    body = {"model": "claude-demo", "prompt": "\n\nHuman: hi\n\nAssistant:", "max_tokens_to_sample": 30}
    assert read(body, "/v1/complete", "anthropic").max_tokens == 30


# --- input and cost -------------------------------------------------------------------------------------------


def input_of(body: dict[str, Any], path: str = "/v1/chat/completions", api: str = "openai") -> int:
    return read(body, path, api).input_tokens


def test_input_is_counted_by_its_bytes() -> None:
    short, long = (input_of(chat(messages=[{"role": "user", "content": "x" * size}])) for size in (300, 3300))
    assert long - short == 1000
    chinese = input_of(chat(messages=[{"role": "user", "content": "字" * 300}]))
    assert chinese - short == 200  # three bytes each


def test_everything_that_is_read_counts() -> None:
    base = input_of(chat())
    tool = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "title": "x" * 900}},
    }
    assert input_of(chat(tools=[tool])) >= base + 300
    assert input_of(chat(response_format={"json_schema": {"schema": {"title": "x" * 900}}})) >= base + 300
    assert input_of(chat(something_new={"text": "x" * 900})) >= base + 300


def test_settings_do_not_count() -> None:
    assert input_of(chat(metadata={"a": "x" * 900}, user="x" * 900, stop=["x" * 900])) == input_of(chat())


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000}},
        {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 90_000},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 90_000}},
        {"type": "image", "source": {"type": "url", "url": "https://pictures.example/1.png"}},
    ],
)
def test_a_picture_is_a_fixed_number_of_tokens(part: dict[str, Any]) -> None:
    tokens = input_of(chat(messages=[{"role": "user", "content": [part]}]))
    assert TOKENS_PER_IMAGE < tokens < TOKENS_PER_IMAGE + 100


def test_a_prompt_in_tokens_is_counted_and_not_seen() -> None:
    facts = read({"model": "text-embedding-3-small", "input": [[1, 2, 3], [4]]}, "/v1/embeddings")
    assert facts.input_tokens == 4
    assert is_unresolved(facts, "prompts")
    assert facts.estimated_cost_usd == pytest.approx(4 * 0.02 / 1e6)


def test_cost_is_input_and_the_most_of_output() -> None:
    facts = read(chat(n=2))
    assert facts.estimated_cost_usd == pytest.approx((facts.input_tokens * 2.5 + 200 * 10) / 1e6)


def test_the_first_price_that_means_the_model_counts() -> None:
    dear, cheap = read(chat()), read(chat(model="gpt-4o-mini-2024"))
    assert dear.estimated_cost_usd is not None and cheap.estimated_cost_usd is not None
    assert cheap.estimated_cost_usd < dear.estimated_cost_usd / 10


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (chat(model="o1"), "no price"),
        (chat(max_tokens=None), "no length"),
        (chat(web_search_options={}), "cost"),
        (chat(audio={"voice": "alloy"}), "cost"),
        (chat(service_tier="priority"), "cost"),
        (chat(service_tier=5), "cost"),
        (chat(prediction={"type": "content", "content": "x"}), "cost"),
        (
            chat(
                messages=[
                    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA"}}]}
                ]
            ),
            "cost",
        ),
        (chat(tools=[{"type": "web_search"}]), "cost"),
        (chat(model="gpt-4o:online"), "cost"),
        (chat(speed="fast"), "cost"),
        (chat(inference_geo="us"), "cost"),
        (chat(compaction={"type": "enabled"}), "cost"),
        (chat(context_management=[{"type": "compaction", "compact_threshold": 1000}]), "cost"),
        (chat(context_management={"edits": [{"type": "compact_20260112"}]}), "cost"),
        (chat(thread={"type": "continue", "previous_message_id": "msg_1"}), "cost"),
        (chat(messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]), "cost"),
    ],
)
def test_a_cost_that_nobody_can_tell(body: dict[str, Any], why: str) -> None:
    facts = read(body)
    assert facts.estimated_cost_usd is None
    assert is_unresolved(facts, "cost") is (why == "cost")


@pytest.mark.parametrize("tier", [None, "auto", "default", "flex"])
def test_usual_service_tiers_have_the_table_s_price(tier: str | None) -> None:
    assert read(chat(service_tier=tier)).estimated_cost_usd is not None


@pytest.mark.parametrize(
    "keys",
    [
        {"speed": "standard"},
        {"inference_geo": "global"},
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        {"thread": {"type": "create"}},
    ],
)
def test_what_has_the_table_s_price(keys: dict[str, Any]) -> None:
    facts = read(message(**keys), "/v1/messages", "anthropic")
    assert facts.estimated_cost_usd is not None
    assert not facts.unresolved


def test_what_may_say_all_again_leaves_all_open() -> None:
    facts = read(chat(extra_body={"max_tokens": 100_000}))
    assert facts.max_tokens is None
    assert all(is_unresolved(facts, aspect) for aspect in ("model", "tools", "length", "cost"))
    assert not read(chat(extra_body={})).unresolved


def test_thinking_may_have_more_than_the_answer_in_any_shape() -> None:
    assert read(chat(thinking={"type": "enabled", "budget_tokens": 5000})).max_tokens == 5000
    assert read(chat(reasoning={"max_tokens": 5000})).max_tokens == 5000
    assert read(chat(reasoning={"effort": "high"})).max_tokens == 100
    assert is_unresolved(read(chat(reasoning={"max_tokens": "5000"})), "length")


def test_a_model_that_searches_offers_a_tool() -> None:
    assert read(chat(model="gpt-4o:online")).tools == ("web_search",)


def test_what_openai_is_told_to_keep_costs_more() -> None:
    plain = read(chat()).estimated_cost_usd
    part = {"type": "text", "text": "Hello there", "prompt_cache_breakpoint": {"mode": "explicit"}}
    for more in (
        {"prompt_cache_options": {"ttl": "12h"}},
        {"messages": [{"role": "user", "content": [part]}]},
    ):
        kept = read(chat(**more)).estimated_cost_usd
        assert plain is not None and kept is not None and kept > plain


def test_what_is_free_and_what_has_no_price_table() -> None:
    assert read({"model": "gpt-4o", "input": "hi"}, "/v1/responses/input_tokens").estimated_cost_usd == 0.0
    assert read(None, "/v1/models", method="GET").estimated_cost_usd == 0.0
    facts = read_call("openai", "POST", "/v1/chat/completions", chat(), NO_PRICES)
    assert facts is not None and facts.estimated_cost_usd is None


def test_what_the_provider_is_told_to_keep_costs_more() -> None:
    plain = read(message(), "/v1/messages", "anthropic").estimated_cost_usd
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    kept = read(message(system=system), "/v1/messages", "anthropic").estimated_cost_usd
    assert plain is not None and kept is not None
    tokens = read(message(system=system), "/v1/messages", "anthropic").input_tokens
    assert kept == pytest.approx((2 * tokens * 2.5 + 100 * 10) / 1e6)


# --- tools ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tools", "names"),
    [
        ([{"type": "function", "function": {"name": "search_a"}}], ("search_a",)),
        ([{"type": "function", "name": "search_a"}], ("search_a",)),
        ([{"name": "search_a", "input_schema": {}}], ("search_a",)),
        ([{"type": "custom", "name": "code"}], ("code",)),
        ([{"type": "custom", "custom": {"name": "code"}}], ("code",)),
        ([{"type": "web_search"}], ("web_search",)),
        ([{"type": "web_search_20250305", "name": "web_search"}], ("web_search",)),
        ([{"type": "bash_20250124", "name": "bash"}], ("bash",)),
        ([{"type": "text_editor_20250728", "name": "edit_tool"}], ("text_editor", "edit_tool")),
        ([{"type": "code_interpreter", "name": "search_a"}], ("code_interpreter", "search_a")),
        (
            [{"type": "namespace", "name": "crm", "tools": [{"type": "function", "name": "search_a"}]}],
            ("search_a", "crm"),
        ),
        ([], ()),
    ],
)
def test_names_of_tools(tools: list[Any], names: tuple[str, ...]) -> None:
    facts = read(chat(tools=tools))
    assert facts.tools == names
    assert not is_unresolved(facts, "tools")


def test_the_old_functions_are_tools() -> None:
    assert read(chat(functions=[{"name": "search_a"}])).tools == ("search_a",)


@pytest.mark.parametrize(
    "keys",
    [
        {"tools": {}},
        {"tools": ["search_a"]},
        {"tools": [{"type": "function"}]},
        {"tools": [{"type": "function", "function": {"name": 5}}]},
        {"tools": [{"type": "function", "name": "search_a", "function": {"name": "delete_a"}}]},
        {"tools": [{"type": 5, "name": "search_a"}]},
        {"tools": [{"type": "mcp", "server_label": "search_a", "server_url": "https://x.example"}]},
        {"mcp_servers": [{"type": "url", "url": "https://x.example", "name": "search_a"}]},
    ],
)
def test_tools_that_cannot_be_seen(keys: dict[str, Any]) -> None:
    assert is_unresolved(read(chat(**keys)), "tools")


@pytest.mark.parametrize("kind", ["local_shell", "apply_patch", "bash_20250124", "computer_20250124"])
def test_tools_that_the_caller_runs_cost_their_tokens_only(kind: str) -> None:
    assert read(chat(tools=[{"type": kind, "name": "x"}])).estimated_cost_usd is not None


# --- the rest -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), (False, False), (None, False), ("true", False)]
)
def test_streams(value: object, expected: bool) -> None:
    assert read(chat(stream=value)).is_stream is expected


def test_an_ordinary_call_has_nothing_unresolved() -> None:
    body = chat(
        tools=[{"type": "function", "function": {"name": "f", "strict": True, "parameters": {}}}],
        stream=True,
        stream_options={"include_usage": True},
        temperature=0.5,
    )
    assert read(body).unresolved == ()
    assert (
        read(message(system="Be brief.", stop_sequences=["x"]), "/v1/messages", "anthropic").unresolved == ()
    )


def test_other_operations_are_read_as_far_as_they_can_be() -> None:
    facts = read({"model": "gpt-image-1", "prompt": "a cat"}, "/v1/images/generations")
    assert (facts.operation, facts.model, facts.estimated_cost_usd) == ("other", "gpt-image-1", None)
    assert read(None, "/v1/files", method="GET").unresolved == ()
    assert is_unresolved(read(None, "/v1/files"), "model", "prompts")


@pytest.mark.parametrize(
    "name", ["Model", "MODEL", "mOdel", "Max_Tokens", "Messages", "N", "Tool\u017f", "Fallbacks"]
)
def test_a_name_in_another_case_hides_everything(name: str) -> None:
    """Servers written in Go take `Model` for `model`, and the last of the two counts."""
    facts = read(chat(**{name: "o1-pro"}))
    assert is_unresolved(facts, "model") and is_unresolved(facts, "length")


@pytest.mark.parametrize("name", ["modèle", "max_tokens2", "camelCase", "X-Note", "字"])
def test_other_names_hide_nothing(name: str) -> None:
    assert read(chat(**{name: "x"})).unresolved == ()


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "name": "search_a", "Name": "delete_a"},
        {"type": "function", "function": {"name": "search_a", "NAME": "delete_a"}},
        {"type": "function", "name": "search_a", "Type": "mcp"},
    ],
)
def test_a_tool_with_a_name_in_another_case_cannot_be_seen(tool: dict[str, Any]) -> None:
    assert is_unresolved(read(chat(tools=[tool])), "tools")


@pytest.mark.parametrize("key", ["data_sources", "plugins"])
def test_what_the_provider_brings_itself_is_neither_seen_nor_priced(key: str) -> None:
    facts = read(chat(**{key: [{"type": "azure_search"}]}))
    assert is_unresolved(facts, "prompts") and is_unresolved(facts, "cost")
