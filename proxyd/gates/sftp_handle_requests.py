"""sftp requests on open files. What a handle may be used for was judged when it was opened; a handle that was not
opened through the gate, or is closed, is refused.
"""

from __future__ import annotations

import msgspec

from protocols.ssh.sftp import MAX_DATA_BYTES, Kind, WriteHead, write_head
from protocols.ssh.sftp_replies import StatusCode
from protocols.ssh.sftp_requests import FSYNC, CopyData, ExtendedOnHandle, OnHandle, Read
from proxyd.gates import sftp_verbs
from proxyd.gates.sftp_state import (
    OwedAttributes,
    OwedClose,
    OwedOnFile,
    OwedOther,
    OwedRead,
    SftpState,
)
from proxyd.gates.sftp_transfers import OpenFile

HandleRequest = Read | OnHandle | ExtendedOnHandle | CopyData

_NOT_FOR_READING = "this handle was not opened for reading"
_NOT_FOR_WRITING = "this handle was not opened for writing"


class HandleRequests:
    def __init__(self, state: SftpState) -> None:
        self._state = state

    def handle(self, request: HandleRequest) -> None:
        match request:
            case Read():
                self._read(request)
            case OnHandle():
                self._on_handle(request)
            case ExtendedOnHandle(name=extension):
                file = self._file(request.id, request.handle)
                reply = Kind.STATUS if extension == FSYNC else Kind.EXTENDED_REPLY
                if file is not None:
                    self._state.forward(request, OwedOther(request.id, reply))
            case CopyData():
                self._copy(request)

    def write(self, head: WriteHead) -> OpenFile | None:
        """A WRITE begins; None when it is refused, and its data is to be dropped."""
        file = self._file(head.id, head.handle)
        if file is None:
            return None
        if not file.may_write:
            self._deny(head.id, _NOT_FOR_WRITING)
            return None
        identity = self._state.new_id()
        self._state.owed[identity] = OwedOnFile(head.id, file)
        self._state.to_target(write_head(identity, head.handle, head.offset, head.size))
        file.pending += 1
        file.writing.begin(head.offset)
        return file

    def _read(self, request: Read) -> None:
        file = self._file(request.id, request.handle)
        if file is None:
            return
        if not file.may_read:
            self._deny(request.id, _NOT_FOR_READING)
            return
        if request.length > MAX_DATA_BYTES:
            # A short answer is always allowed; a longer one than this would not be let through.
            request = msgspec.structs.replace(request, length=MAX_DATA_BYTES)
        file.pending += 1
        self._state.forward(request, OwedRead(request.id, file, request.offset, request.length))

    def _on_handle(self, request: OnHandle) -> None:
        state = self._state
        file = self._file(request.id, request.handle)
        if file is None:
            return
        match request.kind:
            case Kind.CLOSE:
                # The target may give the same handle again from here on, even before it answers.
                del state.handles[request.handle]
                state.forward(request, OwedClose(request.id, file))
            case Kind.READDIR if not file.is_directory:
                state.refuse(request.id, StatusCode.FAILURE, "this handle is not a directory's")
            case Kind.READDIR:
                state.forward(request, OwedOther(request.id, Kind.NAME))
            case Kind.FSTAT:
                state.forward(request, OwedAttributes(request.id, file.path, file))
            case _:
                self._change(request, file)

    def _change(self, request: OnHandle, file: OpenFile) -> None:
        """FSETSTAT. To set the size of a file that is open for writing is to write to it, and that was judged."""
        verbs = sftp_verbs.of_change(request.attributes)
        if file.may_write:
            verbs = tuple(verb for verb in verbs if verb != sftp_verbs.WRITE)
        if not self._state.is_allowed(request.id, verbs, file.path):
            return
        size = request.attributes.size if request.attributes is not None else None
        if size is not None and file.may_write:
            file.writing.resized(size)
        file.pending += 1
        self._state.forward(request, OwedOnFile(request.id, file, is_write=False))

    def _copy(self, request: CopyData) -> None:
        source, sink = self._file(request.id, request.source), None
        if source is not None:
            sink = self._file(request.id, request.sink)
        if source is None or sink is None:
            return
        if not source.may_read or not sink.may_write:
            self._deny(request.id, _NOT_FOR_WRITING if source.may_read else _NOT_FOR_READING)
            return
        sink.writing.is_broken = True  # what the target copies itself is not seen here
        sink.pending += 1
        self._state.forward(request, OwedOnFile(request.id, sink))

    def _file(self, client_id: int, handle: bytes) -> OpenFile | None:
        file = self._state.handles.get(handle)
        if file is None:
            self._state.refuse(client_id, StatusCode.FAILURE, "there is no such handle")
        return file

    def _deny(self, client_id: int, why: str) -> None:
        self._state.refuse(client_id, StatusCode.PERMISSION_DENIED, why)
