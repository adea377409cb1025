"""The sftp gate between a scripted client and a scripted target: the playbook of its tests.

`client(...)` and `target(...)` hand it packets; what it passes on or says is then taken with `asked()` (the next
request that the target got, typed, its id the gateway's own) and `told()` (the next reply that the client got).
`done()` fails when anything was not looked at: a packet, a judgement, a file. The target's answers are made from the
request that they answer.
"""

from __future__ import annotations

from collections import deque

import msgspec

from policy.decision import Decision, Effect, Reason
from policy.facts import SshFacts
from protocols.ssh.fields import string, uint32
from protocols.ssh.sftp import DataHead, Kind, Packet, PacketReader, Payload, WriteHead, init_packet, packet
from protocols.ssh.sftp_attributes import Attributes
from protocols.ssh.sftp_replies import StatusCode, Version, name, status, status_code
from protocols.ssh.sftp_requests import OnPath, Open, Request, Unknown, decode_request
from proxyd.gates.files import FileContents, FileRecord
from proxyd.gates.sftp import SftpGate
from proxyd.gates.sftp_path_requests import SymlinkOrder
from proxyd.gates.sftp_verbs import EXTENSIONS

START = "/home/deploy"
DENY = Decision(Effect.DENY, (Reason("no-secrets", "secrets are off limits", "Ask for an account."),))
HOLD = Decision(Effect.HOLD, (Reason("held", "this needs a second pair of eyes"),))
ALLOW = Decision(Effect.ALLOW)
LINK = Attributes(permissions=0o120777)
FILE = Attributes(permissions=0o100644)


class Sent(msgspec.Struct, frozen=True):
    """A WRITE that the target got."""

    id: int
    handle: bytes
    offset: int
    data: bytes


class Told(msgspec.Struct, frozen=True):
    """A reply that the client got; `text` of a status."""

    kind: int
    id: int
    rest: bytes

    @property
    def code(self) -> int:
        assert self.kind == Kind.STATUS, self
        return status_code(self.rest)

    @property
    def text(self) -> str:
        length = int.from_bytes(self.rest[4:8])
        return self.rest[8 : 8 + length].decode()


def judge(facts: SshFacts) -> Decision:
    """Whatever touches /secret is denied, /held is held."""
    for path in (facts.path, facts.other_path):
        if path.startswith("/secret"):
            return DENY
        if path.startswith("/held"):
            return HOLD
    return ALLOW


