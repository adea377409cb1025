"""One word of a command: where it ends, what quote removal makes of it, whether a shell could make it anything else.

The reader knows the forms of quoting and expansion that dash, bash, zsh, ksh and busybox read alike, and raises
Unreadable at any other. Commands inside a substitution are read by its owner (`CommandReader`), through `Inside`.
"""

from __future__ import annotations

import re
from typing import Protocol

from policy.shell.commands import ShellWord, Unreadable

MAX_EXPANSIONS = 2_000
# What ends a word.
METACHARACTERS = b" \t\n;&|<>()"

_PLAIN_WORD = re.compile(rb"[A-Za-z0-9_./:,@%+\-][A-Za-z0-9_./:,@%+=\-]*(?=[ \t\n;&|<>)]|\Z)")
_PLAIN_RUN = re.compile(rb"[A-Za-z0-9_./:,@%+\-\]!^#\x80-\xff]+")
_DOUBLE_QUOTED_RUN = re.compile(rb"[^\"\\$`]+")
_TEST = re.compile(rb"\[\[?(?=[ \t\n;&|<>()]|\Z)")
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_BRACED = re.compile(rb"\{(?:#?(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+)|[@*#?$!-])\}")
_BRACED_WITH_OPERAND = re.compile(rb"\{([A-Za-z_][A-Za-z0-9_]*|[0-9]+)(:?[-=+?]|##?|%%?)")
# No blanks: unquoted they would be read as the end of a word by some. No quotes: their meaning here differs.
_OPERAND_RUN = re.compile(rb"[A-Za-z0-9_./:,@%+=*?-]+")
_NUMBERS_ONLY = re.compile(rb"\(\((?:[0-9 \t+*/%-]|\$[#?])*\)\)")
# What would be a length or a flag in zsh.
_AFTER_NUMBER_SIGN = re.compile(rb"[A-Za-z0-9_@*?$!{#\[-]")
# A dollar sign in front of these is a dollar sign in every shell. Inside double quotes and out of them.
_AFTER_LONE_DOLLAR = frozenset(b' \t\n"|)/.,:%;&')
_AFTER_BARE_DOLLAR = frozenset(METACHARACTERS + b"/.,")
_ESCAPED_IN_DOUBLE_QUOTES = frozenset(b'$`"\\')
_BACKSLASH = 0x5C
_DOUBLE_QUOTE = 0x22
_DOLLAR = 0x24
_NEWLINE = 0x0A


class Inside(Protocol):
    """Who reads the commands of a substitution."""

    def substitution(self, start: int) -> int:
        """Read the commands that begin at `start` up to a ")"; where the text goes on behind it."""

    def backquoted(self, start: int, end: int) -> None:
        """Read all of start..end as commands."""

    def assigned(self, name: str) -> None:
        """Hear that an expansion may set this variable."""


class _Growing:
    """A word while it is read."""

    __slots__ = ("head", "is_bare", "is_known", "is_number", "is_single", "text")

    def __init__(self) -> None:
        self.text = bytearray()
        self.head: bytes | None = None
        self.is_known = True
        self.is_single = True
        self.is_bare = True
        self.is_number = True

    def unknown(self, *, is_single: bool, is_number: bool = False) -> None:
        if self.is_known:
            self.head = bytes(self.text)
        self.is_known = False
        self.is_bare = False
        self.is_number = self.is_number and is_number
        self.is_single = self.is_single and is_single


