"""From SQL text to syntax trees, by PostgreSQL's own parser, under bounds on size and on the parser's own costs.

A tree is the JSON of libpg_query decoded to plain dicts: {"NodeType": {field: value}}, defaults left out, an
empty dict where a list holds a null. Locations are byte offsets. Nothing here judges what a statement does.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from pglast.parser import ParseError, parse_sql_json

from policy.sql.refusal import PROGRAM_LIMIT_EXCEEDED, STATEMENT_TOO_COMPLEX, SYNTAX_ERROR, SqlRefused

Node = dict[str, Any]

# The grammar whose nodes the tables of this package name.
PARSER_MAJOR_VERSION = 18

# A tree takes some 300 bytes a token; a text above this is checked before it is parsed.
MAX_TOKENS = 250_000
# The lexer takes time by the square of a run of operator characters ("/*/*/*..."): the sum of the squares.
MAX_OPERATOR_RUN_COST = 20_000_000
SMALL_TEXT_CHARS = 1_000

_OPERATOR_RUN = re.compile(r"[~!@#^&|`?+\-*/%<>=]{64,}")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_TOKEN_OR_STRING = re.compile(r"'[^']*'|\"[^\"]*\"|\w+|[^\w\s]")
_NEAR = re.compile(r'at or near "(.*)"\Z', re.DOTALL)

_SQLSTATES = (
    ("stack depth limit exceeded", STATEMENT_TOO_COMPLEX),
    ("unsafe use of", "22P06"),
    ("frame start", "42P20"),
    ("frame end", "42P20"),
    ("frame starting", "42P20"),
    ("invalid Unicode escape value", SYNTAX_ERROR),
    ("not yet implemented", FEATURE := "0A000"),
    ("is not supported", FEATURE),
    ("are not supported", FEATURE),
    ("not implemented", FEATURE),
)

_decode = msgspec.json.Decoder(type=Node).decode


class RawStatement(msgspec.Struct, frozen=True):
    """One statement of a text: its node's type and fields, its slice of the text, and where that starts."""

    kind: str
    node: Node
    text: str
    location: int


def parse(text: str) -> tuple[RawStatement, ...]:
    """Every statement of `text`. Raises SqlRefused: the server's own message for a syntax error."""
    _check_bounds(text)
    try:
        tree = _decode(parse_sql_json(text))
    except ParseError as error:
        raise _syntax_error(text, error) from error
    except RecursionError as error:
        raise nested_too_deeply() from error
    except (UnicodeEncodeError, msgspec.DecodeError) as error:
        raise SqlRefused("proxyd cannot read the text of the statement", "22021") from error
    if tree["version"] // 10_000 != PARSER_MAJOR_VERSION:
        raise SqlRefused(f"proxyd does not know the grammar of parser version {tree['version']}")
    return _statements(text, tree.get("stmts", []))


def nested_too_deeply() -> SqlRefused:
    return SqlRefused(
        "statement is nested too deeply",
        STATEMENT_TOO_COMPLEX,
        hint="Split it, or use fewer levels of parentheses, operators or subqueries.",
    )


def _statements(text: str, raw: list[Node]) -> tuple[RawStatement, ...]:
    encoded = None if text.isascii() else text.encode()
    found = []
    for item in raw:
        start = item.get("stmt_location", 0)
        length = item.get("stmt_len", 0)
        if encoded is None:
            part = text[start : start + length] if length else text[start:]
        else:
            part = (encoded[start : start + length] if length else encoded[start:]).decode()
        stripped = part.lstrip(" \t\n\r\f\v")
        ((kind, node),) = item["stmt"].items()
        found.append(RawStatement(kind, node, stripped.rstrip(), start + len(part) - len(stripped)))
    return tuple(found)


def _check_bounds(text: str) -> None:
    if "\0" in text:
        raise SqlRefused("invalid byte sequence in the text of the statement", "22021")
    if len(text) <= SMALL_TEXT_CHARS:
        return
    cost = 0
    for run in _OPERATOR_RUN.finditer(text):
        cost += (run.end() - run.start()) ** 2
        if cost > MAX_OPERATOR_RUN_COST:
            raise SqlRefused("statement has too long a run of operator characters", PROGRAM_LIMIT_EXCEEDED)
    if len(text) > MAX_TOKENS:
        _check_token_count(text)


def _check_token_count(text: str) -> None:
    # Quotes may be trusted to skip over strings only where nothing else can hide a quote.
    is_plain = "\\" not in text and "$" not in text and "--" not in text and "/*" not in text
    tokens = (_TOKEN_OR_STRING if is_plain else _TOKEN).finditer(text)
    for count, _ in enumerate(tokens):
        if count >= MAX_TOKENS:
            raise SqlRefused(
                f"statement has more than {MAX_TOKENS} words and signs",
                PROGRAM_LIMIT_EXCEEDED,
                hint="Use COPY or parameters for large amounts of data.",
            )


def _syntax_error(text: str, error: ParseError) -> SqlRefused:
    message = str(error.args[0])
    sqlstate = next((code for words, code in _SQLSTATES if words in message), SYNTAX_ERROR)
    index = error.args[1] if len(error.args) > 1 else None
    position: int | None
    if isinstance(index, int):
        position = _position(text, message, index) + 1
    else:
        position = len(text) + 1 if message.endswith("at end of input") else None
    return SqlRefused(message, sqlstate, position, is_servers_answer=True)


def _position(text: str, message: str, index: int) -> int:
    """The index of the error in characters.

    pglast takes the parser's index of characters for one of bytes and turns it into characters once more.
    """
    if text.isascii():
        return index
    lowest = len(text[:index].encode())
    near = _NEAR.search(message)
    if near is None:
        return len(text) if message.endswith("at end of input") else min(lowest, len(text))
    width = len(text[index : index + 1].encode())
    for candidate in range(lowest, lowest + width):
        if text.startswith(near.group(1), candidate):
            return candidate
    return min(lowest, len(text))
