"""What of a request's facts goes on the tape: all that is needed to judge it again, without what is secret.

A body that was read for a rule is among the facts only if the tape keeps bodies of that length and can hold it; if
not, the judgement says so. Pure; called by `http_taping`.
"""

from __future__ import annotations

from typing import Final

import msgpack
import msgspec

from policy.facts import HttpFacts
from proxyd.tape.format import MAX_FRAME_BYTES
from proxyd.tape.http_secrets import without_header_secrets, without_query_secrets, without_url_secrets

MAX_NESTED: Final = 250
"""Deeper values could be written, but not be read again: msgpack unpacks 1,024 levels, JSON of Python 1,000."""
_PACKED_LEVELS: Final = 1023  # more than these the packer refuses
MAX_BODY_BYTES: Final = MAX_FRAME_BYTES // 2
TOO_LONG: Final = "the body, which is longer than the tape keeps"
TOO_DEEP: Final = "the body, which is too deep for the tape or has numbers that it cannot hold"


def recorded_facts(
    facts: HttpFacts, *, body_bytes: int, secret_headers: frozenset[str]
) -> tuple[object, str]:
    """The facts, to be packed, and what they lack ("" for nothing). Packed bodies may have `body_bytes`."""
    path = without_url_secrets(facts.path)
    others = tuple([without_url_secrets(other) for other in facts.other_paths])
    query = without_query_secrets(facts.query)
    headers = without_header_secrets(facts.headers, more=secret_headers)
    is_clean = headers is facts.headers and query is facts.query and path is facts.path
    if facts.body is None:
        if is_clean and others == facts.other_paths:
            return facts, ""
        return _replaced(facts, path, others, query, headers), ""
    lack = _lack(facts.body, min(body_bytes, MAX_BODY_BYTES))
    bare = _replaced(facts, path, others, query, headers)
    return (bare, lack) if lack else ({**msgspec.to_builtins(bare), "body": facts.body}, "")


def _replaced(
    facts: HttpFacts,
    path: str,
    other_paths: tuple[str, ...],
    query: tuple[tuple[str, str], ...],
    headers: tuple[tuple[str, str], ...],
) -> HttpFacts:
    return msgspec.structs.replace(
        facts, path=path, other_paths=other_paths, query=query, headers=headers, body=None
    )


def _lack(body: object, limit: int) -> str:
    """Why the body cannot be on the tape."""
    for _ in range(_PACKED_LEVELS - MAX_NESTED):  # quicker than to look how deep it is
        body = [body]
    try:
        packed = msgpack.packb(body, unicode_errors="surrogatepass")
    except (TypeError, ValueError, OverflowError, RecursionError):
        return TOO_DEEP
    return TOO_LONG if len(packed) > limit + _PACKED_LEVELS - MAX_NESTED else ""
