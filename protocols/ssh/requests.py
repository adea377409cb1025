"""Bodies of channel requests and global requests (RFC 4254, sections 6 and 7; OpenSSH's PROTOCOL).

Each class reads its body with `parse` and gives it back with `encode`. Raises LimitExceeded for a field that is
too long, InvalidEncoding for one that is not what it must be, RemoteProtocolError for the rest: framing is intact
in all of these, so the gate may answer with a failure and go on. Commands and variables stay bytes.
"""

from __future__ import annotations

import struct

import msgspec

from protocols.errors import InvalidEncoding, RemoteProtocolError
from protocols.ssh.fields import MAX_NAME_BYTES, Reader, boolean, name, path, string, text, uint32

MAX_COMMAND_BYTES = 256 * 1024  # OpenSSH takes no longer packet either
MAX_VARIABLE_NAME_BYTES = 1024
MAX_VARIABLE_VALUE_BYTES = 64 * 1024
MAX_TERM_BYTES = 256
MAX_MODES_BYTES = 4096
MAX_SUBSYSTEM_BYTES = 256
MAX_COOKIE_BYTES = 1024
MAX_TEXT_BYTES = 4096
MAX_LANGUAGE_BYTES = 64
MAX_HOST_BYTES = 255
MAX_PATH_BYTES = 4096

ECHO_MODE = 53  # opcode of terminal mode ECHO (RFC 4254, section 8)


class PtyRequest(msgspec.Struct, frozen=True, gc=False):
    term: str
    columns: int
    rows: int
    width_px: int = 0
    height_px: int = 0
    modes: bytes = b"\0"

    @classmethod
    def parse(cls, body: bytes) -> PtyRequest:
        reader = Reader(body, "pty-req")
        term = reader.word(MAX_TERM_BYTES)
        columns, rows, width_px, height_px = (reader.uint32() for _ in range(4))
        modes = reader.string(MAX_MODES_BYTES)
        reader.end()
        if _are_torn(modes):
            raise RemoteProtocolError("pty-req has terminal modes that are cut short")
        return cls(term, columns, rows, width_px, height_px, modes)

    def encode(self) -> bytes:
        sizes = (self.columns, self.rows, self.width_px, self.height_px)
        return name(self.term) + b"".join(map(uint32, sizes)) + string(self.modes)


def terminal_modes(modes: bytes) -> dict[int, int]:
    """Opcode to value. Ends, as the RFC says, at opcode 0 or at one of 160 and above; a torn rest is left out."""
    return dict(struct.iter_unpack(">BI", modes[: _end_of_modes(modes)]))


def _end_of_modes(modes: bytes) -> int:
    position = 0
    while position + 5 <= len(modes) and 0 < modes[position] < 160:
        position += 5
    return position


def _are_torn(modes: bytes) -> bool:
    """Does a mode begin that has no whole value? sshd ends the connection at that."""
    end = _end_of_modes(modes)
    return end < len(modes) and 0 < modes[end] < 160


class EnvRequest(msgspec.Struct, frozen=True, gc=False):
    name: bytes
    value: bytes

    @classmethod
    def parse(cls, body: bytes) -> EnvRequest:
        reader = Reader(body, "env")
        variable = reader.string(MAX_VARIABLE_NAME_BYTES)
        value = reader.string(MAX_VARIABLE_VALUE_BYTES)
        reader.end()
        return cls(variable, value)

    def encode(self) -> bytes:
        return string(self.name) + string(self.value)


class ExecRequest(msgspec.Struct, frozen=True, gc=False):
    command: bytes

    @classmethod
    def parse(cls, body: bytes) -> ExecRequest:
        reader = Reader(body, "exec")
        command = reader.string(MAX_COMMAND_BYTES)
        reader.end()
        if b"\0" in command:
            # No shell can be given it, and sshd ends the connection.
            raise InvalidEncoding("exec has a command with a NUL in it")
        return cls(command)

    def encode(self) -> bytes:
        return string(self.command)


class SubsystemRequest(msgspec.Struct, frozen=True, gc=False):
    name: str

    @classmethod
    def parse(cls, body: bytes) -> SubsystemRequest:
        reader = Reader(body, "subsystem")
        subsystem = reader.name(MAX_SUBSYSTEM_BYTES)
        reader.end()
        return cls(subsystem)

    def encode(self) -> bytes:
        return name(self.name)


class WindowChange(msgspec.Struct, frozen=True, gc=False):
    columns: int
    rows: int
    width_px: int = 0
    height_px: int = 0

    @classmethod
    def parse(cls, body: bytes) -> WindowChange:
        reader = Reader(body, "window-change")
        columns, rows, width_px, height_px = (reader.uint32() for _ in range(4))
        reader.end()
        return cls(columns, rows, width_px, height_px)

    def encode(self) -> bytes:
        return b"".join(map(uint32, (self.columns, self.rows, self.width_px, self.height_px)))


