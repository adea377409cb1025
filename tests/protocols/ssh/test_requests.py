"""Bodies of requests and opens: layout, limits, round trips."""

from __future__ import annotations

import contextlib
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import InvalidEncoding, LimitExceeded, ProtocolError, RemoteProtocolError
from protocols.ssh.opens import (
    DirectStreamlocal,
    DirectTcpip,
    ForwardedStreamlocal,
    ForwardedTcpip,
    X11Open,
)
from protocols.ssh.requests import (
    ECHO_MODE,
    MAX_COMMAND_BYTES,
    AllocatedPort,
    BreakRequest,
    EnvRequest,
    ExecRequest,
    ExitSignal,
    ExitStatus,
    PtyRequest,
    SignalRequest,
    StreamlocalForward,
    SubsystemRequest,
    TcpipForward,
    WindowChange,
    X11Request,
    XonXoff,
    parse_empty,
    terminal_modes,
)


class Body(Protocol):
    def encode(self) -> bytes: ...

    @classmethod
    def parse(cls, body: bytes) -> Body: ...


def s(text: bytes) -> bytes:
    return len(text).to_bytes(4) + text


def u(*values: int) -> bytes:
    return b"".join(value.to_bytes(4) for value in values)


VECTORS: list[tuple[Body, bytes]] = [
    (PtyRequest("xterm", 80, 24, 640, 48, b"\x35\0\0\0\0\0"), s(b"xterm") + u(80, 24, 640, 48) + s(b"\x35\0\0\0\0\0")),
    (PtyRequest("", 0, 0, 0, 0, b""), s(b"") + u(0, 0, 0, 0) + s(b"")),
    (EnvRequest(b"LANG", b"de_DE.UTF-8\xff"), s(b"LANG") + s(b"de_DE.UTF-8\xff")),
    (ExecRequest(b"ls -l /\xff"), s(b"ls -l /\xff")),
    (SubsystemRequest("sftp"), s(b"sftp")),
    (WindowChange(1, 2, 3, 4), u(1, 2, 3, 4)),
    (SignalRequest("INT"), s(b"INT")),
    (ExitStatus(126), u(126)),
    (ExitSignal("SEGV", True, "oh", "en"), s(b"SEGV") + b"\1" + s(b"oh") + s(b"en")),
    (X11Request(False, "MIT-MAGIC-COOKIE-1", "00ff", 1), b"\0" + s(b"MIT-MAGIC-COOKIE-1") + s(b"00ff") + u(1)),
    (BreakRequest(500), u(500)),
    (XonXoff(True), b"\1"),
    (TcpipForward("", 0), s(b"") + u(0)),
    (TcpipForward("localhost", 8080), s(b"localhost") + u(8080)),
    (AllocatedPort(8080), u(8080)),
    (StreamlocalForward("/run/\udcff.sock"), s(b"/run/\xff.sock")),
    (DirectTcpip("db.internal", 5432, "::1", 65535), s(b"db.internal") + u(5432) + s(b"::1") + u(65535)),
    (DirectTcpip("db", 1, "", 0xFFFFFFFF), s(b"db") + u(1) + s(b"") + u(0xFFFFFFFF)),
    (ForwardedTcpip("", 80, "10.0.0.1", 4000), s(b"") + u(80) + s(b"10.0.0.1") + u(4000)),
    (DirectStreamlocal("/run/x.sock"), s(b"/run/x.sock") + s(b"") + u(0)),
    (ForwardedStreamlocal("/run/x.sock"), s(b"/run/x.sock") + s(b"")),
    (X11Open("10.0.0.1", 4000), s(b"10.0.0.1") + u(4000)),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "body"), VECTORS)
def test_each_body_has_the_bytes_of_the_specification(typed: Body, body: bytes) -> None:
    assert type(typed).parse(body) == typed
    assert typed.encode() == body


@pytest.mark.parametrize(("typed", "body"), VECTORS)
def test_cut_or_lengthened_bodies_are_refused(typed: Body, body: bytes) -> None:
    for length in range(len(body)):
        with pytest.raises(ProtocolError):
            type(typed).parse(body[:length])
    with pytest.raises(ProtocolError, match="too many"):
        type(typed).parse(body + b"\0")


