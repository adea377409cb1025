"""The ledger of replies still owed to the client, so that an error can be put without losing step.

Theory of operation. Every client message that the target will answer is entered here, in the order it is forwarded
(`expect`). Every reply of the target is held against the head of the ledger (`answered`), which tells whose reply it
is and whether that entry is now settled. Three things make it more than a queue (PostgreSQL protocol, "Extended
Query" and "Pipelining"):

- After an error in the extended protocol the target discards everything up to the next Sync. Entries up to that Sync
  are dropped; if the Sync has not been sent yet, `is_skipping` says that whatever the client sends before it would be
  discarded too.
- A reply of the gateway's own (a denial) takes its place in the order: it is entered as LOCAL and given out when it
  reaches the head, or never, when an earlier error makes the target skip that part.
- Entries can be hidden (the gateway asked for its own purposes) or carry a replacement (the gateway sent something
  that must fail, and the client is told the real reason instead).

No I/O and no policy. The gate calls it; it must never guess: a reply that does not fit is a RemoteProtocolError.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Generic, TypeVar

from protocols.errors import RemoteProtocolError

PARSE_COMPLETE = ord("1")
BIND_COMPLETE = ord("2")
CLOSE_COMPLETE = ord("3")
PARAMETER_DESCRIPTION = ord("t")
ROW_DESCRIPTION = ord("T")
NO_DATA = ord("n")
DATA_ROW = ord("D")
COMMAND_COMPLETE = ord("C")
EMPTY_QUERY = ord("I")
PORTAL_SUSPENDED = ord("s")
COPY_IN = ord("G")
COPY_OUT = ord("H")
COPY_DATA = ord("d")
COPY_DONE = ord("c")
ERROR = ord("E")
READY = ord("Z")
NOTICE = ord("N")
NOTIFICATION = ord("A")
PARAMETER_STATUS = ord("S")

ASYNCHRONOUS = frozenset({NOTICE, NOTIFICATION, PARAMETER_STATUS})


class OwedKind(Enum):
    """What a reply is owed to. replies: by type, does it settle the entry. survives_error: still answered after one."""

    replies: dict[int, bool]
    survives_error: bool

    PARSE = "parse"
    BIND = "bind"
    CLOSE = "close"
    DESCRIBE_STATEMENT = "describe statement"
    DESCRIBE_PORTAL = "describe portal"
    EXECUTE = "execute"
    QUERY = "query"
    SYNC = "sync"
    LOCAL = "local"


# What may answer each kind, and whether that settles it. An error is told apart below.
_REPLIES: dict[OwedKind, dict[int, bool]] = {
    OwedKind.PARSE: {PARSE_COMPLETE: True},
    OwedKind.BIND: {BIND_COMPLETE: True},
    OwedKind.CLOSE: {CLOSE_COMPLETE: True},
    OwedKind.DESCRIBE_STATEMENT: {PARAMETER_DESCRIPTION: False, ROW_DESCRIPTION: True, NO_DATA: True},
    OwedKind.DESCRIBE_PORTAL: {ROW_DESCRIPTION: True, NO_DATA: True},
    OwedKind.EXECUTE: {
        DATA_ROW: False,
        COPY_IN: False,
        COPY_OUT: False,
        COPY_DATA: False,
        COPY_DONE: False,
        COMMAND_COMPLETE: True,
        EMPTY_QUERY: True,
        PORTAL_SUSPENDED: True,
    },
    OwedKind.QUERY: {
        ROW_DESCRIPTION: False,
        DATA_ROW: False,
        COPY_IN: False,
        COPY_OUT: False,
        COPY_DATA: False,
        COPY_DONE: False,
        COMMAND_COMPLETE: False,
        EMPTY_QUERY: False,
        READY: True,
    },
    OwedKind.SYNC: {READY: True},
    OwedKind.LOCAL: {},
}

# Looking a member up in a dict or set runs Python code (Enum.__hash__), and this is done for every message: so the
# answers are kept on the members themselves.
for _kind, _its_replies in _REPLIES.items():
    _kind.replies = _its_replies
    _kind.survives_error = _kind in (OwedKind.QUERY, OwedKind.SYNC)


class Owed:
    """One reply still owed. The gate makes entries of a class of its own, with its notes about the operation.

    batch: set when it is entered. hidden: the client did not ask; its reply is not passed on. replacement: bytes given
    to the client in place of the target's error. reply: for LOCAL, the bytes to give out; with_ready adds ReadyForQuery
    with the true status.
    """

    # One of these is made for every message: what is rarely set stays on the class.
    batch = 0
    hidden = False
    replacement: bytes | None = None
    reply = b""
    with_ready = False

    def __init__(self, kind: OwedKind) -> None:
        self.kind = kind
        self.replies = kind.replies


OwedT = TypeVar("OwedT", bound=Owed)


class Exchange(Generic[OwedT]):
    """The ledger of one connection. `max_owed` bounds how far a client may pipeline ahead."""

    def __init__(self, max_owed: int = 100_000) -> None:
        self.owed: deque[OwedT] = deque()
        self.transaction_status = ord("I")
        self.is_skipping = False
        self.batch = 0
        self.locals = 0  # LOCAL entries among `owed`
        self.max_owed = max_owed

    @property
    def is_settled(self) -> bool:
        """Nothing is owed: the target has answered everything that was forwarded."""
        return not self.owed

    @property
    def is_overfull(self) -> bool:
        return len(self.owed) >= self.max_owed

    def expect(self, entry: OwedT) -> None:
        """Enter a message that is being forwarded. A Query or Sync ends the batch."""
        entry.batch = self.batch
        self.owed.append(entry)
        if entry.kind.survives_error:
            self.batch += 1
            self.is_skipping = False

    def expect_local(self, entry: OwedT) -> None:
        """Enter a reply of the gateway's own (kind LOCAL); `take_local` gives it out when its turn has come."""
        entry.batch = self.batch
        self.owed.append(entry)
        self.locals += 1
        if entry.with_ready:
            self.batch += 1

    def take_local(self) -> Iterator[OwedT]:
        """Give out the LOCAL entries at the head, in order."""
        owed = self.owed
        while owed and owed[0].kind is OwedKind.LOCAL:
            self.locals -= 1
            yield owed.popleft()

    def answered(self, reply_type: int) -> OwedT:
        """Hold a reply (neither asynchronous nor an error) against the head: whose it is. One that settles it is off.

        Raises RemoteProtocolError when nothing is owed or the reply does not fit what is.
        """
        owed = self.owed
        if not owed:
            raise RemoteProtocolError(
                f"the target sent message {chr(reply_type)!r} that nothing had asked for"
            )
        entry = owed[0]
        settles = entry.replies.get(reply_type)
        if settles is None:
            raise RemoteProtocolError(
                f"the target sent message {chr(reply_type)!r} where a reply to {entry.kind.value} was owed"
            )
        if entry.replacement is not None and reply_type != READY:
            raise RemoteProtocolError(f"the target answered {chr(reply_type)!r} to what had to fail")
        if settles:
            owed.popleft()
        return entry

    def ready(self, status: int) -> OwedT:
        """Hold ReadyForQuery against the head and note the transaction status it carries."""
        if status not in b"ITE":
            raise RemoteProtocolError("the target sent ReadyForQuery with an unknown transaction status")
        entry = self.answered(READY)
        self.transaction_status = status
        return entry

    def failed(self) -> tuple[OwedT | None, list[OwedT]]:
        """Hold an ErrorResponse against the head: (whose error it is, the entries that will never be answered).

        The head of an error outside any request (the target is shutting down) is None. A Query or Sync stays owed:
        its ReadyForQuery still comes. Everything else is dropped up to the next Sync, as the target does.
        """
        if not self.owed:
            return None, []
        head = self.owed[0]
        if head.kind.survives_error:
            return head, []
        dropped: list[OwedT] = []
        while self.owed and self.owed[0].kind is not OwedKind.SYNC:
            entry = self.owed.popleft()
            self.locals -= entry.kind is OwedKind.LOCAL
            dropped.append(entry)
        if not self.owed:
            self.is_skipping = True
        return head, dropped
