"""What an sftp server answers: the parts of it that a gateway reads, and the answers it gives itself.

Replies are passed on as they came, with another id. Read are a status's code, a handle, the single name that
answers REALPATH, attributes, limits and the version. All functions take what follows the id.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import msgspec

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.ssh.fields import Reader, path, string, text, uint32, uint64
from protocols.ssh.sftp import MAX_HANDLE_BYTES, Kind, Packet, init_packet, packet
from protocols.ssh.sftp_attributes import Attributes
from protocols.ssh.sftp_requests import MAX_EXTENSION_NAME_BYTES, MAX_PATH_BYTES

MAX_EXTENSIONS = 256
MAX_EXTENSION_DATA_BYTES = 4096


class StatusCode(IntEnum):
    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class Version(msgspec.Struct, frozen=True):
    version: int
    extensions: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def parse(cls, found: Packet) -> Version:
        reader = Reader(found.body, "VERSION")
        version = reader.uint32()
        extensions: list[tuple[str, bytes]] = []
        while not reader.is_at_end:
            if len(extensions) == MAX_EXTENSIONS:
                raise LimitExceeded(f"VERSION lists more than the {MAX_EXTENSIONS} extensions allowed")
            name = reader.text(MAX_EXTENSION_NAME_BYTES)
            extensions.append((name, reader.string(MAX_EXTENSION_DATA_BYTES)))
        return cls(version, tuple(extensions))

    def encode(self) -> bytes:
        pairs = b"".join(text(name) + string(data) for name, data in self.extensions)
        return init_packet(Kind.VERSION, self.version, pairs)

    def only(self, names: Iterable[str]) -> Version:
        """With the extensions named, each once."""
        wanted = set(names)
        found = {name: data for name, data in reversed(self.extensions) if name in wanted}
        return Version(self.version, tuple(reversed(found.items())))


class ServerLimits(msgspec.Struct, frozen=True, gc=False):
    """Answer to limits@openssh.com. 0 is "not known"."""

    packet_bytes: int
    read_bytes: int
    write_bytes: int
    handles: int

    @classmethod
    def parse(cls, rest: bytes) -> ServerLimits:
        reader = Reader(rest, "the answer to limits@openssh.com")
        limits = cls(reader.uint64(), reader.uint64(), reader.uint64(), reader.uint64())
        reader.end()
        return limits

    def encode(self) -> bytes:
        return b"".join(map(uint64, (self.packet_bytes, self.read_bytes, self.write_bytes, self.handles)))


def status_code(rest: bytes) -> int:
    """Servers of old send the code without text, so nothing behind it is asked for."""
    return Reader(rest, "STATUS").uint32()


def handle_of(rest: bytes) -> bytes:
    reader = Reader(rest, "HANDLE")
    handle = reader.string(MAX_HANDLE_BYTES)
    reader.end()
    return handle


def single_name(rest: bytes) -> str:
    """The one path in an answer to REALPATH or expand-path. The attributes with it mean nothing and are not read."""
    reader = Reader(rest, "NAME")
    if reader.uint32() != 1:
        raise RemoteProtocolError("the target answers with several names where one is expected")
    return reader.path(MAX_PATH_BYTES)


def attributes_of(rest: bytes) -> Attributes:
    reader = Reader(rest, "ATTRS")
    attributes = Attributes.parse(reader)
    reader.end()
    return attributes


def status(identity: int, code: int, message: str) -> bytes:
    return packet(Kind.STATUS, identity, uint32(code) + text(message) + string(b"en"))


def name(identity: int, real_path: str) -> bytes:
    """The answer to REALPATH: one name without attributes."""
    encoded = path(real_path)
    return packet(Kind.NAME, identity, uint32(1) + encoded + encoded + Attributes().encode())