@pytest.mark.parametrize(("typed", "body"), VECTORS)
@given(st.data())
def test_noise_is_read_or_refused(typed: Body, body: bytes, data: st.DataObject) -> None:
    changed = bytearray(body)
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=3)):
        changed[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        type(typed).parse(bytes(changed)).encode()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (PtyRequest, s(b"x" * 257) + u(80, 24, 0, 0) + s(b"")),
        (PtyRequest, s(b"x") + u(80, 24, 0, 0) + s(bytes(4097))),
        (EnvRequest, s(b"x" * 1025) + s(b"")),
        (EnvRequest, s(b"x") + s(bytes(65537))),
        (ExecRequest, s(b"x" * (MAX_COMMAND_BYTES + 1))),
        (SubsystemRequest, s(b"x" * 257)),
        (SignalRequest, s(b"x" * 65)),
        (ExitSignal, s(b"x") + b"\0" + s(bytes(4097)) + s(b"")),
        (X11Request, b"\0" + s(b"x" * 65) + s(b"") + u(0)),
        (X11Request, b"\0" + s(b"x") + s(b"0" * 1025) + u(0)),
        (TcpipForward, s(b"x" * 256) + u(1)),
        (DirectTcpip, s(b"x" * 256) + u(1) + s(b"") + u(0)),
        (DirectTcpip, s(b"x") + u(1) + s(b"x" * 256) + u(0)),
        (StreamlocalForward, s(b"x" * 4097)),
        (DirectStreamlocal, s(b"x" * 4097) + s(b"") + u(0)),
        (DirectStreamlocal, s(b"x") + s(bytes(257)) + u(0)),
    ],
)
def test_limits(kind: type[Body], body: bytes) -> None:
    with pytest.raises(LimitExceeded, match="allowed"):
        kind.parse(body)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (DirectTcpip, s(b"db\0.evil") + u(1) + s(b"") + u(0)),
        (DirectTcpip, s(b"d b") + u(1) + s(b"") + u(0)),
        (DirectTcpip, s("dß".encode()) + u(1) + s(b"") + u(0)),
        (TcpipForward, s(b"a\n") + u(1)),
        (StreamlocalForward, s(b"/run/x\0.sock")),
        (DirectStreamlocal, s(b"/run/x\0.sock") + s(b"") + u(0)),
        (SubsystemRequest, s(b"sftp\0")),
        (ExecRequest, s(b"echo\0id")),
        (PtyRequest, s(b"xterm\x1b[0m") + u(80, 24, 0, 0) + s(b"")),
        (SignalRequest, s(b"IN T")),
    ],
)
def test_what_is_no_name(kind: type[Body], body: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        kind.parse(body)


@pytest.mark.parametrize("port", [65536, 65536 + 22, 0xFFFFFFFF])
def test_a_port_never_wraps_round(port: int) -> None:
    for kind, body in (
        (DirectTcpip, s(b"db") + u(port) + s(b"") + u(0)),
        (ForwardedTcpip, s(b"db") + u(port) + s(b"") + u(0)),
        (TcpipForward, s(b"db") + u(port)),
        (AllocatedPort, u(port)),
    ):
        with pytest.raises(RemoteProtocolError, match="port"):
            kind.parse(body)


def test_an_empty_destination_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        DirectTcpip.parse(s(b"") + u(1) + s(b"") + u(0))
    with pytest.raises(RemoteProtocolError):
        SubsystemRequest.parse(s(b""))


def test_reserved_fields_are_read_and_not_kept() -> None:
    read = DirectStreamlocal.parse(s(b"/run/x") + s(b"later") + u(9))
    assert read == DirectStreamlocal("/run/x")


@pytest.mark.parametrize("modes", [b"\x35", b"\x35\0\0\0\1\x36\0", b"\x9f\0\0\0"])
def test_terminal_modes_that_are_cut_short(modes: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="cut short"):
        PtyRequest.parse(s(b"xterm") + u(80, 24, 0, 0) + s(modes))


def test_terminal_modes() -> None:
    assert terminal_modes(b"\x35\0\0\0\0\x80\0\0\x96\0\0") == {ECHO_MODE: 0, 128: 38400}
    assert terminal_modes(b"\x35\0\0\0\1\x03\0\0\0\x7f\0") == {ECHO_MODE: 1, 3: 127}
    assert terminal_modes(b"") == {}
    assert terminal_modes(b"\x35\0\0\0") == {}


def test_requests_without_fields() -> None:
    parse_empty(b"", "shell")
    with pytest.raises(RemoteProtocolError, match="shell"):
        parse_empty(b"x", "shell")


@given(st.binary(max_size=50).filter(lambda path: b"\0" not in path))
def test_a_path_of_any_bytes_goes_back_to_the_same(path: bytes) -> None:
    assert StreamlocalForward.parse(s(path)).encode() == s(path)
