"""Expressions and facts: what holds, what does not, and what cannot be worked out."""

from __future__ import annotations

from typing import Any

import pytest

from policy.conditions import compile_condition
from policy.rules import ConditionError

FACTS: dict[str, Any] = {
    "subject": {"name": "olga", "groups": ("ops", "data"), "claims": {"kind": "agent", "teams": ["a", "b"]}},
    "target": {"name": "api", "protocol": "http", "labels": {"env": "prod"}},
    "login": "default",
    "http": {
        "method": "POST",
        "host": "api.internal",
        "path": "/v1/orders/7",
        "query": {"by": ["admin", "user"], "page": ["2"]},
        "headers": {"x-env": ["prod"]},
        "body_bytes": 2000,
        "body": {
            "amount": 500,
            "price": 0.5,
            "name": "Zoë",
            "nothing": None,
            "is_new": True,
            "five": "5",
            "empty": [],
            "items": [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": []}, {"id": 3, "tags": ["c"]}],
            "deep": {"a": {"b": {"c": 1}}},
            "in": 1,
            "odd name": 1,
            "least": -(2**63) + 1,
            "most": 2**63 - 1,
        },
    },
    "llm": {"model": "gpt-4o", "max_tokens": 5000, "tools": ["search_web"], "is_stream": False},
}
UNKNOWN = ConditionError


def result(text: str, facts: dict[str, Any] = FACTS) -> Any:
    condition = compile_condition(text, "http")
    try:
        return condition.holds(facts)
    except ConditionError:
        return UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        "llm.max_tokens > 4000 || llm.estimated_cost_usd > 0.50",
        "llm.estimated_cost_usd > 0.50 || llm.max_tokens > 4000",
        "true || llm.estimated_cost_usd > 0.50",
        "http.body.amount == 500 && http.body.amount == 500.0 && http.body.amount > 499.5",
        "http.body.price * 2.0 == 1.0 && http.body.amount + 1 == 501 && http.body.amount % 7 == 3",
        "double(http.body.amount) * 1.5 == 750.0 && int(http.body.five) == 5 && string(5) == '5'",
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 10 - 2 - 3 == 5 && 2 - -3 == 5 && - - 5 == 5",
        "!(1 > 2) && !!true && -http.body.amount == -500",
        "1 > 2 || 1 < 2 && 2 < 3",
        "(http.body.amount > 100 ? 'large' : 'small') == 'large'",
        "false ? false : true ? true : false",
        "'admin' in http.query.by && !('admin' in http.query.page) && 'by' in http.query",
        "http.query.by == ['admin', 'user'] && http.query.by.size() == 2 && http.query.by[1] == 'user'",
        "http.headers['x-env'][0] == 'prod' && http['path'] == '/v1/orders/7'",
        "has(http.body.amount) && !has(http.body.amounts) && has(http.body) && has(http.body.nothing)",
        "!has(http.query.missing) && has(http.headers.other) == false",
        "http.body.nothing == null && http.body.amount != null",
        "http.body.five != 5 && !(http.body.five == 5) && http.body.is_new != 1",
        "type(http.body.amount) == int && type(http.body.five) == string && type(http.body.items) == list",
        "http.body['in'] == 1 && http.body['odd name'] == 1",
        "http.body.items.exists(i, i.id == 3 && 'c' in i.tags)",
        "http.body.items.all(i, i.id > 0) && !http.body.items.all(i, i.id > 1)",
        "http.body.items.exists_one(i, i.id == 2)",
        "http.body.items.exists(i, i.tags.exists(t, t == 'b'))",
        "http.body.items.filter(i, size(i.tags) > 0).map(i, i.id) == [1, 3]",
        "http.body.items.map(i, i.id > 1, i.id * 2) == [4, 6]",
        "http.body.items[0].tags[1] == 'b' && http.body.items[2]['id'] == 3",
        "http.body.items.all(i, http.body.items.exists(j, j.id == i.id))",
        "http.body.empty.all(x, false) && !http.body.empty.exists(x, true) && size(http.body.empty) == 0",
        "http.query.all(name, name in ['by', 'page'])",
        "[1, 2, 3].exists(x, x in [2]) && {'a': 1}.a == 1 && {'a': {'b': [1]}}.a.b[0] == 1",
        "[[1], [2]].exists(x, x.exists(y, y == 2)) && ([1] + [2]).size() == 2",
        "http.path.matches(r'^/v1/orders/\\d+$') && http.path.matches('orders') && !http.path.matches('^orders')",
        "http.path.startsWith('/v1/') && http.path.endsWith('7') && http.path.contains('ord')",
        "http.body.name == 'Zo\\u00eb' && http.body.name.matches('^Zo.$') && size(http.body.name) == 4",
        "'/home/' + subject.name + '/' == \"/home/olga/\"",
        "subject.claims.kind == 'agent' && 'a' in subject.claims.teams && 'ops' in subject.groups",
        "target.labels.env == 'prod' && login == 'default' && login in ['default', 'root']",
        "http.body.most > 9223372036854775806 && http.body.least < -9223372036854775806 && 0x10 == 16 && 3u > 2",
        '\'\'\'a"b\'\'\' == "a\\"b" && r\'\\d\' == "\\\\d" && "\\x41\\101\\U0001F600\\t" != "" // a remark',
        "\n  http.method == 'POST'  // the first\n  && login == 'default'\n",
        "!llm.is_stream && llm.tools.exists(t, t.startsWith('search_'))",
    ],
)
def test_what_holds(text: str) -> None:
    assert result(text) is True
    assert result(f"!({text}\n)") is False
    assert result(f"({text}\n) && ({text}\n)") is True


