"""What an sftp client asks, typed: `decode_request(packet)` reads one, `encode(id)` gives it with another id.

WRITE is not here: it comes as a head and payload, see `sftp`. Must never accept what a server would read
otherwise: trailing bytes, unknown attribute flags, a NUL in a path. A fault here leaves the framing intact, so the
gate answers it with a status and goes on. Paths are text with surrogateescape.

Extensions are those of OpenSSH's PROTOCOL, section 4. Any other is an Extended with its name, and not looked into.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag

import msgspec

from protocols.errors import RemoteProtocolError
from protocols.ssh import fields
from protocols.ssh.fields import Reader, string, uint32, uint64
from protocols.ssh.sftp import MAX_HANDLE_BYTES, Kind, Packet, packet
from protocols.ssh.sftp_attributes import Attributes

MAX_PATH_BYTES = 4096
MAX_EXTENSION_NAME_BYTES = 256


class OpenFlag(IntFlag):
    READ = 0x01
    WRITE = 0x02
    APPEND = 0x04
    CREAT = 0x08
    TRUNC = 0x10
    EXCL = 0x20


OPEN_FLAGS = 0x3F


class Open(msgspec.Struct, frozen=True, gc=False):
    id: int
    path: str
    flags: int
    attributes: Attributes = Attributes()

    def encode(self, identity: int) -> bytes:
        return packet(
            Kind.OPEN, identity, fields.path(self.path) + uint32(self.flags) + self.attributes.encode()
        )


class Read(msgspec.Struct, frozen=True, gc=False):
    id: int
    handle: bytes
    offset: int
    length: int

    def encode(self, identity: int) -> bytes:
        return packet(Kind.READ, identity, string(self.handle) + uint64(self.offset) + uint32(self.length))


class OnHandle(msgspec.Struct, frozen=True, gc=False):
    """CLOSE, FSTAT, READDIR; FSETSTAT with attributes."""

    kind: Kind
    id: int
    handle: bytes
    attributes: Attributes | None = None

    def encode(self, identity: int) -> bytes:
        tail = b"" if self.attributes is None else self.attributes.encode()
        return packet(self.kind, identity, string(self.handle) + tail)


class OnPath(msgspec.Struct, frozen=True, gc=False):
    """LSTAT, STAT, OPENDIR, REMOVE, RMDIR, REALPATH, READLINK; SETSTAT and MKDIR with attributes."""

    kind: Kind
    id: int
    path: str
    attributes: Attributes | None = None

    def encode(self, identity: int) -> bytes:
        tail = b"" if self.attributes is None else self.attributes.encode()
        return packet(self.kind, identity, fields.path(self.path) + tail)


class OnTwoPaths(msgspec.Struct, frozen=True, gc=False):
    """RENAME (old, new) and SYMLINK, whose order is not the same for all; see the gate."""

    kind: Kind
    id: int
    first: str
    second: str

    def encode(self, identity: int) -> bytes:
        return packet(self.kind, identity, fields.path(self.first) + fields.path(self.second))


class ExtendedOnPath(msgspec.Struct, frozen=True, gc=False):
    """statvfs, expand-path; lsetstat with attributes."""

    name: str
    id: int
    path: str
    attributes: Attributes | None = None

    def encode(self, identity: int) -> bytes:
        tail = b"" if self.attributes is None else self.attributes.encode()
        return packet(Kind.EXTENDED, identity, fields.name(self.name) + fields.path(self.path) + tail)


class ExtendedOnTwoPaths(msgspec.Struct, frozen=True, gc=False):
    """posix-rename (old, new), hardlink (old, new)."""

    name: str
    id: int
    first: str
    second: str

    def encode(self, identity: int) -> bytes:
        paths = fields.path(self.first) + fields.path(self.second)
        return packet(Kind.EXTENDED, identity, fields.name(self.name) + paths)


class ExtendedOnHandle(msgspec.Struct, frozen=True, gc=False):
    """fsync, fstatvfs."""

    name: str
    id: int
    handle: bytes

    def encode(self, identity: int) -> bytes:
        return packet(Kind.EXTENDED, identity, fields.name(self.name) + string(self.handle))


class CopyData(msgspec.Struct, frozen=True, gc=False):
    """The target is to copy `length` bytes (0: up to the end) from one open file to another."""

    id: int
    source: bytes
    source_offset: int
    length: int
    sink: bytes
    sink_offset: int

    def encode(self, identity: int) -> bytes:
        source = string(self.source) + uint64(self.source_offset) + uint64(self.length)
        sink = string(self.sink) + uint64(self.sink_offset)
        return packet(Kind.EXTENDED, identity, fields.name(COPY_DATA) + source + sink)


class Limits(msgspec.Struct, frozen=True, gc=False):
    id: int

    def encode(self, identity: int) -> bytes:
        return packet(Kind.EXTENDED, identity, fields.name(LIMITS))


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """A request or extension that is not known here. `name` is for the answer."""

    id: int
    name: str


Request = (
    Open
    | Read
    | OnHandle
    | OnPath
    | OnTwoPaths
    | ExtendedOnPath
    | ExtendedOnTwoPaths
    | ExtendedOnHandle
    | CopyData
    | Limits
    | Unknown
)

STATVFS = "statvfs@openssh.com"
FSTATVFS = "fstatvfs@openssh.com"
POSIX_RENAME = "posix-rename@openssh.com"
HARDLINK = "hardlink@openssh.com"
FSYNC = "fsync@openssh.com"
LSETSTAT = "lsetstat@openssh.com"
LIMITS = "limits@openssh.com"
EXPAND_PATH = "expand-path@openssh.com"
COPY_DATA = "copy-data"


def decode_request(found: Packet) -> Request:
    """The typed request. Raises RemoteProtocolError, LimitExceeded, InvalidEncoding."""
    decoder = _DECODERS.get(found.kind)
    if decoder is None:
        return Unknown(int.from_bytes(found.body[:4]), f"request {found.kind}")
    reader = Reader(found.body, Kind(found.kind).name)
    request = decoder(Kind(found.kind), reader.uint32(), reader)
    reader.end()
    return request


def _open(kind: Kind, identity: int, reader: Reader) -> Request:
    # Bits that version 3 does not have are left out: what goes on is what was judged.
    path, flags = reader.path(MAX_PATH_BYTES), reader.uint32() & OPEN_FLAGS
    return Open(identity, path, flags, Attributes.parse(reader))


def _read(kind: Kind, identity: int, reader: Reader) -> Request:
    return Read(identity, reader.string(MAX_HANDLE_BYTES), reader.uint64(), reader.uint32())


def _on_handle(kind: Kind, identity: int, reader: Reader) -> Request:
    return OnHandle(kind, identity, reader.string(MAX_HANDLE_BYTES))


def _on_handle_with_attributes(kind: Kind, identity: int, reader: Reader) -> Request:
    return OnHandle(kind, identity, reader.string(MAX_HANDLE_BYTES), Attributes.parse(reader))


def _on_path(kind: Kind, identity: int, reader: Reader) -> Request:
    return OnPath(kind, identity, reader.path(MAX_PATH_BYTES))


def _on_path_with_attributes(kind: Kind, identity: int, reader: Reader) -> Request:
    return OnPath(kind, identity, reader.path(MAX_PATH_BYTES), Attributes.parse(reader))


def _on_two_paths(kind: Kind, identity: int, reader: Reader) -> Request:
    return OnTwoPaths(kind, identity, reader.path(MAX_PATH_BYTES), reader.path(MAX_PATH_BYTES))


def _extended(kind: Kind, identity: int, reader: Reader) -> Request:
    name = reader.name(MAX_EXTENSION_NAME_BYTES)
    match name:
        case "statvfs@openssh.com" | "expand-path@openssh.com":
            return ExtendedOnPath(name, identity, reader.path(MAX_PATH_BYTES))
        case "lsetstat@openssh.com":
            return ExtendedOnPath(name, identity, reader.path(MAX_PATH_BYTES), Attributes.parse(reader))
        case "posix-rename@openssh.com" | "hardlink@openssh.com":
            first, second = reader.path(MAX_PATH_BYTES), reader.path(MAX_PATH_BYTES)
            return ExtendedOnTwoPaths(name, identity, first, second)
        case "fsync@openssh.com" | "fstatvfs@openssh.com":
            return ExtendedOnHandle(name, identity, reader.string(MAX_HANDLE_BYTES))
        case "copy-data":
            source = reader.string(MAX_HANDLE_BYTES), reader.uint64(), reader.uint64()
            return CopyData(identity, *source, reader.string(MAX_HANDLE_BYTES), reader.uint64())
        case "limits@openssh.com":
            return Limits(identity)
        case _:
            reader.rest()
            return Unknown(identity, name)


_DECODERS: dict[int, Callable[[Kind, int, Reader], Request]] = {
    Kind.OPEN: _open,
    Kind.CLOSE: _on_handle,
    Kind.READ: _read,
    Kind.LSTAT: _on_path,
    Kind.FSTAT: _on_handle,
    Kind.SETSTAT: _on_path_with_attributes,
    Kind.FSETSTAT: _on_handle_with_attributes,
    Kind.OPENDIR: _on_path,
    Kind.READDIR: _on_handle,
    Kind.REMOVE: _on_path,
    Kind.MKDIR: _on_path_with_attributes,
    Kind.RMDIR: _on_path,
    Kind.REALPATH: _on_path,
    Kind.STAT: _on_path,
    Kind.RENAME: _on_two_paths,
    Kind.READLINK: _on_path,
    Kind.SYMLINK: _on_two_paths,
    Kind.EXTENDED: _extended,
}


def read_init(found: Packet) -> int:
    """The version that the client offers. What it says of extensions is not looked at."""
    reader = Reader(found.body, "INIT")
    return reader.uint32()


def unexpected(kind: int, sender: str) -> RemoteProtocolError:
    known = Kind(kind).name if kind in set(Kind) else str(kind)
    return RemoteProtocolError(f"the {sender} sent an sftp packet of kind {known}, which is not its turn")
