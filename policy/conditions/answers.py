"""What the conditions of rules say of one operation: each worked out once.

What cannot be worked out counts as what refuses more: true in a deny or hold rule, false in an allow rule.

A condition is asked last, of rules that the operation is known to be about. Called by whoever judges, at all doors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from policy.decision import Reason
from policy.rules import Condition, ConditionError


class Conditioned(Protocol):
    """A rule, as far as its condition goes."""

    @property
    def name(self) -> str: ...

    @property
    def condition(self) -> Condition | None: ...


class Answers:
    """The answers about one operation, whose variables are made when a condition is asked for the first time."""

    __slots__ = ("_found", "_variables", "_withheld", "_work_out")

    def __init__(self, work_out: Callable[[], Mapping[str, object]]) -> None:
        self._work_out = work_out
        self._variables: Mapping[str, object] | None = None
        self._found: dict[int, bool | str] = {}
        self._withheld: dict[str, bool | str] = {}

    @property
    def variables(self) -> Mapping[str, object]:
        if self._variables is None:
            self._variables = self._work_out()
        return self._variables

    def touches(self, rule: Conditioned) -> bool:
        """Of a deny or hold rule that the operation touches otherwise: what cannot be worked out counts as true."""
        return rule.condition is None or self._answer(rule.condition) is not False

    def covers(self, rule: Conditioned) -> bool:
        """Of a rule that covers the operation otherwise: what cannot be worked out counts as false."""
        if rule.condition is None:
            return True
        answer = self._answer(rule.condition)
        if answer is not True:
            self._withheld[rule.name] = answer
        return answer is True

    def may_cover(self, rule: Conditioned) -> bool:
        """Could it cover, for all that is known so far?"""
        return rule.condition is None or self._answer(rule.condition) is not False

    def doubt(self, rule: Conditioned) -> str:
        """Why the condition of `rule` cannot be worked out, for the end of a reason; "" when it can be."""
        answer = None if rule.condition is None else self._answer(rule.condition)
        if not isinstance(answer, str):
            return ""
        return f" (the rule's condition counts as true here, because it cannot be worked out: {answer})"

    def withheld(self) -> Iterator[Reason]:
        """A reason for each rule that would have covered something, had its condition held."""
        for name, answer in self._withheld.items():
            why = "does not hold" if answer is False else f"cannot be worked out: {answer}"
            yield Reason(
                name,
                f"rule {name} allows this under a condition, which {why}",
                f"Ask the owners of the policy what rule {name} asks for.",
            )

    def _answer(self, condition: Condition) -> bool | str:
        """True, False, or why neither."""
        found = self._found.get(id(condition))
        if found is None:
            try:
                found = condition.holds(self.variables)
            except ConditionError as error:
                found = str(error) or "it is not known why"
            self._found[id(condition)] = found
        return found
