"""Roles, and the entries for them at a target, found by an index: the same as by a look at each."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.applicability import Applicable, RoleIndex
from policy.decision import SessionLimits
from policy.facts import Subject, Target
from policy.patterns import Glob
from policy.rules import AccessEntry, Membership, Selector
from tests.policy.every_rule import eager

WORDS = st.sampled_from(["a", "b", "ab", "c", "name"])
SOME = st.frozensets(WORDS, max_size=3)
selectors = st.builds(
    Selector,
    st.lists(st.tuples(WORDS, SOME), max_size=2, unique_by=lambda pair: pair[0]).map(tuple),
    st.one_of(st.none(), st.sampled_from(["http", "ssh"])),
    st.lists(st.sampled_from(["a", "a*", "*b", "*", "c"]).map(Glob), max_size=2).map(tuple),
)
entries = st.builds(AccessEntry, WORDS, SOME, selectors, st.none(), st.just(SessionLimits()), st.none())
targets = st.builds(
    Target, WORDS, st.sampled_from(["http", "ssh"]), st.dictionaries(WORDS, WORDS, max_size=2)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(entries, max_size=12), SOME, targets)
def test_entries_are_those_of_a_look_at_each(
    listed: list[AccessEntry], roles: frozenset[str], target: Target
) -> None:
    expected = [
        entry for entry in listed if not entry.roles.isdisjoint(roles) and entry.targets.matches(target)
    ]
    with eager():
        assert list(Applicable(listed).at(roles, target)) == expected
    assert list(Applicable(listed).at(roles, target)) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        WORDS,
        st.builds(
            Membership,
            SOME,
            st.lists(st.tuples(WORDS, SOME), max_size=2, unique_by=lambda pair: pair[0]).map(tuple),
        ),
        max_size=4,
    ),
    WORDS,
    SOME,
    st.dictionaries(WORDS, st.one_of(WORDS, st.lists(WORDS, max_size=2)), max_size=3),
)
def test_roles_are_those_of_a_look_at_each(
    roles: dict[str, Membership], name: str, groups: frozenset[str], claims: dict[str, str | list[str]]
) -> None:
    subject = Subject(name, tuple(groups), claims)
    expected = {role for role, membership in roles.items() if membership.includes(subject)}
    assert RoleIndex(roles).of(subject) == expected
