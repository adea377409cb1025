"""The caller's side of the admin socket: one request, its answer, and what comes behind it.

Blocking, for the command line. Every way in which the daemon cannot be asked is an AdminFault that says what to do.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from proxyd.admin_protocol import Answer, Refused, Request, SessionView, line, read_answer, read_view

ANSWER_TIMEOUT_S: Final = 15.0
PIECE_BYTES: Final = 256 * 1024
MAX_LINE_BYTES: Final = 1 << 20

AnswerT = TypeVar("AnswerT")


class AdminFault(Exception):
    """The daemon could not be asked, or its answer makes no sense."""


class AdminRefusal(Exception):
    """The daemon has refused. `refused` says why."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


class Conversation:
    """One request. `answer` is there once it is made; a context manager, closed at its end.

    Raises AdminFault, AdminRefusal.
    """

    def __init__(self, path: Path, request: Request) -> None:
        self._path = path
        self._socket = _connect(path)
        self._file = self._socket.makefile("rb")
        try:
            self.answer = self._ask(request)
        except BaseException:
            self.close()
            raise

    def expect(self, kind: type[AnswerT]) -> AnswerT:
        """The answer, which has to be of this kind. Raises AdminFault."""
        if not isinstance(self.answer, kind):
            raise AdminFault(
                f"the daemon at {self._path} has answered something else; is it of this version?"
            )
        return self.answer

    def views(self, count: int) -> Iterator[SessionView]:
        """The `count` sessions behind a Listed."""
        for _ in range(count):
            try:
                yield read_view(self._line())
            except ValueError as error:
                raise self._strange(error) from error

    def tape(self) -> Iterator[bytes]:
        """The pieces of the tape behind a Watching, until the session is over; they may be long in coming."""
        self._socket.settimeout(None)
        try:
            while piece := self._file.read1(PIECE_BYTES):
                yield piece
        except OSError as error:
            raise AdminFault(f"the daemon at {self._path} has gone ({error.strerror})") from error

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Request) -> Answer:
        try:
            self._socket.sendall(line(request))
        except BrokenPipeError:
            pass  # it may have said why before it hung up
        except OSError as error:
            raise AdminFault(f"the daemon at {self._path} does not listen ({error.strerror})") from error
        try:
            answer = read_answer(self._line())
        except ValueError as error:
            raise self._strange(error) from error
        if isinstance(answer, Refused):
            raise AdminRefusal(answer)
        return answer

    def _line(self) -> bytes:
        try:
            data = self._file.readline(MAX_LINE_BYTES)
        except TimeoutError as error:
            raise AdminFault(
                f"the daemon at {self._path} has not answered within {ANSWER_TIMEOUT_S:g} s; look at its log"
            ) from error
        except OSError as error:
            raise AdminFault(f"the daemon at {self._path} has hung up ({error.strerror})") from error
        if not data.endswith(b"\n"):
            raise AdminFault(f"the daemon at {self._path} has hung up; look at its log")
        return data

    def _strange(self, error: ValueError) -> AdminFault:
        return AdminFault(f"what listens at {self._path} does not speak as proxyd does: {error}")


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(ANSWER_TIMEOUT_S)
    try:
        sock.connect(str(path))
    except OSError as error:
        sock.close()
        raise AdminFault(_why_not(path, error)) from error
    return sock


def _why_not(path: Path, error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no admin socket at {path}: is proxyd running, and does its configuration have `admin`?"
        case ConnectionRefusedError():
            return f"nobody listens at {path}: proxyd is not running"
        case PermissionError():
            return (
                f"this account may not use {path}: call as root, as the account that runs proxyd, "
                "or as a member of the group in `admin.group`"
            )
        case TimeoutError():
            return f"the daemon at {path} does not accept; look at its log"
        case _:
            return f"{path} cannot be used: {error.strerror or error}"
