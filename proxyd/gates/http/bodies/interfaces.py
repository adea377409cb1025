"""What masking of bodies asks of its neighbours, and what it offers them.

`BodyMasks` is what a policy demands of one direction of an exchange; `Transformer` is what the relay feeds a body to
as it streams. Nothing here knows a format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from policy.detectors import Match
from policy.detectors.stream import StreamScanner
from policy.json_paths import JsonPath
from policy.masking import Mask

JSON_MASKS_HINT = "Ask for JSON (`Accept: application/json`), or ask for access without masks."


class BodyRefused(Exception):
    """A body that masks concern and that they cannot be applied to. It is not sent, or cut where it stands.

    Both texts are for the client's eyes and quote nothing of the body.
    """

    def __init__(self, reason: str, hint: str = JSON_MASKS_HINT) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class StreamDetector(Protocol):
    """Finds and replaces in one text that comes in pieces of bytes (UTF-8), with a window across their borders."""

    @property
    def counts(self) -> Counter[str]: ...

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class Detectors(Protocol):
    """A compiled set of detectors. `replace` gives the text with its matches replaced, and how many of each kind;
    `replace_value` does it for one whole value, which may be written in base64 or hexadecimal.

    find: the matches in bytes of UTF-8; write: what takes the place of one. A match does not go over the end of a line,
    but for private keys. has_own: patterns of a policy's own are among them, which may say where a value begins and
    ends.
    """

    def __hash__(self) -> int: ...

    @property
    def has_own(self) -> bool: ...

    def stream(self) -> StreamDetector: ...

    def scanner(self) -> StreamScanner: ...

    def replace(self, text: str) -> tuple[str, Counter[str]]: ...

    def replace_value(self, text: str) -> tuple[str, Counter[str]]: ...

    def find(self, data: bytes) -> list[Match]: ...

    def write(self, match: Match, value: bytes) -> bytes: ...


class BodyMasks(Protocol):
    """What is masked in the bodies of one direction. Where both are empty, nothing is."""

    @property
    def json(self) -> Sequence[tuple[JsonPath, Mask]]: ...

    @property
    def detectors(self) -> Detectors | None: ...


class Transformer(Protocol):
    """One body on its way: what is fed comes out masked, as soon as it can, at the latest with `finish`.

    Both raise BodyRefused, after which the body is over: what came out so far was masked and may have been sent, but
    nothing more of it may be. counts: what was masked, by the name of the mask or the kind that a detector found.
    """

    @property
    def counts(self) -> Counter[str]: ...

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """depth: of nested objects and arrays. held_bytes: one value that has to be seen whole to be masked (a string, a
    form field, a CSV field). event_bytes: one server-sent event, one line of JSON lines. parts: of a multipart body.
    decoded_bytes, decoded_ratio: what a compressed body may grow to, and to how many times its size (once it is over
    1 MiB).
    """

    depth: int = 200
    held_bytes: int = 1 << 20
    event_bytes: int = 1 << 20
    parts: int = 1000
    decoded_bytes: int = 1 << 30
    decoded_ratio: int = 200


DEFAULT_LIMITS = BodyLimits()
