"""A policy's own patterns: what RE2 takes, within limits, and seen one line at a time.

Owns the checks of one pattern (`own_fault`) and of all together (`own_faults_together`), and the expression that is
really compiled. Called by `policy.detectors.section` when a policy is read and by `policy.detectors.detector_set`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from policy.detectors.engine import Pattern, PatternRefused

_NEWLINE = re.compile(r"\n|(?<!\\)(?:\\\\)*\\n")
MAX_PATTERN = 1000  # characters
MAX_INSTRUCTIONS = 1000
"""Of RE2's program for one pattern. Its time is in proportion to the text always; this bounds by how much."""
MAX_INSTRUCTIONS_TOGETHER = 5000


def own_expression(text: str) -> bytes:
    """`^` and `$` are the ends of a line: a stream has no other. Raises PatternRefused."""
    Pattern(text.encode(), is_text=True)  # by itself: a stray `)` must not close the group around it
    return b"(?m:" + text.encode() + b")"


def own_fault(text: str) -> tuple[str, str] | None:
    """What is wrong with a pattern, and what to do; None when it can be used."""
    try:
        pattern = Pattern(own_expression(text), is_text=True)
    except PatternRefused as refused:
        return (
            f"the pattern cannot be used: {refused}",
            "write it in the syntax of RE2, which has no look-around and no back-references, and keep it small",
        )
    except UnicodeEncodeError:
        return "the pattern is not text", "write it in UTF-8"
    if _NEWLINE.search(text):
        return (
            "the pattern can never match: a pattern sees one line at a time",
            "leave the end of the line out of it",
        )
    if pattern.instructions > MAX_INSTRUCTIONS:
        return (
            f"the pattern is too large: {pattern.instructions} steps, where {MAX_INSTRUCTIONS} are the most",
            "shorten its repetitions (`{1,500}`) or its classes of letters",
        )
    if pattern.matches_nothing:
        return (
            "the pattern matches the empty text",
            "make a part of it obligatory, as in `[0-9]+` instead of `[0-9]*`",
        )
    return None


def own_faults_together(patterns: Iterable[str]) -> tuple[str, str] | None:
    """The same for all patterns of a policy, each of which can be used by itself."""
    steps = sum(Pattern(own_expression(text), is_text=True).instructions for text in patterns)
    if steps <= MAX_INSTRUCTIONS_TOGETHER:
        return None
    return (
        f"the patterns are too large together: {steps} steps, where {MAX_INSTRUCTIONS_TOGETHER} are the most",
        "shorten their repetitions, or leave some out",
    )
