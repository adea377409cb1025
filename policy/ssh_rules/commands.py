"""Patterns for commands: `exec: ["git-upload-pack *"]`. One pattern is one simple command, word by word.

Words are split at blanks and quoted as in a shell. `*` inside a word is any run of characters; a last word that
is `*` alone is any number of words, also none; `*` as the only word is every command.

Two questions, see `policy.rules`. Touching asks whether the pattern may be meant: a name without `/` means the
command under any path, and a word that is not known may become any words. Covering asks what is certain: a name
without `/` is that bare name only, one with `/` that path only. Called by `policy.ssh_rules.rule`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence

from policy.facts import SimpleCommand, Word
from policy.narrowing import Need
from policy.patterns import Glob, PatternError

# Linear: each alternative begins with another character. What is left over ("bad") cannot be in a known word.
_TOKEN = re.compile(
    r"""
    (?P<blank>[ \t]+)
    | '(?P<single>[^']*)'
    | "(?P<double>(?:[^"\\$`]|\\.)*)"
    | \\(?P<escaped>.)
    | (?P<stars>\*+)
    | (?P<plain>[^\s'"\\*;|&<>()$`?\[]+)
    | (?P<bad>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_DOUBLE_ESCAPE = re.compile(r'\\(["\\$`])')
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_RESERVED = frozenset({"if", "for", "while", "until", "case", "select", "function", "!", "{"})
WORD = "word"
_NOT_NORMAL = frozenset({"", ".", ".."})
_PROGRAMS = ("bin", "sbin")


class CommandPattern:
    """One pattern. `is_any`: every command there is ("*")."""

    __slots__ = ("_first", "_first_parts", "_is_open", "_rest", "is_any", "text")

    def __init__(self, text: str) -> None:
        """Raises PatternError."""
        self.text = text
        words = _words(text)
        self._is_open = words[-1].is_any
        if self._is_open:
            words.pop()
        self.is_any = not words
        self._first = words[0].glob if words else Glob("*")
        self._first_parts = words[0].path_parts() if words else ()
        self._rest = tuple(word.glob for word in words[1:])

    @property
    def has_one_word(self) -> bool:
        """It means a command without arguments only."""
        return not self._rest and not self._is_open

    # --- for the index: what stands where, of everything that it matches ---

    def needs_to_touch(self) -> dict[Hashable, Need]:
        return self._needs(self.base)

    def needs_to_cover(self) -> dict[Hashable, Need]:
        return self._needs(self._first)

    def _needs(self, first: Glob) -> dict[Hashable, Need]:
        words = () if self.is_any else (first, *self._rest)
        return {(WORD, index): (glob,) for index, glob in enumerate(words) if not glob.is_any}

    @property
    def words(self) -> tuple[Glob, ...]:
        """() for every command."""
        return () if self.is_any else (self._first, *self._rest)

    @property
    def base(self) -> Glob:
        """What the command is called, without the path that the pattern may ask for."""
        return self._first_parts[-1] if self._first_parts else self._first

    # --- touching: deny and hold ---

    def touches(self, command: SimpleCommand) -> bool:
        """Could this command be one that the pattern means?"""
        if self.is_any:
            return True
        if not command.words:
            return False
        first = command.words[0]
        if not first.is_known:
            return True  # it may become any command, with words before these
        return self._may_name(first.text) and self._may_go_on(command.words[1:])

    def _may_name(self, name: str) -> bool:
        parts = self._first_parts
        if not (parts[-1] if parts else self._first).matches(base_name(name)):
            return False
        if not parts or "/" not in name:
            return True  # any path will do; or a bare name, which may be found at this path
        given = name.split("/")
        if given[0] != "" or parts[0].literal != "" or any(part in _NOT_NORMAL for part in given[1:]):
            return True  # relative, or not normal: it may lead there
        return any(_fit(parts, other) for other in _same_places(given))

    def _may_go_on(self, words: Sequence[Word]) -> bool:
        """Could these be the words behind the name? Follows every number of pattern words used up so far."""
        end = len(self._rest)
        if not self._is_open and sum(word.is_known for word in words) > end:
            return False
        used = {0}
        for word in words:
            if self._is_open and end in used:
                return True
            if not word.is_known:
                used = set(range(min(used), end + 1))
                continue
            used = {count + 1 for count in used if count < end and self._rest[count].matches(word.text)}
            if not used:
                return False
        return end in used

    # --- covering: allow ---

    def covers(self, command: SimpleCommand) -> bool:
        """Are the command's words inside the pattern, for certain? Assignments and redirections aside."""
        if self.is_any:
            return True
        words = command.words
        if not words or not words[0].is_known or not self._is_name(words[0].text):
            return False
        given = words[1:]
        if len(given) < len(self._rest) or (len(given) > len(self._rest) and not self._is_open):
            return False
        return all(
            word.is_known and glob.matches(word.text) and not _climbs(glob, word.text)
            for glob, word in zip(self._rest, given, strict=False)
        )

    def _is_name(self, name: str) -> bool:
        if self._first_parts:
            return _fit(self._first_parts, name.split("/"))
        return "/" not in name and self._first.matches(name)

    def is_wider(self, other: CommandPattern) -> bool:
        """Does it touch whatever `other` covers? May say False where it is hard to tell."""
        if self.is_any:
            return True
        if other.is_any or (other._is_open and not self._is_open):
            return False
        if self._first_parts:
            if self._first.text != other._first.text:
                return False
        elif not self._first.covers(other._first_parts[-1] if other._first_parts else other._first):
            return False
        mine, theirs = self._rest, other._rest
        if len(theirs) < len(mine) or (len(theirs) > len(mine) and not self._is_open):
            return False
        return all(glob.covers(its) for glob, its in zip(mine, theirs, strict=False))


def base_name(name: str) -> str:
    return name.rpartition("/")[2]


def _same_places(parts: list[str]) -> Iterator[list[str]]:
    """A normal path in parts, and where it may lie as well: systems have /bin, /sbin and both below /usr as one."""
    yield parts
    start = 2 if parts[:2] == ["", "usr"] else 1
    if len(parts) == start + 2 and parts[start] in _PROGRAMS:
        for usr in ([""], ["", "usr"]):
            for programs in _PROGRAMS:
                yield [*usr, programs, parts[-1]]


def _fit(globs: Sequence[Glob], parts: Sequence[str]) -> bool:
    """Part by part; a `*` never stands for a part that leads elsewhere."""
    return len(globs) == len(parts) and all(
        glob.matches(part) and (glob.literal is not None or part not in _NOT_NORMAL)
        for glob, part in zip(globs, parts, strict=True)
    )


def _climbs(glob: Glob, text: str) -> bool:
    """Does `*` stand for a way out of the directory that the pattern names ("/srv/*" and "/srv/../etc")?"""
    return glob.literal is None and not glob.is_any and ".." in text.split("/")


# --- reading a pattern ---


class _PatternWord:
    """One word: fixed pieces with a `*` between each two of them. `source` is how it is written."""

    __slots__ = ("pieces", "source")

    def __init__(self) -> None:
        self.pieces = [""]
        self.source = ""

    @property
    def glob(self) -> Glob:
        return Glob(self.source, pieces=self.pieces)

    @property
    def is_any(self) -> bool:
        return self.pieces == ["", ""]

    def path_parts(self) -> tuple[Glob, ...]:
        """Its parts between slashes; () when it has no slash."""
        parts = [[""]]
        for index, piece in enumerate(self.pieces):
            if index:
                parts[-1].append("")
            first, *more = piece.split("/")
            parts[-1][-1] += first
            parts.extend([text] for text in more)
        return tuple(Glob("*".join(part), pieces=part) for part in parts) if len(parts) > 1 else ()


def _words(text: str) -> list[_PatternWord]:
    """The words of a pattern, at least one. Raises PatternError for a pattern that no command can match."""
    words: list[_PatternWord] = []
    is_between = True
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "blank":
            is_between = True
            continue
        if is_between:
            words.append(_PatternWord())
            is_between = False
        word = words[-1]
        word.source += match.group()
        if kind == "stars":
            word.pieces.append("")
        else:
            word.pieces[-1] += _literal(text, match)
    if not words:
        raise PatternError(
            "a pattern without words", 'write a command, as in `rm *`, or "*" for every command'
        )
    _check(text, words)
    return words


def _literal(text: str, match: re.Match[str]) -> str:
    """What one token that is no wildcard stands for. Raises PatternError for what can be in no known word."""
    kind, content = match.lastgroup or "bad", match[match.lastgroup or "bad"]
    if kind == "double":
        return _DOUBLE_ESCAPE.sub(r"\1", content)
    if kind != "bad":
        return content
    quoted = f"or quote it where the character is meant, as in `'{content}'`"
    if content in "'\"":
        if content in text[match.end() :]:
            raise PatternError(
                f"`{text}`: a `$` or backquote in double quotes makes a word that nobody knows beforehand",
                "write `*` for it, or put it in single quotes where the character is meant",
            )
        raise PatternError(f"`{text}`: a quote is not closed", "close it, or write a backslash before it")
    if content == "\\":
        raise PatternError(f"`{text}`: a backslash with nothing behind it", "write it twice, or remove it")
    if content in "?[":
        raise PatternError(f"`{text}`: `{content}` is no wildcard here, only `*` is", f"write `*`, {quoted}")
    if content in "$`":
        raise PatternError(
            f"`{text}`: `{content}` makes a word that nobody knows beforehand", f"write `*` for it, {quoted}"
        )
    shown = "a line break" if content.isspace() else f"`{content}`"
    raise PatternError(
        f"`{text}`: {shown} is part of no simple command, and each command of a list or pipe is judged by itself",
        f"write one pattern for each command, {quoted}",
    )


def _check(text: str, words: Sequence[_PatternWord]) -> None:
    first = words[0]
    name = first.pieces[-1]
    if first.pieces == [""]:
        raise PatternError(f"`{text}`: a command without a name", "begin with the name of a command")
    if first.source in _RESERVED:
        raise PatternError(
            f"`{text}`: `{first.source}` is a word of the shell and no command",
            "write a pattern for each command inside it",
        )
    if _ASSIGNMENT.match(first.source):
        raise PatternError(
            f"`{text}`: an assignment is not a word of the command",
            "leave it out; only `*` allows commands with assignments before them",
        )
    if name.endswith("/") and len(first.pieces) == 1:
        raise PatternError(f"`{text}`: `{name}` is a directory and no command", "write the command's path")
    for word in words:
        if word.source.startswith("~"):
            raise PatternError(
                f"`{text}`: `{word.source}` is not known before the command runs", "write the path in full"
            )
        if word.source.startswith("#"):
            raise PatternError(
                f"`{text}`: what begins with `#` is a comment",
                f"write '{word.source}' in quotes for the word",
            )
