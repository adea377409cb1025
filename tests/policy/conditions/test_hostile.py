"""Facts that a client makes large, deep or odd, and expressions that want too much: bounded, refused, never a crash."""

from __future__ import annotations

from typing import Any

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.conditions import compile_condition
from policy.conditions.checking import check
from policy.conditions.condition import CompiledCondition
from policy.conditions.cost import MAX_STEPS, constant, heaviest, steps_of
from policy.conditions.given import MAX_WEIGHT
from policy.conditions.rendering import Rendered
from policy.conditions.syntax import parse
from policy.patterns import PatternError
from policy.rules import ConditionError


def body(value: Any) -> dict[str, Any]:
    return {"http": {"body": {"x": value, "y": 1}, "path": "/a"}, "login": "default"}


def error_of(text: str, value: Any) -> str:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text, "http").holds(body(value))
    return str(caught.value)


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("\ud800", "holds half a character"),
        (["a", "\udfff"], "holds half a character"),
        ({"\ud800": 1}, "holds half a character"),
        (2**63, "is a number beyond 64 bits"),
        (-(2**63), "is a number beyond 64 bits"),
        (10**4000, "is a number beyond 64 bits"),
        ([10**30], "is a number beyond 64 bits"),
        (float("nan"), "is no finite number"),
        (float("inf"), "is no finite number"),
        ({"a": float("-inf")}, "is no finite number"),
        (nested(40), "is nested too deep"),
        (nested(100_000), "is nested too deep"),
        (list(range(MAX_WEIGHT)), "is too large"),
        ({str(number): number for number in range(MAX_WEIGHT)}, "is too large"),
        ([[]] * MAX_WEIGHT, "is too large"),
        (["x" * 1_000_000], "is too large"),
        ("x" * 10_000_000, "are too many or too long"),
        ({1: 2}, "is of a kind that conditions cannot read"),
        (b"abc", "is of a kind that conditions cannot read"),
        ({1, 2}, "is of a kind that conditions cannot read"),
        (object(), "is of a kind that conditions cannot read"),
    ],
)
def test_what_cannot_be_handed_over_is_not_known(value: Any, why: str) -> None:
    assert why in error_of("http.body.x == 1", value)
    assert why in error_of("http.body.x != 1", value)


def test_only_what_is_read_is_looked_at() -> None:
    for value in ("\ud800", 10**30, nested(1000), list(range(100_000)), "x" * 10_000_000):
        assert compile_condition("http.body.y == 1", "http").holds(body(value))
        assert compile_condition("has(http.body.x)", "http").holds(body(value))


def test_texts_with_nothing_in_them_and_with_anything() -> None:
    assert compile_condition("http.body.x == 'a\\x00b' && size(http.body.x) == 3", "http").holds(body("a\0b"))
    assert compile_condition("http.body.x.matches('^a.b$')", "http").holds(body("a\0b"))
    assert compile_condition("http.body.x == ''", "http").holds(body(""))
    assert compile_condition("http.body.x['a\\n\"\\\\'] == 1", "http").holds(body({'a\n"\\': 1}))
    assert not compile_condition("http.body.x == '\\\"] || true || [\\\"'", "http").holds(body("a"))


# What is as expensive as the bounds allow. Whatever is accepted took less than 5 ms on the machine that the factors of
# `policy.conditions.cost` were measured on.
EXPENSIVE = [
    "X.map(a, X + X).size() > 0",
    "X.all(a, X.map(b, b).size() > 0)",
    "X.all(a, X.all(b, true))",
    "X.map(a, X).size() > 0",
    "X.map(a, a).size() > 0",
    "X.filter(a, true).filter(a, true).size() > 0",
    "X.all(a, X.exists(b, b == a))",
    "X.all(a, X == X)",
    "(X + X + X + X + X + X + X + X).size() > 0",
    "[X, X].all(a, a.all(b, b == 1))",
    "X.all(a, 'zzzzzzz' in X)",
]


@pytest.mark.parametrize("text", EXPENSIVE)
def test_too_much_work_is_refused_before_it_is_done(text: str) -> None:
    assert "too many or too long" in error_of(text.replace("X", "http.body.x"), list(range(1000)))


@pytest.mark.parametrize(
    "text",
    [
        "X.matches('(a|z)*z(a|z){20}')",
        "X + X + X + X + X + X + X + X == ''",
        "X.contains('zq') || X.endsWith('q')",
    ],
)
def test_long_texts_are_too_much_as_well(text: str) -> None:
    assert "too many or too long" in error_of(text.replace("X", "http.body.x"), "z" * 3_000_000)


