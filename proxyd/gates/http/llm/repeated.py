"""Events of a model's stream that are like the one before but for the piece of text that they bring.

A long answer is thousands of such events. What was worked out for one (which text the piece goes on, that nothing else
in it concerns a mask, that it ends nothing) holds for the next as long as the bytes around the piece are the same. So
those are compared, and only the piece is read. Numbers that count events and padding (`obfuscation`) may differ.

Made by `proxyd.gates.http.llm.streams`, which forgets it as soon as an event of another kind comes. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from protocols.http import json_tokens as tokens
from proxyd.gates.http.llm.deltas import Block

_END = b"\n\n"
_number = re.compile(rb"[0-9]{1,12}")
_padding = re.compile(rb"[A-Za-z0-9]*+")
# What may differ beside the piece: it is neither read nor does it mean anything.
_varying = re.compile(rb'(?<="sequence_number":)[0-9]{1,12}|(?<="obfuscation":")[A-Za-z0-9]*+(?=")')

_FREE = (b'"input"', b'"arguments"', b'"output"')  # in these any member may be text

_Parts: TypeAlias = tuple[bytes | re.Pattern[bytes], ...]


@dataclass(frozen=True, slots=True)
class RepeatedEvent:
    """One event with the piece left open. Bytes alternate with patterns of what may differ.

    before, behind: what stands around the piece as it comes. shown_before, shown_behind: as it goes out.
    """

    block: Block
    before: _Parts
    behind: _Parts
    shown_before: _Parts
    shown_behind: _Parts

    @staticmethod
    def like(raw: bytes, shown: bytes, block: Block, key: str) -> RepeatedEvent | None:
        """raw, shown: an event as it came and as it went out, which brings one piece, the member called `key`. None:
        others cannot be told by it.
        """
        came, went = _around(raw, key), _around(shown, key)
        if came is None or went is None or any(len(a) != len(b) for a, b in zip(came, went, strict=True)):
            return None
        return RepeatedEvent(block, *came, *went)

    def at(self, data: bytes, position: int) -> tuple[str, list[bytes], int] | None:
        """If one of its kind is at `position`: the piece, what differs, and where the event ends."""
        varying: list[bytes] = []
        start = _passed(self.before, data, position, varying)
        if start < 0:
            return None
        body = tokens.string_body.match(data, start)
        stop = start if body is None else body.end()
        end = _passed(self.behind, data, stop, varying)
        if end < 0:
            return None
        try:
            return _text_of(data[start:stop]), varying, end
        except (UnicodeDecodeError, msgspec.DecodeError):  # it is refused where it is taken apart
            return None

    def with_text(self, text: str, varying: Sequence[bytes]) -> bytes:
        """The event as it goes out."""
        rest = iter(varying)
        pieces = [part if isinstance(part, bytes) else next(rest) for part in self.shown_before]
        pieces.append(msgspec.json.encode(text)[1:-1])
        pieces += [part if isinstance(part, bytes) else next(rest) for part in self.shown_behind]
        return b"".join(pieces)


def _around(raw: bytes, key: str) -> tuple[_Parts, _Parts] | None:
    """What stands before and behind the string that is the value of the one member called `key`."""
    name = b'"%s":' % key.encode()
    at = raw.find(name)
    if (
        not raw.endswith(_END)
        or raw.count(_END) != 1
        or b"\r" in raw
        or at < 0
        or raw.find(name, at + 1) >= 0
    ):
        return None
    start = raw.find(b'"', at + len(name)) + 1
    if not start or raw[at + len(name) : start - 1].strip(b" "):
        return None
    body = tokens.string_body.match(raw, start)
    if body is None:
        return None
    varies = not any(free in raw for free in _FREE)
    return _parts(raw[:start], varies=varies), _parts(raw[body.end() :], varies=varies)


def _parts(raw: bytes, *, varies: bool) -> _Parts:
    parts: list[bytes | re.Pattern[bytes]] = []
    position = 0
    for found in _varying.finditer(raw) if varies else ():
        parts += (raw[position : found.start()], _number if found[0].isdigit() else _padding)
        position = found.end()
    parts.append(raw[position:])
    return tuple(parts)


def _passed(parts: _Parts, data: bytes, position: int, varying: list[bytes]) -> int:
    """Where the parts end if they stand at `position`; -1 if not."""
    for part in parts:
        if isinstance(part, bytes):
            if not data.startswith(part, position):
                return -1
            position += len(part)
        else:
            found = part.match(data, position)
            if found is None:
                return -1
            varying.append(found[0])
            position = found.end()
    return position


def _text_of(body: bytes) -> str:
    """What the body of a string says."""
    if b"\\" not in body:
        return body.decode()
    text: str = msgspec.json.decode(b'"' + body + b'"', type=str)
    return text
