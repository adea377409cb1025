"""The rewriter of JSON by itself: what it takes for JSON, and what it asks of nodes. Masks are tried with bodies."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.json_nodes import SETTLED, JsonNode, Rewrite
from protocols.http.json_stream import JsonRewriter


def rewritten(data: bytes, size: int, root: JsonNode = SETTLED, *, held_bytes: int = 1000) -> bytes:
    rewriter = JsonRewriter(root, depth=20, held_bytes=held_bytes)
    out = [rewriter.feed(data[start : start + size]) for start in range(0, len(data), size)]
    return b"".join([*out, rewriter.finish()])


def is_json(data: bytes) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(data.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


class Everything(JsonNode):
    """A node at which every string is written in upper case; it goes token by token."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(Rewrite(string=lambda text, _counts, _name: json.dumps(text.upper()).encode()))


class Watching(JsonNode):
    """A node that leads elsewhere for one name, so that only some of a document can be passed over."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(is_settled=False)

    @property
    def names(self) -> frozenset[str]:
        return frozenset({"a"})

    def member(self, name: str) -> JsonNode:
        return Everything() if name == "a" else self


TOKENS = st.lists(
    st.sampled_from(
        [
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b'"a"',
            b'"b"',
            b'"',
            b"\\",
            b"1",
            b"0",
            b"-",
            b".5",
            b"e3",
            b"true",
            b"null",
            b"nul",
            b" ",
            b"\n",
            b"\xc3\xa9",
            b"\xc3",
            b'"\\u00e9"',
            b'"\\ud83d"',
            b'"x',
            b"\x00",
            b'{"a":',
            b'"b":1',
            b'["x",',
        ]
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(data=TOKENS, size=st.integers(1, 20), root=st.sampled_from([SETTLED, Everything(), Watching()]))
def test_it_takes_for_json_what_is_json(data: bytes, size: int, root: JsonNode) -> None:
    if is_json(data):
        out = rewritten(data, size, root)
        assert is_json(out) and (root is not SETTLED or out == data)
    else:
        with pytest.raises(RemoteProtocolError):
            rewritten(data, size, root)


def test_strings_are_given_without_escapes_and_names_too() -> None:
    seen: list[str] = []

    class Seeing(Everything):
        __slots__ = ()

        def member(self, name: str) -> JsonNode:
            seen.append(name)
            return self

    out = rewritten(b'{"\\u0065\\/":"x\\u00e9","b":["\\n"]}', 1, Seeing())
    assert seen == ["e/", "b"] and json.loads(out) == {"e/": "XÉ", "b": ["\n"]}


def test_counts_go_to_who_asks() -> None:
    counts: Counter[str] = Counter()
    node = JsonNode(Rewrite(name="m", constant_string=b'"-"', boolean=b"false", null=b"0", array=b"[]"))
    rewriter = JsonRewriter(node, depth=3, held_bytes=10, counts=counts)
    out = (
        rewriter.feed(b'{"a":"' + b"x" * 100 + b'","b":true,"c":null,"d":[1,["x"]],"e":5}')
        + rewriter.finish()
    )
    assert out == b'{"a":"-","b":false,"c":0,"d":[],"e":5}'
    assert counts == rewriter.counts == {"m": 4}


@pytest.mark.parametrize("data", [b'{"' + b"k" * 2000, b"[" + b"1" * 2000])
def test_what_has_to_be_held_is_bounded(data: bytes) -> None:
    for size in (1, 100, 5000):
        with pytest.raises(LimitExceeded):
            rewritten(data, size)


@pytest.mark.parametrize("root", [SETTLED, Watching(), Everything()])
def test_depth_is_counted_the_same_however_it_is_passed(root: JsonNode) -> None:
    for size in (1, 1000):
        deepest = b'{"b":[' * 10 + b"1" + b"]}" * 10
        assert rewritten(deepest, size, root) == deepest
        with pytest.raises(LimitExceeded):
            rewritten(b"[" + deepest + b",1]", size, root)


NAMES = ["e", "em", "email", "emails", "x" * 1000, "x" * 999 + "y", "a-b", "A_b"]


@pytest.mark.parametrize("size", [1, 10_000])
def test_names_that_share_their_beginnings(size: int) -> None:
    class Some(JsonNode):
        __slots__ = ()
        names = frozenset(name.lower() for name in NAMES)  # type: ignore[assignment]

        def member(self, name: str) -> JsonNode:
            return masked if name.lower() in self.names else self

    masked = JsonNode(Rewrite(name="m", constant_string=b'"-"'))
    root = Some(is_settled=False)
    others = ["", "ema", "emailss", "x" * 998, "a", "b"]
    record = {name: "value" for name in [*NAMES, *others, *(name.upper() for name in NAMES)]}
    out = rewritten(json.dumps([record] * 3).encode(), size, root, held_bytes=2000)
    assert json.loads(out) == [{name: "value" if name in others else "-" for name in record}] * 3
