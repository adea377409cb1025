"""What is said over the admin socket. Bytes to requests and answers to bytes: no I/O here.

    request = one JSON object, then a newline; at most MAX_REQUEST_BYTES; one a connection
    answer  = one JSON object, then a newline, and for two of them more behind it

    {"command": "ls"}                         {"answer": "sessions", "count": N}, then N lines, a session on each
    {"command": "watch", "session": ID}       {"answer": "watching", "session": {...}, "tape_bytes": N}, then the bytes
                                              of the session's tape from its first, as they are written, until it ends
    {"command": "end", "session": ID}         {"answer": "ended", "session": {...}, "is_gone": true}
                                              ("reason": TEXT may go with it: the user is told)
    anything                                  {"answer": "refused", "reason": "unknown", "message": "..."}

ID is the id of a session or the beginning of one. Used by `proxyd.admin` (the daemon's side) and
`proxyd.admin_client`.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

MAX_REQUEST_BYTES: Final = 4096
MAX_REASON_CHARACTERS: Final = 500

Refusal = Literal["forbidden", "busy", "malformed", "unknown", "ambiguous", "unrecorded"]


class ListSessions(msgspec.Struct, frozen=True, tag_field="command", tag="ls", forbid_unknown_fields=True):
    """Which sessions are there?"""


class WatchSession(msgspec.Struct, frozen=True, tag_field="command", tag="watch", forbid_unknown_fields=True):
    """Show me this one as it happens."""

    session: str


class EndSession(msgspec.Struct, frozen=True, tag_field="command", tag="end", forbid_unknown_fields=True):
    """End this one. `reason` is one line of text for its user, "" for none."""

    session: str
    reason: str = ""


Request = ListSessions | WatchSession | EndSession


class SessionView(msgspec.Struct, frozen=True):
    """What is told of a session. `started_at` in Unix seconds, `tape` a path ("" for none yet)."""

    id: str
    protocol: str
    listener: str
    subject: str
    target: str
    detail: str
    login: str
    client: str
    started_at: float
    idle_s: float
    operations: int
    tape: str


class Listed(msgspec.Struct, frozen=True, tag_field="answer", tag="sessions"):
    """`count` lines follow, a SessionView on each."""

    count: int


class Watching(msgspec.Struct, frozen=True, tag_field="answer", tag="watching"):
    """The tape follows. What lies before its byte `tape_bytes` happened before the request."""

    session: SessionView
    tape_bytes: int


class Ended(msgspec.Struct, frozen=True, tag_field="answer", tag="ended"):
    """The session was told to end. `is_gone`: it has; otherwise it still takes its leave."""

    session: SessionView
    is_gone: bool


class Refused(msgspec.Struct, frozen=True, tag_field="answer", tag="refused"):
    """Nothing was done. `message` is for people."""

    reason: Refusal
    message: str


Answer = Listed | Watching | Ended | Refused


class RequestFault(Exception):
    """What came is no request. The text says why, to whoever sent it."""


_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
_views = msgspec.json.Decoder(SessionView)


class RequestReceiver:
    """Takes the caller's bytes in pieces of any size, and gives the one request."""

    def __init__(self) -> None:
        self._line = bytearray()

    def receive(self, data: bytes) -> Request | None:
        """The request, once its line is whole. Raises RequestFault."""
        self._line += data
        line, newline, rest = self._line.partition(b"\n")
        if len(line) > MAX_REQUEST_BYTES:
            raise RequestFault(f"a request has at most {MAX_REQUEST_BYTES} bytes")
        if not newline:
            return None
        if rest:
            raise RequestFault("one request a connection, and nothing behind it")
        try:
            request: Request = _requests.decode(line)
        except (ValueError, RecursionError) as error:
            raise RequestFault(f"not a request: {error}") from error
        _check(request)
        return request


def _check(request: Request) -> None:
    if isinstance(request, WatchSession | EndSession) and not request.session:
        raise RequestFault("no session is named")
    if isinstance(request, EndSession):
        if len(request.reason) > MAX_REASON_CHARACTERS:
            raise RequestFault(f"a reason has at most {MAX_REASON_CHARACTERS} characters")
        if not request.reason.isprintable():
            raise RequestFault("a reason is one line of printable text")


def command_of(request: Request) -> str:
    """Its name on the wire."""
    return str(request.__struct_config__.tag)


def line(message: Request | Answer | SessionView) -> bytes:
    """`message` as it goes over the socket."""
    return msgspec.json.encode(message) + b"\n"


def read_answer(data: bytes) -> Answer:
    """The answer on a line. Raises ValueError."""
    return _answers.decode(data)


def read_view(data: bytes) -> SessionView:
    """The session on a line behind Listed. Raises ValueError."""
    return _views.decode(data)
