"""What is on record of SSH sessions, and what never: nothing is done that cannot be recorded, no secret is kept, and
what people and targets say cannot play with the terminal of who reads the log or a tape.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import re
import stat
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from demo.ssh_keys import SshKeys
from demo.sshd import SshServer
from protocols.ssh import messages as wire
from protocols.ssh.sftp import Kind
from tests.end_to_end.conftest import SshGatewayFactory
from tests.end_to_end.running import Document, wait_until
from tests.end_to_end.ssh_gateway import EVERYTHING_BY_SSH, LOGIN, SshGateway
from tests.end_to_end.ssh_raw import (
    INFO_REQUEST,
    INFO_RESPONSE,
    SUCCESS,
    USER,
    RawClient,
    RawTarget,
    auth_request,
)
from tests.end_to_end.ssh_route import TARGET
from tests.end_to_end.ssh_wire import Ended
from tests.ssh_pki import Key, string

REFUSED, LOST = 126, 255
NUMBER = wire.Number
PROMPT = b"target$ "
CANARY = "xq7-never-on-record-z9"


def uint32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


class Shell:
    """A shell with a terminal on a channel of `client`. `seen`: everything that it has shown."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.channel = client.open_session()
        self.peer = client.peers[self.channel]
        self.seen = b""
        modes = b"\x35" + uint32(1) + b"\0"
        assert client.ask_channel(
            self.channel, "pty-req", string("xterm") + uint32(200, 50, 0, 0) + string(modes)
        )
        assert client.ask_channel(self.channel, "shell")
        self.until(PROMPT)

    def type(self, text: str) -> None:
        self.client.send(wire.channel_data(self.peer, text.encode()))

    def until(self, word: bytes) -> bytes:
        """Read until this is shown; what was shown up to it."""
        while word not in self.seen:
            payload = self.client.receive()
            if payload[0] == NUMBER.CHANNEL_DATA:
                self.seen += payload[9:]
        shown, _, self.seen = self.seen.partition(word)
        return shown

    def leave(self) -> None:
        self.type("exit\r")
        self.client.until_close(self.channel)


# A full disk


class Disk:
    """A directory for tapes that can be filled: a small tmpfs. Who may not mount one takes the right to write away."""

    def __init__(self, path: Path) -> None:
        self.tapes = path / "tapes"
        self.tapes.mkdir(parents=True)
        self.is_mounted = os.geteuid() == 0
        self._filler = path / "filler"

    def fill(self) -> None:
        if not self.is_mounted:
            for directory in (self.tapes, *self.tapes.iterdir()):
                directory.chmod(0o500)
            return
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        if self.is_mounted:
            self._filler.unlink()
        else:
            for directory in (self.tapes, *self.tapes.iterdir()):
                directory.chmod(0o700)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() != 0:
        yield Disk(path)
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=True)
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_what_cannot_be_recorded_is_not_done(
    make_ssh_gateway: SshGatewayFactory, disk: Disk, sshd: SshServer, tmp_path: Path
) -> None:
    """Neither a session that begins, nor a command, a line typed or a file opened in one that was there before."""

    def adjust(config: Document) -> None:
        config["tapes"]["directory"] = str(disk.tapes)

    gateway = make_ssh_gateway(adjust=adjust)
    padding = "z" * 9000
    with contextlib.ExitStack() as stack:
        runner, typist, copyist, jumper = (
            stack.enter_context(RawClient.logged_in(gateway, user)) for user in (USER, USER, USER, LOGIN)
        )
        assert runner.run(b"echo in")[0] == b"in\n"
        shell = Shell(typist)
        channel = copyist.open_session()
        assert copyist.ask_channel(channel, "subsystem", string("sftp"))
        assert isinstance(jumper.open_session(), int)
        logins = sshd.log_text().count("Accepted publickey")
        disk.fill()

        done = gateway.route().ssh(f"touch {tmp_path}/new", status=None)
        assert done.returncode in {REFUSED, LOST}
        assert b"cannot be recorded" in done.stderr
        where = string("127.0.0.1") + uint32(sshd.port) + string("127.0.0.1") + uint32(1)
        with contextlib.suppress(Ended):
            assert not isinstance(jumper.open("direct-tcpip", where), int)
        assert sshd.log_text().count("Accepted publickey") == logins

        if disk.is_mounted:
            one = runner.open_session()
            runner.ask_channel(one, "exec", string(f"touch {tmp_path}/command # {padding}"), want_reply=False)
            assert "no longer be recorded" in runner.until_end()

            packets = [bytes([Kind.INIT]) + uint32(3)]
            for number in range(500):
                path = f"{tmp_path}/copied{number}"
                packets.append(bytes([Kind.OPEN]) + uint32(number) + string(path) + uint32(2 | 8, 0))
            copyist.send(wire.channel_data(copyist.peers[channel], b"".join(map(string, packets))))
            assert "no longer be recorded" in copyist.until_end()

            with contextlib.suppress(OSError):
                for number in range(2000):
                    shell.type(f"touch {tmp_path}/typed{number}\r")
            assert "no longer be recorded" in typist.until_end()
            wait_until(lambda: len(gateway.logged("session ended", outcome="tape")) >= 3, "the lines")
            assert gateway.metrics()["proxyd_tape_errors_total"] >= 4
            assert not list(tmp_path.glob("typed19*"))
            record = gateway.tape_bytes()
            copied = list(tmp_path.glob("copied*"))
            assert len(copied) < 400
            assert all(str(path).encode() in record for path in copied)
        disk.free()
    assert gateway.route().output("echo again") == "again\n"
    assert not [path for name in ("new", "command") for path in tmp_path.glob(name)]