@pytest.mark.parametrize(
    "text",
    [
        "llm.max_tokens > 9000 || llm.estimated_cost_usd > 0.50",
        "llm.estimated_cost_usd > 0.50 || false",
        "!(llm.estimated_cost_usd > 0.50)",
        "llm.estimated_cost_usd > 0.50 ? true : true",
        "llm.estimated_cost_usd == null",
        "http.body.missing > 1",
        "http.body.missing == http.body.missing",
        "http.body.missing != 1",
        "!(http.body.missing in [1])",
        "http.body.nothing > 1",
        "http.body.amount > '1'",
        "http.body.amount + 1.5 > 1.0",
        "http.body.amount.other == 1",
        "has(http.body.amount.other)",
        "has(http.body.missing.other)",
        "has(http.body.items.other)",
        "http.body.items[9].id == 1",
        "http.body.items[-1].id == 1",
        "http.body.items['id'] == 1",
        "http.body.items.exists(i, i.other == 1)",
        "http.body.amount.exists(x, true)",
        "http.body.amount.matches('5')",
        "!http.body.amount.matches('5')",
        "http.body.amount.matches('5') == false",
        "http.body.amount.startsWith('5')",
        "'a' in http.body.five",
        "http.body.amount / 0 == 1",
        "http.body.amount % 0 == 1",
        "http.body.most + 1 > 0",
        "http.body.least - 2 < 0",
        "int(http.body.name) == 1",
        "size(http.body.amount) == 1",
        "string(http.body.is_new) == 'true'",
        "http.body.amount && true",
        "http.body.amount ? true : false",
        "http.body.amount",
        "http.body.nothing",
        "http.query.missing[0] == 'a'",
        "subject.claims.missing == 'a'",
        "http.body.items < http.body.items",
    ],
)
def test_what_cannot_be_worked_out(text: str) -> None:
    assert result(text) is UNKNOWN
    assert result(f"!({text})") is UNKNOWN
    assert result(f"({text}) || 1 > 2") is UNKNOWN
    assert result(f"1 < 2 && ({text})") is UNKNOWN


@pytest.mark.parametrize("text", ["llm.estimated_cost_usd > 0.5", "http.body.missing == 1", "1 / 0 > 0"])
def test_a_part_that_is_not_known_does_not_matter_where_the_rest_decides(text: str) -> None:
    assert result(f"({text}) || login == 'default'") is True
    assert result(f"login == 'default' || ({text})") is True
    assert result(f"({text}) && login == 'root'") is False
    assert result(f"login == 'root' && ({text})") is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llm.estimated_cost_usd > 0.5", "`llm.estimated_cost_usd` is not known"),
        (
            "http.body.missing == 1 && http.query.other == []",
            "`http.body.missing` is not known, `http.query.other` is",
        ),
        ("http.body.amount > '1'", "it works on values of different kinds"),
        ("http.body.amount / 0 == 1", "it divides by zero"),
        ("http.body.most + 1 > 0", "a number in it grows too large"),
        ("http.body.items[0].other == 1", "it reads a field that is not there"),
        ("http.body.items[9] == 1", "it reads an element that is not there"),
        ("http.body.five", "it is neither true nor false"),
    ],
)
def test_an_error_says_why_and_no_value(text: str, expected: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text, "http").holds(FACTS)
    assert str(caught.value).startswith(expected)
    assert "500" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("http.body.a.b > 1 || http.body['a']['c'] == http.body.a.b", {"http.body.a.b", "http.body.a.c"}),
        ("has(http.body.a) && login == 'x'", {"http.body.a", "login"}),
        ("http.body.items.exists(http_, http_.body == 1)", {"http.body.items"}),
        ("http.body[login] == 1 && http.body[0] == 1", {"http.body", "login"}),
        ("[1].exists(x, x == 1)", set()),
    ],
)
def test_the_names_that_it_reads(text: str, names: set[str]) -> None:
    assert set(compile_condition(text, "http").names) == names


def test_a_variable_of_a_loop_is_not_a_fact() -> None:
    """Elements named like the variables that the binding is given do not reach them."""
    assert result("[1].exists(f0, f0 == 1 && login == 'default')") is True
    assert result("[1].exists(m0, [2].exists(e0, e0 == 2 && m0 == 1 && http.path.matches('v1')))") is True
