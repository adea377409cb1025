"""From the path that a client writes to the path that is judged, and that the target is then asked for.

The judged path is what goes on to the target, never the client's own text: so a link that the target follows cannot
lie between them. Where the policy depends on paths, the target is asked for the real one first (its REALPATH); else
the text is normalised alone. Each resolution is a generator: it yields a request of the gate's own, is sent the
reply, and returns the path or why there is none. No I/O.

Threats: `..` behind a link, a chain of links longer than the target's REALPATH follows, a link to what does not
exist yet (a create would go through it), a last part that is a link where the verb follows it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Generator

import msgspec

from protocols.ssh.fields import text, uint32
from protocols.ssh.sftp import Kind
from protocols.ssh.sftp_replies import StatusCode, attributes_of, single_name, status_code
from protocols.ssh.sftp_requests import ExtendedOnPath, OnPath

Probe = OnPath | ExtendedOnPath


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The target's answer to a probe. `rest` is what follows the id."""

    kind: int
    rest: bytes


class Unlocated(msgspec.Struct, frozen=True, gc=False):
    """No path could be found; `rest` is the status for the client, without its id."""

    rest: bytes

    @classmethod
    def because(cls, code: StatusCode, message: str) -> Unlocated:
        return cls(uint32(code) + text(f"proxyd: {message}") + text("en"))


Resolution = Generator[Probe, Reply, str | Unlocated]


def normalised(path: str) -> str:
    """Absolute and without `.`, `..`, empty parts or a slash at the end."""
    return "/" + posixpath.normpath(f"/{path}").lstrip("/")


def absolute(start: str, path: str) -> str:
    """From the start directory, and else as written: `..` stays, for only the target knows what lies before it."""
    return path if path.startswith("/") else joined(start, path or ".")


def directory_and_name(path: str) -> tuple[str, str]:
    """The last part and what it is in. The name is "" where the last part cannot be a link (`/`, `.`, `..`)."""
    directory, _, name = path.rstrip("/").rpartition("/")
    if name in {"", ".", ".."}:
        return path, ""
    return directory or "/", name


def joined(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


def asked(probe: Probe) -> Generator[Probe, Reply, Reply]:
    """One question."""
    return (yield probe)


def followed(path: str) -> Resolution:
    """The real path of what `path` (absolute) leads to, its last part followed. That part need not exist."""
    reply = yield OnPath(Kind.REALPATH, 0, path)
    if reply.kind == Kind.NAME:
        return _real(reply)
    directory, name = directory_and_name(path)
    if not name or status_code(reply.rest) != StatusCode.NO_SUCH_FILE:
        return Unlocated(reply.rest)
    # It does not exist, or this target does not resolve what is new, or there are more links than it follows.
    entry = yield from _in_real_directory(directory, name)
    if isinstance(entry, Unlocated):
        return entry
    reply = yield OnPath(Kind.LSTAT, 0, entry)
    if reply.kind == Kind.ATTRS:
        return Unlocated.because(StatusCode.FAILURE, "the target does not say where this path leads")
    return entry if status_code(reply.rest) == StatusCode.NO_SUCH_FILE else Unlocated(reply.rest)


def entry(path: str) -> Resolution:
    """The real path of the directory of `path` with its last part as it is: for verbs that act on a link itself."""
    directory, name = directory_and_name(path)
    if not name:
        return (yield from followed(path))
    return (yield from _in_real_directory(directory, name))


def looked_at(path: str) -> Resolution:
    """Like `entry`, but with a slash at the end what a link leads to is meant, as everywhere in POSIX."""
    return followed(path) if path.endswith("/") else entry(path)


def new_entry(path: str) -> Resolution:
    """Like `entry`, for what must not exist yet; a link in its place is refused, whatever the target makes of it."""
    found = yield from entry(path)
    if isinstance(found, Unlocated):
        return found
    reply = yield OnPath(Kind.LSTAT, 0, found)
    if reply.kind == Kind.ATTRS and attributes_of(reply.rest).is_link:
        return Unlocated.because(StatusCode.FAILURE, "the file exists and is a symbolic link")
    return found


def pointed_to(link: str, target: str) -> Resolution:
    """Where a link at `link` (a real path) would lead. It may lead to nothing."""
    path = target if target.startswith("/") else joined(posixpath.dirname(link), target)
    reply = yield OnPath(Kind.REALPATH, 0, path)
    return _real(reply) if reply.kind == Kind.NAME else normalised(path)


def as_written(path: str) -> Resolution:
    """By the text alone, without asking the target."""
    yield from ()  # a generator like the others
    return normalised(path)


def _in_real_directory(directory: str, name: str) -> Resolution:
    reply = yield OnPath(Kind.REALPATH, 0, directory)
    if reply.kind != Kind.NAME:
        return Unlocated(reply.rest)
    found = _real(reply)
    return found if isinstance(found, Unlocated) else joined(found, name)


def _real(reply: Reply) -> str | Unlocated:
    path = single_name(reply.rest)
    if not path.startswith("/"):
        return Unlocated.because(
            StatusCode.FAILURE, "the target resolves this to a path that is not absolute"
        )
    return normalised(path)
