"""Ways around rules on files, and sftp packets that no client would send, through the gateway before OpenSSH's own
sftp-server. What a rule denies does not reach the target, by whatever name it is asked for.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocols.ssh import messages as wire
from protocols.ssh.sftp import Kind
from tests.end_to_end.conftest import SshGatewayFactory
from tests.end_to_end.running import wait_until
from tests.end_to_end.ssh_gateway import EVERYTHING_BY_SSH, SshGateway
from tests.end_to_end.ssh_raw import PACKET, RawClient
from tests.ssh_pki import string

SECRET = b"canary-of-the-vault"
OK, EOF, NO_SUCH_FILE, DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
READ, WRITE, CREAT, TRUNC = 1, 2, 8, 16
NUMBER = wire.Number
Answer = tuple[int, bytes]


def uint32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def uint64(value: int) -> bytes:
    return struct.pack(">Q", value)


class Sftp:
    """One sftp conversation by hand, on a channel of `client`."""

    def __init__(self, client: RawClient, *, begins: bool = True) -> None:
        self.client = client
        self.channel = client.open_session()
        self.ids = itertools.count(1)
        self.errors = b""
        self._buffer = b""
        assert client.ask_channel(self.channel, "subsystem", string("sftp"))
        if begins:
            self.send(bytes([Kind.INIT]) + uint32(3))
            assert self.next()[0] == Kind.VERSION

    def send(self, *packets: bytes) -> None:
        """Kind and what follows it; the lengths are put before them."""
        self.send_bytes(b"".join(map(string, packets)))

    def send_bytes(self, data: bytes) -> None:
        peer = self.client.peers[self.channel]
        pieces = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
        self.client.send(*(wire.channel_data(peer, piece) for piece in pieces))

    def next(self) -> bytes:
        """The next packet of the server: kind and what follows."""
        while len(self._buffer) < 4 or len(self._buffer) < 4 + int.from_bytes(self._buffer[:4], "big"):
            self._more()
        size = int.from_bytes(self._buffer[:4], "big")
        packet, self._buffer = self._buffer[4 : 4 + size], self._buffer[4 + size :]
        return packet

    def _more(self) -> None:
        payload = self.client.receive()
        match payload[0]:
            case NUMBER.CHANNEL_DATA:
                self._buffer += payload[9:]
                self.client.send(wire.window_adjust(self.client.peers[self.channel], len(payload) - 9))
            case NUMBER.CHANNEL_EXTENDED_DATA:
                self.errors += payload[13:]
            case NUMBER.CHANNEL_CLOSE:
                raise Closed(self.errors.decode())

    def ask(self, kind: int, body: bytes) -> Answer:
        """One request; the kind of the answer and what follows its id."""
        identity = next(self.ids)
        self.send(bytes([kind]) + uint32(identity) + body)
        answer = self.next()
        assert answer[1:5] == uint32(identity)
        return answer[0], answer[5:]

    def code(self, kind: int, body: bytes) -> int:
        """Of a status; OK for whatever else comes."""
        found, rest = self.ask(kind, body)
        return int.from_bytes(rest[:4], "big") if found == Kind.STATUS else OK

    def open(self, path: str | bytes, flags: int = READ) -> bytes:
        kind, rest = self.ask(Kind.OPEN, string(path) + uint32(flags, 0))
        assert kind == Kind.HANDLE, rest
        return rest[4:]

    def read(self, path: str | bytes) -> bytes | int:
        """The first bytes of a file, or the code by which that is refused."""
        kind, rest = self.ask(Kind.OPEN, string(path) + uint32(READ, 0))
        if kind == Kind.STATUS:
            return int.from_bytes(rest[:4], "big")
        handle = rest[4:]
        kind, rest = self.ask(Kind.READ, string(handle) + uint64(0) + uint32(1000))
        self.ask(Kind.CLOSE, string(handle))
        return rest[4:] if kind == Kind.DATA else int.from_bytes(rest[:4], "big")


class Closed(Exception):
    """The gateway has closed the channel; what it said on stderr."""


# Paths


def policy(root: Path) -> str:
    return f"""{EVERYTHING_BY_SSH}
  - name: vault-is-closed
    effect: deny
    ssh: {{paths: ["{root}/vault/**"]}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`open` is for everybody, `vault` for nobody; links lead from one into the other."""
    root = tmp_path_factory.mktemp("files").resolve()
    for directory in ("open", "open/inner", "vault", "vault/deep"):
        (root / directory).mkdir()
    (root / "vault" / "secret").write_bytes(SECRET)
    (root / "vault" / "deep" / "secret").write_bytes(SECRET)
    (root / "open" / "plain").write_bytes(b"plain")
    links = {
        "file": "../vault/secret",
        "directory": "../vault",
        "whole": str(root / "vault"),
        "twice": "file",
        "up": "..",
        "hole": "../vault/new",
        "inner/far": "../../vault/deep/../secret",
    }
    for name, leads_to in links.items():
        (root / "open" / name).symlink_to(leads_to)
    for number in range(30):
        (root / "open" / f"chain{number}").symlink_to(
            f"chain{number + 1}" if number < 29 else "../vault/secret"
        )
    return root


@pytest.fixture(scope="module")
def gateway(
    ssh_gateway: SshGateway, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshGateway]:
    directory = tmp_path_factory.mktemp("gateway")
    with SshGateway(ssh_gateway.server, directory, ssh_gateway.keys, policy=policy(root)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(gateway: SshGateway) -> Iterator[RawClient]:
    """One connection for all: what happens on one channel is nothing to the others."""
    with RawClient.logged_in(gateway) as client:
        yield client


@pytest.fixture
def sftp(client: RawClient) -> Iterator[Sftp]:
    sftp = Sftp(client)
    yield sftp
    client.send(wire.channel_close(client.peers[sftp.channel]))
    while client.receive()[0] != NUMBER.CHANNEL_CLOSE:
        pass


# Names of the file in the vault, below the root.
SPELLINGS = [
    "/vault/secret",
    "//vault//secret",
    "/vault/./secret",
    "/open/../vault/secret",
    "/open/inner/../../vault/secret",
    "/./open/.././vault/./secret",
    "/vault/deep/../secret",
    "/nosuch/../vault/secret",
    "/open/plain/../../vault/secret",
    "/open/file",
    "/open/twice",
    "/open/directory/secret",
    "/open/directory/deep/../secret",
    "/open/directory/../vault/secret",
    "/open/whole/secret",
    "/open/up/vault/secret",
    "/open/up/open/up/vault/secret",
    "/open/inner/far",
    "/open/chain0",
    "/open/chain25",
    "/open/directory/./deep/secret",
    "/vault/secret/",
    "/open/file/",
    "/open/file/.",
]


class TestSpellings:
    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_nothing_in_the_vault_is_reached(self, sftp: Sftp, root: Path, spelling: str) -> None:
        """By any verb. What sshd would refuse by itself may be refused as that, never the content be had."""
        path = string(f"{root}{spelling}")
        relative = string(os.path.relpath(root, Path.home()) + spelling)
        none = uint32(0)
        for name in (path, relative):
            assert sftp.code(Kind.OPEN, name + uint32(READ, 0)) != OK
            for flags in (
                WRITE,
                READ | WRITE,
                WRITE | TRUNC,
                CREAT | READ,
                WRITE | CREAT | TRUNC,
                0xFFFFFFFF,
            ):
                assert sftp.code(Kind.OPEN, name + uint32(flags, 0)) != OK
            assert sftp.code(Kind.STAT, name) != OK
            assert sftp.code(Kind.SETSTAT, name + uint32(4, 0o777)) != OK
            assert sftp.code(Kind.SETSTAT, name + uint32(1) + uint64(0)) != OK
            assert sftp.code(Kind.EXTENDED, string("statvfs@openssh.com") + name) != OK
            copy = string(f"{root}/open/copy")
            assert sftp.code(Kind.EXTENDED, string("hardlink@openssh.com") + name + copy) != OK
            if name is path:  # another text is read from where the link stands
                assert sftp.code(Kind.SYMLINK, name + copy) != OK
            assert sftp.code(Kind.MKDIR, name + none) != OK
            assert sftp.code(Kind.RMDIR, name) != OK
        assert not (root / "open" / "copy").is_symlink()
        assert not (root / "open" / "copy").exists()
        assert (root / "vault" / "secret").read_bytes() == SECRET
        assert (root / "vault" / "secret").stat().st_mode & 0o777 != 0o777

    @pytest.mark.parametrize(
        "spelling",
        [
            "/vault",
            "/vault/",
            "/open/directory",
            "/open/whole/",
            "/open/up/vault",
            "/open/inner/../directory/.",
        ],
    )
    def test_the_vault_itself(self, sftp: Sftp, root: Path, spelling: str) -> None:
        """A link to it may be moved; the vault may not, nor anything into it."""
        path, taken = string(f"{root}{spelling}"), root / "open" / "taken"
        assert sftp.code(Kind.OPENDIR, path) == DENIED
        assert sftp.code(Kind.RMDIR, path) != OK
        away = path + string(str(taken))
        into = string(f"{root}/open/plain") + string(f"{root}{spelling.rstrip('/')}/plain")
        for body in (away, into):
            for code in (
                sftp.code(Kind.RENAME, body),
                sftp.code(Kind.EXTENDED, string("posix-rename@openssh.com") + body),
            ):
                assert code != OK or (body is away and taken.is_symlink())
            if taken.is_symlink():
                taken.rename(str(root) + spelling.rstrip("/"))
        assert not taken.exists()
        assert (root / "vault" / "secret").exists()
        assert not (root / "vault" / "plain").exists()

    def test_a_directory_above_it(self, sftp: Sftp, root: Path) -> None:
        """Moved away, its vault would have another name."""
        for body in (string(f"{root}") + string(f"{root}2"), string(f"{root}/open/..") + string(f"{root}2")):
            assert sftp.code(Kind.RENAME, body) != OK
            assert sftp.code(Kind.EXTENDED, string("posix-rename@openssh.com") + body) != OK
        assert (root / "vault" / "secret").exists()

    def test_links_are_not_made_into_it_nor_through_it(self, sftp: Sftp, root: Path) -> None:
        for leads_to in (
            f"{root}/vault/secret",
            "../vault/secret",
            "directory/secret",
            f"{root}/vault",
            "../vault/new",
        ):
            assert sftp.code(Kind.SYMLINK, string(leads_to) + string(f"{root}/open/made")) == DENIED, leads_to
        for link in (f"{root}/vault/made", f"{root}/open/directory/made"):
            assert sftp.code(Kind.SYMLINK, string("anything") + string(link)) == DENIED
        assert not (root / "open" / "made").is_symlink()

    def test_what_does_not_exist_yet_is_not_made_through_a_link(self, sftp: Sftp, root: Path) -> None:
        for name in ("/open/hole", "/vault/new", "/open/directory/new"):
            for flags in (WRITE | CREAT, WRITE | CREAT | 32, CREAT):
                assert sftp.code(Kind.OPEN, string(f"{root}{name}") + uint32(flags, 0)) != OK
        assert not (root / "vault" / "new").exists()

    def test_names_are_not_told(self, sftp: Sftp, root: Path) -> None:
        """Not by REALPATH, nor READLINK, nor by the difference between what is there and what is not."""
        for request in (Kind.REALPATH, Kind.READLINK, Kind.LSTAT, Kind.STAT):
            there = sftp.ask(request, string(f"{root}/vault/secret"))
            missing = sftp.ask(request, string(f"{root}/vault/absent"))
            assert there[1].replace(b"/secret", b"/absent") == missing[1]
            assert there[1][:4] == uint32(DENIED)
        for name in ("file", "directory/secret", "directory/deep"):
            kind, rest = sftp.ask(Kind.REALPATH, string(f"{root}/open/{name}"))
            assert (kind, rest[:4]) == (Kind.STATUS, uint32(DENIED))

    def test_what_is_open_is_open(self, sftp: Sftp, root: Path) -> None:
        assert sftp.read(f"{root}/open/plain") == b"plain"
        assert sftp.read(f"{root}/open/inner/../plain") == b"plain"
        assert sftp.read(f"{root}/vault/../open//plain") == b"plain"

    def test_openssh_is_told_the_rule(self, gateway: SshGateway, root: Path, tmp_path: Path) -> None:
        done = gateway.route().sftp(f"get {root}/open/file {tmp_path}/x", status=1)
        assert b"vault-is-closed" in done.stderr
        done = gateway.route().scp(f"web1:{root}/open/directory/secret", str(tmp_path), status=1)
        assert b"vault-is-closed" in done.stderr
        assert not list(tmp_path.iterdir())

    def test_a_rule_that_comes_while_the_conversation_goes_on(
        self, make_ssh_gateway: SshGatewayFactory, root: Path
    ) -> None:
        """From then on links are followed before anything is judged."""
        gateway = make_ssh_gateway()
        with RawClient.logged_in(gateway) as client:
            sftp = Sftp(client)
            handle = sftp.open(f"{root}/open/plain")
            assert sftp.read(f"{root}/open/file") == SECRET
            assert gateway.reload(policy(root))
            for spelling in SPELLINGS:
                assert isinstance(sftp.read(f"{root}{spelling}"), int), spelling
            assert sftp.ask(Kind.READ, string(handle) + uint64(0) + uint32(9)) == (Kind.DATA, string("plain"))
            assert sftp.read(f"{root}/open/plain") == b"plain"


# Handles


class TestHandles:
    def test_of_another_channel(self, gateway: SshGateway, root: Path) -> None:
        with RawClient.logged_in(gateway) as client:
            first, second = Sftp(client), Sftp(client)
            handle = first.open(f"{root}/open/plain")
            for kind, body in _on_handle(handle):
                assert second.code(kind, body) == FAILURE
            assert first.code(Kind.CLOSE, string(handle)) == OK

    def test_made_up_ones(self, sftp: Sftp) -> None:
        for handle in (b"", b"\0\0\0\0", uint32(1), b"x" * 256, b"/etc/passwd"):
            for kind, body in _on_handle(handle):
                assert sftp.code(kind, body) == FAILURE

    def test_after_the_close(self, sftp: Sftp, root: Path) -> None:
        handle = sftp.open(f"{root}/open/plain")
        assert sftp.code(Kind.CLOSE, string(handle)) == OK
        for kind, body in _on_handle(handle):
            assert sftp.code(kind, body) == FAILURE

    def test_used_for_more_than_they_were_opened_for(self, sftp: Sftp, root: Path) -> None:
        handle = sftp.open(f"{root}/open/plain")
        written = sftp.open(f"{root}/open/inner/new", WRITE | CREAT)
        assert sftp.code(Kind.WRITE, string(handle) + uint64(0) + string("changed")) == DENIED
        assert sftp.code(Kind.READ, string(written) + uint64(0) + uint32(10)) == DENIED
        assert sftp.code(Kind.READDIR, string(handle)) == FAILURE
        copy = string("copy-data") + string(handle) + uint64(0) + uint64(0)
        assert sftp.code(Kind.EXTENDED, copy + string(handle) + uint64(0)) == DENIED
        assert (root / "open" / "plain").read_bytes() == b"plain"

    def test_ten_thousand(self, sftp: Sftp, root: Path) -> None:
        body = string(f"{root}/open/plain") + uint32(READ, 0)
        codes = []
        for start in range(0, 10_000, 1000):
            sftp.send(*(bytes([Kind.OPEN]) + uint32(start + n) + body for n in range(1000)))
            codes += [sftp.next()[0] for _ in range(1000)]
        assert 0 < codes.count(Kind.HANDLE) <= 1024
        assert codes.count(Kind.HANDLE) + codes.count(Kind.STATUS) == 10_000


def _on_handle(handle: bytes) -> list[tuple[int, bytes]]:
    shown = string(handle)
    return [
        (Kind.READ, shown + uint64(0) + uint32(100)),
        (Kind.WRITE, shown + uint64(0) + string("x" * 1000)),
        (Kind.FSTAT, shown),
        (Kind.FSETSTAT, shown + uint32(4, 0o777)),
        (Kind.READDIR, shown),
        (Kind.CLOSE, shown),
        (Kind.EXTENDED, string("fsync@openssh.com") + shown),
        (Kind.EXTENDED, string("fstatvfs@openssh.com") + shown),
        (Kind.EXTENDED, string("copy-data") + shown + uint64(0) + uint64(0) + shown + uint64(0)),
    ]


# Packets


# Of each kind of request a body that is whole, to be spoilt.
WHOLE = {
    Kind.OPEN: string("/x") + uint32(READ, 0),
    Kind.CLOSE: string("h"),
    Kind.READ: string("h") + uint64(0) + uint32(1),
    Kind.LSTAT: string("/x"),
    Kind.FSTAT: string("h"),
    Kind.SETSTAT: string("/x") + uint32(0),
    Kind.FSETSTAT: string("h") + uint32(0),
    Kind.OPENDIR: string("/x"),
    Kind.READDIR: string("h"),
    Kind.REMOVE: string("/x"),
    Kind.MKDIR: string("/x") + uint32(0),
    Kind.RMDIR: string("/x"),
    Kind.REALPATH: string("/x"),
    Kind.STAT: string("/x"),
    Kind.RENAME: string("/x") + string("/y"),
    Kind.READLINK: string("/x"),
    Kind.SYMLINK: string("/x") + string("/y"),
    Kind.EXTENDED: string("statvfs@openssh.com") + string("/x"),
}


class TestPackets:
    @pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: Kind(kind).name)
    def test_a_body_that_is_not_one(self, sftp: Sftp, root: Path, kind: Kind) -> None:
        """Told as that, and the conversation goes on."""
        whole = WHOLE[kind]
        spoilt = [
            whole[:-1],
            whole + b"x",
            b"",
            b"\xff\xff\xff\xff" + whole[4:],
            whole.replace(b"/x", b"\0x"),
        ]
        for body in spoilt:
            if body != whole:
                assert sftp.code(kind, body) in {BAD_MESSAGE, UNSUPPORTED}, body
        assert sftp.read(f"{root}/open/plain") == b"plain"

    def test_strange_attributes_and_names(self, sftp: Sftp, root: Path) -> None:
        path = string(f"{root}/open/plain")
        assert sftp.code(Kind.SETSTAT, path + uint32(0x7FFFFFFF)) == BAD_MESSAGE
        assert sftp.code(Kind.SETSTAT, path + uint32(0x80000000, 0xFFFFFFFF)) == BAD_MESSAGE
        assert sftp.code(Kind.OPEN, string("/" + "x" * 5000) + uint32(READ, 0)) != OK
        assert sftp.code(Kind.OPEN, string(b"/\xff\xfe\x1b[2J") + uint32(READ, 0)) == NO_SUCH_FILE
        for name in (
            "home-directory",
            "users-groups-by-id@openssh.com",
            "expand-path@openssh.com~",
            "x" * 300,
            "",
        ):
            assert sftp.code(Kind.EXTENDED, string(name) + string("root")) in {UNSUPPORTED, BAD_MESSAGE}
        assert sftp.read(f"{root}/open/plain") == b"plain"

    @pytest.mark.parametrize("kind", [0, 21, 99, 150, 199, 202, 255])
    def test_a_kind_that_there_is_not(self, sftp: Sftp, kind: int) -> None:
        assert sftp.code(kind, string("/x")) == UNSUPPORTED

    # What cannot be followed any more ends this channel, with a word, and no other.
    BREAKING: dict[str, Callable[[], bytes]] = {  # noqa: RUF012
        "no length": lambda: uint32(0) + b"x",
        "a huge packet": lambda: uint32(0xFFFFFFFF) + b"x",
        "a large packet": lambda: uint32(10_000_000) + bytes([Kind.OPEN]) + bytes(1000),
        "a packet without an id": lambda: string(bytes([Kind.STAT]) + b"\0\0"),
        "INIT again": lambda: string(bytes([Kind.INIT]) + uint32(3)),
        "a version": lambda: string(bytes([Kind.VERSION]) + uint32(3)),
        "a status": lambda: string(bytes([Kind.STATUS]) + uint32(1, 0) + string("") + string("")),
        "a handle": lambda: string(bytes([Kind.HANDLE]) + uint32(1) + string("h")),
        "data": lambda: string(bytes([Kind.DATA]) + uint32(1) + string("h")),
        "a write longer than its packet": lambda: string(
            bytes([Kind.WRITE]) + uint32(1) + string("h") + uint64(0) + uint32(1000) + b"x"
        ),
        "a write shorter than its packet": lambda: string(
            bytes([Kind.WRITE]) + uint32(1) + string("h") + uint64(0) + uint32(1) + b"xyz"
        ),
        "a write with an endless handle": lambda: string(
            bytes([Kind.WRITE]) + uint32(1) + string("h" * 2000) + uint64(0) + string("x")
        ),
        "another protocol": lambda: b"GET / HTTP/1.1\r\n\r\n",
    }

    @pytest.mark.parametrize("data", BREAKING.values(), ids=BREAKING.keys())
    def test_what_cannot_be_followed_ends_the_channel(
        self, client: RawClient, sftp: Sftp, root: Path, data: Callable[[], bytes]
    ) -> None:
        broken = Sftp(client)
        broken.send_bytes(data())
        with pytest.raises(Closed, match="proxyd: the sftp conversation cannot be followed: the client"):
            broken.next()
        client.send(wire.channel_close(client.peers[broken.channel]))
        assert sftp.read(f"{root}/open/plain") == b"plain"

    def test_requests_before_the_beginning(self, gateway: SshGateway, root: Path) -> None:
        with RawClient.logged_in(gateway) as client:
            for data in (
                string(bytes([Kind.STAT]) + uint32(1) + string(f"{root}/vault/secret")),
                string(bytes([Kind.WRITE]) + uint32(1) + string("h") + uint64(0) + string("x")),
                string(bytes([Kind.INIT])),
            ):
                sftp = Sftp(client, begins=False)
                sftp.send_bytes(data)
                with pytest.raises(Closed, match="cannot be followed"):
                    sftp.next()

    def test_bytes_before_the_subsystem_is_judged(self, gateway: SshGateway, root: Path) -> None:
        """They are judged like those that come after it."""
        with RawClient.logged_in(gateway) as client:
            channel = client.open_session()
            peer = client.peers[channel]
            early = string(bytes([Kind.INIT]) + uint32(3))
            early += string(bytes([Kind.OPEN]) + uint32(1) + string(f"{root}/vault/secret") + uint32(READ, 0))
            client.send(wire.channel_data(peer, early), wire.channel_eof(peer))
            assert client.ask_channel(channel, "subsystem", string("sftp"))
            out, said, _ = client.until_close(channel)
            assert b"vault-is-closed" in out
            assert b"vault-is-closed" in said
            assert SECRET not in out

    def test_bytes_for_an_exec_are_not_taken_for_sftp(self, gateway: SshGateway) -> None:
        """What follows is the input of the command that was judged."""
        with RawClient.logged_in(gateway) as client:
            channel = client.open_session()
            early = string(bytes([Kind.INIT]) + uint32(3))
            client.send(
                wire.channel_data(client.peers[channel], early), wire.channel_eof(client.peers[channel])
            )
            assert client.ask_channel(channel, "exec", string("cat"))
            assert client.until_close(channel)[0] == early

    def test_a_flood_of_requests_whose_answers_nobody_reads(self, gateway: SshGateway, root: Path) -> None:
        before = gateway.daemon.memory_kib()
        with RawClient.logged_in(gateway) as client, RawClient.logged_in(gateway) as other:
            sftp = Sftp(client)
            client.sock.settimeout(1)
            request = bytes([Kind.STAT]) + uint32(1) + string(f"{root}/open/plain")
            denied = bytes([Kind.STAT]) + uint32(1) + string(f"{root}/vault/secret")
            unknown = bytes([99]) + uint32(1)
            sent = string(request) + string(denied) + string(unknown)
            peer = client.peers[sftp.channel]
            room = 2 * 1024 * 1024 // len(sent) // 100
            client.send(*[wire.channel_data(peer, sent * 100)] * room)
            assert Sftp(other).read(f"{root}/open/plain") == b"plain"
            assert gateway.daemon.memory_kib() - before < 64 * 1024
        wait_until(lambda: len(gateway.logged("session ended", client=client.name)) == 1, "the end")
        assert not gateway.logged("a session failed")
