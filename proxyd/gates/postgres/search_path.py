"""The target's `search_path` setting as the list of schemas that unqualified names are looked up in.

The value is a comma-separated list of identifiers, folded to lower case unless quoted (PostgreSQL's
SplitIdentifierString); `$user` among them stands for the role of the session. No I/O.
"""

from __future__ import annotations

import re

_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s",]+))\s*(,|\Z)')


def parse_search_path(value: str) -> tuple[str, ...] | None:
    """The schemas in order, or None when the value cannot be read (then names are looked up everywhere)."""
    if not value.strip():
        return ()
    schemas: list[str] = []
    position = 0
    while True:
        match = _ITEM.match(value, position)
        if match is None:
            return None
        quoted, plain, end = match.groups()
        schemas.append(quoted.replace('""', '"') if quoted is not None else plain.lower())
        position = match.end()
        if not end:
            return tuple(schemas)
