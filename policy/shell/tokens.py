"""The tokens of a text: blanks, comments, line ends, operators, words, and the here-documents behind a line."""

from __future__ import annotations

import re

from policy.shell.commands import RawCommand, ShellWord, Unreadable
from policy.shell.names import names
from policy.shell.variables import is_special
from policy.shell.words import WordReader

# Commands inside one another: groups, loops, substitutions. Every level costs some frames of Python's stack.
MAX_DEPTH = 30
MAX_WORDS = 4_000
MAX_COMMANDS = 1_000

_BLANKS = re.compile(rb"(?:[ \t]+|\\\n)*")
_RESERVED_FORM = re.compile(rb"(?:[a-z]+|[{}!]|\[\[)(?=[ \t\n;&|<>()]|\Z)")
_ENDS_WORD = re.compile(rb"[ \t\n;&|<>()]|\Z")
_DELIMITER = re.compile(rb"([\w.-]{1,64})|'([\w.-]{1,64})'|\"([\w.-]{1,64})\"|\\([\w.-]{1,64})", re.ASCII)

_CLOSING = frozenset(("then", "elif", "else", "fi", "do", "done", "esac", "}", "in"))
_OPENING = frozenset(("if", "while", "until", "for", "case", "{", "!"))
# Reserved in one shell and the name of a command in another.
_CONTESTED = names("""
    function select coproc foreach end repeat nocorrect noglob always namespace [[ time
    """)
RESERVED = _CLOSING | _OPENING | _CONTESTED


class TokenReader:
    """A place in one text and what was found up to it. The layers above say what the tokens mean.

    commands, doubts: what was found, kept when the reading stops.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pos = 0
        self.commands: list[RawCommand] = []
        self.doubts: list[str] = []
        self._words = WordReader(data, self)
        self._word_count = 0
        self._depth = 0
        self._substitutions = 0  # how many of the levels are substitutions
        self._documents: list[
            tuple[bytes, bool, bool]
        ] = []  # whose lines come next: delimiter, expands, strips tabs

    # --- what the reader of words asks -------------------------------------------------------------------------

    def substitution(self, start: int) -> int:
        raise NotImplementedError

    def backquoted(self, start: int, end: int) -> None:
        raise NotImplementedError

    def assigned(self, name: str) -> None:
        if is_special(name):
            self.doubt(f"it sets {name}, which may change what commands do")

    # --- places ------------------------------------------------------------------------------------------------

    @property
    def texts(self) -> list[tuple[int, int]]:
        """The places that hold nothing but text: in quotes, in comments, in here-documents."""
        return self._words.texts

    @property
    def end(self) -> int:
        return self._words.end

    def at(self, token: bytes) -> bool:
        return self.data.startswith(token, self.pos, self.end)

    def at_any(self, chars: bytes) -> bool:
        return self.pos < self.end and self.data[self.pos] in chars

    def doubt(self, reason: str) -> None:
        self.doubts.append(reason)

    def add(self, command: RawCommand) -> None:
        self.commands.append(command)
        if len(self.commands) > MAX_COMMANDS:
            raise Unreadable(f"it holds more than {MAX_COMMANDS} commands")

    def deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable(f"its commands are nested more than {MAX_DEPTH} deep")

    def shallower(self) -> None:
        self._depth -= 1

    # --- tokens ------------------------------------------------------------------------------------------------

    def blanks(self) -> None:
        match = _BLANKS.match(self.data, self.pos, self.end)
        if match is not None:
            self.pos = match.end()

    def operator(self, token: bytes) -> bool:
        """Take an operator if it stands here, with the blanks behind it."""
        if not self.at(token):
            return False
        self.pos += len(token)
        self.no_backslash()
        self.blanks()
        return True

    def no_backslash(self) -> None:
        """A line break that the shells take out could join what stands here with what follows."""
        if self.at(b"\\\n"):
            raise Unreadable("it has a line break directly behind an operator or a reserved word")

    def lines(self) -> None:
        """Take blanks, comments and line ends, with the here-documents that begin there."""
        while True:
            self.blanks()
            self.comment()
            if not self.at(b"\n"):
                return
            self.pos += 1
            if self._documents:
                self._read_documents()

    def comment(self) -> None:
        """Take a comment if one stands here."""
        if not self.at(b"#"):
            return
        if self._substitutions or (self.pos and self.data[self.pos - 1] not in b" \t\n;"):
            raise Unreadable("it has a comment where shells may not see one")
        end = self.data.find(b"\n", self.pos, self.end)
        start, self.pos = self.pos, self.end if end < 0 else end
        self.texts.append((start + 1, self.pos))

    def peek_reserved(self) -> str:
        """The word here if it has the form of a reserved word, or an empty text."""
        match = _RESERVED_FORM.match(self.data, self.pos, self.end)
        return "" if match is None else match.group().decode("ascii")

    def take_reserved(self, *expected: str) -> None:
        word = self.peek_reserved()
        if word not in expected:
            raise Unreadable(f'it misses a "{expected[0]}"')
        self.pos += len(word)
        self.no_backslash()

    def word(self) -> ShellWord:
        """Take the word here, or a process substitution that stands for one."""
        start = self.pos
        if self.at(b"<(") or self.at(b">("):
            end = self.substitution(start + 2)
            source = self.data[start:end].decode("utf-8", "replace")
            word = ShellWord(start, end, source, is_known=False, head="/dev/fd/")
        else:
            word = self._words.word(start)
            end = word.end
            if end == start:
                raise Unreadable("it has an operator where a word should stand")
            if self.data.startswith((b"<(", b">("), end):
                raise Unreadable("it has a process substitution inside a word")
        if _ENDS_WORD.match(self.data, end, self.end) is None:
            raise Unreadable("it has a word directly behind a process substitution")
        self.pos = end
        self._count_word(start)
        return word

    def value(self, start: int) -> None:
        """Take what is assigned from `start` on."""
        self.pos = self._words.value(start)
        self._count_word(start)

    def _count_word(self, start: int) -> None:
        if self._documents and self.data.find(b"\n", start, self.pos) >= 0:
            raise Unreadable("it has a line break in quotes between the name of a here-document and its text")
        self._word_count += 1
        if self._word_count > MAX_WORDS:
            raise Unreadable(f"it holds more than {MAX_WORDS} words")

    # --- here-documents ----------------------------------------------------------------------------------------

    def here_document(self, *, strips_tabs: bool) -> None:
        """At the delimiter of a here-document; its text is read at the end of this line."""
        if self._substitutions:
            raise Unreadable("it has a here-document inside a substitution")
        match = _DELIMITER.match(self.data, self.pos, self.end)
        if match is None or _ENDS_WORD.match(self.data, match.end(), self.end) is None:
            raise Unreadable("it has a here-document whose delimiter is not a plain word")
        self._documents.append((match[match.lastindex or 0], match.lastindex == 1, strips_tabs))
        self.pos = match.end()

    def _read_documents(self) -> None:
        documents, self._documents = self._documents, []
        for delimiter, expands, strips_tabs in documents:
            start = self.pos
            tabs = rb"\t*" if strips_tabs else b""
            closing = re.compile(rb"^" + tabs + re.escape(delimiter) + rb"(?:\n|\Z)", re.MULTILINE)
            match = closing.search(self.data, start, self.end)
            if match is None:
                raise Unreadable("it has a here-document without an end")
            if expands:
                self._words.document(start, match.start())
            else:
                self.texts.append((start, match.start()))
            self.pos = match.end()

    def unread_documents(self) -> bool:
        return bool(self._documents)
