"""What can be told of a condition before any operation: its names exist, its values can be compared, it is a yes or no.

Also finds the facts that it reads: each path that begins with a variable ("http.body.amount") is one fact, taken from
the operation as a whole, so that only what is read is handed to the binding. Called by `policy.conditions.condition`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from policy.conditions.names import (
    ANY,
    BOOL,
    LIST,
    MAP,
    NULL,
    NUMBER,
    TEXT,
    TYPE,
    VARIABLES,
    Kind,
    Shape,
)
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
from policy.conditions.tokens import fault
from policy.faults import closest
from policy.patterns import PatternError

MAX_NESTED = 2

FUNCTIONS = {
    "size": (TEXT, LIST, MAP),
    "int": (NUMBER, TEXT),
    "double": (NUMBER, TEXT),
    "string": (NUMBER, TEXT),
}
METHODS = ("contains", "startsWith", "endsWith", "matches")
TYPES = ("int", "uint", "double", "string", "bool", "list", "map", "null_type")
_RESULTS = {"size": NUMBER, "int": NUMBER, "double": NUMBER, "string": TEXT, "type": TYPE}
_MACROS = ("all", "exists", "exists_one", "filter", "map")
_HELP = (
    "functions are size, int, double, string, type and has; methods are contains, startsWith, endsWith, matches, "
    "size, all, exists, exists_one, filter and map"
)

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """facts: the path that each node stands for, by the node's id. searches: the
    pattern of each matches()."""

    facts: Mapping[int, Path]
    searches: Mapping[int, Search]


def check(text: str, tree: Node, kind: Kind) -> Checked:
    """Raises PatternError."""
    checker = _Checker(text, kind)
    found = checker.kind_of(tree, {})
    if found not in (BOOL, ANY):
        raise fault(
            text,
            tree.at,
            f"a condition must be true or false, and this is {found}",
            "compare it with something",
        )
    return Checked(checker.facts, checker.searches)


class _Checker:
    def __init__(self, text: str, kind: Kind) -> None:
        self._text = text
        self._variables = VARIABLES[kind]
        self.facts: dict[int, Path] = {}
        self.searches: dict[int, Search] = {}

    def _fault(self, node: Node, message: str, remedy: str) -> PatternError:
        return fault(self._text, node.at, message, remedy)

    def kind_of(self, node: Node, bound: Mapping[str, int]) -> str:
        """What `node` is worth, one of the kinds of `names`. `bound`: the names of elements, and how deep they are."""
        fact = self._fact(node, bound)
        if fact is not None:
            self.facts[id(node)] = fact[0]
            return fact[1].kind
        match node:
            case Literal():
                return _kind_of_literal(node.value)
            case Name():
                return ANY if node.name in bound else self._other_name(node)
            case Has():
                return self._has(node, bound)
            case Select():
                self._need(node.operand, bound, (MAP,), f"has no field `{node.field}`")
                return ANY
            case Index():
                self._need(node.operand, bound, (MAP, LIST), "has no elements")
                self.kind_of(node.key, bound)
                return ANY
            case Call():
                return self._call(node, bound)
            case Comprehension():
                return self._comprehension(node, bound)
            case Unary():
                wanted = BOOL if node.sign == "!" else NUMBER
                self._need(node.operand, bound, (wanted,), f"cannot have `{node.sign}` in front")
                return wanted
            case Binary():
                return self._binary(node, bound)
            case Logical():
                for operand in node.operands:
                    self._need(operand, bound, (BOOL,), f"cannot stand beside `{node.sign}`")
                return BOOL
            case Conditional():
                self._need(node.test, bound, (BOOL,), "cannot stand before `?`")
                kinds = {self.kind_of(node.then, bound), self.kind_of(node.otherwise, bound)}
                return kinds.pop() if len(kinds) == 1 else ANY
            case ListOf():
                for item in node.items:
                    self.kind_of(item, bound)
                return LIST
            case MapOf():
                for key, value in node.entries:
                    self._need(key, bound, (TEXT,), "cannot be a key")
                    self.kind_of(value, bound)
                return MAP
        raise TypeError(f"no such node: {type(node).__name__}")

    # --- names ---

    def _fact(self, node: Node, bound: Mapping[str, int]) -> tuple[Path, Shape] | None:
        """The fact that a name, or a row of fields behind one, stands for."""
        match node:
            case Name() if node.name not in bound and node.name in self._variables:
                found = self._variables[node.name]
                if found.fields:
                    raise self._fault(
                        node,
                        f"`{node.name}` alone is nothing to compare",
                        f"name a field of it: {_listed(found.fields)}",
                    )
                return (node.name,), found
            case Select():
                return self._field(node, node.operand, node.field, bound)
            case Index(key=Literal(value=str() as field)):
                return self._field(node, node.operand, field, bound)
        return None

    def _field(
        self, node: Node, operand: Node, field: str, bound: Mapping[str, int]
    ) -> tuple[Path, Shape] | None:
        if isinstance(operand, Name) and operand.name not in bound and operand.name in self._variables:
            inside: tuple[Path, Shape] | None = ((operand.name,), self._variables[operand.name])
        else:
            inside = self._fact(operand, bound)
        if inside is None:
            return None
        path, shape = inside
        name = ".".join(path)
        if shape.fields:
            known = shape.fields.get(field)
            if known is None:
                remedy = f"{closest(field, shape.fields)}its fields are {_listed(shape.fields)}"
                raise self._fault(node, f"`{name}` has no field `{field}`", remedy)
            return (*path, field), known
        if shape.each is not None:
            if path == ("http", "headers") and field != field.lower():
                raise self._fault(
                    node, f"header names are lower case, and `{field}` is not", f'write `["{field.lower()}"]`'
                )
            return (*path, field), shape.each
        if shape.kind is LIST:
            raise self._fault(
                node,
                f"`{name}` is a list and has no field `{field}`",
                f"write `{name}[0]` or `{name}.exists(x, ...)`",
            )
        if shape.kind is not ANY:
            raise self._fault(
                node, f"`{name}` is {shape.kind} and has no field `{field}`", "leave the field out"
            )
        return None

    def _other_name(self, node: Name) -> str:
        if node.name in TYPES:
            return TYPE
        known = self._variables
        remedy = f"{closest(node.name, known)}a rule of this kind knows {_listed(known)}"
        elsewhere = [kind for kind, variables in VARIABLES.items() if node.name in variables]
        if elsewhere:
            remedy = f"it is for rules with `{elsewhere[0]}`; {remedy}"
        if self._text[: node.at].rstrip().endswith("-"):
            remedy = f'names with `-` stand in brackets, as in `http.headers["x-env"]`; {remedy}'
        raise self._fault(node, f"`{node.name}` is not known here", remedy)

    def _has(self, node: Has, bound: Mapping[str, int]) -> str:
        fact = self._fact(node.select, bound)
        if fact is None:
            self._need(node.select.operand, bound, (MAP,), "has no fields")
        else:
            path = fact[0]
            if len(path) == 2 and path[0] in self._variables and path != ("http", "body"):
                raise self._fault(
                    node,
                    f"`{'.'.join(path)}` is not known or always there, and has() cannot tell",
                    "ask for its value: what is not known refuses by itself",
                )
            self.facts[id(node)] = path
        return BOOL

    # --- what can stand where ---

    def _need(self, node: Node, bound: Mapping[str, int], kinds: Sequence[str], why: str) -> None:
        found = self.kind_of(node, bound)
        if found not in (*kinds, ANY):
            raise self._fault(node, f"{found} {why}", f"write {' or '.join(kinds)} there")

    def _binary(self, node: Binary, bound: Mapping[str, int]) -> str:
        left, right = self.kind_of(node.left, bound), self.kind_of(node.right, bound)
        if node.sign == "in":
            if right not in (LIST, MAP, ANY):
                raise self._fault(node, f"nothing is in {right}", "write a list, or `.contains()` of a text")
            return BOOL
        if node.sign in ("==", "!="):
            if ANY not in (left, right) and NULL not in (left, right) and left != right:
                hint = (
                    "ask a list with `in`, as in `'a' in list`"
                    if LIST in (left, right)
                    else "compare like with like"
                )
                raise self._fault(node, f"{left} and {right} are never equal", hint)
            return BOOL
        wanted: tuple[str, ...] = (NUMBER, TEXT) if node.sign in ("<", "<=", ">", ">=") else (NUMBER,)
        if node.sign == "+":
            wanted = (NUMBER, TEXT, LIST)
        for side, found in ((node.left, left), (node.right, right)):
            if found not in (*wanted, ANY):
                raise self._fault(
                    side, f"`{node.sign}` does not work on {found}", f"write {' or '.join(wanted)} there"
                )
        if ANY not in (left, right) and left != right:
            raise self._fault(
                node, f"`{node.sign}` between {left} and {right} never works", "use two of a kind"
            )
        if node.sign in ("<", "<=", ">", ">="):
            return BOOL
        return left if left is not ANY else right

    def _call(self, node: Call, bound: Mapping[str, int]) -> str:
        if node.operand is not None and node.name in METHODS:
            self._need(node.operand, bound, (TEXT,), f"has no {node.name}()")
            if len(node.arguments) != 1:
                raise self._fault(
                    node, f"{node.name}() takes one text", f"write it as in `.{node.name}('a')`"
                )
            self._need(node.arguments[0], bound, (TEXT,), f"cannot be given to {node.name}()")
            if node.name == "matches":
                self.searches[id(node)] = self._search(node.arguments[0])
            return BOOL
        arguments = node.arguments if node.operand is None else (node.operand, *node.arguments)
        is_known = node.name in _RESULTS and (node.operand is None or node.name == "size")
        if not is_known:
            known = (*FUNCTIONS, "type", "has", *METHODS, *_MACROS)
            raise self._fault(
                node, f"there is no function {node.name}()", f"{closest(node.name, known)}{_HELP}"
            )
        if len(arguments) != 1:
            raise self._fault(node, f"{node.name}() takes one value", f"write it as in `{node.name}(x)`")
        if node.name == "type":
            self.kind_of(arguments[0], bound)
        else:
            self._need(arguments[0], bound, FUNCTIONS[node.name], f"cannot be given to {node.name}()")
        return _RESULTS[node.name]

    def _search(self, pattern: Node) -> Search:
        if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
            raise self._fault(
                pattern,
                "a pattern must stand in the condition as it is",
                "write it in quotes, as in `.matches(r'^a+$')`",
            )
        try:
            return Search(pattern.value)
        except PatternError as error:
            raise self._fault(pattern, error.message, error.remedy) from None

    def _comprehension(self, node: Comprehension, bound: Mapping[str, int]) -> str:
        self._need(node.over, bound, (LIST, MAP), f"has no {node.macro}()")
        if node.variable in self._variables or node.variable in TYPES or node.variable in bound:
            raise self._fault(node, f"`{node.variable}` has a meaning already", "name the element `x`")
        depth = 1 + max(bound.values(), default=0)
        if depth > MAX_NESTED:
            raise self._fault(
                node,
                f"{node.macro}() inside more than {MAX_NESTED - 1} other",
                "look through fewer lists at once",
            )
        inside = {**bound, node.variable: depth}
        tests = node.bodies[:-1] if node.macro == "map" else node.bodies
        for test in tests:
            self._need(test, inside, (BOOL,), f"is no answer inside {node.macro}()")
        if node.macro == "map":
            self.kind_of(node.bodies[-1], inside)
        return LIST if node.macro in ("map", "filter") else BOOL


def _kind_of_literal(value: object) -> str:
    match value:
        case None:
            return NULL
        case bool():
            return BOOL
        case str():
            return TEXT
    return NUMBER


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
