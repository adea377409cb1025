"""What must be so for a condition not to be false, as far as its text says so plainly.

`subject.name == "olga" && http.body_bytes > 9` is false for everybody but olga, whatever else is known: an index finds
it under her name. Read from the checked tree: each part of a row of `&&` may give a need, if it compares one fact with
texts or whole numbers that stand in the condition:

    fact == "a"    fact in ["a", "b"]    fact[0] == "a"    "a" in fact    fact.exists(x, x == "a")
    fact.startsWith("a")    fact.endsWith("a")

and a row of `||` if all of its parts give needs in one dimension. Where a fact is not known, or of a kind that makes
the comparison fail, the dimension shows None: then nothing is left out, and the condition is asked, as any is.

In CEL a part that is false makes the row false, also beside one that fails. So that this rests on nothing else, parts
behind one that computes (arithmetic, conversions, patterns, lists gone through) are not looked at. Called by
`policy.conditions.condition` when it compiles, `shown` by `policy.conditions.answers`.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

from policy.conditions.checking import Path
from policy.conditions.syntax import (
    Binary,
    Call,
    Comprehension,
    Conditional,
    Has,
    Index,
    ListOf,
    Literal,
    Logical,
    Name,
    Node,
    Select,
    Unary,
)
from policy.narrowing import MAX_KEYS
from policy.patterns import Glob

LARGEST_EXACT = 2**53  # up to here whole numbers and fractions compare as in Python

Dimension = tuple[str, Path, int]
Keys = tuple[Hashable, ...]

_EQUAL, _ELEMENT, _MEMBER, _TEXT = "is", "at", "has", "text"
_CALM_METHODS = frozenset({"startsWith", "endsWith", "contains", "size"})


def needs_of(tree: Node, facts: Mapping[int, Path]) -> Mapping[Hashable, Keys]:
    """One key of each must be met. facts: the path that each node stands for, by the node's id."""
    found: dict[Hashable, Keys] = {}
    for part in _row(tree, "&&"):
        need = _need(part, facts)
        if need is not None:
            found.setdefault(need[0], need[1])
        elif not _is_calm(part, facts):
            break
    return found


def whole_of(tree: Node, facts: Mapping[int, Path]) -> Hashable | None:
    """The dimension of a condition that is nothing but one comparison of a fact, which fails where it is not known."""
    need = None if isinstance(tree, Logical) else _need(tree, facts)
    return None if need is None else need[0]


def _row(tree: Node, sign: str) -> Iterator[Node]:
    if isinstance(tree, Logical) and tree.sign == sign:
        for operand in tree.operands:
            yield from _row(operand, sign)
    else:
        yield tree


def _need(node: Node, facts: Mapping[int, Path]) -> tuple[Dimension, Keys] | None:
    if isinstance(node, Logical) and node.sign == "||":
        needs = [_need(part, facts) for part in _row(node, "||")]
        first = needs[0]
        if first is None or any(need is None or need[0] != first[0] for need in needs):
            return None
        keys = tuple(key for need in needs if need is not None for key in need[1])
        return (first[0], keys) if len(keys) <= MAX_KEYS else None
    match node:
        case Binary(sign="=="):
            return _equal(node.left, node.right, facts) or _equal(node.right, node.left, facts)
        case Binary(sign="in", right=ListOf() as listed):
            return _one_of(node.left, listed, facts)
        case Binary(sign="in"):
            return _member(node.left, node.right, facts)
        case Comprehension(macro="exists"):
            return _exists(node, facts)
        case Call(name="startsWith" | "endsWith", operand=Node() as operand, arguments=(Literal(),)):
            return _text(node.name, operand, node.arguments[0], facts)
    return None


def _equal(node: Node, other: Node, facts: Mapping[int, Path]) -> tuple[Dimension, Keys] | None:
    keys = _keys((other,))
    dimension = _place(node, facts)
    return None if keys is None or dimension is None else (dimension, keys)


def _one_of(node: Node, listed: ListOf, facts: Mapping[int, Path]) -> tuple[Dimension, Keys] | None:
    keys = _keys(listed.items)
    dimension = _place(node, facts)
    return None if not keys or dimension is None else (dimension, keys)


