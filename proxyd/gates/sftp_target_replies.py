"""What the sftp target answers: matched to what it owes, read where the gate must know, and passed on.

A reply that nobody asked for, or of a kind that the request does not have, ends the conversation.
"""

from __future__ import annotations

from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.ssh.sftp import MAX_DATA_BYTES, DataHead, Kind, Packet, Payload, data_head, split_id
from protocols.ssh.sftp_replies import (
    ServerLimits,
    StatusCode,
    attributes_of,
    handle_of,
    status_code,
)
from protocols.ssh.sftp_requests import unexpected
from proxyd.gates.sftp_paths import Reply
from proxyd.gates.sftp_state import (
    MAX_HANDLES,
    Owed,
    OwedAttributes,
    OwedClose,
    OwedLimits,
    OwedOnFile,
    OwedOpen,
    OwedOther,
    OwedProbe,
    OwedRead,
    SftpState,
)

# OpenSSH's own figures: what a client asks by these fits into a packet that the gate lets through.
_LIMITS = ServerLimits(256 * 1024, MAX_DATA_BYTES - 1024, MAX_DATA_BYTES - 1024, MAX_HANDLES)


class TargetReplies:
    def __init__(self, state: SftpState) -> None:
        self._state = state
        self._read: OwedRead | None = None  # the DATA that is being passed

    def handle(self, reply: Packet) -> Reply | None:
        """What a probe of the gate's has found out; None when the reply was for the client."""
        owed = self._owed(split_id(reply), reply.kind)
        kind, rest = reply.kind, reply.body[4:]
        code = status_code(rest) if kind == Kind.STATUS else None
        if isinstance(owed, OwedProbe):
            if code == StatusCode.OK:
                raise RemoteProtocolError("the target answers a question with nothing but success")
            return Reply(kind, rest)
        match owed:
            case OwedRead():
                self._ended(owed, code)
            case OwedOnFile():
                owed.file.pending -= 1
                if code != StatusCode.OK and owed.is_write:
                    owed.file.writing.is_broken = True
                self._state.settle(owed.file)
            case OwedClose():
                owed.file.is_closed = code == StatusCode.OK
                self._state.settle(owed.file)
            case OwedOpen():
                self._state.opening -= 1
                if kind == Kind.HANDLE:
                    self._state.opened(handle_of(rest), owed.file)
            case OwedAttributes() if kind == Kind.ATTRS:
                self._learn_size(owed, rest)
            case OwedLimits() if kind == Kind.EXTENDED_REPLY:
                rest = _clamped(ServerLimits.parse(rest)).encode()
            case OwedOther(is_change=True):
                self._state.unsettled -= 1
        self._state.answer_rest(owed.client_id, kind, rest)
        return None

    def data(self, head: DataHead) -> None:
        owed = self._owed(head.id, Kind.DATA)
        if not isinstance(owed, OwedRead):
            raise unexpected(Kind.DATA, "target")
        if head.size > owed.length:
            raise RemoteProtocolError("the target answers a READ with more than was asked for")
        owed.file.reading.begin(owed.offset)
        self._read = owed
        self._state.is_passing_data = True
        self._state.to_client(data_head(owed.client_id, head.size))

    def payload(self, payload: Payload) -> None:
        owed = self._read
        if owed is None:
            raise RemoteProtocolError("data without a DATA packet")
        owed.file.reading.add(payload.data)
        self._state.to_client(payload.data)
        if payload.is_last:
            self._read = None
            owed.file.pending -= 1
            self._state.data_passed()
            self._state.settle(owed.file)

    def _owed(self, identity: int, kind: int) -> Owed:
        owed = self._state.owed.pop(identity, None)
        if owed is None:
            raise RemoteProtocolError("the target sent an sftp reply that nobody is waiting for")
        if kind not in {Kind.STATUS, owed.reply}:
            raise unexpected(kind, "target")
        return owed

    def _ended(self, owed: OwedRead, code: int | None) -> None:
        """A READ that was answered by a status."""
        owed.file.pending -= 1
        if code == StatusCode.EOF:
            owed.file.reading.ended_at(owed.offset)
        else:
            owed.file.reading.is_broken = True
        self._state.settle(owed.file)

    def _learn_size(self, owed: OwedAttributes, rest: bytes) -> None:
        try:
            attributes = attributes_of(rest)
        except ProtocolError:
            return  # the client may make of it what it can
        self._state.has_size(owed.path, attributes)
        if owed.file is not None:
            owed.file.size = attributes.size


def _clamped(limits: ServerLimits) -> ServerLimits:
    pairs = zip(_fields(limits), _fields(_LIMITS), strict=True)
    return ServerLimits(*(min(theirs, ours) if theirs else ours for theirs, ours in pairs))


def _fields(limits: ServerLimits) -> tuple[int, int, int, int]:
    return limits.packet_bytes, limits.read_bytes, limits.write_bytes, limits.handles
