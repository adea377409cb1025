"""How much work a condition is, before it is worked out: a bound in steps, as a polynomial of what it is given.

A step is about what the binding needs to copy one value (70 ns). `n` is the weight of the facts that are read: 1 for
each value in them and 1 for each 64 characters; `l` is how many entries the longest list or map in them has. The
binding copies maps where a field is selected and lists where `map` and `filter` grow them, so that these cost more than
they look. Called by `policy.conditions.condition`.

The elements of a list weigh no more together than the list. So what costs `s` steps for an element of weight s costs
for all of them no more than for one of the list's weight; what costs the same for each costs that as often as there
are elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from policy.conditions.searching import Search
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
    MapOf,
    Name,
    Node,
    Select,
    Unary,
)

CHARACTERS_IN_A_STEP = 64
MAX_STEPS = 50_000
USUAL_WEIGHT = 24  # a condition that is too much work for so little is refused when it is loaded

_NODE = 3
_FACT = 32  # handing one value to the binding
_SEARCH = 100

Exponents = tuple[int, int, int, int]  # of n, of the elements of the outer and the inner list, of l


class Polynomial:
    """A sum of products of n, l and the weights of the elements of up to two lists, with a factor each."""

    __slots__ = ("_terms",)

    def __init__(self, terms: Mapping[Exponents, float]) -> None:
        self._terms = terms

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self._terms)
        for exponents, factor in other._terms.items():
            terms[exponents] = terms.get(exponents, 0) + factor
        return Polynomial(terms)

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Exponents, float] = {}
        for one, factor in self._terms.items():
            for two, other_factor in other._terms.items():
                key = (one[0] + two[0], one[1] + two[1], one[2] + two[2], one[3] + two[3])
                terms[key] = terms.get(key, 0) + factor * other_factor
        return Polynomial(terms)

    def over(self, depth: int, weight: Polynomial, length: Polynomial) -> Polynomial:
        """The sum of it over the elements, at `depth`, of a list of this weight and length."""
        total = NOTHING
        for exponents, factor in self._terms.items():
            power = exponents[depth]
            n, outer, inner, longest = exponents
            rest = (n, 0 if depth == 1 else outer, 0 if depth == 2 else inner, longest)
            term = Polynomial({rest: factor})
            for _ in range(power):
                term = term * weight
            total = total + (term if power else term * length)
        return total

    def at(self, n: float, longest: float) -> float:
        """Its value for facts of weight n with a longest list, outside of every list."""
        return sum(factor * n ** powers[0] * longest ** powers[3] for powers, factor in self._terms.items())


def constant(value: float) -> Polynomial:
    return Polynomial({(0, 0, 0, 0): value})


NOTHING = Polynomial({})
ONE = constant(1)
N = Polynomial({(1, 0, 0, 0): 1})
LONGEST = Polynomial({(0, 0, 0, 1): 1})
_ELEMENTS = (N, Polynomial({(0, 1, 0, 0): 1}), Polynomial({(0, 0, 1, 0): 1}))


@dataclass(frozen=True, slots=True)
class Work:
    """steps: to work it out. weight: of the result. length: of the longest list or map in it."""

    steps: Polynomial
    weight: Polynomial
    length: Polynomial = NOTHING


def steps_of(tree: Node, facts: Iterable[int], searches: Mapping[int, Search]) -> Polynomial:
    """The bound for all of `tree`. `facts`: ids of the nodes that are one fact. `searches`: see `Checked`."""
    measured = _Measuring(frozenset(facts), searches).of(tree, {})
    return measured.steps + N * constant(_FACT)


def heaviest(steps: Polynomial) -> int:
    """The largest weight of facts for which `steps` stays within MAX_STEPS, however long their lists are."""
    lowest, highest = 0, MAX_STEPS
    while lowest < highest:
        middle = (lowest + highest + 1) // 2
        if steps.at(middle, middle) > MAX_STEPS:
            highest = middle - 1
        else:
            lowest = middle
    return lowest


class _Measuring:
    def __init__(self, facts: frozenset[int], searches: Mapping[int, Search]) -> None:
        self._facts = facts
        self._searches = searches
        self._lengths: list[Polynomial] = [NOTHING] * 3  # of the lists that are gone through, by depth

    def of(self, node: Node, bound: Mapping[str, int]) -> Work:
        if id(node) in self._facts:
            return (
                Work(constant(_NODE), ONE)
                if isinstance(node, Has)
                else Work(constant(_NODE), N + ONE, LONGEST)
            )
        match node:
            case Literal():
                size = len(node.value) if isinstance(node.value, str) else 0
                return Work(constant(_NODE), constant(1 + size / CHARACTERS_IN_A_STEP))
            case Name():
                depth = bound.get(node.name)
                if depth is None:
                    return Work(constant(_NODE), ONE)
                return Work(constant(_NODE), _ELEMENTS[depth], self._lengths[depth])
            case Has():
                inside = self.of(node.select.operand, bound)
                return Work(_sum(inside.steps, inside.weight, constant(_NODE)), ONE)
            case Select():
                inside = self.of(node.operand, bound)
                return Work(_sum(inside.steps, inside.weight, constant(_NODE)), inside.weight, inside.length)
            case Index():
                inside, key = self.of(node.operand, bound), self.of(node.key, bound)
                steps = _sum(inside.steps, inside.weight, key.steps, key.weight, constant(_NODE))
                return Work(steps, inside.weight, inside.length)
            case Unary():
                return Work(self.of(node.operand, bound).steps + constant(_NODE), ONE)
            case Logical():
                return Work(
                    _sum(*(self.of(each, bound).steps + constant(_NODE) for each in node.operands)), ONE
                )
            case Conditional():
                parts = [self.of(each, bound) for each in (node.test, node.then, node.otherwise)]
                steps = _sum(*(part.steps for part in parts))
                return Work(steps, parts[1].weight + parts[2].weight, parts[1].length + parts[2].length)
            case Binary() | Call() | ListOf() | MapOf():
                return self._combined(node, [self.of(each, bound) for each in _parts(node)])
            case Comprehension():
                return self._comprehension(node, bound)
        raise TypeError(f"no such node: {type(node).__name__}")

    def _combined(self, node: Node, parts: list[Work]) -> Work:
        """Everything in it is looked at once."""
        weight = _sum(*(part.weight for part in parts))
        steps = _sum(*(part.steps for part in parts), weight, constant(_NODE))
        search = self._searches.get(id(node))
        if search is not None:
            steps = steps + constant(_SEARCH) + weight * constant(6 + 6 * search.steps)
        grows = isinstance(node, ListOf | MapOf) or (isinstance(node, Binary) and node.sign == "+")
        makes_text = isinstance(node, Call) and node.name == "string"
        if not grows:
            return Work(steps, weight + ONE if makes_text else ONE)
        own = NOTHING if isinstance(node, Binary) else constant(len(parts))
        return Work(steps, weight + ONE, _sum(own, *(part.length for part in parts)))

    def _comprehension(self, node: Comprehension, bound: Mapping[str, int]) -> Work:
        depth = 1 + max(bound.values(), default=0)
        over = self.of(node.over, bound)
        self._lengths[depth] = over.length
        bodies = [self.of(body, {**bound, node.variable: depth}) for body in node.bodies]
        each = _sum(constant(2 * _NODE), *(body.steps for body in bodies))
        steps = _sum(over.steps, over.weight, each.over(depth, over.weight, over.length))
        if node.macro not in ("map", "filter"):
            return Work(steps, ONE)
        # The result is copied each time that an element is put to it.
        result, length = over.weight + ONE, over.length
        if node.macro == "map":
            result = (bodies[-1].weight + ONE).over(depth, over.weight, over.length) + ONE
            length = over.length + bodies[-1].length
        return Work(steps + over.length * result, result, length)


def _parts(node: Binary | Call | ListOf | MapOf) -> list[Node]:
    match node:
        case Binary():
            return [node.left, node.right]
        case Call():
            return [*(() if node.operand is None else (node.operand,)), *node.arguments]
        case ListOf():
            return list(node.items)
        case MapOf():
            return [part for entry in node.entries for part in entry]


def _sum(*parts: Polynomial) -> Polynomial:
    total = NOTHING
    for part in parts:
        total = total + part
    return total
