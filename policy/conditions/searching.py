"""The patterns of `matches`: RE2, whose time grows with the text and with nothing else, compiled once.

The binding has an engine of its own, which takes the pattern apart again with each call; this one is asked instead.
Called by `policy.conditions.checking` and, through the binding, by `policy.conditions.condition`.
"""

from __future__ import annotations

from typing import Any

import re2

from policy.patterns import PatternError

MAX_STEPS = 2000  # of the compiled pattern: what a search can cost for each byte of the text

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


class Search:
    """One pattern, found anywhere in a text. steps: how large it is when compiled."""

    __slots__ = ("_compiled", "steps", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._compiled: Any = re2.compile(text, _OPTIONS)
        except re2.error as error:
            detail = error.args[0] if error.args else ""
            reason = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
            raise PatternError(
                f"not a pattern: {reason}",
                "write a regular expression in RE2's syntax, which has no look-around and no back-references",
            ) from None
        self.steps: int = self._compiled.programsize
        if self.steps > MAX_STEPS:
            raise PatternError("the pattern is too large when compiled", "use smaller counts, as in `{1,20}`")

    def __call__(self, value: object) -> list[bool]:
        """In a list, which is empty for what is not a text: taking its first element is an error then.

        Raising here would make the binding write a line to the log.
        """
        if not isinstance(value, str):
            return []
        return [self._compiled.search(value.encode("utf-8", "replace")) is not None]
