"""The conversation of the sftp gate: its beginning, ids, what is refused, what breaks it, how it waits."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import ProtocolError
from protocols.ssh.fields import string, uint32, uint64
from protocols.ssh.sftp import MAX_PACKET_BYTES, Kind, Packet, data_head, init_packet, packet, write_head
from protocols.ssh.sftp_replies import ServerLimits, StatusCode, Version, name, status
from protocols.ssh.sftp_requests import (
    FSYNC,
    LIMITS,
    CopyData,
    ExtendedOnHandle,
    ExtendedOnPath,
    Limits,
    OnHandle,
    OnPath,
    OnTwoPaths,
    Open,
    Read,
)
from proxyd.gates.sftp import MAX_BACKLOG_BYTES, SftpGate
from proxyd.gates.sftp_state import MAX_LATE_ANSWERS, MAX_OWED
from tests.proxyd.gates.ssh.sftp_scene import START, Scene, Sent, Told, judge


def test_the_beginning() -> None:
    scene = Scene(begin=False)
    scene.client(init_packet(Kind.INIT, 6, string(b"some") + string(b"thing")))
    assert scene.asked() == Packet(
        Kind.INIT, uint32(3)
    )  # the gate speaks version 3, whatever the client offers
    offered = (("home-directory", b"1"), (FSYNC, b"1"), ("newline", b"\r\n"), (LIMITS, b"1"))
    scene.target(Version(3, offered).encode())
    assert scene.told() == Version(3, ((FSYNC, b"1"), (LIMITS, b"1")))
    question = scene.question(Kind.REALPATH, ".")
    scene.ask(OnPath(Kind.STAT, 1, "x"))  # it waits: relative to what, is not known yet
    assert scene.gate.has_backlog
    scene.target(name(question.id, "/srv"))
    assert not scene.gate.has_backlog
    assert scene.asked() == OnPath(Kind.STAT, question.id + 1, "/srv/x")
    assert scene.judged() == ("allow", "stat", "/srv/x", "")
    scene.done()


@pytest.mark.parametrize("version", [0, 2, 4, 6])
def test_another_version_ends_it(version: int) -> None:
    scene = Scene(begin=False)
    scene.client(init_packet(Kind.INIT, 3))
    scene.asked()
    scene.target(Version(version).encode())
    assert scene.close is not None
    assert f"version {version}" in scene.close


def test_a_target_that_names_no_start_directory_ends_it() -> None:
    for answer in (status(0, StatusCode.FAILURE, "no"), name(0, "relative"), name(0, "")):
        scene = Scene(begin=False)
        scene.client(init_packet(Kind.INIT, 3))
        scene.target(Version(3).encode(), answer)
        assert scene.close is not None


def test_a_reply_goes_back_under_the_clients_own_id() -> None:
    scene = Scene()
    scene.ask(OnPath(Kind.STAT, 500, "/a"))
    scene.ask(OnPath(Kind.READLINK, 500, "/b"))  # the same id twice is the client's own confusion
    first, second = scene.asked(), scene.asked()
    assert isinstance(first, OnPath)
    assert isinstance(second, OnPath)
    assert first.id != second.id
    scene.target(packet(Kind.NAME, second.id, b"whatever"), status(first.id, StatusCode.NO_SUCH_FILE, "no"))
    assert scene.told() == Told(Kind.NAME, 500, b"whatever")
    assert scene.refused(500, StatusCode.NO_SUCH_FILE) == "no"
    assert [scene.judged()[1] for _ in "12"] == ["stat", "stat"]
    scene.done()


def test_a_denial_and_a_hold_say_why() -> None:
    scene = Scene()
    scene.ask(OnPath(Kind.REMOVE, 1, "/secret/x"))
    assert scene.refused(1) == "proxyd: secrets are off limits (rule no-secrets). Ask for an account."
    scene.ask(OnPath(Kind.STAT, 2, "/held/x"))
    text = scene.refused(2)
    assert text.startswith("proxyd: this needs a second pair of eyes (rule held).")
    assert "approval" in text
    assert scene.judged() == ("deny", "remove", "/secret/x", "")
    assert scene.judged() == ("hold", "stat", "/held/x", "")
    scene.done()


@pytest.mark.parametrize(
    ("written", "judged"),
    [
        ("x", f"{START}/x"),
        ("", START),
        (".", START),
        ("..", "/home"),
        ("../../../../secret", "/secret"),
        ("/", "/"),
        ("//secret", "/secret"),
        ("///a//b/", "/a/b"),
        ("/a/./b/../../secret/x", "/secret/x"),
        ("/\udcff", "/\udcff"),
        ("~/x", f"{START}/~/x"),
    ],
)
def test_without_resolving_the_normalised_path_is_judged_and_asked_for(written: str, judged: str) -> None:
    scene = Scene()
    scene.ask(OnPath(Kind.STAT, 1, written))
    effect, verb, path, _ = scene.judged()
    assert (verb, path) == ("stat", judged)
    if effect == "allow":
        asked = scene.asked()
        assert isinstance(asked, OnPath)
        assert asked.path == judged
    else:
        scene.refused(1)
    scene.done()


def test_a_path_with_nul_is_refused_and_the_conversation_goes_on() -> None:
    scene = Scene()
    scene.client(packet(Kind.STAT, 1, string(b"/a\0b")))
    assert "NUL" in scene.refused(1, StatusCode.BAD_MESSAGE)
    scene.client(packet(Kind.STAT, 2, string(b"/" * 4097)))
    scene.client(packet(Kind.STAT, 3, string(b"/a") + b"more"))
    scene.refused(2, StatusCode.BAD_MESSAGE)
    scene.refused(3, StatusCode.BAD_MESSAGE)
    scene.done()


def test_what_is_not_known_is_not_passed() -> None:
    scene = Scene(extensions=(FSYNC,))
    scene.client(packet(Kind.EXTENDED, 1, string(b"home-directory") + string(b"root")))
    scene.client(packet(21, 2, string(b"/a") + string(b"/b") + b"\1"))
    for request in (
        ExtendedOnPath("statvfs@openssh.com", 3, "/secret"),
        CopyData(4, b"h", 0, 0, b"i", 0),
        Limits(5),
        ExtendedOnHandle("fstatvfs@openssh.com", 6, b"h"),
    ):
        scene.ask(request)
    assert "home-directory" in scene.refused(1, StatusCode.OP_UNSUPPORTED)
    for identity in range(2, 7):
        scene.refused(identity, StatusCode.OP_UNSUPPORTED)
    scene.done()


def test_limits_are_no_larger_than_the_gates_own() -> None:
    scene = Scene()
    scene.ask(Limits(1))
    asked = scene.asked()
    assert isinstance(asked, Limits)
    scene.target(packet(Kind.EXTENDED_REPLY, asked.id, ServerLimits(1 << 40, 1 << 22, 1000, 0).encode()))
    told = scene.reply()
    assert ServerLimits.parse(told.rest) == ServerLimits(262144, 261120, 1000, 1024)
    scene.done()


@pytest.mark.parametrize(
    "data",
    [
        init_packet(Kind.INIT, 3),
        init_packet(Kind.VERSION, 3),
        status(1, 0, "fine"),
        data_head(1, 0),
        packet(Kind.HANDLE, 1, string(b"h")),
        packet(Kind.NAME, 1),
        packet(Kind.ATTRS, 1),
        packet(Kind.EXTENDED_REPLY, 1),
        b"\0\0\0\4\x11\0\0\0",  # no id
        b"\0\0\0\0\0",
        b"\0\x10\0\0\x11",
        write_head(1, b"h", 0, MAX_PACKET_BYTES),
    ],
)
def test_a_client_that_breaks_the_protocol_ends_it(data: bytes) -> None:
    scene = Scene()
    scene.client(data)
    assert scene.close is not None
    assert "client" in scene.close
    scene.client(OnPath(Kind.STAT, 2, "/a").encode(2))
    assert scene.asked_nothing()


@pytest.mark.parametrize(
    "data", [OnPath(Kind.STAT, 2, "/a").encode(2), write_head(1, b"h", 0, 1), b"\0\0\0\1\1"]
)
def test_nothing_comes_before_init(data: bytes) -> None:
    scene = Scene(begin=False)
    scene.client(data)
    assert scene.close is not None
    assert scene.asked_nothing()


@pytest.mark.parametrize(
    "data",
    [
        init_packet(Kind.VERSION, 3),
        init_packet(Kind.INIT, 3),
        OnPath(Kind.STAT, 2, "/a").encode(2),
        write_head(1, b"h", 0, 1) + b"x",
        status(99, 0, "fine"),
        data_head(99, 0),
        b"\0\0\0\4\x65\0\0\0",
        b"\0\x10\0\0\x65",
        packet(177, 1),
    ],
)
def test_a_target_that_breaks_the_protocol_ends_it(data: bytes) -> None:
    scene = Scene()
    scene.target(data)
    assert scene.close is not None
    assert "target" in scene.close
    scene.target(status(0, 0, "late"))
    with pytest.raises(AssertionError, match="told nothing"):
        scene.told()


def test_a_version_that_nobody_asked_for() -> None:
    scene = Scene(begin=False)
    scene.target(Version(3).encode())
    assert scene.close is not None


def test_an_answer_comes_once_and_of_its_own_kind() -> None:
    wrong = [
        (OnPath(Kind.STAT, 1, "/a"), packet(Kind.NAME, 1, uint32(0))),
        (OnPath(Kind.STAT, 1, "/a"), packet(Kind.HANDLE, 1, string(b"h"))),
        (OnPath(Kind.STAT, 1, "/a"), data_head(1, 1)),
        (OnPath(Kind.REMOVE, 1, "/a"), packet(Kind.ATTRS, 1, uint32(0))),
        (Open(1, "/a", 1), packet(Kind.ATTRS, 1, uint32(0))),
        (Open(1, "/a", 1), packet(Kind.HANDLE, 1, string(b"h" * 257))),
        (Limits(1), packet(Kind.EXTENDED_REPLY, 1, b"short")),
    ]
    for request, reply in wrong:
        scene = Scene()
        scene.ask(request)
        scene.target(reply)
        assert scene.close is not None, request
    scene = Scene()
    scene.ask(OnPath(Kind.STAT, 1, "/a"))
    scene.target(status(1, 2, "no"), status(1, 2, "no"))
    assert scene.close is not None
    assert "nobody is waiting" in scene.close


def test_the_client_waits_while_the_target_owes_too_much() -> None:
    scene = Scene()
    for identity in range(MAX_OWED + 3):
        scene.ask(OnPath(Kind.STAT, identity, "/a"))
    asked = []
    while not scene.asked_nothing():
        asked.append(scene.asked())
        scene.judged()
    assert len(asked) == MAX_OWED
    assert scene.gate.has_backlog
    assert not scene.gate.is_full
    first = asked[0]
    assert isinstance(first, OnPath)
    scene.target(status(first.id, 2, "no"))
    assert isinstance(scene.asked(), OnPath)
    scene.judged()
    scene.refused(0, StatusCode.NO_SUCH_FILE)
    scene.done()


def test_is_full_asks_to_stop_and_everything_goes_on_in_order() -> None:
    scene = Scene(resolves_paths=True)
    scene.ask(OnPath(Kind.STAT, 1, "/a"))
    stream = b"".join(
        OnPath(Kind.REMOVE, identity, "/" + "a" * 4000).encode(identity) for identity in range(270)
    )
    scene.client(stream)
    assert scene.gate.is_full
    assert scene.gate.pending_bytes == len(stream) > MAX_BACKLOG_BYTES
    scene.resolve("/a", "/a")
    assert isinstance(scene.asked(), OnPath)
    for _ in range(270):
        scene.resolve("/", "/")
        assert isinstance(scene.asked(), OnPath)
    assert not scene.gate.is_full
    assert scene.gate.pending_bytes == 0
    assert [scene.judged()[1] for _ in range(271)] == ["stat"] + ["remove"] * 270
    scene.done()


def test_an_own_answer_never_lands_in_the_midst_of_data() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h")
    scene.ask(Read(2, b"h", 0, 100))
    read = scene.asked()
    assert isinstance(read, Read)
    scene.target(data_head(read.id, 6) + b"abc")
    for identity in range(MAX_LATE_ANSWERS + 5):
        scene.ask(OnPath(Kind.STAT, identity, "/secret"))
    assert scene.gate.has_backlog  # the client must not fill memory in the meantime
    with pytest.raises(AssertionError, match="told nothing"):
        scene.told()
    scene.target(b"def")
    assert scene.told() == Told(Kind.DATA, 2, string(b"abcdef"))
    for identity in range(MAX_LATE_ANSWERS + 5):
        scene.refused(identity)
        assert scene.judged()[0] == "deny"
    assert not scene.gate.has_backlog
    scene.done()


def test_a_torn_packet_is_no_backlog() -> None:
    scene = Scene()
    scene.client(b"\0\0\0\x10\x11")
    assert scene.gate.pending_bytes == 5
    assert not scene.gate.has_backlog
    scene.done()


PACKETS = st.lists(
    st.one_of(
        st.builds(lambda kind, rest: packet(kind, 7, rest), st.integers(0, 255), st.binary(max_size=40)),
        st.builds(
            lambda kind, path: packet(kind, 7, string(path)),
            st.sampled_from([7, 11, 13, 16, 17, 19]),
            st.binary(),
        ),
        st.builds(lambda data: write_head(7, b"h", 0, len(data)) + data, st.binary(max_size=40)),
        st.just(Read(7, b"h", 0, 5).encode(7)),
        st.just(Open(7, "x", 3).encode(7)),
        st.just(OnHandle(Kind.CLOSE, 7, b"h").encode(7)),
        st.just(OnTwoPaths(Kind.SYMLINK, 7, "x", "y").encode(7)),
        st.just(packet(Kind.HANDLE, 3, string(b"h"))),
        st.integers(0, 12).map(lambda identity: name(identity, "/x")),
        st.integers(0, 12).map(lambda identity: status(identity, 2, "no")),
        st.integers(0, 12).map(lambda identity: data_head(identity, 2) + b"xy"),
    ),
    max_size=12,
)


@given(PACKETS, PACKETS, st.booleans())
def test_noise_from_both_sides_never_raises_and_never_passes_unjudged(
    client: list[bytes], target: list[bytes], resolves_paths: bool
) -> None:
    gate = SftpGate(judge, resolves_paths=lambda: resolves_paths)
    gate.from_client(init_packet(Kind.INIT, 3))
    gate.from_target(Version(3).encode() + name(0, START))
    for index in range(max(len(client), len(target))):
        gate.from_client(b"".join(client[index : index + 1]))
        gate.from_target(b"".join(target[index : index + 1]))
        work = gate.take_actions()
        with contextlib.suppress(ProtocolError):
            for data in work.to_target:
                assert b"/secret" not in data
    gate.finish()


def test_a_write_in_pieces() -> None:
    scene = Scene()
    scene.opened(1, "/a", b"h", flags=2)
    scene.client(write_head(9, b"h", 4, 2) + b"x", b"y")
    sent = scene.asked()
    assert isinstance(sent, Sent)
    assert (sent.handle, sent.offset, sent.data) == (b"h", 4, b"xy")
    scene.target(status(sent.id, 0, ""))
    assert scene.refused(9, StatusCode.OK) == ""
    scene.done()


def test_unknown_requests_keep_their_id() -> None:
    scene = Scene()
    scene.client(packet(Kind.EXTENDED, 0xFFFFFFFF, string(b"users-groups-by-id@openssh.com") + uint64(0)))
    scene.refused(0xFFFFFFFF, StatusCode.OP_UNSUPPORTED)
    scene.done()
