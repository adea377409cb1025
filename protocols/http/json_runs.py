"""Runs of members and elements of a JSON document that are dealt with in one go, by regular expressions.

Owns what a run may hold: values that nothing becomes of, and masked members whose values are no objects or arrays (they
are then replaced by a second expression over the run). So what is not masked costs what a regular expression costs. All
expressions are possessive (they never go back), so their time is linear in what they read. What is not in a run goes
token by token: `protocols.http.json_stream`, which calls this. Pure.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from protocols.http import json_grammar as grammar
from protocols.http import json_tokens as tokens
from protocols.http.json_grammar import NESTED, Automaton
from protocols.http.json_nodes import JsonNode, Rewrite

_ASCII_BODY = rb"[\x20\x21\x23-\x5b\x5d-\x7e]*+"
_NO_DOCUMENT = rb"(?!" + tokens.INNER_BLANKS + tokens.INNER_BEGINNING + rb")"
# A name of these alone, in quotes and with a colon behind, can only be a name: never what stands between two strings.
_SIMPLE_NAME = re.compile(r"[A-Za-z0-9_-]+")

_SCALAR = rb'(?>"' + tokens.BODY + rb'"|' + tokens.NUMBER + rb"|" + tokens.LITERAL + rb")"


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """pattern: matches a run, which ends behind a comma and the blanks that follow it. masked: finds masked members."""

    pattern: Automaton
    masked: re.Pattern[bytes] | None
    rewrites: dict[bytes, Rewrite]

    def rewritten(self, run: bytes, counts: Counter[str]) -> bytes:
        """What becomes of a run."""
        if self.masked is None:
            return run

        def replaced(found: re.Match[bytes]) -> bytes:
            token = become(found[3], self.rewrites[found[2].lower()], counts, found[2].decode())
            return found[0] if token is None else found[1] + token

        return self.masked.sub(replaced, run)


def become(token: bytes, rewrite: Rewrite, counts: Counter[str], name: str) -> bytes | None:
    """What becomes of a whole string, number or word; None when it stays. name: of the member, "" for none."""
    first = token[0]
    if first == 0x22:
        constant = rewrite.constant_string
        if constant is None:
            return None if rewrite.string is None else rewrite.string(string_text(token), counts, name)
    elif first == 0x6E:
        constant = rewrite.null
    elif first in b"tf":
        constant = rewrite.boolean
    else:
        return None if rewrite.number is None else rewrite.number(token.decode(), counts, name)
    if constant is not None:
        counts[rewrite.name] += 1
    return constant


def string_text(token: bytes) -> str:
    """A string with its quotes, escapes resolved."""
    if b"\\" in token:
        text: str = json.loads(token)
        return text
    return token[1:-1].decode()


@dataclass(slots=True)
class Runs:
    """Runs at a node, None where there are none; made when they are first asked for."""

    node: JsonNode
    _members: Run | bool | None = False
    _elements: Run | bool | None = False
    _whole: Run | bool | None = False
    _lines: Run | bool | None = False

    @property
    def members(self) -> Run | None:
        if isinstance(self._members, bool):
            self._members = _members(self.node)
        return self._members

    @property
    def elements(self) -> Run | None:
        if isinstance(self._elements, bool):
            self._elements = _elements(self.node)
        return self._elements

    @property
    def whole(self) -> Run | None:
        """The node's own value, if that is an object or array: for documents that are small."""
        if isinstance(self._whole, bool):
            self._whole = _whole(self.node)
        return self._whole

    @property
    def lines(self) -> Run | None:
        """Lines, each with a document that stands at the node, or empty."""
        if isinstance(self._lines, bool):
            self._lines = _lines(self.node)
        return self._lines


def runs_of(node: JsonNode) -> Runs:
    if not isinstance(node.runs, Runs):
        node.runs = Runs(node)
    return node.runs


def _members(node: JsonNode) -> Run | None:
    if _is_uniform(node):
        return Run(grammar.members(), None, {})
    writing = _Writing()
    writing.look_into(node, NESTED + 1)
    member = writing.member(node, NESTED)
    return None if member is None else writing.run(member + rb"," + tokens.BLANKS)


def _elements(node: JsonNode) -> Run | None:
    each = node.any_element
    if each is None or not _passes(each):
        return None
    if _is_uniform(each):
        return Run(grammar.elements(), None, {})
    writing = _Writing()
    writing.look_into(each, NESTED)
    value = writing.value(each, NESTED)
    return writing.run(value + tokens.BLANKS + rb"," + tokens.BLANKS)


def _whole(node: JsonNode) -> Run | None:
    if not _passes(node):
        return None
    if _is_uniform(node):
        return Run(grammar.whole(), None, {})
    writing = _Writing()
    writing.look_into(node, NESTED)
    return writing.run(rb"(?=[\[{])" + writing.value(node, NESTED), is_one=True)


