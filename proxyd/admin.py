"""The admin socket: lists the live sessions, shows one as it happens, ends one. For people on this machine only.

A Unix socket that only proxyd's own account, root and, if one is configured, the members of a group can open; who
calls is asked of the kernel again (SO_PEERCRED), and every use is a line in the log. Must never hurt a session: a
watcher reads the tape from its file, at its own pace, so a slow one costs the session nothing, and whatever goes wrong
in here ends one caller's connection. Opened and run by the daemon.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, assert_never

import trio

from proxyd import config as configuration
from proxyd.admin_protocol import (
    Ended,
    EndSession,
    Listed,
    ListSessions,
    Refusal,
    Refused,
    Request,
    RequestFault,
    RequestReceiver,
    SessionView,
    Watching,
    WatchSession,
    command_of,
    line,
)
from proxyd.gateway import Gateway
from proxyd.listeners import ListenError, open_unix
from proxyd.metrics import SessionOutcome
from proxyd.sessions import Session
from proxyd.tape.errors import TapeError
from proxyd.telemetry import Log

MAX_CALLERS: Final = 32
REQUEST_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 5.0
END_WAIT_S: Final = 1.0
WATCH_STALL_S: Final = 60.0
POLL_S: Final = 0.05
PIECE_BYTES: Final = 64 * 1024

_OWNER_ONLY = 0o600
_OWNER_AND_GROUP = 0o660
_CREDENTIALS = struct.Struct("3i")
# Linux 4.13, socket(7); the socket module has no name for it, and takes no larger answer.
_SO_PEERGROUPS = 59
_MAX_GROUPS_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of the socket, by the kernel's word."""

    pid: int
    uid: int
    gids: frozenset[int]

    @classmethod
    def of(cls, sock: trio.socket.SocketType) -> Self:
        answer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(answer)
        return cls(pid, uid, frozenset((gid, *_groups(sock))))


