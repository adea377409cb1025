"""sftp requests that name paths: located, judged, and passed on with the path that was judged.

Each request is one generator (see `Work`). The gate runs one at a time and lets nothing of the client pass meanwhile,
so no request overtakes another, and what was found out about a path still holds, as far as this channel goes, when
the request arrives. What other sessions do to the target's links in that moment cannot be seen from here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Generator
from enum import Enum

import msgspec

from protocols.ssh.sftp import Kind
from protocols.ssh.sftp_replies import StatusCode, name, single_name
from protocols.ssh.sftp_requests import (
    HARDLINK,
    LSETSTAT,
    STATVFS,
    ExtendedOnPath,
    ExtendedOnTwoPaths,
    OnPath,
    OnTwoPaths,
    Open,
    OpenFlag,
)
from proxyd.gates import sftp_paths, sftp_verbs
from proxyd.gates.sftp_paths import Probe, Reply, Resolution, Unlocated, absolute, asked, normalised
from proxyd.gates.sftp_state import MAX_HANDLES, OwedAttributes, OwedOpen, OwedOther, SftpState
from proxyd.gates.sftp_transfers import OpenFile

PathRequest = Open | OnPath | OnTwoPaths | ExtendedOnPath | ExtendedOnTwoPaths
# Yields a question to the target, and is sent the reply; or None, to go on when no change of paths is under way.
Work = Generator[Probe | None, Reply | None, None]
How = Callable[[str], Resolution]

_replace = msgspec.structs.replace
_LINK = (sftp_verbs.LINK,)
_RENAME = (sftp_verbs.RENAME,)
_STAT: tuple[str, ...] = (sftp_verbs.STAT,)


class SymlinkOrder(Enum):
    """In which order the target reads the paths of SYMLINK. OpenSSH's is not the draft's, and clients follow it."""

    OPENSSH = "what it points to, then the link"
    EITHER = "not known: both readings are judged"


class PathRequests:
    def __init__(
        self, state: SftpState, *, resolves_paths: Callable[[], bool], symlink_order: SymlinkOrder
    ) -> None:
        self._state = state
        self._resolves_paths = resolves_paths
        self._symlink_order = symlink_order

    def handle(self, request: PathRequest) -> Work:
        """Only once the start directory is known."""
        # A target may work on several requests at once: while it still moves things, paths cannot be resolved.
        if self._resolves_paths() and self._state.unsettled:
            yield None
        match request:
            case Open():
                yield from self._open(request)
            case OnPath(kind=Kind.REALPATH):
                yield from self._real_path(request)
            case OnPath():
                yield from self._on_path(request)
            case ExtendedOnPath(name=extension):
                how = self._extended_on_path if extension in _PASSED_ON else self._expand_path
                yield from how(request)
            case OnTwoPaths(kind=Kind.SYMLINK):
                yield from self._symlink(request)
            case OnTwoPaths():
                yield from self._rename(request)
            case ExtendedOnTwoPaths(name=extension):
                yield from self._hardlink(request) if extension == HARDLINK else self._rename(request)

    # One path

    def _open(self, request: Open) -> Work:
        if not self._has_room(request.id):
            return
        is_new = request.flags & OpenFlag.CREAT and request.flags & OpenFlag.EXCL
        verbs = sftp_verbs.of_open(request.flags, request.attributes)
        found = yield from self._locate(request.path, sftp_paths.new_entry if is_new else sftp_paths.followed)
        path = self._judged(request.id, verbs, found, request.path)
        if path is None:
            return
        file = OpenFile(
            path,
            self._state.contents,
            may_read=sftp_verbs.READ in verbs,
            may_write=sftp_verbs.WRITE in verbs,
            is_made=bool(request.flags & (OpenFlag.CREAT | OpenFlag.TRUNC)),
            appends=bool(request.flags & OpenFlag.APPEND),
        )
        self._state.opening += 1
        self._state.forward(_replace(request, path=path), OwedOpen(request.id, file))

    def _on_path(self, request: OnPath) -> Work:
        if request.kind == Kind.OPENDIR and not self._has_room(request.id):
            return
        verbs, how = _on_path_needs(request)
        found = yield from self._locate(request.path, how)
        path = self._judged(request.id, verbs, found, request.path)
        if path is None:
            return
        forwarded = _replace(request, path=path)
        match request.kind:
            case Kind.STAT | Kind.LSTAT:
                self._state.forward(forwarded, OwedAttributes(request.id, path))
            case Kind.OPENDIR:
                self._state.opening += 1
                self._state.forward(
                    forwarded, OwedOpen(request.id, OpenFile(path, self._state.contents, is_directory=True))
                )
            case Kind.READLINK:
                self._state.forward(forwarded, OwedOther(request.id, Kind.NAME))
            case _:
                self._state.forward(forwarded, OwedOther(request.id, Kind.STATUS))

    def _extended_on_path(self, request: ExtendedOnPath) -> Work:
        if request.name == STATVFS:
            verbs, how, reply = _STAT, sftp_paths.followed, Kind.EXTENDED_REPLY
        else:
            verbs, how, reply = sftp_verbs.of_change(request.attributes), sftp_paths.looked_at, Kind.STATUS
        found = yield from self._locate(request.path, how)
        path = self._judged(request.id, verbs, found, request.path)
        if path is not None:
            self._state.forward(_replace(request, path=path), OwedOther(request.id, reply))

    def _has_room(self, client_id: int) -> bool:
        has_room = len(self._state.handles) + self._state.opening < MAX_HANDLES
        if not has_room:
            self._state.refuse(client_id, StatusCode.FAILURE, f"more than {MAX_HANDLES} files are open")
        return has_room

    # The name of a path. It is answered out of the target's answer to the gate, for what it found is what is judged.

    def _real_path(self, request: OnPath) -> Work:
        state = self._state
        lexical = self._lexical(request.path)
        if not self._resolves_paths() and lexical != state.start:
            if state.is_allowed(request.id, _STAT, lexical):
                reply = yield from asked(OnPath(Kind.REALPATH, 0, lexical))
                self._name(request.id, reply, is_judged=True)
            return
        reply = yield from asked(OnPath(Kind.REALPATH, 0, absolute(self._start, request.path)))
        # Whether anything is there is told to those who may stat it.
        if reply.kind == Kind.NAME or state.is_allowed(request.id, _STAT, lexical):
            self._name(request.id, reply, is_judged=False)

    def _expand_path(self, request: ExtendedOnPath) -> Work:
        """A path that may begin with `~`. Where it leads only the target can tell."""
        reply = yield from asked(request)
        if reply.kind == Kind.NAME or self._state.is_allowed(request.id, _STAT, self._lexical(request.path)):
            self._name(request.id, reply, is_judged=False)

    def _name(self, client_id: int, reply: Reply, *, is_judged: bool) -> None:
        """The start directory's name is given to all: no client begins without it, and it tells nothing of files."""
        state = self._state
        if reply.kind != Kind.NAME:
            state.answer_rest(client_id, reply.kind, reply.rest)
            return
        found = single_name(reply.rest)
        path = normalised(found)
        if is_judged or path == state.start or state.is_allowed(client_id, _STAT, path):
            state.answer(name(client_id, found))

    # Two paths

    def _rename(self, request: OnTwoPaths | ExtendedOnTwoPaths) -> Work:
        old = yield from self._locate(request.first, sftp_paths.entry)
        new = yield from self._locate(request.second, sftp_paths.entry)
        paths = self._both_judged(request.id, _RENAME, (old, request.first), (new, request.second))
        if paths is not None:
            forwarded = _replace(request, first=paths[0], second=paths[1])
            self._state.forward(forwarded, OwedOther(request.id, Kind.STATUS, is_change=True))

    def _hardlink(self, request: ExtendedOnTwoPaths) -> Work:
        """A hard link is another name of a file: it is made to the file that was judged, never to a link to it."""
        new = yield from self._locate(request.second, sftp_paths.entry)
        old = yield from self._locate(request.first, sftp_paths.followed)
        paths = self._both_judged(request.id, _LINK, (new, request.second), (old, request.first))
        if paths is not None:
            forwarded = _replace(request, first=paths[1], second=paths[0])
            self._state.forward(forwarded, OwedOther(request.id, Kind.STATUS, is_change=True))

    def _symlink(self, request: OnTwoPaths) -> Work:
        """What it points to goes on as it was written: that is the content of the link."""
        link = yield from self._judged_symlink(request.id, request.second, request.first)
        if link is None:
            return
        if self._symlink_order is SymlinkOrder.EITHER:
            other = yield from self._judged_symlink(request.id, request.first, request.second)
            if other is None:
                return
        forwarded = _replace(request, second=link)
        self._state.forward(forwarded, OwedOther(request.id, Kind.STATUS, is_change=True))

    def _judged_symlink(self, client_id: int, link: str, target: str) -> Generator[Probe, Reply, str | None]:
        found = yield from self._locate(link, sftp_paths.entry)
        place = found if isinstance(found, str) else self._lexical(link)
        if self._resolves_paths():
            leads_to = yield from sftp_paths.pointed_to(place, target)
        else:
            leads_to = normalised(absolute(posixpath.dirname(place), target))
        paths = self._both_judged(client_id, _LINK, (found, link), (leads_to, target))
        return None if paths is None else paths[0]

    # Locating and judging

    @property
    def _start(self) -> str:
        return self._state.start or "/"

    def _lexical(self, written: str) -> str:
        return normalised(absolute(self._start, written))

    def _locate(self, written: str, how: How) -> Resolution:
        resolve = how if self._resolves_paths() else sftp_paths.as_written
        return resolve(absolute(self._start, written))

    def _judged(
        self, client_id: int, verbs: tuple[str, ...], found: str | Unlocated, written: str
    ) -> str | None:
        """The path if all is allowed; else the client has its answer.

        What could not be located is judged as it was written, so that the target's own error (is there anything?)
        reaches only those who may ask.
        """
        path = found if isinstance(found, str) else self._lexical(written)
        if not self._state.is_allowed(client_id, verbs, path):
            return None
        return self._found(client_id, found)

    def _both_judged(
        self,
        client_id: int,
        verbs: tuple[str, ...],
        path: tuple[str | Unlocated, str],
        other: tuple[str | Unlocated, str],
    ) -> tuple[str, str] | None:
        """Like `_judged`, for two paths: each as it was found and as it was written."""
        texts = [
            found if isinstance(found, str) else self._lexical(written) for found, written in (path, other)
        ]
        if not self._state.is_allowed(client_id, verbs, *texts):
            return None
        if self._found(client_id, path[0]) is None or self._found(client_id, other[0]) is None:
            return None
        return texts[0], texts[1]

    def _found(self, client_id: int, found: str | Unlocated) -> str | None:
        if isinstance(found, str):
            return found
        self._state.answer_rest(client_id, Kind.STATUS, found.rest)
        return None


_PASSED_ON = frozenset({STATVFS, LSETSTAT})


def _on_path_needs(request: OnPath) -> tuple[tuple[str, ...], How]:
    """The verbs, and how the path is located."""
    if request.kind == Kind.MKDIR:
        return sftp_verbs.of_mkdir(request.attributes), sftp_paths.entry
    if (verb := sftp_verbs.VERB_OF_ENTRY.get(request.kind)) is not None:
        return (verb,), sftp_paths.looked_at if request.kind == Kind.LSTAT else sftp_paths.entry
    if request.kind == Kind.SETSTAT:
        return sftp_verbs.of_change(request.attributes), sftp_paths.followed
    return (sftp_verbs.VERB_OF_FOLLOWED[request.kind],), sftp_paths.followed