class Scene:
    """resolves_paths: then `target` has to answer the gate's own questions; see `resolve`."""

    def __init__(
        self,
        *,
        resolves_paths: bool = False,
        contents: FileContents | None = None,
        symlink_order: SymlinkOrder = SymlinkOrder.OPENSSH,
        extensions: tuple[str, ...] = EXTENSIONS,
        begin: bool = True,
    ) -> None:
        self.gate = SftpGate(
            judge,
            resolves_paths=lambda: resolves_paths,
            contents=contents,
            symlink_order=symlink_order,
        )
        self.close: str | None = None
        self._requests: deque[Request | Sent | Packet] = deque()
        self._replies: deque[Told | Version] = deque()
        self._judged: deque[tuple[str, str, str, str]] = deque()
        self._files: deque[FileRecord] = deque()
        self._to_target = _Packets(Kind.WRITE)
        self._to_client = _Packets(Kind.DATA)
        if begin:
            self._begin(extensions)

    def _begin(self, extensions: tuple[str, ...]) -> None:
        self.client(init_packet(Kind.INIT, 3))
        assert self.asked() == Packet(Kind.INIT, uint32(3))
        self.target(Version(3, tuple((extension, b"1") for extension in extensions)).encode())
        assert isinstance(self.told(), Version)
        start = self.asked()
        assert isinstance(start, OnPath)
        assert (start.kind, start.path) == (Kind.REALPATH, ".")
        self.target(name(start.id, START))

    # What happens

    def client(self, *packets: bytes) -> None:
        for data in packets:
            self.gate.from_client(data)
            self._look()

    def ask(self, request: Request) -> None:
        """The client asks, under the request's own id."""
        assert not isinstance(request, Unknown)
        self.client(request.encode(request.id))

    def target(self, *packets: bytes) -> None:
        for data in packets:
            self.gate.from_target(data)
            self._look()

    def resolve(
        self, asked_path: str, real_path: str | None, code: StatusCode = StatusCode.NO_SUCH_FILE
    ) -> None:
        """The gate asks where `asked_path` leads; None: the target refuses with `code`."""
        question = self.question(Kind.REALPATH, asked_path)
        self.target(status(question.id, code, "no") if real_path is None else name(question.id, real_path))

    def look_up(self, asked_path: str, attributes: Attributes | None) -> None:
        """The gate asks whether there is something at `asked_path`."""
        question = self.question(Kind.LSTAT, asked_path)
        if attributes is None:
            self.target(status(question.id, StatusCode.NO_SUCH_FILE, "no"))
        else:
            self.target(packet(Kind.ATTRS, question.id, attributes.encode()))

    def question(self, kind: Kind, path: str) -> OnPath:
        question = self.asked()
        assert isinstance(question, OnPath)
        assert (question.kind, question.path) == (kind, path)
        return question

    def opened(self, client_id: int, path: str, handle: bytes, flags: int = 1) -> None:
        """A file is opened without more ado (where paths are not resolved)."""
        self.ask(Open(client_id, path, flags))
        request = self.asked()
        assert isinstance(request, Open)
        while self._judged:
            assert self.judged()[0] == "allow"
        self.target(packet(Kind.HANDLE, request.id, string(handle)))
        assert self.reply() == Told(Kind.HANDLE, client_id, string(handle))

    # What is looked at

    def asked(self) -> Request | Sent | Packet:
        assert self._requests, "the target was asked nothing"
        return self._requests.popleft()

    def asked_nothing(self) -> bool:
        return not self._requests

    def told(self) -> Told | Version:
        assert self._replies, "the client was told nothing"
        return self._replies.popleft()

    def reply(self) -> Told:
        told = self.told()
        assert isinstance(told, Told)
        return told

    def judged(self) -> tuple[str, str, str, str]:
        """Effect, verb, path, other path."""
        assert self._judged, "nothing was judged"
        return self._judged.popleft()

    def file(self) -> FileRecord:
        assert self._files, "no transfer was recorded"
        return self._files.popleft()

    def refused(self, client_id: int, code: StatusCode = StatusCode.PERMISSION_DENIED) -> str:
        told = self.reply()
        assert (told.id, told.code) == (client_id, code)
        return told.text

    def done(self) -> None:
        left = list(self._requests), list(self._replies), list(self._judged), list(self._files), self.close
        assert left == ([], [], [], [], None)

    def finish(self) -> list[FileRecord]:
        return self.gate.finish()

    def _look(self) -> None:
        work = self.gate.take_actions()
        self.close = self.close or work.close
        self._files += work.files
        for facts, decision in work.judged:
            self._judged.append((decision.effect.value, facts.verb, facts.path, facts.other_path))
        for found in self._to_target.feed(work.to_target):
            self._requests.append(_request(found))
        for found in self._to_client.feed(work.to_client):
            assert isinstance(found, Packet)
            is_version = found.kind == Kind.VERSION
            self._replies.append(Version.parse(found) if is_version else _told(found))


class _Packets:
    """A stream of packets, with content put together."""

    def __init__(self, payload_kind: Kind) -> None:
        self._reader = PacketReader(payload_kind)
        self._head: WriteHead | DataHead | None = None
        self._content = b""

    def feed(self, chunks: list[bytes]) -> list[Packet | Sent]:
        found: list[Packet | Sent] = []
        self._reader.feed(b"".join(chunks))
        while (event := self._reader.next()) is not None:
            match event:
                case Packet():
                    found.append(event)
                case Payload(data, is_last):
                    self._content += data
                    if is_last:
                        found.append(self._put_together())
                case WriteHead() | DataHead():
                    self._head, self._content = event, b""
        return found

    def _put_together(self) -> Packet | Sent:
        match self._head:
            case WriteHead(identity, handle, offset, _):
                return Sent(identity, handle, offset, self._content)
            case DataHead(identity, _):
                return Packet(Kind.DATA, uint32(identity) + string(self._content))
            case None:
                raise AssertionError("content without a head")


def _request(found: Packet | Sent) -> Request | Sent | Packet:
    return found if isinstance(found, Sent) or found.kind == Kind.INIT else decode_request(found)


def _told(found: Packet) -> Told:
    return Told(found.kind, int.from_bytes(found.body[:4]), found.body[4:])
