"""The gate of one sftp channel: packets of the client in, judged one by one; replies of the target back.

A request reaches the target only after its verbs and paths were judged (`sftp_path_requests`), or on a handle that
was opened so (`sftp_handle_requests`); what is not known is refused, and never passed. Requests keep their order.
While one has to wait for what the target says about its path, what the client sends stays unread in the reader;
`is_full` asks the caller to stop taking more. File content passes without being held.

Does no I/O. The channel gate gives it the bytes of each side and carries out what `take_actions` returns.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.ssh.sftp import (
    VERSION,
    DataHead,
    Kind,
    Packet,
    PacketReader,
    Payload,
    WriteHead,
    init_packet,
    split_id,
)
from protocols.ssh.sftp_replies import StatusCode, Version, single_name
from protocols.ssh.sftp_requests import (
    CopyData,
    ExtendedOnHandle,
    ExtendedOnPath,
    ExtendedOnTwoPaths,
    Limits,
    OnHandle,
    OnPath,
    OnTwoPaths,
    Open,
    Read,
    Request,
    Unknown,
    decode_request,
    read_init,
    unexpected,
)
from proxyd.gates.files import FileContents, FileRecord
from proxyd.gates.sftp_handle_requests import HandleRequests
from proxyd.gates.sftp_path_requests import PathRequests, SymlinkOrder, Work
from proxyd.gates.sftp_paths import Reply, normalised
from proxyd.gates.sftp_state import Judge, OwedLimits, OwedProbe, SftpActions, SftpState
from proxyd.gates.sftp_target_replies import TargetReplies
from proxyd.gates.sftp_transfers import OpenFile
from proxyd.gates.sftp_verbs import EXTENSIONS

MAX_BACKLOG_BYTES = 1024 * 1024

_REPLY_KINDS = frozenset(
    {Kind.VERSION, Kind.STATUS, Kind.HANDLE, Kind.DATA, Kind.NAME, Kind.ATTRS, Kind.EXTENDED_REPLY}
)


class SftpGate:
    """One instance a channel. resolves_paths: do rules depend on paths, so that the target has to be asked where each
    one leads? Asked anew with each request, since rules may change while the conversation goes on.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        resolves_paths: Callable[[], bool],
        contents: FileContents | None = None,
        symlink_order: SymlinkOrder = SymlinkOrder.EITHER,
    ) -> None:
        self._state = SftpState(judge, contents or FileContents())
        self._paths = PathRequests(self._state, resolves_paths=resolves_paths, symlink_order=symlink_order)
        self._handles = HandleRequests(self._state)
        self._replies = TargetReplies(self._state)
        self._client = PacketReader(Kind.WRITE)
        self._target = PacketReader(Kind.DATA)
        self._work: Work | None = None  # the request that waits for the target
        self._is_settling = False  # ... until it has moved what it is moving
        self._has_begun = False  # INIT has passed
        self._has_version = False  # VERSION has passed
        self._writing: OpenFile | None = (
            None  # the file of the WRITE that is passing; None: its data is dropped
        )
        self._is_broken = False

    @property
    def has_backlog(self) -> bool:
        """Is there anything of the client's that waits for the target? Then an end of its data has to wait too."""
        return not self._is_broken and self._is_waiting and bool(self._work or self._client.buffered_bytes)

    @property
    def pending_bytes(self) -> int:
        """What is held of the client's stream."""
        return self._client.buffered_bytes

    @property
    def is_full(self) -> bool:
        """Take no more from the client until this changes."""
        return self._client.buffered_bytes >= MAX_BACKLOG_BYTES

    def from_client(self, data: bytes) -> None:
        if self._is_broken:
            return
        self._client.feed(data)
        try:
            self._read_client()
        except ProtocolError as fault:
            self._break(f"the client broke the protocol: {fault.message}")
        self._state.flush()

    def from_target(self, data: bytes) -> None:
        if self._is_broken:
            return
        self._target.feed(data)
        try:
            while (event := self._target.next()) is not None:
                self._target_event(event)
        except ProtocolError as fault:
            self._break(f"the target broke the protocol: {fault.message}")
            self._state.flush()
            return
        self.from_client(b"")

    def take_actions(self) -> SftpActions:
        """What is to be done since the last call."""
        taken, self._state.actions = self._state.actions, SftpActions()
        return taken

    def finish(self) -> list[FileRecord]:
        """The channel is closed: what is to be said of the files that were still open."""
        files, self._state.files = self._state.files, set()
        self._is_broken = True
        return [record for file in sorted(files, key=lambda file: file.path) for record in file.records()]

    # The client

    @property
    def _is_waiting(self) -> bool:
        if self._client.is_inside_payload:
            return False
        is_starting = self._has_begun and self._state.start is None
        return is_starting or self._work is not None or self._state.is_congested

    def _read_client(self) -> None:
        while not self._is_waiting and (event := self._client.next()) is not None:
            match event:
                case Payload(data):
                    if self._writing is not None:
                        self._writing.writing.add(data)
                        self._state.to_target(data)
                case WriteHead():
                    if not self._has_begun:
                        raise RemoteProtocolError("a request before INIT")
                    self._writing = self._handles.write(event)
                case Packet():
                    self._client_packet(event)
                case DataHead():
                    raise unexpected(Kind.DATA, "client")

    def _client_packet(self, found: Packet) -> None:
        if found.kind in _REPLY_KINDS or (found.kind == Kind.INIT) == self._has_begun:
            raise unexpected(found.kind, "client")
        if found.kind == Kind.INIT:
            read_init(found)
            self._has_begun = True
            self._state.to_target(init_packet(Kind.INIT, VERSION))
            return
        identity = split_id(found)
        try:
            request = decode_request(found)
        except ProtocolError as fault:
            self._state.refuse(identity, StatusCode.BAD_MESSAGE, fault.message)
            return
        self._request(request)

    def _request(self, request: Request) -> None:
        match request:
            case Read() | OnHandle() | ExtendedOnHandle() | CopyData() if self._is_offered(request):
                self._handles.handle(request)
            case Open() | OnPath() | OnTwoPaths() | ExtendedOnPath() | ExtendedOnTwoPaths() if (
                self._is_offered(request)
            ):
                self._work = self._paths.handle(request)
                self._go_on(None)
            case Limits() if self._is_offered(request):
                self._state.forward(request, OwedLimits(request.id))
            case Unknown(identity, name):
                self._unsupported(identity, name)
            case _:
                self._unsupported(request.id, _extension_of(request))

    def _is_offered(self, request: Request) -> bool:
        name = _extension_of(request)
        return not name or name in self._state.extensions

    def _unsupported(self, identity: int, name: str) -> None:
        self._state.refuse(identity, StatusCode.OP_UNSUPPORTED, f"{name} is not supported here")

    def _go_on(self, reply: Reply | None) -> None:
        """Run the waiting request up to its next question, or to its end."""
        if self._work is None:
            return
        try:
            probe = self._work.send(reply)
        except StopIteration:
            self._work = None
            self._is_settling = False
            return
        self._is_settling = probe is None
        if probe is not None:
            self._state.forward(probe, OwedProbe(Kind.ATTRS if _is_lstat(probe) else Kind.NAME))

    # The target

    def _target_event(self, event: Packet | WriteHead | DataHead | Payload) -> None:
        match event:
            case Payload():
                self._replies.payload(event)
            case DataHead():
                self._replies.data(event)
            case Packet(kind=Kind.VERSION):
                self._version(event)
            case Packet():
                self._reply(event)
            case WriteHead():
                raise unexpected(Kind.WRITE, "target")

    def _version(self, found: Packet) -> None:
        if not self._has_begun or self._has_version:
            raise unexpected(Kind.VERSION, "target")
        version = Version.parse(found)
        if version.version != VERSION:
            raise RemoteProtocolError(
                f"it speaks version {version.version} of sftp, and the gateway only {VERSION}"
            )
        self._has_version = True
        offered = version.only(EXTENSIONS)
        self._state.extensions = frozenset(name for name, _ in offered.extensions)
        self._state.answer(offered.encode())
        self._state.forward(OnPath(Kind.REALPATH, 0, "."), OwedProbe(Kind.NAME))

    def _reply(self, found: Packet) -> None:
        if found.kind not in _REPLY_KINDS:
            raise unexpected(found.kind, "target")
        answer = self._replies.handle(found)
        if answer is not None and self._state.start is None:
            self._started(answer)
        elif answer is not None:
            self._go_on(answer)
        elif self._is_settling and not self._state.unsettled:
            self._go_on(None)

    def _started(self, answer: Reply) -> None:
        start = single_name(answer.rest) if answer.kind == Kind.NAME else ""
        if not start.startswith("/"):
            raise RemoteProtocolError("it does not name the directory in which the session starts")
        self._state.start = normalised(start)

    def _break(self, reason: str) -> None:
        self._is_broken = True
        self._state.actions.close = reason


def _is_lstat(probe: OnPath | ExtendedOnPath) -> bool:
    return isinstance(probe, OnPath) and probe.kind == Kind.LSTAT


def _extension_of(request: Request) -> str:
    """The name of the extension that it is, "" for the requests that every target knows."""
    match request:
        case ExtendedOnPath(name=name) | ExtendedOnTwoPaths(name=name) | ExtendedOnHandle(name=name):
            return name
        case CopyData():
            return "copy-data"
        case Limits():
            return "limits@openssh.com"
        case _:
            return ""
