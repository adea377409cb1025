"""Which typed input may go on the tape: lines that the target showed while they were typed, and nothing else."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

MAX_PENDING_BYTES: Final = 4096


class WithheldBecause(Enum):
    NOT_ECHOED = "not echoed"


class ReleasedLine(msgspec.Struct, frozen=True):
    text: str


class WithheldLine(msgspec.Struct, frozen=True):
    size: int
    reason: WithheldBecause


Settled = ReleasedLine | WithheldLine


class EchoGuard:
    """Of one terminal channel. This first form withholds everything."""

    def __init__(self) -> None:
        self._size = 0

    def typed(self, data: bytes) -> list[Settled]:
        """What is settled by this input. Call before it is forwarded."""
        self._size += len(data)
        if b"\r" not in data and b"\n" not in data:
            return []
        return self.finish()

    def shown(self, data: bytes) -> None:
        """Output of the target on this channel."""

    def finish(self) -> list[Settled]:
        """The channel is closed: what is left."""
        size, self._size = self._size, 0
        return [WithheldLine(size, WithheldBecause.NOT_ECHOED)] if size else []
