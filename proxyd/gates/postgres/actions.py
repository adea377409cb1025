"""What a gate asks its relay to do. The gate decides, the relay executes, in this order: records, then the rest."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxyd.gates.postgres.judge import Verdict


class Need(Enum):
    """What the gate must wait for before it can go on with the messages it has kept back."""

    SETTLED = "the target's answer to what was forwarded"
    CATALOG = "a fresh snapshot of the target's catalog"


class Actions:
    """One step's worth of work, filled by the gate while it handles a batch of messages.

    requests: (operation, verdicts, the client's bytes). replies: (operation, the bytes the client will see, whether
    the operation ends with them). events: (name, data). close: a reason to end the session once the rest is done.
    """

    __slots__ = ("close", "events", "need", "replies", "requests", "to_client", "to_target")

    def __init__(self) -> None:
        self.requests: list[tuple[int, tuple[Verdict, ...], bytes]] = []
        self.replies: list[tuple[int, bytes, bool]] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self.to_target: list[bytes] = []
        self.to_client: list[bytes] = []
        self.need: Need | None = None
        self.close: str | None = None
