"""The value of Content-Type, read strictly (RFC 9110, 8.3). Called by whoever depends on what a body is."""

from __future__ import annotations

import re

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf"({_WORD}/{_WORD})[ \t]*")
_PARAMETER = re.compile(
    rf';[ \t]*(?:({_WORD})=(?:({_WORD})|"((?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*)"))?[ \t]*'
)
_ESCAPED = re.compile(r"\\(.)")


def media_type(value: str) -> tuple[str, dict[str, str]]:
    """`type/subtype` in lower case, and its parameters (names in lower case).

    ("", {}) for a value that is not one media type, or says a parameter twice: nobody can know what it means.
    """
    match = _TYPE.match(value)
    if match is None:
        return "", {}
    parameters: dict[str, str] = {}
    position = match.end()
    while position < len(value):
        part = _PARAMETER.match(value, position)
        if part is None:
            return "", {}
        position = part.end()
        if part[1]:
            name = part[1].lower()
            if name in parameters:
                return "", {}
            parameters[name] = part[2] if part[2] is not None else _ESCAPED.sub(r"\1", part[3])
    return match[1].lower(), parameters
