"""The grammar of conditions: tokens to a tree. CEL's, less bytes, messages and what its binding does not know.

Every node knows where it stands in the text. Nesting is bounded, so that no walk over the tree can run out of stack.
Called by `policy.conditions.condition`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from policy.conditions.tokens import LARGEST_INT, MAX_TEXT_CHARACTERS, Kind, Token, fault, tokens_of
from policy.patterns import PatternError

MAX_DEPTH = 24

MACROS = {"all": (2,), "exists": (2,), "exists_one": (2,), "filter": (2,), "map": (2, 3)}
_COMPARING = ("==", "!=", "<", "<=", ">", ">=", "in")
_WORDS = frozenset({"true", "false", "null", "in"})
_RESERVED = frozenset(
    {
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"),
        *("namespace", "package", "return", "var", "void", "while"),
    }
)


@dataclass(frozen=True, slots=True)
class Node:
    at: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """value: None, bool, int, float or str. is_unsigned: an integer with a `u`."""

    value: object
    is_unsigned: bool = False


@dataclass(frozen=True, slots=True)
class Name(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Select(Node):
    operand: Node
    field: str


@dataclass(frozen=True, slots=True)
class Has(Node):
    """Is there a field? `select` names it."""

    select: Select


@dataclass(frozen=True, slots=True)
class Index(Node):
    operand: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function, or a method when there is an operand."""

    name: str
    operand: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Comprehension(Node):
    """bodies: what is worked out for each element; of a `map` with three arguments the filter first."""

    macro: str
    over: Node
    variable: str
    bodies: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Unary(Node):
    sign: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Logical(Node):
    """`&&` or `||` between any number of operands."""

    sign: str
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Conditional(Node):
    test: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf(Node):
    entries: tuple[tuple[Node, Node], ...]


