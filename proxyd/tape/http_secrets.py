"""What may not stand on a tape of HTTP, although it stands in a message: credentials in headers, URLs and queries.

Goes by names. A value whose name says that it is a secret is replaced by `REMOVED`, wherever such names stand: in a
header, in a query, in a parameter of a path, in a URL that a header carries (`Location`, `Referer`), in the
subprotocols of a WebSocket. Bodies are not looked into: they are what the session is about, and masks are for them.
Pure; called by `http_taping`, after the relay has left out what it knows itself.
"""

from __future__ import annotations

import functools
import re
from enum import Enum
from typing import Final
from urllib.parse import unquote_plus

REMOVED: Final = "<removed>"

Pairs = tuple[tuple[str, str], ...]

_HEADERS: Final = frozenset(
    (
        "authorization",
        "proxy-authorization",
        "authentication-info",
        "proxy-authentication-info",
        "cookie",
        "cookie2",
        "set-cookie",
        "set-cookie2",
        "api-key",
        "dpop",
        "x-auth",
        "x-auth-key",
        "x-oauth",
    )
)
_PARAMETERS: Final = frozenset(
    (
        "key",
        "sig",
        "auth",
        "authorization",
        "bearer",
        "jwt",
        "pass",
        "pwd",
        "sid",
        "sessionid",
        "jsessionid",
        "phpsessid",
        "sas",
        "samlresponse",
        "ticket",
    )
)
# Of an OAuth redirect, or something short about anything: a secret when it is as long as one.
_MAYBE: Final = frozenset(("code", "session"))
_SECRET_CHARACTERS: Final = 16
_TELLING: Final = re.compile(
    "token|secret|signature|credential|password|passwd|passphrase|assertion|authorization|session[-_.]?id"
    "|(?:customer|encryption)[-_.]key"
    "|api[-_.]?key|access[-_.]?key|private[-_.]?key|subscription[-_.]?key|functions[-_.]?key"
)
_SUBPROTOCOLS: Final = "sec-websocket-protocol"
_TELLING_SUBPROTOCOL: Final = re.compile("bearer|token|secret|api[-_.]?key|auth")
_MAX_ENCODED: Final = 5
_COUNTED: Final = "tokens"  # `max_tokens=100` is about tokens, and is none
_COUNT: Final = re.compile(r"\d{1,12}")
# A parameter: what may stand before it, its name, its value. Of `a?b?token=x` too.
_BEFORE: Final = r"(?:(?<=[?&;#,\s\"'<(])|^)"
_NAME: Final = r"([^=&;#?,\s\"'<>()]{1,200})"
_PARAMETER: Final = re.compile(_BEFORE + _NAME + r"=(\"[^\"]*\"|[^&;#\s\"'<>]*)")
_INNER_PARAMETER: Final = re.compile(_BEFORE + _NAME + r"=([^&;#?\s\"'<>]*)")  # also of a URL in a value
_TOKEN: Final = re.compile(r"[^/?&;#=\s\"'<>,]+")
_USER: Final = re.compile(r"(?<=//)[^/?#\s@\"<>]*@")


class _Kind(Enum):
    """What the name of a header says about its value."""

    PLAIN = "plain"
    WITHHELD = "withheld"
    COUNT = "count"  # a secret, or a number of tokens
    MAYBE = "maybe"  # a secret if it is long
    SUBPROTOCOLS = "subprotocols"


def without_header_secrets(headers: Pairs, *, more: frozenset[str] = frozenset()) -> Pairs:
    """The headers, in their order, without secrets. `more`: further names, in lower case, that are secret here."""
    if not more and _are_plain(tuple([name for name, _ in headers])):
        text = "".join([value for _, value in headers])
        if "=" not in text and "@" not in text and "%" not in text:
            return headers  # nearly all
    bare = tuple([(name, _header_value(name, value, more)) for name, value in headers])
    return headers if bare == headers else bare


def without_query_secrets(query: Pairs) -> Pairs:
    """Decoded parameters without secrets."""
    bare = tuple(
        [
            (name, REMOVED if _is_secret(_parameter_kind(name), value) else without_url_secrets(value))
            for name, value in query
        ]
    )
    return query if bare == query else bare


def without_url_secrets(text: str) -> str:
    """A URL, or a text with URLs or parameters in it, without secret parameters and without user and password."""
    if "@" in text:
        text = _USER.sub(f"{REMOVED}@", text)
    if "=" in text:
        text = _PARAMETER.sub(_parameter, text)
    return text if "%" not in text else _TOKEN.sub(_token, text)


@functools.lru_cache(maxsize=1024)
def _are_plain(names: tuple[str, ...]) -> bool:
    return all(_header_kind(name) is _Kind.PLAIN for name in names)


@functools.lru_cache(maxsize=4096)
def _header_kind(name: str) -> _Kind:
    lowered = name.lower()
    if lowered in _HEADERS:
        return _Kind.WITHHELD
    if lowered == _SUBPROTOCOLS:
        return _Kind.SUBPROTOCOLS
    if _TELLING.search(lowered) is None or "ratelimit" in lowered:
        return _Kind.PLAIN
    return _Kind.COUNT if lowered.endswith(_COUNTED) else _Kind.WITHHELD


def _header_value(name: str, value: str, more: frozenset[str]) -> str:
    kind = _header_kind(name)
    if _is_secret(kind, value) or name.lower() in more:
        return REMOVED
    if kind is _Kind.SUBPROTOCOLS and _TELLING_SUBPROTOCOL.search(value.lower()) is not None:
        return REMOVED  # `bearer, TOKEN`, `openai-insecure-api-key.KEY`: browsers have no other place for it
    return without_url_secrets(value)


@functools.lru_cache(maxsize=4096)
def _parameter_kind(name: str) -> _Kind:
    """Of a parameter, whose name may be encoded."""
    lowered = unquote_plus(name).strip().lower()
    if lowered in _PARAMETERS:
        return _Kind.WITHHELD
    if lowered in _MAYBE:
        return _Kind.MAYBE
    if _TELLING.search(lowered) is None:
        return _Kind.PLAIN
    return _Kind.COUNT if lowered.endswith(_COUNTED) else _Kind.WITHHELD


def _is_secret(kind: _Kind, value: str) -> bool:
    if kind is _Kind.MAYBE:
        return len(value) >= _SECRET_CHARACTERS
    return kind is _Kind.WITHHELD or (kind is _Kind.COUNT and _COUNT.fullmatch(value) is None)


def _parameter(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if not value or not (_is_secret(_parameter_kind(name), value) or _holds_secret(value)):
        return match[0]
    return f"{name}={REMOVED}"


def _token(match: re.Match[str]) -> str:
    """What stands between delimiters, and may be a whole URL that is encoded."""
    return REMOVED if "%" in match[0] and _holds_secret(match[0]) else match[0]


def _holds_secret(value: str) -> bool:
    """Is it a URL that has a secret of its own (`redirect_uri=https%3A%2F%2Fx%2F%3Faccess_token%3D...`)?"""
    for _ in range(_MAX_ENCODED):
        if "@" in value and _USER.search(value) is not None:
            return True
        if "=" in value:
            for name, held in _INNER_PARAMETER.findall(value):
                if held and _is_secret(_parameter_kind(name), held):
                    return True
        decoded = unquote_plus(value) if "%" in value else value
        if decoded == value:
            return False
        value = decoded
    return True  # nobody encodes so often who has nothing to hide
