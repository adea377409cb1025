"""Paths into JSON: what they say, where they lead, and that a hostile document cannot make the automaton large."""

from __future__ import annotations

import json
from itertools import product

import pytest

from policy.json_paths import MAX_STATES, JsonPath, PathSet
from policy.patterns import PatternError

DOCUMENT = {
    "email": 1,
    "Email": 2,
    "user": {"email": 3, "tags": ["a", {"email": 4}], "a b": 5},
    "rows": [[6, 7], {"email": {"email": 8}}],
    "": 9,
    "é": 10,
}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("$.email", [1]),
        ("$['email']", [1]),
        ('$["email"]', [1]),
        ("$[ 'email' ]", [1]),
        ("$['e\\u006dail']", [1]),
        ("$..email", [1, 3, 4, {"email": 8}, 8]),
        ("$..['email']", [1, 3, 4, {"email": 8}, 8]),
        ("$.user.email", [3]),
        ("$.user['a b']", [5]),
        ("$.user.tags[0]", ["a"]),
        ("$.user.tags[1].email", [4]),
        ("$.user.tags[*].email", [4]),
        ("$.user.tags[2]", []),
        ("$.rows[0][*]", [6, 7]),
        ("$.rows..email.email", [8]),
        ("$.rows[0].*", [6, 7]),
        ("$..[1]", [{"email": 4}, 7, {"email": {"email": 8}}]),
        ("$..tags..email", [4]),
        ("$['']", [9]),
        ("$.é", [10]),
        ("$.absent.email", []),
        ("$.email.more", []),
        ("$.user[0]", []),
    ],
)
def test_where_a_path_leads(text: str, values: list[object]) -> None:
    path = JsonPath.parse(text)
    found = list(path.values(DOCUMENT))
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, values))
    assert JsonPath.parse(str(path)) == path


def test_the_document_itself_and_everything_in_it() -> None:
    assert list(JsonPath.parse("$").values(5)) == [5]
    assert list(JsonPath.parse("$.*").values([1, {"a": 2}])) == [1, {"a": 2}]
    assert list(JsonPath.parse("$..*").values([1, {"a": 2}])) == [1, {"a": 2}, 2]
    assert list(JsonPath.parse("$..*..*").values([[[1]]])) == [[1], 1]
    assert list(JsonPath.parse("$.a").values("a")) == []


def test_case_counts_unless_more_is_to_be_found() -> None:
    path = JsonPath.parse("$.Email")
    assert list(path.values(DOCUMENT)) == [2]
    assert sorted(path.values(DOCUMENT, ignore_case=True), key=str) == [1, 2]
    assert list(JsonPath.parse("$.STRASSE").values({"straße": 1}, ignore_case=True)) == [1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begin with `$`"),
        ("email", "write `$.email`"),
        (".email", "`$..email`"),
        ("$x", "['...']"),
        ("$.", "ends in a dot"),
        ("$..", "ends in a dot"),
        ("$...a", ""),
        ("$.a b", "['...']"),
        ("$.1", ""),
        ("$[01]", ""),
        ("$[-1]", "from the end"),
        ("$[1:2]", "slices"),
        ("$[:]", "slices"),
        ("$[?(@.a)]", "filters"),
        ("$..[?@.a]", "filters"),
        ("$['a','b']", "several"),
        ("$[0,1]", "several"),
        ("$['a", ""),
        ("$['a\\x']", "escape"),
        ("$[a]", ""),
        ("$.[0]", ""),
        ("$[]", ""),
        ("$" + ".a" * 33, "32 steps"),
        ("$." + "a" * 2000, "longer"),
    ],
)
def test_what_is_no_path_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(PatternError) as fault:
        JsonPath.parse(text)
    assert fault.value.remedy
    assert says in f"{fault.value.message} {fault.value.remedy}"


def test_quotes_in_names() -> None:
    for text in ("$['it\\'s']", '$["it\'s"]'):
        assert list(JsonPath.parse(text).values({"it's": 1})) == [1]
    for text in ("$['a\"b']", '$["a\\"b"]'):
        assert list(JsonPath.parse(text).values({'a"b': 1})) == [1]
    assert list(JsonPath.parse("$['a\\\\b']").values({"a\\b": 1})) == [1]


def test_many_paths_at_once() -> None:
    paths = PathSet([JsonPath.parse(text) for text in ("$..email", "$.user.*", "$[0]", "$")])
    assert paths.root.matches == (3,)
    user = paths.root.member("user")
    assert user.member("email").matches == (0, 1)
    assert user.member("x").matches == (1,)
    assert paths.root.element(0).matches == (2,)
    assert paths.root.element(1).matches == ()
    assert paths.root.any_element is None and user.any_element is user.other


def test_a_state_knows_when_nothing_can_follow() -> None:
    paths = PathSet([JsonPath.parse("$.a.b")])
    assert paths.root.member("x") is paths.dead and paths.dead.is_dead
    assert paths.root.member("a").member("b").is_dead
    assert paths.dead.member("a") is paths.dead.element(0) is paths.dead.other is paths.dead.any_element
    deep = PathSet([JsonPath.parse("$..a")])
    assert deep.root.other is deep.root is deep.root.any_element


def test_the_states_that_a_hostile_document_makes_are_bounded() -> None:
    names = [f"n{number}" for number in range(14)]
    paths = PathSet([JsonPath.parse(f"$..{name}..x") for name in names])
    for choice in product((False, True), repeat=len(names)):  # 2^14 sets of names that were passed
        state = paths.root
        for name, is_passed in zip(names, choice, strict=True):
            if is_passed:
                state = state.member(name)
        assert len(state.member("x").matches) == sum(choice)
    assert len(paths._states) <= MAX_STATES + 1
