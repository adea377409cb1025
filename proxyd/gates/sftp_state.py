"""What the parts of the sftp gate share: what goes out, the replies that the target owes, the open files.

Owns the ids: every request goes to the target under an id of the gateway's own, so neither a client that uses one id
twice nor the gate's own questions can confuse a reply; each reply goes back under the id that the client gave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from policy.decision import Decision, Effect
from policy.facts import SshFacts, SshOperation
from protocols.errors import RemoteProtocolError
from protocols.ssh.sftp import Kind, packet
from protocols.ssh.sftp_attributes import Attributes
from protocols.ssh.sftp_replies import StatusCode, status
from proxyd.gates.files import FileContents, FileRecord
from proxyd.gates.refusals import refusal_text
from proxyd.gates.sftp_transfers import OpenFile

MAX_HANDLES = 1024
MAX_OWED = 1024  # replies that the target may owe before the client has to wait
MAX_LATE_ANSWERS = 256
MAX_KNOWN_SIZES = 256

Judge = Callable[[SshFacts], Decision]


class SftpActions:
    """What is to be done, in this order: tape `judged`, then `files`; send; then `close`, with that reason."""

    __slots__ = ("close", "files", "judged", "to_client", "to_target")

    def __init__(self) -> None:
        self.judged: list[tuple[SshFacts, Decision]] = []
        self.files: list[FileRecord] = []
        self.to_target: list[bytes] = []
        self.to_client: list[bytes] = []
        self.close: str | None = None


@dataclass(frozen=True, slots=True)
class OwedOther:
    """`reply`: the kind that may come besides a status. is_change: it may change what paths lead to."""

    client_id: int
    reply: Kind
    is_change: bool = False


@dataclass(frozen=True, slots=True)
class OwedRead:
    client_id: int
    file: OpenFile
    offset: int
    length: int
    reply: Kind = Kind.DATA


@dataclass(frozen=True, slots=True)
class OwedOnFile:
    """WRITE and copy-data; not is_write: a change of an open file's attributes."""

    client_id: int
    file: OpenFile
    is_write: bool = True
    reply: Kind = Kind.STATUS


@dataclass(frozen=True, slots=True)
class OwedClose:
    client_id: int
    file: OpenFile
    reply: Kind = Kind.STATUS


@dataclass(frozen=True, slots=True)
class OwedOpen:
    client_id: int
    file: OpenFile
    reply: Kind = Kind.HANDLE


@dataclass(frozen=True, slots=True)
class OwedAttributes:
    """STAT, LSTAT, or FSTAT (then of `file`)."""

    client_id: int
    path: str
    file: OpenFile | None = None
    reply: Kind = Kind.ATTRS


@dataclass(frozen=True, slots=True)
class OwedLimits:
    client_id: int
    reply: Kind = Kind.EXTENDED_REPLY


@dataclass(frozen=True, slots=True)
class OwedProbe:
    """A question of the gate's own."""

    reply: Kind


Owed = OwedOther | OwedRead | OwedOnFile | OwedClose | OwedOpen | OwedAttributes | OwedLimits | OwedProbe


class Encodable(Protocol):
    def encode(self, identity: int) -> bytes: ...


class SftpState:
    """One sftp channel's. `start` is the directory in which relative paths begin, None until the target has said."""

    def __init__(self, judge: Judge, contents: FileContents) -> None:
        self.actions = SftpActions()
        self.contents = contents
        self.start: str | None = None
        self.extensions: frozenset[str] = frozenset()
        self.handles: dict[bytes, OpenFile] = {}
        self.files: set[OpenFile] = set()  # open, or closing and not recorded yet
        self.owed: dict[int, Owed] = {}
        self.opening = 0
        self.unsettled = 0  # renames and links that the target has not answered
        self.is_passing_data = False  # in the midst of a DATA to the client: nothing else may be put there
        self._judge = judge
        self._next_id = 0
        self._to_target: list[bytes | memoryview] = []
        self._to_client: list[bytes | memoryview] = []
        self._late: list[bytes] = []
        self._sizes: dict[str, int] = {}

    @property
    def is_congested(self) -> bool:
        return len(self.owed) >= MAX_OWED or len(self._late) >= MAX_LATE_ANSWERS

    # To the target

    def new_id(self) -> int:
        while (identity := self._next_id) in self.owed:
            self._next_id = (identity + 1) & 0xFFFFFFFF
        self._next_id = (identity + 1) & 0xFFFFFFFF
        return identity

    def forward(self, request: Encodable, owed: Owed) -> None:
        identity = self.new_id()
        self.owed[identity] = owed
        self._to_target.append(request.encode(identity))
        if isinstance(owed, OwedOther) and owed.is_change:
            self.unsettled += 1

    def to_target(self, data: bytes | memoryview) -> None:
        self._to_target.append(data)

    # To the client

    def to_client(self, data: bytes | memoryview) -> None:
        """The next bytes of what the target says."""
        self._to_client.append(data)

    def answer(self, data: bytes) -> None:
        """A whole packet of the gate's own, or of the target's, when it is its turn."""
        if self.is_passing_data:
            self._late.append(data)
        else:
            self._to_client.append(data)

    def refuse(self, client_id: int, code: StatusCode, message: str) -> None:
        self.answer(status(client_id, code, f"proxyd: {message}"))

    def answer_rest(self, client_id: int, kind: int, rest: bytes) -> None:
        self.answer(packet(kind, client_id, rest))

    def data_passed(self) -> None:
        self.is_passing_data = False
        self._to_client += self._late
        self._late = []

    def flush(self) -> None:
        """Put together what has gathered: one copy, one piece for each side."""
        if self._to_target:
            self.actions.to_target.append(b"".join(self._to_target))
            self._to_target = []
        if self._to_client:
            self.actions.to_client.append(b"".join(self._to_client))
            self._to_client = []

    # Judging

    def judge(self, verb: str, path: str, other_path: str = "") -> Decision:
        facts = SshFacts(SshOperation.FILE, verb=verb, path=path, other_path=other_path)
        decision = self._judge(facts)
        self.actions.judged.append((facts, decision))
        return decision

    def is_allowed(self, client_id: int, verbs: tuple[str, ...], path: str, other_path: str = "") -> bool:
        """Judges every verb; a refusal is answered. Each verb is judged, so that the tape says what was asked."""
        decisions = [self.judge(verb, path, other_path) for verb in verbs]
        refused = next((decision for decision in decisions if decision.effect is not Effect.ALLOW), None)
        if refused is not None:
            self.answer(status(client_id, StatusCode.PERMISSION_DENIED, refusal_text(refused)))
        return refused is None

    # Open files

    def opened(self, handle: bytes, file: OpenFile) -> None:
        if handle in self.handles:
            raise RemoteProtocolError("the target gave a handle that is in use")
        file.size = self._sizes.get(file.path)
        self.handles[handle] = file
        self.files.add(file)

    def settle(self, file: OpenFile) -> None:
        """Something that concerned the file was answered: say what is to be said of it when that was the last."""
        if file.is_over and file in self.files:
            self.files.remove(file)
            self.actions.files += file.records()

    def has_size(self, path: str, attributes: Attributes) -> None:
        if attributes.size is None or attributes.is_link:
            return
        if len(self._sizes) >= MAX_KNOWN_SIZES:
            del self._sizes[next(iter(self._sizes))]
        self._sizes[path] = attributes.size
