"""Long lists of names, written as text."""

from __future__ import annotations


def names(text: str) -> frozenset[str]:
    """The names in `text`."""
    return frozenset(text.split())
