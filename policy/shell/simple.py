"""Simple commands: assignments, words and redirections up to an operator."""

from __future__ import annotations

import re

from policy.shell.commands import FileRedirect, RawCommand, ShellWord, Unreadable
from policy.shell.tokens import RESERVED, TokenReader

_ASSIGNMENT = re.compile(rb"([A-Za-z_][A-Za-z0-9_]*)=")
# Assignments that only bash knows, or zsh by its wider idea of a name.
_OTHER_ASSIGNMENT = re.compile(
    rb"[A-Za-z_][A-Za-z0-9_]*(?:\+=|\[)|[\w\x80-\xff]*[\x80-\xff][\w\x80-\xff]*\+?[=\[]"
)
_REDIRECT = re.compile(rb"([0-9]?)(<<<|<<-|<<|<>|<&|<(?!\()|>>|>&|>\||>(?!\()|(?<![0-9])&>>|(?<![0-9])&>)")
# Descriptors of more digits or by name: in some shells they are a word of the command.
_OTHER_DESCRIPTOR = re.compile(rb"(?:[0-9]{2,}|\{[A-Za-z_][A-Za-z0-9_]*\})[<>]")
_NUMERIC_GLOB = re.compile(rb"<[0-9]*-[0-9]*>")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_PATH = re.compile(r"[A-Za-z_./][\w./-]*")
_STREAM = re.compile(r"[0-9]|-")
# A name like this is an option, a job, a modifier or a pipe to some shell.
_ODD_NAME = re.compile(rb"[-+!%^{]|[^'\"$`]*\^")


def is_identifier(name: str) -> bool:
    return _IDENTIFIER.fullmatch(name) is not None


def _is_plain_test(command: RawCommand) -> bool:
    """Whether a [[ test has the form of a command with words, so that a shell without it reads the same."""
    return command.words[-1].text == "]]" and len(command.words) > 2 and not command.is_redirected


class SimpleReader(TokenReader):
    """Reads simple commands and redirections."""

    def simple_command(self) -> None:
        command = RawCommand(self.pos)
        self.add(command)
        while True:
            self.blanks()
            if self.redirection(command):
                continue
            if self.pos >= self.end or self.at_any(b"\n;&|()#"):
                break
            if command.words or not self._assignment(command):
                self._next_word(command)
        if self.at(b"("):
            raise Unreadable("it has a bracket where no command begins")
        if command.words and command.words[0].text == "[[" and not _is_plain_test(command):
            self.doubt("it has a [[ test, which shells read differently")
        if not (command.words or command.assignments):
            self._check_bare_redirections(command)

    def _check_bare_redirections(self, command: RawCommand) -> None:
        if not command.redirects and not command.is_redirected:
            raise Unreadable("it has an operator where a command should begin")
        if not self._substitutions and all(redirect.operator == "<" for redirect in command.redirects):
            self.doubt("it opens a file for reading without a command, for which zsh starts a pager")

    def _assignment(self, command: RawCommand) -> bool:
        match = _ASSIGNMENT.match(self.data, self.pos, self.end)
        if match is None:
            if _OTHER_ASSIGNMENT.match(self.data, self.pos, self.end) is not None:
                raise Unreadable("it has an assignment of a form that not all shells know")
            return False
        name = match[1].decode("ascii")
        command.assignments.append(name)
        self.assigned(name)
        self.value(match.end())
        if self.at(b"("):
            raise Unreadable("it has an array")
        return True

    def _next_word(self, command: RawCommand) -> None:
        word = self.word()
        command.words.append(word)
        if len(command.words) == 1:
            self._check_name(command, word)
        elif word.is_bare and word.text == "[[":
            raise Unreadable("it has a [[ test in an unexpected place")
        if self.at(b"("):
            raise Unreadable("it has a bracket directly behind a word")

    def _check_name(self, command: RawCommand, word: ShellWord) -> None:
        source = self.data[word.start : word.end]
        if (
            word.is_bare
            and word.text in RESERVED
            and (word.start > command.start or word.text not in ("[[", "time"))
        ):
            raise Unreadable("it has a reserved word behind an assignment or a redirection")
        if _ODD_NAME.match(source) is not None or (word.is_known and "=" in word.text):
            raise Unreadable("it has the name of a command that shells may read differently")

    # --- redirections ------------------------------------------------------------------------------------------

    def redirection(self, command: RawCommand) -> bool:
        """Take a redirection into `command` if one stands here."""
        match = _REDIRECT.match(self.data, self.pos, self.end)
        if match is None:
            if _OTHER_DESCRIPTOR.match(self.data, self.pos, self.end) is not None:
                raise Unreadable("it redirects a descriptor that shells may read differently")
            return False
        if _NUMERIC_GLOB.match(self.data, match.start(2), self.end) is not None:
            raise Unreadable("it has a redirection that zsh takes for a pattern")
        self.pos = match.end()
        self.no_backslash()
        if self.at_any(b"!&|<>") and not self.at(b"<(") and not self.at(b">("):
            raise Unreadable("it has a redirection that shells may read differently")
        self.blanks()
        operator = match[2].decode("ascii")
        if operator in ("<<", "<<-"):
            command.is_redirected = True
            self.here_document(strips_tabs=operator == "<<-")
            return True
        word = self.word()
        if operator == "<<<":
            command.is_redirected = True
        elif operator in ("<&", ">&"):
            self._duplication(command, operator, word)
        else:
            self._file(command, operator, word)
        if operator.startswith("&"):
            self._end_of_command()
        return True

    def _duplication(self, command: RawCommand, operator: str, word: ShellWord) -> None:
        """ "2>&1" and "3<&-" name no file; ">&file" does."""
        if word.is_bare and _STREAM.fullmatch(word.text):
            return
        if operator == "<&" or _PLAIN_PATH.fullmatch(word.text) is None or not word.is_known:
            raise Unreadable("it has a redirection that shells may read differently")
        self._file(command, operator, word)

    def _file(self, command: RawCommand, operator: str, word: ShellWord) -> None:
        command.is_redirected = True
        if not (word.is_known and word.text == "/dev/null"):
            command.redirects.append(FileRedirect(operator, word))

    def _end_of_command(self) -> None:
        """Behind "&>": where that is not known, the "&" ends the command and what follows begins another."""
        self.blanks()
        if self.pos < self.end and not self.at_any(b"\n;&|)#"):
            raise Unreadable('it has words behind "&>", which some shells take for a command of their own')