# Secrets


@pytest.fixture
def traces(ssh_gateway: SshGateway) -> Iterator[list[str]]:
    """Words that must be nowhere in what the gateway leaves behind; the test puts them in."""
    words: list[str] = []
    yield words
    assert words
    wait_until(lambda: not leaks_anywhere(ssh_gateway, []), "nothing")
    assert leaks_anywhere(ssh_gateway, words) == []


def leaks_anywhere(gateway: SshGateway, words: list[str]) -> list[str]:
    """Where one of the words can be found, as it is, in hexadecimal or in base64."""
    places = {str(path): path.read_bytes() for path in (gateway.daemon.log_path, *gateway.tapes())}
    places["metrics"] = gateway.http("/metrics").encode()
    found = []
    for word in words:
        forms = (word.encode(), word.encode().hex().encode(), base64.b64encode(word.encode())[:-4])
        found += [f"{word} in {name}" for name, data in places.items() if any(form in data for form in forms)]
    return found


class TestSecrets:
    def test_passwords_that_are_typed(self, ssh_gateway: SshGateway, traces: list[str]) -> None:
        """With the echo off: at once, letter by letter, corrected, and in front of a line that is shown."""
        with RawClient.logged_in(ssh_gateway) as client:
            shell = Shell(client)
            for number, way in enumerate(("pasted", "typed", "corrected", "interrupted")):
                word = f"{CANARY}-{way}"
                traces.append(word)
                shell.type("stty -echo; echo ready''; read x; stty echo; echo over''\r")
                shell.until(b"ready\r\n")
                if way == "typed":
                    for letter in word:
                        shell.type(letter)
                elif way == "corrected":
                    shell.type(f"{word[:-2]}XX\x7f\x7f{word[-2:]}")
                else:
                    shell.type(word)
                shell.type("\x03" if way == "interrupted" else "\r")
                if way == "interrupted":
                    shell.until(PROMPT)
                    shell.type("stty echo; echo over''\r")
                shell.until(b"over\r\n")
                shell.type(f"echo vis''ible-{number}\r")
                shell.until(f"visible-{number}".encode())
            shell.leave()
        session = ssh_gateway.last_session("alice")
        tape = ssh_gateway.tape(session)
        assert b"visible-1" in tape.read_bytes()
        shown = ssh_gateway.proxyd("tape", "show", str(tape)).stdout
        assert CANARY not in shown
        assert "not echoed" in shown

    def test_passwords_given_to_commands(self, ssh_gateway: SshGateway, traces: list[str]) -> None:
        """On the standard input of what is known to read one."""
        with RawClient.logged_in(ssh_gateway) as client:
            for number, command in enumerate(
                ("sudo -S true", "chpasswd --help", "su -c id nobody", "sudo -kS id")
            ):
                word = f"{CANARY}-given-{number}"
                traces.append(word)
                channel = client.open_session()
                peer = client.peers[channel]
                assert client.ask_channel(channel, "exec", string(command))
                client.send(wire.channel_data(peer, f"{word}\n".encode()), wire.channel_eof(peer))
                client.until_close(channel)

    def test_what_belongs_to_a_display(self, ssh_gateway: SshGateway, traces: list[str]) -> None:
        cookie = "c0ffee11" * 4
        traces.append(cookie)
        with RawClient.logged_in(ssh_gateway) as client:
            channel = client.open_session()
            body = b"\0" + string("MIT-MAGIC-COOKIE-1") + string(cookie) + uint32(0)
            assert client.ask_channel(channel, "x11-req", body)
            assert client.ask_channel(channel, "exec", string("true"))
            client.until_close(channel)

    def test_what_goes_through_a_forward(self, ssh_gateway: SshGateway, traces: list[str]) -> None:
        word = f"{CANARY}-forwarded"
        traces.append(word)
        where = string("127.0.0.1") + uint32(ssh_gateway.server.port) + string("127.0.0.1") + uint32(1)
        with RawClient.logged_in(ssh_gateway) as client:
            number = client.open("direct-tcpip", where)
            assert isinstance(number, int)
            client.send(wire.channel_data(client.peers[number], f"{word}\r\n".encode()))
            while client.receive()[0] != NUMBER.CHANNEL_EOF:
                pass

    def test_codes_and_the_targets_credentials(
        self, ssh_keys: SshKeys, tmp_path: Path, sshd: SshServer
    ) -> None:
        """Also where they do not work, and where their files are broken."""
        secret = base64.b32encode(b"another-20-byte-key!").decode()
        password = f"{CANARY}-password"
        logins = (LOGIN, "key", "broken")
        people = {login: Key.new() for login in logins}  # each with a code of their own: none counts twice
        key = Key.new()
        _write_secret(tmp_path / "totp", secret)
        _write_secret(tmp_path / "password", password)
        key.write(tmp_path / "key")
        key.write(tmp_path / "broken")

        def adjust(config: Document) -> None:
            config["listeners"][0]["factors"] = [["certificate"], ["public_key", "totp"]]
            config["identity"]["people"] += [
                {
                    "name": f"bob-{login}",
                    "groups": ["operators"],
                    "keys": [person.line],
                    "totp": {"file": str(tmp_path / "totp")},
                }
                for login, person in people.items()
            ]
            config["targets"][0]["logins"] = [
                {"name": LOGIN, "user": "root", "password": {"file": str(tmp_path / "password")}},
                {"name": "key", "user": "root", "key": {"file": str(tmp_path / "key")}},
                {"name": "broken", "user": "root", "key": {"file": str(tmp_path / "broken")}},
            ]

        policy = EVERYTHING_BY_SSH.replace("logins: [deploy]", 'logins: ["*"]')
        with RawTarget() as target:  # lets everybody in, and leaves
            server = cast(SshServer, target)
            with SshGateway(server, tmp_path / "gateway", ssh_keys, adjust=adjust, policy=policy) as gateway:
                broken = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}\n"
                (tmp_path / "broken").write_text(broken)
                used: list[str] = []
                for login, person in people.items():
                    with RawClient.connect(gateway) as client:
                        user = f"{login}+{TARGET}"
                        client.send(client.proof(user, (person, person.blob)))
                        client.answer()
                        asked = auth_request(user, "keyboard-interactive", string("") + string(""))
                        client.send(asked)
                        assert client.answer()[0] == INFO_REQUEST
                        used.append(_code(secret, int(time.time()) // 30))
                        client.send(bytes([INFO_RESPONSE]) + uint32(1) + string(used[-1]))
                        assert client.answer()[0] == SUCCESS
                        with contextlib.suppress(Ended):
                            client.open("session")
                        if login == "broken":
                            wait_until(lambda: bool(gateway.logged("connection refused")), "the line")
                words = [
                    secret,
                    password,
                    CANARY,
                    *_lines_of(tmp_path / "key"),
                    *_lines_of(ssh_keys.private("gateway_ca")),
                ]
                checked = gateway.proxyd("check", "--config", str(gateway.config_path), check=False)
                assert not any(word in checked.stdout + checked.stderr for word in words)
                assert leaks_anywhere(gateway, words) == []
                reasons = " ".join(str(line) for line in gateway.log_lines())
                assert not any(re.search(rf"\b{code}\b", reasons) for code in used)


def _write_secret(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text + "\n")


def _lines_of(private: Path) -> list[str]:
    """The lines of a private key that are its secret."""
    return [line for line in private.read_text().splitlines() if "-----" not in line]


def _code(secret: str, step: int) -> str:
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06d}"


# Who reads it


ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\x7f\u202e\u2028"


class TestReaders:
    def test_nothing_plays_with_the_terminal_of_who_reads(
        self, ssh_gateway: SshGateway, tmp_path: Path
    ) -> None:
        """Commands, paths, names of files, words of a client and of a target, in the log, `tape ls` and `tape show`."""
        with RawClient.logged_in(ssh_gateway) as client:
            client.run(f"echo '{ESCAPES}'; : {ESCAPES}".encode())
            channel = client.open_session()
            assert client.ask_channel(channel, "subsystem", string("sftp"))
            packets = [
                bytes([Kind.INIT]) + uint32(3),
                bytes([Kind.OPEN]) + uint32(1) + string(f"{tmp_path}/{ESCAPES}") + uint32(2 | 8, 0),
                bytes([Kind.STAT]) + uint32(2) + string(b"/\xff\xfe\x1b[2J"),
                bytes([Kind.SYMLINK]) + uint32(3) + string(ESCAPES) + string(f"{tmp_path}/{ESCAPES}2"),
            ]
            peer = client.peers[channel]
            client.send(wire.channel_data(peer, b"".join(map(string, packets))), wire.channel_eof(peer))
            client.until_close(channel)
            client.open("direct-streamlocal@openssh.com", string(f"/tmp/{ESCAPES}") + string("") + uint32(0))
            client.send(
                wire.global_request("streamlocal-forward@openssh.com", True, string(f"/nosuch/{ESCAPES}"))
            )
            client.receive()
            shell = Shell(client)
            shell.type(f"echo '{ESCAPES[:8]}'\r")
            shell.until(PROMPT)
            shell.leave()
            client.send(bytes([1]) + uint32(2) + string(ESCAPES) + string(""))
        session = ssh_gateway.last_session("alice")
        tape = str(ssh_gateway.tape(session))
        texts = {
            "log": ssh_gateway.daemon.log_path.read_text(),
            "show": ssh_gateway.proxyd("tape", "show", tape).stdout,
            "json": ssh_gateway.proxyd("tape", "show", "--json", tape).stdout,
            "ls": ssh_gateway.proxyd("tape", "ls", "--config", str(ssh_gateway.config_path)).stdout,
        }
        for name, text in texts.items():
            wild = {char for char in text if not char.isprintable() and char != "\n"}
            assert not wild, (name, wild)
        assert "owned" in texts["show"]

    def test_tapes_are_for_the_daemon_alone(self, ssh_gateway: SshGateway) -> None:
        ssh_gateway.route().output("true")
        tapes = ssh_gateway.tapes()
        assert tapes
        for path in tapes:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
            assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
            assert re.fullmatch(r"[0-9]{6}-[0-9a-f]{16}\.tape", path.name)

    def test_who_was_refused_reads_nothing_of_others(self, ssh_gateway: SshGateway) -> None:
        """Somebody without access learns no name of a target, a login or a person from what is said to them."""
        said = set()
        for user in (USER, f"{LOGIN}+nosuch", f"{LOGIN}+web2"):
            with RawClient.logged_in(ssh_gateway, user, "mallory") as client:
                said.add(client.run(b"id")[1].replace(user.partition("+")[2].encode(), b"TARGET"))
        assert len(said) == 1
        with RawClient.logged_in(ssh_gateway, LOGIN, "mallory") as client:
            out, errors, status = client.run(b"id")
            assert (out, status) == (b"", REFUSED)
            assert TARGET.encode() not in errors
            assert b"alice" not in errors


@pytest.mark.parametrize("words", ["-f x", "-t x", "-F -t x"])
def test_what_only_calls_itself_scp_is_on_the_tape(
    make_ssh_gateway: SshGatewayFactory, tmp_path: Path, words: str
) -> None:
    """Of a transfer only the files are; a name alone makes none."""
    script = tmp_path / "scp"
    script.write_text("#!/bin/sh\nread line\necho canary-$line\n")
    script.chmod(0o755)
    gateway = make_ssh_gateway()
    done = gateway.route().ssh(f"{script} {words}", input=b"sings\n")
    assert done.stdout == b"canary-sings\n"
    assert b"canary-sings" in gateway.tape(gateway.last_session()).read_bytes()