class WordReader:
    """Reads words of data[:end]. `end` moves while the inside of a backquote is read."""

    __slots__ = ("_expansions", "data", "end", "inside", "texts")

    def __init__(self, data: bytes, inside: Inside) -> None:
        self.data = data
        self.end = len(data)
        self.inside = inside
        self._expansions = 0
        self.texts: list[tuple[int, int]] = []  # what stands in quotes and is nothing but text

    def word(self, start: int) -> ShellWord:
        """The word that begins at `start`, where neither a blank nor an operator stands (else the word is empty)."""
        plain = _PLAIN_WORD.match(self.data, start, self.end)
        if plain is not None:
            text = plain.group().decode("ascii")
            return ShellWord(start, plain.end(), text, True, True, text, True)
        return self._finished(start, *self._grow(start))

    def value(self, start: int) -> int:
        """Read what is assigned at `start`; where it ends."""
        return self._grow(start)[0]

    def document(self, start: int, end: int) -> None:
        """Read the expansions in the text of a here-document."""
        whole, self.end = self.end, end
        self._quoted(start, _Growing(), is_document=True)
        self.end = whole

    def _finished(self, start: int, end: int, growing: _Growing) -> ShellWord:
        if growing.is_known:
            text = growing.text.decode("utf-8", "replace")
            return ShellWord(start, end, text, True, True, text, growing.is_bare)
        head = (growing.head or b"").decode("utf-8", "replace")
        source = self.data[start:end].decode("utf-8", "replace")
        is_number = growing.is_number and not growing.text.strip(b"0123456789")
        return ShellWord(start, end, source, False, growing.is_single, head, False, is_number)

    def _grow(self, start: int) -> tuple[int, _Growing]:
        data, end = self.data, self.end
        growing = _Growing()
        pos = start
        braces = 0
        while pos < end:
            run = _PLAIN_RUN.match(data, pos, end)
            if run is not None:
                self._add_bare(growing, run.group())
                pos = run.end()
                continue
            char = data[pos]
            if char in METACHARACTERS:
                break
            match chr(char):
                case "'":
                    pos = self._single_quoted(pos, growing)
                case '"':
                    growing.is_bare = False
                    pos = self._quoted(pos + 1, growing, is_document=False)
                case "\\":
                    pos = self._escaped(pos, growing)
                case "$":
                    pos = self._dollar(pos, growing, is_quoted=False)
                case "`":
                    pos = self._backquote(pos, growing, is_quoted=False)
                case "~":
                    # Expanded at the front everywhere; behind "=" and ":" in assignments, in bash also in what looks
                    # like one. A home directory begins with a slash; where there is none the tilde stays.
                    is_expanded = not growing.text or data[pos - 1] in b"=:"
                    growing.text += b"~"
                    if is_expanded:
                        growing.unknown(is_single=True)
                    pos += 1
                case "=":
                    # zsh: =name is the path of a command.
                    if not growing.text and not self._ends_at(pos + 1):
                        growing.unknown(is_single=True)
                    growing.text += b"="
                    pos += 1
                case "{":
                    pos, braces = self._open_brace(start, pos, braces, growing)
                case "}":
                    braces -= 1
                    if braces < 0:
                        raise Unreadable('it has a "}" that was not opened, which zsh reads differently')
                    growing.text += b"}"
                    pos += 1
                case "*" | "?" | "[":
                    if pos == start and (test := _TEST.match(data, pos, end)) is not None:
                        growing.text += test.group()
                        pos = test.end()
                        continue
                    growing.unknown(is_single=False)
                    growing.text.append(char)
                    pos += 1
                case _:
                    raise Unreadable("it has a character outside quotes that shells may read differently")
        return pos, growing

    def _ends_at(self, pos: int) -> bool:
        return pos >= self.end or self.data[pos] in METACHARACTERS

    def _open_brace(self, start: int, pos: int, braces: int, growing: _Growing) -> tuple[int, int]:
        """{} is what find and xargs know, and never expanded; neither is { alone. Anything else may be."""
        if not braces and self.data.startswith(b"{}", pos, self.end):
            growing.text += b"{}"
            return pos + 2, braces
        if not (pos == start and self._ends_at(pos + 1)):
            growing.unknown(is_single=False)
        growing.text += b"{"
        return pos + 1, braces + 1

    def _add_bare(self, growing: _Growing, run: bytes) -> None:
        if not run.isascii() and not run.decode("utf-8", "replace").isprintable():
            raise Unreadable("it has a space or format character of Unicode outside quotes")
        growing.text += run

    def _single_quoted(self, pos: int, growing: _Growing) -> int:
        close = self.data.find(b"'", pos + 1, self.end)
        if close < 0:
            raise Unreadable("it has a single quote that is not closed")
        growing.is_bare = False
        growing.text += self.data[pos + 1 : close]
        self.texts.append((pos + 1, close))
        return close + 1

    def _escaped(self, pos: int, growing: _Growing) -> int:
        if pos + 1 >= self.end:
            raise Unreadable("it ends in a backslash")
        if self.data[pos + 1] == _NEWLINE:
            if pos + 2 < self.end and self.data[pos + 2] not in b" \t":
                raise Unreadable("it has a word that goes on over a line break")
            return pos + 2
        growing.is_bare = False
        growing.text.append(self.data[pos + 1])
        return pos + 2

    def _quoted(self, pos: int, growing: _Growing, *, is_document: bool) -> int:
        """Inside double quotes up to the closing one; or a here-document, where they are text, up to `end`."""
        data, end = self.data, self.end
        while pos < end:
            if (run := _DOUBLE_QUOTED_RUN.match(data, pos, end)) is not None:
                growing.text += run.group()
                self.texts.append(run.span())
                pos = run.end()
                continue
            char = data[pos]
            start = pos
            if char == _DOUBLE_QUOTE:
                pos += 1
                if not is_document:
                    return pos
                growing.text.append(char)
            elif char == _BACKSLASH:
                pos = self._escaped_in_quotes(pos, growing, is_document=is_document)
            elif char == _DOLLAR:
                pos = self._dollar(pos, growing, is_quoted=True)
            else:
                pos = self._backquote(pos, growing, is_quoted=True)
            if is_document and data.find(b"\n", start, pos) >= 0:
                raise Unreadable("it has a here-document in which something goes on over a line end")
        if not is_document:
            raise Unreadable("it has a double quote that is not closed")
        return pos

    def _escaped_in_quotes(self, pos: int, growing: _Growing, *, is_document: bool) -> int:
        if pos + 1 >= self.end:
            raise Unreadable("it ends in a backslash")
        following = self.data[pos + 1]
        if following == _NEWLINE:
            return pos + 2  # in a here-document the caller stops at this
        elif following in _ESCAPED_IN_DOUBLE_QUOTES:
            growing.text.append(following)
        else:
            growing.text += self.data[pos : pos + 2]
        return pos + 2

    def _dollar(self, pos: int, growing: _Growing, *, is_quoted: bool) -> int:
        """At a dollar sign; where the word goes on behind what it begins."""
        self._count_expansion()
        data = self.data
        following = data[pos + 1] if pos + 1 < self.end else _NEWLINE
        after = pos + 2
        if following in (_AFTER_LONE_DOLLAR if is_quoted else _AFTER_BARE_DOLLAR) and following != 0x28:
            growing.text += b"$"
            return pos + 1
        is_number = False
        is_single = is_quoted
        if (name := _NAME.match(data, pos + 1, self.end)) is not None:
            after = name.end()
        elif following == 0x28:
            after, is_number = self._substitution(pos)
            is_single = is_quoted or is_number
        elif following == 0x7B:
            after, is_number, never_splits = self._braced(pos)
            is_single = (is_quoted and never_splits) or is_number
        elif following in b"0123456789-*":
            pass
        elif following == 0x40:
            is_single = False
        elif following in b"?$!#":
            is_number = is_single = True
            if following == 0x23 and _AFTER_NUMBER_SIGN.match(data, after, self.end):
                raise Unreadable('it has "$#" with a name behind it, which zsh reads differently')
        elif following in b"'\"" and not is_quoted:
            return self._dollar_quoted(pos, growing)
        else:
            raise Unreadable("it has a dollar sign that shells may read differently")
        if after < self.end and (data[after] == 0x5B or data[after] >= 0x80) and following not in b"({":
            raise Unreadable(
                "it has a variable with a subscript or letter behind it, which zsh reads differently"
            )
        growing.unknown(is_single=is_single, is_number=is_number)
        return after

    def _substitution(self, pos: int) -> tuple[int, bool]:
        """$( or $((; where it ends, and whether it gives a number."""
        if self.data.startswith(b"$((", pos, self.end):
            numbers = _NUMBERS_ONLY.match(self.data, pos + 1, self.end)
            if numbers is None:
                raise Unreadable(
                    "it has arithmetic with more than numbers, which may run what a variable holds"
                )
            return numbers.end(), True
        return self.inside.substitution(pos + 2), False

    def _braced(self, pos: int) -> tuple[int, bool, bool]:
        """${; where it ends, whether it gives a number, whether it stays one word inside double quotes."""
        simple = _BRACED.match(self.data, pos + 1, self.end)
        if simple is not None:
            inner = simple.group()[1:-1]
            return simple.end(), inner[:1] in (b"#", b"?", b"$", b"!"), inner != b"@"
        form = _BRACED_WITH_OPERAND.match(self.data, pos + 1, self.end)
        if form is None:
            raise Unreadable("it has an expansion of a form that shells may read differently")
        if form.group(2) in (b"=", b":="):
            self.inside.assigned(form.group(1).decode("ascii"))
        at = form.end()
        operand = _Growing()
        while at < self.end:
            if (run := _OPERAND_RUN.match(self.data, at, self.end)) is not None:
                at = run.end()
            elif self.data[at] == 0x7D:
                return at + 1, False, operand.is_known
            elif self.data[at] == _DOLLAR:
                at = self._dollar(at, operand, is_quoted=True)
            else:
                break
        raise Unreadable("it has an expansion whose operand shells may read differently")

    def _dollar_quoted(self, pos: int, growing: _Growing) -> int:
        """$'..' and $"..": another text in dash, and only without backslashes and dollars the same end."""
        quote = self.data[pos + 1 : pos + 2]
        close = self.data.find(quote, pos + 2, self.end)
        content = self.data[pos + 2 : close]
        if close < 0 or any(char in content for char in b"\\$`"):
            raise Unreadable("it has a quote behind a dollar sign, which not all shells know")
        growing.unknown(is_single=True)
        return close + 1

    def _count_expansion(self) -> None:
        self._expansions += 1
        if self._expansions > MAX_EXPANSIONS:
            raise Unreadable(f"it holds more than {MAX_EXPANSIONS} expansions")

    def _backquote(self, pos: int, growing: _Growing, *, is_quoted: bool) -> int:
        self._count_expansion()
        close = self.data.find(b"`", pos + 1, self.end)
        content = self.data[pos + 1 : close]
        if close < 0 or b"\\" in content or (is_quoted and b'"' in content):
            raise Unreadable("it has quotes or backslashes inside backquotes")
        self.inside.backquoted(pos + 1, close)
        growing.unknown(is_single=is_quoted)
        return close + 1
