"""Bodies of CHANNEL_OPEN by kind (RFC 4254, sections 6.3.2 and 7.2; OpenSSH's PROTOCOL, section 2.4).

"session" and "auth-agent@openssh.com" have none: see `requests.parse_empty`. Errors are as in `requests`.
"""

from __future__ import annotations

import msgspec

from protocols.ssh.fields import Reader, name, path, string, uint32
from protocols.ssh.requests import MAX_HOST_BYTES, MAX_PATH_BYTES, port_number

MAX_RESERVED_BYTES = 256


class DirectTcpip(msgspec.Struct, frozen=True, gc=False):
    """A connection that the opener wants made. What it says of the originator is its own word for it."""

    host: str
    port: int
    originator_host: str = "127.0.0.1"
    originator_port: int = 0

    @classmethod
    def parse(cls, body: bytes) -> DirectTcpip:
        reader = Reader(body, "direct-tcpip")
        host, port = reader.name(MAX_HOST_BYTES), reader.uint32()
        originator_host, originator_port = reader.word(MAX_HOST_BYTES), reader.uint32()
        reader.end()
        return cls(host, port_number(port), originator_host, originator_port)

    def encode(self) -> bytes:
        originator = name(self.originator_host) + uint32(self.originator_port)
        return name(self.host) + uint32(self.port) + originator


class ForwardedTcpip(msgspec.Struct, frozen=True, gc=False):
    """A connection that came to `host`:`port`, where the other side was asked to listen."""

    host: str
    port: int
    originator_host: str = "127.0.0.1"
    originator_port: int = 0

    @classmethod
    def parse(cls, body: bytes) -> ForwardedTcpip:
        reader = Reader(body, "forwarded-tcpip")
        host, port = reader.word(MAX_HOST_BYTES), reader.uint32()
        originator_host, originator_port = reader.word(MAX_HOST_BYTES), reader.uint32()
        reader.end()
        return cls(host, port_number(port), originator_host, originator_port)

    def encode(self) -> bytes:
        originator = name(self.originator_host) + uint32(self.originator_port)
        return name(self.host) + uint32(self.port) + originator


class DirectStreamlocal(msgspec.Struct, frozen=True, gc=False):
    """direct-streamlocal@openssh.com. The two reserved fields are read and sent empty."""

    path: str

    @classmethod
    def parse(cls, body: bytes) -> DirectStreamlocal:
        reader = Reader(body, "direct-streamlocal")
        socket = reader.path(MAX_PATH_BYTES)
        reader.string(MAX_RESERVED_BYTES)
        reader.uint32()
        reader.end()
        return cls(socket)

    def encode(self) -> bytes:
        return path(self.path) + string(b"") + uint32(0)


class ForwardedStreamlocal(msgspec.Struct, frozen=True, gc=False):
    """forwarded-streamlocal@openssh.com. The reserved field is read and sent empty."""

    path: str

    @classmethod
    def parse(cls, body: bytes) -> ForwardedStreamlocal:
        reader = Reader(body, "forwarded-streamlocal")
        socket = reader.path(MAX_PATH_BYTES)
        reader.string(MAX_RESERVED_BYTES)
        reader.end()
        return cls(socket)

    def encode(self) -> bytes:
        return path(self.path) + string(b"")


class X11Open(msgspec.Struct, frozen=True, gc=False):
    """A connection to the display. `host` and `port` are the originator's."""

    host: str
    port: int

    @classmethod
    def parse(cls, body: bytes) -> X11Open:
        reader = Reader(body, "x11")
        host, port = reader.word(MAX_HOST_BYTES), reader.uint32()
        reader.end()
        return cls(host, port)

    def encode(self) -> bytes:
        return name(self.host) + uint32(self.port)
