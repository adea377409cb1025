"""What must hold for every document and every request: more denials never allow more, memory changes no answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.conditions.bundles import Bundle
from policy.document import DocumentError, PolicyDocument, load_document
from policy.facts import BodyState, HttpFacts, LlmFacts
from policy.http.evaluate import judge_http, methods_of, needs_of
from policy.http_rules.fields import normal_host
from policy.http_rules.index import HttpRules
from policy.http_rules.paths import PathReadings, UrlPattern, covered_by
from policy.http_rules.rule import HttpRule
from tests.policy.http.requests import API, HEAD, OPS, A, D, H

SEGMENTS = st.sampled_from(
    ["a", "A", "b", "admin", "", ".", "..", "..;", "a;x=1", "%2F", "%2e", "%00", "x y", "\u212a"]
)
PATHS = st.one_of(
    st.lists(SEGMENTS, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(["*", "", "a", "/" * 9]),
)
NAMES = st.sampled_from(["q", "Q", "q[]", "_method", "r"])
VALUES = st.sampled_from(["x", "X", "x, y", "y", "", "DELETE", "delete"])
HEADERS = st.sampled_from(["x-a", "x_a", "x-http-method-override", "content-type"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 200),
    st.sampled_from(["x", "X", "100", "1e2", "", "yes", 1e300]),
)
bodies = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "A", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=8,
)
forms = st.dictionaries(
    st.sampled_from(["a", "a[]", "a[b]", "a.b", "A", "[", ""]),
    st.lists(VALUES, min_size=1, max_size=2),
    max_size=3,
)
calls = st.one_of(
    st.none(),
    st.builds(
        LlmFacts, st.just("openai"), st.just("chat"), st.just("gpt-4o"), st.sampled_from([None, 10, 5000])
    ),
    st.sampled_from([LlmFacts("openai", "models"), LlmFacts("anthropic", "other")]),
)
UNSEEN = [BodyState.NONE, BodyState.UNREAD, BodyState.UNKNOWN, BodyState.BROKEN, BodyState.TOO_LARGE]


def _with_body(facts: HttpFacts, content: tuple[BodyState, Any]) -> HttpFacts:
    return msgspec.structs.replace(facts, body_state=content[0], body=content[1])


requests = st.builds(
    _with_body,
    st.builds(
        HttpFacts,
        st.sampled_from(["GET", "POST", "post", "DELETE"]),
        st.just("https"),
        st.sampled_from(["api.internal", "api.internal:8443", "x"]),
        PATHS,
        st.lists(PATHS, max_size=1).map(tuple),
        st.lists(st.tuples(NAMES, VALUES), max_size=2).map(tuple),
        st.lists(st.tuples(HEADERS, VALUES), max_size=2).map(tuple),
        st.sampled_from(["", "application/json", "text/plain"]),
        st.sampled_from([0, 10, 5000, None]),
        upgrade=st.sampled_from(["", "websocket"]),
        llm=calls,
    ),
    st.one_of(
        st.sampled_from(UNSEEN).map(lambda state: (state, None)),
        bodies.map(lambda body: (BodyState.JSON, body)),
        forms.map(lambda body: (BodyState.FORM, body)),
    ),
)

PATTERNS = ["/**", "/a/**", "/a/*", "/**/admin", "/admin", "/{x}/b", "/a", "/", "/a/"]
keys = st.one_of(
    st.sampled_from(["methods: [GET]", "methods: [POST, DELETE]", "methods: ['*']", "hosts: [api.internal]"]),
    st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2, unique=True).map(lambda texts: f"paths: {texts}"),
    st.sampled_from(["query: {q: [x]}", "query: {q: absent}", "query: {q: present}", "query: {q: ['x*'], r: [y]}"]),
    st.sampled_from(["headers: {x-a: [x]}", "headers: {x-a: absent}", "headers: {x-a: ['*']}"]),
    st.sampled_from(["content_types: [application/json]", "content_types: ['*']"]),
    st.sampled_from(["upgrade: websocket"]),
    st.sampled_from(
        ["'$.a': [x]", "'$.a': absent", "'$.a': present", "'$.a': {min: 10}", "'$.a': {max: 100}", "'$..a': ['*']",
         "'$.a.b': [1, true, null]", "'$.a[0]': [y]", "'$': present"]
    ).map(lambda text: f"body: {{{text}}}"),
)  # fmt: skip
http = st.lists(keys, min_size=1, max_size=3, unique_by=lambda key: key.partition(":")[0]).map(", ".join)
sections = st.one_of(
    http.map(lambda text: f"http: {{{text}}}"),
    st.sampled_from(
        [
            "llm: {models: ['*']}",
            "llm: {operations: [chat]}",
            "http: {paths: ['/a/**']}, llm: {models: ['gpt*']}",
        ]
    ),
)
rules = st.tuples(st.sampled_from(["allow", "deny", "hold"]), sections)
RANK = {"deny": 0, "hold": 1, "allow": 2}


def document(chosen: list[tuple[str, str]]) -> PolicyDocument | None:
    """None for rules that make each other void: such a document does not load."""
    lines = [
        f"  - {{name: r{number}, effect: {effect}, {section}"
        + (", approval: {approvers: [x]}}\n" if effect == "hold" else "}\n")
        for number, (effect, section) in enumerate(chosen)
    ]
    try:
        return load_document(HEAD + ("rules:\n" + "".join(lines) if lines else ""), "p.yaml")
    except DocumentError as error:
        assert all("can never match" in fault.message for fault in error.faults), error
        return None


def rank_of(policy: PolicyDocument, facts: HttpFacts) -> int:
    return RANK[judge_http(policy, OPS, API, "default", facts).effect.value]


@settings(max_examples=400, deadline=None)
@given(st.lists(rules, min_size=1, max_size=5), requests)
def test_a_deny_rule_never_allows_more_and_an_allow_rule_never_less(
    chosen: list[tuple[str, str]], facts: HttpFacts
) -> None:
    policy = document(chosen)
    if policy is None:
        return
    rank = rank_of(policy, facts)
    for removed in policy.http_rules:
        rest = replace(
            policy, http_rules=tuple(rule for rule in policy.http_rules if rule is not removed), views={}
        )
        without = rank_of(rest, facts)
        if removed.effect is D:
            assert without >= rank
        elif removed.effect is A:
            assert without <= rank
        else:
            assert rank < 2 or without == 2
    assert judge_http(policy, OPS, API, "root", facts).effect is D


@settings(max_examples=400, deadline=None)
@given(sections, requests)
def test_what_a_rule_covers_it_touches(section: str, facts: HttpFacts) -> None:
    """So that no allow rule permits what the same words in a deny rule would leave alone."""
    allowing = document([("allow", section)])
    everything = "http: {methods: ['*']" + (", upgrade: websocket}" if facts.upgrade else "}")
    if facts.llm is not None:
        everything += ", llm: {operations: [chat, models, other]}"
    denying = document([("allow", everything), ("deny", section)])
    if allowing is None or denying is None:
        return
    if rank_of(allowing, facts) == 2:
        assert rank_of(denying, facts) == 0


@settings(max_examples=300, deadline=None)
@given(st.lists(rules, min_size=1, max_size=5), st.lists(requests, min_size=2, max_size=4))
def test_what_is_remembered_never_changes_an_answer(
    chosen: list[tuple[str, str]], asked: list[HttpFacts]
) -> None:
    policy = document(chosen)
    if policy is None:
        return
    # The same method, host and path, and all else different, so that they meet in what is remembered.
    one = asked[0]
    same = [
        msgspec.structs.replace(
            facts, method=one.method, host=one.host, path=one.path, other_paths=one.other_paths
        )
        for facts in asked
    ]
    for facts in (*same, *asked, *same):
        alone = replace(policy, views={})
        assert judge_http(policy, OPS, API, "default", facts) == judge_http(alone, OPS, API, "default", facts)


def flat(bundles: Iterable[Bundle[HttpRule]]) -> list[HttpRule]:
    return [rule for bundle in bundles for rule in bundle.rules]


@settings(max_examples=300, deadline=None)
@given(st.lists(rules, min_size=1, max_size=6), requests)
def test_the_index_finds_what_a_look_at_every_rule_finds(
    chosen: list[tuple[str, str]], facts: HttpFacts
) -> None:
    policy = document(chosen)
    if policy is None:
        return
    methods, host = methods_of(facts), normal_host(facts.host)
    path = PathReadings((facts.path, *facts.other_paths))
    found = HttpRules(policy.http_rules).find(facts, methods)
    for effect, touching in ((D, found.denies), (H, found.holds)):
        meant = [rule for rule in policy.http_rules if rule.effect is effect]
        assert [rule for rule in meant if rule.touches_head(methods, host, path)] == flat(touching)
    for effect, covering in ((A, found.allows), (H, found.held)):
        meant = [rule for rule in policy.http_rules if rule.effect is effect]
        assert [rule for rule in meant if rule.covers_head(methods, host, path)] == flat(covering)


@settings(max_examples=300, deadline=None)
@given(st.lists(rules, min_size=1, max_size=5), requests, bodies)
def test_the_body_decides_nothing_where_it_is_not_needed(
    chosen: list[tuple[str, str]], facts: HttpFacts, body: Any
) -> None:
    policy = document(chosen)
    if policy is None:
        return
    head = _with_body(facts, (BodyState.UNREAD, None))
    read = _with_body(facts, (BodyState.JSON, body))
    if not needs_of(policy, OPS, API, "default", head).body:
        assert rank_of(policy, head) == rank_of(policy, read)


PARTS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=5)
PATTERN_PARTS = st.lists(st.sampled_from(["a", "b", "*", "a*", "**"]), min_size=1, max_size=5)


def naive(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    first, *rest = pattern
    if first == "**":
        return naive(rest, path) or (bool(path) and naive(pattern, path[1:]))
    if not path:
        return False
    is_same = first in ("*", path[0]) or (first == "a*" and path[0].startswith("a"))
    return is_same and naive(rest, path[1:])


@settings(max_examples=600)
@given(PATTERN_PARTS, PARTS)
def test_paths_match_as_defined(pattern: list[str], path: list[str]) -> None:
    text = "/" + "/".join(path)
    one = UrlPattern("/" + "/".join(pattern))
    readings = PathReadings([text])
    if path:
        assert covered_by([one], readings) is naive(pattern, path)
    assert one.touches(readings) is naive(pattern, path)


@settings(max_examples=600)
@given(PATTERN_PARTS, PATTERN_PARTS, PARTS)
def test_a_wider_path_pattern_touches_what_the_narrower_covers(
    wide: list[str], narrow: list[str], path: list[str]
) -> None:
    outer, inner = UrlPattern("/" + "/".join(wide)), UrlPattern("/" + "/".join(narrow))
    readings = PathReadings(["/" + "/".join(path)])
    if outer.is_wider(inner) and covered_by([inner], readings):
        assert outer.touches(readings)


@settings(max_examples=600)
@given(st.sampled_from(PATTERNS), PATHS)
def test_what_a_path_pattern_covers_it_touches(text: str, path: str) -> None:
    pattern, readings = UrlPattern(text), PathReadings([path])
    if covered_by([pattern], readings):
        assert pattern.touches(readings)


@settings(max_examples=300)
@given(PATHS, PATHS)
def test_more_readings_of_a_path_never_cover_more_and_never_touch_less(path: str, other: str) -> None:
    for text in PATTERNS:
        pattern, one, both = UrlPattern(text), PathReadings([path]), PathReadings([path, other])
        assert covered_by([pattern], one) or not covered_by([pattern], both)
        assert pattern.touches(both) or not pattern.touches(one)