class _CallerRefused(Exception):
    """The caller gets `reason` and `message`, and nothing is done."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class AdminServer:
    """Serves one socket. `group_id`: whose members may call besides root and the account that runs proxyd."""

    def __init__(self, gateway: Gateway, listener: trio.SocketListener, group_id: int | None = None) -> None:
        self._gateway = gateway
        self._listener = listener
        self._group_id = group_id
        self._log = gateway.log
        self._callers = 0

    @classmethod
    def open(cls, admin: configuration.Admin, gateway: Gateway) -> Self:
        """Raises ListenError."""
        group_id = None if admin.group is None else _group_id(admin.group)
        mode = _OWNER_ONLY if group_id is None else _OWNER_AND_GROUP
        try:
            return cls(gateway, open_unix(admin.socket, mode=mode, group_id=group_id), group_id)
        except OSError as error:
            raise ListenError(
                "admin", f"{admin.socket} cannot be opened ({error.strerror or error})", _remedy(error)
            ) from error

    def close(self) -> None:
        self._listener.socket.close()

    async def serve(self) -> None:
        """Until cancelled. Whatever breaks the socket is a line in the log and the end of this service alone."""
        try:
            await trio.serve_listeners(self._receive, [self._listener])
        except Exception:
            self._log.exception("the admin socket failed; sessions go on without it")

    def admits(self, caller: Caller) -> bool:
        return caller.uid in (0, os.geteuid()) or (
            self._group_id is not None and self._group_id in caller.gids
        )

    async def _receive(self, stream: trio.SocketStream) -> None:
        """One caller. Ends with the connection closed, whatever happens."""
        self._callers += 1
        try:
            async with stream:
                await self._answer(stream)
        except Exception:
            self._log.exception("a request to the admin socket failed")
        finally:
            self._callers -= 1

    async def _answer(self, stream: trio.SocketStream) -> None:
        caller = Caller.of(stream.socket)
        log = self._log.bind(uid=caller.uid, pid=caller.pid)
        try:
            if not self.admits(caller):
                raise _CallerRefused("forbidden", "this account may not administer proxyd")
            if self._callers > MAX_CALLERS:
                raise _CallerRefused("busy", f"{MAX_CALLERS} others are being served; try again in a moment")
            request = await _read_request(stream)
            if request is None:
                log.info("admin caller left without a request")
                return
            log = log.bind(command=command_of(request))
            await self._carry_out(request, stream, caller, log)
        except _CallerRefused as refused:
            log.warning("admin request refused", reason=refused.message)
            await _send(stream, line(Refused(refused.reason, refused.message)))

    async def _carry_out(self, request: Request, stream: trio.SocketStream, caller: Caller, log: Log) -> None:
        match request:
            case ListSessions():
                views = [line(view_of(session)) for session in self._gateway.sessions]
                log.info("admin request", sessions=len(views))
                await _send(stream, line(Listed(len(views))) + b"".join(views))
            case WatchSession():
                session = self._session(request.session)
                log = log.bind(session=session.id, subject=session.subject)
                log.info("admin request")
                log.info("admin watch over", reason=await self._watch(session, stream, caller))
            case EndSession():
                session = self._session(request.session)
                log.info("admin request", session=session.id, subject=session.subject, reason=request.reason)
                await self._end(session, request.reason, stream, caller)
            case _:
                assert_never(request)

    def _session(self, prefix: str) -> Session:
        match self._gateway.sessions.beginning(prefix):
            case [session]:
                return session
            case []:
                raise _CallerRefused("unknown", f"no live session {prefix[:64]!a}")
            case several:
                some = ", ".join(session.id for session in several[:5])
                more = ", ..." if len(several) > 5 else ""
                raise _CallerRefused(
                    "ambiguous", f"{prefix[:64]!a} begins {len(several)} session ids ({some}{more})"
                )

    # End

    async def _end(self, session: Session, reason: str, stream: trio.SocketStream, caller: Caller) -> None:
        view = view_of(session)
        # A tape that cannot be written ends the session by itself.
        with contextlib.suppress(TapeError):
            session.record("ended by an administrator", {"uid": caller.uid, "reason": reason})
        told = "ended by an administrator"
        session.end(SessionOutcome.ENDED, f"{told}: {reason}" if reason else told)
        with trio.move_on_after(END_WAIT_S):
            await session.gone.wait()
        await _send(stream, line(Ended(view, session.gone.is_set())))

    # Watch

    async def _watch(self, session: Session, stream: trio.SocketStream, caller: Caller) -> str:
        """Send the tape while it is written; why that ended."""
        file = _open_tape(session.tape_path)
        try:
            size = os.fstat(file).st_size
            try:
                session.record("watched", {"uid": caller.uid})
            except TapeError as fault:
                raise _CallerRefused("unrecorded", f"the tape cannot take it: {fault}") from fault
            await _send(stream, line(Watching(view_of(session), size)))
            return await _follow(file, session, stream)
        finally:
            os.close(file)


async def _read_request(stream: trio.SocketStream) -> Request | None:
    """None when the caller leaves instead."""
    receiver = RequestReceiver()
    with trio.move_on_after(REQUEST_TIMEOUT_S) as scope:
        try:
            while data := await stream.receive_some(PIECE_BYTES):
                request = receiver.receive(bytes(data))
                if request is not None:
                    return request
        except trio.BrokenResourceError:
            return None
        except RequestFault as fault:
            raise _CallerRefused("malformed", str(fault)) from fault
    if scope.cancelled_caught:
        raise _CallerRefused("malformed", f"no whole request within {REQUEST_TIMEOUT_S:g} s")
    return None


async def _send(stream: trio.SocketStream, data: bytes) -> None:
    """A caller who has gone, or does not read, gets no more of it."""
    with trio.move_on_after(ANSWER_TIMEOUT_S), contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(data)


async def _follow(file: int, session: Session, stream: trio.SocketStream) -> str:
    """Copy the file to the watcher until the session is gone and all of it is sent, or the watcher is gone."""
    outcome = "the watcher left"

    async def copy() -> None:
        nonlocal outcome
        outcome = await _copy(file, session, stream)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(copy)
        # A watcher has nothing more to say: whatever comes is its end.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.receive_some(1)
        nursery.cancel_scope.cancel()
    return outcome


async def _copy(file: int, session: Session, stream: trio.SocketStream) -> str:
    position = 0
    while True:
        is_gone = session.gone.is_set()  # asked first: what is written before that is read below
        piece = os.pread(file, PIECE_BYTES, position)
        if piece:
            position += len(piece)
            with trio.move_on_after(WATCH_STALL_S) as scope:
                try:
                    await stream.send_all(piece)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return "the watcher left"
            if scope.cancelled_caught:
                return "the watcher did not read"
        elif is_gone:
            return "the session is over"
        else:
            with trio.move_on_after(POLL_S):
                await session.gone.wait()


def view_of(session: Session) -> SessionView:
    return SessionView(
        id=session.id,
        protocol=session.protocol,
        listener=session.listener,
        subject=session.subject,
        target=session.target,
        detail=session.detail,
        login=session.login,
        client=session.client,
        started_at=session.started_at,
        idle_s=round(session.idle_s(), 1),
        operations=session.operations(),
        tape=str(session.tape_path or ""),
    )


def _open_tape(path: Path | None) -> int:
    try:
        if path is None:
            raise _CallerRefused("unrecorded", "this session has no tape yet; try again in a moment")
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise _CallerRefused("unrecorded", f"the tape {path} cannot be read ({error.strerror})") from error


def _groups(sock: trio.socket.SocketType) -> tuple[int, ...]:
    """The caller's supplementary groups; none where the kernel does not tell, or they are more than 256."""
    try:
        answer = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES)
    except OSError:
        return ()
    return struct.unpack(f"{len(answer) // 4}I", answer)


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ListenError(
            "admin", f"there is no group {name!r}", "make the group, or name another in `admin.group`"
        ) from None


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return (
                "make its directory (RuntimeDirectory=proxyd does, for /run/proxyd), or choose another place"
            )
        case errno.EADDRINUSE:
            return "stop the other daemon, or choose another place"
        case errno.EPERM:
            return "let the account that runs proxyd be a member of the group (SupplementaryGroups=)"
        case _:
            return "choose a place that the account that runs proxyd may write to"