def _lines(node: JsonNode) -> Run | None:
    return Run(grammar.lines(), None, {}) if _passes(node) and _is_uniform(node) else None


def _is_uniform(node: JsonNode) -> bool:
    """Is every place at the node and below it like it, and no string in it a document?"""
    return node.is_settled and node.document is None and not node.names and _passes(node)


def _passes(node: JsonNode) -> bool:
    return node.rewrite is None or node.rewrite.only_unclean


@dataclass(slots=True)
class _Writing:
    """One run being written. rewrites: what becomes of members in it, wherever in it they stand. doubtful: names that
    would mean different things in different places of it, so that no run holds them.
    """

    rewrites: dict[str, Rewrite] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)

    def run(self, item: bytes, *, is_one: bool = False) -> Run:
        pattern = re.compile(item if is_one else rb"(?:" + item + tokens.OR_NOTHING + rb")++")
        rewrites = {
            name.encode(): rewrite for name, rewrite in self.rewrites.items() if name not in self.doubtful
        }
        if not rewrites:
            return Run(pattern, None, {})
        start = rb'("(?i:(' + _any_of(rewrites) + rb'))"' + tokens.BLANKS + rb":" + tokens.BLANKS + rb")"
        return Run(pattern, re.compile(start + rb"(" + _SCALAR + rb")"), rewrites)

    def look_into(self, node: JsonNode, levels: int) -> None:
        """Learn the names that stand in a value at `node`."""
        if levels == 0 or node.is_settled:
            return
        for name in node.names:
            rewrite = node.member(name).rewrite
            if rewrite is None or rewrite.only_unclean or _SIMPLE_NAME.fullmatch(name) is None:
                self.doubtful.add(name)
                continue
            if self.rewrites.setdefault(name, rewrite) is not rewrite:
                self.doubtful.add(name)
        self.look_into(node.other, levels - 1)
        if node.any_element is not None:
            self.look_into(node.any_element, levels - 1)

    def value(self, node: JsonNode, levels: int) -> bytes:
        start = rb'"' + (rb"" if node.document is None else _NO_DOCUMENT)
        forms = [start + tokens.BODY + rb'"', tokens.NUMBER, tokens.LITERAL]
        if levels:
            member = self.member(node, levels - 1)
            if member is not None:
                forms.append(rb"\{" + tokens.BLANKS + _list(member, rb"\}") + rb"\}")
            each = node.any_element
            if each is not None and _passes(each):
                element = self.value(each, levels - 1) + tokens.BLANKS
                forms.append(rb"\[" + tokens.BLANKS + _list(element, rb"\]") + rb"\]")
        return rb"(?>" + rb"|".join(forms) + rb")"

    def member(self, node: JsonNode, levels: int) -> bytes | None:
        """A member of an object at `node` with the blanks behind it; None when none can be passed over."""
        colon = tokens.BLANKS + rb":" + tokens.BLANKS
        here = {name.encode() for name in node.names & self.rewrites.keys() if name not in self.doubtful}
        forms = []
        if here:
            forms.append(rb'"(?i:' + _any_of(here) + rb')"' + colon + _SCALAR)
        if _passes(node.other):
            forms.append(self._other_name(node) + colon + self.value(node.other, levels))
        return rb"(?>" + rb"|".join(forms) + rb")" + tokens.BLANKS if forms else None

    def _other_name(self, node: JsonNode) -> bytes:
        """A name that no mask treats apart. Where there are masks, only names of plain ASCII can be told apart here."""
        names = node.names | self.rewrites.keys() | self.doubtful
        if not names:
            return rb'"' + tokens.BODY + rb'"'
        known = {name.encode() for name in names if name.isascii()}
        but = rb"(?!(?i:" + _any_of(known) + rb')")' if known else rb""
        return rb'"' + but + _ASCII_BODY + rb'"'


def _list(item: bytes, close: bytes) -> bytes:
    """Items with commas between, or none. An item ends with the blanks behind it; it is written once, because patterns
    in patterns would grow too large.
    """
    either = rb"(?:," + tokens.BLANKS + rb"(?!" + close + rb")|(?=" + close + rb"))"
    return rb"(?:" + item + either + tokens.OR_NOTHING + rb")*+"


def _any_of(names: Iterable[bytes]) -> bytes:
    """Any of the names, beginnings that they share written once: so many names take no longer than their letters."""
    known = sorted(set(names))
    length = _shared(known[0], known[-1])
    shared = re.escape(known[0][:length])
    if len(known) == 1:
        return shared
    by_first: dict[bytes, list[bytes]] = {}
    for name in known:
        by_first.setdefault(name[length : length + 1], []).append(name[length:])
    return (
        shared
        + rb"(?:"
        + rb"|".join(_any_of(rests) for _, rests in sorted(by_first.items(), reverse=True))
        + rb")"
    )


def _shared(first: bytes, second: bytes) -> int:
    """How long the beginning is that both share."""
    pairs = zip(first, second, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
