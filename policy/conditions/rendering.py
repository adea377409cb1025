"""A checked tree as text for the binding: each fact a variable of its own, each pattern a function of its own.

What the binding reads is written here from the tree, so that it cannot understand an expression in another way than the
checks have. Called by `policy.conditions.condition`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from policy.conditions.checking import Checked, Path
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

# How strongly a node binds; what binds less than its place asks for stands in parentheses.
_WHOLE, _OR, _AND, _COMPARISON, _SUM, _PRODUCT, _UNARY, _MEMBER = range(8)
_STRENGTH = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "%": _PRODUCT}


@dataclass(slots=True)
class Rendered:
    """values, presences: the variable for the value of each fact, and for whether it is there."""

    text: str = ""
    values: dict[Path, str] = field(default_factory=dict)
    presences: dict[Path, str] = field(default_factory=dict)
    searches: dict[str, Search] = field(default_factory=dict)


def render(tree: Node, checked: Checked) -> Rendered:
    rendered = Rendered()
    rendered.text = _Writer(rendered, checked).write(tree, _WHOLE, {})
    return rendered


class _Writer:
    def __init__(self, rendered: Rendered, checked: Checked) -> None:
        self._rendered = rendered
        self._checked = checked

    def write(self, node: Node, strength: int, bound: Mapping[str, str]) -> str:
        own, text = self._written(node, bound)
        return text if own >= strength else f"({text})"

    def _written(self, node: Node, bound: Mapping[str, str]) -> tuple[int, str]:
        path = self._checked.facts.get(id(node))
        if path is not None:
            return _MEMBER, self._fact(node, path)

        def inside(part: Node, strength: int = _WHOLE) -> str:
            return self.write(part, strength, bound)

        match node:
            case Literal():
                return _literal(node)
            case Name():
                return _MEMBER, bound.get(node.name, node.name)
            case Has():
                return _MEMBER, f"has({inside(node.select.operand, _MEMBER)}.{node.select.field})"
            case Select():
                return _MEMBER, f"{inside(node.operand, _MEMBER)}.{node.field}"
            case Index():
                return _MEMBER, f"{inside(node.operand, _MEMBER)}[{inside(node.key)}]"
            case Call():
                return _MEMBER, self._call(node, inside)
            case Comprehension():
                return _MEMBER, self._comprehension(node, bound)
            case Unary():
                # With a space: `- -1` is not a sign of its own.
                return _UNARY, f"{node.sign} {inside(node.operand, _MEMBER)}"
            case Binary():
                own = _STRENGTH.get(node.sign, _COMPARISON)
                left = own if own != _COMPARISON else _SUM
                return own, f"{inside(node.left, left)} {node.sign} {inside(node.right, own + 1)}"
            case Logical():
                own = _OR if node.sign == "||" else _AND
                return own, f" {node.sign} ".join(inside(operand, own + 1) for operand in node.operands)
            case Conditional():
                parts = [inside(part, _OR) for part in (node.test, node.then, node.otherwise)]
                return _WHOLE, f"{parts[0]} ? {parts[1]} : {parts[2]}"
            case ListOf():
                return _MEMBER, f"[{', '.join(inside(item) for item in node.items)}]"
            case MapOf():
                entries = (f"{inside(key)}: {inside(value)}" for key, value in node.entries)
                return _MEMBER, f"{{{', '.join(entries)}}}"
        raise TypeError(f"no such node: {type(node).__name__}")

    def _fact(self, node: Node, path: Path) -> str:
        if isinstance(node, Has):
            return self._rendered.presences.setdefault(path, f"h{len(self._rendered.presences)}")
        return self._rendered.values.setdefault(path, f"f{len(self._rendered.values)}")

    def _call(self, node: Call, inside: Callable[..., str]) -> str:
        search = self._checked.searches.get(id(node))
        if search is not None and node.operand is not None:
            name = f"m{len(self._rendered.searches)}"
            self._rendered.searches[name] = search
            return f"{name}({inside(node.operand)})[0]"
        arguments = ", ".join(inside(argument) for argument in node.arguments)
        if node.operand is None:
            return f"{node.name}({arguments})"
        return f"{inside(node.operand, _MEMBER)}.{node.name}({arguments})"

    def _comprehension(self, node: Comprehension, bound: Mapping[str, str]) -> str:
        element = f"e{len(bound)}"
        inner = {**bound, node.variable: element}
        bodies = ", ".join(self.write(body, _WHOLE, inner) for body in node.bodies)
        return f"{self.write(node.over, _MEMBER, bound)}.{node.macro}({element}, {bodies})"


def _literal(node: Literal) -> tuple[int, str]:
    match node.value:
        case None:
            return _MEMBER, "null"
        case bool():
            return _MEMBER, "true" if node.value else "false"
        case str():
            return _MEMBER, f'"{"".join(map(_escaped, node.value))}"'
    text = f"{node.value!r}{'u' if node.is_unsigned else ''}"
    return (_UNARY if text.startswith("-") else _MEMBER), text


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    return f"\\U{ord(character):08x}"