@pytest.mark.parametrize(
    "text",
    [
        "X.map(a, X.map(b, X + X)).size() > 0",
        "X.map(a, a).map(a, a).map(a, a).map(a, a).map(a, a).map(a, a).size() > 0",
        "X.all(a, " + " && ".join(["a == a"] * 300) + ")",
    ],
)
def test_what_is_too_much_for_any_list_is_a_fault(text: str) -> None:
    with pytest.raises(PatternError, match="too much work"):
        compile_condition(text.replace("X", "http.body.x"), "http")


@given(st.sampled_from(EXPENSIVE), st.integers(0, 60))
def test_the_bound_grows_with_what_is_looked_through(text: str, size: int) -> None:
    source = text.replace("X", "http.body.x")
    tree = parse(source)
    checked = check(source, tree, "http")
    steps = steps_of(tree, checked.facts, checked.searches)
    assert 0 <= steps.at(size, size) < steps.at(size + 1, size + 1)
    most = heaviest(steps)
    assert steps.at(most, most) <= MAX_STEPS < steps.at(most + 1, most + 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("http.body.x.exists(i, i.amount > 1000)", [{"amount": 1, "name": "a"}] * 150),
        ("http.body.x.all(i, i in ['a', 'b'])", ["a"] * 500),
        ("http.body.x.exists(i, i.matches('^z'))", ["abc"] * 100),
        ("http.body.x.contains('secret')", "x" * 50_000),
        ("http.body.x.exists(i, i.tags.exists(t, t == 'z'))", [{"tags": ["a", "b"]}] * 30),
        ("http.body.x.filter(i, i > 5).size() > 3", [1] * 100),
        ("http.body.x.exists(i, http.body.x.exists(j, i.id == j.amount))", [{"id": 1, "amount": 2}] * 15),
    ],
)
def test_what_people_ask_for_is_not_too_much(text: str, value: Any) -> None:
    assert compile_condition(text, "http").holds(body(value)) in (True, False)


Values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=3), inside, max_size=4),
    max_leaves=12,
)


@given(
    st.sampled_from(
        [
            "http.body.x > 1",
            "http.body.x == http.body.x",
            "http.body.x.a == 'b'",
            "http.body.x.exists(i, i.a > 1)",
            "http.body.x.map(i, i + i).size() > 2",
            "has(http.body.x.a) && http.body.x.a.matches('a')",
            "http.body.x[0] < http.body.x[1]",
            "-http.body.x - 1 > 0 || size(http.body.x) / 0 == 1",
            "int(http.body.x) * int(http.body.x) > 0",
            "http.body.x in [1, 'a', null, [1], {'a': 1}]",
        ]
    ),
    Values,
)
def test_any_value_gives_an_answer_or_an_error(text: str, value: Any) -> None:
    condition = compile_condition(text, "http")
    try:
        first = condition.holds(body(value))
    except ConditionError as error:
        with pytest.raises(ConditionError, match=r"."):
            condition.holds(body(value))
        assert str(error)
    else:
        assert condition.holds(body(value)) is first


class PanicException(BaseException):
    """As the binding raises it when it crashes inside."""


PanicException.__module__ = "pyo3_runtime"


class Crashing:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def execute(self, given: object) -> bool:
        raise self.error


def crashing(error: BaseException) -> CompiledCondition:
    program: Any = Crashing(error)
    return CompiledCondition(
        "login == 'a'", Rendered("", {("login",): "f0"}), program, cel.Context, constant(1)
    )


@pytest.mark.parametrize(
    "error", [PanicException("boom"), RuntimeError("boom"), MemoryError(), RecursionError()]
)
def test_a_crash_inside_the_binding_is_a_condition_that_cannot_be_worked_out(error: BaseException) -> None:
    with pytest.raises(ConditionError, match="it cannot be worked out"):
        crashing(error).holds({"login": "a"})


def test_what_is_not_of_the_binding_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        crashing(KeyboardInterrupt()).holds({"login": "a"})


def test_the_binding_bounds_its_own_depth_above_ours() -> None:
    """What `policy.conditions.syntax` lets through, the binding can read: parentheses, signs, indexes, choices."""
    for text in ("(" * 23 + "true" + ")" * 23, "!" * 22 + "true", "true ? " * 11 + "true" + " : false" * 11):
        assert compile_condition(text, "http").holds({}) is True
    with pytest.raises(ValueError, match="parse"):
        cel.compile("(" * 200 + "true" + ")" * 200)
