"""A JSON document rewritten while it streams: bytes in, in whatever pieces, bytes out.

Theory of operation. The rewriter keeps a stack of the objects and arrays that are open, each with the `JsonNode` of
its place, and what the grammar expects next. Nothing is parsed into values: what stays is copied as it came, blanks,
escapes and digits included. Where runs of members or elements mean nothing to anybody, or only what they hold does, one
automaton passes over them (`json_runs`, `json_grammar`); the rest goes token by token. A token that is not complete
waits; a string that nothing becomes of does not wait, nor one that becomes a constant, nor a long one that is rewritten
as it comes. So memory is bounded by the depth and by `held_bytes`, whatever the length of the document or of a string.

Strict: RFC 8259 and UTF-8, one document, nothing behind it. A name that stands twice in one object leads to its node
each time, so whichever of the two a reader takes, it is the rewritten one. Raises RemoteProtocolError; what was
returned before stays good. Called by the masking of bodies. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, TypeAlias

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http import json_tokens as tokens
from protocols.http.json_cursor import JsonCursor, Passing, StringRewriter
from protocols.http.json_grammar import NESTED
from protocols.http.json_nodes import SETTLED, JsonNode, Rewrite, Rewriting
from protocols.http.json_runs import Run, become, runs_of, string_text

Cleaning: TypeAlias = Callable[[bytes, Counter[str]], bytes]

_LARGEST_RUN = 1 << 16
_LONG_STRING = 1 << 16

# What the grammar expects. Numbers, because they are compared for every token.
_VALUE: Final = 0
_VALUE_OR_END: Final = 1
_NAME: Final = 2
_NAME_OR_END: Final = 3
_COMMA_OR_END: Final = 4
_NOTHING: Final = 5  # the document is complete


class _Open:
    """An object or array that is open. index: of the next element."""

    __slots__ = ("index", "is_object", "node")

    def __init__(self, node: JsonNode, is_object: bool) -> None:
        self.node = node
        self.is_object = is_object
        self.index = 0


class JsonRewriter(JsonCursor):
    """One document. `root`: what becomes of it. counts: see JsonNode.

    name: what becomes of the name of a member (of any; None: nothing). clean: what becomes of a run by `name` and by
    rewrites that are `only_unclean`.
    """

    def __init__(
        self,
        root: JsonNode,
        *,
        depth: int,
        held_bytes: int,
        name: Rewriting | None = None,
        clean: Cleaning | None = None,
        counts: Counter[str] | None = None,
    ) -> None:
        super().__init__(held_bytes)
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._node = root  # of the value that is expected
        self._member_name = ""  # of that value
        self._depth = depth
        self._name = name
        self._clean = clean
        self._stack: list[_Open] = []
        self._expects: int = _VALUE
        self._dropped_above = 0  # the size of the stack at which what is dropped ends
        self._is_last = False

    def feed(self, data: bytes) -> bytes:
        """What can be sent by now. Raises RemoteProtocolError."""
        self._add(data)
        self._run()
        return self._taken()

    def finish(self) -> bytes:
        """The rest. Raises RemoteProtocolError when the document is not complete."""
        self._is_last = True
        self._run()
        is_complete = self._expects == _NOTHING and self._passing is Passing.NO
        if not is_complete or self._position != len(self._buffer):
            raise RemoteProtocolError("a JSON text that ends too early")
        return self._taken()

    # --- the grammar ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Deal with tokens until one is not complete."""
        buffer = self._buffer
        length = len(buffer)
        while True:
            if self._passing and not self._pass():
                return
            if not self._scanned and self._position < length and buffer[self._position] <= 0x20:
                self._position = tokens.blanks.match(buffer, self._position).end()  # type: ignore[union-attr]
            if self._position == length:
                return
            expects = self._expects
            if expects == _COMMA_OR_END:
                self._comma_or_end()
            elif expects <= _VALUE_OR_END:
                if not self._element():
                    return
            elif expects != _NOTHING:
                if not self._member():
                    return
            else:
                raise RemoteProtocolError("a JSON text with something behind it")

    def _comma_or_end(self) -> None:
        character = self._buffer[self._position]
        here = self._stack[-1]
        if character == 0x2C:
            self._position += 1
            self._expects = _NAME if here.is_object else _VALUE
        elif character == (0x7D if here.is_object else 0x5D):
            self._close()
        else:
            raise RemoteProtocolError("a JSON text with a comma or bracket missing")

    def _close(self) -> None:
        self._stack.pop()
        self._position += 1
        if self._is_dropping and self._dropped_above == len(self._stack):
            self._is_dropping = False
            self._mark = self._position
        self._value_ended()

    def _value_ended(self) -> None:
        self._expects = _COMMA_OR_END if self._stack else _NOTHING

    def _element(self) -> bool:
        """A value, or the end of an array that is empty. False when it is not complete."""
        if self._expects == _VALUE_OR_END and self._buffer[self._position] == 0x5D:
            self._close()
            return True
        if not self._stack:
            if (
                not self._scanned
                and self._buffer[self._position] in b"{["
                and self._pass_run(runs_of(self._node).whole)
            ):
                self._expects = _NOTHING
                return True
            return self._value()
        here = self._stack[-1]
        if here.is_object:
            return self._value()
        if not self._scanned and self._pass_run(runs_of(here.node).elements):
            self._expects = _VALUE
            return True
        self._member_name = ""
        each = here.node.any_element
        self._node = here.node.element(here.index) if each is None else each
        if not self._value():
            return False
        here.index += 1
        return True

    def _member(self) -> bool:
        """A name and its colon, or the end of an object that is empty. False when it is not complete."""
        here = self._stack[-1]
        if self._buffer[self._position] == 0x7D and self._expects == _NAME_OR_END:
            self._close()
            return True
        if not self._scanned and self._pass_run(runs_of(here.node).members):
            self._expects = _NAME
            return True
        if self._buffer[self._position] != 0x22:
            raise RemoteProtocolError("a JSON text with a name missing")
        end = self._end_of_string()
        if end is None:
            return False
        colon = tokens.blanks.match(self._buffer, end)
        after = end if colon is None else colon.end()
        if after == len(self._buffer):
            return False
        if self._buffer[after] != 0x3A:
            raise RemoteProtocolError("a JSON text with a colon missing")
        self._enter_member(here.node, end)
        self._position = after + 1
        self._expects = _VALUE
        self._scanned = 0
        return True

    def _enter_member(self, node: JsonNode, end: int) -> None:
        if node is SETTLED and self._name is None:
            self._node = node
            return
        name = string_text(self._buffer[self._position : end])
        self._member_name = name
        self._node = node.member(name)
        if self._name is not None and not self._is_dropping:
            self._replace(end, self._name(name, self.counts, ""))

    # --- runs -------------------------------------------------------------------------------------------------

    def _pass_run(self, run: Run | None) -> bool:
        """Deal with a run that begins at the position. False when there is none."""
        if run is None or len(self._stack) + NESTED > self._depth:
            return False
        limit = len(self._buffer)
        if self._clean is not None:
            limit = min(limit, self._position + _LARGEST_RUN)
        found = run.pattern.match(self._buffer, self._position, limit)
        if found is None:
            return False
        end = found.end()
        if run.masked is None and (self._clean is None or self._is_dropping):
            self._position = end
            return True
        before = self._buffer[self._position : end]
        after = run.rewritten(before, self.counts)
        if self._clean is not None and not self._is_dropping:
            after = self._clean(after, self.counts)
        self._replace(end, None if after is before else after)
        return True

    # --- values -----------------------------------------------------------------------------------------------

    def _value(self) -> bool:
        """The value at the position. False when it is not complete."""
        character = self._buffer[self._position]
        if character == 0x22:
            return self._string()
        if character in b"{[":
            self._open(character == 0x7B)
            return True
        if character in b"-0123456789":
            return self._number()
        return self._literal()

    def _open(self, is_object: bool) -> None:
        if len(self._stack) >= self._depth:
            raise LimitExceeded(f"a JSON text nested deeper than {self._depth}")
        rewrite = self._node.rewrite
        constant = None if rewrite is None else rewrite.object if is_object else rewrite.array
        if rewrite is not None and constant is not None and not self._is_dropping:
            self._constant(self._position + 1, constant, rewrite)
            self._is_dropping = True
            self._dropped_above = len(self._stack)
            self._node = SETTLED
        else:
            self._position += 1
        self._stack.append(_Open(self._node, is_object))
        self._expects = _NAME_OR_END if is_object else _VALUE_OR_END

    def _number(self) -> bool:
        found = tokens.part_of_number.match(self._buffer, self._position)
        end = self._position if found is None else found.end()
        if end == len(self._buffer) and not self._is_last:
            return False
        if tokens.number.fullmatch(self._buffer, self._position, end) is None:
            raise RemoteProtocolError("a JSON text with a number that is none")
        self._become(end)
        self._value_ended()
        return True

    def _literal(self) -> bool:
        found = tokens.literal.match(self._buffer, self._position)
        if found is None:
            rest = self._buffer[self._position : self._position + 5]
            if not self._is_last and any(word.startswith(rest) for word in (b"true", b"false", b"null")):
                return False
            raise RemoteProtocolError("a JSON text with a word that is none of its own")
        self._become(found.end())
        self._value_ended()
        return True

    def _become(self, end: int) -> None:
        """Deal with a number or word that ends at `end`."""
        rewrite = self._node.rewrite
        token = None
        if rewrite is not None and not self._is_dropping:
            token = become(self._buffer[self._position : end], rewrite, self.counts, self._member_name)
        self._replace(end, token)

    def _constant(self, end: int, token: bytes | None, rewrite: Rewrite) -> None:
        if token is not None:
            self.counts[rewrite.name] += 1
        self._replace(end, token)

    # --- strings ----------------------------------------------------------------------------------------------

    def _string(self) -> bool:
        rewriting, constant = self._fate()
        if rewriting is None:
            if constant is not None and self._node.rewrite is not None:
                self._constant(self._position + 1, constant, self._node.rewrite)
                self._passing = Passing.DROP
            else:
                self._position += 1
                self._passing = Passing.KEEP
            self._value_ended()
            return True
        if self._node.rewrite is None and not self._scanned:  # held only where it may be a document
            begins = self._begins_document()
            if begins is None:
                return False
            if not begins:
                self._position += 1
                self._passing = Passing.KEEP
                self._value_ended()
                return True
        end = self._end_of_string()
        if end is None:
            rewriter = self._rewriter_of_long()
            if rewriter is None:
                return False
            self._rewrite_string(rewriter)
            self._value_ended()
            return True
        self._scanned = 0
        self._replace(
            end, rewriting(string_text(self._buffer[self._position : end]), self.counts, self._member_name)
        )
        self._value_ended()
        return True

    def _fate(self) -> tuple[Rewriting | None, bytes | None]:
        """What becomes of a string here: to be worked out from all of it, or a constant, or nothing."""
        node = self._node
        rewrite = node.rewrite
        if self._is_dropping:
            return None, None
        if rewrite is not None and not rewrite.only_unclean:
            return (
                (None, rewrite.constant_string)
                if rewrite.constant_string is not None
                else (rewrite.string, None)
            )
        if node.document is not None:
            return node.document, None
        return (None if rewrite is None else rewrite.string), None

    def _rewriter_of_long(self) -> StringRewriter | None:
        """For the string at the position, which has not ended: None while it is held."""
        rewrite = self._node.rewrite
        if rewrite is None or rewrite.long_string is None or self._scanned - self._position <= _LONG_STRING:
            return None
        if self._node.document is not None and self._begins_document() is not False:
            return None
        return rewrite.long_string(self.counts)
