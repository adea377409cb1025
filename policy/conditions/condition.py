"""A condition, compiled once and worked out for each operation that its rule might be about.

Fails closed: whatever keeps it from being true or false is a ConditionError, also a crash inside the binding. Its text
names what was missing and never a value. No AST of the binding is used: `policy.conditions.rendering` writes what it
reads. Called through `policy.rules.Condition`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from policy.conditions.checking import Path, check
from policy.conditions.cost import MAX_STEPS, USUAL_WEIGHT, Polynomial, heaviest, steps_of
from policy.conditions.given import NotGiven, fact_at, is_there, weight_of
from policy.conditions.names import Kind
from policy.conditions.needs import needs_of, whole_of
from policy.conditions.rendering import Rendered, render
from policy.conditions.syntax import parse
from policy.patterns import PatternError
from policy.rules import ConditionError

if TYPE_CHECKING:
    import cel

MAX_REMEMBERED = 16_384
_NO_NEEDS: Mapping[Hashable, Sequence[Hashable]] = MappingProxyType({})

_WHY = {
    TypeError: "it works on values of different kinds",
    ZeroDivisionError: "it divides by zero",
    OverflowError: "a number in it grows too large",
    KeyError: "it reads a field that is not there",
    IndexError: "it reads an element that is not there, or looks for a pattern in what is not a text",
}


class CompiledCondition:
    """See `policy.rules.Condition`. steps: how much work it is."""

    __slots__ = (
        "_context",
        "_presences",
        "_program",
        "_searches",
        "_steps",
        "_values",
        "heaviest",
        "names",
        "needs",
        "text",
        "values",
        "whole",
    )

    def __init__(
        self,
        text: str,
        rendered: Rendered,
        program: cel.Program,
        context: type[cel.Context],
        steps: Polynomial,
        needs: Mapping[Hashable, Sequence[Hashable]] = _NO_NEEDS,
        whole: Hashable | None = None,
    ) -> None:
        self.text = text
        self.needs = needs
        self.whole = whole
        self.values: Sequence[Path] = tuple(rendered.values)
        self.names: Sequence[str] = tuple(
            dict.fromkeys(".".join(path) for path in (*rendered.values, *rendered.presences))
        )
        self._values = tuple((path, name) for path, name in rendered.values.items())
        self._presences = tuple((path, name) for path, name in rendered.presences.items())
        self._searches: dict[str, Callable[..., Any]] = dict(rendered.searches)
        self._program = program
        self._context = context
        self._steps = steps
        self.heaviest = heaviest(steps)  # up to here there is no need to ask for more

    def holds(self, variables: Mapping[str, object]) -> bool:
        """Is it true of these variables? Raises ConditionError."""
        missing: list[str] = []
        given = self._given(variables, missing)
        try:
            result = self._program.execute(self._context(given, self._searches) if self._searches else given)
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":
                raise  # not of the binding's making
            raise ConditionError(_reason(error, missing)) from None
        if result is True or result is False:
            return bool(result)
        raise ConditionError("it is neither true nor false")

    def _given(self, variables: Mapping[str, object], missing: list[str]) -> dict[str, object]:
        """The facts that it reads; what is not known is left out, and reading that is an error of the binding."""
        given: dict[str, object] = {}
        weight: float = 0
        longest = 0
        for path, name in self._values:
            try:
                value = fact_at(variables, path)
                its_weight, its_length = weight_of(value)
                weight += its_weight
                longest = max(longest, its_length)
            except NotGiven as why:
                missing.append(_missing(path, why))
            else:
                given[name] = value
        for path, name in self._presences:
            try:
                given[name] = is_there(variables, path)
            except NotGiven as why:
                missing.append(_missing(path[:-1], why))
        if weight > self.heaviest and self._steps.at(weight, longest) > MAX_STEPS:
            raise ConditionError("the values that it looks through are too many or too long")
        return given


def _missing(path: Path, why: NotGiven) -> str:
    return f"`{'.'.join(path)}` {why}"


def _reason(error: BaseException, missing: Sequence[str]) -> str:
    if missing:
        return ", ".join(missing[:5])
    return next((text for kind, text in _WHY.items() if isinstance(error, kind)), "it cannot be worked out")


@lru_cache(maxsize=MAX_REMEMBERED)
def compile_condition(text: str, kind: Kind) -> CompiledCondition:
    """The condition in `text` for a rule about operations of `kind`. Raises PatternError."""
    # It brings a command line and all that this needs: half a second, which only conditions have to pay.
    import cel  # noqa: PLC0415

    tree = parse(text)
    checked = check(text, tree, kind)
    steps = steps_of(tree, checked.facts, checked.searches)
    if steps.at(USUAL_WEIGHT, USUAL_WEIGHT) > MAX_STEPS:
        raise PatternError(
            "the condition is too much work, even for few values",
            "look through fewer lists in one another, use smaller patterns, or split it over several rules",
        )
    rendered = render(tree, checked)
    try:
        program = cel.compile(rendered.text)
    except ValueError as error:
        raise PatternError(
            f"the condition cannot be compiled: {_first_line(str(error))}", "write it in a simpler form"
        ) from None
    needs, whole = needs_of(tree, checked.facts), whole_of(tree, checked.facts)
    return CompiledCondition(text, rendered, program, cel.Context, steps, needs, whole)


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:200]