def _place(node: Node, facts: Mapping[int, Path]) -> Dimension | None:
    path = _path(node, facts)
    if path is not None:
        return _EQUAL, path, 0
    if isinstance(node, Index) and isinstance(node.key, Literal) and not node.key.is_unsigned:
        inside, index = _path(node.operand, facts), node.key.value
        if inside is not None and type(index) is int and index >= 0:
            return _ELEMENT, inside, index
    return None


def _member(value: Node, inside: Node, facts: Mapping[int, Path]) -> tuple[Dimension, Keys] | None:
    keys, path = _keys((value,)), _path(inside, facts)
    return None if keys is None or path is None else ((_MEMBER, path, 0), keys)


def _exists(node: Comprehension, facts: Mapping[int, Path]) -> tuple[Dimension, Keys] | None:
    path, body = _path(node.over, facts), node.bodies[0]
    if path is None or not isinstance(body, Binary):
        return None
    keys: Keys | None = None
    if body.sign == "==":
        sides = ((body.left, body.right), (body.right, body.left))
        keys = next((_keys((other,)) for one, other in sides if _is_element(one, node)), None)
    elif body.sign == "in" and isinstance(body.right, ListOf) and _is_element(body.left, node):
        keys = _keys(body.right.items)
    return None if not keys else ((_MEMBER, path, 0), keys)


def _is_element(node: Node, around: Comprehension) -> bool:
    return isinstance(node, Name) and node.name == around.variable


def _text(
    name: str, operand: Node, literal: Node, facts: Mapping[int, Path]
) -> tuple[Dimension, Keys] | None:
    path = _path(operand, facts)
    if path is None or not isinstance(literal, Literal) or not isinstance(literal.value, str):
        return None
    text = literal.value
    pieces = [text, ""] if name == "startsWith" else ["", text]
    return ((_TEXT, path, 0), (Glob(text, pieces=pieces),)) if text else None


def _path(node: Node, facts: Mapping[int, Path]) -> Path | None:
    return None if isinstance(node, Has) else facts.get(id(node))


def _keys(nodes: Sequence[Node]) -> Keys | None:
    """The texts and whole numbers of literals; None when there is something else among them."""
    found: list[Hashable] = []
    for node in nodes:
        if not isinstance(node, Literal) or len(found) == MAX_KEYS:
            return None
        value = node.value
        if not isinstance(value, str) and (type(value) is not int or abs(value) > LARGEST_EXACT):
            return None
        found.append(value)
    return tuple(found)


def _is_calm(node: Node, facts: Mapping[int, Path]) -> bool:
    """Is it nothing but comparisons?"""
    if id(node) in facts:
        return True
    match node:
        case Literal() | Name():
            return True
        case Unary(sign="!"):
            return _is_calm(node.operand, facts)
        case Logical():
            return all(_is_calm(part, facts) for part in node.operands)
        case Binary(sign="==" | "!=" | "<" | "<=" | ">" | ">=" | "in"):
            return _is_calm(node.left, facts) and _is_calm(node.right, facts)
        case Call() if node.name in _CALM_METHODS:
            parts = node.arguments if node.operand is None else (node.operand, *node.arguments)
            return all(_is_calm(part, facts) for part in parts)
        case ListOf():
            return all(_is_calm(part, facts) for part in node.items)
        case Conditional():
            return all(_is_calm(part, facts) for part in (node.test, node.then, node.otherwise))
        case Index():
            return _is_calm(node.operand, facts) and _is_calm(node.key, facts)
        case Select():
            return _is_calm(node.operand, facts)
    return False


def shown(dimension: Hashable, value: object) -> Collection[Hashable] | None:
    """What `value`, the fact of a dimension of `needs_of`, shows there; None where comparing it would fail."""
    if not isinstance(dimension, tuple):
        return None
    kind, _, index = dimension
    if kind == _EQUAL:
        return _plain(value)
    if kind == _TEXT:
        return (value,) if isinstance(value, str) else None
    if kind == _ELEMENT:
        is_there = isinstance(value, list | tuple) and index < len(value)
        return _plain(value[index]) if is_there and isinstance(value, list | tuple) else None
    if isinstance(value, dict | list | tuple):
        return frozenset(item for each in value for item in _plain(each))
    return None


def _plain(value: object) -> tuple[Hashable, ...]:
    """What equals none of the keys shows nothing: true is no number in CEL."""
    is_text_or_number = isinstance(value, str | int | float) and not isinstance(value, bool)
    return (value,) if is_text_or_number and isinstance(value, Hashable) else ()