class SignalRequest(msgspec.Struct, frozen=True, gc=False):
    """`name` without SIG ("INT")."""

    name: str

    @classmethod
    def parse(cls, body: bytes) -> SignalRequest:
        reader = Reader(body, "signal")
        signal = reader.name()
        reader.end()
        return cls(signal)

    def encode(self) -> bytes:
        return name(self.name)


class ExitStatus(msgspec.Struct, frozen=True, gc=False):
    status: int

    @classmethod
    def parse(cls, body: bytes) -> ExitStatus:
        reader = Reader(body, "exit-status")
        status = reader.uint32()
        reader.end()
        return cls(status)

    def encode(self) -> bytes:
        return uint32(self.status)


class ExitSignal(msgspec.Struct, frozen=True, gc=False):
    """`name` without SIG ("TERM")."""

    name: str
    core_dumped: bool = False
    message: str = ""
    language: str = ""

    @classmethod
    def parse(cls, body: bytes) -> ExitSignal:
        reader = Reader(body, "exit-signal")
        signal, core_dumped = reader.name(), reader.boolean()
        message, language = reader.text(MAX_TEXT_BYTES), reader.text(MAX_LANGUAGE_BYTES)
        reader.end()
        return cls(signal, core_dumped, message, language)

    def encode(self) -> bytes:
        return name(self.name) + boolean(self.core_dumped) + text(self.message) + text(self.language)


class X11Request(msgspec.Struct, frozen=True, gc=False):
    """`cookie` is the client's fake one, in hexadecimal. It is a secret: it never goes into a log."""

    single: bool
    protocol: str
    cookie: str
    screen: int = 0

    @classmethod
    def parse(cls, body: bytes) -> X11Request:
        reader = Reader(body, "x11-req")
        single, protocol = reader.boolean(), reader.word(MAX_NAME_BYTES)
        cookie, screen = reader.word(MAX_COOKIE_BYTES), reader.uint32()
        reader.end()
        return cls(single, protocol, cookie, screen)

    def encode(self) -> bytes:
        return boolean(self.single) + name(self.protocol) + name(self.cookie) + uint32(self.screen)


class BreakRequest(msgspec.Struct, frozen=True, gc=False):
    """RFC 4335: a BREAK of that many milliseconds."""

    ms: int

    @classmethod
    def parse(cls, body: bytes) -> BreakRequest:
        reader = Reader(body, "break")
        ms = reader.uint32()
        reader.end()
        return cls(ms)

    def encode(self) -> bytes:
        return uint32(self.ms)


class XonXoff(msgspec.Struct, frozen=True, gc=False):
    client_can_do: bool

    @classmethod
    def parse(cls, body: bytes) -> XonXoff:
        reader = Reader(body, "xon-xoff")
        client_can_do = reader.boolean()
        reader.end()
        return cls(client_can_do)

    def encode(self) -> bytes:
        return boolean(self.client_can_do)


class TcpipForward(msgspec.Struct, frozen=True, gc=False):
    """tcpip-forward and cancel-tcpip-forward. An empty host means every address; port 0, any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, body: bytes) -> TcpipForward:
        reader = Reader(body, "tcpip-forward")
        host, port = reader.word(MAX_HOST_BYTES), reader.uint32()
        reader.end()
        return cls(host, port_number(port))

    def encode(self) -> bytes:
        return name(self.host) + uint32(self.port)


class AllocatedPort(msgspec.Struct, frozen=True, gc=False):
    """Body of the success of a tcpip-forward that asked for port 0."""

    port: int

    @classmethod
    def parse(cls, body: bytes) -> AllocatedPort:
        reader = Reader(body, "the answer to tcpip-forward")
        port = reader.uint32()
        reader.end()
        return cls(port_number(port))

    def encode(self) -> bytes:
        return uint32(self.port)


class StreamlocalForward(msgspec.Struct, frozen=True, gc=False):
    """streamlocal-forward@openssh.com and cancel-streamlocal-forward@openssh.com."""

    path: str

    @classmethod
    def parse(cls, body: bytes) -> StreamlocalForward:
        reader = Reader(body, "streamlocal-forward")
        socket = reader.path(MAX_PATH_BYTES)
        reader.end()
        return cls(socket)

    def encode(self) -> bytes:
        return path(self.path)


def parse_empty(body: bytes, what: str) -> None:
    """For requests without fields (shell, auth-agent-req@openssh.com). `what` names it in the error."""
    if body:
        raise RemoteProtocolError(f"{what} has {len(body)} bytes too many")


def port_number(value: int) -> int:
    """A TCP port out of a 32-bit field. A larger one would wrap round at the side that narrows it."""
    if value > 65535:
        raise RemoteProtocolError(f"{value} is not a port number")
    return value
