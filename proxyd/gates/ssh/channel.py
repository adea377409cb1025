"""One channel of an SSH session: its two ends, where it stands, and the replies that its client is still owed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from protocols.ssh.messages import ChannelRequest, channel_failure, channel_success
from proxyd.gates.scp import ScpObserver
from proxyd.gates.sftp import SftpGate
from proxyd.gates.ssh.menu import Menu
from proxyd.gates.ssh.screening import ChannelScreens
from proxyd.gates.ssh.windows import MAX_QUEUED_MESSAGES, End

MAX_REPLIES_OWED = 64


class Stage(Enum):
    """Where a channel stands. Data of a session's client is only passed on once it is known what will read it."""

    OPENING = "opening"  # the other side has been asked
    WAITING = "waiting"  # open, but it is not certain yet that something runs on it: what comes early is kept
    RAW = "raw"  # data is passed on as it is
    SFTP = "sftp"  # data is packets, judged one by one
    LOCAL = "local"  # the gateway itself talks to the client (the menu)
    STREAM = "stream"  # the other end is a connection that the gateway has dialled (`ssh -J`)
    REFUSED = "refused"  # answered by the gateway; what still comes is dropped


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A reply that the target will give. `then` is told whether it was a yes."""

    then: Callable[[bool], None] | None = None
    is_shown: bool = True


@dataclass(frozen=True, slots=True)
class Local:
    """A reply of the gateway's own, with what is to follow it."""

    is_success: bool
    is_shown: bool = True
    then: Callable[[], None] | None = None


class Channel:
    """`number` is the gateway's number for it at both legs. `kind` is the name of its open.

    early: data of the client that came before anything ran. wants_eof: the client's data has ended, but not all of it
    has gone. told: refusals that were explained on stderr. menu: what the client looks at, None where
    there is none. is_chosen: the menu has led to a target that is being opened. stored: what was asked of the menu so
    far, for that target. screens: detectors over what it shows, None where nothing is looked for.
    """

    def __init__(self, number: int, kind: str, client: End, target: End, *, by_client: bool) -> None:
        self.number = number
        self.kind = kind
        self.client = client
        self.target = target
        self.by_client = by_client
        self.stage = Stage.OPENING
        self.owed: deque[Forwarded | Local] = deque()
        self.has_started = False
        self.has_pty = False
        self.variables = 0
        self.early = bytearray()
        self.has_early_eof = False
        self.wants_eof = False
        self.menu: Menu | None = None
        self.is_chosen = False
        self.stored: list[ChannelRequest] = []
        self.sftp: SftpGate | None = None
        self.scp: ScpObserver | None = None
        self.screens: ChannelScreens | None = None
        self.told = 0
        self.result: dict[str, object] = {}

    @property
    def is_finished(self) -> bool:
        return self.client.is_finished and self.target.is_finished

    @property
    def is_carrying(self) -> bool:
        """What the target says on it is for the client."""
        return self.stage in {Stage.WAITING, Stage.RAW, Stage.SFTP}

    @property
    def is_starting(self) -> bool:
        """The target has been asked to run something and has not said whether it does."""
        return self.has_started and self.stage is Stage.WAITING

    @property
    def is_flooded(self) -> bool:
        """So many requests of the client wait for an answer, or behind its data, that it must be making them up."""
        return len(self.owed) >= MAX_REPLIES_OWED or self.target.queued_messages >= MAX_QUEUED_MESSAGES

    def owe(self, reply: Forwarded | Local) -> None:
        self.owed.append(reply)
        self.settle()

    def settle(self) -> None:
        """Give the gateway's own replies whose turn has come."""
        while self.owed:
            reply = self.owed[0]
            if not isinstance(reply, Local):
                return
            self.owed.popleft()
            if reply.is_shown:
                self._answer(reply.is_success)
            if reply.then is not None:
                reply.then()

    def answered(self, is_success: bool) -> bool:
        """The target has answered the oldest request; False when it owed no answer."""
        reply = self.owed[0] if self.owed else None
        if not isinstance(reply, Forwarded):
            return False
        self.owed.popleft()
        if reply.is_shown:
            self._answer(is_success)
        if reply.then is not None:
            reply.then(is_success)
        self.settle()
        return True

    def _answer(self, is_success: bool) -> None:
        number = self.client.number
        self.client.send_message(channel_success(number) if is_success else channel_failure(number))
