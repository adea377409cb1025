"""The grammar of JSON (RFC 8259) as expressions of RE2, for runs in which no name and no place means anything.

Such a run is what detectors alone look at. RE2 passes over it ten times as fast as `re` does: its automaton reads each
byte once, and knows what is open up to `NESTED` levels. It has no look-around, so what depends on names or on how a
string begins stays with `protocols.http.json_runs`, which calls this. Pure.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, cast

import re2

NESTED = 3  # levels of objects and arrays that one run can pass over

_BLANKS = rb"[ \t\n\r]*"
_LINE_BLANKS = rb"[ \t\r]*"
_PLAIN = rb'[^"\\\x00-\x1f]*'
_STRING = rb'"' + _PLAIN + rb'(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})' + _PLAIN + rb')*"'
_SCALAR = _STRING + rb"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null"
_MEMORY = 32 * 1024 * 1024


class Found(Protocol):
    """What matched begins where it was looked for."""

    def end(self) -> int: ...


class Automaton(Protocol):
    """As much of a compiled expression as is asked for, of RE2 or of `re`."""

    def match(self, data: bytes, position: int, end: int, /) -> Found | None: ...


@lru_cache(1)
def members() -> Automaton:
    """Members of an object, each with the comma and the blanks behind it."""
    return _compiled(rb"(?:" + _member(NESTED, _BLANKS) + rb"," + _BLANKS + rb")+")


@lru_cache(1)
def elements() -> Automaton:
    """Elements of an array, each with the comma and the blanks behind it."""
    return _compiled(rb"(?:" + _value(NESTED, _BLANKS) + _BLANKS + rb"," + _BLANKS + rb")+")


@lru_cache(1)
def whole() -> Automaton:
    """An object or an array."""
    return _compiled(_containers(NESTED, _BLANKS))


@lru_cache(1)
def lines() -> Automaton:
    """Lines, each a document of its own or empty."""
    value = rb"(?:" + _value(NESTED, _LINE_BLANKS) + _LINE_BLANKS + rb")?"
    return _compiled(rb"(?:" + _LINE_BLANKS + value + rb"\n)+")


def _value(levels: int, blanks: bytes) -> bytes:
    inside = rb"|" + _containers(levels, blanks) if levels else rb""
    return rb"(?:" + _SCALAR + inside + rb")"


def _containers(levels: int, blanks: bytes) -> bytes:
    element = _value(levels - 1, blanks) + blanks
    return (
        _list(rb"\{", _member(levels - 1, blanks), rb"\}", blanks)
        + rb"|"
        + _list(rb"\[", element, rb"\]", blanks)
    )


def _member(levels: int, blanks: bytes) -> bytes:
    return _STRING + blanks + rb":" + blanks + _value(levels, blanks) + blanks


def _list(start: bytes, item: bytes, end: bytes, blanks: bytes) -> bytes:
    return start + blanks + rb"(?:" + item + rb"(?:," + blanks + item + rb")*)?" + end


def _compiled(expression: bytes) -> Automaton:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _MEMORY
    options.never_capture = True
    options.log_errors = False
    return cast(Automaton, re2.compile(expression, options))
