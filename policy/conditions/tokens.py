"""The text of a condition to tokens: what CEL calls its lexis, less bytes.

Every token knows where it stands. Called by `policy.conditions.syntax`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from policy.patterns import PatternError

MAX_TEXT_CHARACTERS = 4096
LARGEST_INT = 2**63 - 1
LARGEST_UINT = 2**64 - 1

_SPACE = re.compile(r"(?:[ \t\r\n\f]+|//[^\n]*)+")
_NUMBER = re.compile(
    r"0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?|\d+[uU]?", re.ASCII
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TEXT = re.compile(
    r"(?P<prefix>[rRbB]{0,2})(?P<quote>\"\"\"|'''|\"|')",
)
_SIGN = re.compile(r"&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{}]")
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|x([0-9a-fA-F]{2})|X([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.?))",
    re.DOTALL,
)
_PLAIN = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))


class Kind(Enum):
    NAME = "a name"
    INT = "an integer"
    UINT = "an unsigned integer"
    DOUBLE = "a number"
    TEXT = "a text"
    SIGN = "a sign"
    END = "the end"


class Token(NamedTuple):
    """`text` is as written, of a TEXT what it stands for."""

    kind: Kind
    text: str
    at: int


def fault(text: str, at: int, message: str, remedy: str) -> PatternError:
    """A fault at character `at` of the condition `text`, with the place in words."""
    before = text[:at]
    line, column = before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1
    where = f"line {line}, character {column}" if "\n" in text else f"character {column}"
    return PatternError(f"{message} ({where} of the condition)", remedy)


def tokens_of(text: str) -> Iterator[Token]:
    """The tokens of `text`, one END last. Raises PatternError."""
    at = 0
    while True:
        space = _SPACE.match(text, at)
        if space is not None:
            at = space.end()
        if at >= len(text):
            break
        token, at = _token(text, at)
        yield token
    yield Token(Kind.END, "", len(text))


def _token(text: str, at: int) -> tuple[Token, int]:
    opening = _TEXT.match(text, at)
    if opening is not None:
        return _quoted(text, at, opening)
    number = _NUMBER.match(text, at)
    if number is not None:
        return _number(text, at, number[0]), number.end()
    name = _NAME.match(text, at)
    if name is not None:
        return Token(Kind.NAME, name[0], at), name.end()
    sign = _SIGN.match(text, at)
    if sign is not None:
        return Token(Kind.SIGN, sign[0], at), sign.end()
    remedy = {
        "=": "write `==` to compare",
        "&": "write `&&` for and",
        "|": "write `||` for or",
        "`": 'write `["name"]` for a field of any name',
    }.get(text[at], "leave it out, or put texts in quotes")
    raise fault(text, at, f"`{text[at]}` means nothing here", remedy)


def _number(text: str, at: int, digits: str) -> Token:
    if digits[-1] in "uU":
        bare = digits[:-1]
        if int(bare, 0 if bare[:2] in ("0x", "0X") else 10) > LARGEST_UINT:
            raise fault(text, at, f"`{digits}` is too large", f"the largest is {LARGEST_UINT}u")
        return Token(Kind.UINT, digits, at)
    if digits[:2] in ("0x", "0X") or digits.isdigit():
        # A minus in front makes the one number possible that is one larger; `syntax` looks at that.
        if int(digits, 0 if digits[:2] in ("0x", "0X") else 10) > LARGEST_INT + 1:
            raise fault(text, at, f"`{digits}` is too large", f"the largest is {LARGEST_INT}")
        return Token(Kind.INT, digits, at)
    if float(digits) == float("inf"):
        raise fault(text, at, f"`{digits}` is too large", "write a smaller number")
    return Token(Kind.DOUBLE, digits, at)


def _quoted(text: str, at: int, opening: re.Match[str]) -> tuple[Token, int]:
    prefix, quote = opening["prefix"].lower(), opening["quote"]
    if "b" in prefix or prefix not in ("", "r"):
        raise fault(text, at, "bytes cannot be compared with anything", "leave out the `b` before the quote")
    is_raw, position = bool(prefix), opening.end()
    while not text.startswith(quote, position):
        if position >= len(text) or (len(quote) == 1 and text[position] in "\r\n"):
            raise fault(text, at, f"the text that begins with {quote} does not end", f"close it with {quote}")
        position += 2 if text[position] == "\\" else 1
    inside = text[opening.end() : position]
    if not is_raw:
        inside = _ESCAPE.sub(lambda found: _meaning(text, at, found), inside)
    if any(0xD800 <= ord(character) <= 0xDFFF for character in inside):
        raise fault(
            text, at, "half a character (a surrogate)", "write the whole character, as in \\U0001F600"
        )
    return Token(Kind.TEXT, inside, at), position + len(quote)


def _meaning(text: str, at: int, found: re.Match[str]) -> str:
    plain, *codes, octal, unknown = found.groups()
    if plain is not None:
        return _PLAIN.get(plain, plain)
    if octal is not None:
        return chr(int(octal, 8))
    code = next((int(digits, 16) for digits in codes if digits is not None), None)
    if code is None or code > 0x10FFFF:
        written = found[0] if code is not None else f"\\{unknown}"
        raise fault(
            text, at, f"`{written}` is no escape", 'write `\\\\` for a backslash, or r"..." around the text'
        )
    return chr(code)