def parse(text: str) -> Node:
    """The tree of `text`. Raises PatternError."""
    if len(text) > MAX_TEXT_CHARACTERS or len(text.encode("utf-8", "replace")) > MAX_TEXT_CHARACTERS:
        raise PatternError(
            f"the condition is longer than {MAX_TEXT_CHARACTERS} bytes", "split it over several rules"
        )
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(tokens_of(text))
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        if self._at_end():
            raise self._fault(self._peek, "the condition is empty", "write what must hold, or remove `when`")
        node = self._expression()
        if not self._at_end():
            raise self._unexpected("an operator as in `&&` or `>`, or the end")
        return node

    # --- tokens ---

    @property
    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _at_end(self) -> bool:
        return self._peek.kind is Kind.END

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next += token.kind is not Kind.END
        return token

    def _is(self, *signs: str) -> bool:
        token = self._peek
        return token.text in signs and (
            token.kind is Kind.SIGN or (token.kind is Kind.NAME and token.text == "in")
        )

    def _accept(self, sign: str) -> bool:
        if self._is(sign):
            self._next += 1
            return True
        return False

    def _expect(self, sign: str, opened: Token | None = None) -> None:
        if not self._accept(sign):
            if opened is not None and self._at_end():
                raise self._fault(opened, f"`{opened.text}` is not closed", f"close it with `{sign}`")
            raise self._unexpected(f"`{sign}`")

    def _fault(self, token: Token, message: str, remedy: str) -> PatternError:
        return fault(self._text, token.at, message, remedy)

    def _unexpected(self, expected: str) -> PatternError:
        token = self._peek
        shown = "the condition ends" if token.kind is Kind.END else f"`{token.text[:40]}` stands"
        return self._fault(token, f"{shown} where something else is expected", f"write {expected}")

    # --- grammar, from the weakest binding to the strongest ---

    def _expression(self) -> Node:
        self._deeper()
        node = self._logical("||")
        if self._is("?"):
            mark = self._take()
            then = self._expression()
            self._expect(":")
            node = Conditional(mark.at, node, then, self._expression())
        self._depth -= 1
        return node

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fault(
                self._peek, f"nested more than {MAX_DEPTH} deep", "write it flatter, or as two rules"
            )

    def _logical(self, sign: str) -> Node:
        operands = [self._operand(sign)]
        at = self._peek.at
        while self._accept(sign):
            operands.append(self._operand(sign))
        return operands[0] if len(operands) == 1 else Logical(at, sign, tuple(operands))

    def _operand(self, sign: str) -> Node:
        return self._logical("&&") if sign == "||" else self._comparison()

    def _comparison(self) -> Node:
        left = self._sum()
        if self._is(*_COMPARING):
            mark = self._take()
            left = Binary(mark.at, mark.text, left, self._sum())
            if self._is(*_COMPARING):
                raise self._fault(
                    self._peek, "two comparisons in a row", "put `&&` between them, or parentheses"
                )
        return left

    def _sum(self) -> Node:
        return self._row(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._row(("*", "/", "%"), self._unary)

    def _row(self, signs: tuple[str, ...], operand: Callable[[], Node]) -> Node:
        left, count = operand(), 0
        while self._is(*signs):
            mark = self._take()
            left = Binary(mark.at, mark.text, left, operand())
            count += 1
            if count > MAX_DEPTH:
                raise self._fault(
                    mark, f"more than {MAX_DEPTH} operators in a row", "write less in one condition"
                )
        return left

    def _unary(self) -> Node:
        if not self._is("!", "-"):
            return self._member()
        mark = self._take()
        if mark.text == "-" and self._peek.kind in (Kind.INT, Kind.DOUBLE):
            return self._members(self._number(self._take(), mark))
        self._deeper()
        node = Unary(mark.at, mark.text, self._unary())
        self._depth -= 1
        return node

    def _member(self) -> Node:
        return self._members(self._primary())

    def _members(self, node: Node) -> Node:
        count = 0
        while self._is(".", "["):
            mark = self._take()
            count += 1
            if count > MAX_DEPTH:
                raise self._fault(mark, f"more than {MAX_DEPTH} fields in a row", "write a shorter path")
            node = self._indexed(node, mark) if mark.text == "[" else self._selected(node)
        return node

    def _indexed(self, operand: Node, mark: Token) -> Node:
        if self._is("?"):
            raise self._unexpected("an index; to ask whether a field is there, write `has(a.b)`")
        key = self._expression()
        self._expect("]", mark)
        return Index(mark.at, operand, key)

    def _selected(self, operand: Node) -> Node:
        token = self._peek
        if token.kind is not Kind.NAME:
            raise self._unexpected('the name of a field, or `["name"]` for one with other characters')
        self._take()
        if self._is("("):
            return self._called(token, operand)
        if token.text in _WORDS:
            raise self._fault(token, f"`{token.text}` is a word of the language", f'write `["{token.text}"]`')
        return Select(token.at, operand, token.text)

    def _primary(self) -> Node:
        token = self._peek
        match token.kind:
            case Kind.INT | Kind.DOUBLE | Kind.UINT:
                return self._number(self._take(), None)
            case Kind.TEXT:
                self._take()
                return Literal(token.at, token.text)
            case Kind.NAME if token.text != "in":
                return self._named(self._take())
        if self._accept("("):
            node = self._expression()
            self._expect(")", token)
            return node
        if self._accept("["):
            return ListOf(token.at, tuple(self._list("]", token)))
        if self._accept("{"):
            return self._map(token)
        raise self._unexpected("a name, a number, a text in quotes or a list")

    def _number(self, token: Token, minus: Token | None) -> Node:
        at = token.at if minus is None else minus.at
        sign = 1 if minus is None else -1
        if token.kind is Kind.DOUBLE:
            return Literal(at, sign * float(token.text))
        digits = token.text.rstrip("uU")
        value = sign * int(digits, 16 if digits[:2] in ("0x", "0X") else 10)
        if token.kind is Kind.INT and value > LARGEST_INT:
            raise self._fault(token, f"`{token.text}` is too large", f"the largest is {LARGEST_INT}")
        return Literal(at, value, token.kind is Kind.UINT)

    def _named(self, token: Token) -> Node:
        if token.text in ("true", "false"):
            return Literal(token.at, token.text == "true")
        if token.text == "null":
            return Literal(token.at, None)
        if token.text in _RESERVED:
            raise self._fault(token, f"`{token.text}` is reserved in CEL", "use another name")
        if self._is("("):
            return self._called(token, None)
        if self._is("{"):
            raise self._fault(token, "messages cannot be made here", "write a map, as in `{'a': 1}`")
        return Name(token.at, token.text)

    def _called(self, name: Token, operand: Node | None) -> Node:
        opened = self._take()
        arguments = tuple(self._list(")", opened))
        if operand is None and name.text == "has":
            if len(arguments) != 1 or not isinstance(arguments[0], Select):
                raise self._fault(name, "has() asks for a field", "write it as in `has(http.body.amount)`")
            return Has(name.at, arguments[0])
        if operand is None or name.text not in MACROS:
            return Call(name.at, name.text, operand, arguments)
        if len(arguments) not in MACROS[name.text] or not isinstance(arguments[0], Name):
            raise self._fault(
                name,
                f"{name.text}() takes a name for each element, and what is asked of it",
                f"write it as in `list.{name.text}(x, x == 'a')`",
            )
        return Comprehension(name.at, name.text, operand, arguments[0].name, arguments[1:])

    def _list(self, closing: str, opened: Token) -> list[Node]:
        items: list[Node] = []
        while not self._accept(closing):
            items.append(self._expression())
            if not self._accept(","):
                self._expect(closing, opened)
                break
        return items

    def _map(self, opened: Token) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self._accept("}"):
            key = self._expression()
            self._expect(":")
            entries.append((key, self._expression()))
            if not self._accept(","):
                self._expect("}", opened)
                break
        return MapOf(opened.at, tuple(entries))
