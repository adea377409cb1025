"""Requests and replies of sftp: layout, limits, round trips."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import (
    InvalidEncoding,
    LimitExceeded,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
)
from protocols.ssh.fields import Reader
from protocols.ssh.sftp import Kind, Packet, packet
from protocols.ssh.sftp_attributes import MAX_EXTENDED, Attributes
from protocols.ssh.sftp_replies import (
    ServerLimits,
    StatusCode,
    Version,
    attributes_of,
    handle_of,
    name,
    single_name,
    status,
    status_code,
)
from protocols.ssh.sftp_requests import (
    CopyData,
    ExtendedOnHandle,
    ExtendedOnPath,
    ExtendedOnTwoPaths,
    Limits,
    OnHandle,
    OnPath,
    OnTwoPaths,
    Open,
    Read,
    Request,
    Unknown,
    decode_request,
    read_init,
)


def s(text: bytes) -> bytes:
    return len(text).to_bytes(4) + text


def u(*values: int) -> bytes:
    return b"".join(value.to_bytes(4) for value in values)


MODE = Attributes(permissions=0o644)
ALL = Attributes(5, (1000, 100), 0o100644, (1, 2), ((b"x@y", b"z"),))
VECTORS: list[tuple[Request, int, bytes]] = [
    (Open(7, "/a", 0x1A, MODE), 3, s(b"/a") + u(0x1A, 4, 0o644)),
    (Read(7, b"h", 1 << 33, 32768), 5, s(b"h") + u(2, 0, 32768)),
    (OnHandle(Kind.CLOSE, 7, b"\0\0\0\1"), 4, s(b"\0\0\0\1")),
    (OnHandle(Kind.FSTAT, 7, b"h"), 8, s(b"h")),
    (OnHandle(Kind.READDIR, 7, b"h"), 12, s(b"h")),
    (OnHandle(Kind.FSETSTAT, 7, b"h", Attributes(size=3)), 10, s(b"h") + u(1, 0, 3)),
    (OnPath(Kind.LSTAT, 7, "/a"), 7, s(b"/a")),
    (OnPath(Kind.OPENDIR, 7, "\udcff"), 11, s(b"\xff")),
    (OnPath(Kind.REMOVE, 7, ""), 13, s(b"")),
    (OnPath(Kind.RMDIR, 7, "/a"), 15, s(b"/a")),
    (OnPath(Kind.REALPATH, 7, "."), 16, s(b".")),
    (OnPath(Kind.STAT, 7, "/ä"), 17, s("/ä".encode())),
    (OnPath(Kind.READLINK, 7, "/a"), 19, s(b"/a")),
    (OnPath(Kind.MKDIR, 7, "/a", Attributes()), 14, s(b"/a") + u(0)),
    (
        OnPath(Kind.SETSTAT, 7, "/a", ALL),
        9,
        s(b"/a") + u(0x8000000F, 0, 5, 1000, 100, 0o100644, 1, 2, 1) + s(b"x@y") + s(b"z"),
    ),
    (OnTwoPaths(Kind.RENAME, 7, "/a", "/b"), 18, s(b"/a") + s(b"/b")),
    (OnTwoPaths(Kind.SYMLINK, 7, "../a", "/b"), 20, s(b"../a") + s(b"/b")),
    (ExtendedOnPath("statvfs@openssh.com", 7, "/a"), 200, s(b"statvfs@openssh.com") + s(b"/a")),
    (ExtendedOnPath("expand-path@openssh.com", 7, "~/a"), 200, s(b"expand-path@openssh.com") + s(b"~/a")),
    (
        ExtendedOnPath("lsetstat@openssh.com", 7, "/a", MODE),
        200,
        s(b"lsetstat@openssh.com") + s(b"/a") + u(4, 0o644),
    ),
    (
        ExtendedOnTwoPaths("posix-rename@openssh.com", 7, "/a", "/b"),
        200,
        s(b"posix-rename@openssh.com") + s(b"/a") + s(b"/b"),
    ),
    (
        ExtendedOnTwoPaths("hardlink@openssh.com", 7, "/a", "/b"),
        200,
        s(b"hardlink@openssh.com") + s(b"/a") + s(b"/b"),
    ),
    (ExtendedOnHandle("fsync@openssh.com", 7, b"h"), 200, s(b"fsync@openssh.com") + s(b"h")),
    (ExtendedOnHandle("fstatvfs@openssh.com", 7, b"h"), 200, s(b"fstatvfs@openssh.com") + s(b"h")),
    (
        CopyData(7, b"h", 1, 2, b"i", 3),
        200,
        s(b"copy-data") + s(b"h") + u(0, 1, 0, 2) + s(b"i") + u(0, 3),
    ),
    (Limits(7), 200, s(b"limits@openssh.com")),
]


@pytest.mark.parametrize(("request_", "kind", "rest"), VECTORS)
def test_each_request_has_the_bytes_of_the_draft(request_: Request, kind: int, rest: bytes) -> None:
    assert not isinstance(request_, Unknown)
    assert decode_request(Packet(kind, u(7) + rest)) == request_
    assert request_.encode(7) == packet(kind, 7, rest)


@pytest.mark.parametrize(("request_", "kind", "rest"), VECTORS)
def test_an_id_is_changed_in_passing(request_: Request, kind: int, rest: bytes) -> None:
    assert not isinstance(request_, Unknown)
    changed = decode_request(Packet(kind, request_.encode(99)[5:]))
    assert changed == msgspec.structs.replace(request_, id=99)


@pytest.mark.parametrize(("request_", "kind", "rest"), VECTORS)
def test_cut_or_lengthened_requests_are_refused(request_: Request, kind: int, rest: bytes) -> None:
    body = u(7) + rest
    for length in range(len(body)):
        with pytest.raises(ProtocolError):
            decode_request(Packet(kind, body[:length]))
    with pytest.raises(ProtocolError):
        decode_request(Packet(kind, body + b"\0"))


@pytest.mark.parametrize("kind", [0, 21, 22, 99, 106, 199, 202, 255])
def test_other_kinds_are_unknown(kind: int) -> None:
    assert decode_request(Packet(kind, u(7) + b"whatever")) == Unknown(7, f"request {kind}")


def test_an_extension_that_is_not_known_keeps_its_name() -> None:
    found = decode_request(Packet(Kind.EXTENDED, u(7) + s(b"home-directory") + s(b"bob")))
    assert found == Unknown(7, "home-directory")


def test_flags_that_version_3_does_not_have() -> None:
    found = decode_request(Packet(Kind.OPEN, u(7) + s(b"/a") + u(0xFFFFFFE1, 0)))
    assert found == Open(7, "/a", 0x21)
    with pytest.raises(RemoteProtocolError, match="flags"):
        decode_request(Packet(Kind.SETSTAT, u(7) + s(b"/a") + u(0x10, 0, 0)))


@pytest.mark.parametrize(
    ("kind", "rest", "error"),
    [
        (Kind.STAT, s(b"/a\0b"), InvalidEncoding),
        (Kind.STAT, s(b"/" + b"a" * 4096), LimitExceeded),
        (Kind.CLOSE, s(b"h" * 257), LimitExceeded),
        (Kind.SETSTAT, s(b"/a") + u(0x80000000, MAX_EXTENDED + 1), RemoteProtocolError),
        (Kind.SETSTAT, s(b"/a") + u(0x80000000, 0xFFFFFFFF), RemoteProtocolError),
        (Kind.EXTENDED, s(b"statvfs@\xff"), InvalidEncoding),
        (Kind.EXTENDED, s(b""), RemoteProtocolError),
        (Kind.EXTENDED, s(b"x" * 257), LimitExceeded),
    ],
)
def test_what_is_refused(kind: Kind, rest: bytes, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        decode_request(Packet(kind, u(7) + rest))


@given(st.sampled_from(VECTORS), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3))
def test_noise_is_read_to_what_encodes_to_itself(
    vector: tuple[Request, int, bytes], changes: list[tuple[int, int]]
) -> None:
    _, kind, rest = vector
    body = bytearray(u(7) + rest)
    for place, value in changes:
        body[place % len(body)] = value
    with contextlib.suppress(ProtocolError):
        found = decode_request(Packet(kind, bytes(body)))
        if not isinstance(found, Unknown):
            assert decode_request(Packet(kind, found.encode(found.id)[5:])) == found


def test_attributes() -> None:
    assert attributes_of(ALL.encode()) == ALL
    assert Attributes(size=0).is_size_alone
    assert not ALL.is_size_alone
    assert not Attributes().is_size_alone
    assert Attributes(permissions=0o120777).is_link
    assert not Attributes(permissions=0o100777).is_link
    assert not Attributes().is_link
    with pytest.raises(LocalProtocolError):
        Attributes(size=1 << 64).encode()
    reader = Reader(ALL.encode() + b"rest", "both")
    assert Attributes.parse(reader) == ALL
    assert reader.rest() == b"rest"


def test_init() -> None:
    assert read_init(Packet(Kind.INIT, u(3))) == 3
    assert read_init(Packet(Kind.INIT, u(6) + s(b"x") + s(b"y"))) == 6
    with pytest.raises(ProtocolError):
        read_init(Packet(Kind.INIT, b"\0\0\0"))


def test_version() -> None:
    body = (
        u(3)
        + s(b"fsync@openssh.com")
        + s(b"1")
        + s(b"home-directory")
        + s(b"1")
        + s(b"fsync@openssh.com")
        + s(b"2")
    )
    found = Version.parse(Packet(Kind.VERSION, body))
    assert found.encode() == len(body + b"x").to_bytes(4) + b"\2" + body
    assert found.only(["fsync@openssh.com", "limits@openssh.com"]) == Version(
        3, (("fsync@openssh.com", b"1"),)
    )
    assert Version(3).encode() == b"\0\0\0\5\2\0\0\0\3"
    for length in range(5, 4 + 4 + 17 + 4 + 1):
        with pytest.raises(ProtocolError):
            Version.parse(Packet(Kind.VERSION, body[:length]))
    with pytest.raises(LimitExceeded):
        Version.parse(Packet(Kind.VERSION, u(3) + (s(b"x") + s(b"")) * 257))


def test_replies() -> None:
    built = status(7, StatusCode.PERMISSION_DENIED, "no")
    assert built == packet(Kind.STATUS, 7, u(3) + s(b"no") + s(b"en"))
    assert status_code(built[9:]) == 3
    assert status_code(u(1)) == 1  # a server of old
    assert handle_of(s(b"h")) == b"h"
    assert single_name(name(7, "/\udcff")[9:]) == "/\udcff"
    limits = ServerLimits(1, 2, 3, 4)
    assert ServerLimits.parse(limits.encode()) == limits


@pytest.mark.parametrize(
    ("read", "rest"),
    [
        (status_code, b"\0\0\0"),
        (handle_of, s(b"h") + b"x"),
        (handle_of, s(b"h" * 257)),
        (single_name, u(0)),
        (single_name, u(2) + s(b"/a") + s(b"/a") + u(0)),
        (single_name, u(1) + s(b"/a\0")),
        (single_name, u(1) + s(b"/" * 5000)),
        (attributes_of, u(1, 0)),
        (attributes_of, u(0) + b"x"),
        (ServerLimits.parse, bytes(31)),
        (ServerLimits.parse, bytes(33)),
    ],
)
def test_replies_that_are_refused(read, rest: bytes) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ProtocolError):
        read(rest)
