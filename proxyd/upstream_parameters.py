"""Which startup parameters of a client may reach a target.

Owns the allow-list and the reading of `options` as the server reads it. Pure. Must never pass on what it does
not know: a setting at startup escapes the judgement that the same SET would get. Called by the PostgreSQL
door.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

MAX_VALUE_CHARACTERS = 1024

# Lower-case name (the server ignores case here) -> the name that is sent.
_ALLOWED = {
    name.lower(): name
    for name in (
        "application_name",
        "client_encoding",
        "DateStyle",
        "TimeZone",
        "IntervalStyle",
        "extra_float_digits",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "search_path",
        "standard_conforming_strings",
    )
}

# Not settings: the door reads the first two, `options` is taken apart here.
_ELSEWHERE = frozenset({"user", "database", "options"})

_WHY_NOT = {
    "replication": "replication sessions are not carried by the gateway",
    "role": "the login decides the role",
    "session_authorization": "the login decides the role",
}

_ON = frozenset({"on", "true", "yes", "1"})
_UTF8 = frozenset({"utf8", "unicode", "sqlascii"})
_SPACE = " \t\n\v\f\r"  # isspace() in the C locale, as the server splits options

Refusal = tuple[str, str]


def startup_parameters(client: Mapping[str, str]) -> tuple[dict[str, str], list[Refusal]]:
    """What to send to the target, and what was refused as (name, reason).

    A caller that gets any refusal should refuse the session: the client asked for something it will not have.
    A setting given both ways has the value of the parameter, not of `options`, as on the server. `user` and
    `database` are not forwarded from here, protocol options (`_pq_.`) neither.
    """
    forwarded: dict[str, str] = {}
    refused: list[Refusal] = []
    for name, value in _settings(client, refused):
        reason = _refusal(name, value)
        if reason is None:
            forwarded[_ALLOWED[name.lower()]] = _sent_value(name.lower(), value)
        else:
            refused.append((name, reason))
    return forwarded, refused


def _settings(client: Mapping[str, str], refused: list[Refusal]) -> Iterator[tuple[str, str]]:
    """Settings in the order in which the server applies them: those of `options` first."""
    try:
        yield from _parse_options(client.get("options", ""))
    except ValueError as error:
        refused.append(("options", str(error)))
    for name, value in client.items():
        if name not in _ELSEWHERE and not name.startswith("_pq_."):
            yield name, value


def _refusal(name: str, value: str) -> str | None:
    lowered = name.lower()
    if lowered not in _ALLOWED:
        return _WHY_NOT.get(lowered, "this setting may not be given at startup")
    if len(value) > MAX_VALUE_CHARACTERS:
        return f"longer than {MAX_VALUE_CHARACTERS} characters"
    if "\0" in value:
        return "holds a NUL character"
    if lowered == "client_encoding" and re.sub("[^a-z0-9]", "", value.lower()) not in _UTF8:
        return "the gateway speaks UTF8 only: set client_encoding to UTF8"
    if lowered == "standard_conforming_strings" and value.lower() not in _ON:
        return "must stay on: a backslash would end strings differently"
    return None


def _sent_value(lowered: str, value: str) -> str:
    return "UTF8" if lowered == "client_encoding" else value


def _parse_options(text: str) -> list[tuple[str, str]]:
    """`-c name=value`, `-cname=value` and `--name=value`. Raises ValueError on anything else.

    Other switches of the server's (`-e`, `-W`, `-P`...) are settings in disguise, so they are refused as a
    whole.
    """
    settings: list[tuple[str, str]] = []
    words = iter(_split(text))
    for word in words:
        if word.startswith("--") and word != "--":
            settings.append(_name_and_value(word[2:]))
        elif word == "-c":
            settings.append(_name_and_value(next(words, "")))
        elif word.startswith("-c"):
            settings.append(_name_and_value(word[2:]))
        else:
            raise ValueError("only -c NAME=VALUE and --NAME=VALUE are understood here")
    return settings


def _name_and_value(assignment: str) -> tuple[str, str]:
    """The server's ParseLongOption: a dash in the name stands for an underscore."""
    name, equals, value = assignment.partition("=")
    if not name or not equals:
        raise ValueError("a setting in options is written NAME=VALUE")
    return name.replace("-", "_"), value


def _split(text: str) -> Iterator[str]:
    """The server's pg_split_opts: words between white space; a backslash takes the next character."""
    word: list[str] = []
    is_open = False
    characters = iter(text)
    for character in characters:
        if character in _SPACE:
            if is_open:
                yield "".join(word)
            word, is_open = [], False
            continue
        is_open = True
        word.append(next(characters, "") if character == "\\" else character)
    if is_open:
        yield "".join(word)
