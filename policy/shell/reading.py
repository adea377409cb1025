"""The commands of a text, read as dash, bash, zsh, ksh and busybox all read them.

This is the narrow one of two readings: plain POSIX grammar and little more, in the forms on which the shells agree.
Where the text leaves them, the reader raises Unreadable and keeps what it has found. `policy.shell.tree` is the wide
reading, and `policy.shell.agreement` compares the two. The depth of recursion is bounded by `tokens.MAX_DEPTH`.
"""

from __future__ import annotations

from collections.abc import Callable

from policy.shell.commands import RawCommand, Unreadable
from policy.shell.simple import SimpleReader, is_identifier
from policy.shell.tokens import RESERVED

MAX_PIPED = 100
# A bracket and a ";;" close from where they stand; reserved words only where a command could begin.
_BRACKET = frozenset((")",))
_TO_THE_END: frozenset[str] = frozenset()


class CommandReader(SimpleReader):
    """Reads one text, once."""

    def read(self) -> None:
        """Read all of the text. Raises Unreadable where it cannot go on."""
        self.lines()
        if self.pos < self.end:
            self._list(_TO_THE_END)
        if self._documents:
            raise Unreadable("it has a here-document without an end")

    # --- substitutions -----------------------------------------------------------------------------------------

    def substitution(self, start: int) -> int:
        """Read $( and its like, whose inside begins at `start`; where the text goes on behind it."""
        outer = self._enter(start)
        self.lines()
        if not self.at(b")"):
            self._list(_BRACKET)
        end = self.pos + 1
        self._leave(outer)
        return end

    def backquoted(self, start: int, end: int) -> None:
        """Read start..end as the inside of backquotes."""
        outer = self._enter(start)
        whole, self._words.end = self._words.end, end
        self.lines()
        if self.pos < end:
            self._list(_TO_THE_END)
        self._words.end = whole
        self._leave(outer)

    def _enter(self, start: int) -> int:
        if self._documents:
            raise Unreadable("it has a substitution between the name of a here-document and its text")
        outer, self.pos = self.pos, start
        self._substitutions += 1
        self.deeper()
        return outer

    def _leave(self, outer: int) -> None:
        self.pos = outer
        self._substitutions -= 1
        self.shallower()

    # --- lists and pipelines -----------------------------------------------------------------------------------

    def _list(self, closers: frozenset[str]) -> str:
        """Commands up to one of `closers`, or to the end if there are none. The closer is returned and not taken."""
        while True:
            self._and_or()
            has_ended = self._separator()
            if self.pos >= self.end:
                if closers:
                    raise Unreadable("it opens something that it does not close")
                return ""
            if self.at(b")") and ")" in closers:
                return ")"
            if self.at(b";;") and ";;" in closers:
                return ";;"
            if not has_ended:
                raise Unreadable("it has a command that goes on in an unexpected way")
            word = self.peek_reserved()
            if word in closers:
                return word

    def _separator(self) -> bool:
        """Take what ends a command, if it stands here: a line end, ";" or "&"."""
        self.blanks()
        self.comment()
        if self.at(b"\n"):
            self.lines()
            return True
        if self.at(b";;") or not self.at_any(b";&"):
            return False
        sign = self.data[self.pos : self.pos + 1]
        if self.data[self.pos + 1 : self.pos + 2] in (b";", b"&", b"|", b"!", b">"):
            raise Unreadable("it has an operator that shells may read differently")
        self.operator(sign)
        self.lines()
        return True

    def _and_or(self) -> None:
        self._pipeline()
        while True:
            self.blanks()
            if not (self.operator(b"&&") or self.operator(b"||")):
                return
            self.lines()
            self._pipeline()

    def _pipeline(self) -> None:
        if self.peek_reserved() == "!":
            self.take_reserved("!")
            self.blanks()
        for _ in range(MAX_PIPED):
            self._command()
            self.blanks()
            if self.at(b"||") or not (self.operator(b"|&") or self.operator(b"|")):
                return
            if self.at_any(b"&|"):
                raise Unreadable("it has an operator that shells may read differently")
            self.lines()
        raise Unreadable(f"it has a pipe of more than {MAX_PIPED} commands")

    # --- compound commands -------------------------------------------------------------------------------------

    def _command(self) -> None:
        if self.at(b"("):
            self._compound(self._subshell)
            return
        match self.peek_reserved():
            case "{":
                self._compound(self._group)
            case "if":
                self._compound(self._if)
            case "while" | "until":
                self._compound(self._loop)
            case "for":
                self._compound(self._for)
            case "case":
                self._compound(self._case)
            case "[[" | "time":
                self.simple_command()
            case word if word in RESERVED:
                raise Unreadable(f'it has "{word}" where a command should begin')
            case _:
                self.simple_command()

    def _compound(self, read: Callable[[], None]) -> None:
        """A compound command and its redirections, which stand as a command without words."""
        self.deeper()
        read()
        self.shallower()
        command = RawCommand(self.pos)
        self.blanks()
        while self.redirection(command):
            self.blanks()
        if command.redirects:
            self.add(command)

    def _subshell(self) -> None:
        self.pos += 1
        if self.at(b"("):
            raise Unreadable('it has a "((", which begins arithmetic in some shells')
        self.no_backslash()
        self.lines()
        self._list(_BRACKET)
        self.pos += 1

    def _group(self) -> None:
        self._block("{", "}")
        self.take_reserved("}")

    def _block(self, opening: str, *closers: str) -> str:
        """The commands behind the word `opening`, up to one of `closers`."""
        self.take_reserved(opening)
        self.lines()
        return self._list(frozenset(closers))

    def _if(self) -> None:
        self._block("if", "then")
        while (closer := self._block("then", "elif", "else", "fi")) == "elif":
            self._block("elif", "then")
        if closer == "else":
            self._block("else", "fi")
        self.take_reserved("fi")

    def _loop(self) -> None:
        self._block(self.peek_reserved(), "do")
        self._body()

    def _body(self) -> None:
        self._block("do", "done")
        self.take_reserved("done")

    def _for(self) -> None:
        self.take_reserved("for")
        self.blanks()
        name = self.word()
        if not (name.is_bare and is_identifier(name.text)):
            raise Unreadable("it has a loop over something else than a variable")
        self.assigned(name.text)
        self.lines()
        if self.peek_reserved() == "in":
            self.take_reserved("in")
            self._loop_list()
        if self.at(b";") and not self.at(b";;"):
            self.operator(b";")
        self.lines()
        self._body()

    def _loop_list(self) -> None:
        self.blanks()
        while self.pos < self.end and not self.at_any(b"\n;&|()#"):
            if self.peek_reserved() in RESERVED:
                raise Unreadable("it has a reserved word in the list of a loop")
            self.word()
            self.blanks()
        self.comment()
        if not self.at_any(b"\n;"):
            raise Unreadable("it has a loop whose list does not end as expected")

    def _case(self) -> None:
        if self._substitutions:
            raise Unreadable('it has a "case" inside a substitution')
        self.take_reserved("case")
        self.blanks()
        self.word()
        self.lines()
        self.take_reserved("in")
        self.lines()
        while self.peek_reserved() != "esac":
            self._pattern()
            self.lines()
            if not self.at(b";;") and self.peek_reserved() != "esac" and self._list(_CASE_CLOSERS) == "esac":
                break
            if not self.at(b";;"):
                break
            if self.data[self.pos + 2 : self.pos + 3] in (b"&", b"|", b";"):
                raise Unreadable("it has an operator that shells may read differently")
            self.operator(b";;")
            self.lines()
        self.take_reserved("esac")

    def _pattern(self) -> None:
        """What stands before the ")" of a branch."""
        while True:
            if self.peek_reserved() in RESERVED:
                raise Unreadable("it has a reserved word as a pattern")
            self.word()
            self.blanks()
            if self.operator(b"|"):
                continue
            if self.operator(b")"):
                return
            raise Unreadable("it has a pattern that shells may read differently")


_CASE_CLOSERS = frozenset((";;", "esac"))
