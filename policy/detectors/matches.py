"""What detectors find, and what takes its place. Plain data; called by the other modules of this package."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Match(msgspec.Struct, frozen=True, gc=False):
    """data[start:end] is a value of `kind`, the name of a detector."""

    start: int
    end: int
    kind: str


Write = Callable[[Match, bytes], bytes]


def placeholder(match: Match, _: bytes) -> bytes:
    return b"<%s>" % match.kind.encode()
