"""Patterns for names: what they match, what they never match, and how they are found and compared."""

from __future__ import annotations

import re
from fnmatch import translate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.pattern_index import PatternIndex
from policy.patterns import (
    Glob,
    NamePattern,
    PatternError,
    column_pattern,
    function_pattern,
    parse_pattern,
    relation_pattern,
)


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [
        ("shop.orders", ("shop", "orders"), True),
        ("shop.orders", ("shop", "orders_archive"), False),
        ("shop.orders", ("shop", "order"), False),
        ("shop.orders", ("workshop", "orders"), False),
        ("shop.orders", ("shop", "Orders"), False),
        ("shop.orders", ("shop", "orders", "x"), False),
        ("shop.*", ("shop", "orders"), True),
        ("shop.*", ("shop2", "orders"), False),
        ("shop.*", ("shop", "a.b"), True),
        ("*.api_keys", ("hr", "api_keys"), True),
        ("*.api_keys", ("hr", "old_api_keys"), False),
        ("*.api_keys", ("hr", "api_keys "), False),
        ("*.*", ("", ""), True),
        ("tmp_*.x", ("tmp_", "x"), True),
        ("tmp_*.x", ("tmp_1", "x"), True),
        ("tmp_*.x", ("tmp", "x"), False),
        ("a*a.x", ("a", "x"), False),
        ("a*a.x", ("aa", "x"), True),
        ("*_20*_*.x", ("log_2024_05", "x"), True),
        ("*_20*_*.x", ("log_2024", "x"), False),
        ("*a*b*c*.x", ("cba", "x"), False),
        ("*a*b*c*.x", ("xaxbxcx", "x"), True),
        ("**.x", ("any", "x"), True),
        ('"Odd.Name".x', ("Odd.Name", "x"), True),
        ('"Odd.Name".x', ("odd.name", "x"), False),
        ('"a""b"."c*"', ('a"b', "c*"), True),
        ('"a""b"."c*"', ('a"b', "cd"), False),
        ("shop.größe", ("shop", "größe"), True),
        ("Shop.Orders", ("Shop", "Orders"), True),
        ("Shop.Orders", ("shop", "orders"), False),
    ],
)
def test_matching(pattern: str, names: tuple[str, ...], expected: bool) -> None:
    assert parse_pattern(pattern).matches(*names) is expected
    index = PatternIndex([(parse_pattern(pattern), "found")])
    assert index.find(*names) == (("found",) if expected else ())
    assert index.find(*names) == (("found",) if expected else ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("orders", "names no schema"),
        ("a.b.c.d", "has 4 parts and cannot name a relation"),
        ("a.b.c", "has 3 parts and cannot name a relation"),
        ("", "an empty part"),
        (".orders", "an empty part"),
        ("shop.", "an empty part"),
        ("shop..orders", "an empty part"),
        ("shop. orders", "needs quotes"),
        ("shop.or-ders", "needs quotes"),
        ("shop.orders;", "needs quotes"),
        ('"shop.orders', "a quote is not closed"),
        ('"shop"x.orders', "something follows a closing quote"),
        ('sh"op.orders', "needs quotes"),
        ('"".orders', "an empty name in quotes"),
        ("shop." + "x" * 64, "longer than PostgreSQL's names"),
        ("shop." + "ü" * 32, "longer than PostgreSQL's names"),
    ],
)
def test_what_cannot_name_a_relation(text: str, message: str) -> None:
    with pytest.raises(PatternError) as caught:
        relation_pattern(text)
    assert message in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["email", "customers.email", "a.b.c.d"])
def test_what_cannot_name_a_column(text: str) -> None:
    with pytest.raises(PatternError, match="cannot name a column"):
        column_pattern(text)


def test_columns_of_rules_have_one_part_or_three() -> None:
    assert column_pattern("email", one_part=True).matches("email")
    assert column_pattern("shop.customers.email", one_part=True).matches("shop", "customers", "email")
    with pytest.raises(PatternError, match="cannot name a column"):
        column_pattern("customers.email", one_part=True)


def test_functions_are_named_without_arguments() -> None:
    assert function_pattern("shop.total").matches("shop", "total")
    with pytest.raises(PatternError, match="has arguments"):
        function_pattern("shop.total(integer)")
    with pytest.raises(PatternError, match="names no schema"):
        function_pattern("total")


@pytest.mark.parametrize(
    ("wide", "narrow", "covers", "overlaps"),
    [
        ("*.*", "shop.orders", True, True),
        ("shop.*", "shop.orders", True, True),
        ("shop.*", "shop.*", True, True),
        ("shop.orders", "shop.*", False, True),
        ("shop.*", "*.orders", False, True),
        ("shop.*", "hr.*", False, False),
        ("tmp_*.x", "tmp_a.x", True, True),
        ("tmp_*.x", "tmp_a*.x", False, True),
        ("a*.x", "*b.x", False, True),
        ("a*.x", "b*.x", False, False),
        ("*a.x", "*b.x", False, False),
        ('"*".x', "a.x", False, False),
    ],
)
def test_comparing(wide: str, narrow: str, covers: bool, overlaps: bool) -> None:
    one, other = parse_pattern(wide), parse_pattern(narrow)
    assert one.covers(other) is covers
    assert one.overlaps(other) is overlaps
    assert other.overlaps(one) is overlaps


def test_the_index_keeps_the_order_and_forgets_nothing_it_still_needs() -> None:
    texts = ["a.*", "*.b", "a.b", "*.*", "a_*.b", "*.c"]
    index = PatternIndex((parse_pattern(text), text) for text in texts)
    assert index.find("a", "b") == ("a.*", "*.b", "a.b", "*.*")
    assert index.find("a_1", "b") == ("*.b", "*.*", "a_*.b")
    assert index.find("x", "y", "z") == ()
    for number in range(PatternIndex.MAX_REMEMBERED + 10):
        index.find("x", str(number))
    assert index.find("a", "b") == ("a.*", "*.b", "a.b", "*.*")


_PIECES = st.text(alphabet="ab*", max_size=8)


@given(_PIECES, st.text(alphabet="ab", max_size=12))
def test_globs_agree_with_another_matcher(text: str, name: str) -> None:
    assert Glob(text).matches(name) is (re.fullmatch(translate(text), name) is not None)


@given(_PIECES, _PIECES, st.text(alphabet="ab", max_size=8))
def test_covering_and_overlapping_are_sound(one: str, other: str, name: str) -> None:
    first, second = Glob(one), Glob(other)
    if first.covers(second) and second.matches(name):
        assert first.matches(name)
    if first.matches(name) and second.matches(name):
        assert first.overlaps(second)


@given(st.lists(st.tuples(_PIECES, _PIECES), max_size=12), st.text(alphabet="ab", max_size=4))
def test_the_index_finds_what_each_pattern_matches(parts: list[tuple[str, str]], name: str) -> None:
    patterns = [NamePattern(f"{left}.{right}", (Glob(left), Glob(right))) for left, right in parts]
    index = PatternIndex((pattern, position) for position, pattern in enumerate(patterns))
    expected = tuple(position for position, pattern in enumerate(patterns) if pattern.matches("ab", name))
    assert index.find("ab", name) == expected


def test_a_long_name_against_many_stars_ends() -> None:
    assert not Glob("*a" * 30 + "*b").matches("a" * 100_000)
